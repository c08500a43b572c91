"""Files replaced whole, through a temporary file beside them; folders locked; leftovers swept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator

from lenslet.errors import Denied, StorageUnavailable
from lenslet.paths import TEMPORARY

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_SECONDS = 10.0
_LOCK_PAUSE, _LOCK_PAUSE_MOST = 0.0001, 0.002
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0


class Replacement:
    """New content in a temporary file that is locked while its writer lives, until it is `put`.

    Used as a context: what was not put in place by its end is removed.
    """

    def __init__(
        self,
        folder: int,
        data: bytes | Iterable[bytes],
        *,
        mtime_ns: int | None = None,
        durable: bool = False,
        like: os.stat_result | None = None,
    ) -> None:
        """`like`: the file whose mode and owner the new one gets before anything is in it."""
        self.data = data
        self._folder = folder
        self._name = f"{TEMPORARY}{secrets.token_hex(8)}".encode()
        self._fd = os.open(self._name, _NEW, 0o666, dir_fd=folder)
        try:
            if like is not None:
                _resemble(self._fd, like)
            self._fill(mtime_ns)
            if durable:
                os.fsync(self._fd)
        except BaseException:
            self.__exit__()
            raise

    def _fill(self, mtime_ns: int | None) -> None:
        with contextlib.suppress(OSError):  # some network mounts have no locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for piece in (self.data,) if isinstance(self.data, bytes) else self.data:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._fd, view) :]
        if mtime_ns is not None:
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
            if os.fstat(self._fd).st_mtime_ns != mtime_ns:
                raise Denied("The file system does not keep times to the nanosecond.")

    def put(self, name: bytes) -> None:
        """Take the place of `name`."""
        os.rename(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._name = b""

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._name:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=self._folder)
        finally:
            os.close(self._fd)


def _resemble(fd: int, old: os.stat_result) -> None:
    with contextlib.suppress(OSError):  # only root may give a file away
        os.fchown(fd, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(fd, stat.S_IMODE(old.st_mode))


@contextlib.contextmanager
def locked(folder: int) -> Iterator[None]:
    """Hold the folder for the others to wait; `StorageUnavailable` after ten seconds of waiting."""
    deadline = time.monotonic() + _LOCK_SECONDS
    pause, wait = threading.Event(), _LOCK_PAUSE
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageUnavailable("Another writer holds the folder for too long.") from None
            pause.wait(wait)
            wait = min(2 * wait, _LOCK_PAUSE_MOST)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


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
