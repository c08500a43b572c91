// Mouse and fingers in the list. A click opens a photo, or selects it once something is selected. A finger that stays
// selects, and where it then moves, it selects on; near an edge of the screen, the list moves below it.

import { writable } from "./api.js";
import * as place from "./place.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import * as tiles from "./tiles.js";

const [PRESS_MS, EDGE, SLOWER] = [500, 90, 6]; // EDGE: pixels

let press; // a timer, until a finger has stayed long enough
let finger; // where the finger is that selects
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
	if (event.pointerType === "touch" && event.isPrimary && writable) press = setTimeout(begin, PRESS_MS, tile.index, event);
}

function begin(index, event) {
	press = undefined;
	hasPressed = true;
	finger = event;
	event.target.addEventListener("touchmove", stay, { passive: false }); // its tile may leave the page
	scroller.list.setPointerCapture(event.pointerId);
	selection.drag(index);
	drag();
}

function stay(event) {
	if (finger && event.cancelable) event.preventDefault();
}

function move(event) {
	clearTimeout(press);
	if (finger) finger = event;
}

// Selects up to the photo below the finger, in each frame until it is lifted. The list waits for photos that are not loaded.
function drag() {
	if (!finger) return;
	const { x, y } = finger;
	const { top, bottom } = scroller.view.getBoundingClientRect();
	const inside = Math.max(top + EDGE, Math.min(y, bottom - EDGE));
	const isLoaded = positions.blockAt(scroller.top() + inside - top)?.items;
	if (y !== inside && isLoaded) scroller.scrollBy(Math.round((y - inside) / SLOWER));
	const tile = tiles.tileAt(document.elementFromPoint(x, inside));
	if (tile) selection.dragTo(tile.index);
	requestAnimationFrame(drag);
}

function end() {
	clearTimeout(press);
	press = finger = undefined;
}
