"""The index process's loop: does the jobs of the queue on threads, and finds what changed.

`step()` does one job, `run(stop)` goes on until it is stopped. A scan finds what a crash lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lenslet import times
from lenslet.errors import Denied, LensletError, NotFound, one_line
from lenslet.images.decoders import NeedsMore, Stopped
from lenslet.index.folders import AGAIN_SECONDS, REPEAT_SECONDS, Folders, Record, Records
from lenslet.index.look import Stamp
from lenslet.index.moves import Moves
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.read import Images, Listener, Unsettled
from lenslet.index.status import IMAGES, PREVIEWS, STORAGE, Status
from lenslet.library import Library, health, manifest
from lenslet.paths import HEALTH, ROLLUP, ROLLUP_DELTA, ROOT, Path, folder_key
from lenslet.search.rollup import Rollup
from lenslet.times import Clock

log = logging.getLogger("lenslet")

FULL_SCAN_SECONDS = 3600.0
S3_SCAN_SECONDS = 120.0  # between two listings of a pointer's target in a bucket
BEAT_SECONDS = 1.0
SLOW_SECONDS = 60.0
STUCK_SECONDS = 3600.0  # no image, folder or rollup takes so long, even in a slow store
_ONCE_PAUSE = 0.05
_ONCE_SECONDS = 10.0  # with `once`: the longest wait for a file that is still being written
_ONCE_MOVES_SECONDS = 600.0  # with `once`: the longest time for moving sidecars
COMPACT_SECONDS = 300.0  # at least, between two rollups
_SCAN_REST = 100  # times what a scan took, then comes the next: a quarter to all of SCAN_SECONDS
_REST = 10  # a rollup that failed is tried again after so many times what it took
_OVERLAP = 60.0  # a record is stored at most so many seconds after its `looked`
_WORK = (Kind.THUMBNAIL, Kind.PREVIEW, Kind.IMAGE, Kind.FOLDER, Kind.REREAD, Kind.RENEW)


class Indexer:
    """Does the jobs of a queue, and reports in the shared memory."""

    def __init__(
        self,
        library: Library,
        queue: Queue,
        status: Status,
        clock: Clock | None = None,
        listener: Listener = lambda path, error: None,
    ) -> None:
        """`listener` is called for every image that was read, with the reason if it failed."""
        clock = clock or Clock()
        self._records = records = Records()
        self._clock = clock
        self._tree, self._client = library.tree, library.client
        self._seen = 0, 0  # writes and changes that were reported
        self._decoders = library.decoders
        self._decoders.somebody_waits = lambda: queue.somebody_waits
        self._threads = library.settings.worker_threads
        self._queue = queue
        self._status = status
        self._moves = moves = Moves(library, queue, records, clock)
        self.folders = Folders(library, queue, records, clock, moves.unseen)
        self._images = Images(library, self.folders, status, clock, listener)
        self._summary = Summary(library, queue, records, clock, moves)
        self._scanner = Scanner(library, queue, records, self._summary, clock)
        # The kinds of work that storage refuses: why, and when it was tried last.
        self._refused: dict[Kind, tuple[str, float]] = {}
        self._doing: dict[int, tuple[Job, float]] = {}  # by thread, and since when
        self._worked = time.monotonic()  # when an image was read last, or a folder found

    # The loop

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Works on `WORKER_THREADS` threads until `stop` is set or, with `once`, all is done."""
        if once or self._scanner.seconds:
            self._queue.put(Job(Kind.SCAN, force=True))
        self._decoders.start()
        if once:
            self.step()  # so that no thread ends before there is work
        pause = _ONCE_PAUSE if once else BEAT_SECONDS
        # One more thread reads large images.
        threads = [
            threading.Thread(target=self._work, args=(stop, once, large), name="index")
            for large in (*[False] * self._threads, True)
        ]
        threads = start(threads, stop, self.beat)
        self.beat()
        while any(t.is_alive() for t in threads) and not stop.wait(pause):
            self.beat()
        if once and not stop.is_set():
            self._do(Job(Kind.SUMMARY))
            until = time.monotonic() + _ONCE_MOVES_SECONDS
            while (self._moves.waits or self.backlog) and time.monotonic() < until:
                self.step(_ONCE_PAUSE)
            self._do(Job(Kind.SUMMARY, deep=True))
        self._decoders.close()  # no thread waits for the end of its image
        for thread in threads:
            thread.join()

    def _work(self, stop: threading.Event, once: bool, large: bool) -> None:
        while not stop.is_set():
            self.step(_ONCE_PAUSE if once else BEAT_SECONDS, large=large)
            works = any(job.kind in _WORK for job, _ in list(self._doing.values()))
            rests = time.monotonic() - self._worked > _ONCE_SECONDS and not works
            if once and (not self.backlog or (rests and self._records.complete)):
                return

    def step(self, wait: float = 0.0, *, large: bool | None = None) -> bool:
        """Does the next job, if one is due within `wait` seconds; True if there was one."""
        job = self._queue.get(wait, large=large)
        if job is None:
            return False
        try:
            self._doing[threading.get_ident()] = job, time.monotonic()
            self._do(job)
        finally:
            del self._doing[threading.get_ident()]
            self._queue.done(job)
        return True

    def _do(self, job: Job) -> None:
        before, tried = self._refused.get(job.kind, ("", float("-inf")))
        pause = tried + REPEAT_SECONDS - self._clock()
        if pause > 0 and job.kind is not Kind.PREVIEW:
            self._queue.put(job, pause)
            return
        try:
            match job.kind:
                case Kind.THUMBNAIL | Kind.PREVIEW | Kind.IMAGE | Kind.REREAD:
                    self._images.do(job)
                    self._worked = time.monotonic()
                case Kind.FOLDER | Kind.RENEW:
                    is_new = self._records.get(job.path).looked == float("-inf")
                    self.folders.index(job)
                    if is_new:
                        self._worked = time.monotonic()
                case Kind.SCAN:
                    self._scanner.scan(job)
                    self._status.scanned()
                case Kind.SUMMARY:
                    self._summary.write(job)
                case Kind.VIEW:
                    self.folders.view(job)
                case Kind.RETRY:
                    self._queue.put(Job(Kind.FOLDER, job.path))
            self._refused.pop(job.kind, None)
        except NeedsMore:
            self._queue.put(replace(job, large=True))
        except Unsettled as error:
            self._queue.put(job, error.seconds)
        except Stopped:
            self._queue.put(job, AGAIN_SECONDS)
        except LensletError as error:
            reason = one_line(error)
            if reason != before:  # not every three seconds of an outage
                log.warning("%s %s: %s", job.kind.name.lower(), job.path or "/", reason)
            self._refused[job.kind] = reason, self._clock()
            if job.kind is not Kind.PREVIEW:  # asked for again, it is tried again
                force = job.force and job.kind is not Kind.SUMMARY  # which remembers it
                self._queue.put(replace(job, waiters=(), asked=False, force=force), REPEAT_SECONDS)
        except Exception as error:  # the outermost frame: one bad file must not stop the rest
            log.exception("%s %s failed", job.kind.name.lower(), job.path or "/")
            if job.kind in (Kind.FOLDER, Kind.RENEW):
                reason = f"an error in Lenslet: {type(error).__name__}"
                self.folders.give_up(job.path, LensletError(reason))

    def beat(self) -> None:
        """Reports that the loop works, unless a thread is stuck in one job."""
        now, seen = time.monotonic(), (self._client.writes, self._records.changes)
        if seen != self._seen:
            self._status.changed()
            self._seen = seen
        slow = [job for job, since in list(self._doing.values()) if now - since > SLOW_SECONDS]
        if any(now - since > STUCK_SECONDS for _, since in list(self._doing.values())):
            return
        self._status.beat(self.backlog)
        reads = [f"{job.path or '/'} takes over a minute: a slow disk?" for job in slow]
        if late := self._queue.late():
            reads = [f"{late:,} images take long to decode and are read one at a time"]
        reads += map(str, filter(None, [self._tree.obstacle()]))
        self._status.set_problem(STORAGE, self.problem(*Kind) or "".join(reads[:1]))
        self._status.set_problem(IMAGES, self.problem(Kind.THUMBNAIL, Kind.IMAGE, Kind.FOLDER))
        self._status.set_problem(PREVIEWS, self.problem(Kind.PREVIEW))
        if self._clock() - self._refused.get(Kind.PREVIEW, ("", 0.0))[1] > REPEAT_SECONDS:
            self._refused.pop(Kind.PREVIEW, None)

    def problem(self, *kinds: Kind) -> str:
        """Why storage refuses such work right now; empty if it does not."""
        return next((self._refused[kind][0] for kind in kinds if kind in self._refused), "")

    @property
    def backlog(self) -> int:
        """The number of folders and images that wait."""
        return self._queue.waiting(*_WORK)

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


class Summary:
    """Keeps search and the health report up to date with the records of the folders.

    Of the hosts that share a bucket, only the one that scans is the leader, which writes the rollup
    and the report. Every host adds the folders that it has indexed to the delta.
    """

    def __init__(
        self, library: Library, queue: Queue, records: Records, clock: Clock, moves: Moves
    ) -> None:
        self._moves = moves
        self._tree = library.tree
        self._queue = queue
        self._records = records
        self._clock = clock
        self._leads = library.settings.scan_seconds > 0
        self._rollup = Rollup(library.tree, library.cache)
        self._flushed = float("-inf")  # when the delta was last compared with the records
        self._read = 0  # images that the delta knows were read
        self._compacted, self._rebuild = clock(), False
        self._failed: tuple[float, LensletError] | None = None  # a rollup: until when it rests
        self._passes: dict[str, dict[str, Any]] = {}
        self._since: health.Since = {}
        self._reported: tuple[Any, ...] = ()  # the records' version, orphans and the passes

    def write(self, job: Job) -> None:
        """Writes what has changed. `force` writes the rollup anew, `deep` if it is out of date."""
        if job.force:
            self._rebuild, self._failed = True, None
        self._tree.check()
        complete = self._leads and self._records.complete
        try:
            self._flush()
            if complete:
                self._moves.step()
            if complete and ((job.deep and self._rollup.delta.folders) or self._is_due()):
                self._compact()
        finally:
            if complete:
                self._report()
        if self._leads and self._rollup.delta.folders:
            self._queue.put(Job(Kind.SUMMARY), COMPACT_SECONDS)
        spare = [name for name in (ROLLUP, ROLLUP_DELTA, HEALTH) if self._tree.is_spare(Path(name))]
        if spare and not self._tree.obstacle():
            raise Denied(f"{', '.join(spare)} cannot be written: another program's files?")

    def _flush(self) -> None:
        """Adds to the delta the folders whose manifest is not the one in the rollup."""
        rollup, complete = self._rollup, self._records.complete
        rollup.refresh()
        if self._leads and not (complete or rollup.exists):
            return  # the first rollup will have everything
        begun, known = self._clock(), rollup.generations
        gone = self._records.gone()
        now = {path: each for path, each in self._records.all() if each.generation}
        recent = [path for path, each in now.items() if each.looked > self._flushed - _OVERLAP]
        changed = dict.fromkeys(gone, "") | {path: now[path].generation for path in recent}
        if self._leads and complete:
            differs = (path for path in now if now[path].generation != known.get(path))
            changed |= {path: now[path].generation for path in differs}
            changed |= dict.fromkeys(known.keys() - now.keys(), "")
            for path in rollup.delta.folders.keys() - now.keys() - changed.keys():
                self._queue.put(Job(Kind.FOLDER, path))  # another host has found it
        read = self._records.images_read
        if rollup.flush(changed, read - self._read):
            self._read = read
        self._records.search_knows(gone)
        self._flushed = begun

    def _is_due(self) -> bool:
        if self._failed and self._clock() < self._failed[0]:
            raise self._failed[1]
        waited = self._clock() - self._compacted >= COMPACT_SECONDS
        due = self._rebuild or not self._rollup.exists or self._rollup.is_old
        return due or (waited and self._rollup.is_due)

    def _compact(self) -> None:
        begun = self._clock()
        folders = [path for path, record in self._records.all() if record.generation]
        try:
            count = self._rollup.compact(folders, self._load)
        except LensletError as error:
            self._failed = self._clock() + _REST * (self._clock() - begun), error
            raise
        self._compacted, self._failed, self._rebuild = self._clock(), None, False
        self.passed("rollup", begun, items=count)
        self._flush()

    def _load(self, folder: Path) -> manifest.Manifest:
        found = manifest.load(self._tree, folder)
        if not found.generated_at:
            self._queue.put(Job(Kind.FOLDER, folder))
        return found

    def passed(self, name: str, begun: float, **more: int) -> None:
        """Remembers that a pass has ended; the report says when, and how many seconds it took."""
        seconds = round(self._clock() - begun, 3)
        self._passes[name] = {"at": times.text(times.now()), "seconds": seconds, **more}

    def _report(self) -> None:
        """Writes the report, unless it says what it said before."""
        passes = {name: each for name, each in self._passes.items() if name != "scan"}
        news = self._records.version, self._moves.health, passes
        if news != self._reported or health.load(self._tree) is None:
            health.write(self._tree, self.report())
        self._reported = news

    def report(self) -> dict[str, Any]:
        """Returns the library's health as of now."""
        records = sorted(self._records.all(), key=lambda entry: folder_key(entry[0]))
        folders = (*(record.health for _, record in records), self._moves.health)
        return health.report(folders, self._passes, self._since)


class Scanner:
    """Finds the folders that changed: one stat a folder, or one listing in a bucket."""

    def __init__(
        self, library: Library, queue: Queue, records: Records, summary: Summary, clock: Clock
    ) -> None:
        self._library = library
        self._queue = queue
        self._records = records
        self._summary = summary
        self._clock = clock
        self.seconds = library.settings.scan_seconds
        self._in_folders = library.tree.has_stamps
        self._took = 0.0  # the last scan
        self._began_full = float("-inf")
        self._is_full = False  # the full scan that began last has not ended

    def scan(self, job: Job) -> None:
        """Queues the folders that changed; with `force`, and every hour, all folders."""
        begun = self._clock()
        self._library.tree.check()
        if self.seconds:
            least = self.seconds / 4 if self._in_folders else self.seconds
            self._queue.put(Job(Kind.SCAN), max(least, min(_SCAN_REST * self._took, self.seconds)))
        if job.force or begun - self._began_full > FULL_SCAN_SECONDS:
            self._began_full, self._is_full = begun, True
            for path, _ in self._records.all():
                self._queue.put(Job(Kind.FOLDER, path))
            self._queue.put(Job(Kind.FOLDER, ROOT))
            return
        for path, record in self._records.all():
            if self._has_changed(path, record):
                self._queue.put(Job(Kind.FOLDER, path))
        if self._is_full and not self._queue.waiting(*_WORK):
            self._is_full = False
            self._summary.passed("full", self._began_full)
        self._took = self._clock() - begun
        self._summary.passed("scan", begun)
        self._queue.put(Job(Kind.SUMMARY))

    def _has_changed(self, path: Path, record: Record) -> bool:
        if not record.stamps or any(self._is_old(stamp, record) for stamp in record.stamps):
            return True
        if record.health.counts["notKept"] and not self._library.tree.obstacle(path):
            return True
        location = record.location
        if not (location and location.chain and self._in_folders):
            return False
        try:  # a pointer on the way may lead elsewhere now
            return self._library.locator.folder(path, fresh=True).target != location.target
        except LensletError:
            return True

    def _is_old(self, stamp: Stamp, record: Record) -> bool:
        if not stamp.tree.has_stamps:  # only a listing tells; is one due?
            least = 0.0 if stamp.tree is self._library.tree else S3_SCAN_SECONDS
            return self._clock() - record.looked > 0.9 * max(self.seconds, least)
        try:
            return stamp.tree.stamp(stamp.folder) != stamp.value
        except NotFound:
            return stamp.value != 0
        except LensletError:
            return True
