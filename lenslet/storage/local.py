"""A tree of files in a local folder. Writes are whole or absent, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
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
from lenslet.storage.documents import Documents, is_held
from lenslet.storage.opening import open_below
from lenslet.storage.replacing import Replacement, locked, sweep
from lenslet.storage.tree import DOCUMENT_BYTES, Change, Listing, Stat

_UNUSED_SECONDS = 1.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_IN_THE_WAY = frozenset((errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST))


class _DomainErrors:
    """The operating system's errors in domain words, naming `path` and never the server's own.

    A class of its own: five of them in a request cost 7 µs less than generators.
    """

    __slots__ = ("_path", "_writing")

    def __init__(self, path: Path, *, writing: bool = False) -> None:
        self._path = path
        self._writing = writing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _translate(error, self._path, self._writing) from error


def _translate(error: OSError, path: Path, writing: bool) -> LensletError:
    if writing and error.errno in _IN_THE_WAY:
        return Denied(f"{path}: something that is no file is in the way.")
    if writing and error.errno == errno.ENAMETOOLONG:
        return Invalid("path", "the name is too long for a file beside it")
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
    With `holds`, so many bytes of manifests are held in memory while their files are as they were.
    """

    remote = False

    def __init__(
        self,
        root: str,
        *,
        private: bool = False,
        within: LocalTree | None = None,
        holds: int = 0,
    ) -> None:
        """A private tree `within` the user's is not made while that one is empty otherwise."""
        self.root = os.path.realpath(root)
        self.private = private
        self._within = within
        self._documents = Documents(holds)
        self._root = os.fsencode(self.root)
        self._not_counted: set[str] = set()
        self._asking = threading.Lock()
        self._unused_until = 0.0
        self._witness = b""  # a name that was at the top, asked for before all are listed
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
        with _DomainErrors(folder):
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
        found, files = Listing(), {}
        with self._folder(folder) as fd, os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if not usable(name):
                    found.unusable.append(escaped(name))
                elif entry.is_file(follow_symlinks=False):
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    files[name] = Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                elif entry.is_dir(follow_symlinks=False):
                    found.folders.append(name)
        found.temporary = [name for name in files if name.startswith(TEMPORARY)]
        for name in found.temporary:
            del files[name]
        found.files = files
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

    def is_unused(self) -> bool:
        """Whether nothing is kept in a private tree, asked by each request.

        Another process's first file is seen within a second.
        """
        if self._unused_until > time.monotonic():
            return True
        with self._asking:
            with contextlib.suppress(NotFound, Denied):
                if not self.is_empty():
                    return False
            self._unused_until = time.monotonic() + _UNUSED_SECONDS
        return True

    def _is_empty(self, fd: int) -> bool:
        if self._witness:
            with contextlib.suppress(FileNotFoundError):
                os.stat(self._witness, dir_fd=fd, follow_symlinks=False)
                return False
        with os.scandir(fd) as entries:
            found = next((e.name for e in entries if e.name not in self._not_counted), "")
        self._witness = os.fsencode(found)
        return not found

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
        with _DomainErrors(path):
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
        with _DomainErrors(path):
            fd = self._open(path, os.O_RDONLY)
            try:
                stat = _regular(os.fstat(fd), path)
            except LensletError:
                os.close(fd)
                raise
            return open(fd, "rb"), stat

    def read(self, path: Path, limit: int | None = None) -> tuple[bytes, Stat]:
        if not is_held(path):
            return self._read(path, limit)
        held, _ = self._documents.get(path)
        if held and held.stat == self.stat(path):
            return held.data, held.stat
        data, stat = self._read(path, limit)
        if stat.settled(time.time_ns()):
            self._documents.put(path, data, stat)
        return data, stat

    def _read(self, path: Path, limit: int | None) -> tuple[bytes, Stat]:
        with _DomainErrors(path):
            fd = self._open(path, os.O_RDONLY)
            try:
                stat = _regular(os.fstat(fd), path)
                _refuse_larger(path, stat.size, limit)
                return _read_all(fd, stat.size), stat
            finally:
                os.close(fd)

    def head(self, path: Path, size: int) -> tuple[bytes, Stat]:
        file, stat = self.open(path)
        with file:
            return file.read(size), stat

    def write(
        self,
        path: Path,
        data: bytes | Iterable[bytes],
        *,
        image: Stat | None = None,
        make: bool = False,
        over: str | None = None,
    ) -> None:
        mtime_ns = image.mtime_ns if image else None
        with (
            self._folder(path.parent, make=make or self.private) as fd,
            _DomainErrors(path, writing=True),
        ):
            self._refuse_empty(path.parent, fd)
            with Replacement(fd, data, mtime_ns=mtime_ns) as new:
                new.put(path.name.encode())
        if self.private:
            with self._asking:
                self._unused_until = 0.0

    def update(
        self,
        path: Path,
        change: Change,
        seen: tuple[bytes | None, str] | None = None,
        draft: bytes | None = None,
    ) -> bytes | None:
        with (
            self._folder(path.parent, make=self.private) as fd,
            _DomainErrors(path, writing=True),
            contextlib.ExitStack() as stack,
        ):
            self._refuse_empty(path.parent, fd)
            ready = None
            if draft is not None:
                like = _stat_in(fd, path.name.encode())
                ready = stack.enter_context(Replacement(fd, draft, durable=True, like=like))
            with locked(fd):
                new = self._change(fd, path, change, ready)
            os.fsync(fd)  # others' changes may go to disk with this one
            return new

    def _change(
        self, fd: int, path: Path, change: Change, ready: Replacement | None
    ) -> bytes | None:
        name = path.name.encode()
        old, info = self._existing(path)
        new = change(old)
        if new is None:
            if info:
                os.unlink(name, dir_fd=fd)
        elif new != old and ready and new == ready.data:
            ready.put(name)
        elif new != old:
            with Replacement(fd, new, durable=True, like=info) as other:
                other.put(name)
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
        name = path.name.encode()
        with self._folder(path.parent) as fd, _DomainErrors(path):
            os.stat(name, dir_fd=fd, follow_symlinks=False)  # a read-only disk refuses any name
            os.unlink(name, dir_fd=fd)

    def sweep(self, folder: Path, temporary: list[str]) -> int:
        with self._folder(folder) as fd:
            return sum(sweep(fd, name) for name in temporary)

    def writable(self, folder: Path) -> bool:
        with self._folder(folder) as fd:
            return os.access(b".", os.W_OK, dir_fd=fd)

    def device(self) -> int:
        with self._folder(ROOT) as fd:
            return os.fstat(fd).st_dev


def _stat_in(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


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
