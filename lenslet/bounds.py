"""How large documents and texts are at most, and a parser that refuses what takes far more memory.

Lenslet keeps these limits when it writes, so whatever is larger is not its own and is not read.
"""

import re
import unicodedata
from typing import Any

import orjson

DOCUMENT_BYTES = 1 << 20  # a sidecar
MAX_TAGS, MAX_TAG_CHARACTERS = 500, 200  # of an image; also its keywords
MAX_TITLE, MAX_CAPTION, MAX_NAME = 500, 4000, 100  # characters; the name of a camera or a lens
POINTER_BYTES = 64 << 10
DERIVED_BYTES = 8 << 20  # a derived document that is read as a whole
PAGE_BYTES = 8_000_000  # of it, a page of a manifest: items and subfolders
DIRS_BYTES = 4_000_000  # of that, the subfolders
DELTA_BYTES = 4_000_000
TERMS_BYTES = 2_000_000  # the tags, or the words, of a folded copy
LINE_BYTES = 2 << 20  # an item: a sidecar, and what Lenslet says of the image
FOLDERS_BYTES = 16 << 20  # the generations of the folders, in a rollup
PICTURE_BYTES = 64 << 20  # a thumbnail or a preview
BODY_BYTES, SESSION_BYTES = 256 << 10, 8 << 10  # of a request

# `{},{},` takes 30 times its size in memory. Lenslet's own documents have a list or an object for
# each 28 bytes at most; 40,000 take 3 MB, so a sidecar of any shape may have as many.
_BYTES_EACH, _FEW = 25, 40_000
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]+")


def loads(data: bytes) -> Any:
    """Parses JSON; `ValueError` if it is none, or has too many lists and objects for its size."""
    check(data)
    return orjson.loads(data)


def dumps(document: Any) -> bytes:
    """Returns JSON to keep: what `orjson.dumps` returns holds 4 KiB and more (3.13.0, measured)."""
    return bytes(memoryview(orjson.dumps(document)))


def check(data: bytes) -> None:
    """Raises `ValueError` if JSON has too many lists and objects for its size."""
    most = max(_FEW, len(data) // _BYTES_EACH)
    if nested(data) > most and nested(_STRING.sub(b"", data)) > most:
        raise ValueError(f"it has more than {most} lists and objects")


def nested(data: bytes) -> int:
    """Returns how many lists and objects JSON has at most: brackets in strings count too."""
    return data.count(b"{") + data.count(b"[")


def clean(text: str, most: int) -> str:
    """Returns a text that others wrote as an item has it.

    It is in NFC and has at most `most` characters. Ends of lines stay; other control characters
    become spaces.
    """
    plain = _CONTROL.sub(" ", "\n".join(text[:most].splitlines()))
    return unicodedata.normalize("NFC", plain)[:most].strip()


def clean_line(text: str, most: int) -> str:
    """Returns a text as `clean` does, on one line."""
    return " ".join(clean(text, most).split())
