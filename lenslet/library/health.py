"""The health report, `_health.json`. A new kind of problem is added to `KINDS`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lenslet import times
from lenslet.bounds import loads
from lenslet.errors import NotFound
from lenslet.library.manifest import Manifest
from lenslet.paths import HEALTH, Path
from lenslet.storage.tree import Tree

SHOWN = 100
_SUFFIXES = 20  # of files that are not shown, the most frequent
COUNTS = ("folders", "items", "thumbnails", "thumbnailsMissing", "sidecars")


class Kind(NamedTuple):
    """A kind of problem: its title, and what to do."""

    title: str
    advice: str


KINDS = {  # the worst first
    "unreadableFolders": Kind(
        "Folders that cannot be indexed",
        "let Lenslet read there (and write, if its own files are there too), and check the disk",
    ),
    "unreadableFiles": Kind(
        "Files that cannot be read", "let Lenslet read them, and check the disk"
    ),
    "unreadableSidecars": Kind(
        "Tags and notes that cannot be read", "repair or rename the file: it is never overwritten"
    ),
    "brokenPointers": Kind(
        "Pointers that lead nowhere",
        "correct the pointer file, or POINTER_ROOTS and POINTER_BUCKETS",
    ),
    "quarantined": Kind(
        "Photos that end the process that reads them",
        "replace the image; if its reason names DECODE_SECONDS, raise that",
    ),
    "unreadableImages": Kind("Photos that cannot be decoded", "replace the image, or remove it"),
    "orphanSidecars": Kind(
        "Tags and notes without their photo",
        "put the photo back, or move its .json beside the copy that is meant; if you deleted it on "
        "purpose, delete its .json: 'lenslet check' names them",
    ),
    "changedPhotos": Kind(
        "Photos that have changed since their tags and notes were written",
        "nothing to do, unless another photo took the place: then write its own",
    ),
    "unusableNames": Kind("Names that cannot be shown", "rename them"),
    "orphanThumbnails": Kind(
        "Thumbnails without their photo", "they may be removed, if the images are gone for good"
    ),
    "foreignJson": Kind(
        "JSON of other programs", "Google Takeout's, or another program's: nothing to do"
    ),
}
# Somebody must act: the service is `degraded`. The others are about single photos, and come and go
# while people import, rename and delete.
DEGRADING = frozenset(
    ("unreadableFolders", "unreadableFiles", "unreadableSidecars", "brokenPointers", "quarantined")
)
NOTES = frozenset({"changedPhotos", "orphanThumbnails", "foreignJson"})  # nothing is wrong


class Problem(NamedTuple):
    """Something that is wrong: its kind, one of `KINDS`, where, and why."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FolderHealth:
    """One folder's part of the report. `unsupported` counts files that are not shown, by suffix."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: tuple[Problem, ...] = ()
    unsupported: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, manifest: Manifest, problems: Iterable[Problem]) -> FolderHealth:
        """Counts a folder's items, what is not shown, and everything that is wrong in it."""
        items = manifest.items
        counts = Counter(folders=1, items=len(items))
        counts["thumbnails"] = sum(item["hasThumb"] for item in items)
        counts["thumbnailsMissing"] = sum(not i["hasThumb"] and "error" not in i for i in items)
        counts["sidecars"] = sum(item["hasMeta"] for item in items)
        return cls(counts, (), Counter(manifest.unsupported)).plus(problems)

    def plus(self, problems: Iterable[Problem]) -> FolderHealth:
        """Returns the same with problems counted, and the first of each kind shown."""
        counts, shown = Counter(self.counts), [*self.problems]
        for problem in problems:
            counts[problem.kind] += 1
            if counts[problem.kind] <= SHOWN:
                shown.append(problem)
        return FolderHealth(counts, tuple(shown), self.unsupported)


def report(folders: Iterable[FolderHealth], passes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the report of the whole library, without the time of its writing."""
    counts, unsupported = Counter[str](), Counter[str]()
    problems: dict[str, list[dict[str, str]]] = {}
    for folder in folders:
        counts.update(folder.counts)
        unsupported.update(folder.unsupported)
        for kind, path, reason in folder.problems:
            shown = problems.setdefault(kind, [])
            if len(shown) < SHOWN:
                shown.append({"path": path, "reason": reason})
    return {
        "unsupported": dict(unsupported.most_common(_SUFFIXES)),
        "counts": {kind: counts[kind] for kind in (*COUNTS, *KINDS)},
        "problems": {kind: problems[kind] for kind in KINDS if kind in problems},
        "passes": dict(passes),
    }


def summary(found: dict[str, Any]) -> str:
    """Returns one line about a report: "5 images in 1 folder; not shown: 2 .gif"."""
    counts = found["counts"]
    images, folders = counts["items"], counts["folders"]
    ends = ("" if n == 1 else "s" for n in (images, folders))
    shown = f"{images:,} image{next(ends)} in {folders:,} folder{next(ends)}"
    if broken := counts["unreadableImages"] + counts["quarantined"]:
        shown += f"; {broken:,} cannot be decoded"
    hidden = ", ".join(f"{n:,} {suffix}" for suffix, n in found["unsupported"].items())
    return f"{shown}; not shown: {hidden}" if hidden else shown


def write(tree: Tree, found: dict[str, Any]) -> None:
    """Writes a report."""
    document = {"v": 1, "generatedAt": times.text(times.now()), **found}
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    tree.write(Path(HEALTH), data)


def load(tree: Tree) -> dict[str, Any] | None:
    """Reads the last report; None without a complete report."""
    with contextlib.suppress(NotFound, ValueError, AttributeError, KeyError, TypeError):
        found = loads(tree.read(Path(HEALTH))[0])
        problems = [each for kind in found["problems"].values() for each in kind]
        texts = [found["generatedAt"], *(each["reason"] for each in problems)]
        if all(n >= 0 for n in found["counts"].values()) and "".join(texts):
            return dict(found)
    return None
