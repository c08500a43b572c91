// The page: puts its parts together, and shows what the address says.

import { update as updateAbove } from "./above.js";
import * as address from "./address.js";
import * as bulk from "./bulk.js";
import { button, h } from "./dom.js";
import { hasUnsaved } from "./edits.js";
import { on } from "./events.js";
import * as grid from "./grid.js";
import * as health from "./health.js";
import { help } from "./keys.js";
import * as list from "./list.js";
import * as search from "./search.js";
import { signOut } from "./session.js";
import { T } from "./strings.js";
import * as folders from "./tree.js";
import * as viewer from "./viewer.js";

const wide = matchMedia("(min-width: 56rem)");
const offline = h("p.offline", { role: "alert", hidden: true });
const { crumbs, tree } = folders;

document.body.append(
	h(
		"header.top",
		button("menu", T.menu, () => (tree.hidden = !tree.hidden)),
		crumbs,
		search.box,
		list.sorting,
		button("health", T.health, () => address.go("#health")),
		button("help", T.help, help),
		signOut,
	),
	offline,
	h("div.columns", tree, grid.view, health.view),
	bulk.bar,
);
tree.hidden = !wide.matches;

on("address", () => {
	const { item, folder, health: isHealth } = address.here;
	[health.view.hidden, grid.view.hidden] = [!isHealth, Boolean(isHealth)];
	document.title = (isHealth ? T.health : address.nameOf(item ?? folder)) || "Lenslet";
	if (!item) viewer.close();
	if (!wide.matches && folder !== list.source?.path) tree.hidden = true;
	list.show(address.here);
	folders.show();
	if (isHealth) health.show();
	if (item) viewer.open(item);
});
on("opened", () => {
	updateAbove();
	grid.reset();
	search.show(list.source.query, address.nameOf(list.source.path));
});
on("list", () => {
	folders.update();
	updateAbove();
	grid.update();
	viewer.update();
});
on("trouble", (reason) => {
	[offline.textContent, offline.hidden] = [reason, !reason];
	(document.querySelector("dialog[open]") ?? document.body).prepend(offline);
});
addEventListener("beforeunload", (event) => hasUnsaved() && event.preventDefault());
address.start();
