"""What `_health.json` says of a library: counts, the first problems of each kind, the passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from lenslet import manifest, times
from lenslet.errors import Denied, NotFound
from lenslet.manifest import Problem
from lenslet.paths import HEALTH, Path
from lenslet.storage import Storage

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
    "deadLetters",
)
# What only a listing tells.
LISTED = frozenset({"orphanSidecars", "orphanThumbnails", "unusableNames"})
# What is worth telling an operator; the rest is only counted.
WORRYING = frozenset(KINDS) - {"foreignJson", "orphanThumbnails", "unreadableImages"}


@dataclass(slots=True)
class FolderHealth:
    """One folder's share of the report."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, items: list[manifest.Item], problems: Iterable[Problem]) -> FolderHealth:
        """From a folder's items and everything that is wrong in it."""
        health = cls(Counter(folders=1, items=len(items)))
        for item in items:
            if not item["hasThumb"] and "error" not in item:
                health.counts["thumbnailsMissing"] += 1
            if item["hasMeta"]:
                health.counts["sidecars"] += 1
        for problem in problems:
            health.counts[problem.kind] += 1
            if health.counts[problem.kind] <= SHOWN:
                health.problems.append(problem)
        return health


def report(folders: Iterable[FolderHealth], passes: dict[str, Any]) -> dict[str, Any]:
    """The whole library's report, without the time of its writing."""
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
        "passes": passes,
    }


def keep(storage: Storage, found: dict[str, Any], share: tuple[int, int] = (1, 1)) -> None:
    """Store a report, or one `share` of it, such as (2, 3): the others' stay as they are."""
    if share[1] == 1:
        storage.keep(Path(HEALTH), _encoded(found), ours=_ours)
        return

    def change(old: bytes | None) -> bytes:
        if old is not None and not _ours(old, None):
            raise Denied(f"{HEALTH} is not Lenslet's own and is left as it is.")
        stored = orjson.loads(old or b"{}").get("shares", {})
        shares = {k: v for k, v in stored.items() if k.endswith(f"/{share[1]}")}
        shares[f"{share[0]}/{share[1]}"] = found
        return _encoded({**_sum(list(shares.values())), "shares": shares})

    storage.state.update(Path(HEALTH), change)


def _encoded(found: dict[str, Any]) -> bytes:
    data = {"v": 1, "generatedAt": times.text(times.now()), **found}
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _sum(shares: list[dict[str, Any]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    problems: dict[str, list[dict[str, str]]] = {}
    passes: dict[str, Any] = {}
    for share in shares:
        counts.update(share["counts"])
        passes |= share["passes"]
        for kind, shown in share["problems"].items():
            problems[kind] = (problems.get(kind, []) + shown)[:SHOWN]
    return {"v": 1, "counts": dict(counts), "problems": problems, "passes": passes}


def _ours(data: bytes, stat: object) -> bool:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return not data.strip(b"\0 \r\n")
    return isinstance(found, dict) and "v" in found and "generatedAt" in found


def load(storage: Storage) -> dict[str, Any] | None:
    """The report as it was last kept; None before the first."""
    try:
        data, _ = storage.derived(Path(HEALTH), lambda data, stat: data.endswith(b"}\n"))
        found: dict[str, Any] = orjson.loads(data)
    except (NotFound, orjson.JSONDecodeError):
        return None
    return found if _ours(data, None) and "counts" in found else None
