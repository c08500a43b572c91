// The search box: words and suggestions, and filters: dates, and the tags that there are. It searches below the folder
// that is shown.

import * as address from "./address.js";
import { isGuest, send } from "./api.js";
import { button, h, put } from "./dom.js";
import { source } from "./list.js";
import { number, T } from "./strings.js";
import { suggest, termOf } from "./tags.js";

const MOST = 200; // of each kind among the filters
const WIDEST = 490; // pixels of the filters
const YEAR = /^date:\d{4}$/; // photos are of one
const DATES = /(?:^|\s)date:(?:(\d{4}-\d\d-\d\d)?(\.\.)?(\d{4}-\d\d-\d\d)?)\S*/;

const input = h("input", { type: "search", "aria-label": T.search, placeholder: T.search, title: T.searchHint, maxLength: 1000, autocapitalize: "none" });
const [from, until] = [T.from, T.until].map((label) => h("input", { type: "date", "aria-label": label }));
const presets = h("div.chips");
const tags = h("div");
const filters = h("div.filters.sheet", { popover: "auto" }, h("h2", T.dates), h("div", from, "–", until), presets, tags);
const toggle = button("filter", T.filters, undefined, { popoverTargetElement: filters });
filters.onbeforetoggle = ({ newState }) => {
	if (newState !== "open") return;
	const { bottom, right } = toggle.getBoundingClientRect();
	filters.style.inset = `${bottom + 4}px ${Math.max(8, innerWidth - Math.max(right, WIDEST))}px auto auto`;
	draw();
};

// Each filter adds to the search of the address, or takes itself away.
async function draw() {
	const { query, folder } = address.here;
	const shown = source;
	await shown.ready; // then its terms are known
	if (shown !== source) return;
	const now = shown.terms.map(({ text }) => text);
	const more = (term, ...text) => {
		const isOn = now.includes(term);
		const others = now.filter((each) => each !== term && !(YEAR.test(term) && YEAR.test(each)));
		const wanted = isOn ? others : [...others, term];
		return h("a", { href: address.searchHref(wanted.join(" "), folder), ...(isOn && { "aria-current": "true" }) }, text);
	};
	put(presets, Object.entries(T.presets()).map(([term, name]) => more(term, name)));
	const lists = await Promise.all([years(), facets()]);
	if (query === address.here.query && folder === address.here.folder) put(tags, lists);

	// The tags, cameras and lenses of what is shown.
	async function facets() {
		const { data } = await send("GET", "search/facets", { q: query, path: folder, limit: MOST }).catch(() => ({}));
		const groups = Object.entries(Object.groupBy(data?.facets ?? [], ({ kind }) => kind));
		const chip = ({ kind, text, count }) => more(termOf(kind, text), text, h("small", number(count)));
		return groups.map(([kind, found]) => [h("h2", T.kinds[kind]), h("div.chips", found.map(chip))]);
	}

	// The years of what is shown, whichever of them is chosen.
	async function years() {
		const rest = now.filter((each) => !YEAR.test(each)).join(" ");
		const { data } = await send("GET", "timeline", { path: folder, q: rest }).catch(() => ({}));
		const counts = {};
		for (const { month, count } of data?.months ?? []) counts[`date:${month.slice(0, 4)}`] = (counts[`date:${month.slice(0, 4)}`] ?? 0) + count;
		return h("div.chips", Object.entries(counts).reverse().map(([term, count]) => more(term, term.slice(5), h("small", number(count)))));
	}
}
const list = suggest(input, {
	word: () => input.value.match(/\S*$/)[0].replace(/^-?((tag|name|camera|lens):)?"?/i, ""),
	value: ({ text, kind }) => input.value.replace(/(-?)\S*$/, "$1") + (kind === "name" ? text : termOf(kind, text)),
	pick: open,
});
export const box = h("form.search", { role: "search" }, isGuest ? "" : [input, list, toggle, filters]);

function open() {
	if (matchMedia("(pointer:coarse)").matches) input.blur(); // the keyboard goes
	address.go(address.searchHref(T.times(input.value.trim()), address.here.folder));
}

box.onsubmit = (event) => event.preventDefault(open());
from.onchange = until.onchange = () => {
	const [first, last] = [from.value, until.value];
	const range = first || last ? `date:${first}${first === last ? "" : `..${last}`}` : "";
	input.value = `${input.value.replace(DATES, "").trim()} ${range}`.trim();
	open();
};

// Says in which folder is searched; "" for all.
export const within = (name) => (input.placeholder = name ? T.searchIn(name) : T.search);

// Shows the query of an address.
export function show(query) {
	input.value = query;
	const [, first = "", to, last = ""] = query.match(DATES) ?? [];
	[from.value, until.value] = [first, to ? last : first];
	if (filters.matches(":popover-open")) draw();
}

export function focus() {
	input.focus();
	input.select();
}
