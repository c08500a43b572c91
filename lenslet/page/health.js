// How the library and its index process are, renewed every two seconds while it is shown.

import { pause, read } from "./api.js";
import { h, put, svg } from "./dom.js";
import { number, T } from "./strings.js";
import { hrefOf } from "./tree.js";

const RENEW_MS = 2000;
const RATES = 5; // the rate is that of the last ten seconds

/** Draws health into `element` until `signal` is aborted. */
export async function showHealth(element, signal) {
  const seen = [];
  put(element, h("p", { class: "quiet" }, T.loading));
  while (!signal.aborted) {
    try {
      const { data } = await read("health", {}, { signal, down: true });
      const open = [...element.querySelectorAll("details")].map((each) => each.open && each.dataset.kind);
      seen.push({ at: performance.now(), read: data.workers?.imagesRead ?? 0 });
      if (seen.length > RATES + 1) seen.shift();
      put(element, draw(data, rate(seen)));
      for (const each of element.querySelectorAll("details")) each.open ||= open.includes(each.dataset.kind);
    } catch (problem) {
      if (signal.aborted) return;
      put(element, h("p", { class: "problem", role: "alert" }, problem.message));
    }
    await pause(RENEW_MS);
  }
}

const rate = (seen) => (1000 * (seen.at(-1).read - seen[0].read)) / Math.max(seen.at(-1).at - seen[0].at, 1);

function draw({ status, reasons, workers, library }, perSecond) {
  const counts = library?.counts ?? {};
  const left = workers.backlog ?? 0;
  const done = workers.imagesRead ?? 0;
  const made = (counts.items ?? 0) - (counts.thumbnailsMissing ?? 0);
  const time = left && perSecond > 0.1 ? T.duration(left / perSecond) : "";
  return [
    h("h1", { class: status }, T.healthOf[status]),
    reasons?.length ? h("ul", { class: "reasons" }, reasons.map((reason) => h("li", {}, reason))) : null,
    section(
      T.indexing,
      h("p", {}, workers.alive ? T.alive : T.dead),
      bar(T.queue, left ? done / (done + left) : 1, T.progress(left, Math.round(perSecond), time)),
      plot(workers.backlogs ?? [], workers.backlogSeconds ?? 2),
    ),
    section(
      T.library,
      library ? null : h("p", {}, T.noReport),
      counts.items ? bar(T.thumbnails, made / counts.items, `${number(made)} / ${number(counts.items)}`) : null,
      h("dl", {}, Object.entries(T.counts).map(([kind, name]) => [h("dt", {}, name), h("dd", {}, number(counts[kind] ?? 0))])),
    ),
    section(T.problems, ...problems(counts, library?.problems ?? {})),
  ];
}

const section = (title, ...content) => h("section", {}, h("h2", {}, title), ...content);

const bar = (name, share, text) =>
  h("label", { class: "bar" }, `${name}: ${text}`, h("progress", { max: 1, value: Math.min(share, 1) }));

function plot(backlogs, seconds) {
  const most = Math.max(...backlogs, 0);
  const points = backlogs.map((each, index) => `${index},${40 - (38 * each) / (most || 1)}`);
  const label = T.plot(Math.round((backlogs.length * seconds) / 60), most);
  const line = svg("polyline", { points: points.join(" ") });
  const view = { viewBox: `0 0 ${backlogs.length} 41`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return h("figure", {}, svg("svg", view, line), h("figcaption", {}, label));
}

function problems(counts, shown) {
  const kinds = Object.keys(T.kinds).filter((kind) => counts[kind]);
  if (!kinds.length) return [h("p", {}, T.noProblems)];
  return kinds.map((kind) => {
    const [name, advice] = T.kinds[kind];
    const rows = (shown[kind] ?? []).map(({ path, reason }) =>
      h("li", {}, h("a", { href: hrefOf(path) }, path || "/"), ` ${reason}`),
    );
    const more = counts[kind] - rows.length;
    return h(
      "details",
      { "data-kind": kind },
      h("summary", {}, `${name}: ${number(counts[kind])}`),
      h("p", { class: "advice" }, advice),
      h("ul", {}, rows, more > 0 ? h("li", {}, T.moreProblems(more)) : null),
    );
  });
}
