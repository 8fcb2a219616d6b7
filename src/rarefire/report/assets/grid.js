"use strict";
// All features at once: which are shown, in what order, and the tiles of those in sight. Only these exist as elements,
// so that ten thousand units scroll as a hundred do. Focus stays on the list, which names the active tile.

const GAP = 6;
const grid = { scroller: byId("grid"), list: byId("units"), tiles: new Map(), shown: [], columns: 1, from: -1, to: -1 };
let chosen = 0;

/** What units are sorted and filtered by: [key, what it is called, values, factor of the shown figure]. */
function statistics() {
  return [
    ["index", "unit number", Array.from({ length: features.n_units }, (_, unit) => unit), 1],
    ["share_active", `share of ${terms.rows} on which active (%)`, features.share_active.values, 100],
    ["mean_code", "mean code", features.mean_code.values, 1],
    ["norm", "norm of weights", features.norm.values, 1],
    ["coherence", "coherence: largest |cosine| to another unit", features.coherence.values, 1],
    ["npmi", "how well its words go together (NPMI)", features.npmi?.values, 1],
    ["gabor_fit", "Gabor fit: variance explained (%)", features.gabor_fit?.values, 100],
  ].filter(([, , values]) => values);
}

/** Units by a statistic, largest first, those without one last; by their number, smallest first. */
function sorted(key) {
  const units = Array.from({ length: features.n_units }, (_, unit) => unit);
  if (key === "index") return units;
  const values = grid.statistics.find(([name]) => name === key)[2];
  const of = (unit) => (Number.isFinite(values[unit]) ? values[unit] : -Infinity);
  return units.sort((a, b) => (of(a) === of(b) ? a - b : of(b) - of(a)));
}

/** The ranges asked for: [values, smallest, largest] in the statistic's own unit; an empty field asks for nothing. */
function ranges() {
  return grid.statistics.flatMap(([key, , values, factor]) => {
    const [low, high] = ["from", "to"].map((end) => byId(`${key}-${end}`).value);
    if (low === "" && high === "") return [];
    // Values are of float32, and a limit is meant to be one that is shown.
    return [[values, low === "" ? -Infinity : Math.fround(low / factor), high === "" ? Infinity : Math.fround(high / factor)]];
  });
}

/** What of a unit a search looks through: its number, names and note. */
function searchable(unit) {
  return [`unit ${unit}`, ...(told ? namesOf(features.top_names, unit) : []), notes.of(unit)].join("\n").toLowerCase();
}

/** Fills the list with the units that are asked for, in the order that is. */
function arrange() {
  const limits = ranges();
  const wanted = byId("search").value.trim().toLowerCase();
  const order = sorted(byId("sort").value);
  if (byId("reverse").checked) order.reverse();
  grid.shown = order.filter((unit) =>
    limits.every(([values, low, high]) => values[unit] >= low && values[unit] <= high)
    && (!byId("noted").checked || notes.of(unit)) && (!wanted || searchable(unit).includes(wanted)));
  const all = grid.shown.length === features.n_units;
  byId("count").textContent = all ? features.n_units === 1 ? "One unit." : `All ${english(features.n_units)} units.`
    : `${english(grid.shown.length)} of ${english(features.n_units)} units.`;
  byId("clear").disabled = all && !wanted && limits.length === 0 && !byId("noted").checked;
  lay();
  reveal();
}

/** Sets how many tiles stand in a line, and how high the list is. */
function lay() {
  const width = grid.list.clientWidth;
  const { tile } = grid;
  grid.columns = Math.max(1, Math.floor((width + GAP) / (tile.width + GAP)));
  grid.across = features.kind === "image" ? tile.width : (width - GAP * (grid.columns - 1)) / grid.columns;
  const lines = Math.ceil(grid.shown.length / grid.columns);
  grid.list.style.height = `${Math.max(0, lines * (tile.height + GAP) - GAP)}px`;
  grid.from = -1;
  fill();
}

/** Makes the tiles of the lines in sight and some beyond, and takes the others away. */
function fill() {
  const { scroller, list, shown, columns, across, tile } = grid;
  const pitch = tile.height + GAP;
  const first = Math.max(0, Math.floor(scroller.scrollTop / pitch) - 3) * columns;
  const last = Math.min(shown.length, (Math.ceil((scroller.scrollTop + scroller.clientHeight) / pitch) + 3) * columns);
  if (first === grid.from && last === grid.to) return;
  [grid.from, grid.to] = [first, last];
  const before = grid.tiles;
  grid.tiles = new Map();
  for (let place = first; place < last; place++) {
    const unit = shown[place];
    const element = before.get(unit) ?? makeTile(unit);
    element.style.width = `${across}px`;
    element.style.height = `${tile.height}px`;
    element.style.left = `${(place % columns) * (across + GAP)}px`;
    element.style.top = `${Math.floor(place / columns) * pitch}px`;
    element.setAttribute("aria-posinset", place + 1);
    element.setAttribute("aria-setsize", shown.length);
    grid.tiles.set(unit, element);
  }
  list.replaceChildren(...grid.tiles.values());
  mark();
}

/** Marks the chosen unit's tile, where it is in sight. */
function mark() {
  for (const [unit, element] of grid.tiles) element.setAttribute("aria-selected", String(unit === chosen));
  if (grid.tiles.has(chosen)) grid.list.setAttribute("aria-activedescendant", `tile-${chosen}`);
  else grid.list.removeAttribute("aria-activedescendant");
}

function about(unit) {
  return [
    `Unit ${unit}`, `active on ${percent(features.share_active.values[unit])} of ${terms.rows}`,
    `norm ${number(features.norm.values[unit])}`, state(unit), ...(told ? shortNames(unit) : []),
    notes.of(unit) && `note: ${notes.of(unit)}`,
  ].filter(Boolean).join(", ");
}

function makeTile(unit) {
  const tile = make("div", { className: "tile", title: about(unit), id: `tile-${unit}` });
  tile.dataset.unit = unit;
  tile.setAttribute("role", "option");
  tile.setAttribute("aria-label", about(unit));
  if (drawn) tile.append(picture(row(features.images, unit)));
  if (features.kind !== "image") {
    tile.append(make("small", {}, `unit ${unit}`, state(unit) && ` · ${state(unit)}`));
    if (!drawn) tile.append(...shortNames(unit).map((word) => make("span", {}, word)));
  }
  tile.classList.toggle("noted", Boolean(notes.of(unit)));
  return tile;
}

/** Scrolls the list to the chosen tile, and only the list: scrollIntoView would move the page too. */
function reveal() {
  const place = grid.shown.indexOf(chosen);
  if (place >= 0) {
    const { scroller, tile, columns } = grid;
    const top = Math.floor(place / columns) * (tile.height + GAP);
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    const below = top + tile.height + 2 * GAP - scroller.clientHeight;
    if (below > scroller.scrollTop) scroller.scrollTop = below;
  }
  fill();
  mark();
}

/** Arrow keys, Home, End and pages: from unit to unit in the order shown. */
function move(event) {
  const { shown, columns, scroller, tile } = grid;
  if (shown.length === 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  const place = shown.indexOf(chosen);
  const last = shown.length - 1;
  const page = columns * Math.max(1, Math.floor(scroller.clientHeight / (tile.height + GAP)) - 1);
  const target = {
    ArrowRight: () => place + 1, ArrowLeft: () => place - 1,
    ArrowDown: () => place + columns, ArrowUp: () => place - columns,
    PageDown: () => Math.min(place + page, last), PageUp: () => Math.max(place - page, 0),
    Home: () => 0, End: () => last,
  }[event.key]?.();
  if (target === undefined) return;
  event.preventDefault();
  if (target >= 0 && target <= last) choose(shown[target]);
}

/** Asks for the units between two values of a statistic, and goes to them. */
function pick(key, low, high) {
  const factor = grid.statistics.find(([name]) => name === key)[3];
  // Rounded outwards, so that no unit of the bar is lost.
  const short = (value, round) => {
    const shown = value * factor;
    const digit = 10 ** (Math.floor(Math.log10(Math.abs(shown) || 1)) - 5);
    return Number((round(shown / digit) * digit).toPrecision(7));
  };
  byId("filters").open = true;
  byId(`${key}-from`).value = short(low, Math.floor);
  byId(`${key}-to`).value = short(high, Math.ceil);
  arrange();
  byId("features").scrollIntoView();
  if (grid.shown.length > 0 && !grid.shown.includes(chosen)) choose(grid.shown[0]);
}

/** A field for each end of each statistic's range. */
function makeFilters() {
  for (const [key, name] of grid.statistics) {
    byId("sort").append(make("option", { value: key }, name));
    const fields = ["from", "to"].map((end) => {
      const field = make("input", { type: "number", id: `${key}-${end}`, step: "any", placeholder: end });
      field.setAttribute("aria-label", `${name}, ${end}`);
      field.addEventListener("input", arrange);
      return field;
    });
    byId("ranges").append(make("span", {}, name), ...fields);
  }
}

function startGrid() {
  grid.statistics = statistics();
  makeFilters();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  if (features.kind === "image") {
    // A whole number of screen pixels for each pixel of a small image; larger where there are few units.
    const [height, width] = features.image_shape;
    const wanted = features.n_units <= 30 ? 96 : features.n_units <= 130 ? 64 : 48;
    const size = width > wanted ? Math.min(width, 64) : width * Math.round(wanted / width);
    grid.tile = { width: size, height: (size * height) / width };
  } else {
    const [width, height] = { words: [150, 118], named: [150, 82], plain: [150, 46] }[features.kind];
    grid.tile = { width: Math.min(width * rem, grid.list.clientWidth), height: height * rem };
  }
  let waiting = false;
  grid.scroller.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; fill(); });
  });
  new ResizeObserver(() => { lay(); reveal(); }).observe(grid.scroller);
  for (const id of ["sort", "reverse", "noted"]) byId(id).addEventListener("change", arrange);
  byId("search").addEventListener("input", arrange);
  byId("clear").addEventListener("click", () => {
    for (const field of byId("browse").querySelectorAll("input")) {
      if (field.type === "checkbox") field.checked = false;
      else field.value = "";
    }
    arrange();
  });
  grid.list.addEventListener("keydown", move);
  grid.list.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    choose(Number(tile.dataset.unit));
    if (unitIsBelow()) showUnit();
  });
}
