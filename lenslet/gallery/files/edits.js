// Every change of tags and notes. Edits are merged with those of others, and kept until they are stored.

import { read, writable, write } from "./api.js";
import { announce } from "./events.js";

export const FAVOURITE = "favourite";
const MOST_PATHS = 500; // of a request

const same = (one, other) => one.join("\n") === other.join("\n");

// Merges two edits of the same tags: what either added or removed counts.
const mergeTags = (base, mine, theirs) =>
	[...new Set([...theirs, ...mine])].filter((tag) => !base.includes(tag) || (mine.includes(tag) && theirs.includes(tag)));

const unsaved = new Map(); // path → its edit
let sending = 0; // changes of several photos
export const hasUnsaved = () => unsaved.size + sending > 0;
export const saveAll = () => unsaved.forEach((edit) => edit.save());

// Returns the edit of a photo: the one that is not saved yet, or a new one.
export const editOf = (path) => unsaved.get(path) ?? new Edit(path);

// The tags and notes of one photo as typed, and as they were last stored.
class Edit {
	// Then "", "saving", "saved", "failed" or "conflict"; "unreadable" if it could not be loaded.
	status = "loading";
	tags = [];
	notes = "";
	stored = { tags: [], notes: "" };
	theirs; // the notes of somebody else, while one must choose
	#etag;
	#saving;

	constructor(path) {
		this.path = path;
		this.ready = this.#load();
	}

	async #load() {
		try {
			const { data, etag, allow } = await read("item", { path: this.path, exif: "full" });
			Object.assign(this, { facts: data, writable: writable && (!allow || allow.includes("PUT")) });
			this.#learn(data, etag);
			[this.tags, this.notes] = [this.stored.tags, this.stored.notes];
			this.#say("");
		} catch (problem) {
			this.#say("unreadable", problem.message);
		}
	}

	#learn({ tags = [], notes = "", updatedAt, updatedBy }, etag) {
		this.stored = { tags, notes, updatedAt, updatedBy };
		this.#etag = etag;
	}

	#say(status, reason) {
		Object.assign(this, { status, reason });
		this.#remember();
		announce("edit", this);
	}

	get #dirty() {
		return this.notes !== this.stored.notes || !same(this.tags, this.stored.tags);
	}

	#remember() {
		if (this.#dirty) unsaved.set(this.path, this);
		else unsaved.delete(this.path);
	}

	// Takes what was typed: `tags`, `notes` or both.
	change(typed) {
		Object.assign(this, typed);
		this.#remember();
	}

	// Saves what has changed, one request at a time.
	save() {
		this.#saving = Promise.resolve(this.#saving).finally(() => this.#save());
	}

	async #save() {
		while (this.#dirty && this.theirs === undefined) {
			const { tags, notes, stored: base, path } = this;
			const body = { ...(!same(tags, base.tags) && { tags }), ...(notes !== base.notes && { notes }) };
			this.#say("saving");
			try {
				const { data, etag } = await write("PUT", "item", { path }, { body, etag: this.#etag });
				this.#learn(data, etag);
				// What was typed meanwhile stays.
				if (same(this.tags, tags)) this.tags = this.stored.tags;
				if (this.notes === notes) this.notes = this.stored.notes;
				this.#say("saved");
				announce("stored", { [path]: this.stored.tags });
			} catch (problem) {
				if (problem.status !== 412) return this.#say("failed", problem.message);
				this.#merge(base, problem);
			}
		}
	}

	// Takes what somebody else has stored. If both have changed the notes, one must choose.
	#merge(base, { body, etag }) {
		this.#learn(body, etag ?? '"0."');
		const theirs = this.stored;
		this.tags = mergeTags(base.tags, this.tags, theirs.tags);
		if (this.notes === base.notes) this.notes = theirs.notes;
		else if (![base.notes, this.notes].includes(theirs.notes)) this.theirs = theirs.notes;
		this.#say(this.theirs === undefined ? "" : "conflict");
	}

	choose(notes) {
		Object.assign(this, { notes, theirs: undefined });
		this.#say("");
		this.save();
	}
}

// Adds or removes tags of many photos; returns a result for each. What is stored is announced part by part.
export async function tagAll(paths, change) {
	const results = [];
	sending++;
	try {
		for (let from = 0; from < paths.length; from += MOST_PATHS) {
			const body = { paths: paths.slice(from, from + MOST_PATHS), ...change };
			const { data } = await write("POST", "items/tags", {}, { body });
			results.push(...data.results);
			announce("stored", Object.fromEntries(data.results.map(({ path, tags }) => [path, tags])));
		}
	} finally {
		sending--;
	}
	return results;
}
