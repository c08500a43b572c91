"""`STATE_DIR`: a tree of Lenslet's own files, laid over a root that is never written."""

import contextlib
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from lenslet.errors import Denied, LensletError, NotFound
from lenslet.paths import POINTERS, ROOT, Path, is_item
from lenslet.storage.tree import Change, Content, Copy, Data, Listing, Stat, Tree

Answer = TypeVar("Answer")


class Overlay(Tree):
    """`STATE_DIR` (`upper`) laid over a root (`lower`), which is never written.

    A file in `upper` hides the one in `lower`; the folders are those of `lower`. Images and
    pointers are only in `lower`: a file of a pointer's name in `upper` describes a folder, and is
    read as a document that both may have (`copies`).
    """

    def __init__(self, upper: Tree, lower: Tree) -> None:
        self.upper = self.own = upper
        self.lower = lower
        self.name = lower.name
        self.has_stamps = lower.has_stamps

    def check(self) -> None:
        self.lower.check()
        self.upper.check()

    # Reading

    def _first(self, path: Path, ask: Callable[[Tree], Answer]) -> Answer:
        """Returns the answer of the first tree that has the file."""
        if is_item(path.name) or path.name in POINTERS:
            return ask(self.lower)
        try:
            return ask(self.upper)
        except (NotFound, Denied):
            self.upper.check()  # its disk may be away
            return ask(self.lower)

    def listing(self, folder: Path) -> Listing:
        found = self.lower.listing(folder)
        try:
            above = self.upper.listing(folder)
        except NotFound:
            self.upper.check()
            return found
        files = {name: stat for name, stat in above.files.items() if not is_item(name)}
        found.covered = {name: found.files[name] for name in files if name in found.files}
        found.files |= files
        found.leftovers += above.leftovers
        found.gone = [name for name in above.folders if name not in found.folders]
        return found

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        return self.lower.names(folder, wanted)

    def stamp(self, folder: Path) -> int:
        below = self.lower.stamp(folder)
        with contextlib.suppress(NotFound):
            return hash((below, self.upper.stamp(folder)))
        return below

    def open(self, path: Path, first: int = 0, length: int = 0) -> tuple[BinaryIO, Stat]:
        return self._first(path, lambda tree: tree.open(path, first, length))

    def stat(self, path: Path) -> Stat:
        return self._first(path, lambda tree: tree.stat(path))

    def read_changed(self, path: Path, known: Stat, limit: int) -> Content | None:
        return self._first(path, lambda tree: tree.read_changed(path, known, limit))

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        return self.lower.url(path, seconds, **answer)

    # Writing

    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        self.upper.write(path, data, image=image, over=over)

    def delete(self, path: Path) -> None:
        self.upper.delete(path)

    def copies(self, paths: Sequence[Path]) -> list[Copy]:
        below = self._below(paths)
        return [*self.upper.copies(paths), *below]

    def _below(self, paths: Sequence[Path]) -> list[Copy]:
        return [copy._replace(editable=False) for copy in self.lower.copies(paths)]

    def update(self, paths: Sequence[Path], change: Change) -> None:
        below = self._below(paths)
        self.upper.update(paths, lambda above: change([*above, *below]))

    def obstacle(self, folder: Path = ROOT) -> LensletError | None:
        return self.upper.obstacle(folder)
