// Lists of items that a grid shows: a folder, or what a search found. Only parts are loaded.

import { read } from "./api.js";

const SEARCH_PAGE = 200;

/** What a grid needs of an item. Of 100,000, each byte counts. */
const slim = ({ path, name, w, h, rev, takenAt, createdAt, error, warning, tags, notes }, search) => ({
  path, name, w, h, rev, error, warning, tags,
  taken: takenAt ?? createdAt,
  notes: search ? notes : undefined,
  ready: w > 0 || error !== undefined,
});
export const parent = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
export const day = (item) => item?.taken?.slice(0, 10) ?? "";

class Source extends EventTarget {
  items = [];
  dirs = [];
  problem = null;
  opened = false;
  #stop = new AbortController();

  close() {
    this.#stop.abort();
  }

  read(route, params) {
    return read(route, params, { signal: this.#stop.signal });
  }

  changed(name = "change", detail) {
    if (!this.#stop.signal.aborted) this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Does something that reads; a failure is kept in `problem`. */
  async attempt(action) {
    try {
      await action();
      this.problem = null;
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (error.status === undefined) throw error;
      if (!this.opened) this.problem = error;
    }
    this.opened = true;
    this.changed();
  }

  find(path) {
    return this.items.findIndex((item) => item?.path === path);
  }
}

/** A folder: its pages are loaded as they come into view, all of them to sort by date. */
export class Folder extends Source {
  #generation;
  #pageSize = 0;
  #pages = new Map(); // those that are loaded or being loaded: promises
  #tries = 0;

  constructor(path, sort) {
    super();
    Object.assign(this, { path, sort, kind: "folder" });
  }

  get day() {
    return this.sort === "name" ? null : day;
  }

  /** True while images are being read, so that their sizes and thumbnails are still to come. */
  get growing() {
    return this.opened && !this.problem && (this.items.some((item) => item && !item.ready) || this.#tries < 2);
  }

  open() {
    return this.attempt(async () => this.#take((await this.#page(0)).data));
  }

  async #page(page) {
    return this.read("folders", { path: this.path, page: page || undefined });
  }

  async #take(first) {
    this.#generation = first.generatedAt;
    this.#pageSize = first.pageCount ? first.items.length : Infinity;
    const loaded = [...this.#pages.keys()].filter((page) => page && page < (first.pageCount ?? 1));
    this.#pages = new Map([[0, Promise.resolve()]]);
    const items = new Array(first.itemCount ?? first.items.length).fill(undefined);
    first.items.forEach((item, index) => (items[index] = slim(item)));
    const wanted = this.sort === "name" ? loaded : [...Array(first.pageCount ?? 1).keys()].slice(1);
    for (const page of wanted) {
      const next = (await this.#page(page)).data;
      if (next.generatedAt !== this.#generation) return this.#take((await this.#page(0)).data);
      this.#pages.set(page, Promise.resolve());
      next.items.forEach((item, index) => (items[page * this.#pageSize + index] = slim(item)));
      if (this.sort !== "name") this.changed("progress", [page * this.#pageSize + next.items.length, items.length]);
    }
    if (this.sort !== "name") sortByDate(items, this.sort);
    [this.items, this.dirs, this.path] = [items, first.dirs ?? [], first.path.replace(/\/$/, "")];
  }

  /** Loads the pages that hold the items from `first` to `last`. */
  ensure(first, last) {
    if (!Number.isFinite(this.#pageSize)) return;
    const end = Math.min(last, this.items.length - 1);
    for (let page = Math.floor(first / this.#pageSize); page <= Math.floor(end / this.#pageSize); page++) {
      if (!this.#pages.has(page)) this.#pages.set(page, this.attempt(() => this.#load(page)));
    }
  }

  async #load(page) {
    try {
      const { data } = await this.#page(page);
      if (data.generatedAt !== this.#generation) return await this.refresh();
      data.items.forEach((item, index) => (this.items[page * this.#pageSize + index] = slim(item)));
    } catch (error) {
      this.#pages.delete(page);
      throw error;
    }
  }

  /** Loads pages until the one that has an item; returns its index, or -1. */
  async locate(path) {
    for (let page = 0; this.find(path) < 0 && page * this.#pageSize < this.items.length; page++) {
      this.ensure(page * this.#pageSize, page * this.#pageSize);
      await this.#pages.get(page);
    }
    return this.find(path);
  }

  /** Asks whether the folder has changed. */
  async refresh() {
    await this.attempt(async () => {
      const { data } = await this.#page(0);
      this.#tries++;
      if (data.generatedAt !== this.#generation || this.problem) await this.#take(data);
    });
  }
}

/** What a search found, loaded as the end comes into view. */
export class Search extends Source {
  total = 0;
  more = true;
  growing = false;
  #loading = false;

  constructor(query, path, sort) {
    super();
    Object.assign(this, { query, path, sort, kind: "search" });
  }

  get day() {
    return this.sort.endsWith("date") ? day : null;
  }

  open() {
    return this.#next();
  }

  async #next() {
    if (this.#loading || (this.opened && !this.more)) return;
    this.#loading = true;
    const [sort, order] = this.sort.startsWith("-") ? [this.sort.slice(1), "desc"] : [this.sort, undefined];
    await this.attempt(async () => {
      const params = { q: this.query, path: this.path || "/", sort, order, limit: SEARCH_PAGE, offset: this.items.length };
      const { data } = await this.read("search", params);
      this.items.push(...data.items.map((item) => slim(item, true)));
      [this.total, this.endless] = [Math.max(data.total, this.items.length), data.more];
      this.more = data.items.length === SEARCH_PAGE && (data.more || this.items.length < data.total);
    });
    this.#loading = false;
  }

  ensure(first, last) {
    if (last > this.items.length - SEARCH_PAGE / 2) this.#next();
  }

  async locate(path) {
    while (this.find(path) < 0 && this.more && this.items.length < 5000) await this.#next();
    return this.find(path);
  }

  async refresh() {}
}

function sortByDate(items, sort) {
  const sign = sort === "-date" ? -1 : 1;
  items.sort((one, other) => {
    if (!one.taken || !other.taken) return !one.taken - !other.taken;
    return one.taken < other.taken ? -sign : one.taken > other.taken ? sign : 0;
  });
}
