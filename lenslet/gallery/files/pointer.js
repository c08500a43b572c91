// Mouse and fingers in the list. A click opens a photo, or selects it once something is selected. A finger that stays
// selects, and where it then moves, it selects on.

import { writable } from "./api.js";
import * as place from "./place.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import * as tiles from "./tiles.js";

const [PRESS_MS, EDGE, STEP] = [500, 60, 10]; // a finger this near an edge scrolls so many pixels a frame

let press; // a timer, until a finger has stayed long enough
let finger; // where one is that selects: `x` and `y`
let hasPressed = false; // what follows on a long press is no click

// Follows what is done with pointers in the list.
export function follow(list) {
	list.onclick = click;
	list.addEventListener("click", swallow, true);
	list.onpointerdown = down;
	list.onpointermove = move;
	list.onpointerup = list.onpointercancel = end;
	list.oncontextmenu = list.ondragstart = keepOut;
	// Before a finger scrolls, the browser asks; it does so only of who listens from the beginning.
	if (writable) list.addEventListener("touchmove", stay, { passive: false });
}

function swallow(event) {
	if (!hasPressed) return;
	event.preventDefault();
	event.stopPropagation();
}

// What browsers do of their own when a finger stays.
function keepOut(event) {
	if (press || hasPressed) event.preventDefault();
}

function click(event) {
	const { target, shiftKey, ctrlKey, metaKey } = event;
	const tile = tiles.tileAt(target);
	if (!tile || !target.closest("a")) return;
	tiles.setCurrent(tile.index);
	const selects = writable && (ctrlKey || metaKey || shiftKey || selection.size());
	if (!selects) return place.remember();
	event.preventDefault();
	selection.toggle(tile.index, shiftKey);
}

function down(event) {
	end();
	hasPressed = false;
	const tile = tiles.tileAt(event.target);
	if (!tile) return;
	if (!event.shiftKey) selection.begin(tile.index);
	if (event.pointerType === "touch" && event.isPrimary && writable) press = setTimeout(begin, PRESS_MS, tile, event);
}

function begin({ index, element }, { x, y }) {
	press = undefined;
	hasPressed = true;
	finger = { x, y };
	element.addEventListener("touchmove", stay, { passive: false }); // it may leave the list, when that scrolls
	selection.drag(index);
	requestAnimationFrame(scrollAtEdge);
}

function stay(event) {
	if (finger) event.preventDefault();
}

function move({ x, y }) {
	clearTimeout(press);
	if (!finger) return;
	finger = { x, y };
	selectOn();
}

function end() {
	clearTimeout(press);
	press = finger = undefined;
}

// Selects up to the photo below the finger.
function selectOn() {
	const tile = tiles.tileAt(document.elementFromPoint(finger.x, finger.y));
	if (tile) selection.dragTo(tile.index);
}

function scrollAtEdge() {
	if (!finger) return;
	const { top, bottom } = scroller.view.getBoundingClientRect();
	const way = (finger.y > bottom - EDGE) - (finger.y < top + EDGE);
	if (way) {
		scroller.scrollBy(way * STEP);
		selectOn();
	}
	requestAnimationFrame(scrollAtEdge);
}
