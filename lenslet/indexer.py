"""The index process's loop: finds what changed, reads images, keeps manifests and the rollup.

`step()` does one job; `run(stop)` does them on threads until told to stop. It keeps one small
record per folder and nothing per image, and a fresh scan finds again all that a crash forgets.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lenslet import health, paths, times
from lenslet.config import Settings
from lenslet.errors import BrokenPointer, LensletError, NotFound, PointerLoop, one_line
from lenslet.folders import Folders, Looked, Stamp
from lenslet.health import FolderHealth
from lenslet.jobs import Board, Job, Kind, Queue
from lenslet.manifest import Facts, Problem
from lenslet.mount import RootWatch
from lenslet.paths import ROOT, Path
from lenslet.pointers import Resolver
from lenslet.renderer import Renderer, Unsettled
from lenslet.rollup import Rollup
from lenslet.storage import Storage, Tree

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0
COMPACT_SECONDS = 300.0
SETTLE_SECONDS = 2.0
RETRY_SECONDS, RETRY_SECONDS_MOST = 60.0, 3600.0
STUCK_SECONDS = 60.0
_FEW_IMAGES = 1000  # when so many are left in the queue, more are looked for
_SOON, _PATIENTLY = 0.5, 5.0  # how long what was read may wait before its manifest tells of it
_ASKED_SECONDS = 10.0  # a folder counts as asked for so long
_IMAGES = frozenset((Kind.THUMBNAIL, Kind.WANTED, Kind.IMAGE))

Told = Callable[[Path, "str | None"], None]


@dataclass(slots=True)
class Retry:
    """An image that could not be read for now."""

    due: float
    tries: int
    reason: str


@dataclass(slots=True)
class Known:
    """What is remembered of one folder."""

    stamp: Stamp | None = None
    shown: tuple[bool, int, str | None] | None = None
    children: set[str] | None = None
    health: FolderHealth = field(default_factory=FolderHealth)
    facts: dict[str, Facts] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    retries: dict[str, Retry] = field(default_factory=dict)
    looked: float = float("-inf")
    took: float = 0.0
    asked: float = float("-inf")


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
        self._told = told
        self._clock = clock
        self._wall = wall
        self._root = RootWatch(storage.root)
        self._look = Folders(storage, settings, resolver, wall)
        self._renderer = Renderer(storage, settings)
        self._rollup = Rollup(storage, cache)
        self._known: dict[Path, Known] = {}
        self._unfinished: dict[Path, None] = {}  # folders with more images than the queue took
        self._claiming = threading.Lock()
        self._looking: set[Path] = set()
        self._walking: set[Path] = set()
        self._new: set[Path] = set()  # folders that the rollup cannot know
        self._walk_began: float | None = None
        self._walked = False
        self._rollup_is_stale = not self._rollup.built
        self._compacted = float("-inf")
        self._passes: dict[str, dict[str, Any]] = {}
        self._reported: dict[str, Any] = {}
        self._started = clock()
        self._actions: dict[Kind, Callable[[Job], None]] = {
            Kind.THUMBNAIL: self._image,
            Kind.WANTED: self._image,
            Kind.IMAGE: self._image,
            Kind.FOLDER: self._folder,
            Kind.LOOK: self._folder,
            Kind.MANIFEST: self._folder,
            Kind.SCAN: self._scan,
            Kind.ROLLUP: self._flush,
            Kind.COMPACT: self._compact,
            Kind.HEALTH: self._report,
        }

    # The loop

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Work on `WORKER_THREADS` threads until `stop` is set or, with `once`, all is done."""
        self.recover(stop)
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
            self._compact(Job(Kind.COMPACT))
            self._report(Job(Kind.HEALTH))

    def _work(self, stop: threading.Event, slot: int, once: bool) -> None:
        while not stop.is_set():
            if not self.step(0.2 if once else 1.0, slot) and once and not self.backlog:
                return

    def ready(self) -> bool:
        """Whether the root is there and not empty."""
        return self._root.is_there()

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
        try:
            with self._marked(job, slot):
                self._actions[job.kind](job)
        except LensletError as error:
            log.warning("%s %s: %s", job.kind.name.lower(), job.path or "/", one_line(error))
            if job.kind not in _IMAGES:
                self._queue.put(job, RETRY_SECONDS)
        except Exception:  # the outermost frame: one bad file must not stop the rest
            log.exception("%s %s failed", job.kind.name.lower(), job.path or "/")

    @contextmanager
    def _marked(self, job: Job, slot: int) -> Iterator[None]:
        """What is being read stands on the board, should it be the end of this process."""
        if job.kind not in _IMAGES:
            yield
            return
        self._board.mark(slot, job.path)
        try:
            yield
        finally:
            self._board.clear(slot)

    def pulse(self) -> bool:
        """Show on the board that the loop lives; False while a thread is stuck in one image."""
        now = time.monotonic()
        if any(now - mark.since > STUCK_SECONDS for mark in self._board.marks().values()):
            return False
        self._board.pulse(self.backlog, self._started)
        return True

    @property
    def backlog(self) -> int:
        """How many folders and images wait to be looked at."""
        return len(self._unfinished) + self._queue.waiting(*(k for k in Kind if k < Kind.SCAN))

    def recover(self, stop: threading.Event) -> None:
        """See whether an image that was being read when the last process died was the reason."""
        suspects = self._board.marks()
        for slot, mark in suspects.items():
            self._board.mark(slot, mark.path)
        for slot, mark in suspects.items():
            if stop.is_set():
                return
            self._board.mark(slot, mark.path)
            log.warning("the index process died while it read %s", mark.path)
            self._try_alone(mark.path)
            self._board.clear(slot)

    def _try_alone(self, path: Path) -> None:
        try:
            place = self._resolver.item(path)
            facts = self._renderer.try_alone(place, path)
        except LensletError as error:
            log.warning("image %s: %s", path, one_line(error))
            return
        if facts:
            log.error("image %s: %s", path, facts.error)
            self._learnt(path, facts)

    # Finding what changed

    def _scan(self, job: Job) -> None:
        """One stat a folder; with `force`, and every hour, a look into each."""
        begun = self._clock()
        self._queue.put(Job(Kind.SCAN), self._settings.scan_seconds)
        if not self._root.is_there():
            return
        hour_over = self._walk_began is None or begun - self._walk_began > FULL_SCAN_SECONDS
        if (job.force or hour_over) and not self._walking:
            self._walk_began = begun
            self._look_later(ROOT, deep=True)
            return
        for path, known in list(self._known.items()):
            if self._has_moved(path, known):
                self._look_later(path)
        self._passed("scan", begun)

    def _has_moved(self, path: Path, known: Known) -> bool:
        try:
            return self._look.stamp(path) != known.stamp
        except LensletError:
            return known.stamp is not None

    def _passed(self, name: str, begun: float, **more: int) -> None:
        seconds = round(self._clock() - begun, 3)
        self._passes[name] = {"at": times.text(times.now()), "seconds": seconds, **more}

    def _look_later(self, path: Path, *, deep: bool = False, force: bool = False) -> None:
        if deep:
            self._walking.add(path)
        job = Job(Kind.LOOK, path, force, deep)
        if not self._queue.put(job):
            self._queue.put(job, SETTLE_SECONDS)

    def _folder(self, job: Job) -> None:
        if not self._begin(job.path):
            self._queue.put(job, _SOON / 10)  # another thread is looking
            return
        try:
            if self._root.is_there():
                self._look_at(job)
        finally:
            self._looking.discard(job.path)
            if job.path in self._walking and job.deep:
                self._walking.discard(job.path)
                if not self._walking:
                    self._walk_ended()

    def _begin(self, path: Path) -> bool:
        """Claim a folder for this thread: one look at a time."""
        with self._claiming:
            if path in self._looking:
                return False
            self._looking.add(path)
            return True

    def _look_at(self, job: Job) -> None:
        path, begun = job.path, self._clock()
        known = self._known.get(path) or Known()
        rest = known.looked + max(_SOON, 5 * known.took) - begun
        if job.kind is Kind.FOLDER and rest > 0 and not job.force:
            self._queue.put(job, rest)
            return
        facts = dict(known.facts)
        try:
            looked = self._look.look(path, facts, retry=job.force)
            self._look.keep(looked)
        except NotFound:
            if path in self._known:
                self._forget(path)
            return
        except (BrokenPointer, PointerLoop) as error:
            self._blocked(path, known, Problem("brokenPointers", path, one_line(error)))
            return
        except LensletError as error:
            self._blocked(path, known, Problem("unreadableFolders", path, one_line(error)))
            raise
        self._known[path] = known
        known.stamp = looked.stamp
        if job.kind is Kind.FOLDER:
            known.asked = begun
        for name, learnt in facts.items():
            if known.facts.get(name) is learnt:
                del known.facts[name]
        self._note(looked, known)
        self._below(job, looked, known)
        self._read_later(job, looked, known)
        known.looked = self._clock()
        known.took = known.looked - begun

    def _note(self, looked: Looked, known: Known) -> None:
        """Tell the rollup, health and the parent what a look found."""
        path, look = looked.place.path, looked.look
        unread = [
            Problem("unreadableFiles", path.child(name), retry.reason)
            for name, retry in known.retries.items()
        ]
        known.health = FolderHealth.of(look.manifest.items, look.problems + unread)
        self._rollup_is_stale |= looked.old.kept_ns > self._rollup.written_ns and not self._walked
        before = [] if path in self._new else looked.old.items
        self._rollup.note(path, before, look.manifest.items)
        if self._rollup.unflushed:
            self._queue.put(Job(Kind.ROLLUP), _SOON)
        if not path:
            self._root.remember({*looked.listing.files, *looked.listing.folders})
            if not self._rollup.there() and self._walked:
                self._queue.put(Job(Kind.COMPACT), _SOON)
        elif known.shown not in (None, looked.shown):
            self._queue.put(Job(Kind.MANIFEST, path.parent), _SOON)
        known.shown = looked.shown
        self._queue.put(Job(Kind.HEALTH), SETTLE_SECONDS)

    def _below(self, job: Job, looked: Looked, known: Known) -> None:
        """Look into new folders (`deep`: into all), and forget those that are gone."""
        path = looked.place.path
        now = {entry["name"] for entry in looked.look.manifest.dirs}
        before = known.children
        if before is None:
            before = {entry["name"] for entry in looked.old.dirs}
        for name in before - now:
            self._forget(path.child(name))
        self._new |= {path.child(name) for name in (now if path in self._new else now - before)}
        self._new.discard(path)
        for name in now if job.deep else now - (known.children or set()):
            self._look_later(path.child(name), deep=True, force=job.force)
        known.children = now

    def _read_later(self, job: Job, looked: Looked, known: Known) -> None:
        """Put the images that are to be read, as many as fit; more when those are done."""
        path, now = looked.place.path, self._clock()
        kind = Kind.WANTED if now - known.asked < _ASKED_SECONDS else Kind.IMAGE
        for name in looked.look.todo:
            retry = known.retries.get(name)
            if name in known.pending or (retry and retry.due > now and not job.force):
                continue
            if not self._queue.put(Job(kind, path.child(name), job.force)):
                self._unfinished[path] = None
                break
            known.pending.add(name)
        if looked.look.unsettled:
            self._queue.put(Job(Kind.MANIFEST, path), SETTLE_SECONDS)

    def _blocked(self, path: Path, known: Known, problem: Problem) -> None:
        """A folder that cannot be looked into: all that is known of it stays."""
        self._known[path] = known
        known.stamp = None
        known.health.problems = [problem]
        known.health.counts[problem.kind] = 1
        self._queue.put(Job(Kind.HEALTH), SETTLE_SECONDS)

    def _forget(self, path: Path) -> None:
        """A folder is gone, and all below it."""
        for folder in [folder for folder in self._known if path.holds(folder)]:
            del self._known[folder]
        self._rollup.note_gone(path)
        self._queue.put(Job(Kind.ROLLUP), _SOON)
        self._queue.put(Job(Kind.MANIFEST, path.parent), _SOON)

    def _walk_ended(self) -> None:
        if self._walk_began is not None:
            self._passed("full", self._walk_began)
        self._walked = True
        if self._rollup_is_stale or self._rollup.backlog:
            self._compact_later()
        self._queue.put(Job(Kind.HEALTH), _SOON)

    # Images

    def _image(self, job: Job) -> None:
        """Read one image, unless another job has done it meanwhile."""
        known = self._known.get(job.path.parent)
        if job.kind is Kind.THUMBNAIL or (known and job.path.name in known.pending):
            self._read(job)

    def _read(self, job: Job) -> None:
        path = job.path
        try:
            place = self._resolver.item(path)
            waits = job.kind is Kind.THUMBNAIL and not job.force
            if waits and self._renderer.has_thumbnail(place, path):
                return
            facts = self._renderer.read(place, path, self._wall(), force=job.force)
        except Unsettled:
            self._queue.put(job, SETTLE_SECONDS)
        except (NotFound, BrokenPointer, PointerLoop):
            self._done_with(path)
        except Exception as error:
            self._failed(path, one_line(error) or type(error).__name__)
            raise
        else:
            self._learnt(path, facts, waited_for=job.kind is Kind.THUMBNAIL)

    def _learnt(self, path: Path, facts: Facts, *, waited_for: bool = False) -> None:
        known = self._known.setdefault(path.parent, Known())
        known.facts[path.name] = facts
        known.retries.pop(path.name, None)
        self._told(path, facts.error)
        self._done_with(path, at_once=waited_for and facts.error is not None)

    def _failed(self, path: Path, reason: str) -> None:
        """An image could not be read for now: try again, later and later."""
        known = self._known.setdefault(path.parent, Known())
        before = known.retries.get(path.name)
        tries = before.tries + 1 if before else 0
        wait = min(RETRY_SECONDS * 2**tries, RETRY_SECONDS_MOST)
        known.retries[path.name] = Retry(self._clock() + wait, tries, reason)
        self._queue.put(Job(Kind.MANIFEST, path.parent), wait)
        self._told(path, reason)
        self._done_with(path)

    def _done_with(self, path: Path, *, at_once: bool = False) -> None:
        """One image fewer to wait for: its manifest is due now, or soon."""
        folder = path.parent
        known = self._known.setdefault(folder, Known())
        known.pending.discard(path.name)
        asked = self._clock() - known.asked < _ASKED_SECONDS
        if at_once:
            self._queue.put(Job(Kind.FOLDER, folder))
        elif not known.pending:
            self._queue.put(Job(Kind.MANIFEST, folder), _SOON / 2)
        else:
            wait = max(_SOON if asked else _PATIENTLY, 20 * known.took)
            self._queue.put(Job(Kind.MANIFEST, folder), wait)
        if self._unfinished and self._queue.waiting(Kind.IMAGE) < _FEW_IMAGES:
            self._look_later(self._unfinished.popitem()[0])

    # The rollup and health

    def _flush(self, job: Job) -> None:
        begun = self._clock()
        if self._root.is_there():
            self._rollup.flush()
            if self._walked:
                self._compact_later()
        if self._rollup.unflushed:
            self._queue.put(Job(Kind.ROLLUP), max(1.0, 10 * (self._clock() - begun)))

    def _compact_later(self) -> None:
        wait = max(_SOON, self._compacted + COMPACT_SECONDS - self._clock())
        self._queue.put(Job(Kind.COMPACT), wait)

    def _compact(self, job: Job) -> None:
        if not (self._walked and self._root.is_there()):
            return
        begun = self._clock()
        count = self._rollup.compact(list(self._known))
        self._compacted, self._rollup_is_stale = self._clock(), False
        self._passed("rollup", begun, items=count)
        self._queue.put(Job(Kind.HEALTH), _SOON)

    def _report(self, job: Job) -> None:
        """Keep the health report, unless it says what it said before."""
        if not self._root.is_there():
            return
        found = self.health()
        telling = {**found, "passes": {k: v for k, v in self._passes.items() if k != "scan"}}
        if telling != self._reported or health.load(self._storage) is None:
            health.keep(self._storage, found)
            self._reported = telling

    def health(self) -> dict[str, Any]:
        """The library's health as of now."""
        folders = sorted(self._known.items(), key=lambda entry: paths.folder_key(entry[0]))
        return health.report([known.health for _, known in folders], dict(self._passes))
