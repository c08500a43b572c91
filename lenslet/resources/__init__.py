"""One class per endpoint: each parses a request, calls the library and shapes the answer."""

from lenslet.resources.file import File
from lenslet.resources.folders import Folders, Reindex
from lenslet.resources.health import Health, Index, Live
from lenslet.resources.item import Item
from lenslet.resources.search import RebuildIndex, Search, Suggest
from lenslet.resources.thumb import Thumb

__all__ = [
    "File",
    "Folders",
    "Health",
    "Index",
    "Item",
    "Live",
    "RebuildIndex",
    "Reindex",
    "Search",
    "Suggest",
    "Thumb",
]
