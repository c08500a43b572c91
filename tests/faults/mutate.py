"""Real images, damaged at random: the same damage each time for one seed."""

from __future__ import annotations

import io
import pathlib
import random
import struct
import zlib
from collections.abc import Callable, Iterator

from conftest import CORPUS, draw, encode, exif
from PIL import Image

_LARGEST_BYTES = 150_000  # of an original, so that ten thousand are read in minutes
_SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}
_LENGTHS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_SIDES = (0, 1, 2, 255, 1_000, 12_247, 16_383, 65_500, 65_535, 2**31 - 1, 2**32 - 1)


def originals() -> list[tuple[str, bytes]]:
    """Small images of the corpus and drawn ones, each with its format's suffix."""
    return [*_drawn(), *_of_corpus()]


def _drawn() -> Iterator[tuple[str, bytes]]:
    dated = exif(Orientation=6, DateTimeOriginal="2024:02:03 04:05:06")
    yield "jpg", encode(draw(), exif=dated)
    yield "jpg", encode(draw(), progressive=True)
    yield "jpg", encode(draw(mode="CMYK"))
    yield "jpg", encode(draw(mode="L"))
    for mode in ("1", "L", "P", "RGB", "RGBA", "I;16"):
        image = Image.new(mode, (90, 70), 9) if mode == "I;16" else draw(90, 70, mode=mode)
        yield "png", encode(image, "PNG", exif=dated)
    frames = [draw(80, 60, seed=seed) for seed in range(3)]
    for kind in ("png", "webp"):
        yield kind, encode(frames[0], kind.upper(), save_all=True, append_images=frames[1:])
    yield "webp", encode(draw(), "WEBP", exif=dated)
    yield "webp", encode(draw(mode="RGBA"), "WEBP", lossless=True)


def _of_corpus() -> Iterator[tuple[str, bytes]]:
    for path in sorted(pathlib.Path(CORPUS).rglob("*")) if CORPUS else []:
        suffix = _SUFFIXES.get(path.suffix.lower())
        if suffix and path.stat().st_size <= _LARGEST_BYTES:
            yield suffix, path.read_bytes()


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged images, each with a name that says what was done to it."""
    chance, found = random.Random(seed), originals()
    for number in range(count):
        suffix, data = chance.choice(found)
        other = chance.choice(found)[1]
        names = chance.choices(list(_MUTATIONS), k=chance.choice((1, 1, 2, 3)))
        for name in names:
            data = _MUTATIONS[name](chance, data, *([other] if name == "splice" else []))
        if suffix == "png" and chance.random() < 0.6:
            data = with_checksums(data)
        yield f"{number:05}-{'-'.join(names)}.{suffix}", data


def flip(chance: random.Random, data: bytes) -> bytes:
    """Flips single bits, a few or many."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 20, 200)) if data else 0):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(chance: random.Random, data: bytes) -> bytes:
    """Writes zeros, ones or noise over a stretch."""
    start, size = chance.randrange(len(data) + 1), chance.choice((1, 4, 64, 2_000))
    junk = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
    return data[:start] + junk + data[start + size :]


def truncate(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def insert(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + chance.randbytes(chance.choice((1, 2, 3, 100, 5_000))) + data[start:]


def splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one image and the end of another."""
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def length(chance: random.Random, data: bytes) -> bytes:
    """Writes a wrong length into one part."""
    part = _choose(chance, data)
    if part is None:
        return data
    start, _, form, place = part
    wrong = chance.choice((*_LENGTHS, chance.getrandbits(32)))
    wrong %= 1 << (8 * struct.calcsize(form))
    at = start + place
    return data[:at] + struct.pack(form, wrong) + data[at + struct.calcsize(form) :]


def repeat(chance: random.Random, data: bytes) -> bytes:
    """Has one part twice, or hundreds of times."""
    part = _choose(chance, data)
    if part is None:
        return data
    start, end, *_ = part
    times = min(chance.choice((1, 2, 300)), 1 + 300_000 // max(1, end - start))
    return data[:end] + data[start:end] * times + data[end:]


def remove(chance: random.Random, data: bytes) -> bytes:
    part = _choose(chance, data)
    return data if part is None else data[: part[0]] + data[part[1] :]


def swap(chance: random.Random, data: bytes) -> bytes:
    """Exchanges two parts."""
    found = sorted(chance.sample(parts(data), 2)) if len(parts(data)) > 1 else []
    if not found:
        return data
    (a, b, *_), (c, d, *_) = found
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def resize(chance: random.Random, data: bytes) -> bytes:
    """Changes the sides that the header tells, of a PNG with the right checksum."""
    place, form = _sides(data)
    if not form or len(data) < place + 8:
        return data
    most = 1 << (8 * struct.calcsize(form) // 2)
    sides = (chance.choice((*_SIDES, chance.randrange(most))) % most for _ in range(2))
    changed = data[:place] + struct.pack(form, *sides) + data[place + struct.calcsize(form) :]
    return with_checksums(changed) if data[:4] == b"\x89PNG" else changed


_MUTATIONS: dict[str, Callable[..., bytes]] = {
    each.__name__: each
    for each in (flip, overwrite, truncate, insert, splice, length, repeat, remove, swap, resize)
}


def parts(data: bytes) -> list[tuple[int, int, str, int]]:
    """The chunks or segments: start, end, and how and where in it the length is written."""
    if data[:4] == b"\x89PNG":
        return list(_chunks(data, 8, ">I", 0, 12))
    if data[:4] == b"RIFF":
        return [(0, 12, "<I", 4), *_chunks(data, 12, "<I", 4, 8)]
    return list(_segments(data))


def _chunks(
    data: bytes, at: int, form: str, place: int, more: int
) -> Iterator[tuple[int, int, str, int]]:
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(form, data, at + place)
        end = at + size + more + (size % 2 if form == "<I" else 0)
        if end > len(data):
            return
        yield at, end, form, place
        at = end


def _segments(data: bytes) -> Iterator[tuple[int, int, str, int]]:
    """The segments of a JPEG; a scan ends where the next marker begins."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while end < len(data) - 1 and (data[end] != 0xFF or data[end + 1] in (0, *_RESTARTS)):
                end += 1
        if end > len(data):
            return
        yield at, end, ">H", 2
        at = end


_RESTARTS = range(0xD0, 0xD8)


def _choose(chance: random.Random, data: bytes) -> tuple[int, int, str, int] | None:
    found = parts(data)
    return chance.choice(found) if found else None


def _sides(data: bytes) -> tuple[int, str]:
    """Where width and height are written, and how."""
    if data[:4] == b"\x89PNG":
        return 16, ">II"
    if data[:4] == b"RIFF" and data[12:16] == b"VP8 ":
        return 26, "<HH"
    if data[:4] == b"RIFF":
        return 24, "<HH"  # bits of both, in VP8X and VP8L
    frames = (at for at, *_ in _segments(data) if data[at + 1] in (0xC0, 0xC1, 0xC2))
    return next(((at + 5, ">HH") for at in frames), (0, ""))


def with_checksums(data: bytes) -> bytes:
    """The PNG with right checksums, so that the damage gets past them."""
    out, end = io.BytesIO(), 8
    out.write(data[:8])
    for start, end, *_ in _chunks(data, 8, ">I", 0, 12):
        out.write(data[start : end - 4])
        out.write(struct.pack(">I", zlib.crc32(data[start + 4 : end - 4])))
    out.write(data[end:])
    return out.getvalue()
