// What is at the top of the screen. It stays there, whatever is loaded; the address remembers it; and while one scrolls, a
// headline says it: the month, or the name of the folder; on a phone below the header, which hides from who scrolls down.

import * as address from "./address.js";
import { h, put } from "./dom.js";
import { on } from "./events.js";
import { source } from "./list.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";

const DOWN = 40; // pixels that hide the header, or show it

export const headline = h("h2.month.now", { "aria-hidden": "true" });
let place; // undefined at the top of the list
let wanted; // a place or a month to begin at, until that is reached
let turned = 0; // where one last went the other way

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
	hideHeader(at);
	const passed = at + (parseFloat(getComputedStyle(headline).top) || 0);
	const block = place && positions.blockAt(passed);
	headline.hidden = !block;
	const text = block && (block.name ?? address.titleOf(source.path));
	if (block && headline.textContent !== text) put(headline, text);
}

function hideHeader(at) {
	if (Math.abs(at - turned) < DOWN && at > DOWN) return;
	document.body.classList.toggle("low", at > turned && at > DOWN);
	turned = at;
}

on("rests", remember);
export function remember() {
	if (wanted) return;
	const at = scroller.top();
	address.remember(place, at > 0 ? positions.blockAt(at)?.at : "");
}
