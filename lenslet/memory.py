"""The C library's allocator, made to keep what decoding frees; does nothing where it cannot.

An image's buffers are a few megabytes. Left alone, glibc gives them back to the kernel after each
image and takes them again for the next, page by page: measured, a WebP of 1 megapixel then takes
22 ms of CPU time instead of 14.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 64 << 20
_LARGEST_BYTES = 32 << 20  # the most that glibc takes; larger buffers always come from the kernel

_libc = ctypes.CDLL(None)


def keep() -> None:
    """Keep what is freed for the next image."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
        _libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Give what was kept back to the system."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
