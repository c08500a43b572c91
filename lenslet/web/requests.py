"""Middleware that counts and times requests, and gives each an id."""

import re
import secrets
import time
from collections.abc import Iterable, Iterator

import falcon

from lenslet.index.status import Count, Status

_BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 15.0, float("inf"))  # seconds
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
# Counts of a route: of each status, the sum of seconds, of each bucket.
_EACH = len(_CLASSES) + 1 + len(_BUCKETS)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Requests:
    """Counts and times requests, and gives each an id, the client's own if it sends one."""

    def __init__(self, routes: Iterable[str], status: Status) -> None:
        self.routes = [*routes, "other"]
        self._starts = dict(self._counts())
        self._other = self._starts["other"]
        self._status = status

    def _counts(self) -> Iterator[tuple[str, int]]:
        """Yields each route, and where its counts start."""
        for number, route in enumerate(self.routes):
            yield route, Count.REQUESTS + number * _EACH

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
        spread = start + len(_CLASSES)
        bucket = next(number for number, most in enumerate(_BUCKETS) if seconds <= most)
        self._status.count(
            (start + resp.status_code // 100 - 1, 1), (spread, seconds), (spread + 1 + bucket, 1)
        )

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
        yield "# HELP lenslet_request_seconds How long requests took"
        yield "# TYPE lenslet_request_seconds histogram"
        for route, start in self._counts():
            spread, count = start + len(_CLASSES), 0.0
            for number, most in enumerate(_BUCKETS, 1):
                count += total(spread + number)
                le = "+Inf" if most == _BUCKETS[-1] else most
                yield f'lenslet_request_seconds_bucket{{route="{route}",le="{le}"}} {count:.0f}'
            yield f'lenslet_request_seconds_sum{{route="{route}"}} {total(spread):.6f}'
            yield f'lenslet_request_seconds_count{{route="{route}"}} {count:.0f}'
