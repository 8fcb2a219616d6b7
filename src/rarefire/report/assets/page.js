"use strict";
// The page of a run: reads the JSON in #data and puts its parts together.

const data = JSON.parse(byId("data").textContent);
const features = data.features;
// What a row is called and how many names a tile has; whether units and examples are pictures, texts or both.
const terms = features?.kind === "words" ? { rows: "documents", tile: 5 } : { rows: "rows", tile: 3 };
const drawn = features !== null && "images" in features;
const told = features !== null && "names" in features;

const CURVES = {
  cost: [
    ["cost", "training", "--first"], ["cost_mean_field", "training, mean-field", "--first", [6, 4]],
    ["validation_cost", "held out", "--second"],
    ["validation_cost_mean_field", "held out, mean-field", "--second", [6, 4]],
  ],
  objective: [
    ["objective", "objective", "--first"],
    ["penalty", "penalty", "--second"], ["weight_decay", "weight decay", "--third"],
  ],
  zeros: [["zeros", "zeros", "--first"]],
  active: [["active_mean", "mean", "--first"], ["active_max", "maximum", "--second", [6, 4]]],
  gap: [["free_energy_gap", "held out minus training", "--first"]],
};

function curveChart(holder) {
  const key = holder.dataset.chart;
  const epochs = data.histories[holder.dataset.of];
  const lines = CURVES[key].filter(([column]) => known(epochs[column]).length > 0);
  const series = lines.map(([column, ...look]) => [epochs[column], ...look]);
  const positive = series.every(([values]) => known(values).every((value) => value > 0));
  return lineChart(holder, epochs.epoch, "epoch", series, key === "cost" && positive && byId("log-axis").checked);
}

function startCurves() {
  const logAxis = byId("log-axis");
  if (logAxis) {
    // It spans whole decades: that helps where the cost does, and wastes the chart where it does not.
    const all = data.histories.map((epochs) => CURVES.cost.flatMap(([column]) => known(epochs[column])));
    const positive = all.filter((costs) => costs.length > 0 && Math.min(...costs) > 0);
    logAxis.disabled = positive.length === 0;
    logAxis.checked = positive.some((costs) => Math.max(...costs) >= 10 * Math.min(...costs));
    logAxis.addEventListener("change", redraw);
  }
  for (const holder of document.querySelectorAll("[data-chart]")) show(holder, curveChart);
}

/** How units are spread: by activity, by norm, and how many of them a row has. */
function startSpread() {
  const share = binned(features.share_active.values, 25, 0, 1);
  show(byId("share-chart"), (holder) => histogram(holder, {
    ...share, xLabel: `share of ${terms.rows} on which active`, names: ["units"], format: percent,
    onPick: (low, high) => pick("share_active", low, high),
  }));
  const norms = binned(features.norm.values, 25);
  show(byId("norm-chart"), (holder) => histogram(holder, {
    ...norms, xLabel: "norm of weights", names: ["units"], onPick: (low, high) => pick("norm", low, high),
  }));
  const counts = Array.from(features.active_histogram.values);
  const most = counts.findLastIndex((count) => count > 0);
  const width = Math.max(1, Math.ceil((most + 1) / 40));
  const bins = Array.from({ length: Math.ceil((most + 1) / width) }, (_, i) =>
    counts.slice(i * width, (i + 1) * width).reduce((a, b) => a + b, 0));
  show(byId("active-chart"), (holder) => histogram(holder, {
    edges: bins.map((_, i) => i * width - 0.5).concat(bins.length * width - 0.5), counts: bins,
    xLabel: `units active on one of the ${terms.rows}`, names: [terms.rows], whole: true,
    format: (value) => (value % 1 === 0 ? english(value) : english(Math.max(0, Math.ceil(value)))),
  }));
}

/** Rows, what comes back of them, and the difference. */
function startReconstructions() {
  const { rows } = data.reconstructions;
  const column = features.kind === "words" ? "word" : "column";
  byId("reconstructions-list").replaceChildren(...rows.map((entry, i) => {
    if (drawn) {
      return make("li", { className: "triple" }, ...["input", "output", "difference"].map((part) =>
        make("figure", {}, picture(row(data.reconstructions[part], i), `Row ${i + 1}: ${part}`),
          make("figcaption", {}, make("small", {}, part)))));
    }
    const lines = entry.map(([name, value, back]) => make("tr", {}, make("th", { scope: "row" }, name),
      ...[value, back, back - value].map((one) => make("td", { className: "value" }, number(one)))));
    const head = [column, "input", "output", "difference"].map((name) =>
      make("th", { scope: "col", className: name === column ? "" : "value" }, name));
    return make("li", {}, make("table", { className: "small" },
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines)));
  }));
}

function describe() {
  const greys = "Zero is mid-grey; black and white are minus and plus each unit's largest absolute weight.";
  const adds = features.untied && drawn ? "A tile shows what a unit adds to a reconstruction. " : "";
  byId("features-note").textContent = adds + {
    image: greys, plain: `A strip shows a unit's weights from first to last column. ${greys}`,
    named: "A tile names the unit's three largest weights.",
    words: "A tile names the unit's words of largest weight, or where none is positive the most negative, with a minus.",
  }[features.kind];
  const scale = features.example_mode === "positive"
    ? "0 is black, 1 is white." : "Zero is mid-grey, each example by its own largest absolute value.";
  const weight = features.untied ? "encoder weight" : "weight";
  byId("examples-note").textContent = [
    `The training ${terms.rows} on which the unit's code is largest.`, drawn ? scale : "",
    features.kind !== "words" ? "" : data.contexts
      ? "Words that drive the code are marked: those of largest weight in it darker, those that lower it dotted."
      : "Of each its words, first those that drive the code most.",
    told && features.kind !== "words" ? `Columns are listed by value × ${weight}, zeros left out.` : "",
  ].filter(Boolean).join(" ");
}

if (features) {
  unpackAll(features);
  const kind = { image: "pictures", named: "words", plain: "strips", words: "words" }[features.kind];
  for (const id of ["features", "reconstructions", "try", "grid"]) byId(id)?.classList.add(kind);
  byId("features").classList.toggle("untied", features.untied);
  startNotes();
  startGrid();
  startUnit();
  describe();
  arrange();
  choose(linked() ?? grid.shown[0], false);
  if (linked() !== null) showUnit();
  startSpread();
  if (data.reconstructions) {
    unpackAll(data.reconstructions);
    startReconstructions();
  }
}
startCurves();
