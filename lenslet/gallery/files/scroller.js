// The box that scrolls, and where the screen is in the list. Announces `scrolled`, for which the list is drawn, and once
// nothing moves or comes any more, `rests`.
//
// Browsers end at some 16 million pixels, and fail before. So the box is at most BOX high: it shows a part of the list,
// from `base` on, and is moved along before its end comes.

import { h } from "./dom.js";
import { announce } from "./events.js";
import * as positions from "./positions.js";

const [BOX, MARGIN] = [4e6, 5e5]; // pixels
export const MOVING_MS = 60; // a list that has moved so long ago may move on
const REST_MS = 250;

export const list = h("div.tiles");
export const view = h("main", { tabIndex: -1 });
let base = 0; // where the box begins in the list
let upper = 0; // the height of what stands above the list
let frame; // in which is drawn
let last = 0; // where the screen was when it was drawn
let moved = 0; // when that changed
let rest; // a timer

view.onscroll = drawSoon;

// Where the screen begins in the list, in whole pixels as all positions are: browsers round what they scroll to.
export const top = () => Math.round(base + view.scrollTop - upper);
export const height = () => view.clientHeight;
export const isOnScreen = (position) => position >= last && position <= last + height();
export const isMoving = () => last > 0 && performance.now() - moved < MOVING_MS;
export const inBox = (position) => position - base;

// Begins at the top of another list.
export function reset() {
	base = 0;
	view.scrollTop = 0;
}

export function fit() {
	upper = list.offsetTop;
	list.style.height = `${Math.min(positions.total(), BOX)}px`;
}

// Scrolls to a position of the list; what is above 0 is above the list.
export function goTo(position) {
	const at = Math.max(0, Math.min(position, positions.total() - height() + upper));
	const hasMoved = moveBox(at);
	view.scrollTop = upper + (position <= 0 && !base ? position : at - base);
	if (hasMoved) draw();
	else drawSoon();
}

// Scrolls on; also to what is above the list.
export const scrollBy = (pixels) => goTo(Math.max(-upper, top() + pixels));

// Moves the box if a position is near its end; returns true if it did.
function moveBox(at) {
	const room = Math.min(positions.total(), BOX);
	if (at >= base + MARGIN && at <= base + room - MARGIN) return false;
	const before = base;
	base = Math.round(Math.max(0, Math.min(at - room / 2, positions.total() - room)));
	return base !== before;
}

function drawSoon() {
	frame ??= requestAnimationFrame(draw);
}

export function draw() {
	cancelAnimationFrame(frame);
	frame = undefined;
	if (!positions.isKnown()) return;
	const at = top();
	if (moveBox(at)) view.scrollTop = at - base + upper;
	if (at !== last) [last, moved] = [at, performance.now()];
	announce("scrolled");
	restSoon();
}

// Says that something comes, so the list does not rest yet.
export function restSoon() {
	clearTimeout(rest);
	rest = setTimeout(announce, REST_MS, "rests");
}
