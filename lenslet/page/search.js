// The search box: words, suggestions, dates, and where to search.

import * as address from "./address.js";
import { button, h, put } from "./dom.js";
import { T } from "./strings.js";
import { suggest } from "./tags.js";

const DATES = /(?:^|\s)date:(?:(\d{4}-\d\d-\d\d)?(\.\.)?(\d{4}-\d\d-\d\d)?)\S*/;

const input = h("input", { type: "search", "aria-label": T.search, placeholder: T.search, title: T.searchHint, maxLength: 1000 });
const scope = h("select", { "aria-label": T.scope });
const [from, until] = [T.from, T.until].map((label) => h("input", { type: "date", "aria-label": label }));
const presets = h("div.presets");
const dates = h("div.dates", { popover: "auto" }, h("h2", T.dates), h("div", from, "–", until), presets);
dates.onbeforetoggle = () => put(presets, Object.entries(T.presets()).map(([query, name]) => h("a", { href: address.searchHref(query), onclick: () => dates.hidePopover() }, name)));
const toggle = button("calendar", T.dates, () => dates.togglePopover());
const list = suggest(input, {
	word: () => input.value.match(/\S*$/)[0].replace(/^-?(tag:|name:)?"?/, ""),
	value: ({ text, kind }) => input.value.replace(/(-?)\S*$/, kind === "tag" ? "$1tag:" : "$1") + (/[\s"]/.test(text) ? `"${text}"` : text),
	pick: open,
});
export const box = h("form.search", { role: "search" }, input, list, toggle, dates, scope);

function open() {
	address.go(address.searchHref(input.value.trim(), scope.value === "everywhere" ? "" : address.here.folder));
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
	scope.hidden = !name;
	put(scope, name && h("option", { value: "here" }, T.searchHere(name)), h("option", { value: "everywhere" }, T.everywhere));
	const [, first = "", to, last = ""] = query.match(DATES) ?? [];
	[from.value, until.value] = [first, to ? last : first];
}

export function focus() {
	input.focus();
	input.select();
}
