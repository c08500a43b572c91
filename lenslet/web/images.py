"""The image that a request is about: its file, its item in the manifest, and its sidecar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lenslet.errors import Denied, StorageUnavailable
from lenslet.images import SCREEN, preview
from lenslet.images.decoders import Slow, Stopped, descriptor
from lenslet.library import Library, manifest, orphans, sidecar
from lenslet.library.item import Item, stat_of
from lenslet.library.location import Location
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
        self._library = library
        self._tree = library.tree
        self._locator = library.locator
        self._folder_jobs = folder_jobs

    def find(self, path: Path, *, fresh: bool = False) -> Image:
        """Returns an image as its file is now; `NotFound` if there is none.

        In a bucket, unless it must be `fresh`, as its item in the manifest says, which may be out
        of date: no request.
        """
        return self._find(path, self._locator.item(path), fresh=fresh)

    def find_to_edit(self, path: Path) -> Image:
        """Returns an image as clients see it: an edit is for that version, also in a bucket.

        Its pointer is read again, which may have become readonly.
        """
        location = self._locator.item(path)
        if location.chain:
            location = self._locator.item(path, fresh=True)
        return self._find(path, location)

    def _find(self, path: Path, location: Location, *, fresh: bool = False) -> Image:
        tree, file = location.tree, location.file(path.name)
        if tree.has_stamps or fresh:
            return Image(path, location, tree.stat(file))
        item = manifest.find(self._tree, path)
        return Image(path, location, stat_of(item) if item else tree.stat(file), item)

    def item(self, image: Image) -> Item | None:
        """Returns an image's item in the manifest, if the image has not changed since."""
        item = image.item or manifest.find(self._tree, image.path)
        return item if item and item["rev"] == image.stat.rev else None

    def sidecars(self, image: Image, item: Item | None) -> sidecar.Found:
        """Reads the JSON files beside an image. `item` is what the manifest says of the image."""
        tree, revs = image.location.tree, _revs(image, item)
        copies = tree.copies(sidecar.files_of(image.file, revs))
        if copies and image.item and tree.stat(image.file).rev != image.stat.rev:
            item = None  # the manifest is out of date: there is another photo
        photo = Photo.of(self._facts(image, item)) if copies else sidecar.UNREAD
        found = sidecar.examine(image.file, copies, photo)
        if found.foreign and "+" not in revs:  # see `sidecar.find`
            return sidecar.find(tree, image.file, photo)
        return found

    def edit(self, image: Image, item: Item | None, change: sidecar.Edit) -> Sidecar | None:
        """Edits an image's sidecar, see `sidecar.edit`, and enqueues its folder.

        The sidecar names the photo that it belongs to.
        """
        facts = self._facts(image, item)

        def change_and_name(stored: Sidecar | None) -> Document | None:
            document = change(stored)
            if document is None or "hash" not in facts:
                return document
            return sidecar.with_facts(document, sidecar.facts_of(facts))

        with self.editing(image.location) as tree:
            revs = _revs(image, item)
            return sidecar.edit(tree, image.file, change_and_name, Photo.of(facts), revs)

    def remove_sidecar(self, image: Image, check: Callable[[Sidecar | None], None]) -> None:
        """Removes an image's sidecar, see `sidecar.remove`, and enqueues its folder."""
        photo = Photo.of(self._facts(image, self.item(image)))
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

    def _facts(self, image: Image, item: Item | None) -> Item:
        """Returns the keys of an image's item that say which photo it is now, as a sidecar does.

        If the item is out of date, the file is read: no edit may be written to the sidecar of
        another photo. Only `hash` is there if more takes long.
        """
        tree = image.location.tree
        if item and item.keys() & {"hash", "error"}:
            return item
        if image.stat.size > self._library.settings.max_file_bytes:
            return {}
        file, stat = tree.open(image.file)
        try:
            with file, descriptor(file) as number:
                how = {"max_pixels": self._library.settings.max_pixels, "thumbnail": False}
                read, _ = self._library.decoders.read(number, slow=False, **how, **preview(SCREEN))
        except (Slow, Stopped, StorageUnavailable):
            return {"hash": orphans.hash_of(tree, image.file)}
        tree.check_same(image.file, stat)
        return read.keys


def _revs(image: Image, item: Item | None) -> str:
    """Returns the revs of an image's sidecars, as a bucket's manifest knows them: no request."""
    is_known = item and "foreign" not in item and not image.location.tree.has_stamps
    return str(item.get("metaRev", "")) if item and is_known else "+"
