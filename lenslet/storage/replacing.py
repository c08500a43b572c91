"""Files replaced whole, through a temporary file beside them; folders locked; leftovers swept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable

from lenslet.errors import Denied, StorageUnavailable
from lenslet.paths import TEMPORARY

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_SECONDS = 10.0
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0


def replace(
    folder: int,
    name: bytes,
    data: bytes | Iterable[bytes],
    *,
    mtime_ns: int | None = None,
    durable: bool = False,
    like: os.stat_result | None = None,
) -> None:
    """Write a temporary file, which is locked while its writer lives, and rename it over `name`."""
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}".encode()
    fd = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    try:
        with contextlib.suppress(OSError):  # some network mounts have no locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if like is not None:
            _resemble(fd, like)
        for piece in (data,) if isinstance(data, bytes) else data:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
        if mtime_ns is not None:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            if os.fstat(fd).st_mtime_ns != mtime_ns:
                raise Denied("The file system does not keep times to the nanosecond.")
        if durable:
            os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def _resemble(fd: int, old: os.stat_result) -> None:
    with contextlib.suppress(OSError):  # only root may give a file away
        os.fchown(fd, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(fd, stat.S_IMODE(old.st_mode))


def lock(folder: int) -> None:
    """Hold the folder until its descriptor is closed; `StorageUnavailable` after ten seconds."""
    deadline = time.monotonic() + _LOCK_SECONDS
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageUnavailable("Another writer holds the folder for too long.") from None
            pause.wait(0.002)


def sweep(folder: int, name: str) -> bool:
    """Remove a temporary file that no living process has locked, or one over an hour old."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name.encode(), flags, dir_fd=folder)
    except OSError:
        return False
    try:
        age = time.time() - os.fstat(fd).st_ctime
        if age < _LEFTOVER_SECONDS:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if age < _LEFTOVER_SECONDS_UNLOCKABLE:
                return False
        os.unlink(name.encode(), dir_fd=folder)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
