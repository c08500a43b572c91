// The page. Its address says what is shown: `#/art/2025/` a folder, `#/art/2025/foo.webp` a photo,
// `?q=…` a search below the folder (of a photo: below `in=…`), `#health` the state of the service.

import { pause, send } from "./api.js";
import { hasUnsaved } from "./details.js";
import { button, dialog, h, isTyping, memory, page, put, textButton, toast } from "./dom.js";
import * as grid from "./grid.js";
import * as health from "./health.js";
import * as search from "./search.js";
import { Folder, nameOf, parent, Search } from "./sources.js";
import { number, T } from "./strings.js";
import { tagField } from "./tags.js";
import * as folders from "./tree.js";
import * as viewer from "./viewer.js";

const IMAGE = /\.(jpe?g|png|webp)$/i;
const MOST_PATHS = 500; // of a request
const [SOON_MS, GROWING_MS, IDLE_MS] = [5000, 2500, 20000];
const { session } = document.body.dataset;
const wide = matchMedia("(min-width: 56rem)");

let route = {};
let source; // what the grid shows
let pushed; // the photo was opened from the list: Back leads there

function parse(hash) {
	const [way, rest] = hash.slice(1).split("?");
	const { q: query = "", in: within = "" } = Object.fromEntries(new URLSearchParams(rest));
	if (way === "health") return { folder: source?.path ?? "", query: source?.query ?? "", health: true };
	let path = "";
	try {
		path = decodeURIComponent(way.slice(0, 12000)).split("/").filter(Boolean).join("/");
	} catch {
		// shows the root
	}
	if (way.endsWith("/") || !IMAGE.test(path)) return { folder: path, query };
	return { item: path, folder: query ? within : parent(path), query };
}

const listHref = (query, folder) => folderHref(folder) + (query && `?${new URLSearchParams({ q: query })}`);
const itemHref = ({ path }) => hrefOf(path) + (route.query && `?${new URLSearchParams({ q: route.query, in: route.folder })}`);

const sorting = h("select", { "aria-label": T.sort });
const offline = h("p.offline", { role: "alert", popover: "manual" }, T.offline);
const count = h("b", { role: "status" });
const tagging = (label, key) => tagField(label, (tags) => tagAll({ [key]: tags }), true).element;
const bulk = h(
	"section.bulk",
	{ "aria-label": T.tags, hidden: true },
	count,
	button("star", T.favourite, () => tagAll({ add: [grid.FAVOURITE] })),
	[tagging(T.addTag, "add"), tagging(T.removeTag, "remove")],
	button("close", T.clearSelection, () => grid.select([])),
);
const { crumbs, folderHref, hrefOf, tree } = folders;
Object.assign(page, {
	search: (query, everywhere) => (location.hash = listHref(query, everywhere ? "" : route.folder)),
	href: itemHref,
	caption: (item) => search.caption(item, route.query),
	selected: drawBulk,
	go: (item) => location.replace(itemHref(item)),
	closed,
	saved: ({ path, base }) => edited({ [path]: base.tags }),
});

document.body.append(
	h(
		"header.top",
		button("menu", T.menu, () => (tree.hidden = !tree.hidden)),
		crumbs,
		search.box,
		sorting,
		button("health", T.health, () => (location.hash = "health")),
		button("help", T.help, help),
		session === "yes" ? textButton(T.signOut, () => send("DELETE", "session", {}).then(() => location.reload(), ({ message }) => toast(message))) : "",
	),
	offline,
	h("div.columns", tree, grid.view, health.view),
	bulk,
);
tree.hidden = !wide.matches;
sorting.onchange = () => {
	memory.sort = sorting.value;
	openList();
};

function open() {
	const before = route.folder;
	route = parse(location.hash);
	const { item, folder, query } = route;
	if (!viewer.dialog.open) pushed = before !== undefined;
	[health.view.hidden, grid.view.hidden] = [!route.health, Boolean(route.health)];
	if (!item && viewer.dialog.open) viewer.dialog.close();
	document.title = (route.health ? T.health : nameOf(item ?? folder)) || "Lenslet";
	if (route.health) health.show().catch(() => {}); // signed out
	else if (folder !== source?.path || query !== source.query) openList();
	if (!wide.matches && folder !== before) tree.hidden = true;
	if (item) openItem(item);
	folders.show(folder, route.health || query);
	drawMore();
}

function drawMore() {
	const count = source?.items.length;
	put(folders.more, route.health ? T.health : route.query ? T.results(route.query) : count && number(count));
}

async function openList() {
	const { folder, query } = route;
	source?.close();
	const names = Object.entries(T.sorts).slice(query ? 0 : 1);
	put(sorting, names.map(([value, name]) => h("option", { value }, name)));
	sorting.value = memory.sort;
	if (!sorting.value) sorting.selectedIndex = 0;
	const mine = new (query ? Search : Folder)(folder, sorting.value, query, drawList);
	source = mine;
	drawAbove();
	grid.show(mine);
	search.show(query, nameOf(folder));
	await (mine.ready = mine.refresh());
	// A changed folder is answered as it was, and then read again.
	for (let wait = SOON_MS; mine instanceof Folder && mine === source; wait = mine.growing ? GROWING_MS : IDLE_MS) {
		await pause(wait);
		if (!document.hidden) await mine.refresh().catch(() => {});
	}
}

function drawList() {
	if (source instanceof Folder && !source.problem) folders.learn(source.path, source.dirs);
	drawAbove();
	grid.update();
	const index = source.find(route.item);
	if (viewer.dialog.open && index >= 0) viewer.show(source.items[index], index, source);
}

function drawAbove() {
	const { path, dirs } = source;
	const key = JSON.stringify([path, dirs]);
	if (grid.above.key !== key) put(grid.above, h("div", { role: "status" }), folders.folderTiles(path, dirs));
	grid.above.key = key;
	put(grid.above.firstChild, message(source));
	drawMore();
}

function message({ problem, opened, query, path, total, more, items, dirs }) {
	const hint = ([title, text], action = "") => h("div.hint", h("h2", title), h("p", text), action);
	if (problem?.status === 404) return hint(T.noFolder, h("a", { href: "#/" }, T.photos));
	if (problem) return hint([T.failed, problem.message], textButton(T.retry, openList));
	if (!opened) return T.loading;
	if (!query) return items.length || dirs.length ? "" : hint(T.emptyFolder);
	if (items.length) return h("p.quiet", T.found(total, more));
	return hint(T.nothingFound, path && h("a", { href: listHref(query, "") }, T.everywhere));
}

async function openItem(path) {
	const mine = source;
	const show = (index) => viewer.show(mine.items[index] ?? { path, name: nameOf(path) }, index, mine);
	show(mine.find(path));
	await mine.ready;
	const index = await mine.locate(path);
	if (mine === source && route.item === path) show(index);
}

function closed(path) {
	const index = source.find(path);
	if (route.item && pushed) history.back();
	else if (route.item) location.replace(listHref(route.query, route.folder));
	if (index >= 0) grid.focus(index);
}

// Shows tags that were just stored, by path.
function edited(stored) {
	source.items = source.items.map((item) => (stored[item?.path] ? { ...item, tags: stored[item.path] } : item));
	grid.update();
}

function drawBulk() {
	bulk.hidden = !grid.selected.size;
	put(count, T.selected(grid.selected.size));
}

async function tagAll(change) {
	const paths = [...grid.selected.keys()];
	try {
		const results = [];
		while (paths.length) {
			const body = { paths: paths.splice(0, MOST_PATHS), ...change };
			const { data } = await send("POST", "items/tags", {}, { body });
			results.push(...data.results);
			edited(Object.fromEntries(data.results.map(({ path, tags }) => [path, tags])));
		}
		const failed = results.filter(({ tags }) => !tags);
		toast(failed.length ? T.notTagged(failed.length, failed[0].description) : T.tagged(results.length));
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}

function signIn() {
	const token = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
	const wrong = h("p.problem", { role: "alert" });
	const onsubmit = async (event) => {
		event.preventDefault();
		try {
			await send("POST", "session", {}, { body: { token: token.value } });
			if (!hasUnsaved()) location.reload();
			event.target.closest("dialog").close();
		} catch (problem) {
			put(wrong, problem.status === 401 ? T.badToken : problem.message);
		}
	};
	dialog(T.signIn, h("form", { onsubmit }, h("label", T.token, token), wrong, h("button", T.signIn)));
}

function help() {
	const commands = Object.entries(viewer.commands).map(([key, [, label]]) => [key.toUpperCase(), label]);
	const rows = [...Object.entries(T.keys), ...commands].map(([key, what]) => h("tr", h("th", h("kbd", key)), h("td", what)));
	dialog(T.help, h("table", h("tbody", rows)));
}

addEventListener("keydown", (event) => {
	const { key, target } = event;
	if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
	if (isTyping(event)) return key === "Escape" && target.blur();
	const starts = key.startsWith("Arrow") && target.matches("body, main, dialog *");
	if (key === "?") help();
	else if (document.querySelector("dialog[open]")) return;
	else if (key === "/") search.focus();
	else if (key === "Escape" && grid.selected.size) grid.select([]);
	else if (key === "Escape" && !route.item) location.hash = folderHref(route.query || route.health ? route.folder : parent(route.folder));
	else if (starts && !grid.view.hidden) grid.focus();
	else return;
	event.preventDefault();
});
document.addEventListener("connection", ({ detail }) => {
	offline.togglePopover(false);
	offline.togglePopover(!detail); // above a dialog
});
document.addEventListener("sign-in", signIn);
addEventListener("beforeunload", (event) => hasUnsaved() && event.preventDefault());
addEventListener("hashchange", open);
open();
