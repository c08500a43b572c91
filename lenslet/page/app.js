// The page. Its address says what is shown: `#/art/2025/` a folder, `#/art/2025/foo.webp` a photo,
// `?q=…` a search below the folder (of a photo: below `in=…`), `#health` the state of the service.

import { pause, Problem, write } from "./api.js";
import { hasUnsaved } from "./details.js";
import { button, dialog, h, isTyping, put, textButton, toast } from "./dom.js";
import { FAVOURITE, Grid } from "./grid.js";
import { showHealth } from "./health.js";
import { caption, SearchBox } from "./search.js";
import { Folder, parent, Search } from "./sources.js";
import { number, T } from "./strings.js";
import { TagField } from "./tags.js";
import { folderHref, folderTiles, hrefOf, Tree } from "./tree.js";
import { Viewer } from "./viewer.js";

const IMAGE = /\.(jpe?g|png|webp)$/i;
const [SOON_MS, GROWING_MS, IDLE_MS] = [5000, 2500, 60000];
const MOST_PATHS = 500;
const { access, session } = document.body.dataset;
const writable = access === "write";
const wide = matchMedia("(min-width: 56rem)");

// Addresses

let route = {};
let source;
let stopHealth;

function parse(hash) {
	const [way, query] = hash.slice(1).split("?");
	if (way === "health") return { health: true };
	const params = new URLSearchParams(query);
	const q = params.get("q") ?? undefined;
	let path = "";
	try {
		path = decodeURIComponent(way).replace(/^\/+|\/+$/g, "");
	} catch {
		// an address that was cut shows the root
	}
	if (way.endsWith("/") || !IMAGE.test(path)) return { folder: path, query: q };
	return { item: path, folder: q === undefined ? parent(path) : params.get("in") ?? "", query: q };
}

const searchHref = (q, folder) => `${folderHref(folder)}?${new URLSearchParams({ q })}`;
const listHref = ({ query, folder }) => (query === undefined ? folderHref(folder) : searchHref(query, folder));
const itemHref = ({ path }) => {
	const { query, folder } = route;
	return hrefOf(path) + (query === undefined ? "" : `?${new URLSearchParams({ q: query, in: folder })}`);
};
const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

// Parts

const tree = new Tree();
const photos = h("main", { class: "photos", tabIndex: -1 });
const health = h("main", { class: "health", tabIndex: -1, hidden: true });
const crumbs = h("nav", { class: "crumbs", "aria-label": T.allPhotos });
const sorting = h("select", { "aria-label": T.sort, title: T.sort, onchange: () => setSort() });
const offline = h("p", { class: "offline", role: "alert", hidden: true });
const bulk = h("section", { class: "bulk", "aria-label": T.tags, hidden: true });
const search = new SearchBox((query, everywhere) => {
	const folder = everywhere ? "" : route.folder ?? "";
	location.hash = query ? searchHref(query, folder) : folderHref(folder);
});
const grid = new Grid(photos, { writable, href: itemHref, caption: (item) => caption(item, route.query), selected: drawBulk });
const viewer = new Viewer({ writable, go: (item) => location.replace(itemHref(item)), close: closed, saved: edited });

document.body.append(
	h("a", { class: "skip", href: "#", onclick: (event) => event.preventDefault(grid.focus(grid.current)) }, T.skip),
	h(
		"header",
		{ class: "top" },
		button("menu", T.menu, () => showTree(tree.element.hidden)),
		crumbs,
		search.element,
		sorting,
		button("health", T.health, () => (location.hash = "health")),
		button("help", T.help, help),
		session === "yes" ? textButton(T.signOut, signOut) : "",
	),
	offline,
	h("div", { class: "columns" }, tree.element, photos, health),
	bulk,
	h("div", { class: "toast", role: "status" }),
);
showTree(wide.matches && localStorage.tree !== "no");

function showTree(shown) {
	tree.element.hidden = !shown;
	if (wide.matches) localStorage.tree = shown ? "yes" : "no";
}

// What is shown

function go() {
	const before = route;
	route = parse(location.hash);
	const { item, folder, query } = route;
	stopHealth?.abort();
	[health.hidden, photos.hidden] = [!route.health, Boolean(route.health)];
	if (!item && viewer.element.open) viewer.element.close();
	document.title = route.health ? T.health : query && !item ? T.results(query) : nameOf(item ?? folder) || "Lenslet";
	if (route.health) {
		stopHealth = new AbortController();
		showHealth(health, stopHealth.signal).catch(() => {}); // stopped
		return drawCrumbs();
	}
	if (folder !== source?.path || query !== source?.query) openList();
	if (!wide.matches && folder !== before.folder) showTree(false);
	if (item) openItem(item);
	drawCrumbs();
}

async function openList() {
	const { folder, query } = route;
	source?.close();
	const names = Object.entries(T.sorts).slice(query === undefined ? 1 : 0);
	const sort = names.some(([each]) => each === localStorage.sort) ? localStorage.sort : names[0][0];
	put(sorting, names.map(([value, name]) => h("option", { value }, name)));
	sorting.value = sort;
	const mine = (source = query === undefined ? new Folder(folder, sort) : new Search(folder, sort, query));
	mine.addEventListener("change", () => mine === source && drawList());
	drawAbove();
	grid.show(mine);
	tree.show(folder);
	search.show(query ?? "", nameOf(folder), query !== undefined && !folder);
	await mine.refresh();
	await pause(SOON_MS);
	while (mine === source) {
		if (!document.hidden && mine instanceof Folder) await mine.refresh();
		await pause(mine.growing ? GROWING_MS : IDLE_MS);
	}
}

function setSort() {
	localStorage.sort = sorting.value;
	openList();
}

function drawList() {
	if (source instanceof Folder && !source.problem) tree.learn(source.path, source.dirs);
	drawCrumbs();
	drawAbove();
	grid.update();
	const index = source.find(route.item);
	if (viewer.element.open && index >= 0) viewer.show(source.items[index], index, source);
}

/** Draws what stands above the photos: subfolders, and what there is to say. */
function drawAbove() {
	const { path, dirs, opened } = source;
	const key = JSON.stringify([path, dirs]);
	if (grid.above.key !== key) put(grid.above, h("div"), opened ? folderTiles(path, dirs) : null);
	grid.above.key = key;
	put(grid.above.firstChild, message());
}

function message() {
	const { problem, opened, query, path, total, more, items, dirs } = source;
	const hint = (title, text, action) => h("div", { class: "hint", role: "status" }, h("h2", {}, title), h("p", {}, text), action);
	if (problem?.status === 404) return hint(T.noFolder, T.noFolderHint, h("a", { href: "#/" }, T.toRoot));
	if (problem) return hint(T.failed, problem.message, textButton(T.retry, openList));
	if (!opened) return h("p", { class: "quiet", role: "status" }, T.loading);
	if (query === undefined) return items.length || dirs.length ? null : hint(T.emptyFolder, T.emptyFolderHint);
	if (items.length) return h("p", { class: "quiet", role: "status" }, T.found(total, more));
	return hint(T.nothingFound, T.nothingFoundHint, path ? h("a", { href: searchHref(query, "") }, T.everywhere) : null);
}

function drawCrumbs() {
	const { folder = "", query } = route;
	const parts = folder.split("/").filter(Boolean);
	const links = parts.map((name, index) => h("a", { href: folderHref(parts.slice(0, index + 1).join("/")) }, name));
	const more = route.health ? T.health : query ? T.results(query) : null;
	const count = !more && source?.items.length ? h("small", {}, number(source.items.length)) : null;
	put(crumbs, h("a", { href: "#/" }, T.allPhotos), links, more && h("span", {}, more), count);
	if (!more) [...crumbs.querySelectorAll("a")].at(-1).setAttribute("aria-current", "page");
}

// One photo

async function openItem(path) {
	const mine = source;
	const show = (index) => viewer.show(mine.items[index] ?? { path, name: nameOf(path), w: 0, h: 0 }, index, mine);
	show(mine.find(path));
	while (!mine.opened) await pause(50);
	const index = await mine.locate(path);
	if (mine === source && route.item === path) show(index);
}

function closed() {
	const index = source.find(route.item);
	if (route.item) location.replace(listHref(route));
	if (index >= 0) grid.focus(index);
}

/** Shows the tags that were just stored, before the service tells them. */
function edited({ path, base }) {
	const index = source.find(path);
	const item = source.items[index];
	if (!item || base.tags.join("\n") === (item.tags ?? []).join("\n")) return;
	source.items[index] = { ...item, tags: base.tags };
	grid.update();
}

// Several photos

function drawBulk() {
	const { size } = grid.selected;
	bulk.hidden = !size;
	if (!bulk.firstChild) {
		const field = (label, key) => {
			const made = new TagField(label, (tags) => tags.length && tagAll({ [key]: tags }, made.show([])));
			return made.element;
		};
		put(
			bulk,
			h("b", { role: "status" }),
			button("star", T.favourite, () => tagAll({ add: [FAVOURITE] })),
			field(T.addTag, "add"),
			field(T.removeTag, "remove"),
			button("close", T.clearSelection, () => grid.select([])),
		);
	}
	put(bulk.firstChild, T.selected(size));
}

/** Adds or removes tags on all selected photos, with one request. */
async function tagAll(change) {
	const paths = [...grid.selected.keys()];
	if (paths.length > MOST_PATHS) return toast(T.tooMany(MOST_PATHS), "problem");
	try {
		const { results } = (await write("POST", "items/tags", {}, { body: { paths, ...change } })).data;
		const [failed, done] = [results.filter(({ tags }) => !tags), results.filter(({ tags }) => tags)];
		for (const { path, tags } of done) edited({ path, base: { tags } });
		if (failed.length) toast(T.taggedPartly(failed.length, failed[0].description), "problem");
		else toast(T.tagged(done.length));
	} catch (problem) {
		if (!(problem instanceof Problem)) throw problem;
		toast(T.notSaved(problem.message), "problem");
	}
}

// Getting in, help, keys

function signIn() {
	if (document.querySelector(".sheet")) return;
	const token = h("input", { type: "password", autocomplete: "current-password", required: true });
	const wrong = h("p", { class: "problem", role: "alert" });
	const submit = async (event) => {
		event.preventDefault();
		try {
			await write("POST", "session", {}, { body: { token: token.value } });
			location.reload();
		} catch (problem) {
			put(wrong, problem.status === 401 ? T.badToken : problem.message);
		}
	};
	const hint = h("p", { class: "quiet" }, T.tokenHint);
	dialog(T.signIn, h("form", { onsubmit: submit }, h("label", {}, T.token, token), hint, wrong, h("button", {}, T.signIn)));
	token.focus();
}

async function signOut() {
	await write("DELETE", "session");
	location.reload();
}

function help() {
	const rows = Object.entries(T.keys).map(([key, does]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, key)), h("td", {}, does)));
	dialog(T.help, h("table", {}, h("tbody", {}, rows)), h("p", { class: "quiet" }, T.searchHint));
}

/** Leaves what is shown for what it is part of. */
function leave() {
	if (grid.selected.size) grid.select([]);
	else if (route.query !== undefined) location.hash = folderHref(route.folder);
	else location.hash = folderHref(parent(route.folder ?? ""));
}

addEventListener("keydown", (event) => {
	const { key, target } = event;
	const moves = key.startsWith("Arrow") && [document.body, photos].includes(target);
	if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
	if (isTyping(event)) return key === "Escape" && target.blur();
	const dialogs = document.querySelector("dialog[open]");
	if (key === "?") help();
	else if (dialogs) return;
	else if (key === "/") search.focus();
	else if (key === "Escape") leave();
	else if (moves && !photos.hidden) grid.focus(grid.current);
	else return;
	event.preventDefault();
});
document.addEventListener("connection", ({ detail }) => {
	offline.hidden = !detail;
	put(offline, T.offline, detail.length > 1 ? ` (${detail})` : "");
});
document.addEventListener("sign-in", signIn);
document.addEventListener("visibilitychange", () => !document.hidden && source instanceof Folder && source.refresh());
addEventListener("beforeunload", (event) => hasUnsaved() && event.preventDefault());
addEventListener("hashchange", go);
if (access === "none") signIn();
else go();
