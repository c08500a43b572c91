// The panel of a photo: what is known of it, and its tags and notes as one edits them.

import { parent, searchHref } from "./address.js";
import { isGuest, send, trouble } from "./api.js";
import { h, put, textButton, toast } from "./dom.js";
import { on } from "./events.js";
import { T } from "./strings.js";
import { tagField, termOf } from "./tags.js";

export const panel = h("aside.details", { "aria-label": T.details });
const LEFT = ["failed", "conflict"]; // what is said of a photo that one has left
let edit; // of the photo that is shown
let draw; // shows it as it is now, once it is loaded

// Saves what is not saved, and shows nothing.
export function clear() {
	const left = edit;
	edit = draw = undefined;
	put(panel);
	left?.save();
	if (LEFT.includes(left?.status)) warn(left);
}

// A phone may end a page that is not seen.
document.addEventListener("visibilitychange", () => document.hidden && edit?.save());

export async function show(item, shown) {
	clear();
	edit = shown;
	const title = h("h2", item.name);
	put(panel, title, h("p.quiet", T.loading));
	await shown.ready;
	if (edit === shown) put(panel, title, shown.status === "unreadable" ? alarm(shown.reason) : fields(item));
}

on("edit", (changed) => {
	if (changed === edit) draw?.();
	else if (LEFT.includes(changed.status)) warn(changed);
});

on("trouble", () => draw?.());

const warn = ({ path, reason = T.conflict }) => toast(T.notSaved(`${path}: ${reason}`));
const alarm = (...text) => h("p.problem", { role: "alert" }, text);

function fields(item) {
	const mine = edit;
	const makeCover = async () => {
		await send("PUT", "folders", { path: parent(item.path) }, { body: { cover: item.name } });
		toast(T.saved);
	};
	const cover = mine.writable && textButton(T.asCover, makeCover);
	return [written(item), mine.writable ? editor(mine) : words(mine), facts(item, mine), cover];
}

// Tags and notes, for who cannot change them.
function words({ tags, notes }) {
	return [chips(T.tags, tags), notes && [h("h3", T.notes), h("p.about", notes)], !isGuest && h("p.quiet", T.readonly)];
}

function editor(mine) {
	const save = () => mine.save();
	const setTags = (changed) => {
		mine.change({ tags: changed });
		draw?.();
		save();
	};
	const tags = tagField(T.addTag, setTags);
	const oninput = () => mine.change({ notes: notes.value });
	const notes = h("textarea", { rows: 2, maxLength: 65536, oninput, onblur: save });
	const status = h("div", { role: "status" });
	draw = () => {
		tags.show(mine.tags);
		if (notes.value !== mine.notes) notes.value = mine.notes;
		notes.readOnly = mine.theirs !== undefined;
		put(status, says(mine));
	};
	draw();
	return [h("h3", T.tags), tags.element, h("label", h("h3", T.notes), notes), status];
}

function says(edit) {
	const { status, notes, theirs } = edit;
	if (status === "saving" && trouble) return alarm(T.unsaved);
	if (status === "failed") return alarm(T.notSaved(edit.reason), " ", textButton(T.retry, () => edit.save()));
	if (status !== "conflict") return T.statuses[status];
	return h(
		"div.conflict",
		{ role: "alert" },
		h("b", T.conflict),
		[notes, theirs, `${theirs}\n\n${notes}`].map((text, each) => [h("p.about", text), textButton(T.keep[each], () => edit.choose(text))]),
	);
}

// What people wrote into the file.
function written({ title, caption, keywords = [] }) {
	return [title && h("b", title), caption && h("p.about", caption), chips(T.fromFile, keywords)];
}

function chips(title, tags) {
	const links = tags.map((each) => h("a", { href: searchHref(termOf("tag", each)) }, each));
	return links.length > 0 && [h("h3", title), h("div.chips", links)];
}

// What is known of the photo from EXIF and, when one asks for more, of its file.
function facts({ size, warning, taken, camera, lens }, { facts: { exif }, stored, path }) {
	const photo = {
		taken: [T.taken(exif.takenAt ?? exif.createdAt ?? taken)],
		place: [exif.GPSLatitude, exif.GPSLongitude],
		camera: [camera ?? [exif.Make, exif.Model].filter(Boolean).join(" ")],
		lens: [lens],
		exposure: T.exposure(exif),
		size: [exif.width ? `${exif.width} × ${exif.height}` : "", size && T.bytes(size)],
		warning: [T.warnings[warning]],
	};
	const file = { file: [path], edited: [stored.updatedBy && T.by(T.moment(stored.updatedAt), stored.updatedBy)] };
	return [rows(photo), h("details", h("summary", T.moreFacts), rows(file))];
}

function rows(facts) {
	const known = Object.entries(facts).map(([name, values]) => [T.facts[name], values.filter((each) => each || each === 0).join(", ")]);
	return h("dl", known.map(([name, text]) => text && [h("dt", name), h("dd", text)]));
}
