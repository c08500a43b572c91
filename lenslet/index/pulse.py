"""Reports, every second, that the index process works, what is left to do and what hinders it."""

import logging

from lenslet.index.queue import Kind, Queue
from lenslet.index.records import Records
from lenslet.index.status import IMAGES, PREVIEWS, STORAGE, Status
from lenslet.index.work import Work
from lenslet.library import Library

log = logging.getLogger("lenslet")

_SLOW_SECONDS = 60.0  # after which it is said that a job takes long
_STUCK_SECONDS = 3600.0  # no image, folder or rollup takes so long, even in a slow store


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
