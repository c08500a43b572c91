// The list of photos, of which only what is near the screen is loaded and in the page. Its parts: where all is
// (`positions`), the box that scrolls (`scroller`), what is in the page (`rows`, `tiles`), what is at the top (`place`),
// the keyboard (`cursor`), fingers and mouse (`pointer`).

import { above } from "./above.js";
import { put } from "./dom.js";
import { announce, on } from "./events.js";
import { CAPTION, HEAD, MONTH } from "./layout.js";
import { source } from "./list.js";
import * as place from "./place.js";
import { follow } from "./pointer.js";
import * as positions from "./positions.js";
import * as rows from "./rows.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import * as tiles from "./tiles.js";

const { list, view } = scroller;
let loads; // a timer, until what is near is loaded

put(view, above, place.headline, list);
follow(list);
for (const [name, size] of Object.entries({ head: HEAD, month: MONTH, caption: CAPTION })) {
	view.style.setProperty(`--${name}`, `${size}px`);
}
const resized = new ResizeObserver(update);
resized.observe(view);
resized.observe(above);

// Begins with another list: where it was left, or at the month of the address.
export function reset() {
	positions.forget();
	scroller.reset();
	tiles.setCurrent(0);
	selection.begin(0);
	selection.clear();
	seek();
}

// Goes where the address says, in the list that is shown.
export function seek() {
	place.seek();
	update();
}

// Lays out the list anew: it has other photos, or another width. What is at the top of the screen stays there.
export function update() {
	if (!source || !list.clientWidth) return;
	const hadFocus = list.contains(document.activeElement);
	positions.compute(list.clientWidth);
	scroller.fit();
	place.restore();
	rows.clear();
	scroller.draw();
	if (hadFocus) tiles.focusCurrent();
	announce("positions");
}

// What happens in each frame in which one scrolls, or in which the list has changed.
on("scrolled", () => {
	rows.draw();
	place.note();
	loadSoon();
});

// Nothing is loaded while one scrolls on.
function loadSoon() {
	clearTimeout(loads);
	if (scroller.isMoving()) loads = setTimeout(load, scroller.MOVING_MS);
	else load();
}

const load = () => source.ensure(positions.blocksBetween(...rows.near()));
