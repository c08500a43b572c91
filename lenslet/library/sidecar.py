"""An image's sidecar: the user's tags and notes. Read leniently, validated, merged, written."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from blake3 import blake3

from lenslet import bounds, times
from lenslet.bounds import DOCUMENT_BYTES, MAX_TAG_CHARACTERS, MAX_TAGS
from lenslet.errors import Conflict, Denied, Invalid, one_line
from lenslet.paths import SIDECARS, Path, file_beside, usable
from lenslet.storage.tree import Copy, Tree

Document = dict[str, Any]
Parsed = TypeVar("Parsed")

MAX_NOTES_BYTES = 64 * 1024
FUTURE = dt.timedelta(minutes=5)
_OLD_NAMES = {"updated_at": "updatedAt", "updated_by": "updatedBy", "created_at": "createdAt"}
_WRITTEN = dt.datetime(2026, 11, 1, tzinfo=times.UTC)
_LONG_AGO = dt.datetime.min.replace(tzinfo=times.UTC)


@dataclass(frozen=True, slots=True)
class Photo:
    """What distinguishes the image in a file from others that may have had its place.

    `hash` is None if the image has not been read, or cannot be. `created_at` is when it was taken,
    if it says so.
    """

    hash: str | None = None
    created_at: str | None = None

    @classmethod
    def of(cls, item: Document) -> Photo:
        """Returns the photo that an image is, by its item."""
        return cls(item.get("hash"), item.get("createdAt"))

    def shows(self, beside: Sidecar) -> bool:
        """True if a sidecar beside this image is shown for it.

        ============================  ====================  =======
        the hash that it holds        the dates of both     shown
        ============================  ====================  =======
        none, or that of the image    whatever they are     yes
        another                       the same, or unknown  yes: the photo was edited
        another                       differ                no: it is of another photo
        ============================  ====================  =======

        An image that was not read yet has no hash: everything beside it is shown.
        """
        if self.hash is None or beside.hash in ("", self.hash):
            return True
        dates = _date({"createdAt": self.created_at}), _date(beside.document.get("exif"))
        return None in dates or dates[0] == dates[1]


UNREAD = Photo()


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The stored tags and notes of one image: parsed, and as bytes in the file `path`."""

    document: Document
    raw: bytes
    path: Path
    editable: bool = True  # False: it is in a root that Lenslet never writes to

    @property
    def updated(self) -> dt.datetime:
        return _time(self.document)

    @property
    def hash(self) -> str:
        """The hash of its photo; empty if it does not say."""
        held = self.document.get("hash")
        return held if isinstance(held, str) else ""


def _date(exif: Any) -> dt.datetime | None:
    """Returns `createdAt`; None if it is absent or nonsense."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return times.parse(exif["createdAt"])
    return None


@dataclass(slots=True)
class Found:
    """The JSON files beside an image.

    `ours` are the sidecars of this image, one of each tree, and `sidecar` is the newest of them.
    `strays` are sidecars of other photos, and those that a preferred file in the same tree hides.
    """

    sidecar: Sidecar | None = None
    ours: list[Sidecar] = field(default_factory=list)
    strays: list[Sidecar] = field(default_factory=list)
    foreign: set[Path] = field(default_factory=set)  # other programs' files
    unreadable: str = ""  # why a file that may be ours cannot be read

    @property
    def all(self) -> list[Sidecar]:
        """All sidecars, whose ever they are."""
        return [*self.ours, *self.strays]

    def target(self, item: Path) -> Path:
        """Returns the file that an edit of `item` writes; `Conflict` if a file is in the way."""
        own = next((each for each in self.ours if each.editable), None)
        return own.path if own and not self.unreadable else self.free(item)

    def free(self, item: Path) -> Path:
        """Returns a file for another sidecar of `item`; `Conflict` if there is none."""
        if self.unreadable:
            raise Conflict(f"{self.unreadable}. It is left as it is.")
        own = {each.path for each in self.all if each.editable or each in self.strays}
        files = files_of(item)[::-1]  # the usual one first
        free = [path for path in files if path not in own | self.foreign]
        if not free:
            raise Conflict(f"{' and '.join(files)} are not of this photo, and stay.")
        return free[0]


# Parsing


def digest(raw: bytes | None) -> str:
    """Returns the sidecar's part of an ETag: a hash of its bytes, `0` if there is none."""
    return blake3(raw).hexdigest()[:20] if raw is not None else "0"


def parse(raw: bytes) -> Document | None:
    """Parses a sidecar and renames old keys; None for JSON that is not a sidecar.

    Raises `ValueError` for what may be a sidecar and cannot be understood.
    """
    found = loads(raw)
    if not isinstance(found, dict) or type(found.get("v")) is not int:
        return None
    if not found.keys() & {"tags", "notes", "updatedAt", "updated_at"}:
        return None
    if found["v"] > 1:
        raise ValueError(f"v is {found['v']}, newer than this version of Lenslet knows")
    document = modern(found)
    document["tags"] = document.get("tags") or []
    document["notes"] = document.get("notes") or ""
    _check_tags(document["tags"])
    _require(isinstance(document["notes"], str), "notes", "must be a string")
    return document


def loads(raw: bytes) -> Any:
    """Parses JSON that can be written again; `ValueError` for any other.

    Refused are NaN, infinities, halves of surrogate pairs, more than about 250 levels of nesting,
    and integers of more than 64 bits, which orjson reads as floats.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    found = bounds.loads(raw)
    try:
        orjson.dumps([[[[json.loads(raw)]]]])  # an answer may have it inside others
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it cannot be written again: {error}") from error
    return found


def encode(document: Document) -> bytes:
    """Returns a sidecar's bytes: indented and sorted, for people who diff it."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(document, option=option)


def modern(document: Document) -> Document:
    """Returns a document with the key names of older files changed to today's, in `exif` too."""
    renamed = {_OLD_NAMES[k]: v for k, v in document.items() if k in _OLD_NAMES}
    rest = {k: v for k, v in document.items() if k not in _OLD_NAMES}
    if isinstance(exif := rest.get("exif"), dict) and "created_at" in exif:
        rest["exif"] = modern(exif)
    return renamed | rest


def _time(document: Document) -> dt.datetime:
    """Returns when a sidecar was edited; long ago if that is unknown, or in the future.

    A time in the future comes from a wrong clock, and must not outrank the edits of today. If the
    clock shows a time before this program was written, it is that clock which is wrong.
    """
    try:
        when = times.parse(document["updatedAt"])
    except (KeyError, TypeError, ValueError):
        return _LONG_AGO
    now = times.now()
    return when if when <= now + FUTURE or now < _WRITTEN else _LONG_AGO


# Finding


def files_of(item: Path, revs: str = "+") -> list[Path]:
    """Returns the files that may be the sidecar of `item`, the preferred one first.

    `revs` are their revs in a manifest: without a `+` there was no preferred one, which is rare.
    """
    suffixes = SIDECARS if "+" in revs else SIDECARS[-1:]
    return [file_beside(item, suffix) for suffix in suffixes]


def find(tree: Tree, item: Path, photo: Photo, revs: str = "+") -> Found:
    """Reads the JSON files beside the image `item`, which is this photo. `revs`: see `files_of`."""
    found = examine(item, tree.copies(files_of(item, revs)), photo)
    # Beside another program's file there may be the preferred one since.
    return find(tree, item, photo) if found.foreign and "+" not in revs else found


def examine(item: Path, copies: Iterable[Copy], photo: Photo) -> Found:
    """Sorts the files that may be the sidecar of `item`, which is this photo."""
    found, sidecars, broken = Found(), list[Sidecar](), list[tuple[Copy, str]]()
    for copy in copies:
        try:
            document = parse_file(copy, parse)
        except ValueError as error:
            broken.append((copy, str(error)))
            continue
        if document is None:
            found.foreign.add(copy.path)
        else:
            sidecars.append(Sidecar(document, copy.data or b"", copy.path, copy.editable))
    found.ours = _ours(sidecars, photo)
    found.strays = [each for each in sidecars if each not in found.ours]
    found.sidecar = max(found.ours, key=lambda each: each.updated, default=None)
    # Beside a good `foo.jpg.lenslet.json`, nobody needs the `foo.jpg.json` of the same tree.
    good = {each.editable for each in found.ours if each.path.endswith(SIDECARS[0])}
    reasons = (reason for copy, reason in broken if copy.editable not in good)
    found.unreadable = next(reasons, "")
    return found


def _ours(sidecars: list[Sidecar], photo: Photo) -> list[Sidecar]:
    """Returns the sidecars of a photo, at most one of each tree: `editable` distinguishes these.

    Of those that the photo shows, the ones that hold its hash or none; if there is no such one,
    those that hold the same hash as the first. Of two in one tree, the first.
    """
    shown = [each for each in sidecars if photo.shows(each)]
    named = [each for each in shown if each.hash in ("", photo.hash)]
    own = named or [each for each in shown if each.hash == shown[0].hash]
    firsts = {each.editable: each for each in reversed(own)}
    return [each for each in own if firsts[each.editable] is each]


def parse_file(file: Copy, parse: Callable[[bytes], Parsed]) -> Parsed:
    """Parses a file; `ValueError` with its path if it is unreadable."""
    if file.data is None:
        raise ValueError(file.problem)
    try:
        return parse(file.data)
    except ValueError as error:
        raise ValueError(f"{file.path}: {one_line(error)}") from error


# Validating


def validate(body: object) -> Document:
    """Returns a request's body with the current key names; `Invalid` names a wrong field."""
    if not isinstance(body, dict):
        raise Invalid("body", "must be a JSON object")
    document = modern(body)
    version, notes = document.get("v", 1), document.get("notes", "")
    _require(type(version) is int and version == 1, "v", "must be 1")
    _require(isinstance(notes, str), "notes", "must be a string")
    _require(len(notes.encode()) <= MAX_NOTES_BYTES, "notes", f"more than {MAX_NOTES_BYTES} bytes")
    _require(isinstance(document.get("updatedBy", ""), str), "updatedBy", "must be a string")
    if "tags" in document:
        document["tags"] = _tags(document["tags"])
    if "updatedAt" in document:
        document["updatedAt"] = _updated_at(document["updatedAt"])
    return {k: v for k, v in document.items() if k not in ("v", "exif", "hash")}


def _require(holds: bool, field: str, reason: str) -> None:
    if not holds:
        raise Invalid(field, reason)


def _check_tags(tags: Any) -> None:
    """Raises `Invalid` for tags that no sidecar may have."""
    are_texts = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    _require(are_texts, "tags", "must be a list of strings")
    _require(len(tags) <= MAX_TAGS, "tags", f"{len(tags)} tags are more than {MAX_TAGS}")
    fit = all(len(tag) <= MAX_TAG_CHARACTERS for tag in tags)
    _require(fit, "tags", f"a tag has more than {MAX_TAG_CHARACTERS} characters")


def _tags(value: Any) -> list[str]:
    """Returns a request's tags as they are stored."""
    _check_tags(value)
    tags = list(dict.fromkeys(tag.strip() for tag in value))
    allowed = all(tag and usable(tag.replace("\\", "")) for tag in tags)
    _require(allowed, "tags", "a tag must have text, and no control characters")
    return tags


def _updated_at(value: object) -> str:
    try:
        moment = times.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Invalid("updatedAt", one_line(error)) from error
    _require(moment <= times.now() + FUTURE, "updatedAt", "more than five minutes in the future")
    return times.text(moment)


# Editing

_FACTS = {"width": "w", "height": "h", "createdAt": "createdAt", "takenAt": "takenAt"}


def facts_of(item: Document) -> Document:
    """Returns what a sidecar says of its photo, from the item of an image that was read."""
    exif = {name: item[key] for name, key in _FACTS.items() if key in item}
    return {"exif": exif, "hash": item["hash"]}


def with_facts(document: Document, current: Document) -> Document:
    """Returns a document with the current `exif` and `hash`; other keys in its `exif` stay."""
    old = document.get("exif")
    others = {k: v for k, v in old.items() if k not in _FACTS} if isinstance(old, dict) else {}
    rest = {key: value for key, value in document.items() if key != "hash"}
    return {**rest, **current, "exif": {**others, **current["exif"]}}


def merge(stored: Document | None, edit: Document, *, seen: bool = False) -> Document:
    """Returns `stored` after `edit`: the last writer wins, and an older edit only adds its tags.

    Keys that the edit does not name stay as they are, but for `updatedBy`: the name of who edited
    last does not belong beside another time. An edit without `updatedAt` is the newest, and so is
    one by a client that has `seen` what is stored: if its time is older, its clock is slow.
    """
    old = stored or {}
    if "updatedAt" in edit and times.parse(edit["updatedAt"]) < _time(old):
        if seen:
            return {**old, "updatedBy": "", **edit, "v": 1, "updatedAt": times.text(_time(old))}
        tags = [*old["tags"], *(tag for tag in edit.get("tags", ()) if tag not in old["tags"])]
        _check_tags(tags)
        return {**old, "tags": tags}
    newest = {"updatedAt": times.text(max(times.now(), _time(old))), "updatedBy": ""}
    empty = {"v": 1, "tags": [], "notes": ""}
    return {**empty, **old, **newest, **edit, "v": 1}


class _ForeignSince(Exception):
    """Another program's file is there, so the preferred sidecar may be too."""


Edit = Callable[[Sidecar | None], Document | None]


def edit(
    tree: Tree, item: Path, change: Edit, photo: Photo = UNREAD, revs: str = "+"
) -> Sidecar | None:
    """Stores what `change` makes of the sidecar of `item`; None leaves it as it is.

    `item` is this `photo`: sidecars of others stay as they are. `revs`: see `files_of`. Returns the
    sidecar that is on disk now. No edit of another writer is lost: `change` is called again if
    another one was faster. `Conflict` if an unreadable file is in the way.
    """
    current: Sidecar | None = None

    def apply(copies: list[Copy]) -> tuple[Path, bytes] | None:
        nonlocal current
        found = examine(item, copies, photo)
        if found.foreign and "+" not in revs:
            raise _ForeignSince
        path, current = found.target(item), found.sidecar
        document = change(current)
        if document is None:
            return None
        raw = encode(document)
        if len(raw) > DOCUMENT_BYTES:
            raise Invalid("body", f"the sidecar would have more than {DOCUMENT_BYTES} bytes")
        current = Sidecar(loads(raw), raw, path)
        return path, raw

    try:
        tree.update(files_of(item, revs), apply)
    except _ForeignSince:
        return edit(tree, item, change, photo)
    return current


def remove(tree: Tree, item: Path, check: Callable[[Sidecar | None], None], photo: Photo) -> None:
    """Removes the sidecar of `item`, unless `check` raises an error, as it must if there is none.

    `Denied` if it is in a root that Lenslet never writes to; other errors as for `edit`.
    """

    def apply(copies: list[Copy]) -> tuple[Path, None] | None:
        found = examine(item, copies, photo)
        found.target(item)  # raises an error if an unreadable file is in the way
        check(found.sidecar)
        if not all(each.editable for each in found.ours):
            raise Denied(f"The sidecar of {item} is in a root that Lenslet never writes to.")
        return (found.ours[0].path, None) if found.ours else None

    tree.update(files_of(item), apply)
