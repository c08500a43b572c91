// The page: puts its parts together, and shows what the address says.

import { update as updateAbove } from "./above.js";
import * as address from "./address.js";
import { trouble } from "./api.js";
import * as bulk from "./bulk.js";
import { focus } from "./cursor.js";
import { button, focusTopmost, h, messages, onPhone, put, topmost } from "./dom.js";
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

onPhone((isPhone) => (isPhone ? footer.append(tabs) : treeButton.after(tabs)));
new ResizeObserver(() => document.body.style.setProperty("--header", `${header.offsetHeight}px`)).observe(header);

let wasPhoto;
on("address", () => {
	const { item, folder, by, health: isHealth } = address.here;
	const before = list.source;
	[health.view.hidden, view.hidden] = [!isHealth, Boolean(isHealth)];
	if (!item) viewer.close();
	if (folder !== before?.path || by !== before.by) tree.hidden = Boolean(by) || !address.hasFolders;
	list.show(address.here);
	entitle();
	folders.show();
	if (isHealth) health.show();
	else if (!item && !wasPhoto && before === list.source) grid.seek(); // else the photo says where
	if (item) viewer.open(item);
	say();
	wasPhoto = Boolean(item);
});
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
	entitle();
	folders.update();
	updateAbove();
	grid.update();
	viewer.update();
	put(fresh, source.more && T.fresh(source.more));
	fresh.hidden = !source.more;
});
on("indexed", () => list.source.opened && !list.source.count && list.source.renew());
// What the service does not answer, and what is not saved for that, is said wherever one is.
function say() {
	put(offline, trouble, hasUnsaved() && ` ${T.unsaved}`);
	if (trouble) topmost(".messages").append(offline);
	else offline.remove();
}
on("trouble", say);
on("edit", say);
// What had the focus may go: then what is shown has it.
let last;
addEventListener("focusin", ({ target }) => (last = target));
const keepFocus = () => {
	const { activeElement, body } = document;
	const had = activeElement === body ? last : activeElement;
	if (had && (!had.isConnected || had.closest("[hidden], dialog:not([open])"))) focusTopmost();
};
new MutationObserver(keepFocus).observe(document.body, { childList: true, subtree: true, attributeFilter: ["hidden", "open"] });
addEventListener("beforeunload", (event) => {
	if (hasUnsaved()) event.preventDefault();
});
begin(() => {
	const skip = h("button.skip", { onclick: () => focus() }, T.skip);
	document.body.append(skip, header, h("div.columns", tree, view, scale, health.view), footer);
	address.start();
	health.follow();
});
