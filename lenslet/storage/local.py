"""A tree of files in a local folder. Files are written whole, and no link is followed."""

import contextlib
import errno
import os
import stat as stat_module
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import BinaryIO

from lenslet import errors
from lenslet.bounds import DERIVED_BYTES, DOCUMENT_BYTES
from lenslet.errors import (
    Conflict,
    Denied,
    Foreign,
    LensletError,
    NotFound,
    NotRegular,
    StorageUnavailable,
)
from lenslet.paths import ROOT, Path, escaped, is_temporary, usable
from lenslet.storage import files
from lenslet.storage.text import Text, map_file
from lenslet.storage.tree import (
    HEAD_BYTES,
    Change,
    Data,
    Document,
    Listing,
    Read,
    Stat,
    Tree,
    is_ours,
)

MARKER = ".lenslet-state"  # the file that a used STATE_DIR holds
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_IN_THE_WAY = frozenset((errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST))
_REMEMBERED_NAMES = 100
_LEAST_BYTES = 64 * 1024  # with less, the disk is full
_CACHE_FULL = "No space left in this host's cache (XDG_CACHE_HOME): free some."
# So long a listing waits for another, which may hang. A thread gives up the interpreter for each
# file, so two at once take longer than one after the other: 1.9 s for 50,000 photos, not 1.6.
_TURN_SECONDS = 0.1
_UPDATE_TRIES = 100  # a change of another program in between costs one


class _DomainErrors:
    """Turns the operating system's errors into domain errors that name `path`.

    A class, because five `@contextmanager`s in each request would cost 7 µs more.
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
        return Denied(f"{path}: a file or folder of the same name is in the way.")
    if writing and error.errno == errno.ENAMETOOLONG:
        return errors.Invalid("path", "the name is too long for a file beside it")
    shown, reason = path or "the root", os.strerror(error.errno or errno.EIO)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound(f"There is no {path}." if path else "The root is not there.")
        case errno.EISDIR | errno.ELOOP | errno.ENXIO:
            return NotRegular(f"There is no file {shown}.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "" if path or writing else " Give Lenslet the rights to read it."
            return Denied(f"{shown}: {reason}.{advice}")
        case errno.ENOSPC | errno.EDQUOT:
            return errors.StorageFull(f"{shown}: {reason}. Free some space.")
    return StorageUnavailable(f"{shown}: {reason}.")


class LocalTree(Tree):
    """Files below the folder `root`.

    In a `private` tree (`STATE_DIR`, the cache) folders are made as needed; any other belongs to
    the user. Only for `STATE_DIR`: `marker` is a file in it, `claim` a file in the host's cache.
    Both are made at the first use. A claim without a marker means that the disk is not mounted.
    `without` is a name at the top that does not count when the tree is checked for being empty.
    """

    def __init__(
        self,
        root: str,
        *,
        private: bool = False,
        marker: str = "",
        claim: str = "",
        without: str = "",
    ) -> None:
        self.root = os.path.realpath(root)
        self.private = private
        self._marker = marker
        self._claim = claim
        self._without = without
        self._device = 0
        self._names: list[str] = []  # up to 100 names at the top, from the last listing
        self._listing = threading.Lock()

    @property
    def name(self) -> str:
        return self.root

    @contextlib.contextmanager
    def _folder(self, folder: Path, *, make: bool = False) -> Iterator[int]:
        """Opens a folder; `make` creates it first if it is missing."""
        with _DomainErrors(folder, writing=make):
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
            self._check_claim()
            files.make_folders(self.root)
            self._mark()

    # The guard

    def check(self) -> None:
        try:
            with self._folder(ROOT) as fd:
                self._check_top(fd)
        except NotFound as error:
            if not self.private:
                reason = "The root is not there: an unmounted disk? Mount it."
                raise StorageUnavailable(reason) from error
            self._check_claim()

    def _check_top(self, fd: int) -> None:
        """Raises `StorageUnavailable` if no known name is there, but nothing or another disk."""
        if self.private:
            self._check_claim()
            self._mark()
        elif not any(files.stat_in(fd, name) for name in self._names):
            with os.scandir(fd) as entries:
                if all(entry.name == self._without for entry in entries):
                    raise StorageUnavailable(
                        "The root is empty: an unmounted disk? Mount it, or add photos."
                    )
            if self._device not in (0, os.fstat(fd).st_dev):
                raise StorageUnavailable(
                    "The root is on another disk, without the names it had: unmounted?"
                )

    def _check_claim(self) -> None:
        if self._claim and not os.path.exists(self._marker) and os.path.exists(self._claim):
            raise StorageUnavailable(
                "STATE_DIR does not hold what was written there: an unmounted disk? "
                f"If it was emptied or restored on purpose, create the file {MARKER} in it."
            )

    def _mark(self) -> None:
        """Creates the marker in a `STATE_DIR`, and the claim, at the first use."""
        if self._claim and not os.path.exists(self._claim):
            for path in (self._marker, self._claim):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
                files.sync_folder(os.path.dirname(path))

    def _remember(self, fd: int, found: Listing) -> None:
        """Remembers the disk and some names at the top, so that `check` recognises them."""
        self._check_top(fd)
        names = [name for name in (*found.folders, *found.files) if name != self._without]
        self._names = names[:_REMEMBERED_NAMES]
        self._device = os.fstat(fd).st_dev

    # Reading

    def listing(self, folder: Path) -> Listing:
        found = Listing()
        with self._folder(folder) as fd:
            with self._in_turn(), os.scandir(fd) as entries:
                for entry in entries:
                    name = entry.name
                    if not usable(name):
                        found.unusable.append(escaped(name))
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            found.files[name] = _stat(entry.stat(follow_symlinks=False))
                    elif entry.is_dir(follow_symlinks=False):
                        found.folders.append(name)
                    else:
                        found.others.append(name)
            if not folder and not self.private:
                self._remember(fd, found)
        found.leftovers = [name for name in found.files if is_temporary(name)]
        for name in found.leftovers:
            del found.files[name]
        return found

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        has_turn = self._listing.acquire(timeout=_TURN_SECONDS)
        try:
            yield
        finally:
            if has_turn:
                self._listing.release()

    def folders(self, folder: Path) -> list[str]:
        with self._folder(folder) as fd, os.scandir(fd) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False) and usable(e.name)]

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        with self._folder(folder) as fd:
            return {name for name in wanted if files.stat_in(fd, name)}

    def has_folder(self, path: Path) -> bool:
        try:
            with self._folder(path):
                return True
        except NotFound:
            return False

    def stamp(self, folder: Path) -> int:
        """The folder's mtime in nanoseconds."""
        with self._folder(folder) as fd:
            return os.fstat(fd).st_mtime_ns

    def stat(self, path: Path) -> Stat:
        with _DomainErrors(path):
            fd = files.open_below(self.root, path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                return _regular(os.stat(path.name, dir_fd=fd, follow_symlinks=False), path)
            finally:
                os.close(fd)

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        with _DomainErrors(path):
            fd = files.open_below(self.root, path)
            try:
                stat = _regular(os.fstat(fd), path)
            except LensletError:
                os.close(fd)
                raise
            return open(fd, "rb"), stat

    def read_changed(self, path: Path, known: Stat, limit: int | None = None) -> Read | None:
        with _DomainErrors(path):
            fd = files.open_below(self.root, path)
            try:
                stat = _regular(os.fstat(fd), path)
                return None if stat == known else (_read(fd, path, stat, limit), stat)
            finally:
                os.close(fd)

    def part(self, path: Path, stat: Stat, first: int, length: int) -> BinaryIO:
        file, now = self.open(path)
        if now.rev != stat.rev:
            file.close()
            raise errors.Overtaken(f"{path} has changed.")
        file.seek(first)
        return file

    # Writing

    def write(self, path: Path, data: Data, *, image: Stat | None = None) -> None:
        pieces = (data,) if isinstance(data, bytes) else data()
        with self._folder(path.parent, make=self.private) as fd, _DomainErrors(path, writing=True):
            if not path.parent:
                self._check_top(fd)
            old, mtime_ns = _refuse_foreign(fd, path), image.mtime_ns if image else None
            try:
                files.replace(fd, path.name, pieces, old, mtime_ns=mtime_ns)
            except OSError as error:
                if self.private and not self._claim and error.errno in _FULL:
                    raise errors.StorageFull(_CACHE_FULL) from error
                raise

    def make_folder(self, folder: Path) -> None:
        with self._folder(folder, make=True):
            pass

    def delete(self, path: Path) -> None:
        with self._folder(path.parent) as fd, _DomainErrors(path):
            # First, because on a read-only disk `unlink` says "read-only" also of a missing file.
            os.stat(path.name, dir_fd=fd, follow_symlinks=False)
            _refuse_foreign(fd, path)
            os.unlink(path.name, dir_fd=fd)

    def touch(self, path: Path) -> None:
        """Sets a file's modification time to now, if the file still exists."""
        with contextlib.suppress(OSError, NotFound), self._folder(path.parent) as fd:
            os.utime(path.name, dir_fd=fd, follow_symlinks=False)

    def scratch(self) -> "Scratch":
        """Opens a new file without a name, in a private tree."""
        with self._folder(ROOT, make=True), _DomainErrors(ROOT, writing=True):
            return Scratch(self)

    def copies(self, paths: Sequence[Path]) -> list[Document]:
        try:
            with self._folder(paths[0].parent) as fd:
                return _documents(fd, paths)
        except NotFound:
            self.check()  # its disk may be away
            return []

    def update(self, paths: Sequence[Path], change: Change, *, derived: bool = False) -> None:
        """Uses one descriptor for everything: the folder may be renamed meanwhile."""
        folder = paths[0].parent
        with self._folder(folder, make=self.private) as fd:
            if not folder:
                self._check_top(fd)
            with files.locked(fd):
                for _ in range(_UPDATE_TRIES):
                    before = {path: files.stat_in(fd, path.name) for path in paths}
                    found = change(_derived(fd, paths) if derived else _documents(fd, paths))
                    if found is None:
                        return
                    path, data = found
                    with contextlib.suppress(files.Changed), _DomainErrors(path, writing=True):
                        files.swap(fd, path.name, data, before[path], durable=not derived)
                        return
        raise StorageUnavailable(f"Another program changes {paths[0]} all the time.")

    def rename(self, old: Path, new: Path, data: bytes) -> bool:
        with self._folder(old.parent) as source, self._folder(new.parent, make=self.private) as to:
            first, second = (source, to) if old.parent < new.parent else (to, source)
            with (
                files.locked(first),
                nullcontext() if old.parent == new.parent else files.locked(second),
            ):
                with _DomainErrors(old):
                    before = os.stat(old.name, dir_fd=source, follow_symlinks=False)
                if [each.data for each in _documents(source, [old])] != [data]:
                    raise errors.Overtaken(f"{old} has changed.")
                if before.st_dev != os.fstat(to).st_dev:
                    return False
                with _DomainErrors(new, writing=True):
                    files.rename_new(source, old.name, to, new.name)
        return True

    def remove_folder(self, folder: Path) -> None:
        with self._folder(folder.parent) as fd, contextlib.suppress(OSError):
            os.rmdir(folder.name, dir_fd=fd)

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:
        with self._folder(folder) as fd:
            for name in leftovers:
                files.sweep(fd, name)

    def obstacle(self, folder: Path = ROOT) -> LensletError | None:
        try:
            with contextlib.suppress(NotFound), self._folder(folder) as fd:
                if not os.access(b".", os.W_OK, dir_fd=fd):
                    return Denied(self._unwritable(folder))
                found = os.statvfs(fd)
                if found.f_blocks and found.f_bavail * found.f_frsize < _LEAST_BYTES:
                    return errors.StorageFull("no space is left on the disk: free some")
        except Denied as error:
            return error
        return None

    def _unwritable(self, folder: Path) -> str:
        if self.private:
            return "STATE_DIR cannot be written: let Lenslet write there"
        return f"{folder or 'the root'} cannot be written: allow it, or set STATE_DIR"


class Scratch:
    """A file without a name in a private tree. It ends with this object. Used by one thread."""

    def __init__(self, tree: LocalTree) -> None:
        self.another = tree.scratch
        self.size = 0
        file = tempfile.TemporaryFile(dir=tree.root, buffering=0)  # noqa: SIM115 (kept open)
        self._fd = file.fileno()
        weakref.finalize(self, file.close)

    def append(self, data: bytes) -> int:
        """Writes to the end, and returns where that is."""
        start, end, rest = self.size, self.size + len(data), memoryview(data)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, end - len(rest)) :]
        except OSError as error:
            raise errors.StorageFull(_CACHE_FULL) from error
        self.size = end
        return start

    def text(self) -> Text:
        """Maps all that was written. Any thread may read it, also when this is closed."""
        return map_file(self._fd)


def _stat(info: os.stat_result) -> Stat:
    return Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _regular(info: os.stat_result, path: Path) -> Stat:
    if not stat_module.S_ISREG(info.st_mode):
        raise NotRegular(f"There is no file {path}.")
    return _stat(info)


def _read(fd: int, path: Path, stat: Stat, limit: int | None) -> bytes:
    data = b"" if limit is not None and stat.size > limit else files.read_all(fd, stat.size, limit)
    if limit is not None and max(stat.size, len(data)) > limit:
        raise Conflict(f"{path} has {stat.size} bytes, more than {limit}.")
    return data


def _derived(folder: int, paths: Sequence[Path]) -> list[Document]:
    """Reads those of the derived documents that exist; one that is too large counts as torn."""
    for path in paths:
        _refuse_foreign(folder, path)
    found = _documents(folder, paths, DERIVED_BYTES)
    return [copy._replace(data=copy.data or b"") for copy in found]


def _documents(folder: int, paths: Sequence[Path], limit: int = DOCUMENT_BYTES) -> list[Document]:
    """Reads those of the documents that exist in the open `folder`."""
    found = []
    for path in paths:
        try:
            with _DomainErrors(path):
                fd = os.open(path.name, files.READING, dir_fd=folder)
                try:
                    stat = _regular(os.fstat(fd), path)
                    found.append(Document(path, _read(fd, path, stat, limit), stat.rev))
                finally:
                    os.close(fd)
        except NotRegular:
            found.append(Document(path, None, "", f"{path} is not a file"))
        except (Conflict, Denied) as error:
            found.append(Document(path, None, "", str(error)))
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
    fd = os.open(path.name, files.READING, dir_fd=folder)
    try:
        head = os.read(fd, HEAD_BYTES)
        ours = is_ours(path.name, head, iter(partial(os.read, fd, 1 << 20), b""))
    finally:
        os.close(fd)
    if not ours:
        raise Foreign(path)
    return info
