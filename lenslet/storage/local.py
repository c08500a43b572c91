"""A tree of files in a local folder. Writes are whole or absent, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat as stat_module
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from lenslet.errors import (
    Conflict,
    Denied,
    Invalid,
    LensletError,
    NotFound,
    NotRegular,
    StorageFull,
    StorageUnavailable,
)
from lenslet.paths import ROOT, TEMPORARY, Path, escaped, usable
from lenslet.storage.opening import open_below
from lenslet.storage.tree import DOCUMENT_BYTES, Listing, Stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY = frozenset((errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST))
_LOCK_SECONDS = 10.0
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0


@contextlib.contextmanager
def _domain_errors(path: Path, *, writing: bool = False) -> Iterator[None]:
    """The operating system's errors in domain words, naming `path` and never the server's own."""
    try:
        yield
    except OSError as error:
        if writing and error.errno in _IN_THE_WAY:
            raise Denied(f"{path}: something that is no file is in the way.") from error
        if writing and error.errno == errno.ENAMETOOLONG:
            raise Invalid("path", "the name is too long for a file beside it") from error
        raise _translate(error, path) from error


def _translate(error: OSError, path: Path) -> LensletError:
    shown = path or "/"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound(f"There is no {shown}.")
        case errno.EISDIR | errno.ELOOP | errno.ENXIO:
            return NotRegular(f"There is no file {shown}.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Denied(f"{shown}: {os.strerror(error.errno)}.")
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFull(f"{shown}: {os.strerror(error.errno)}.")
    return StorageUnavailable(f"{shown}: {os.strerror(error.errno or errno.EIO)}.")


class LocalTree:
    """Files below the folder `root`.

    A `private` tree is ours alone (`STATE_DIR`, the cache): folders are made as needed. Any other
    is the user's, and nothing is written at the top of one that is empty: a disk is unmounted.
    """

    def __init__(
        self, root: str, *, private: bool = False, within: LocalTree | None = None
    ) -> None:
        """A private tree `within` the user's is not made while that one is empty otherwise."""
        self.root = os.path.realpath(root)
        self.private = private
        self._within = within
        self._root = os.fsencode(self.root)
        self._not_counted: set[str] = set()
        if within:
            within._not_counted.add(os.path.relpath(self.root, within.root).split(os.sep)[0])

    @property
    def name(self) -> str:
        return self.root

    def _open(self, path: Path, flags: int) -> int:
        return open_below(self._root, path.encode(), flags)

    @contextlib.contextmanager
    def _folder(self, folder: Path, *, make: bool = False) -> Iterator[int]:
        """A descriptor of `folder`, errors translated; with `make`, folders made on the way."""
        with _domain_errors(folder):
            try:
                fd = self._open(folder, _FOLDER)
            except FileNotFoundError:
                if not make:
                    raise
                self._make(folder)
                fd = self._open(folder, _FOLDER)
            try:
                yield fd
            finally:
                os.close(fd)

    def _make(self, folder: Path) -> None:
        """Make `folder` and those above it; the root itself only in a private tree."""
        if not folder:
            if not self.private:
                raise FileNotFoundError(errno.ENOENT, "no such root")
            if self._within:
                with self._within._folder(ROOT) as above:
                    self._within._refuse_empty(ROOT, above)
            os.makedirs(self.root, exist_ok=True)
            return
        with self._folder(folder.parent, make=True) as above:
            self._refuse_empty(folder.parent, above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder.name.encode(), dir_fd=above)
                os.fsync(above)

    def _refuse_empty(self, folder: Path, fd: int) -> None:
        if folder or self.private:
            return
        if self._is_empty(fd):
            raise StorageUnavailable("The root is empty: an unmounted disk?")

    def listing(self, folder: Path) -> Listing:
        found = Listing()
        with self._folder(folder) as fd, os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if not usable(name):
                    found.unusable.append(escaped(name))
                elif entry.is_dir(follow_symlinks=False):
                    found.folders.append(name)
                elif not entry.is_file(follow_symlinks=False):
                    continue
                elif name.startswith(TEMPORARY):
                    found.temporary.append(name)
                else:
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.files[name] = Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        return found

    def which(self, folder: Path, names: Iterable[str]) -> set[str]:
        found = set()
        with self._folder(folder) as fd:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.stat(name.encode(), dir_fd=fd, follow_symlinks=False)
                    found.add(name)
        return found

    def is_empty(self) -> bool:
        with self._folder(ROOT) as fd:
            return self._is_empty(fd)

    def _is_empty(self, fd: int) -> bool:
        with os.scandir(fd) as entries:
            return all(entry.name in self._not_counted for entry in entries)

    def any_file(self, folder: Path, test: Callable[[str], bool]) -> bool:
        with self._folder(folder) as fd, os.scandir(fd) as entries:
            return any(
                test(entry.name) and usable(entry.name) and entry.is_file(follow_symlinks=False)
                for entry in entries
            )

    def stamp(self, folder: Path) -> int:
        with self._folder(folder) as fd:
            return os.fstat(fd).st_mtime_ns

    def stat(self, path: Path) -> Stat:
        with _domain_errors(path):
            fd = self._open(path, os.O_PATH)
            try:
                return _regular(os.fstat(fd), path)
            finally:
                os.close(fd)

    def has_folder(self, path: Path) -> bool:
        try:
            with self._folder(path):
                return True
        except NotFound:
            return False

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        with _domain_errors(path):
            fd = self._open(path, os.O_RDONLY)
            try:
                stat = _regular(os.fstat(fd), path)
            except LensletError:
                os.close(fd)
                raise
            return open(fd, "rb"), stat

    def read(self, path: Path, limit: int | None = None) -> tuple[bytes, Stat]:
        with _domain_errors(path):
            fd = self._open(path, os.O_RDONLY)
            try:
                stat = _regular(os.fstat(fd), path)
                _refuse_larger(path, stat.size, limit)
                return _read_all(fd, stat.size), stat
            finally:
                os.close(fd)

    def write(
        self,
        path: Path,
        data: bytes | Iterable[bytes],
        *,
        mtime_ns: int | None = None,
        make: bool = False,
    ) -> None:
        with (
            self._folder(path.parent, make=make or self.private) as fd,
            _domain_errors(path, writing=True),
        ):
            self._refuse_empty(path.parent, fd)
            _replace(fd, path.name.encode(), data, mtime_ns=mtime_ns)

    def update(self, path: Path, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        name = path.name.encode()
        with (
            self._folder(path.parent, make=self.private) as fd,
            _domain_errors(path, writing=True),
        ):
            self._refuse_empty(path.parent, fd)
            _lock(fd)
            old, info = self._existing(path)
            new = change(old)
            if new is None:
                if info:
                    os.unlink(name, dir_fd=fd)
            elif new != old:
                _replace(fd, name, new, durable=True, like=info)
            os.fsync(fd)
            return new

    def _existing(self, path: Path) -> tuple[bytes | None, os.stat_result | None]:
        try:
            fd = self._open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None, None
        try:
            info = os.fstat(fd)
            _refuse_larger(path, _regular(info, path).size, DOCUMENT_BYTES)
            return _read_all(fd, info.st_size), info
        finally:
            os.close(fd)

    def delete(self, path: Path) -> None:
        with self._folder(path.parent) as fd, _domain_errors(path):
            os.unlink(path.name.encode(), dir_fd=fd)

    def sweep(self, folder: Path, temporary: list[str]) -> int:
        with self._folder(folder) as fd:
            return sum(_sweep_one(fd, name) for name in temporary)

    def writable(self, folder: Path) -> bool:
        with self._folder(folder) as fd:
            return os.access(b".", os.W_OK, dir_fd=fd)

    def device(self) -> int:
        with self._folder(ROOT) as fd:
            return os.fstat(fd).st_dev


def _regular(info: os.stat_result, path: Path) -> Stat:
    if not stat_module.S_ISREG(info.st_mode):
        raise NotRegular(f"There is no file {path}.")
    return Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _refuse_larger(path: Path, size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise Conflict(f"{path} has {size} bytes, more than the {limit} that are read.")


def _read_all(fd: int, size: int) -> bytes:
    """To the end of the file: one read where it has not grown, two system calls in all."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while parts[-1]:
        parts.append(os.read(fd, 1 << 20))
    return b"".join(parts)


def _replace(
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
        os.fchmod(fd, stat_module.S_IMODE(old.st_mode))


def _lock(folder: int) -> None:
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


def _sweep_one(folder: int, name: str) -> bool:
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
