// The folders: a tree that loads what is opened, the path to the one that is shown, and tiles.

import { child, folderHref, hasFolders, here, learn, nameOf, photosHref, titleOf } from "./address.js";
import { read, shared, thumbUrl, tileUrl } from "./api.js";
import { h, icon, put } from "./dom.js";
import { source } from "./list.js";
import { T } from "./strings.js";

const root = shared.path; // a guest sees no folder above
// The folders on the way to one, from the root on.
function ancestors(path) {
	const below = path.split("/").map((_, index, parts) => parts.slice(0, index + 1).join("/"));
	return ["", ...below].filter((each) => each.length >= root.length);
}

const named = (path) => titleOf(path) || T.folders;

const known = new Map(); // path → its subfolders
const open = new Set([root]);
export const tree = h("nav.tree", { "aria-label": T.folders });
export const tabs = h("nav.tabs", { "aria-label": T.views, hidden: !hasFolders });
export const crumbs = h("nav.crumbs", { "aria-label": T.path });

// Shows the folder of the address.
export function show() {
	for (const each of new Set(here.folder ? ancestors(here.folder) : [root])) {
		open.add(each);
		if (each !== source.path || source.by) load(each); // else the list tells
	}
	draw();
}

// Shows what is new of the list.
export function update() {
	if (source.opened && !source.by && !source.problem) known.set(source.path, source.dirs);
	draw();
}

async function load(path) {
	if (known.has(path) || !tree.checkVisibility()) return;
	// A second visit asks for nothing; who opens the folder sees it as it is.
	const answer = await read("folders", { path }, { cache: "force-cache" }).catch(() => {});
	if (!answer) return;
	learn(path, answer.data);
	known.set(path, answer.data.dirs);
	draw();
}

function draw() {
	const link = (path) => h("a", { href: folderHref(path) }, named(path));
	const isPhotos = here.by === "date" && here.folder === root && !here.query;
	const tab = (href, text, isHere) => h("a", { href, ...(isHere && { "aria-current": "page" }) }, text);
	const photos = tab(photosHref({ folder: root }), T.photos, isPhotos);
	const folders = tab(folderHref(root), T.folders, !here.by && !here.health);
	put(tabs, photos, folders);
	put(crumbs, here.folder && !here.query && ancestors(here.folder).slice(0, -1).map(link));
	put(tree, h("ul", node(root)));
}

function node(path) {
	const [dirs, opened] = [known.get(path), open.has(path)];
	const onclick = () => {
		if (!open.delete(path)) open.add(path);
		draw();
		load(path);
	};
	const twist = { onclick, "aria-expanded": `${opened}`, title: T.expand(nameOf(path)) };
	const current = path === here.folder && !here.by && { "aria-current": "page" };
	return h(
		"li",
		dirs?.length === 0 ? h("span.twist") : h("button.twist", twist, icon("right")),
		h("a", { href: folderHref(path), ...current }, named(path)),
		opened && dirs?.length > 0 && h("ul", dirs.map((each) => node(child(path, each.name)))),
	);
}

export function folderTiles(path, dirs) {
	const tile = (dir) => {
		const href = folderHref(child(path, dir.name));
		const photo = { path: dir.cover, rev: dir.coverRev, thumb: dir.coverThumb };
		const picture = { alt: "", loading: "lazy", src: thumbUrl(photo), finer: [tileUrl(photo)] };
		const image = dir.cover ? h("img", picture) : icon("folder");
		image.onerror = () => image.replaceWith(icon("folder"));
		const count = dir.count && h("small", T.count(dir.count));
		return h("li", h("a", { href }, h("span.cover", image), h("span.name", named(child(path, dir.name))), count));
	};
	return dirs.length > 0 && h("ul.folders", dirs.map(tile));
}
