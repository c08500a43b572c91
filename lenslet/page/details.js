// Facts of a photo, its tags and notes. What is typed is saved when the field is left, kept when
// saving fails, and merged when somebody else was faster.

import { read, write } from "./api.js";
import { h, put, textButton } from "./dom.js";
import { T } from "./strings.js";
import { tagField } from "./tags.js";

const TRIES = 5;
const same = (one, other) => one.join("\n") === other.join("\n");

// Merges two edits of the same tags: what either added or removed counts.
const mergeTags = (base, mine, theirs) => [
	...theirs.filter((tag) => mine.includes(tag) || !base.includes(tag)),
	...mine.filter((tag) => !base.includes(tag) && !theirs.includes(tag)),
];

// The tags and notes of one photo as typed, and as they were last stored (`base`).
class Edit {
	status = "";
	theirs; // the notes of somebody else, while one must choose
	changed = () => {};
	#saving;

	constructor(path, { data, etag, allow }, writable) {
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
		this.#saving = Promise.resolve(this.#saving).then(() => this.#save());
	}

	async #save(tries = TRIES) {
		if (!this.dirty || this.theirs !== undefined) return;
		const { tags, notes, base, path, etag } = this;
		const body = { tags: same(tags, base.tags) ? undefined : tags, notes: notes === base.notes ? undefined : notes };
		this.#say("saving");
		try {
			const stored = await write("PUT", "item", { path }, { body, etag });
			this.#learn(stored.data, stored.etag);
			// What was typed meanwhile stays.
			if (same(this.tags, tags)) this.tags = this.base.tags;
			if (this.notes === notes) this.notes = this.base.notes;
			this.#say("saved");
		} catch (problem) {
			if (problem.status !== 412 || !tries) return this.#say("failed", problem.message);
			this.#learn(problem.body, problem.etag ?? '"0."');
			this.tags = mergeTags(base.tags, this.tags, this.base.tags);
			if (this.notes === base.notes) this.notes = this.base.notes;
			else if (![base.notes, this.notes].includes(this.base.notes)) this.theirs = this.base.notes;
			if (this.theirs === undefined) return this.#save(tries - 1);
			this.#say("conflict");
		}
	}

	// Ends a conflict with the notes that were chosen.
	choose(notes) {
		Object.assign(this, { notes, theirs: undefined });
		this.#say("");
		this.save();
	}
}

const edits = new Map(); // by path: the last one, and those that are not saved yet
export const hasUnsaved = () => [...edits.values()].some((edit) => edit.dirty);

async function editOf(path, writable, signal) {
	if (edits.get(path)?.dirty) return edits.get(path);
	const edit = new Edit(path, await read("item", { path, exif: "full" }, { signal }), writable);
	for (const [each, old] of edits) if (!old.dirty) edits.delete(each);
	edits.set(path, edit);
	return edit;
}

export const panel = h("aside.details", { "aria-label": T.details });
export let edit; // of the photo that is shown, once it is loaded
let writable, saved, stop;

// Begins. `told(edit)` is called whenever something is known or stored.
export function begin(mayWrite, told) {
	[writable, saved] = [mayWrite, told];
}

// Saves what is not saved yet, and shows nothing.
export function clear() {
	stop?.abort();
	edit?.save();
	edit = undefined;
	put(panel);
}

export async function show(item) {
	clear();
	const { signal } = (stop = new AbortController());
	const title = h("h2", item.name);
	put(panel, title, h("p.quiet", T.loading));
	try {
		const found = await editOf(item.path, writable, signal);
		if (!signal.aborted) put(panel, title, fields(item, found));
	} catch (problem) {
		if (!signal.aborted) put(panel, title, h("p.problem", { role: "alert" }, problem.message));
	}
}

function fields(item, found) {
	const save = () => found.save();
	const tags = tagField(T.addTag, (tags) => save(Object.assign(found, { tags })), found.writable);
	const oninput = () => (found.notes = notes.value);
	const notes = h("textarea", { rows: 5, maxLength: 65536, readOnly: !found.writable, oninput, onblur: save });
	const status = h("div", { role: "status" });
	found.changed = () => {
		tags.show(found.tags);
		if (notes.value !== found.notes) notes.value = found.notes;
		put(status, says(found));
		saved(found);
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
		[h("h4", T.mine), h("pre", notes), h("h4", T.theirs), h("pre", theirs)],
		[notes, theirs, `${theirs}\n\n${notes}`].map((text, index) => textButton(T.keep[index], () => edit.choose(text))),
	);
}

// The rows of a list: what is known of the file and from EXIF.
function facts({ size, warning }, { facts: { exif, hash }, updated: [date, user], path }) {
	const rows = {
		file: [path],
		size: [exif.width && `${exif.width} × ${exif.height}`, size && T.bytes(size)],
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
