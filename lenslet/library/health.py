"""The health report, `_health.json`. A new kind of problem is added to `KINDS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from lenslet import times
from lenslet.errors import NotFound
from lenslet.paths import HEALTH, Path
from lenslet.storage.tree import Tree

SHOWN = 100
COUNTS = ("folders", "items", "thumbnailsMissing", "sidecars")
KINDS = (
    "orphanSidecars",
    "orphanThumbnails",
    "foreignJson",
    "unreadableSidecars",
    "unusableNames",
    "brokenPointers",
    "quarantined",
    "unreadableImages",
    "unreadableFiles",
    "unreadableFolders",
    "notKept",
)
# Problems that make `/health` say degraded; the others are only counted.
WORRYING = frozenset(KINDS) - {"foreignJson", "orphanThumbnails", "unreadableImages"}


class Problem(NamedTuple):
    """Something that is wrong: its kind, one of `KINDS`, where, and why."""

    kind: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FolderHealth:
    """One folder's part of the report."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, items: list[dict[str, Any]], problems: Iterable[Problem]) -> FolderHealth:
        """Counts a folder's items and everything that is wrong in it."""
        counts = Counter(folders=1, items=len(items))
        counts["thumbnailsMissing"] = sum(not i["hasThumb"] and "error" not in i for i in items)
        counts["sidecars"] = sum(item["hasMeta"] for item in items)
        shown = []
        for problem in problems:
            counts[problem.kind] += 1
            if counts[problem.kind] <= SHOWN:
                shown.append(problem)
        return cls(counts, tuple(shown))


def report(folders: Iterable[FolderHealth], passes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the report of the whole library, without the time of its writing."""
    counts: Counter[str] = Counter()
    problems: dict[str, list[dict[str, str]]] = {}
    for folder in folders:
        counts.update(folder.counts)
        for kind, path, reason in folder.problems:
            shown = problems.setdefault(kind, [])
            if len(shown) < SHOWN:
                shown.append({"path": path, "reason": reason})
    return {
        "v": 1,
        "counts": {kind: counts[kind] for kind in (*COUNTS, *KINDS)},
        "problems": {kind: problems[kind] for kind in KINDS if kind in problems},
        "passes": dict(passes),
    }


def write(tree: Tree, found: dict[str, Any]) -> None:
    """Writes a report."""
    document = {"v": 1, "generatedAt": times.text(times.now()), **found}
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    tree.write(Path(HEALTH), data)


def load(tree: Tree) -> dict[str, Any] | None:
    """Reads the last report; None without a complete report."""
    try:
        data, _ = tree.read(Path(HEALTH))
        found = orjson.loads(data)
    except (NotFound, orjson.JSONDecodeError):
        return None
    if not isinstance(found, dict):
        return None
    counts, problems = found.get("counts"), found.get("problems")
    complete = isinstance(counts, dict) and isinstance(problems, dict)
    return found if complete and "generatedAt" in found else None
