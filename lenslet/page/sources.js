// Lists of items that a grid shows: a folder, or what a search found. Only parts are loaded.

import { read } from "./api.js";

const SEARCH_PAGE = 200;
export const parent = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const dayOf = (item) => item?.taken?.slice(0, 10) ?? "";

/** What the grid needs of an item: of 100,000, each byte counts. */
const slim = ({ path, name, w, h, rev, size, takenAt, createdAt, error, warning, tags, notes }) => {
	return { path, name, w, h, rev, size, taken: takenAt ?? createdAt, error, warning, tags, notes };
};

class Source extends EventTarget {
	items = [];
	dirs = [];
	#stop = new AbortController();

	constructor(path, sort, query) {
		super();
		Object.assign(this, { path, sort, query });
	}

	/** Stops loading. */
	close() {
		this.#stop.abort();
	}

	async read(route, params) {
		return (await read(route, params, this.#stop.signal)).data;
	}

	/** Does what reads, and says that something has changed; a first failure stays in `problem`. */
	async attempt(action) {
		try {
			await action();
			this.problem = null;
		} catch (error) {
			if (this.#stop.signal.aborted) return;
			if (error.status === undefined) throw error;
			if (!this.items.length) this.problem = error;
		}
		this.opened = true;
		this.dispatchEvent(new Event("change"));
	}

	/** The function that gives the day of an item, if days are headings. */
	get day() {
		return this.sort.endsWith("date") ? dayOf : undefined;
	}

	find(path) {
		return this.items.findIndex((item) => item?.path === path);
	}
}

/** A folder. Its pages are loaded as they come into view; to sort by date, all of them. */
export class Folder extends Source {
	#generation;
	#size; // items of a page
	#pages = new Map(); // promises of those that are loaded or being loaded

	/** True while images are being read: their sizes and thumbnails are still to come. */
	get growing() {
		return this.items.some((item) => item && !item.w && !item.error);
	}

	/** Loads the folder, or what has changed since. */
	async refresh() {
		await this.attempt(async () => {
			const first = await this.#page();
			if (first.generatedAt !== this.#generation || this.problem) await this.#take(first);
		});
	}

	#page(page) {
		return this.read("folders", { path: this.path, page });
	}

	async #take(first) {
		const { items: start, pageCount = 1, itemCount = start.length, dirs, generatedAt } = first;
		const items = new Array(itemCount);
		const place = (page, from) => from.forEach((item, index) => (items[page * start.length + index] = slim(item)));
		place(0, start);
		const pages = new Map([[0]]);
		for (let page = 1; page < pageCount; page++) {
			if (!this.day && !this.#pages.has(page)) continue;
			const next = await this.#page(page);
			if (next.generatedAt !== generatedAt) return this.#take(await this.#page());
			place(page, next.items);
			pages.set(page);
		}
		if (this.day) items.sort(this.sort === "date" ? byDate(1) : byDate(-1));
		[this.items, this.dirs, this.#size, this.#pages, this.#generation] = [items, dirs, start.length, pages, generatedAt];
	}

	/** Loads the pages that hold the items from `first` to `last`. */
	ensure(first, last) {
		for (let page = Math.floor(first / this.#size); page * this.#size <= last; page++) {
			if (!this.#pages.has(page)) this.#pages.set(page, this.attempt(() => this.#load(page)));
		}
	}

	async #load(page) {
		try {
			const { items, generatedAt } = await this.#page(page);
			if (generatedAt !== this.#generation) return this.#take(await this.#page());
			items.forEach((item, index) => (this.items[page * this.#size + index] = slim(item)));
		} catch (error) {
			this.#pages.delete(page);
			throw error;
		}
	}

	/** Loads pages until one has the item; returns its index, or -1. */
	async locate(path) {
		for (let at = 0; this.find(path) < 0 && at < this.items.length; at += this.#size) {
			this.ensure(at, at);
			await this.#pages.get(at / this.#size);
		}
		return this.find(path);
	}
}

/** What a search found, loaded as its end comes into view. */
export class Search extends Source {
	total = 0;
	#loading;

	/** Loads more, unless all is loaded. */
	async refresh() {
		if (this.#loading || this.complete) return;
		this.#loading = true;
		const sort = this.sort.replace("-", "");
		const order = sort === this.sort ? undefined : "desc";
		const params = { q: this.query, path: this.path || "/", sort, order, limit: SEARCH_PAGE, offset: this.items.length };
		await this.attempt(async () => {
			const { items, total, more } = await this.read("search", params);
			this.items.push(...items.map(slim));
			[this.total, this.more] = [Math.max(total, this.items.length), more];
			this.complete = items.length < SEARCH_PAGE;
		});
		this.#loading = false;
	}

	ensure(first, last) {
		if (last > this.items.length - SEARCH_PAGE / 2) this.refresh();
	}

	async locate(path) {
		while (this.find(path) < 0 && !this.complete && !this.problem) await this.refresh();
		return this.find(path);
	}
}

/** Items without a date come last. */
const byDate = (sign) => (one, other) => {
	if (!one.taken || !other.taken) return !one.taken - !other.taken;
	return one.taken < other.taken ? -sign : one.taken > other.taken ? sign : 0;
};
