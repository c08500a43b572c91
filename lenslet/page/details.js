// Facts of a photo, its tags and notes. What is typed is saved when the field is left, kept when
// saving fails, and merged when somebody else was faster.

import { Problem, read, write } from "./api.js";
import { h, put, textButton } from "./dom.js";
import { T } from "./strings.js";
import { TagField } from "./tags.js";
import { hrefOf } from "./tree.js";

const TRIES = 5;
const same = (one, other) => one.join("\n") === other.join("\n");

/** Merges two edits of the same tags: what either added or removed counts. */
export const mergeTags = (base, mine, theirs) => [
	...theirs.filter((tag) => mine.includes(tag) || !base.includes(tag)),
	...mine.filter((tag) => !base.includes(tag) && !theirs.includes(tag)),
];

/** The tags and notes of one photo as typed, and as they were last stored (`base`). */
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

	/** Saves what has changed, one request at a time. */
	async save() {
		await this.#saving;
		this.#saving = this.#save();
		await this.#saving;
	}

	async #save(tries = TRIES) {
		if (!this.dirty || this.theirs !== undefined) return;
		const { tags, notes } = this;
		const body = { ...(same(tags, this.base.tags) ? {} : { tags }), ...(notes === this.base.notes ? {} : { notes }) };
		this.#say("saving");
		try {
			const { data, etag } = await write("PUT", "item", { path: this.path }, { body, etag: this.etag });
			this.#learn(data, etag);
			if (same(this.tags, tags)) this.tags = this.base.tags;
			if (this.notes === notes) this.notes = this.base.notes;
			this.#say("saved");
		} catch (problem) {
			if (!(problem instanceof Problem)) throw problem;
			if (problem.status !== 412 || !tries) return this.#say("failed", problem.message);
			this.#merge(problem);
			if (this.theirs === undefined) return this.#save(tries - 1);
			this.#say("conflict");
		}
	}

	#merge({ body, etag }) {
		const before = this.base;
		this.#learn(body, etag ?? '"0."');
		this.tags = mergeTags(before.tags, this.tags, this.base.tags);
		if (this.notes === before.notes) this.notes = this.base.notes;
		else if (![before.notes, this.notes].includes(this.base.notes)) this.theirs = this.base.notes;
	}

	/** Ends a conflict with the notes that were chosen. */
	choose(notes) {
		Object.assign(this, { notes, theirs: undefined });
		this.#say("");
		return this.save();
	}
}

const edits = new Map(); // by path: the last one, and those that are not saved yet
export const hasUnsaved = () => [...edits.values()].some((edit) => edit.dirty);

async function editOf(path, writable, signal) {
	if (edits.get(path)?.dirty) return edits.get(path);
	const edit = new Edit(path, await read("item", { path, exif: "full" }, signal), writable);
	for (const [each, old] of edits) if (!old.dirty) edits.delete(each);
	edits.set(path, edit);
	return edit;
}

/** The panel beside a photo. `saved(edit)` is called whenever something is known or stored. */
export class Details {
	#stop;

	constructor(writable, saved) {
		Object.assign(this, { writable, saved });
		this.element = h("aside", { class: "details", "aria-label": T.details });
	}

	/** Saves what is not saved yet, and shows nothing. */
	clear() {
		this.#stop?.abort();
		this.edit?.save();
		this.edit = undefined;
		put(this.element);
	}

	async show(item) {
		this.clear();
		const { signal } = (this.#stop = new AbortController());
		const title = h("h2", {}, item.name);
		put(this.element, title, h("p", { class: "quiet" }, T.loading));
		try {
			const edit = await editOf(item.path, this.writable, signal);
			if (!signal.aborted) put(this.element, title, this.#fields(item, edit));
		} catch (problem) {
			if (signal.aborted) return;
			put(this.element, title, h("p", { class: "problem", role: "alert" }, problem.message));
		}
	}

	#fields(item, edit) {
		const { writable } = edit;
		const save = () => edit.save();
		const setTags = (tags) => edit.save(Object.assign(edit, { tags }));
		const tags = new TagField(T.addTag, setTags, !writable);
		const type = () => (edit.notes = notes.value);
		const notes = h("textarea", { rows: 5, maxLength: 65536, readOnly: !writable, oninput: type, onblur: save });
		const status = h("div", { class: "status", role: "status" });
		edit.changed = () => {
			if (!same(tags.tags, edit.tags)) tags.show(edit.tags);
			if (notes.value !== edit.notes) notes.value = edit.notes;
			put(status, says(edit));
			this.saved(edit);
		};
		this.edit = edit;
		edit.changed();
		return [
			h("h3", {}, T.tags),
			tags.element,
			h("label", {}, h("h3", {}, T.notes), notes),
			status,
			writable ? null : h("p", { class: "quiet" }, T.readonly),
			h("dl", {}, facts(item, edit)),
		];
	}
}

function says(edit) {
	const { status, notes, theirs, reason } = edit;
	const choice = (label, text) => textButton(label, () => edit.choose(text));
	if (status === "failed") return h("p", { class: "problem", role: "alert" }, T.notSaved(reason), " ", textButton(T.retry, () => edit.save()));
	if (status !== "conflict") return T.statuses[status];
	return h(
		"div",
		{ class: "conflict", role: "alert" },
		h("b", {}, T.conflict),
		[h("h4", {}, T.mine), h("pre", {}, notes), h("h4", {}, T.theirs), h("pre", {}, theirs)],
		[choice(T.keepMine, notes), choice(T.keepTheirs, theirs), choice(T.keepBoth, `${theirs}\n\n${notes}`)],
	);
}

/** The rows of a list: what is known of the file and from EXIF. */
function facts({ size, warning }, { facts: { exif, hash }, updated: [date, user], path }) {
	const { ExposureTime: seconds, FNumber, FocalLength, ISOSpeedRatings, GPSLatitude, GPSLongitude } = exif;
	const exposure = [
		seconds && (seconds < 1 ? `1/${Math.round(1 / seconds)} s` : `${seconds} s`),
		FNumber && `f/${FNumber}`,
		FocalLength && `${FocalLength} mm`,
		ISOSpeedRatings && `ISO ${ISOSpeedRatings}`,
	];
	const rows = {
		file: h("a", { href: hrefOf(path) }, path),
		size: [exif.width ? `${exif.width} × ${exif.height}` : "", size ? T.bytes(size) : ""].filter(Boolean).join(", "),
		taken: T.moment(exif.takenAt ?? exif.createdAt),
		camera: [exif.Make, exif.Model].filter(Boolean).join(" "),
		exposure: exposure.filter(Boolean).join(", "),
		place: GPSLatitude !== undefined && GPSLongitude !== undefined && `${GPSLatitude}, ${GPSLongitude}`,
		warning: warning && (T.warnings[warning] ?? warning),
		edited: user !== "" && T.by(T.moment(date), user),
		hash,
	};
	return Object.entries(rows).map(([name, value]) => value && [h("dt", {}, T.facts[name]), h("dd", {}, value)]);
}
