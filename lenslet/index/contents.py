"""What is in a folder: its listings, after its pointers were followed."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from lenslet import paths
from lenslet.errors import NotFound
from lenslet.index.record import Stamp
from lenslet.library import Library
from lenslet.library.location import Location
from lenslet.paths import Path
from lenslet.storage.tree import Listing, Tree


class Contents(NamedTuple):
    """What is in a folder.

    `listing` is of the images' folder, `derived` of the folder where derived files are.
    """

    location: Location
    stamps: tuple[Stamp, ...]
    listing: Listing
    derived: Listing

    @property
    def gone(self) -> set[str]:
        """The subfolders that are gone from the library, but not from `STATE_DIR`."""
        return {*self.listing.gone, *self.derived.gone}.difference(self.listing.folders)


def list_contents(library: Library, path: Path) -> Contents:
    """Lists a folder.

    Raises `NotFound`, `Ignored`, `Denied`, `BrokenPointer`, `PointerLoop` and `StorageUnavailable`.
    """
    here = library.locator.beneath(path)
    listing, stamp = _list(here.tree, here.folder)
    marks = {*paths.FOLDER_FILES} & {*listing.files, *listing.folders, *listing.others}
    location = library.locator.enter(here, marks)
    derived, stamps = listing, [stamp]
    if here.tree is not library.tree or here.folder != path:
        derived, stamp = _list_derived(library.tree, path)
        stamps.append(stamp)
    if location.is_pointer:
        listing, stamp = _list(location.tree, location.folder)
        stamps.append(stamp)
    return Contents(location, tuple(stamps), listing, derived)


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
