"""A tree of files in a local folder. Files are written whole, and no link is followed."""

import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import secrets
import stat as stat_module
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, BinaryIO

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
from lenslet.paths import LONGEST_PATH, ROOT, TEMPORARY, Path, escaped, is_temporary, usable
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
_DOCUMENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_IN_THE_WAY = frozenset((errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST))
_REMEMBERED_NAMES = 100
_PATH_BYTES = 4000  # of the 4,096 that Linux allows; a file has a name too
# A pipe named .jpg must not block.
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_OPENAT2 = 437  # the same system call number on every architecture
_RESOLVE_NO_SYMLINKS = 0x04
_AT_FDCWD = -100
_PASSING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER_BYTES = 256 * 1024
_LEAST_BYTES = 64 * 1024  # with less, the disk is full
_CACHE_FULL = "No space left in this host's cache (XDG_CACHE_HOME): free some."
_LOCK_SECONDS = 10.0
_UPDATE_TRIES = 100  # a change of another program in between costs one
_RENAME_NOREPLACE = 1
_LOCK_PAUSE, _LOCK_PAUSE_MOST = 0.0001, 0.002
_LEFTOVER_SECONDS, _LEFTOVER_SECONDS_UNLOCKABLE = 1.0, 3600.0
Text = mmap.mmap | bytes


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
    shown, reason = path or "/", os.strerror(error.errno or errno.EIO)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ENAMETOOLONG:
            return NotFound(f"There is no {shown}.")
        case errno.EISDIR | errno.ELOOP | errno.ENXIO:
            return NotRegular(f"There is no file {shown}.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Denied(f"{shown}: {reason}.")
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
        self.longest = min(LONGEST_PATH, _PATH_BYTES - len(os.fsencode(self.root)))
        self.private = private
        self._marker = marker
        self._claim = claim
        self._without = without
        self._device = 0
        self._names: list[str] = []  # up to 100 names at the top, from the last listing

    @property
    def name(self) -> str:
        return self.root

    @contextlib.contextmanager
    def _folder(self, folder: Path, *, make: bool = False) -> Iterator[int]:
        """Opens a folder; `make` creates it first if it is missing."""
        with _DomainErrors(folder, writing=make):
            try:
                fd = open_below(self.root, folder, os.O_DIRECTORY)
            except FileNotFoundError:
                if not make:
                    raise
                self._make(folder)
                fd = open_below(self.root, folder, os.O_DIRECTORY)
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
            _make_folders(self.root)
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
        elif not any(_stat_in(fd, name) for name in self._names):
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
                f"If it was emptied on purpose, create the file {MARKER} in it."
            )

    def _mark(self) -> None:
        """Creates the marker in a `STATE_DIR`, and the claim, at the first use."""
        if self._claim and not os.path.exists(self._claim):
            for path in (self._marker, self._claim):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
                _sync_folder(os.path.dirname(path))

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
            with os.scandir(fd) as entries:
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

    def folders(self, folder: Path) -> list[str]:
        with self._folder(folder) as fd, os.scandir(fd) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False) and usable(e.name)]

    def names(self, folder: Path, wanted: Sequence[str]) -> set[str]:
        with self._folder(folder) as fd:
            return {name for name in wanted if _stat_in(fd, name)}

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
            fd = open_below(self.root, path, os.O_PATH)
            try:
                return _regular(fd, path)
            finally:
                os.close(fd)

    def open(self, path: Path) -> tuple[BinaryIO, Stat]:
        with _DomainErrors(path):
            fd = open_below(self.root, path)
            try:
                stat = _regular(fd, path)
            except LensletError:
                os.close(fd)
                raise
            return open(fd, "rb"), stat

    def read_changed(self, path: Path, known: Stat, limit: int | None = None) -> Read | None:
        with _DomainErrors(path):
            fd = open_below(self.root, path)
            try:
                stat = _regular(fd, path)
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

    def write(
        self, path: Path, data: Data, *, image: Stat | None = None, over: str | None = None
    ) -> None:
        pieces = (data,) if isinstance(data, bytes) else data()
        with self._folder(path.parent, make=self.private) as fd, _DomainErrors(path, writing=True):
            if not path.parent:
                self._check_top(fd)
            _refuse_foreign(fd, path)
            try:
                _replace(fd, path.name, pieces, mtime_ns=image.mtime_ns if image else None)
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
            return []

    def update(self, paths: Sequence[Path], change: Change, *, derived: bool = False) -> None:
        """Uses one descriptor for everything: the folder may be renamed meanwhile."""
        folder = paths[0].parent
        with self._folder(folder, make=self.private) as fd:
            if not folder:
                self._check_top(fd)
            with _locked(fd):
                for _ in range(_UPDATE_TRIES):
                    before = {path: _stat_in(fd, path.name) for path in paths}
                    found = change(_derived(fd, paths) if derived else _documents(fd, paths))
                    if found is None:
                        return
                    path, data = found
                    with contextlib.suppress(_Changed), _DomainErrors(path, writing=True):
                        _swap(fd, path.name, data, before[path], durable=not derived)
                        return
        raise StorageUnavailable(f"Another program changes {paths[0]} all the time.")

    def rename(self, old: Path, new: Path, data: bytes) -> bool:
        with self._folder(old.parent) as source, self._folder(new.parent, make=self.private) as to:
            first, second = (source, to) if old.parent < new.parent else (to, source)
            with _locked(first), nullcontext() if old.parent == new.parent else _locked(second):
                with _DomainErrors(old):
                    before = os.stat(old.name, dir_fd=source, follow_symlinks=False)
                if [each.data for each in _documents(source, [old])] != [data]:
                    raise errors.Overtaken(f"{old} has changed.")
                if before.st_dev != os.fstat(to).st_dev:
                    return False
                with _DomainErrors(new, writing=True):
                    _rename_new(source, old.name, to, new.name)
        return True

    def remove_folder(self, folder: Path) -> None:
        with self._folder(folder.parent) as fd, contextlib.suppress(OSError):
            os.rmdir(folder.name, dir_fd=fd)

    def sweep(self, folder: Path, leftovers: Iterable[str]) -> None:
        with self._folder(folder) as fd:
            for name in leftovers:
                _sweep(fd, name)

    def obstacle(self, folder: Path = ROOT) -> LensletError | None:
        with contextlib.suppress(NotFound), self._folder(folder) as fd:
            if not os.access(b".", os.W_OK, dir_fd=fd):
                return Denied(self._unwritable(folder))
            found = os.statvfs(fd)
            if found.f_blocks and found.f_bavail * found.f_frsize < _LEAST_BYTES:
                return errors.StorageFull("no space is left on the disk: free some")
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
        if not self.size:
            return b""
        return mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)


def _make_folders(path: str) -> None:
    """Creates a folder and those above it. They survive a crash of the machine."""
    if not os.path.isdir(path):
        _make_folders(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        _sync_folder(os.path.dirname(path))


def _sync_folder(path: str) -> None:
    fd = os.open(path, _READING | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stat(info: os.stat_result) -> Stat:
    return Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _regular(fd: int, path: Path) -> Stat:
    info = os.fstat(fd)
    if not stat_module.S_ISREG(info.st_mode):
        raise NotRegular(f"There is no file {path}.")
    return _stat(info)


def _read(fd: int, path: Path, stat: Stat, limit: int | None) -> bytes:
    data = b"" if limit is not None and stat.size > limit else _read_all(fd, stat.size, limit)
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
                fd = os.open(path.name, _DOCUMENT, dir_fd=folder)
                try:
                    stat = _regular(fd, path)
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


def _refuse_foreign(folder: int, path: Path) -> None:
    """Raises `Foreign` if the file at `path`, in the open `folder`, is not Lenslet's own."""
    info = _stat_in(folder, path.name)
    if info is None:
        return
    if not stat_module.S_ISREG(info.st_mode):
        raise Foreign(path)
    fd = os.open(path.name, _DOCUMENT, dir_fd=folder)
    try:
        head = os.read(fd, HEAD_BYTES)
        ours = is_ours(path.name, head, iter(partial(os.read, fd, 1 << 20), b""))
    finally:
        os.close(fd)
    if not ours:
        raise Foreign(path)


# Opening, replacing and locking


class _OpenHow(ctypes.Structure):
    """The `struct open_how` of openat2(2)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def _how(flags: int) -> Any:
    plain = os.O_CLOEXEC if flags & os.O_PATH else _READING  # `O_PATH` allows few others
    return ctypes.pointer(_OpenHow(flags | plain, 0, _RESOLVE_NO_SYMLINKS))


def open_in_one(root: str, path: str, flags: int = 0) -> int:
    """Opens `path` below `root` for reading, or with other `flags`; follows no link on the way.

    One system call (Linux 5.6). Going down in steps takes 2 to 8 µs more, and a thumbnail is then
    sent a tenth slower.
    """
    full = os.fsencode(f"{root}/{path}" if path else root)
    fd: int = _libc.syscall(_OPENAT2, _AT_FDCWD, full, _how(flags), ctypes.sizeof(_OpenHow))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def open_in_steps(root: str, path: str, flags: int = 0) -> int:
    """Does the same where there is no `openat2`: goes down one folder at a time."""
    steps = path.split("/") if path else []
    fd = os.open(root, _PASSING if steps else _READING | flags)
    for left, step in enumerate(steps, 1 - len(steps)):
        above = fd
        try:
            fd = os.open(step, _PASSING if left else _READING | flags, dir_fd=above)
        finally:
            os.close(above)
    return fd


def _has_openat2() -> bool:
    try:
        os.close(open_in_one("/", "", os.O_PATH))
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM)
    return True


open_below = open_in_one if _has_openat2() else open_in_steps


def _read_all(fd: int, size: int, limit: int | None) -> bytes:
    """Reads to the end of a file: one system call if it has the expected `size`.

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


class _Changed(Exception):
    """Another program has changed the file that was to be replaced."""


def _swap(
    folder: int, name: str, data: bytes | None, before: os.stat_result | None, *, durable: bool
) -> None:
    """Replaces the file that was seen as `before`, or creates it; None removes it.

    Other programs take no lock. `_Changed` if one of them was faster. A program that writes between
    the last look and the rename, some microseconds, is not noticed if it replaces a file.
    """
    if data is not None:
        _replace(folder, name, (data,), durable=durable, before=before)
        return
    _check_same(folder, name, before)
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)


def _put_in_place(folder: int, temporary: str, name: str, before: Any) -> None:
    if before is None:
        try:
            _rename_new(folder, temporary, folder, name)
        except FileExistsError as error:
            raise _Changed from error
        return
    if before is not _ANY:
        _check_same(folder, name, before)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _check_same(folder: int, name: str, before: os.stat_result | None) -> None:
    now = _stat_in(folder, name)
    if (now and _identity(now)) != (before and _identity(before)):
        raise _Changed


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _rename_new(source: int, old: str, folder: int, new: str) -> None:
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
        if _stat_in(folder, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=folder)


_ANY = object()  # a file is replaced whatever it is


def _replace(
    folder: int,
    name: str,
    pieces: Iterable[bytes],
    *,
    mtime_ns: int | None = None,
    durable: bool = False,
    before: Any = _ANY,
) -> None:
    """Puts a file in place, whole or not at all, with the mode of the file that it replaces.

    `before` is the file that may be replaced, None if there must be none: `_Changed` if there is
    another. If it is `durable`, it is on disk on return. The temporary file is locked while its
    writer lives, so that `sweep` leaves it alone.
    """
    temporary = TEMPORARY + secrets.token_hex(8)
    with open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb", _BUFFER_BYTES) as file:
        fd = file.fileno()
        try:
            with contextlib.suppress(OSError):  # some network mounts have no locks
                fcntl.flock(fd, fcntl.LOCK_EX)
            if not _stat_in(folder, temporary):  # swept before it was locked: a clock is ahead
                _replace(folder, name, pieces, mtime_ns=mtime_ns, durable=durable, before=before)
                return
            _resemble(fd, _stat_in(folder, name))
            file.writelines(pieces)
            file.flush()
            if mtime_ns is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
                if os.fstat(fd).st_mtime_ns != mtime_ns:
                    raise Denied("The file system does not keep times to the nanosecond.")
            if durable:
                os.fsync(fd)
            _put_in_place(folder, temporary, name, before)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
    if durable:
        os.fsync(folder)


def _resemble(fd: int, old: os.stat_result | None) -> None:
    if old:
        with contextlib.suppress(OSError):  # only root may change the owner
            os.fchown(fd, old.st_uid, old.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat_module.S_IMODE(old.st_mode))


def _stat_in(folder: int, name: str) -> os.stat_result | None:
    """Returns the stat of what has this name in an open folder; None if nothing has."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            raise
        return None


@contextlib.contextmanager
def _locked(folder: int) -> Iterator[None]:
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


def _sweep(folder: int, name: str) -> None:
    """Removes a temporary file over a second old that is not locked or, without locks, an hour."""
    with contextlib.suppress(OSError), open(os.open(name, _READING, dir_fd=folder)) as file:
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
