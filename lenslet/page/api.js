// Talks to the service. Reading waits until it answers; writing fails with the reason.

/** Why a request failed: its HTTP status (0: no answer), a sentence, and the answer. */
export class Problem extends Error {
	constructor(status, body, etag) {
		super(body.description || body.title || `HTTP ${status}`);
		Object.assign(this, { status, body, etag });
	}
}

const JSON_TYPE = "application/json";
const [RETRY_MS, MOST_RETRY_MS] = [500, 8000];
const say = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A route's address, relative to the page, so that it is right below any path. */
export const url = (route, params = {}) => {
	const given = Object.entries(params).filter(([, value]) => value !== undefined);
	return given.length ? `${route}?${new URLSearchParams(given)}` : route;
};
export const thumbUrl = ({ path, rev }) => url("thumb", { path, v: rev });
export const previewUrl = ({ path, rev }) => url("preview", { path, v: rev });
export const fileUrl = ({ path }) => url("file", { path });

async function ask(method, address, { body, etag, signal } = {}) {
	const headers = { Accept: JSON_TYPE };
	if (body) headers["Content-Type"] = JSON_TYPE;
	if (etag) headers["If-Match"] = etag;
	let answer, data;
	try {
		answer = await fetch(address, { method, headers, signal, body: body && JSON.stringify(body) });
		const text = await answer.text();
		data = JSON.parse(text || "{}");
	} catch (error) {
		signal?.throwIfAborted();
		if (!answer || answer.ok) throw new Problem(0, { description: error.message });
		data = {};
	}
	if (answer.status === 401) say("sign-in");
	const tag = answer.headers.get("ETag");
	if (!answer.ok) throw new Problem(answer.status, data, tag);
	return { status: answer.status, data, etag: tag, allow: answer.headers.get("Allow") };
}

/** Reads. Asks again while the service is away (0, 502, 503, 504) or still working (202). */
export async function read(route, params, signal) {
	for (let wait = RETRY_MS; ; wait = Math.min(2 * wait, MOST_RETRY_MS)) {
		try {
			const answer = await ask("GET", url(route, params), { signal });
			say("connection", "");
			if (answer.status !== 202) return answer;
		} catch (problem) {
			if (![0, 502, 503, 504].includes(problem.status)) throw problem;
			if (problem.body.status) return { data: problem.body }; // health of a library that is down
			say("connection", problem.status ? problem.message : "-");
		}
		await pause(wait);
		signal?.throwIfAborted();
	}
}

/** Writes, once: the caller keeps what could not be written. */
export const write = (method, route, params, options) => ask(method, url(route, params), options);

/** Asks why an image was not sent: returns an answer (202: it is being made) or a `Problem`. */
export const whyNot = (address) => ask("GET", address).catch((problem) => problem);
