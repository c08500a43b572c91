"""Reads the sidecars beside the images of a folder, when that is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lenslet.errors import LensletError, one_line
from lenslet.images import Facts
from lenslet.index.compare import Snapshot, known_facts, knows_sidecar, unchanged
from lenslet.library import orphans, sidecar
from lenslet.library.item import Item
from lenslet.library.location import Location
from lenslet.library.manifest import Manifest
from lenslet.library.orphans import Orphan
from lenslet.library.sidecar import Found, Photo


class Beside(NamedTuple):
    """What the JSON files beside an image say.

    `keys` are those of its item. `apart` are sidecars that name another hash than the image has.
    """

    keys: Item
    apart: list[Orphan]


def read(
    location: Location,
    old: Manifest,
    snapshot: Snapshot,
    facts: Mapping[str, Facts],
) -> dict[str, Beside]:
    """Reads the sidecars that may be others than the manifest describes, or name another hash."""
    before = {item["name"]: item for item in old.items}
    found = {}
    for name, rev in snapshot.sidecars.items():
        was, read = before.get(name), facts.get(name)
        same = unchanged(was, snapshot.images[name])
        if read or not knows_sidecar(same, rev):
            read = read if read and read.rev == snapshot.images[name].rev else None
            found[name] = _read(location, name, rev, known_facts(same or {}, read))
    return found


def _read(location: Location, name: str, revs: str, known: Item) -> Beside:
    """Reads the JSON files with these revs beside an image; `known` is what its item says of it."""
    known = {key: value for key, value in known.items() if value is not None}
    photo = Photo.of(known)
    try:
        found = sidecar.find(location.tree, location.file(name), photo, revs)
    except LensletError as error:
        found = Found(unreadable=one_line(error))
    apart = []
    for each in found.all:
        if photo.hash and each.hash not in ("", photo.hash):
            reason = orphans.OTHER if each in found.strays else orphans.CHANGED
            apart.append(orphans.of(location, each, reason))
    keys = _keys(found)
    if apart:
        keys["metaOther"] = True
    return Beside(keys, apart)


def _keys(found: Found) -> Item:
    """The keys of an item that describe what was found beside its image."""
    own = found.sidecar
    document = own.document if own else {}
    keys: Item = {"hasMeta": own is not None}
    keys.update({key: document[key] for key in ("tags", "notes") if document.get(key)})
    if found.foreign:
        keys["foreign"] = True
    if found.unreadable:
        keys["metaError"] = found.unreadable
    return keys
