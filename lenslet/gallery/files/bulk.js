// The bar that changes all selected photos. The last change of tags can be undone.

import { shared } from "./api.js";
import { button, dialog, form, h, put, textButton, toast } from "./dom.js";
import { FAVOURITE, tagAll } from "./edits.js";
import { on } from "./events.js";
import * as list from "./list.js";
import * as selection from "./selection.js";
import { T } from "./strings.js";
import { share } from "./share.js";
import { tagField } from "./tags.js";

const count = h("b", { role: "status" });
const field = (label, key) => tagField(label, (tags) => tag({ [key]: tags }), true).element;
const fields = h("div.fields.sheet", { popover: "auto" }, field(T.addTag, "add"), field(T.removeTag, "remove"));
const showFields = button("tag", T.tags, undefined, { popoverTargetElement: fields });
export const bar = h(
	"section.bulk",
	{ "aria-label": T.tags, hidden: true },
	button("close", T.clearSelection, selection.clear),
	count,
	textButton(T.all, selection.everything),
	button("star", T.favourite, () => tag({ add: [FAVOURITE] })),
	showFields,
	fields,
	shared.links && button("share", T.share, async () => share(await selection.all())),
	button("download", T.download, download),
);

on("selection", () => {
	bar.hidden = !selection.size();
	put(count, T.selected(selection.size(), selection.isGrowing()));
});

// The browser saves the answer to a form as it comes, and shows how far it is. A refusal is shown in a tab of its own.
async function download() {
	const paths = h("input", { name: "paths", value: JSON.stringify(await selection.all()) });
	const request = h("form", { method: "post", action: "zip", target: "_blank", hidden: true }, paths);
	document.body.append(request);
	request.submit();
	request.remove();
}

const tag = async (wanted) => change(await selection.all(), wanted);

let last = new Map(); // what was changed last: results by what brings the photos back
let offer; // says so, with a button that does

async function change(paths, wanted) {
	try {
		const results = await tagAll(paths, wanted);
		const failed = results.filter(({ tags }) => !tags);
		const groups = groupsOf(results);
		const text = failed.length ? T.notTagged(failed.length, failed[0].description) : T.tagged([...groups.values()].flat().length);
		if (!groups.size) return toast(text);
		last = groups;
		offer = toast(text, textButton(T.undo, undo));
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}

function groupsOf(results) {
	const changed = results.filter(({ added, removed }) => added?.length || removed?.length);
	return Map.groupBy(changed, ({ added, removed }) => JSON.stringify({ add: removed, remove: added }));
}

// Brings back the tags as they were before the last change of several photos.
export async function undo() {
	const groups = last;
	last = new Map();
	offer?.remove();
	try {
		let count = 0;
		for (const [wanted, changed] of groups) {
			const results = await tagAll(changed.map(({ path }) => path), JSON.parse(wanted));
			count += results.filter(({ tags }) => tags).length;
		}
		if (count) toast(T.undone(count));
	} catch (problem) {
		toast(T.notSaved(problem.message));
	}
}

// Asks for another name of a tag, and renames it wherever it is in the list.
export function rename(old) {
	const input = h("input", { name: "name", value: old, maxLength: 200, required: true });
	const paths = [];
	const take = (items) => {
		for (const { path, tags } of items) if (tags?.includes(old)) paths.push(path);
		return true;
	};
	const submit = async ({ name }) => {
		const wanted = name.trim();
		if (!wanted || wanted === old) return;
		await list.source.each(0, list.source.count - 1, take);
		change(paths, { add: [wanted], remove: [old] });
	};
	dialog(T.renameTag(old), form(submit, T.save, h("label", T.newName, input)));
}
