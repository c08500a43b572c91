// The address says what is shown: `#/photos` photos by date, `#/photos/2019-09` from a month or `2019` a year on (`?in=…` of a
// folder and below, `?q=…` what a search finds, `?by=added` what was added last); `#/art/2025/` a folder;
// `#/art/2025/foo.webp` a photo (`?by=date` and what the list had: of photos by date); `#health` the state of the
// service; `?order=reverse` the other way round. No other module touches it or the history.

import { isGuest, shared, suffixes, url } from "./api.js";
import { announce } from "./events.js";

const LONGEST = 12000;
const MONTH = /^\/photos(?:\/(\d{4}(?:-\d\d)?|future|none))?$/;

// `item`: the path of a photo; `health`: true; `by`: "date", from a `month` on, or "added", or "" for a folder;
// `order`: "reverse" or ""; `place`: where the list was left.
export let here = { folder: "", query: "", by: "", order: "" };

export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
export const parent = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
export const child = (path, name) => (path ? `${path}/${name}` : name);

// Folders are called by their titles, as far as answers have said, or by name.
const titles = new Map();
export const titleOf = (path) => (path === shared.path && shared.label) || titles.get(path) || nameOf(path);

// Takes titles from an answer: the first line `about` a photo that was found is its folder's.
export function learn(path, { title, dirs, items = [] }) {
	if (dirs && path) titles.set(path, title);
	for (const { name, label } of dirs ?? []) titles.set(child(path, name), label);
	for (const item of items) if (item.about) titles.set(parent(item.path), item.about.split("\n")[0]);
}

// After a date, a number would be read as a part of it.
export function titleAfterDate(path) {
	const [above, title] = [parent(path), titleOf(path)];
	return above && !/\p{L}/u.test(title) ? `${titleAfterDate(above)} / ${title}` : title;
}

export const pathHref = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;
export const folderHref = (path, order) => url(path ? `${pathHref(path)}/` : "#/", { order });
export const photosHref = ({ folder = "", query = "", month = "", by, order } = {}) =>
	url(`#/photos${month && `/${month}`}`, { in: folder, q: query, by: by === "added" && by, order });
export const searchHref = (query, folder = "") => (query || !folder ? photosHref({ query, folder }) : folderHref(folder));
export const itemHref = ({ path }) => url(pathHref(path), { by: here.by, in: here.by && here.folder, q: here.query, order: here.order });
const listHref = (list = here) => (list.by ? photosHref(list) : folderHref(list.folder, list.order));
export const reverseHref = () => listHref({ ...here, month: "", order: here.order ? "" : "reverse" });

const isPhoto = (path) => suffixes.some((type) => path.toLowerCase().endsWith(type));

export const hasFolders = !shared.isList;
// Where a guest begins.
const home = () => {
	if (shared.isSingle) return pathHref(shared.path);
	return shared.isList ? photosHref({ folder: shared.path }) : searchHref("", shared.path);
};
// A guest's list is within what the link shows.
function isShown({ item, folder, by, health }) {
	const isWithin = `${folder}/`.startsWith(shared.path && `${shared.path}/`);
	return !health && isWithin && (item || by || !shared.isList);
}

function parse(hash) {
	const [way, rest] = hash.slice(1).split("?");
	const { q: query = "", in: within = "", by = query && "date", order = "" } = Object.fromEntries(new URLSearchParams(rest));
	const place = history.state?.place;
	if (!way) return { folder: "", query, by: "date", order, place };
	if (way === "health") return { ...here, item: undefined, health: true };
	const month = way.match(MONTH);
	if (month) return { folder: within, query, by: by || "date", order, month: month[1], place };
	let path = "";
	try {
		path = decodeURIComponent(way.slice(0, LONGEST)).split("/").filter(Boolean).join("/");
	} catch {
		// shows the root
	}
	if (way.endsWith("/") || !isPhoto(path)) return { folder: path, query, by, order, place };
	if (shared.isList && !by) return { item: path, folder: shared.path, query, by: "date", order, place };
	return { item: path, folder: by ? within : parent(path), query, by, order, place };
}

let shown; // the address that `here` was read from: another one is on its way before `hashchange`

function arrive() {
	const outside = isGuest && (/^#?\/?$/.test(location.hash) || !isShown(parse(location.hash)));
	if (outside) history.replaceState(history.state, "", home());
	shown = location.hash;
	here = parse(shown);
	announce("address");
}

// Shows what the page was opened with. `opened` of an entry of the history: a photo, opened from the entry before.
export function start() {
	if (!history.state) history.replaceState({ opened: false }, "");
	addEventListener("hashchange", () => {
		const wasPhoto = Boolean(here.item);
		arrive();
		if (!history.state) history.replaceState({ opened: Boolean(here.item) && !wasPhoto }, "");
	});
	arrive();
}

export const go = (href) => (location.hash = href);

// Goes to another photo, or from a photo to its list, without another step back.
export function replace(href) {
	history.replaceState({ ...history.state, place: undefined }, "", href);
	arrive();
}

// Keeps where a list is, for who comes back or loads the page again.
export function remember(place, month) {
	if (here.item || here.health || location.hash !== shown) return;
	const href = here.by && month !== undefined ? photosHref({ ...here, month }) : location.hash;
	history.replaceState({ ...history.state, place }, "", href || "#/photos");
	shown = location.hash;
}

// Goes from a photo to what it was opened from, or to its list.
export function leave() {
	if (!here.item) return;
	if (history.state?.opened) history.back();
	else replace(listHref());
}
