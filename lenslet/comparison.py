"""A folder's listing beside its manifest: what it should say, what is to be read, what is wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lenslet import paths, times
from lenslet.errors import LensletError, one_line
from lenslet.manifest import QUARANTINED, Dir, Facts, Item, Manifest, Problem
from lenslet.paths import SIDECARS, THUMBNAIL, Path
from lenslet.sidecar import Found
from lenslet.storage import Listing, Stat

Served = Callable[[Path, Iterable[str]], set[str]]  # of a folder's names, those not ignored


@dataclass(slots=True)
class Look:
    """What one look at a folder found, beside what its manifest said before."""

    manifest: Manifest
    changed: bool = False
    todo: list[str] = field(default_factory=list)  # names to read and render
    replaced: list[str] = field(default_factory=list)  # names with another image's thumbnail
    unsettled: bool = False  # something is still being written
    problems: list[Problem] = field(default_factory=list)

    def renew(self, old: Manifest) -> None:
        """The manifest is another than `old`, and is to be kept."""
        self.changed = True
        self.manifest.generated_at = _later_than(old.generated_at)


class Comparison:
    """Compares one folder's listing with the manifest it had, one `look`, used once."""

    def __init__(
        self,
        old: Manifest,
        listing: Listing,
        thumbnails: Mapping[str, Stat],
        edits: Mapping[str, Stat],
        facts: Mapping[str, Facts],
        find_sidecar: Callable[[str], Found],
        now_ns: int,
        retry: bool = False,
        meta_revs: Mapping[str, str] | None = None,
    ) -> None:
        """`thumbnails` and `edits` are files by name: kept thumbnails, and sidecars elsewhere.

        With `retry`, images that could not be decoded are tried again. `meta_revs` tells the revs
        of the sidecars where the listing does not.
        """
        if meta_revs is None:
            meta_revs = _revs_of_sidecars(listing.files, edits)
        self._meta_revs = meta_revs
        self._folder = old.path
        self._old = old
        self._before = {item["name"]: item for item in old.items}
        self._listing = listing
        self._thumbnails = thumbnails
        self._edits = edits
        self._retry = retry
        self._facts = facts
        self._find_sidecar = find_sidecar
        self._now_ns = now_ns
        self._look = Look(Manifest(old.path, generated_at=old.generated_at))

    def look(self, dirs: list[Dir], served: Served) -> Look:
        """The manifest as it should be, what is left to read, and what is wrong."""
        look, manifest = self._look, self._look.manifest
        for name in self._names(served):
            manifest.items.append(self._item(name, self._listing.files[name]))
        manifest.dirs = dirs
        look.changed = manifest.items != self._old.items or dirs != self._old.dirs
        if look.changed or not self._old.generated_at:
            look.renew(self._old)
        self._orphans()
        for name in self._listing.unusable:
            shown = self._folder.child(name)
            self._problem("unusableNames", shown, "the name cannot be part of a path")
        return look

    def _names(self, served: Served) -> list[str]:
        names = served(self._folder, filter(paths.is_item, self._listing.files))
        if names == self._before.keys():
            return list(self._before)
        return sorted(names, key=paths.natural_key)

    def _item(self, name: str, stat: Stat) -> Item:
        rev, before, facts = stat.rev, self._before.get(name), self._facts.get(name)
        if facts and facts.rev != rev:
            facts = None
        same = before if before and before["rev"] == rev else None
        thumbnail = self._thumbnails.get(name + THUMBNAIL)
        bound = thumbnail is not None and thumbnail.size > 0
        if thumbnail and thumbnail.etag and not thumbnail.source:  # a listing does not tell of what
            bound &= bool(facts and not facts.error) or bool(same and same["hasThumb"])
        elif thumbnail:
            bound &= thumbnail.is_made_from(stat)
            if bound and before and not same and not facts:
                self._look.replaced.append(name)
                bound = False
        meta_rev = self._meta_revs.get(name, "")
        kept = same and same["hasThumb"] == bound and _meta_is_known(same, meta_rev)
        if same and kept and not facts:
            item = same
        else:
            item = self._fresh(name, stat, same, facts, bound)
            item.update(self._meta(name, before, meta_rev))
        self._judge(item, stat)
        return item

    def _fresh(
        self, name: str, stat: Stat, same: Item | None, facts: Facts | None, bound: bool
    ) -> Item:
        known = same or {}
        width, height = known.get("w", 0), known.get("h", 0)
        digest, created, error = known.get("hash"), known.get("createdAt"), known.get("error")
        if facts:
            width, height, digest = facts.width, facts.height, facts.hash
            created, error = facts.created_at, facts.error
        item: Item = {
            "path": self._folder.child(name),
            "name": name,
            "type": paths.media_type(name),
            "w": width,
            "h": height,
            "size": stat.size,
            "hasThumb": bound and not error,
            "hasMeta": False,
        }
        optional = {"hash": digest, "createdAt": created, "rev": stat.rev, "error": error}
        if stat.etag:
            optional["modifiedAt"] = times.of_ns(stat.mtime_ns)
        item.update((key, value) for key, value in optional.items() if value is not None)
        return item

    def _meta(self, name: str, before: Item | None, meta_rev: str) -> Item:
        """An item's keys that tell of its sidecar, which is opened only when it has changed."""
        if before and _meta_is_known(before, meta_rev):
            return {key: before[key] for key in _META_KEYS if key in before}
        if not meta_rev:
            return {}
        try:
            found = self._find_sidecar(name)
        except LensletError as error:
            found = Found(unreadable=one_line(error))
        document = found.sidecar.document if found.sidecar else {}
        meta: Item = {"hasMeta": found.sidecar is not None, "metaRev": meta_rev}
        meta.update({key: document[key] for key in ("tags", "notes") if document.get(key)})
        if found.foreign:
            meta["foreign"] = True
        if found.unreadable:
            meta["metaError"] = found.unreadable
        return meta

    def _judge(self, item: Item, stat: Stat) -> None:
        """Note what is left to do for an item, and what is wrong with it."""
        error = item.get("error")
        if error:
            kind = "quarantined" if error.startswith(QUARANTINED) else "unreadableImages"
            self._problem(kind, item["path"], error)
        tried = error and not (self._retry and item["name"] not in self._facts)
        if not tried and (not item["hasThumb"] or "hash" not in item):
            if stat.settled(self._now_ns):
                self._look.todo.append(item["name"])
            else:
                self._look.unsettled = True
        if item.get("foreign"):
            self._problem("foreignJson", item["path"] + SIDECARS[1], "JSON of another program")
        if item.get("metaError"):
            self._problem("unreadableSidecars", item["path"], item["metaError"])

    def _orphans(self) -> None:
        files = self._listing.files
        for name in {*_ending(files, THUMBNAIL), *self._thumbnails}:
            image = name.removesuffix(THUMBNAIL)
            if image not in files and paths.is_item(image):
                self._problem("orphanThumbnails", self._folder.child(name), "its image is gone")
        for name in {*_ending(files, *SIDECARS), *_ending(self._edits, *SIDECARS)}:
            for image in map(name.removesuffix, SIDECARS):
                if image not in files and paths.is_item(image):
                    self._orphan_sidecar(name, image)
                    break

    def _orphan_sidecar(self, name: str, image: str) -> None:
        found = self._find_sidecar(image)
        if found.sidecar or found.unreadable:
            self._problem("orphanSidecars", self._folder.child(name), "its image is gone")

    def _problem(self, kind: str, path: str, reason: str) -> None:
        self._look.problems.append(Problem(kind, path, reason))


def _ending(names: Iterable[str], *suffixes: str) -> list[str]:
    return [name for name in names if name.endswith(suffixes)]


def _revs_of_sidecars(*places: Mapping[str, Stat]) -> dict[str, str]:
    """What stands beside each image that has a sidecar, as the revs of those files."""
    revs: dict[str, list[str]] = {}
    for files in places:
        names = _ending(files, *SIDECARS)
        for suffix in SIDECARS:
            for name in _ending(names, suffix):
                revs.setdefault(name.removesuffix(suffix), []).append(files[name].rev)
    return {image: "+".join(each) for image, each in revs.items()}


def _meta_is_known(item: Item, meta_rev: str) -> bool:
    """Whether what an item says of its sidecar holds; one that could not be read is tried again."""
    return item.get("metaRev", "") == meta_rev and "metaError" not in item


_META_KEYS = ("hasMeta", "metaRev", "tags", "notes", "foreign", "metaError")


def _later_than(generation: str) -> str:
    """The present second, or the next after `generation`: no two generations share one."""
    now = times.now()
    if generation and times.parse(generation) < now + dt.timedelta(days=1):
        now = max(now, times.parse(generation) + dt.timedelta(seconds=1))
    return times.text(now)
