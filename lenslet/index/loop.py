"""The index process: one thread owns all its state, and takes messages from one inbox.

Blocking work is done by functions on other threads; what they found comes back as a message.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from lenslet.images import TILE
from lenslet.index.folders import Host, Looker, Outcome
from lenslet.index.images import Urgency, Wanted
from lenslet.index.messages import Look, Rebuild, Render, Request
from lenslet.index.read import AWAY_SECONDS, Read, Reader
from lenslet.index.scan import Scan, Scanned
from lenslet.index.status import (
    IMAGES,
    IMAGES_FAILED,
    IMAGES_READ,
    PREVIEWS,
    STORAGE,
    Progress,
    Status,
)
from lenslet.index.summary import Summarized
from lenslet.index.upkeep import SUMMARY_SECONDS, Summarize, Upkeep
from lenslet.index.walk import Start, Walk
from lenslet.index.work import Message, Work
from lenslet.library import Library
from lenslet.times import Clock

log = logging.getLogger("lenslet")

BEAT_SECONDS = 1.0
_LOGGED_SECONDS = 10.0  # between two lines about the first index
_SHOWN_SECONDS = 5.0  # how long health says that an image or preview could not be made
# With `once`: the longest wait for a file that is still being written, and for moving sidecars.
_ONCE_SECONDS, _ONCE_MOVES_SECONDS = 10.0, 600.0


class Loop:
    """The loop. `step` handles one message, `run` goes on until it is stopped.

    `host` knows of other hosts. `outage` says why storage cannot be used. A program that has the
    loop in its own process sends its requests to it.
    """

    problem = ""

    def __init__(
        self,
        library: Library,
        status: Status,
        clock: Clock | None = None,
        host: Host | None = None,
    ) -> None:
        clock, host = clock or Clock(), host or Host()
        self._library = library
        self._status = status
        self.work = Work(clock)
        self._threads = library.settings.worker_threads
        look = Looker(library, clock, host).look
        changed = functools.partial(self.work.later, Summarize(), SUMMARY_SECONDS)
        self._walk = Walk(self.work, host, look, self._threads, changed)
        self._upkeep = Upkeep(library, self.work, self._walk)
        self._reader = Reader(library, clock)
        # Why storage cannot be used; why an image or preview could not be made, and when that was.
        self.outage, self._problems = "", dict.fromkeys((IMAGES, PREVIEWS), ("", 0.0))
        # What the log calls the problem until all is well; the writes that were reported last.
        self._shown, self._writes = "", 0
        self._progressed = time.monotonic()
        # Images that were read since indexing began, and when its progress was logged last.
        self._began = self._logged = clock()
        self._count, self._is_first = 0, True
        self._closing = threading.Event()
        library.decoders.somebody_waits = lambda: self.work.images.somebody_waits

    def send(self, request: Request) -> None:
        """Asks for work, from any thread."""
        self.work.inbox.put(request)

    def wake(self) -> None:
        """Ends the wait of `step`."""
        self.work.inbox.put(None)

    # One step

    def step(self, wait: float = 0.0) -> bool:
        """Handles the next message, if one comes within `wait` seconds; True if there was one."""
        message = self.work.next(wait)
        if message is not None:
            self._handle(message)
        self._walk.fill()
        return message is not None

    def _handle(self, message: Message) -> None:
        match message:
            case Render(path, preview, anew):
                urgency = Urgency.FOLDER if preview == TILE else Urgency.CLIENT  # it is only finer
                self.work.images.put(Wanted(path, preview, waits=True, anew=anew), urgency)
            case Look():
                self._walk.want(message)
            case Start(path):
                self._walk.start(path)
            case Outcome():
                self._looked(message)
            case Wanted():
                self._walk.read_again(message)
            case Read():
                self._read(message)
            case Scan() | Summarize():
                self._upkeep.begin(message)
            case Rebuild():
                self._upkeep.begin(Summarize(rebuild=True))
            case Scanned():
                self.outage = message.outage
                self._upkeep.scanned(message)
            case Summarized():
                self._upkeep.wrote(message)
            case Exception():
                raise message

    def _looked(self, outcome: Outcome) -> None:
        """Notes how a look has ended."""
        before, record = outcome.task.before, outcome.record
        self.outage = outcome.outage
        if record and outcome.is_done and not before.is_known:
            self._progressed = time.monotonic()
        if not record or record.stamps != before.stamps:
            self._status.changed()
        self._walk.looked(outcome)

    def _read(self, read: Read) -> None:
        """Counts an image that was read, and has its folder looked at."""
        self.outage = read.outage or self.outage
        kind = PREVIEWS if read.wanted.preview else IMAGES
        self._problems[kind] = read.hindrance, self.work.clock()
        if read.again is None:
            self._progressed = time.monotonic()
            if read.facts or (read.problem and not read.wanted.preview):
                failed = read.problem or (read.facts and read.facts.error)
                self._status.count(IMAGES_FAILED if failed else IMAGES_READ)
                self._count += 1
        self._walk.read(read)

    # Threads

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Works on threads until `stop` is set or, with `once`, all is done."""
        if not once:
            self._library.decoders.start()  # so that nobody waits for that
        readers = [lambda: self.read_next(BEAT_SECONDS)] * self._threads
        slow = [lambda: self.read_next(BEAT_SECONDS, slow=True)]
        lookers = [self._do_task] * (self._threads + 1)
        threads = [
            threading.Thread(target=self._repeat, args=(work,))
            for work in (*lookers, *readers, *slow)
        ]
        if once or self._library.settings.scan_seconds:
            self.work.inbox.put(Scan(full=True))
        try:
            for thread in threads:
                thread.start()
            self._run_once(stop) if once else self._until(stop.is_set)
        finally:
            self._closing.set()
            self.work.images.close()
            self._library.decoders.close()  # no thread waits for the end of its image
            for _ in lookers:
                self.work.tasks.put(None)
            for thread in filter(threading.Thread.is_alive, threads):
                thread.join()

    def _repeat(self, work: Callable[[], Message | None]) -> None:
        """Does the work of a thread, which rests while storage is away.

        If it ends with an error, the loop does too.
        """
        try:
            while not self._closing.is_set():
                if (message := work()) is not None:
                    self.work.inbox.put(message)
                    if getattr(message, "outage", ""):
                        self._closing.wait(AWAY_SECONDS)
        except Exception as error:  # the outermost frame; the process is started again
            log.exception("a thread of the index process has ended")
            self.work.inbox.put(error)

    def _do_task(self) -> Message | None:
        task = self.work.tasks.get()
        return task() if task else None

    def read_next(self, wait: float = 0.0, *, slow: bool = False) -> Read | None:
        """Reads the next image, if one comes within `wait` seconds; returns what it showed."""
        wanted = self.work.images.take(wait, slow=slow)
        if wanted is None:
            return None
        read = self._reader.read(wanted)
        self.work.images.done()
        return read

    def _until(self, is_over: Callable[[], bool]) -> None:
        """Handles messages until something holds, and reports every second."""
        due = float("-inf")
        while not is_over():
            if time.monotonic() >= due:
                self.beat()
                due = time.monotonic() + BEAT_SECONDS
            self.step(max(0.0, due - time.monotonic()))

    def _run_once(self, stop: threading.Event) -> None:
        """Looks at everything, moves sidecars after their photos, and writes the rollup."""
        self._walk.hurries = True
        until = time.monotonic() + _ONCE_MOVES_SECONDS

        def is_over() -> bool:
            return stop.is_set() or self._is_done(until)

        self._until(is_over)
        for at_once in (False, True):
            if not stop.is_set():
                self._upkeep.begin(Summarize(at_once=at_once))
                self._until(is_over)

    def _is_done(self, until: float) -> bool:
        """True if nothing is left to do but to wait for a file that is being written, or storage.

        Sidecars that are about to be moved are waited for as well, but not for ever.
        """
        upkeep, now = self._upkeep, time.monotonic()
        if upkeep.busy or not self.work.inbox.empty():
            return False
        if upkeep.summarized.waits and now < until:
            return False
        is_still = self._walk.is_still and not len(self.work.images)
        return not len(self._walk) or (is_still and now - self._progressed > _ONCE_SECONDS)

    # Reports

    def beat(self) -> None:
        """Reports that the loop works, and what is wrong."""
        writes = self._library.buckets.writes if self._library.buckets else 0
        if self._writes != writes:
            self._status.changed()
            self._writes = writes
        obstacle = str(self._library.tree.obstacle() or "")
        reasons = [self.outage, self.search_problem, obstacle]
        for kind, (reason, at) in self._problems.items():
            reason *= self.work.clock() - at < _SHOWN_SECONDS
            reasons.append(reason)
            self._status.set_problem(kind, self.outage or reason)
        problem = next(filter(None, reasons), "")
        if problem and not self._shown:
            self._shown = problem
            log.warning("%s", problem)
        elif self._shown and not problem:
            log.info("this is over: %s", self._shown)
            self._shown = ""
        self._status.set_problem(STORAGE, problem)
        progress = self.progress()
        self._status.beat(progress)
        if self._is_first and not problem:
            self._log(progress)

    def progress(self) -> Progress:
        """Returns how far indexing is. Before the first look one folder is left."""
        known = [record for record in self._walk.memory.records.values() if record.is_known]
        images = sum(record.health.counts["items"] for record in known)
        left = max(len(self.work.images), sum(record.left for record in known))
        begins = not known and self._library.settings.scan_seconds > 0
        seconds = self.work.clock() - self._began
        folders_left = max(len(self._walk), begins)
        return Progress(len(known), images, folders_left, left, self._count, seconds)

    def _log(self, progress: Progress) -> None:
        """Logs how far the first index is and, if that was logged, its end."""
        now = self.work.clock()
        self._is_first = bool(progress.folders_left or progress.images_left)
        if self._is_first and now - self._logged >= _LOGGED_SECONDS:
            self._logged = now
            log.info("indexing: %s", progress)
        elif not self._is_first and self._logged > self._began:
            log.info("indexed: %s, in %.0f s", progress, progress.seconds)

    @property
    def search_problem(self) -> str:
        """What search files could not be written last, and why; empty if all could."""
        return self._upkeep.summarized.problem

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        return self._upkeep.report()
