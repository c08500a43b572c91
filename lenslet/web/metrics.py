"""`/metrics`: counts of all processes, as text for Prometheus."""

from collections.abc import Iterator, Mapping

import falcon

from lenslet.index.status import Count
from lenslet.library import health
from lenslet.web.health import STATUSES, Health
from lenslet.web.service import Resource, Service

_IMAGES = {"read": Count.IMAGES_READ, "failed": Count.IMAGES_FAILED}


class Metrics(Resource):
    """`GET /metrics`"""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._health = Health(service)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.cache_control = ["no-store"]
        lines = [*self.service.requests.lines(), *self._lines()]
        resp.text = "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[str]:
        status, report = self.service.status, self._health.report()
        images = {name: status.total(count) for name, count in _IMAGES.items()}
        yield from _metric("images_total counter", "Images that were read", images, "result")
        beat = status.heartbeat()
        yield from _metric("backlog gauge", "Folders and images that wait", {"": beat.backlog})
        states = {name: int(name == report["status"]) for name in STATUSES}
        yield from _metric("health gauge", "1 for what /health says", states, "status")
        counts = (report["library"] or {"counts": {}})["counts"]
        kinds = {kind: counts[kind] for kind in (*health.COUNTS, *health.KINDS) if kind in counts}
        yield from _metric("library gauge", "What the library has, and its problems", kinds, "kind")


def _metric(name: str, about: str, samples: Mapping[str, float], label: str = "") -> Iterator[str]:
    """Yields the lines of one metric; the keys of `samples` are values of its label."""
    yield f"# HELP lenslet_{name.split()[0]} {about}"
    yield f"# TYPE lenslet_{name}"
    for value, number in samples.items():
        labels = f'{{{label}="{value}"}}' if label else ""
        yield f"lenslet_{name.split()[0]}{labels} {number:.15g}"
