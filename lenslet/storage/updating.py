"""Read-modify-write of an object that any number of hosts may write: conditions, tried again."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Protocol

from lenslet.errors import Denied, NotFound, Overtaken, StorageUnavailable, Unsupported
from lenslet.paths import TEMPORARY, Path
from lenslet.storage.tree import Change, Stat

REMOVED = "removed"  # what an object's metadata say while it is being removed
_REMOVING_SECONDS = 5.0  # for so long a writer leaves that to whoever removes it
_SECONDS = 20.0
_NEVER = "0" * 32  # an ETag that nothing has
_NO_CONDITIONS = (
    "The store lacks conditional writes (If-Match, If-None-Match), so an edit could undo another "
    "that was made at the same time. It can be read; nothing is edited."
)


class Objects(Protocol):
    """What is needed of a bucket."""

    bucket: str

    def key(self, path: Path) -> str:
        """The key of the object at a path."""

    def fetch(self, path: Path) -> tuple[bytes, Stat]:
        """An object as it is now."""

    def put(self, path: Path, body: Any, image: Stat | None, over: str | None) -> None:
        """Write an object over the rev `over` alone, "" for none."""

    def remove(self, path: Path) -> None:
        """Remove an object, if it is there."""


class Proofs:
    """Which buckets have shown that they keep conditions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proven: set[str] = set()

    def prove(self, objects: Objects, path: Path) -> None:
        """`Unsupported` by a store that refuses conditional writes, or silently ignores them.

        Tried once for each bucket, with an object that is there for a moment; `path` is what is
        to be written.
        """
        with self._lock:
            if objects.bucket in self._proven:
                return
            try:
                kept = _keeps_conditions(objects, Path(f"{TEMPORARY}{random.getrandbits(64):x}"))
            except Denied as error:
                where = f"{objects.bucket}/{objects.key(path)}"
                raise Denied(f"The store does not allow s3:PutObject on {where}.") from error
            except Unsupported as error:
                raise Unsupported(_NO_CONDITIONS) from error
            if not kept:
                raise Unsupported(_NO_CONDITIONS)
            self._proven.add(objects.bucket)


def _keeps_conditions(objects: Objects, probe: Path) -> bool:
    """Whether two writes are refused whose conditions do not hold."""
    try:
        if not _refuses(objects, probe, _NEVER):
            return False
        objects.put(probe, b"", None, "")
        return _refuses(objects, probe, "")
    finally:
        objects.remove(probe)


def _refuses(objects: Objects, path: Path, over: str) -> bool:
    try:
        objects.put(path, b"", None, over)
    except Overtaken:
        return True
    return False


def update(
    objects: Objects,
    proofs: Proofs,
    path: Path,
    change: Change,
    seen: tuple[bytes | None, str] | None,
) -> bytes | None:
    """Replace an object by what `change` makes of it, as `Tree.update` promises."""
    deadline, tries = time.monotonic() + _SECONDS, 0
    tried: bytes | None = None
    while time.monotonic() < deadline:
        try:
            old, rev = seen or _existing(objects, path)
            if tried is not None and old == tried:
                return old  # it was our own write, whose answer was lost, that was first
            new = change(old)
            if new != old:
                proofs.prove(objects, path)
                tried = new
                _replace(objects, path, new, rev)
            return new
        except Overtaken:
            seen, tries = None, tries + 1
            threading.Event().wait(random.uniform(0, min(0.02 * 2**tries, 1.0)))
    raise StorageUnavailable(f"{path}: other writers were first for too long.")


def _existing(objects: Objects, path: Path) -> tuple[bytes | None, str]:
    """What an update finds: bytes and rev. One that is just being removed is waited for."""
    try:
        data, stat = objects.fetch(path)
    except NotFound:
        return None, ""
    if stat.source != REMOVED:
        return data, stat.etag
    if time.time() - stat.mtime_ns / 1e9 < _REMOVING_SECONDS:
        raise Overtaken(f"{path} is being removed.")
    return None, stat.etag


def _replace(objects: Objects, path: Path, new: bytes | None, rev: str) -> None:
    """Put `new` in place of what has this rev, or remove that.

    Not every store has a conditional DELETE (Ceph passes over the condition: seen). So the object
    is first replaced, conditionally, by an empty one that is marked as removed, which every reader
    takes for none and every writer waits for.
    """
    if new is not None:
        objects.put(path, new, None, rev)
    elif rev:
        objects.put(path, b"", Stat(0, 0, etag=REMOVED), rev)
        objects.remove(path)
