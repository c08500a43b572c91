"""Decides what the manifest of a folder should say: a pure function, which touches no file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from lenslet import paths, times
from lenslet.config import Settings
from lenslet.images import FACTS_VERSION, Facts, rendering
from lenslet.library import companions
from lenslet.library.about import About
from lenslet.library.companions import Companions
from lenslet.library.health import Problem
from lenslet.library.item import QUARANTINED, Item
from lenslet.library.manifest import Dir, Manifest, later_than
from lenslet.library.orphans import Orphan
from lenslet.paths import SIDECARS, Path, file_beside
from lenslet.storage.tree import Stat

_META_KEYS = ("hasMeta", "metaRev", "tags", "notes", "foreign", "metaError", "metaOther")
_LIMITS = ("MAX_PIXELS", "INDEX_MEMORY", "MAX_FILE_BYTES", "DECODE_SECONDS")
_SECOND = 1_000_000_000
_READ_COUNTS = 4  # times: the text of an image that was just read, for when a rollup is due


class Rules(NamedTuple):
    """How images are read with the settings of today: how thumbnails are made, and the limits."""

    rendering: str
    limits: Mapping[str, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        how = rendering(long_edge=settings.thumb_long_edge, quality=settings.thumb_quality)
        return cls(how, {name: float(getattr(settings, name.lower())) for name in _LIMITS})

    def are_newer(self, item: Item) -> bool:
        """True if an item's image should be read again, although it has not changed.

        Its facts are of an older version, the limit that refused it is higher now, or thumbnails
        are made in another way. An item of a newer version is left alone.
        """
        version, limit = item.get("facts", 1), item.get("limit")
        if version != FACTS_VERSION:
            return bool(version < FACTS_VERSION)
        if limit:
            return self._is_raised(str(limit))
        return item["hasThumb"] and self.render(item)

    def _is_raised(self, limit: str) -> bool:
        name, _, value = limit.partition("=")
        try:
            return self.limits[name] > float(value)
        except (KeyError, ValueError):  # somebody has changed the manifest
            return True

    def render(self, item: Item) -> bool:
        """True if an item has no thumbnail, or one that is known to be made in another way."""
        made = item.get("thumb", "").partition("-")[2] or self.rendering
        return not item["hasThumb"] or made != self.rendering


@dataclass(slots=True)
class Snapshot:
    """What a folder holds at one moment.

    `images` by name; `thumbnails`, the revs of what may be `sidecars`, and `companions`, by the
    names of their images; `dirs` are the subfolders that are shown; `unsupported` counts the files
    that are not, by suffix; `about` is what people say of the folder.
    """

    images: Mapping[str, Stat]
    now_ns: int
    thumbnails: Mapping[str, Stat] = field(default_factory=dict)
    sidecars: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, Mapping[str, Stat]] = field(default_factory=dict)
    dirs: list[Dir] = field(default_factory=list)
    unsupported: dict[str, int] = field(default_factory=dict)
    about: About = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a folder needs.

    The manifest as it is (`stored`) and as it should be, and whether that differs (`changed`); the
    images to read, each with whether it needs a thumbnail (`todo`); those to read again when there
    is time, likewise (`stale`); those whose thumbnail was made from an earlier file of the same
    name (`replaced`); what is wrong. `children` are the subfolders, each as the manifest shows it,
    None if it does not. `orphans` are sidecars whose photo is not beside them. `text` counts the
    bytes of the items that are not as they were.
    """

    stored: Manifest
    manifest: Manifest
    changed: bool = False
    companions: dict[str, Companions] = field(default_factory=dict)
    todo: dict[str, bool] = field(default_factory=dict)
    stale: dict[str, bool] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    children: Mapping[str, Dir | None] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()
    text: int = 0

    @property
    def pending(self) -> set[str]:
        """The images that must be read."""
        return self.todo.keys() | self.stale.keys()


def knows_sidecar(item: Item | None, rev: str) -> bool:
    """True if an item describes its sidecar. One that could not be read is read again.

    Sidecars with another hash are read again too: their photo may be found elsewhere.
    """
    if item is None or "metaError" in item or "metaOther" in item:
        return False
    return bool(item.get("metaRev", "") == rev)


def unchanged(was: Item | None, stat: Stat) -> Item | None:
    """Returns the item of an image that has not changed since; None if it has, or is new."""
    return was if was and (was["rev"], was["size"]) == (stat.rev, stat.size) else None


def compare(
    old: Manifest,
    snapshot: Snapshot,
    facts: Mapping[str, Facts],
    metas: Mapping[str, Item],
    rules: Rules,
    *,
    anew: bool = False,
) -> Plan:
    """Decides what the manifest of a folder should be, and what is left to do.

    `facts` are what reading showed, by image name; `metas` the keys that describe sidecars that
    were read; `rules` say which images are read again. `anew` tries images again that could not
    be decoded, and has the manifest written anew.
    """
    before = {item["name"]: item for item in old.items}
    plan = Plan(old, Manifest(old.path, dirs=snapshot.dirs, unsupported=snapshot.unsupported))
    plan.manifest.about = snapshot.about
    items = plan.manifest.items
    in_order = snapshot.images.keys() == before.keys() and not anew
    for name in before if in_order else sorted(snapshot.images, key=paths.natural_key):
        stat, was, read = snapshot.images[name], before.get(name), facts.get(name)
        if read and read.rev != stat.rev:
            read = None
        same = unchanged(was, stat)
        bound = _is_bound(snapshot.thumbnails.get(name), stat, same, read)
        if bound and old.generated_at and not same and not read:
            plan.replaced.append(name)  # it has the image's time, but was made from an earlier file
            bound = False
        rev = snapshot.sidecars.get(name, "")
        is_same = same and not read and same["hasThumb"] == bound and name not in metas
        if same and is_same and knows_sidecar(same, rev):
            item = same
        else:
            item = _item(old.path, name, stat, same, read, bound)
            # Since its inode was changed last, or the object written.
            came = times.of_ns(stat.ctime_ns or stat.mtime_ns)
            item["addedAt"] = (was or {}).get("addedAt") or came
            item.update(_meta_keys(was, rev, metas.get(name)))
            if item != same:
                plan.text += len(orjson.dumps(item)) * (_READ_COUNTS if read else 1)
        items.append(item)
        _judge(plan, item, _companions(item, snapshot), rules, anew=anew and name not in facts)
    new = plan.manifest
    content, old_content = (
        (each.items, each.dirs, each.unsupported, each.about) for each in (new, old)
    )
    plan.changed = anew or not old.generated_at or content != old_content
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
    """An item as it is now, without the keys from JSON files beside its image."""
    known = known_facts(same or {}, read)
    item: Item = {
        "path": folder.child(name),
        "name": name,
        "type": paths.format_of(name).media_type,
        "w": known.get("w", 0),
        "h": known.get("h", 0),
        "size": stat.size,
        "hasThumb": bound and not known.get("error"),
        "hasMeta": False,
    }
    # Keys of a newer version stay. Those from JSON files are added by the caller.
    absent = {*item, *_META_KEYS, *(() if item["hasThumb"] else ("thumb",))}
    item.update((k, v) for k, v in known.items() if k not in absent and v is not None)
    item["rev"] = stat.rev
    if stat.etag:
        item["modifiedAt"] = times.of_ns(stat.mtime_ns)
    return item


def known_facts(same: Item, read: Facts | None) -> Item:
    """The keys of an item that come from its image, as just read or as they were.

    An image that was read before stays as it was if a limit, lower now, refuses it.
    """
    if not read:
        return same
    is_known = same.get("hash", "") == read.hash and "limit" not in same
    if read.companions is None and is_known:  # it was only drawn anew
        return {**same, "thumb": read.thumb}
    more = {"facts": FACTS_VERSION, "limit": read.limit, "companions": read.companions or None}
    if read.limit and "hash" in same and "error" not in same:
        return {**same, **more}
    return {**read.keys, **more, "thumb": read.thumb}


def _meta_keys(was: Item | None, rev: str, read: Item | None) -> Item:
    """The keys from JSON files: as just read or, if it is unchanged, of the old item."""
    if read is not None:
        return {"metaRev": rev, **read}
    if was and rev and knows_sidecar(was, rev):
        return {key: was[key] for key in _META_KEYS if key in was}
    return {}


def _companions(item: Item, snapshot: Snapshot) -> Companions:
    """The files that are read with an image; `a.jpg.json` is one of them if it is no sidecar."""
    name, stats = item["name"], snapshot.companions.get(item["name"], {})
    return companions.of(stats, (e for e in stats if e != f"{name}.json" or item.get("foreign")))


def _judge(plan: Plan, item: Item, beside: Companions, rules: Rules, *, anew: bool) -> None:
    """Adds to a plan what is left to do for an item, and what is wrong with it."""
    if error := item.get("error"):
        kind = "quarantined" if error.startswith(QUARANTINED) else "unreadableImages"
        plan.problems.append(Problem(kind, item["path"], error))
    is_whole = item["hasThumb"] and "hash" in item
    is_new = anew if error else not is_whole or item.get("companions", "") != beside.rev
    if is_new or rules.are_newer(item):
        plan.companions[item["name"]] = beside
        (plan.todo if is_new else plan.stale)[item["name"]] = rules.render(item)
    if "metaRev" in item:
        if item.get("foreign"):
            path = file_beside(item["path"], SIDECARS[1])
            plan.problems.append(Problem("foreignJson", path, "JSON of another program"))
        if item.get("metaError"):
            plan.problems.append(Problem("unreadableSidecars", item["path"], item["metaError"]))


def sidecars_of(images: Iterable[str], *layers: Mapping[str, Stat]) -> dict[str, str]:
    """Returns for each of the images the revs of the files that may be its sidecar, if any are.

    A `+` follows that of the preferred file.
    """
    found = {}
    for image in images:
        files = [(file_beside(image, end), "+" * (end == SIDECARS[0])) for end in SIDECARS]
        revs = [layer[file].rev + plus for file, plus in files for layer in layers if file in layer]
        if revs:
            found[image] = "".join(revs)
    return found
