"""`/metrics`: counts of all processes, in Prometheus's text format, version 0.0.4."""

from collections.abc import Iterator, Mapping

import falcon

from lenslet.index.status import IMAGES_FAILED, IMAGES_READ
from lenslet.library import health
from lenslet.web.health import STATUSES, Health
from lenslet.web.service import Resource

_IMAGES = {'result="read"': IMAGES_READ, 'result="failed"': IMAGES_FAILED}


class Metrics(Resource):
    """`GET /metrics`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.cache_control = ["no-store"]
        resp.text = "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        status, report = self.service.status, Health(self.service).report()
        requests = self.service.requests.counts()
        yield from _metric("requests_total counter", "Answers by route and status", requests)
        images = {label: status.total(count) for label, count in _IMAGES.items()}
        yield from _metric("images_total counter", "Images that were read", images)
        waiting = {"": status.heartbeat().backlog}
        yield from _metric("backlog gauge", "Folders and images that wait", waiting)
        states = {f'status="{name}"': int(name == report["status"]) for name in STATUSES}
        yield from _metric("health gauge", "1 for what /health says", states)
        counts = (report["library"] or {"counts": {}})["counts"]
        known = [kind for kind in (*health.COUNTS, *health.KINDS) if kind in counts]
        kinds = {f'kind="{kind}"': counts[kind] for kind in known}
        yield from _metric("library gauge", "What the library has, and its problems", kinds)


def _metric(name: str, about: str, samples: Mapping[str, float]) -> Iterator[str]:
    """Yields the lines of one metric; the keys of `samples` are its labels."""
    yield f"# HELP lenslet_{name.split()[0]} {about}"
    yield f"# TYPE lenslet_{name}"
    for labels, number in samples.items():
        braced = f"{{{labels}}}" if labels else ""
        yield f"lenslet_{name.split()[0]}{braced} {number:.15g}"
