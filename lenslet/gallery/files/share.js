// Sharing: makes a link to a folder, a photo, a search or a selection, and lists and takes back the links.

import { here, nameOf, parent } from "./address.js";
import { read, send } from "./api.js";
import { dialog, h, put, textButton, toast } from "./dom.js";
import { source } from "./list.js";
import { T } from "./strings.js";

// Asks what guests may see of what is shown, or of a selection.
export function share(selected = []) {
	const path = selected.length ? "" : (here.item ?? here.folder);
	const name = source.terms.map(T.term).join(", ") || nameOf(path) || T.photos;
	const label = h("input", { value: selected.length ? T.count(selected.length) : name, maxLength: 200, required: true });
	const days = h("select", Object.entries(T.days).map(([count, text]) => h("option", { value: count, selected: count === "30" }, text)));
	const marks = Object.entries(T.guests).map(([key, text]) => ({ key, text, box: h("input", { type: "checkbox", checked: key === "download" }) }));
	const made = h("div.made", { role: "status" });
	const links = h("div");
	const onsubmit = async (event) => {
		event.preventDefault();
		try {
			const what = selected.length ? { paths: selected } : { path, q: here.item ? "" : here.query };
			const shown = Object.fromEntries(marks.map(({ key, box }) => [key, box.checked]));
			const { data } = await send("POST", "links", {}, { body: { ...what, label: label.value, days: Number(days.value), ...shown } });
			put(made, result(data.url));
			event.target.hidden = true; // one link is enough
			list(links);
		} catch (problem) {
			put(made, h("p.problem", problem.message));
		}
	};
	const options = marks.map(({ text, box }) => h("label.mark", box, text));
	const isAll = !path && !selected.length && !here.query;
	const above = selected.length ? h("p.quiet", T.folderNames) : isAll ? h("p.problem", T.wholeLibrary) : parent(path) && h("p.quiet", T.namesAbove(parent(path)));
	const form = h("form", { onsubmit }, h("label", T.label, label), h("label", T.ends, days), options, above, h("button", T.makeLink));
	dialog(T.shareOf(selected.length ? T.count(selected.length) : name), form, made, links);
	list(links, form);
}

function result(address) {
	const field = h("input", { value: address, readOnly: true, "aria-label": T.link, onfocus: () => field.select() });
	const copy = async () => {
		field.select();
		await navigator.clipboard?.writeText(address);
		toast(T.copied);
	};
	return [h("p", T.onlyHere), field, navigator.clipboard ? textButton(T.copy, copy) : ""];
}

// Lists the links. Where there can be none, `form` is not shown.
async function list(box, form) {
	const { data, message } = await read("links", {}).catch((problem) => problem);
	if (form && message) return form.replaceWith(h("p.problem", message));
	const row = (link) => {
		const back = async () => {
			const problem = await send("DELETE", `links/${link.id}`, {}).catch((error) => error);
			toast(problem.message ?? T.takenBack(link.label));
			list(box);
		};
		return h("li", h("b", link.label), h("small", T.linkOf(link)), textButton(T.takeBack, back));
	};
	put(box, data?.links.length && [h("h2", T.links), h("ul.links", data.links.map(row))]);
}
