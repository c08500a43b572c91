"""The files beside the images: where they are, how they are read, checked and written.

`location` follows pointer folders, `manifest` is a folder's list of images, `sidecar` the user's
tags and notes, `health` the report on the whole library, `previews` this host's cache of previews.
A `Library` is what every process opens.
"""

import os
from dataclasses import dataclass

from lenslet.config import Settings
from lenslet.errors import Denied, StorageFull, StorageUnavailable
from lenslet.images.decoders import Decoders
from lenslet.library.location import Locator
from lenslet.library.previews import Previews
from lenslet.paths import HEALTH, ROOT
from lenslet.storage import cache_folder, open_tree
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Buckets, Tree, Trust

_DETAILS_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class Library:
    """A library as a process uses it.

    That is its tree, this host's folded copies and previews, and the processes that read images.
    """

    settings: Settings
    tree: Tree
    locator: Locator
    cache: LocalTree
    previews: Previews
    decoders: Decoders
    buckets: Buckets | None = None

    def check_storage(self, error: Exception) -> None:
        """Raises why storage cannot be used at all right now, if that may be why `error` happened.

        Otherwise it is one folder or file that cannot be read or written.
        """
        self.tree.check()
        if isinstance(error, (Denied, StorageUnavailable)) and not self.tree.has_stamps:
            self.tree.names(ROOT, [HEALTH])  # one request
        if isinstance(error, StorageFull):
            raise error


def open_library(
    settings: Settings,
    buckets: Buckets | None = None,
    *,
    patient: bool = False,
    fresh_seconds: float = 0.0,
    trusts: Trust = lambda since: False,
) -> Library:
    """Opens the library that the settings name; `buckets` opens its buckets.

    `patient` is for the index process, whose requests may wait; `fresh_seconds` is for request
    processes, which cache manifests. `trusts` says whether nothing has changed in a bucket since
    it was read.
    """
    tree = open_tree(settings, buckets, fresh_seconds=fresh_seconds, trusts=trusts)
    cache = LocalTree(cache_folder(settings, "search"), private=True)
    folder = LocalTree(cache_folder(settings, "previews"), private=True)
    previews = Previews(folder, settings.preview_bytes)
    count, memory = min(settings.worker_threads, os.cpu_count() or 1), settings.index_memory
    if not patient:  # a request process only reads EXIF
        count, memory = 1, min(memory, _DETAILS_MEMORY)
    decoders = Decoders(max(count, 1), memory, settings.decode_seconds)
    locator = Locator(tree, settings, buckets)
    return Library(settings, tree, locator, cache, previews, decoders, buckets)
