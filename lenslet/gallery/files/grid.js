// The grid: justified rows, of which only those near the screen are in the page.
//
// Browsers end at some 16 million pixels, and fail before. So the box that scrolls is at most BOX high: it shows
// a part of the list, from `base` on, and is moved along before its end comes.

import { above } from "./above.js";
import * as address from "./address.js";
import { isGuest, pause, shared, thumbUrl, whyNot, writable } from "./api.js";
import { caption, matcher } from "./caption.js";
import { h, loaded, put } from "./dom.js";
import { FAVOURITE } from "./edits.js";
import { announce, on } from "./events.js";
import { refine, stop } from "./finer.js";
import { CAPTION, guess, HEAD, lastAt, layOut, MONTH } from "./layout.js";
import { source } from "./list.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";

const [SETTLE_MS, HIDDEN_MS, AGAIN_MS, REST_MS, PRESS_MS] = [60, 150, 2000, 250, 500];
const [BOX, MARGIN, DOWN] = [4e6, 5e5, 40]; // pixels

const list = h("div.tiles");
const month = h("h2.month.now", { "aria-hidden": "true" });
export const view = h("main", { tabIndex: -1 }, above, month, list);
for (const [name, size] of Object.entries({ HEAD, MONTH, CAPTION })) view.style.setProperty(`--${name.toLowerCase()}`, `${size}px`);
let [height, base, upper] = [0, 0, 0]; // of the whole list, where the box begins in it, and of what is above it
let frame, lastTop, moved, rest, width, loads;
let place; // what is at the top of the screen
let held = false; // somebody drags through the list
const shown = new Map(); // elements of rows, by block and number
const tiles = new Map(); // by the index of their item
let current = 0; // the item that has the focus, or would

view.onscroll = () => (frame ??= requestAnimationFrame(render));
const paper = matchMedia("print");
const resized = new ResizeObserver(() => paper.matches || update());
resized.observe(view);
resized.observe(above);

const how = () => ({ days: source.days, matched: matcher(isGuest ? "" : source.query) });

// Where the screen begins in the list, in whole pixels as all positions are: browsers round what they scroll to.
export const top = () => Math.round(base + view.scrollTop - upper);
export const range = () => ({ height, screen: view.clientHeight, top: top(), blocks: source?.blocks ?? [] });

// Begins with another list: where it was left, or at the month of the address.
export function reset() {
	[base, current, width] = [0, 0, 0];
	view.scrollTop = 0;
	selection.begin(0);
	selection.clear();
	seek();
}

let wanted; // a place or a month to begin at, until that is reached

// Goes where the address says, in the list that is shown.
export function seek() {
	wanted = address.here.place ?? address.here.month;
	if (!wanted) goTo(-Infinity);
	place = undefined;
	update();
}

// Computes all positions anew. What is at the top of the screen stays there.
export function update() {
	if (!source || !list.clientWidth) return;
	const focused = list.contains(document.activeElement);
	const kept = wanted ? undefined : place;
	[width, upper, height] = [list.clientWidth, list.offsetTop, 0];
	for (const block of source.blocks) {
		if (block.items && (block.laid !== block.items || block.width !== width)) Object.assign(block, layOut(block, width, how()), { laid: block.items, width });
		else if (!block.items && block.width !== width) Object.assign(block, { height: guess(block, width, how()), width });
		block.top = height;
		height += block.height;
	}
	list.style.height = `${Math.min(height, BOX)}px`;
	if (kept) restore(kept);
	else if (source.blocks.length) begin();
	redraw();
	if (focused) tiles.get(current)?.link.focus({ preventScroll: true });
	announce("positions");
}

// Goes to the place that is wanted: it is reached once its block is loaded, because what loads before moves it.
function begin() {
	const { blocks } = source;
	if (typeof wanted === "string") {
		const block = blocks.find((each) => each.month?.startsWith(wanted)) ?? blocks.find((each) => each.month < `${wanted}~`);
		if (block) goTo(block.top);
		if (!block || block.items) wanted = undefined;
	} else if (wanted) {
		restore(wanted);
		if (source.blockOf(wanted.index)?.items) wanted = undefined;
	}
}

// Returns what is at the top of the screen: the index of a photo, and how far its row is above.
function anchor() {
	const at = top();
	if (at <= 0 || !source.blocks.length) return undefined;
	const block = source.blocks[lastAt(source.blocks, "top", at)];
	const row = block?.rows?.[lastAt(block.rows, "top", at - block.top)];
	return block && { index: row?.first ?? block.first, by: at - block.top - (row?.top ?? 0) };
}

function restore({ index, by }) {
	const block = source.blockOf(index);
	if (block) goTo(block.top + (block.rows?.[lastAt(block.rows, "first", index)]?.top ?? 0) + by);
}

// Scrolls to a position of the list, and moves the box if that is not in it.
export function goTo(position) {
	const at = Math.max(0, Math.min(position, height - view.clientHeight + upper));
	const box = Math.min(height, BOX);
	const before = base;
	if (at < base + MARGIN || at > base + box - MARGIN) base = Math.round(Math.max(0, Math.min(at - box / 2, height - box)));
	view.scrollTop = position <= 0 && !base ? position + upper : at - base + upper;
	if (base !== before) redraw();
	frame ??= requestAnimationFrame(render);
}

// Drags through the list: nothing is loaded until the end.
export function hold(holds) {
	held = holds;
	if (!held) render();
}

function redraw() {
	put(list);
	shown.clear();
	render();
}

// Puts into the page the rows near the screen, and takes out the others.
function render() {
	cancelAnimationFrame(frame);
	frame = undefined;
	if (!source || !width) return;
	const [at, screen] = [top(), view.clientHeight];
	if (height > BOX && ((base > 0 && view.scrollTop < MARGIN) || (base < height - BOX && view.scrollTop > BOX - MARGIN))) return goTo(at);
	if (at !== lastTop) [lastTop, moved] = [at, performance.now()];
	const [from, until] = [at - screen, at + 2 * screen];
	const near = source.blocks.slice(lastAt(source.blocks, "top", from), lastAt(source.blocks, "top", until) + 1);
	const wantedRows = new Map();
	for (const block of near) {
		if (block.heading) wantedRows.set(`${block.first}`, { block });
		const { rows = [] } = block;
		for (let number = lastAt(rows, "top", from - block.top); rows[number] && block.top + rows[number].top < until; number++) {
			wantedRows.set(`${block.first}.${number}`, { block, row: rows[number] });
		}
	}
	const indexes = new Set();
	for (const { row } of wantedRows.values()) for (const { index } of row?.cells ?? []) indexes.add(index);
	for (const [index, tile] of tiles) if (!indexes.has(index)) drop(tile);
	for (const [key, element] of shown) {
		if (wantedRows.has(key)) continue;
		element.remove();
		shown.delete(key);
	}
	let last; // what is read aloud or printed is in this order
	for (const [key, { block, row }] of wantedRows) {
		const element = shown.get(key) ?? draw(key, block, row);
		if (!element.isConnected) last ? last.after(element) : list.prepend(element);
		last = element;
	}
	hideHeader(at);
	headline(at);
	place = anchor();
	clearTimeout(loads);
	if (!held && scrolls()) loads = setTimeout(load, SETTLE_MS, near);
	else if (!held) load(near);
	stop();
	awaitRest();
	announce("scrolled");
}

const scrolls = () => lastTop > 0 && performance.now() - moved < SETTLE_MS;
const load = (near) => source.ensure(near);

// Who scrolls down on a phone sees no header.
let turned = 0; // where one last went the other way
function hideHeader(at) {
	if (Math.abs(at - turned) < DOWN && at > DOWN) return;
	document.body.classList.toggle("low", at > turned && at > DOWN);
	turned = at;
}

// The month at the top of the screen stays there, or the name of the folder; on a phone, below the header.
function headline(at) {
	const passed = at + (parseFloat(getComputedStyle(month).top) || 0);
	const block = at > 0 && source.blocks[lastAt(source.blocks, "top", passed)];
	month.hidden = !block;
	const text = block && (source.days ? T.month(block.month) : address.nameOf(source.path));
	if (block && month.textContent !== text) put(month, text);
}

function awaitRest() {
	clearTimeout(rest);
	rest = setTimeout(settle, REST_MS);
}

function settle() {
	if (wanted || held) return;
	refine([...tiles.values()]);
	const block = source.blocks[lastAt(source.blocks, "top", top())];
	address.remember(place, top() > 0 ? block?.month : "");
}

function draw(key, block, row) {
	const element = row ? h("div.row", row.heads.map(heading), h("div", { role: "list" }, cells(block, row))) : h("h2.month", T.month(block.month));
	element.style.top = `${block.top + (row?.top ?? 0) - base}px`;
	if (row) element.style.height = `${row.head + row.height}px`;
	shown.set(key, element);
	return element;
}

const cells = (block, row) =>
	row.cells.map(({ index, left, width: wide }) => {
		const tile = tileOf(index, block.top + row.top);
		Object.assign(tile.style, { left: `${left}px`, width: `${wide}px`, top: `${row.head}px` });
		tile.style.setProperty("--high", `${row.height}px`);
		return tile;
	});

// A day: all its photos are selected by its mark.
function heading({ day, first, shapes, left, width: wide }) {
	const items = source.slice(first, first + shapes.length - 1);
	const folder = address.parent(items[0].path);
	const onclick = () => selection.toggleAll(items);
	const name = folder === source.path || shared.isList ? "" : h("a", { href: address.folderHref(folder), title: folder }, address.nameOf(folder) || T.folders);
	const mark = writable && h("button.check", { type: "button", onclick, title: T.selectDay }, "✓");
	const element = h("div.day", mark, day && h(source.months.length ? "h3" : "h2", T.day(day)), name);
	Object.assign(element.style, { left: `${left}px`, width: `${wide}px` });
	return element;
}

// An item's element, made anew only for another image.
function tileOf(index, at) {
	const item = source.at(index);
	const key = [item.path, item.rev, item.error].join("\n");
	let tile = tiles.get(index);
	const thumb = tile?.item?.thumb;
	if (tile && (tile.key !== key || (thumb && thumb !== item.thumb))) tile = drop(tile);
	tile ??= make(index, item, key, at);
	if (tile.item !== item) fill(tile, item);
	return tile.element;
}

function drop(tile) {
	tiles.delete(tile.index);
	clearTimeout(tile.timer);
	// The browser abandons what it still loads. Chromium never forgets an image without `src` that is in no page.
	if (!tile.image.complete && tile.image.isConnected) tile.image.removeAttribute("src");
}

function make(index, item, key, at) {
	const link = h("a.photo", { tabIndex: index === current ? 0 : -1, href: address.itemHref(item) });
	const place = { role: "listitem", "aria-setsize": `${source.count}`, "aria-posinset": `${index + 1}` };
	const element = h("div.tile", place, link);
	const tile = { index, key, element, link, image: h("img", { alt: "", decoding: "async" }) };
	tiles.set(index, tile);
	put(link, tile.image);
	const check = { tabIndex: -1, role: "checkbox", "aria-label": T.select(item.name), onclick: (event) => selection.toggle(index, event.shiftKey) };
	if (writable) element.append(h("button", check, "✓"));
	const line = how().matched(item);
	if (line) element.append(caption(item, line));
	// What is on the screen comes first. A tile that is scrolled past at once asks for nothing.
	const hidden = at < lastTop || at > lastTop + view.clientHeight;
	tile.timer = setTimeout(fetchImage, hidden ? HIDDEN_MS : scrolls() ? SETTLE_MS : 0, tile, item);
	return tile;
}

async function fetchImage(tile, item) {
	const { link, image, element } = tile;
	if (!item.error && (await loaded(image, thumbUrl(item)))) {
		element.classList.add("shown");
		return awaitRest();
	}
	if (!element.isConnected) return;
	const { message, later } = item.error ? { message: item.error } : await whyNot(thumbUrl(item));
	if (!later) return put(link, h("span.reason", h("b", item.name), " ", message));
	await pause(AGAIN_MS);
	if (element.isConnected) fetchImage(tile, item);
}

function fill(tile, item) {
	const { name, warning, tags } = item;
	const starred = tags?.includes(FAVOURITE) ? T.favourite : "";
	tile.item = item;
	tile.link.title = [name, T.warnings[warning], starred].filter(Boolean).join(", ");
	tile.element.classList.toggle("starred", starred !== "");
	mark(tile);
}

// Moves the focus and the screen to an item; if none is given, to the current one, or what is on the screen.
export async function focus(index = tiles.has(current) ? current : (place?.index ?? 0)) {
	if (!source.count) return;
	current = Math.max(0, Math.min(index, source.count - 1));
	const block = source.blockOf(current);
	if (!block.items) {
		goTo(block.top);
		await source.ensure([block]);
	}
	const row = block.rows?.[lastAt(block.rows, "first", current)];
	if (!row) return;
	const [at, high] = [block.top + row.top, row.head + row.height];
	if (at < top() || at + high > top() + view.clientHeight) goTo(at - (view.clientHeight - high) / 2);
	render();
	for (const { index: each, link } of tiles.values()) link.tabIndex = each === current ? 0 : -1;
	tiles.get(current)?.link.focus({ preventScroll: true });
}

function step(index, way) {
	const { blocks } = source;
	const at = lastAt(blocks, "first", index);
	const { rows } = blocks[at];
	const number = lastAt(rows, "first", index);
	const { cells } = rows[number];
	const { left, width: wide } = cells[index - cells[0].index];
	const next = rows[number + way] ?? (way > 0 ? blocks[at + 1]?.rows?.[0] : blocks[at - 1]?.rows?.at(-1));
	if (!next) return focus(way > 0 ? (blocks[at + 1]?.first ?? index) : blocks[at].first - 1);
	return focus(next.cells[lastAt(next.cells, "left", left + wide / 2)].index);
}

const at = ({ target }) => [...tiles.values()].find(({ item, element }) => item && element.contains(target));

list.onkeydown = (event) => {
	const { key } = event;
	const { index } = at(event) ?? {};
	const command = event.ctrlKey || event.metaKey;
	const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: Infinity };
	if (index === undefined || event.altKey) return;
	if (command && key === "a" && writable) selection.everything();
	else if (command && !(key in moves)) return;
	else if (key === " " && writable) selection.toggle(index, event.shiftKey);
	else if (key in moves) focus(moves[key]);
	else if (key === "ArrowUp" || key === "ArrowDown") step(index, key === "ArrowUp" ? -1 : 1);
	else return;
	event.preventDefault();
};

// Keys that scroll, wherever the focus is.
export function scroll(key) {
	const page = 0.9 * view.clientHeight;
	const ways = { Home: -Infinity, End: Infinity, PageUp: -page, PageDown: page, " ": page };
	if (!(key in ways)) return false;
	goTo(Math.max(-upper, top() + ways[key]));
	return true;
}

on("selection", () => {
	for (const tile of tiles.values()) mark(tile);
	list.classList.toggle("selecting", selection.size() > 0);
});

function mark({ element, item }) {
	const chosen = selection.has(item?.path);
	element.classList.toggle("selected", chosen);
	element.querySelector("[role=checkbox]")?.setAttribute("aria-checked", chosen);
}

// A click opens, or selects once something is selected. A finger selects when it stays.
let press, pressed;

function longPress(index) {
	pressed = true;
	selection.toggle(index);
}

list.oncontextmenu = () => !pressed;
list.addEventListener("click", (event) => pressed && event.preventDefault(event.stopPropagation()), true);
for (const name of ["pointerup", "pointercancel", "pointermove"]) list.addEventListener(name, () => clearTimeout(press));
list.onclick = (event) => {
	const tile = at(event);
	if (!tile || !event.target.closest("a")) return;
	current = tile.index;
	const selects = writable && (event.ctrlKey || event.metaKey || event.shiftKey || selection.size());
	if (!selects) return settle();
	event.preventDefault();
	selection.toggle(current, event.shiftKey);
};
list.onpointerdown = (event) => {
	const tile = at(event);
	pressed = undefined;
	if (event.pointerType === "touch" && writable && tile) press = setTimeout(longPress, PRESS_MS, tile.index);
	if (!event.shiftKey && tile) selection.begin(tile.index);
};
