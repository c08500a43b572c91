// The viewer: one photo of the list, its neighbours, and what one can do with it.

import * as address from "./address.js";
import { fileUrl, pause, previewUrl, shared, trouble, writable } from "./api.js";
import { focus } from "./cursor.js";
import * as details from "./details.js";
import { button, download, h, icon, messages, onPhone, put, toast } from "./dom.js";
import { editOf, FAVOURITE } from "./edits.js";
import { on } from "./events.js";
import * as list from "./list.js";
import * as stage from "./stage.js";
import { share } from "./share.js";
import { T } from "./strings.js";

const [SLIDE_MS, SWIPE, SETTLE_MS, QUICK_MS] = [5000, 50, 200, 180];

// What one can do, by key: an icon, its name, a function.
export const commands = {
	Escape: ["close", T.close, leave],
	p: ["play", T.play, () => play(!timer)],
	s: ["full", T.fullScreen, () => (document.fullscreenElement ? document.exitFullscreen() : room.requestFullscreen())],
	...(writable && { f: ["star", T.favourite, toggleStar] }),
	...(shared.download && { d: ["download", T.download, () => download(fileUrl(item), item.name)] }),
	...(writable && { h: ["share", T.share, () => share()] }),
	i: ["info", T.details, () => showDetails(details.panel.hidden)],
};
const buttonOf = ([key, [name, label, act]]) => [key, button(name, `${label} (${key})`, act)];
const { Escape: closing, p: playing, s: full, ...others } = Object.fromEntries(Object.entries(commands).map(buttonOf));
const { f: star, i: info } = others;
const actions = h("div.actions", Object.values(others)); // what a thumb has to reach
const [previous, next] = [button("left", T.previous, () => step(-1)), button("right", T.next, () => step(1))];
const [title, position] = [h("b"), h("span.quiet", { role: "status" })];
const foot = h("div.foot", messages());
const frame = h("div.frame", stage.area, previous, next, foot);
const header = h("header", closing, title, position, playing, full);
const room = h("div.room", header, h("div.body", frame, details.panel));
const dialog = h("dialog.viewer", { "aria-label": T.viewer }, room);
let item; // that is shown: the viewer is open while there is one
let edit, timer, said;
let index; // of the item in the list, -1 while it is not known
let since = 0; // the last photo was shown
let beside = []; // the pictures of the neighbours, which a swipe brings in

const memory = navigator.cookieEnabled ? localStorage : {};
showDetails(memory.details === "open");
document.body.append(dialog);
onPhone((isPhone) => (isPhone ? foot : header).append(actions));

export const isOpen = () => item !== undefined;

// Shows the photo of the address, at once and, when it is known, at its place in the list.
export async function open(path) {
	const { source } = list;
	const named = { path, name: address.nameOf(path) };
	let place = source.find(path);
	show(source.at(place) ?? named, place, place >= 0);
	if (place >= 0) return;
	await source.ready;
	place = await source.locate(path);
	if (source === list.source && item?.path === path) show(source.at(place) ?? named, place);
}

// Shows what is new of the list.
export function update() {
	const { source } = list;
	const place = source.find(address.here.item);
	if (item && place >= 0) show(source.at(place), place);
}

// Shows no photo any more.
export function close() {
	if (!item) return;
	const place = list.source.find(item.path);
	play(false);
	if (document.fullscreenElement) document.exitFullscreen();
	item = edit = undefined;
	setBeside([]);
	stage.clear();
	details.clear();
	dialog.close();
	if (place >= 0) focus(place);
}

// Goes from the photo to its list.
function leave() {
	close();
	address.leave();
}

// The browser has closed it, as phones do for "back".
dialog.onclose = () => item && !dialog.open && leave();

function show(other, place, loads = true) {
	const known = !loads || (item?.path === other.path && item.rev === other.rev && item.loads);
	[item, index] = [{ ...other, loads }, place];
	if (!dialog.open) {
		dialog.showModal();
		stage.area.focus();
	}
	put(title, item.name);
	if (!known) load();
	const { count } = list.source;
	put(position, index >= 0 && T.position(index + 1, count));
	previous.disabled = index <= 0;
	next.disabled = index < 0 || index >= count - 1;
	if (known && stage.isReady()) lookAhead();
}

// Who goes through photos quickly sees them small, and only the last is asked for.
async function load() {
	const mine = item;
	const pace = performance.now() - since;
	since = performance.now();
	if (star) star.ariaPressed = false;
	said?.remove();
	stage.shift(0, 0);
	edit = undefined;
	details.clear();
	stage.preview(mine);
	if (pace < QUICK_MS) await pause(QUICK_MS);
	if (item?.path === mine.path) begin();
}

async function begin() {
	if (edit) return;
	edit = editOf(item.path);
	drawStar();
	details.show(item, edit);
	if (await stage.show(item)) lookAhead();
	else if (stage.isReady()) setBeside([]);
}

function lookAhead() {
	const { source } = list;
	const near = [source.at(index + 1), source.at(index - 1)];
	const shown = (each) => index >= 0 && each && !each.error;
	const picture = (each, way) => shown(each) && h(`img.beside.${way ? "before" : "after"}`, { alt: "", src: previewUrl(each) });
	setBeside(near.map(picture).filter(Boolean));
}

// Each stays in its place until the next photo is there, so that nothing flickers.
function setBeside(pictures) {
	for (const old of beside) old.remove();
	beside = pictures;
	frame.style.setProperty("--across", "0px");
	stage.area.after(...pictures);
}

// The photo follows a finger, and its neighbours with it.
function drag(across, down) {
	stage.shift(across, down);
	frame.style.setProperty("--across", `${across}px`);
}

// Lets the photo go to its place, or makes room for a neighbour; what is shown then stays until that is there.
async function settle(by) {
	frame.classList.add("settling");
	drag(-by * frame.clientWidth, 0);
	await pause(SETTLE_MS);
	frame.classList.remove("settling");
	if (by) step(by);
	else drag(0, 0);
}

function step(by) {
	if (!by || (by < 0 ? previous : next).disabled) return;
	const { source } = list;
	const neighbour = source.at(index + by);
	if (neighbour) return address.replace(address.itemHref(neighbour));
	const block = source.blockOf(index + by);
	const from = item;
	if (!block.loading) source.ensure([block]).then(() => item === from && source.at(index + by) && step(by));
}

function drawStar() {
	if (!star) return;
	star.disabled = edit.status === "loading";
	star.hidden = edit.status !== "loading" && !edit.writable;
	star.ariaPressed = edit.tags.includes(FAVOURITE);
}

on("edit", (changed) => changed === edit && drawStar());

async function toggleStar() {
	begin();
	const mine = edit;
	if (trouble && mine.status === "loading") return;
	await mine.ready;
	if (!mine.writable) return;
	const isOn = mine.tags.includes(FAVOURITE);
	said = toast(isOn ? T.unstarred : T.favourite);
	mine.change({ tags: isOn ? mine.tags.filter((tag) => tag !== FAVOURITE) : [...mine.tags, FAVOURITE] });
	mine.save();
}

function showDetails(shown) {
	details.panel.hidden = !shown;
	memory.details = shown ? "open" : "closed";
	info.ariaPressed = shown;
}

// While photos go by themselves, nothing stands around them; a click brings it back.
function play(shall) {
	clearInterval(timer);
	timer = shall && setInterval(slide, SLIDE_MS);
	put(playing, icon(shall ? "pause" : "play"));
	playing.ariaPressed = shall;
	room.classList.toggle("playing", shall);
}

function slide() {
	if (room.querySelector(":read-write:focus")) return;
	if (next.disabled) play(false);
	else if (stage.isReady()) step(1);
}

// Does what a key says; returns false if it says nothing here: arrows then move the part that is seen.
export function press(key) {
	const way = { ArrowLeft: -1, ArrowRight: 1 }[key];
	if (way && !stage.isZoomed()) step(way);
	else if (stage.zooms[key]) stage.zooms[key]();
	else if (commands[key]) commands[key][2]();
	else return false;
	return true;
}

let from; // where a finger was put down
stage.area.onpointerdown = (event) => {
	from = event.isPrimary && event;
	if (event.pointerType === "mouse") stage.area.setPointerCapture(event.pointerId);
};
const swipes = ({ pointerType }) => from && pointerType !== "mouse" && !stage.isZoomed();
stage.area.addEventListener("pointermove", (event) => {
	if (swipes(event)) drag(event.x - from.x, Math.max(0, event.y - from.y));
});
stage.area.onclick = () => play(false);
stage.area.onpointercancel = () => settle(0);
stage.area.onpointerup = (event) => {
	const swiped = swipes(event);
	const [across, down] = swiped ? [event.x - from.x, event.y - from.y] : [0, 0];
	from = undefined;
	const by = across < 0 ? 1 : -1;
	const goes = Math.abs(across) > SWIPE && Math.abs(across) > Math.abs(down) && !(by < 0 ? previous : next).disabled;
	if (down > 2 * SWIPE && !goes) leave();
	else if (swiped) settle(goes ? by : 0);
};
