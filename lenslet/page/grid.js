// The grid: of all items only those near the screen are in the page.

import { pause, thumbUrl, whyNot } from "./api.js";
import { button, h, icon, put } from "./dom.js";
import { cells, layOut, rowAt } from "./layout.js";
import { T } from "./strings.js";

const AT_ONCE = 4; // a browser opens six connections to a host: two stay free for JSON
const SETTLE_MS = 60; // a tile that is scrolled past sooner asks for nothing
const AGAIN_MS = 2000;
const CAPTION = 40; // pixels
const DRAG = 8;
const FINAL = [403, 404, 409, 422];
export const FAVOURITE = "favourite";

/** Loads thumbnails: a few at a time, the nearest to the middle of the screen first. */
class Loader {
	#waiting = new Set();
	#active = new Set();

	add(tile) {
		this.#waiting.add(tile);
		this.#next();
	}

	/** Abandons a tile that has left the screen. */
	remove(tile) {
		this.#waiting.delete(tile);
		if (this.#active.delete(tile)) tile.image.removeAttribute("src");
		this.#next();
	}

	#next() {
		while (this.#active.size < AT_ONCE && this.#waiting.size) {
			const nearest = [...this.#waiting].reduce((best, tile) => (tile.distance() < best.distance() ? tile : best));
			this.#waiting.delete(nearest);
			this.#active.add(nearest);
			this.#load(nearest);
		}
	}

	async #load(tile) {
		const { image, element } = tile;
		const address = thumbUrl(tile.item);
		const loaded = await new Promise((done) => {
			image.onload = () => done(true);
			image.onerror = () => done(false);
			image.src = address;
		});
		if (!this.#active.delete(tile)) return;
		this.#next();
		if (loaded) return element.classList.add("shown");
		image.removeAttribute("src");
		const why = await whyNot(address);
		if (FINAL.includes(why.status)) return tile.fail(why.message);
		element.classList.add("waits");
		await pause(AGAIN_MS);
		if (element.isConnected) this.add(tile);
	}
}

export class Grid {
	selected = new Map(); // path → item
	current = 0; // the item that has the focus, or would
	#source;
	#layout = { rows: [], height: 0 };
	#tiles = new Map(); // by item index; headings by the day
	#loader = new Loader();
	#anchor = 0; // where a range of selected items begins

	/** `actions`: `writable`, href(item), caption(item), and selected() after each change. */
	constructor(scroller, actions) {
		Object.assign(this, { scroller, actions });
		this.above = h("div");
		this.list = h("ul", { class: "tiles", "aria-label": T.allPhotos });
		put(scroller, this.above, this.list);
		scroller.addEventListener("scroll", () => (this.frame ??= requestAnimationFrame(() => this.#render())), { passive: true });
		this.list.onkeydown = (event) => this.#key(event);
		this.#watchMouse();
		const resized = new ResizeObserver(() => this.update());
		resized.observe(scroller);
		resized.observe(this.above);
	}

	/** Shows another source, from its top. */
	show(source) {
		this.#source = source;
		this.current = this.#anchor = 0;
		for (const key of this.#tiles.keys()) this.#drop(key);
		this.select([]);
		this.scroller.scrollTop = 0;
		this.update();
	}

	#drop(key) {
		const tile = this.#tiles.get(key);
		this.#tiles.delete(key);
		clearTimeout(tile.timer);
		this.#loader.remove(tile);
		tile.element.remove();
	}

	/** Computes all positions anew. What is at the top of the screen stays there. */
	update() {
		const width = this.list.clientWidth;
		if (!this.#source || !width) return;
		const { items, day, query } = this.#source;
		const { rows: before } = this.#layout;
		const row = this.#top > 0 && before[rowAt(before, "top", this.#top)];
		const below = this.#top - row?.top;
		this.below = query === undefined ? 0 : CAPTION;
		const target = Math.max(110, Math.min(220, width / 4.5));
		this.#layout = layOut(items, { width, target, below: this.below, day });
		this.list.style.height = `${this.#layout.height}px`;
		const { rows } = this.#layout;
		if (row && rows.length) this.#top = rows[rowAt(rows, "first", row.first)].top + below;
		this.#render();
	}

	/** How far the list is scrolled, in pixels. */
	get #top() {
		return this.scroller.scrollTop - this.list.offsetTop;
	}

	set #top(top) {
		this.scroller.scrollTop = top + this.list.offsetTop;
	}

	/** Puts into the page what is near the screen, and takes out the rest. */
	#render() {
		this.frame = undefined;
		const { rows } = this.#layout;
		const [top, view] = [this.#top, this.scroller.clientHeight];
		if (top !== this.lastTop) [this.lastTop, this.moved] = [top, performance.now()];
		this.middle = top + view / 2;
		const keep = new Set();
		const first = rowAt(rows, "top", top - view / 2);
		let number = first;
		for (; rows[number]?.top < top + 1.5 * view; number++) {
			const row = rows[number];
			if (row.day !== undefined) keep.add(this.#heading(row));
			for (const cell of cells(row, this.#source.items)) keep.add(this.#place(cell, row));
		}
		for (const key of this.#tiles.keys()) if (!keep.has(key)) this.#drop(key);
		if (number > first) this.#source.ensure(rows[first].first, rows[number - 1].first + rows[number - 1].count - 1);
	}

	#heading({ day, top }) {
		const key = `day ${day}`;
		if (!this.#tiles.has(key)) {
			const element = h("li", { class: "day" }, h("h2", {}, day ? T.day(day) : T.undated));
			this.#tiles.set(key, { element });
			this.list.append(element);
		}
		this.#tiles.get(key).element.style.transform = `translateY(${top}px)`;
		return key;
	}

	#place({ index, left, width }, { top, height }) {
		const item = this.#source.items[index];
		if (this.#tiles.has(index) && this.#tiles.get(index).key !== keyOf(item)) this.#drop(index);
		if (!this.#tiles.has(index)) this.#make(index, item);
		const tile = this.#tiles.get(index);
		if (tile.item !== item) tile.update(item);
		const place = [left, top, width, height].join();
		if (tile.place !== place) {
			Object.assign(tile, { place, top });
			const { style } = tile.element;
			style.transform = `translate(${left}px, ${top}px)`;
			[style.width, style.height] = [`${width}px`, `${height + this.below}px`];
			tile.frame.style.height = `${height}px`;
		}
		return index;
	}

	#make(index, item) {
		const frame = h("a", { class: "photo", draggable: false, tabIndex: index === this.current ? 0 : -1 });
		const place = { "aria-setsize": `${this.#source.items.length}`, "aria-posinset": `${index + 1}` };
		const element = h("li", { class: "tile", ...place }, frame);
		const tile = { index, element, frame, key: keyOf(item), distance: () => Math.abs(tile.top - this.middle) };
		this.#tiles.set(index, tile);
		this.list.append(element);
		if (!item) return;
		frame.href = this.actions.href(item);
		tile.image = h("img", { alt: "", decoding: "async" });
		put(frame, tile.image, icon("star"));
		tile.fail = (reason) => put(frame, h("span", { class: "reason" }, h("b", {}, item.name), " ", reason));
		tile.update = (now) => {
			tile.item = now;
			const starred = Boolean(now.tags?.includes(FAVOURITE));
			frame.ariaLabel = starred ? `${now.name}, ${T.favourite}` : now.name;
			frame.title = now.warning ? `${now.name}: ${T.warnings[now.warning] ?? now.warning}` : now.name;
			element.classList.toggle("starred", starred);
		};
		tile.update(item);
		if (this.actions.writable) {
			const check = (event) => this.#toggle(tile.index, event.shiftKey);
			element.append(button("check", T.select(item.name), check, { class: "check", tabIndex: -1, role: "checkbox" }));
			this.#mark(tile);
		}
		if (this.below) element.append(this.actions.caption(item));
		if (item.error) return tile.fail(item.error);
		const scrolls = performance.now() - this.moved < SETTLE_MS && this.lastTop > 0;
		tile.timer = setTimeout(() => this.#loader.add(tile), scrolls ? SETTLE_MS : 0);
	}

	/** Moves the focus to an item, and the screen with it. */
	focus(index) {
		const { rows } = this.#layout;
		if (!rows.length) return;
		this.current = Math.max(0, Math.min(index, this.#source.items.length - 1));
		const { top, height } = rows[rowAt(rows, "first", this.current)];
		const view = this.scroller.clientHeight;
		if (top < this.#top || top + height > this.#top + view) this.#top = top - (view - height) / 2;
		this.#render();
		for (const [key, { frame }] of this.#tiles) if (frame) frame.tabIndex = key === this.current ? 0 : -1;
		this.#tiles.get(this.current)?.frame.focus({ preventScroll: true });
	}

	#key(event) {
		const { key, ctrlKey, metaKey, shiftKey, target } = event;
		const at = this.#at(target)?.index;
		const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: Infinity };
		if (at === undefined || event.altKey) return;
		if (key === "a" && (ctrlKey || metaKey) && this.actions.writable) this.select(this.#source.items);
		else if (ctrlKey || metaKey) return;
		else if (key === " " && this.actions.writable) this.#toggle(at, shiftKey);
		else if (key in moves) this.focus(moves[key]);
		else if (key === "ArrowUp" || key === "ArrowDown") this.focus(this.#beside(at, key === "ArrowUp" ? -1 : 1));
		else return;
		event.preventDefault();
	}

	/** Returns the item above (-1) or below (1) another: the nearest one. */
	#beside(index, step) {
		const { rows } = this.#layout;
		const row = (number) => cells(rows[number], this.#source.items);
		let number = rowAt(rows, "first", index);
		const middle = ({ left, width }) => left + width / 2;
		const here = middle(row(number).find((cell) => cell.index === index));
		do number += step;
		while (rows[number]?.count === 0);
		if (!rows[number]) return index;
		const far = (cell) => Math.abs(middle(cell) - here);
		return row(number).reduce((best, cell) => (far(cell) < far(best) ? cell : best)).index;
	}

	#toggle(index, range) {
		const { items } = this.#source;
		const chosen = [...this.selected.values()];
		if (range) {
			const [first, last] = [Math.min(index, this.#anchor), Math.max(index, this.#anchor)];
			return this.select([...chosen, ...items.slice(first, last + 1)]);
		}
		this.#anchor = index;
		const { path } = items[index];
		this.select(this.selected.has(path) ? chosen.filter((item) => item.path !== path) : [...chosen, items[index]]);
	}

	/** Selects these items, those that are loaded, and no others. */
	select(items) {
		this.selected = new Map(items.filter(Boolean).map((item) => [item.path, item]));
		for (const tile of this.#tiles.values()) this.#mark(tile);
		this.scroller.classList.toggle("selecting", this.selected.size > 0);
		this.actions.selected();
	}

	#mark({ element, item }) {
		const chosen = this.selected.has(item?.path);
		element.classList.toggle("selected", chosen);
		element.querySelector(".check")?.setAttribute("aria-checked", chosen);
	}

	#at(target) {
		return [...this.#tiles.values()].find((tile) => tile.item && tile.element.contains(target));
	}

	/** A click opens, or selects once something is selected; dragging selects what a box touches. */
	#watchMouse() {
		let box, boxed;
		const point = ({ clientX, clientY }) => {
			const { left, top } = this.list.getBoundingClientRect();
			return [clientX - left, clientY - top];
		};
		this.list.onclick = (event) => {
			const tile = this.#at(event.target);
			if (!tile || event.target.closest(".check")) return;
			this.current = tile.index;
			const selects = this.actions.writable && (event.ctrlKey || event.metaKey || event.shiftKey || this.selected.size);
			if (!selects && !boxed) return;
			event.preventDefault();
			if (!boxed) this.#toggle(tile.index, event.shiftKey);
		};
		this.list.onpointerdown = (event) => {
			boxed = false;
			if (event.pointerType !== "mouse" || event.button || !this.actions.writable) return;
			box = { from: point(event), chosen: event.ctrlKey ? [...this.selected.values()] : [] };
		};
		addEventListener("pointermove", (event) => {
			if (!box) return;
			const to = point(event);
			boxed ||= Math.hypot(to[0] - box.from[0], to[1] - box.from[1]) > DRAG;
			if (!boxed) return;
			box.element ??= this.list.appendChild(h("li", { class: "box" }));
			const [left, right] = [Math.min(to[0], box.from[0]), Math.max(to[0], box.from[0])];
			const [top, bottom] = [Math.min(to[1], box.from[1]), Math.max(to[1], box.from[1])];
			Object.assign(box.element.style, {
				transform: `translate(${left}px, ${top}px)`,
				width: `${right - left}px`,
				height: `${bottom - top}px`,
			});
			this.select([...box.chosen, ...this.#within(left, top, right, bottom)]);
		});
		addEventListener("pointerup", () => {
			box?.element?.remove();
			box = undefined;
		});
	}

	#within(left, top, right, bottom) {
		const { rows } = this.#layout;
		const found = [];
		for (let number = rowAt(rows, "top", top); rows[number]?.top < bottom; number++) {
			if (rows[number].top + rows[number].height < top) continue;
			const touched = (cell) => cell.left < right && cell.left + cell.width > left;
			found.push(...cells(rows[number], this.#source.items).filter(touched));
		}
		return found.map(({ index }) => this.#source.items[index]);
	}
}

/** A tile is made anew only if its image is another one. */
const keyOf = (item) => item && [item.path, item.rev, item.error].join("\n");
