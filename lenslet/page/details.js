// A photo's facts, tags and notes. Edits are merged with those of others, and kept if saving fails.

import { read, send } from "./api.js";
import { h, page, put, textButton, writable } from "./dom.js";
import { T } from "./strings.js";
import { tagField } from "./tags.js";

const same = (one, other) => one.join("\n") === other.join("\n");

// Merges two edits of the same tags: what either added or removed counts.
const mergeTags = (base, mine, theirs) =>
	[...new Set([...theirs, ...mine])].filter((tag) => !base.includes(tag) || (mine.includes(tag) && theirs.includes(tag)));

// The tags and notes of one photo as typed, and as they were last stored (`base`).
class Edit {
	status = "";
	theirs; // the notes of somebody else, while one must choose
	changed = () => {};
	#saving;

	constructor(path, { data, etag, allow }) {
		Object.assign(this, { path, facts: data, writable: writable && (!allow || allow.includes("PUT")) });
		this.#learn(data, etag);
		Object.assign(this, this.base);
	}

	#learn({ tags = [], notes = "", updatedAt, updatedBy }, etag) {
		Object.assign(this, { etag, base: { tags, notes }, updated: [updatedAt, updatedBy] });
	}

	get dirty() {
		return this.notes !== this.base.notes || !same(this.tags, this.base.tags);
	}

	#say(status, reason) {
		Object.assign(this, { status, reason });
		this.changed();
	}

	// Saves what has changed, one request at a time.
	save() {
		this.#saving = Promise.resolve(this.#saving).finally(() => this.#save());
	}

	async #save() {
		while (this.dirty && this.theirs === undefined) {
			const { tags, notes, base, path, etag } = this;
			const body = { tags: same(tags, base.tags) ? undefined : tags, notes: notes === base.notes ? undefined : notes };
			this.#say("saving");
			try {
				const stored = await send("PUT", "item", { path }, { body, etag });
				this.#learn(stored.data, stored.etag);
				// What was typed meanwhile stays.
				if (same(this.tags, tags)) this.tags = this.base.tags;
				if (this.notes === notes) this.notes = this.base.notes;
				this.#say("saved");
			} catch (problem) {
				if (problem.status !== 412) return this.#say("failed", problem.message);
				this.#learn(problem.body, problem.etag ?? '"0."');
				this.tags = mergeTags(base.tags, this.tags, this.base.tags);
				if (this.notes === base.notes) this.notes = this.base.notes;
				else if (![base.notes, this.notes].includes(this.base.notes)) this.theirs = this.base.notes;
				this.#say(this.theirs === undefined ? "" : "conflict");
			}
		}
	}

	choose(notes) {
		Object.assign(this, { notes, theirs: undefined });
		this.#say("");
		this.save();
	}
}

const edits = new Map(); // by path: the last one, and those that are not saved yet
export const hasUnsaved = () => [...edits.values()].some((edit) => edit.dirty);

async function editOf(path) {
	if (edits.get(path)?.dirty) return edits.get(path);
	const edit = new Edit(path, await read("item", { path, exif: "full" }));
	for (const [each, old] of edits) if (!old.dirty) edits.delete(each);
	edits.set(path, edit);
	return edit;
}

export const panel = h("aside.details", { "aria-label": T.details });
let edit; // of the photo that is shown
let shown;

// Saves what is not saved, and shows nothing.
export function clear() {
	edit?.save();
	if (edit?.status === "conflict") edit.changed();
	edit = shown = undefined;
	put(panel);
}

export async function show(item) {
	clear();
	shown = item;
	const title = h("h2", item.name);
	put(panel, title, h("p.quiet", T.loading));
	try {
		const found = await editOf(item.path);
		if (shown === item) put(panel, title, fields(item, found));
		return found;
	} catch (problem) {
		if (shown === item) put(panel, title, h("p.problem", { role: "alert" }, problem.message));
	}
}

function fields(item, found) {
	const save = () => found.save();
	const setTags = (tags) => save(found.changed(Object.assign(found, { tags })));
	const tags = tagField(T.addTag, setTags, false, found.writable);
	const oninput = () => (found.notes = notes.value);
	const notes = h("textarea", { rows: 5, maxLength: 65536, oninput, onblur: save });
	const status = h("div", { role: "status" });
	found.changed = () => {
		tags.show(found.tags);
		if (notes.value !== found.notes) notes.value = found.notes;
		notes.readOnly = !found.writable || found.theirs !== undefined;
		put(status, says(found));
		page.edited(found);
	};
	edit = found;
	edit.changed();
	const readonly = edit.writable ? "" : h("p.quiet", T.readonly);
	return [h("h3", T.tags), tags.element, h("label", h("h3", T.notes), notes), status, readonly, h("dl", facts(item, edit))];
}

function says(edit) {
	const { status, notes, theirs } = edit;
	if (status === "failed") return h("p.problem", { role: "alert" }, T.notSaved(edit.reason), " ", textButton(T.retry, () => edit.save()));
	if (status !== "conflict") return T.statuses[status];
	return h(
		"div.conflict",
		{ role: "alert" },
		h("b", T.conflict),
		[notes, theirs, `${theirs}\n\n${notes}`].map((text, each) => [h("pre", text), textButton(T.keep[each], () => edit.choose(text))]),
	);
}

// The rows of a list: what is known of the file and from EXIF.
function facts({ size, warning }, { facts: { exif, hash }, updated: [date, user], path }) {
	const rows = {
		file: [path],
		size: [exif.width ? `${exif.width} × ${exif.height}` : "", size && T.bytes(size)],
		taken: [T.moment(exif.takenAt ?? exif.createdAt)],
		camera: [exif.Make, exif.Model],
		place: [exif.GPSLatitude, exif.GPSLongitude],
		warning: [T.warnings[warning]],
		edited: [user !== "" && T.by(T.moment(date), user)],
		hash: [hash],
	};
	const known = Object.entries(rows).map(([name, values]) => [T.facts[name], values.filter((each) => each || each === 0).join(", ")]);
	return known.map(([name, text]) => text && [h("dt", name), h("dd", text)]);
}
