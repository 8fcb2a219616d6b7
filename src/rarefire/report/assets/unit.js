"use strict";
// One feature: what it adds and what excites it, how it fires, its examples and its relatives.

const ADDS = "what it adds to a reconstruction";
const EXCITES = "the input that excites it most";

/** A picture in the data's shape; rows that are no images are strips, whose height the style says. */
function picture(grey, label) {
  const canvas = canvasOf(grey, features.image_shape, label);
  if (features.kind === "image") canvas.style.aspectRatio = `${features.image_shape[1]} / ${features.image_shape[0]}`;
  return canvas;
}

const state = (unit) => stateOf(features, unit);

/** Names by a packed array of their places; −1 fills up where there are too few. */
function namesOf(array, unit) {
  return Array.from(row(array, unit).filter((i) => i >= 0), (i) => features.names[i]);
}

/** The unit's first names, for words those that excite it; a minus stands before one of negative weight. */
function shortNames(unit) {
  const weights = row(features.top_weights, unit);
  const names = namesOf(features.top_names, unit).map((name, i) => (weights[i] < 0 ? `−${name}` : name));
  const exciting = names.filter((_, i) => weights[i] > 0);
  const words = exciting.length > 0 ? exciting : names.reverse();
  return (features.kind === "words" ? words : names).slice(0, terms.tile);
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

/** How often the unit has which code: rows on which it is not active stand in front, in grey. */
function codeChart(unit) {
  const [low, high] = row(features.code_range, unit);
  const nBins = features.histogram.shape[2];
  const counts = row(features.histogram, unit);
  const silent = Array.from(counts.subarray(0, nBins));
  const all = silent.map((count, i) => count + counts[nBins + i]);
  byId("codes").setAttribute("aria-label", `Codes from ${number(low)} to ${number(high)}; `
    + `active on ${english(all.reduce((a, b) => a + b, 0) - silent.reduce((a, b) => a + b, 0))} of `
    + `${english(features.n_surveyed)} ${terms.rows}`);
  // Of a single value the one bar stands in the middle.
  const edges = high > low ? spaced(low, high, nBins) : spaced(low - 0.5 / nBins, low + 1 - 0.5 / nBins, nBins);
  show(byId("codes"), (holder) => histogram(holder, {
    edges, counts: all, over: silent, xLabel: "code", names: [terms.rows, "of which not active"], log: true, height: 170,
  }));
}

/** The words of an example that drive the unit's code, or the columns that do, by drive. */
function drivers(unit, rank) {
  const size = features.example_names.shape[2];
  const part = (array) => row(array, unit).subarray(rank * size, (rank + 1) * size);
  const [names, values, drives] = ["example_names", "example_values", "example_drives"].map((key) => part(features[key]));
  return Array.from(names, (name, i) => ({ name: features.names[name], value: values[i], drive: drives[i] }))
    .filter(({ value }) => value !== 0);
}

/** A document with the words marked that drive the code: up, much or some, and down. */
function withMarks(text, drives) {
  const largest = Math.max(...drives.map(({ drive }) => Math.abs(drive)));
  const looks = new Map(drives.filter(({ drive }) => drive !== 0).map(({ name, drive }) =>
    [name, drive < 0 ? "down" : drive >= largest / 3 ? "up much" : "up"]));
  const parts = [];
  let end = 0;
  // Words are cut as Python's \w cuts them: letters, numbers and underscores, two or more.
  for (const found of text.matchAll(/[\p{L}\p{N}_]{2,}/gu)) {
    const look = looks.get(found[0].toLowerCase());
    if (look === undefined) continue;
    parts.push(text.slice(end, found.index), make("mark", { className: look }, found[0]));
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

/** A document: the passage around its first word that drives the code, and on demand all of it. */
function documentOf({ text, cut, title }, drives) {
  const up = new Set(drives.filter(({ drive }) => drive > 0).map(({ name }) => name));
  const first = [...text.matchAll(/[\p{L}\p{N}_]{2,}/gu)].find((found) => up.has(found[0].toLowerCase()))?.index ?? 0;
  // From between two words before it, where there is such a place, to one after it.
  const gap = text.slice(Math.max(0, first - 60), first).search(/\s/);
  const from = first < 80 ? 0 : gap < 0 ? first : first - 60 + gap + 1;
  const rest = text.slice(from + 260).search(/\s/);
  const to = rest < 0 ? Math.min(text.length, from + 400) : Math.min(from + 260 + rest, from + 400);
  const parts = [make("p", {}, ...(from > 0 ? ["… "] : []), ...withMarks(text.slice(from, to), drives),
    ...(to < text.length || cut ? [" …"] : []))];
  if (title) parts.unshift(make("strong", {}, title));
  if (from > 0 || to < text.length) {
    const all = make("details", {}, make("summary", {}, cut ? "from its beginning" : "whole document"));
    all.addEventListener("toggle", () => {
      if (all.open && all.children.length === 1) all.append(make("p", {}, ...withMarks(text, drives), ...(cut ? [" …"] : [])));
    });
    parts.push(all);
  }
  return parts;
}

/** The photographs that examples are parts of, each with its parts framed and numbered. */
function photographs(places) {
  const by = new Map();
  places.forEach(({ box, photograph }, i) => {
    if (photograph !== null) by.set(photograph, [...(by.get(photograph) ?? []), [box, i + 1]]);
  });
  return Array.from(by, ([number, boxes]) => {
    const { name, jpeg } = data.contexts.photographs[number];
    const ranks = boxes.map(([, rank]) => rank).join(", ");
    const picture = make("img", { src: `data:image/jpeg;base64,${jpeg}`, alt: `${name} with example ${ranks} framed` });
    const frames = boxes.map(([box, rank]) => {
      const frame = make("span", { className: "frame" }, make("b", {}, rank));
      ["top", "left", "height", "width"].forEach((side, i) => { frame.style[side] = `${100 * box[i]}%`; });
      return frame;
    });
    return make("figure", {}, make("div", { className: "photograph" }, picture, ...frames),
      make("figcaption", {}, make("small", {}, name)));
  });
}

function example(unit, rank) {
  const index = row(features.example_index, unit)[rank];
  const context = data.contexts?.rows[index];
  const item = make("li");
  if (drawn) item.append(picture(row(features.example_images, index), `Example ${rank + 1} of unit ${unit}`));
  // The strongest are numbered, as their frames on photographs are.
  const place = rank < features.example_groups.strongest ? `${rank + 1} · ` : "";
  item.append(make("div", {}, `${place}code ${number(row(features.example_codes, unit)[rank])}`));
  if (context?.text !== undefined) {
    item.append(...documentOf(context, drivers(unit, rank)));
  } else if (told) {
    const there = drivers(unit, rank);
    const words = features.kind === "words";
    const left = features.example_sizes.values[index] - there.length;
    // A document's words stand for themselves, unless they are counted or weighed.
    const parts = there.map(({ name, value }) => (words && value === 1 ? name : `${name} = ${number(value)}`));
    const rest = words && left > 0 ? ` … and ${english(left)} more` : "";
    item.append(make("small", {}, parts.length > 0 ? parts.join(", ") + rest : words ? "no word" : "all zero"));
  } else if (context && context.photograph === null) {
    item.append(make("small", {}, context.name));
  }
  return item;
}

/** Examples by groups: the strongest, those in the middle of the active ones, and those at the threshold. */
function examples(unit) {
  const index = row(features.example_index, unit);
  let start = 0;
  for (const [group, size] of Object.entries(features.example_groups)) {
    const ranks = Array.from({ length: size }, (_, i) => start + i).filter((rank) => index[rank] >= 0);
    byId(`${group}-examples`).replaceChildren(...ranks.map((rank) => example(unit, rank)));
    byId(`${group}-group`).hidden = ranks.length === 0;
    start += size;
  }
  const strongest = Array.from(index.subarray(0, features.example_groups.strongest));
  const places = data.contexts ? strongest.map((i) => data.contexts.rows[i]) : [];
  byId("photographs").replaceChildren(...photographs(places.filter((place) => place?.box)));
}

/** A unit as a button that leads to it, with a word on what connects the two. */
function relative(unit, words) {
  const face = drawn ? picture(row(features.images, unit)) : make("span", {}, shortNames(unit).slice(0, 3).join(", "));
  const button = make("button", { type: "button", className: "relative" }, face, make("small", {}, `unit ${unit}`));
  button.append(make("small", {}, words));
  button.addEventListener("click", () => { choose(unit); byId("unit-heading").focus(); });
  return make("li", {}, button);
}

function relatives(unit) {
  const [others, correlations, shares] = ["index", "correlation", "share"]
    .map((part) => Array.from(row(features[`together_${part}`], unit)));
  const together = others.flatMap((other, i) => (correlations[i] > 0
    ? [relative(other, `r ${number(correlations[i].toFixed(3))}${features.dead[unit] ? "" : `; on ${percent(shares[i])}`}`)] : []));
  const cosines = row(features.alike_cosine, unit);
  const alike = Array.from(row(features.alike_index, unit)).flatMap((other, i) => (cosines[i] > 0
    ? [relative(other, `cosine ${number(cosines[i].toFixed(3))}`)] : []));
  for (const [id, found] of [["together", together], ["alike", alike]]) {
    byId(id).replaceChildren(...found);
    byId(`${id}-none`).hidden = found.length > 0;
  }
}

/** Selects a unit: marks its tile, fills the panel, and unless told not to puts it into the address. */
function choose(unit, link = true) {
  chosen = unit;
  reveal();
  if (link) history.replaceState(null, "", `#unit=${unit}`);

  byId("unit-heading").textContent = `Unit ${unit}`;
  byId("unit-link").href = `#unit=${unit}`;
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
  if (features.gabor_fit) {
    const edge = features.edge_like[unit] ? "; an edge" : "; no edge";
    facts.push(["Gabor fit", `${percent(features.gabor_fit.values[unit])} of variance${edge}`]);
  }
  if (features.npmi && Number.isFinite(features.npmi.values[unit])) {
    facts.push(["coherence of words", `${number(features.npmi.values[unit].toFixed(3))} (NPMI, −1 to 1)`]);
  }
  if (features.optimal_names) facts.push([EXCITES, optimalNames(unit)]);
  byId("unit-facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  byId("note").value = notes.of(unit);
  codeChart(unit);
  examples(unit);
  relatives(unit);
}

/** Whether the panel stands below the grid, as on a phone, and not beside it. */
function unitIsBelow() {
  return byId("unit").getBoundingClientRect().left < byId("grid").getBoundingClientRect().right;
}

/** Scrolls the page to the chosen unit. */
function showUnit() {
  byId(unitIsBelow() ? "unit" : "features").scrollIntoView();
}

/** The next or the previous unit in the order shown, around its ends. */
function step(by) {
  const { shown } = grid;
  if (shown.length === 0) return;
  const place = shown.indexOf(chosen);
  choose(shown[place < 0 ? 0 : (place + by + shown.length) % shown.length]);
}

/** The unit that an address asks for; null where it asks for none that there is. */
function linked() {
  const unit = Number(/^#unit=(\d+)$/.exec(location.hash)?.[1] ?? NaN);
  return unit < features.n_units ? unit : null;
}

function startUnit() {
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("unit").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const typing = event.target.closest("textarea, input, select");
    if (by === undefined || typing || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    step(by);
  });
  addEventListener("hashchange", () => { 
    if (linked() === null) return;
    choose(linked(), false);
    if (unitIsBelow()) showUnit();
  });
}
