"""`/health`: whether everything works."""

from typing import Any

import falcon

from lenslet.errors import LensletError
from lenslet.index.status import IMAGES_READ, QUEUE, STORAGE
from lenslet.library import health
from lenslet.web.answers import send_json
from lenslet.web.service import Resource

PULSE_SECONDS = 10.0
_COMMAND = "lenslet check"  # in the advice about a problem
_PARTS = ("storage", "workers")
STATUSES = ("ok", "degraded", "down")


class Live(Resource):
    """`GET /health/live`: 200 while the process serves."""

    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send_json(resp, {"status": "ok"})


class Health(Resource):
    """`GET /health`, `GET /health/storage`, `GET /health/workers`"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, part: str = "") -> None:
        if part and part not in _PARTS:
            raise falcon.HTTPNotFound(description=f"Health has no part {part}.")
        found = self.report()
        if found["status"] == "down":
            resp.status = falcon.HTTP_503
            resp.set_header("Retry-After", "5")
        send_json(resp, found[part] if part else found)

    def report(self) -> dict[str, Any]:
        """Returns what `GET /health` answers."""
        storage, library = self._storage()
        workers = self._workers()
        counts = library["counts"] if library else {}
        check = f"STATE_DIR=… {_COMMAND}" if self.service.settings.state_dir else _COMMAND
        problems = [
            {
                "kind": name,
                "title": kind.title,
                "advice": kind.advice.replace(_COMMAND, check),
                "count": counts[name],
            }
            for name, kind in health.KINDS.items()
            if counts.get(name)
        ]
        listed = (
            f"{each['title']}: {each['count']} ({each['advice']})"
            for each in problems
            if each["kind"] in health.DEGRADING
        )
        parts = filter(None, (part.problem(self.service) for part in self.service.parts))
        known = [*storage["problems"], *workers["problems"], *parts, *listed]
        reasons = list(dict.fromkeys(known))
        status = "degraded" if reasons else "ok"
        return {
            "status": status if storage["readable"] else "down",
            "reasons": reasons,
            "problems": problems,
            "backend": "s3" if self.service.settings.s3_bucket else "local",
            "workers": workers,
            "storage": storage,
            "library": library,
        }

    def _storage(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Returns how storage is, and the report that the index process writes there."""
        tree, report = self.service.tree, None
        found: dict[str, Any] = {"readable": True, "writable": False, "problems": []}
        try:
            tree.check()
            if obstacle := tree.obstacle():
                found["problems"].append(str(obstacle))
            found["writable"] = not obstacle
            report = health.load(tree)
        except LensletError as error:
            found["readable"] = False
            found["problems"].append(str(error))
        return found, report

    def _workers(self) -> dict[str, Any]:
        """Returns how the index process of this host is, and whether jobs reach it."""
        status, settings = self.service.status, self.service.settings
        beat = status.heartbeat()
        known = (status.problem(STORAGE), status.problem(QUEUE), self.service.jobs.problem)
        problems = list(filter(None, known))
        if not beat.pid:
            if settings.worker_threads:
                problems.append("no index process")
            elif not settings.s3_bucket:
                problems.append(
                    "no index process: run 'lenslet worker' on this host, as the same user and "
                    "with the same settings, XDG_CACHE_HOME too"
                )
            return {"alive": False, "problems": problems}
        if beat.age > PULSE_SECONDS:
            late = "the index process has not reported for more than 10 s"
            problems.append(f"{late}: see its log, and start it again if it has ended")
        return {
            "alive": beat.age <= PULSE_SECONDS,
            "pid": beat.pid,
            "pulseSeconds": round(beat.age, 1),
            "folders": beat.folders,
            "images": beat.images,
            "backlog": beat.backlog,
            "progress": beat.progress,
            "imagesRead": status.total(IMAGES_READ),
            "problems": problems,
        }
