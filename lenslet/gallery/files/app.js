// The page: puts its parts together, and shows what the address says.

import { update as updateAbove } from "./above.js";
import * as address from "./address.js";
import { shared } from "./api.js";
import * as bulk from "./bulk.js";
import { button, h, put } from "./dom.js";
import { hasUnsaved } from "./edits.js";
import { on } from "./events.js";
import * as grid from "./grid.js";
import * as health from "./health.js";
import * as list from "./list.js";
import { menu } from "./menu.js";
import { scale } from "./scrubber.js";
import * as search from "./search.js";
import { begin } from "./session.js";
import { T } from "./strings.js";
import * as folders from "./tree.js";
import * as viewer from "./viewer.js";

const DOWN = 40; // pixels
const wide = matchMedia("(min-width: 56rem)");
const offline = h("p.offline", { role: "alert", hidden: true });
const { tabs, tree } = folders;
const onclick = () => {
	grid.goTo(-Infinity);
	list.source.renew();
};
const fresh = h("button.fresh", { onclick });

document.body.append(
	h("button.skip", { onclick: () => grid.focus() }, T.skip),
	h(
		"header.top",
		button("menu", T.tree, () => {
			tree.hidden = !tree.hidden;
			folders.show();
		}),
		tabs,
		search.box,
		menu,
	),
	offline,
	h("div.columns", tree, grid.view, scale, fresh, health.view),
	bulk.bar,
);

let wasPhoto;
on("address", () => {
	const { item, folder, by, health: isHealth } = address.here;
	const before = list.source;
	[health.view.hidden, grid.view.hidden] = [!isHealth, Boolean(isHealth)];
	document.title = (isHealth ? T.health : address.nameOf(item ?? folder)) || shared.label || "Lenslet";
	if (!item) viewer.close();
	if (folder !== before?.path || by !== before.by) tree.hidden = Boolean(by) || !wide.matches;
	list.show(address.here);
	folders.show();
	if (isHealth) health.show();
	else if (!item && !wasPhoto && before === list.source) grid.seek(); // else the photo says where
	if (item) viewer.open(item);
	wasPhoto = Boolean(item);
});
on("opened", () => {
	updateAbove();
	grid.reset();
	search.show(list.source.query, address.nameOf(list.source.path));
});
on("list", () => {
	const { source } = list;
	// Without dates there is nothing to show by date, once all photos have been read.
	if (address.here.isStart && source.opened && !source.problem && !source.months.length && health.isIndexed) return address.replace("#/");
	folders.update();
	updateAbove();
	grid.update();
	viewer.update();
	put(fresh, source.more ? T.fresh(source.more) : "");
	fresh.hidden = !source.more;
});
on("indexed", () => {
	const { source } = list;
	if (address.here.isStart && source.opened && !source.months.length) source.load(() => source.look());
});
let last = 0;
on("scrolled", () => {
	const now = grid.top();
	if (Math.abs(now - last) < DOWN && now > DOWN) return;
	document.body.classList.toggle("low", now > last && now > DOWN); // a phone hides the header
	last = now;
});
on("trouble", (reason) => {
	[offline.textContent, offline.hidden] = [reason, !reason];
	(document.querySelector("dialog[open]") ?? document.body).prepend(offline);
});
tree.onclick = ({ target }) => {
	if (target === tree && !wide.matches) tree.hidden = true; // beside it, where it lies over the photos
};
addEventListener("beforeunload", (event) => hasUnsaved() && event.preventDefault());
if (await begin()) {
	address.start();
	health.follow();
}
