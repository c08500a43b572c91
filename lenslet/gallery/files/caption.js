// The terms of a query, and the line of a result that they match.

import { h } from "./dom.js";

const TERM = /(-?)(?:(tag|name|notes|path|camera|lens|date):)?(?:"([^"]*)"?|(\S+))/gi;
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
	[...query.matchAll(TERM)].map(([text, not, field, phrase, word]) => ({ text, not, field: field?.toLowerCase(), word: phrase ?? word }));

// A term for what a photo has, as a tag. A query cannot hold its quotes: then as words.
export const termOf = (kind, text) => (text.includes('"') ? text.split('"').filter((part) => part.trim()).map((part) => `"${part.trim()}"`).join(" ") : `${kind}:"${text}"`);

// Returns a function from a photo to the line of its title, caption or notes that a query matches, if one does.
export function matcher(query) {
	const wanted = terms(query).filter(({ not, field, word }) => word && !not && (!field || field === "notes")).map(({ word }) => fold(word));
	if (!wanted.length) return () => "";
	const hits = (line) => wanted.some((word) => fold(line).includes(word));
	return ({ title = "", caption = "", notes = "" }) => [title, caption, notes].join("\n").split("\n").find(hits);
}

export const caption = ({ name }, line) => h("p.caption", { title: line }, h("span", name), h("small", line));
