// The list that is shown: a folder, or what a search found. Owns it and its order.

import { h, put } from "./dom.js";
import { announce, on } from "./events.js";
import { Folder, Search } from "./sources.js";
import { T } from "./strings.js";

const memory = navigator.cookieEnabled ? localStorage : {};

export let source;
export const sorting = h("select", { "aria-label": T.sort });
sorting.onchange = () => {
	memory.sort = sorting.value;
	reopen();
};

// Opens the list of an address, unless it is the one that is shown.
export function show({ folder, query }) {
	if (folder !== source?.path || query !== source.query) open(folder, query);
}

export const reopen = () => open(source.path, source.query);

function open(folder, query) {
	source?.close();
	const names = Object.entries(T.sorts).slice(query ? 0 : 1);
	put(sorting, names.map(([value, name]) => h("option", { value }, name)));
	sorting.value = memory.sort;
	if (!sorting.value) sorting.selectedIndex = 0;
	source = new (query ? Search : Folder)(folder, sorting.value, query, () => announce("list"));
	announce("opened");
	source.start();
}

on("stored", (tags) => {
	source.items = source.items.map((item) => (tags[item?.path] ? { ...item, tags: tags[item.path] } : item));
	announce("list");
});
