// Talks to the service. Reading waits until it answers; writing fails with the reason.

/** Why a request failed: its HTTP status (0: no answer), a sentence, and the answer. */
export class Problem extends Error {
  constructor(status, body = {}, etag = "") {
    super(body.description || body.title || `HTTP ${status}`);
    Object.assign(this, { status, body, etag });
  }
}

const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const JSON_TYPE = "application/json";
const say = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** The address of a route, relative to the page, so that it is right below any path. */
export const url = (route, params = {}) => {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== undefined && value !== ""));
  return `${route}${query.size ? `?${query}` : ""}`;
};
export const thumbUrl = (item) => url("thumb", { path: item.path, v: item.rev });
export const previewUrl = (item) => url("preview", { path: item.path, v: item.rev });
export const fileUrl = (item) => url("file", { path: item.path });

async function ask(method, address, { body, etag, signal } = {}) {
  const headers = { Accept: JSON_TYPE };
  if (body !== undefined) headers["Content-Type"] = JSON_TYPE;
  if (etag) headers["If-Match"] = etag;
  let answer, text;
  try {
    answer = await fetch(address, { method, headers, signal, body: body && JSON.stringify(body) });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { description: error.message });
  }
  let data = {};
  try {
    data = text ? JSON.parse(text) : {};
  } catch {
    if (answer.ok) throw new Problem(502, { description: "The answer is not JSON." });
  }
  if (answer.status === 401) say("sign-in");
  const tag = answer.headers.get("ETag") ?? "";
  if (!answer.ok) throw new Problem(answer.status, data, tag);
  return { status: answer.status, data, etag: tag, allow: answer.headers.get("Allow") };
}

/** Reads. Asks again while the service is away (0, 502, 503, 504) or still working (202). */
export async function read(route, params, { signal } = {}) {
  for (let tries = 0; ; tries++) {
    try {
      const answer = await ask("GET", url(route, params), { signal });
      say("connection", true);
      if (answer.status !== 202) return answer;
    } catch (error) {
      if (![0, 502, 503, 504].includes(error.status)) throw error;
      say("connection", false);
    }
    await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
    signal?.throwIfAborted();
  }
}

/** Writes, once: the caller keeps what could not be written. */
export const write = (method, route, params, options) => ask(method, url(route, params), options);

/** Asks why an image was not sent. Its status is 0 if nobody answers, 202 if it is being made. */
export async function whyNot(address) {
  try {
    return await ask("GET", address);
  } catch (problem) {
    return problem;
  }
}
