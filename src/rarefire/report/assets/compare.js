"use strict";
// Draws the curves, the pairs and the unmatched units of two runs from the JSON in #data.

const { runs, matching } = JSON.parse(byId("data").textContent);
const LETTERS = ["A", "B"];
const COLOURS = ["--first", "--second"];
const BINS = 20;
const PART = 100; // items of a list that are made at once

// ---------------------------------------------------------------- charts

const COSTS = [["cost", "training"], ["validation_cost", "held out", [6, 4]]];

/** The costs of some runs that are measured in one unit; held-out rows are dashed. */
function costChart(holder) {
  const lines = holder.dataset.runs.split(" ").map(Number).flatMap((run) => COSTS.map(([column, name, dash]) =>
    [runs[run].history[column] || [], `${LETTERS[run]}, ${name}`, COLOURS[run], dash]))
    .filter(([values]) => known(values).length > 0);
  const length = Math.max(...lines.map(([values]) => values.length));
  const positive = lines.every(([values]) => known(values).every((value) => value > 0));
  const epochs = Array.from({ length }, (_, i) => i + 1);
  const series = lines.map(([values, ...look]) => [epochs.map((_, i) => values[i] ?? null), ...look]);
  return lineChart(holder, epochs, "epoch", series, positive && byId("log-axis").checked);
}

/** How many pairs have which cosine, and of them those that do not match. */
function cosineChart(holder) {
  const all = new Array(BINS).fill(0);
  const apart = new Array(BINS).fill(0);
  pairs.forEach(({ alike }) => {
    const bin = Math.min(BINS - 1, Math.floor(alike * BINS));
    all[bin] += 1;
    if (alike < threshold()) apart[bin] += 1;
  });
  return histogram(holder, {
    edges: spaced(0, 1, BINS), counts: all, over: apart, xLabel: either ? "absolute cosine" : "cosine",
    names: ["pairs", "of which not matched"], height: 240,
  });
}

// ---------------------------------------------------------------- units

/** A unit's picture; without a label, because its number stands beside it. */
function pictureOf({ images, image_shape }, unit) {
  const canvas = canvasOf(row(images, unit), image_shape);
  if (image_shape[0] > 1) canvas.style.aspectRatio = `${image_shape[1]} / ${image_shape[0]}`;
  return make("div", { className: "picture" }, canvas);
}

/** What is shown of a unit: its picture or words, its number as a link to the run's own page, its activity. */
function unitBlock(run, unit) {
  const { share_active, mean_code, images, words, link } = runs[run];
  const name = `${LETTERS[run]} ${unit}`;
  const block = make("div", { className: "unit" });
  if (images) block.append(pictureOf(runs[run], unit));
  block.append(make("div", {},
    link ? make("a", { href: `${link}#unit=${unit}` }, name) : make("strong", {}, name),
    words ? make("div", { className: "words" }, words[unit] || "no weights") : "",
    make("small", {}, [`active on ${percent(share_active.values[unit])}`, `mean code ${number(mean_code.values[unit])}`,
      stateOf(runs[run], unit)].filter(Boolean).join(", "))));
  return block;
}

function pairItem({ a, b, cosine }) {
  const value = make("div", { className: "cosine" }, number(cosine));
  value.append(make("small", {}, cosine < 0 ? "cosine, opposite sign" : "cosine"));
  return make("li", {}, value, unitBlock(0, a), unitBlock(1, b));
}

function aloneItem(run, unit) {
  const other = row(matching.nearest[run], unit)[0];
  const cosine = row(matching.nearest_cosine[run], unit)[0];
  const nearest = other < 0 ? "none is alike" : `nearest ${LETTERS[1 - run]} ${other}, cosine ${number(cosine)}`;
  const block = unitBlock(run, unit);
  block.lastChild.append(make("small", {}, nearest));
  return make("li", {}, block);
}

// ---------------------------------------------------------------- pairs

let pairs = [];
let either = false;
const items = new Map(); // made when they are first shown
const waiting = new Map(); // of each list what has not been shown yet, as functions that make it
const threshold = () => Number(byId("threshold").value);

function item(key, build) {
  if (!items.has(key)) items.set(key, build());
  return items.get(key);
}

/** Shows the next part of a list; its button stands at the end as long as there is more. */
function extend(list) {
  const button = list.nextElementSibling;
  list.append(...waiting.get(list).splice(0, PART).map((build) => build()));
  button.hidden = waiting.get(list).length === 0;
  // Observed anew, it reports at once whether it is in sight still.
  nearing.unobserve(button);
  if (!button.hidden) nearing.observe(button);
}

/** A list's end that comes into sight brings more of it, so that thousands are not made before they are looked at. */
const nearing = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) extend(target.previousElementSibling);
});

function fill(list, builders) {
  list.replaceChildren();
  list.parentElement.scrollTop = 0;
  waiting.set(list, builders);
  extend(list);
}

function counted(count, what) {
  return `${english(count)} ${what}${count === 1 ? "" : "s"}`;
}

function median(values) {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Shows which pairs match at the present threshold, and which units are left. */
function arrange() {
  const matched = pairs.filter(({ alike }) => alike >= threshold());
  const key = byId("sort").value;
  matched.sort((p, q) => (key === "cosine" ? q.alike - p.alike : p[key] - q[key]));
  if (byId("reverse").checked) matched.reverse();
  fill(byId("pairs"), matched.map((pair) => () => item(`${pair.a} ${pair.b}`, () => pairItem(pair))));
  byId("matched-heading").textContent = `Matched: ${counted(matched.length, "pair")}`;
  LETTERS.forEach((letter, run) => {
    const taken = new Set(matched.map(({ a, b }) => (run === 0 ? a : b)));
    const left = Array.from({ length: runs[run].n_units }, (_, unit) => unit).filter((unit) => !taken.has(unit));
    fill(byId(`alone-${letter}`), left.map((unit) => () => item(`${letter} ${unit}`, () => aloneItem(run, unit))));
    byId(`unmatched-${letter}-heading`).textContent = `Unmatched of ${letter}: ${counted(left.length, "unit")}`;
  });
  const [a, b] = runs.map(({ n_units }) => counted(n_units, "unit"));
  byId("threshold-value").textContent = number(threshold());
  byId("summary").textContent = `${english(matched.length)} of ${a} of A and of ${b} of B match`
    + (matched.length ? `; their median cosine is ${number(median(matched.map(({ alike }) => alike)))}.` : ".");
}

if (matching) {
  for (const entries of [...runs, matching]) unpackAll(entries);
  for (const key of ["nearest", "nearest_cosine"]) matching[key] = matching[key].map(unpack);
  pairs = Array.from(matching.cosine.values, (cosine, i) => {
    const [a, b] = row(matching.pairs, i);
    return { a, b, cosine, alike: Math.abs(cosine) };
  });
  either = pairs.some(({ cosine }) => cosine < 0);
  const strips = runs.some(({ image_shape }) => image_shape?.[0] === 1);
  document.body.classList.toggle("strips", strips);
  document.body.classList.toggle("pictures", !strips && runs.every(({ images }) => images));
  byId("greys").textContent = runs.some(({ images }) => images)
    ? `${strips ? "A strip shows a unit's weights from first to last column. " : ""}Zero is mid-grey; black and white `
      + "are minus and plus each unit's largest absolute weight."
    : "Columns of largest weight; a minus stands before a negative one.";
  arrange();
  for (const list of waiting.keys()) list.nextElementSibling.addEventListener("click", () => extend(list));
  byId("sort").addEventListener("change", arrange);
  byId("reverse").addEventListener("change", arrange);
  byId("threshold").addEventListener("input", () => {
    arrange();
    show(byId("histogram"), cosineChart);
  });
  show(byId("histogram"), cosineChart);
}

const logAxis = byId("log-axis");
if (logAxis) {
  const costs = runs.flatMap(({ history }) => [...known(history.cost), ...known(history.validation_cost)]);
  logAxis.disabled = !costs.every((cost) => cost > 0);
  // It helps where the cost spans a decade, and wastes the chart where it does not.
  logAxis.checked = !logAxis.disabled && Math.max(...costs) >= 10 * Math.min(...costs);
  logAxis.addEventListener("change", redraw);
}
for (const holder of document.querySelectorAll("[data-runs]")) show(holder, costChart);
