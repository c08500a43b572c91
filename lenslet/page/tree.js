// The folders: a tree that loads what is opened, and the tiles above a grid.

import { read, url } from "./api.js";
import { h, icon, put } from "./dom.js";
import { T } from "./strings.js";

export const hrefOf = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;
export const folderHref = (path) => (path ? `${hrefOf(path)}/` : "#/");
const child = (path, name) => (path ? `${path}/${name}` : name);

export class Tree {
  #known = new Map(); // path → its subfolders
  #open = new Set([""]);
  #here = "";

  constructor() {
    this.element = h("nav", { class: "tree", "aria-label": T.menu });
  }

  /** Learns a folder's subfolders from its manifest. */
  learn(path, dirs) {
    if (JSON.stringify(this.#known.get(path)) === JSON.stringify(dirs)) return;
    this.#known.set(path, dirs);
    this.#draw();
  }

  /** Opens the tree down to a folder, and marks it. */
  async show(path) {
    this.#here = path;
    const parts = path ? path.split("/") : [];
    const way = ["", ...parts.map((_, index) => parts.slice(0, index + 1).join("/"))].slice(0, -1);
    for (const each of way) this.#open.add(each);
    this.#draw();
    await Promise.all(way.map((each) => this.#load(each)));
  }

  async #load(path) {
    if (this.#known.has(path)) return;
    try {
      this.learn(path, (await read("folders", { path })).data.dirs ?? []);
    } catch {
      this.learn(path, []);
    }
  }

  #draw() {
    const focused = document.activeElement?.dataset?.key;
    put(this.element, h("ul", {}, this.#node("", { name: T.allPhotos, kind: "branch" })));
    if (focused) this.element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #node(path, dir) {
    const dirs = this.#known.get(path);
    const open = this.#open.has(path);
    const toggle = async () => {
      if (open) this.#open.delete(path);
      else this.#open.add(path);
      this.#draw();
      await this.#load(path);
    };
    const leaf = dirs ? !dirs.length : dir.kind === "leaf-pointer";
    const name = dir.label || dir.name;
    return h(
      "li",
      {},
      h(
        "div",
        { class: path === this.#here ? "here" : "" },
        leaf
          ? h("span", { class: "twist" })
          : h("button", { type: "button", class: "twist", "aria-expanded": String(open), "aria-label": T.expand(name), onclick: toggle, "data-key": `t/${path}` }, icon("right")),
        h("a", { href: folderHref(path), "aria-current": path === this.#here ? "page" : null, "data-key": `a/${path}` }, name, pointerMark(dir)),
      ),
      open && dirs?.length ? h("ul", {}, dirs.map((each) => this.#node(child(path, each.name), each))) : null,
    );
  }
}

const pointerMark = (dir) =>
  dir.kind === "leaf-pointer" ? h("span", { class: "pointer-mark", title: T.pointer, role: "img", "aria-label": T.pointer }, icon("pointer")) : null;

/** A tile with the cover and the name of each subfolder. */
export function folderTiles(path, dirs) {
  if (!dirs.length) return null;
  const tile = (dir) => {
    const cover = dir.cover ? h("img", { alt: "", loading: "lazy", decoding: "async", src: url("thumb", { path: dir.cover, v: dir.coverRev }) }) : null;
    if (cover) cover.onerror = () => cover.replaceWith(icon("folder"));
    return h("li", {}, h("a", { href: folderHref(child(path, dir.name)) }, h("span", { class: "cover" }, cover ?? icon("folder")), h("span", { class: "name" }, dir.label || dir.name, pointerMark(dir))));
  };
  return h("ul", { class: "folders", "aria-label": T.menu }, dirs.map(tile));
}
