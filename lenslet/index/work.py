"""Does the jobs of the queue, each in the part of the index process that is for it; reports how."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from lenslet.errors import LensletError, one_line
from lenslet.index.folders import Folders
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.records import NEVER, Records
from lenslet.index.status import IMAGES, PREVIEWS, STORAGE, Status
from lenslet.library import Library
from lenslet.times import Clock

log = logging.getLogger("lenslet")

OUTAGE_SECONDS = 3.0  # between two tries of a kind of work that storage refuses
_SLOW_SECONDS = 60.0  # after which it is said that a job takes long
_STUCK_SECONDS = 3600.0  # no image, folder or rollup takes so long, even in a slow store


class Work:
    """Does one job at a time for each thread. While storage refuses a kind of work, that waits."""

    def __init__(
        self,
        queue: Queue,
        records: Records,
        clock: Clock,
        folders: Folders,
        actions: Mapping[Kind, Callable[[Job], None]],
    ) -> None:
        self._queue = queue
        self._records = records
        self._clock = clock
        self._folders = folders
        self._actions = actions
        # The kinds of work that storage refuses: why, and when it was tried last.
        self._refused: dict[Kind, tuple[str, float]] = {}
        self._doing: dict[int, tuple[Job, float]] = {}  # by thread, and since when
        self.progressed = time.monotonic()  # when an image was read last, or a folder found

    def do(self, job: Job) -> None:
        """Does a job. One that storage refuses is put into the queue again, but for previews."""
        self._doing[threading.get_ident()] = job, time.monotonic()
        try:
            self._do(job)
        finally:
            del self._doing[threading.get_ident()]

    def doing(self) -> list[tuple[Job, float]]:
        """Returns the jobs that are being done, each with its seconds so far."""
        now = time.monotonic()
        return [(job, now - since) for job, since in list(self._doing.values())]

    @property
    def is_idle(self) -> bool:
        """True if no folder is being indexed, and no image read."""
        return all(job.kind in (Kind.SCAN, Kind.SUMMARY, Kind.VIEW) for job, _ in self.doing())

    def _do(self, job: Job) -> None:
        reason, tried = self._refused.get(job.kind, ("", -NEVER))
        pause = tried + OUTAGE_SECONDS - self._clock()
        if pause > 0 and job.kind is not Kind.PREVIEW:
            self._queue.enqueue(job, pause)
            return
        is_progress = self._is_progress(job)
        try:
            self._actions[job.kind](job)
            self._refused.pop(job.kind, None)
        except LensletError as error:
            self._refuse(job, one_line(error), before=reason)
        except Exception as error:  # the outermost frame: one bad file must not stop the rest
            log.exception("%s %s failed", job.kind.name.lower(), job.path or "/")
            if job.kind is Kind.FOLDER:
                reason = f"an error in Lenslet: {type(error).__name__}"
                self._folders.failed(job.path, LensletError(reason))
        if is_progress:
            self.progressed = time.monotonic()

    def _is_progress(self, job: Job) -> bool:
        """True for an image, and for a folder that was not looked at before."""
        if job.kind is Kind.FOLDER:
            return self._records.get(job.path).looked.at == -NEVER
        return job.kind in (Kind.THUMBNAIL, Kind.PREVIEW, Kind.IMAGE)

    def _refuse(self, job: Job, reason: str, before: str) -> None:
        """Notes that storage refuses a job, which is tried again after some seconds."""
        if reason != before:  # not every three seconds of an outage
            log.warning("%s %s: %s", job.kind.name.lower(), job.path or "/", reason)
        self._refused[job.kind] = reason, self._clock()
        if job.kind is not Kind.PREVIEW:  # asked for again, it is tried again
            force = job.force and job.kind is not Kind.SUMMARY  # which remembers it
            again = replace(job, waiters=(), asked=False, force=force)
            self._queue.enqueue(again, OUTAGE_SECONDS)

    def problem(self, *kinds: Kind) -> str:
        """Why storage refuses such work right now; empty if it does not."""
        for kind in kinds:
            reason, tried = self._refused.get(kind, ("", 0.0))
            # A preview is not tried again by itself.
            if reason and (kind is not Kind.PREVIEW or self._clock() - tried <= OUTAGE_SECONDS):
                return reason
        return ""


class Pulse:
    """Writes into the shared memory how the index process is."""

    def __init__(
        self, library: Library, queue: Queue, records: Records, status: Status, work: Work
    ) -> None:
        self._tree, self._client = library.tree, library.client
        self._queue = queue
        self._records = records
        self._status = status
        self._work = work
        self._seen = 0, 0  # writes and changes that were reported

    def beat(self) -> None:
        """Reports, unless a thread is stuck in one job."""
        seen = self._client.writes, self._records.changes
        if seen != self._seen:
            self._status.changed()
            self._seen = seen
        doing = self._work.doing()
        if any(seconds > _STUCK_SECONDS for _, seconds in doing):
            return
        self._status.beat(self.backlog)
        slow = [job.path or "/" for job, seconds in doing if seconds > _SLOW_SECONDS]
        problems = [f"{path} takes over a minute: a slow disk?" for path in slow]
        if late := self._queue.late():
            problems = [f"{late:,} images take long to decode and are read one at a time"]
        problems += map(str, filter(None, [self._tree.obstacle()]))
        refused, images = self._work.problem, (Kind.THUMBNAIL, Kind.IMAGE, Kind.FOLDER)
        before = self._status.problem(STORAGE)
        problem = refused(*Kind) or "".join(problems[:1])
        if problem and not before:
            log.warning("%s", problem)
        elif before and not problem:
            log.info("this is over: %s", before)
        self._status.set_problem(STORAGE, problem)
        self._status.set_problem(IMAGES, refused(*images))
        self._status.set_problem(PREVIEWS, refused(Kind.PREVIEW))

    @property
    def backlog(self) -> int:
        """How many folders and images are left."""
        images = max(self._queue.waiting(Kind.IMAGE), self._records.left)
        return images + self._queue.waiting(Kind.THUMBNAIL, Kind.PREVIEW, Kind.FOLDER)
