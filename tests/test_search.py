"""Queries over real rollups: the same answers as reading every item would give."""

from __future__ import annotations

import pathlib
import tempfile
import tracemalloc
from collections import Counter

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenslet import paths
from lenslet.library import manifest
from lenslet.library.manifest import Manifest
from lenslet.paths import Path
from lenslet.search.format import fold
from lenslet.search.query import Page, Search
from lenslet.search.writer import Rollup, is_due
from lenslet.storage.local import LocalTree

WORDS = st.lists(
    st.sampled_from(["ab", "ba", "abc", "Änne", "c", "cc", "2019"]), min_size=1, max_size=3
)
ITEMS = st.lists(
    st.tuples(WORDS, WORDS, st.lists(st.sampled_from(["ab", "c"]), max_size=2)), max_size=30
)
ASKED = [
    "a",
    "b",
    "ab",
    "abc",
    "c",
    "cc",
    "ba",
    "anne",
    "tag:ab",
    "name:c",
    "path:b",
    "-c",
    "-tag:c",
    "2019",
    "2019-10",
    "-2019",
]
TERMS = st.lists(st.sampled_from(ASKED), min_size=1, max_size=3)


def item(number: int, folder: list[str], name: list[str], tags: list[str], taken: str = "", width: int = 1) -> manifest.Item:  # fmt: skip
    path = Path(f"{'-'.join(folder)}/{number:02d}-{'-'.join(name)}.jpg")
    return {"path": path, "name": path.name, "type": "image/jpeg", "w": width, "h": 2, "size": 1, "hasThumb": True,
            "hasMeta": bool(tags), "rev": "1", "tags": tags, **({"takenAt": taken} if taken else {})}  # fmt: skip


def agrees(found: manifest.Item, term: str) -> bool:
    """What a term asks, by the letter of the README."""
    if term.startswith("-"):
        return not agrees(found, term[1:])
    kind, _, text = term.rpartition(":")
    name, folder = fold(found["name"]), fold(found["path"].parent)
    if kind == "tag":
        return text in map(fold, found["tags"])
    parts = {"name": [name], "path": [folder], "": [name, folder, *map(fold, found["tags"])]}[kind]
    is_date = term[:4].isdecimal() and found.get("takenAt", "").startswith(term)
    return is_date or any(text in part for part in parts)


@settings(max_examples=150, deadline=None)
@given(ITEMS, TERMS)
def test_a_query_finds_what_reading_every_item_would(drawn, terms: list[str]) -> None:
    """However the words are spread over lines, in the rollup's order."""
    items = [item(number, *each) for number, each in enumerate(drawn)]
    folders = sorted({found["path"].parent for found in items}, key=paths.folder_key)
    with tempfile.TemporaryDirectory() as folder:
        root = LocalTree(f"{folder}/root")
        cache = LocalTree(f"{folder}/cache", private=True)
        pathlib.Path(root.root).mkdir()
        (pathlib.Path(root.root) / "any.txt").touch()
        Rollup(root, cache).compact(
            folders,
            lambda each: Manifest(
                each,
                [i for i in items if i["path"].parent == each],
                generated_at="2024-01-01T00:00:00Z",
            ),
        )
        found, count, more, _ = Search(root, cache).find(
            " ".join(terms), paths.ROOT, Page(limit=1000)
        )
    wanted = [
        i["path"]
        for each in folders
        for i in items
        if i["path"].parent == each and all(agrees(i, t) for t in terms)
    ]
    assert [orjson.loads(line)["path"] for line in found] == wanted
    assert (count, more) == (len(wanted), False)


TAKEN = st.sampled_from(
    ["", "2019-09-30T23:59:59", "2019-10-01T00:00:00+02:00", "1965-01-01T00:00:00Z"]
)
DRAFTS = st.dictionaries(
    st.integers(0, 9),
    st.tuples(WORDS, st.lists(st.sampled_from(["ab", "c"])), TAKEN, st.sampled_from([0, 1, 4, 90])),
)


def counted(items: list[manifest.Item]) -> dict[bytes, tuple[int, int]]:
    """How many there are of each month, and the hundredths of their shapes."""
    found = Counter(i.get("takenAt", "")[:7].replace("-", "").encode() for i in items)
    shapes = Counter[bytes]()
    for each in items:
        month = each.get("takenAt", "")[:7].replace("-", "").encode()
        shapes[month] += {0: 100, 1: 50, 4: 200, 90: 300}[each["w"]]
    return {month: (count, shapes[month]) for month, count in found.items()}


def timeline(search: Search, query: str, below: str) -> dict[bytes, tuple[int, int]]:
    months = search.timeline(query, Path(below))
    return {month: (n, months.shapes[month]) for month, n in months.counts.items() if n}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "a/b", "a b", "c"]), unique=True, min_size=1),
    st.lists(st.tuples(DRAFTS, DRAFTS), min_size=4, max_size=4),
    st.lists(TERMS, min_size=1, max_size=3),
    st.sampled_from(["", "a", "a/b", "c"]),
)
def test_a_query_finds_what_has_changed_since_the_rollup(names, drawn, queries, below) -> None:
    """In the same order, and suggestions, months and folders count the same, whatever has happened."""
    folders = sorted(map(Path, names), key=paths.folder_key)
    steps: list[dict[Path, list[manifest.Item]]] = [{}, {}]
    for folder, drafts in zip(folders, drawn[: len(folders)], strict=True):
        for step, draft in zip(steps, drafts, strict=True):
            items = [item(number, [], *each) for number, each in sorted(draft.items())]
            for found in items:
                found["path"] = folder.child(found["name"])
            step[folder] = items
    with tempfile.TemporaryDirectory() as top:
        root, cache = LocalTree(f"{top}/root"), LocalTree(f"{top}/cache", private=True)
        (pathlib.Path(root.root) / "any").mkdir(parents=True)
        search = Search(root, cache)
        rollup = Rollup(root, cache)
        old, new = steps
        rollup.compact(folders, lambda each: Manifest(each, old[each], [], "2024-01-01T00:00:00Z"))
        generations = {}
        for second, folder in enumerate(folders):
            (pathlib.Path(root.root) / folder).mkdir(parents=True, exist_ok=True)
            made = f"2024-01-02T00:00:{second:02d}Z"
            manifest.write(root, Manifest(folder, new[folder], [], made), 5, old=Manifest(folder))
            generations[folder] = made
            rollup.name(generations, 0)
            search.find("a", paths.ROOT, Page())  # looks at one more folder
        for terms in queries:
            found, *_ = search.find(" ".join(terms), Path(below), Page(limit=1000))
            hits = [
                i
                for folder in folders
                for i in new[folder]
                if Path(below).holds(folder) and all(agrees(i, t) for t in terms)
            ]
            assert [orjson.loads(line)["path"] for line in found] == [i["path"] for i in hits]
            assert timeline(search, " ".join(terms), below) == counted(hits)
            facets = search.facets(" ".join(terms), Path(below), 100)
            tags = Counter(tag for i in hits for tag in {*i["tags"]})
            assert {each["text"]: each["count"] for each in facets} == tags
        everything = [i for items in new.values() for i in items]
        inside = [i for i in everything if Path(below).holds(i["path"].parent)]
        assert timeline(search, "", below) == counted(inside)
        assert timeline(search, "", "") == counted(everything)
        level = len(Path(below).split("/")) if below else 0
        parents = [i["path"].parent for i in inside if i["path"].parent != below]
        children = Counter(each.split("/")[level] for each in parents)
        assert search.count_below(Path(below)) == children
        tags = Counter(tag for items in new.values() for i in items for tag in {*i["tags"]})
        found = [each for each in search.suggest("", 100) if each["kind"] == "tag"]
        assert {each["text"]: each["count"] for each in found} == tags


MB = 1_000_000


@pytest.mark.parametrize(
    ("size", "days", "written", "folders", "due"),
    [
        (90 * MB, 0, 0, 0, False),
        (90 * MB, 99, 0, 0, False),  # nothing has changed
        (90 * MB, 99, 91 * MB, 0, False),  # and all that has changed is undone
        (90 * MB, 0, 89 * MB, 1, False),
        (90 * MB, 0, 90 * MB, 1, True),  # as much was written as it has bytes
        (90 * MB, 0, 13 * MB, 500, False),  # in an hour of tagging
        (90 * MB, 6, 13 * MB, 500, False),
        (90 * MB, 6, 100, 1, False),  # one edit
        (90 * MB, 7, 100, 1, True),
        (90 * MB, -5, 100, 1, False),  # a clock that was ahead
        (90 * MB, 1e9, 100, 1, True),  # one that was far behind
        (90 * MB, 0, 1 * MB, 5000, False),
        (90 * MB, 0, 1 * MB, 5001, True),  # each query would look at too many
        (200_000, 0, 100, 1, True),  # so small that it does not matter
    ],
)
def test_a_rollup_is_written_when_as_much_has_been_written_since(
    size, days, written, folders, due
) -> None:
    assert is_due(size, days, written, folders) == due


def test_a_large_folder_that_is_new_takes_little_memory(tmp_path: pathlib.Path) -> None:
    """A request process keeps what is not in the rollup: 5,000 items of 200 bytes, and of each a line."""
    root, cache = LocalTree(str(tmp_path / "root")), LocalTree(str(tmp_path / "c"), private=True)
    (tmp_path / "root/sea").mkdir(parents=True)
    folder, made = Path("sea"), "2024-01-01T00:00:00.000000Z"
    items = [item(number, ["sea"], ["holiday"], []) for number in range(5000)]
    manifest.write(root, Manifest(folder, items, generated_at=made), 500, old=Manifest(folder))
    rollup = Rollup(root, cache)
    rollup.compact([], lambda each: Manifest(each))
    rollup.name({folder: made}, 0)
    search = Search(root, cache)
    tracemalloc.start()
    try:
        assert search.find("holiday", None, Page(limit=1)).more
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3_000_000 and most < 6_000_000
