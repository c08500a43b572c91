"""The wall clock set back and forth while real gunicorn serves; the machine's own is left alone.

libfaketime shows the service another time of day. The times of files, and the monotonic clock, stay
right, as with a library on another machine.
"""

from __future__ import annotations

import datetime as dt
import glob
import json
import os
import pathlib
import random
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Server, jpeg, put
from scale import record, scale
from test_disks import Writers

pytestmark = pytest.mark.slow
SOON = 5.0  # seconds until an edit is found and a new file is listed
DAY = 86_400
YEARS = 3_652 * DAY
FUTURE = dt.timedelta(minutes=5)
LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")

if not LIBRARIES and not os.environ.get("CI"):
    pytest.skip("libfaketime is not installed", allow_module_level=True)


# libfaketime 0.9.10 refuses the system call of `time.sleep` if the monotonic clock is left alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class WallClock:
    """What time of day a service believes it is: the machine's, plus some seconds."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._file = folder / "offset"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SLEEP)
        self.set(0)

    def set(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)

    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": f"{self._folder}:{os.environ.get('PYTHONPATH', '')}",
        }


@dataclass
class Clocked:
    """A service and the clock that it sees."""

    server: Server
    root: pathlib.Path
    clock: WallClock

    def get(self, image: str) -> dict[str, Any]:
        status, body = self.server.get(item(image))
        assert status == 200, body
        return dict(json.loads(body))

    def edit(self, image: str, **body: Any) -> dict[str, Any]:
        """Stores an edit; what is stored then."""
        status, answer = self.server.request("PUT", item(image), body)
        assert status == 200, answer
        return dict(json.loads(answer))

    def found(self, query: str, image: str) -> None:
        """Search finds an image in time."""
        query = "/search?" + urllib.parse.urlencode({"q": query})
        self.server.until(lambda: image in str(self.server.json(query).get("items")), SOON)

    def listed(self, folder: str, wanted: set[str]) -> None:
        """The manifest is as the folder is, in time."""

        def names() -> set[str]:
            items = self.server.json(f"/folders?path={folder}")["items"]
            return {each["name"] for each in items}

        self.server.until(lambda: names() == wanted, SOON)


def item(image: str) -> str:
    return "/item?" + urllib.parse.urlencode({"path": image})


def real_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def text(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def updated(document: dict[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(document["updatedAt"])


@pytest.fixture(scope="module")
def clocked(tmp_path_factory) -> Iterator[Clocked]:
    home = tmp_path_factory.mktemp("clocked")
    root, clock = home / "photos", WallClock(home / "clock")
    for number in range(40):
        os.utime(put(root / f"a/img{number}.jpg", jpeg(32, 24)), (1, 1))
    server = Server(root, home, SCAN_SECONDS="2", **clock.environ())
    try:
        server.until(lambda: server.json("/search?q=img").get("total") == 40)
        server.until(lambda: server.json("/health").get("status") == "ok")
        yield Clocked(server, root, clock)
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def right_clock(clocked: Clocked) -> Iterator[None]:
    yield
    clocked.clock.set(0)


@pytest.mark.parametrize("ahead", [10 * 60, YEARS], ids=["minutes", "years"])
def test_a_sidecar_from_a_wrong_clock_swallows_no_later_edit(clocked: Clocked, ahead: int) -> None:
    image = "a/img1.jpg"
    clocked.server.request("DELETE", item(image))
    clocked.clock.set(ahead)
    stored = clocked.edit(image, notes="from the future", tags=["future"])
    assert (stored["notes"], stored["tags"]) == ("from the future", ["future"])
    assert abs(updated(stored) - real_now() - dt.timedelta(seconds=ahead)) < dt.timedelta(minutes=1)
    clocked.clock.set(0)
    assert clocked.get(image)["notes"] == "from the future"
    now = text(real_now())
    stored = clocked.edit(image, notes="dated", updatedAt=now)
    assert (stored["notes"], stored["updatedAt"]) == ("dated", now)
    stored = clocked.edit(image, notes="late", tags=["late"], updatedAt="2001-01-01T00:00:00Z")
    assert (stored["notes"], set(stored["tags"])) == ("dated", {"future", "late"})
    clocked.clock.set(ahead)
    clocked.edit(image, notes="from the future again")
    clocked.clock.set(0)
    stored = clocked.edit(image, notes="undated")
    assert stored["notes"] == "undated" and updated(stored) <= real_now() + FUTURE
    later = text(real_now() + dt.timedelta(seconds=1))
    assert clocked.edit(image, notes="dated later", updatedAt=later)["notes"] == "dated later"
    clocked.found('notes:"dated later"', image)


def test_with_the_clock_years_behind_nothing_is_lost(clocked: Clocked) -> None:
    image = "a/img3.jpg"
    assert clocked.edit(image, notes="of today", tags=["kept"])["notes"] == "of today"
    clocked.clock.set(-YEARS)
    assert clocked.get(image)["notes"] == "of today"
    old = {"notes": "of 2001", "tags": ["old"], "updatedAt": "2001-01-01T00:00:00Z"}
    stored = clocked.edit(image, **old)  # what is of today is not taken for one from the future
    assert (stored["notes"], set(stored["tags"])) == ("of today", {"kept", "old"})
    stored = clocked.edit(image, notes="behind")
    assert (stored["notes"], set(stored["tags"])) == ("behind", {"kept", "old"})
    status, body = clocked.server.request(
        "PUT", item(image), {"notes": "dated", "updatedAt": text(real_now())}
    )
    assert (status, json.loads(body)["description"].partition(":")[0]) == (422, "updatedAt")
    clocked.found('notes:"behind"', image)
    clocked.clock.set(0)
    assert clocked.get(image)["notes"] == "behind"
    later = text(real_now() + dt.timedelta(seconds=1))
    assert clocked.edit(image, notes="dated", updatedAt=later)["notes"] == "dated"
    clocked.found('notes:"dated"', image)


def test_edits_and_changes_of_folders_hold_while_the_clock_jumps(clocked: Clocked) -> None:
    """Writers write all the while; every answer is 200, and what it stored is there in the end."""
    offsets = [YEARS, -YEARS, 400 * DAY, -400 * DAY, 2 * DAY, -2 * DAY, 3_700, -3_700, 400, -400]
    rng, steps, names = random.Random(13), scale(4, 80), set[str]()
    with Writers(clocked.server, [f"a/img{number}.jpg" for number in range(10, 30)]) as writers:
        for step in range(steps):
            clocked.clock.set(offsets[step] if step < 2 else rng.choice([*offsets, 0]))
            change(clocked.root / "b", names, step, rng)
            if step == 0:
                clocked.server.until(lambda: clocked.server.get("/folders?path=b")[0] == 200)
            clocked.listed("b", names)
            tag = f"step{step}"
            clocked.edit("a/img5.jpg", tags=[tag])
            clocked.found(f"tag:{tag}", "a/img5.jpg")
            assert clocked.server.thumbnail(f"b/new{step}.jpg", 10)[0] == 200
    clocked.clock.set(0)
    writers.check(said="none is refused")
    clocked.server.until(lambda: clocked.server.json("/health")["status"] == "ok", 10)
    last = max(writers.stored, key=lambda image: int(re.sub(r"\D", "", writers.stored[image]) or 0))
    clocked.found(f'notes:"{writers.stored[last]}"', last)
    record("clock set back and forth", times=steps, acknowledged=writers.acknowledged + steps)


def test_a_clock_that_is_ahead_for_a_while_takes_no_link_back(tmp_path: pathlib.Path) -> None:
    root, clock = tmp_path / "photos", WallClock(tmp_path / "clock")
    put(root / "a.jpg")
    server = Server(root, tmp_path, API_TOKEN="full-token-1234", **clock.environ())
    owner = {"Authorization": "Bearer full-token-1234"}

    def link() -> str:
        made = json.loads(server.request("POST", "/links", {"path": ""}, **owner)[1])
        return str(made["url"].partition("#secret=")[2])

    def opens(secret: str) -> int:
        return server.get("/search?path=", Authorization=f"Bearer {secret}")[0]

    try:
        before = link()
        clock.set(400 * DAY)
        server.until(lambda: opens(before) == 401, SOON)
        meanwhile = link()
        clock.set(0)
        server.until(lambda: opens(before) == 200, SOON)
        assert opens(meanwhile) == 200
    finally:
        server.stop()


def change(folder: pathlib.Path, names: set[str], step: int, rng: random.Random) -> None:
    """Adds an image to a folder and, now and then, takes one away; `names` are those left."""
    put(folder / f"new{step}.jpg", jpeg(32, 24, seed=step))
    names.add(f"new{step}.jpg")
    if step % 2:
        gone = rng.choice(sorted(names - {f"new{step}.jpg"}))
        (folder / gone).unlink()
        names.remove(gone)
