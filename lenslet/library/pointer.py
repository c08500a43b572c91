"""Pointer folders: the file of one, what it may say, and the tree that it leads to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from lenslet import errors, paths
from lenslet.bounds import POINTER_BYTES
from lenslet.config import Settings
from lenslet.errors import BadRequest, BrokenPointer, Ignored
from lenslet.library import about
from lenslet.library.sidecar import loads
from lenslet.paths import FOLDER_FILES, IGNORE_MARKS, POINTERS, ROOT, Path
from lenslet.storage import with_state
from lenslet.storage.local import LocalTree
from lenslet.storage.tree import Buckets, Tree

TARGETS = ".targets"  # in STATE_DIR: the sidecars of what pointers lead to, outside the root
_LABEL_CHARACTERS = 500
_TEXTS = {"local": ("path",), "s3": ("bucket", "prefix", "region")}  # of a target, by its type


@dataclass(frozen=True, slots=True)
class Targets:
    """Opens what pointers lead to, if the settings allow it. `tree` is the library's own."""

    tree: Tree
    settings: Settings
    buckets: Buckets | None

    def open(self, tree: Tree, target: dict[str, Any]) -> tuple[Tree, Path]:
        """Returns the tree and folder of a target; `tree` is that of its pointer.

        `BrokenPointer` if it must not lead there; the message says only what is wrong with that.
        """
        if target["type"] == "s3":
            return self._in_bucket(target)
        text = target["path"]
        if not os.path.isabs(text):
            return tree, _relative(text)
        if not tree.has_stamps:
            raise BrokenPointer("a folder of this host, which a pointer in a bucket cannot do")
        real = os.path.realpath(text.replace("\0", ""))
        roots = map(os.path.realpath, self.settings.pointer_roots)
        if "\0" in text or not any(os.path.commonpath((real, root)) == root for root in roots):
            raise BrokenPointer("a folder that is not in one of POINTER_ROOTS")
        top = os.path.realpath(self.settings.root_path)
        if os.path.commonpath((real, top)) == top:
            inside = os.path.relpath(real, top)
            return self.tree, ROOT if inside == "." else Path(inside)
        # What people say of the photos is kept by target, so that all pointers to it show the same.
        state = Path(f"{TARGETS}/local{real}".rstrip("/"))
        return with_state(self.settings, LocalTree(real), state), ROOT

    def _in_bucket(self, target: dict[str, Any]) -> tuple[Tree, Path]:
        """Opens a target in a bucket; returns the library's own tree if the target is inside it."""
        bucket, prefix = target["bucket"], _relative(target["prefix"])
        if bucket not in self.settings.buckets or not self.buckets:
            raise BrokenPointer("a bucket that is not one of POINTER_BUCKETS")
        top = Path(self.settings.s3_prefix.rstrip("/"))
        if bucket == self.settings.s3_bucket and top.holds(prefix):
            return self.tree, prefix.below(top)
        below = f"{prefix}/".lstrip("/")
        tree = self.buckets.open(bucket, below, target["region"])
        state = Path(f"{TARGETS}/s3/{bucket}/{prefix}".rstrip("/"))
        return with_state(self.settings, tree, state), ROOT


def read_pointer(tree: Tree, folder: Path, names: Container[str] | None) -> dict[str, Any] | None:
    """Reads the pointer in a folder; None if it has none. `names` are its files, if known.

    The first file of a pointer's name counts, but one that describes the folder is no pointer.
    """
    if names is None:
        names = tree.names(folder, FOLDER_FILES)
    if any(mark in names for mark in IGNORE_MARKS):
        raise Ignored(f"There is no folder {folder}.")
    for name in POINTERS:
        if name in names:
            with contextlib.suppress(errors.NotFound):  # it is in STATE_DIR, and so no pointer
                return _read(tree, folder.child(name))
    return None


def _read(tree: Tree, file: Path) -> dict[str, Any] | None:
    try:
        found = loads(tree.read(file, POINTER_BYTES)[0])
        if about.is_about(found):
            return None
        target = found["target"] = {"prefix": "", "region": ""} | found["target"]
        texts = [target[key] for key in _TEXTS[target["type"]]]
        label = found.get("label")
        found["label"] = label[:_LABEL_CHARACTERS] if isinstance(label, str) else None
        is_known = (found["kind"], found["version"]) == ("pointer", 1)
        if not (is_known and all(isinstance(text, str) for text in texts)):
            raise ValueError("it is not a pointer of version 1")
        return dict(found)
    except (errors.NotRegular, errors.Conflict, errors.Denied) as error:
        raise BrokenPointer(f"The pointer file {file} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenPointer(f"The pointer file {file} is not valid ({error!r}).") from error


def _relative(text: str) -> Path:
    try:
        return paths.parse("" if text == "." else text)
    except BadRequest as error:
        raise BrokenPointer(f"an invalid path ({error})") from error
