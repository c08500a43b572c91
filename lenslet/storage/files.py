"""Files in an open folder: opened without following links, read, replaced whole, locked.

Raises `OSError`, which `local` turns into domain errors.
"""

import contextlib
import errno
import fcntl
import operator
import os
import secrets
import stat
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
_LOCK_SECONDS, _LOCK_PAUSE = 10.0, 0.005

Info = os.stat_result | None  # None: there is no such file
_identity = operator.attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


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


def stat_in(folder: int, name: str) -> Info:
    """Looks at what has this name in an open folder."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return None


# Replacing


def replace(
    folder: int, name: str, pieces: Iterable[bytes], old: Info, *, mtime_ns: int | None = None
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


def swap(folder: int, name: str, data: bytes | None, before: Info) -> None:
    """Replaces the file that was seen as `before`, or creates it if that is None; with fsync.

    Without `data` it is removed. Other programs take no lock: `Changed` if one of them was faster.
    A program that writes between the last look and the rename, some microseconds, is not noticed
    if it replaces a file.
    """
    if data is None:
        _check_same(folder, name, before)
        os.unlink(name, dir_fd=folder)
    else:
        with _temporary(folder, before) as (file, temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if before is None:
                _rename_new(folder, temporary, name)
            else:
                _check_same(folder, name, before)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


@contextlib.contextmanager
def _temporary(folder: int, old: Info) -> Iterator[tuple[BinaryIO, str]]:
    """Creates a file that will replace the `old` one, with its owner and mode.

    It is removed after errors. If this process dies, `Tree.sweep` removes it.
    """
    temporary = TEMPORARY + secrets.token_hex(8)
    fd = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    with open(fd, "wb", _BUFFER_BYTES) as file:
        try:
            if old:
                with contextlib.suppress(OSError):  # only root may change the owner
                    os.fchown(fd, old.st_uid, old.st_gid)
                with contextlib.suppress(OSError):
                    os.fchmod(fd, stat.S_IMODE(old.st_mode))
            yield file, temporary
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise


def _check_same(folder: int, name: str, before: Info) -> None:
    now = stat_in(folder, name)
    if (now and _identity(now)) != (before and _identity(before)):
        raise Changed


def _rename_new(folder: int, temporary: str, name: str) -> None:
    """Renames a file to a name that is free; `Changed` if it is not.

    With a file system that has no hard links (exFAT), a file that another program makes between
    the look and the rename is replaced.
    """
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(temporary, dir_fd=folder)
    except FileExistsError as error:
        raise Changed from error
    except OSError:
        if stat_in(folder, name):
            raise Changed from None
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


# Folders


@contextlib.contextmanager
def locked(folder: int) -> Iterator[None]:
    """Locks a folder for a moment; other writers wait, for ten seconds at most."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        if time.monotonic() > until:
            raise StorageUnavailable("Another program has locked the folder for ten seconds.")
        time.sleep(_LOCK_PAUSE)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


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
