"""The contract of a tree of files, the cache of its documents, and what is Lenslet's own."""

from __future__ import annotations

import abc
import contextlib
import re
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple, Protocol

from lenslet import paths
from lenslet.bounds import DERIVED_BYTES, PICTURE_BYTES
from lenslet.errors import Conflict, Foreign, LensletError, NotFound, NotRegular, Overtaken
from lenslet.paths import HEALTH, ROLLUP_DELTA, ROOT, THUMBNAIL, Path, file_beside

SETTLED_NS = 2_000_000_000  # a younger file may still be being written
_LEFTOVER_NS = 3_600_000_000_000
_BLOCK_BYTES = 512
_DOCUMENTS = (".json", ".terms")
# No folder's manifest tells of them.
_SUMMARIES = frozenset({HEALTH, *paths.USER_FILES, paths.ROLLUP, ROLLUP_DELTA})
_CACHED = (HEALTH, ROLLUP_DELTA)  # and manifests: what is read again and again
_MOST_SOUND = 10_000  # documents of which a cache remembers that they are sound
HEAD_BYTES = 64 * 1024  # enough of a file to tell whether it is Lenslet's own
BLANK = b"\0 \r\n"  # all that a file has which a crash of the machine has torn
# How the documents of Lenslet begin; a manifest has its path before its generation.
_OWN_JSON = re.compile(rb'\{\s*"v":\s*1,\s*("path":\s*"(\\.|[^"\\])*",\s*)?"generatedAt":')
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

    @classmethod
    def of_object(cls, size: int, seconds: int, etag: str, source: str = "") -> Stat:
        """Returns the stat of an object that was written in this second.

        A thumbnail in `STATE_DIR` gets its image's time. With a fraction made from the ETag it fits
        only one of two objects that were written in the same second.
        """
        fraction = zlib.crc32(etag.encode()) % 1_000_000_000
        return cls(size, seconds * 1_000_000_000 + fraction, 0, etag, source)

    @property
    def rev(self) -> str:
        """Changes when the file changes; stays the same when it is copied with its time."""
        return self.etag or f"{self.mtime_ns:x}-{self.size:x}"

    def settles_in(self, now_ns: int) -> float:
        """Returns the seconds until the last change is two seconds old; 0 if it is.

        Objects are always complete.
        """
        young = [t for t in (self.mtime_ns, self.ctime_ns) if abs(now_ns - t) < SETTLED_NS]
        return (max(young) + SETTLED_NS - now_ns) / 1e9 if young and not self.etag else 0.0

    def made_from(self, image: Stat) -> bool | None:
        """True if this thumbnail was made from `image`; None if a listing does not tell."""
        if not self.etag:
            return self.mtime_ns == image.mtime_ns
        return self.source == image.rev if self.source else None


NO_STAT = Stat(-1, 0)  # of no file
Content = tuple[bytes, Stat]
Trust = Callable[[float], bool]  # True if nothing has changed since this time


@dataclass(slots=True)
class Listing:
    """The regular files and the folders directly in a folder, by name.

    `covered` holds the files of the root that a file in `STATE_DIR` hides, `gone` the folders that
    are only there; `leftovers` the names of temporary files whose writer has died, `others` those
    of links, pipes and so on, `unusable` the escaped form of names that cannot be part of a path.
    """

    files: dict[str, Stat] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    covered: dict[str, Stat] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    def add(self, name: str, stat: Stat) -> None:
        """Adds a file. A temporary one is not listed; if it is an hour old, its writer has died."""
        if not paths.is_temporary(name):
            self.files[name] = stat
        elif stat.mtime_ns < time.time_ns() - _LEFTOVER_NS:
            self.leftovers.append(name)

    def digest(self) -> int:
        """A number that changes when the listing changes, but for the summaries of a library."""
        shown = (each for each in self.files.items() if each[0] not in _SUMMARIES)
        files = frozenset(shown), frozenset(self.covered.items())
        return hash((files, *map(tuple, (self.folders, self.unusable, self.leftovers))))


class Copy(NamedTuple):
    """A document as one tree has it. If it is unreadable, `data` is None and `problem` says why."""

    path: Path
    data: bytes | None
    problem: str = ""
    editable: bool = True  # False: it is in a root that Lenslet never writes to
    mtime_ns: int = 0  # of one that can be read


Data = bytes | Callable[[], Iterable[bytes]]  # a function yields what is large
Change = Callable[[list[Copy]], "tuple[Path, bytes | None] | None"]


def is_ours(name: str, head: bytes, rest: Iterable[bytes] = ()) -> bool:
    """True if the content of a file with one of Lenslet's names shows that Lenslet wrote it.

    The one rule for replacing and removing derived files. `head` is the first 64 KB or more, `rest`
    what follows. A thumbnail is a WebP without metadata, a document begins with `v` and
    `generatedAt`. One that is blank to its end is ours: a crash of the machine leaves such files.
    """
    if not head.lstrip(BLANK):
        return not any(piece.lstrip(BLANK) for piece in rest)
    if name.endswith(THUMBNAIL):
        kind, flags = head[12:16], head[20:21] or b"\xff"
        plain = kind in (b"VP8 ", b"VP8L") or (kind == b"VP8X" and not flags[0] & _METADATA_FLAGS)
        return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and plain
    is_document = name.startswith("_") and name.endswith(".json")
    return not is_document or bool(_OWN_JSON.match(head))  # other names are only in the cache


def read_thumbnail(tree: Tree, item: Path, image: Stat) -> Content:
    """Reads the thumbnail that was made from `image`, the file of `item`; `NotFound` if none."""
    data, stat = tree.read(file_beside(item, THUMBNAIL))
    if not (is_whole(data) and stat.made_from(image)):
        raise NotFound(f"{item} has no thumbnail yet.")
    return data, stat


def is_whole(webp: bytes) -> bool:
    """True if a WebP is as long as its header says (RFC 9649, 2.4), and has its last block.

    A crash of the machine may leave one that is not, or one whose last blocks are NUL bytes. No
    thumbnail ends with more than three of those.
    """
    last = len(webp) % _BLOCK_BYTES
    last += _BLOCK_BYTES * (last < 8)
    whole = webp.startswith(b"RIFF") and len(webp) == 8 + int.from_bytes(webp[4:8], "little")
    return whole and any(webp[-last:])


class DocumentCache:
    """Keeps the documents that were read last, at most `most` bytes in total. Safe for threads.

    A document is used for `seconds` without looking whether it changed, and longer while `trusts`
    says that nothing did. One that is larger than a quarter of `most` is not kept.
    """

    def __init__(
        self, most: int, seconds: float = 0.0, trusts: Trust = lambda since: False
    ) -> None:
        self._most = most
        self.seconds = seconds
        self._trusts = trusts
        self._lock = threading.Lock()
        self._documents: OrderedDict[Path, tuple[bytes, Stat, float]] = OrderedDict()
        self._bytes = 0
        self._sound: dict[Path, Stat] = {}

    def read(self, path: Path, load: Callable[[Stat], Content | None], *, fresh: bool) -> Content:
        """Returns a document. `load` reads it, unless it is still the known one."""
        data, stat, checked = self._documents.get(path, (b"", NO_STAT, float("-inf")))
        now = time.monotonic()
        if not fresh and (now - checked < self.seconds or self._trusts(checked)):
            return data, stat
        data, stat = load(stat) or (data, stat)  # what is not found is asked for again next time
        self._keep(path, data, stat, now)
        return data, stat

    def _keep(self, path: Path, data: bytes, stat: Stat, checked: float) -> None:
        with self._lock:
            old = self._documents.pop(path, None)
            self._bytes -= len(old[0]) if old else 0
            # One that was just written may change again with the same time and size.
            if 0 < len(data) <= self._most // 4 and not stat.settles_in(time.time_ns()):
                self._documents[path] = data, stat, checked
                self._bytes += len(data)
            while self._bytes > self._most:
                self._bytes -= len(self._documents.popitem(last=False)[1][0])

    def check(self, path: Path, stat: Stat, check: Callable[[], object]) -> None:
        """Calls `check`, which raises if a document is not sound, once for each version of it."""
        if self._sound.get(path) != stat:
            check()
            if len(self._sound) >= _MOST_SOUND:
                self._sound.clear()
            self._sound[path] = stat


class Tree(abc.ABC):
    """Files under paths. Any method may raise `NotFound`, `Denied` or `StorageUnavailable`."""

    name: str
    """Identifies the tree in logs and comparisons. Not for clients."""

    has_stamps = True
    """True if `stamp` works, and looking at one file is cheap. False: each call is a request."""

    cache: DocumentCache | None = None
    """Answers `read` for documents that are read again and again."""

    own: Tree | None = None
    """The tree of Lenslet's own files that is laid over the user's: `STATE_DIR`."""

    # What each kind of tree does in its own way

    @abc.abstractmethod
    def check(self) -> None:
        """Raises why the tree cannot be used, as `StorageUnavailable` if it is empty.

        The one guard against an unmounted disk: nothing is written or forgotten while it raises.
        """

    @abc.abstractmethod
    def obstacle(self, folder: Path = ROOT) -> LensletError | None:
        """Returns why nothing can be written in `folder`, as far as that is known."""

    @abc.abstractmethod
    def listing(self, folder: Path) -> Listing:
        """Lists what is directly in `folder`."""

    @abc.abstractmethod
    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        """Returns those of the `wanted` names that exist in `folder`, whose own name is exact."""

    @abc.abstractmethod
    def stamp(self, folder: Path) -> int:
        """A number that changes when names come or go in `folder`; always 0 without `has_stamps`.

        `NotFound` if there is no such folder, also without.
        """

    @abc.abstractmethod
    def stat(self, path: Path) -> Stat:
        """Returns the size and times of a file that its folder lists by exactly this name."""

    @abc.abstractmethod
    def open(self, path: Path, first: int = 0, length: int = 0) -> tuple[BinaryIO, Stat]:
        """Opens a file at byte `first`; the caller closes it. Only local files can be seeked.

        With a `length`, a bucket sends no more. The stat is that of the whole file.
        """

    @abc.abstractmethod
    def read_changed(self, path: Path, known: Stat, limit: int) -> Content | None:
        """Reads a file, unless it is still the `known` one: then returns None.

        `Conflict` if it has more than `limit` bytes.
        """

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        """A URL at which a client gets the file for `seconds` seconds; empty if there is none."""
        return ""

    def make_folder(self, folder: Path) -> None:  # noqa: B027 - a bucket needs none
        """Creates a folder and those above it, unless they exist."""

    def remove_folder(self, folder: Path) -> None:  # noqa: B027 - a bucket has none
        """Removes a folder, if it is empty."""

    @abc.abstractmethod
    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        """Puts a derived file in place, whole or not at all, without fsync.

        `Foreign` if the file in the way is not Lenslet's own. A thumbnail is bound to its `image`.
        `over` counts in buckets alone, because one process writes such files in a folder: if the
        file does not have this rev any more, or exists although it is "", `Overtaken` is raised.
        """

    @abc.abstractmethod
    def delete(self, path: Path) -> None:
        """Removes a derived file; `Foreign` if it is not Lenslet's own."""

    @abc.abstractmethod
    def copies(self, paths: Sequence[Path]) -> list[Copy]:
        """Reads those of the documents that exist. One may exist in two trees."""

    @abc.abstractmethod
    def update(self, paths: Sequence[Path], change: Change) -> None:
        """Reads the documents at `paths`, in one folder, and replaces one there.

        `change` gets the `copies` and returns a path and its new content (None removes it), or
        None to leave everything. It may raise, and may be called again when another writer was
        first. What another writer changed after it was read is never overwritten. On return the
        change is on disk. `Unsupported` if a store cannot do this.
        """

    # What follows from that

    def where(self, document: Path) -> str:
        """Returns where a document is written, the same for all trees that have this place."""
        return f"{(self.own or self).name}/{document}"

    def head(self, path: Path, size: int) -> Content:
        """Reads the first `size` bytes of a file."""
        file, stat = self.open(path, 0, size)
        with file:
            return file.read(size), stat

    def read(self, path: Path, limit: int | None = None, *, fresh: bool = False) -> Content:
        """Reads a whole file, from the cache if it is there. `fresh` checks it in any case.

        `Conflict` if it has more than `limit` bytes; without one, a derived file that is too large
        counts as missing.
        """
        most = limit or (DERIVED_BYTES if path.endswith(_DOCUMENTS) else PICTURE_BYTES)
        try:
            if self.cache and (path.name.startswith("_index") or path.name in _CACHED):
                load = partial(self.read_changed, path, limit=most)
                return self.cache.read(path, load, fresh=fresh)
            found = self.read_changed(path, NO_STAT, most)
        except Conflict as error:
            if limit:
                raise
            raise NotFound(str(error)) from error
        assert found is not None  # no file has this stat
        return found

    def own_rev(self, path: Path) -> str:
        """Returns the rev of a derived file, "" for none; `Foreign` if it is another program's."""
        try:
            head, stat = (self.own or self).head(path, HEAD_BYTES)
        except NotRegular as error:
            raise Foreign(path) from error
        except NotFound:
            return ""
        if not is_ours(path.name, head, (b"more",) if stat.size > len(head) else ()):
            raise Foreign(path)
        return stat.rev

    def check_same(self, path: Path, stat: Stat) -> None:
        """Raises `Overtaken` if a file is not any more what was opened: it is being written.

        What a bucket sends is one version of an object from its beginning to its end.
        """
        if not stat.etag and self.stat(path).rev != stat.rev:
            raise Overtaken(f"{path} is being written.")

    def check_write(self, path: Path) -> None:
        """Raises why a derived file cannot be put at `path`, as far as that is known."""
        self.own_rev(path)
        if obstacle := self.obstacle(path.parent):
            raise obstacle

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:
        """Removes temporary files of writers that died."""
        for name in leftovers:
            with contextlib.suppress(LensletError):
                self.delete(folder.child(name))


class Buckets(Protocol):
    """Opens trees in buckets. A library that has none in its settings needs none."""

    writes: int
    """How often this process has written into a bucket."""

    def open(self, bucket: str, prefix: str, region: str = "") -> Tree:
        """Opens what is below `prefix`, which is empty or ends with `/`."""
