"""Indexes folders: looks, writes the manifest, queues new images and subfolders.

What is remembered of a folder is a `Record`, what is in flight while it is indexed a `Run`.

Indexing a folder twice is harmless, and it is the only repair.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lenslet import errors
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images import Facts
from lenslet.index.look import Look, Looker, Stamp, Unseen
from lenslet.index.queue import Job, Kind, Queue, Waiter
from lenslet.index.reader import READER_SECONDS, Host
from lenslet.index.views import SECOND_LOOK_SECONDS, Views
from lenslet.library import Library
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, is_page
from lenslet.library.orphans import Orphan
from lenslet.paths import MANIFEST, ROOT, Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

AGAIN_SECONDS = 2.0  # until a folder is indexed again: something is being written in it
# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
_REST_SECONDS = 2.0  # the longest rest between two looks at one folder
_TURN_SECONDS = 0.1  # the longest wait for a turn; a look at 1,000 images takes 13 ms
MOST_IMAGES = 20_000  # in the queue; a folder whose images do not fit is indexed again
_MOST_REREAD = 1000  # images in the queue that are to be read again
_NEW_SECONDS = 1e12  # a folder with new images comes so much before others that are to be renewed
_MOST_NESTED = 1000  # folders behind several pointers
_FEW_IMAGES = 500  # with fewer in the queue, a folder is indexed for its other images
_MANY_IMAGES = 25  # a folder with more new images may be indexed by any host
_NOT_KEPT = "cannot be written here, and is in this host's cache"
# Seconds until a folder is looked at again: one with images that could not be read; another.
REPEAT_SECONDS, RETRY_SECONDS, RETRY_SECONDS_MOST = 3.0, 60.0, 3600.0
_LOOKS_AFTER_CHANGE = 3
_NEVER = float("inf")


class Retry(NamedTuple):
    """When a folder that changed, or that has bad images, is looked at again.

    `tries` is how many such looks were planned since the last change.
    `reasons` says why images could not be read, by name. `due` is in seconds of the loop's clock.
    """

    reasons: Mapping[str, str] = {}
    due: float = _NEVER
    tries: int = 0

    def after(self, now: float, reasons: Mapping[str, str], *, changed: bool) -> Retry:
        """Returns the next retry. Waits double, and start again if something changed or failed.

        A folder is looked at three times after a change, as writing into a file does not change
        the stamp of its folder, and for ever while an image could not be read.
        """
        tries = 0 if changed or reasons.keys() - self.reasons.keys() else self.tries
        if not (reasons or changed or 0 < tries < _LOOKS_AFTER_CHANGE):
            return Retry()
        if tries and now < self.due:
            return self._replace(reasons=reasons)
        first = REPEAT_SECONDS if reasons else RETRY_SECONDS
        wait = min(first * 2**tries, RETRY_SECONDS_MOST)
        return Retry(reasons, now + wait, tries + 1)


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one folder. Replaced as a whole by the run that indexed the folder.

    `entry` is how the folder is shown in its parent, None if it is not. `generation` is that of
    its manifest, "" if it has none. `children` are its subfolders, each as the manifest shows it.
    `looked` is when indexing ended, by the loop's clock, and `took` how long it took, in seconds;
    `looked_ns` is when it began, as files have it. `orphans` are sidecars whose photo is not beside
    them. `unread`: it has images that will be read, `unsettled`: some that are being written.
    """

    location: Location | None = None
    stamps: tuple[Stamp, ...] = ()
    generation: str = ""
    entry: Dir | None = None
    children: Mapping[str, Dir | None] = field(default_factory=dict)
    health: FolderHealth = field(default_factory=FolderHealth)
    retry: Retry = field(default_factory=Retry)
    looked: float = -_NEVER
    took: float = 0.0
    looked_ns: int = 0
    orphans: tuple[Orphan, ...] = ()
    unread: bool = False
    unsettled: bool = False


class Records:
    """The records of all folders. A folder that was not indexed yet has one too. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.changes = 0  # counts what looks found
        self._folders = {ROOT: Record()}
        self._gone: set[Path] = set()  # forgotten folders that search has not learned of
        self._nested: set[Path] = set()  # those behind several pointers
        self.version = 0  # changes with every change of a folder's health
        self.forgotten = 0  # changes when an indexed folder is forgotten
        self.images_read = 0  # and written into manifests

    def get(self, path: Path) -> Record:
        """Returns the record of a folder, an empty one if it is unknown."""
        return self._folders.get(path) or Record()

    def all(self) -> list[tuple[Path, Record]]:
        with self._lock:
            return list(self._folders.items())

    def check_nested(self, path: Path, location: Location) -> None:
        """Raises `TooManyPointers` for one more folder behind several pointers than are allowed.

        Pointers to folders that hold pointers multiply what is shown.
        """
        with self._lock:
            if len(location.chain) > 1 and path not in self._nested:
                if len(self._nested) >= _MOST_NESTED:
                    raise errors.TooManyPointers(
                        f"{path} is behind {len(location.chain)} pointers, and {_MOST_NESTED} "
                        "folders are behind several pointers already."
                    )
                self._nested.add(path)

    @property
    def complete(self) -> bool:
        """True if every known folder has been indexed."""
        return all(record.looked > -_NEVER for _, record in self.all())

    def expect(self, path: Path, entry: Dir | None) -> bool:
        """Remembers a subfolder as its parent shows it; True if it has not been indexed yet."""
        with self._lock:
            return self._folders.setdefault(path, Record(entry=entry)).looked == -_NEVER

    def entry(self, path: Path, default: Dir | None = None) -> Dir | None:
        """Returns how a folder is shown in its parent, None if not; `default` if it is unknown."""
        record = self._folders.get(path)
        return record.entry if record else default

    def put(self, path: Path, record: Record) -> None:
        with self._lock:
            self.version += self.get(path).health != record.health
            self.changes += self.get(path).stamps != record.stamps
            self._folders[path] = record

    def forget(self, path: Path) -> None:
        """Forgets a folder and all below it."""
        with self._lock:
            self.version += 1
            self.changes += 1
            gone = {path, *filter(path.holds, self._folders)}
            self._gone |= gone
            self.forgotten += any(self.get(folder).generation for folder in gone)
            self._nested -= gone
            for folder in gone:
                self._folders.pop(folder, None)

    def gone(self) -> set[Path]:
        """Returns the forgotten folders that search has not learned of."""
        with self._lock:
            return set(self._gone)

    def search_knows(self, gone: set[Path]) -> None:
        """Drops folders that search has learned of."""
        with self._lock:
            self._gone -= gone


@dataclass(slots=True)
class Run:
    """One folder while it is being indexed: what is in flight, and who waits for the end.

    Guarded by the lock of `Folders`: images are read on other threads.
    """

    reading: dict[str, Kind] = field(default_factory=dict)  # names, and by what kind of job
    facts: dict[str, Facts] = field(default_factory=dict)  # read, and not in the manifest yet
    failed: dict[str, str] = field(default_factory=dict)  # could not be read, and why
    waiters: list[Waiter] = field(default_factory=list)
    asked: bool = False
    more: bool = False  # the queue had no room for all new images

    @property
    def is_done(self) -> bool:
        """True if all new images are in the manifest. Others may still be read again."""
        pending = self.more or self.facts or self.failed or Kind.IMAGE in self.reading.values()
        return not pending

    def end(self, ok: bool) -> None:
        """Tells everyone who waits how the run ended."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(ok)


class Folders:
    """Indexes the folders of a library, one thread at a time for each folder."""

    def __init__(
        self, library: Library, queue: Queue, records: Records, clock: Clock, unseen: Unseen
    ) -> None:
        """`unseen` says of a hash whether no image of the library has it."""
        self._library = library
        self._tree = library.tree
        self._looker = Looker(library, clock, unseen)
        self._queue = queue
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[Path, Run] = {}
        self._turn = threading.Lock()
        self.share: Callable[[Job], None] | None = None  # sends a folder to any host
        self._host = Host()
        self.views = Views(clock)

    # Images

    def is_reading(self, item: Path) -> bool:
        """True while an image is still to be read for its folder."""
        run = self._runs.get(item.parent)
        return run is not None and item.name in run.reading

    def finish(
        self,
        item: Path,
        facts: Facts | None = None,
        *,
        problem: str = "",
        asked: bool = False,
        wait: float = 0.0,
    ) -> None:
        """Takes what reading an image showed; its folder is indexed again after at least `wait`."""
        folder = item.parent
        with self._lock:
            run = self._runs.setdefault(folder, Run())
            run.reading.pop(item.name, None)
            if facts:
                run.facts[item.name] = facts
            if problem:
                run.failed[item.name] = problem
        took = self._records.get(folder).took
        if not run.reading:
            # If one more follows, both are written at once.
            wait = max(wait, min(max(SOON / 10, took), SOON) / 2)
        elif not (asked and facts and facts.error):
            wait = max(wait, SOON if run.asked else PATIENTLY, 20 * took)
        self._queue.put(Job(Kind.FOLDER, folder), wait)

    def _read_images(self, job: Job, run: Run, look: Look, before: Record) -> None:
        """Queues the new images, as many as there is room for, and some to be read again."""
        path, retry = job.path, before.retry
        due = job.force or retry.due <= self._clock()
        failed = self._records.get(path).retry.reasons
        with self._lock:  # some were read during this look
            done = {*run.facts, *run.failed}

        def wanted(images: Mapping[str, bool], kind: Kind) -> dict[str, bool]:
            """Leaves out images that are in the queue as urgently, or are tried again later."""
            return {
                name: needs_thumbnail
                for name, needs_thumbnail in images.items()
                if run.reading.get(name, Kind.RENEW) > kind
                and name not in done
                and (name not in failed or (due and name in retry.reasons))
            }

        todo, old = wanted(look.plan.todo, Kind.IMAGE), wanted(look.plan.old, Kind.REREAD)
        run.more = False
        if self.share and self._shares(run, len(todo)):
            with contextlib.suppress(LensletError):  # if it cannot be sent, they are read here
                self.share(Job(Kind.FOLDER, path, force=job.force))
                # Look again at the next scan, whatever becomes of the message.
                self._records.put(path, replace(self._records.get(path), stamps=()))
                return
        room = max(0, MOST_IMAGES - self._queue.waiting(Kind.IMAGE))
        again = [name for name in old if job.kind is Kind.RENEW or name in failed]
        again = again[: max(0, _MOST_REREAD - self._queue.waiting(Kind.REREAD))]
        for name in list(todo)[:room] + again:
            kind = Kind.IMAGE if name in todo else Kind.REREAD
            with self._lock:
                run.reading[name] = kind
            force = job.force or todo.get(name) or old.get(name, False)
            self._queue.put(Job(kind, path.child(name), run.asked, force))
        run.more = len(todo) > room
        if run.more or len(old) > len(again):
            # Jobs of one kind run in the order of their time: here, the newest folder first.
            images = (look.listing.files[item["name"]] for item in look.plan.manifest.items)
            newest = max(stat.mtime_ns for stat in images) / 1e9
            newest += _NEW_SECONDS * run.more
            self._queue.put(Job(Kind.RENEW, path), -newest - self._clock())

    # Indexing

    def view(self, job: Job) -> None:
        """Indexes a folder that somebody looks at, if that is due."""
        record, first = self._records.get(job.path), self.views.is_first(job.path)
        target = record.location
        if self.views.sends_events and not (target and target.chain):
            due = False
        else:
            due = first or self.views.is_due(record.looked, record.health.counts["items"])
        if due:
            self._queue.put(replace(job, kind=Kind.FOLDER, asked=True))
        else:
            Run(waiters=[*job.waiters]).end(True)
        if due and first:
            self._queue.put(Job(Kind.RETRY, job.path), SECOND_LOOK_SECONDS)

    def index(self, job: Job) -> None:
        """Indexes one folder."""
        if job.kind is Kind.RENEW and self._queue.waiting(Kind.IMAGE, Kind.REREAD) > _FEW_IMAGES:
            self._queue.put(job, PATIENTLY)  # large images wait: they are read one by one
            return
        record = self._records.get(job.path)
        rest = record.looked + min(max(SOON, 5 * record.took), _REST_SECONDS) - self._clock()
        if job.asked and not job.force and rest > 0:
            self._queue.put(job, rest)
            return
        with self._lock:
            run = self._runs.setdefault(job.path, Run())
            run.waiters += job.waiters
            run.asked |= job.asked
        # If nobody waits, local folders take turns. Looking is mostly Python, which one thread runs
        # at a time: two folders at once took 10 s for 500,000 images, one by one 6.6 s. After 0.1 s
        # a folder does not wait any longer, in case another hangs on a disk.
        in_turn = (
            self._tree.has_stamps and not job.asked and self._turn.acquire(True, _TURN_SECONDS)
        )
        ok, again = None, False
        try:
            ok = self._index(job, run, record)
        except errors.Overtaken:  # another host has written the manifest meanwhile
            again = True
            self._queue.put(replace(job, waiters=()), AGAIN_SECONDS)
        except LensletError as error:
            self._library.check_storage(error)
            self.give_up(job.path, error)
            run.facts, run.failed = {}, {}
            ok = isinstance(error, (NotFound, errors.BrokenPointer, errors.PointerLoop))
        finally:
            if in_turn:
                self._turn.release()
            if ok is None and not again:
                run.end(False)
        with self._lock:
            if again or not run.is_done:
                return
            if not run.reading:
                self._runs.pop(job.path, None)
        run.end(bool(ok) and not self._records.get(job.path).retry.reasons)

    def _index(self, job: Job, run: Run, before: Record) -> bool:
        """Looks at a folder and acts on it.

        The tree is checked after each look: what was seen while a disk went away is not true.
        """
        path, begun, begun_ns = job.path, self._clock(), self._clock.wall_ns()
        with self._lock:
            facts, failed = dict(run.facts), dict(run.failed)
        shown = {name: self._records.entry(path.child(name)) for name in before.children}
        news = facts or failed or job.force or before.retry.tries or shown != before.children
        news = news or before.health.counts["notKept"] or job.kind is Kind.RENEW
        news = news or any(each.doubtful for each in before.orphans)  # it may be decided now
        unless = () if news else before.stamps
        look = self._looker.look(
            path,
            facts,
            self._records.entry,
            retry=job.force,
            unless=unless,
            since_ns=before.looked_ns,
        )
        self._tree.check()
        if look is None:
            self._records.put(path, replace(before, looked=self._clock()))
            self._index_children(job, before.children if job.deep else ())
            return True
        self._records.check_nested(path, look.location)
        reads = self._claim(job, run, look)
        self._looker.write(look)
        self._looker.complete(look)
        with self._lock:  # newer facts are kept
            self._records.images_read += len(facts)
            run.facts = {n: f for n, f in run.facts.items() if facts.get(n) is not f}
            run.failed = {n: p for n, p in run.failed.items() if n not in failed}
        self._remember(job, look, before, failed, begun, begun_ns)
        if look.plan.unsettled:
            self._queue.put(Job(Kind.FOLDER, path), AGAIN_SECONDS)
        elif look.young:
            self._queue.put(Job(Kind.RETRY, path), AGAIN_SECONDS)
        if reads:
            self._read_images(job, run, look, before)
        else:  # look again when it has ended, or died
            self._records.put(path, replace(self._records.get(path), stamps=()))
            self._queue.put(Job(Kind.FOLDER, path), READER_SECONDS)
        return reads

    def _claim(self, job: Job, run: Run, look: Look) -> bool:
        """Says in the manifest that this host reads the new images; False if another does.

        The manifest is written only over the one that was read, so that one host wins.
        """
        plan, reader = look.plan, look.old.reader
        if not (self.share and plan.todo):
            return True
        if self._host.leaves(reader) and not job.force:
            plan.manifest.reader = reader
            return False
        new = len(plan.todo.keys() - run.reading)
        if not self._shares(run, new):
            plan.manifest.reader = self._host.claim()
            plan.changed |= new > _MANY_IMAGES and reader.get("host") != self._host.name
        return True

    def _shares(self, run: Run, new: int) -> bool:
        """True if `new` images may be read by any host: nobody waits, and none is read here."""
        return new > _MANY_IMAGES and not (run.waiters or run.asked or run.reading)

    def _remember(
        self,
        job: Job,
        look: Look,
        before: Record,
        failed: dict[str, str],
        begun: float,
        begun_ns: int,
    ) -> None:
        path, plan, now = job.path, look.plan, self._clock()
        manifest, reasons = plan.manifest, {**before.retry.reasons, **failed}
        retry = before.retry.after(
            now,
            {n: reason for n, reason in reasons.items() if n in plan.todo or n in plan.old},
            changed=self._tree.has_stamps and plan.changed,  # in a bucket scans see each image
        )
        todo = plan.todo.keys() - retry.reasons
        problems = [Problem("unreadableFiles", path.child(n), r) for n, r in retry.reasons.items()]
        found = (*look.kept.covered, *look.kept.folders, *look.kept.others)
        ours = [MANIFEST, *filter(is_page, found)]
        if spare := [name for name in ours if self._tree.is_spare(path.child(name))]:
            problems.append(Problem("notKept", path, f"{', '.join(spare)}: {_NOT_KEPT}"))
        record = Record(
            location=look.location,
            stamps=look.stamps,
            generation=manifest.generated_at,
            entry=look.entry,
            children=look.children,
            health=FolderHealth.of(manifest.items, [*plan.problems, *problems]),
            retry=retry,
            looked=now,
            took=now - begun,
            looked_ns=begun_ns,
            orphans=tuple(look.orphans),
            unread=any(
                item["name"] in todo and not item.keys() & {"hash", "error"}
                for item in manifest.items
            ),
            unsettled=plan.unsettled,
        )
        self._put(path, record, before)
        for name in {*before.children, *(entry["name"] for entry in look.old.dirs)}:
            if name not in look.children:
                self._records.forget(path.child(name))
        new = [
            n for n, entry in look.children.items() if self._records.expect(path.child(n), entry)
        ]
        if before.location and before.location.target != look.location.target:
            # The pointer leads elsewhere now, so what is remembered of the folders below is wrong.
            job = replace(job, deep=True, waiters=())
        self._index_children(job, look.children if job.deep else new)

    def _put(self, path: Path, record: Record, before: Record) -> None:
        """Replaces a folder's record, and queues its parent and the summary if they change too."""
        shown = self._records.entry(path)
        self._records.put(path, record)
        if record.retry.due < _NEVER:
            self._queue.put(Job(Kind.RETRY, path), record.retry.due - self._clock())
        if path and shown != record.entry:
            self._queue.put(Job(Kind.FOLDER, path.parent), SOON)
        seen = [
            (each.generation, each.health, each.orphans, each.unread, each.unsettled)
            for each in (before, record)
        ]
        if seen[0] != seen[1]:
            self._queue.put(Job(Kind.SUMMARY), SOON)

    def _index_children(self, job: Job, names: Iterable[str]) -> None:
        for name in names:
            child = Job(Kind.FOLDER, job.path.child(name), force=job.force, deep=job.deep)
            if self.share and job.deep and job.waiters:
                self.share(child)  # a message is not lost if this host dies
                child = Job(Kind.FOLDER, child.path)  # this host must know the folder too
                if self._records.get(child.path).generation:
                    continue
            self._queue.put(child)

    # Failures

    def give_up(self, path: Path, error: LensletError) -> None:
        """Remembers that a folder is gone, not served or not readable."""
        before, now = self._records.get(path), self._clock()
        shown = self._records.entry(path)
        if isinstance(error, NotFound) and not isinstance(error, errors.Ignored):
            self._records.forget(path)
            if path and path.name in self._records.get(path.parent).children:
                self._queue.put(Job(Kind.FOLDER, path.parent), SOON)
            self._queue.put(Job(Kind.SUMMARY), SOON)
        elif isinstance(error, (errors.Ignored, errors.BrokenPointer, errors.PointerLoop)):
            self._records.forget(path)
            self._records.expect(path, shown)
            new = Record(looked=now)
            if isinstance(error, (errors.Ignored, errors.TooManyPointers)):  # scans pass them by
                with contextlib.suppress(LensletError):
                    new = replace(new, stamps=self._looker.stamps(path))
            if not isinstance(error, errors.Ignored):
                entry = {"name": path.name, "kind": "leaf-pointer"}
                new = replace(new, entry=entry, health=_only("brokenPointers", path, error))
            self._put(path, new, before)
        else:  # what is known of it stays
            entry = shown or {"name": path.name, "kind": "branch"}
            health = _only("unreadableFolders", path, error)
            retry = before.retry.after(now, {"": one_line(error)}, changed=False)
            new = replace(before, entry=entry, health=health, stamps=(), retry=retry, looked=now)
            if health != before.health:  # not after every look
                log.warning("folder %s: %s", path or "/", one_line(error))
            self._put(path, new, before)


def _only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    return FolderHealth.of([], [Problem(kind, path, one_line(error))])
