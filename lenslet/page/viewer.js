// One photo, large: its thumbnail at once, then the preview, and the file itself when zoomed in.

import { fileUrl, pause, previewUrl, thumbUrl, whyNot } from "./api.js";
import * as details from "./details.js";
import { button, h, icon, isTyping, loaded, page, put, toast } from "./dom.js";
import { FAVOURITE } from "./grid.js";
import { T } from "./strings.js";

const PREVIEW_EDGE = 1600;
const [SLIDE_MS, AGAIN_MS] = [5000, 1000];
const [ZOOM, MOST_ZOOM, SCROLL, SWIPE] = [1.6, 8, 80, 50];

// What one can do, by key: an icon, its name, a function.
export const commands = {
	Escape: ["close", T.close, () => dialog.close()],
	f: ["star", T.favourite, toggleStar],
	"-": ["minus", T.zoomOut, () => zoomTo(zoom / ZOOM)],
	"+": ["plus", T.zoomIn, () => zoomTo(zoom * ZOOM)],
	p: ["play", T.play, () => play(!timer)],
	s: ["full", T.fullScreen, () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen())],
	d: ["download", T.download, () => h("a", { href: fileUrl(item), download: item.name, target: "_blank" }).click()],
	c: ["link", T.copyLink, copyLink],
	i: ["info", T.details, () => showDetails(details.panel.hidden)],
};
const buttons = Object.entries(commands).map(([key, [name, label, act]]) => button(name, `${label} (${key})`, act));
const [close, star, , , playing, , , , info] = buttons;
const [previous, next] = [button("left", T.previous, () => step(-1)), button("right", T.next, () => step(1))];
const [title, position, stage] = [h("b"), h("span.quiet"), h("div.stage")];
const area = h("div.area", { tabIndex: -1 }, stage);
const frame = h("div.frame", area, previous, next);
export const dialog = h(
	"dialog.viewer",
	{ "aria-label": T.viewer },
	h("header", close, title, position, buttons.slice(1)),
	h("div.body", frame, details.panel),
);
let item, index, source, photo, sharp, timer, facts;
let zoom = 1;
let ahead; // the neighbours, kept so that they are loaded

showDetails(matchMedia("(min-width: 60rem)").matches);
document.body.append(dialog);

// Shows an item; its `place` is -1 while it is not known.
export function show(other, place, from) {
	const known = item?.path === other.path && item.rev === other.rev;
	[item, index, source] = [other, place, from];
	if (!dialog.open) {
		dialog.showModal();
		area.focus();
	}
	if (!known) {
		star.hidden = true;
		put(title, item.name);
		facts = details.show(item);
		load();
	}
	const count = source.total ?? source.items.length;
	put(position, index >= 0 ? T.position(index + 1, count) : "");
	previous.disabled = index <= 0;
	next.disabled = index < 0 || index >= count - 1;
	if (photo?.complete) lookAhead();
}

function lookAhead() {
	const near = [source.items[index + 1], source.items[index - 1]].filter((each) => index >= 0 && each && !each.error);
	ahead = near.map((each) => h("img", { src: previewUrl(each) }));
}

async function load() {
	const mine = h("img.large", { alt: item.name, draggable: false });
	const [preview, file] = [previewUrl(item), fileUrl(item)];
	photo = mine;
	put(stage, item.error ? "" : h("img", { alt: "", src: thumbUrl(item) }), mine);
	fit();
	zoomTo(1);
	for (let tries = 0; ; tries++) {
		const address = tries % 2 ? file : preview; // where no previews can be made, the file will do
		if (await loaded(mine, address)) break;
		const { message, later } = await whyNot(address);
		if (photo !== mine) return;
		if (!later) return put(stage, h("p.reason", h("b", T.notShown), " ", message));
		await pause(AGAIN_MS);
	}
	if (photo !== mine) return;
	fit();
	put(stage, mine);
	sharpen();
	lookAhead();
}

function fit() {
	const [width, height] = item.w ? [item.w, item.h] : [photo.naturalWidth || 1, photo.naturalHeight || 1];
	stage.style.setProperty("--shape", width / height);
	stage.style.setProperty("--most", `${Math.max(width, 256)}px`);
}

function step(by) {
	if (!by || (by < 0 ? previous : next).disabled) return;
	source.ensure(index + by, index + by);
	if (source.items[index + by]) page.go(source.items[index + by]);
}

page.edited = (edit) => {
	if (edit.path === item?.path) {
		star.hidden = !edit.writable;
		star.setAttribute("aria-pressed", edit.tags.includes(FAVOURITE));
	}
	if (edit.status === "saved") page.saved(edit);
	const lost = ["failed", "conflict"].includes(edit.status) && edit.path !== item?.path;
	if (lost) toast(T.notSaved(`${edit.path}: ${edit.reason ?? T.conflict}`));
};

async function toggleStar() {
	const edit = await facts;
	if (!edit?.writable) return;
	const others = edit.tags.filter((tag) => tag !== FAVOURITE);
	edit.tags = others.length < edit.tags.length ? others : [...others, FAVOURITE];
	edit.save();
}

function showDetails(shown) {
	details.panel.hidden = !shown;
	info.setAttribute("aria-pressed", shown);
}

function play(on) {
	clearInterval(timer);
	timer = on && setInterval(slide, SLIDE_MS);
	put(playing, icon(on ? "pause" : "play"));
	playing.setAttribute("aria-pressed", on);
}

function slide() {
	if (next.disabled) play(false);
	else if (photo.complete || item.error) step(1);
}

async function copyLink() {
	try {
		await navigator.clipboard.writeText(location.href);
		toast(T.copied);
	} catch {
		toast(T.notCopied);
	}
}

dialog.onclose = () => {
	const { path } = item;
	play(false);
	if (document.fullscreenElement) document.exitFullscreen();
	item = photo = ahead = undefined;
	put(stage);
	details.clear();
	page.closed(path);
};

// Of the window: what had the focus may be gone.
addEventListener("keydown", (event) => {
	const { key, target } = event;
	if (!dialog.open || document.querySelector(".sheet")) return;
	if (isTyping(event)) {
		if (key === "Escape") event.preventDefault(target.blur());
		return;
	}
	const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
	if (event.ctrlKey || event.metaKey || event.altKey) return;
	if (way && zoom > 1) area.scrollBy(way[0] * SCROLL, way[1] * SCROLL);
	else if (way) step(way[0]);
	else if (key === "0") zoomTo(1);
	else if (commands[key]) commands[key][2]();
	else return;
	event.preventDefault();
});

// Zooms so that a point of the screen stays where it is, the middle unless one is given.
function zoomTo(wanted, { x, y } = {}) {
	const { left, top, width, height } = area.getBoundingClientRect();
	const before = stage.getBoundingClientRect();
	x ??= left + width / 2;
	y ??= top + height / 2;
	zoom = Math.min(Math.max(wanted, 1), MOST_ZOOM);
	stage.style.setProperty("--zoom", zoom);
	area.classList.toggle("zoomed", zoom > 1);
	const after = stage.getBoundingClientRect();
	const grown = after.width / before.width;
	area.scrollBy(after.left + (x - before.left) * grown - x, after.top + (y - before.top) * grown - y);
	sharpen();
}

// Shows the file itself once the preview is not enough. On a phone the browser zooms.
function sharpen() {
	const zoomed = zoom > 1 || visualViewport.scale > 1.2;
	if (!zoomed || !photo?.complete || sharp === photo || Math.max(item.w, item.h) <= PREVIEW_EDGE) return;
	const mine = (sharp = photo);
	const file = h("img", { src: fileUrl(item), onload: () => (mine.src = file.src) });
}

let from;
visualViewport.onresize = sharpen;
area.addEventListener("wheel", (event) => event.preventDefault(zoomTo(zoom * 1.0015 ** -event.deltaY, event)), { passive: false });
area.ondblclick = (event) => zoomTo(zoom > 1 ? 1 : ZOOM ** 2, event);
area.onpointerdown = (event) => {
	from = event.isPrimary && event;
	if (event.pointerType === "mouse") area.setPointerCapture(event.pointerId);
};
area.onpointermove = ({ pointerType, buttons, movementX, movementY }) => {
	if (pointerType === "mouse" && buttons) area.scrollBy(-movementX, -movementY);
};
area.onpointerup = ({ pointerType, x, y }) => {
	if (!from || pointerType === "mouse" || zoom > 1 || visualViewport.scale > 1) return;
	const [across, down] = [x - from.x, y - from.y];
	if (Math.abs(across) > SWIPE && Math.abs(across) > Math.abs(down)) step(across < 0 ? 1 : -1);
};
