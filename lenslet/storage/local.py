"""A tree of files in a local folder. Files are written whole, and no link is followed."""

import contextlib
import errno
import os
import stat as stat_module
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

from lenslet import errors
from lenslet.bounds import DOCUMENT_BYTES
from lenslet.errors import Conflict, Denied, Foreign, LensletError, NotFound, NotRegular
from lenslet.paths import ROOT, THUMBNAIL, Path, escaped, usable
from lenslet.storage import files, tree
from lenslet.storage.tree import HEAD_BYTES, Change, Content, Copy, Data, Listing, Stat, Tree

MARKER = ".lenslet-state"  # the file in STATE_DIR that says which root it belongs to
_IN_THE_WAY = frozenset((errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST))
_LEAST_BYTES = 64 * 1024  # with less, the disk is full
_UPDATE_TRIES = 100  # a change of another program in between costs one


@contextlib.contextmanager
def _domain_errors(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Turns the operating system's errors into domain errors that name `path`."""
    try:
        yield
    except OSError as error:
        raise _translate(error, path, writing) from error


def _translate(error: OSError, path: Path, writing: bool) -> LensletError:
    if writing and error.errno in _IN_THE_WAY:
        return Denied(f"{path}: a file or folder of the same name is in the way.")
    if writing and error.errno == errno.ENAMETOOLONG:
        return errors.Invalid("path", "the name is too long for a file beside it")
    shown, reason = path or "the root", os.strerror(error.errno or errno.EIO)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound(f"There is no {path}." if path else "The root is not there.")
        case errno.EISDIR | errno.ELOOP | errno.ENXIO:
            return NotRegular(f"{shown} is not a file.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "" if path or writing else " Give Lenslet the rights to read it."
            return Denied(f"{shown}: {reason}.{advice}")
        case errno.ENOSPC | errno.EDQUOT:
            return errors.StorageFull(f"{shown}: {reason}. Free some space.")
    return errors.StorageUnavailable(f"{shown}: {reason}.")


class LocalTree(Tree):
    """Files below the folder `root`.

    In a `private` tree (`STATE_DIR`, the cache) folders are made as needed; any other belongs to
    the user. `marker` is a file that is there while the disk of `STATE_DIR` is mounted.
    """

    def __init__(self, root: str, *, private: bool = False, marker: str = "") -> None:
        self.root = self.name = os.path.realpath(root)
        self.private = private
        self._marker = marker

    @contextlib.contextmanager
    def _folder(self, folder: Path, *, make: bool = False) -> Iterator[int]:
        """Opens a folder; `make` creates it first if it is missing."""
        with _domain_errors(folder, writing=make):
            try:
                fd = files.open_below(self.root, folder, os.O_DIRECTORY)
            except FileNotFoundError:
                if not make:
                    raise
                self._make(folder)
                fd = files.open_below(self.root, folder, os.O_DIRECTORY)
            try:
                yield fd
            finally:
                os.close(fd)

    def _make(self, folder: Path) -> None:
        if folder:
            with self._folder(folder.parent, make=True) as above:
                if not folder.parent:
                    self._check_top(above)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder.name, dir_fd=above)
                    os.fsync(above)
        elif self.private:
            self._check_marker()
            files.make_folders(self.root)

    # The guard

    def check(self) -> None:
        try:
            with self._folder(ROOT) as fd:
                self._check_top(fd)
        except NotFound as error:
            if not self.private:
                reason = "The root is not there: an unmounted disk? Mount it."
                raise errors.StorageUnavailable(reason) from error
            self._check_marker()

    def _check_top(self, fd: int) -> None:
        """Raises `StorageUnavailable` if nothing is there, or only hidden names as `.lenslet`."""
        if self.private:
            self._check_marker()
            return
        with os.scandir(fd) as entries:
            if all(entry.name.startswith(".") for entry in entries):
                raise errors.StorageUnavailable(
                    "The root is empty: an unmounted disk? Mount it, or add photos."
                )

    def _check_marker(self) -> None:
        if self._marker and not os.path.exists(self._marker):
            raise errors.StorageUnavailable(
                "STATE_DIR does not hold what was written there: an unmounted disk? "
                f"If it was emptied or restored on purpose, create the file {MARKER} in it."
            )

    # Reading

    def listing(self, folder: Path) -> Listing:
        found = Listing()
        with self._folder(folder) as fd:
            if not folder and not self.private:
                self._check_top(fd)
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = entry.name
                    if not usable(name):
                        found.unusable.append(escaped(name))
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            found.add(name, _stat(entry.stat(follow_symlinks=False)))
                    elif entry.is_dir(follow_symlinks=False):
                        found.folders.append(name)
                    else:
                        found.others.append(name)
        return found

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        with self._folder(folder) as fd:
            found = {name for name in wanted if files.stat_in(fd, name)}
        if folder:
            with self._folder(folder.parent) as above:
                _check_listed(above, folder)
        return found

    def stamp(self, folder: Path) -> int:
        """The folder's mtime in nanoseconds."""
        with self._folder(folder) as fd:
            return os.fstat(fd).st_mtime_ns

    def stat(self, path: Path) -> Stat:
        with self._folder(path.parent) as fd, _domain_errors(path):
            found = _regular(os.stat(path.name, dir_fd=fd, follow_symlinks=False), path)
            _check_listed(fd, path)
            return found

    def open(self, path: Path, first: int = 0, length: int = 0) -> tuple[BinaryIO, Stat]:
        with _domain_errors(path):
            return _file(files.open_below(self.root, path), path, first)

    def read_changed(self, path: Path, known: Stat, limit: int) -> Content | None:
        file, stat = self.open(path)
        with file, _domain_errors(path):
            return None if stat == known else (_read(file, path, stat, limit), stat)

    # Writing

    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        pieces = (data,) if isinstance(data, bytes) else data()
        with self._folder(path.parent, make=self.private) as fd, _domain_errors(path, writing=True):
            # A thumbnail at the root: its image shows that the root is there.
            if not path.parent and not (image and files.stat_in(fd, path.name[: -len(THUMBNAIL)])):
                self._check_top(fd)
            old, mtime_ns = _refuse_foreign(fd, path), image.mtime_ns if image else None
            files.replace(fd, path.name, pieces, old, mtime_ns=mtime_ns)

    def make_folder(self, folder: Path) -> None:
        with self._folder(folder, make=True):
            pass

    def delete(self, path: Path) -> None:
        with self._folder(path.parent) as fd, _domain_errors(path):
            if not _refuse_foreign(fd, path):
                raise NotFound(f"There is no {path}.")
            os.unlink(path.name, dir_fd=fd)

    def copies(self, paths: Sequence[Path]) -> list[Copy]:
        try:
            with self._folder(paths[0].parent) as fd:
                return _documents(fd, paths)
        except NotFound:
            self.check()  # its disk may be away
            return []

    def update(self, paths: Sequence[Path], change: Change) -> None:
        """Uses one descriptor for everything: the folder may be renamed meanwhile."""
        folder = paths[0].parent
        with self._folder(folder, make=self.private) as fd:
            if not folder:
                self._check_top(fd)
            with files.locked(fd):
                for _ in range(_UPDATE_TRIES):
                    before = {path: files.stat_in(fd, path.name) for path in paths}
                    found = change(_documents(fd, paths))
                    if found is None:
                        return
                    path, data = found
                    with contextlib.suppress(files.Changed), _domain_errors(path, writing=True):
                        files.swap(fd, path.name, data, before[path])
                        return
        raise errors.StorageUnavailable(f"Another program changes {paths[0]} all the time.")

    def remove_folder(self, folder: Path) -> None:
        with self._folder(folder.parent) as fd, contextlib.suppress(OSError):
            os.rmdir(folder.name, dir_fd=fd)

    def obstacle(self, folder: Path = ROOT) -> LensletError | None:
        try:
            with contextlib.suppress(NotFound), self._folder(folder) as fd:
                if not os.access(b".", os.W_OK, dir_fd=fd):
                    if self.private:
                        self.check()  # its disk may be away
                        return Denied("STATE_DIR cannot be written: let Lenslet write there")
                    where = folder or "the root"
                    return Denied(f"{where} cannot be written: allow it, or set STATE_DIR")
                found = os.statvfs(fd)
                if found.f_blocks and found.f_bavail * found.f_frsize < _LEAST_BYTES:
                    return errors.StorageFull("No space left on device. Free some space.")
        except LensletError as error:
            return error
        return None


def _check_listed(folder: int, path: Path) -> None:
    """Raises `NotFound` if an open folder finds `path`, but lists it under another name.

    Only a disk that ignores case, or a last dot, is listed: it finds the name with those too.
    """
    name, other = path.name, path.name.swapcase()
    if other == name:
        other += "."
    if files.stat_in(folder, other) and name not in os.listdir(folder):
        raise NotFound(f"There is no {path}.")


def _stat(info: os.stat_result) -> Stat:
    return Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _regular(info: os.stat_result, path: Path) -> Stat:
    if not stat_module.S_ISREG(info.st_mode):
        raise NotRegular(f"{path} is not a file.")
    return _stat(info)


def _file(fd: int, path: Path, first: int = 0) -> tuple[BinaryIO, Stat]:
    """Returns the open file at `path`, from byte `first`; `NotRegular` if it is a folder or so."""
    try:
        stat = _regular(os.fstat(fd), path)
        os.lseek(fd, first, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return open(fd, "rb"), stat


def _read(file: BinaryIO, path: Path, stat: Stat, limit: int) -> bytes:
    if stat.size > limit:
        raise Conflict(f"{path} has {stat.size} bytes, more than {limit}.")
    return file.read(stat.size)


def _documents(folder: int, paths: Sequence[Path]) -> list[Copy]:
    """Reads those of the documents that exist in the open `folder`."""
    found = []
    for path in paths:
        try:
            with _domain_errors(path):
                file, stat = _file(os.open(path.name, files.READING, dir_fd=folder), path)
                with file:
                    data = _read(file, path, stat, DOCUMENT_BYTES)
                found.append(Copy(path, data, mtime_ns=stat.mtime_ns))
        except (NotRegular, Conflict, Denied) as error:
            found.append(Copy(path, None, str(error)))
        except NotFound:
            continue
    return found


def _refuse_foreign(folder: int, path: Path) -> os.stat_result | None:
    """Raises `Foreign` if the file at `path`, in the open `folder`, is not Lenslet's own.

    Returns what is there, None if there is nothing.
    """
    info = files.stat_in(folder, path.name)
    if info is None:
        return None
    if not stat_module.S_ISREG(info.st_mode):
        raise Foreign(path)
    file, _ = _file(os.open(path.name, files.READING, dir_fd=folder), path)
    with file:
        head = file.read(HEAD_BYTES)
        if not tree.is_ours(path.name, head, iter(partial(file.read, 1 << 20), b"")):
            raise Foreign(path)
    return info
