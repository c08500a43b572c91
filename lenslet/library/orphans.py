"""Sidecars whose photo is not beside them: finds them in a folder, and moves them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from lenslet import images, paths, times
from lenslet.errors import Conflict, Denied, NotFound, StorageUnavailable
from lenslet.library import sidecar
from lenslet.library.location import Location
from lenslet.library.manifest import is_page
from lenslet.library.sidecar import Photo, Sidecar
from lenslet.paths import MANIFEST, SIDECARS, THUMBNAIL, Path
from lenslet.storage.tree import Copy, Listing, Tree

GONE = "its image is gone"
OTHER = "it belongs to another photo than the one beside it"
CHANGED = "the photo has changed since they were written"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A sidecar whose photo is not beside it.

    `path` is its path for clients, `file` that in `tree`. `hash` is that of its photo, empty if it
    does not say; `updated` is when it was edited. One that is `CHANGED` is shown for the image
    beside it, which has another hash.
    """

    path: Path
    tree: Tree = field(compare=False, repr=False)
    file: Path
    hash: str = ""
    updated: str = ""
    reason: str = GONE
    editable: bool = True

    @property
    def kind(self) -> str:
        """Which kind of problem it is."""
        return "changedPhotos" if self.reason == CHANGED else "orphanSidecars"


def of(location: Location, each: Sidecar, reason: str = GONE) -> Orphan:
    """Returns the orphan that a sidecar in a folder is."""
    return Orphan(
        location.path.child(each.path.name),
        location.tree,
        each.path,
        each.hash,
        times.text(each.updated),
        reason,
        each.editable and not location.readonly,
    )


def without_image(location: Location, listing: Listing) -> Iterator[Orphan]:
    """Yields the sidecars in a folder that have no image."""
    files = listing.files.keys() | listing.covered.keys()
    for name in sorted(paths.without_image(files, SIDECARS, listing.files)):
        found = sidecar.find(location.tree, location.file(name), sidecar.UNREAD)
        yield from (of(location, each) for each in found.all)
        if found.unreadable:
            for file in (name + end for end in SIDECARS if name + end in files):
                yield Orphan(location.path.child(file), location.tree, location.file(file))


def clear(tree: Tree, folder: Path) -> None:
    """Removes the derived files of a folder that is gone from `STATE_DIR`."""
    if own := tree.own:
        with contextlib.suppress(NotFound):
            listing = own.listing(folder)
            for name in listing.files:
                if name.endswith(THUMBNAIL) or name == MANIFEST or is_page(name):
                    with contextlib.suppress(NotFound, Denied):
                        own.delete(folder.child(name))
            own.sweep(folder, listing.leftovers)
            own.remove_folder(folder)


# Moving


def move(orphan: Orphan, location: Location, name: str) -> Path:
    """Moves a sidecar after its photo, to the image `name`; returns where it is now.

    Reads the image to be certain that it is the photo. Killed at any moment, this leaves one
    sidecar or two that are equal, never none. `Conflict` if the sidecar or the image is another
    now, or if the image has another sidecar; other errors if something cannot be read or written.
    """
    item, tree = location.file(name), location.tree
    raw = _read(orphan)
    found = sidecar.find(tree, item, Photo(orphan.hash))
    own = found.sidecar if found.sidecar and found.sidecar.hash in ("", orphan.hash) else None
    if own and (own.raw != raw or orphan.reason == CHANGED):
        raise Conflict(f"its photo is {location.path.child(name)}, which has a sidecar of its own")
    if hash_of(tree, item) != orphan.hash:
        raise Conflict(f"{location.path.child(name)} has changed.")
    if own:  # a move that was interrupted has copied it, and not removed the original
        if tree.where(own.path) == orphan.tree.where(orphan.file):
            raise Conflict("it is beside its photo")
        _remove(orphan, raw)
        return own.path
    target = found.free(item)

    def create(copies: list[Copy]) -> tuple[Path, bytes]:
        if copies:
            raise Conflict(f"{target} exists now.")
        return target, raw

    tree.update([target], create)
    _remove(orphan, raw)
    return target


def _read(orphan: Orphan) -> bytes:
    """Reads a sidecar; `Conflict` if it is not the one of its photo any more."""
    raw = next((each.data for each in orphan.tree.copies([orphan.file]) if each.data), b"")
    with contextlib.suppress(ValueError):
        if (sidecar.parse(raw) or {}).get("hash") == orphan.hash:
            return raw
    raise Conflict(f"{orphan.path} has changed.")


def _remove(orphan: Orphan, raw: bytes) -> None:
    def remove(copies: list[Copy]) -> tuple[Path, None] | None:
        same = any(each.data == raw and each.editable for each in copies)
        return (orphan.file, None) if same else None

    orphan.tree.update([orphan.file], remove)


def hash_of(tree: Tree, path: Path) -> str:
    """Returns the hash of a file as it is now; `Overtaken` if it changes meanwhile."""
    file, stat = tree.open(path)
    try:
        with file:
            found = images.hash_of(file)
    except OSError as error:
        raise StorageUnavailable(f"{path}: {error.strerror}.") from error
    tree.check_same(path, stat)
    return found
