// Saved searches: a name for what a query finds in a folder. Owns them.

import { here } from "./address.js";
import { isGuest, send } from "./api.js";
import { dialog, form, h } from "./dom.js";
import { announce, on } from "./events.js";
import { T } from "./strings.js";

export let saved = []; // each with its `name`, `q` and `path`

async function ask(method, search) {
	const { data } = await send(method, "searches", search);
	saved = data.searches;
	announce("searches");
}

// Others may have saved some meanwhile.
on("opened", () => {
	if (!isGuest && (here.query || !here.folder)) ask("GET", {}).catch(() => {});
});

// Asks for the name of the search that is shown.
export function save() {
	const { query: q, folder: path } = here;
	const input = h("input", { name: "name", maxLength: 100, required: true });
	dialog(T.saveSearch, form(({ name }) => ask("PUT", { name, q, path }), T.save, h("label", T.searchName, input)));
}

export const forget = ({ name }) => ask("DELETE", { name });
