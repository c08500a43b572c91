"""Queries over real rollups: the same answers as reading every item would give."""

from __future__ import annotations

import pathlib
import tempfile

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from lenslet import paths
from lenslet.library import manifest
from lenslet.library.manifest import Manifest
from lenslet.paths import Path
from lenslet.search.query import Page, Search
from lenslet.search.rollup import Rollup, fold
from lenslet.storage.local import LocalTree

WORDS = st.lists(st.sampled_from(["ab", "ba", "abc", "Änne", "c", "cc"]), min_size=1, max_size=3)
ITEMS = st.lists(
    st.tuples(WORDS, WORDS, st.lists(st.sampled_from(["ab", "c"]), max_size=2)), max_size=30
)
TERMS = st.lists(
    st.sampled_from(
        [
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
        ]
    ),
    min_size=1,
    max_size=3,
)


def item(number: int, folder: list[str], name: list[str], tags: list[str]) -> manifest.Item:
    path = Path(f"{'-'.join(folder)}/{number:02d}-{'-'.join(name)}.jpg")
    return {"path": path, "name": path.name, "type": "image/jpeg", "w": 1, "h": 1, "size": 1, "hasThumb": True,
            "hasMeta": bool(tags), "rev": "1", "tags": tags}  # fmt: skip


def agrees(found: manifest.Item, term: str) -> bool:
    """What a term asks, by the letter of the README."""
    if term.startswith("-"):
        return not agrees(found, term[1:])
    kind, _, text = term.rpartition(":")
    name, folder = fold(found["name"]), fold(found["path"].parent)
    if kind == "tag":
        return text in map(fold, found["tags"])
    parts = {"name": [name], "path": [folder], "": [name, folder, *map(fold, found["tags"])]}[kind]
    return any(text in part for part in parts)


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
