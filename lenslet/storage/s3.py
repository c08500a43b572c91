"""A tree of files in an S3 bucket, below a prefix.

Keys are the paths of files below the prefix, unescaped. A folder exists while a key begins with
its path. Objects are always complete.
"""

import contextlib
import io
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from lenslet import errors
from lenslet.bounds import DOCUMENT_BYTES
from lenslet.errors import Conflict, Denied, NotFound, Overtaken, StorageNonsense, Unsupported
from lenslet.paths import ROOT, TEMPORARY, THUMBNAIL, Path, escaped, usable_segment
from lenslet.storage.s3_client import Client, SameObject
from lenslet.storage.tree import Change, Content, Copy, Data, Listing, Stat, Tree

_SEEN_SECONDS = 30.0  # how long a bucket in which something was seen counts as not empty
_UPDATE_SECONDS = 20.0
_MARKS_AT_ONCE = 20  # keys that `names` requests per page
_REMOVED = "removed"  # the `source` of a blank object that stands for a removed sidecar
_NEVER = "0" * 32  # an ETag that no object has
_MEDIA_TYPES = {"json": "application/json", THUMBNAIL[1:]: "image/webp"}
_NO_CONDITIONS = (
    "The store lacks conditional writes (If-Match, If-None-Match), or answers them wrongly, so an "
    "edit could undo another that was made at the same time. The library can be read, but not "
    "edited: set STATE_DIR to keep edits on this host."
)


class Stream(io.RawIOBase):
    """The body of an answer, read in order; `StorageUnavailable` if it breaks off."""

    def __init__(self, body: Any, client: Client) -> None:
        super().__init__()
        self._body = body
        self._client = client

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = None, /) -> bytes:
        with self._client.domain_errors():
            return bytes(self._body.read(None if size is None or size < 0 else size))

    def close(self) -> None:
        self._body.close()
        super().close()


class S3Tree(Tree):
    """Objects below `prefix` (empty, or ending with `/`) of `bucket`."""

    has_stamps = False

    def __init__(self, client: Client, bucket: str, prefix: str = "", region: str = "") -> None:
        self._client = client
        self.name = f"{client.name}/{bucket}/{prefix}".rstrip("/")
        self.bucket = bucket
        self.prefix = prefix
        self.region = region
        self._seen = float("-inf")  # when something was last seen in the bucket
        self._refused = False  # the last write was not allowed

    def _call(self, operation: str, path: Path | None = None, **parameters: Any) -> dict[str, Any]:
        if path is not None:
            parameters["Key"] = self.prefix + path
        try:
            return self._client.call(operation, self.region, Bucket=self.bucket, **parameters)
        except NotFound as error:
            raise NotFound(f"There is no {path or '/'}.") from error

    def check(self) -> None:
        seen = time.monotonic() - self._seen < _SEEN_SECONDS
        if not (seen or self._has_key(self.prefix)):
            raise errors.StorageUnavailable("The bucket holds nothing under its prefix.")

    # Listing

    def _pages(self, prefix: str, **parameters: Any) -> Iterator[tuple[list[Any], list[str]]]:
        """Lists the objects and the prefixes of subfolders, up to 1,000 per page."""
        parameters = {"Prefix": prefix, "Delimiter": "/", **parameters}
        while True:
            page = self._call("list_objects_v2", **parameters)
            if "Name" not in page:
                raise StorageNonsense("The store sent a listing that is not valid S3.")
            objects = page.get("Contents", [])
            prefixes = [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
            if objects or prefixes:
                self._seen = time.monotonic()
            yield objects, prefixes
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def _prefix_of(self, folder: Path) -> str:
        return f"{self.prefix}{folder}/" if folder else self.prefix

    def listing(self, folder: Path) -> Listing:
        found, prefix, any_key = Listing(), self._prefix_of(folder), False
        for objects, prefixes in self._pages(prefix):
            any_key |= bool(objects or prefixes)
            for each in prefixes:
                name = each[len(prefix) : -1]
                (found.folders if usable_segment(name) else found.unusable).append(name)
            for entry in objects:
                name = entry["Key"][len(prefix) :]
                if usable_segment(name):
                    found.add(name, _stat(entry, entry["Size"]))
                elif name:
                    found.unusable.append(name)
        if not any_key and folder:
            raise NotFound(f"There is no {folder}.")
        if not any_key:
            self._seen = float("-inf")
        found.unusable = [escaped(name) or "/" for name in found.unusable]
        return found

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        """Lists from the first wanted name to the last: usually one request."""
        prefix, found, any_key = self._prefix_of(folder), set[str](), False
        before = prefix + min(wanted)[:-1]
        for objects, prefixes in self._pages(prefix, StartAfter=before, MaxKeys=_MARKS_AT_ONCE):
            keys = [*(entry["Key"] for entry in objects), *prefixes]
            any_key |= bool(keys)
            found |= {key[len(prefix) :] for key in keys} & set(wanted)
            if max(keys, default="") > prefix + max(wanted):
                break
        if not any_key:
            self.stamp(folder)  # `NotFound` if there is no such folder
        return found

    def _has_key(self, prefix: str) -> bool:
        return any(next(self._pages(prefix, MaxKeys=1)))

    def stamp(self, folder: Path) -> int:
        if not self._has_key(self._prefix_of(folder)):
            raise NotFound(f"There is no {folder or '/'}.")
        return 0

    # Reading

    def _get(self, path: Path, **more: str) -> tuple[BinaryIO, Stat]:
        answer = self._call("get_object", path, **more)
        total = answer.get("ContentRange", "").rpartition("/")[2]
        stream: Any = Stream(answer["Body"], self._client)
        return stream, _stat(answer, int(total or answer["ContentLength"]))

    def open(self, path: Path, first: int = 0, length: int = 0) -> tuple[BinaryIO, Stat]:
        """Opens a version of an object; the caller compares its stat with the one it expects."""
        wanted = {"Range": f"bytes={first}-{first + length - 1}"} if length else {}
        try:
            return self._get(path, **wanted)
        except errors.Overtaken:  # it is empty, or shorter than it was
            return self._get(path)
        except errors.Archived as error:
            answer = self._call("head_object", path)
            raise errors.Archived(str(error), _stat(answer, 0).rev) from error

    def stat(self, path: Path) -> Stat:
        """Reads one byte: the answer to a HEAD would not say why it is refused."""
        return self.head(path, 1)[1]

    def read_changed(self, path: Path, known: Stat, limit: int) -> Content | None:
        try:
            body, stat = self._get(path, **({"IfNoneMatch": known.etag} if known.etag else {}))
        except SameObject:
            return None
        with body:
            if stat.size > limit:
                raise Conflict(f"{path} has {stat.size} bytes, more than {limit}.")
            if stat.source == _REMOVED:
                raise NotFound(f"There is no {path}.")
            return body.read(), stat

    def url(self, path: Path, seconds: int, **answer: str) -> str:
        wanted = {"Bucket": self.bucket, "Key": self.prefix + path, **answer}
        return self._client.presigned(self.region, wanted, seconds)

    # Writing

    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        """In a store without conditional writes, replaces any file that is Lenslet's own."""
        if not path.parent:
            self.check()
        source = image.rev if image else ""
        with tempfile.TemporaryFile() as body:
            body.writelines((data,) if isinstance(data, bytes) else data())
            body.seek(0)
            if not self._has_conditions():
                self.own_rev(path)
                self._put(path, body, None, source)
                return
            rev = over
            if rev is None:  # a thumbnail is usually new, any other derived object usually exists
                rev = "" if path.endswith(THUMBNAIL) else self.own_rev(path)
            try:
                self._put(path, body, rev, source)
            except Overtaken:
                new = self.own_rev(path)
                if over is not None:
                    raise
                body.seek(0)
                self._put(path, body, new, source)

    def _put(self, path: Path, body: BinaryIO | bytes, rev: str | None, source: str = "") -> str:
        """Writes an object over one with this rev: "" for none, None for any; returns its ETag."""
        parameters: dict[str, Any] = {"Body": body}
        if rev is not None:
            parameters |= {"IfMatch": rev} if rev else {"IfNoneMatch": "*"}
        if media_type := _MEDIA_TYPES.get(path.rpartition(".")[2]):
            parameters["ContentType"] = media_type
        if source:
            parameters["Metadata"] = {"rev": source}
        try:
            answer = self._call("put_object", path, **parameters)
        except NotFound as error:
            raise Overtaken(f"{path} was removed.") from error
        except Denied:
            self._refused = True
            raise
        if "ETag" not in answer:  # it may not be stored, so it must not be acknowledged
            raise StorageNonsense("The store sent an answer that is not valid S3.")
        self._refused = False
        self._seen = time.monotonic()
        return str(answer["ETag"]).strip('"')

    def delete(self, path: Path) -> None:
        if not self.own_rev(path):
            raise NotFound(f"There is no {path}.")
        self._call("delete_object", path)

    def copies(self, paths: Sequence[Path]) -> list[Copy]:
        return self._stored(paths)[0]

    def _stored(self, paths: Sequence[Path]) -> tuple[list[Copy], dict[Path, str]]:
        """Reads documents, and the ETags of all objects that are there, also of removed ones."""
        found, etags = list[Copy](), dict[Path, str]()
        for path in paths:
            with contextlib.suppress(NotFound):
                body, stat = self._get(path)
                with body:
                    etags[path] = stat.etag
                    if stat.size > DOCUMENT_BYTES:
                        reason = f"{path} has {stat.size} bytes, more than {DOCUMENT_BYTES}"
                        found.append(Copy(path, None, reason))
                    elif stat.source != _REMOVED:
                        found.append(Copy(path, body.read(), mtime_ns=stat.mtime_ns))
        return found, etags

    def update(self, paths: Sequence[Path], change: Change) -> None:
        """Compares and swaps: a write that another writer overtakes is tried again.

        A removed document leaves a blank object that is marked as removed. Some stores ignore the
        condition of a DELETE (seen with Ceph), and a late DELETE would then remove what another
        host wrote meanwhile. No two marks have the same bytes, and so the same ETag: a PUT that
        replaces an earlier mark and arrives late must not replace this one.
        """
        deadline, tries = time.monotonic() + _UPDATE_SECONDS, 0
        wanted: tuple[Path, bytes | None] | None = None
        while time.monotonic() < deadline:
            found, etags = self._stored(paths)
            stored = dict.fromkeys(etags) | {each.path: each.data for each in found}
            if wanted and wanted in stored.items():
                return  # the last write succeeded, only its answer was lost
            wanted = change(found)
            if wanted is None:
                return
            path, data = wanted
            body, source = (_blank(), _REMOVED) if data is None else (data, "")
            if not self._has_conditions():
                raise Unsupported(_NO_CONDITIONS)
            try:
                self._put(path, body, etags.get(path, ""), source)
                return
            except Overtaken:
                tries += 1
                paths = paths if path in paths else (path, *paths)
                threading.Event().wait(random.uniform(0, min(0.02 * 2**tries, 1.0)))
        raise errors.StorageUnavailable(f"{paths[0]}: other writers were first for too long.")

    def _has_conditions(self) -> bool:
        """True if conditional writes work. Tried once, with an object that exists for a moment.

        If this process dies meanwhile, `sweep` removes the object.
        """
        known = self._client.conditions
        if self.bucket not in known:
            with contextlib.suppress(Denied):  # as the write itself will be
                # An answer that is lost looks like a refusal: such a store is asked twice.
                known[self.bucket] = self._try_conditions() or self._try_conditions()
        return known.get(self.bucket, True)

    def _try_conditions(self) -> bool:
        """Tries what must succeed and what must be refused.

        Seen: stores that ignore conditions, that answer 501, and (Ceph 16, a bucket with versions)
        one that answers every `If-Match` with 412.
        """
        probe = Path(f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            with contextlib.suppress(Overtaken):
                self._put(probe, b"", _NEVER)
                return False
            etag = self._put(probe, b"", "")
            with contextlib.suppress(Overtaken):
                self._put(probe, b"", "")
                return False
            self._put(probe, b"", etag)
            return True
        except (Overtaken, Unsupported):
            return False
        finally:
            with contextlib.suppress(errors.LensletError):
                self._call("delete_object", probe)

    def obstacle(self, folder: Path = ROOT) -> errors.LensletError | None:
        """The error of the last write, if it was refused, or why nothing can be edited."""
        if self._refused:
            return Denied("the bucket cannot be written: set STATE_DIR")
        works = self._client.conditions.get(self.bucket, True)
        return None if works else Unsupported(_NO_CONDITIONS)


def _blank() -> bytes:
    """Returns random white space: elsewhere such a file counts as one without content."""
    return f"{secrets.randbits(256):0256b}\n".translate({48: " ", 49: "\n"}).encode()


def _stat(answer: dict[str, Any], size: int) -> Stat:
    try:
        etag, when = answer["ETag"].removeprefix("W/").strip('"'), answer["LastModified"]
    except KeyError as error:
        raise StorageNonsense("The store sent an answer that is not valid S3.") from error
    source = answer.get("Metadata", {}).get("rev", "")
    return Stat.of_object(size, int(when.timestamp()), etag, source)


class S3Buckets(Client):
    """A client that opens the buckets of its service."""

    def open(self, bucket: str, prefix: str, region: str = "") -> Tree:
        return S3Tree(self, bucket, prefix, region)
