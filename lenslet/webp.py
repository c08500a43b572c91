"""The pixels of a still WebP, decoded by the libwebp that Pillow has loaded.

Pillow reads each WebP as an animation, with four copies of the picture in memory: one of 24 MP
takes 317 MB, and 110 this way.
"""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any

_LIBRARY = re.compile(r"/.*/libwebp[-.][^/\n]*$")  # libwebpdemux and libwebpmux are others


@functools.cache
def _decode() -> Any:
    """`WebPDecodeRGBAInto` of libwebp's simple API; None where no libwebp is found."""
    try:
        with open("/proc/self/maps", errors="surrogateescape") as maps:  # paths of any bytes
            path = next(found[0] for line in maps if (found := _LIBRARY.search(line)))
        decode = ctypes.CDLL(path).WebPDecodeRGBAInto
    except (OSError, StopIteration, AttributeError):
        return None
    decode.restype = ctypes.c_void_p
    size = ctypes.c_size_t
    decode.argtypes = [ctypes.c_char_p, size, ctypes.c_void_p, size, ctypes.c_int]
    return decode


def pixels(data: bytes, width: int, height: int) -> bytearray | None:
    """Four bytes a pixel: red, green, blue, alpha; None where it cannot be done.

    Which is so for a damaged file, for an animation, and where no libwebp is found.
    """
    decode = _decode()
    if not decode:
        return None
    found = bytearray(4 * width * height)
    place = (ctypes.c_char * len(found)).from_buffer(found)
    done = decode(data, len(data), place, len(found), 4 * width)
    return found if done else None
