"""Sidecars whose image is gone: finds where the image went, and moves the sidecar after it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from lenslet.errors import Conflict, Denied
from lenslet.library import Library, manifest, sidecar
from lenslet.paths import SIDECARS, Path


class Match(NamedTuple):
    """An image that is gone, and the only one with its content, which has no sidecar."""

    old: Path
    new: Path


def matches(library: Library, sidecars: Iterable[Path], folders: Iterable[Path]) -> Iterator[Match]:
    """Yields where the images of orphan `sidecars` went, by the hash in the sidecar.

    `folders` are those in which they may be. An image with several candidates, or several sidecars
    with its hash, is left out.
    """
    orphans = defaultdict[Any, set[Path]](set)
    for each in sidecars:
        item = Path(each.removesuffix(next(filter(each.endswith, SIDECARS))))
        location = library.locator.folder(item.parent)
        found = sidecar.find(location.tree, location.file(item.name)).sidecar
        if found and found.document.get("hash"):
            orphans[str(found.document["hash"])].add(item)
    images = defaultdict[Any, dict[Any, manifest.Item]](dict)
    for folder in folders if orphans else ():
        for item_found in manifest.load(library.tree, folder).items:
            if item_found.get("hash") in orphans:
                location = library.locator.folder(folder)
                file = location.tree.name, location.file(item_found["name"])
                images[item_found["hash"]][file] = item_found  # once, also if pointers lead there
    for digest, items in images.items():
        if len(items) == len(orphans[digest]) == 1:
            (image,), (old,) = items.values(), orphans[digest]
            if not image["hasMeta"]:
                yield Match(old, Path(image["path"]))


def adopt(library: Library, match: Match) -> None:
    """Moves a sidecar. It is written beside the new image before the old file is removed.

    `Conflict` if there is another sidecar now, `Denied` where nothing may be written.
    """
    old, new = (library.locator.item(item, fresh=True) for item in match)
    for location in (old, new):
        if location.readonly:
            raise Denied(f"{location.path} points to images that are marked readonly.")
    found = sidecar.find(old.tree, old.file(match.old.name)).sidecar
    new.tree.stat(new.file(match.new.name))  # it must still be there

    def write(stored: sidecar.Sidecar | None) -> sidecar.Document | None:
        if not found or (stored and stored.document != found.document):
            raise Conflict(f"{match.new} has a sidecar now, or {match.old} has none.")
        return found.document

    def remove(stored: sidecar.Sidecar | None) -> None:
        if not (found and stored and stored.raw == found.raw):
            raise Conflict(f"The sidecar of {match.old} has changed, and stays.")

    sidecar.edit(new.tree, new.file(match.new.name), write)
    sidecar.edit(old.tree, old.file(match.old.name), remove)
