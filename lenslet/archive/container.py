"""The bytes of a ZIP archive: stored files, whose length is known before they are read."""

import io
import re
import struct
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from lenslet.errors import Overtaken
from lenslet.storage.tree import Stat

Files = Iterable[tuple[str, Stat, BinaryIO]]  # each open, and not yet read
MOST_FILES = zipfile.ZIP_FILECOUNT_LIMIT  # more need another end of the archive, and much memory
_PIECE_BYTES = 256 * 1024
# See "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
_NOT_IN_WINDOWS = re.compile(r'[:?*"<>|]|[. ](?=[. ]*(/|$))')
_DEVICE = re.compile(r"(?<![^/])(con|prn|aux|nul|(com|lpt)[0-9¹²³])(?= *(\.|/|$))", re.IGNORECASE)
_MODE = 0o100644 << 16
_EARLIEST, _LATEST = 315_532_800, 2**31 - 1  # 1980, when the time of DOS begins, and 2038


def portable(names: Iterable[str]) -> list[str]:
    """Returns names under which every system can unpack files, each another.

    What Windows does not allow in a part of a name becomes `_`, also behind the name of a device.
    Of names that differ in case or form of Unicode alone, the later ones get a number.
    """
    found, twins = dict[str, str](), Counter[str]()  # by what a system compares
    for name in names:
        name = _DEVICE.sub(r"\g<0>_", _NOT_IN_WINDOWS.sub("_", name))
        stem, dot, suffix = name.rpartition(".")
        first = key = _compared(name)
        while key in found:
            twins[first] += 1
            name = f"{stem} ({twins[first] + 1}){dot}{suffix}"
            key = _compared(name)
        found[key] = name
    return [*found.values()]


def _compared(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def length(files: Iterable[tuple[str, int]]) -> int:
    """Returns how many bytes an archive of files with these names and sizes has.

    Adds up what `zipfile` writes when it cannot seek. See APPNOTE.TXT 6.3.10, 4.3.
    """
    offset = directory = 0
    for name, size in files:
        both = len(name.encode()) + len(_times(0))  # in the file's header and in the directory
        is_long = size * 1.05 > zipfile.ZIP64_LIMIT
        directory += 46 + both + _long_bytes(size, size, offset)
        offset += 30 + both + (20 if is_long else 0) + size + (24 if is_long else 16)
    return offset + directory + (76 if _long_bytes(offset, directory) else 0) + 22


def _long_bytes(*numbers: int) -> int:
    """Returns how many bytes numbers take that have no room in the directory itself."""
    long = sum(number > zipfile.ZIP64_LIMIT for number in numbers)
    return 4 + 8 * long if long else 0


def pieces(files: Files) -> Iterator[bytes]:
    """Yields an archive in pieces of 256 KiB and more, because each costs a system call.

    `Overtaken` if a file has fewer bytes than its stat says.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, stat, file in files:
            with archive.open(_info(name, stat), "w") as entry:
                left = stat.size
                while left:
                    data = file.read(min(left, _PIECE_BYTES))
                    if not data:
                        raise Overtaken(f"{name} is shorter than it was.")
                    left -= entry.write(data)
                    if len(sink.data) >= _PIECE_BYTES:
                        yield sink.take()
    yield sink.take()


def _info(name: str, stat: Stat) -> zipfile.ZipInfo:
    """Describes a file. Its time is there in seconds, too: programs take that of DOS for local."""
    seconds = min(max(stat.mtime_ns // 10**9, _EARLIEST), _LATEST)
    info = zipfile.ZipInfo(name, time.gmtime(seconds)[:6])
    info.file_size, info.external_attr, info.extra = stat.size, _MODE, _times(seconds)
    return info


def _times(seconds: int) -> bytes:
    """The extended timestamp: when a file was changed, in seconds since 1970."""
    return struct.pack("<2HBl", 0x5455, 5, 1, seconds)


class _Sink(io.RawIOBase):
    """What `zipfile` has written and nobody has taken."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any, /) -> int:
        self.data += data
        return len(data)

    def take(self) -> bytes:
        data, self.data = bytes(self.data), bytearray()
        return data
