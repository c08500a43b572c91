// One photo, large: its thumbnail at once, then the preview, and the file itself when zoomed in.

import { fileUrl, pause, previewUrl, thumbUrl, whyNot } from "./api.js";
import { Details } from "./details.js";
import { button, h, icon, isTyping, put, toast } from "./dom.js";
import { FAVOURITE } from "./grid.js";
import { T } from "./strings.js";

const PREVIEW_EDGE = 1600;
const [SLIDE_MS, AGAIN_MS] = [5000, 1000];
const [STEP, MOST_ZOOM, SWIPE] = [1.6, 8, 50];
const PASSING = [0, 200, 202, 502, 503, 504]; // an image that was not sent may come later
const wide = matchMedia("(min-width: 60rem)");

export class Viewer {
	#zoom = 1;
	#ahead; // images of the neighbours, kept so that the browser loads them

	/** `actions`: `writable`, go(item), close(), saved(edit). */
	constructor(actions) {
		this.actions = actions;
		this.title = h("span", { class: "title" });
		this.position = h("span", { class: "position" });
		this.stage = h("div", { class: "stage" });
		this.area = h("div", { class: "area", tabIndex: -1 }, this.stage);
		this.details = new Details(actions.writable, (edit) => this.#saved(edit));
		this.star = button("star", T.favourite, () => this.#toggleStar());
		this.info = button("info", T.details, () => this.#showDetails(this.details.element.hidden));
		this.playing = button("play", T.play, () => this.#play(!this.timer));
		this.download = h("a", { class: "icon-button", title: T.download, "aria-label": T.download }, icon("download"));
		this.previous = button("left", T.previous, () => this.step(-1), { class: "icon-button side left" });
		this.next = button("right", T.next, () => this.step(1), { class: "icon-button side right" });
		this.element = h(
			"dialog",
			{ class: "viewer", "aria-label": T.viewer, onclose: () => this.#closed(), onkeydown: (event) => this.#key(event) },
			h(
				"header",
				{},
				button("close", T.close, () => this.element.close()),
				this.title,
				this.position,
				this.star,
				button("minus", T.zoomOut, () => this.#zoomTo(this.#zoom / STEP)),
				button("plus", T.zoomIn, () => this.#zoomTo(this.#zoom * STEP)),
				this.playing,
				button("full", T.fullScreen, () => this.#fullScreen()),
				this.download,
				button("link", T.copyLink, () => this.#copyLink()),
				this.info,
			),
			h("div", { class: "body" }, h("div", { class: "frame" }, this.area, this.previous, this.next), this.details.element),
			h("div", { class: "toast", role: "status" }),
		);
		this.#watchPointer();
		this.#showDetails(wide.matches && localStorage.details !== "no");
		document.body.append(this.element);
	}

	/** Shows an item; `index` is -1 while its place in the source is not known. */
	show(item, index, source) {
		const known = this.item?.path === item.path && this.item.rev === item.rev;
		Object.assign(this, { item, index, source });
		if (!this.element.open) {
			this.element.showModal();
			this.area.focus();
		}
		if (!known) {
			this.star.hidden = true;
			this.download.href = fileUrl(item);
			this.download.download = item.name;
			put(this.title, item.name);
			this.details.show(item);
			this.#load(item);
		}
		const count = source.total ?? source.items.length;
		put(this.position, index >= 0 ? T.position(index + 1, count) : "");
		this.previous.disabled = index <= 0;
		this.next.disabled = index < 0 || index >= count - 1;
		const near = [index + 1, index - 1].map((each) => index >= 0 && source.items[each]).filter((each) => each && !each.error);
		this.#ahead = near.map((each) => h("img", { src: previewUrl(each) }));
	}

	async #load(item) {
		const thumb = h("img", { alt: "", src: thumbUrl(item) });
		const photo = h("img", { class: "large", alt: item.name, draggable: false });
		Object.assign(this, { photo, loaded: false });
		put(this.stage, item.error ? null : thumb, photo);
		this.#fit(item);
		this.#zoomTo(1);
		for (let tries = 0; ; tries++) {
			// Where no previews can be made, the file will do.
			const address = tries % 2 ? fileUrl(item) : previewUrl(item);
			const shown = await new Promise((done) => {
				photo.onload = () => done(true);
				photo.onerror = () => done(false);
				photo.src = address;
			});
			if (this.photo !== photo) return;
			if (shown) break;
			const why = await whyNot(address);
			if (this.photo !== photo) return;
			if (!PASSING.includes(why.status)) return put(this.stage, h("p", { class: "reason" }, h("b", {}, T.notShown), " ", why.message));
			await pause(AGAIN_MS);
		}
		this.#fit(item);
		photo.classList.add("shown");
		thumb.remove();
		this.loaded = true;
		this.#sharpen();
	}

	/** Gives the stage the shape of the photo, and at most its size. */
	#fit({ w, h }) {
		const { style } = this.stage;
		const [width, height] = w ? [w, h] : [this.photo.naturalWidth || 1, this.photo.naturalHeight || 1];
		style.setProperty("--shape", width / height);
		style.setProperty("--most", `${Math.max(width, 256)}px`);
	}

	step(by) {
		const index = this.index + by;
		if (this.index < 0) return;
		this.source.ensure(index, index + 1);
		if (this.source.items[index]) this.actions.go(this.source.items[index]);
	}

	#saved(edit) {
		if (edit.path === this.item?.path) {
			this.star.hidden = !edit.writable;
			this.star.setAttribute("aria-pressed", edit.tags.includes(FAVOURITE));
		}
		this.actions.saved(edit);
	}

	#toggleStar() {
		const { edit } = this.details;
		if (!edit?.writable) return;
		const others = edit.tags.filter((tag) => tag !== FAVOURITE);
		edit.tags = others.length < edit.tags.length ? others : [...others, FAVOURITE];
		edit.save();
	}

	#showDetails(shown) {
		this.details.element.hidden = !shown;
		this.info.setAttribute("aria-pressed", shown);
		if (wide.matches) localStorage.details = shown ? "yes" : "no";
	}

	#play(on) {
		clearInterval(this.timer);
		this.timer = on && setInterval(() => this.#slide(), SLIDE_MS);
		put(this.playing, icon(on ? "pause" : "play"));
		this.playing.title = this.playing.ariaLabel = on ? T.pause : T.play;
	}

	#slide() {
		if (this.next.disabled) this.#play(false);
		else if (this.loaded || this.item.error) this.step(1);
	}

	#fullScreen() {
		if (document.fullscreenElement) document.exitFullscreen();
		else this.element.requestFullscreen();
	}

	async #copyLink() {
		try {
			await navigator.clipboard.writeText(location.href);
			toast(T.copied);
		} catch {
			toast(T.notCopied, "problem");
		}
	}

	#closed() {
		this.#play(false);
		if (document.fullscreenElement) document.exitFullscreen();
		this.item = this.photo = this.#ahead = undefined;
		put(this.stage);
		this.details.clear();
		this.actions.close();
	}

	#key(event) {
		const { key, ctrlKey, metaKey, altKey, target } = event;
		if (isTyping(event)) {
			if (key !== "Escape") return;
			target.blur();
			return event.preventDefault();
		}
		if (ctrlKey || metaKey || altKey) return;
		const turn = (by) => (this.#zoom > 1 ? this.area.scrollBy(by * 80, 0) : this.step(by));
		const keys = {
			ArrowLeft: () => turn(-1),
			ArrowRight: () => turn(1),
			ArrowUp: () => this.area.scrollBy(0, -80),
			ArrowDown: () => this.area.scrollBy(0, 80),
			"+": () => this.#zoomTo(this.#zoom * STEP),
			"-": () => this.#zoomTo(this.#zoom / STEP),
			0: () => this.#zoomTo(1),
			f: () => this.#toggleStar(),
			i: () => this.info.click(),
			p: () => this.playing.click(),
			s: () => this.#fullScreen(),
			d: () => this.download.click(),
			c: () => this.#copyLink(),
		};
		if (!keys[key]) return;
		event.preventDefault();
		keys[key]();
	}

	/** Zooms so that a point of the screen stays where it is, the middle unless one is given. */
	#zoomTo(zoom, event) {
		const { area, stage } = this;
		const { left, top, width, height } = area.getBoundingClientRect();
		const [x, y] = event ? [event.clientX - left, event.clientY - top] : [width / 2, height / 2];
		const before = stage.getBoundingClientRect();
		const [atX, atY] = [(x + left - before.left) / before.width, (y + top - before.top) / before.height];
		this.#zoom = Math.min(Math.max(zoom, 1), MOST_ZOOM);
		stage.style.setProperty("--zoom", this.#zoom);
		area.classList.toggle("zoomed", this.#zoom > 1);
		const after = stage.getBoundingClientRect();
		area.scrollBy(after.left + atX * after.width - left - x, after.top + atY * after.height - top - y);
		this.#sharpen();
	}

	/** Shows the file itself once the preview is not enough. On a phone the browser zooms. */
	#sharpen() {
		const { item, photo } = this;
		const zoomed = this.#zoom > 1 || visualViewport.scale > 1.2;
		if (!this.loaded || !zoomed || this.full === photo || Math.max(item.w, item.h) <= PREVIEW_EDGE) return;
		this.full = photo;
		const file = h("img", { src: fileUrl(item) });
		file.decode().then(() => (photo.src = file.src), () => {});
	}

	#watchPointer() {
		const { area } = this;
		let from;
		area.addEventListener("wheel", (event) => event.preventDefault(this.#zoomTo(this.#zoom * 1.0015 ** -event.deltaY, event)), { passive: false });
		area.ondblclick = (event) => this.#zoomTo(this.#zoom > 1 ? 1 : STEP ** 2, event);
		visualViewport.addEventListener("resize", () => this.#sharpen());
		area.onpointerdown = (event) => {
			from = event.isPrimary && visualViewport.scale === 1 ? { x: event.clientX, y: event.clientY } : undefined;
			if (from && event.pointerType === "mouse") area.setPointerCapture(event.pointerId);
		};
		area.onpointermove = (event) => {
			if (from && event.pointerType === "mouse") area.scrollBy(-event.movementX, -event.movementY);
		};
		area.onpointerup = (event) => {
			if (!from || event.pointerType === "mouse" || this.#zoom > 1) return;
			const [x, y] = [event.clientX - from.x, event.clientY - from.y];
			if (Math.abs(x) > SWIPE && Math.abs(x) > Math.abs(y)) this.step(x < 0 ? 1 : -1);
		};
	}
}
