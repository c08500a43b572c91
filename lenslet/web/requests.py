"""Middleware that counts requests, gives each an id, and writes the access log."""

import logging
import re
import secrets
import time
from collections.abc import Iterable

import falcon

from lenslet.index.status import REQUESTS, Status

log = logging.getLogger("lenslet")

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Requests:
    """Counts requests by route and status. Gives each an id, the client's own if it sends one.

    If it `logs`, each request is a line of the log once its answer begins.
    """

    def __init__(self, status: Status, routes: Iterable[str], *, logs: bool) -> None:
        """Gives each of the `routes` its counts; the same in all processes."""
        self._status, self._logs = status, logs
        numbers = enumerate(["", *routes])  # the first is for what has no route
        self._starts = {route: REQUESTS + n * len(_CLASSES) for n, route in numbers}

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        sent = req.get_header("X-Request-Id", default="")
        req.context.id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(6)
        req.context.began = time.monotonic()
        resp.set_header("X-Request-Id", req.context.id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        start = self._starts[req.uri_template or ""]
        self._status.count(start + resp.status_code // 100 - 1)
        if self._logs:
            number, took = req.context.id, 1000 * (time.monotonic() - req.context.began)
            who = req.context.user or req.remote_addr
            what = who, resp.status_code, took, req.method, req.relative_uri
            log.info("%s %s %.0f ms %s %s (request %s)", *what, number, extra={"request": number})

    def counts(self) -> dict[str, int]:
        """Returns how many answers there were, by labels as Prometheus has them."""
        return {
            f'route="{route or "other"}",status="{name}"': count
            for route, start in self._starts.items()
            for number, name in enumerate(_CLASSES)
            if (count := self._status.total(start + number))
        }
