"""Looks at one folder: lists it, reads changed sidecars, compares it with its manifest.

`compare` decides what the manifest should say. It is a pure function, which touches no file.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from lenslet import paths, times
from lenslet.config import Settings
from lenslet.errors import Denied, Ignored, LensletError, NotFound, Overtaken, one_line
from lenslet.images import FACTS_VERSION, FIRST_RENDERING, Facts, rendering
from lenslet.library import Library, manifest, orphans, sidecar
from lenslet.library.health import Problem
from lenslet.library.location import Location
from lenslet.library.manifest import QUARANTINED, Dir, Item, Manifest, later_than
from lenslet.library.orphans import Orphan
from lenslet.library.sidecar import Document, Photo, Sidecar
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.storage.tree import SETTLED_NS, Listing, Stat, Tree
from lenslet.storage.tree import Document as File
from lenslet.times import Clock

# The keys of an item that come from reading its image.
_FACTS = {"w": "width", "h": "height", "hash": "hash", "createdAt": "created_at"}
_FACTS |= {"takenAt": "taken_at", "warning": "warning", "error": "error"}
_COVER = ("cover", "coverRev", "coverThumb")
_META_KEYS = ("hasMeta", "metaRev", "tags", "notes", "edited", "strays", "foreign", "metaError")
_LIMITS = ("MAX_PIXELS", "INDEX_MEMORY", "DECODE_SECONDS", "MAX_FILE_BYTES")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_SUFFIXES = 20  # of files that are not shown, the most frequent
_SECOND = 1_000_000_000
# True if no image of the library has a hash, False if one has; None if that is not known yet.
Unseen = Callable[[str], "bool | None"]


class Stamp(NamedTuple):
    """A folder that was listed, and a number that changes when names come or go in it."""

    tree: Tree
    folder: Path
    value: int


class Contents(NamedTuple):
    """What is in a folder.

    `listing` is of the images' folder, `derived` of the folder where derived files are.
    """

    location: Location
    stamps: tuple[Stamp, ...]
    listing: Listing
    derived: Listing


@dataclass(slots=True)
class Look:
    """What a look at a folder found. Nothing is written yet.

    `children` are the subfolders, each as the manifest shows it, None if it does not. `orphans` are
    sidecars whose photo is not beside them. `incomplete` are images whose sidecar does not say yet
    which photo it belongs to. `young`: a sidecar may be written again without looking changed.
    """

    contents: Contents
    old: Manifest
    plan: Plan
    children: dict[str, Dir | None]
    orphans: list[Orphan] = field(default_factory=list)
    incomplete: dict[str, Document] = field(default_factory=dict)
    young: bool = False

    @property
    def entry(self) -> Dir:
        """How the folder shows in its parent."""
        location = self.contents.location
        name = location.path.name
        if location.is_pointer:
            label = {"label": location.label} if location.label else {}
            return {"name": name, "kind": "leaf-pointer", **label, **self._cover()}
        kind = "leaf-real" if self.plan.manifest.items else "branch"
        return {"name": name, "kind": kind, **self._cover()}

    def _cover(self) -> Dir:
        """The first image that can be shown, here or in the first subfolder that has one."""
        manifest = self.plan.manifest
        for item in manifest.items:
            if "error" not in item:
                found = item["path"], item["rev"], item.get("thumb")
                return {key: value for key, value in zip(_COVER, found, strict=True) if value}
        covered = (entry for entry in manifest.dirs if "cover" in entry)
        below = next(covered, {})
        return {key: below[key] for key in _COVER if key in below}


class Looker:
    """Looks at folders, and writes what was decided."""

    def __init__(self, library: Library, clock: Clock, unseen: Unseen = lambda _: None) -> None:
        self._unseen = unseen
        self._tree = library.tree
        self._locator = library.locator
        self._page_size = library.settings.page_size
        self._rules = Rules.of(library.settings)
        self._clock = clock

    def contents(self, path: Path) -> Contents:
        """Lists a folder, after its pointers were followed.

        Raises `NotFound`, `Ignored`, `Denied`, `BrokenPointer`, `PointerLoop` and
        `StorageUnavailable`.
        """
        here = self._locator.beneath(path)
        listing, stamp = self._list(here.tree, here.folder)
        marks = {*paths.FOLDER_FILES} & {*listing.files, *listing.folders, *listing.others}
        location = self._locator.enter(here, marks)
        derived, stamps = listing, [stamp]
        if here.tree is not self._tree or here.folder != path:
            derived, stamp = self._list_derived(path)
            stamps.append(stamp)
        if location.is_pointer:
            listing, stamp = self._list(location.tree, location.folder)
            stamps.append(stamp)
        return Contents(location, tuple(stamps), listing, derived)

    def look(
        self,
        contents: Contents,
        facts: Mapping[str, Facts],
        known: Mapping[str, Dir | None],
        *,
        retry: bool = False,
        since_ns: int = 0,
    ) -> Look:
        """Compares a folder with its manifest.

        `facts` are what reading showed, by image name. `known` says how those of the subfolders are
        shown that were indexed, None if they are not. `retry` tries undecodable images again. The
        last look was at `since_ns`.
        """
        location, listing, derived = contents.location, contents.listing, contents.derived
        path = location.path
        has_manifest = MANIFEST in derived.files
        old = manifest.load(self._tree, path) if has_manifest else Manifest(path)
        snapshot = self._snapshot(contents)
        before = {each["name"]: each for each in old.dirs}
        children: dict[str, Dir | None] = {}
        for name in sorted(listing.folders, key=paths.natural_key):
            if not self._fits(location, name):
                listing.unusable.append(name)
            elif name in known:
                children[name] = known[name]
            elif not self._locator.ignores(location, name):
                children[name] = before.get(name) or self._first_entry(path.child(name), old)
        snapshot.dirs = manifest.bounded(list(filter(None, children.values())))
        metas = self._metas(location, old, snapshot, facts, since_ns)
        read = {name: meta.keys for name, meta in metas.items()}
        plan = compare(old, snapshot, facts, read, self._rules, retry=retry)
        plan.problems += self._problems(contents)
        look = Look(contents, old, plan, children)
        look.orphans = [each for meta in metas.values() for each in meta.orphans]
        look.orphans += orphans.without_image(location, listing)
        look.incomplete = {n: meta.facts for n, meta in metas.items() if meta.facts}
        look.young = bool(snapshot.young)
        return look

    def _fits(self, location: Location, name: str) -> bool:
        """True if what is in a subfolder can be reached, and be asked for."""
        here, there = location.path.child(name), location.file(name)
        return max(len(here.encode()), len(there.encode())) <= paths.LONGEST_PATH

    def _first_entry(self, child: Path, old: Manifest) -> Dir | None:
        """Returns how a new subfolder is shown.

        The first manifest of a folder shows every subfolder, until those to ignore are indexed.
        """
        if old.generated_at:
            try:
                self._locator.folder(child)
            except Ignored:
                return None
            except LensletError:
                pass  # indexing it will say what is wrong
        return {"name": child.name, "kind": "branch"}

    def stamps(self, path: Path) -> tuple[Stamp, ...]:
        """Returns the stamps of a folder that is not served; `Unsupported` in a bucket."""
        here = self._locator.beneath(path)
        return (Stamp(here.tree, here.folder, here.tree.stamp(here.folder)),)

    def _list(self, tree: Tree, folder: Path) -> tuple[Listing, Stamp]:
        """Lists a folder. The stamp is taken before, so that no later change is missed."""
        if not tree.has_stamps:
            listing = tree.listing(folder)
            return listing, Stamp(tree, folder, listing.digest())
        stamp = tree.stamp(folder)
        return tree.listing(folder), Stamp(tree, folder, stamp)

    def _list_derived(self, path: Path) -> tuple[Listing, Stamp]:
        """Lists the folder of the derived files. Below a pointer it is not in the root.

        There it is in `STATE_DIR`, or does not exist yet.
        """
        for tree in filter(None, (self._tree, self._tree.own)):
            with contextlib.suppress(NotFound):
                return self._list(tree, path)
        return Listing(), Stamp(self._tree, path, 0)

    def _snapshot(self, contents: Contents) -> Snapshot:
        location, listing = contents.location, contents.listing
        files = listing.files
        served = self._locator.served(location, filter(paths.is_item, files))
        sidecars = sidecars_of(files, listing.covered)
        others = self._locator.served(location, filter(paths.unsupported, files))
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
            sidecars={name: sidecars[name] for name in sidecars.keys() & served},
            sidecar_times={name: last_written(name, files) for name in sidecars.keys() & served},
        )

    def _metas(
        self,
        location: Location,
        old: Manifest,
        snapshot: Snapshot,
        facts: Mapping[str, Facts],
        since_ns: int,
    ) -> dict[str, _Meta]:
        """Reads the sidecars that may be others than the manifest describes, or another photo's.

        Two writes within one tick of a coarse clock look the same, so a sidecar that was written
        just before the last look is read once more, when it is not that young any more.
        """
        before = {item["name"]: item for item in old.items}
        if not since_ns and old.generated_at:
            since_ns = int(times.parse(old.generated_at).timestamp() * _SECOND)
        changed, young = set(changed_sidecars(old, snapshot.sidecars)), snapshot.young
        found = {}
        for name in snapshot.sidecars:
            stat, was, read = snapshot.images[name], before.get(name), facts.get(name)
            written = snapshot.sidecar_times.get(name, 0)
            seen = written <= since_ns - SETTLED_NS or name in young
            same = was is not None and (was["rev"], was["size"]) == (stat.rev, stat.size)
            certain = was is not None and not was.keys() & {"edited", "strays"}
            if name in changed or read or not (seen and same and certain):
                read = read if read and read.rev == stat.rev else None
                known = _known(was if was and same else {}, read)
                known = {key: value for key, value in known.items() if value is not None}
                found[name] = self._meta(location, name, known)
        return found

    def _meta(self, location: Location, name: str, known: Item) -> _Meta:
        """Reads the sidecars beside an image; `known` is what its item says of it."""
        item, copies = location.file(name), list[File]()
        unread = None if "error" not in known else ""
        photo = Photo(known.get("hash", unread), known.get("createdAt"))
        try:
            copies = location.tree.copies(sidecar.files_of(item))
            found = sidecar.examine(item, copies, lambda: photo)
        except LensletError as error:
            found = sidecar.Found(unreadable=one_line(error))
        doubtful = found.unknown
        if doubtful and photo.hash:
            photo = self._decided(photo, [each.hash for each in doubtful], known)
            found = sidecar.examine(item, copies, lambda: photo)
        document = found.sidecar.document if found.sidecar else {}
        keys: Item = {"hasMeta": found.sidecar is not None}
        keys.update({key: document[key] for key in ("tags", "notes") if document.get(key)})
        if found.sidecar and found.sidecar.hash in photo.edited:
            keys["edited"] = [found.sidecar.hash]
        if found.strays:
            keys["strays"] = [each.hash for each in found.strays]
        if found.foreign:
            keys["foreign"] = True
        if found.unreadable:
            keys["metaError"] = found.unreadable
        if found.unknown:
            keys["metaRev"] = ""  # so that it is read again
        strays = [orphans.of(location, each, orphans.OTHER) for each in found.strays]
        if photo.hash:
            taken = {each.path for each in found.strays}
            strays += [
                orphans.of(location, each, doubtful=True)
                for each in doubtful
                if each.path not in taken
            ]
        facts = sidecar.facts_of(known) if known.get("hash") and not location.readonly else {}
        lacks = facts and found.sidecar and found.sidecar.editable and found.sidecar.lacks(facts)
        return _Meta(keys, strays, facts if lacks else {})

    def _decided(self, photo: Photo, hashes: list[str], known: Item) -> Photo:
        """Returns the photo with what is known of sidecars that another photo may have.

        What was another photo's remains so: that photo may only have been removed.
        """
        edited, others = list[str](), list[str](known.get("strays", ()))
        for held in hashes:
            unseen = self._unseen(held)
            if unseen is None:
                unseen = True if held in known.get("edited", ()) else None
            if held not in others and unseen is not None:
                (edited if unseen else others).append(held)
        return replace(photo, edited=tuple(edited), others=tuple(others))

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

    def write(self, look: Look) -> None:
        """Writes the manifest if it changed, and removes what is no longer needed.

        Thumbnails of images that are gone are removed from `STATE_DIR`; in the root they stay, and
        count. `Overtaken` if another host has written the manifest since.
        """
        plan, contents = look.plan, look.contents
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
        if plan.changed:
            if location.chain:  # below a pointer, the folder to write in may not exist yet
                self._tree.make_folder(path)
            pages = filter(manifest.is_page, contents.derived.files)
            manifest.write(self._tree, plan.manifest, self._page_size, old=look.old, pages=pages)
        with contextlib.suppress(LensletError):
            self._tree.sweep(path, contents.derived.leftovers)
            if contents.listing is not contents.derived:
                location.tree.sweep(location.folder, contents.listing.leftovers)

    def complete(self, look: Look) -> None:
        """Writes into sidecars which photo they belong to, if they do not say so."""
        location = look.contents.location
        for name, facts in look.incomplete.items():
            photo = partial(Photo, facts["hash"], facts["exif"].get("createdAt"))

            def change(stored: Sidecar | None, facts: Document = facts) -> Document | None:
                if not (stored and stored.lacks(facts)):
                    raise Overtaken("The sidecar has changed.")
                return sidecar.with_facts(stored.document, facts)

            with contextlib.suppress(LensletError):  # tried again when the folder is read anew
                sidecar.edit(location.tree, location.file(name), change, photo)


class _Meta(NamedTuple):
    """What the sidecars of an image say: the keys of its item, and those that are not its own.

    `facts` are what its sidecar does not say of its photo; empty if it does.
    """

    keys: Item
    orphans: list[Orphan]
    facts: Document


# Comparing


class Rules(NamedTuple):
    """How images are read with the settings of today: how thumbnails are made, and the limits."""

    rendering: str = FIRST_RENDERING
    limits: Mapping[str, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        how = rendering(long_edge=settings.thumb_long_edge, quality=settings.thumb_quality)
        limits = {name: float(getattr(settings, name.lower())) for name in _LIMITS}
        return cls(how, limits)

    def are_newer(self, item: Item) -> bool:
        """True if an item's image should be read again, although it has not changed.

        Its facts are of an older version, the limit that refused it is higher now, or thumbnails
        are made in another way. An item of a newer version is left alone.
        """
        version, limit = item.get("facts", 1), item.get("limit")
        if version != FACTS_VERSION:
            return bool(version < FACTS_VERSION)
        if limit:
            name, _, value = limit.partition("=")
            return bool(_NUMBER.fullmatch(value)) and self.limits.get(name, 0) > float(value)
        return item["hasThumb"] and self.render(item)

    def render(self, item: Item) -> bool:
        """True if an item has no thumbnail, or one that was made in another way."""
        made = item.get("thumb", "").partition("-")[2] or FIRST_RENDERING
        return not item["hasThumb"] or made != self.rendering


@dataclass(slots=True)
class Snapshot:
    """What a folder holds at one moment.

    `images` by name; `thumbnails` by the names of their images; `sidecars` are the revs of the
    files beside each image, `sidecar_times` when the last of them was written; `dirs` are the
    subfolders that are shown; `unsupported` counts the files that are not, by suffix.
    """

    images: Mapping[str, Stat]
    now_ns: int
    thumbnails: Mapping[str, Stat] = field(default_factory=dict)
    sidecars: Mapping[str, str] = field(default_factory=dict)
    sidecar_times: Mapping[str, int] = field(default_factory=dict)
    dirs: list[Dir] = field(default_factory=list)
    unsupported: dict[str, int] = field(default_factory=dict)

    @property
    def young(self) -> set[str]:
        """The images whose sidecar was written less than two seconds ago."""
        now, times = self.now_ns, self.sidecar_times
        return {name for name, written in times.items() if abs(now - written) < SETTLED_NS}


@dataclass(slots=True)
class Plan:
    """What a comparison decides.

    The manifest as it should be, and whether that is `changed`; the images to read, each with
    whether it needs a thumbnail (`todo`); those to read again when there is time, likewise
    (`old`); those whose thumbnail was made from an earlier file of
    the same name (`replaced`); whether one is still being written (`unsettled`); what is wrong.
    """

    manifest: Manifest
    changed: bool = False
    todo: dict[str, bool] = field(default_factory=dict)
    old: dict[str, bool] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    unsettled: bool = False
    problems: list[Problem] = field(default_factory=list)


def changed_sidecars(old: Manifest, sidecars: Mapping[str, str]) -> list[str]:
    """Returns the images whose sidecar differs from the one that the manifest describes."""
    if not sidecars:
        return []
    before = {item["name"]: item for item in old.items}
    return [name for name, rev in sidecars.items() if not _knows_meta(before.get(name), rev)]


def _knows_meta(item: Item | None, rev: str) -> bool:
    """True if an item describes its sidecar. One that could not be read is read again."""
    return item is not None and item.get("metaRev", "") == rev and "metaError" not in item


def compare(
    old: Manifest,
    snapshot: Snapshot,
    facts: Mapping[str, Facts],
    metas: Mapping[str, Item],
    rules: Rules,
    *,
    retry: bool = False,
) -> Plan:
    """Decides what the manifest of a folder should be, and what is left to do.

    `facts` are what reading showed, by image name; `metas` the keys that describe sidecars that
    were read; `rules` say which images are read again. `retry` tries images again that could not
    be decoded.
    """
    before = {item["name"]: item for item in old.items}
    plan = Plan(Manifest(old.path, dirs=snapshot.dirs, unsupported=snapshot.unsupported))
    items = plan.manifest.items
    in_order = snapshot.images.keys() == before.keys()
    for name in before if in_order else sorted(snapshot.images, key=paths.natural_key):
        stat, was, read = snapshot.images[name], before.get(name), facts.get(name)
        if read and read.rev != stat.rev:
            read = None
        same = was if was and (was["rev"], was["size"]) == (stat.rev, stat.size) else None
        bound = _is_bound(snapshot.thumbnails.get(name), stat, same, read)
        if bound and old.generated_at and not same and not read:
            plan.replaced.append(name)  # it has the image's time, but was made from an earlier file
            bound = False
        rev = snapshot.sidecars.get(name, "")
        unchanged = same and not read and same["hasThumb"] == bound and name not in metas
        if same and unchanged and _knows_meta(same, rev):
            item = same
        else:
            item = _item(old.path, name, stat, same, read, bound)
            item.update(_meta(was, rev, metas.get(name)))
        items.append(item)
        _judge(plan, item, snapshot, rules, retry=retry and name not in facts)
    new = plan.manifest
    content, old_content = ((each.items, each.dirs, each.unsupported) for each in (new, old))
    plan.changed = not old.generated_at or content != old_content
    new.generated_at = old.generated_at
    if plan.changed:
        now = dt.datetime.fromtimestamp(snapshot.now_ns / _SECOND, times.UTC)
        new.generated_at = later_than(old.generated_at, now)
    return plan


def _is_bound(thumbnail: Stat | None, stat: Stat, same: Item | None, read: Facts | None) -> bool:
    """True if a thumbnail was made from the image as it is now."""
    if not thumbnail or not thumbnail.size:
        return False
    bound = thumbnail.made_from(stat)
    if bound is None:  # a listing of a bucket does not tell what it was made from
        return bool(read and not read.error) or bool(same and same["hasThumb"])
    return bound


def _item(
    folder: Path, name: str, stat: Stat, same: Item | None, read: Facts | None, bound: bool
) -> Item:
    """An item as it is now, without the keys that describe its sidecar."""
    known = _known(same or {}, read)
    item: Item = {
        "path": folder.child(name),
        "name": name,
        "type": paths.media_type(name),
        "w": known.get("w", 0),
        "h": known.get("h", 0),
        "size": stat.size,
        "hasThumb": bound and not known.get("error"),
        "hasMeta": False,
    }
    # Keys of a newer version stay. Those of the sidecar are added by the caller.
    absent = {*item, *_META_KEYS, *(() if item["hasThumb"] else ("thumb",))}
    item.update((k, v) for k, v in known.items() if k not in absent and v is not None)
    item["rev"] = stat.rev
    if stat.etag:
        item["modifiedAt"] = times.of_ns(stat.mtime_ns)
    return item


def _known(same: Item, read: Facts | None) -> Item:
    """The keys of an item that come from its image, as just read or as they were.

    An image that was read before stays as it was if a limit, lower now, refuses it.
    """
    if not read:
        return same
    was, now = same.get("thumb", ""), read.thumb or ""
    more = {"facts": FACTS_VERSION, "limit": read.limit}
    if read.limit and "hash" in same and "error" not in same:
        return {**same, **more}
    found = {key: getattr(read, fact) for key, fact in _FACTS.items()}
    if same.get("hash") == read.hash:  # so is what was decided of it
        found.update((key, same[key]) for key in ("edited", "strays") if key in same)
    # A thumbnail that was only looked at does not say how it was made; the item may know it.
    thumb = (was if was.startswith(now) else now).removesuffix(f"-{FIRST_RENDERING}")
    return {**found, **more, "thumb": thumb or None}


def _meta(was: Item | None, rev: str, read: Item | None) -> Item:
    """The keys that describe a sidecar: as just read or, if it is unchanged, of the old item."""
    if read is not None:
        return {"metaRev": rev, **read}
    if was and rev and _knows_meta(was, rev):
        return {key: was[key] for key in _META_KEYS if key in was}
    return {}


def _judge(plan: Plan, item: Item, snapshot: Snapshot, rules: Rules, *, retry: bool) -> None:
    """Adds to a plan what is left to do for an item, and what is wrong with it."""
    if error := item.get("error"):
        kind = "quarantined" if error.startswith(QUARANTINED) else "unreadableImages"
        plan.problems.append(Problem(kind, item["path"], error))
    is_new = (not error or retry) and (not item["hasThumb"] or "hash" not in item)
    if is_new or rules.are_newer(item):
        if snapshot.images[item["name"]].settled(snapshot.now_ns):
            (plan.todo if is_new else plan.old)[item["name"]] = rules.render(item)
        else:
            plan.unsettled = True
    if "metaRev" in item:
        if item.get("foreign"):
            path = item["path"] + SIDECARS[1]
            plan.problems.append(Problem("foreignJson", path, "JSON of another program"))
        if item.get("metaError"):
            plan.problems.append(Problem("unreadableSidecars", item["path"], item["metaError"]))


def sidecars_of(*layers: Mapping[str, Stat]) -> dict[str, str]:
    """Returns for each image name the joined revs of its possible sidecar files."""
    revs: dict[str, list[str]] = {}
    for files in layers:
        names = [name for name in files if name.endswith(SIDECARS)]
        for suffix in SIDECARS:
            for name in names:
                if name.endswith(suffix):
                    revs.setdefault(name.removesuffix(suffix), []).append(files[name].rev)
    return {image: "+".join(each) for image, each in revs.items()}


def last_written(image: str, files: Mapping[str, Stat]) -> int:
    """Returns when the last of an image's sidecar files was written, in nanoseconds."""
    return max(files[image + end].ctime_ns for end in SIDECARS if image + end in files)
