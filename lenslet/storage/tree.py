"""The contract of a tree of files, whatever stores it, and the cache of its documents."""

from __future__ import annotations

import abc
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple

import orjson

from lenslet.errors import NotFound
from lenslet.paths import HEALTH, ROLLUP_DELTA, THUMBNAIL, Path

SETTLED_NS = 2_000_000_000  # a younger file may still be being written
DOCUMENT_BYTES = 4 * 1024 * 1024  # a document beside an image is never larger
HEAD_BYTES = 64 * 1024  # enough of a file to tell whether it is Lenslet's own
_OWN_JSON = re.compile(rb'\{\s*"v":\s*1,')
_METADATA_FLAGS = 0x20 | 0x08 | 0x04 | 0x02  # ICC, EXIF, XMP, animation (RFC 9649, 2.7)


class Stat(NamedTuple):
    """One file: its size in bytes and its times in nanoseconds.

    An object in a bucket has an `etag`. A thumbnail in a bucket also has a `source`, the `rev` of
    its image, from its metadata; a listing does not include that.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    etag: str = ""
    source: str = ""

    @property
    def rev(self) -> str:
        """Changes when the file changes; stays the same when it is copied with its time."""
        return self.etag or f"{self.mtime_ns:x}-{self.size:x}"

    def settled(self, now_ns: int) -> bool:
        """True if the last change is at least two seconds old. Objects are always complete."""
        if self.etag:
            return True
        return not any(abs(now_ns - t) < SETTLED_NS for t in (self.mtime_ns, self.ctime_ns))

    def made_from(self, image: Stat) -> bool | None:
        """True if this thumbnail was made from `image`; None if a listing does not tell."""
        if not self.etag:
            return self.mtime_ns == image.mtime_ns
        return self.source == image.rev if self.source else None


NO_STAT = Stat(-1, 0)  # of no file
Read = tuple[bytes, Stat]


@dataclass(slots=True)
class Listing:
    """The regular files and the folders directly in a folder, by name.

    `covered` holds the files of the root that a file in `STATE_DIR` hides, `leftovers` the names of
    temporary files, `unusable` the escaped form of names that cannot be part of a path.
    """

    files: dict[str, Stat] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    covered: dict[str, Stat] = field(default_factory=dict)

    def digest(self) -> int:
        """A number that changes when the listing changes."""
        files = frozenset(self.files.items()), frozenset(self.covered.items())
        return hash((files, tuple(self.folders), tuple(self.unusable)))


class Document(NamedTuple):
    """A document as one tree has it. If it is unreadable, `data` is None and `problem` says why."""

    path: Path
    data: bytes | None
    rev: str
    problem: str = ""
    editable: bool = True  # False: it is in a root that Lenslet never writes to


Data = bytes | Callable[[], Iterable[bytes]]  # a function, so that a write can start over
Change = Callable[[list[Document]], "tuple[Path, bytes | None] | None"]


def is_ours(name: str, head: bytes) -> bool:
    """True if the content of a file with one of Lenslet's names shows that Lenslet wrote it.

    The one rule for everything that is replaced or removed. `head` is the first 64 KB. A thumbnail
    is a WebP without metadata, a document is a JSON object with `v` and `generatedAt`. An empty
    file, or one of zero bytes only, counts as ours: a crash of the machine leaves such files.
    """
    if not head.strip(b"\0 \r\n"):
        return True
    if name.endswith(THUMBNAIL):
        plain = head[12:16] in (b"VP8 ", b"VP8L") or (
            head[12:16] == b"VP8X" and len(head) > 20 and not head[20] & _METADATA_FLAGS
        )
        return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and plain
    if not (name.startswith("_") and name.endswith(".json")):
        return True  # other names are only written in the host's cache
    if _OWN_JSON.match(head) and b'"generatedAt":' in head:
        return True
    try:
        found = orjson.loads(head)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and "v" in found and "generatedAt" in found


class DocumentCache:
    """Keeps the documents that were read last, at most `most` bytes in total. Safe for threads.

    A document is used for `seconds` without looking whether it changed. One that is larger than a
    quarter of `most` is not kept.
    """

    def __init__(self, most: int, seconds: float = 0.0) -> None:
        self._most = most
        self.seconds = seconds
        self._lock = threading.Lock()
        self._documents: OrderedDict[Path, tuple[bytes, Stat, float]] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def takes(path: Path) -> bool:
        """True for the documents that are read again and again."""
        name = path.name
        return name.startswith("_index") or name in (HEALTH, ROLLUP_DELTA)

    def read(self, path: Path, load: Callable[[Stat], Read | None], *, fresh: bool) -> Read:
        """Returns a document. `load` reads it, unless it is still the known one."""
        data, stat, checked = self._documents.get(path, (b"", NO_STAT, float("-inf")))
        if not fresh and time.monotonic() - checked < self.seconds:
            return data, stat
        try:
            data, stat = load(stat) or (data, stat)
        except NotFound:
            self._keep(path, b"", NO_STAT)
            raise
        self._keep(path, data, stat)
        return data, stat

    def _keep(self, path: Path, data: bytes, stat: Stat) -> None:
        with self._lock:
            old = self._documents.pop(path, None)
            self._bytes -= len(old[0]) if old else 0
            # One that was just written may change again unseen.
            if 0 < len(data) <= self._most // 4 and stat.settled(time.time_ns()):
                self._documents[path] = data, stat, time.monotonic()
                self._bytes += len(data)
            while self._bytes > self._most:
                self._bytes -= len(self._documents.popitem(last=False)[1][0])


class Tree(abc.ABC):
    """Files under paths. Every method raises `NotFound`, `Denied` or `StorageUnavailable`."""

    has_stamps = True
    """True if `stamp` works, and looking at one file is cheap. False: each call is a request."""

    is_shared = False
    """True if other hosts write here too."""

    cache: DocumentCache | None = None
    """Answers `read` for documents that are read again and again."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Identifies the tree in logs and comparisons. Not for clients."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raises `Unmounted` if the tree is empty or on another disk, others if it is unreachable.

        The one guard against an unmounted disk: nothing is written or forgotten while it raises.
        """

    @abc.abstractmethod
    def listing(self, folder: Path) -> Listing:
        """Lists what is directly in `folder`."""

    @abc.abstractmethod
    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        """Returns those of the `wanted` names that exist in `folder`."""

    @abc.abstractmethod
    def has_folder(self, path: Path) -> bool:
        """True if `path` is a folder."""

    @abc.abstractmethod
    def stamp(self, folder: Path) -> int:
        """A number that changes when names come or go in `folder`. Needs `has_stamps`."""

    @abc.abstractmethod
    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        """Opens a file for reading; the caller closes it. Only local files can be seeked."""

    @abc.abstractmethod
    def stat(self, path: Path) -> Stat:
        """Returns the size and times of a file."""

    def head(self, path: Path, size: int) -> Read:
        """Reads the first `size` bytes of a file."""
        file, stat = self.open(path)
        with file:
            return file.read(size), stat

    @abc.abstractmethod
    def read_changed(self, path: Path, known: Stat, limit: int | None = None) -> Read | None:
        """Reads a file, unless it is still the `known` one: then returns None.

        `Conflict` if it has more than `limit` bytes.
        """

    def read(self, path: Path, limit: int | None = None, *, fresh: bool = False) -> Read:
        """Reads a whole file, from the cache if it is there. `fresh` checks it in any case."""
        if self.cache and self.cache.takes(path):
            load = partial(self.read_changed, path, limit=limit)
            return self.cache.read(path, load, fresh=fresh)
        found = self.read_changed(path, NO_STAT, limit)
        assert found is not None  # no file is like this
        return found

    @abc.abstractmethod
    def part(self, path: Path, stat: Stat, first: int, length: int) -> BinaryIO:
        """Opens `length` bytes of a file from `first`; `Overtaken` if it changed since `stat`."""

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        """A URL at which a client gets the file for `seconds` seconds; empty if there is none."""
        return ""

    @abc.abstractmethod
    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        """Puts a derived file in place, whole or not at all, without fsync.

        `Denied` if the file in the way is not Lenslet's own. A thumbnail is bound to its `image`.
        `over` is the rev to be replaced, "" if there must be no file. Only a shared tree checks it,
        and raises `Overtaken` if another rev is there.
        """

    def make_folder(self, folder: Path) -> None:  # noqa: B027 - a bucket needs none
        """Creates a folder and those above it, unless they exist."""

    @abc.abstractmethod
    def delete(self, path: Path) -> None:
        """Removes a derived file; `Denied` if it is not Lenslet's own."""

    def is_spare(self, path: Path) -> bool:
        """True if a file is only in this host's cache because it cannot be where it belongs."""
        return False

    @abc.abstractmethod
    def copies(self, paths: Sequence[Path]) -> list[Document]:
        """Reads those of the documents that exist. One may exist in two trees."""

    @abc.abstractmethod
    def update(self, paths: Sequence[Path], change: Change, *, derived: bool = False) -> None:
        """Reads the documents at `paths`, in one folder, and replaces one of them.

        `change` gets the `copies` and returns a path and its new content (None removes it), or
        None to leave everything. It may raise, and may be called again when another writer was
        first. No other thread, process or host changes the documents in between. On return the
        change is on disk, except for a `derived` file. `Unsupported` if a store cannot do this.
        """

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:  # noqa: B027 - an option
        """Removes temporary files of writers that died."""

    @abc.abstractmethod
    def writable(self) -> bool:
        """True if documents can be written at the root, as far as that is known."""
