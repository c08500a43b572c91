// What stands above the photos: what list this is, what there is to say of it, and the folders in it.

import { folderHref, here, nameOf, photosHref, searchHref } from "./address.js";
import { suffixes } from "./api.js";
import { h, put, textButton } from "./dom.js";
import { on } from "./events.js";
import { reopen, source } from "./list.js";
import { T } from "./strings.js";
import { folderTiles } from "./tree.js";

const title = h("div.title");
const said = h("div", { role: "status" });
const folders = h("div");
export const above = h("div.above", title, said, folders);
let drawn; // the folders that are shown, as text
let trouble; // why the service does not answer

on("trouble", (reason) => {
	trouble = reason;
	if (source) update();
});

export function update() {
	const { path, dirs, opened, problem } = source;
	const key = JSON.stringify([path, dirs]);
	if (drawn !== key) put(folders, folderTiles(path, dirs));
	drawn = key;
	put(title, opened && !problem ? heading(source) : "");
	put(said, message(source));
}

function heading({ path, query, days, count, dirs, months = [] }) {
	const years = [...new Set([months.at(-1), months[0]].map((month) => month?.month.slice(0, 4)))].filter(Boolean);
	const facts = [count && T.count(count), years.join("–")].filter(Boolean).join(" · ");
	const other = days ? folderHref(path) : photosHref({ folder: path });
	const link = (count || dirs.length) && (path || !days) && !query ? h("a", { href: other }, days ? T.asFolder : T.byDate) : "";
	return [h("h1", query ? T.results(query) : nameOf(path) || (days ? T.photos : T.folders)), h("span.quiet", facts), link];
}

const hint = ([name, text], more = "") => h("div.hint", h("h2", name), h("p", text), more);

function message({ problem, opened, query, days, path, count, dirs, unsupported = {} }) {
	if (problem?.status === 404) return hint(T.noFolder, h("a", { href: "#/" }, T.folders));
	if (problem) return hint([T.failed, problem.message], textButton(T.retry, reopen));
	if (!opened) return trouble ? hint(T.waiting) : T.loading;
	if (count || dirs.length) return "";
	if (query) return hint(T.nothingFound, [unknown(query), path && h("a", { href: searchHref(query) }, T.everywhere)]);
	if (days) return here.isStart ? "" : hint(T.emptyFolder(suffixes), h("a", { href: folderHref(path) }, T.asFolder));
	return hint(T.emptyFolder(suffixes), Object.keys(unsupported).length && h("p", T.unsupported(unsupported)));
}

// Points out what looks like a field, and is none.
function unknown(query) {
	const [, field] = query.match(/(?:^|\s)-?(?!(?:tag|name|notes|path|date):)([a-z]+):/i) ?? [];
	return field && h("p", T.unknownField(field));
}
