"""Hostile XMP and IPTC in real files: all are shown, and no decoder ends or takes much memory."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
from collections.abc import Callable, Iterator

import pytest
from bombs import after_start, chunk, riff, segment, vp8x, webp
from bombs import chunk_of as picture_of
from conftest import Gallery, close_idle_decoders, draw, encode, put
from mutate import flip, insert, overwrite, truncate
from processes import family, memory_bytes
from written import START, UTF_8, alt, app13, bag, iim, packet

pytestmark = pytest.mark.slow
COUNT, SEED = 500, 7
MOST_BYTES = 200_000_000  # of a decoder
JPEG, PNG, WEBP = (encode(draw(80, 60), kind) for kind in ("JPEG", "PNG", "WEBP"))
LIMIT = 1 << 20  # a packet of this size is still parsed
LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "lol">' for n in range(10)
)


def filled(start: str, part: str, end: str = "") -> bytes:
    """A packet as large as may be, of many equal parts."""
    room = LIMIT - len(packet("")) - len(start.encode()) - len(end.encode())
    return packet(start + part * (room // len(part.encode())) + end)


def packets() -> Iterator[bytes]:
    subject = bag("dc:subject", "sea")
    yield f"<!DOCTYPE x [{LAUGHS}]>".encode() + packet(bag("dc:subject", "&l9;"))
    yield filled("<dc:title/>", "<a>")
    yield filled("<dc:title/>", "<a/>")
    yield filled("<dc:title/>", "<b a='1' c='2'/>")
    yield filled("<dc:title/>", f"<a xmlns:n='{'n' * 999}'/>")
    yield filled("<dc:title>", "\u0344\u0316", "</dc:title>")
    yield filled("<dc:subject>", "<rdf:li>\u0344</rdf:li>", "</dc:subject>")
    yield filled("<dc:subject>", f"<rdf:li>{chr(0x316) * 4000}\u0301</rdf:li>", "</dc:subject>")
    yield filled("<lr:hierarchicalSubject><rdf:li>", "|a", "</rdf:li></lr:hierarchicalSubject>")
    yield filled("<dc:description>", "&#10;", "</dc:description>")
    yield filled("<dc:title/><!--", "-x", "-->")
    yield filled("<dc:title/><a b='", "x", "'/>")
    yield filled("<dc:title/><a ", "b='' ", "/>")
    many = " ".join(f"a{number}=''" for number in range(80_000))
    yield packet(subject, many)
    yield packet(subject).decode().encode("utf-16")
    yield packet(subject).replace(b"sea", b"\xff\xfe\xc3")
    yield packet(subject).replace(b"sea", b"s\0ea")
    yield START.encode() + b'<?xml version="1.0" encoding="idna"?>' + packet(subject)
    yield b"<?xml version='1.0' encoding='utf-7'?>" + packet(subject)
    yield packet(subject) + b"dc:title" + b"\0" * 1000
    yield packet(alt("dc:title", x_default="&#xD800;&#0;"))
    yield b"dc:title" * 1000


def records() -> Iterator[bytes]:
    yield iim(*((2, 25, b"%d" % number) for number in range(9000)))[:65_000]
    yield b"\x1c\x02\x19\xff\xff" + b"x" * 60_000
    yield b"\x1c\x02\x19\x7f\xff"
    yield b"\x1c\x02\x19\x80\x04\xff\xff\xff\xff"
    yield b"\x1c\x02\x19\0\0" * 13_000
    yield iim(UTF_8, (2, 25, b"\xff" * 200), (2, 120, "\u0344".encode() * 10_000))


def in_jpeg(xmp: bytes) -> bytes:
    return after_start(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp[:65_000]))


def in_webp(xmp: bytes) -> bytes:
    return webp(vp8x(80, 60, flags=0x04), picture_of(WEBP), riff(b"XMP ", xmp))


def in_png(xmp: bytes) -> bytes:
    at = PNG.index(b"IDAT") - 4
    return PNG[:at] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + PNG[at:]


def raw_profile(kind: str, data: bytes) -> bytes:
    text = f"Raw profile type {kind}\0\n{kind}\n{len(data):8}\n{data.hex()}\n".encode()
    at = PNG.index(b"IDAT") - 4
    return PNG[:at] + chunk(b"tEXt", text) + PNG[at:]


def extended(rest: bytes) -> bytes:
    """A JPEG whose XMP goes on in segments of their own."""
    guid = "A" * 32
    main = in_jpeg(packet("", f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid}"'))
    start = b"http://ns.adobe.com/xmp/extension/\0" + guid.encode() + len(rest).to_bytes(4, "big")
    pieces = range(0, len(rest), 60_000)
    parts = (start + at.to_bytes(4, "big") + rest[at : at + 60_000] for at in pieces)
    return after_start(main, *(segment(0xE1, part) for part in parts))


def damaged(chance: random.Random, data: bytes) -> bytes:
    return chance.choice((flip, insert, overwrite, truncate))(chance, data)


def files() -> Iterator[tuple[str, bytes]]:
    """Each packet in each format, and then damaged ones of all kinds."""
    sound = packet(
        bag("dc:subject", "a", "b") + alt("dc:title", x_default="c"), "dc:description='d'"
    )
    written = iim(UTF_8, (2, 5, b"title"), (2, 25, b"a"), (2, 25, b"b"), (2, 120, b"caption"))
    for xmp in packets():
        yield from ((".jpg", in_jpeg(xmp)), (".webp", in_webp(xmp)), (".png", in_png(xmp)))
        yield from ((".png", raw_profile("xmp", xmp)), (".jpg", extended(xmp)), (".xmp", xmp))
    for iptc in records():
        yield from ((".jpg", after_start(JPEG, app13(iptc))), (".png", raw_profile("iptc", iptc)))
    for size in (14, 17, 23, 26, 29):  # Pillow opens none that ends after a resource's number
        cut = segment(0xED, (b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\x09" + written)[:size])
        yield ".jpg", after_start(JPEG, cut)
    chance = random.Random(SEED)
    while True:
        yield ".webp", in_webp(damaged(chance, sound))
        yield ".png", in_png(damaged(chance, sound))
        yield ".png", raw_profile("iptc", damaged(chance, written))
        yield ".jpg", extended(damaged(chance, sound))
        yield ".xmp", damaged(chance, sound)
        yield ".jpg", in_jpeg(damaged(chance, sound))
        yield ".jpg", after_start(JPEG, app13(damaged(chance, written)[:60_000]))


def test_hostile_metadata_is_passed_over(
    indexed: Callable[..., Gallery], root: pathlib.Path
) -> None:
    close_idle_decoders()  # other tests had large images read
    put(root / "first.jpg")
    gallery = indexed()
    decoders = {
        pid
        for pid in family(os.getpid())
        if b"images/decoder.py" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    }
    for number, (suffix, data) in enumerate(itertools.islice(files(), COUNT)):
        put(root / f"{number}{suffix}", data)
        if suffix == ".xmp":
            put(root / f"{number}.jpg", JPEG)
    gallery.index()
    gallery.settle(60)
    items = gallery.items().values()
    assert len(items) == COUNT + 1
    wrong = {i["name"]: (i.get("error"), i.get("warning")) for i in items if "hash" not in i}
    wrong |= {i["name"]: i["error"] for i in items if "error" in i}
    assert wrong == {}
    assert all(item["hasThumb"] for item in items)
    assert decoders and decoders <= {*family(os.getpid())}
    assert max(memory_bytes(pid)[1] for pid in decoders) < MOST_BYTES
    assert max(len(item.get("keywords", ())) for item in items) == 500
    assert not gallery.found("lollol")
