"""Search against a dictionary: two services on one folder of photos, and a user of both."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import tempfile
from collections import Counter

from conftest import Gallery, draw, encode
from crashes import crash_at, run_machine
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

IMAGES = {".jpg": encode(draw(8, 6), "JPEG"), ".png": encode(draw(6, 8), "PNG")}
NAMES = ("one.jpg", "two.jpg", "two.png")
FOLDERS = ("", "a", "b", "b/c", "d")
TAGS = ("sea", "sunny", "mountains")  # no two sets of them have sidecars of the same size

folders, inner = st.sampled_from(FOLDERS), st.sampled_from(FOLDERS[1:])
names, picks = st.sampled_from(NAMES), st.integers(0, 11)
services, tag_sets = st.sampled_from("AB"), st.sets(st.sampled_from(TAGS)).map(sorted)


class TwoServices(RuleBasedStateMachine):
    """Their caches are their own, as are the clocks that their index loops go by."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        top = pathlib.Path(self.home.name)
        self.root = top / "photos"
        self.root.mkdir()
        (self.root / "notes.txt").touch()
        self.services = {name: Gallery(self.root, top / f"cache {name}") for name in "AB"}
        self.images: set[str] = set()
        self.tags: dict[str, list[str]] = {}  # by image; a sidecar stays when its image goes
        self.bytes: dict[str, bytes] = {}  # by image, as it was last; no other has the same
        self.seconds = itertools.count(10**9)
        self.ready: set[str] = set()  # have looked at everything since they started
        for name in self.services:
            self.index(name)

    def teardown(self) -> None:
        try:
            self.come_to_rest_and_compare()
        finally:
            for service in self.services.values():
                service.close()
            self.home.cleanup()

    def some(self, pick: int) -> list[str]:
        """One of the images, if there is one."""
        images = sorted(self.images)
        return [images[pick % len(images)]] if images else []

    def touch(self, path: str) -> None:
        """Give a file and its folder times that no other has, however fast the test runs."""
        for each in ((self.root / path), (self.root / path).parent):
            if each.exists():
                second = next(self.seconds)
                os.utime(each, (second, second))

    def make(self, folder: str) -> pathlib.Path:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.touch(folder)
        return self.root / folder

    # What the user does

    @rule(folder=folders, name=names)
    def add(self, folder: str, name: str) -> None:
        path = f"{folder}/{name}".lstrip("/")
        if path not in self.images:
            data = IMAGES[name[-4:]] + next(self.seconds).to_bytes(8)
            (self.make(folder) / name).write_bytes(self.bytes.setdefault(path, data))
            self.touch(path)
            self.images.add(path)

    @rule(pick=picks, service=services, tags=tag_sets, seconds=st.sampled_from([0, 5]))
    def edit(self, pick: int, service: str, tags: list[str], seconds: float) -> None:
        """Who takes an edit finds it within five seconds, whatever the other one does."""
        for path in self.some(pick):
            gallery, body = self.services[service], json.dumps({"tags": tags}).encode()
            gallery.app.put(f"/item?path={path}", body, status=200)
            self.tags[path] = tags
            gallery.settle(seconds)
            for tag in TAGS if seconds and service in self.ready else ():
                assert (path in gallery.found(f"tag:{tag}")) == (tag in tags)

    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        for path in self.some(pick):
            (self.root / path).unlink()
            self.touch(path)
            self.images.remove(path)

    @rule(pick=picks, folder=folders)
    def move(self, pick: int, folder: str) -> None:
        """An image goes to another folder, together with its sidecar."""
        for old in self.some(pick):
            new = f"{folder}/{old.rpartition('/')[2]}".lstrip("/")
            if new in self.images or new in self.tags:
                continue
            self.make(folder)
            for suffix in ("", ".json") if old in self.tags else ("",):
                (self.root / f"{old}{suffix}").rename(self.root / f"{new}{suffix}")
            self.touch(old)
            self.touch(new)
            self.images = self.images - {old} | {new}
            self.bytes[new] = self.bytes.pop(old)
            if old in self.tags:
                self.tags[new] = self.tags.pop(old)

    @rule(old=inner, new=inner)
    def move_folder(self, old: str, new: str) -> None:
        if not (self.root / old).exists() or (self.root / new).exists() or new.startswith(old):
            return

        def moved(path: str) -> str:
            return new + path[len(old) :] if path.startswith(f"{old}/") else path

        self.make(new).rmdir()
        (self.root / old).rename(self.root / new)
        self.touch(old)
        self.touch(new)
        self.images = set(map(moved, self.images))
        self.tags = {moved(path): tags for path, tags in self.tags.items()}
        self.bytes = {moved(path): data for path, data in self.bytes.items()}

    # What the services do

    @rule(service=services, number=st.integers(1, 10))
    def step(self, service: str, number: int) -> None:
        for _ in range(number):
            self.services[service].step()

    @rule(service=services, seconds=st.sampled_from([0.5, 5, 40, 400]))
    def settle(self, service: str, seconds: float) -> None:
        self.services[service].settle(seconds)

    @rule(service=services)
    def index(self, service: str) -> None:
        self.services[service].index()
        self.ready.add(service)

    @rule(service=services)
    def restart(self, service: str) -> None:
        self.services[service].restart()
        self.ready.discard(service)

    @rule(service=services, number=st.integers(1, 20), seconds=st.sampled_from([0.5, 400]))
    def crash_at_a_write(self, service: str, number: int, seconds: float) -> None:
        with crash_at(number):
            self.services[service].index()
            self.services[service].settle(seconds)
        self.restart(service)

    @rule(service=services)
    def rebuild(self, service: str) -> None:
        self.services[service].app.post("/search/rebuild-index", status=202)

    @rule(name=st.sampled_from(["_rollup.json", "_rollup_delta.json"]))
    def lose(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        self.touch(name)
        self.ready.clear()  # the next looks bring it back

    @rule(seconds=st.sampled_from([5, 400]))
    def come_to_rest_and_compare(self, seconds: float = 400) -> None:
        """Both find exactly what there is; once all is compacted, they count it exactly too."""
        for name in 2 * list(self.services):
            self.index(name)
            self.services[name].settle(seconds)
        tagged = {path: self.tags.get(path, []) for path in self.images}
        counts = Counter(tag for tags in tagged.values() for tag in tags)
        for name, service in self.services.items():
            for tag in TAGS:
                wanted = [path for path, tags in tagged.items() if tag in tags]
                assert sorted(service.found(f"tag:{tag}")) == sorted(wanted), (name, tag)
            for text in (".", ".jpg", "two"):
                wanted = [path for path in tagged if text in path.rpartition("/")[2]]
                assert sorted(service.found(f"name:{text}")) == sorted(wanted), (name, text)
            if seconds == 400:
                found = service.app.get("/search/suggest?q=&limit=100").json["suggestions"]
                found = {each["text"]: each["count"] for each in found if each["text"] in TAGS}
                assert found == counts, name


def test_two_services_on_one_root_find_exactly_what_there_is() -> None:
    """Whichever of them takes an edit, whichever of them crashes."""
    run_machine(TwoServices, 10)
