// How the library and its index process are, renewed every two seconds.

import { pause, read } from "./api.js";
import { h, put, svg } from "./dom.js";
import { number, T } from "./strings.js";
import { hrefOf } from "./tree.js";

const RENEW_MS = 2000;
const RATES = 6; // the rate is that of the last ten seconds

/** Draws health into `element` until `signal` is aborted. */
export async function showHealth(element, signal) {
	const seen = [];
	let drawn;
	put(element, h("p", { class: "quiet" }, T.loading));
	while (!signal.aborted) {
		const { data } = await read("health", {}, signal);
		seen.push([performance.now() / 1000, data.workers.imagesRead ?? 0]);
		const [[begun, before], [now, done]] = [seen.slice(-RATES)[0], seen.at(-1)];
		const rate = now > begun ? (done - before) / (now - begun) : 0;
		const { pulseSeconds, ...shown } = data.workers;
		const news = JSON.stringify([{ ...data, workers: shown }, rate]);
		if (news !== drawn) put(element, draw(data, rate));
		drawn = news;
		await pause(RENEW_MS);
	}
}

function draw({ status, reasons, workers, library }, rate) {
	const { alive, backlog = 0, backlogs = [], backlogSeconds, imagesRead = 0 } = workers;
	const { counts = {}, problems = {} } = library ?? {};
	const { items = 0, thumbnailsMissing = 0 } = counts;
	const time = backlog && rate > 0.1 ? T.duration(backlog / rate) : "";
	const list = Object.entries(T.counts).map(([kind, name]) => [h("dt", {}, name), h("dd", {}, number(counts[kind] ?? 0))]);
	const found = Object.keys(T.kinds).filter((kind) => counts[kind]);
	return [
		h("h1", { class: status }, T.healthOf[status]),
		h("ul", {}, reasons.map((reason) => h("li", {}, reason))),
		section(
			T.indexing,
			h("p", {}, alive ? T.alive : T.dead),
			bar(T.progress(backlog, Math.round(rate), time), backlog ? imagesRead / (imagesRead + backlog) : 1),
			plot(backlogs, backlogSeconds),
		),
		section(T.library, library ? [h("dl", {}, list), bar(T.thumbnails(items - thumbnailsMissing, items), items ? 1 - thumbnailsMissing / items : 1)] : h("p", {}, T.noReport)),
		section(T.problems, found.length ? null : h("p", {}, T.noProblems), found.map((kind) => problem(kind, counts[kind], problems[kind] ?? []))),
	];
}

const section = (title, ...content) => h("section", {}, h("h2", {}, title), content);
const bar = (text, share) => h("label", {}, text, h("progress", { max: 1, value: share }));

function plot(backlogs, seconds) {
	if (!backlogs.length) return null;
	const most = Math.max(...backlogs);
	const points = backlogs.map((each, index) => `${index},${40 - (38 * each) / (most || 1)}`).join(" ");
	const label = T.plot((backlogs.length * seconds) / 60, most);
	const view = { viewBox: `0 0 ${backlogs.length} 41`, preserveAspectRatio: "none", "aria-hidden": "true" };
	return h("figure", {}, svg("svg", view, svg("polyline", { points })), h("figcaption", {}, label));
}

function problem(kind, count, shown) {
	const [name, advice] = T.kinds[kind];
	const rows = shown.map(({ path, reason }) => h("li", {}, h("a", { href: hrefOf(path) }, path || "/"), " ", reason));
	const more = count > rows.length ? h("li", {}, T.more(count - rows.length)) : null;
	return [h("h3", {}, `${name}: ${number(count)}`), h("p", { class: "quiet" }, advice), h("ul", {}, rows, more)];
}
