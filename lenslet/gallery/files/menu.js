// The menu: the order of the list, other views of it, and what concerns the service.

import { describe } from "./above.js";
import { isGuest, shared, writable, zipUrl } from "./api.js";
import { rename } from "./bulk.js";
import { here, photosHref, reverseHref } from "./address.js";
import { button, download, h, put, textButton } from "./dom.js";
import { help } from "./keys.js";
import { source } from "./list.js";
import { signOut } from "./session.js";
import { links, share } from "./share.js";
import { T } from "./strings.js";

// The tag, if nothing else is searched for.
function onlyTag() {
	const [{ not, field, word } = {}, ...more] = source.terms;
	return !here.folder && !more.length && !not && field === "tag" ? word : "";
}

const zip = textButton(T.download, () => download(zipUrl(here.folder, here.query)));

const list = h("div.menu.sheet", { popover: "auto" });
list.addEventListener("click", () => list.hidePopover(), true); // first, so that a dialog gives the focus back to the button
list.onbeforetoggle = ({ newState }) => {
	if (newState !== "open") return;
	const link = (href, text) => h("a", { href }, text);
	put(
		list,
		here.by !== "added" && !here.health && link(reverseHref(), T.orders[here.by || "name"][here.order ? 1 : 0]),
		!shared.isList && link(photosHref({ by: "added", folder: here.folder || shared.path }), T.added),
		writable && !here.health && textButton(T.share, () => share()),
		writable && shared.links && textButton(T.links, links),
		!isGuest && !here.health && (here.folder || here.query) && zip,
		writable && !here.by && !here.health && textButton(T.describe, describe),
		writable && onlyTag() && textButton(T.renameTag(onlyTag()), () => rename(onlyTag())),
		!isGuest && link("#health", T.health),
		!isGuest && textButton(T.help, help),
		signOut,
	);
};
const isInHeader = isGuest && shared.download && !shared.isSingle;
export const menu = [isInHeader && zip, button("more", T.menu, undefined, { popoverTargetElement: list }), list];
