"""Processes are killed while links are made, used and taken back, and while archives are sent."""

from __future__ import annotations

import io
import json
import os
import pathlib
import random
import signal
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server, jpeg, put
from scale import record, scale

pytestmark = pytest.mark.slow
TOKEN, SEED = "full-token-1234", 25
WRITER = {"Authorization": f"Bearer {TOKEN}"}
FILES = 6


class Owner(threading.Thread):
    """Makes links and takes some back; `valid` and `ended` are the secrets of what was answered."""

    def __init__(self, server: Server, stop: threading.Event, number: int) -> None:
        super().__init__()
        self.valid: dict[str, str] = {}  # secrets by id
        self.ended: list[str] = []
        self.odd: list[Any] = []
        self._server, self._stopped = server, stop
        self._random = random.Random(SEED + number)

    def run(self) -> None:
        while not self._stopped.is_set():
            if len(self.valid) > 3 and self._random.random() < 0.5:
                self._take_back()
            else:
                self._make()

    def _make(self) -> None:
        status, body = self._server.request("POST", "/links", {"path": "shared"}, **WRITER)
        if status == 201:
            link = json.loads(body)
            self.valid[link["id"]] = link["url"].partition("#secret=")[2]
        elif status not in (0, 503):
            self.odd.append((status, body))

    def _take_back(self) -> None:
        chosen = self._random.choice(list(self.valid))
        secret = self.valid.pop(chosen)  # without an answer, it may have ended or not
        status, body = self._server.request("DELETE", f"/links/{chosen}", **WRITER)
        if status in (204, 404):  # 404: an answer before was lost
            self.ended.append(secret)
        elif status not in (0, 503):
            self.odd.append((status, body))


class Guest(threading.Thread):
    """Downloads the shared folder; counts archives that are whole, and those that were cut off."""

    def __init__(self, server: Server, stop: threading.Event, secret: str) -> None:
        super().__init__()
        self.whole = self.cut = 0
        self.odd: list[Any] = []
        self._server, self._stopped, self._secret = server, stop, secret

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._secret}"}
        while not self._stopped.is_set():
            status, body = self._server.get("/zip?path=shared", **headers)
            if status == 200 and self._is_whole(body):
                self.whole += 1
            elif status in (0, 503):
                self.cut += 1
            else:
                self.odd.append((status, body[:200]))

    def _is_whole(self, body: bytes) -> bool:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return len(archive.namelist()) == FILES and archive.testzip() is None


def test_kills_lose_no_link_bring_none_back_and_make_no_archive_look_whole(
    serve: Callable[..., Server], root: pathlib.Path
) -> None:
    for number in range(FILES):
        put(root / f"shared/{number}.jpg", jpeg(seed=number) + bytes(300_000))
        os.utime(root / f"shared/{number}.jpg", (1, 1))
    put(root / "private/zebra.jpg")
    server = serve(root, API_TOKEN=TOKEN)
    server.until(lambda: server.get("/zip?path=shared", **WRITER)[0] == 200)
    _, body = server.request("POST", "/links", {"path": "shared", "download": True}, **WRITER)
    lasting = json.loads(body)
    stop, chance = threading.Event(), random.Random(SEED)
    owners = [Owner(server, stop, number) for number in range(3)]
    guest = Guest(server, stop, lasting["url"].partition("#secret=")[2])
    for thread in (*owners, guest):
        thread.start()
    kills = scale(10, 60)
    for _ in range(kills):
        stop.wait(0.4)
        os.kill(chance.choice(sorted(server.workers())), signal.SIGKILL)
    stop.set()
    for thread in (*owners, guest):
        thread.join()
    assert [each for thread in (*owners, guest) for each in thread.odd] == []
    server.until(lambda: server.get("/folders?path=shared", **WRITER)[0] == 200)

    def answer(secret: str) -> int:
        return server.until(lambda: server.get("/folders?path=shared", Authorization=f"Bearer {secret}")[0])  # fmt: skip

    valid = [secret for owner in owners for secret in owner.valid.values()]
    ended = [secret for owner in owners for secret in owner.ended]
    assert {answer(secret) for secret in valid} <= {200}
    assert {answer(secret) for secret in ended} <= {401}
    assert valid and ended and guest.whole and server.get("/folders?path=private", Authorization=f"Bearer {valid[0]}")[0] == 404  # fmt: skip
    record("links under kill -9", kills=kills, made=len(valid) + len(ended), taken_back=len(ended), archives=guest.whole, cut_off=guest.cut)  # fmt: skip
