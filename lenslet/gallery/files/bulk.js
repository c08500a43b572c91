// The bar that changes the tags of all selected photos. The last change can be undone.

import { button, h, put, textButton, toast } from "./dom.js";
import { FAVOURITE, tagAll } from "./edits.js";
import { on } from "./events.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";
import { share } from "./share.js";
import { tagField } from "./tags.js";

const count = h("b", { role: "status" });
const field = (label, key) => tagField(label, (tags) => tag({ [key]: tags }), true).element;
export const bar = h(
	"section.bulk",
	{ "aria-label": T.tags, hidden: true },
	count,
	button("star", T.favourite, () => tag({ add: [FAVOURITE] })),
	button("share", T.share, () => share(selection.all())),
	button("download", T.download, download),
	[field(T.addTag, "add"), field(T.removeTag, "remove")],
	button("close", T.clearSelection, selection.clear),
);

on("selection", () => {
	bar.hidden = !selection.size();
	put(count, T.selected(selection.size()));
});

// The browser saves the answer to a form as it comes, and shows how far it is. A refusal is shown in a tab of its own.
function download() {
	const paths = h("input", { name: "paths", value: JSON.stringify(selection.all()) });
	const form = h("form", { method: "post", action: "zip", target: "_blank", hidden: true }, paths);
	document.body.append(form);
	form.submit();
	form.remove();
}

async function tag(change) {
	try {
		const results = await tagAll(selection.all(), change);
		const failed = results.filter(({ tags }) => !tags);
		last = groupsOf(results);
		const revert = last.size ? textButton(T.undo, undo) : "";
		toast(failed.length ? T.notTagged(failed.length, failed[0].description) : T.tagged([...last.values()].flat().length), revert);
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}

let last = new Map(); // what was changed last: photos by what brings them back

function groupsOf(results) {
	const groups = new Map();
	for (const { path, added = [], removed = [] } of results) {
		if (!added.length && !removed.length) continue;
		const key = JSON.stringify({ add: removed, remove: added });
		groups.set(key, [...(groups.get(key) ?? []), path]);
	}
	return groups;
}

// Brings back the tags as they were before the last change of several photos.
export async function undo() {
	const groups = last;
	last = new Map();
	try {
		let count = 0;
		for (const [change, paths] of groups) count += (await tagAll(paths, JSON.parse(change))).filter(({ tags }) => tags).length;
		if (count) toast(T.undone(count));
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}
