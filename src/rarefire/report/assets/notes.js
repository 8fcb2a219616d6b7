"use strict";
// Notes on units: kept by the browser for this run, taken out as a file, and brought in from one. A run directory that
// holds such a file as notes.json has them in its page.

const notes = {
  kept: {},

  get key() {
    return `rarefire notes ${data.run}`;
  },

  start() {
    Object.assign(this.kept, data.notes);
    try {
      Object.assign(this.kept, this.checked(JSON.parse(localStorage.getItem(this.key) ?? "{}")));
    } catch {
      // No storage here, or what it held is none of ours: notes live as long as the page is open.
    }
  },

  of(unit) {
    return this.kept[unit] ?? "";
  },

  set(unit, text) {
    this.kept[unit] = text;
    try {
      localStorage.setItem(this.key, JSON.stringify(this.kept));
      return true;
    } catch {
      return false;
    }
  },

  /** Notes as they are written: a text for each unit that has one. */
  checked(found) {
    if (typeof found !== "object" || found === null) throw new Error("it is no file of notes");
    const entries = Object.entries(found);
    if (!entries.every(([unit, text]) => /^\d+$/.test(unit) && unit < features.n_units && typeof text === "string")) {
      throw new Error("it is no file of notes on these units");
    }
    return Object.fromEntries(entries);
  },

  asFile() {
    const written = Object.fromEntries(Object.entries(this.kept).filter(([, text]) => text));
    return JSON.stringify({ run: data.run, notes: written }, null, 2);
  },
};

function startNotes() {
  notes.start();
  const say = (text) => { byId("notes-said").textContent = text; };
  byId("note").addEventListener("input", () => {
    const kept = notes.set(chosen, byId("note").value);
    if (!kept) say("This browser keeps nothing for a file; export the notes before you close the page.");
    const tile = grid.tiles.get(chosen);
    tile?.classList.toggle("noted", Boolean(notes.of(chosen)));
    if (tile) tile.title = about(chosen);
    tile?.setAttribute("aria-label", about(chosen));
  });
  byId("export").addEventListener("click", () => {
    const link = make("a", { href: URL.createObjectURL(new Blob([notes.asFile()], { type: "application/json" })) });
    link.download = "notes.json";
    link.click();
    URL.revokeObjectURL(link.href);
    say("Written as notes.json. In the run's directory, rarefire report puts it into the page.");
  });
  byId("import").addEventListener("change", async () => {
    const [file] = byId("import").files;
    byId("import").value = "";
    try {
      const found = JSON.parse(await file.text());
      for (const [unit, text] of Object.entries(notes.checked(found.notes))) notes.set(unit, text);
      say(found.run === data.run ? "Notes brought in." : "Notes brought in; they were written on another run.");
      grid.tiles.clear();
      arrange();
      choose(chosen, false);
    } catch (error) {
      say(`${file.name} was not brought in: ${error instanceof SyntaxError ? "it is no JSON" : error.message}.`);
    }
  });
}
