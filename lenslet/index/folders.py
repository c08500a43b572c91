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
from lenslet.index.read import AGAIN_SECONDS, AWAY_SECONDS, Read
from lenslet.index.record import Record, Stamp
from lenslet.library import Library, about, companions, manifest, orphans
from lenslet.library.about import About
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.location import Location
from lenslet.library.manifest import Dir, Manifest
from lenslet.paths import FOLDER_FILES, MANIFEST, SIDECARS, THUMBNAIL, Path, file_beside
from lenslet.storage.tree import Listing, Tree
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
    ones after all others, each with whether it gets a thumbnail. `again` is in how many seconds to
    look again. `plan` is what was decided, if the folder could be read. If it is not `is_done`,
    nothing is known: storage was away (`outage` says why), or another host was faster.
    """

    task: Task
    record: Record | None
    new: Mapping[str, bool] = {}
    stale: Mapping[str, bool] = {}
    again: float | None = None
    plan: Plan | None = None
    is_done: bool = True
    outage: str = ""


class Claim(NamedTuple):
    """Whether this host reads the new images of a folder; if not, when to look again, if at all."""

    reads: bool = True
    again: float | None = None


class Host:
    """The one host of a library: it reads all images. For several see `cluster`."""

    def claim(self, task: Task, plan: Plan, new: int) -> Claim:
        """Decides who reads the `new` images of a folder. The manifest of the `plan` may say so."""
        return Claim()

    def ended(self, path: Path) -> None:
        """Is called when the work at a folder or an image has ended."""


class Contents(NamedTuple):
    """What is in a folder, after its pointers were followed.

    `listing` is of the images' folder, `derived` of the folder where derived files are.
    """

    location: Location
    stamps: tuple[Stamp, ...]
    listing: Listing
    derived: Listing

    @classmethod
    def of(cls, library: Library, path: Path) -> Contents:
        """Lists a folder; raises what the locator and its trees do."""
        here = library.locator.beneath(path)
        listing, stamp = _list(here.tree, here.folder)
        marks = {*FOLDER_FILES} & {*listing.files, *listing.folders, *listing.others}
        location = library.locator.enter(here, marks)
        derived, stamps = listing, [stamp]
        if here.tree is not library.tree or here.folder != path:
            derived, stamp = _list_derived(library.tree, path)
            stamps.append(stamp)
        if location.is_pointer:
            listing, stamp = _list(location.tree, location.folder)
            stamps.append(stamp)
        return cls(location, tuple(stamps), listing, derived)

    def is_as_before(self, task: Task) -> bool:
        """True if a folder in a bucket shows what it did, and nothing else is due."""
        before, in_bucket = task.before, not self.location.tree.has_stamps
        is_due = task.anew or task.reads or before.left or before.stale or before.retry.reasons
        same = self.stamps == before.stamps and task.known == before.children
        return in_bucket and not is_due and same


def _list(tree: Tree, folder: Path) -> tuple[Listing, Stamp]:
    """Lists a folder. The stamp is taken before, so that no later change is missed."""
    if not tree.has_stamps:
        listing = tree.listing(folder)
        return listing, Stamp(tree, folder, listing.digest())
    stamp = tree.stamp(folder)
    return tree.listing(folder), Stamp(tree, folder, stamp)


def _list_derived(tree: Tree, path: Path) -> tuple[Listing, Stamp]:
    """Lists the folder of the derived files. Below a pointer it is not in the root.

    There it is in `STATE_DIR`, or does not exist yet.
    """
    with contextlib.suppress(NotFound):
        return _list(tree, path)
    with contextlib.suppress(NotFound):
        if tree.own:
            listing, stamp = _list(tree.own, path)
            listing.gone = listing.folders
            return listing, stamp
    return Listing(), Stamp(tree, path, 0)


class Looker:
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
        contents = Contents.of(self._library, task.path)
        if contents.is_as_before(task):
            self._tree.check()
            return Outcome(task, replace(before, looked=self._clock()))
        plan = self._plan(contents, task)
        self._tree.check()  # a disk may have gone away meanwhile
        is_lost = MANIFEST in contents.derived.files and not plan.stored.generated_at
        is_others = is_lost and manifest.is_others(self._tree, task.path)
        left = _left(task, plan, began)
        claim = self._host.claim(task, plan, len(left.new)) if plan.todo else Claim()
        if self._writes:
            try:
                if is_others and before.replaced:  # nobody wrote that of a folder that was moved
                    manifest.check_write(self._tree, task.path)
                self._write(contents, plan, is_first=not before.is_known)
            except Denied as error:  # its subfolders are indexed all the same
                return self._failed(task, error, plan.children)
        if "" in before.retry.reasons:
            log.info("this is over: folder %s can be indexed", task.path or "/")
        reasons, now = left.reasons, self._clock()
        problems = [Problem("unreadableFiles", task.path.child(n), r) for n, r in reasons.items()]
        record = Record(
            location=contents.location,
            stamps=contents.stamps if claim.reads else (),
            looked=now,
            took=now - began,
            generation=plan.manifest.generated_at,
            entry=_entry(contents.location, plan.manifest),
            children=plan.children,
            health=FolderHealth.of(plan.manifest, [*plan.problems, *problems]),
            retry=before.retry.after(began, reasons, changed=plan.changed),
            orphans=plan.orphans,
            left=len(plan.todo.keys() - reasons.keys()),
            stale=len(plan.stale.keys() - reasons.keys()),
            replaced=before.replaced or is_others,
        )
        if not claim.reads:
            left = Left({}, {}, {})
        return Outcome(task, record, left.new, left.stale, claim.again, plan)

    # What is there

    def _plan(self, contents: Contents, task: Task) -> Plan:
        """Compares a folder with its manifest."""
        location, path = contents.location, task.path
        has_manifest = MANIFEST in contents.derived.files
        stored = manifest.load(self._tree, path) if has_manifest else Manifest(path)
        children = self._children(contents, task.known, stored)
        snapshot = self._snapshot(contents)
        snapshot.dirs = manifest.bounded(list(filter(None, children.values())))
        facts = {name: each.facts for name, each in task.reads.items() if each.facts}
        found = sidecars.read(location, stored, snapshot, facts)
        metas = {name: each.keys for name, each in found.items()}
        plan = compare(stored, snapshot, facts, metas, self._rules, anew=task.anew)
        plan.problems += self._problems(contents)
        apart = (orphan for each in found.values() for orphan in each.apart)
        plan.orphans = *apart, *orphans.without_image(location, contents.listing)
        plan.children = children
        return plan

    def _children(
        self, contents: Contents, known: Mapping[str, Dir | None], stored: Manifest
    ) -> dict[str, Dir | None]:
        """Returns the subfolders, each as the manifest shows it.

        A new one is shown when it was looked at: only then it is known whether it is ignored. The
        first manifest shows all. One that is gone may have files in `STATE_DIR`, and is not shown.
        """
        location, listing = contents.location, contents.listing
        before = {each["name"]: each for each in stored.dirs}
        children, room = dict[str, Dir | None](), location.room
        for name in sorted(listing.folders, key=paths.natural_key):
            if len(name.encode()) > room:
                listing.unusable.append(name)
            elif name in known:
                children[name] = known[name]
            elif not self._library.locator.ignores(location, name):
                new = None if stored.generated_at else {"name": name, "kind": "branch"}
                children[name] = before.get(name) or new
        gone = {*listing.gone, *contents.derived.gone}.difference(listing.folders)
        return children | dict.fromkeys(self._library.locator.served(location, gone))

    def _snapshot(self, contents: Contents) -> Snapshot:
        location, files, made = contents.location, contents.listing.files, contents.derived.files
        images, room = set(filter(paths.is_item, files)), location.room
        long = {name for name in images if len(name.encode()) > room}
        contents.listing.unusable += sorted(long)
        served = self._library.locator.served(location, images - long)
        rest = (name for name in files if name not in served and not name.endswith(THUMBNAIL))
        others = self._library.locator.served(location, filter(paths.unsupported, rest))
        unsupported = Counter(map(paths.unsupported, sorted(others)))
        return Snapshot(
            images={name: files[name] for name in served},
            unsupported=dict(unsupported.most_common(_SUFFIXES)),
            now_ns=self._clock.wall_ns(),
            thumbnails={
                name: made[file]
                for name in served
                if (file := file_beside(name, THUMBNAIL)) in made
            },
            companions={
                image: {name: files[name] for name in names}
                for image, names in companions.find(served, files).items()
            },
            sidecars=sidecars_of(served, files, contents.listing.covered),
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
        made = contents.derived.files
        for image in sorted(paths.without_image(made, (THUMBNAIL,), listing.files)):
            yield Problem("orphanThumbnails", path.child(image + THUMBNAIL), orphans.GONE)

    # What is written

    def _write(self, contents: Contents, plan: Plan, *, is_first: bool) -> None:
        """Writes the manifest if it changed, and removes what is no longer needed.

        Thumbnails of images that are gone are removed from `STATE_DIR`; in the root they stay, and
        count. `Overtaken` if another host has written the manifest since.
        """
        location, derived = contents.location, contents.derived
        path = location.path
        if own := self._tree.own:
            for problem in list(plan.problems):
                if problem.kind == "orphanThumbnails":
                    with contextlib.suppress(NotFound, Denied):
                        own.delete(Path(problem.path))
                        plan.problems.remove(problem)
        for name in plan.replaced:
            with contextlib.suppress(NotFound, Denied):
                self._tree.delete(file_beside(path.child(name), THUMBNAIL))
        if MANIFEST in derived.files and not plan.stored.rev:  # another's, or too large
            plan.stored.rev = self._tree.own_rev(path.child(MANIFEST))
        if plan.changed:
            if location.chain:  # below a pointer, the folder to write in may not exist yet
                self._tree.make_folder(path)
            pages = filter(manifest.is_page, derived.files)
            size = self._library.settings.page_size
            manifest.write(self._tree, plan.manifest, size, old=plan.stored, pages=pages)
        if is_first:  # what writers that died have left; a clock that jumps makes no file old later
            self._tree.sweep(path, derived.leftovers)
            location.tree.sweep(location.folder, contents.listing.leftovers)

    # What is wrong

    def _failed(
        self, task: Task, error: LensletError, children: Mapping[str, Dir | None] | None = None
    ) -> Outcome:
        """Returns the outcome of a look that found no folder that can be indexed.

        ==========================  ===================================================
        storage is away             nothing is known; it is looked at again soon
        the folder is gone          no record, unless `STATE_DIR` has sidecars of it
        it has an ignore mark       it is not shown, and a scan sees when that changes
        its pointer leads nowhere   it is shown as a pointer, and health says why
        it cannot be read           what is known of it stays, and it is tried again
        ==========================  ===================================================
        """
        path, now = task.path, self._clock()
        try:
            self._library.check_storage(error)
        except LensletError as away:
            reason = one_line(away)
            return Outcome(task, task.before, again=AWAY_SECONDS, is_done=False, outage=reason)
        shown: Dir | None = task.before.entry or {"name": path.name, "kind": "branch"}
        if path and isinstance(error, NotFound) and not isinstance(error, errors.Ignored):
            try:
                return Outcome(task, self._gone(path, now))
            except LensletError as away:  # the disk that a pointer leads to
                error, shown = away, None
        match error:
            case errors.Ignored():
                record = self._ignored(path, now)
            case errors.BrokenPointer() | errors.PointerLoop():
                entry = {"name": path.name, "kind": "leaf-pointer"}
                health = _only("brokenPointers", path, error)
                record = Record(looked=now, entry=entry, health=health)
            case _:
                listed = task.known if children is None else children
                record = replace(self._unreadable(task, error), entry=shown, children=listed)
        return Outcome(task, record)

    def _ignored(self, path: Path, now: float) -> Record:
        record = Record(looked=now)
        with contextlib.suppress(LensletError):
            here = self._library.locator.beneath(path)
            stamp = Stamp(here.tree, here.folder, here.tree.stamp(here.folder))
            record = replace(record, stamps=(stamp,))
        return record

    def _unreadable(self, task: Task, error: LensletError) -> Record:
        """Search must not wait for a manifest that cannot be read, so it has no generation."""
        path, before, now = task.path, task.before, self._clock()
        health = _only("unreadableFolders", path, error)
        if health != before.health:  # not after every look
            log.warning("folder %s: %s", path or "/", one_line(error))
        retry = before.retry.after(now, {"": one_line(error)}, changed=False)
        return replace(before, looked=now, generation="", health=health, retry=retry, left=0)

    def _gone(self, path: Path, now: float) -> Record | None:
        """Returns the record of a folder that is gone: `STATE_DIR` may have sidecars of it.

        Derived files that are left there are removed.
        """
        with contextlib.suppress(NotFound):
            here = self._library.locator.gone(path)
            here.tree.check()
            if self._writes:
                orphans.clear(self._tree, path)
                orphans.clear(here.tree, here.folder)
            if here.tree.own:
                listing = here.tree.own.listing(here.folder)
                found = tuple(orphans.without_image(here, listing))
                stamps = (Stamp(here.tree, here.folder, 0),)
                children = dict.fromkeys(listing.folders)
                return Record(looked=now, stamps=stamps, children=children, orphans=found)
        return None


class Left(NamedTuple):
    """What is left to read of a plan, and why other images could not be read, by name."""

    new: dict[str, bool]
    stale: dict[str, bool]
    reasons: dict[str, str]


def _left(task: Task, plan: Plan, now: float) -> Left:
    """Decides which images of a plan are read now.

    =========================  =======================================
    it is being read           not now
    it has just failed         not now
    it has failed before       if the folder's retry is due, or `anew`
    any other                  now
    =========================  =======================================
    """
    retry, reads = task.before.retry, task.reads
    reasons = {**retry.reasons, **{name: each.problem for name, each in reads.items()}}
    reasons = {name: why for name, why in reasons.items() if why and name in plan.pending}
    is_due = now >= retry.due or task.anew
    not_now = {*task.reading, *(name for name in reasons if name in reads or not is_due)}
    new = {name: thumbnail for name, thumbnail in plan.todo.items() if name not in not_now}
    stale = {name: thumbnail for name, thumbnail in plan.stale.items() if name not in not_now}
    return Left(new, stale, reasons)


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
