// The address says what is shown: `#/art/2025/` a folder, `#/art/2025/foo.webp` a photo, `?q=…` a search
// below the folder (of a photo: below `in=…`), `#health` the state of the service. No other module reads
// or changes it, or the history: back from a photo is what it was opened from.

import { suffixes } from "./api.js";
import { announce } from "./events.js";

const LONGEST = 12000;

export let here = { folder: "", query: "" }; // `item`: the path of a photo; `health`: true

export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
export const parent = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

export const pathHref = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;
export const folderHref = (path) => (path ? `${pathHref(path)}/` : "#/");
export const searchHref = (query, folder = "") => folderHref(folder) + (query && `?${new URLSearchParams({ q: query })}`);
export const itemHref = ({ path }) => pathHref(path) + (here.query && `?${new URLSearchParams({ q: here.query, in: here.folder })}`);

function parse(hash) {
	const [way, rest] = hash.slice(1).split("?");
	const { q: query = "", in: within = "" } = Object.fromEntries(new URLSearchParams(rest));
	if (way === "health") return { folder: here.folder, query: here.query, health: true };
	let path = "";
	try {
		path = decodeURIComponent(way.slice(0, LONGEST)).split("/").filter(Boolean).join("/");
	} catch {
		// shows the root
	}
	const isPhoto = !way.endsWith("/") && suffixes.some((type) => path.toLowerCase().endsWith(type));
	if (!isPhoto) return { folder: path, query };
	return { item: path, folder: query ? within : parent(path), query };
}

function arrive() {
	here = parse(location.hash);
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
	history.replaceState(history.state, "", href);
	arrive();
}

// Goes from a photo to what it was opened from, or to its list.
export function leave() {
	if (!here.item) return;
	if (history.state?.opened) history.back();
	else replace(searchHref(here.query, here.folder));
}

// Goes from a search or from health to the folder, and from a folder to the one above.
export const up = () => go(folderHref(here.query || here.health ? here.folder : parent(here.folder)));
