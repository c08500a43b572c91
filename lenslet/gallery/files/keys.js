// The keys that work everywhere, and the list of all keys.

import { isGuest, writable } from "./api.js";
import { undo } from "./bulk.js";
import * as cursor from "./cursor.js";
import { dialog, focusTopmost, h } from "./dom.js";
import { view } from "./scroller.js";
import * as search from "./search.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";
import * as viewer from "./viewer.js";

const isTyping = ({ target }) => target.matches?.("input, textarea");

export function help() {
	const keys = { ...(!isGuest && { "/": T.search }), ...T.keys, ...(writable && T.keysOfEditors) };
	const commands = Object.entries(viewer.commands).map(([key, [, label]]) => [key.toUpperCase(), label]);
	const rows = [...Object.entries(keys), ...commands].map(([key, what]) => h("tr", h("th", h("kbd", key)), h("td", what)));
	dialog(T.help, h("table", h("tbody", rows)));
}

// Does what a key says; returns false if it says nothing here.
function press({ key, target }) {
	const moves = key.startsWith("Arrow") && target.matches("body, main, dialog *");
	if (!view.isConnected) return false; // before signing in
	if (key === "?") help();
	else if (document.querySelector(".sheet:is([open], :popover-open)")) return false;
	else if (viewer.isOpen()) return viewer.press(key);
	else if (key === "/") search.focus();
	else if (key === "Escape" && selection.size()) selection.clear();
	else if (moves && !view.hidden) cursor.focus();
	else if (!view.hidden && target.matches("body, main") && cursor.scroll(key)) return true;
	else return false;
	return true;
}

// Of the window: what had the focus may be gone.
addEventListener("keydown", (event) => {
	const { key, target, defaultPrevented, ctrlKey, metaKey, altKey } = event;
	if ((ctrlKey || metaKey) && key === "z" && (!isTyping(event) || (target.closest(".bulk") && !target.value))) undo();
	if (defaultPrevented || ctrlKey || metaKey || altKey) return;
	if (!isTyping(event)) {
		if (press(event)) event.preventDefault();
	} else if (key === "Escape" && view.isConnected) {
		focusTopmost();
		if (target.closest(".viewer")) event.preventDefault(); // which would close it
	}
});
