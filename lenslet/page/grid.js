// The grid: justified rows, of which only those near the screen are in the page.

import { above } from "./above.js";
import { itemHref } from "./address.js";
import { pause, thumbUrl, whyNot, writable } from "./api.js";
import { caption } from "./caption.js";
import { h, loaded, put } from "./dom.js";
import { FAVOURITE } from "./edits.js";
import { on } from "./events.js";
import { layOut, rowAt } from "./layout.js";
import { source } from "./list.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";

const [SETTLE_MS, HIDDEN_MS, AGAIN_MS] = [60, 150, 2000];
const DRAG = 8; // pixels

const list = h("div.tiles", { role: "list" });
export const view = h("main", { tabIndex: -1 }, above, list);
let frame, lastTop, moved;
let rows = []; // as `layOut` returns them
const shown = new Map(); // elements of rows by number
const tiles = new Map(); // by the index of their item
let current = 0; // the item that has the focus, or would

view.onscroll = () => (frame ??= requestAnimationFrame(render));
const resized = new ResizeObserver(update);
resized.observe(view);
resized.observe(above);

// Begins at the top of another list.
export function reset() {
	rows = [];
	current = view.scrollTop = 0;
	selection.begin(0);
	selection.clear();
	update();
}

// Computes all positions anew. What is at the top of the screen stays there.
export function update() {
	if (!source || !list.clientWidth) return;
	const focused = list.contains(document.activeElement);
	const top = view.scrollTop - list.offsetTop;
	const row = top > 0 && rows[rowAt(rows, "top", top)];
	const laid = layOut(source, list.clientWidth);
	rows = laid.rows;
	list.style.height = `${laid.height}px`;
	if (row && rows.length) view.scrollTop += rows[rowAt(rows, "first", row.first)].top - row.top;
	put(list);
	shown.clear();
	render();
	if (focused) tiles.get(current)?.link.focus({ preventScroll: true });
}

// Puts into the page the rows near the screen, and takes out the others.
function render() {
	frame = undefined;
	const [top, height] = [view.scrollTop - list.offsetTop, view.clientHeight];
	if (top !== lastTop) [lastTop, moved] = [top, performance.now()];
	const from = rowAt(rows, "top", top - height / 2);
	let until = from;
	while (rows[until]?.top < top + 1.5 * height) until++;
	for (const [number, element] of shown) {
		if (number >= from && number < until) continue;
		element.remove();
		shown.delete(number);
	}
	for (let number = from; number < until; number++) if (!shown.has(number)) draw(number);
	const [first, last] = until ? [rows[from].first, rows[until - 1].first + rows[until - 1].shapes.length - 1] : [0, -1];
	for (const [index, tile] of tiles) if (index < first || index > last) drop(tile);
	if (until) source.ensure(first, last);
}

const grow = (element, part) => {
	element.style.flex = `${part} 0 0`;
	return element;
};

function draw(number) {
	const { top, height, first, shapes, rest, day } = rows[number];
	const content = shapes.map((shape, each) => grow(tileOf(first + each, top), shape));
	if (day !== undefined) content.push(h("h2", day ? T.day(day) : T.undated));
	if (rest) content.push(grow(h("div"), rest));
	const element = h("div.row", { role: "presentation" }, content);
	element.style = `height: ${height}px; top: ${top}px`;
	shown.set(number, element);
	list.append(element);
}

// An item's element, made anew only for another image.
function tileOf(index, top) {
	const item = source.items[index];
	const key = item && [item.path, item.rev, item.error].join("\n");
	let tile = tiles.get(index);
	const thumb = tile?.item?.thumb;
	if (tile && (tile.key !== key || (thumb && thumb !== item.thumb))) tile = drop(tile);
	tile ??= make(index, item, key, top);
	if (tile.item !== item) fill(tile, item);
	return tile.element;
}

function drop(tile) {
	tiles.delete(tile.index);
	clearTimeout(tile.timer);
	tile.image?.removeAttribute("src"); // the browser abandons it
}

function make(index, item, key, top) {
	const link = h("a.photo", { tabIndex: index === current ? 0 : -1 });
	const place = { role: "listitem", "aria-setsize": `${source.items.length}`, "aria-posinset": `${index + 1}` };
	const element = h("div.tile", place, link);
	const tile = { index, key, element, link };
	tiles.set(index, tile);
	if (!item) return tile;
	link.href = itemHref(item);
	tile.image = h("img", { alt: "", decoding: "async" });
	put(link, tile.image);
	const check = { tabIndex: -1, role: "checkbox", "aria-label": T.select(item.name), onclick: (event) => selection.toggle(index, event.shiftKey) };
	if (writable) element.append(h("button", check, "✓"));
	if (source.query) element.append(caption(item, source.query));
	// What is on the screen comes first. A tile that is scrolled past at once asks for nothing.
	const scrolls = lastTop > 0 && performance.now() - moved < SETTLE_MS;
	const hidden = top < lastTop || top > lastTop + view.clientHeight;
	tile.timer = setTimeout(load, hidden ? HIDDEN_MS : scrolls ? SETTLE_MS : 0, tile, item);
	return tile;
}

async function load(tile, item) {
	const { link, image, element } = tile;
	if (!item.error && (await loaded(image, thumbUrl(item)))) return element.classList.add("shown");
	const { message, later } = item.error ? { message: item.error } : await whyNot(thumbUrl(item));
	if (!later) return put(link, h("span.reason", h("b", item.name), " ", message));
	await pause(AGAIN_MS);
	if (element.isConnected) load(tile, item);
}

function fill(tile, item) {
	const { name, warning, tags } = item;
	const starred = tags?.includes(FAVOURITE) ? T.favourite : "";
	tile.item = item;
	tile.link.title = [name, T.warnings[warning], starred].filter(Boolean).join(", ");
	tile.element.classList.toggle("starred", starred !== "");
	mark(tile);
}

// Moves the focus and the screen to an item, if none is given to the current one.
export function focus(index = current) {
	if (!rows.length) return;
	current = Math.max(0, Math.min(index, source.items.length - 1));
	const row = rows[rowAt(rows, "first", current)];
	const top = row.top + list.offsetTop - view.scrollTop;
	if (top < 0 || top + row.height > view.clientHeight) view.scrollTop += top - (view.clientHeight - row.height) / 2;
	render();
	for (const { index, link } of tiles.values()) link.tabIndex = index === current ? 0 : -1;
	tiles.get(current)?.link.focus({ preventScroll: true });
}

function step(index, way) {
	const here = rowAt(rows, "first", index);
	let next = here + way;
	while (rows[next]?.shapes.length === 0) next += way;
	const share = (index - rows[here].first) / rows[here].shapes.length;
	if (rows[next]) focus(rows[next].first + Math.floor(share * rows[next].shapes.length));
}

const at = ({ target }) => [...tiles.values()].find(({ item, element }) => item && element.contains(target));

list.onkeydown = (event) => {
	const { key } = event;
	const { index } = at(event) ?? {};
	const command = event.ctrlKey || event.metaKey;
	const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: Infinity };
	if (index === undefined || event.altKey) return;
	if (command && key === "a" && writable) selection.add(source.items);
	else if (command) return;
	else if (key === " " && writable) selection.toggle(index, event.shiftKey);
	else if (key in moves) focus(moves[key]);
	else if (key === "ArrowUp" || key === "ArrowDown") step(index, key === "ArrowUp" ? -1 : 1);
	else return;
	event.preventDefault();
};

on("selection", () => {
	for (const tile of tiles.values()) mark(tile);
	list.classList.toggle("selecting", selection.size() > 0);
});

function mark({ element, item }) {
	const chosen = selection.has(item?.path);
	element.classList.toggle("selected", chosen);
	element.querySelector("[role=checkbox]")?.setAttribute("aria-checked", chosen);
}

// A click opens, or selects once something is selected. Dragging selects what a box touches.
let start, box;
list.ondragstart = () => false;
list.onclick = (event) => {
	const [tile, boxed] = [at(event), box];
	box = undefined;
	if (!tile || !event.target.closest("a")) return;
	current = tile.index;
	const selects = writable && (event.ctrlKey || event.metaKey || event.shiftKey || selection.size());
	if (selects || boxed) event.preventDefault();
	if (selects && !boxed) selection.toggle(current, event.shiftKey);
};
list.onpointerdown = (event) => {
	const { pointerType, button, x, y, ctrlKey, shiftKey } = event;
	box = undefined;
	if (!shiftKey && at(event)) selection.begin(at(event).index);
	if (pointerType === "mouse" && !button && writable) start = { x, y, chosen: ctrlKey ? selection.all() : [] };
};
addEventListener("pointermove", ({ x, y }) => {
	if (!start || (!box && Math.hypot(x - start.x, y - start.y) < DRAG)) return;
	box ??= view.appendChild(h("div.box"));
	const { left, top, right, bottom } = new DOMRect(start.x, start.y, x - start.x, y - start.y);
	box.style.inset = `${top}px ${innerWidth - right}px ${innerHeight - bottom}px ${left}px`;
	const touched = [...tiles.values()].filter(({ element }) => {
		const place = element.getBoundingClientRect();
		return place.left < right && place.right > left && place.top < bottom && place.bottom > top;
	});
	selection.set([...start.chosen, ...touched.map(({ item }) => item?.path)]);
});
addEventListener("pointerup", () => {
	box?.remove();
	start = undefined;
});
