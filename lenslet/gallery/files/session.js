// Signing in and out.

import { hasEnded, isGuest, isKnown, noPassword, send, signedIn } from "./api.js";
import { again, dialog, form, h, put, textButton, toast } from "./dom.js";
import { hasUnsaved, saveAll } from "./edits.js";
import { on } from "./events.js";
import { T } from "./strings.js";

export const signOut = (signedIn || isGuest) && textButton(isGuest ? T.closeLink : T.signOut, leave);

async function leave() {
	await send("DELETE", "session", {});
	location.reload();
}

// Calls `start` if the page may begin. The secret of a link becomes a cookie first, and leaves the address.
export function begin(start) {
	const [, secret] = location.hash.match(/^#secret=(.+)/) ?? [];
	if (secret && isKnown) {
		forget();
		start();
		toast(T.ownLink);
	} else if (isKnown) start();
	else if (secret) open(secret);
	else if (hasEnded || new URLSearchParams(location.search).has("link")) noPhotos();
	else if (isGuest) start();
	else alone(T.signIn, askForPassword());
}

// Shows this and nothing else.
function alone(title, ...content) {
	put(document.body, h("main", h("section.hint", h("h1", title), content)));
}

// What failed for a moment works again when the page is loaded anew: only a link that has ended is forgotten.
async function open(secret) {
	try {
		await send("POST", "session", {}, { body: { link: secret } });
		forget();
		location.reload();
	} catch ({ status, message }) {
		if (status !== 401) return alone(message, again());
		forget();
		noPhotos();
	}
}

const forget = () => history.replaceState(null, "", "./");

// A proxy may ask for the password: so signing in begins anew.
function noPhotos() {
	alone(T.noLink, h("p", T.askForLink), textButton(T.signIn, () => (location.href = "./")));
}

function askForPassword() {
	if (noPassword) return [h("p", noPassword), again()];
	const password = { name: "token", type: "password", autocomplete: "current-password", required: true };
	const submit = async (body) => {
		await send("POST", "session", {}, { body });
		if (hasUnsaved()) saveAll();
		else location.reload();
	};
	return form(submit, T.signIn, h("label", T.password, h("input", password)));
}

// A session has ended, or a link, which a new page then says.
on("sign-in", () => (isGuest ? location.reload() : dialog(T.signIn, askForPassword())));
