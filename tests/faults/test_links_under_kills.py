"""Processes are killed while links are made and taken back."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server, put
from scale import record, scale

pytestmark = pytest.mark.slow
TOKEN, SEED = "full-token-1234", 25
WRITER = {"Authorization": f"Bearer {TOKEN}"}


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


def test_kills_lose_no_link_and_bring_none_back(
    serve: Callable[..., Server], root: pathlib.Path
) -> None:
    put(root / "shared/a.jpg")
    put(root / "private/zebra.jpg")
    server = serve(root, API_TOKEN=TOKEN)
    server.until(lambda: server.get("/folders?path=shared", **WRITER)[0] == 200)
    stop, chance = threading.Event(), random.Random(SEED)
    owners = [Owner(server, stop, number) for number in range(3)]
    for owner in owners:
        owner.start()
    for _ in range(scale(10, 60)):
        stop.wait(0.4)
        os.kill(chance.choice(sorted(server.workers())), signal.SIGKILL)
    stop.set()
    for owner in owners:
        owner.join()
    assert [each for owner in owners for each in owner.odd] == []

    def answer(secret: str, path: str = "shared") -> int:
        bearer = {"Authorization": f"Bearer {secret}"}
        return int(server.until(lambda: server.get(f"/folders?path={path}", **bearer)[0]))

    valid = [secret for owner in owners for secret in owner.valid.values()]
    ended = [secret for owner in owners for secret in owner.ended]
    assert valid and {answer(secret) for secret in valid} == {200}
    assert ended and {answer(secret) for secret in ended} == {401}
    assert answer(valid[0], "private") == 404
    record("links under kill -9", made=len(valid) + len(ended), taken_back=len(ended))
