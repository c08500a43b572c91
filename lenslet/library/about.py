"""What people say of a folder: `.lenslet.folder.json` in it. Read leniently, validated, edited."""

from __future__ import annotations

import contextlib
from typing import Any

from lenslet.bounds import POINTER_BYTES
from lenslet.errors import Conflict, Denied, Invalid
from lenslet.library import sidecar
from lenslet.library.sidecar import Document
from lenslet.paths import POINTERS, Path, usable
from lenslet.storage.tree import Copy, Tree

About = dict[str, str]

FILE = POINTERS[0]
ABOUT_KEYS = {"title": 200, "description": 10_000, "cover": 255, "order": 5}  # the most characters
ORDERS = ("name", "date", "-date")
_EMPTY = {"version": 1, "kind": "folder"}


def is_about(document: object) -> bool:
    """True if the JSON of a folder's file describes the folder, and is not a pointer."""
    return isinstance(document, dict) and document.get("kind") == "folder"


def read(tree: Tree, folder: Path) -> About:
    """Returns what is said of a folder; a key with a bad value counts as absent.

    Of two files, as with `STATE_DIR`, the newer one counts. `cover` is a name, which no image may
    have.
    """
    with contextlib.suppress(Denied):
        for copy in _newest_first(tree.copies([folder.child(FILE)])):
            with contextlib.suppress(ValueError):
                found = sidecar.parse_file(copy, _parse)
                good = (key for key in ABOUT_KEYS if not _fault(key, found.get(key)))
                return {key: found[key] for key in good if found[key].strip()}
    return {}


def _newest_first(copies: list[Copy]) -> list[Copy]:
    return sorted(copies, key=lambda copy: -copy.mtime_ns)


def _parse(raw: bytes) -> Document:
    found = sidecar.loads(raw)
    if not is_about(found):
        raise ValueError("it does not describe a folder: its kind is not 'folder'")
    if found.get("version", 1) != 1:
        raise ValueError("its version is not 1")
    return dict(found)


def _fault(key: str, value: Any) -> str:
    """Returns what is wrong with a value; empty if nothing is."""
    if not isinstance(value, str):
        return "must be a string"
    if key == "order" and value not in ORDERS:
        return "must be 'name', 'date' or '-date'"
    if len(value) > ABOUT_KEYS[key]:
        return f"more than {ABOUT_KEYS[key]} characters"
    if key == "title" and not usable(value.replace("\\", "")):
        return "must not have control characters"
    return ""


def validate(body: object) -> About:
    """Returns what a request's body changes, "" for what it removes.

    `Invalid` names a wrong field. Whether the folder has the image `cover` is not checked.
    """
    if not isinstance(body, dict):
        raise Invalid("body", "must be a JSON object")
    change: About = {}
    for key, value in body.items():
        if key not in ABOUT_KEYS:
            raise Invalid(key, f"is not known: {', '.join(map(repr, ABOUT_KEYS))} are")
        if value not in (None, "") and (fault := _fault(key, value)):
            raise Invalid(key, fault)
        change[key] = value or ""
    if "title" in change:
        change["title"] = change["title"].strip()
    return change


def edit(tree: Tree, folder: Path, change: About) -> Document:
    """Changes what is said of a folder; returns the document that is on disk now.

    Other keys stay. `Conflict` if a pointer or an unreadable file is in the way.
    """
    path = folder.child(FILE)
    stored: Document = {}

    def apply(copies: list[Copy]) -> tuple[Path, bytes] | None:
        nonlocal stored
        try:
            before = sidecar.parse_file(_newest_first(copies)[0], _parse) if copies else _EMPTY
        except ValueError as error:
            raise Conflict(str(error)) from error
        kept = {key: value for key, value in before.items() if key not in change}
        stored = kept | {key: value for key, value in change.items() if value}
        raw = sidecar.encode(stored)
        if len(raw) > POINTER_BYTES:
            raise Invalid("body", f"the file would have more than {POINTER_BYTES} bytes")
        return None if stored == before else (path, raw)

    tree.update([path], apply)
    return stored
