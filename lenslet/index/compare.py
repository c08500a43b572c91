"""Compares a folder with its manifest, and decides what the manifest should say.

Pure: nothing here touches a file.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from lenslet import paths, times
from lenslet.library.health import Problem
from lenslet.library.manifest import QUARANTINED, Dir, Facts, Item, Manifest, later_than
from lenslet.paths import SIDECARS, Path
from lenslet.storage.tree import Stat

_META_KEYS = ("hasMeta", "metaRev", "tags", "notes", "foreign", "metaError")
_SECOND = 1_000_000_000


@dataclass(slots=True)
class Snapshot:
    """What a folder holds at one moment.

    `images` by name; `thumbnails` by the names of their images; `sidecars` are the revs of the
    files beside each image; `dirs` are the subfolders that are shown.
    """

    images: Mapping[str, Stat]
    now_ns: int
    thumbnails: Mapping[str, Stat] = field(default_factory=dict)
    sidecars: Mapping[str, str] = field(default_factory=dict)
    dirs: list[Dir] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What a comparison decides.

    The manifest as it should be, and whether that is `changed`; the images to read, each with
    whether it needs a thumbnail (`todo`); those whose thumbnail was made from an earlier file of
    the same name (`replaced`); whether one is still being written (`unsettled`); what is wrong.
    """

    manifest: Manifest
    changed: bool = False
    todo: dict[str, bool] = field(default_factory=dict)
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
    *,
    retry: bool = False,
) -> Plan:
    """Decides what the manifest of a folder should be, and what is left to do.

    `facts` are what reading showed, by image name; `metas` the keys that describe sidecars that
    were read. `retry` tries images again that could not be decoded.
    """
    before = {item["name"]: item for item in old.items}
    plan = Plan(Manifest(old.path, dirs=snapshot.dirs))
    items = plan.manifest.items
    in_order = snapshot.images.keys() == before.keys()
    for name in before if in_order else sorted(snapshot.images, key=paths.natural_key):
        stat, was, read = snapshot.images[name], before.get(name), facts.get(name)
        if read and read.rev != stat.rev:
            read = None
        same = was if was and was["rev"] == stat.rev else None
        bound = _is_bound(snapshot.thumbnails.get(name), stat, same, read)
        if bound and was and not same and not read:
            plan.replaced.append(name)  # the same time, but made from the replaced image
            bound = False
        rev = snapshot.sidecars.get(name, "")
        if same and not read and same["hasThumb"] == bound and _knows_meta(same, rev):
            item = same
        else:
            item = _item(old.path, name, stat, same, read, bound)
            item.update(_meta(was, rev, metas.get(name)))
        items.append(item)
        _judge(plan, item, snapshot, retry=retry and name not in facts)
    new = plan.manifest
    plan.changed = not old.generated_at or (new.items, new.dirs) != (old.items, old.dirs)
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
    known = same or {}
    width, height = known.get("w", 0), known.get("h", 0)
    digest, created, error = known.get("hash"), known.get("createdAt"), known.get("error")
    if read:
        width, height, digest = read.width, read.height, read.hash
        created, error = read.created_at, read.error
    item: Item = {
        "path": folder.child(name),
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


def _meta(was: Item | None, rev: str, read: Item | None) -> Item:
    """The keys that describe a sidecar: as just read or, if it is unchanged, of the old item."""
    if read is not None:
        return {**read, "metaRev": rev}
    if was and rev and _knows_meta(was, rev):
        return {key: was[key] for key in _META_KEYS if key in was}
    return {}


def _judge(plan: Plan, item: Item, snapshot: Snapshot, *, retry: bool) -> None:
    """Notes what is left to do for an item, and what is wrong with it."""
    error = item.get("error")
    if error:
        kind = "quarantined" if error.startswith(QUARANTINED) else "unreadableImages"
        plan.problems.append(Problem(kind, item["path"], error))
    if (not error or retry) and (not item["hasThumb"] or "hash" not in item):
        if snapshot.images[item["name"]].settled(snapshot.now_ns):
            plan.todo[item["name"]] = not item["hasThumb"]
        else:
            plan.unsettled = True
    if "metaRev" in item:
        if item.get("foreign"):
            path = item["path"] + SIDECARS[1]
            plan.problems.append(Problem("foreignJson", path, "JSON of another program"))
        if item.get("metaError"):
            problem = Problem("unreadableSidecars", item["path"], item["metaError"])
            plan.problems.append(problem)


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
