// The page: puts its parts together, and shows what the address says.

import { update as updateAbove } from "./above.js";
import * as address from "./address.js";
import { trouble } from "./api.js";
import * as bulk from "./bulk.js";
import { focus } from "./cursor.js";
import { button, h, isScreen, messages, onPhone, put, topmost } from "./dom.js";
import { hasUnsaved } from "./edits.js";
import { on } from "./events.js";
import * as grid from "./grid.js";
import * as health from "./health.js";
import * as list from "./list.js";
import { menu } from "./menu.js";
import { goTo, view } from "./scroller.js";
import { scale } from "./scrubber.js";
import * as search from "./search.js";
import { begin } from "./session.js";
import { T } from "./strings.js";
import * as folders from "./tree.js";
import * as viewer from "./viewer.js";

const offline = h("p.offline", { role: "alert" });
const { tabs, tree } = folders;
const onclick = () => {
	goTo(-Infinity);
	list.source.renew();
};
const fresh = h("button.fresh", { onclick, hidden: true });
const openTree = () => {
	tree.hidden = !tree.hidden;
	folders.show();
};
const treeButton = button("menu", T.tree, openTree, { hidden: !address.hasFolders });
const header = h("header.top", treeButton, search.box, menu);
const footer = h("footer", h("div.floats", messages(), fresh), bulk.bar);

document.body.append(
	h("button.skip", { onclick: () => focus() }, T.skip),
	header,
	h("div.columns", tree, view, scale, health.view),
	footer,
);
onPhone((isPhone) => (isPhone ? footer.append(tabs) : treeButton.after(tabs)));
new ResizeObserver(() => document.body.style.setProperty("--header", `${header.offsetHeight}px`)).observe(header);

let wasPhoto;
on("address", () => {
	const { item, folder, by, health: isHealth } = address.here;
	const before = list.source;
	[health.view.hidden, view.hidden] = [!isHealth, Boolean(isHealth)];
	if (!item) viewer.close();
	if (folder !== before?.path || by !== before.by) tree.hidden = Boolean(by) || !address.hasFolders || isScreen("narrow");
	const isInList = document.activeElement.matches("body, main *");
	list.show(address.here);
	if (isInList && before && before !== list.source) view.focus({ preventScroll: true });
	entitle();
	folders.show();
	if (isHealth) health.show();
	else if (!item && !wasPhoto && before === list.source) grid.seek(); // else the photo says where
	if (item) viewer.open(item);
	say();
	wasPhoto = Boolean(item);
});
// Names what is shown.
function entitle() {
	const { item, folder, health: isHealth } = address.here;
	const name = address.titleOf(folder);
	document.title = (isHealth ? T.health : item && address.nameOf(item)) || name || "Lenslet";
	search.within(name);
}

on("opened", () => {
	updateAbove();
	grid.reset();
	search.show(list.source.query);
});
on("list", () => {
	const { source } = list;
	// Without dates there is nothing to show by date, once all photos have been read.
	if (address.here.isStart && source.opened && !source.problem && !source.months.length && health.isIndexed) return address.replace("#/");
	entitle();
	folders.update();
	updateAbove();
	grid.update();
	viewer.update();
	put(fresh, source.more ? T.fresh(source.more) : "");
	fresh.hidden = !source.more;
});
on("indexed", () => {
	const { source } = list;
	if (address.here.isStart && source.opened && !source.months.length) source.renew();
});
// What the service does not answer, and what is not saved for that, is said wherever one is.
function say() {
	put(offline, trouble, hasUnsaved() && ` ${T.unsaved}`);
	if (trouble) topmost().append(offline);
	else offline.remove();
}
on("trouble", say);
on("edit", say);
tree.onclick = ({ target }) => {
	if (target === tree && isScreen("narrow")) tree.hidden = true; // beside it, where it lies over the photos
};
addEventListener("beforeunload", (event) => {
	if (hasUnsaved()) event.preventDefault();
});
if (begin()) {
	address.start();
	health.follow();
}
