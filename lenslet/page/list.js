// The list that is shown: a folder, or photos by date. Owns it.

import { announce, on } from "./events.js";
import { Folder, Timeline } from "./sources.js";

const FOUND_MS = 1500; // until search knows an edit

export let source;

// Opens the list of an address, unless it is the one that is shown.
export function show({ folder, query, byDate }) {
	if (folder !== source?.path || query !== source.query || byDate !== Boolean(source.days)) open(folder, query, byDate);
}

export const reopen = () => open(source.path, source.query, source.days);

function open(folder, query, byDate) {
	source?.close();
	const mine = new (byDate ? Timeline : Folder)(folder, query, () => mine === source && announce("list"));
	source = mine;
	announce("opened");
	source.start();
}

on("stored", (tags) => {
	source.retag(tags);
	announce("list");
	const mine = source;
	if (mine.query) setTimeout(() => mine === source && mine.renew(), FOUND_MS);
});
