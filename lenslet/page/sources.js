// Lists of items that a grid shows: a folder, or what a search found. Only parts are loaded.

import { pause, read } from "./api.js";

const SEARCH_PAGE = 200;
const [SOON_MS, GROWING_MS, IDLE_MS] = [5000, 2500, 20000]; // between two looks at a folder
const dayOf = (item) => item?.taken?.slice(0, 10) ?? "";

// Leaves out what nobody needs here: of 100,000 items, each byte counts.
const slim = ({ hash, type, facts, limit, hasThumb, hasMeta, metaRev, createdAt, takenAt = createdAt, ...item }) => ({ ...item, taken: takenAt });

class Source {
	items = [];
	dirs = [];
	#stop = new AbortController();

	constructor(path, sort, query, changed) {
		Object.assign(this, { path, sort, query, changed });
	}

	start() {
		this.ready = this.refresh();
	}

	close() {
		this.#stop.abort();
	}

	get closed() {
		return this.#stop.signal.aborted;
	}

	async read(route, params) {
		return (await read(route, params, { signal: this.#stop.signal })).data;
	}

	// Loads something. While there is nothing to show, a failure is kept.
	async load(action) {
		try {
			await action();
			this.problem = undefined;
		} catch (error) {
			if (this.closed) return;
			if (!this.items.length || error.status === 404) Object.assign(this, { problem: error, items: [], dirs: [] });
		}
		this.opened = true;
		this.changed();
	}

	// The day of an item, if days are headings.
	get day() {
		return this.sort.endsWith("date") ? dayOf : undefined;
	}

	find(path) {
		return path ? this.items.findIndex((item) => item?.path === path) : -1;
	}
}

// A folder. Its pages are loaded as they come into view; to sort by date, all of them.
export class Folder extends Source {
	#generation;
	#starts = []; // the number of items before each page
	#pages = new Map(); // promises

	get growing() {
		return this.items.some((item) => item && !item.w && !item.error);
	}

	// Loads it, and looks again until it is closed: a changed folder is answered as it was, and then read.
	async start() {
		super.start();
		await this.ready;
		for (let wait = SOON_MS; ; wait = this.growing ? GROWING_MS : IDLE_MS) {
			await pause(wait);
			if (this.closed) return;
			if (!document.hidden) await this.refresh();
		}
	}

	refresh() {
		return this.load(async () => {
			const first = await this.#page();
			if (first.generatedAt !== this.#generation || this.problem) await this.#take(first);
		});
	}

	#page(page) {
		return this.read("folders", { path: this.path, page });
	}

	// Takes the first page. Of the others, what was known is shown until they are loaded.
	async #take(first) {
		const { items: start, itemCount = start.length, starts = [0], dirs, generatedAt, unsupported } = first;
		this.unsupported = unsupported;
		const items = this.day ? [] : this.items.slice();
		const pages = new Map([[0]]);
		items.length = itemCount;
		place(items, 0, start);
		for (let page = 1; this.day && page < starts.length; page++) {
			const next = await this.#page(page);
			if (next.generatedAt !== generatedAt) return this.#take(await this.#page());
			place(items, starts[page], next.items);
			pages.set(page);
		}
		if (this.day) items.sort(byDate(this.sort === "date" ? 1 : -1));
		[this.items, this.dirs, this.#starts, this.#pages, this.#generation] = [items, dirs, starts, pages, generatedAt];
	}

	// Loads the pages that hold the items from `first` to `last`.
	ensure(first, last) {
		for (let page = this.#pageOf(first); this.#starts[page] <= last; page++) {
			if (!this.#pages.has(page)) this.#pages.set(page, this.load(() => this.#load(page)));
		}
	}

	#pageOf(index) {
		return this.#starts.findLastIndex((start) => start <= index);
	}

	async #load(page) {
		try {
			const { items, generatedAt } = await this.#page(page);
			if (generatedAt === this.#generation) place(this.items, this.#starts[page], items);
			else await this.#take(await this.#page());
		} catch (error) {
			this.#pages.delete(page);
			throw error;
		}
	}

	async locate(path) {
		for (let page = 0; this.find(path) < 0 && page < this.#starts.length; page++) {
			this.ensure(this.#starts[page], this.#starts[page]);
			await this.#pages.get(page);
		}
		return this.find(path);
	}
}

const place = (items, from, loaded) => loaded.forEach((item, index) => (items[from + index] = slim(item)));

// Items without a date come last.
const byDate = (sign) => (one, other) => {
	if (!one.taken || !other.taken) return !one.taken - !other.taken;
	return sign * (one.taken > other.taken) - sign * (one.taken < other.taken);
};

// What a search found, loaded as its end comes into view.
export class Search extends Source {
	total = 0;
	#loading;

	// Loads more, unless all is loaded.
	refresh() {
		this.#loading ??= this.#more().finally(() => (this.#loading = undefined));
		return this.#loading;
	}

	async #more() {
		if (this.complete) return;
		const [sort, order] = [this.sort.replace("-", ""), this.sort[0] === "-" && "desc"];
		const params = { q: this.query, path: this.path || "/", sort, order, limit: SEARCH_PAGE, offset: this.items.length };
		await this.load(async () => {
			const { items, total, more } = await this.read("search", params);
			place(this.items, this.items.length, items);
			[this.total, this.more] = [Math.max(total, this.items.length), more];
			this.complete = items.length < SEARCH_PAGE;
		});
	}

	ensure(first, last) {
		if (last > this.items.length - SEARCH_PAGE / 2) this.refresh();
	}

	async locate(path) {
		for (let before = -1; this.find(path) < 0 && this.items.length > before; await this.refresh()) before = this.items.length;
		return this.find(path);
	}
}
