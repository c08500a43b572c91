"""An item: what a manifest says of one image. `KEYS` is the one list of its keys."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from lenslet import paths, times
from lenslet.bounds import (
    DOCUMENT_BYTES,
    MAX_CAPTION,
    MAX_NAME,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    MAX_TITLE,
)
from lenslet.paths import Path
from lenslet.storage.tree import Stat

Item = dict[str, Any]


class Key(NamedTuple):
    """A key of an item: its type, and the most characters of a text, or of each one in a list.

    The largest value, if it is a number; none is less than 0.

    Every item has those that are `needed`. A link shows those that are `open`, and `words` if its
    guests may see those. `read` comes from the image and is copied into the rollup; `folded_line`
    in `search/format` makes it searchable.
    """

    kind: type[Any] = str
    most: int = DOCUMENT_BYTES
    needed: bool = False
    open: bool = False
    words: bool = False
    read: bool = False


KEYS: Mapping[str, Key] = {
    "path": Key(needed=True, open=True),
    "name": Key(needed=True, open=True),
    "type": Key(needed=True, open=True),
    "w": Key(int, 2**32, needed=True, open=True),
    "h": Key(int, 2**32, needed=True, open=True),
    "turn": Key(int, 8, open=True, read=True),
    "size": Key(int, 2**63, needed=True, open=True),
    "rev": Key(needed=True, open=True),
    "hasThumb": Key(bool, needed=True, open=True),
    "thumb": Key(open=True),
    "hasMeta": Key(bool, needed=True),
    "tags": Key(list, MAX_TAG_CHARACTERS, words=True),
    "notes": Key(words=True),
    "metaRev": Key(),
    "metaError": Key(),
    "hash": Key(),
    "createdAt": Key(open=True),
    "takenAt": Key(open=True),
    "addedAt": Key(open=True),
    "modifiedAt": Key(),
    "warning": Key(open=True),
    "error": Key(open=True),
    "limit": Key(),
    "foreign": Key(bool),
    "companions": Key(),
    "metaOther": Key(bool),
    "facts": Key(int),
    "keywords": Key(list, MAX_TAG_CHARACTERS, words=True, read=True),
    "title": Key(str, MAX_TITLE, words=True, read=True),
    "caption": Key(str, MAX_CAPTION, words=True, read=True),
    "camera": Key(str, MAX_NAME, open=True, read=True),
    "lens": Key(str, MAX_NAME, open=True, read=True),
    "about": Key(),
}
QUARANTINED = "quarantined"  # first word of the error of an image that kills its reader
_NEEDED = {name for name, key in KEYS.items() if key.needed}
_TYPES = frozenset(each.media_type for each in paths.FORMATS)
_MOST_KEYS = 100
_HASH, _NO_HASH = re.compile("blake3:[0-9a-f]{64}"), f"blake3:{0:064}"


def are_items(found: Any, folder: Path) -> TypeGuard[list[Item]]:
    """True if this is a list of items of a folder. Keys that are not known may have any value."""
    above = f"{folder}/" if folder else ""
    return isinstance(found, list) and all(_is_item(each, above) for each in found)


def _is_item(found: Any, above: str) -> bool:
    return (
        isinstance(found, dict)
        and len(found) <= _MOST_KEYS
        and found.keys() >= _NEEDED
        and all(_fits(key, found[name]) for name, key in KEYS.items() if name in found)
        and found["path"] == above + found["name"]
        and found["type"] in _TYPES
        and bool(_HASH.fullmatch(found.get("hash", _NO_HASH)))
    )


def _fits(key: Key, value: Any) -> bool:
    if type(value) is not key.kind:
        return False
    if key.kind is list:
        texts = all(isinstance(text, str) and len(text) <= key.most for text in value)
        return texts and len(value) <= MAX_TAGS
    return 0 <= (len(value) if key.kind is str else value) <= key.most


def stat_of(item: Item) -> Stat:
    """Returns the size and times of the object in a bucket that an item describes."""
    try:
        when = times.parse(item.get("modifiedAt", times.LONG_AGO)).timestamp()
    except ValueError:
        when = 0.0
    return Stat.of_object(item["size"], int(when), item["rev"])
