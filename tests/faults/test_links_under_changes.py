"""Photos are renamed, swapped and tagged while guests ask for everything that is there."""

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
GREEN, RED = (30, 160, 60), (220, 30, 30)  # may be shown, and never


def photo(number: int, colour: tuple[int, int, int]) -> bytes:
    """A photo of one colour, of a day of its own: so no sidecar is taken for another's."""
    day = exif(DateTimeOriginal=f"2024:{1 + number // 28:02}:{1 + number % 28:02} 12:00:00")
    return encode(Image.new("RGB", (400, 300), colour), exif=day)


def is_red(data: bytes) -> bool:
    red, green, _ = Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    return bool(red > green)


class Changes(threading.Thread):
    """Swaps two photos, renames one and back, and takes tags away and gives them again."""

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
                shown = [each for each in self._names if not is_red(each.read_bytes())]
                path = f"/item?path={self._random.choice(shown).name}"
                self._server.request("PUT", path, {"tags": ["show"]}, **WRITER)
            self.count += 1


class Guest(threading.Thread):
    """Asks for random files with a link; `leaks` are the answers that had a red photo."""

    def __init__(
        self, server: Server, secret: str, names: list[str], stop: threading.Event
    ) -> None:
        super().__init__()
        self.answers, self.leaks = dict[int, int](), list[str]()
        self._server, self._names, self._stopped = server, names, stop
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._random = random.Random(secret)

    def run(self) -> None:
        while not self._stopped.is_set():
            name = self._random.choice(self._names)
            routes = ("/file?path=", "/files/", "/thumb?path=", "/preview?path=")
            route = self._random.choice([f"{each}{name}" for each in routes] * 5 + ["/zip?path="])
            status, body = self._server.get(route, **self._headers)
            self.answers[status] = self.answers.get(status, 0) + 1
            if status != 200:
                continue
            sent = [body]
            if route.startswith("/zip"):
                archive = zipfile.ZipFile(io.BytesIO(body))
                sent = [archive.read(each) for each in archive.namelist()]
            self.leaks += [route for each in sent if is_red(each)]


def test_no_photo_is_sent_that_a_link_does_not_show_while_all_change_places(
    serve: Callable[..., Server], root: pathlib.Path
) -> None:
    files = [root / f"{number:02}.jpg" for number in range(2 * PHOTOS)]
    for number, file in enumerate(files):
        file.write_bytes(photo(number, GREEN if number < PHOTOS else RED))
    server = serve(root, API_TOKEN=TOKEN, WEB_CONCURRENCY="2", THUMB_WAIT="0", IMG_WAIT="0")

    def are_read() -> bool:
        items = json.loads(server.get("/folders?path=", **WRITER)[1]).get("items", ())
        return len(items) == len(files) and all("hash" in item for item in items)

    server.until(are_read)
    shown = [file.name for file in files[:PHOTOS]]
    for name in shown:
        assert server.request("PUT", f"/item?path={name}", {"tags": ["show"]}, **WRITER)[0] == 200
    found = lambda: json.loads(server.get("/search?q=tag:show", **WRITER)[1]).get("total")  # noqa: E731
    server.until(lambda: found() == PHOTOS)
    bodies: tuple[dict[str, Any], ...] = ({"q": "tag:show"}, {"paths": shown}, {"path": shown[0]})
    stop, guests = threading.Event(), list[Guest]()
    for body in bodies:
        status, answer = server.request("POST", "/links", {**body, "download": True}, **WRITER)
        assert status == 201, answer
        fragment = urllib.parse.urlsplit(json.loads(answer)["url"]).fragment
        names = [file.name for file in files]
        guests.append(Guest(server, fragment.removeprefix("secret="), names, stop))
    changes = Changes(server, files, stop)
    began = time.monotonic()
    for thread in (changes, *guests):
        thread.start()
    stop.wait(scale(10, 120))
    stop.set()
    for thread in (changes, *guests):
        thread.join()
    answers = [each.answers for each in guests]
    asked, seconds = sum(sum(each.values()) for each in answers), time.monotonic() - began
    record("photos change places under guests", swaps=changes.count, asked=asked, seconds=seconds)
    assert list(itertools.chain(*(each.leaks for each in guests))) == []
    assert all(each.get(200, 0) > 0 and each.get(404, 0) > 0 for each in answers), answers
    assert all(set(each) <= {0, 200, 202, 404, 503} for each in answers), answers
