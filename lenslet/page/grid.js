// The grid: of all items only those near the screen are in the page.

import { pause, thumbUrl, whyNot } from "./api.js";
import { button, h, icon, put } from "./dom.js";
import { cells, layOut, rowAt, rowOf } from "./layout.js";
import { T } from "./strings.js";

const AT_ONCE = 4; // a browser opens six connections to a host; two stay free for JSON
const SETTLE_MS = 60; // a tile that is scrolled past sooner asks for nothing
const AGAIN_MS = 2000;
const CAPTION_HEIGHT = 40;
const FAVOURITE = "favourite";

/** Loads thumbnails: a few at a time, those on the screen first, and none that has left. */
class Loader {
  #waiting = new Set();
  #active = new Set();

  add(tile) {
    this.#waiting.add(tile);
    this.next();
  }

  remove(tile) {
    this.#waiting.delete(tile);
    if (this.#active.delete(tile)) tile.image.removeAttribute("src");
    this.next();
  }

  next() {
    while (this.#active.size < AT_ONCE && this.#waiting.size) {
      let best;
      for (const tile of this.#waiting) if (!best || tile.distance() < best.distance()) best = tile;
      this.#waiting.delete(best);
      this.#active.add(best);
      this.#load(best);
    }
  }

  async #load(tile) {
    const { image } = tile;
    const loaded = await new Promise((done) => {
      image.onload = () => done(true);
      image.onerror = () => done(false);
      image.src = thumbUrl(tile.item);
    });
    if (!this.#active.delete(tile)) return;
    this.next();
    if (loaded) return tile.element.classList.add("shown");
    image.removeAttribute("src");
    const why = await whyNot(thumbUrl(tile.item));
    if ([404, 409, 422, 403].includes(why.status)) return tile.fail(why.message);
    tile.element.classList.add("waits");
    await pause(AGAIN_MS);
    if (tile.element.isConnected) this.add(tile);
  }
}

export class Grid {
  #source = null;
  #layout = { rows: [], height: 0 };
  #tiles = new Map(); // by item index
  #heads = new Map(); // by row number
  #loader = new Loader();
  #current = 0; // the item that has the focus, or would
  #anchor = 0; // where a range selection begins

  /** `actions`: open(item), select(), folders() which returns what stands above the rows. */
  constructor(scroller, actions) {
    this.scroller = scroller;
    this.actions = actions;
    this.selected = new Map(); // path → item
    this.above = h("div", { class: "above" });
    this.list = h("ul", { class: "tiles", "aria-label": T.allPhotos });
    put(scroller, this.above, this.list);
    scroller.addEventListener("scroll", () => this.#soon(), { passive: true });
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.#watchPointer();
    new ResizeObserver(() => this.relayout()).observe(scroller);
    new ResizeObserver(() => this.#soon()).observe(this.above);
  }

  get source() {
    return this.#source;
  }

  /** Shows another source, from its top. */
  show(source) {
    this.#source = source;
    this.#current = this.#anchor = 0;
    this.#clear();
    this.select([], false);
    this.scroller.scrollTop = 0;
    this.relayout();
  }

  #clear() {
    for (const tile of this.#tiles.values()) this.#drop(tile);
    this.#tiles.clear();
    for (const head of this.#heads.values()) head.remove();
    this.#heads.clear();
  }

  #drop(tile) {
    clearTimeout(tile.timer);
    this.#loader.remove(tile);
    tile.element.remove();
  }

  /** Computes all positions again. What is at the top of the screen stays there. */
  relayout() {
    const width = this.list.clientWidth;
    if (!this.#source || !width) return;
    const { items, day, kind } = this.#source;
    const start = this.list.offsetTop;
    const row = this.#layout.rows[rowAt(this.#layout.rows, this.scroller.scrollTop - start)];
    const offset = row && this.scroller.scrollTop - start > 0 ? this.scroller.scrollTop - row.top : null;
    const target = Math.max(110, Math.min(220, width / 4.5));
    this.captions = kind === "search";
    this.#layout = layOut(items, { width, target, below: this.captions ? CAPTION_HEIGHT : 0, day });
    this.list.style.height = `${this.#layout.height}px`;
    if (offset !== null && this.#layout.rows.length) {
      this.scroller.scrollTop = this.#layout.rows[rowOf(this.#layout.rows, row.first)].top + offset;
    }
    this.render();
  }

  #soon() {
    this.frame ??= requestAnimationFrame(() => this.render());
  }

  /** Puts into the page what is near the screen, and takes out the rest. */
  render() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    if (!this.#source) return;
    const { rows } = this.#layout;
    const { items } = this.#source;
    const view = this.scroller.clientHeight;
    const top = this.scroller.scrollTop - this.list.offsetTop;
    this.middle = top + view / 2;
    const [from, until] = [top - view / 2, top + view * 1.5];
    const keep = new Set();
    const heads = new Set();
    const first = rows.length ? rowAt(rows, from) : 0;
    let number = first;
    for (; number < rows.length && rows[number].top < until; number++) {
      const row = rows[number];
      if (row.day !== undefined) {
        heads.add(number);
        this.#head(number, row);
      }
      for (const cell of cells(row, items)) {
        keep.add(cell.index);
        this.#place(cell, row);
      }
    }
    for (const [index, tile] of this.#tiles) {
      if (keep.has(index)) continue;
      this.#drop(tile);
      this.#tiles.delete(index);
    }
    for (const [each, head] of this.#heads) {
      if (heads.has(each)) continue;
      head.remove();
      this.#heads.delete(each);
    }
    if (number > first) {
      const last = rows[number - 1];
      this.#source.ensure(rows[first].first, last.first + last.count - 1);
    }
  }

  #head(number, row) {
    let head = this.#heads.get(number);
    if (head?.day !== row.day) {
      head?.remove();
      const text = row.day ? dayText(row.day) : T.undated;
      head = h("li", { class: "day", role: "presentation" }, h("h2", {}, text));
      head.day = row.day;
      this.#heads.set(number, head);
      this.list.append(head);
    }
    head.style.transform = `translateY(${row.top}px)`;
  }

  #place({ index, left, width }, row) {
    const item = this.#source.items[index];
    let tile = this.#tiles.get(index);
    if (tile && tile.item !== item) {
      if (tile.key === keyOf(item)) tile.update(item);
      else {
        this.#drop(tile);
        tile = null;
      }
    }
    if (!tile) {
      tile = this.#make(index, item);
      this.#tiles.set(index, tile);
      this.list.append(tile.element);
    }
    const place = `${left},${row.top},${width},${row.height}`;
    if (tile.place !== place) {
      const { style } = tile.element;
      style.transform = `translate(${left}px, ${row.top}px)`;
      style.width = `${width}px`;
      style.height = `${row.height + (this.captions ? CAPTION_HEIGHT : 0)}px`;
      tile.frame.style.height = `${row.height}px`;
      Object.assign(tile, { place, top: row.top });
    }
  }

  #make(index, item) {
    const frame = h("a", { class: "photo", draggable: false, tabIndex: index === this.#current ? 0 : -1 });
    const element = h("li", { class: "tile", "aria-setsize": this.#source.items.length, "aria-posinset": index + 1 }, frame);
    const tile = { element, frame, item, key: keyOf(item), distance: () => Math.abs(tile.top - this.middle) };
    if (!item) return tile;
    frame.href = this.actions.href(item);
    tile.image = h("img", { alt: "", decoding: "async", draggable: false });
    tile.fail = (reason) => {
      element.classList.add("failed");
      put(frame, h("span", { class: "reason" }, h("b", {}, item.name), ` ${reason}`));
    };
    tile.update = (now) => {
      tile.item = item = now;
      const starred = now.tags?.includes(FAVOURITE);
      frame.setAttribute("aria-label", `${now.name}${starred ? `, ${T.favourite}` : ""}`);
      frame.title = now.warning ? `${now.name}: ${T.warnings[now.warning] ?? now.warning}` : now.name;
      element.classList.toggle("starred", Boolean(starred));
    };
    tile.update(item);
    put(frame, tile.image, icon("star"));
    if (this.actions.writable) element.append(this.#check(tile));
    if (this.captions) element.append(this.actions.caption(item));
    element.classList.toggle("selected", this.selected.has(item.path));
    if (item.error) tile.fail(item.error);
    else tile.timer = setTimeout(() => this.#loader.add(tile), this.#isScrolling() ? SETTLE_MS : 0);
    tile.index = index;
    return tile;
  }

  #check(tile) {
    return button("check", T.select(tile.item.name), (event) => this.#toggle(tile.item, event.shiftKey), {
      class: "check",
      tabIndex: -1,
      role: "checkbox",
      "aria-checked": String(this.selected.has(tile.item.path)),
    });
  }

  #isScrolling() {
    const [now, top] = [performance.now(), this.scroller.scrollTop];
    if (top !== this.lastTop) [this.lastTop, this.lastMoved] = [top, now];
    return now - (this.lastMoved ?? 0) < SETTLE_MS && now > 1000;
  }

  // Focus

  /** Moves the focus to an item, and the screen with it. */
  focus(index, options) {
    if (!this.#source.items.length) return;
    this.#current = Math.max(0, Math.min(index, this.#source.items.length - 1));
    const row = this.#layout.rows[rowOf(this.#layout.rows, this.#current)];
    if (!row) return;
    const [top, view] = [row.top + this.list.offsetTop, this.scroller.clientHeight];
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top - 8;
    else if (top + row.height > this.scroller.scrollTop + view) this.scroller.scrollTop = top + row.height - view + 8;
    this.render();
    for (const [each, tile] of this.#tiles) tile.frame.tabIndex = each === this.#current ? 0 : -1;
    this.#tiles.get(this.#current)?.frame.focus({ preventScroll: true, ...options });
  }

  get current() {
    return this.#current;
  }

  #key(event) {
    const at = [...this.#tiles].find(([, tile]) => tile.element.contains(event.target))?.[0];
    if (at === undefined || event.altKey) return;
    if (event.key === "a" && (event.ctrlKey || event.metaKey) && this.actions.writable) {
      this.select(this.#source.items.filter(Boolean));
    } else if (event.ctrlKey || event.metaKey) return;
    else if (event.key === " " && this.actions.writable) {
      this.#toggle(this.#source.items[at], event.shiftKey);
    } else if (MOVES[event.key]) this.focus(MOVES[event.key].call(this, at));
    else return;
    event.preventDefault();
  }

  /** The item above or below another: the one whose middle is nearest. */
  beside(index, step) {
    const { rows } = this.#layout;
    const { items } = this.#source;
    let number = rowOf(rows, index);
    const place = cells(rows[number], items).find((cell) => cell.index === index);
    const middle = place.left + place.width / 2;
    do number += step;
    while (rows[number] && !rows[number].count);
    if (!rows[number]) return index;
    const far = (cell) => Math.abs(cell.left + cell.width / 2 - middle);
    return cells(rows[number], items).reduce((best, cell) => (far(cell) < far(best) ? cell : best)).index;
  }

  // Selection

  #toggle(item, range) {
    const index = this.#source.items.indexOf(item);
    if (range) {
      const [first, last] = [Math.min(index, this.#anchor), Math.max(index, this.#anchor)];
      this.select([...this.selected.values(), ...this.#source.items.slice(first, last + 1).filter(Boolean)]);
    } else {
      this.#anchor = index;
      const rest = [...this.selected.values()].filter((each) => each.path !== item.path);
      this.select(this.selected.has(item.path) ? rest : [...rest, item]);
    }
  }

  /** Draws an item again after its tags have changed. */
  refreshTile(path) {
    for (const tile of this.#tiles.values()) if (tile.item?.path === path) tile.update(tile.item);
  }

  select(items, tell = true) {
    this.selected = new Map(items.map((item) => [item.path, item]));
    for (const { element, item } of this.#tiles.values()) {
      const chosen = this.selected.has(item?.path);
      element.classList.toggle("selected", chosen);
      element.querySelector(".check")?.setAttribute("aria-checked", chosen);
    }
    this.scroller.classList.toggle("selecting", this.selected.size > 0);
    if (tell) this.actions.selected();
  }

  /** Clicks open or select; a drag with the mouse selects what a box touches. */
  #watchPointer() {
    let box = null;
    let pressed;
    let handled = -Infinity; // when a gesture ended whose click means nothing
    this.list.addEventListener("click", (event) => {
      if (event.timeStamp - handled < 100) return event.preventDefault();
      const tile = this.#tileAt(event.target);
      if (!tile?.item || event.target.closest(".check")) return;
      this.#current = tile.index;
      if (!event.target.closest("a") || !this.actions.writable) return;
      const adds = event.ctrlKey || event.metaKey;
      if (!adds && !event.shiftKey && !this.selected.size) return;
      event.preventDefault();
      this.#toggle(tile.item, event.shiftKey);
    });
    this.list.addEventListener("pointerdown", (event) => {
      clearTimeout(pressed);
      if (!this.actions.writable || event.button) return;
      if (event.pointerType !== "mouse") {
        const tile = this.#tileAt(event.target);
        pressed = setTimeout(() => {
          if (!tile?.item) return;
          handled = Infinity;
          this.#toggle(tile.item, false);
        }, 500);
        return;
      }
      box = { ...this.#point(event), adds: event.ctrlKey || event.shiftKey ? [...this.selected.values()] : [] };
    });
    addEventListener("pointermove", (event) => {
      clearTimeout(pressed);
      if (!box) return;
      const now = this.#point(event);
      if (!box.element && Math.hypot(now.x - box.x, now.y - box.y) < 8) return;
      box.element ??= this.list.appendChild(h("li", { class: "box", role: "presentation" }));
      const [left, top] = [Math.min(now.x, box.x), Math.min(now.y, box.y)];
      const [right, bottom] = [Math.max(now.x, box.x), Math.max(now.y, box.y)];
      const { style } = box.element;
      style.transform = `translate(${left}px, ${top}px)`;
      [style.width, style.height] = [`${right - left}px`, `${bottom - top}px`];
      this.select([...box.adds, ...this.#within(left, top, right, bottom)]);
    });
    const end = (event) => {
      clearTimeout(pressed);
      if (handled === Infinity) handled = event.timeStamp;
      if (box?.element) {
        box.element.remove();
        handled = event.timeStamp;
      }
      box = null;
    };
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
    this.list.addEventListener("dragstart", (event) => event.preventDefault());
    this.list.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  }

  #tileAt(target) {
    return [...this.#tiles.values()].find((tile) => tile.element.contains(target));
  }

  #point(event) {
    const area = this.list.getBoundingClientRect();
    return { x: event.clientX - area.left, y: event.clientY - area.top };
  }

  #within(left, top, right, bottom) {
    const { rows } = this.#layout;
    const { items } = this.#source;
    const found = [];
    for (let number = rowAt(rows, top); number < rows.length && rows[number].top < bottom; number++) {
      const row = rows[number];
      if (row.top + row.height < top) continue;
      for (const cell of cells(row, items)) {
        if (cell.left < right && cell.left + cell.width > left && items[cell.index]) found.push(items[cell.index]);
      }
    }
    return found;
  }
}

const MOVES = {
  ArrowLeft: (at) => at - 1,
  ArrowRight: (at) => at + 1,
  ArrowUp(at) {
    return this.beside(at, -1);
  },
  ArrowDown(at) {
    return this.beside(at, 1);
  },
  PageUp(at) {
    return this.beside(this.beside(at, -1), -1);
  },
  PageDown(at) {
    return this.beside(this.beside(at, 1), 1);
  },
  Home: () => 0,
  End: () => Infinity,
};

/** A tile is made anew only if its image is another one. */
const keyOf = (item) => item && `${item.path}\n${item.rev}\n${item.error ?? ""}`;

const dayText = (date) =>
  new Date(`${date}T12:00:00`).toLocaleDateString(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });
