// The menu: the order of the list, other views of it, and what concerns the service.

import { here, photosHref, reverseHref, searchHref } from "./address.js";
import { button, h, put, textButton } from "./dom.js";
import { FAVOURITE } from "./edits.js";
import { help } from "./keys.js";
import { signOut } from "./session.js";
import { T } from "./strings.js";

const list = h("div.menu.sheet", { popover: "auto", onclick: () => list.hidePopover() });
list.onbeforetoggle = () => {
	const link = (href, text) => h("a", { href }, text);
	put(
		list,
		here.by !== "added" && !here.health && link(reverseHref(), T.orders[here.by || "name"][here.order ? 1 : 0]),
		link(photosHref({ by: "added", folder: here.folder }), T.added),
		link(searchHref(`tag:${FAVOURITE}`), T.favourites),
		link("#health", T.health),
		textButton(T.help, help),
		signOut,
	);
};
export const menu = [button("more", T.menu, undefined, { popoverTargetElement: list }), list];
