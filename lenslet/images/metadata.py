"""Reads what people wrote into an image: keywords, title and caption, of XMP and of IPTC.

And the lens, which XMP alone may name. All of it is untrusted: whatever is malformed counts as
absent, and nothing here raises an error.
"""

import contextlib
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree

from lenslet import bounds
from lenslet.bounds import (
    MAX_CAPTION,
    MAX_NAME,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    MAX_TITLE,
    clean,
    clean_line,
)

_PACKET_BYTES = 1 << 20  # of XMP, and of its extension
_RDF, _DC = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
_SUBJECT, _TITLE, _CAPTION = (_DC + name for name in ("subject", "title", "description"))
# Keywords of which each level is one, and what is between these: `Places|Germany`.
_HIERARCHIES = (
    ("{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject", "|"),
    ("{http://www.digikam.org/ns/1.0/}TagsList", "/"),
    ("{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP", "/"),
)
# Where EXIF has no name of the lens: Lightroom knows it from the maker's notes.
_LENS = "{http://ns.adobe.com/exif/1.0/aux/}Lens"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_EXTENSION = (
    b"http://ns.adobe.com/xmp/extension/\0"  # then GUID, length, offset (XMP part 3, 1.1.3.1)
)
_END = b"</x:xmpmeta>"
_UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
# Datasets of IPTC-IIM 4.2, each by its record and number.
_CHARSET, _IIM_TITLE, _IIM_KEYWORD, _IIM_CAPTION = (1, 90), (2, 5), (2, 25), (2, 120)
_UTF_8 = b"\x1b%G"
_LARGE = 0x8000  # a dataset of more than 32 KB, which is none of these
_IPTC = 0x0404  # among Photoshop's resources
# What cameras write as a caption by themselves. Programs copy it from EXIF into XMP.
_BY_CAMERAS = (
    *("olympus digital camera", "minolta digital camera", "konica minolta digital camera"),
    *("samsung camera pictures", "samsung digital camera", "sony dsc", "digital camera"),
)


class Written(NamedTuple):
    """What people and programs wrote into an image, in the order in which each source has it.

    The values of each property of XMP (a missing one is empty) and of each dataset of IPTC-IIM, and
    PNG's `Creation Time`.
    """

    xmp: Mapping[str, list[str]]
    iptc: Mapping[tuple[int, int], list[str]]
    creation_time: str = ""

    @classmethod
    def of(cls, image: Any) -> "Written":
        """Reads it from an image that Pillow has opened."""
        info = image.info
        properties = _properties(_packet(info))
        for guid in properties.get(_EXTENDED, ())[:1]:
            extension = _extension(getattr(image, "applist", ()), guid.encode())
            for name, texts in _properties(extension).items():
                properties[name] += texts
        creation_time = info.get("Creation Time") or info.get("CreationTime")  # ImageMagick
        return cls(properties, _datasets(_iim(info)), plain_text(creation_time))

    def words(self) -> dict[str, Any]:
        """Returns keywords, title, caption and lens, as keys of an item.

        Where both say something, XMP comes first. Each level of a hierarchical keyword
        (`Places|Germany`) is a keyword.
        """
        xmp, iptc = self.xmp, self.iptc
        levels = (t for name, between in _HIERARCHIES for e in xmp[name] for t in e.split(between))
        keywords = (*xmp[_SUBJECT], *levels, *iptc[_IIM_KEYWORD])
        titles = (clean_line(text, MAX_TITLE) for text in xmp[_TITLE] + iptc[_IIM_TITLE])
        captions = (clean(text, MAX_CAPTION) for text in xmp[_CAPTION] + iptc[_IIM_CAPTION])
        said = (text for text in captions if text.lower() not in ("", *_BY_CAMERAS))
        lenses = (clean_line(text, MAX_NAME) for text in xmp[_LENS])
        found = {
            "keywords": _keywords(keywords),
            "title": next(filter(None, titles), ""),
            "caption": next(said, ""),
            "lens": next(filter(None, lenses), ""),
        }
        return {key: value for key, value in found.items() if value}


def beside(files: Iterable[tuple[str, bytes]]) -> tuple[Written, Written]:
    """Returns what files beside an image say: the first packet of XMP, and a note of Takeout.

    The note has a description, and when the photo was taken, as its `creation_time` in UTC.
    """
    packet, note = (Written(defaultdict(list), defaultdict(list)) for _ in range(2))
    for name, data in files:
        if name.lower().endswith(".xmp"):
            packet = packet._replace(xmp=packet.xmp or _properties(data))
        elif not note.xmp:
            note = _note(data) or note
    return packet, note


def _note(data: bytes) -> Written | None:
    """Reads JSON of Google Takeout; None if it is none."""
    try:
        found = bounds.loads(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found.keys() & {"description", "photoTakenTime"}:
        return None
    text, taken = found.get("description"), ""
    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, OSError):
        seconds = int(found["photoTakenTime"]["timestamp"])
        taken = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    xmp = defaultdict(list, {_CAPTION: [text] if isinstance(text, str) else []})
    return Written(xmp, defaultdict(list), taken)


def plain_text(value: object) -> str:
    """Returns a text up to its first NUL; empty for what is none.

    One in EXIF, which Pillow has read as Latin-1, is UTF-8 if it can be.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    with contextlib.suppress(ValueError):
        value = value.encode("latin-1").decode()
    return value.split("\0")[0]


def _keywords(texts: Iterable[str]) -> list[str]:
    keywords = (clean_line(text, MAX_TAG_CHARACTERS) for text in texts)
    return list(dict.fromkeys(filter(None, keywords)))[:MAX_TAGS]


# Where it is


def _packet(info: Mapping[str, Any]) -> bytes:
    """Returns the packet of XMP."""
    found = info.get("xmp") or info.get("XML:com.adobe.xmp") or _raw_profile(info, "xmp")
    return found.encode() if isinstance(found, str) else bytes(found)


def _extension(segments: Iterable[tuple[str, bytes]], guid: bytes) -> bytes:
    """Joins the segments of a JPEG that hold the rest of its XMP; empty if they are too large."""
    start = _EXTENSION + guid
    parts = [data[len(start) + 4 :] for _, data in segments if data.startswith(start)]
    if sum(map(len, parts)) > _PACKET_BYTES:
        return b""
    return b"".join(part[4:] for part in sorted(parts, key=lambda part: part[:4]))


def _iim(info: Mapping[str, Any]) -> bytes:
    """Returns IPTC-IIM: one of Photoshop's resources or, in a PNG, also alone."""
    resources = info.get("photoshop")
    if isinstance(resources, dict):  # a PNG may have a text of that name
        return bytes(resources.get(_IPTC, b""))
    data, at = _raw_profile(info, "iptc"), 0
    with contextlib.suppress(IndexError):
        while data[at : at + 4] == b"8BIM":  # a number, a name, the size; both of even length
            head = at + 6 + (data[at + 6] + 2) // 2 * 2 + 4
            size = int.from_bytes(data[head - 4 : head], "big")
            if int.from_bytes(data[at + 4 : at + 6], "big") == _IPTC:
                return data[head : head + size]
            at = head + size + size % 2
    return data[at:]


def _raw_profile(info: Mapping[str, Any], kind: str) -> bytes:
    """Returns what ImageMagick stores in a PNG as text: the size, and hexadecimal digits."""
    text = info.get(f"Raw profile type {kind}")
    with contextlib.suppress(ValueError):
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    return b""


# What it says


def _properties(data: bytes) -> defaultdict[str, list[str]]:
    """Returns the values of each property of a packet; the default language first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    if not 0 < len(data) <= _PACKET_BYTES:
        return found
    if wide := _UTF_16.get(data[:2]):
        data = data.decode(wide, "ignore").encode("utf-8", "ignore")
    data, end, _ = data.partition(_END)  # a longer packet was there before
    parser = ElementTree.XMLParser(encoding="utf-8")  # XMP, part 3: no declaration changes that
    try:
        packet = ElementTree.fromstring((data + end).strip(b"\0 \t\r\n"), parser)
    except (ElementTree.ParseError, ValueError):
        return found
    rdf = next(packet.iter(_RDF + "RDF"), packet)
    for description in rdf.findall(_RDF + "Description"):
        for name, text in description.items():
            found[name].append(text)
        for value in description:
            each = sorted(value.iter(_RDF + "li"), key=lambda li: li.get(_LANGUAGE) != "x-default")
            found[value.tag] += [li.text or "" for li in each or (value,)]
    return found


def _datasets(data: bytes) -> defaultdict[tuple[int, int], list[str]]:
    """Returns the texts of each dataset, up to the first that is cut off (IPTC-IIM 4.2, 1.5).

    They are UTF-8, perhaps cut within a character, or else Windows-1252.
    """
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    at, charset = 0, "cp1252"
    while at + 5 <= len(data) and data[at] == 0x1C:
        dataset, size = (data[at + 1], data[at + 2]), int.from_bytes(data[at + 3 : at + 5], "big")
        at += 5 + size
        if size & _LARGE or at > len(data):
            break
        value = data[at - size : at]
        if dataset == _CHARSET:
            charset = "utf-8" if value == _UTF_8 else "cp1252"
        else:
            try:
                found[dataset].append(value.decode())
            except UnicodeDecodeError:
                found[dataset].append(value.decode(charset, "ignore"))
    return found
