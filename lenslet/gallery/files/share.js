// Sharing: makes links, lists them, and takes them back.

import { here, titleOf } from "./address.js";
import { read, send, shared } from "./api.js";
import { dialog, form, h, put, select, textButton, toast } from "./dom.js";
import { source } from "./list.js";
import { T } from "./strings.js";

// Asks what guests may see of what is shown, or of a selection.
export function share(selected = []) {
	const path = selected.length ? "" : (here.item ?? here.folder);
	const name = source.terms.map(T.term).join(", ") || titleOf(path || here.folder) || T.photos;
	if (!shared.links) return dialog(T.share, h("div.made", h("p", T.openService), address(location.href)));
	const label = h("input", { name: "label", value: name, maxLength: 200, required: true });
	const mark = (name) => h("input", { type: "checkbox", name, checked: name === "download" });
	const options = Object.entries(T.guests).map(([name, [, text]]) => h("label.option", mark(name), text));
	const submit = async (asked) => {
		const what = selected.length ? { paths: selected } : { path, q: here.item ? "" : here.query };
		const shown = Object.fromEntries(Object.keys(T.guests).map((name) => [name, name in asked]));
		const { data } = await send("POST", "links", {}, { body: { ...what, label: asked.label, days: Number(asked.days), ...shown } });
		put(box, h("p", T.onlyHere), address(data.url)); // in place of the form: one link is enough
		box.querySelector("input").focus();
	};
	const isAll = !path && !selected.length && !here.query;
	const note = isAll ? h("p.problem", T.wholeLibrary) : h("p.quiet", T.folderNames);
	const ends = h("label", T.ends, select("days", T.days, "30"));
	const asks = form(submit, T.makeLink, h("label", T.label, label), ends, options, note);
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
	const { data } = await read("links", {});
	const row = (link) => {
		const back = async () => {
			await send("DELETE", `links/${link.id}`, {});
			toast(T.takenBack(link.label));
			line.remove();
		};
		const take = textButton(T.takeBack, back);
		take.ariaLabel = `${T.takeBack}: ${link.label}`;
		const line = h("li", h("b", link.label), h("small", T.linkOf(link)), take);
		return line;
	};
	dialog(T.links, data.links.length ? h("ul.links", data.links.map(row)) : h("p", T.noLinks));
}
