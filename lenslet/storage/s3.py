"""A tree of files in an S3 bucket, below a prefix. Each call is one request, or says more.

Keys are the paths of files below the prefix, as they are: nothing is escaped. There are no
folders: one is there while a key begins with its path. Objects are whole by nature.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from lenslet import paths
from lenslet.errors import (
    Conflict,
    Denied,
    EmptyObject,
    LensletError,
    NotFound,
    Overtaken,
    StorageUnavailable,
    Unsupported,
)
from lenslet.paths import MANIFEST, Path, escaped, usable_segment
from lenslet.storage.documents import Documents, is_held
from lenslet.storage.download import Download, Stream
from lenslet.storage.store import Store
from lenslet.storage.tree import DOCUMENT_BYTES, Change, Listing, Stat
from lenslet.storage.updating import REMOVED, update

_SEEN_SECONDS = 30.0  # for so long a root in which something was seen counts as not empty
_HELD_BYTES = 16 * 1024 * 1024
_IN_MEMORY_BYTES = 32 * 1024 * 1024
_MEDIA_TYPES = {".json": "application/json", paths.THUMBNAIL: "image/webp"}


class S3Tree:
    """Objects below `prefix` (nothing, or ending with `/`) of `bucket`.

    Manifests and the health report are held in memory and, for `fresh_seconds` after they were
    checked, not asked for again.
    """

    remote = True

    def __init__(
        self,
        store: Store,
        bucket: str,
        prefix: str = "",
        region: str = "",
        fresh_seconds: float = 0.0,
    ) -> None:
        self._store = store
        self.bucket = bucket
        self.prefix = prefix
        self.region = region
        self._documents = Documents(_HELD_BYTES, fresh_seconds)
        self._seen = float("-inf")  # when something was seen last
        self._refused = False  # whether the last write was not allowed

    @property
    def name(self) -> str:
        return f"{self._store.name}/{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, path: Path) -> str:
        """The key of the object at a path."""
        return self.prefix + path

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            return self._store.call(operation, self.region, Bucket=self.bucket, **parameters)
        except NotFound as error:
            path = str(parameters.get("Key", ""))[len(self.prefix) :]
            raise NotFound(f"There is no {path or '/'}.") from error

    # Listing

    def _pages(self, prefix: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The pages of a listing, of up to 1,000 keys each."""
        parameters = {"Prefix": prefix, "Delimiter": "/", **parameters}
        while True:
            page = self._call("list_objects_v2", **parameters)
            if page.get("Contents") or page.get("CommonPrefixes"):
                self._seen = time.monotonic()
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def _beginning(self, folder: Path) -> str:
        """How the keys below a folder begin."""
        return f"{self.prefix}{folder}/" if folder else self.prefix

    def listing(self, folder: Path) -> Listing:
        found, prefix, any_key = Listing(), self._beginning(folder), False
        for page in self._pages(prefix):
            for entry in page.get("CommonPrefixes", ()):
                name = entry["Prefix"][len(prefix) : -1]
                (found.folders if usable_segment(name) else found.unusable).append(name)
                any_key = True
            for entry in page.get("Contents", ()):
                name = entry["Key"][len(prefix) :]
                any_key = True
                if usable_segment(name):
                    found.files[name] = _stat(entry, entry["Size"])
                elif name:
                    found.unusable.append(name)
        if not any_key and not folder:
            self._seen = float("-inf")
        elif not any_key:
            raise NotFound(f"There is no {folder}.")
        found.unusable = [escaped(name) or "/" for name in found.unusable]
        self._check_held(folder, found)
        return found

    def _check_held(self, folder: Path, found: Listing) -> None:
        """A listing says whether what is held of a folder is still so."""
        path = folder.child(MANIFEST)
        held, _ = self._documents.get(path)
        if held and MANIFEST in found.files and found.files[MANIFEST].etag == held.stat.etag:
            self._documents.confirm(path)
        else:
            self._documents.drop(path)

    def which(self, folder: Path, names: Iterable[str]) -> set[str]:
        wanted = set(names)
        begin = _common_beginning(wanted)
        prefix, found = self._beginning(folder), set()
        for page in self._pages(prefix + begin):
            found |= {entry["Key"][len(prefix) :] for entry in page.get("Contents", ())} & wanted
        return found

    def is_empty(self) -> bool:
        if time.monotonic() - self._seen < _SEEN_SECONDS:
            return False
        page = next(self._pages(self.prefix, MaxKeys=1))
        return not (page.get("Contents") or page.get("CommonPrefixes"))

    def any_file(self, folder: Path, test: Callable[[str], bool]) -> bool:
        return any(map(test, self.listing(folder).files))

    def stamp(self, folder: Path) -> int:
        """Nothing tells whether a folder has changed but a listing, so each time another number."""
        return time.monotonic_ns()

    def has_folder(self, path: Path) -> bool:
        if not path:
            self.is_empty()
            return True
        page = next(self._pages(self._beginning(path), MaxKeys=1))
        return bool(page.get("Contents") or page.get("CommonPrefixes"))

    # Reading

    def stat(self, path: Path) -> Stat:
        """By a GET of one byte: the answer to a HEAD would not say why it is refused."""
        return self.head(path, 1)[1]

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        answer = self._call("get_object", Key=self.key(path))
        stat = _stat(answer, answer["ContentLength"])
        return Download(self._stream(answer)), stat  # type: ignore[return-value]

    def _stream(self, answer: dict[str, Any]) -> Stream:
        return Stream(answer["Body"], self._store)

    def head(self, path: Path, size: int) -> tuple[bytes, Stat]:
        wanted = {"Key": self.key(path), "Range": f"bytes=0-{size - 1}"}
        try:
            answer = self._call("get_object", **wanted)
        except EmptyObject:  # no range of it can be asked for
            answer = self._call("head_object", Key=self.key(path))
            return b"", _stat(answer, 0)
        total = answer.get("ContentRange", "").rpartition("/")[2]
        with contextlib.closing(self._stream(answer)) as body:
            return body.read(), _stat(answer, int(total or answer["ContentLength"]))

    def part(self, path: Path, stat: Stat, first: int, length: int) -> Stream:
        """`length` bytes of an object as a stream; `Overtaken` when it is no longer `stat`."""
        wanted = {"Range": f"bytes={first}-{first + length - 1}"} if length else {}
        answer = self._call("get_object", Key=self.key(path), IfMatch=stat.etag, **wanted)
        return self._stream(answer)

    def read(self, path: Path, limit: int | None = None) -> tuple[bytes, Stat]:
        if not is_held(path):
            return self._read(path, limit)
        held, fresh = self._documents.get(path)
        if held and fresh:
            return held.data, held.stat
        try:
            condition = {"IfNoneMatch": held.stat.etag} if held else {}
            data, stat = self._read(path, limit, **condition)
        except Overtaken:
            assert held is not None  # nothing else answers "not modified"
            self._documents.confirm(path)
            return held.data, held.stat
        except NotFound:
            self._documents.drop(path)
            raise
        self._documents.put(path, data, stat)
        return data, stat

    def _read(self, path: Path, limit: int | None, **condition: str) -> tuple[bytes, Stat]:
        answer = self._call("get_object", Key=self.key(path), **condition)
        stat = _stat(answer, answer["ContentLength"])
        with contextlib.closing(self._stream(answer)) as body:
            if limit is not None and stat.size > limit:
                raise Conflict(
                    f"{path} has {stat.size} bytes, more than the {limit} that are read."
                )
            if stat.source == REMOVED:
                raise NotFound(f"There is no {path}.")
            return body.read(), stat

    def presigned(self, path: Path, seconds: int, **answer: str) -> str:
        """A URL at which a client gets the object for so long, with headers of the `answer`."""
        wanted = {"Bucket": self.bucket, "Key": self.key(path), **answer}
        return self._store.presigned(self.region, wanted, seconds)

    # Writing

    def write(
        self,
        path: Path,
        data: bytes | Iterable[bytes],
        *,
        image: Stat | None = None,
        make: bool = False,
        over: str | None = None,
    ) -> None:
        if not path.parent and self.is_empty():
            raise StorageUnavailable("The root is empty.")
        if isinstance(data, bytes):
            self._put_derived(path, data, image, over)
            return
        with tempfile.TemporaryFile() as file:
            for piece in data:
                file.write(piece)
            file.seek(0)
            self._put_derived(path, file, image, over)

    def _put_derived(self, path: Path, body: Any, image: Stat | None, over: str | None) -> None:
        """A store without conditional writes takes derived files all the same: they come back."""
        try:
            self.put(path, body, image, over)
        except Unsupported:
            if over is None:
                raise
            self.put(path, body, image, None)

    def put(self, path: Path, body: Any, image: Stat | None, over: str | None) -> None:
        """Write an object, only over the rev `over`, or ("") over none; None: over anything."""
        parameters: dict[str, Any] = {"Key": self.key(path), "Body": body}
        if media_type := _MEDIA_TYPES.get("." + path.rpartition(".")[2]):
            parameters["ContentType"] = media_type
        if image:
            parameters["Metadata"] = {"rev": image.rev}
        if over is not None:
            parameters |= {"IfMatch": over} if over else {"IfNoneMatch": "*"}
        try:
            answer = self._call("put_object", **parameters)
        except NotFound as error:
            raise Overtaken(f"{path} has gone.") from error
        except Denied:
            self._refused = True
            raise
        except LensletError:
            self._documents.drop(path)
            raise
        self._refused = False
        self._seen = time.monotonic()
        if is_held(path) and isinstance(body, bytes):
            etag = answer["ETag"].strip('"')
            stat = Stat(len(body), time_of(int(time.time()), etag), etag=etag)
            self._documents.put(path, body, stat)

    def update(
        self,
        path: Path,
        change: Change,
        seen: tuple[bytes | None, str] | None = None,
        draft: bytes | None = None,
    ) -> bytes | None:
        return update(self, self._store.proofs, path, change, seen)

    def fetch(self, path: Path) -> tuple[bytes, Stat]:
        """An object as it is now, also one that is just being removed."""
        answer = self._call("get_object", Key=self.key(path))
        stat = _stat(answer, answer["ContentLength"])
        with contextlib.closing(self._stream(answer)) as body:
            if stat.size > DOCUMENT_BYTES:
                raise Conflict(f"{path} has {stat.size} bytes, more than are read.")
            return body.read(), stat

    def remove(self, path: Path) -> None:
        """Remove an object, if it is there."""
        self._documents.drop(path)
        with contextlib.suppress(NotFound):
            self._call("delete_object", Key=self.key(path))

    def delete(self, path: Path) -> None:
        """One request to see whether it is there, which a DELETE does not tell, and one more."""
        self.stat(path)
        self.remove(path)

    def sweep(self, folder: Path, temporary: list[str]) -> int:
        return 0

    def writable(self, folder: Path) -> bool:
        """Whether the last write was allowed; nothing else can tell."""
        return not self._refused

    def device(self) -> int:
        return 0


def _stat(answer: dict[str, Any], size: int) -> Stat:
    """What a listing or an answer tells of an object.

    Its time has whole seconds, and a fraction that its ETag gives, so that a thumbnail kept in a
    local folder is bound to the object and not to the second of its writing.
    """
    etag = answer["ETag"].removeprefix("W/").strip('"')
    when: dt.datetime = answer["LastModified"]
    return Stat(
        size,
        time_of(int(when.timestamp()), etag),
        etag=etag,
        source=answer.get("Metadata", {}).get("rev", ""),
    )


def time_of(seconds: int, etag: str) -> int:
    """The time in nanoseconds of an object last modified at `seconds`, whose ETag is `etag`."""
    return seconds * 1_000_000_000 + zlib.crc32(etag.encode()) % 1_000_000_000


def _common_beginning(names: set[str]) -> str:
    first, last = min(names, default=""), max(names, default="")
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[:same]
