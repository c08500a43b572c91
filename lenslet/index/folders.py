"""One look at a folder: lists it, compares it with its manifest, writes that, says what follows.

A look is a function of what is remembered. It changes nothing but files, so killed at any moment,
or done twice, it does no harm. The loop remembers its outcome.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from lenslet import errors
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.images import Facts
from lenslet.index.look import Contents, Findings, Looker
from lenslet.index.record import MOST_NESTED, Looked, Record
from lenslet.index.sidecars import complete
from lenslet.library import Library
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.manifest import Dir, Manifest
from lenslet.paths import Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

AGAIN_SECONDS = 2.0  # until it is looked again at what is being written


class Task(NamedTuple):
    """A folder to look at, and what the loop knows of it.

    `facts` are what reading images showed since the last look, `failed` why some could not be read.
    `reading` are those that are being read. `known` says how subfolders are shown. `busy`: a client
    waits, or this host works at the folder already. `full`: compare it although nothing seems to
    have changed. `anew`, `deep`: see `messages.Look`. `may_nest`: it may be behind two pointers.
    """

    path: Path
    before: Record
    known: Mapping[str, Dir | None] = {}
    facts: Mapping[str, Facts] = {}
    failed: Mapping[str, str] = {}
    reading: frozenset[str] = frozenset()
    busy: bool = False
    full: bool = False
    anew: bool = False
    deep: bool = False
    may_nest: bool = True


class Outcome(NamedTuple):
    """What a look found.

    `record` is what to remember, None if the folder is gone. `new` images must be read, `stale`
    ones when nothing else is due, each with whether it gets a thumbnail; the newest was written at
    `newest_ns`. `below` are the subfolders to look at in any case. `again` is in how many seconds
    to look again. `outage` says why storage cannot be used; then nothing else is known. `ok`: the
    folder is as it should be. `found` is what was compared, if the folder could be read.
    """

    task: Task
    record: Record | None
    new: Mapping[str, bool] = {}
    stale: Mapping[str, bool] = {}
    newest_ns: int = 0
    below: tuple[str, ...] = ()
    again: float | None = None
    outage: str = ""
    ok: bool = True
    found: Findings | None = None


class Claim(NamedTuple):
    """Whether this host reads the new images of a folder, and what the manifest says of that.

    `at_once`: the manifest is written although nothing else has changed. Another host reads them:
    look again in `wait` seconds.
    """

    reads: bool = True
    note: Mapping[str, str] = {}
    at_once: bool = False
    wait: float | None = None


class Host:
    """The one host of a library: it reads all images. For several see `cluster`."""

    def claim(self, task: Task, note: Mapping[str, str], new: int) -> Claim:
        """Decides who reads the `new` images of a folder; `note` is what its manifest says."""
        return Claim()

    def spread(self, folders: Iterable[Path], *, anew: bool) -> set[Path]:
        """Has other hosts look at folders and all below them; returns those that they do."""
        return set()

    def view(self, path: Path, record: Record) -> tuple[bool, float]:
        """Decides whether a view of a folder is a reason to look at it.

        Returns also in how many seconds to decide again; 0 for never.
        """
        return True, 0.0


class Folders:
    """Looks at the folders of a library, on any number of threads, but one for each folder.

    If it does not write, as for `lenslet check`, a look changes nothing.
    """

    def __init__(
        self, library: Library, clock: Clock, host: Host | None = None, *, writes: bool = True
    ) -> None:
        self._library = library
        self._writes = writes
        self._looker = Looker(library, clock)
        self._clock = clock
        self._host = host or Host()

    def look(self, task: Task) -> Outcome:
        """Looks at a folder, and handles what is wrong with it."""
        try:
            return self._look(task)
        except errors.Overtaken:  # another host has written the manifest meanwhile
            return Outcome(task, task.before, again=AGAIN_SECONDS, ok=False)
        except LensletError as error:
            return self._failed(task, error)
        except Exception as error:  # the outermost frame: one bad folder must not stop the rest
            log.exception("folder %s failed", task.path or "/")
            return self._failed(task, LensletError(f"an error in Lenslet: {type(error).__name__}"))

    def _look(self, task: Task) -> Outcome:
        """Looks at a folder, writes its manifest, and says what follows.

        In this order: killed at any moment, the next look finds what is missing.
        """
        path, before, began = task.path, task.before, self._clock()
        began_ns = self._clock.wall_ns()
        contents = self._looker.contents(path)
        if not task.full and _is_as_before(contents, task):
            self._library.tree.check()
            looked = before.looked._replace(at=self._clock())
            below = tuple(before.children) if task.deep else ()
            return Outcome(task, replace(before, looked=looked), below=below)
        since_ns = before.looked.began_ns
        look = self._looker.look(
            contents, task.facts, task.known, anew=task.anew, since_ns=since_ns
        )
        self._library.tree.check()  # a disk may have gone away meanwhile
        if len(contents.location.chain) > 1 and not task.may_nest:
            raise errors.TooManyPointers(
                f"{path} is behind {len(contents.location.chain)} pointers, and {MOST_NESTED} "
                "folders are behind several pointers already."
            )
        skipped = {*task.reading, *task.failed}
        if not task.anew and began < before.retry.due:
            skipped |= before.retry.failed
        new, stale = (
            {name: thumbnail for name, thumbnail in images.items() if name not in skipped}
            for images in (look.plan.todo, look.plan.stale)
        )
        claim = Claim()
        if look.plan.todo:
            claim = self._host.claim(task, look.stored.reader, len(new))
        if self._writes:
            try:
                self._looker.write(look, claim.note, at_once=claim.at_once)
            except errors.Denied as error:  # its subfolders are indexed all the same
                failed = self._failed(task, error, look.children)
                return failed._replace(below=self._below(task, look))
            complete(look.contents.location, look.incomplete)
        now = self._clock()
        looked = Looked(now, now - began, began_ns, again=not claim.reads)
        record = self._record(look, task, looked)
        again = AGAIN_SECONDS if look.plan.unsettled or look.young else claim.wait
        return Outcome(
            task,
            record,
            new if claim.reads else {},
            stale if claim.reads else {},
            look.newest_ns,
            self._below(task, look),
            again,
            ok=claim.wait is None and not record.retry.failed,
            found=look,
        )

    def _below(self, task: Task, look: Findings) -> tuple[str, ...]:
        """Returns the subfolders to look at in any case: all, if the pointer leads elsewhere."""
        location, before = look.contents.location, task.before.location
        moved = before is not None and before.target != location.target
        if not (task.deep or moved):
            return ()
        names = {task.path.child(name): name for name in look.children}
        elsewhere = self._host.spread(names, anew=task.anew)
        return tuple(names[path] for path in names.keys() - elsewhere)

    def _record(self, look: Findings, task: Task, looked: Looked) -> Record:
        """Returns what to remember of a folder after a look."""
        plan, path, before = look.plan, task.path, task.before
        pending = plan.todo.keys() | plan.stale.keys()
        reasons = {**before.retry.reasons, **task.failed}
        reasons = {n: reason for n, reason in reasons.items() if reason and n in pending}
        # A copy that paused may go on, which no stamp tells; an object in a bucket is whole.
        has_stamps = self._library.tree.has_stamps
        damaged = dict.fromkeys(plan.damaged if has_stamps else (), "")
        problems = [Problem("unreadableFiles", path.child(n), r) for n, r in reasons.items()]
        return Record(
            location=look.contents.location,
            stamps=look.contents.stamps,
            generation=plan.manifest.generated_at,
            entry=look.entry,
            children=look.children,
            health=FolderHealth.of(plan.manifest, [*plan.problems, *problems]),
            retry=before.retry.after(looked.at, {**damaged, **reasons}, changed=plan.changed),
            looked=looked,
            orphans=tuple(look.orphans),
            left=len(plan.todo.keys() - reasons.keys()),
        )

    def _failed(
        self, task: Task, error: LensletError, children: Mapping[str, Dir | None] | None = None
    ) -> Outcome:
        """Returns the outcome for a folder that is gone, not served or not readable."""
        try:
            self._library.check_storage(error)
        except LensletError as away:
            return Outcome(task, task.before, outage=one_line(away), ok=False)
        path, before, now = task.path, task.before, self._clock()
        looked = before.looked._replace(at=now)
        if isinstance(error, NotFound) and not isinstance(error, errors.Ignored):
            return Outcome(task, None)
        if isinstance(error, (errors.Ignored, errors.BrokenPointer, errors.PointerLoop)):
            record = Record(looked=looked)
            if isinstance(error, (errors.Ignored, errors.TooManyPointers)):  # scans pass them by
                with contextlib.suppress(LensletError):
                    record = replace(record, stamps=self._looker.stamps(path))
            if not isinstance(error, errors.Ignored):
                entry = {"name": path.name, "kind": "leaf-pointer"}
                health = _only("brokenPointers", path, error)
                record = replace(record, entry=entry, health=health)
            return Outcome(task, record)
        health = _only("unreadableFolders", path, error)
        if health != before.health:  # not after every look
            log.warning("folder %s: %s", path or "/", one_line(error))
        record = replace(
            before,  # what is known of it stays
            entry=before.entry or {"name": path.name, "kind": "branch"},
            children=before.children if children is None else children,
            health=health,
            retry=before.retry.after(now, {"": one_line(error)}, changed=False),
            looked=looked,
            left=0,
        )
        return Outcome(task, record, ok=False)


def _only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    """Returns the health of a folder that has this problem, and is not known otherwise."""
    return FolderHealth.of(Manifest(path), [Problem(kind, path, one_line(error))])


def _is_as_before(contents: Contents, task: Task) -> bool:
    """True if a folder in a bucket shows what it did at the last look, and nothing else is due."""
    before, in_bucket = task.before, not contents.location.tree.has_stamps
    news = task.anew or task.facts or task.failed or before.looked.again or before.retry.failed
    same = contents.stamps == before.stamps and task.known == before.children
    return in_bucket and not news and same
