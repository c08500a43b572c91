"""Reads what people wrote into an image: keywords, title and caption, of XMP and of IPTC.

And the lens, which XMP alone may name. Both are untrusted: whatever is malformed counts as absent,
and nothing here raises an error.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from lenslet.bounds import (
    MAX_CAPTION,
    MAX_NAME,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    MAX_TITLE,
    clean,
    clean_line,
)

_PACKET_BYTES = 1 << 20  # of XMP
_RDF, _DC = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://purl.org/dc/elements/1.1/}"
_SUBJECT, _TITLE, _CAPTION = (_DC + name for name in ("subject", "title", "description"))
_HIERARCHY = "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject"
# Where EXIF has no name of the lens: Lightroom knows it from the maker's notes.
_LENS = "{http://ns.adobe.com/exif/1.0/aux/}Lens"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Datasets of IPTC-IIM 4.2, each by its record and number.
_CHARSET, _IIM_TITLE, _IIM_KEYWORD, _IIM_CAPTION = (1, 90), (2, 5), (2, 25), (2, 120)
_UTF_8 = b"\x1b%G"
_LARGE = 0x8000  # a dataset of more than 32 KB, which is none of these
# What cameras write as a caption by themselves. Programs copy it from EXIF into XMP.
_BY_CAMERAS = (
    *("olympus digital camera", "minolta digital camera", "konica minolta digital camera"),
    *("samsung camera pictures", "samsung digital camera", "sony dsc", "digital camera"),
)


def read(xmp: bytes, iptc: bytes) -> dict[str, Any]:
    """Returns what an XMP packet and IPTC-IIM say, as keys of an item.

    Where both say something, XMP comes first. Each level of a hierarchical keyword
    (`Places|Germany`) is a keyword.
    """
    properties, datasets = _xmp(xmp), _iptc(iptc)
    levels = (level for text in properties[_HIERARCHY] for level in text.split("|"))
    keywords = (*properties[_SUBJECT], *levels, *datasets[_IIM_KEYWORD])
    titles = (clean_line(text, MAX_TITLE) for text in properties[_TITLE] + datasets[_IIM_TITLE])
    captions = (clean(text, MAX_CAPTION) for text in properties[_CAPTION] + datasets[_IIM_CAPTION])
    lenses = (clean_line(text, MAX_NAME) for text in properties[_LENS])
    found = {
        "keywords": _keywords(keywords),
        "title": next(filter(None, titles), ""),
        "caption": next((text for text in captions if text.lower() not in ("", *_BY_CAMERAS)), ""),
        "lens": next(filter(None, lenses), ""),
    }
    return {key: value for key, value in found.items() if value}


def _keywords(texts: Iterable[str]) -> list[str]:
    keywords = (clean_line(text, MAX_TAG_CHARACTERS) for text in texts)
    return list(dict.fromkeys(filter(None, keywords)))[:MAX_TAGS]


def _xmp(data: bytes) -> dict[str, list[str]]:
    """Returns the values of each property; the default language first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    if not 0 < len(data) <= _PACKET_BYTES:
        return found
    parser = ElementTree.XMLParser(encoding="utf-8")  # XMP, part 3: no declaration changes that
    try:
        packet = ElementTree.fromstring(data.strip(b"\0 \t\r\n"), parser)
    except (ElementTree.ParseError, ValueError):
        return found
    for description in packet.iter(_RDF + "Description"):
        for name, text in description.items():
            found[name].append(text)
        for value in description:
            each = sorted(value.iter(_RDF + "li"), key=lambda li: li.get(_LANGUAGE) != "x-default")
            found[value.tag] += [li.text or "" for li in each or (value,)]
    return found


def _iptc(data: bytes) -> dict[tuple[int, int], list[str]]:
    """Returns the texts of each dataset, up to the first that is cut off (IPTC-IIM 4.2, 1.5).

    They are UTF-8, of which programs cut the end off, or else Windows-1252.
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
