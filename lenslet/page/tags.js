// Suggestions below a field, and tags as tokens.

import { read } from "./api.js";
import { button, h, put } from "./dom.js";
import { number, T } from "./strings.js";

const TYPING_MS = 120;
let lists = 0;

/**
 * Suggests values for a field while one types, in the browser's own way (`datalist`).
 * `word()` is the text to complete, `value(suggestion)` the value of the field with it, and
 * `pick()` is called when one was chosen. Of `kind` are all suggestions, if it is given.
 */
export function suggest(input, { word, value, pick, kind }) {
	const list = h("datalist", { id: `suggestions-${++lists}` });
	let timer;
	const look = async () => {
		const text = word();
		try {
			const { suggestions } = text ? (await read("search/suggest", { q: text, limit: 20 })).data : { suggestions: [] };
			if (word() !== text) return;
			const wanted = suggestions.filter((each) => !kind || each.kind === kind);
			const shown = (each) => `${input.value.slice(0, input.value.length - text.length)}${each.text} (${number(each.count)})`;
			put(list, wanted.map((each) => h("option", { value: value(each), label: shown(each) })));
		} catch {
			put(list); // nobody needs suggestions
		}
	};
	for (const [name, text] of [["list", list.id], ["autocomplete", "off"]]) input.setAttribute(name, text);
	input.addEventListener("input", ({ inputType }) => {
		clearTimeout(timer);
		const typed = inputType && inputType !== "insertReplacementText";
		if (!typed && [...list.children].some((option) => option.value === input.value)) return pick();
		timer = setTimeout(look, TYPING_MS);
	});
	return list;
}

/** A field for tags. `change(tags)` is called with every new list. */
export class TagField {
	tags = [];

	constructor(label, change, readonly) {
		Object.assign(this, { change, readonly });
		this.tokens = h("ul", { class: "tokens", "aria-label": label });
		this.input = h("input", { "aria-label": label, placeholder: label, maxLength: 200 });
		const pick = () => this.#add();
		const list = suggest(this.input, { word: () => this.input.value, value: ({ text }) => text, pick, kind: "tag" });
		this.input.onkeydown = (event) => {
			const { value } = this.input;
			if (value && (event.key === "Enter" || event.key === ",")) event.preventDefault(this.#add());
			else if (!value && event.key === "Backspace") this.#set(this.tags.slice(0, -1));
		};
		this.input.onblur = () => this.#add();
		this.element = h("div", { class: "tag-field" }, this.tokens, readonly ? null : [this.input, list]);
	}

	show(tags) {
		this.tags = [...tags];
		const remove = (tag) => button("close", T.removeThisTag(tag), () => this.#set(this.tags.filter((each) => each !== tag)));
		const href = (tag) => `#/?${new URLSearchParams({ q: `tag:"${tag}"` })}`;
		put(this.tokens, tags.map((tag) => h("li", {}, h("a", { href: href(tag) }, tag), this.readonly ? null : remove(tag))));
	}

	#add() {
		const tag = this.input.value.trim();
		this.input.value = "";
		if (tag && !this.tags.includes(tag)) this.#set([...this.tags, tag]);
	}

	#set(tags) {
		this.show(tags);
		this.change(tags);
	}
}
