"""The index against a model: whatever happens to a folder of photos, it says what is in it."""

from __future__ import annotations

import io
import itertools
import json
import os
import pathlib
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from conftest import Gallery, tree
from crashes import crash_at, run_machine
from folder_model import (
    FOREIGN,
    MARK,
    NAMES,
    POINTER,
    QUERIES,
    TAGS,
    Model,
    few,
    holds,
    image,
    join,
    matches,
    parent,
    written,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from PIL import Image

PLACES = ("", "d2", "D10", "d2/x y", "D10/x y", "d2/x y/zoë")
DERIVED = ("_index*.json", "_rollup*.json", "_health.json", "*.thumbnail", ".lenslet-tmp-*")

folders, inner = st.sampled_from(PLACES), st.sampled_from(PLACES[1:])
names, picks = st.sampled_from(NAMES), st.integers(0, 30)
tag_sets = st.sets(st.sampled_from(TAGS)).map(sorted)


class Library(RuleBasedStateMachine):
    """A user, other programs and the service at work on one folder of photos."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.top = pathlib.Path(self.home.name)
        self.root = self.top / "photos"
        self.root.mkdir()
        self.model, self.seconds = Model(), itertools.count(1)
        self.write("notes.txt", b"mine")
        self.gallery = Gallery(self.root, self.top / "cache")

    def teardown(self) -> None:
        try:
            self.gallery.index()
            self.gallery.settle(400)
            self.compare()
        finally:
            self.gallery.close()
            self.home.cleanup()

    # What the user and other programs do

    def touch(self, path: str, *, earlier: bool = False) -> None:
        """Give a file or folder a time that no other has, however fast the test runs."""
        at = 10**9 + (-next(self.seconds) if earlier else next(self.seconds))
        os.utime(self.root / path, (at, at))

    def make(self, folder: str) -> None:
        if folder not in self.model.folders:
            self.make(parent(folder))
            (self.root / folder).mkdir(exist_ok=True)
            self.touch(parent(folder))
            self.model.folders.add(folder)

    def write(self, path: str, data: bytes, *, earlier: bool = False) -> None:
        self.make(parent(path))
        (self.top / "new").write_bytes(data)
        (self.top / "new").rename(self.root / path)
        self.touch(path, earlier=earlier)
        self.touch(parent(path))
        self.model.files[path] = data

    def delete(self, pick: int, wanted: Callable[[str], bool]) -> None:
        if found := sorted(filter(wanted, self.model.files)):
            path = found[pick % len(found)]
            (self.root / path).unlink()
            self.touch(parent(path))
            del self.model.files[path]

    @rule(folder=folders, name=names, number=st.integers(0, 3), earlier=st.booleans())
    def put_image(self, folder: str, name: str, number: int, earlier: bool) -> None:
        self.write(join(folder, name), image(name, number), earlier=earlier)

    @rule(folder=folders, name=names, tags=st.none() | tag_sets)
    def write_sidecar(self, folder: str, name: str, tags: list[str] | None) -> None:
        sidecar = {"v": 1, "tags": tags, "updatedAt": "2024-01-01T00:00:00Z"}
        raw = FOREIGN if tags is None else json.dumps(sidecar).encode()
        self.write(f"{join(folder, name)}.json", raw)

    @rule(folder=folders)
    def write_another_file(self, folder: str) -> None:
        self.write(join(folder, "notes.txt"), FOREIGN)

    @rule(folder=inner)
    def mark_as_ignored(self, folder: str) -> None:
        self.write(join(folder, MARK), b"")

    @rule(folder=inner, to=folders)
    def point(self, folder: str, to: str) -> None:
        pointer = {"version": 1, "kind": "pointer", "target": {"type": "local", "path": to}}
        self.write(join(folder, POINTER), json.dumps(pointer).encode())

    @rule(pick=picks)
    def delete_image(self, pick: int) -> None:
        self.delete(pick, lambda path: path.endswith(NAMES))

    @rule(pick=picks, suffix=st.sampled_from([MARK, POINTER, "g.json", "t.json"]))
    def delete_another_file(self, pick: int, suffix: str) -> None:
        self.delete(pick, lambda path: path.endswith(suffix))

    @rule(old=inner, new=inner)
    def rename_folder(self, old: str, new: str) -> None:
        if old in self.model.folders and not (self.root / new).exists() and not holds(old, new):
            self.make(parent(new))
            (self.root / old).rename(self.root / new)
            self.touch(parent(old))
            self.touch(parent(new))
            self.model.rename(old, new)

    @rule(pick=picks)
    def delete_derived_file(self, pick: int) -> None:
        if found := self.derived():
            (self.root / found[pick % len(found)]).unlink()
            self.touch(parent(found[pick % len(found)]))

    # What the service does

    @rule(pick=picks, tags=tag_sets)
    def edit(self, pick: int, tags: list[str]) -> None:
        own = [path for path, place in self.model.served().items() if path == place]
        images = [join(path, name) for path in own for name in self.model.images(path)]
        if images:
            path = images[pick % len(images)]
            body = json.dumps({"tags": tags}).encode()
            self.gallery.app.put(f"/item?path={quote(path)}", body, status=200)
            sidecar = self.model.sidecar(path)
            self.model.files[sidecar] = (self.root / sidecar).read_bytes()
            assert json.loads(self.model.files[sidecar])["tags"] == tags
            self.touch(parent(path))

    @rule()
    def index(self) -> None:
        self.gallery.index()

    @rule(folder=folders, recursive=st.booleans(), steps=st.integers(0, 12))
    def crash_between_steps(self, folder: str, recursive: bool, steps: int) -> None:
        if self.model.served().get(folder) == folder:
            route = quote(f"/folders/{join(folder, 'reindex')}")
            self.gallery.app.post(f"{route}?recursive={recursive}", status=202)
        for _ in range(steps):
            self.gallery.step()
        self.gallery.restart()

    @rule(number=st.integers(1, 30), seconds=st.sampled_from([0, 400]))
    def crash_at_a_write(self, number: int, seconds: float) -> None:
        with crash_at(number):
            self.gallery.index()
            self.gallery.settle(seconds)
        self.gallery.restart()

    @rule()
    def index_and_compare(self) -> None:
        self.gallery.index()
        self.gallery.index()
        self.compare()

    # What is true once all is done

    def derived(self) -> list[str]:
        """The service's own files."""
        others = sorted(tree(self.root).keys() - self.model.files.keys())
        return [path for path in others if any(map(pathlib.PurePath(path).match, DERIVED))]

    def compare(self) -> None:
        """Every file of the user's is as it was, and all that the service says is true."""
        own = set(self.derived())
        found = {p: written(data) for p, data in tree(self.root).items() if p not in own}
        assert found == {p: written(data) for p, data in self.model.files.items()}
        served = self.model.served()
        # A request process may remember where a folder lies for some seconds: this one is new.
        service = Gallery(self.root, self.top / "cache")
        try:
            self.compare_folders(service, served)
            self.compare_search(service, served)
        finally:
            service.close()

    def compare_folders(self, service: Gallery, served: dict[str, str | None]) -> None:
        waiting, counts = [("", "")], Counter(folders=0, items=0, sidecars=0)
        for path, place in waiting:
            found, wanted = service.folder(path), self.model.dirs(path, served)
            dirs = {entry["name"]: entry["kind"] for entry in found["dirs"]}
            for name in dirs.keys() - wanted.keys():
                # Where a pointer has been, a folder that had its thumbnails may be left.
                assert (dirs.pop(name), join(place, name) in self.model.folders) == (
                    "branch",
                    False,
                )
                waiting.append((join(path, name), join(place, name)))
            assert [*dirs.items()] == [*wanted.items()]
            below = [join(path, name) for name in wanted]
            waiting += [(child, served[child]) for child in below if served[child] is not None]
            items = self.model.items(place)
            assert [few(item) for item in found["items"]] == items
            for item in items:
                self.compare_thumbnail(service, join(path, item["name"]), place, item)
            counts.update(folders=1, items=len(items), sidecars=sum(i["hasMeta"] for i in items))
        for folder in self.model.folders:
            service.app.get("/folders", {"path": folder}, status=self.model.status(folder))
        if None not in served.values():  # what is told of broken pointers is left open
            found = service.app.get("/health").json["library"]["counts"]
            assert {kind: found[kind] for kind in counts} == counts

    def compare_thumbnail(
        self, service: Gallery, path: str, place: str, item: dict[str, Any]
    ) -> None:
        """It is of the image as it is now, and bound to it."""
        status = 200 if item["hasThumb"] else 422
        answer = service.app.get("/thumb", {"path": path}, status=status)
        if item["hasThumb"]:
            assert Image.open(io.BytesIO(answer.body)).size == (item["w"], item["h"])
            made, of = self.root / f"{path}.thumbnail", self.root / place / item["name"]
            assert made.stat().st_mtime_ns == of.stat().st_mtime_ns

    def compare_search(self, service: Gallery, served: dict[str, str | None]) -> None:
        broken = [path for path, place in served.items() if place is None]
        items = [
            (join(path, item["name"]), item)
            for path, place in served.items()
            for item in self.model.items(place)
        ]
        for folder, query in itertools.product(served, QUERIES):
            found = service.found(query, path=folder, limit=1000)
            found = [path for path in found if not any(holds(b, path) for b in broken)]
            wanted = [p for p, item in items if holds(folder, p) and matches(query, p, item)]
            assert sorted(found) == sorted(wanted), (folder, query)


def test_the_index_says_what_is_in_a_folder_whatever_has_happened_to_it() -> None:
    """Also after crashes at any write, and nothing of the user's is ever changed."""
    run_machine(Library, 15)


@pytest.mark.parametrize("folder", ["d2", "d2/x y"])
def test_what_becomes_ignored_before_a_crash_is_not_found_after_it(folder: str) -> None:
    """Found by the model: only the delta had it, and a new process did not know that it was gone."""
    state = Library()
    try:
        state.index()
        state.put_image(earlier=False, folder=folder, name="a b.webp", number=0)
        state.index()
        state.mark_as_ignored(folder="d2")
        state.crash_between_steps(folder="d2", recursive=False, steps=0)
        state.index()
    finally:
        state.teardown()


def test_a_folder_that_becomes_ignored_takes_those_below_with_it() -> None:
    """Found by the model: what was cached of the folder let those below be indexed again and again."""
    state = Library()
    try:
        state.put_image(earlier=False, folder="d2/x y/zoë", name="a b.webp", number=0)
        state.index()
        state.delete_image(pick=0)
        state.mark_as_ignored(folder="d2")
        state.index_and_compare()
    finally:
        state.teardown()
