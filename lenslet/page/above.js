// What stands above the rows of photos: what there is to say of the list, and the folders in it.

import { searchHref } from "./address.js";
import { suffixes } from "./api.js";
import { h, put, textButton } from "./dom.js";
import { on } from "./events.js";
import { reopen, source } from "./list.js";
import { T } from "./strings.js";
import { folderTiles } from "./tree.js";

const said = h("div", { role: "status" });
const folders = h("div");
export const above = h("div", said, folders);
let drawn; // the folders that are shown, as text
let trouble; // why the service does not answer

on("trouble", (reason) => {
	trouble = reason;
	if (source) update();
});

export function update() {
	const { path, dirs } = source;
	const key = JSON.stringify([path, dirs]);
	if (drawn !== key) put(folders, folderTiles(path, dirs));
	drawn = key;
	put(said, message(source));
}

const hint = ([title, text], more = "") => h("div.hint", h("h2", title), h("p", text), more);

function message({ problem, opened, query, path, total, more, items, dirs, unsupported = {} }) {
	if (problem?.status === 404) return hint(T.noFolder, h("a", { href: "#/" }, T.photos));
	if (problem) return hint([T.failed, problem.message], textButton(T.retry, reopen));
	if (!opened) return trouble ? hint(T.waiting) : T.loading;
	if (!query) return items.length || dirs.length ? "" : hint(T.emptyFolder(suffixes), Object.keys(unsupported).length && h("p", T.unsupported(unsupported)));
	if (items.length) return h("p.quiet", T.found(total, more));
	return hint(T.nothingFound, path && h("a", { href: searchHref(query) }, T.everywhere));
}
