"""`/health` and `/`: what this service is, and how it is."""

from __future__ import annotations

from typing import Any

import falcon

from lenslet import __version__, health
from lenslet.errors import LensletError
from lenslet.resources.common import Library, send_json

PULSE_SECONDS = 10.0
_PARTS = ("storage", "workers")
_EMPTY_ROOT = "the root is empty: an unmounted disk?"
_EMPTY_BUCKET = "the bucket holds nothing under S3_PREFIX"


class Index:
    """`GET /`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send_json(resp, {"name": "lenslet", "version": __version__})

    on_head = on_get


class Live:
    """`GET /health/live`: 200 while the process serves."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send_json(resp, {"status": "ok"})

    on_head = on_get


class Health:
    """`GET /health`, `GET /health/storage`, `GET /health/workers`"""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, req: falcon.Request, resp: falcon.Response, part: str = "") -> None:
        if part and part not in _PARTS:
            raise falcon.HTTPNotFound(description=f"Health has no part {part}.")
        found = self._report()
        if found["status"] == "down":
            resp.status = falcon.HTTP_503
            resp.set_header("Retry-After", "5")
        send_json(resp, found[part] if part else found)

    on_head = on_get

    def _report(self) -> dict[str, Any]:
        storage, library = self._storage()
        workers = self._workers()
        counts = library["counts"] if library else {}
        listed = [f"{counts[kind]} {kind}" for kind in sorted(health.WORRYING) if counts.get(kind)]
        reasons = list(dict.fromkeys([*storage["problems"], *workers["problems"], *listed]))
        status = "degraded" if reasons else "ok"
        return {
            "status": status if storage["readable"] else "down",
            "reasons": reasons,
            "backend": "s3" if self._library.storage.root.remote else "local",
            "workers": workers,
            "storage": storage,
            "library": library,
        }

    def _storage(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """How storage is, and the report that the index process keeps there."""
        found: dict[str, Any] = {"readable": True, "writable": False, "problems": []}
        far, report = self._library.storage.root.remote, None
        if far:
            found["requests"] = self._library.board.counts()
        try:
            if self._library.storage.root.is_empty():
                found["problems"].append(_EMPTY_BUCKET if far else _EMPTY_ROOT)
            found["writable"] = self._library.storage.edits_allowed()
            if not found["writable"]:
                found["problems"].append("the root cannot be written and STATE_DIR is not set")
            report = health.load(self._library.storage)
        except LensletError as error:
            found["readable"] = False
            found["problems"].append(str(error))
        return found, report

    def _workers(self) -> dict[str, Any]:
        pid, pulse, age, waiting = self._library.board.state()
        if not pid:
            elsewhere = not self._library.settings.worker_threads
            return {"alive": False, "problems": [] if elsewhere else ["no index process"]}
        trouble = self._library.board.trouble()
        problems = [trouble] if trouble else []
        if pulse > PULSE_SECONDS:
            problems.append(f"the index process was last heard of {pulse:.0f} s ago")
        return {
            "alive": pulse <= PULSE_SECONDS,
            "pid": pid,
            "pulseSeconds": round(pulse, 1),
            "upSeconds": round(age, 1),
            "backlog": waiting,
            "reading": sorted(mark.path for mark in self._library.board.marks().values()),
            "problems": problems,
        }
