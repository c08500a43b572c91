// The keyboard in the list: which photo has the focus, and where keys move it.

import { writable } from "./api.js";
import { source } from "./list.js";
import * as place from "./place.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import * as tiles from "./tiles.js";

// Moves the focus and the screen to a photo; if none is given, to the current one, or what is on the screen.
export async function focus(index = tiles.has(tiles.currentIndex()) ? tiles.currentIndex() : place.first()) {
	if (!source.count) return scroller.view.focus();
	const current = Math.max(0, Math.min(index, source.count - 1));
	tiles.setCurrent(current);
	const { block } = positions.rowOf(current);
	if (!block.items) {
		scroller.goTo(block.top);
		await source.ensure([block]);
	}
	const { row } = positions.rowOf(current);
	if (!row) return;
	const [at, high] = [block.top + row.top, row.head + row.height];
	const [top, screen] = [scroller.top(), scroller.height()];
	if (at < top || at + high > top + screen) scroller.goTo(at - (screen - high) / 2);
	scroller.draw();
	tiles.focusCurrent();
}

scroller.list.onkeydown = (event) => {
	const { key, shiftKey, altKey, target } = event;
	const { index } = tiles.tileAt(target) ?? {};
	const command = event.ctrlKey || event.metaKey;
	const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: Infinity };
	if (index === undefined || altKey) return;
	if (command && key === "a" && writable) selection.everything();
	else if (command && !(key in moves)) return;
	else if (key === " " && writable) selection.toggle(index, shiftKey);
	else if (key in moves) focus(moves[key]);
	else if (key === "ArrowUp") focus(positions.neighbour(index, -1));
	else if (key === "ArrowDown") focus(positions.neighbour(index, 1));
	else return;
	event.preventDefault();
};

// Keys that scroll, wherever the focus is. Returns false for others.
export function scroll(key) {
	const page = 0.9 * scroller.height();
	const ways = { Home: -Infinity, End: Infinity, PageUp: -page, PageDown: page, " ": page };
	if (!(key in ways)) return false;
	scroller.scrollBy(ways[key]);
	return true;
}
