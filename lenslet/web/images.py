"""The image that a request is about: its file, its item in the manifest, and its sidecar."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lenslet.errors import Denied
from lenslet.library import Library, manifest, orphans, sidecar
from lenslet.library.location import Location
from lenslet.library.manifest import Item
from lenslet.library.sidecar import Document, Photo, Sidecar
from lenslet.paths import Path
from lenslet.storage.tree import Stat, Tree
from lenslet.web.jobs import FolderJobs


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a request is about: where it is, its file, and its item in the manifest.

    The item is looked for only if the image is in a bucket.
    """

    path: Path
    location: Location
    stat: Stat
    item: Item | None = None

    @property
    def file(self) -> Path:
        """Where the image is in `location.tree`."""
        return self.location.file(self.path.name)


class Images:
    """Finds images, and edits their sidecars."""

    def __init__(self, library: Library, folder_jobs: FolderJobs) -> None:
        self._tree = library.tree
        self._locator = library.locator
        self._max_file_bytes = library.settings.max_file_bytes
        self._folder_jobs = folder_jobs

    def find(self, path: Path, *, fresh: bool = False) -> Image:
        """Returns an image as its file is now; `NotFound` if there is none.

        In a bucket, unless it must be `fresh`, as its item in the manifest says, which may be out
        of date: no request.
        """
        location = self._locator.item(path)
        if location.chain and fresh:  # the pointer may have become readonly
            location = self._locator.item(path, fresh=True)
        tree, file = location.tree, location.file(path.name)
        if tree.has_stamps or fresh:
            return Image(path, location, tree.stat(file))
        item = manifest.find(self._tree, path)
        return Image(path, location, manifest.stat_of(item) if item else tree.stat(file), item)

    def item(self, image: Image) -> Item | None:
        """Returns an image's item in the manifest, if the image has not changed since."""
        item = image.item or manifest.find(self._tree, image.path)
        return item if item and item["rev"] == image.stat.rev else None

    def sidecars(self, image: Image, item: Item | None) -> sidecar.Found:
        """Reads the JSON files beside an image. `item` is what the manifest says of the image."""
        return sidecar.find(image.location.tree, image.file, self._photo(image, item))

    def edit(self, image: Image, item: Item | None, change: sidecar.Edit) -> Sidecar | None:
        """Edits an image's sidecar, see `sidecar.edit`, and enqueues its folder.

        The sidecar names the photo that it belongs to. `item` is what is known of the image: what
        is read after an edit has been stored may fail, and must not make a refusal of it.
        """
        photo = self._photo(image, item)

        def change_and_name(stored: Sidecar | None) -> Document | None:
            document = change(stored)
            if document is None:
                return None
            if item and "hash" in item:
                return sidecar.with_facts(document, sidecar.facts_of(item))
            return {**document, "hash": photo().hash} if photo().hash else document

        with self.editing(image.location) as tree:
            return sidecar.edit(tree, image.file, change_and_name, photo)

    def remove_sidecar(self, image: Image, check: Callable[[Sidecar | None], None]) -> None:
        """Removes an image's sidecar, see `sidecar.remove`, and enqueues its folder."""
        photo = self._photo(image, self.item(image))
        with self.editing(image.location) as tree:
            sidecar.remove(tree, image.file, check, photo)

    @contextmanager
    def editing(self, location: Location) -> Iterator[Tree]:
        """Yields the tree in which a folder is edited, and enqueues the folder afterwards."""
        if location.readonly:
            raise Denied(f"{location.path} points to images that are marked readonly.")
        yield location.tree
        self._folder_jobs.enqueue(location.path)
        if location.chain and location.tree is self._tree:
            self._folder_jobs.enqueue(location.folder)

    def _photo(self, image: Image, item: Item | None) -> Callable[[], Photo]:
        """Returns a function that says which photo an image is, `item` being what is known of it.

        It reads an image that was not read since it changed, for its hash: this is rare, and no
        edit may be written to another photo's sidecar.
        """

        @functools.cache
        def photo() -> Photo:
            known = item or {}
            if image.item and image.location.tree.stat(image.file).rev != image.stat.rev:
                known = {}  # in a bucket the manifest may be out of date
            found = Photo.of(known)
            if found.hash or not found.is_readable or image.stat.size > self._max_file_bytes:
                return found
            return replace(found, hash=orphans.hash_of(image.location.tree, image.file))

        return photo
