// How a result of a search shows what matched.

import { h } from "./dom.js";

const TERM = /(-?)(?:(tag|name|notes|path|date):)?(?:"([^"]*)"?|(\S+))/g;
const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// Returns the terms of a query, each with its whole `text`.
export const terms = (query) =>
	[...query.matchAll(TERM)].map(([text, not, field, phrase, word]) => ({ text, not, field, word: phrase ?? word }));

// Returns the words that a query looks for, folded as search does.
const words = (query) => terms(query).filter(({ not, field }) => !not && field !== "date").map(({ word }) => fold(word));

// Returns a text with what matches in `<mark>` elements.
function marked(text, wanted) {
	const letters = (word) => [...word].map((letter) => `${letter.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&")}\\p{M}*`).join("");
	const pattern = wanted.filter(Boolean).map(letters).join("|");
	const parts = text.normalize("NFKD").split(pattern ? RegExp(`(${pattern})`, "iu") : undefined);
	return parts.map((part, index) => (index % 2 ? h("mark", part) : part));
}

export function caption({ name, path, tags = [], notes = "" }, query) {
	const wanted = words(query);
	const hits = (text) => wanted.some((word) => word && fold(text).includes(word));
	const tagged = tags.filter(hits).join(", ");
	const line = notes.split("\n").find(hits);
	const more = tagged || line || path.slice(0, -name.length - 1);
	return h("p.caption", { title: more }, h("span", marked(name, wanted)), h("small", marked(more, wanted)));
}
