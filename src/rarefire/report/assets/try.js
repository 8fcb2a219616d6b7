"use strict";
// The section in which an input can be drawn, written or pasted.

let compute = null; // raw rows to codes and reconstruction, once the section has come into view

/** The words of a text, cut as Python cuts them: two letters, digits or underscores or more. */
function wordsOf(text) {
  return text.toLowerCase().match(/[\p{L}\p{N}_]{2,}/gu) ?? [];
}

{
  const FEATURES = 12; // that are listed
  const LINES = 20; // of a table, and words that come back
  const FIELDS = 40; // columns that have a field each
  const bytes = (value, low, high) => Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));

  const section = byId("try");
  let input, output, span, eitherSign; // of data; the range of codes, and whether units fire with negative ones
  let enter = () => {}; // puts a row into the input's own controls

  // ---------------------------------------------------------------- what comes out

  let waiting = 0, said = 0;

  /** Computes a row and shows what becomes of it, at most once for each picture that the screen draws. */
  function give(values) {
    problem("");
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      const result = compute(values);
      const strongest = tellFeatures(result.codes);
      ({ image: tellPictures, words: tellWords }[output.kind] ?? tellTable)(result, values);
      clearTimeout(said);
      // A reader that speaks is told when drawing rests.
      said = setTimeout(() => (byId("try-said").textContent = strongest), 700);
    });
  }

  function problem(sentence) {
    byId("try-problem").textContent = sentence;
  }

  /** Whether a unit is active with this code, by the definitions of the table. */
  function fires(code) {
    if (span) return code > (span[0] + span[1]) / 2;
    return eitherSign ? code !== 0 : code > 0;
  }

  /** Lists the features of largest codes, those that do not fire in grey, and says how many do and which most. */
  function tellFeatures(codes) {
    const size = (code) => (span ? code - span[0] : Math.abs(code));
    const order = Array.from(codes.keys()).filter((unit) => size(codes[unit]) > 0);
    const first = order.sort((a, b) => size(codes[b]) - size(codes[a]) || a - b).slice(0, FEATURES);
    const full = span ? span[1] - span[0] : size(codes[first[0]]);
    byId("try-features").replaceChildren(...first.map((unit) => {
      const look = !fires(codes[unit]) ? "bar silent" : codes[unit] < 0 && !span ? "bar negative" : "bar";
      const bar = make("div", { className: look });
      bar.style.width = `${Math.max(1, (100 * size(codes[unit])) / full)}%`;
      const link = make("a", { href: `#unit=${unit}` }, `unit ${unit}`);
      link.addEventListener("click", () => showUnit());
      const value = make("span", { className: "value" }, number(codes[unit]));
      if (drawn) {
        return make("li", {}, canvasOf(row(features.images, unit), features.image_shape), make("div", {}, link, bar), value);
      }
      return make("li", { className: "told" }, make("div", {}, link, bar), value, make("small", {}, shortNames(unit).join(", ")));
    }));
    const n = codes.filter(fires).length;
    byId("try-count").textContent = `${n === 0 ? "None" : english(n)} of ${english(codes.length)} fire${n === 1 ? "s" : ""}.`;
    if (first.length === 0) return byId("try-count").textContent;
    return `${byId("try-count").textContent} Strongest: ${first.slice(0, 3).map((unit) => `unit ${unit}, ${number(codes[unit])}`).join("; ")}.`;
  }

  /** Input, reconstruction and difference on one scale. */
  function tellPictures({ given, back }) {
    const largest = given.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
    // What has no negative values is drawn from black to white, all else with zero in the middle.
    const positive = given.every((value) => value >= -1e-6 * largest);
    const top = positive ? Math.max(largest, input.high > 0 ? input.high : 1) : largest;
    const low = positive ? 0 : -top;
    const shaded = (values, from, label) => {
      const canvas = canvasOf(Uint8ClampedArray.from(values, (value) => bytes(value, from, top)), output.shape, label);
      canvas.style.aspectRatio = `${output.shape[1]} / ${output.shape[0]}`;
      return make("figure", {}, canvas, make("figcaption", {}, make("small", {}, label)));
    };
    const difference = given.map((value, i) => back[i] - value);
    const error = Math.sqrt(difference.reduce((sum, value) => sum + value * value, 0) / difference.length);
    byId("try-back").replaceChildren(
      make("div", { className: "pictures" }, shaded(given, low, "what the model is given"), shaded(back, low, "what comes back"),
        shaded(difference, -top, "difference")),
      make("p", { className: "note" }, positive ? `0 is black, ${number(top)} is white` : `Zero is mid-grey, white is ${number(top)}`,
        `; of the difference zero is mid-grey, white is ${number(top)}. Root mean square of the difference: ${number(error)}.`),
    );
  }

  /** The words that come back most, and whether they are in the input: what a step and its inverse make of 0 is not 0. */
  function tellWords({ back }, values) {
    const order = Array.from(back.keys()).sort((a, b) => back[b] - back[a] || a - b).slice(0, LINES);
    tabulate(["word", "comes back", "in the input"],
      order.map((i) => [output.names[i], number(back[i]), values[i] > 0 ? "yes" : "no"]));
  }

  function tellTable({ given, back }) {
    const gap = (i) => Math.abs(back[i] - given[i]);
    const all = Array.from(given.keys());
    const few = all.length <= FIELDS ? all : all.sort((a, b) => gap(b) - gap(a) || a - b).slice(0, LINES);
    tabulate(["column", "given", "comes back"],
      few.map((i) => [output.names[i] ?? `column ${i}`, number(given[i]), number(back[i])]),
      few.length < given.length ? `The ${LINES} columns of ${given.length} that differ most.` : "");
  }

  function tabulate(headings, lines, note = "") {
    const head = make("tr", {}, ...headings.map((name) => make("th", { scope: "col" }, name)));
    const body = lines.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name),
      ...cells.map((cell) => make("td", { className: "value" }, cell))));
    byId("try-back").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)),
      make("p", { className: "note" }, note));
    for (const cell of [...head.children].slice(1)) cell.classList.add("value");
  }

  // ---------------------------------------------------------------- what goes in

  function button(text, act) {
    const one = make("button", { type: "button" }, text);
    one.addEventListener("click", act);
    return one;
  }

  /** A canvas to draw on by pointer or keyboard; a picture from a file or the clipboard takes its shape. */
  function drawing() {
    const [height, width, channels] = input.shape;
    const { low, high } = input;
    const values = new Float64Array(input.n).fill(low > 0 || high < 0 ? low : 0);
    const canvas = canvasOf(new Uint8Array(input.n), input.shape, "");
    const cursor = make("div", { className: "cursor" });
    const at = { x: Math.floor(width / 2), y: Math.floor(height / 2) };
    canvas.id = "try-drawing";
    canvas.tabIndex = 0;
    canvas.style.aspectRatio = `${width} / ${height}`;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `Drawing of ${width} by ${height} pixels: arrow keys move, space paints`);
    Object.assign(cursor.style, { width: `${100 / width}%`, height: `${100 / height}%` });

    const brush = channels === 3
      ? make("input", { type: "color", value: "#ffffff", id: "try-brush" })
      : make("input", { type: "range", min: low, max: high, step: (high - low) / 100, value: high, id: "try-brush" });
    const broad = make("select", { id: "try-broad" }, ...[1, 2, 3].map((size) => make("option", { value: size }, `${size}`)));
    const shade = () => (channels === 3
      ? [1, 3, 5].map((i) => low + ((high - low) * parseInt(brush.value.slice(i, i + 2), 16)) / 255)
      : [Number(brush.value)]);

    const renew = () => {
      paint(canvas, Uint8ClampedArray.from(values, (value) => bytes(value, low, high)), input.shape);
      give(values);
    };
    const dab = (x, y) => {
      const size = Number(broad.value);
      const colours = shade();
      for (let i = Math.max(0, y); i < Math.min(height, y + size); i++) {
        for (let j = Math.max(0, x); j < Math.min(width, x + size); j++) values.set(colours, (i * width + j) * channels);
      }
    };
    /** Paints from one pixel to another, so that a quick stroke has no gaps. */
    const stroke = (from, to) => {
      const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
      for (let k = 0; k <= steps; k++) {
        dab(Math.round(from.x + ((to.x - from.x) * k) / steps), Math.round(from.y + ((to.y - from.y) * k) / steps));
      }
      renew();
    };
    let last = null;
    const pixel = (event) => {
      const box = canvas.getBoundingClientRect();
      const half = (Number(broad.value) - 1) / 2;
      return {
        x: Math.round(((event.clientX - box.left) / box.width) * width - 0.5 - half),
        y: Math.round(((event.clientY - box.top) / box.height) * height - 0.5 - half),
      };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = pixel(event);
      stroke(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (last === null) return;
      const next = pixel(event);
      stroke(last, next);
      last = next;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    const showCursor = () => Object.assign(cursor.style, { left: `${(100 * at.x) / width}%`, top: `${(100 * at.y) / height}%` });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (by) {
        at.x = Math.max(0, Math.min(width - 1, at.x + by[0]));
        at.y = Math.max(0, Math.min(height - 1, at.y + by[1]));
        showCursor();
        const here = values.subarray((at.y * width + at.x) * channels, (at.y * width + at.x + 1) * channels);
        byId("try-said").textContent = `line ${at.y + 1}, column ${at.x + 1}: ${Array.from(here, number).join(", ")}`;
      } else if (event.key === " ") {
        stroke(at, at);
      } else {
        return;
      }
      event.preventDefault();
    });
    showCursor();

    /** A picture, scaled to the shape; grey as Pillow makes it. */
    const take = async (file) => {
      let bitmap;
      try {
        bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
      } catch {
        problem(`${file.name || "What was pasted"} cannot be read as a picture; choose a PNG or JPEG file.`);
        return;
      }
      const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const { data: rgba } = context.getImageData(0, 0, width, height);
      for (let i = 0; i < width * height; i++) {
        const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3);
        const levels = channels === 3 ? [r, g, b] : [0.299 * r + 0.587 * g + 0.114 * b];
        levels.forEach((level, channel) => (values[i * channels + channel] = low + ((high - low) * level) / 255));
      }
      renew();
    };
    const file = make("input", { type: "file", accept: "image/*", id: "try-file" });
    file.addEventListener("change", () => file.files.length > 0 && take(file.files[0]));
    section.addEventListener("paste", (event) => {
      const pasted = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
      if (pasted) take(pasted);
      else problem("There is no picture on the clipboard; copy one, or choose a file.");
    });

    byId("try-input").append(
      make("div", { className: "drawing" }, canvas, cursor),
      make("div", { className: "controls" },
        make("label", {}, "Brush ", brush), make("label", {}, "Width ", broad),
        button("Clear", () => enter(new Float64Array(input.n).fill(low > 0 || high < 0 ? low : 0))),
        button("Invert", () => enter(values.map((value) => low + high - value)))),
      make("p", {}, make("label", {}, "A picture of yours ", file)),
      make("p", { className: "note" }, "Draw with pointer or finger; with the keyboard, arrow keys move and space paints. A picture is "
        + "scaled to the shape; it can be pasted here too."),
    );
    return (given) => {
      values.set(given);
      renew();
    };
  }

  /** A text, whose words are the row. */
  function writing() {
    const places = new Map(input.names.map((name, i) => [name, i]));
    const text = make("textarea", { id: "try-text", spellcheck: false });
    const unknown = make("p", { className: "note", id: "try-unknown" });
    const read = () => {
      const words = new Set(wordsOf(text.value));
      const values = new Float64Array(input.n);
      const strange = [];
      for (const word of words) {
        if (places.has(word)) values[places.get(word)] = 1;
        else strange.push(word);
      }
      unknown.textContent = strange.length > 0 ? `Unknown to the model: ${strange.join(", ")}.` : "";
      give(values);
    };
    text.addEventListener("input", read);
    byId("try-input").append(make("label", { htmlFor: "try-text" }, "A text"), text, unknown);
    return (given) => {
      text.value = input.names.filter((_, i) => given[i] !== 0).join(" ");
      read();
    };
  }

  /** A field for each column. */
  function fields() {
    const all = input.names.map((_, i) => make("input", { type: "number", step: "any", id: `try-column-${i}` }));
    const read = () => {
      const bad = all.findIndex((one) => one.value === "" || !Number.isFinite(one.valueAsNumber));
      if (bad >= 0) problem(`${input.names[bad]} is no number; give one.`);
      else give(all.map((one) => one.valueAsNumber));
    };
    for (const one of all) one.addEventListener("input", read);
    const labels = all.map((one, i) => make("label", {}, input.names[i], one));
    byId("try-input").append(make("div", { className: "fields" }, ...labels));
    return (given) => {
      all.forEach((one, i) => (one.value = given[i]));
      read();
    };
  }

  /** Numbers as text. */
  function numbers() {
    const text = make("textarea", { id: "try-numbers", spellcheck: false });
    const read = () => {
      const parts = text.value.split(/[\s,;]+/).filter(Boolean);
      const bad = parts.findIndex((part) => !Number.isFinite(Number(part)));
      if (bad >= 0) problem(`Value ${bad + 1}, "${parts[bad].slice(0, 40)}", is no number; give ${input.n} numbers.`);
      else if (parts.length !== input.n) problem(`These are ${parts.length} numbers; give ${input.n}, one for each column.`);
      else give(parts.map(Number));
    };
    text.addEventListener("input", read);
    const label = `${input.n} numbers, with commas or white space between`;
    byId("try-input").append(make("label", { htmlFor: "try-numbers" }, label), text);
    return (given) => {
      text.value = given.join(", ");
      read();
    };
  }

  // ---------------------------------------------------------------- beginning

  function begin() {
    const given = JSON.parse(byId("try-data").textContent);
    ({ input, output, codes: span, either_sign: eitherSign } = given);
    compute = computing(given, formulas);
    const words = input.kind === "words";
    byId("try-note").textContent = {
      image: "Draw a picture, or take one,", words: "Write a text",
    }[input.kind] ?? "Give a row";
    byId("try-note").append(" and see which features fire and what comes back. All is computed in this page.");
    const named = input.kind === "named" && input.n <= FIELDS;
    enter = ({ image: drawing, words: writing }[input.kind] ?? (named ? fields : numbers))();
    const rows = given.examples.map((entries) => (words
      ? entries.reduce((values, i) => values.fill(1, i, i + 1), new Float64Array(input.n)) : Float64Array.from(entries)));
    byId("try-examples").append(...rows.map((values, i) => {
      const one = button("", () => enter(values));
      const name = `Example ${i + 1}`;
      if (input.kind === "image") {
        one.append(canvasOf(Uint8ClampedArray.from(values, (value) => bytes(value, input.low, input.high)), input.shape));
        one.setAttribute("aria-label", name);
      } else {
        one.append(name);
      }
      return one;
    }));
    enter(rows[0] ?? new Float64Array(input.n));
  }

  // Weights are unpacked when the page has nothing else to do, or at once for who comes here.
  let begun = false;
  const beginOnce = () => {
    if (!begun) begin();
    begun = true;
  };
  new IntersectionObserver(([entry], observer) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    beginOnce();
  }, { rootMargin: "400px" }).observe(section);
  (window.requestIdleCallback ?? setTimeout)(beginOnce);
}
