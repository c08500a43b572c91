"""Indexes folders: looks, writes the manifest, queues new images and subfolders.

What is remembered of a folder is a `Record`, what is in flight while its images are read a `Run`.

Indexing a folder twice is harmless, and it is the only repair.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

from lenslet import errors
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.claims import Claim, Reader
from lenslet.index.look import Contents, Look, Looker
from lenslet.index.queue import Job, Kind, Queue
from lenslet.index.records import Looked, Record, Records, only
from lenslet.index.runs import AGAIN_SECONDS, SOON, News, Run, Runs
from lenslet.index.sidecars import complete
from lenslet.index.views import Views
from lenslet.library import Library
from lenslet.library.manifest import Dir
from lenslet.library.sidecar import Verdict
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

_SUMMARY_SECONDS = 1.0  # until search and health say what changed in a folder
_REST = 10  # a folder rests so many times as long as the last look at it took
# The longest rest, and if somebody waits. A look takes long also where a machine or a disk slept.
_MOST_REST_SECONDS, _ASKED_REST_SECONDS = 30.0, 2.0


class Folders:
    """Indexes the folders of a library, one thread at a time for each folder.

    `views` decides which views of a folder in a bucket are followed by a look.
    """

    def __init__(
        self,
        library: Library,
        queue: Queue,
        records: Records,
        runs: Runs,
        clock: Clock,
        verdict: Verdict,
    ) -> None:
        self._library = library
        self._looker = Looker(library, clock, verdict)
        self._queue = queue
        self._records = records
        self._runs = runs
        self._clock = clock
        self.views = Views(clock)

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
            self._runs.tell(run, False)
            raise
        self._runs.end(job.path, run, ok)

    def _rest(self, job: Job, before: Record) -> float:
        """Returns how long a folder still rests after the last look at it."""
        if job.force:
            return 0.0
        rest = min(_REST * before.looked.took, _MOST_REST_SECONDS)
        if job.asked:
            rest = min(max(SOON, rest), _ASKED_REST_SECONDS)
        return before.looked.at + rest - self._clock()

    def _try(self, job: Job, run: Run, before: Record) -> bool:
        """Indexes a folder, and handles what is wrong with it; True if it is as it should be."""
        try:
            return self._index(job, run, before)
        except errors.Overtaken:  # another host has written the manifest meanwhile
            self._runs.go_on(run)
            self._queue.enqueue(replace(job, waiters=()), AGAIN_SECONDS)
            return False
        except LensletError as error:
            self._library.check_storage(error)
            self._runs.drop(run)
            self.failed(job.path, error)
            return isinstance(error, (NotFound, errors.BrokenPointer, errors.PointerLoop))

    def _index(self, job: Job, run: Run, before: Record) -> bool:
        """Looks at a folder, writes its manifest, remembers it, and queues what follows.

        In this order: killed at any moment, the next look finds what is missing. False if somebody
        must look again: another host reads its images, or some could not be read.
        """
        path, began, began_ns = job.path, self._clock(), self._clock.wall_ns()
        news = self._runs.begin_look(run)
        contents = self._looker.contents(path)
        known = self._records.entries(path, contents.listing.folders)
        if not (job.force or job.rereads or news) and _is_as_before(contents, before, known):
            self._library.tree.check()
            looked = before.looked._replace(at=self._clock())
            self._records.put(path, replace(before, looked=looked))
            self._queue_children(job, before.children if job.deep else ())
            return True
        look = self._look(job, contents, news, known, before)
        selected = self._runs.select(job, run, look, before.retry)
        self._write(job, look, selected.claim)
        self._runs.written(run, news)
        now, reader = self._clock(), selected.claim.reader
        looked = Looked(now, now - began, began_ns, again=reader is not Reader.HERE)
        has_stamps = self._library.tree.has_stamps
        record = Record.of(look, before, news.failed, looked, has_stamps=has_stamps)
        self._remember(path, record, before, images_read=len(news.facts))
        self._follow(job, look, before)
        self._runs.enqueue_images(job, run, selected)
        return reader is not Reader.ELSEWHERE and not record.retry.failed

    def _look(
        self,
        job: Job,
        contents: Contents,
        news: News,
        known: dict[str, Dir | None],
        before: Record,
    ) -> Look:
        """Compares a folder with its manifest. Raises if what was seen cannot be true."""
        since_ns = before.looked.began_ns
        look = self._looker.look(contents, news.facts, known, anew=job.force, since_ns=since_ns)
        self._library.tree.check()  # a disk may have gone away meanwhile
        self._records.check_nested(job.path, contents.location)
        return look

    def _write(self, job: Job, look: Look, claim: Claim) -> None:
        """Writes the manifest, and the sidecars that do not say whose they are."""
        try:
            self._looker.write(look, claim.note, at_once=claim.at_once)
        except errors.Denied:  # its subfolders are indexed all the same
            self._queue_children(job, self._new_children(job.path, look))
            raise
        complete(look.contents.location, look.incomplete)

    def _remember(
        self, path: Path, record: Record, before: Record, *, images_read: int = 0
    ) -> None:
        """Replaces a folder's record, and queues its parent and the summary if they change too."""
        self._records.put(path, record, images_read=images_read)
        had, has = (each.health.counts["unreadableFolders"] for each in (before, record))
        if had and not has:
            log.info("this is over: folder %s can be indexed", path or "/")
        if path and before.entry != record.entry:
            self._queue.enqueue(Job(Kind.FOLDER, path.parent), SOON)
        if before.shown != record.shown:
            self._queue.enqueue(Job(Kind.SUMMARY), _SUMMARY_SECONDS)

    def _follow(self, job: Job, look: Look, before: Record) -> None:
        """Forgets subfolders that are gone, queues new ones, and the folder itself if it is due."""
        path, location = job.path, look.contents.location
        for name in {*before.children, *(entry["name"] for entry in look.stored.dirs)}:
            if name not in look.children:
                self._records.forget(path.child(name))
        new = self._new_children(path, look)
        if before.location and before.location.target != location.target:
            # The pointer leads elsewhere now, so what is remembered of the folders below is wrong.
            job = replace(job, deep=True, waiters=())
        self._queue_children(job, look.children if job.deep else new)
        if look.plan.unsettled or look.young:
            self._queue.enqueue(Job(Kind.FOLDER, path), AGAIN_SECONDS)

    def _new_children(self, path: Path, look: Look) -> list[str]:
        entries = look.children.items()
        return [name for name, entry in entries if self._records.expect(path.child(name), entry)]

    def _queue_children(self, job: Job, names: Iterable[str]) -> None:
        for name in names:
            child = Job(Kind.FOLDER, job.path.child(name), force=job.force, deep=job.deep)
            if (share := self._runs.host.share) and job.deep and job.waiters:
                share(child)  # a message is not lost if this host dies
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
                new = replace(new, entry=entry, health=only("brokenPointers", path, error))
            self._remember(path, new, before)
        else:  # what is known of it stays
            entry = before.entry or {"name": path.name, "kind": "branch"}
            health = only("unreadableFolders", path, error)
            retry = before.retry.after(now, {"": one_line(error)}, changed=False)
            if health != before.health:  # not after every look
                log.warning("folder %s: %s", path or "/", one_line(error))
            new = replace(before, entry=entry, health=health, retry=retry, looked=looked)
            self._remember(path, new, before)


def _is_as_before(contents: Contents, before: Record, known: dict[str, Dir | None]) -> bool:
    """True if a folder in a bucket shows what it did at the last look, and nothing else is due."""
    in_bucket = not contents.location.tree.has_stamps
    doubtful = any(each.doubtful for each in before.orphans)
    is_due = before.looked.again or before.retry.failed or doubtful
    return in_bucket and not is_due and (contents.stamps, known) == (before.stamps, before.children)
