"""Images that cost far more than their size: by area, rows, scans, frames, profile, metadata, file.

Every one is written from bytes, so that nothing big is kept in the project.
"""

from __future__ import annotations

import functools
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from conftest import draw, encode
from PIL import ImageCms

SIDE = 12_247  # SIDE × SIDE is just below MAX_PIXELS (150,000,000)
ROWS = 134_217_729
SHOWN = "shown"  # what must become of a bomb: it is shown, or its error has these words
MEMORY, TIME, PIXELS = "INDEX_MEMORY", "DECODE_SECONDS", "MAX_PIXELS"
EITHER = ""
_MEGABYTE = 1 << 20
_SLOW_SIDE = 6_000
_GREY, _PALETTE, _RGBA = 0, 3, 6  # colour types of PNG
_CHANNELS = {_GREY: 1, _PALETTE: 1, _RGBA: 4}


class Bomb(NamedTuple):
    """A file: its bytes, then a hole of zeros; and what must become of it."""

    name: str
    head: bytes
    outcome: str = EITHER
    hole: int = 0

    def write(self, folder: pathlib.Path) -> None:
        """Writes the file with a time long ago; the hole takes no space on the disk."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        with path.open("wb") as file:
            file.write(self.head)
            file.truncate(len(self.head) + self.hole)
        os.utime(path, (1, 1))


def bombs() -> Iterator[Bomb]:
    """Every bomb, each with a name of its own that says what it is."""
    kinds = (_by_area, _by_rows, _by_scans, _by_frames, _by_profile, _by_exif, _by_text, _by_file)
    for kind in kinds:
        yield from kind()
    yield Bomb("palette-missing.png", png(400, 300, _PALETTE), "cannot be decoded")


def _by_area() -> Iterator[Bomb]:
    little = zlib.compress(bytes(1000))
    yield Bomb("area-cut.png", png(SIDE, SIDE, _RGBA, data=little))
    yield Bomb("area-grey.png", png(SIDE, SIDE, _GREY))
    yield Bomb("area-rgba.png", png(SIDE, SIDE, _RGBA), MEMORY)
    yield Bomb("area.jpg", jpeg(SIDE, SIDE, "\1\2\3", progressive=False))
    yield Bomb("area-cut.jpg", jpeg(SIDE, SIDE, "\1\2\3", progressive=False, cut=True))
    yield Bomb("area-progressive.jpg", jpeg(SIDE, SIDE, "\1\2\3"), MEMORY)
    yield Bomb("area-progressive-cut.jpg", jpeg(SIDE, SIDE, "\1\2\3", cut=True), MEMORY)
    yield Bomb("area-progressive-cmyk.jpg", jpeg(SIDE, SIDE, "\1\2\3\4"), MEMORY)
    yield Bomb("area.webp", webp(vp8l(SIDE, SIDE)), MEMORY)
    yield Bomb("area-cut.webp", webp(vp8l(SIDE, SIDE)[:-3]))
    yield Bomb("area-too-large.webp", webp(vp8l(16_383, 16_383)), PIXELS)
    yield Bomb("area-lossy-cut.webp", _claims(encode(draw(), "WEBP"), SIDE, SIDE))


def _by_rows() -> Iterator[Bomb]:
    little = zlib.compress(bytes(100))
    yield Bomb("rows-cut.png", png(1, ROWS, _GREY, data=little))
    yield Bomb("rows.png", png(1, ROWS, _GREY))
    yield Bomb("rows.jpg", jpeg(2_288, 65_500, "\1\2\3"))
    yield Bomb("rows.webp", webp(vp8l(1, 16_384)), SHOWN)


def _by_scans() -> Iterator[Bomb]:
    yield slow("scans.jpg")
    yield Bomb("scans-small.jpg", jpeg(64, 64, "\1\2\3", scans=30_000))
    yield Bomb("scans-cmyk.jpg", jpeg(4_000, 4_000, "\1\2\3\4", scans=400))


def slow(name: str) -> Bomb:
    """A JPEG with 6,000 scans, which takes a minute of processor time."""
    return Bomb(name, many_scans(6_000), TIME)


def many_scans(count: int) -> bytes:
    """A JPEG that takes about 10 ms of processor time for each scan."""
    return jpeg(_SLOW_SIDE, _SLOW_SIDE, "\1", scans=count)


def _by_frames() -> Iterator[Bomb]:
    yield Bomb("frames-canvas.webp", animation(SIDE, SIDE, 1))
    yield Bomb("frames-canvas-too-large.webp", animation(16_383, 16_383, 1), PIXELS)
    yield Bomb("frames-many.webp", animation(400, 300, 50_000))


def _by_profile() -> Iterator[Bomb]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = (60 * _MEGABYTE).to_bytes(4, "big") + srgb[4:]
    picture = chunk_of(encode(draw(), "WEBP"))
    for name, profile in (("junk", b"\x9d" * 100), ("padded", large)):
        data = profile.ljust(60 * _MEGABYTE, b"\0")
        extended = vp8x(400, 300, flags=0x20)
        yield Bomb(f"profile-{name}.webp", webp(extended, riff(b"ICCP", data), picture), SHOWN)
    bomb = b"icc\0\0" + zeros(2_000 * _MEGABYTE)
    yield Bomb("profile.png", _with_chunks(chunk(b"iCCP", bomb)))


def _by_exif() -> Iterator[Bomb]:
    for name, exif in (
        ("loop", tiff(*((tag, 4, 1, 8) for tag in _POINTERS), following=8)),
        ("counts", tiff(*((0x9000 + each, 1 + each % 12, 2**32 - 1, 8) for each in range(100)))),
        ("many", many_tags(60_000)),
    ):
        data = after_start(encode(draw()), segment(0xE1, b"Exif\0\0" + exif))
        yield Bomb(f"exif-{name}.jpg", data, SHOWN)
    for name, exif in (
        ("small", fractions(240_000)),
        ("large", fractions(30 * _MEGABYTE)),
        ("many", many_tags(2 * _MEGABYTE)),
    ):
        yield Bomb(f"exif-{name}.png", _with_chunks(chunk(b"eXIf", exif)))
        parts = vp8x(400, 300, flags=0x08), chunk_of(encode(draw(), "WEBP")), riff(b"EXIF", exif)
        yield Bomb(f"exif-{name}.webp", webp(*parts))


def _by_text() -> Iterator[Bomb]:
    gigabyte = zeros(1_000 * _MEGABYTE)
    yield Bomb("text.png", _with_chunks(chunk(b"zTXt", b"a\0\0" + gigabyte)))
    megabyte = zeros(_MEGABYTE - 1)
    several = (chunk(b"zTXt", b"a%d\0\0" % n + megabyte) for n in range(1_000))
    yield Bomb("text-many.png", _with_chunks(*several))
    late = chunk(b"zTXt", b"a\0\0" + gigabyte)
    yield Bomb("text-late.png", _with_chunks(late, before=b"IEND"))
    packet = (b"exif:DateTimeOriginal=" * 64).ljust(2_000).ljust(30 * _MEGABYTE, b"<")
    parts = vp8x(400, 300, flags=0x04), chunk_of(encode(draw(), "WEBP")), riff(b"XMP ", packet)
    yield Bomb("text-xmp.webp", webp(*parts), SHOWN)


def _by_file() -> Iterator[Bomb]:
    """Nearly `MAX_FILE_BYTES` in one part that nobody needs."""
    size, jpeg_file, png_file = 400 * _MEGABYTE, encode(draw()), encode(draw(), "PNG")
    yield Bomb("file.jpg", jpeg_file, SHOWN, hole=size)
    yield Bomb("file.png", png_file, SHOWN, hole=size)
    picture = vp8x(400, 300) + chunk_of(encode(draw(), "WEBP"))
    head = struct.pack("<4sI4s", b"RIFF", 4 + len(picture) + 8 + size, b"WEBP") + picture
    yield Bomb("file-chunk.webp", head + struct.pack("<4sI", b"junk", size), hole=size)


# Deflate and PNG (RFC 1950, RFC 1951, PNG third edition)


@functools.cache
def _zeros_block() -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(_MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)


def zeros(count: int) -> bytes:
    """Compresses zeros, as many as wanted, in no time: the same block again and again."""
    block = _zeros_block()
    whole, rest = divmod(count, _MEGABYTE)
    last = zlib.compress(bytes(rest), 9, wbits=-15)
    return b"\x78\xda" + block * whole + last + struct.pack(">HH", count % 65_521, 1)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, colour: int, *, data: bytes | None = None) -> bytes:
    """A PNG that is black all over, or has `data` as its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = zeros(height * (1 + width * _CHANNELS[colour])) if data is None else data
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _with_chunks(*chunks: bytes, before: bytes = b"IDAT") -> bytes:
    data = encode(draw(), "PNG")
    start = data.rindex(before) - 4
    return data[:start] + b"".join(chunks) + data[start:]


# JPEG (ITU-T T.81)


def segment(marker: int, data: bytes) -> bytes:
    data = data[:65_533]
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def after_start(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def jpeg(
    width: int,
    height: int,
    components: str,
    *,
    progressive: bool = True,
    scans: int = 1,
    cut: bool = False,
) -> bytes:
    """A grey JPEG of one bit for each block, with `scans` more scans that change nothing.

    The Huffman tables have one code each. The DC table's means "as before", the other's "no more
    coefficients in this block" or, in a progressive JPEG, "in this and the next 16,383 blocks".
    """
    numbers = components.encode()
    blocks = -(-width // 8) * -(-height // 8)
    frame = struct.pack(">BHHB", 8, height, width, len(numbers))
    frame += b"".join(bytes((number, 0x11, 0)) for number in numbers)
    one_code = bytes((1, *[0] * 15))
    parts = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2 if progressive else 0xC0, frame),
        segment(0xC4, b"\x00" + one_code + b"\0"),
        segment(0xC4, b"\x10" + one_code + (b"\xe0" if progressive else b"\0")),
    ]
    if len(numbers) == 4:
        parts.insert(1, segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"))
    if not progressive:
        bits = b"" if cut else bytes(blocks * len(numbers) * 2 // 8 + 1)
        return b"".join((*parts, _scan(numbers, 0, 63), bits, b"" if cut else b"\xff\xd9"))
    parts += [_scan(numbers, 0, 0), b"" if cut else bytes(blocks * len(numbers) // 8 + 1)]
    if not cut:
        runs = bytes((-(-blocks // 16_384) * 15 + 7) // 8)
        ac = [_scan(bytes((number,)), 1, 63) + runs for number in numbers]
        parts += [ac[each % len(ac)] for each in range(scans)]
    return b"".join((*parts, b"" if cut else b"\xff\xd9"))


def _scan(numbers: bytes, first: int, last: int) -> bytes:
    selected = b"".join(bytes((number, 0)) for number in numbers)
    return segment(0xDA, bytes((len(numbers),)) + selected + bytes((first, last, 0)))


# WebP (RFC 9649)


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    return riff(b"RIFF", b"WEBP" + b"".join(chunks))


def vp8x(width: int, height: int, *, flags: int = 0) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", bytes((flags, 0, 0, 0)) + sides)


def vp8l(width: int, height: int) -> bytes:
    """A lossless picture of any size in a few bytes: one colour, zero bits for each pixel."""
    bits = width - 1 | (height - 1) << 14
    for code in range(5):  # a simple code of one symbol, which is 0
        bits |= 1 << (32 + 3 + 4 * code)
    return riff(b"VP8L", b"\x2f" + bits.to_bytes(10, "little"))


def animation(width: int, height: int, frames: int) -> bytes:
    """An animated WebP whose frames have one pixel each."""
    frame = bytes(6 + 3 + 3) + (100).to_bytes(3, "little") + b"\0" + vp8l(1, 1)
    parts = vp8x(width, height, flags=0x02), riff(b"ANIM", bytes(6)), riff(b"ANMF", frame) * frames
    return webp(*parts)


def chunk_of(data: bytes) -> bytes:
    """The one chunk of a simple WebP."""
    return data[12:]


def _claims(data: bytes, width: int, height: int) -> bytes:
    """A lossy WebP that says it has another size."""
    return data[:26] + struct.pack("<HH", width, height) + data[30:]


# EXIF (TIFF 6.0)

_POINTERS = (0x014A, 0x8769, 0x8825, 0xA005, 0x927C)  # tags that lead to further directories


def tiff(*entries: tuple[int, int, int, int], following: int = 0, rest: bytes = b"") -> bytes:
    """A directory at 8, of entries with their tag, type, count and value or place."""
    tags = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + tags + struct.pack("<I", following) + rest


def fractions(size: int) -> bytes:
    """EXIF of `size` bytes, nearly all of it the fractions of two tags."""
    each = (size - 50) // 16
    return tiff((0x9202, 5, each, 50), (0x9204, 10, each, 50), rest=b"\1\0\0\0" * (size // 4))


def many_tags(size: int) -> bytes:
    """EXIF of `size` bytes, a third of it tags that each have all the rest as their value."""
    count = min(size // 36, 65_535)
    start = 8 + 2 + 12 * count + 4
    entries = ((tag, 7, size - start, start) for tag in range(count))
    return tiff(*entries, rest=bytes(size - start))
