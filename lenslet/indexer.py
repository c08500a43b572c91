"""The index process's loop: finds what changed, reads images, keeps manifests.

`step()` does one job; `run(stop)` does them on threads until told to stop. A fresh scan finds
again all that a crash forgets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from lenslet import memory
from lenslet.board import Board
from lenslet.books import Books
from lenslet.config import Settings
from lenslet.errors import (
    LensletError,
    StorageFull,
    StorageUnavailable,
    one_line,
)
from lenslet.folders import Folders
from lenslet.jobs import IMAGES, Job, Kind, Queue, State
from lenslet.keys import Keys
from lenslet.known import Known, Memory
from lenslet.looker import Looker
from lenslet.manifest import Problem
from lenslet.paths import ROOT
from lenslet.pointers import Resolver
from lenslet.reading import PassOn, Reading, Told
from lenslet.storage import Storage, Tree

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0
FAR_SCAN_SECONDS = 120.0  # between two listings of a folder in a bucket that a pointer leads to
AWAY_SECONDS = 5.0  # between two looks for a root that is away
REPEAT_SECONDS = 60.0
STUCK_SECONDS = 60.0
_ONCE_SECONDS = 10.0  # with `once`: how long what is still being written is waited for
_KEPT = frozenset((Kind.MANIFEST, Kind.KEY))  # what no stat of a folder would find again
_REPEATED = frozenset((Kind.ROLLUP, Kind.COMPACT, Kind.HEALTH))


class Indexer:
    """Keeps everything derived from the images up to date.

    `told` hears of every image that was read: its path, and the reason when it could not be.
    `clock` (seconds) says what is due, `wall` (nanoseconds) how old a file is.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        resolver: Resolver,
        cache: Tree,
        queue: Queue,
        board: Board,
        *,
        told: Told = lambda path, error: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._resolver = resolver
        self._queue = queue
        self._board = board
        self._clock = clock
        self._started = clock()
        self._memory = Memory()
        self._rests = True  # nothing was done since memory was given back
        self._looker = Looker(storage, settings, resolver, wall)
        self._trouble: dict[str, str] = {}  # by kind of work, why storage refused it last
        records = self._memory
        self._reading = reading = Reading(
            storage, settings, resolver, queue, board, records, told=told, clock=clock, wall=wall
        )
        self._books = books = Books(storage, settings, cache, queue, records, clock)
        self._keys = Keys(storage, resolver, queue, records, reading, books)
        self._folders = Folders(
            storage, settings, resolver, queue, records, self._looker, reading, books, clock
        )
        self._actions = self._table()

    def _table(self) -> dict[Kind, Callable[[Job], None]]:
        """What is done for each kind of job."""
        return {
            Kind.THUMBNAIL: self._reading.image,
            Kind.WANTED: self._reading.image,
            Kind.IMAGE: self._reading.image,
            Kind.FOLDER: self._folders.look,
            Kind.LOOK: self._folders.look,
            Kind.KEY: self._keys.look,
            Kind.MANIFEST: self._folders.look,
            Kind.SCAN: self._scan,
            Kind.ROLLUP: self._if_there(self._books.flush),
            Kind.COMPACT: self._if_there(self._books.compact),
            Kind.HEALTH: self._if_there(self._books.report),
        }

    def tell_dead_letters(self, dead: Callable[[], list[Problem]]) -> None:
        """Have health tell of jobs that no host could do."""
        self._books.dead = dead

    def share_images(self, pass_on: PassOn) -> None:
        """Leave new images to whichever host takes them from the queue."""
        self._reading.pass_on = pass_on

    # The loop

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Work on `WORKER_THREADS` threads until `stop` is set or, with `once`, all is done."""
        memory.keep()
        self._reading.recover(stop)
        if once or self._settings.scan_seconds:
            self._queue.put(Job(Kind.SCAN, force=True))
        threads = [
            threading.Thread(target=self._work, args=(stop, slot, once), name=f"index-{slot}")
            for slot in range(self._settings.worker_threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if once and not stop.is_set():
            if self._books.behind:
                self._do(Job(Kind.COMPACT), slot=0)
            self._do(Job(Kind.HEALTH), slot=0)

    def _work(self, stop: threading.Event, slot: int, once: bool) -> None:
        while not stop.is_set():
            self.step(0.05 if once else 1.0, slot)
            if once and (not self.backlog or self._clock() - self._last_work > _ONCE_SECONDS):
                return

    def step(self, wait: float = 0.0, slot: int = 0) -> bool:
        """Do the next job, if one is due within `wait` seconds; whether there was one."""
        job = self._queue.get(wait)
        if job is None:
            self._rest()
            return False
        self._rests = False
        try:
            self._do(job, slot)
        finally:
            self._queue.done(job)
        return True

    def _rest(self) -> None:
        """Nothing is due: give back what the work since the last rest has needed."""
        if not (self._rests or self._queue.waiting(*IMAGES)):
            self._rests = True
            memory.give_back()

    def _do(self, job: Job, slot: int) -> None:
        work = "images" if job.kind in IMAGES else job.kind.name
        try:
            with self._reading.marked(job, slot):
                self._actions[job.kind](job)
            self._trouble.pop(work, None)
        except LensletError as error:
            log.warning("%s %s: %s", job.kind.name.lower(), job.path or "/", one_line(error))
            if isinstance(error, (StorageFull, StorageUnavailable)):
                self._trouble[work] = one_line(error)
            if job.kind in _REPEATED or (job.kind in _KEPT and self._storage.root.remote):
                self._queue.put(job, REPEAT_SECONDS)
        except Exception as error:  # the outermost frame: one bad file must not stop the rest
            log.exception("%s %s failed", job.kind.name.lower(), job.path or "/")
            if job.kind not in IMAGES:
                reason = f"an error in Lenslet: {type(error).__name__}"
                self._folders.blocked(Problem("unreadableFolders", job.path, reason))

    def _if_there(self, action: Callable[[Job], None]) -> Callable[[Job], None]:
        """`action`, left out while the root is away."""

        def act(job: Job) -> None:
            if self._folders.root.is_there():
                action(job)

        return act

    def pulse(self) -> bool:
        """Show on the board that the loop lives; False while a thread is stuck in one image."""
        now = time.monotonic()
        if any(now - mark.since > STUCK_SECONDS for mark in self._board.marks().values()):
            return False
        self._board.pulse(self.backlog, self._started)
        self._board.tell_trouble(self.trouble)
        return True

    @property
    def trouble(self) -> str:
        """Why storage takes nothing for now, or nothing."""
        troubles = [self._folders.root.problem, *list(self._trouble.values())]
        return next(filter(None, troubles), "")

    @property
    def backlog(self) -> int:
        """How many folders and images wait to be looked at."""
        return self._reading.unfinished + self._queue.waiting(*(k for k in Kind if k < Kind.SCAN))

    @property
    def _last_work(self) -> float:
        return max(self._folders.walked, self._reading.worked)

    def ready(self) -> bool:
        """Whether the root is there and not empty."""
        return self._folders.root.is_there()

    def state(self, job: Job) -> State:
        """How far a job is, with all that follows from it."""
        return self._keys.state(job)

    def health(self) -> dict[str, Any]:
        """The library's health as of now."""
        return self._books.health()

    # Finding what changed

    def _scan(self, job: Job) -> None:
        """One stat a folder; with `force`, and every hour, a look into each."""
        begun = self._clock()
        seconds = self._settings.scan_seconds
        if not self._folders.root.is_there():
            self._queue.put(Job(Kind.SCAN), min(seconds, AWAY_SECONDS))
            return
        self._queue.put(Job(Kind.SCAN), seconds)
        last = self._folders.walk.began
        if (job.force or last is None or begun - last > FULL_SCAN_SECONDS) and (
            not self._folders.walk.going_on
        ):
            self._folders.walk.begin(begun)
            self._folders.look_later(ROOT, deep=True)
            return
        for path, known in self._memory.all():
            if self._has_moved(known) or known.has_due_retry(begun):
                self._folders.look_later(path)
        self._check_watched()
        self._reading.more()
        self._books.passed("scan", begun)

    def _has_moved(self, known: Known) -> bool:
        if known.far:  # only a listing tells; one is due
            seconds = self._settings.scan_seconds
            least = seconds if self._settings.s3_bucket else max(seconds, FAR_SCAN_SECONDS)
            return self._clock() - known.looked > 0.9 * least
        try:
            if known.place is None or self._looker.stamp(known.place) != known.stamp:
                return True
            root = known.place.storage.root
            return any(root.stamp(path) != stamp for path, stamp in known.hidden.items())
        except LensletError:
            return known.stamp is not None

    def _check_watched(self) -> None:
        for path, rev in self._folders.watch.all():
            try:
                place = self._resolver.item(path)
                now = place.storage.root.stat(place.folder.child(path.name)).rev
            except LensletError:
                self._folders.watch.drop(path)
                continue
            if now != rev:
                self._folders.look_later(path.parent)
