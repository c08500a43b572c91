// Signing in and out.

import { hasEnded, isGuest, send, signedIn } from "./api.js";
import { dialog, h, put, textButton, toast } from "./dom.js";
import { hasUnsaved } from "./edits.js";
import { on } from "./events.js";
import { T } from "./strings.js";

export const signOut = signedIn || isGuest ? textButton(T.signOut, leave) : "";

async function leave() {
	try {
		await send("DELETE", "session", {});
		location.reload();
	} catch (problem) {
		toast(problem.message);
	}
}

// Opens a link: its secret becomes a cookie, and leaves the address.
let opens = false;
export async function open(secret) {
	opens = true;
	history.replaceState(null, "", "./");
	try {
		await send("POST", "session", {}, { body: { link: secret } });
		location.reload();
	} catch (problem) {
		toast(problem.message);
	}
}

on("sign-in", (reason) => {
	const token = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
	const wrong = h("p.problem", { role: "alert" });
	const onsubmit = async (event) => {
		event.preventDefault();
		try {
			await send("POST", "session", {}, { body: { token: token.value } });
			if (!hasUnsaved()) location.reload();
			event.target.closest("dialog").close();
		} catch (problem) {
			put(wrong, problem.status === 401 ? T.badToken : problem.message);
		}
	};
	dialog(T.signIn, h("form", { onsubmit }, opens || isGuest || hasEnded ? h("p", reason) : "", h("label", T.token, token), wrong, h("button", T.signIn)));
});
