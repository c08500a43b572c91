"""`/metrics`: counts of all processes, as text for Prometheus."""

from collections.abc import Iterator

import falcon

from lenslet.errors import LensletError
from lenslet.index.status import Count
from lenslet.library import health
from lenslet.web.service import Resource

_THUMBNAILS = {
    "ready": Count.THUMBNAILS_READY,
    "waited": Count.THUMBNAILS_WAITED,
    "pending": Count.THUMBNAILS_PENDING,
}


class Metrics(Resource):
    """`GET /metrics`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.cache_control = ["no-store"]
        lines = [*self.service.requests.lines(), *self._lines()]
        resp.text = "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[str]:
        status = self.service.status
        yield "# TYPE lenslet_thumbnails_total counter"
        for answer, count in _THUMBNAILS.items():
            yield f'lenslet_thumbnails_total{{answer="{answer}"}} {status.total(count):.0f}'
        yield "# TYPE lenslet_images_total counter"
        for result, count in (("read", Count.IMAGES_READ), ("failed", Count.IMAGES_FAILED)):
            yield f'lenslet_images_total{{result="{result}"}} {status.total(count):.0f}'
        beat = status.heartbeat()
        yield "# TYPE lenslet_backlog gauge"
        yield f"lenslet_backlog {beat.backlog}"
        if beat.pid:
            yield "# TYPE lenslet_index_report_age_seconds gauge"
            yield f"lenslet_index_report_age_seconds {beat.age:.3f}"
        if status.scan_age is not None:
            yield "# TYPE lenslet_scan_age_seconds gauge"
            yield f"lenslet_scan_age_seconds {status.scan_age:.3f}"
        yield "# TYPE lenslet_library gauge"
        for kind, number in self._library().items():
            yield f'lenslet_library{{kind="{kind}"}} {number}'

    def _library(self) -> dict[str, int]:
        try:
            report = health.load(self.service.tree) or {}
        except LensletError:
            return {}
        counts = report.get("counts", {})
        kinds = (*health.COUNTS, *health.KINDS)
        return {kind: counts[kind] for kind in kinds if isinstance(counts.get(kind), int)}
