"""The index process's loop: finds what changed, reads images, keeps manifests.

`step()` does one job; `run(stop)` does them on threads until told to stop. A fresh scan finds
again all that a crash forgets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lenslet.board import Board
from lenslet.books import Books
from lenslet.config import Settings
from lenslet.errors import (
    BrokenPointer,
    LensletError,
    NotFound,
    Overtaken,
    PointerLoop,
    StorageFull,
    StorageUnavailable,
    one_line,
)
from lenslet.health import LISTED, FolderHealth
from lenslet.jobs import IMAGES, Job, Kind, Queue
from lenslet.known import Known, Memory, Walk, Watch
from lenslet.looker import Looked, Looker
from lenslet.manifest import Dir, Facts, Problem
from lenslet.mount import RootWatch
from lenslet.paths import ROOT, Path
from lenslet.pointers import Resolver
from lenslet.reading import SETTLE_SECONDS, SOON, Reading, Told
from lenslet.storage import Storage, Tree

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0
FAR_SCAN_SECONDS = 120.0  # between two listings of a folder in a bucket that a pointer leads to
AWAY_SECONDS = 5.0  # between two looks for a root that is away
REPEAT_SECONDS = 60.0
STUCK_SECONDS = 60.0
_REST_SECONDS = 2.0  # the longest that a folder which is asked for again waits for the next look
_TELL_SECONDS = 3.0  # until a folder of a bucket tells how its own folders show
_TRIES = 5
_ONCE_SECONDS = 10.0  # with `once`: how long what is still being written is waited for
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
        self._settings = settings
        self._resolver = resolver
        self._queue = queue
        self._board = board
        self._clock = clock
        self._started = clock()
        self._walked = clock()
        self._root = RootWatch(storage.root)
        self._memory, self._walk, self._watch = Memory(), Walk(), Watch()
        self._looker = Looker(storage, settings, resolver, wall, self._memory.entries)
        self._reading = Reading(
            storage,
            settings,
            resolver,
            queue,
            board,
            self._memory,
            told=told,
            clock=clock,
            wall=wall,
        )
        self._books = Books(storage, cache, queue, self._memory, clock)
        self._trouble: dict[str, str] = {}  # by kind of work, why storage refused it last
        self._claims = threading.Lock()
        self._looking: set[Path] = set()
        self._new: set[Path] = set()  # folders that the rollup cannot know
        self._actions = self._table()

    def _table(self) -> dict[Kind, Callable[[Job], None]]:
        """What is done for each kind of job."""
        return {
            Kind.THUMBNAIL: self._reading.image,
            Kind.WANTED: self._reading.image,
            Kind.IMAGE: self._reading.image,
            Kind.FOLDER: self._folder,
            Kind.LOOK: self._folder,
            Kind.MANIFEST: self._folder,
            Kind.SCAN: self._scan,
            Kind.ROLLUP: self._if_there(self._books.flush),
            Kind.COMPACT: self._if_there(self._books.compact),
            Kind.HEALTH: self._if_there(self._books.report),
        }

    # The loop

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Work on `WORKER_THREADS` threads until `stop` is set or, with `once`, all is done."""
        self._reading.recover(stop)
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
            self.step(0.2 if once else 1.0, slot)
            if once and (not self.backlog or self._clock() - self._last_work > _ONCE_SECONDS):
                return

    def step(self, wait: float = 0.0, slot: int = 0) -> bool:
        """Do the next job, if one is due within `wait` seconds; whether there was one."""
        job = self._queue.get(wait)
        if job is None:
            return False
        try:
            self._do(job, slot)
        finally:
            self._queue.done(job)
        return True

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
            if job.kind in _REPEATED:
                self._queue.put(job, REPEAT_SECONDS)
        except Exception as error:  # the outermost frame: one bad file must not stop the rest
            log.exception("%s %s failed", job.kind.name.lower(), job.path or "/")
            if job.kind not in IMAGES:
                reason = f"an error in Lenslet: {type(error).__name__}"
                self._blocked(Problem("unreadableFolders", job.path, reason))

    def _if_there(self, action: Callable[[Job], None]) -> Callable[[Job], None]:
        """`action`, left out while the root is away."""

        def act(job: Job) -> None:
            if self._root.is_there():
                action(job)

        return act

    def pulse(self) -> bool:
        """Show on the board that the loop lives; False while a thread is stuck in one image."""
        now = time.monotonic()
        if any(now - mark.since > STUCK_SECONDS for mark in self._board.marks().values()):
            return False
        self._board.pulse(self.backlog, self._started)
        troubles = [self._root.problem, *list(self._trouble.values())]
        self._board.tell_trouble(next(filter(None, troubles), ""))
        return True

    @property
    def backlog(self) -> int:
        """How many folders and images wait to be looked at."""
        return self._reading.unfinished + self._queue.waiting(*(k for k in Kind if k < Kind.SCAN))

    @property
    def _last_work(self) -> float:
        return max(self._walked, self._reading.worked)

    def ready(self) -> bool:
        """Whether the root is there and not empty."""
        return self._root.is_there()

    def health(self) -> dict[str, Any]:
        """The library's health as of now."""
        return self._books.health()

    # Finding what changed

    def _scan(self, job: Job) -> None:
        """One stat a folder; with `force`, and every hour, a look into each."""
        begun = self._clock()
        seconds = self._settings.scan_seconds
        if not self._root.is_there():
            self._queue.put(Job(Kind.SCAN), min(seconds, AWAY_SECONDS))
            return
        self._queue.put(Job(Kind.SCAN), seconds)
        last = self._walk.began
        if (job.force or last is None or begun - last > FULL_SCAN_SECONDS) and (
            not self._walk.going_on
        ):
            self._walk.begin(begun)
            self._look_later(ROOT, deep=True)
            return
        for path, known in self._memory.all():
            if self._has_moved(known) or known.has_due_retry(begun):
                self._look_later(path)
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
        for path, rev in self._watch.all():
            try:
                place = self._resolver.item(path)
                now = place.storage.root.stat(place.folder.child(path.name)).rev
            except LensletError:
                self._watch.drop(path)
                continue
            if now != rev:
                self._look_later(path.parent)

    def _look_later(self, path: Path, *, deep: bool = False, force: bool = False) -> None:
        if deep:
            self._walk.add(path)
        self._queue.put(Job(Kind.LOOK, path, force, deep))

    def _folder(self, job: Job) -> None:
        """Look into a folder, one thread at a time."""
        with self._claims:
            busy = job.path in self._looking
            self._looking.add(job.path)
        if busy:
            self._queue.put(job, SOON / 10)
            return
        try:
            self._look_until_kept(job)
        except LensletError:
            self._walk.interrupt()  # what lies below may not have been seen
            raise
        finally:
            self._looking.discard(job.path)
            if job.deep and self._walk.seen(job.path):
                if self._walk.full:
                    self._books.passed("full", self._walk.began or self._started)
                    self._walk.full = False
                self._books.all_seen()

    def _look_until_kept(self, job: Job) -> None:
        """Look again when another host has kept its manifest first."""
        for _ in range(_TRIES):
            try:
                return self._look_at(job)
            except Overtaken:
                job = replace(job, kind=Kind.LOOK)
        raise StorageUnavailable("Other hosts write this folder's manifest all the time.")

    def _look_at(self, job: Job) -> None:
        path, begun = job.path, self._clock()
        known = self._memory.get(path) or Known()
        rest = known.looked + min(max(SOON, 5 * known.took), _REST_SECONDS) - begun
        if job.kind is Kind.FOLDER and rest > 0 and not job.force:
            self._queue.put(job, rest)
            return
        facts = dict(known.facts)
        looked = self._look(job, known, facts)
        if looked is None:
            return
        known = self._memory.of(path)
        known.stamp = None
        self._looker.keep(looked)
        for name, learnt in facts.items():
            if known.facts.get(name) is learnt:
                del known.facts[name]
        self._tell(looked, known)
        self._below(job, looked, known)
        if job.kind is Kind.FOLDER:
            known.asked = begun
        known.place, known.stamp = looked.place, looked.stamp
        if looked.stamp is not None:
            known.hidden = looked.hidden
        self._reading.put(job, looked, known)
        known.looked = self._clock()
        known.took = known.looked - begun
        if job.kind is Kind.LOOK:
            self._walked = known.looked

    def _look(self, job: Job, known: Known, facts: dict[str, Facts]) -> Looked | None:
        """What a look finds, or None where nothing may be concluded from it or the folder is gone.

        The root is asked for after the look: what was seen while it went away is not true.
        """
        path, problem, gone, looked = job.path, None, False, None
        try:
            looked = self._seen(job, known, facts)
            if looked is None:
                self._unchanged(job, known)
        except NotFound:
            gone = True
        except (BrokenPointer, PointerLoop) as error:
            problem = Problem("brokenPointers", path, one_line(error))
        except LensletError as error:
            problem = Problem("unreadableFolders", path, one_line(error))
        if not self._root.is_there():
            self._walk.interrupt()
            return None
        if gone and (self._memory.get(path) or self._memory.shows(path)):
            self._forget(path)
        if problem:
            self._blocked(problem)
        return looked

    def _seen(self, job: Job, known: Known, facts: dict[str, Facts]) -> Looked | None:
        """A look that costs no more than it must; None when nothing has changed."""
        if job.kind is Kind.MANIFEST and known.far:
            try:
                looked = self._looker.refresh(job.path, facts)
            except NotFound:
                known.stamp = None
            else:
                looked.look.problems += [p for p in known.health.problems if p.kind in LISTED]
                return looked
        fresh = facts or job.force or known.retries or self._reading.has_more(job.path)
        unless = None if fresh else known.stamp
        return self._looker.look(job.path, facts, retry=job.force, unless=unless)

    def _unchanged(self, job: Job, known: Known) -> None:
        """A folder of a bucket is as it was; what lies below it may not be."""
        known.looked = self._clock()
        for name in known.children or () if job.deep else ():
            self._look_later(job.path.child(name), deep=True)
        for path in known.hidden:
            self._look_later(path, deep=True)

    def _blocked(self, problem: Problem) -> None:
        """A folder that cannot be looked into: all that is known of it stays."""
        known = self._memory.of(Path(problem.path))
        known.stamp = None
        known.health.problems = [problem]
        known.health.counts[problem.kind] = 1
        if problem.kind == "brokenPointers" and problem.path:
            name = Path(problem.path).name
            self._shows(Path(problem.path), {"name": name, "kind": "leaf-pointer"})
        self._queue.put(Job(Kind.HEALTH), SETTLE_SECONDS)

    def _shows(self, path: Path, entry: Dir | None) -> None:
        """In a bucket, a folder's parent learns from the folder itself how to show it."""
        entries = self._memory.entries.get(path.parent, {})
        if path.name in entries and entries[path.name] != entry:
            entries[path.name] = entry
            self._queue.put(Job(Kind.MANIFEST, path.parent), _TELL_SECONDS)

    def _forget(self, path: Path) -> None:
        """A folder is gone, and all below it."""
        self._memory.forget(path)
        self._books.note_gone(path)
        self._shows(path, None)
        self._queue.put(Job(Kind.MANIFEST, path.parent), SOON)

    def _tell(self, looked: Looked, known: Known) -> None:
        """Tell the books and the folder above what a look found."""
        path, look = looked.place.path, looked.look
        known.keep_retries({item["name"] for item in look.manifest.items})
        unread = [
            Problem("unreadableFiles", path.child(name), retry.reason)
            for name, retry in list(known.retries.items())
        ]
        if not look.changed:  # what could not be kept is not written again
            look.problems += [p for p in known.health.problems if p.kind == "notKept"]
        known.health = FolderHealth.of(look.manifest.items, look.problems + unread)
        foreign = known.generation not in (None, looked.old.generated_at)  # another process wrote
        self._books.note(looked.old, look.manifest.items, new=path in self._new or foreign)
        known.generation = look.manifest.generated_at
        if not path:
            self._root.remember({*looked.listing.files, *looked.listing.folders})
            self._books.check()
        elif looked.entry:
            self._shows(path, looked.entry)
        elif known.shown not in (None, looked.shown):
            self._queue.put(Job(Kind.MANIFEST, path.parent), SOON)
        known.shown = looked.shown
        for item in look.manifest.items if look.changed and looked.over is None else ():
            if "error" in item or "hash" not in item:
                self._watch.add(Path(item["path"]), item["rev"])

    def _below(self, job: Job, looked: Looked, known: Known) -> None:
        """Look into new folders (`deep`: into all), and forget those that are gone."""
        path, before = looked.place.path, known.children
        now = {entry["name"] for entry in looked.look.manifest.dirs}
        unseen = now if before is None else now - before
        if before is None:
            before = {entry["name"] for entry in looked.old.dirs}
        for name in before - now:
            self._forget(path.child(name))
        self._new |= {path.child(name) for name in (now if path in self._new else now - before)}
        self._new.discard(path)
        known.children = now
        for name in now if job.deep else unseen:
            self._look_later(path.child(name), deep=True, force=job.force)
        for child in looked.hidden if looked.place.storage.root.remote else ():
            self._look_later(child, deep=True)
