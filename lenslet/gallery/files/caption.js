// The terms of a query, and what of a result they match.

import { h } from "./dom.js";

const TERM = /(-?)(?:(tag|name|notes|path|camera|lens|date):)?(?:"([^"]*)"?|(\S+))/g;
// As `_LOOKALIKES` in lenslet/search/format.py; and what `casefold` does there.
const LOOKALIKES = new Map(
	`łl øo đd ðd ħh ŧt ıi ƀb ȼc ɇe ǥg ɨi ɉj ƚl ɵo ɍr ʉu ɏy ƶz ⱥa ⱦt ɓb ɖd ɗd ƙk ŋn ƴy æae œoe þth
	‘' ’' ‚' ‛' ′' ʻ' ʼ' ‹' ›' “" ”" „" ‟" «" »" ‐- ‒- –- —- ―- −- ßss ςσ`
		.split(/\s+/).map(([first, ...rest]) => [first, rest.join("")]),
);
const fold = (text) =>
	text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/\P{ASCII}/gu, (each) => LOOKALIKES.get(each) ?? each);

// Returns the terms of a query, each with its whole `text`.
export const terms = (query) =>
	[...query.matchAll(TERM)].map(([text, not, field, phrase, word]) => ({ text, not, field, word: phrase ?? word }));

// A term for what a photo has, as a tag. A query cannot hold its quotes: then as words.
export const termOf = (kind, text) => (text.includes('"') ? text.split('"').filter((part) => part.trim()).map((part) => `"${part.trim()}"`).join(" ") : `${kind}:"${text}"`);

export function caption({ name, path, tags = [], keywords = [], title = "", caption = "", notes = "" }, query) {
	const wanted = terms(query).filter(({ not, field }) => !not && field !== "date");
	const hits = (text) => wanted.some(({ word }) => word && fold(text).includes(fold(word)));
	const tagged = [...tags, ...keywords].filter(hits).join(", ");
	const line = [title, caption, notes].join("\n").split("\n").find(hits);
	const more = tagged || line || path.slice(0, -name.length - 1);
	return h("p.caption", { title: more }, h("span", name), h("small", more));
}
