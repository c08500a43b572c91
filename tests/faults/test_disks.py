"""Disks that fill up, go away, come back and cannot be written, under real gunicorn.

After each fault nothing that was acknowledged is lost, no file is torn, and `/health` has shown it
within ten seconds and is well again within ten seconds after, without help.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Server, jpeg, put, tree, wait_for
from scale import record, scale
from test_kills import torn_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk"),
]

SHOWN_SECONDS = 10.0  # for a condition to show in /health, and to be gone from it
PAGE_BYTES = 4096  # what a tmpfs gives at a time
SMALL = jpeg(32, 24)
TAKEOUT = b'{"title": "img", "photoTakenTime": {"timestamp": "1"}}'

# What `/health` says of each condition: what and where it is and, at last, what to do.
FULL = (r"(?i)no space (is )?left", r"(?i)\b(free|make room|delete|remove)\b")
ROOT_AWAY = (r"(?i)root.*mount", r"(?i)\b(mount|remount|check|bring)\b")
STATE_AWAY = (r"STATE_DIR.*mount", r"\.lenslet-state")
READ_ONLY = (r"(?i)root cannot be written", r"set STATE_DIR")
NO_WRITING = (r'"a"', r"Permission denied", r"(?i)\blet Lenslet read there \(and write\b")
NO_READING = (r'"a"', r"Permission denied", r"(?i)\b(allow|chmod|give|grant|let)\b")


# Disks


class Disk:
    """A small disk of its own. It shows at `folder` until it is taken away, and keeps its files."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.held = folder.with_name(f"{folder.name}-held")
        self._filler = self.held / ".filler"
        for each in (folder, self.held):
            each.mkdir()
        mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", self.held)
        mount("--bind", self.held, self.folder)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Takes the disk away for a while, and leaves an empty mount point."""
        subprocess.run(["umount", "-l", self.folder], check=True)
        try:
            yield
        finally:
            mount("--bind", self.held, self.folder)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, mode: str) -> None:
        """Waits for a moment in which no file is being written."""
        command = ["mount", "-o", f"remount,bind,{mode}", self.folder]
        wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0)

    @contextlib.contextmanager
    def filled(self, pages: int = 0) -> Iterator[None]:
        self.fill(pages)
        try:
            yield
        finally:
            self._filler.unlink()

    def fill(self, pages: int = 0) -> None:
        """Leaves room for some pages and no more, also when what is being written is given up."""
        pause, settled = threading.Event(), 0
        with self._filler.open("ab", buffering=0) as file:
            while settled < 3:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * PAGE_BYTES)
                file.truncate(max(0, file.tell() // PAGE_BYTES - pages) * PAGE_BYTES)
                pause.wait(0.05)
                settled = settled + 1 if os.statvfs(self.held).f_bfree == pages else 0

    def end(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)
        subprocess.run(["umount", "-l", self.held], check=True)


def mount(*arguments: str | pathlib.Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


@contextlib.contextmanager
def mode(path: pathlib.Path, bits: int) -> Iterator[None]:
    """Changes permissions for a while."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


# The service


@dataclass
class Place:
    """A service over a library; its own files are on `disk`, its cache is on another."""

    server: Server
    root: pathlib.Path
    disk: Disk
    cache: Disk
    edited: list[str]  # images with a sidecar, in folders of their own
    written: list[str]  # images of one folder, for writers

    def check(self) -> None:
        """No file is torn, none stays half written, and nothing unforeseen was logged."""
        folders = (self.root, self.disk.folder, self.cache.folder)
        assert [each for folder in folders for each in torn_files(folder)] == []
        wait_for(lambda: not [f for each in folders for f in each.rglob(".lenslet-tmp-*")], 10)
        assert "Traceback" not in self.server.log.read_text()


@pytest.fixture(scope="module", params=["root", "state"])
def place(request, tmp_path_factory) -> Iterator[Place]:
    """The disk is the root, or `STATE_DIR`. The service obeys modes, as that of any user does."""
    where, home = request.param, tmp_path_factory.mktemp(request.param)
    root, state = home / "photos", home / "state"
    cache, disk = Disk(home / "cache"), Disk(root if where == "root" else state)
    root.mkdir(exist_ok=True)
    edited, written, images = library(root)
    settings = {"STATE_DIR": str(state)} if where == "state" else {}
    server = obeying_modes(lambda: Server(root, home, SCAN_SECONDS="2", **settings))
    try:
        indexed(server, images)
        assert tag_all(server, edited, "first") == edited
        found(server, "tag:first", edited)
        server.request("POST", "/search/rebuild-index")
        server.until(lambda: b'"first"' in (disk.folder / "_rollup.json").read_bytes())
        yield Place(server, root, disk, cache, edited, written)
    finally:
        server.stop()
        disk.end()
        cache.end()


def library(root: pathlib.Path) -> tuple[list[str], list[str], int]:
    """A library whose files differ in size; the images of a `Place`, and the number of all.

    A manifest, a sidecar and a thumbnail need one page, the list of changed folders two, the
    health report three and the summary for search more.
    """
    edited = []
    for number in range(60):
        edited += photos(root, f"a long name, so that lists of many folders are long {number}", 1)
    foreign = photos(root, "foreign", 100)
    for name in foreign:
        (root / f"{name}.json").write_bytes(TAKEOUT)
    written = photos(root, "a", 20)
    others = photos(root, "b/c", 3)
    photos(root, ".later", 60)
    return edited, written, len([*edited, *foreign, *written, *others])


def photos(root: pathlib.Path, folder: str, count: int) -> list[str]:
    """Some small photos in a folder, which were there for long."""
    names = [f"{folder}/img{number}.jpg" for number in range(count)]
    for name in names:
        os.utime(put(root / name, SMALL), (1, 1))
    return names


_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def obeying_modes(start: Callable[[], Server]) -> Server:
    """Starts a service without root's power to do what a file's mode forbids."""

    def begin() -> Server:
        libc = ctypes.CDLL(None, use_errno=True)
        for power in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, power, 0, 0, 0):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return start()

    with ThreadPoolExecutor(1) as thread:  # what is dropped is this thread's and its children's
        return thread.submit(begin).result()


# Clients


class Writers:
    """Clients that edit images for as long as a fault lasts, each its own; they know what holds."""

    def __init__(self, server: Server, images: list[str]) -> None:
        self.server = server
        # The notes that were acknowledged last, or that the tests before have left.
        self.stored = {image: str(server.json(item(image))["notes"]) for image in images}
        self.acknowledged = 0
        self.answers: Counter[tuple[int, str]] = Counter()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(images[n::4],)) for n in range(4)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, images: list[str]) -> None:
        for number, image in enumerate(itertools.cycle(images)):
            if self._stop.wait(0.02):
                return
            notes = f"the {number}th"
            status, said = edit(self.server, image, notes=notes)
            self.answers[status, said] += 1
            if status == 200:
                self.stored[image] = notes
                self.acknowledged += 1

    def go_on(self) -> None:
        """Waits until they have written more."""
        before = self.acknowledged
        self.server.until(lambda: self.acknowledged > before + 20)

    def are_refused(self) -> None:
        """Waits until some edits have been refused."""
        before = self.answers.total() - self.acknowledged
        self.server.until(lambda: self.answers.total() - self.acknowledged > before + 4)

    def check(self, *allowed: int, said: str) -> None:
        """Nothing acknowledged is lost, nothing refused is stored, and refusals say why."""
        for image, notes in self.stored.items():
            assert self.server.json(item(image))["notes"] == notes, image
        assert {status for status, _ in self.answers} == {200, *allowed}, self.answers
        assert all(re.search(said, why) for status, why in self.answers if status != 200)


def route(path: str, image: str, **more: str) -> str:
    return f"{path}?" + urllib.parse.urlencode({"path": image, **more})


def item(image: str) -> str:
    return route("/item", image)


def edit(server: Server, image: str, **body: Any) -> tuple[int, str]:
    """The status of an edit, and what an error says."""
    status, answer = server.request("PUT", item(image), body)
    return status, "" if status == 200 else told(answer)


def told(answer: bytes) -> str:
    """What an error says: JSON, for a person, and without a path of the server."""
    found = json.loads(answer)
    assert found["title"] and "/tmp" not in found["description"], found
    return str(found["description"])


def tag_all(server: Server, images: list[str], tag: str) -> list[str]:
    """Adds a tag to many images in one request; those that were acknowledged."""
    status, body = server.request("POST", "/items/tags", {"paths": images, "add": [tag]})
    assert status == 200
    results = json.loads(body)["results"]
    refused = [each for each in results if each["status"] != 200]
    assert all(each["status"] == 507 for each in refused), refused
    assert all("No space left" in each["description"] for each in refused), refused
    return [each["path"] for each in results if each["status"] == 200]


def found(server: Server, query: str, images: list[str]) -> None:
    """Search finds these images in time."""
    query = "/search?" + urllib.parse.urlencode({"q": query, "limit": 1000})

    def paths() -> set[str]:
        return {each["path"] for each in server.json(query).get("items", ())}

    server.until(lambda: set(images) <= paths(), SHOWN_SECONDS)


def indexed(server: Server, images: int) -> None:
    """Every image is listed, has its thumbnail and is found."""

    def is_done() -> bool:
        health = server.json("/health")
        counts = (health.get("library") or {}).get("counts", {})
        done = (counts.get("items"), counts.get("thumbnailsMissing")) == (images, 0)
        return done and health["status"] == "ok" and not health["workers"]["backlog"]

    server.until(is_done)
    server.until(lambda: server.json("/search?q=img&limit=1000").get("total") == images)


def is_shown(server: Server, *patterns: str) -> bool:
    """True if `/health` is not well and says all this."""
    health = server.json("/health")
    problems = (health.get("library") or {}).get("problems")
    said = json.dumps([health.get("reasons"), problems], ensure_ascii=False)
    return health.get("status") != "ok" and all(re.search(each, said) for each in patterns)


def shown(server: Server, *patterns: str) -> None:
    """`/health` tells of a condition in time, with what it is, where, and what to do."""
    try:
        server.until(lambda: is_shown(server, *patterns), SHOWN_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"/health lacks {patterns}: {server.json('/health')}") from error


def well(server: Server) -> None:
    """`/health` is well in time, again or for the first time."""
    try:
        server.until(lambda: server.json("/health").get("status") == "ok", SHOWN_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"/health still says {server.json('/health')}") from error


# A disk that is full


def fails(server: Server, path: str) -> None:
    """The index process has tried to write a file, and says that it could not."""
    said = f"{path}: No space left"
    server.until(lambda: said in server.get("/health")[1].decode(), SHOWN_SECONDS)


def refused_for_want_of_room(place: Place, image: str) -> None:
    """An edit on a full disk is refused, and the sidecar is as it was."""
    file = place.disk.folder / f"{image}.json"
    before = file.read_bytes()
    refused = edit(place.server, image, notes="n" * 50_000)
    assert refused == (507, f"{image}.json: No space left on device. Free some space.")
    assert file.read_bytes() == before
    assert place.server.json(item(image))["tags"] == json.loads(before)["tags"]


@pytest.mark.parametrize("place", ["root", "state"][: scale(1, 2)], indirect=True)
def test_a_disk_that_is_full_refuses_and_loses_nothing(place: Place) -> None:
    """Sidecars, manifests, thumbnails, the rollup, its delta and the report find no room."""
    server, solo, acknowledged = place.server, place.edited[0], {}
    folder = solo.rpartition("/")[0]
    rollup = (place.disk.folder / "_rollup.json").read_bytes()
    well(server)
    with place.disk.filled(2):  # enough for a sidecar and a manifest, and not for the report
        assert edit(server, "b/c/img0.jpg", notes="new") == (200, "")
        fails(server, "_health.json")
        shown(server, *FULL)
        place.disk.fill(1)
        acknowledged["second"] = tag_all(server, place.edited, "second")
        shown(server, *FULL)  # the delta has no room either
        place.disk.fill()
        refused_for_want_of_room(place, solo)
        server.request("POST", "/search/rebuild-index")
        if place.root == place.disk.folder:
            (place.root / ".later/img0.jpg").rename(place.root / folder / "img-full.jpg")
        else:
            os.utime(put(place.root / folder / "img-full.jpg", SMALL), (1, 1))
        assert server.get(route("/folders", folder))[0] == 200
        new = f"{folder}/img-full.jpg"
        refused = server.until(
            lambda: (got := server.get(route("/thumb", new)))[0] in (503, 507) and told(got[1])
        )
        assert "no space" in refused.lower()
        assert server.get(route("/file", new)) == (200, SMALL)
        assert torn_files(place.root) + torn_files(place.disk.folder) == []
    well(server)
    said = re.findall(r"(?m)(?:WARNING|INFO)\] (.*)$", server.log.read_text())
    begun, ended = (each for each in said if "o space" in each and "(request" not in each)
    assert ended == f"this is over: {begun}"
    assert server.thumbnail(new, SHOWN_SECONDS)[0] == 200
    server.until(lambda: (place.disk.folder / "_rollup.json").read_bytes() != rollup, SHOWN_SECONDS)
    found(server, "name:img-full", [new])
    for number in range(scale(0, 20)):
        rng = random.Random(number)
        with place.disk.filled(rng.randrange(12)):
            tag, images = f"tag{number}", rng.sample(place.edited, 30)
            acknowledged[tag] = tag_all(server, images, tag)
            server.request("POST", "/search/rebuild-index")
            place.disk.fill()
            refused_for_want_of_room(place, solo)
            shown(server, *FULL)
            assert torn_files(place.root) + torn_files(place.disk.folder) == []
        well(server)
    for tag, images in acknowledged.items():
        assert all(tag in server.json(item(image))["tags"] for image in images), tag
        found(server, f"tag:{tag}", images)
    assert server.json(item("b/c/img0.jpg"))["notes"] == "new"
    place.check()
    count = sum(map(len, acknowledged.values())) + 1
    record("full disk", times=scale(0, 20) + 1, acknowledged=count)


@pytest.mark.parametrize("place", ["root", "state"][: scale(1, 2)], indirect=True)
def test_a_full_cache_of_the_host_stops_nothing_else(place: Place) -> None:
    """Copies for search and previews are there, and nothing that a user made."""
    server, images = place.server, place.edited
    for number in range(scale(1, 15)):
        tag, new = f"cache{number}", f"b/c/img-cache{number}.jpg"
        preview = route("/preview", images[number])
        with place.cache.filled():
            assert tag_all(server, images, tag) == images
            server.request("POST", "/search/rebuild-index")
            os.utime(put(place.root / new, SMALL), (1, 1))
            shown(server, *FULL)
            assert server.thumbnail(new, SHOWN_SECONDS)[0] == 200
            server.until(lambda preview=preview: server.get(preview)[0] != 202)
            status, body = server.get(preview)
            assert (status in (503, 507), "No space left" in told(body)) == (True, True)
            status, body = server.get(f"/search?q=tag:{tag}")
            assert status == 200 or (status in (503, 507) and "No space left" in told(body)), body
        well(server)
        found(server, f"tag:{tag}", images)
        server.until(lambda preview=preview: server.get(preview)[0] == 200, SHOWN_SECONDS)
    place.check()
    record("full cache", times=scale(1, 15), acknowledged=scale(1, 15) * len(images))


# A disk that is away


def test_a_disk_that_is_taken_away_and_brought_back_loses_nothing(place: Place) -> None:
    server, kept = place.server, place.edited[-1]
    before = {"tags": server.json(item(kept))["tags"], "total": server.json("/search?q=img")}
    is_state = place.root != place.disk.folder
    if is_state:
        assert (place.disk.folder / ".lenslet-state").exists()
    well(server)
    files = {name: data for name, data in tree(place.disk.held).items() if "foreign" in name}
    with Writers(server, place.written) as writers:
        for _ in range(scale(1, 20)):
            writers.go_on()
            with place.disk.away():
                shown(server, *(STATE_AWAY if is_state else ROOT_AWAY))
                writers.are_refused()  # what had been opened before may still be written
                acknowledged = writers.acknowledged
                assert server.get(item(kept))[0] == 503
                assert server.get("/folders")[0] == 503
                assert server.get(route("/file", kept))[0] == (200 if is_state else 503)
                body = {"paths": place.edited[:3], "add": ["lost"]}
                results = json.loads(server.request("POST", "/items/tags", body)[1])["results"]
                assert {each["status"] for each in results} == {503}
                threading.Event().wait(scale(0, 3))
                writers.are_refused()
                assert writers.acknowledged == acknowledged
                assert list(place.disk.folder.iterdir()) == []
            well(server)
            assert server.json(item(kept))["tags"] == before["tags"]
            found(server, "tag:first", place.edited)
    writers.check(503, said="mount|is not there")
    now = tree(place.disk.folder)
    assert {name: now.get(name) for name in files} == files, "forgotten or written anew"
    assert server.json("/search?q=img")["total"] == before["total"]["total"]
    place.check()
    fault = "STATE_DIR unmounted" if is_state else "root unmounted"
    record(fault, times=scale(1, 20), acknowledged=writers.acknowledged)


# A disk that cannot be written


def sidecars_in(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {file: file.read_bytes() for file in folder.glob("*.jpg.json")}


@pytest.mark.parametrize("kind", ["read-only", "no permission"])
@pytest.mark.parametrize("place", ["root"], indirect=True)
def test_what_cannot_be_written_for_a_while_loses_nothing(place: Place, kind: str) -> None:
    """The whole root, or the folder of the images that are edited."""
    server, kept, folder = place.server, place.written[0], place.root / "a"
    refusal = {"read-only": "Read-only file system", "no permission": "Permission denied"}[kind]
    well(server)
    with Writers(server, place.written) as writers:
        for _ in range(scale(1, 20)):
            writers.go_on()
            away = place.disk.read_only() if kind == "read-only" else mode(folder, 0o555)
            with away:
                shown(server, *(READ_ONLY if kind == "read-only" else NO_WRITING))
                writers.are_refused()
                acknowledged, files = writers.acknowledged, sidecars_in(folder)
                assert edit(server, kept, notes="never") == (403, f"{kept}.json: {refusal}.")
                if kind == "no permission":
                    assert edit(server, place.edited[0], notes="meanwhile") == (200, "")
                assert server.get("/folders?path=a")[0] == 200
                assert server.json("/search?q=tag:first")["total"] == len(place.edited)
                assert server.get(route("/file", kept)) == (200, SMALL)
                assert server.thumbnail(kept)[0] == 200
                writers.are_refused()
                assert (writers.acknowledged, sidecars_in(folder)) == (acknowledged, files)
            well(server)
    writers.check(403, said=refusal)
    place.check()
    record(kind, times=scale(1, 20), acknowledged=writers.acknowledged)


@pytest.mark.parametrize("place", ["root"], indirect=True)
def test_permission_to_read_is_lost_and_given_back(place: Place) -> None:
    """What was indexed is not forgotten, and a sidecar that cannot be read is not written over."""
    server, root, image = place.server, place.root, place.written[0]
    well(server)
    assert tag_all(server, place.written, "kept") == place.written
    sidecars = sidecars_in(root / "a")
    found(server, "tag:kept", place.written)
    for _ in range(scale(1, 15)):
        with mode(root / "a", 0):
            shown(server, *NO_READING)
            for path in ("/file", "/item", "/thumb"):
                status, body = server.get(route(path, image))
                assert (status, "Permission denied" in told(body)) == (403, True), path
            assert edit(server, image, notes="never")[0] == 403
            assert edit(server, place.edited[0], notes="meanwhile") == (200, "")
        well(server)
        assert "this is over: folder a can be indexed" in server.log.read_text()
        with mode(root / f"{image}.json", 0):
            for method, body in (("GET", None), ("PUT", {"notes": "never"})):
                status, answer = server.request(method, item(image), body)
                assert (status in (403, 409), f"{image}.json" in told(answer)) == (True, True)
        with mode(root / image, 0):
            assert server.get(route("/file", image))[0] == 403
            assert "kept" in server.json(item(image))["tags"]
    assert sidecars_in(root / "a") == sidecars
    found(server, "tag:kept", place.written)
    place.check()
    record("read permission lost", times=scale(1, 15), acknowledged=len(sidecars))


# Names


@pytest.fixture
def careless(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder on a disk that ignores case: exFAT, which a kernel need not know."""
    if not shutil.which("mount.exfat-fuse") and not os.environ.get("CI"):
        pytest.skip("exfat-fuse is not installed")
    image, folder = tmp_path / "disk", tmp_path / "careless"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    device = subprocess.check_output(["losetup", "--find", "--show", image], text=True).strip()
    try:
        subprocess.run(["mount.exfat-fuse", device, folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        subprocess.run(["losetup", "-d", device], check=True)


def test_a_name_in_another_case_does_not_exist_on_a_disk_that_ignores_case(
    serve: Any, careless: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name in ("private/x.jpg", "Show/x.jpg", "Show/secret-1.jpg"):
        put(careless / name)
    assert (careless / "PRIVATE/X.jpg").exists()
    state = {"STATE_DIR": str(tmp_path / "state")}
    server = serve(careless, IGNORE="private,secret-*", **state)
    server.until(lambda: server.json("/folders?path=Show").get("items"))
    for route in ("folders?path=", "files/", "folders?path=Show/../"):
        for name in ("private", "Private", "PRIVATE/", "show", "Show/../private"):
            assert server.get(f"/{route}{name}")[0] in (400, 404)
    for name in ("Private/x.jpg", "Show/Secret-1.jpg", "Show/X.jpg", "show/x.jpg"):
        for route in ("file?path=", "files/", "item?path=", "thumb?path=", "preview?path="):
            assert server.get(f"/{route}{name}")[0] == 404, (route, name)
        assert server.request("PUT", f"/item?path={name}", {"tags": ["x"]})[0] == 404
    assert server.get("/file?path=Show/x.jpg")[0] == 200
    assert server.request("PUT", "/item?path=Show/x.jpg", {"tags": ["x"]})[0] == 200
