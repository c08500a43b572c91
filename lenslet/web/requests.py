"""Middleware that counts requests, and gives each an id."""

import re
import secrets
import time
from collections.abc import Iterable, Iterator

import falcon

from lenslet.index.status import Count, Status

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Requests:
    """Counts requests by route and status. Gives each an id, the client's own if it sends one."""

    def __init__(self, routes: Iterable[str], status: Status) -> None:
        self.routes = [*routes, "other"]
        self._starts = dict(self._counts())
        self._other = self._starts["other"]
        self._status = status

    def _counts(self) -> Iterator[tuple[str, int]]:
        """Yields each route, and where its counts start."""
        for number, route in enumerate(self.routes):
            yield route, Count.REQUESTS + number * len(_CLASSES)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began = time.perf_counter()
        sent = req.get_header("X-Request-Id")
        known = sent is not None and _REQUEST_ID.fullmatch(sent)
        req.context.id = sent if known else secrets.token_hex(6)
        resp.set_header("X-Request-Id", req.context.id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        seconds = time.perf_counter() - req.context.began
        resp.set_header("Server-Timing", f"app;dur={1000 * seconds:.1f}")
        start = self._starts.get(req.uri_template or "", self._other)
        self._status.count((start + resp.status_code // 100 - 1, 1))

    def lines(self) -> Iterator[str]:
        """Yields the lines of Prometheus's text format, version 0.0.4."""
        total = self._status.total
        yield "# HELP lenslet_requests_total Answers by route and class of status"
        yield "# TYPE lenslet_requests_total counter"
        for route, start in self._counts():
            for number, name in enumerate(_CLASSES):
                if count := total(start + number):
                    labels = f'route="{route}",status="{name}"'
                    yield f"lenslet_requests_total{{{labels}}} {count:.0f}"
