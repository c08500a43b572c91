// The search box, and how a result shows what matched.

import { button, h, put } from "./dom.js";
import { T } from "./strings.js";
import { suggest } from "./tags.js";

const TERM = /(-?)(?:(tag|name|notes|path|date):)?(?:"([^"]*)"?|(\S+))/g;
const DATE = /(^|\s)date:\S*/;
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Returns the words that a query looks for, folded. */
export const words = (query) =>
  [...query.matchAll(TERM)].filter(([, not, field]) => !not && field !== "date").map(([, , , phrase, word]) => fold(phrase ?? word)).filter(Boolean);

/** Splits a text into parts, every other of which matches a word. */
export function marked(text, wanted) {
  const origins = [];
  let plain = "";
  [...text].forEach((letter, index) => {
    for (const each of fold(letter)) {
      plain += each;
      for (let unit = 0; unit < each.length; unit++) origins.push(index);
    }
  });
  const letters = [...text];
  const hits = new Set();
  for (const word of wanted) {
    for (let at = plain.indexOf(word); at >= 0 && word; at = plain.indexOf(word, at + word.length)) {
      for (let each = at; each < at + word.length; each++) hits.add(origins[each]);
    }
  }
  const parts = [""];
  letters.forEach((letter, index) => {
    if (hits.has(index) !== (parts.length % 2 === 0)) parts.push("");
    parts[parts.length - 1] += letter;
  });
  return parts;
}

const show = (text, wanted) => marked(text, wanted).map((part, index) => (index % 2 ? h("mark", {}, part) : part));

/** What stands below a result: its name and, if that is elsewhere, what matched. */
export function caption(item, query) {
  const wanted = words(query);
  const hit = (text) => wanted.some((word) => fold(text).includes(word));
  const tags = (item.tags ?? []).filter(hit);
  const line = [item.notes ?? ""].find((notes) => notes && hit(notes));
  const folder = item.path.slice(0, -item.name.length - 1);
  const more = tags.length ? tags.join(", ") : line ? around(line, wanted) : folder;
  return h("p", { class: "caption" }, h("span", {}, show(item.name, wanted)), h("small", {}, show(more, wanted)));
}

function around(text, wanted) {
  const at = Math.max(0, Math.min(...wanted.map((word) => fold(text).indexOf(word)).filter((place) => place >= 0)) - 15);
  return (at ? "…" : "") + text.slice(at, at + 120);
}

/** The box in the header. `go(query, everywhere)` opens the results. */
export class SearchBox {
  constructor(go) {
    this.go = go;
    this.input = h("input", { type: "search", "aria-label": T.search, placeholder: T.search, title: T.searchHint, maxLength: 1000 });
    const list = suggest(this.input, { word: () => this.#split()[1], pick: (found) => this.#pick(found) });
    this.scope = h("select", { "aria-label": T.scope, onchange: () => this.#go() });
    this.from = h("input", { type: "date", onchange: () => this.#setDates() });
    this.until = h("input", { type: "date", onchange: () => this.#setDates() });
    this.dates = h("div", { class: "dates" }, h("label", {}, T.from, this.from), h("label", {}, T.until, this.until));
    this.dates.hidden = true;
    this.toggle = button("calendar", T.dates, () => this.#toggleDates(), { "aria-expanded": "false" });
    this.element = h(
      "form",
      { class: "search", role: "search", onsubmit: (event) => (event.preventDefault(), this.#go()) },
      h("div", { class: "combo" }, this.input, list),
      this.toggle,
      this.scope,
      this.dates,
    );
    this.input.addEventListener("search", () => this.input.value || this.go("", this.everywhere));
  }

  get everywhere() {
    return this.scope.value === "everywhere";
  }

  /** Shows the query of an address. `name` is that of the folder to search in, "" at the root. */
  show(query, name, everywhere) {
    if (document.activeElement !== this.input) this.input.value = query;
    const options = [h("option", { value: "everywhere" }, T.searchEverywhere)];
    if (name) options.unshift(h("option", { value: "here" }, T.searchHere(name)));
    put(this.scope, options);
    this.scope.value = everywhere || !name ? "everywhere" : "here";
    const dates = query.match(/date:(\d{4}-\d\d-\d\d)?(?:\.\.(\d{4}-\d\d-\d\d)?)?/);
    [this.from.value, this.until.value] = [dates?.[1] ?? "", dates?.[2] ?? dates?.[1] ?? ""];
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** The query before its last word, and that word. */
  #split() {
    const [, before, word] = this.input.value.match(/^(.*\s)?(\S*)$/s);
    return [before ?? "", word.replace(/^-?(tag:|name:)?"?/, "")];
  }

  #pick({ text, kind }) {
    const quoted = /[\s"]/.test(text) ? `"${text}"` : text;
    this.input.value = `${this.#split()[0]}${kind === "tag" ? "tag:" : ""}${quoted} `;
    this.#go();
  }

  #toggleDates() {
    this.dates.hidden = !this.dates.hidden;
    this.toggle.setAttribute("aria-expanded", String(!this.dates.hidden));
    if (!this.dates.hidden) this.from.focus();
  }

  #setDates() {
    const [from, until] = [this.from.value, this.until.value];
    const rest = this.input.value.replace(DATE, "").trim();
    const dates = from || until ? `date:${from}${from === until ? "" : `..${until}`}` : "";
    this.input.value = [rest, dates].filter(Boolean).join(" ");
    this.#go();
  }

  #go() {
    this.go(this.input.value.trim(), this.everywhere);
  }
}
