// The search box, and how a result shows what matched.

import { button, h, page, put } from "./dom.js";
import { T } from "./strings.js";
import { suggest } from "./tags.js";

const TERM = /(-?)(?:(tag|name|notes|path|date):)?(?:"([^"]*)"?|(\S+))/g;
const DATES = /(?:^|\s)date:(?:(\d{4}-\d\d-\d\d)?(\.\.)?(\d{4}-\d\d-\d\d)?)\S*/;
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// Returns the words that a query looks for, folded as search does.
const words = (query) =>
	[...query.matchAll(TERM)].filter(([, not, field]) => !not && field !== "date").map(([, , , phrase, word]) => fold(phrase ?? word));

// Returns a text with what matches in `<mark>` elements.
function marked(text, wanted) {
	const letters = (word) => [...word].map((letter) => `${letter.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&")}\\p{M}*`).join("");
	const pattern = wanted.filter(Boolean).map(letters).join("|");
	const parts = text.normalize("NFKD").split(pattern ? RegExp(`(${pattern})`, "iu") : undefined);
	return parts.map((part, index) => (index % 2 ? h("mark", part) : part));
}

export function caption({ name, path, tags = [], notes = "" }, query) {
	const wanted = words(query);
	const hits = (text) => wanted.some((word) => word && fold(text).includes(word));
	const tagged = tags.filter(hits).join(", ");
	const line = notes.split("\n").find(hits);
	const more = tagged || line || path.slice(0, -name.length - 1);
	return h("p.caption", { title: more }, h("span", marked(name, wanted)), h("small", marked(more, wanted)));
}

const input = h("input", { type: "search", "aria-label": T.search, placeholder: T.search, title: T.searchHint, maxLength: 1000 });
const scope = h("select", { "aria-label": T.scope });
const [from, until] = [T.from, T.until].map((label) => h("input", { type: "date", "aria-label": label }));
const dates = h("div.dates", { popover: "auto" }, from, "–", until);
const toggle = button("calendar", T.dates, () => dates.togglePopover());
const list = suggest(input, {
	word: () => input.value.match(/\S*$/)[0].replace(/^-?(tag:|name:)?"?/, ""),
	value: ({ text, kind }) => input.value.replace(/(-?)\S*$/, kind === "tag" ? "$1tag:" : "$1") + (/[\s"]/.test(text) ? `"${text}"` : text),
	pick: open,
});
export const box = h("form.search", { role: "search" }, input, list, toggle, dates, scope);

function open() {
	page.search(input.value.trim(), scope.value === "everywhere");
}

box.onsubmit = (event) => event.preventDefault(open());
scope.onchange = open;
from.onchange = until.onchange = () => {
	const [first, last] = [from.value, until.value];
	const range = first || last ? `date:${first}${first === last ? "" : `..${last}`}` : "";
	input.value = `${input.value.replace(DATES, "").trim()} ${range}`.trim();
	open();
};

// Shows the query of an address. `name` is that of the folder to search in, "" at the root.
export function show(query, name) {
	input.value = query;
	put(scope, name && h("option", { value: "here" }, T.searchHere(name)), h("option", { value: "everywhere" }, T.everywhere));
	const [, first = "", to, last = ""] = query.match(DATES) ?? [];
	[from.value, until.value] = [first, to ? last : first];
}

export function focus() {
	input.focus();
	input.select();
}
