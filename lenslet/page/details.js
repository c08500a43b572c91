// Facts of a photo, its tags and notes. What is typed is never lost: it is saved when the field is
// left, kept when saving fails, and merged when somebody else was faster.

import { Problem, read, write } from "./api.js";
import { h, put } from "./dom.js";
import { T } from "./strings.js";
import { TagField } from "./tags.js";
import { hrefOf } from "./tree.js";

export const FAVOURITE = "favourite";
const SAVE_MS = 800;

/** Tags after two edits of the same list: nothing that either added is lost. */
export const mergeTags = (base, mine, theirs) => [
  ...theirs.filter((tag) => mine.includes(tag) || !base.includes(tag)),
  ...mine.filter((tag) => !base.includes(tag) && !theirs.includes(tag)),
];
const same = (one, other) => one.join("\n") === other.join("\n");

/** The tags and notes of one photo as typed (`tags`, `notes`) and as last known (`base`). */
export class Edit {
  status = "";
  reason = "";
  theirs = null; // the notes of somebody else, if they must be chosen from
  #running = null;

  constructor(path, { data, etag, allow }, writable) {
    this.path = path;
    this.facts = data;
    this.writable = writable && (!allow || allow.includes("PUT"));
    this.#learn(data, etag);
    [this.tags, this.notes] = [this.base.tags, this.base.notes];
  }

  #learn(data, etag) {
    this.etag = etag;
    this.base = { tags: data.tags ?? [], notes: data.notes ?? "" };
    this.edited = data.updatedAt && data.tags ? [data.updatedAt, data.updatedBy] : this.edited;
  }

  get dirty() {
    return this.notes !== this.base.notes || !same(this.tags, this.base.tags);
  }

  /** Saves what has changed; one request at a time. */
  save() {
    this.#running = (this.#running ?? Promise.resolve()).then(() => this.#save());
    return this.#running;
  }

  async #save(tries = 5) {
    if (!this.dirty || this.theirs !== null) return;
    const body = {};
    if (!same(this.tags, this.base.tags)) body.tags = this.tags;
    if (this.notes !== this.base.notes) body.notes = this.notes;
    const [tags, notes] = [this.tags, this.notes];
    this.status = "saving";
    this.changed();
    try {
      const { data, etag } = await write("PUT", "item", { path: this.path }, { body, etag: this.etag });
      this.#learn(data, etag);
      if (same(this.tags, tags)) this.tags = this.base.tags;
      if (this.notes === notes) this.notes = this.base.notes;
      this.status = this.dirty ? "" : "saved";
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 412 && tries) {
        this.#merge(problem);
        if (this.theirs === null) return this.#save(tries - 1);
        this.status = "conflict";
      } else {
        this.status = "failed";
        this.reason = problem.message;
      }
    }
    this.changed();
  }

  #merge({ body, etag }) {
    const before = this.base;
    this.#learn({ tags: [], notes: "", ...body }, etag || '"0.0"');
    this.tags = mergeTags(before.tags, this.tags, this.base.tags);
    if (this.notes === before.notes) this.notes = this.base.notes;
    else if (this.base.notes !== before.notes && this.base.notes !== this.notes) this.theirs = this.base.notes;
  }

  /** Ends a conflict with the notes that were chosen. */
  choose(notes) {
    [this.notes, this.theirs, this.status] = [notes, null, ""];
    this.changed();
    return this.save();
  }

  changed() {}
}

/** Edits by path. One that is not saved yet is kept until it is. */
const edits = new Map();

export async function editOf(path, writable, signal) {
  const known = edits.get(path);
  if (known?.dirty) return known;
  const edit = new Edit(path, await read("item", { path, exif: "full" }, { signal }), writable);
  for (const [each, old] of edits) if (!old.dirty) edits.delete(each);
  edits.set(path, edit);
  return edit;
}

export const hasUnsaved = () => [...edits.values()].some((edit) => edit.dirty);

/** The panel beside a photo. */
export class Details {
  constructor({ writable, saved }) {
    this.writable = writable;
    this.saved = saved;
    this.element = h("aside", { class: "details", "aria-label": T.details });
  }

  /** Shows an item, first what the list knows of it. */
  async show(item) {
    this.item = item;
    this.edit = null;
    this.#stop?.abort();
    this.#stop = new AbortController();
    put(this.element, h("h2", {}, item.name), h("p", { class: "quiet" }, T.loading));
    try {
      const edit = await editOf(item.path, this.writable, this.#stop.signal);
      if (this.item === item) this.#draw(edit);
    } catch (problem) {
      if (problem instanceof Problem && this.item === item) {
        put(this.element, h("h2", {}, item.name), h("p", { class: "problem", role: "alert" }, problem.message));
      }
    }
  }

  #stop;

  #draw(edit) {
    this.edit = edit;
    const { writable } = edit;
    this.tags = new TagField(T.tags, (tags) => ((edit.tags = tags), edit.save()), !writable);
    this.notes = h("textarea", { id: "notes", rows: 4, maxLength: 65536, readOnly: !writable });
    this.notes.addEventListener("input", () => {
      edit.notes = this.notes.value;
      edit.status = "";
      clearTimeout(this.timer);
      this.timer = setTimeout(() => edit.save(), SAVE_MS * 4);
    });
    this.notes.addEventListener("blur", () => edit.save());
    this.status = h("div", { class: "status", role: "status" });
    edit.changed = () => {
      if (this.edit === edit) this.#update();
      this.saved(edit);
    };
    put(
      this.element,
      h("h2", {}, this.item.name),
      h("h3", {}, T.tags),
      this.tags.element,
      h("label", { for: "notes" }, h("h3", {}, T.notes)),
      this.notes,
      this.status,
      writable ? null : h("p", { class: "quiet" }, T.readonly),
      h("dl", {}, facts(this.item, edit)),
    );
    this.#update();
    this.saved(edit);
  }

  #update() {
    const { edit } = this;
    if (!same(this.tags.tags, edit.tags)) this.tags.tags = edit.tags;
    if (this.notes.value !== edit.notes) this.notes.value = edit.notes;
    put(this.status, this.#says(edit));
  }

  #says(edit) {
    if (edit.status === "conflict") {
      const [mine, theirs] = [edit.notes, edit.theirs];
      const choice = (label, notes) => h("button", { type: "button", onclick: () => edit.choose(notes) }, label);
      return h(
        "div",
        { class: "conflict", role: "alert" },
        h("b", {}, T.conflict),
        h("h4", {}, T.mine),
        h("pre", {}, mine),
        h("h4", {}, T.theirs),
        h("pre", {}, theirs),
        choice(T.keepMine, mine),
        choice(T.keepTheirs, theirs),
        choice(T.keepBoth, `${theirs}\n\n${mine}`),
      );
    }
    if (edit.status === "failed") {
      return h("p", { class: "problem", role: "alert" }, T.notSaved(edit.reason), " ", h("button", { type: "button", onclick: () => edit.save() }, T.retry));
    }
    return { saving: T.saving, saved: T.saved }[edit.status];
  }
}

/** Pairs of a list: what is known of the file and from EXIF. */
function facts(item, { facts: { exif = {}, hash, size }, edited, path }) {
  const camera = [exif.Make, exif.Model].filter(Boolean).join(" ");
  const exposure = [
    exif.ExposureTime && (exif.ExposureTime < 1 ? `1/${Math.round(1 / exif.ExposureTime)} s` : `${exif.ExposureTime} s`),
    exif.FNumber && `f/${exif.FNumber}`,
    exif.FocalLength && `${exif.FocalLength} mm`,
    exif.ISOSpeedRatings && `ISO ${exif.ISOSpeedRatings}`,
  ].filter(Boolean);
  const place = [exif.GPSLatitude, exif.GPSLongitude];
  const rows = [
    [T.file, h("a", { href: hrefOf(path) }, path)],
    [T.dimensions, exif.width && `${exif.width} × ${exif.height}`],
    [T.size, (size ?? item.size) && T.bytes(size ?? item.size)],
    [T.taken, when(exif.takenAt ?? exif.createdAt)],
    [T.camera, camera],
    [T.exposure, exposure.join(", ")],
    [T.place, place.every(Number.isFinite) && `${place[0].toFixed(5)}, ${place[1].toFixed(5)}`],
    [T.warning, item.warning && (T.warnings[item.warning] ?? item.warning)],
    [T.changed, edited && edited[1] !== undefined && T.by(when(edited[0]), edited[1])],
    [T.hash, hash && h("code", { title: hash }, hash.slice(0, 23), "…")],
  ];
  return rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

/** A time as the reader writes it; one without an offset is the camera's own clock. */
const when = (text) => text && new Date(text).toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
