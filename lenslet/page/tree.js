// The folders: a tree that loads what is opened, and the tiles above the grid.

import { read, thumbUrl } from "./api.js";
import { h, icon, put } from "./dom.js";
import { T } from "./strings.js";

export const hrefOf = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;
export const folderHref = (path) => (path ? `${hrefOf(path)}/` : "#/");
export const ancestors = (path) => path.split("/").map((_, index, parts) => parts.slice(0, index + 1).join("/"));
const child = (path, { name }) => (path ? `${path}/${name}` : name);

// A folder's name, with a mark if it is a pointer.
const nameOf = ({ name, label, kind }) => [
	label || name,
	kind === "leaf-pointer" ? h("span.mark", { title: T.pointer, role: "img" }, icon("pointer")) : "",
];

const known = new Map(); // path → its subfolders
const open = new Set([""]);
export const tree = h("nav.tree", { "aria-label": T.menu });
let here;

export function learn(path, dirs) {
	known.set(path, dirs);
	draw();
}

// Marks a folder, and opens the tree down to it.
export function show(path) {
	here = path;
	for (const each of ["", ...ancestors(path)]) {
		open.add(each);
		if (each !== path) load(each);
	}
	draw();
}

async function load(path) {
	if (known.has(path)) return;
	// A second visit asks for nothing; who opens the folder sees it as it is.
	const { data } = await read("folders", { path }, { cache: "force-cache" }).catch(() => ({ data: { dirs: [] } }));
	learn(path, data.dirs);
}

function draw() {
	const { key } = document.activeElement.dataset;
	put(tree, h("ul", node("", { name: T.photos })));
	if (key) tree.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function node(path, dir) {
	const [dirs, opened] = [known.get(path), open.has(path)];
	const onclick = () => {
		if (!open.delete(path)) open.add(path);
		draw();
		load(path);
	};
	const twist = { onclick, "aria-expanded": `${opened}`, title: T.expand(dir.name), "data-key": `+${path}` };
	return h(
		"li",
		dirs?.length === 0 ? h("span.twist") : h("button.twist", twist, icon("right")),
		h("a", { href: folderHref(path), "data-key": path, ...(path === here && { "aria-current": "page" }) }, nameOf(dir)),
		opened && dirs?.length ? h("ul", dirs.map((each) => node(child(path, each), each))) : "",
	);
}

export function folderTiles(path, dirs) {
	const tile = (dir) => {
		const image = dir.cover ? h("img", { alt: "", loading: "lazy", src: thumbUrl({ path: dir.cover, rev: dir.coverRev }) }) : icon("folder");
		image.onerror = () => image.replaceWith(icon("folder"));
		return h("li", h("a", { href: folderHref(child(path, dir)) }, h("span.cover", image), h("span.name", nameOf(dir))));
	};
	return dirs.length ? h("ul.folders", dirs.map(tile)) : "";
}
