// Suggestions below a field, and tags as tokens.

import { searchHref } from "./address.js";
import { send } from "./api.js";
import { button, h, put } from "./dom.js";
import { number, T } from "./strings.js";

const TYPING_MS = 120;
let lists = 0;

// A term for what a photo has, as a tag. A query cannot hold its quotes: then as words.
export function termOf(kind, text) {
	if (!text.includes('"')) return `${kind}:"${text}"`;
	const parts = text.split('"').map((part) => part.trim());
	return parts.filter(Boolean).map((part) => `"${part}"`).join(" ");
}

// Suggests completions of `word()`; `value(suggestion)` is the field with one, `pick()` takes it.
export function suggest(input, { word, value, pick }) {
	lists++;
	const list = h("datalist", { id: `suggestions-${lists}` });
	let timer;
	const look = async () => {
		const text = word();
		const answer = text && (await send("GET", "search/suggest", { q: text }).catch(() => {}));
		const before = input.value.slice(0, input.value.length - text.length);
		const option = (each) => h("option", { value: value(each), label: `${before}${each.text} (${number(each.count)})` });
		if (word() === text) put(list, answer && answer.data.suggestions.map(option));
	};
	input.setAttribute("list", list.id);
	input.autocomplete = "off";
	input.addEventListener("input", ({ inputType = "insertReplacementText" }) => {
		clearTimeout(timer);
		const known = [...list.children].some((option) => option.value === input.value);
		if (known && inputType === "insertReplacementText") pick();
		else timer = setTimeout(look, TYPING_MS);
	});
	return list;
}

// Returns a field for tags. `change(tags)` is called with a new list; with `many`, on Enter only.
export function tagField(label, change, many) {
	let tags = [];
	const tokens = h("ul.tokens");
	const input = h("input", { "aria-label": label, placeholder: label, maxLength: 200 });
	const token = (tag) => {
		const remove = () => change(tags.filter((each) => each !== tag));
		const link = h("a", { href: searchHref(termOf("tag", tag)) }, tag);
		return h("li", link, button("close", T.removeThisTag(tag), remove));
	};
	const add = (texts = input.value.split(",")) => {
		const added = texts.map((text) => text.trim()).filter((tag) => tag && !tags.includes(tag));
		input.value = "";
		if (added.length) change([...tags, ...new Set(added)]);
	};
	const list = suggest(input, { word: () => input.value, value: ({ text }) => text, pick: () => add([input.value]) });
	if (!many) input.onblur = () => add();
	input.onkeydown = (event) => {
		if (event.key === "Escape") input.value = "";
		if (!input.value || ![",", "Enter"].includes(event.key)) return;
		event.preventDefault();
		add();
	};
	const show = (now) => {
		if (now.join("\n") !== tags.join("\n")) put(tokens, now.map(token));
		tags = now;
	};
	return { show, element: h("div.tag-field", tokens, input, list) };
}
