"""A tree laid over another: `STATE_DIR` over the root, or the host's cache over a local root."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, TypeVar

from lenslet.errors import Denied, Invalid, NotFound
from lenslet.paths import Path, is_item
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Change, Data, Document, Listing, Read, Stat, Tree

Answer = TypeVar("Answer")


class Overlay(Tree):
    """A file in `upper` hides the one in `lower`; the folders are those of `lower`.

    `STATE_DIR`: everything is written to `upper`. With `spare`, `upper` is the host's cache and
    takes only the derived files that `lower` refuses: the root is read-only, or a file that is not
    Lenslet's is in the way.
    """

    def __init__(self, upper: LocalTree, lower: Tree, *, spare: bool = False) -> None:
        self.upper = upper
        self.lower = lower
        self.has_stamps = lower.has_stamps
        self.is_shared = lower.is_shared and spare
        self._spare = spare
        self._home = lower if spare else upper  # where files belong

    @property
    def name(self) -> str:
        return self.lower.name

    def check(self) -> None:
        self.lower.check()
        self.upper.check()

    # Reading

    def _first(self, path: Path, ask: Callable[[Tree], Answer]) -> Answer:
        """Returns the answer of the first tree that has the file. Images are only in `lower`."""
        if is_item(path.name) or not self._has_upper():
            return ask(self.lower)
        try:
            return ask(self.upper)
        except (NotFound, Denied):
            return ask(self.lower)

    def _has_upper(self) -> bool:
        """False if the cache was never used: checking takes a tenth of the time of an `open`."""
        return not self._spare or os.path.isdir(self.upper.root)

    def listing(self, folder: Path) -> Listing:
        found = self.lower.listing(folder)
        try:
            above = self.upper.listing(folder)
        except NotFound:
            return found
        files = {name: stat for name, stat in above.files.items() if not is_item(name)}
        found.covered = {name: found.files[name] for name in files if name in found.files}
        found.files |= files
        found.leftovers += above.leftovers
        return found

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        return self.lower.names(folder, wanted)

    def has_folder(self, path: Path) -> bool:
        return self.lower.has_folder(path)

    def stamp(self, folder: Path) -> int:
        below = self.lower.stamp(folder)
        if self._has_upper():
            with contextlib.suppress(NotFound):
                return hash((below, self.upper.stamp(folder)))
        return below

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        return self._first(path, lambda tree: tree.open(path))

    def stat(self, path: Path) -> Stat:
        return self._first(path, lambda tree: tree.stat(path))

    def read_changed(self, path: Path, known: Stat, limit: int | None = None) -> Read | None:
        return self._first(path, lambda tree: tree.read_changed(path, known, limit))

    def part(self, path: Path, stat: Stat, first: int, length: int) -> BinaryIO:
        return self.lower.part(path, stat, first, length)

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        return self.lower.url(path, seconds, **answer)

    # Writing

    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        self._write(path, lambda tree: tree.write(path, data, image=image, over=over))

    def _write(self, path: Path, write: Callable[[Tree], None]) -> None:
        """Writes a derived file where it belongs or, if that is refused, to a spare upper."""
        if not self._spare:
            write(self.upper)
            return
        try:
            write(self.lower)
        except (Denied, Invalid):
            write(self.upper)
            return
        with contextlib.suppress(NotFound):
            self.upper.delete(path)

    def make_folder(self, folder: Path) -> None:
        if self._spare:  # `upper` makes its folders when something is written
            self.lower.make_folder(folder)

    def is_spare(self, path: Path) -> bool:
        if not self._spare:
            return False
        try:
            self.upper.stat(path)
        except NotFound:
            return False
        return True

    def delete(self, path: Path) -> None:
        """`Denied` if the only copy of the file is in a tree where nothing can be removed."""
        found = False
        with contextlib.suppress(NotFound):
            self.upper.delete(path)
            found = True
        try:
            self._home.delete(path)
        except (NotFound, Denied):
            if not found:
                raise

    def copies(self, paths: Sequence[Path]) -> list[Document]:
        below = self.lower.copies(paths)
        if self._spare:
            return below
        return [*self.upper.copies(paths), *(copy._replace(editable=False) for copy in below)]

    def update(self, paths: Sequence[Path], change: Change, *, derived: bool = False) -> None:
        if derived:
            self._write(paths[0], lambda tree: tree.update(paths, change, derived=True))
        elif self._spare:
            self.lower.update(paths, change)
        else:
            below = [copy._replace(editable=False) for copy in self.lower.copies(paths)]
            self.upper.update(paths, lambda above: change([*above, *below]))

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:
        for tree in (self.upper, self._home):
            with contextlib.suppress(NotFound, Denied):
                tree.sweep(folder, leftovers)

    def writable(self) -> bool:
        return self._home.writable()
