// The search box: words and suggestions, and filters: years, and the tags, cameras and lenses of what is shown. It searches
// below the folder that is shown.

import * as address from "./address.js";
import { isGuest, send } from "./api.js";
import { button, focusTopmost, h, put } from "./dom.js";
import { source } from "./list.js";
import { number, T } from "./strings.js";
import { suggest, termOf } from "./tags.js";

const MOST = 200; // of each kind among the filters
const YEAR = /^date:\d{4}$/; // photos are of one

const hints = { "aria-label": T.search, placeholder: T.search, title: T.searchHint };
const input = h("input", { type: "search", ...hints, maxLength: 1000, autocapitalize: "none" });
const choices = h("div");
const filters = h("div.filters.sheet", { popover: "auto" }, choices);
const toggle = button("filter", T.filters, undefined, { popoverTargetElement: filters });
filters.onbeforetoggle = ({ newState }) => newState === "open" && draw();

// Each filter adds to the search of the address, or takes itself away. Those of another search do nothing.
async function draw() {
	const shown = source;
	const { query, path } = shown;
	choices.ariaBusy = "true";
	await shown.ready; // then its terms are known
	const terms = shown.terms.map(({ text }) => text);
	const withoutYear = terms.filter((each) => !YEAR.test(each));
	const ask = (route, params) => send("GET", route, { path, ...params }).catch(() => ({ data: {} }));
	const answers = [ask("timeline", { q: withoutYear.join(" ") }), ask("search/facets", { q: query, limit: MOST })];
	const [{ months = [] }, { facets = [] }] = (await Promise.all(answers)).map(({ data }) => data);
	if (shown !== source) return;

	const chip = (term, text, count) => {
		const others = (YEAR.test(term) ? withoutYear : terms).filter((each) => each !== term);
		const isOn = terms.includes(term);
		const href = address.searchHref([...others, ...(isOn ? [] : [term])].join(" "), path);
		return h("a", { href, ...(isOn && { "aria-current": "true" }) }, text, count && h("small", number(count)));
	};
	const group = (title, chips) => [h("h2", title), h("div.chips", chips)];
	const counts = new Map();
	for (const { month, count } of months) counts.set(month.slice(0, 4), (counts.get(month.slice(0, 4)) ?? 0) + count);
	const years = [...counts].map(([year, count]) => chip(`date:${year}`, year, count));
	const kinds = Object.entries(Object.groupBy(facets, ({ kind }) => kind));
	const found = kinds.map(([kind, all]) => group(T.fields[kind], all.map(({ text, count }) => chip(termOf(kind, text), text, count))));
	put(choices, group(T.fields.date, [chip(T.thisDay(), T.onThisDay), ...years]), found);
	choices.ariaBusy = "false";
}

const list = suggest(input, {
	word: () => input.value.match(/\S*$/)[0].replace(/^-?((tag|name|camera|lens):)?"?/i, ""),
	value: ({ text, kind }) => input.value.replace(/(-?)\S*$/, "$1") + (kind === "name" ? text : termOf(kind, text)),
	pick: open,
});
export const box = h("form.search", { role: "search" }, isGuest ? "" : [input, list, toggle, filters]);

function open() {
	focusTopmost(); // and the keyboard of a phone goes
	address.go(address.searchHref(T.times(input.value.trim()), address.here.folder));
}

box.onsubmit = (event) => {
	event.preventDefault();
	open();
};

// Says in which folder is searched; "" for all.
export const within = (name) => (input.placeholder = name ? T.searchIn(name) : T.search);

// Shows the query of an address.
export function show(query) {
	input.value = query;
	if (filters.matches(":popover-open")) draw();
}

export function focus() {
	input.focus();
	input.select();
}
