"""Folders brought up to date, one look at a time: manifests kept, what is below found, told on.

Knows neither threads nor the clock's rhythm: the index process's loop calls it.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lenslet import manifest
from lenslet.books import Books
from lenslet.config import Settings
from lenslet.errors import (
    BrokenPointer,
    LensletError,
    NotFound,
    Overtaken,
    PointerLoop,
    one_line,
)
from lenslet.health import LISTED, FolderHealth
from lenslet.jobs import Job, Kind, Queue
from lenslet.known import Known, Memory, Walk, Watch
from lenslet.looker import Looked, Looker
from lenslet.manifest import Dir, Facts, Problem
from lenslet.mount import RootWatch
from lenslet.paths import Path
from lenslet.pointers import Resolver
from lenslet.reading import SETTLE_SECONDS, SOON, Reading
from lenslet.storage import Storage

_REST_SECONDS = 2.0  # the longest that a folder which is asked for again waits for the next look
_TELL_SECONDS = 3.0  # until a folder of a bucket tells how its own folders show
_TURN_SECONDS = 0.1  # a folder of 1,000 images takes 13 ms
_TRIES = 5
_AGAIN_SECONDS = 60.0
_OLD_SECONDS = 5.0  # what was read longer ago may have gone since
_OTHERS_SECONDS, _OTHERS_TRIES = 5.0, 12  # how long a host waits for another's share


class Folders:
    """Looks into folders, keeps their manifests, and tells the books and the queue of it."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        resolver: Resolver,
        queue: Queue,
        memory: Memory,
        looker: Looker,
        reading: Reading,
        books: Books,
        clock: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._shard = settings.shard
        self._resolver = resolver
        self._queue = queue
        self._memory = memory
        self._looker = looker
        self._reading = reading
        self._books = books
        self._clock = clock
        self._claims = threading.Lock()
        self._looking: set[Path] = set()
        self._turns = threading.Lock()
        self._new: set[Path] = set()  # folders that the rollup cannot know
        self._waited: dict[Path, int] = {}  # how often another host's folder was looked for
        self.root = RootWatch(storage.root)
        self.walk, self.watch = Walk(), Watch()
        self.walked = clock()  # when a walk looked into a folder last

    def look_later(self, path: Path, *, deep: bool = False, force: bool = False) -> None:
        """Put a look in the queue; a `deep` one is part of the walk."""
        if deep:
            self.walk.add(path)
        self._queue.put(Job(Kind.LOOK, path, force, deep))

    def look(self, job: Job) -> None:
        """Look into a folder, one thread at a time."""
        with self._turn(job):
            self._look_alone(job)

    @contextmanager
    def _turn(self, job: Job) -> Iterator[None]:
        """Wait while another thread of a walk looks into a folder, for a moment.

        A look is Python for the most part: two at a time took 10 s for 500,000 images, one by one
        6.6 s. Nobody waits for long, should a folder be very large or its disk hang.
        """
        known = self._memory.get(job.path)
        far = self._storage.root.remote or (known is not None and known.far)
        waits = job.kind is Kind.LOOK and not far
        held = waits and self._turns.acquire(timeout=_TURN_SECONDS)
        try:
            yield
        finally:
            if held:
                self._turns.release()

    def _look_alone(self, job: Job) -> None:
        with self._claims:
            busy = job.path in self._looking
            self._looking.add(job.path)
        if busy:
            self._queue.put(job, SOON / 10)
            return
        seen = True
        try:
            if job.kind is Kind.LOOK and not job.force and not self._is_mine(job.path):
                seen = self._look_at_anothers(job)
            else:
                seen = self._look_until_kept(job)
        except LensletError:
            self.walk.interrupt()  # what lies below may not have been seen
            raise
        finally:
            self._looking.discard(job.path)
            if seen and job.deep and self.walk.seen(job.path):
                if self.walk.full:
                    self._books.passed("full", self.walk.began or 0.0)
                    self.walk.full = False
                self._books.all_seen()

    # Shares

    def _is_mine(self, path: Path) -> bool:
        """Whether a folder is in this process's share."""
        number, shares = self._shard
        return bool(zlib.crc32(path.encode()) % shares == number - 1)

    def _look_at_anothers(self, job: Job) -> bool:
        """See by its manifest what lies below a folder that another host looks into.

        False: there is none yet. After a minute it is looked into here, should the other be gone.
        """
        path = job.path
        found = manifest.load(self._storage, path)
        if found is None or not found.generated_at:
            tries = self._waited[path] = self._waited.get(path, 0) + 1
            if tries < _OTHERS_TRIES:
                self._queue.put(job, _OTHERS_SECONDS)
                return False
            return self._look_until_kept(job)
        self._waited.pop(path, None)
        known = self._memory.of(path)
        known.place, known.looked = self._resolver.folder(path), self._clock()
        known.health = FolderHealth()  # its owner tells of it
        names = {entry["name"] for entry in found.dirs}
        for name in (known.children or set()) - names:
            self._memory.forget(path.child(name))
        known.children = names
        known.dirs = {entry["name"]: entry for entry in found.dirs}
        known.unserved = found.hidden
        self._books.note_foreign(known.generation, found.generated_at)
        known.generation = found.generated_at
        for name in {*names, *found.hidden}:
            self.look_later(path.child(name), deep=True)
        return True

    # Looking

    def _look_until_kept(self, job: Job) -> bool:
        """Look again when another host has kept its manifest first; False: later, once more."""
        for _ in range(_TRIES):
            try:
                self._look_at(job)
            except Overtaken:
                continue
            return True
        self._queue.put(job, SETTLE_SECONDS)
        return False

    def _look_at(self, job: Job) -> None:
        path, begun = job.path, self._clock()
        known = self._memory.get(path) or Known()
        rest = known.looked + min(max(SOON, 5 * known.took), _REST_SECONDS) - begun
        if job.kind is Kind.FOLDER and rest > 0 and not job.force:
            self._queue.put(job, rest)
            return
        if job.kind is Kind.MANIFEST and self._storage.root.remote:
            self._check_gone(path, known)
        facts, gone, edited = dict(known.facts), set(known.gone), set(known.edited)
        told = dict(known.told)
        looked = self._look(job, known, facts)
        if looked is None:
            return
        known = self._memory.of(path)
        known.stamp = None
        self._looker.keep(looked)
        known.told_of(facts, gone, edited, told)
        self._tell(looked, known)
        self._tell_again(looked, gone, edited)
        if job.kind is Kind.FOLDER:
            known.asked = begun
        known.place, known.stamp = looked.place, looked.stamp
        if known.far:
            known.dirs = {entry["name"]: entry for entry in looked.look.manifest.dirs}
            known.unserved = looked.look.manifest.hidden
        if looked.stamp is not None:
            known.hidden = looked.hidden
            self._below(job, looked, known)
        self._reading.put(job, looked, known)
        known.looked = self._clock()
        known.took = known.looked - begun
        if job.kind is Kind.LOOK:
            self.walked = known.looked

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
            if job.kind is Kind.MANIFEST and self._storage.root.remote:
                raise  # to be tried again: what it was to tell is known to nobody else
            problem = Problem("unreadableFolders", path, one_line(error))
        if not self.root.is_there():
            self.walk.interrupt()
            if known.untold:
                self._queue.put(Job(Kind.MANIFEST, path), _AGAIN_SECONDS)
            return None
        if gone:
            self._gone(path)
        if problem:
            self.blocked(problem)
        return looked

    def _seen(self, job: Job, known: Known, facts: dict[str, Facts]) -> Looked | None:
        """A look that costs no more than it must; None when nothing has changed."""
        far = known.far or (known.place is None and self._storage.root.remote)
        if job.kind is Kind.MANIFEST and far:
            try:
                gone, edited = set(known.gone), set(known.edited)
                looked = self._looker.refresh(job.path, facts, gone, edited, dict(known.told))
            except NotFound:
                known.stamp = None
            else:
                looked.look.problems += [p for p in known.health.problems if p.kind in LISTED]
                return looked
        fresh = facts or job.force or known.retries or self._reading.has_more(job.path)
        unless = None if fresh or known.told else known.stamp
        return self._looker.look(
            job.path, facts, told=dict(known.told), retry=job.force, unless=unless
        )

    def _check_gone(self, path: Path, known: Known) -> None:
        """Between seeing and telling, what was gone may have come back and what was read have gone.

        Another host may have told of that already, so the objects are asked.
        """
        now = self._clock()
        old = [name for name, at in list(known.read_at.items()) if now - at > _OLD_SECONDS]
        if not (known.gone or old):
            return
        listed = manifest.load(self._storage, path)
        revs = {item["name"]: item["rev"] for item in listed.items} if listed else {}
        for name in [*list(known.gone), *old]:
            learnt = known.facts.get(name)
            if learnt and revs.get(name) == learnt.rev:
                continue
            rev = self._looker.rev_of(path, name)
            if learnt and rev != learnt.rev:
                known.facts.pop(name, None)
                known.read_at.pop(name, None)
            if not rev:
                known.gone.add(name)
            elif not learnt or rev != learnt.rev:
                known.gone.discard(name)
                self._queue.put(Job(Kind.KEY, path.child(name), rev=rev))

    def _tell_again(self, looked: Looked, gone: set[str], edited: set[str]) -> None:
        """Have search know of single files also when another host's manifest told of them.

        That host may have ended before search knew.
        """
        if not (gone or edited):
            return
        path, items = looked.place.path, {i["name"]: i for i in looked.look.manifest.items}
        for name in gone - items.keys():
            self._books.note_lost(path.child(name))
        for name in edited & items.keys():
            self._books.note_item(items[name])

    def _unchanged(self, job: Job, known: Known) -> None:
        """A folder of a bucket is as it was; what lies below it may not be."""
        known.looked = self._clock()
        for name in known.children or () if job.deep else ():
            self.look_later(job.path.child(name), deep=True)
        for name in known.unserved:
            self.look_later(job.path.child(name), deep=True)

    def blocked(self, problem: Problem) -> None:
        """A folder that cannot be looked into: all that is known of it stays."""
        known = self._memory.of(Path(problem.path))
        known.stamp = None
        known.health.problems = [problem]
        known.health.counts[problem.kind] = 1
        if problem.kind == "brokenPointers" and self._storage.root.remote and known.generation:
            known.generation = known.children = None  # its manifest is removed, and what it told
            self._books.note_gone(Path(problem.path))
        if problem.kind == "brokenPointers" and problem.path:
            name = Path(problem.path).name
            self._shows(Path(problem.path), {"name": name, "kind": "leaf-pointer"})
        self._queue.put(Job(Kind.HEALTH), SETTLE_SECONDS)

    def _shows(self, path: Path, entry: Dir | None) -> None:
        """In a bucket, a folder's parent learns from the folder itself how to show it."""
        if not self._resolver.below(path).storage.root.remote:
            return
        above = self._memory.of(path.parent)
        if entry is None or above.dirs.get(path.name) != entry:
            above.told[path.name] = entry
            self._queue.put(Job(Kind.MANIFEST, path.parent), _TELL_SECONDS)

    def _gone(self, path: Path) -> None:
        """A folder is not there, or not served."""
        above = self._memory.get(path.parent)
        if self._memory.get(path) or (above and path.name in above.dirs):
            self._forget(path)
        elif self._storage.root.remote:
            self._looker.forget(path)
            self._shows(path, None)

    def _forget(self, path: Path) -> None:
        """A folder is gone, and all below it."""
        self._looker.forget(path)
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
        known.health = (
            FolderHealth()
            if not self._is_mine(path)
            else FolderHealth.of(look.manifest.items, look.problems + unread)
        )
        foreign = self._books.note_foreign(known.generation, looked.old.generated_at)
        self._books.note(looked.old, look.manifest.items, new=path in self._new or foreign)
        known.generation = look.manifest.generated_at
        if not path:
            self.root.remember({*looked.listing.files, *looked.listing.folders})
            self._books.check()
        elif looked.entry:
            self._shows(path, looked.entry)
        elif known.shown not in (None, looked.shown):
            self._queue.put(Job(Kind.MANIFEST, path.parent), SOON)
        known.shown = looked.shown
        for item in look.manifest.items if look.changed and looked.over is None else ():
            if "error" in item or "hash" not in item:
                self.watch.add(Path(item["path"]), item["rev"])

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
            self.look_later(path.child(name), deep=True, force=job.force)
        for name in looked.look.manifest.hidden:
            self.look_later(path.child(name), deep=True)
