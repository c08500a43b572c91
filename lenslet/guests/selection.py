"""The photos of a link that shows no whole folder: what a query finds, or those that it lists.

Both are searched as the whole library is. A photo counts as its manifest has it, and only if it is
certain which photo that is and what its sidecar says: while it is unread, another photo's tags may
still be beside it.
"""

from collections.abc import Iterator, Mapping

import orjson

from lenslet.library import manifest
from lenslet.library.item import Item
from lenslet.paths import ROOT, Path, folder_key, natural_key
from lenslet.search.format import Months, encode_item, entry, folded_line, with_about
from lenslet.search.query import WORDLESS, Hit, Hits, Page, Search, Term, page_of, parse
from lenslet.storage.tree import Tree
from lenslet.times import LONG_AGO

_FEW = 1000  # photos: to look at each again takes 0.3 s
_UNCERTAIN = {"metaOther", "metaError"}  # keys of an item with a sidecar that may be another's


def is_certain(terms: list[Term]) -> bool:
    """True if terms can decide what is shown to guests: there are some, and none excludes words.

    A photo whose tags are not known yet would not have the excluded one.
    """
    excluded = (term.field for term in terms if term.excludes)
    return bool(terms) and WORDLESS.issuperset(excluded)


def _certain(tree: Tree, path: Path) -> Item | None:
    item = manifest.find(tree, path)
    return item if item and "hash" in item and not item.keys() & _UNCERTAIN else None


def _line(item: Item, number: int = 0) -> bytes:
    return folded_line(entry(item), number).rstrip(b"\n")


class Narrowed:
    """What some terms find, and no more."""

    def __init__(self, tree: Tree, search: Search, terms: list[Term]) -> None:
        self._tree = tree
        self._search = search
        self._terms = terms

    def item(self, path: Path) -> Item | None:
        """Returns the item of a photo in its manifest; None if it is not one of these."""
        if item := _certain(self._tree, path):
            about = manifest.about_of(self._tree, path.parent)
            line = next(map(_line, with_about([item], about)))
            return item if all(term.matches(line) for term in self._terms) else None
        return None

    def find(self, query: str, below: Path | None, page: Page) -> Hits:
        """See `Search.find`. Of a page those are left out that have changed meanwhile."""
        hits = self._search.find(query, below, page, self._terms)
        items = list(filter(self._is_current, hits.items))
        return hits._replace(items=items, total=hits.total - len(hits.items) + len(items))

    def timeline(self, query: str, below: Path) -> Months:
        """See `Search.timeline`. Of few, those that have changed meanwhile do not count."""
        hits = self.find(query, below, Page(limit=_FEW))
        if hits.more:
            return self._search.timeline(query, below, self._terms)
        found = Months()
        found.add_lines(b"\n".join(_line(orjson.loads(text)) for text in hits.items))
        return found

    def _is_current(self, text: bytes) -> bool:
        listed = orjson.loads(text)
        item = self.item(Path(listed["path"]))
        return item is not None and item["rev"] == listed["rev"]


class Selection:
    """Photos by path and hash. One that has another hash by now is not among them."""

    def __init__(self, tree: Tree, photos: Mapping[str, str]) -> None:
        self._tree = tree
        self._photos = photos

    def item(self, path: Path) -> Item | None:
        """Returns the item of a photo in its manifest; None if it is not one of these."""
        item = manifest.find(self._tree, path) if path in self._photos else None
        return item if item and item.get("hash") == self._photos[path] else None

    def find(self, query: str, below: Path | None, page: Page) -> Hits:
        """See `Search.find`."""
        found, total, more = page_of(self._hits(query, below or ROOT), page)
        return Hits([hit.item for hit in found], total, more, LONG_AGO)

    def timeline(self, query: str, below: Path) -> Months:
        """See `Search.timeline`."""
        found = Months()
        found.add_lines(b"\n".join(hit.line for hit in self._hits(query, below)))
        return found

    def _hits(self, query: str, below: Path) -> Iterator[Hit]:
        """Yields what matches below a folder, in the order of folders and names."""
        terms, paths = parse(query), map(Path, self._photos)
        in_order = sorted(paths, key=lambda path: (folder_key(path.parent), natural_key(path.name)))
        for number, path in enumerate(filter(below.holds, in_order)):
            if item := self.item(path):
                line = _line(item, number)
                if all(term.matches(line) for term in terms):
                    yield Hit(number, line, encode_item(item))
