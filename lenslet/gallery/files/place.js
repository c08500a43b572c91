// What keeps the place: what is at the top of the screen stays there, whatever is loaded. The address remembers it.

import * as address from "./address.js";
import { on } from "./events.js";
import { source } from "./list.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";

let place; // what is at the top of the screen; undefined at the top of the list
let wanted; // a place or a month to begin at, until that is reached

// The photo at the top of the screen.
export const first = () => place?.index ?? 0;

// Begins where the address says.
export function seek() {
	wanted = address.here.place ?? address.here.month;
	place = undefined;
	if (!wanted) scroller.goTo(-Infinity);
}

// Goes where the screen was, or is to begin, after positions have changed. That is reached once its block is loaded, because
// what loads before moves it.
export function restore() {
	const { blocks } = source;
	const to = wanted ?? place;
	if (!to || !blocks.length) return;
	const isMonth = ({ at, date }) => at === to || date?.startsWith(to);
	const monthOf = () => blocks.find(isMonth) ?? blocks.find(({ date }) => date < `${to}~`);
	const block = typeof to === "string" ? monthOf() : source.blockOf(to.index);
	if (block) scroller.goTo(typeof to === "string" ? block.top : positions.positionOf(to));
	if (!block || block.items) wanted = undefined;
}

// Takes what is at the top of the screen now.
export function note() {
	const at = scroller.top();
	place = at > 0 ? positions.placeAt(at) : undefined;
}

on("rests", remember);
export function remember() {
	if (wanted) return;
	const at = scroller.top();
	address.remember(place, at > 0 ? positions.blockAt(at)?.at : "");
}
