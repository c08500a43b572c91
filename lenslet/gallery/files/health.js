// How the library and its index process are, renewed every two seconds.

import { pathHref } from "./address.js";
import { pause, read } from "./api.js";
import { h, put } from "./dom.js";
import { number, T } from "./strings.js";

const RENEW_MS = 2000;

export const view = h("main.health", { tabIndex: -1, hidden: true });
let shown;

// Draws health until it is hidden, shown anew, or refused.
export async function show() {
	const mine = (shown = {});
	for (let seconds = 0, first; shown === mine && !view.hidden; seconds += RENEW_MS / 1000) {
		const { data } = await read("health", {}).catch(() => ({}));
		if (!data) return;
		const { imagesRead = 0 } = data.workers;
		first ??= imagesRead;
		put(view, draw(data, seconds && (imagesRead - first) / seconds));
		await pause(RENEW_MS);
	}
}

function draw({ status, problems, storage, workers, library }, rate) {
	const { backlog = 0, imagesRead = 0 } = workers;
	const { counts = {}, problems: found = {}, unsupported = {} } = library ?? {};
	const { items = 0, thumbnails = 0, thumbnailsMissing = 0 } = counts;
	const time = backlog && rate > 0.1 ? T.duration(backlog / rate) : "";
	const list = Object.entries(T.counts).map(([kind, name]) => [h("dt", name), h("dd", number(counts[kind] ?? 0))]);
	return [
		h(`h1.${status}`, problems.length && status === "ok" ? T.healthNoted : T.healthOf[status]),
		h("ul", [...storage.problems, ...workers.problems].map((reason) => h("li", reason))),
		section(T.indexing, bar(T.progress(backlog, Math.round(rate), time), backlog ? imagesRead / (imagesRead + backlog) : 1)),
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
	return [h("h3", `${title}: ${number(count)}`), h("p.advice.quiet", advice), h("ul", rows, count > rows.length ? h("li", T.more(count - rows.length)) : "")];
}
