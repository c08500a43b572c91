"""Reads what people wrote into an image: keywords, title and caption, of XMP and of IPTC.

And the lens, which XMP alone may name.

Both are untrusted: whatever is malformed counts as absent, and nothing here raises an error.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple
from xml.parsers import expat

from lenslet.bounds import (
    MAX_CAPTION,
    MAX_NAME,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    MAX_TITLE,
    clean,
    clean_line,
)

_PACKET_BYTES, _LEVELS = 1 << 20, 32  # of XMP
_SUBJECT, _HIERARCHY = "dc:subject", "lr:hierarchicalSubject"
_TITLE, _CAPTION = "dc:title", "dc:description"
_LENS = "aux:Lens"  # where EXIF has no name for it: Lightroom knows it from the maker's notes
_NAMES = frozenset((_SUBJECT, _HIERARCHY, _TITLE, _CAPTION, _LENS))
# Datasets of IPTC-IIM 4.2, each by its record and number.
_CHARSET, _IIM_TITLE, _IIM_KEYWORD, _IIM_CAPTION = (1, 90), (2, 5), (2, 25), (2, 120)
_UTF_8 = b"\x1b%G"
_LARGE = 0x8000  # a dataset of more than 32 KB, which is none of these
# What cameras write as a caption by themselves. Programs copy it from EXIF into XMP.
_BY_CAMERAS = (
    *("olympus digital camera", "minolta digital camera", "konica minolta digital camera"),
    *("samsung camera pictures", "samsung digital camera", "sony dsc", "digital camera"),
)


class Written(NamedTuple):
    """What people wrote into an image. A field is None if there is nothing."""

    keywords: list[str] | None = None
    title: str | None = None
    caption: str | None = None
    lens: str | None = None


def read(xmp: bytes, iptc: bytes) -> Written:
    """Returns what an XMP packet and IPTC-IIM say; where both do, XMP comes first.

    Each level of a hierarchical keyword (`Places|Germany`) is a keyword.
    """
    properties, datasets = _xmp(xmp), _iptc(iptc)
    levels = (level for text in properties[_HIERARCHY] for level in text.split("|"))
    keywords = _keywords((*properties[_SUBJECT], *levels, *datasets[_IIM_KEYWORD]))
    titles = (clean_line(text, MAX_TITLE) for text in properties[_TITLE] + datasets[_IIM_TITLE])
    captions = (clean(text, MAX_CAPTION) for text in properties[_CAPTION] + datasets[_IIM_CAPTION])
    by_people = (text for text in captions if text.lower() not in _BY_CAMERAS)
    lenses = (clean_line(text, MAX_NAME) for text in properties[_LENS])
    texts = (next(filter(None, found), None) for found in (titles, by_people, lenses))
    return Written(keywords or None, *texts)


def _keywords(texts: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for text in texts:
        if keyword := clean_line(text, MAX_TAG_CHARACTERS):
            found[keyword] = None
        if len(found) == MAX_TAGS:
            break
    return list(found)


class _Packet:
    """Collects the values of properties while a packet is parsed, with their languages.

    Prefixes are those of the XMP specification, which programs use. Resolving them would let a long
    namespace be copied for each element.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[str, str]]] = {name: [] for name in _NAMES}
        self._level = 0
        self._property = ""  # inside which the parser is
        self._language, self._text = "", list[str]()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._level += 1
        if self._level > _LEVELS:
            raise ValueError("too many levels")
        if name in _NAMES and not self._property:
            self._property = name
        self._language, self._text = attributes.get("xml:lang", ""), []
        if name == "rdf:Description":
            for key in _NAMES & attributes.keys():
                self.values[key].append(("", attributes[key]))

    def text(self, text: str) -> None:
        if self._property:
            self._text.append(text)

    def end(self, name: str) -> None:
        self._level -= 1
        if self._property and name in ("rdf:li", self._property):
            text = "".join(self._text)
            self.values[self._property] += [(self._language, text)] if text.strip() else []
            self._text = []
        if name == self._property:
            self._property = ""


def _xmp(data: bytes) -> dict[str, list[str]]:
    """Returns the values of each property; the default language first.

    Of a packet that is not XML after some point (XMP, part 1, 7.3), what comes before counts.
    """
    packet = _Packet()
    if len(data) <= _PACKET_BYTES and any(name.encode() in data for name in _NAMES):
        parser = expat.ParserCreate("utf-8")  # XMP, part 3; a declaration of another does not count
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler, parser.EndElementHandler = packet.start, packet.end
        parser.CharacterDataHandler = packet.text
        with contextlib.suppress(expat.ExpatError, ValueError):
            parser.Parse(data.strip(b"\0 \t\r\n"), True)
    for found in packet.values.values():
        found.sort(key=lambda each: each[0] != "x-default")
    return {name: [text for _, text in found] for name, found in packet.values.items()}


def _refuse(*_: object) -> None:
    raise ValueError("XMP has no DOCTYPE")


def _iptc(data: bytes) -> dict[tuple[int, int], list[str]]:
    """Returns the texts of each dataset, up to the first that is cut off (IPTC-IIM 4.2, 1.5).

    Without a character set they are UTF-8 or, if they cannot be that, Windows-1252 or Latin-1.
    """
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    at, is_utf_8 = 0, False
    while at + 5 <= len(data) and data[at] == 0x1C:
        dataset, size = (data[at + 1], data[at + 2]), int.from_bytes(data[at + 3 : at + 5], "big")
        at += 5 + size
        if size & _LARGE or at > len(data):
            break
        value = data[at - size : at]
        if dataset == _CHARSET:
            is_utf_8 = value == _UTF_8
        elif dataset in (_IIM_TITLE, _IIM_KEYWORD, _IIM_CAPTION):
            found[dataset].append(_decode(value, is_utf_8=is_utf_8))
    return found


def _decode(value: bytes, *, is_utf_8: bool) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:  # programs cut texts at the most bytes that IPTC allows
        if is_utf_8:
            return value.decode(errors="ignore")
    try:
        return value.decode("cp1252")
    except UnicodeDecodeError:
        return value.decode("latin-1")
