// The photos in the page: an element for each (a tile), its image, its marks, and to which one Tab leads.

import { itemHref } from "./address.js";
import { fetchImage, previewUrl, thumbUrl, tileUrl, writable } from "./api.js";
import { h, put } from "./dom.js";
import { FAVOURITE } from "./edits.js";
import { on } from "./events.js";
import { source } from "./list.js";
import * as scroller from "./scroller.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";

const HIDDEN_MS = 150;
const [STRETCH, AT_ONCE] = [1.3, 4]; // more screen pixels than the thumbnail has

const tiles = new Map(); // by the index of their item
let current = 0; // the index of the one that Tab leads to

export const has = (index) => tiles.has(index);
export const currentIndex = () => current;
export const tileAt = (element) => [...tiles.values()].find(({ element: tile }) => tile.contains(element));

// Returns the element of a photo, made anew only for another image; `position`: that of its row.
export function tileOf(index, position) {
	const item = source.at(index);
	const key = [item.path, item.rev, item.error].join("\n");
	let tile = tiles.get(index);
	const thumb = tile?.item.thumb;
	if (tile && (tile.key !== key || (thumb && thumb !== item.thumb))) {
		drop(tile);
		tile = undefined;
	}
	tile ??= make(index, item, key, position);
	if (tile.item !== item) fill(tile, item);
	return tile.element;
}

export function keepOnly(indexes) {
	for (const [index, tile] of tiles) if (!indexes.has(index)) drop(tile);
}

function drop(tile) {
	tiles.delete(tile.index);
	clearTimeout(tile.timer);
	// The browser abandons what it still loads. Chromium never forgets an image without `src` that is in no page.
	if (!tile.image.complete && tile.image.isConnected) tile.image.removeAttribute("src");
}

function make(index, item, key, position) {
	const image = h("img", { alt: "", decoding: "async" });
	const link = h("a.photo", { tabIndex: index === current ? 0 : -1, href: itemHref(item) }, image);
	const place = { role: "listitem", "aria-setsize": `${source.count}`, "aria-posinset": `${index + 1}` };
	const onclick = (event) => selection.toggle(index, event.shiftKey);
	const check = { tabIndex: -1, role: "checkbox", "aria-label": T.select(item.name), onclick };
	const { match } = item;
	const caption = match && h("p.caption", { title: match }, h("span", item.name), h("small", match));
	const element = h("div.tile", place, link, writable && h("button", check, "✓"), caption);
	const tile = { index, key, element, link, image };
	tile.timer = setTimeout(show, delay(position), tile, item);
	tiles.set(index, tile);
	return tile;
}

// What is on the screen comes first. A tile that is scrolled past at once asks for nothing.
function delay(position) {
	if (!scroller.isOnScreen(position)) return HIDDEN_MS;
	return scroller.isMoving() ? scroller.MOVING_MS : 0;
}

async function show({ link, image, element }, item) {
	const reason = item.error || (await fetchImage(image, () => element.isConnected, thumbUrl(item)));
	if (reason === "") {
		element.classList.add("shown");
		if (item.w > image.naturalWidth) image.finer = [tileUrl(item), previewUrl(item)];
		scroller.restSoon();
	} else if (reason) put(link, h("span.reason", h("b", item.name), " ", reason));
}

// Once the list rests, pictures that are stretched get finer ones: a few at a time, and none with Save-Data.
let stretched; // of the last rest; `finer` are the addresses that an image has yet to show
on("scrolled", () => (stretched = undefined));
on("rests", () => {
	if (navigator.connection?.saveData) return;
	const mine = [...scroller.view.querySelectorAll("img")].filter(isStretched);
	stretched = mine;
	const refine = async () => {
		while (stretched === mine && mine.length) await replace(mine.shift());
	};
	for (let count = 0; count < AT_ONCE; count++) refine();
});

function isStretched(image) {
	const { top, bottom, width, height } = image.getBoundingClientRect();
	const stretch = Math.max(width / image.naturalWidth, height / image.naturalHeight) * devicePixelRatio;
	return image.finer?.length && image.complete && bottom > 0 && top < innerHeight && stretch > STRETCH;
}

// The picture stays where there is no finer one.
async function replace(image) {
	const finer = h("img", { fetchPriority: "low", src: image.finer[0] });
	try {
		await finer.decode();
		image.src = finer.src;
		image.finer.shift();
	} catch {} // it may come with the next rest
}

function fill(tile, item) {
	const { name, warning, tags } = item;
	const starred = tags?.includes(FAVOURITE) ? T.favourite : "";
	tile.item = item;
	tile.link.title = [name, T.warnings[warning], starred].filter(Boolean).join(", ");
	tile.element.classList.toggle("starred", starred !== "");
	mark(tile);
}

function mark({ element, item }) {
	const isSelected = selection.has(item.path);
	element.classList.toggle("selected", isSelected);
	element.querySelector("[role=checkbox]")?.setAttribute("aria-checked", isSelected);
}
on("selection", () => {
	for (const tile of tiles.values()) mark(tile);
	scroller.list.classList.toggle("selecting", selection.size() > 0);
});

// Tab leads to this photo from now on.
export function setCurrent(index) {
	current = index;
	for (const { index: each, link } of tiles.values()) link.tabIndex = each === current ? 0 : -1;
}

export const focusCurrent = () => tiles.get(current)?.link.focus({ preventScroll: true });
