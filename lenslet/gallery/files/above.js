// What stands above the photos: what list this is, what there is to say of it, and the folders in it.

import { folderHref, here, nameOf, photosHref, searchHref, titleOf } from "./address.js";
import { isGuest, send, shared, suffixes, trouble, writable } from "./api.js";
import { again, dialog, form, h, icon, put, select, textButton } from "./dom.js";
import { FAVOURITE } from "./edits.js";
import { on } from "./events.js";
import { isIndexed, progress } from "./health.js";
import { renewSoon, source } from "./list.js";
import { forget, save, saved } from "./searches.js";
import { T } from "./strings.js";
import { crumbs, folderTiles } from "./tree.js";

const title = h("div.title");
const said = h("div", { role: "status" });
const line = h("p.quiet");
const folders = h("div");
export const above = h("div.above", crumbs, title, said, line, folders);
let drawn; // the folders that are shown, as text

for (const changes of ["trouble", "searches"]) on(changes, () => source && update());
on("progress", () => put(line, progress));

export function update() {
	const { path, dirs, order, by, opened } = source;
	const key = JSON.stringify([path, order, by, dirs, saved]);
	if (drawn !== key) put(folders, !isGuest && !path && !by && albums(), folderTiles(path, order ? dirs.toReversed() : dirs));
	drawn = key;
	put(title, opened && heading(source));
	put(said, message(source));
}

// What stands above all folders.
function albums() {
	const own = saved.map(({ name, q, path }) => [searchHref(q, path), name]);
	const lists = [[searchHref(`tag:${FAVOURITE}`), T.favourites], [photosHref({ by: "added" }), T.added], ...own];
	return h("div.chips", lists.map(([href, text]) => h("a", { href }, text)));
}

function heading({ path, query, by, count, dirs, terms, months = [], about = {}, unsupported = {} }) {
	const years = [...new Set([months.at(-1), months[0]].map((month) => month?.month.slice(0, 4)))].filter(Boolean);
	const facts = [count && T.count(count), years.join("–")].filter(Boolean).join(" · ");
	const other = by ? folderHref(path) : photosHref({ folder: path });
	const hidden = Object.keys(unsupported).length > 0 && h("span.quiet", T.unsupported(unsupported));
	const link = path && !query && !shared.isList && (by ? count : dirs.length) > 0 && h("a", { href: other }, by ? T.asFolder : T.byDate);
	const known = saved.find((each) => each.q === query && each.path === path);
	const results = query && (known?.name ?? T.results);
	const name = results || titleOf(path) || about.title || { date: T.photos, added: T.added }[by] || T.folders;
	const asked = !isGuest && terms.length > 0 && chips(terms, query, path);
	const keep = query && writable && (known ? textButton(T.forget, () => forget(known)) : textButton(T.saveSearch, save));
	const described = about.description && h("p.about", about.description);
	return [h("h1", name), asked, facts && h("span.quiet", facts), hidden, link, keep, described];
}

// Asks for what people say of a folder: its title, description and order.
export function describe() {
	const { title = "", description = "", order = "" } = source.about ?? {};
	const name = h("input", { name: "title", value: title, placeholder: nameOf(here.folder), maxLength: 200 });
	const text = h("textarea", { name: "description", rows: 3, maxLength: 10000 }, description);
	const choice = select("order", T.folderOrders, order);
	const submit = async (body) => {
		await send("PUT", "folders", { path: here.folder }, { body });
		renewSoon();
		return T.saved;
	};
	dialog(T.describe, form(submit, T.save, h("label", T.title, name), h("label", T.description, text), h("label", T.order, choice)));
}

// What a search asks for: each term can be turned into its opposite, and taken away.
function chips(all, query, folder) {
	const away = (text, href) => h("a", { href, "aria-label": T.leaveOut(text) }, icon("close"));
	const instead = (term, text) => searchHref(all.map((each) => (each === term ? text : each.text)).filter(Boolean).join(" "), folder);
	const chip = (term) => {
		const turned = { href: instead(term, term.not ? term.text.slice(1) : `-${term.text}`), title: T.turn(term) };
		return h("span.term", h("a", turned, T.term(term)), away(T.term(term), instead(term)));
	};
	const place = T.term({ field: "path", word: titleOf(folder) });
	return h("div.chips", all.map(chip), folder && h("span.term", h("span", place), away(place, searchHref(query))));
}

const hint = ([name, text], more) => h("div.hint", h("h2", name), h("p", text), more);

function message({ problem, opened, query, by, path, count, dirs }) {
	if (problem?.status === 404) return hint(T.noFolder, h("a", { href: "#/" }, T.folders));
	if (problem) return hint([T.failed, problem.message], again());
	if (!opened) return trouble ? hint(T.waiting) : T.loading;
	if (count || dirs.length) return "";
	if (query) return hint(T.nothingFound, path && h("a", { href: searchHref(query) }, T.everywhere));
	return isIndexed && hint(T.emptyFolder(suffixes), by && h("a", { href: folderHref(path) }, T.asFolder));
}
