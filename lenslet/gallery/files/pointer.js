// Mouse and fingers in the list. A click opens a photo, or selects it once something is selected. A finger that stays
// selects, and where it then moves, it selects on.

import { writable } from "./api.js";
import * as place from "./place.js";
import * as selection from "./selection.js";
import * as tiles from "./tiles.js";

const PRESS_MS = 500;

let press; // a timer, until a finger has stayed long enough
let selectsOn = false; // while the finger that selects moves
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
	if (event.pointerType === "touch" && event.isPrimary && writable) press = setTimeout(begin, PRESS_MS, tile.index);
}

function begin(index) {
	press = undefined;
	hasPressed = selectsOn = true;
	selection.drag(index);
}

function stay(event) {
	if (selectsOn) event.preventDefault();
}

// Selects up to the photo below the finger.
function move({ x, y }) {
	clearTimeout(press);
	const tile = selectsOn && tiles.tileAt(document.elementFromPoint(x, y));
	if (tile) selection.dragTo(tile.index);
}

function end() {
	clearTimeout(press);
	press = undefined;
	selectsOn = false;
}
