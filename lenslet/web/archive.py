"""The bytes of a ZIP archive: stored files, whose length is known before they are read.

See APPNOTE.TXT 6.3.10. Each file is followed by its CRC-32, which is known only then. Its size is
in its header too, so that programs that read a stream find its end. What has no room in 32 bits,
or 16 for the number of files, is in the fields of ZIP64, which are left out otherwise.
"""

import struct
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO

from lenslet.errors import Overtaken
from lenslet.storage.local import Scratch
from lenslet.storage.tree import Stat

Files = Iterable[tuple[str, Stat, BinaryIO]]  # each open, and not yet read
_PIECE_BYTES = 256 * 1024
_MOST_16, _MOST_32 = 0xFFFF, 0xFFFFFFFF
_PLAIN, _ZIP64 = 20, 45  # the version that is needed to read it (4.4.3)
_MADE_BY = 3 << 8 | _ZIP64  # Unix
_FLAGS = 1 << 3 | 1 << 11  # the CRC follows the file; names are UTF-8 (4.4.4)
_STORED = 0
_MODE = 0o100644 << 16
_EARLIEST = 315_532_800  # 1980, when the time of DOS begins


def length(files: Iterable[tuple[str, int]]) -> int:
    """Returns how many bytes an archive of files with these names and sizes has."""
    offset = directory = count = 0
    for name, size in files:
        directory += len(_central_header(name, size, 0, 0, offset))
        offset += len(_local_header(name, size, 0)) + size + len(_descriptor(size, 0))
        count += 1
    return offset + directory + len(_end(count, directory, offset))


def pieces(files: Files, scratch: Scratch) -> Generator[bytes, None, None]:
    """Yields an archive in pieces of 256 KiB and more.

    Its directory is kept in `scratch` until all files have been sent.
    `Overtaken` if a file has fewer bytes than its stat says.
    """
    return _joined(_pieces(files, scratch))


def _pieces(files: Files, scratch: Scratch) -> Iterator[bytes]:
    offset, count, start = 0, 0, scratch.size
    for name, stat, file in files:
        seconds = min(max(stat.mtime_ns // 10**9, -(2**31)), 2**31 - 1)
        crc, left = 0, stat.size
        header = _local_header(name, stat.size, seconds)
        yield header
        while left:
            data = file.read(min(left, _PIECE_BYTES))
            if not data:
                raise Overtaken(f"{name} is shorter than it was.")
            crc, left = zlib.crc32(data, crc), left - len(data)
            yield data
        descriptor = _descriptor(stat.size, crc)
        yield descriptor
        scratch.append(_central_header(name, stat.size, seconds, crc, offset))
        offset += len(header) + stat.size + len(descriptor)
        count += 1
    directory = scratch.text()
    for first in range(start, len(directory), _PIECE_BYTES):
        yield directory[first : first + _PIECE_BYTES]
    yield _end(count, len(directory) - start, offset)


def _joined(parts: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Joins small parts, because each one that is sent costs a system call."""
    waiting, size = [], 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _local_header(name: str, size: int, seconds: int) -> bytes:
    """What is before a file (4.3.7)."""
    encoded, more = name.encode(), _times(seconds)
    if size >= _MOST_32:
        more += struct.pack("<2H2Q", 1, 16, size, size)
    version, short = _version(size), min(size, _MOST_32)
    start = struct.pack("<4s3H", b"PK\3\4", version, _FLAGS, _STORED) + _dos_time(seconds)
    return start + struct.pack("<3L2H", 0, short, short, len(encoded), len(more)) + encoded + more


def _descriptor(size: int, crc: int) -> bytes:
    """What is behind a file (4.3.9)."""
    sizes = "2Q" if size >= _MOST_32 else "2L"
    return struct.pack(f"<4sL{sizes}", b"PK\7\x08", crc, size, size)


def _central_header(name: str, size: int, seconds: int, crc: int, offset: int) -> bytes:
    """What the directory says of a file (4.3.12)."""
    encoded, more = name.encode(), _times(seconds)
    if long := [each for each in (size, size, offset) if each >= _MOST_32]:
        more += struct.pack(f"<2H{len(long)}Q", 1, 8 * len(long), *long)
    version, short = _version(max(size, offset)), min(size, _MOST_32)
    start = struct.pack("<4s4H", b"PK\1\2", _MADE_BY, version, _FLAGS, _STORED)
    start += _dos_time(seconds) + struct.pack("<3L", crc, short, short)
    lengths = struct.pack("<5H", len(encoded), len(more), 0, 0, 0)
    return start + lengths + struct.pack("<2L", _MODE, min(offset, _MOST_32)) + encoded + more


def _end(count: int, size: int, offset: int) -> bytes:
    """What is behind the directory of `size` bytes that begins at `offset` (4.3.14 to 4.3.16)."""
    long = b""
    if count >= _MOST_16 or max(size, offset) >= _MOST_32:
        numbers = 44, _MADE_BY, _ZIP64, 0, 0, count, count, size, offset
        long = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *numbers)
        long += struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    short = min(count, _MOST_16), min(size, _MOST_32), min(offset, _MOST_32)
    return long + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, short[0], *short, 0)


def _version(most: int) -> int:
    return _ZIP64 if most >= _MOST_32 else _PLAIN


def _times(seconds: int) -> bytes:
    """The extended timestamp: when a file was changed, in seconds since 1970."""
    return struct.pack("<2HBl", 0x5455, 5, 1, seconds)


def _dos_time(seconds: int) -> bytes:
    """The time of DOS, in UTC: programs that know no better time take it for their own zone's."""
    year, month, day, hour, minute, second = time.gmtime(max(seconds, _EARLIEST))[:6]
    date = year - 1980 << 9 | month << 5 | day
    return struct.pack("<2H", hour << 11 | minute << 5 | second // 2, date)
