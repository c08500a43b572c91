// The list that is shown: a folder, or photos by date. Owns it.

import { announce, on } from "./events.js";
import { Folder, Timeline } from "./sources.js";

const FOUND_MS = 1500; // until search knows an edit
const MOST_KEPT = 6; // lists that are shown at once when one comes back, also while the service is away

export let source;
let kept = []; // lists by their last visit

// Opens the list of an address, unless it is the one that is shown.
export function show({ folder, query, by, order }) {
	const key = JSON.stringify([folder, query, by, order]);
	if (key === source?.key) return;
	source?.close();
	const known = kept.find((each) => each.key === key && !each.problem);
	source = known ?? new (by ? Timeline : Folder)(folder, query, by, order);
	source.key = key;
	kept = [source, ...kept.filter((each) => each.key !== key)].slice(0, MOST_KEPT);
	const mine = source;
	source.start(() => mine === source && announce("list"));
	announce("opened");
	if (known) announce("list");
}

// Looks again once a change has been read.
export function renewSoon() {
	const mine = source;
	setTimeout(() => mine === source && mine.renew(), FOUND_MS);
}

on("stored", (tags) => {
	for (const each of kept) each.retag(tags);
	announce("list");
	if (source.query) renewSoon();
});
