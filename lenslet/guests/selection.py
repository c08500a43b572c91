"""The photos that a link lists, and whether a query finds a photo as its manifest has it now."""

from collections.abc import Iterator, Mapping

from lenslet.library import manifest
from lenslet.library.item import Item
from lenslet.paths import Path, folder_key, natural_key
from lenslet.search.format import Months, encode_item, entry, folded_line
from lenslet.search.query import Hit, Hits, Page, Term, page_of, parse
from lenslet.storage.tree import Tree
from lenslet.times import LONG_AGO


def matches(item: Item, terms: list[Term]) -> bool:
    """True if all terms match an item."""
    line = _line(item)
    return all(term.matches(line) for term in terms)


def _line(item: Item, number: int = 0) -> bytes:
    return folded_line(entry(item), number).rstrip(b"\n")


class Selection:
    """Some photos, by path and hash, searched as the whole library is.

    One that has another hash by now is not among them.
    """

    def __init__(self, tree: Tree, photos: Mapping[str, str]) -> None:
        self._tree = tree
        self._photos = photos

    def item(self, path: Path) -> Item | None:
        """Returns the item of a photo in its manifest; None if it is not one of these."""
        wanted, item = self._photos.get(path), manifest.find(self._tree, path)
        return item if item and wanted and item.get("hash") == wanted else None

    def find(self, query: str, below: Path | None, page: Page) -> Hits:
        """See `Search.find`."""
        found, total, more = page_of(self._hits(query, below or Path("")), page)
        return Hits([text for _, _, text in found], total, more, LONG_AGO)

    def timeline(self, query: str, below: Path) -> Months:
        """See `Search.timeline`."""
        found = Months()
        found.add_lines(b"\n".join(line for _, line, _ in self._hits(query, below)))
        return found

    def _hits(self, query: str, below: Path) -> Iterator[Hit]:
        """Yields what matches below a folder, in the order of folders and names."""
        terms, paths = parse(query), map(Path, self._photos)
        in_order = sorted(paths, key=lambda path: (folder_key(path.parent), natural_key(path.name)))
        for number, path in enumerate(filter(below.holds, in_order)):
            if (item := self.item(path)) and matches(item, terms):
                yield number, _line(item, number), encode_item(item)
