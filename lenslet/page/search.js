// The search box, and how a result shows what matched.

import { button, h, put } from "./dom.js";
import { T } from "./strings.js";
import { suggest } from "./tags.js";

const TERM = /(-?)(?:(tag|name|notes|path|date):)?(?:"([^"]*)"?|(\S+))/g;
const DATES = /(?:^|\s)date:(?:(\d{4}-\d\d-\d\d)?(\.\.)?(\d{4}-\d\d-\d\d)?)\S*/;
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Returns the words that a query looks for, folded as search does. */
export const words = (query) =>
	[...query.matchAll(TERM)].filter(([, not, field]) => !not && field !== "date").map(([, , , phrase, word]) => fold(phrase ?? word));

/** Returns a text with what matches in `<mark>` elements. */
export function marked(text, wanted) {
	const letters = [...text];
	const origins = letters.flatMap((letter, index) => Array(fold(letter).length).fill(index));
	const plain = letters.map(fold).join("");
	const hits = new Set();
	for (const word of wanted.filter(Boolean)) {
		for (let at = plain.indexOf(word); at >= 0; at = plain.indexOf(word, at + 1)) {
			for (const each of origins.slice(at, at + word.length)) hits.add(each);
		}
	}
	const parts = [];
	letters.forEach((letter, index) => {
		if (!index || hits.has(index) !== hits.has(index - 1)) parts.push("");
		parts[parts.length - 1] += letter;
	});
	return parts.map((part, index) => (hits.has(0) === (index % 2 === 0) ? h("mark", {}, part) : part));
}

/** What stands below a result: its name and, if that is elsewhere, what matched. */
export function caption({ name, path, tags = [], notes = "" }, query) {
	const wanted = words(query);
	const hits = (text) => wanted.some((word) => word && fold(text).includes(word));
	const tagged = tags.filter(hits).join(", ");
	const line = notes.split("\n").find(hits);
	const more = tagged || line || path.slice(0, -name.length - 1);
	return h("p", { class: "caption", title: more }, h("span", {}, marked(name, wanted)), h("small", {}, marked(more, wanted)));
}

/** The box in the header. `go(query, everywhere)` opens the results. */
export class SearchBox {
	constructor(go) {
		this.input = h("input", { type: "search", "aria-label": T.search, placeholder: T.search, title: T.searchHint, maxLength: 1000 });
		this.scope = h("select", { "aria-label": T.scope });
		[this.from, this.until] = [T.from, T.until].map((label) => h("input", { type: "date", "aria-label": label, title: label }));
		const dates = h("span", { class: "dates", hidden: true }, this.from, "–", this.until);
		const open = () => go(this.input.value.trim(), this.scope.value === "everywhere");
		const list = suggest(this.input, {
			word: () => this.#word,
			value: ({ text, kind }) => `${this.#before}${kind === "tag" ? "tag:" : ""}${/[\s"]/.test(text) ? `"${text}"` : text}`,
			pick: open,
		});
		this.scope.onchange = open;
		this.from.onchange = this.until.onchange = () => {
			const [from, until] = [this.from.value, this.until.value];
			const rest = this.input.value.replace(DATES, "").trim();
			const dates = from || until ? `date:${from}${from === until ? "" : `..${until}`}` : "";
			this.input.value = `${rest} ${dates}`.trim();
			open();
		};
		const toggle = button("calendar", T.dates, () => toggle.setAttribute("aria-expanded", !(dates.hidden = !dates.hidden)));
		const submit = (event) => event.preventDefault(open());
		this.element = h("form", { class: "search", role: "search", onsubmit: submit }, this.input, list, toggle, dates, this.scope);
		this.input.addEventListener("search", () => this.input.value || open());
	}

	/** Shows the query of an address. `name` is that of the folder to search in, "" at the root. */
	show(query, name, everywhere) {
		if (document.activeElement !== this.input) this.input.value = query;
		const here = name && h("option", { value: "here" }, T.searchHere(name));
		put(this.scope, here, h("option", { value: "everywhere" }, T.everywhere));
		this.scope.value = everywhere || !name ? "everywhere" : "here";
		const [, from = "", to, until = ""] = query.match(DATES) ?? [];
		[this.from.value, this.until.value] = [from, to ? until : from];
	}

	focus() {
		this.input.focus();
		this.input.select();
	}

	/** The last word of the query, without its field, and what stands before it. */
	get #word() {
		return this.input.value.match(/\S*$/)[0].replace(/^-?(tag:|name:)?"?/, "");
	}

	get #before() {
		return this.input.value.replace(/\S*$/, "");
	}
}
