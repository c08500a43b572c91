// How the library and its index process are, renewed every two seconds. Owns what is known of that.

import { pathHref } from "./address.js";
import { isKnown, pause, read } from "./api.js";
import { h, put } from "./dom.js";
import { announce } from "./events.js";
import { number, T } from "./strings.js";

const RENEW_MS = 2000;

export const view = h("main.health", { tabIndex: -1, hidden: true });
let shown;
export let isIndexed = !isKnown; // nothing is left, as far as is known; a guest does not ask
export let progress = ""; // a line, until then

// Yields what the service says of itself, until it refuses.
async function* reports(route, goesOn) {
	while (goesOn()) {
		const { data } = await read(route, {}).catch(() => ({}));
		if (!data) return;
		yield data;
		if (goesOn()) await pause(RENEW_MS);
	}
}

// Follows the index until nothing has been left for a moment, in which search learns of it.
export async function follow() {
	let [wasBusy, isBusy, isFirst] = [false, !isIndexed, true];
	for await (const workers of reports("health/workers", () => wasBusy || isBusy)) {
		[wasBusy, isBusy] = [isBusy && !isFirst, !workers.alive || workers.backlog > 0];
		progress = workers.backlog ? T.progress(workers) : (isBusy && !isFirst && workers.problems[0]) || "";
		isFirst = false;
		announce("progress");
	}
	isIndexed = true;
	announce("indexed");
}

// Draws health until it is hidden, shown anew, or refused.
export async function show() {
	const mine = (shown = {});
	for await (const report of reports("health", () => shown === mine && !view.hidden)) put(view, draw(report));
}

function draw({ status, problems, storage, workers, library }) {
	const { backlog = 0, images = 0 } = workers;
	const { counts = {}, problems: found = {}, unsupported = {} } = library ?? {};
	const { items = 0, thumbnails = 0, thumbnailsMissing = 0 } = counts;
	const list = Object.entries(T.counts).map(([kind, name]) => [h("dt", name), h("dd", number(counts[kind] ?? 0))]);
	return [
		h(`h1.${status}`, problems.length && status === "ok" ? T.healthNoted : T.healthOf[status]),
		h("ul", [...storage.problems, ...workers.problems].map((reason) => h("li", reason))),
		section(T.indexing, bar(T.progress(workers), backlog ? Math.max(0, 1 - backlog / images) : 1)),
		section(
			T.library,
			h("dl", list),
			bar(T.thumbnails(thumbnails, items, items - thumbnails - thumbnailsMissing), items ? 1 - thumbnailsMissing / items : 1),
			Object.keys(unsupported).length && h("p", T.unsupported(unsupported)),
		),
		problems.length && section(T.problems, problems.map((each) => problem(each, found[each.kind] ?? []))),
	];
}

const section = (title, ...content) => h("section", h("h2", title), content);
const bar = (text, value) => h("label", text, h("progress", { value }));

function problem({ title, advice, count }, shown) {
	const rows = shown.map(({ path, reason }) => h("li", h("a", { href: pathHref(path) }, path || "/"), " ", reason));
	const more = count > rows.length && h("li", T.more(count - rows.length));
	return [h("h3", `${title}: ${number(count)}`), h("p.advice.quiet", advice), h("ul", rows, more)];
}
