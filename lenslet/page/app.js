// The page: an address says what is shown. `#/art/2025/` is a folder, `#/art/2025/foo.webp` a photo,
// `?q=…` a search below the folder (for a photo: `in=…` says which), `#health` the state of things.

import { pause, Problem, write } from "./api.js";
import { FAVOURITE, hasUnsaved } from "./details.js";
import { button, dialog, h, icon, isTyping, put, toast } from "./dom.js";
import { Grid } from "./grid.js";
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

function parse(hash) {
  const [way, query] = hash.replace(/^#/, "").split("?");
  const params = new URLSearchParams(query);
  if (way === "health") return { health: true };
  let path = "";
  try {
    path = decodeURIComponent(way).replace(/^\/+|\/+$/g, "");
  } catch {
    // a broken address shows the root
  }
  const item = !way.endsWith("/") && IMAGE.test(path) ? path : null;
  const q = params.get("q");
  const folder = item ? (q === null ? parent(item) : params.get("in") ?? "") : path;
  return { item, folder, q };
}

const searchHref = (q, folder) => `${folderHref(folder)}?${new URLSearchParams({ q })}`;
const itemHref = (item) => {
  const { q, folder } = route;
  return hrefOf(item.path) + (q === null ? "" : `?${new URLSearchParams({ q, in: folder })}`);
};
const listHref = () => (route.q === null ? folderHref(route.folder) : searchHref(route.q, route.folder));

// Parts of the page

let route = {};
let source = null;
let stopHealth = null;

const tree = new Tree();
const scroller = h("main", { id: "photos", tabIndex: -1 });
const healthView = h("main", { class: "health", tabIndex: -1 });
const crumbs = h("nav", { class: "crumbs", "aria-label": T.menu });
const sorting = h("select", { "aria-label": T.sort, title: T.sort, onchange: () => setSort() });
const offline = h("p", { id: "offline", role: "alert" }, T.offline);
const bulk = h("section", { class: "bulk", "aria-label": T.tags });
const search = new SearchBox((q, everywhere) => {
  const folder = everywhere ? "" : route.folder ?? "";
  location.hash = q || !everywhere ? searchHref(q, folder) : folderHref(folder);
});
const grid = new Grid(scroller, { writable, href: itemHref, caption: (item) => caption(item, route.q), selected: drawBulk });
const viewer = new Viewer({ writable, go: (item) => location.replace(itemHref(item)), close: closed, saved: edited });

document.body.append(
  h("a", { class: "skip", href: "#photos", onclick: (event) => (event.preventDefault(), grid.focus(grid.current)) }, T.skip),
  h(
    "header",
    { class: "top" },
    button("menu", T.menu, () => toggleTree()),
    crumbs,
    search.element,
    sorting,
    button("health", T.health, () => (location.hash = "health")),
    button("help", T.help, help),
    session === "yes" ? h("button", { type: "button", onclick: signOut }, T.signOut) : null,
  ),
  offline,
  h("div", { class: "columns" }, tree.element, scroller, healthView),
  bulk,
  h("div", { id: "toast", role: "status" }),
);
offline.hidden = bulk.hidden = healthView.hidden = true;
toggleTree(wide.matches && localStorage.getItem("tree") !== "no");

function toggleTree(shown = tree.element.hidden) {
  tree.element.hidden = !shown;
  if (wide.matches) localStorage.setItem("tree", shown ? "yes" : "no");
}

// What is shown

async function go() {
  const before = route;
  route = parse(location.hash);
  stopHealth?.abort();
  healthView.hidden = !route.health;
  scroller.hidden = Boolean(route.health);
  if (route.health) {
    if (viewer.element.open) viewer.element.close();
    stopHealth = new AbortController();
    document.title = T.health;
    put(crumbs, h("a", { href: "#/" }, T.allPhotos), h("span", { "aria-current": "page" }, T.health));
    showHealth(healthView, stopHealth.signal);
    return;
  }
  if (!source || route.folder !== before.folder || route.q !== before.q) openList();
  if (!wide.matches && route.folder !== before.folder) toggleTree(false);
  if (route.item) await openItem(route.item);
  else if (viewer.element.open) viewer.element.close();
  document.title = route.item ? nameOf(route.item) : route.q === null ? nameOf(route.folder) || "Lenslet" : T.results(route.q);
}

const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
const sortKey = () => (route.q === null ? "sort" : "sort-search");
const sorts = () => (route.q === null ? T.sorts : T.sortsOfSearch);

function openList() {
  const { folder, q } = route;
  source?.close();
  const names = sorts();
  const stored = localStorage.getItem(sortKey());
  const sort = stored in names ? stored : Object.keys(names)[0];
  put(sorting, Object.entries(names).map(([value, name]) => h("option", { value }, name)));
  sorting.value = sort;
  source = q === null ? new Folder(folder, sort) : new Search(q, folder, sort);
  const mine = source;
  source.addEventListener("change", () => drawList());
  source.addEventListener("progress", ({ detail }) => drawState(h("p", { class: "quiet" }, T.sortLoading(...detail))));
  grid.show(source);
  drawList();
  tree.show(folder);
  search.show(q ?? "", nameOf(folder), q !== null && !folder);
  source.open().then(() => keepFresh(mine));
}

function setSort() {
  localStorage.setItem(sortKey(), sorting.value);
  openList();
}

function drawList() {
  drawCrumbs();
  if (source.kind === "folder" && source.opened && !source.problem) tree.learn(source.path, source.dirs);
  drawState(state());
  grid.relayout();
  if (route.item && viewer.element.open) {
    const index = source.find(route.item);
    if (index >= 0) viewer.show(source.items[index], index, source);
  }
}

function drawState(content) {
  const tiles = source.opened ? folderTiles(source.path, source.dirs) : null;
  const key = JSON.stringify(source.dirs) + source.opened;
  if (grid.above.key !== key || !tiles) put(grid.above, tiles, h("div", { class: "state" }));
  grid.above.key = key;
  put(grid.above.lastChild, content);
}

/** What is said in place of photos, or above them. */
function state() {
  const hint = (title, text, ...more) => h("div", { class: "hint" }, h("h2", {}, title), h("p", {}, text), ...more);
  const { problem, items, dirs, opened, kind } = source;
  if (problem) {
    const again = h("button", { type: "button", onclick: () => openList() }, T.retry);
    if (problem.status === 401) return hint(T.signIn, problem.message, h("button", { type: "button", onclick: signIn }, T.signIn));
    return problem.status === 404
      ? hint(T.noFolder, T.noFolderHint, h("a", { href: "#/" }, T.toRoot))
      : hint(T.error, problem.message, again);
  }
  if (!opened) return h("p", { class: "quiet", role: "status" }, T.loading);
  if (kind === "search") {
    const count = h("p", { class: "quiet", role: "status" }, T.found(source.total, source.endless));
    if (items.length) return count;
    const everywhere = source.path ? h("a", { href: searchHref(route.q, "") }, T.searchEverywhere) : null;
    return hint(T.nothingFound, T.nothingFoundHint, everywhere);
  }
  if (!items.length && !dirs.length) return hint(source.path ? T.emptyFolder : T.emptyLibrary, T.emptyFolderHint);
  return null;
}

function drawCrumbs() {
  const { folder, q } = route;
  const parts = folder ? folder.split("/") : [];
  const links = parts.map((name, index) => h("a", { href: folderHref(parts.slice(0, index + 1).join("/")) }, name));
  const count = source.kind === "folder" && source.items.length ? h("small", {}, number(source.items.length)) : null;
  put(crumbs, h("a", { href: "#/" }, T.allPhotos), links, q ? h("span", {}, T.results(q)) : count);
  [...crumbs.querySelectorAll("a")].at(-1).setAttribute("aria-current", "page");
}

/** Asks for changes: soon after opening, often while images are being read, else each minute. */
async function keepFresh(mine) {
  await pause(SOON_MS);
  while (source === mine) {
    if (!document.hidden) await mine.refresh();
    await pause(mine.growing ? GROWING_MS : IDLE_MS);
  }
}

// The viewer

async function openItem(path) {
  const mine = source;
  let index = mine.find(path);
  viewer.show(mine.items[index] ?? { path, name: nameOf(path), w: 0, h: 0 }, index, mine);
  if (index >= 0) return;
  while (!mine.opened) await pause(50);
  index = await mine.locate(path);
  if (source === mine && route.item === path && index >= 0) viewer.show(mine.items[index], index, mine);
}

function closed(index) {
  if (route.item) location.replace(listHref());
  if (index >= 0) grid.focus(index);
}

function edited({ path, tags, base }) {
  const item = source.items[source.find(path)];
  if (!item || base.tags.join() === (item.tags ?? []).join()) return;
  item.tags = base.tags.length ? base.tags : undefined;
  grid.refreshTile(path);
}

// Several photos

let field = null;

function drawBulk() {
  const { size } = grid.selected;
  bulk.hidden = !size;
  if (!size) return;
  const paths = [...grid.selected.keys()];
  if (field) {
    field.count.textContent = T.selected(size);
    return;
  }
  const input = (label, key) => {
    const made = new TagField(label, (tags) => tags.length && ((made.tags = []), tagAll({ [key]: tags })));
    made.input.placeholder = label;
    made.input.setAttribute("aria-label", label);
    return made.element;
  };
  field = { count: h("b", { role: "status" }, T.selected(size)) };
  put(
    bulk,
    field.count,
    button("star", T.favourite, () => tagAll({ add: [FAVOURITE] })),
    input(T.addTag, "add"),
    input(T.removeTag, "remove"),
    button("close", T.clearSelection, () => grid.select([])),
  );
}

/** Adds or removes tags on all selected photos, with one request. */
async function tagAll(change) {
  const paths = [...grid.selected.keys()];
  if (paths.length > MOST_PATHS) return toast(T.tooMany(MOST_PATHS), "problem");
  try {
    const { results } = (await write("POST", "items/tags", {}, { body: { paths, ...change } })).data;
    const failed = results.filter((result) => result.description);
    for (const { path, tags } of results) if (tags) edited({ path, base: { tags } });
    if (failed.length) toast(T.taggedPartly(failed.length, failed[0].description), "problem");
    else toast(T.tagged(results.length));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    toast(T.notSaved(problem.message), "problem");
  }
}

// Getting in, help, keys

let asking = null;

function signIn() {
  if (asking) return;
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
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
  const form = h("form", { onsubmit: submit }, h("label", { for: "token" }, T.token), token, h("p", { class: "quiet" }, T.tokenHint), wrong, h("button", {}, T.signIn));
  asking = dialog(T.signIn, form);
  asking.addEventListener("close", () => (asking = null));
  token.focus();
}

async function signOut() {
  await write("DELETE", "session");
  location.reload();
}

function help() {
  const rows = T.keys.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, what)));
  dialog(T.help, h("table", {}, h("tbody", {}, rows)), h("p", { class: "quiet" }, T.searchHint));
}

document.addEventListener("keydown", (event) => {
  if (isTyping(event.target)) {
    if (event.key === "Escape" && !viewer.element.open) event.target.blur();
    return;
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") help();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "/") search.focus();
  else if (event.key === "Escape") {
    if (grid.selected.size) grid.select([]);
    else if (route.q) location.hash = folderHref(route.folder);
    else if (route.folder) location.hash = folderHref(parent(route.folder));
    else if (route.health) history.back();
  } else if (event.key.startsWith("Arrow") && !scroller.hidden && [document.body, scroller].includes(event.target)) grid.focus(grid.current);
  else return;
  event.preventDefault();
});
document.addEventListener("connection", ({ detail }) => (offline.hidden = detail));
document.addEventListener("sign-in", signIn);
document.addEventListener("visibilitychange", () => document.hidden || source?.refresh());
addEventListener("beforeunload", (event) => hasUnsaved() && event.preventDefault());
addEventListener("hashchange", go);
if (access === "none") signIn();
else go();
