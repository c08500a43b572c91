"""The index against a model: whatever happens to a folder of photos, it says what is in it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote

from conftest import BROKEN_JPEG, Gallery, draw, encode, tree
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from PIL import Image

# Names in natural order, as manifests have them.
NAMES = ("a b.webp", "img2.jpg", "Img3.PNG", "img10.jpg", "zoë.jpeg")
FOLDERS = ("d2", "D10", "x y", "zoë")
PLACES = ("", "d2", "D10", "zoë", "d2/x y", "D10/x y", "d2/x y/zoë")
TAGS = ("sea", "sunny", "mountains")  # no two sets of them have sidecars of the same size
QUERIES = ("name:.", ".webp", "img2", "IMG", "zoe", *(f"tag:{tag}" for tag in TAGS))
SIZES = ((8, 6), (6, 8), (9, 5))
KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
IMAGES = {
    end: [*(encode(draw(*size), kind) for size in SIZES), BROKEN_JPEG]
    for end, kind in KINDS.items()
}
SIZE_OF = {data: size for each in IMAGES.values() for data, size in zip(each, SIZES, strict=False)}
MARK, POINTER = ".nomedia", ".lenslet.folder.json"
FOREIGN = b'{"title": "IMG_2", "description": "JSON of another program"}'
DERIVED = ("_index*.json", "_rollup*.json", "_health.json", "*.thumbnail", ".lenslet-tmp-*")


class Gone(Exception):
    """A folder is not there, or is ignored."""


class Broken(Exception):
    """A pointer leads nowhere (403), or back to where it comes from (508)."""


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def holds(folder: str, path: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


class Model:
    """The user's files, and what the service has to say of them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders = {""}

    def place(self, path: str, chain: tuple[str, ...] = ()) -> str:
        """Where the images of a folder lie, its pointers followed."""
        here = ""
        for name in filter(None, path.split("/")):
            here = join(here, name)
            if here not in self.folders or join(here, MARK) in self.files:
                raise Gone
            if pointer := self.files.get(join(here, POINTER)):
                target = json.loads(pointer)["target"]["path"]
                chain = (*chain, here)
                if len(chain) > 16 or any(holds(target, spot) for spot in chain):
                    raise Broken(508)
                try:
                    here = self.place(target, chain)
                except Gone:
                    raise Broken(403) from None
        return here

    def visible(self) -> tuple[dict[str, str], dict[str, int]]:
        """Where the images of each folder lie that is served, and the status of broken ones."""
        places, broken, waiting = {"": ""}, {}, [""]
        for path in waiting:
            for name in FOLDERS:
                try:
                    if join(places[path], name) in self.folders:
                        places[join(path, name)] = self.place(join(path, name))
                        waiting.append(join(path, name))
                except Broken as error:
                    broken[join(path, name)] = error.args[0]
                except Gone:
                    continue
        return places, broken

    def images(self, place: str) -> list[str]:
        return [name for name in NAMES if join(place, name) in self.files]

    def sidecar(self, image: str) -> str:
        """The file that tells of an image, or will once it is edited."""
        own, usual = f"{image}.lenslet.json", f"{image}.json"
        return own if own in self.files or self.files.get(usual) == FOREIGN else usual

    def item(self, place: str, name: str) -> dict[str, Any]:
        """What a manifest says of an image, in a few words."""
        image = join(place, name)
        width, height = SIZE_OF.get(self.files[image], (0, 0))
        good, meta = width > 0, self.files.get(self.sidecar(image))
        return {"name": name, "w": width, "h": height, "hasThumb": good, "error": not good,
                "hasMeta": meta is not None, "tags": json.loads(meta or b'{"tags": []}')["tags"]}  # fmt: skip

    def dirs(self, path: str, places: dict[str, str], broken: dict[str, int]) -> dict[str, str]:
        """How the folders in a folder show, in order."""
        found = {}
        for name in FOLDERS:
            child = join(path, name)
            pointed = join(join(places[path], name), POINTER) in self.files
            if child in broken or (child in places and pointed):
                found[name] = "leaf-pointer"
            elif child in places:
                found[name] = "leaf-real" if self.images(places[child]) else "branch"
        return found

    def matches(self, query: str, path: str, item: dict[str, Any]) -> bool:
        """What a query of `QUERIES` asks."""
        kind, _, text = query.rpartition(":")
        plain = path.casefold().replace("ë", "e")
        if kind == "tag":
            return text in item["tags"]
        return text.casefold() in (plain.rpartition("/")[2] if kind == "name" else plain)


class Crash(BaseException):
    """The process ends."""


@contextlib.contextmanager
def crash_at(number: int) -> Iterator[None]:
    """The process ends at a certain rename or unlink, and does no other after it."""
    calls = itertools.count(1)

    def ending(call: Callable[..., None]) -> Callable[..., None]:
        def either(*args: Any, **kwargs: Any) -> None:
            if next(calls) >= number:
                raise Crash
            call(*args, **kwargs)

        return either

    with contextlib.ExitStack() as stack:
        for name in ("rename", "replace", "unlink", "remove"):
            stack.enter_context(mock.patch.object(os, name, ending(getattr(os, name))))
        yield


folders, names, picks = st.sampled_from(PLACES), st.sampled_from(NAMES), st.integers(0, 30)
inner, tag_sets = st.sampled_from(PLACES[1:]), st.sets(st.sampled_from(TAGS)).map(sorted)


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

    # What is done to files. Each change has a second of its own, however fast the test runs.

    def touch(self, path: str, *, earlier: bool = False) -> None:
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
        self.model.files[path] = data
        self.touch(path, earlier=earlier)
        self.touch(parent(path))
        self.fix()

    def delete(self, pick: int, wanted: Callable[[str], bool]) -> None:
        if found := sorted(path for path in self.model.files if wanted(path)):
            path = found[pick % len(found)]
            (self.root / path).unlink()
            del self.model.files[path]
            self.touch(parent(path))
            self.fix()

    @rule(folder=folders, name=names, number=st.integers(0, 3), earlier=st.booleans())
    def put_image(self, folder: str, name: str, number: int, earlier: bool) -> None:
        data = IMAGES[name.rpartition(".")[2].lower()][number]
        self.write(join(folder, name), data, earlier=earlier)

    @rule(folder=folders, name=names, tags=st.none() | tag_sets)
    def write_sidecar(self, folder: str, name: str, tags: list[str] | None) -> None:
        sidecar = {"v": 1, "tags": tags, "updatedAt": "2024-01-01T00:00:00Z"}
        raw = FOREIGN if tags is None else json.dumps(sidecar).encode()
        self.write(f"{join(folder, name)}.json", raw)

    @rule(folder=folders, name=st.sampled_from(["notes.txt", "_index.json"]))
    def write_another_file(self, folder: str, name: str) -> None:
        if name == "_index.json" and "lost" in os.environ.get("RELAX", ""):
            return
        self.write(join(folder, name), FOREIGN)

    @rule(folder=inner)
    def mark_as_ignored(self, folder: str) -> None:
        self.write(join(folder, MARK), b"")

    @rule(folder=inner, to=folders)
    def point(self, folder: str, to: str) -> None:
        if "chain" in os.environ.get("RELAX", ""):
            for p, d in self.model.files.items():
                if p.endswith(POINTER) and parent(p) != folder:
                    t = json.loads(d)["target"]["path"]
                    if holds(to, parent(p)) or holds(parent(p), to) or holds(folder, t):
                        return
        if "same" in os.environ.get("RELAX", "") and (
            join(folder, POINTER) in self.model.files
            or any(join(folder, n) in self.model.folders for n in FOLDERS)
        ):
            return
        pointer = {"version": 1, "kind": "pointer", "target": {"type": "local", "path": to}}
        self.write(join(folder, POINTER), json.dumps(pointer).encode())

    @rule(pick=picks)
    def delete_image(self, pick: int) -> None:
        self.delete(pick, lambda path: path.endswith(NAMES))

    @rule(pick=picks)
    def delete_another_file(self, pick: int) -> None:
        self.delete(pick, lambda path: not path.endswith(NAMES) and path != "notes.txt")

    @rule(pick=picks, new=inner)
    def rename_folder(self, pick: int, new: str) -> None:
        model = self.model
        old = sorted(model.folders)[pick % len(model.folders)]
        if holds(old, new) or (self.root / new).exists():
            return
        if "chain" in os.environ.get("RELAX", "") and any(
            holds(old, p) and p.endswith(POINTER) for p in self.model.files
        ):
            return
        self.make(parent(new))
        (self.root / old).rename(self.root / new)
        self.touch(parent(old))
        self.touch(parent(new))

        def moved(path: str) -> str:
            return new + path[len(old) :] if holds(old, path) else path

        model.folders = set(map(moved, model.folders))
        model.files = {moved(path): data for path, data in model.files.items()}
        self.fix()

    @rule(pick=picks)
    def delete_derived_file(self, pick: int) -> None:
        if found := [
            p
            for p in self.derived()
            if not ("lost" in os.environ.get("RELAX", "") and p.endswith("_index.json"))
        ]:
            (self.root / found[pick % len(found)]).unlink()
            self.touch(parent(found[pick % len(found)]))

    def fix(self):
        if "broken" in os.environ.get("RELAX", ""):
            for p in list(self.model.files):
                if p.endswith(POINTER):
                    try:
                        self.model.place(parent(p))
                    except Broken:
                        self.delete(0, lambda q: q == p)
                        self.fix()
                        return
                    except Gone:
                        pass

    # What is done by the service

    @rule(pick=picks, tags=tag_sets)
    def edit(self, pick: int, tags: list[str]) -> None:
        places, _ = self.model.visible()
        images = [join(p, n) for p, at in places.items() if p == at for n in self.model.images(p)]
        if images:
            image = images[pick % len(images)]
            path, body = f"/item?path={quote(image)}", json.dumps({"tags": tags}).encode()
            assert self.gallery.app.put(path, body, status=200).json["tags"] == tags
            sidecar = self.model.sidecar(image)
            self.model.files[sidecar] = (self.root / sidecar).read_bytes()
            assert json.loads(self.model.files[sidecar])["tags"] == tags
            self.touch(parent(image))

    @rule()
    def index(self) -> None:
        self.gallery.index()

    @rule(folder=folders, recursive=st.booleans(), steps=st.integers(0, 12))
    def crash_between_steps(self, folder: str, recursive: bool, steps: int) -> None:
        route = quote(f"/folders/{folder}/reindex".replace("//", "/"))
        self.gallery.app.post(f"{route}?recursive={recursive}", expect_errors=True)
        for _ in range(steps):
            self.gallery.step()
        self.gallery.restart()

    @rule(number=st.integers(1, 30), seconds=st.sampled_from([0, 400]))
    def crash_at_a_write(self, number: int, seconds: int) -> None:
        with contextlib.suppress(Crash), crash_at(number):
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
        return [path for path in tree(self.root) if path not in self.model.files
                and any(pathlib.PurePath(path).match(pattern) for pattern in DERIVED)]  # fmt: skip

    def compare(self) -> None:
        """All that the service says is what the model says, and every file of the user's is there."""
        derived = self.derived()
        files = {path: data for path, data in tree(self.root).items() if path not in derived}
        assert files == self.model.files
        places, broken = self.model.visible()
        # Request processes may remember for some seconds where a folder lies: this one does not.
        service = Gallery(self.root, self.top / "cache")
        try:
            self.compare_folders(service, places, broken)
            self.compare_search(service, places, broken)
        finally:
            service.close()

    def compare_folders(
        self, service: Gallery, places: dict[str, str], broken: dict[str, int]
    ) -> None:
        waiting, count = [""], {"folders": 0, "items": 0, "sidecars": 0}
        for path in waiting:
            manifest = service.folder(path)
            dirs = {entry["name"]: entry["kind"] for entry in manifest["dirs"]}
            wanted_items, wanted_dirs = [], {}
            if path in places:
                wanted_dirs = self.model.dirs(path, places, broken)
                images = self.model.images(places[path])
                wanted_items = [self.model.item(places[path], name) for name in images]
            for name in dirs.keys() - wanted_dirs.keys():
                # A folder in which the thumbnails of a pointer were kept may be left, with no image.
                left = join(places.get(path, path), name)
                assert (dirs.pop(name), left in self.model.folders) == ("branch", False)
                waiting.append(join(path, name))
            if "kind" in os.environ.get("RELAX", ""):
                assert list(dirs) == list(wanted_dirs)
            else:
                assert list(dirs.items()) == list(wanted_dirs.items())
            assert [few(item) for item in manifest["items"]] == wanted_items
            for item in wanted_items:
                self.compare_thumbnail(service, path, places[path], item)
            waiting += [join(path, name) for name in dirs if join(path, name) in places]
            count["folders"] += 1
            count["items"] += len(wanted_items)
            count["sidecars"] += sum(item["hasMeta"] for item in wanted_items)
        for folder in self.model.folders:
            with contextlib.suppress(Gone, Broken):
                self.model.place(folder)
                continue
            try:
                self.model.place(folder)
            except Gone:
                status = 404
            except Broken as error:
                status = error.args[0]
            service.app.get("/folders", {"path": folder}, status=status)
        if not broken:  # what is told of a pointer that leads nowhere for now is left open
            counts = service.app.get("/health").json["library"]["counts"]
            assert {kind: counts[kind] for kind in count} == count

    def compare_thumbnail(
        self, service: Gallery, path: str, place: str, item: dict[str, Any]
    ) -> None:
        """Of the image as it is now, and bound to it."""
        wanted = 200 if item["hasThumb"] else 422
        answer = service.app.get("/thumb", {"path": join(path, item["name"])}, status=wanted)
        if item["hasThumb"]:
            assert Image.open(io.BytesIO(answer.body)).size == (item["w"], item["h"])
            thumbnail = self.root / f"{join(path, item['name'])}.thumbnail"
            image = self.root / place / item["name"]
            assert thumbnail.stat().st_mtime_ns == image.stat().st_mtime_ns

    def compare_search(
        self, service: Gallery, places: dict[str, str], broken: dict[str, int]
    ) -> None:
        items = [
            (join(path, name), self.model.item(place, name))
            for path, place in places.items()
            for name in self.model.images(place)
        ]
        for folder in places:
            for query in QUERIES:
                found = service.found(query, path=folder, limit=1000)
                found = [path for path in found if not any(holds(b, path) for b in broken)]
                assert sorted(found) == sorted(
                    path for path, item in items
                    if holds(folder, path) and self.model.matches(query, path, item)
                ), (folder, query)  # fmt: skip


def few(item: dict[str, Any]) -> dict[str, Any]:
    """Of an item, what `Model.item` tells."""
    told = {key: item[key] for key in ("name", "w", "h", "hasThumb", "hasMeta")}
    return {**told, "error": "error" in item, "tags": item.get("tags", [])}


from hypothesis import Phase

EXTRA = dict(report_multiple_bugs=False)
if os.environ.get("NOSHRINK"):
    EXTRA["phases"] = [Phase.explicit, Phase.generate]


def test_the_index_says_what_is_in_a_folder_whatever_has_happened_to_it() -> None:
    """Also after crashes at any write, and nothing of the user's is ever changed."""
    run_state_machine_as_test(
        Library,
        settings=settings(
            max_examples=int(os.environ.get("EX", "40")),
            stateful_step_count=int(os.environ.get("ST", "25")),
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            **EXTRA,
        ),
    )
