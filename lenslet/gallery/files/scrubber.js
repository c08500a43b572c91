// The scale beside a list: years where their photos are, and a thumb to drag through them.

import { h, put } from "./dom.js";
import { on } from "./events.js";
import { lastAt } from "./layout.js";
import { source } from "./list.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";
import { number, T } from "./strings.js";

const APART = 22; // pixels between two years
const bubble = h("output.bubble", { hidden: true });
const slider = { role: "slider", "aria-label": T.timeline, "aria-orientation": "vertical", "aria-valuemin": "0" };
const thumb = h("div.thumb", { ...slider, tabIndex: 0 });
const years = h("div.years", { "aria-hidden": "true" });
export const scale = h("nav.scale", { hidden: true, "aria-label": T.timeline }, years, thumb, bubble);

const nameOf = (block) => block.name ?? number(block.first + 1);
const share = () => {
	const room = positions.total() - scroller.height();
	return Math.min(1, Math.max(0, scroller.top() / Math.max(1, room)));
};

on("positions", draw);
for (const moved of ["scrolled", "rests"]) on(moved, show);

// Draws the years, each where its first photo is.
function draw() {
	const height = positions.total();
	const screens = scale.hidden ? 2 : 1.5; // its room changes the height
	scale.hidden = !source || height < screens * scale.parentElement.clientHeight;
	if (scale.hidden) return;
	const room = scale.clientHeight;
	let [lower, year] = [-APART, ""];
	const labels = [];
	for (const { heading, date, top } of source.blocks) {
		const at = (top / height) * room;
		if (!heading || !date || date.slice(0, 4) === year) continue;
		year = date.slice(0, 4);
		if (at - lower < APART) continue;
		lower = at;
		const label = h("span", year);
		label.style.top = `${at}px`;
		labels.push(label);
	}
	put(years, labels);
	show();
}

function show() {
	if (scale.hidden || !source.blocks.length) return;
	scale.classList.toggle("moving", scroller.isMoving());
	const block = positions.blockAt(scroller.top());
	thumb.style.top = `${share() * 100}%`;
	thumb.setAttribute("aria-valuemax", `${source.blocks.length}`);
	thumb.setAttribute("aria-valuenow", `${source.blocks.indexOf(block)}`);
	thumb.setAttribute("aria-valuetext", nameOf(block));
}

function positionOf({ clientY }) {
	const { top, height } = scale.getBoundingClientRect();
	const part = Math.min(1, Math.max(0, (clientY - top) / height));
	return part * (positions.total() - scroller.height());
}

scale.onpointerdown = (event) => {
	if (event.button) return;
	event.preventDefault();
	scale.setPointerCapture(event.pointerId);
	scale.onpointermove(event);
};
scale.onpointermove = (event) => {
	const position = positionOf(event);
	bubble.hidden = false;
	bubble.style.top = `${event.clientY - scale.getBoundingClientRect().top}px`;
	put(bubble, nameOf(positions.blockAt(position)));
	if (scale.hasPointerCapture(event.pointerId)) scroller.goTo(position);
};
scale.onpointerleave = scale.onpointerup = scale.onpointercancel = () => (bubble.hidden = true);

const KEYS = { ArrowUp: -1, ArrowDown: 1, PageUp: -12, PageDown: 12, Home: -Infinity, End: Infinity }; // months
thumb.onkeydown = (event) => {
	if (!KEYS[event.key]) return;
	event.preventDefault();
	event.stopPropagation();
	const months = source.blocks.filter(({ heading }) => heading);
	const heads = months.length ? months : source.blocks;
	const wanted = lastAt(heads, "top", scroller.top() + 1) + KEYS[event.key];
	scroller.goTo(heads[Math.max(0, Math.min(heads.length - 1, wanted))].top);
};
