"""Photos are renamed, edited, tagged and untagged while guests ask for everything that is there."""

from __future__ import annotations

import io
import itertools
import json
import pathlib
import random
import threading
import time
import urllib.parse
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server, encode, exif
from PIL import Image
from scale import record, scale

pytestmark = pytest.mark.slow
TOKEN, SEED, PHOTOS = "full-token-1234", 38, 24
WRITER = {"Authorization": f"Bearer {TOKEN}"}
GREEN, RED, BLUE = (30, 160, 60), (220, 30, 30), (30, 60, 220)  # shown; never; while it is tagged
MONTHS = {GREEN: "01", RED: "03", BLUE: "05"}  # in which they were taken, each on a day of its own
PICTURES = ("/file?path=", "/files/", "/thumb?path=", "/preview?path=")
LISTS = ("/search?path=", "/timeline?path=", "/feed?path=", "/folders?path=", "/zip?path=")


def photo(day: int, colour: tuple[int, int, int]) -> bytes:
    """A photo of one colour and of its own day: so no sidecar is taken for another's."""
    when = exif(DateTimeOriginal=f"2024:{MONTHS[colour]}:{day:02} 12:00:00")
    return encode(Image.new("RGB", (400, 300), colour), exif=when)


def shows(body: bytes, colour: tuple[int, int, int]) -> bool:
    """True if an answer has a photo of this colour, or its date."""
    if body.startswith(b"PK"):
        archive = zipfile.ZipFile(io.BytesIO(body))
        return any(shows(archive.read(name), colour) for name in archive.namelist())
    if body.startswith((b"{", b"<")):
        return f"2024-{MONTHS[colour]}".encode() in body
    pixel = Image.open(io.BytesIO(body)).convert("RGB").getpixel((5, 5))
    return max(range(3), key=pixel.__getitem__) == max(range(3), key=colour.__getitem__)  # type: ignore[index, union-attr]


class Changes(threading.Thread):
    """Swaps two photos by renaming them, and tags and edits those that are green."""

    def __init__(self, server: Server, names: list[pathlib.Path], stop: threading.Event) -> None:
        super().__init__()
        self.count = 0
        self._server, self._names, self._stopped = server, names, stop
        self._random = random.Random(SEED)

    def run(self) -> None:
        while not self._stopped.wait(0.02):
            one, other = self._random.sample(self._names, 2)
            aside = one.with_name(f"aside{self.count}.tmp")
            one.rename(aside)
            other.rename(one)
            aside.rename(other)
            if self.count % 20 == 0:
                shown = [each for each in self._names if shows(each.read_bytes(), GREEN)]
                path = f"/item?path={self._random.choice(shown).name}"
                edit = {"tags": ["show"], "notes": str(self.count)}
                self._server.request("PUT", path, edit, **WRITER)
            self.count += 1


class Tagging(threading.Thread):
    """Tags and untags the blue photo; `hidden` counts from when it is untagged, 0 while it is not."""

    def __init__(self, server: Server, stop: threading.Event) -> None:
        super().__init__()
        self.hidden = self.count = 0
        self._server, self._stopped = server, stop

    def run(self) -> None:
        while not self._stopped.is_set():
            self._tag([])
            self.count += 1
            self.hidden = self.count
            self._stopped.wait(1)
            self.hidden = 0
            self._tag(["show"])

    def _tag(self, tags: list[str]) -> None:
        """Returns when the manifest says so: from then on it counts."""
        self._server.request("PUT", "/item?path=blue.jpg", {"tags": tags}, **WRITER)
        while not self._stopped.wait(0.05):
            answer = json.loads(self._server.get("/folders?path=", **WRITER)[1] or b"{}")
            items = {item["name"]: item for item in answer.get("items", ())}
            if "blue.jpg" in items and items["blue.jpg"].get("tags", []) == tags:
                return


class Guest(threading.Thread):
    """Asks for random things with a link; `leaks` are the answers that had what is not shown."""

    def __init__(self, server: Server, secret: str, names: list[str], tagging: Tagging) -> None:
        super().__init__()
        self.answers, self.leaks, self.blue = dict[int, int](), list[str](), 0
        self._server, self._names, self._tagging = server, names, tagging
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._random = random.Random(secret)
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            name = self._random.choice((*self._names, "blue.jpg", "blue.jpg"))
            pictures = [f"{each}{name}" for each in PICTURES]
            route = self._random.choice((*pictures * 5, f"/item?path={name}", *LISTS))
            hidden = self._tagging.hidden
            status, body = self._server.get(route, **self._headers)
            self.answers[status] = self.answers.get(status, 0) + 1
            if status != 200:
                continue
            is_blue = shows(body, BLUE)
            self.blue += is_blue
            if shows(body, RED) or (is_blue and hidden and hidden == self._tagging.hidden):
                self.leaks.append(f"{route}: {body[:200]!r}")


def test_no_photo_is_sent_that_a_link_does_not_show_while_all_change_places(
    serve: Callable[..., Server], root: pathlib.Path
) -> None:
    files = [root / f"{number:02}.jpg" for number in range(2 * PHOTOS)]
    for number, file in enumerate(files):
        file.write_bytes(photo(1 + number % PHOTOS, GREEN if number < PHOTOS else RED))
    (root / "blue.jpg").write_bytes(photo(1, BLUE))
    server = serve(root, API_TOKEN=TOKEN, WEB_CONCURRENCY="2", THUMB_WAIT="0", IMG_WAIT="0")

    def are_read() -> bool:
        items = json.loads(server.get("/folders?path=", **WRITER)[1]).get("items", ())
        return len(items) == len(files) + 1 and all("hash" in item for item in items)

    server.until(are_read)
    shown = [file.name for file in files[:PHOTOS]]
    for name in shown:
        assert server.request("PUT", f"/item?path={name}", {"tags": ["show"]}, **WRITER)[0] == 200
    found = lambda: json.loads(server.get("/search?q=tag:show", **WRITER)[1]).get("total")  # noqa: E731
    server.until(lambda: found() == PHOTOS)
    bodies: tuple[dict[str, Any], ...] = ({"q": "tag:show"}, {"paths": shown}, {"path": shown[0]})
    stop, guests = threading.Event(), list[Guest]()
    changes, tagging = Changes(server, files, stop), Tagging(server, stop)
    for body in bodies:
        status, answer = server.request("POST", "/links", {**body, "download": True}, **WRITER)
        assert status == 201, answer
        fragment = urllib.parse.urlsplit(json.loads(answer)["url"]).fragment
        names = [file.name for file in files]
        guests.append(Guest(server, fragment.removeprefix("secret="), names, tagging))
    began = time.monotonic()
    for thread in (changes, tagging, *guests):
        thread.start()
    asked = lambda: sum(sum([*each.answers.values()]) for each in guests)  # noqa: E731
    try:
        server.until(lambda: asked() >= scale(3000, 10_000) and tagging.count > 3, 300)
    finally:
        for each in guests:
            each.stop.set()
        stop.set()
        for thread in (changes, tagging, *guests):
            thread.join()
    done = {"asked": asked(), "swaps": changes.count, "hidden": tagging.count}
    record("photos change places under guests", **done, seconds=time.monotonic() - began)
    answers = [each.answers for each in guests]
    assert list(itertools.chain(*(each.leaks for each in guests))) == []
    assert guests[0].blue and not any(each.blue for each in guests[1:])
    assert all(each.get(404, 0) > 0 for each in answers), answers
    assert all(each.get(200, 0) > 0 for each in answers[:2]), answers  # one photo is mostly away
    assert all(set(each) <= {0, 200, 202, 403, 404, 503} for each in answers), answers
