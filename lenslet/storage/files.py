"""Local files: opened without following links, replaced whole, locked by folder."""

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

# A pipe named .jpg must not block.
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_PASSING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 256 * 1024
_LOCK_SECONDS = 10.0
_LOCK_PAUSE, _LOCK_PAUSE_MOST = 0.0001, 0.002
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0


def open_below(root: str, path: str, flags: int = 0) -> int:
    """Opens `path` below `root` for reading, or with other `flags`; follows no link on the way.

    Goes down one folder at a time, so that nothing outside of `root` is ever reached: 7 µs for four
    of them.
    """
    steps = path.split("/") if path else []
    fd = os.open(root, _PASSING if steps else _READING | flags)
    for left, step in enumerate(steps, 1 - len(steps)):
        above = fd
        try:
            fd = os.open(step, _PASSING if left else _READING | flags, dir_fd=above)
        finally:
            os.close(above)
    return fd


def read_all(fd: int, size: int) -> bytes:
    """Reads to the end of a file: one system call if it has the expected `size`."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while parts[-1]:
        parts.append(os.read(fd, 1 << 20))
    return b"".join(parts)


def replace(
    folder: int,
    name: str,
    pieces: Iterable[bytes],
    *,
    mtime_ns: int | None = None,
    durable: bool = False,
) -> None:
    """Puts a file in place, whole or not at all. `durable`: it is on disk, with its old mode.

    The temporary file is locked while its writer lives, so that `sweep` leaves it alone.
    """
    temporary = TEMPORARY + secrets.token_hex(8)
    with open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb", _BUFFER_BYTES) as file:
        fd = file.fileno()
        try:
            with contextlib.suppress(OSError):  # some network mounts have no locks
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.writelines(pieces)
            file.flush()
            if mtime_ns is not None:
                _set_mtime(fd, mtime_ns)
            if durable:
                _resemble(fd, stat_in(folder, name))
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
    if durable:
        os.fsync(folder)


def _set_mtime(fd: int, mtime_ns: int) -> None:
    os.utime(fd, ns=(mtime_ns, mtime_ns))
    if os.fstat(fd).st_mtime_ns != mtime_ns:
        raise Denied("The file system does not keep times to the nanosecond.")


def _resemble(fd: int, old: os.stat_result | None) -> None:
    if old:
        with contextlib.suppress(OSError):  # only root may change the owner
            os.fchown(fd, old.st_uid, old.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(old.st_mode))


def stat_in(folder: int, name: str) -> os.stat_result | None:
    """Returns the stat of what has this name in an open folder; None if nothing has."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def locked(folder: int) -> Iterator[None]:
    """Locks a folder; `StorageUnavailable` after ten seconds of waiting for another writer."""
    deadline = time.monotonic() + _LOCK_SECONDS
    pause, wait = threading.Event(), _LOCK_PAUSE
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageUnavailable("Another writer has locked the folder.") from None
            pause.wait(wait)
            wait = min(2 * wait, _LOCK_PAUSE_MOST)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def sweep(folder: int, name: str) -> None:
    """Removes a temporary file that no living process has locked, or one over an hour old."""
    with contextlib.suppress(OSError), open(os.open(name, _READING, dir_fd=folder)) as file:
        age = time.time() - os.fstat(file.fileno()).st_ctime
        if age < _LEFTOVER_SECONDS:
            return
        if age < _LEFTOVER_SECONDS_UNLOCKABLE:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises `OSError` if it is locked
        os.unlink(name, dir_fd=folder)
