"""Files in an open folder: opened without following links, read, replaced whole, locked.

Raises `OSError`, which `local` turns into domain errors.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from lenslet.errors import Denied, StorageUnavailable
from lenslet.paths import TEMPORARY

# A pipe named .jpg must not block.
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_PASSING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 256 * 1024
_RENAME_NOREPLACE = 1
_LOCK_SECONDS = 10.0
_LOCK_PAUSE, _LOCK_PAUSE_MOST = 0.0001, 0.002
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0
_libc = ctypes.CDLL(None, use_errno=True)


class Changed(Exception):
    """Another program has changed the file that was to be replaced."""


# Opening and reading


def open_below(root: str, path: str, flags: int = 0) -> int:
    """Opens `path` below `root` for reading, or with other `flags`.

    Goes down one folder at a time, so that no link below the root is followed.
    """
    first, *steps = path.split("/")
    fd = os.open(os.path.join(root, first), _PASSING if steps else READING | flags)
    for left, step in enumerate(steps, 1 - len(steps)):
        above = fd
        try:
            fd = os.open(step, _PASSING if left else READING | flags, dir_fd=above)
        finally:
            os.close(above)
    return fd


def stat_in(folder: int, name: str) -> os.stat_result | None:
    """Returns the stat of what has this name in an open folder; None if nothing has."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return None


def read_all(fd: int, size: int, limit: int | None) -> bytes:
    """Reads a file to EOF: one system call if it has the expected `size`.

    Of one that grows meanwhile, little more than `limit`.
    """
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts, size = [data], len(data)
    while parts[-1] and (limit is None or size <= limit):
        parts.append(os.read(fd, 1 << 20))
        size += len(parts[-1])
    return b"".join(parts)


# Replacing


def replace(
    folder: int,
    name: str,
    pieces: Iterable[bytes],
    old: os.stat_result | None,
    *,
    mtime_ns: int | None = None,
) -> None:
    """Puts a file in place of the `old` one, whole or not at all, without fsync.

    It replaces whatever is there by then.
    """
    with _temporary(folder, old) as (file, temporary):
        file.writelines(pieces)
        file.flush()
        if mtime_ns is not None:
            os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            if os.fstat(file.fileno()).st_mtime_ns != mtime_ns:
                raise Denied("The file system does not keep times to the nanosecond.")
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def swap(
    folder: int, name: str, data: bytes | None, before: os.stat_result | None, *, durable: bool
) -> None:
    """Replaces the file that was seen as `before`, or creates it if that is None.

    Without `data` it is removed. If it is `durable`, it is on disk on return. Other programs take
    no lock: `Changed` if one of them was faster. A program that writes between the last look and
    the rename, some microseconds, is not noticed if it replaces a file.
    """
    if data is None:
        _check_same(folder, name, before)
        os.unlink(name, dir_fd=folder)
    else:
        with _temporary(folder, before) as (file, temporary):
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            _put_in_place(folder, temporary, name, before)
    if durable:
        os.fsync(folder)


@contextlib.contextmanager
def _temporary(folder: int, old: os.stat_result | None) -> Iterator[tuple[BinaryIO, str]]:
    """Creates a file that will replace the `old` one, with its owner and mode.

    It is removed after errors, and locked while its writer lives, so that `sweep` leaves it alone.
    """
    file, temporary = _create_locked(folder)
    with file:
        try:
            _resemble(file.fileno(), old)
            yield file, temporary
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise


def _create_locked(folder: int) -> tuple[BinaryIO, str]:
    while True:
        temporary = TEMPORARY + secrets.token_hex(8)
        file = open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb", _BUFFER_BYTES)  # noqa: SIM115
        with contextlib.suppress(OSError):  # some network mounts have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if stat_in(folder, temporary):
            return file, temporary
        file.close()  # swept before it was locked: a clock is ahead


def _resemble(fd: int, old: os.stat_result | None) -> None:
    if old:
        with contextlib.suppress(OSError):  # only root may change the owner
            os.fchown(fd, old.st_uid, old.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(old.st_mode))


def _put_in_place(folder: int, temporary: str, name: str, before: os.stat_result | None) -> None:
    if before is None:
        try:
            rename_new(folder, temporary, folder, name)
        except FileExistsError as error:
            raise Changed from error
    else:
        _check_same(folder, name, before)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _check_same(folder: int, name: str, before: os.stat_result | None) -> None:
    now = stat_in(folder, name)
    if (now and _identity(now)) != (before and _identity(before)):
        raise Changed


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def rename_new(source: int, old: str, folder: int, new: str) -> None:
    """Renames a file to a name that is free; `FileExistsError` if it is not.

    With a file system that can do neither `RENAME_NOREPLACE` nor links, a file that another
    program makes between the look and the rename is replaced.
    """
    if hasattr(_libc, "renameat2"):
        names = os.fsencode(old), os.fsencode(new)
        if not _libc.renameat2(source, names[0], folder, names[1], _RENAME_NOREPLACE):
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(old, dir_fd=source)
    except FileExistsError:
        raise
    except OSError:
        if stat_in(folder, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=folder)


# Folders


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
    """Removes a temporary file over a second old that is not locked or, without locks, an hour."""
    with contextlib.suppress(OSError), open(os.open(name, READING, dir_fd=folder)) as file:
        age = time.time() - os.fstat(file.fileno()).st_ctime
        if age < _LEFTOVER_SECONDS:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # its writer lives, however old it seems after the clock was set
        except OSError:
            if age < _LEFTOVER_SECONDS_UNLOCKABLE:
                return
        os.unlink(name, dir_fd=folder)


def make_folders(path: str) -> None:
    """Creates a folder and those above it. They survive a crash of the machine."""
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    fd = os.open(path, READING | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
