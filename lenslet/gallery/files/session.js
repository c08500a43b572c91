// Signing in and out.

import { hasEnded, isGuest, isKnown, send, signedIn } from "./api.js";
import { dialog, h, put, textButton, toast } from "./dom.js";
import { hasUnsaved, saveAll } from "./edits.js";
import { on } from "./events.js";
import { T } from "./strings.js";

export const signOut = signedIn || isGuest ? textButton(isGuest ? T.closeLink : T.signOut, leave) : "";

async function leave() {
	try {
		await send("DELETE", "session", {});
		location.reload();
	} catch (problem) {
		toast(problem.message);
	}
}

// True once the page may begin. The secret of a link becomes a cookie first, and leaves the address.
export async function begin() {
	const [, secret] = location.hash.match(/^#secret=(.+)/) ?? [];
	if (secret) {
		if (!isKnown) return open(secret);
		forget();
		toast(T.ownLink);
	} else if (hasEnded) return noPhotos(T.linkEnded);
	else if (!isKnown && !isGuest && new URLSearchParams(location.search).has("link")) return noPhotos(T.partOfLink);
	return true;
}

// What failed for a moment works again when the page is loaded anew: only a link that has ended is forgotten.
async function open(secret) {
	try {
		await send("POST", "session", {}, { body: { link: secret } });
		forget();
		location.reload();
	} catch ({ status, message }) {
		if (status === 401) forget();
		noPhotos(message);
	}
}

const forget = () => history.replaceState(null, "", "./");

// A proxy may ask for the password: so signing in begins anew.
function noPhotos(reason) {
	dialog(T.linkFailed, h("p", reason), h("p", T.askForLink), textButton(T.signIn, () => (location.href = "./")));
}

on("sign-in", (reason) => {
	if (isGuest) return noPhotos(reason);
	const token = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
	const wrong = h("p.problem", { role: "alert" });
	const onsubmit = async (event) => {
		event.preventDefault();
		try {
			await send("POST", "session", {}, { body: { token: token.value } });
			if (!hasUnsaved()) location.reload();
			event.target.closest("dialog").close();
			saveAll();
		} catch (problem) {
			put(wrong, problem.status === 401 ? T.badToken : problem.message);
		}
	};
	dialog(T.signIn, h("form", { onsubmit }, h("label", T.token, token), wrong, h("button", T.signIn)));
});
