"""Indexes folders: looks, writes the manifest, has new images read, queues subfolders.

Indexing a folder twice is harmless, and it is the only repair.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from lenslet.errors import (
    BrokenPointer,
    Denied,
    Ignored,
    LensletError,
    NotFound,
    Overtaken,
    PointerLoop,
    StorageUnavailable,
    one_line,
)
from lenslet.index.look import Look, Looker
from lenslet.index.queue import Job, Kind, Queue, Waiter
from lenslet.index.records import Record, Records, Stamp, retries
from lenslet.library import Library
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.manifest import Facts
from lenslet.paths import MANIFEST, ROOT, Path
from lenslet.times import Clock

SETTLE_SECONDS = 2.0  # until a file that is being written is looked at again
SOON, PATIENTLY = 0.5, 5.0  # from reading an image to its manifest: if somebody waits, and if not
_REST_SECONDS = 2.0  # the longest rest between two looks at one folder
_TURN_SECONDS = 0.1  # a folder of 1,000 images takes 13 ms
_TRIES = 5
MOST_IMAGES = 20_000  # in the queue; folders with more wait in `_unread`
_MANY_IMAGES = 25  # a folder with more new images may be indexed by any host
_NOT_KEPT = "Lenslet cannot write in this folder; its manifest is in this host's cache"


class Run:
    """One folder while it is being indexed: what is in flight, and who waits for the end.

    Images are read on other threads. Everything else is done by one thread at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, Facts] = {}  # read, and not in the manifest yet
        self._failed: dict[str, str] = {}  # could not be read, and why
        self._reading: set[str] = set()
        self.waiters: list[Waiter] = []
        self.asked = False

    def begin(self, name: str) -> bool:
        """Notes that an image will be read; False if it was noted before."""
        with self._lock:
            new = name not in self._reading
            self._reading.add(name)
            return new

    def is_reading(self, name: str = "") -> bool:
        """True while this image (no name: any image) is still to be read."""
        return name in self._reading if name else bool(self._reading)

    def finish(self, name: str, facts: Facts | None, problem: str) -> None:
        """Notes what reading an image showed."""
        with self._lock:
            self._reading.discard(name)
            if facts:
                self._facts[name] = facts
            if problem:
                self._failed[name] = problem

    def results(self) -> tuple[dict[str, Facts], dict[str, str]]:
        """Returns what was read, and what failed, since the last `written`."""
        with self._lock:
            return dict(self._facts), dict(self._failed)

    def written(self, facts: dict[str, Facts], failed: dict[str, str]) -> None:
        """Drops results that are in the manifest now."""
        with self._lock:
            self._facts = {n: f for n, f in self._facts.items() if facts.get(n) is not f}
            self._failed = {n: p for n, p in self._failed.items() if n not in failed}

    def is_empty(self) -> bool:
        """True if nothing is in flight."""
        return not (self._facts or self._failed or self._reading)

    def tell(self, ok: bool) -> None:
        """Tells everyone who waits how the run ended."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(ok)


class Folders:
    """Indexes the folders of a library, one thread at a time for each folder."""

    def __init__(self, library: Library, queue: Queue, records: Records, clock: Clock) -> None:
        self._tree = library.tree
        self._looker = Looker(library, clock)
        self._queue = queue
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[Path, Run] = {}
        self._turn = threading.Lock()
        self._unread: OrderedDict[Path, None] = OrderedDict()  # their images did not all fit
        self.share: Callable[[Job], None] | None = None  # sends a folder to any host

    # What is in flight

    def run_of(self, path: Path) -> Run | None:
        return self._runs.get(path)

    @property
    def unread(self) -> int:
        """The number of folders whose new images are not in the queue yet."""
        return len(self._unread)

    def _open(self, path: Path) -> Run:
        with self._lock:
            return self._runs.setdefault(path, Run())

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
            run.finish(item.name, facts, problem)
        record = self._records.get(folder)
        took = record.took if record else 0.0
        if not run.is_reading():
            wait = max(wait, min(max(SOON / 10, took), SOON) / 2)  # another may follow
        elif not (asked and facts and facts.error):
            wait = max(wait, SOON if run.asked else PATIENTLY, 20 * took)
        self._queue.put(Job(Kind.FOLDER, folder), wait)
        self.resume()

    def resume(self) -> None:
        """Indexes the next folder with unread images if few are left in the queue."""
        if self._unread and self._queue.waiting(Kind.IMAGE) < MOST_IMAGES / 20:
            with self._lock:
                path = self._unread.popitem(last=False)[0] if self._unread else None
            if path is not None:
                self._queue.put(Job(Kind.FOLDER, path))

    # Indexing

    def index(self, job: Job) -> None:
        """Indexes one folder."""
        record = self._records.get(job.path) or Record()
        rest = record.looked + min(max(SOON, 5 * record.took), _REST_SECONDS) - self._clock()
        if job.asked and not job.force and rest > 0:
            self._queue.put(job, rest)
            return
        run = self._open(job.path)
        run.waiters += job.waiters
        run.asked |= job.asked
        ended = None
        try:
            with self._in_turn(job):
                ended = self._index(job, run, record)
        finally:
            if ended is None:
                run.tell(False)
        with self._lock:
            ended = ended and run.is_empty()  # a thumbnail may have been made meanwhile
            if ended:
                self._runs.pop(job.path, None)
        if ended:
            now = self._records.get(job.path)
            run.tell(not (now and now.failed))

    @contextlib.contextmanager
    def _in_turn(self, job: Job) -> Iterator[None]:
        """Lets background looks at local folders take turns.

        A look is mostly Python: two at a time took 10 s for 500,000 images, one by one 6.6 s. After
        0.1 s a look starts anyway, in case another hangs on a disk.
        """
        waits = self._tree.has_stamps and not job.asked
        held = waits and self._turn.acquire(timeout=_TURN_SECONDS)
        try:
            yield
        finally:
            if held:
                self._turn.release()

    def _index(self, job: Job, run: Run, record: Record) -> bool:
        """Looks at a folder and acts on it; True if nothing is left to do.

        The tree is checked after each look: what was seen while a disk went away is not true.
        """
        path, begun = job.path, self._clock()
        facts, failed = run.results()
        news = facts or failed or job.force or record.failed
        for _ in range(_TRIES):
            try:
                unless = () if news else record.stamps
                look = self._looker.look(
                    path, facts, self._records.entry, retry=job.force, unless=unless
                )
            except LensletError as error:
                self._tree.check()
                if self._is_passing(error):
                    raise
                self.give_up(path, error)
                if not isinstance(error, (NotFound, BrokenPointer, PointerLoop)):
                    run.tell(False)
                run.written(facts, failed)
                return True
            self._tree.check()
            if look is None:
                self._records.put(path, replace(record, looked=self._clock()))
                self._index_children(job, record.children if job.deep else ())
                return True
            try:
                self._looker.write(look)
                break
            except Overtaken:
                continue
        else:
            self._queue.put(replace(job, waiters=()), SETTLE_SECONDS)
            return False
        run.written(facts, failed)
        self._remember(job, look, record, failed, begun)
        if look.plan.unsettled:
            self._queue.put(Job(Kind.FOLDER, path), SETTLE_SECONDS)
        return not self._read_images(job, run, look)

    def _remember(
        self, job: Job, look: Look, before: Record, failed: dict[str, str], begun: float
    ) -> None:
        path, plan, now = job.path, look.plan, self._clock()
        waiting = retries(before.failed, failed, plan.todo, now)
        problems = [
            *plan.problems,
            *(Problem("unreadableFiles", path.child(n), r.reason) for n, r in waiting.items()),
        ]
        if self._tree.is_spare(path.child(MANIFEST)):
            problems.append(Problem("notKept", path, _NOT_KEPT))
        record = Record(
            look.location,
            look.stamps,
            plan.manifest.generated_at,
            look.entry,
            look.children,
            FolderHealth.of(plan.manifest.items, problems),
            waiting,
            now,
            now - begun,
        )
        self._put(path, record, before)
        if plan.changed and self._tree.has_stamps:
            for item in plan.manifest.items:
                if "error" in item or "hash" not in item:
                    self._records.watch.add(Path(item["path"]), item["rev"])
        old = before.children or {entry["name"] for entry in look.old.dirs}
        for name in old - look.children:
            self._records.forget(path.child(name))
        shown = {entry["name"]: entry for entry in plan.manifest.dirs}
        new = [n for n in look.children if self._records.expect(path.child(n), shown.get(n))]
        moved = before.location and before.location.target != look.location.target
        if moved:  # what was known of the folders below is about others
            job = replace(job, deep=True, waiters=())
        self._index_children(job, look.children if job.deep else new)

    def _put(self, path: Path, record: Record, before: Record) -> None:
        """Replaces a folder's record, and has its parent and the summary follow."""
        shown = self._records.entry(path)
        self._records.put(path, record)
        if path and shown != record.entry:
            self._queue.put(Job(Kind.FOLDER, path.parent), SOON)
        if (before.generation, before.health) != (record.generation, record.health):
            self._queue.put(Job(Kind.SUMMARY), SOON)

    def _index_children(self, job: Job, names: Iterable[str]) -> None:
        for name in names:
            child = Job(Kind.FOLDER, job.path.child(name), force=job.force, deep=job.deep)
            if self.share and job.deep and job.waiters:
                self.share(child)  # a message survives this host
                child = Job(Kind.FOLDER, child.path)
                if self._records.get(child.path):
                    continue
            self._queue.put(child)

    def _is_passing(self, error: LensletError) -> bool:
        """True if it is the whole bucket that cannot be used right now, and not this folder."""
        refused = isinstance(error, Denied) and not isinstance(error, BrokenPointer)
        if self._tree.has_stamps or not (refused or isinstance(error, StorageUnavailable)):
            return False
        try:
            self._tree.listing(ROOT)
        except LensletError:
            return True
        return False

    def give_up(self, path: Path, error: LensletError) -> None:
        """Remembers that a folder is gone, not served or not readable."""
        before = self._records.get(path) or Record()
        shown = self._records.entry(path)
        if isinstance(error, NotFound) and not isinstance(error, Ignored):
            self._records.forget(path)
            parent = self._records.get(path.parent)
            if path and parent and path.name in parent.children:
                self._queue.put(Job(Kind.FOLDER, path.parent), SOON)
            self._queue.put(Job(Kind.SUMMARY), SOON)
            return
        stamps: tuple[Stamp, ...] = ()
        with contextlib.suppress(LensletError):
            stamps = self._looker.stamps(path)
        if isinstance(error, (Ignored, BrokenPointer, PointerLoop)):
            self._records.forget(path)
            self._records.expect(path, shown)
            new = Record(stamps=stamps, looked=self._clock())
        else:  # what is known of it stays
            entry = shown or {"name": path.name, "kind": "branch"}
            health = _only("unreadableFolders", path, error)
            new = replace(before, entry=entry, health=health, stamps=(), looked=self._clock())
        if isinstance(error, (BrokenPointer, PointerLoop)):
            entry = {"name": path.name, "kind": "leaf-pointer"}
            health = _only("brokenPointers", path, error)
            new = replace(new, entry=entry, health=health, stamps=())  # look at the next scan
        self._put(path, new, before)

    def _read_images(self, job: Job, run: Run, look: Look) -> bool:
        """Queues the new images, as many as there is room for."""
        path, now = job.path, self._clock()
        record = self._records.get(path)
        failed = record.failed if record else {}
        todo = [
            name
            for name in look.plan.todo
            if not run.is_reading(name)
            and (job.force or name not in failed or failed[name].due <= now)
        ]
        if self.share and len(todo) > _MANY_IMAGES and not (run.waiters or run.asked):
            with contextlib.suppress(LensletError):  # if it cannot be sent, they are read here
                self.share(Job(Kind.FOLDER, path, force=job.force))
                if record:  # look again at the next scan, whatever becomes of the message
                    self._records.put(path, replace(record, stamps=()))
                return False
        room = max(0, MOST_IMAGES - self._queue.waiting(Kind.IMAGE))
        for name in todo[:room]:
            if run.begin(name):
                self._queue.put(Job(Kind.IMAGE, path.child(name), run.asked, job.force))
        if len(todo) > room:
            with self._lock:
                self._unread[path] = None
        self.resume()
        return bool(todo)


def _only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    return FolderHealth.of([], [Problem(kind, path, one_line(error))])
