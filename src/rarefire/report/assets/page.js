"use strict";
// Draws the page's charts, grid and unit panel from the JSON in #data.

const data = JSON.parse(byId("data").textContent);

// ---------------------------------------------------------------- charts

const history_ = data.history;
const known = (values) => (values || []).filter((value) => value !== null);
const logAxis = byId("log-axis");
const charts = new Map();

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

/** Options shared by all charts: size, colours of the present scheme, quiet grid. */
function baseOptions(holder, xLabel) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width: holder.clientWidth, height: 260,
    cursor: { drag: { x: true, y: false } },
    axes: [{ ...axis, label: xLabel, labelSize: 22, size: 30, labelFont: "13px system-ui" }, { ...axis, size: 62 }],
  };
}

function curveChart(holder, key) {
  const lines = CURVES[key].filter(([column]) => known(history_[column]).length > 0);
  const values = lines.map(([column]) => history_[column]);
  const positive = values.every((column) => known(column).every((value) => value > 0));
  const log = key === "cost" && logAxis.checked && positive;
  if (key === "cost") logAxis.disabled = !positive;
  const options = baseOptions(holder, "epoch");
  options.scales = { x: { time: false }, y: log ? { distr: 3 } : {} };
  options.axes[1].values = (_, splits) => splits.map((value) => (value === null ? "" : number(value)));
  options.series = [
    { label: "epoch" },
    ...lines.map(([, label, name, dash]) => ({
      label, dash, stroke: colour(name), width: 1.5, points: { show: history_.epoch.length < 2 },
      value: (_, value) => (value === null || value === undefined ? "–" : number(value)),
    })),
  ];
  // A dashed marker for a dashed curve: the legend does not rest on colour alone.
  options.legend = { markers: { width: 2, dash: (_, i) => (i > 0 && lines[i - 1][3] ? "dashed" : "solid") } };
  return new uPlot(options, [history_.epoch, ...values], holder);
}

function activityChart(holder) {
  const order = sorted("share_active");
  const shares = order.map((unit) => features.share_active.values[unit] * 100);
  const only = (flags) => order.map((unit, i) => (flags[unit] ? shares[i] : null));
  const options = baseOptions(holder, "units, most active first");
  options.scales = { x: { time: false, range: [0.5, order.length + 0.5] }, y: { range: [0, 104] } };
  options.axes[1].values = (_, splits) => splits.map((value) => `${value} %`);
  options.axes[0].incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000];
  const value = (_, share) => (share === null || share === undefined ? "–" : `${number(share)} %`);
  const marked = (label, name) => ({
    label, value, stroke: colour(name), width: 0, paths: () => null,
    points: { show: true, size: 6, fill: colour(name) },
  });
  options.series = [
    { label: "unit", value: (_, x, __, i) => (i === null || i === undefined ? "–" : `${order[i]}`) },
    { label: "active on", value, stroke: colour("--first"), fill: `${colour("--first")}66`, width: 0,
      points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, 60], align: 0 }) },
    marked("dead", "--second"), marked("always on", "--third"),
  ];
  options.legend = { markers: { width: 2 } };
  const chart = new uPlot(options, [order.map((_, i) => i + 1), shares, only(features.dead), only(features.always_on)], holder);
  chart.over.addEventListener("click", () => {
    if (chart.cursor.idx !== null) choose(order[chart.cursor.idx]);
  });
  return chart;
}

/** (Re)draws every chart; called again when the colours or the axis change. */
function drawCharts() {
  for (const holder of document.querySelectorAll("[data-chart]")) {
    charts.get(holder)?.destroy();
    const key = holder.dataset.chart;
    charts.set(holder, key === "activity" ? activityChart(holder) : curveChart(holder, key));
  }
}

// ---------------------------------------------------------------- features

const features = data.features;
const ADDS = "what it adds to a reconstruction";
const EXCITES = "the input that excites it most";
// What a row is called and how many names a tile has; whether units and examples are pictures, texts or both.
const terms = features?.kind === "words"
  ? { rows: "documents", tile: 5 } : { rows: "rows", tile: 3 };
const drawn = features !== null && "images" in features;
const told = features !== null && "names" in features;
const tiles = [];
let shown = []; // units in the grid's present order
let chosen = 0;

/** Units by a statistic, largest first, or by their number. */
function sorted(key) {
  const units = Array.from({ length: features.n_units }, (_, unit) => unit);
  if (key === "index") return units;
  const values = features[key].values;
  return units.sort((a, b) => values[b] - values[a] || a - b);
}

/** A picture in the data's shape; rows that are no images are strips, whose height the style says. */
function picture(grey, label) {
  const canvas = canvasOf(grey, features.image_shape, label);
  if (features.kind === "image") canvas.style.aspectRatio = `${features.image_shape[1]} / ${features.image_shape[0]}`;
  return canvas;
}

function state(unit) {
  return features.dead[unit] ? "dead" : features.always_on[unit] ? "always on" : "";
}

/** Names by a packed array of their places; −1 fills up where there are too few. */
function namesOf(array, unit) {
  return Array.from(row(array, unit).filter((i) => i >= 0), (i) => features.names[i]);
}

/** The unit's first names, for words those that excite it; a minus stands before one that does the reverse. */
function shortNames(unit) {
  const weights = row(features.top_weights, unit);
  const names = namesOf(features.top_names, unit);
  const positive = names.filter((_, i) => weights[i] > 0);
  const reverse = () => names.map((name) => `−${name}`).reverse();
  return (features.kind !== "words" ? names : positive.length > 0 ? positive : reverse()).slice(0, terms.tile);
}

/** Draws a picture's canvas when it comes near the visible part of the grid, and only once. */
const lazily = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    lazily.unobserve(target);
    target.prepend(picture(row(features.images, Number(target.dataset.unit))));
  }
}, { root: byId("grid"), rootMargin: "300px" });

function makeTile(unit) {
  const words = told ? shortNames(unit) : [];
  const about = [
    `Unit ${unit}`, `active on ${percent(features.share_active.values[unit])} of ${terms.rows}`,
    `norm ${number(features.norm.values[unit])}`, state(unit), ...words,
  ].filter(Boolean).join(", ");
  const tile = make("div", { className: "tile", title: about, tabIndex: -1 });
  tile.dataset.unit = unit;
  tile.setAttribute("role", "option");
  // A tile with text is named by it, a tile with a picture needs words.
  if (features.kind === "image") tile.setAttribute("aria-label", about);
  tile.setAttribute("aria-selected", "false");
  if (drawn) lazily.observe(tile);
  if (features.kind === "image") {
    tile.style.aspectRatio = `${features.image_shape[1]} / ${features.image_shape[0]}`;
  } else {
    tile.append(make("small", {}, `unit ${unit}`, state(unit) && ` · ${state(unit)}`));
    if (!drawn) tile.append(...words.map((word) => make("span", {}, word)));
  }
  return tile;
}

function arrange() {
  shown = sorted(byId("sort").value);
  if (byId("reverse").checked) shown.reverse();
  byId("grid").append(...shown.map((unit) => tiles[unit]));
  reveal();
}

/** Scrolls the grid to the selected tile, and only the grid: scrollIntoView would move the page too. */
function reveal() {
  const grid = byId("grid");
  const { offsetTop, offsetHeight } = tiles[chosen];
  if (offsetTop < grid.scrollTop) grid.scrollTop = offsetTop - 8;
  if (offsetTop + offsetHeight > grid.scrollTop + grid.clientHeight) {
    grid.scrollTop = offsetTop + offsetHeight - grid.clientHeight + 8;
  }
}

/** How many tiles stand in the grid's first line. */
function perLine() {
  const first = tiles[shown[0]].offsetTop;
  const second = shown.findIndex((unit) => tiles[unit].offsetTop > first);
  return second < 0 ? shown.length : second;
}

function move(event) {
  const place = shown.indexOf(chosen);
  const last = shown.length - 1;
  const target = {
    ArrowRight: () => place + 1, ArrowLeft: () => place - 1,
    ArrowDown: () => place + perLine(), ArrowUp: () => place - perLine(),
    Home: () => 0, End: () => last,
  }[event.key]?.();
  if (target === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (target < 0 || target > last) return;
  choose(shown[target]);
  tiles[chosen].focus();
}

/** Columns with bars as long as their weights are large. */
function bars(unit) {
  const names = namesOf(features.top_names, unit);
  const weights = row(features.top_weights, unit);
  const largest = Math.max(...weights.map(Math.abs)) || 1;
  const table = make("table", { className: "bars" });
  const caption = features.kind === "words" ? "Words of largest and of most negative weight" : "Largest weights";
  const meaning = features.untied ? `: ${ADDS}` : "";
  table.append(make("caption", { className: "note" }, caption + meaning));
  names.forEach((name, i) => {
    const bar = make("div", { className: weights[i] < 0 ? "bar negative" : "bar" });
    bar.style.width = `${(100 * Math.abs(weights[i])) / largest}%`;
    const head = make("th", { scope: "row" }, name);
    table.append(make("tr", {}, head, make("td", {}, bar), make("td", { className: "value" }, number(weights[i]))));
  });
  return table;
}

/** A unit's picture; where its optimal input is another, both with a word on which is which. */
function pictures(unit) {
  const component = picture(row(features.images, unit), `Feature of unit ${unit}`);
  if (!features.optimal_images) return [component];
  const optimal = picture(row(features.optimal_images, unit), `Optimal input of unit ${unit}`);
  return [[component, ADDS], [optimal, EXCITES]].map(([canvas, words]) =>
    make("figure", {}, canvas, make("figcaption", {}, make("small", {}, words))));
}

/** The columns of a unit's optimal input that matter most, with their signs; of words those that are positive. */
function optimalNames(unit) {
  const values = row(features.optimal_values, unit);
  const words = features.kind === "words";
  const there = namesOf(features.optimal_names, unit).map((name, i) => [name, values[i]]);
  const told = there.filter(([, value]) => (words ? value > 0 : value !== 0));
  return told.map(([name, value]) => (words ? name : `${name} = ${number(value)}`)).join(", ") || "nothing";
}

function example(unit, rank) {
  const code = number(row(features.example_codes, unit)[rank]);
  const item = make("li");
  const index = row(features.example_index, unit)[rank];
  if (drawn) item.append(picture(row(features.example_images, index), `Example ${rank + 1} of unit ${unit}`));
  item.append(`code ${code}`);
  if (told) {
    const size = features.example_names.shape[2];
    const names = row(features.example_names, unit).subarray(rank * size, (rank + 1) * size);
    const values = row(features.example_values, unit).subarray(rank * size, (rank + 1) * size);
    const there = Array.from(names, (name, i) => [features.names[name], values[i]]).filter(([, value]) => value !== 0);
    const left = features.example_sizes.values[index] - there.length;
    const words = features.kind === "words";
    // A document's words stand for themselves, unless they are counted or weighed.
    const parts = there.map(([name, value]) => (words && value === 1 ? name : `${name} = ${number(value)}`));
    const rest = words && left > 0 ? ` … and ${english(left)} more` : "";
    item.append(make("small", {}, parts.length > 0 ? parts.join(", ") + rest : words ? "no word" : "all zero"));
  }
  return item;
}

/** Selects a unit: marks its tile, fills the panel, and unless told not to puts it into the address. */
function choose(unit, link = true) {
  tiles[chosen].setAttribute("aria-selected", "false");
  tiles[chosen].tabIndex = -1;
  chosen = unit;
  tiles[unit].setAttribute("aria-selected", "true");
  tiles[unit].tabIndex = 0;
  reveal();
  if (link) history.replaceState(null, "", `#unit=${unit}`);

  byId("unit-heading").textContent = `Unit ${unit}`;
  byId("unit-feature").replaceChildren(...(drawn ? pictures(unit) : []), ...(told ? [bars(unit)] : []));
  const share = percent(features.share_active.values[unit]);
  const facts = [
    ["active on", `${share} of training ${terms.rows}${state(unit) && ` (${state(unit)})`}`],
    ["mean code", number(features.mean_code.values[unit])],
    ["norm of weights", number(features.norm.values[unit])],
  ];
  if (features.limits) {
    const limit = number(features.limits.values[unit]);
    facts.push(["grey scale", limit === "0" ? "all weights are zero" : `black to white ±${limit}`]);
  }
  if (features.optimal_names) facts.push([EXCITES, optimalNames(unit)]);
  byId("unit-facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const ranks = Array.from({ length: features.example_index.shape[1] }, (_, rank) => rank);
  byId("examples").replaceChildren(...ranks.map((rank) => example(unit, rank)));
}

function step(by) {
  const count = shown.length;
  choose(shown[(shown.indexOf(chosen) + by + count) % count]);
}

/** The unit that the address asks for, or the first. */
function linked() {
  const unit = Number(/^#unit=(\d+)$/.exec(location.hash)?.[1] ?? shown[0]);
  return unit < features.n_units ? unit : shown[0];
}

function english(count) {
  return count.toLocaleString("en");
}

function describe() {
  const count = (flags) => english(flags.filter(Boolean).length);
  const units = `${english(features.n_units)} unit${features.n_units === 1 ? "" : "s"}`;
  const greys = "Zero is mid-grey; black and white are minus and plus each unit's largest absolute weight.";
  const shown = features.untied && drawn ? "A tile shows what a unit adds to a reconstruction. " : "";
  byId("features-note").textContent = `${units}. ${shown}` + {
    image: greys, plain: `A strip shows a unit's weights from first to last column. ${greys}`,
    named: "A tile names the unit's three largest weights.",
    words: "A tile names the unit's words of largest weight, or where none is positive the most negative, with a minus.",
  }[features.kind];
  const scale = features.example_mode === "positive"
    ? "0 is black, 1 is white." : "Zero is mid-grey, each example by its own largest absolute value.";
  const weight = features.untied ? "encoder weight" : "weight";
  byId("examples-note").textContent = [
    `The training ${terms.rows} on which the unit's code is largest.`, drawn ? scale : "",
    features.kind === "words" ? "Of each its words, first those that drive the code most." : "",
    told && features.kind !== "words" ? `Columns are listed by value × ${weight}, zeros left out.` : "",
  ].filter(Boolean).join(" ");
  byId("activity-note").textContent = `The share of training ${terms.rows} on which each unit is active. Dead, active on none: `
    + `${count(features.dead)} of ${units}. Always on, active on all: `
    + `${count(features.always_on)}. A click on the chart selects a unit.`;
}

if (features) {
  for (const [key, value] of Object.entries(features)) {
    if (value?.base64 !== undefined) features[key] = unpack(value);
  }
  const kind = { image: "pictures", named: "words", plain: "strips", words: "words" }[features.kind];
  byId("features").classList.add(kind);
  byId("features").classList.toggle("untied", features.untied);
  byId("grid").classList.add(kind);
  if (features.kind === "image") {
    // A whole number of screen pixels for each pixel of a small image; larger where there are few units.
    const width = features.image_shape[1];
    const wanted = features.n_units <= 30 ? 96 : features.n_units <= 130 ? 64 : 48;
    const size = width > wanted ? Math.min(width, 64) : width * Math.round(wanted / width);
    byId("grid").style.setProperty("--tile", `${size}px`);
  }
  for (let unit = 0; unit < features.n_units; unit++) tiles.push(makeTile(unit));
  describe();
  arrange();
  choose(linked(), false);
  if (location.hash.startsWith("#unit=")) byId("features").scrollIntoView();
  byId("sort").addEventListener("change", arrange);
  byId("reverse").addEventListener("change", arrange);
  byId("grid").addEventListener("keydown", move);
  byId("grid").addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (tile) choose(Number(tile.dataset.unit));
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  addEventListener("hashchange", () => choose(linked(), false));
}

// A logarithmic axis spans whole decades: it helps where the cost does, and wastes the chart where it does not.
const costs = CURVES.cost.flatMap(([column]) => known(history_[column]));
if (logAxis) logAxis.checked = Math.max(...costs) >= 10 * Math.min(...costs);
drawCharts();
logAxis?.addEventListener("change", drawCharts);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
new ResizeObserver(() => {
  for (const [holder, chart] of charts) chart.setSize({ width: holder.clientWidth, height: 260 });
}).observe(document.querySelector("main"));
