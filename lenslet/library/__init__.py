"""The files beside the images: where they are, how they are read, checked and written.

`location` follows pointer folders, `manifest` is a folder's list of images, `sidecar` the user's
tags and notes, `health` the report on the whole library, `previews` this host's cache of previews.
A `Library` is what every process opens.
"""

from dataclasses import dataclass

from lenslet.config import Settings
from lenslet.library.location import Locator
from lenslet.library.previews import Previews
from lenslet.storage import cache_folder, open_tree
from lenslet.storage.client import Client
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Tree


@dataclass(frozen=True, slots=True)
class Library:
    """A library as a process uses it: its tree, and this host's folded copies and previews."""

    settings: Settings
    client: Client
    tree: Tree
    locator: Locator
    cache: Tree
    previews: Previews


def open_library(
    settings: Settings, *, patient: bool = False, fresh_seconds: float = 0.0
) -> Library:
    """Opens the library that the settings name.

    `patient` is for the index process, whose requests may wait; `fresh_seconds` is for request
    processes, which cache manifests.
    """
    client = Client(settings, patient=patient)
    tree = open_tree(settings, client, fresh_seconds=fresh_seconds)
    cache = LocalTree(cache_folder(settings, "search"), private=True)
    folder = LocalTree(cache_folder(settings, "previews"), private=True)
    previews = Previews(folder, settings.preview_bytes)
    return Library(settings, client, tree, Locator(tree, settings, client), cache, previews)
