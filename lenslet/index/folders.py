"""Indexes folders: looks, writes the manifest, queues new images and subfolders.

What is remembered of a folder is a `Record`, what is in flight while it is indexed a `Run`.

Indexing a folder twice is harmless, and it is the only repair.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from lenslet import errors
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images import Facts
from lenslet.index.look import Contents, Look, Looker, Unseen
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.reader import READER_SECONDS, Host
from lenslet.index.records import Left, Looked, Record, Records
from lenslet.index.runs import Run, Runs
from lenslet.index.views import Views
from lenslet.library import Library
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.manifest import Manifest
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

AGAIN_SECONDS = 2.0  # until a folder is indexed again: something is being written in it
# Seconds until what was read is in the manifest: if somebody waits, and if nobody does.
SOON, PATIENTLY = 0.5, 5.0
_SUMMARY_SECONDS = 1.0  # until search and health say what changed in a folder
_REST = 10  # a folder rests so many times as long as the last look at it took
# The longest rest, and if somebody waits. A look takes long also where a machine or a disk slept.
_MOST_REST_SECONDS, _ASKED_REST_SECONDS = 30.0, 2.0
MOST_IMAGES = 20_000  # in the queue
_MANY_IMAGES = 25  # a folder with more new images may be indexed by any host
_MOST_REREAD = 500  # images of a folder that are queued to be read again at a time


class Reader(enum.Enum):
    """Which host reads the new images of a folder: this one, any, or another one already."""

    HERE, ANYWHERE, ELSEWHERE = range(3)


class Reading(NamedTuple):
    """Which images of a folder are read now: new ones, and old ones again; and which host does it.

    `claims`: this host says so in the manifest, and writes that at once if there are many.
    """

    reader: Reader
    new: Sequence[str] = ()
    old: Sequence[str] = ()
    claims: bool = False
    is_large: bool = False


class Folders:
    """Indexes the folders of a library, one thread at a time for each folder.

    `host` is this index process as others know it, `views` decides which views of a folder in a
    bucket are followed by a look.
    """

    def __init__(
        self, library: Library, queue: Queue, records: Records, clock: Clock, unseen: Unseen
    ) -> None:
        """`unseen` says of a hash whether no image of the library has it."""
        self._library = library
        self._looker = Looker(library, clock, unseen)
        self._queue = queue
        self._records = records
        self._clock = clock
        self._runs = Runs()
        self.host = Host()
        self.views = Views(clock)

    # Images

    @property
    def waiting(self) -> int:
        """How many folders have images that are not in the queue."""
        return self._runs.waiting

    def is_reading(self, item: Path) -> bool:
        """True while an image is still to be read for its folder."""
        return self._runs.is_reading(item)

    def finish_image(
        self,
        item: Path,
        facts: Facts | None = None,
        *,
        problem: str = "",
        asked: bool = False,
        wait: float = 0.0,
    ) -> None:
        """Takes what reading an image showed; its folder is indexed again after at least `wait`."""
        run = self._runs.finish_image(item, facts, problem)
        if run.reading and not (asked and facts and facts.error):  # else a client may wait for it
            wait = max(wait, SOON if run.asked else PATIENTLY)
        self._queue.enqueue(Job(Kind.FOLDER, item.parent), wait)

    def fill_queue(self) -> None:
        """Indexes a folder with images that still wait; called when the queue is empty."""
        if path := self._runs.next_waiting():
            self._queue.enqueue(Job(Kind.FOLDER, path))

    def _images(self, job: Job, run: Run, look: Look, skipped: Set[str]) -> Reading:
        """Decides which images are read, none of the `skipped` ones, and by which host."""
        plan, share = look.plan, self.host.share
        new = [name for name in plan.todo if name not in skipped]
        old = [name for name in plan.old if name not in skipped]
        if not (share and plan.todo):
            return Reading(Reader.HERE, new, old)
        if self.host.leaves(look.old.reader) and not job.force:
            return Reading(Reader.ELSEWHERE)
        is_large = len(new) > _MANY_IMAGES
        if is_large and not (run.waiters or run.asked or run.reading):
            return Reading(Reader.ANYWHERE, new, old)
        return Reading(Reader.HERE, new, old, claims=True, is_large=is_large)

    def _note_reader(self, look: Look, images: Reading) -> None:
        """Says in the manifest which host reads a folder's new images.

        That is written only over the one that was read, so of several hosts one reads them.
        """
        plan, before = look.plan, look.old.reader
        if images.reader is Reader.ELSEWHERE:
            plan.manifest.reader = before
        elif images.claims:
            plan.manifest.reader = self.host.claim()
            plan.changed |= images.is_large and before.get("host") != self.host.name

    def _share(self, job: Job) -> bool:
        """Sends the folder to any host; False if that fails: then its images are read here."""
        assert self.host.share
        with contextlib.suppress(LensletError):
            self.host.share(Job(Kind.FOLDER, job.path, force=job.force))
            return True
        return False

    def _read(self, job: Job, run: Run, look: Look, images: Reading) -> None:
        """Queues the new images, as many as there is room for; if there are none, old ones."""
        plan, new = look.plan, images.new
        chosen = new[: max(0, MOST_IMAGES - self._queue.waiting(Kind.IMAGE))]
        if run.rereads and not new:
            chosen = images.old[:_MOST_REREAD]
        needs_thumbnail = {**plan.old, **plan.todo}
        for name in self._runs.start(run, chosen, more=len(new) > len(chosen)):
            force = job.force or needs_thumbnail[name]
            self._queue.enqueue(Job(Kind.IMAGE, job.path.child(name), run.asked, force))
        if len(new or images.old) > len(chosen):
            items = (look.contents.listing.files[item["name"]] for item in plan.manifest.items)
            newest = max(stat.mtime_ns for stat in items)
            self._runs.wait(job.path, (bool(new), newest))

    # Indexing

    def view(self, job: Job) -> None:
        """Indexes a folder that somebody looks at, if that is due."""
        record = self._records.get(job.path)
        items = record.health.counts["items"]
        is_due, again = self.views.see(job.path, record.looked.at, items)
        if self.views.sends_events and not (record.location and record.location.chain):
            is_due, again = False, 0.0
        if is_due:
            self._queue.enqueue(Job(Kind.FOLDER, job.path, asked=True, waiters=job.waiters))
        if again:
            self._queue.enqueue(Job(Kind.VIEW, job.path), again)
        for waiter in () if is_due else job.waiters:
            waiter(True)

    def index(self, job: Job) -> None:
        """Indexes one folder. Raises why storage cannot be used, if that is so."""
        before = self._records.get(job.path)
        if (rest := self._rest(job, before)) > 0:
            self._queue.enqueue(job, rest)
            return
        run = self._runs.join(job)
        try:
            ok = self._try(job, run, before)
        except Exception:
            self._runs.fail(run)
            raise
        self._runs.end(job.path, run, ok)

    def _try(self, job: Job, run: Run, before: Record) -> bool:
        """Indexes a folder, and handles what is wrong with it; True if it is as it should be."""
        try:
            return self._index(job, run, before)
        except errors.Overtaken:  # another host has written the manifest meanwhile
            run.more = True
            self._queue.enqueue(replace(job, waiters=()), AGAIN_SECONDS)
            return False
        except LensletError as error:
            self._library.check_storage(error)
            self._runs.drop(run)
            self.failed(job.path, error)
            return isinstance(error, (NotFound, errors.BrokenPointer, errors.PointerLoop))

    def _rest(self, job: Job, before: Record) -> float:
        """Returns how long a folder still rests after the last look at it."""
        if job.force:
            return 0.0
        rest = min(_REST * before.looked.took, _MOST_REST_SECONDS)
        if job.asked:
            rest = min(max(SOON, rest), _ASKED_REST_SECONDS)
        return before.looked.at + rest - self._clock()

    def _index(self, job: Job, run: Run, before: Record) -> bool:
        """Looks at a folder, writes its manifest, and queues what follows.

        False if another host reads its images, or if some could not be read.
        """
        path, began, began_ns = job.path, self._clock(), self._clock.wall_ns()
        news = self._runs.news(run)
        contents = self._looker.contents(path)
        known = self._records.entries(path, contents.listing.folders)
        if not (job.force or news.works) and _is_as_before(contents, before, known):
            self._library.tree.check()
            looked = before.looked._replace(at=self._clock())
            self._records.put(path, replace(before, looked=looked))
            self._index_children(job, before.children if job.deep else ())
            return True
        since_ns = before.looked.began_ns
        look = self._looker.look(contents, news.facts, known, retry=job.force, since_ns=since_ns)
        self._library.tree.check()  # what was seen while a disk went away is not true
        self._records.check_nested(path, contents.location)
        is_tried = job.force or before.retry.due <= began
        skipped = news.failed.keys() | run.reading | (set() if is_tried else before.retry.failed)
        images = self._images(job, run, look, skipped)
        self._note_reader(look, images)
        self._write(job, look)
        self._runs.written(run, news)
        self._records.images_read += len(news.facts)
        now, again = self._clock(), images.reader is not Reader.HERE
        looked = Looked(now, now - began, began_ns, again)
        record = self._record(look, before, news.failed, looked)
        self._put(path, record, before)
        self._put_children(job, look, before)
        self._go_on(job, run, look, images)
        return images.reader is not Reader.ELSEWHERE and not record.retry.failed

    def _write(self, job: Job, look: Look) -> None:
        try:
            self._looker.write(look)
        except errors.Denied:  # its subfolders are indexed all the same
            self._index_children(job, self._new_children(job.path, look))
            raise
        self._looker.complete(look)

    def _go_on(self, job: Job, run: Run, look: Look, images: Reading) -> None:
        """Queues the images, and the next look at the folder if one is due."""
        if look.plan.unsettled or look.young:
            self._queue.enqueue(Job(Kind.FOLDER, job.path), AGAIN_SECONDS)
        if images.reader is Reader.ELSEWHERE:  # until it has ended, or died
            self._queue.enqueue(Job(Kind.FOLDER, job.path), READER_SECONDS)
        elif images.reader is Reader.HERE or not self._share(job):
            self._read(job, run, look, images)

    def _record(
        self, look: Look, before: Record, failed: Mapping[str, str], looked: Looked
    ) -> Record:
        """Returns the new record of a folder after a look."""
        plan, contents = look.plan, look.contents
        path, pending = contents.location.path, plan.todo.keys() | plan.old.keys()
        reasons = {**before.retry.reasons, **failed}
        reasons = {n: reason for n, reason in reasons.items() if reason and n in pending}
        # A copy that paused may go on, which no stamp tells; an object in a bucket is whole.
        damaged = dict.fromkeys(plan.damaged if self._library.tree.has_stamps else (), "")
        retry = before.retry.after(looked.at, {**damaged, **reasons}, changed=plan.changed)
        problems = [Problem("unreadableFiles", path.child(n), r) for n, r in reasons.items()]
        return Record(
            location=contents.location,
            stamps=contents.stamps,
            generation=plan.manifest.generated_at,
            entry=look.entry,
            children=look.children,
            health=FolderHealth.of(plan.manifest, [*plan.problems, *problems]),
            retry=retry,
            looked=looked,
            orphans=tuple(look.orphans),
            left=Left(len(plan.todo.keys() - reasons.keys()), plan.unsettled),
        )

    def _put_children(self, job: Job, look: Look, before: Record) -> None:
        """Forgets the subfolders that are gone, and queues new ones; all of them by `deep`."""
        path, location = job.path, look.contents.location
        for name in {*before.children, *(entry["name"] for entry in look.old.dirs)}:
            if name not in look.children:
                self._records.forget(path.child(name))
        new = self._new_children(path, look)
        if before.location and before.location.target != location.target:
            # The pointer leads elsewhere now, so what is remembered of the folders below is wrong.
            job = replace(job, deep=True, waiters=())
        self._index_children(job, look.children if job.deep else new)

    def _put(self, path: Path, record: Record, before: Record) -> None:
        """Replaces a folder's record, and queues its parent and the summary if they change too."""
        self._records.put(path, record)
        if path and before.entry != record.entry:
            self._queue.enqueue(Job(Kind.FOLDER, path.parent), SOON)
        seen = [
            (each.generation, each.health, each.orphans, each.left) for each in (before, record)
        ]
        if seen[0] != seen[1]:
            self._queue.enqueue(Job(Kind.SUMMARY), _SUMMARY_SECONDS)

    def _new_children(self, path: Path, look: Look) -> list[str]:
        entries = look.children.items()
        return [name for name, entry in entries if self._records.expect(path.child(name), entry)]

    def _index_children(self, job: Job, names: Iterable[str]) -> None:
        for name in names:
            child = Job(Kind.FOLDER, job.path.child(name), force=job.force, deep=job.deep)
            if self.host.share and job.deep and job.waiters:
                self.host.share(child)  # a message is not lost if this host dies
                child = Job(Kind.FOLDER, child.path)  # this host must know the folder too
                if self._records.get(child.path).generation:
                    continue
            self._queue.enqueue(child)

    # Failures

    def failed(self, path: Path, error: LensletError) -> None:
        """Remembers that a folder is gone, not served or not readable."""
        before, now = self._records.get(path), self._clock()
        looked = before.looked._replace(at=now)
        if isinstance(error, NotFound) and not isinstance(error, errors.Ignored):
            self._records.forget(path)
            if path and path.name in self._records.get(path.parent).children:
                self._queue.enqueue(Job(Kind.FOLDER, path.parent), SOON)
            self._queue.enqueue(Job(Kind.SUMMARY), _SUMMARY_SECONDS)
        elif isinstance(error, (errors.Ignored, errors.BrokenPointer, errors.PointerLoop)):
            self._records.forget(path)
            self._records.expect(path, before.entry)
            new = Record(looked=looked)
            if isinstance(error, (errors.Ignored, errors.TooManyPointers)):  # scans pass them by
                with contextlib.suppress(LensletError):
                    new = replace(new, stamps=self._looker.stamps(path))
            if not isinstance(error, errors.Ignored):
                entry = {"name": path.name, "kind": "leaf-pointer"}
                new = replace(new, entry=entry, health=_only("brokenPointers", path, error))
            self._put(path, new, before)
        else:  # what is known of it stays
            entry = before.entry or {"name": path.name, "kind": "branch"}
            health = _only("unreadableFolders", path, error)
            retry = before.retry.after(now, {"": one_line(error)}, changed=False)
            if health != before.health:  # not after every look
                log.warning("folder %s: %s", path or "/", one_line(error))
            new = replace(before, entry=entry, health=health, retry=retry, looked=looked)
            self._put(path, new, before)


def _is_as_before(
    contents: Contents, before: Record, known: dict[str, dict[str, str] | None]
) -> bool:
    """True if a folder in a bucket shows what it did at the last look, and nothing else is due."""
    in_bucket = not contents.location.tree.has_stamps
    doubtful = any(each.doubtful for each in before.orphans)
    is_due = before.looked.again or before.retry.failed or doubtful
    return in_bucket and not is_due and (contents.stamps, known) == (before.stamps, before.children)


def _only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    return FolderHealth.of(Manifest(path), [Problem(kind, path, one_line(error))])
