"""The folders that are being indexed: what is in flight, and who waits for the end."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from lenslet.images import Facts
from lenslet.index.queue import Job, Waiter
from lenslet.paths import Path


@dataclass(slots=True)
class Run:
    """One folder while it is being indexed, from the first look until all its images are read.

    `reading` are the images in the queue; `facts` what reading others showed that is not in the
    manifest yet, `failed` why some could not be read. `asked`: somebody looks at the folder.
    """

    reading: set[str] = field(default_factory=set)
    facts: dict[str, Facts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiters: list[Waiter] = field(default_factory=list)
    asked: bool = False
    more: bool = False  # images wait for room in the queue, or another host was faster
    rereads: bool = False  # images may be queued to be read again

    @property
    def is_done(self) -> bool:
        return not (self.reading or self.facts or self.failed or self.more)


class News(NamedTuple):
    """What reading images showed since the last look, why some failed, and if `more` wait."""

    facts: dict[str, Facts]
    failed: dict[str, str]
    more: bool

    @property
    def works(self) -> bool:
        """True if a look is due, although nothing in the folder has changed."""
        return bool(self.facts or self.failed or self.more)


class Runs:
    """The runs of all folders. Threads that read images add to what another indexes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Path, Run] = {}
        self._waiting: dict[Path, tuple[bool, int]] = {}

    def join(self, job: Job) -> Run:
        """Returns the run of a job's folder. Who waits for the job waits for its end."""
        with self._lock:
            run = self._runs.setdefault(job.path, Run())
            run.waiters += job.waiters
            run.asked |= job.asked
            return run

    def is_reading(self, item: Path) -> bool:
        """True while an image is in the queue for its folder."""
        run = self._runs.get(item.parent)
        return run is not None and item.name in run.reading

    def finish_image(self, item: Path, facts: Facts | None, problem: str) -> Run:
        """Takes what reading an image showed, and returns the run of its folder."""
        with self._lock:
            run = self._runs.setdefault(item.parent, Run())
            run.reading.discard(item.name)
            if facts:
                run.facts[item.name] = facts
            if problem:
                run.failed[item.name] = problem
            return run

    def news(self, run: Run) -> News:
        """Returns what has come since the last look, and forgets that more was to come."""
        with self._lock:
            more, run.more = run.more or run.rereads, False
            return News(dict(run.facts), dict(run.failed), more)

    def written(self, run: Run, news: News) -> None:
        """Drops what the manifest says now; newer facts stay."""
        with self._lock:
            run.facts = {n: each for n, each in run.facts.items() if news.facts.get(n) is not each}
            run.failed = {n: each for n, each in run.failed.items() if n not in news.failed}

    def start(self, run: Run, images: Iterable[str], *, more: bool) -> list[str]:
        """Notes images as being read; returns those that are not yet, and were not meanwhile."""
        with self._lock:
            known = {*run.reading, *run.facts, *run.failed}
            new = [name for name in images if name not in known]
            run.reading.update(new)
            run.more, run.rereads = more, False
            return new

    def drop(self, run: Run) -> None:
        """Drops what was read of a folder that cannot be indexed."""
        with self._lock:
            run.facts, run.failed = {}, {}

    def end(self, folder: Path, run: Run, ok: bool) -> None:
        """Ends a run that is done, and says to all who wait how it ended."""
        with self._lock:
            if not run.is_done:
                return
            self._runs.pop(folder, None)
            waiters, run.waiters = run.waiters, []
        for waiter in waiters:
            waiter(ok)

    def fail(self, run: Run) -> None:
        """Says to all who wait that the folder could not be indexed."""
        with self._lock:
            waiters, run.waiters = run.waiters, []
        for waiter in waiters:
            waiter(False)

    # Folders with images that are not in the queue: it had no room, or they are to be read again.

    @property
    def waiting(self) -> int:
        """The number of these folders."""
        return len(self._waiting)

    def wait(self, folder: Path, urgency: tuple[bool, int]) -> None:
        """Notes such a folder: whether the images are new, and the time of the newest."""
        with self._lock:
            self._waiting[folder] = urgency

    def next_waiting(self) -> Path | None:
        """Removes and returns the most urgent of these folders; None if there is none."""
        with self._lock:
            path = max(self._waiting, key=self._waiting.__getitem__, default=None)
            if path is not None:
                del self._waiting[path]
                self._runs.setdefault(path, Run()).rereads = True
            return path
