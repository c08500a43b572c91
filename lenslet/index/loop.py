"""The index process's loop: does the jobs of the queue on threads, and reports how it is going.

`step()` does one job, `run(stop)` goes on until it is stopped. A scan finds what a crash lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from lenslet.index.folders import Folders
from lenslet.index.moves import Moves
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.read import Images, Listener
from lenslet.index.records import Records
from lenslet.index.runs import Runs
from lenslet.index.scan import Scanner
from lenslet.index.status import Count, Status
from lenslet.index.summary import Report, SearchFiles, Summary
from lenslet.index.work import Pulse, Work
from lenslet.library import Library
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

BEAT_SECONDS = 1.0
_ONCE_PAUSE = 0.05
_ONCE_SECONDS = 10.0  # with `once`: the longest wait for a file that is still being written
_ONCE_MOVES_SECONDS = 600.0  # with `once`: the longest time for moving sidecars


class Indexer:
    """The index process: does the jobs of a queue on threads."""

    def __init__(
        self,
        library: Library,
        queue: Queue,
        status: Status,
        clock: Clock | None = None,
        listener: Listener = lambda path, error: None,
    ) -> None:
        """`listener` is called for every image that was read, with the reason if it failed."""
        clock, records = clock or Clock(), Records()
        report = Report(library.tree, records)
        self._settings = library.settings
        self._decoders = library.decoders
        self._decoders.somebody_waits = lambda: queue.somebody_waits
        self._queue = queue
        self._records = records
        self._moves = moves = Moves(library, queue, clock)
        search = SearchFiles(library, queue, records, report, clock)
        self._summary = Summary(library, records, report, moves, search)
        self.runs = runs = Runs(queue, clock)
        self.folders = Folders(library, queue, records, runs, clock, moves.verdict)

        def image_read(path: Path, error: str | None) -> None:
            status.count((Count.IMAGES_FAILED if error else Count.IMAGES_READ, 1))
            listener(path, error)

        images = Images(library, queue, runs, clock, image_read)
        scanner = Scanner(library, queue, records, report, clock)

        def scan(job: Job) -> None:
            scanner.scan(job)
            status.scanned()

        actions: dict[Kind, Callable[[Job], None]] = {
            **dict.fromkeys((Kind.THUMBNAIL, Kind.PREVIEW, Kind.IMAGE), images.do),
            Kind.FOLDER: self.folders.index,
            Kind.VIEW: self.folders.view,
            Kind.SCAN: scan,
            Kind.SUMMARY: self._summary.write,
        }
        self._work = Work(queue, records, clock, self.folders, actions)
        self._pulse = Pulse(library, queue, records, status, self._work)

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Works on `WORKER_THREADS` threads until `stop` is set or, with `once`, all is done."""
        if once or self._settings.scan_seconds:
            self._queue.enqueue(Job(Kind.SCAN, force=True))
        if once:
            self.step()  # so that no thread ends before there is work
        else:
            self._decoders.start()  # so that nobody waits for that
        # One more thread reads large images.
        threads = [
            threading.Thread(target=self._run_thread, args=(stop, once, large), name="index")
            for large in (*[False] * self._settings.worker_threads, True)
        ]
        threads = start(threads, stop, self.beat)
        self.beat()
        pause = _ONCE_PAUSE if once else BEAT_SECONDS
        while any(t.is_alive() for t in threads) and not stop.wait(pause):
            self.beat()
        if once and not stop.is_set():
            self._finish()
        self._decoders.close()  # no thread waits for the end of its image
        for thread in threads:
            thread.join()

    def _run_thread(self, stop: threading.Event, once: bool, large: bool) -> None:
        while not stop.is_set():
            self.step(_ONCE_PAUSE if once else BEAT_SECONDS, large=large)
            rests = time.monotonic() - self._work.progressed > _ONCE_SECONDS and self._work.is_idle
            if once and (not self.backlog or (rests and self._records.complete)):
                return

    def _finish(self) -> None:
        """Moves sidecars after their photos, and writes the rollup."""
        self._work.do(Job(Kind.SUMMARY))
        until = time.monotonic() + _ONCE_MOVES_SECONDS
        while (self._moves.waits or self.backlog) and time.monotonic() < until:
            self.step(_ONCE_PAUSE)
        self._work.do(Job(Kind.SUMMARY, deep=True))

    def step(self, wait: float = 0.0, *, large: bool | None = None) -> bool:
        """Does the next job, if one is due within `wait` seconds; True if there was one."""
        job = self._queue.get(large=large)
        if job is None:
            if not large:
                self.runs.fill_queue()
            job = self._queue.get(wait, large=large)
        if job is None:
            return False
        try:
            self._work.do(job)
        finally:
            self._queue.done(job)
        return True

    def beat(self) -> None:
        """Reports that the loop works, unless a thread is stuck in one job."""
        self._pulse.beat()

    @property
    def backlog(self) -> int:
        """How many folders and images are left."""
        return self._pulse.backlog + self.runs.waiting

    def problem(self, *kinds: Kind) -> str:
        """Why storage refuses such work right now; empty if it does not."""
        return self._work.problem(*kinds)

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._summary.report()


def start(
    threads: list[threading.Thread], stop: threading.Event, wait: Callable[[], None]
) -> list[threading.Thread]:
    """Starts threads, and returns those that it has started until `stop` is set.

    While the system allows no more, it calls `wait` and tries again, every second.
    """
    started, reason = list[threading.Thread](), ""
    while len(started) < len(threads) and not stop.is_set():
        try:
            threads[len(started)].start()
            started.append(threads[len(started)])
        except RuntimeError as error:
            if not reason:
                log.warning("the index process waits: %s: a limit of tasks?", error)
            reason = str(error)
            wait()
            stop.wait(BEAT_SECONDS)
    return started
