// The bar that changes the tags of all photos that are selected.

import { button, h, put, toast } from "./dom.js";
import { FAVOURITE, tagAll } from "./edits.js";
import { on } from "./events.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";
import { tagField } from "./tags.js";

const count = h("b", { role: "status" });
const field = (label, key) => tagField(label, (tags) => tag({ [key]: tags }), true).element;
export const bar = h(
	"section.bulk",
	{ "aria-label": T.tags, hidden: true },
	count,
	button("star", T.favourite, () => tag({ add: [FAVOURITE] })),
	[field(T.addTag, "add"), field(T.removeTag, "remove")],
	button("close", T.clearSelection, selection.clear),
);

on("selection", () => {
	bar.hidden = !selection.size();
	put(count, T.selected(selection.size()));
});

async function tag(change) {
	try {
		const results = await tagAll(selection.all(), change);
		const failed = results.filter(({ tags }) => !tags);
		toast(failed.length ? T.notTagged(failed.length, failed[0].description) : T.tagged(results.length));
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}
