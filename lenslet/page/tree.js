// The folders: a tree that loads what is opened, and the tiles above the grid.

import { read, thumbUrl } from "./api.js";
import { h, icon, put } from "./dom.js";
import { T } from "./strings.js";

export const hrefOf = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;
export const folderHref = (path) => (path ? `${hrefOf(path)}/` : "#/");
const child = (path, name) => (path ? `${path}/${name}` : name);

/** A folder's name, with a mark if it is a pointer. */
const nameOf = ({ name, label, kind }) => [
	label || name,
	kind === "leaf-pointer" ? h("span", { class: "mark", title: T.pointer, role: "img", "aria-label": T.pointer }, icon("pointer")) : null,
];

export class Tree {
	#known = new Map(); // path → its subfolders
	#open = new Set([""]);

	constructor() {
		this.element = h("nav", { class: "tree", "aria-label": T.menu });
	}

	/** Learns a folder's subfolders. */
	learn(path, dirs) {
		this.#known.set(path, dirs);
		this.#draw();
	}

	/** Opens the tree down to a folder, and marks it. */
	async show(path) {
		this.here = path;
		const parts = path.split("/");
		const way = ["", ...parts.map((_, index) => parts.slice(0, index + 1).join("/"))].slice(0, path ? -1 : 1);
		for (const each of way) this.#open.add(each);
		this.#draw();
		for (const each of way) if (each !== path) await this.#load(each);
	}

	async #load(path) {
		if (this.#known.has(path)) return;
		const dirs = read("folders", { path }).then(({ data }) => data.dirs);
		this.learn(path, await dirs.catch(() => []));
	}

	#draw() {
		const focused = document.activeElement.dataset.key;
		put(this.element, h("ul", {}, this.#node("", { name: T.allPhotos })));
		if (focused) this.element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
	}

	#node(path, dir) {
		const [dirs, open] = [this.#known.get(path), this.#open.has(path)];
		const toggle = () => {
			if (!this.#open.delete(path)) this.#open.add(path);
			this.#draw();
			this.#load(path);
		};
		const twist = { type: "button", class: "twist", "aria-expanded": `${open}`, "aria-label": T.expand(dir.name), "data-key": `+${path}` };
		const current = path === this.here ? { "aria-current": "page" } : {};
		return h(
			"li",
			{},
			dirs && !dirs.length ? h("span", { class: "twist" }) : h("button", { ...twist, onclick: toggle }, icon("right")),
			h("a", { href: folderHref(path), "data-key": path, ...current }, nameOf(dir)),
			open && dirs?.length ? h("ul", {}, dirs.map((each) => this.#node(child(path, each.name), each))) : null,
		);
	}
}

/** Tiles with cover and name of each subfolder. */
export function folderTiles(path, dirs) {
	const tile = (dir) => {
		const image = dir.cover ? h("img", { alt: "", loading: "lazy", src: thumbUrl({ path: dir.cover, rev: dir.coverRev }) }) : icon("folder");
		image.onerror = () => image.replaceWith(icon("folder"));
		return h("li", {}, h("a", { href: folderHref(child(path, dir.name)) }, h("span", { class: "cover" }, image), h("span", { class: "name" }, nameOf(dir))));
	};
	return dirs.length ? h("ul", { class: "folders", "aria-label": T.menu }, dirs.map(tile)) : null;
}
