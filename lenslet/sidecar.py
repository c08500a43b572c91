"""One image's sidecar: read leniently, validated, merged, written so that people can diff it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from blake3 import blake3

from lenslet import times
from lenslet.errors import Conflict, Denied, Invalid, NotFound, NotRegular, one_line
from lenslet.paths import SIDECARS, Path, usable
from lenslet.storage import Storage, Tree
from lenslet.storage.tree import DOCUMENT_BYTES

Document = dict[str, Any]

MAX_TAGS, MAX_TAG_CHARACTERS, MAX_NOTES_BYTES = 500, 200, 64 * 1024
MAX_STORED_BYTES = 1024 * 1024
FUTURE = dt.timedelta(minutes=5)
_MANY_DIGITS = re.compile(rb"[0-9]{16}")  # orjson makes a float of an integer over 64 bits
_ORJSON_LEVELS = 200  # it reads 1,024 and writes 254
_OLD_NAMES = {"updated_at": "updatedAt", "updated_by": "updatedBy", "created_at": "createdAt"}
_LONG_AGO = dt.datetime.min.replace(tzinfo=times.UTC)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is stored for one image: its document, and where and as which bytes it stands."""

    document: Document
    raw: bytes
    tree: Tree
    path: Path

    @property
    def updated(self) -> dt.datetime:
        return _time(self.document)


@dataclass(slots=True)
class Found:
    """What stands beside an image: its sidecar, foreign JSON, and why something is unreadable."""

    sidecar: Sidecar | None = None
    foreign: set[str] = field(default_factory=set)  # suffixes
    unreadable: str = ""
    raw: dict[Path, tuple[bytes, str]] = field(default_factory=dict)  # bytes and revs of objects
    revs: list[str] = field(default_factory=list)  # of all that was read, as listings have them


def digest(raw: bytes | None) -> str:
    """The sidecar's part of an ETag: a hash of its bytes, `0` where there is none."""
    return blake3(raw).hexdigest()[:20] if raw is not None else "0"


def parse(raw: bytes) -> Document | None:
    """A sidecar's document in today's spelling; None for JSON that is not a sidecar.

    Raises `ValueError`, one line, for what may be a sidecar and cannot be understood.
    """
    found = loads(raw)
    if not isinstance(found, dict) or not _is_int(found.get("v")):
        return None
    if not found.keys() & {"tags", "notes", "updatedAt", "updated_at"}:
        return None
    if found["v"] > 1:
        raise ValueError(f"v is {found['v']}, newer than this version of Lenslet knows")
    document = modern(found)
    document["tags"] = [] if document.get("tags") is None else document["tags"]
    if not _is_strings(document["tags"]):
        raise ValueError("tags is not a list of strings")
    document["notes"] = document.get("notes") or ""
    if not isinstance(document["notes"], str):
        raise ValueError("notes is not a string")
    return document


def loads(raw: bytes) -> Any:
    """JSON with integers of any size kept; `ValueError` for NaN, infinities and broken text."""
    deep = raw.count(b"[") + raw.count(b"{") > _ORJSON_LEVELS
    if not (deep or _MANY_DIGITS.search(raw)):
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(raw)
    try:
        found = json.loads(
            raw.decode("utf-8-sig"), parse_constant=_no_constant, parse_float=_finite
        )
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair would not come back
        return found
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large a number")
    return value


def encode(document: Document) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def dumps(document: Document) -> bytes:
    """A document as it is answered: on one line."""
    try:
        return orjson.dumps(document)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(document, ensure_ascii=False).encode()


def modern(document: Document) -> Document:
    """The same with the names that older files used made today's, in `exif` too."""
    renamed = {_OLD_NAMES[k]: v for k, v in document.items() if k in _OLD_NAMES}
    rest = {k: v for k, v in document.items() if k not in _OLD_NAMES}
    if isinstance(exif := rest.get("exif"), dict) and "created_at" in exif:
        rest["exif"] = modern(exif)
    return renamed | rest


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _time(document: Document) -> dt.datetime:
    try:
        return times.parse(document["updatedAt"])
    except (KeyError, TypeError, ValueError):
        return _LONG_AGO


def find(storage: Storage, item: Path) -> Found:
    """Everything beside the image `item` that is or could be its sidecar; the newer of two wins.

    In one tree `foo.jpg.lenslet.json` hides `foo.jpg.json`. Nothing here is changed.
    """
    found = Found()
    for tree in dict.fromkeys((storage.state, storage.root)):
        before, found.revs = found.revs, []
        sidecar = _in_tree(tree, item, found)
        found.revs += before  # the root's come first
        if sidecar and (not found.sidecar or sidecar.updated > found.sidecar.updated):
            found.sidecar = sidecar
    return found


def _in_tree(tree: Tree, item: Path, found: Found) -> Sidecar | None:
    ours = None
    for suffix in SIDECARS:
        path = Path(item + suffix)
        try:
            raw, stat = tree.read(path, DOCUMENT_BYTES)
            found.revs.append(stat.rev)
            if stat.etag:
                found.raw[path] = raw, stat.etag
            document = parse(raw)
        except NotRegular:
            found.unreadable = found.unreadable or f"{path} is no file"
            continue
        except NotFound:
            continue
        except (ValueError, Conflict, Denied) as error:
            if tree.remote and isinstance(error, Denied):
                raise  # it is the policy that is to be mended, not a file
            if not ours:
                found.unreadable = f"{path}: {one_line(error)}"
            continue
        if document is None:
            found.foreign.add(suffix)
        elif not ours:
            ours = Sidecar(document, raw, tree, path)
    return ours


def target(storage: Storage, item: Path, found: Found) -> Path:
    """Where an edit of `item` is written, in `storage.state`; `Conflict` when it is unreadable."""
    if found.unreadable:
        raise Conflict(f"{found.unreadable}. It is left as it is.")
    if found.sidecar and found.sidecar.tree is storage.state:
        return found.sidecar.path
    aside, usual = SIDECARS
    if aside in found.foreign:
        raise Conflict(f"{item}{aside} is not Lenslet's own and is left as it is.")
    return Path(item + (aside if usual in found.foreign else usual))


def validate(body: object) -> Document:
    """A request's body as a document in today's spelling; `Invalid` names the field at fault."""
    if not isinstance(body, dict):
        raise Invalid("body", "a JSON object is needed")
    document = modern(body)
    if "v" in document and not (_is_int(document["v"]) and document["v"] == 1):
        raise Invalid("v", "must be 1")
    if "tags" in document:
        document["tags"] = _tags(document["tags"])
    if "notes" in document:
        _notes(document["notes"])
    if not isinstance(document.get("updatedBy", ""), str):
        raise Invalid("updatedBy", "a string is needed")
    if "updatedAt" in document:
        document["updatedAt"] = _updated_at(document["updatedAt"])
    return {k: v for k, v in document.items() if k not in ("v", "exif", "hash")}


def _tags(value: object) -> list[str]:
    if not _is_strings(value):
        raise Invalid("tags", "a list of strings is needed")
    tags = list(dict.fromkeys(tag.strip() for tag in value))  # type: ignore[attr-defined]
    for tag in tags:
        if not tag or len(tag) > MAX_TAG_CHARACTERS or not usable(tag.replace("\\", "")):
            told = (
                f"a tag has 1 to {MAX_TAG_CHARACTERS} characters, none of them a control character"
            )
            raise Invalid("tags", told)
    return _limited(tags)


def _limited(tags: list[str]) -> list[str]:
    if len(tags) > MAX_TAGS:
        raise Invalid("tags", f"{len(tags)} tags are more than {MAX_TAGS}")
    return tags


def _notes(value: object) -> None:
    if not isinstance(value, str):
        raise Invalid("notes", "a string is needed")
    if len(value.encode()) > MAX_NOTES_BYTES:
        raise Invalid("notes", f"more than {MAX_NOTES_BYTES} bytes")


def _updated_at(value: object) -> str:
    try:
        moment = times.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Invalid(
            "updatedAt", "an RFC 3339 time such as 2025-02-16T23:12:55Z is needed"
        ) from error
    if moment > times.now() + FUTURE:
        raise Invalid("updatedAt", "more than five minutes in the future")
    return times.text(moment)


def merge(stored: Document | None, edit: Document) -> Document:
    """`stored` after `edit`: the last writer wins, and an older edit only adds its tags.

    Keys that the edit does not name stay as they are. An edit without `updatedAt` is the newest.
    """
    old = stored or {}
    if "updatedAt" in edit and times.parse(edit["updatedAt"]) < _time(old):
        tags = [*old["tags"], *(tag for tag in edit.get("tags", ()) if tag not in old["tags"])]
        return {**old, "tags": _limited(tags)}
    newest = {"updatedAt": times.text(max(times.now(), _time(old)))}
    empty = {"v": 1, "tags": [], "notes": "", "updatedBy": ""}
    return {**empty, **old, **newest, **edit, "v": 1}


class _MovedOn(Exception):
    """Between looking and locking, another file became the one to write."""


Change = Callable[[Sidecar | None], Document | None]


def edit(storage: Storage, item: Path, change: Change) -> Sidecar | None:
    """Store what `change` makes of the sidecar of `item` (None removes it), one edit at a time.

    Returns what is stored, on disk. `Conflict` when an unreadable file is in the way; `Denied`
    when the sidecar is to go and one of its copies is in a root that is never written.
    """
    while True:
        found = find(storage, item)
        path = target(storage, item, found)
        seen = draft = None
        if storage.state.remote:  # no lock: the change is tried on what was just seen
            seen = found.raw.get(path, (None, ""))
        elif document := change(found.sidecar):
            draft = _encoded(document)
            if found.sidecar and draft == found.sidecar.raw:
                draft = None
        looks = [found] if seen else []
        try:
            raw = storage.state.update(
                path, partial(_apply, storage, item, path, change, looks), seen, draft
            )
        except _MovedOn:
            continue
        return Sidecar(json.loads(raw), raw, storage.state, path) if raw is not None else None


def _apply(
    storage: Storage,
    item: Path,
    path: Path,
    change: Change,
    looks: list[Found],
    _: bytes | None,
) -> bytes | None:
    """What is to stand at `path`: by the last of `looks`, else as seen again under its lock."""
    found = looks.pop() if looks else find(storage, item)
    if target(storage, item, found) != path:
        raise _MovedOn
    document = change(found.sidecar)
    if document is None:
        if storage.overlaid and _in_tree(storage.root, item, Found()):
            raise Denied(f"The sidecar of {item} lies in a root that is not written.")
        _remove_hidden(storage.state, item, path)
        return None
    return _encoded(document)


def _encoded(document: Document) -> bytes:
    raw = encode(document)
    if len(raw) > MAX_STORED_BYTES:
        raise Invalid("body", f"the sidecar would have more than {MAX_STORED_BYTES} bytes")
    return raw


def _remove_hidden(tree: Tree, item: Path, shown: Path) -> None:
    """Remove what is ours under the other name, lest it come to light when `shown` goes."""
    for suffix in SIDECARS:
        path = Path(item + suffix)
        with contextlib.suppress(NotFound, ValueError):
            if path != shown and parse(tree.read(path, DOCUMENT_BYTES)[0]) is not None:
                tree.delete(path)
