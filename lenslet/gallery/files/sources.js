// Lists of photos that a grid shows: a folder, or photos by date. They are cut into blocks, of which only those near the
// screen are loaded: `first` and `count` of its photos, the sum of their `shapes`, and `items`. These are a `page` of a
// folder, or what the block's own query (`q`) finds, by `sort`; from `offset` on. In lists by date, a block has a `name`,
// maybe a `heading` of it, the `date` of its photos (a month, or a year), and `at`: what the address calls it.

import { learn } from "./address.js";
import { pause, read } from "./api.js";
import { isIndexed } from "./health.js";
import { between, lastAt } from "./layout.js";
import { T } from "./strings.js";

const [BLOCK, MOST_LOADED] = [500, 40]; // photos of a block, and blocks that are kept
const FEW = 24; // photos of a year that is not divided into months
const MOST_ADDED = 2000; // photos that were added last
const UNKNOWN = 4 / 3;
const [SOON_MS, GROWING_MS, IDLE_MS] = [5000, 2500, 20000]; // between two looks at what has changed

// Leaves out what nobody needs here: of 100,000 items, each byte counts.
function slim(item) {
	const { hash, type, facts, limit, notes, about, hasThumb, hasMeta, metaRev, addedAt, createdAt, takenAt = createdAt, ...rest } = item;
	return { ...rest, taken: takenAt };
}
const dayOf = (moment) => new Date(moment).toLocaleDateString("sv");

class Source {
	blocks = [];
	dirs = [];
	terms = []; // of the query, as the service understood them
	#stop;

	// `by`: "date", "added" or "", as the address says; `order`: "reverse" or "".
	constructor(path, query, by, order) {
		Object.assign(this, { path, query, by, order });
	}

	// Loads it, and looks again until it is closed.
	async start(changed) {
		const stop = new AbortController();
		this.#stop = stop;
		this.changed = changed;
		for (let wait = SOON_MS; !stop.signal.aborted; wait = this.growing ? GROWING_MS : IDLE_MS) {
			if (!this.opened || !document.hidden) this.ready = this.load(() => this.look());
			await this.ready;
			await pause(wait);
		}
	}

	close() {
		this.#stop.abort();
	}

	get closed() {
		return this.#stop.signal.aborted;
	}

	get count() {
		const last = this.blocks.at(-1);
		return last ? last.first + last.count : 0;
	}

	// Some photos have not been read yet, or there may be some soon.
	get growing() {
		return (!this.count && !isIndexed) || this.blocks.some(({ items }) => items?.some((item) => !item.w && !item.error));
	}

	async read(route, params) {
		const { data } = await read(route, params, { signal: this.#stop.signal });
		learn(params.path, data);
		return data;
	}

	// Shows what has come meanwhile, now.
	renew() {
		return this.load(() => this.look());
	}

	// Loads something. While there is nothing to show, a failure is kept.
	async load(action) {
		try {
			await action();
			this.problem = undefined;
		} catch (error) {
			if (this.closed) return;
			if (!this.opened || error.status === 404) Object.assign(this, { problem: error, blocks: [], dirs: [] });
		}
		this.opened = true;
		this.changed();
	}

	// Begins with other blocks. What was known is shown until they are loaded.
	begin(sizes) {
		const blocks = [];
		let first = 0;
		for (const { count, shapes = UNKNOWN * count, ...more } of sizes) {
			for (let offset = 0; offset < count; offset += BLOCK) {
				const size = Math.min(BLOCK, count - offset);
				const heading = more.at !== undefined && !offset;
				blocks.push({ ...more, first, offset, count: size, shapes: (shapes * size) / count, heading });
				first += size;
			}
		}
		for (const block of blocks) {
			const known = this.slice(block.first, block.first + block.count - 1);
			if (known.length === block.count) Object.assign(block, { items: known, stale: true });
		}
		this.blocks = blocks;
	}

	blockOf(index) {
		return this.blocks[lastAt(this.blocks, "first", index)];
	}

	at(index) {
		const block = this.blockOf(index);
		return block?.items?.[index - block.first];
	}

	// The photos of a range, as far as they are loaded.
	slice(first, last) {
		const part = ({ items = [], first: start }) => items.slice(Math.max(0, first - start), last - start + 1);
		return between(this.blocks, "first", first, last).flatMap(part);
	}

	// Calls `take` with the photos of a range, part by part, while it returns true. What is not loaded is loaded for that,
	// and not kept.
	async each(first, last, take) {
		const { blocks } = this;
		const wanted = between(blocks, "first", first, last);
		const missing = wanted.filter(({ items }) => !items);
		for (const block of wanted) {
			if (!block.items) await (block.loading ?? this.fetch(block));
			if (blocks !== this.blocks || !block.items) throw new Error(T.listChanged);
			const goesOn = take(this.slice(Math.max(first, block.first), Math.min(last, block.first + block.count - 1)));
			if (missing.includes(block) && !block.laid) block.items = undefined;
			if (!goesOn) break;
		}
		if (missing.length) this.changed();
	}

	find(path) {
		for (const { items, first } of this.blocks) {
			const at = path && items ? items.findIndex((item) => item.path === path) : -1;
			if (at >= 0) return first + at;
		}
		return -1;
	}

	// Loads blocks, and forgets those that are farthest from them.
	async ensure(wanted) {
		const missing = wanted.filter((block) => !block.loading && (!block.items || block.stale));
		await Promise.all(
			missing.map((block) => {
				block.loading = this.load(() => this.fetch(block)).finally(() => (block.loading = undefined));
				return block.loading;
			}),
		);
		const [{ first = 0 } = {}] = wanted;
		const far = (block) => Math.abs(block.first - first);
		const loaded = this.blocks.filter(({ items }) => items).sort((one, other) => far(other) - far(one));
		for (const block of loaded.slice(0, Math.max(0, loaded.length - MOST_LOADED))) {
			Object.assign(block, { items: undefined, laid: undefined, rows: undefined });
		}
	}

	// Loads blocks until a photo is found; -1 if it is in none.
	async locate(path, blocks = this.blocks) {
		for (const block of blocks) {
			const at = this.find(path);
			if (at >= 0 || this.closed) return at;
			await this.ensure([block]);
		}
		return this.find(path);
	}

	// Takes new tags, by path.
	retag(tags) {
		const tagged = (item) => (tags[item.path] ? { ...item, tags: tags[item.path] } : item);
		for (const block of this.blocks) {
			if (block.items?.some(({ path }) => tags[path])) block.items = block.items.map(tagged);
		}
	}
}

// A folder, in the order of names. A changed folder is answered as it was, and then read.
export class Folder extends Source {
	#generation;

	async look() {
		const first = await this.#page(0);
		if (first.generatedAt !== this.#generation || this.problem) this.#take(first);
		if (this.dirs.length) this.read("search/counts", { path: this.path }).then(this.#count, () => {});
	}

	#count = ({ folders }) => {
		this.dirs = this.dirs.map((dir) => ({ ...dir, count: folders[dir.name] }));
		this.changed();
	};

	#page(page) {
		return this.read("folders", { path: this.path, page });
	}

	#take(first) {
		const { items, itemCount = items.length, starts = [0], dirs, generatedAt, unsupported, title, description, order } = first;
		Object.assign(this, { dirs, unsupported, about: { title, description, order } });
		this.#generation = generatedAt;
		const pages = starts.map((start, page) => ({ page, count: (starts[page + 1] ?? itemCount) - start }));
		this.begin(this.order ? pages.reverse() : pages);
		this.#fill(0, items);
	}

	#fill(page, found) {
		const items = found.map(slim);
		const { order = "" } = this.about;
		// Pages are in the order of names, so only a folder of one page can be shown in another.
		if (order.endsWith("date") && this.blocks.every((block) => !block.page)) items.sort(byDate(order === "date" ? 1 : -1));
		if (this.order) items.reverse();
		for (const block of this.blocks) {
			if (block.page !== page) continue;
			Object.assign(block, { items: items.slice(block.offset, block.offset + block.count), stale: false });
		}
	}

	async fetch({ page }) {
		const { items, generatedAt } = await this.#page(page);
		if (generatedAt === this.#generation) this.#fill(page, items);
		else this.#take(await this.#page(0));
	}
}

// `way`: 1, or -1 for the newest first. Those without a date come last.
const byDate = (way) => ({ taken: one }, { taken: other }) => !one - !other || way * ((one > other) - (one < other));

// Photos of all folders, of one and below, or what a search finds: by date, or the last that were added.
export class Timeline extends Source {
	days = true;
	months = []; // as the service counts them
	more = 0; // how many have come that are not shown
	#text;

	start(changed) {
		this.#forget();
		return super.start(changed);
	}

	renew() {
		this.#forget();
		return super.renew();
	}

	#forget() {
		this.more = 0;
		this.#text = "";
		this.renews = true;
	}

	async look() {
		if (this.by === "added") return this.#lookAdded();
		const found = await this.read("timeline", { path: this.path, q: this.query });
		const text = JSON.stringify(found);
		if (text === this.#text) return;
		const now = [...found.months, found.future, found.undated].reduce((sum, { count }) => sum + count, 0);
		if (this.count && !this.query && !this.renews) this.more = Math.max(0, now - this.count);
		if (!this.more) this.#take(found, text);
	}

	async #lookAdded() {
		if (!this.renews) return;
		this.renews = false;
		const added = { name: T.added, q: "", sort: "added" };
		const found = await this.#find({ ...added, offset: 0, count: BLOCK });
		this.terms = found.terms ?? []; // links do not get them
		this.begin([{ ...added, count: Math.min(found.total, MOST_ADDED) }]);
		if (this.count) this.#fill(this.blocks[0], found);
	}

	#take({ months, future, undated, terms }, text) {
		this.#text = text;
		this.renews = false;
		Object.assign(this, { months, terms });
		const part = (at, name, q) => ({ at, name, q, sort: "date" });
		const ahead = { ...future, ...part("future", T.toCome, `date:${nextMonth()}..`) };
		const past = divide(months).map(({ month, ...sums }) => ({ ...sums, date: month, ...part(month, T.date(month), `date:${month}`) }));
		const none = { ...undated, ...part("none", T.noDate, "-date:..9999"), sort: "" };
		const dated = this.order ? [...past.reverse(), ahead] : [ahead, ...past];
		this.begin([...dated, none].filter(({ count }) => count));
	}

	async fetch(block) {
		const found = await this.#find(block);
		this.#fill(block, found);
		if (found.items.length < block.count) this.#text = ""; // some have gone
	}

	#find({ q, sort, offset, count }) {
		const order = sort && !this.order && "desc";
		return this.read("search", { q: `${this.query} ${q}`.trim(), path: this.path || "/", sort, order, offset, limit: count });
	}

	// `matches`: the lines of titles, captions and notes in which a query was found, by path. Links do not get them.
	#fill(block, { items, matches = {} }) {
		const day = (item) => (block.sort === "added" ? dayOf(item.addedAt) : undefined);
		block.items = items.map((item) => ({ ...slim(item), day: day(item), match: matches[item.path] }));
		block.stale = false;
	}

	// A photo of the address: its date says in which month it is.
	async locate(path) {
		await this.ready;
		const at = this.find(path);
		if (at >= 0) return at;
		const { exif } = await this.read("item", { path }).catch(() => ({ exif: {} }));
		const month = (exif.takenAt ?? exif.createdAt ?? "").slice(0, 7).padEnd(7, "-00");
		return super.locate(path, this.blocks.filter(({ date }) => !date || month.startsWith(date)));
	}
}

// Joins the months of each year that has few photos.
function divide(months) {
	const years = Object.groupBy(months, ({ month }) => `year ${month.slice(0, 4)}`); // numbers would be sorted
	return Object.values(years).flatMap((year) => {
		const [count, shapes] = ["count", "shapes"].map((key) => year.reduce((sum, month) => sum + month[key], 0));
		return count > FEW ? year : [{ month: year[0].month.slice(0, 4), count, shapes }];
	});
}

// The month after that of tomorrow, as the service sees it.
function nextMonth() {
	const day = new Date(Date.now() + 38 * 3600e3);
	return new Date(Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + 1)).toISOString().slice(0, 7);
}
