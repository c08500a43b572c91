"""The contract of a tree of files, whatever keeps it; knows neither images nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

from lenslet.paths import Path

SETTLED_NS = 2_000_000_000  # younger files may still be being written
DOCUMENT_BYTES = 4 * 1024 * 1024  # a small document beside an image that is larger is not one


class Stat(NamedTuple):
    """What a listing tells of one file: its size in bytes and its times in nanoseconds.

    An object of a bucket has an `etag`, and `source` where its metadata says the `rev` of the
    image that it was made from, which no listing tells.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    etag: str = ""
    source: str = ""

    @property
    def rev(self) -> str:
        """Changes when the file changes; the same after a copy that keeps modification times."""
        return self.etag or f"{self.mtime_ns:x}-{self.size:x}"

    def settled(self, now_ns: int) -> bool:
        """Whether the last change is two seconds old. A time far in the future says nothing.

        An object is there whole or not at all.
        """
        if self.etag:
            return True
        return not any(abs(now_ns - t) < SETTLED_NS for t in (self.mtime_ns, self.ctime_ns))

    def is_made_from(self, image: Stat) -> bool:
        """Whether a thumbnail's file is bound to `image`: by metadata, or by the same mtime."""
        return self.source == image.rev if self.etag else self.mtime_ns == image.mtime_ns


@dataclass(slots=True)
class Listing:
    """A folder's own files and folders, by name; links, pipes and devices are not among them."""

    files: dict[str, Stat] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)


Change = Callable[["bytes | None"], "bytes | None"]


class Tree(Protocol):
    """Files under paths. Every method raises `NotFound`, `Denied` or `StorageUnavailable`."""

    remote: bool
    """Whether each call is a request that takes time and money, and other hosts write too."""

    @property
    def name(self) -> str:
        """What tells this tree from others: for logs and comparisons, not for clients."""

    def listing(self, folder: Path) -> Listing:
        """Everything that stands directly in `folder`."""

    def which(self, folder: Path, names: Iterable[str]) -> set[str]:
        """Those of `names` that stand in `folder`."""

    def is_empty(self) -> bool:
        """Whether there is nothing at all at the root."""

    def any_file(self, folder: Path, test: Callable[[str], bool]) -> bool:
        """Whether a file whose name passes `test` stands directly in `folder`."""

    def stamp(self, folder: Path) -> int:
        """A number that moves when names come or go in `folder`: its mtime in nanoseconds."""

    def stat(self, path: Path) -> Stat:
        """The file at `path`."""

    def has_folder(self, path: Path) -> bool:
        """Whether `path` is a folder."""

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        """The file at `path`, for reading; the caller closes it."""

    def read(self, path: Path, limit: int | None = None) -> tuple[bytes, Stat]:
        """The whole file at `path`; `Conflict` when it has more than `limit` bytes."""

    def head(self, path: Path, size: int) -> tuple[bytes, Stat]:
        """The first `size` bytes of the file at `path`."""

    def write(
        self,
        path: Path,
        data: bytes | Iterable[bytes],
        *,
        image: Stat | None = None,
        make: bool = False,
        over: str | None = None,
    ) -> None:
        """Put a derived file, of one or many pieces, in place, whole or not at all.

        It is not forced to disk: what a crash loses is made again. A thumbnail is bound to its
        `image`. Folders are made on the way only with `make` or in a private tree; elsewhere a
        missing one is `NotFound`. Where other hosts write too, `over` is the rev that is replaced,
        "" for none: `Overtaken` when another writer was first.
        """

    def update(
        self,
        path: Path,
        change: Change,
        seen: tuple[bytes | None, str] | None = None,
        draft: bytes | None = None,
    ) -> bytes | None:
        """Replace a file by what `change` makes of it (None: nothing there), durably.

        One change at a time whatever the number of threads, processes and hosts; on return it is
        on disk. `change` may raise to leave everything as it is, and without locks (`remote`) it
        is called again when another writer was first: there `seen` is what the caller has just
        read, and its rev, so that it is not read twice. With locks `draft` is what `change` will
        most likely make: it is on disk before the lock is taken. `Conflict` when what is there is
        larger than `DOCUMENT_BYTES`, `Unsupported` by a store that cannot do this safely.
        """

    def delete(self, path: Path) -> None:
        """Remove the file at `path`."""

    def sweep(self, folder: Path, temporary: list[str]) -> int:
        """Remove what dead writers left in `folder`; how many there were."""

    def writable(self, folder: Path) -> bool:
        """Whether files can be made in `folder`."""

    def device(self) -> int:
        """A number for the disk that the root is on."""
