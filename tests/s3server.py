"""moto's S3 and SQS over HTTP, made to behave: writes one at a time, requests counted, faults.

`POST /test/fault` with a JSON list `[method, path part, status, code, times]` makes matching
requests fail (the code may have a message behind `: `); `GET /test/counts` tells how many requests
there were since the last `POST /test/reset`, `GET /test/paths` how many of each; `POST /test/age` with `[bucket, key, seconds]` makes
an object older. Run as a process of its own: `python s3server.py PORT`.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto import backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{1}</Message></Error>"
CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


list_of_moto_modules = backends.list_of_moto_modules


class Faulty:
    """An application that is moto's, unless a fault is due."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        # It asks for these with each request, which takes a third of its time.
        modules = functools.cache(lambda: list(list_of_moto_modules()))
        backends.list_of_moto_modules = modules
        self._writing = threading.Lock()  # moto's own conditional PUT is check-then-write
        self._counts: Counter[str] = Counter()
        self._paths: Counter[str] = Counter()
        self._faults: list[list[Any]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/test/"):
            return self._control(path, environ, start)
        if method == "GET" and "list-type=2" in environ.get("QUERY_STRING", ""):
            method = "LIST"
        self._counts[method] += 1
        self._paths[f"{method} {path}"] += 1
        conditional = method == "PUT" and any(name in environ for name in CONDITIONS)
        for fault in self._faults:
            wanted, part, status, code, times = fault
            mine = wanted in ("*", method)
            if wanted == "CONDITIONAL":
                mine = conditional
            elif wanted == "IF_MATCH":
                mine = "HTTP_IF_MATCH" in environ
            if times and mine and part in environ.get("RAW_URI", path) + path:
                fault[4] -= 1
                if status == 0:  # as a store that ignores conditions
                    for name in CONDITIONS:
                        environ.pop(name, None)
                    break
                if status < 0:  # as a store whose answer is lost on its way
                    list(self._moto(environ, lambda *_: lambda data: None))
                else:
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                status = abs(status)
                if code == "HTML":  # as a proxy in between
                    start(f"{status} OK", [("Content-Type", "text/html")])
                    return [b"<html><body>It works!</body></html>"]
                start(f"{status} Fault", [("Content-Type", "application/xml")])
                code, _, message = code.partition(": ")
                return [b"" if method == "HEAD" else ERROR.format(code, message or code).encode()]
        if method in ("PUT", "DELETE"):
            with self._writing:
                return list(self._moto(environ, start))
        return self._moto(environ, start)  # type: ignore[no-any-return]

    def _control(
        self, path: str, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        answer: Any = {}
        if path == "/test/counts":
            answer = dict(self._counts)
        elif path == "/test/paths":
            answer = dict(self._paths)
        elif path in ("/test/fault", "/test/age"):
            size = int(environ.get("CONTENT_LENGTH") or 0)
            body = json.loads(environ["wsgi.input"].read(size))
            if path == "/test/fault":
                self._faults.append(body)
            else:
                bucket, key, seconds = body
                found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key)
                found.last_modified -= dt.timedelta(seconds=seconds)
        elif path == "/test/reset":
            self._counts.clear()
            self._paths.clear()
            self._faults.clear()
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    make_server(
        "127.0.0.1", int(sys.argv[1]), Faulty(), threaded=True, request_handler=Quiet
    ).serve_forever()
