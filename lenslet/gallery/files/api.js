// Talks to the service. `read` and `write` wait until it answers; `send` fails with the reason.

import { announce } from "./events.js";
import { T } from "./strings.js";

// What `index.html` says of the service, and of who looks.
const { access, session, unnamed, previews, suffixes: names, link } = document.body.dataset;
export const writable = access === "write";
export const signedIn = session === "yes";
export const noPassword = unnamed; // why a proxy has to name users, if there is no password
export const suffixes = names.split(" "); // ".jpg", …
// What a guest's link shows: what is below `path` or, if it `isList`, photos without folders (`isSingle`: one); its `label`,
// and whether `download`. Who has none sees all; `links`: one can be made.
export const shared = { path: "", isList: false, download: true, links: false, ...JSON.parse(link) };
export const hasEnded = access === "ended"; // the link whose cookie this browser had
export const isGuest = access === "link" || hasEnded;
export const isKnown = access === "write" || access === "read"; // sees all

// Why a request failed: a sentence, the HTTP status (0: no answer), and the answer.
const problem = (status, body, etag) =>
	Object.assign(new Error(body.description || body.title || `HTTP ${status}`), { status, body, etag });

export let trouble = ""; // why the service does not answer
function report(reason) {
	trouble = reason;
	announce("trouble", reason);
}

const AWAY = [0, 502, 503, 504];
const [RETRY_MS, MOST_RETRY_MS, LIMIT_MS, AGAIN_MS] = [500, 8000, 60000, 2000];
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// A route's address, relative to the page, so that it is right below any path.
export const url = (route, params) => {
	const given = Object.entries(params).filter(([, value]) => value);
	return given.length ? `${route}?${new URLSearchParams(given)}` : route;
};
export const thumbUrl = ({ path, rev, thumb }) => url("thumb", { path, v: thumb ?? rev });
export const previewUrl = ({ path, rev }) => url("preview", { path, v: `${rev}-${previews}` });
export const tileUrl = ({ path, rev }) => url("preview", { path, size: 640, v: `${rev}-${previews.replace("1600", "640")}` });
export const fileUrl = ({ path }) => url("file", { path });
export const zipUrl = (path, q) => url("zip", { path, q, recursive: !q && "true" });

async function ask(method, address, { body, etag, signal, ...options } = {}) {
	const headers = { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...(etag && { "If-Match": etag }) };
	const limit = AbortSignal.timeout(LIMIT_MS); // a dead connection never answers
	options.signal = signal ? AbortSignal.any([signal, limit]) : limit;
	let answer;
	let data = {};
	try {
		answer = await fetch(address, { method, headers, body: body && JSON.stringify(body), ...options });
		data = JSON.parse((await answer.text()) || "{}");
	} catch (error) {
		signal?.throwIfAborted();
		if (!answer || answer.ok) throw problem(0, { description: error.message });
	}
	const tag = answer.headers.get("ETag");
	if (answer.status === 401 && address !== "session") announce("sign-in", data.description);
	if (!answer.ok) throw problem(answer.status, data, tag);
	return { status: answer.status, data, etag: tag, allow: answer.headers.get("Allow") };
}

// Asks again while the service is away or still working (202). The caller keeps what is refused.
export async function write(method, route, params, options = {}) {
	for (let wait = RETRY_MS; ; wait = Math.min(2 * wait, MOST_RETRY_MS)) {
		try {
			const answer = await ask(method, url(route, params), options);
			report("");
			if (answer.status !== 202) return answer;
		} catch (error) {
			if (!AWAY.includes(error.status)) throw error;
			if (error.body.problems) return { data: error.body }; // health of a library that is down
			report((error.status && error.body.description) || T.offline);
		}
		await pause(wait);
		options.signal?.throwIfAborted();
	}
}

export const read = (...request) => write("GET", ...request);

// Asks once.
export const send = (method, route, params, options) => ask(method, url(route, params), options);

const loaded = (image, address) =>
	new Promise((done) => Object.assign(image, { onload: () => done(true), onerror: () => done(false), src: address }));

// Loads an image from one of some addresses, and tries again while it may still come. Returns why it does not: "" once it is
// there, undefined if nobody waits for it any more.
export async function fetchImage(image, waits, ...addresses) {
	for (let tries = 0; waits(); tries++) {
		const address = addresses[tries % addresses.length];
		if (await loaded(image, address)) return "";
		const answer = await fetch(address).catch(() => ({ status: 0 }));
		const { description } = (await answer.json?.().catch(() => {})) ?? {};
		if (!answer.ok && !AWAY.includes(answer.status)) return waits() ? (description ?? `HTTP ${answer.status}`) : undefined;
		await pause(AGAIN_MS);
	}
}
