"""One look at a folder: lists it, compares it with its manifest, writes that, says what follows.

A look is a function of what is remembered. It changes nothing but files, so killed at any moment,
or done twice, it does no harm. The loop remembers its outcome.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from lenslet import errors, paths
from lenslet.errors import Denied, LensletError, NotFound, one_line
from lenslet.index import sidecars
from lenslet.index.compare import Plan, Rules, Snapshot, compare, sidecars_of
from lenslet.index.contents import Contents, list_contents
from lenslet.index.read import AGAIN_SECONDS, Read
from lenslet.index.record import RETRY_SECONDS, Record, Stamp
from lenslet.library import Library, about, manifest, orphans
from lenslet.library.about import About
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, Manifest
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.times import Clock

log = logging.getLogger("lenslet")

_COVER = ("cover", "coverRev", "coverThumb")
_SUFFIXES = 20  # of files that are not shown, the most frequent


class Task(NamedTuple):
    """A folder to look at, and what the loop knows of it.

    `known` says how subfolders are shown. `reads` is what reading images showed since the last
    look, `reading` are those that are being read. `busy`: a client waits, or this host works at the
    folder already. `anew`, `deep`: see `messages.Look`.
    """

    path: Path
    before: Record
    known: Mapping[str, Dir | None] = {}
    reads: Mapping[str, Read] = {}
    reading: frozenset[str] = frozenset()
    busy: bool = False
    anew: bool = False
    deep: bool = False


class Outcome(NamedTuple):
    """What a look found.

    `record` is what to remember, None if the folder is gone. `new` images must be read, `stale`
    ones when nothing else is due, each with whether it gets a thumbnail. `below` are the subfolders
    to look at in any case. `again` is in how many seconds to look again. `outage` says why storage
    cannot be used. `plan` is what was decided, if the folder could be read. It `is_done` unless
    storage was away, or another host was faster: then nothing is known.
    """

    task: Task
    record: Record | None
    new: Mapping[str, bool] = {}
    stale: Mapping[str, bool] = {}
    below: tuple[str, ...] = ()
    again: float | None = None
    outage: str = ""
    plan: Plan | None = None
    is_done: bool = True


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

    def ended(self, path: Path) -> None:
        """Is called when the work at a folder or an image has ended."""


class Folders:
    """Looks at the folders of a library, on any number of threads, but one for each folder.

    If it does not write, as for `lenslet check`, a look changes nothing.
    """

    def __init__(
        self, library: Library, clock: Clock, host: Host | None = None, *, writes: bool = True
    ) -> None:
        self._library = library
        self._tree = library.tree
        self._rules = Rules.of(library.settings)
        self._writes = writes
        self._clock = clock
        self._host = host or Host()

    def look(self, task: Task) -> Outcome:
        """Looks at a folder, and handles what is wrong with it."""
        try:
            return self._look(task)
        except errors.Overtaken:  # another host has written the manifest meanwhile
            return Outcome(task, task.before, again=AGAIN_SECONDS, is_done=False)
        except LensletError as error:
            return self._failed(task, error)
        except Exception as error:  # the outermost frame: one bad folder must not stop the rest
            log.exception("folder %s failed", task.path or "/")
            return self._failed(task, LensletError(f"an error in Lenslet: {type(error).__name__}"))

    def _look(self, task: Task) -> Outcome:
        """Looks at a folder, writes its manifest, and says what follows.

        In this order: killed at any moment, the next look finds what is missing.
        """
        before, began = task.before, self._clock()
        contents = list_contents(self._library, task.path)
        if _is_as_before(contents, task):
            self._tree.check()
            below = tuple(before.children) if task.deep else ()
            return Outcome(task, replace(before, looked=self._clock()), below=below)
        plan = self._compare(contents, task)
        self._tree.check()  # a disk may have gone away meanwhile
        reasons = {**before.retry.reasons, **{n: each.problem for n, each in task.reads.items()}}
        reasons = {n: reason for n, reason in reasons.items() if reason and n in plan.pending}
        rests = reasons if not task.anew and began < before.retry.due else {}
        skipped = {*task.reading, *rests, *(n for n, each in task.reads.items() if each.problem)}
        new = {name: thumbnail for name, thumbnail in plan.todo.items() if name not in skipped}
        stale = {name: thumbnail for name, thumbnail in plan.stale.items() if name not in skipped}
        claim = Claim()
        if plan.todo:
            claim = self._host.claim(task, plan.stored.reader, len(new))
        moved = before.location is not None and before.location.target != contents.location.target
        below = tuple(plan.children) if task.deep or moved else ()
        if self._writes:
            try:
                self._write(contents, plan, claim)
            except Denied as error:  # its subfolders are indexed all the same
                return self._failed(task, error, plan.children)._replace(below=below)
            if not before.is_known:
                self._sweep(contents)
        problems = [Problem("unreadableFiles", task.path.child(n), r) for n, r in reasons.items()]
        now = self._clock()
        record = Record(
            location=contents.location,
            stamps=contents.stamps if claim.reads else (),
            looked=now,
            took=now - began,
            generation=plan.manifest.generated_at,
            entry=_entry(contents.location, plan.manifest),
            children=plan.children,
            health=FolderHealth.of(plan.manifest, [*plan.problems, *problems]),
            retry=before.retry.after(now, reasons, changed=plan.changed),
            orphans=plan.orphans,
            left=len(plan.todo.keys() - reasons.keys()),
            stale=len(plan.stale.keys() - reasons.keys()),
        )
        again = AGAIN_SECONDS if plan.unsettled else claim.wait
        if not claim.reads:
            new = stale = {}
        return Outcome(task, record, new, stale, below, again, plan=plan)

    # What is there

    def _compare(self, contents: Contents, task: Task) -> Plan:
        """Compares a folder with its manifest."""
        location, path = contents.location, task.path
        has_manifest = MANIFEST in contents.derived.files
        stored = manifest.load(self._tree, path) if has_manifest else Manifest(path)
        children = self._children(contents, task.known, stored)
        snapshot = self._snapshot(contents)
        snapshot.dirs = manifest.bounded(list(filter(None, children.values())))
        facts = {name: each.facts for name, each in task.reads.items() if each.facts}
        beside = sidecars.read(location, stored, snapshot, facts)
        metas = {name: each.keys for name, each in beside.items()}
        plan = compare(stored, snapshot, facts, metas, self._rules, anew=task.anew)
        plan.problems += self._problems(contents)
        apart = (orphan for each in beside.values() for orphan in each.apart)
        plan.orphans = *apart, *orphans.without_image(location, contents.listing)
        plan.children = children
        return plan

    def _children(
        self, contents: Contents, known: Mapping[str, Dir | None], stored: Manifest
    ) -> dict[str, Dir | None]:
        """Returns the subfolders, each as the manifest shows it.

        The first manifest of a folder shows every subfolder, until those to ignore are indexed.
        """
        location, listing = contents.location, contents.listing
        before = {each["name"]: each for each in stored.dirs}
        children: dict[str, Dir | None] = {}
        for name in sorted(listing.folders, key=paths.natural_key):
            here, there = location.path.child(name), location.file(name)
            if max(len(here.encode()), len(there.encode())) > paths.LONGEST_PATH:
                listing.unusable.append(name)
            elif name in known:
                children[name] = known[name]
            elif not self._library.locator.ignores(location, name):
                is_hidden = stored.generated_at and self._is_hidden(here)
                new = None if is_hidden else {"name": name, "kind": "branch"}
                children[name] = before.get(name) or new
        gone = (n for n in contents.gone if not self._library.locator.ignores(location, n))
        return children | dict.fromkeys(gone)

    def _is_hidden(self, folder: Path) -> bool:
        """True if a folder has a mark that says to ignore it."""
        try:
            self._library.locator.folder(folder)
        except LensletError as error:  # any other error shows when it is indexed
            return isinstance(error, errors.Ignored)
        return False

    def _snapshot(self, contents: Contents) -> Snapshot:
        location, files = contents.location, contents.listing.files
        served = self._library.locator.served(location, filter(paths.is_item, files))
        beside = sidecars_of(files, contents.listing.covered)
        rest = (name for name in files if name not in served and not name.endswith(THUMBNAIL))
        others = self._library.locator.served(location, filter(paths.unsupported, rest))
        unsupported = Counter(map(paths.unsupported, sorted(others)))
        return Snapshot(
            images={name: files[name] for name in served},
            unsupported=dict(unsupported.most_common(_SUFFIXES)),
            now_ns=self._clock.wall_ns(),
            thumbnails={
                name.removesuffix(THUMBNAIL): stat
                for name, stat in contents.derived.files.items()
                if name.endswith(THUMBNAIL)
            },
            sidecars={name: beside[name] for name in beside.keys() & served},
            about=_about(contents, served),
        )

    def _problems(self, contents: Contents) -> Iterator[Problem]:
        """Yields names that cannot be served, and thumbnails of images that are gone."""
        path, listing = contents.location.path, contents.listing
        for name in listing.unusable:
            yield Problem("unusableNames", path.child(name), "the name cannot be part of a path")
        for name in (*listing.folders, *listing.others):
            if any(name.removesuffix(suffix) in listing.files for suffix in SIDECARS):
                yield Problem("unreadableSidecars", path.child(name), "not a file")
        for name in contents.derived.files:
            image = name.removesuffix(THUMBNAIL)
            if image != name and image not in listing.files and paths.is_item(image):
                yield Problem("orphanThumbnails", path.child(name), orphans.GONE)

    # What is written

    def _write(self, contents: Contents, plan: Plan, claim: Claim) -> None:
        """Writes the manifest if it changed, and removes what is no longer needed.

        Thumbnails of images that are gone are removed from `STATE_DIR`; in the root they stay, and
        count. `Overtaken` if another host has written the manifest since.
        """
        plan.manifest.reader = dict(claim.note)
        location = contents.location
        path = location.path
        if own := self._tree.own:
            for problem in list(plan.problems):
                if problem.kind == "orphanThumbnails":
                    with contextlib.suppress(NotFound, Denied):
                        own.delete(Path(problem.path))
                        plan.problems.remove(problem)
        for name in plan.replaced:
            with contextlib.suppress(NotFound, Denied):
                self._tree.delete(path.child(name + THUMBNAIL))
        if MANIFEST in contents.derived.files and not plan.stored.rev:  # another's, or too large
            plan.stored.rev = self._tree.own_rev(path.child(MANIFEST))
        if plan.changed or claim.at_once:
            if location.chain:  # below a pointer, the folder to write in may not exist yet
                self._tree.make_folder(path)
            pages = filter(manifest.is_page, contents.derived.files)
            size = self._library.settings.page_size
            manifest.write(self._tree, plan.manifest, size, old=plan.stored, pages=pages)

    def _sweep(self, contents: Contents) -> None:
        """Removes what writers that died have left. A clock that jumps makes no file old later."""
        location = contents.location
        with contextlib.suppress(LensletError):
            self._tree.sweep(location.path, contents.derived.leftovers)
            if contents.listing is not contents.derived:
                location.tree.sweep(location.folder, contents.listing.leftovers)

    # What is wrong

    def _failed(
        self, task: Task, error: LensletError, children: Mapping[str, Dir | None] | None = None
    ) -> Outcome:
        """Returns the outcome for a folder that is gone, not served or not readable."""
        path, before, now = task.path, task.before, self._clock()
        try:
            self._library.check_storage(error)
        except LensletError as away:
            reason = one_line(away)
            return Outcome(task, before, again=RETRY_SECONDS, outage=reason, is_done=False)
        if path and isinstance(error, NotFound) and not isinstance(error, errors.Ignored):
            try:
                return Outcome(task, self._gone(path, now))
            except NotFound:
                return Outcome(task, None)
            except LensletError as away:  # the disk that a pointer leads to
                error = away
        if isinstance(error, errors.Ignored):  # scans pass it by
            record = Record(looked=now)
            with contextlib.suppress(LensletError):
                here = self._library.locator.beneath(path)
                stamp = Stamp(here.tree, here.folder, here.tree.stamp(here.folder))
                record = replace(record, stamps=(stamp,))
            return Outcome(task, record)
        if isinstance(error, (errors.BrokenPointer, errors.PointerLoop)):
            entry = {"name": path.name, "kind": "leaf-pointer"}
            health = _only("brokenPointers", path, error)
            return Outcome(task, Record(looked=now, entry=entry, health=health))
        health = _only("unreadableFolders", path, error)
        if health != before.health:  # not after every look
            log.warning("folder %s: %s", path or "/", one_line(error))
        record = replace(
            before,  # what is known of it stays
            looked=now,
            generation="",  # search must not wait for a manifest that cannot be read
            entry=before.entry or {"name": path.name, "kind": "branch"},
            children=before.children if children is None else children,
            health=health,
            retry=before.retry.after(now, {"": one_line(error)}, changed=False),
            left=0,
        )
        return Outcome(task, record)

    def _gone(self, path: Path, now: float) -> Record | None:
        """Returns the record of a folder that is gone: `STATE_DIR` may have sidecars of it.

        Derived files that are left there are removed.
        """
        here = self._library.locator.gone(path)
        here.tree.check()
        if self._writes:
            orphans.clear(self._tree, path)
            orphans.clear(here.tree, here.folder)
        if not here.tree.own:
            return None
        listing = here.tree.own.listing(here.folder)
        found = tuple(orphans.without_image(here, listing))
        stamps = (Stamp(here.tree, here.folder, 0),)
        children = dict.fromkeys(listing.folders)
        if not (found or children):
            return None
        return Record(looked=now, stamps=stamps, children=children, orphans=found)


def _entry(location: Location, manifest: Manifest) -> Dir:
    """Returns how a folder shows in its parent."""
    kind = "leaf-real" if manifest.items else "branch"
    if location.is_pointer:
        kind = "leaf-pointer"
    title = manifest.about.get("title")
    label = {"label": title} if title else {}
    return {"name": location.path.name, "kind": kind, **label, **_cover(manifest)}


def _cover(manifest: Manifest) -> Dir:
    """Returns the chosen image or else the first, if it can be shown; or that of a subfolder."""
    shown = (item for item in manifest.items if "error" not in item)
    chosen = manifest.about.get("cover")
    if item := min(shown, key=lambda item: bool(item["path"] != chosen), default=None):
        found = item["path"], item["rev"], item.get("thumb")
        return {key: value for key, value in zip(_COVER, found, strict=True) if value}
    below = next((entry for entry in manifest.dirs if "cover" in entry), {})
    return {key: below[key] for key in _COVER if key in below}


def _about(contents: Contents, images: Container[str]) -> About:
    """Reads what people say of a folder. The label of a pointer is its title."""
    location, found = contents.location, About()
    if about.FILE in contents.listing.files:
        found = about.read(location.tree, location.folder)
    if location.label:
        found["title"] = location.label
    if (cover := found.pop("cover", "")) in images:
        found["cover"] = location.path.child(cover)
    return found


def _only(kind: str, path: Path, error: LensletError) -> FolderHealth:
    """Returns the health of a folder that has this problem, and is not known otherwise."""
    return FolderHealth.of(Manifest(path), [Problem(kind, path, one_line(error))])


def _is_as_before(contents: Contents, task: Task) -> bool:
    """True if a folder in a bucket shows what it did at the last look, and nothing else is due."""
    before, in_bucket = task.before, not contents.location.tree.has_stamps
    is_due = task.anew or task.reads or before.left or before.stale or before.retry.reasons
    same = contents.stamps == before.stamps and task.known == before.children
    return in_bucket and not is_due and same
