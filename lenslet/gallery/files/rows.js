// The rows that are in the page: those near the screen, and the headings above them.

import { folderHref, parent, titleAfterDate } from "./address.js";
import { shared, writable } from "./api.js";
import { h, put } from "./dom.js";
import { on } from "./events.js";
import { source } from "./list.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";
import { keepOnly, tileOf } from "./tiles.js";

const shown = new Map(); // their elements, by key
let begin; // where the box began when they were drawn

// What is in the page, or about to be: a screen more above and below.
export const near = () => [scroller.top() - scroller.height(), scroller.top() + 2 * scroller.height()];

// Takes all rows out of the page, because they have other positions.
export function clear() {
	put(scroller.list);
	shown.clear();
}

// Puts the rows near the screen into the page, and takes out the others.
export function draw() {
	if (begin !== scroller.inBox(0)) clear();
	begin = scroller.inBox(0);
	const wanted = positions.rowsBetween(...near());
	keepOnly(new Set(wanted.flatMap(({ row }) => row?.cells.map(({ index }) => index) ?? [])));
	const keys = new Set(wanted.map(({ key }) => key));
	for (const [key, element] of shown) {
		if (keys.has(key)) continue;
		element.remove();
		shown.delete(key);
	}
	let last; // what is read aloud is in this order
	for (const { key, block, row } of wanted) {
		const element = shown.get(key) ?? make(block, row);
		shown.set(key, element);
		if (!element.isConnected && last) last.after(element);
		else if (!element.isConnected) scroller.list.prepend(element);
		last = element;
	}
}

function make(block, row) {
	const position = block.top + (row?.top ?? 0);
	const element = row ? rowOf(row, position) : h("h2.month", block.name);
	element.style.top = `${scroller.inBox(position)}px`;
	return element;
}

function rowOf({ head, heads, height, cells }, position) {
	const tiles = cells.map(({ index, left, width }) => {
		const tile = tileOf(index, position);
		Object.assign(tile.style, { left: `${left}px`, width: `${width}px`, top: `${head}px` });
		tile.style.setProperty("--high", `${height}px`);
		return tile;
	});
	const element = h("div.row", heads.map(dayOf), h("div", { role: "list" }, tiles));
	element.style.height = `${head + height}px`;
	return element;
}

// The heading of a day: all its photos are selected by its mark.
function dayOf({ day, first, shapes, left, width }) {
	const items = source.slice(first, first + shapes.length - 1);
	const folder = parent(items[0].path);
	const isElsewhere = folder !== source.path && !shared.isList;
	const onclick = () => selection.toggleAll(items);
	const check = h("button.check", { onclick, tabIndex: -1, title: T.selectDay, items }, "✓");
	mark(check);
	const element = h(
		"div.day",
		writable && check,
		day && h(source.months.length ? "h3" : "h2", T.day(day)),
		isElsewhere && h("a", { href: folderHref(folder), tabIndex: -1, title: folder }, titleAfterDate(folder) || T.folders),
	);
	Object.assign(element.style, { left: `${left}px`, width: `${width}px` });
	return element;
}

// Pressed while all photos of its day are selected.
function mark(check) {
	check.ariaPressed = selection.hasAll(check.items);
}
on("selection", () => scroller.list.querySelectorAll(".check").forEach(mark));
