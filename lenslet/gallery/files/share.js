// Sharing: makes links, lists them, and takes them back.

import { here, titleOf } from "./address.js";
import { read, send, shared } from "./api.js";
import { dialog, form, h, put, textButton, toast } from "./dom.js";
import { source } from "./list.js";
import { T } from "./strings.js";

// Asks what guests may see of what is shown, or of a selection.
export function share(selected = []) {
	const path = selected.length ? "" : (here.item ?? here.folder);
	const name = source.terms.map(T.term).join(", ") || titleOf(path) || T.photos;
	if (!shared.links) return dialog(T.share, h("div.made", h("p", T.openService), address(location.href)));
	const label = h("input", { value: selected.length ? T.count(selected.length) : name, maxLength: 200, required: true });
	const days = h("select", Object.entries(T.days).map(([count, text]) => h("option", { value: count, selected: count === "30" }, text)));
	const mark = (key) => h("input", { type: "checkbox", checked: key === "download" });
	const marks = Object.entries(T.guests).map(([key, text]) => ({ key, text, box: mark(key) }));
	const submit = async () => {
		const what = selected.length ? { paths: selected } : { path, q: here.item ? "" : here.query };
		const shown = Object.fromEntries(marks.map(({ key, box }) => [key, box.checked]));
		const { data } = await send("POST", "links", {}, { body: { ...what, label: label.value, days: Number(days.value), ...shown } });
		put(box, h("p", T.onlyHere), address(data.url)); // in place of the form: one link is enough
	};
	const options = marks.map(({ text, box }) => h("label.option", box, text));
	const isAll = !path && !selected.length && !here.query;
	const note = isAll ? h("p.problem", T.wholeLibrary) : h("p.quiet", T.folderNames);
	const asks = form(submit, T.makeLink, h("label", T.label, label), h("label", T.ends, days), options, note);
	const box = h("div.made", { role: "status" }, asks);
	dialog(T.share, box);
}

// An address, to copy or to send.
function address(url) {
	const field = h("input", { value: url, readOnly: true, "aria-label": T.link, onfocus: () => field.select() });
	const copy = () => {
		field.select();
		document.execCommand("copy"); // the clipboard of browsers needs HTTPS
		toast(T.copied);
	};
	const sendIt = () => navigator.share({ url }).catch(() => {}); // one may close it
	return [field, textButton(T.copy, copy), navigator.share && textButton(T.share, sendIt)];
}

// Lists all links.
export async function links() {
	const { data, message } = await read("links", {}).catch((problem) => problem);
	const row = (link) => {
		const back = async () => {
			const problem = await send("DELETE", `links/${link.id}`, {}).catch((error) => error);
			toast(problem.message ?? T.takenBack(link.label));
			if (!problem.message) line.remove();
		};
		const line = h("li", h("b", link.label), h("small", T.linkOf(link)), textButton(T.takeBack, back));
		return line;
	};
	dialog(T.links, data?.links.length ? h("ul.links", data.links.map(row)) : h("p", message ?? T.noLinks));
}
