"""Two services at once, on roots that are equal, nested or apart, with and without `STATE_DIR`."""

from __future__ import annotations

import itertools
import json
import pathlib
import random
import threading
from collections.abc import Callable

import pytest
from conftest import Server, draw, encode, put
from scale import record, scale

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]
WITHIN_SECONDS = 60.0
OTHERS = "_index.json is written by another service"
CONTESTED = "Folders that cannot be indexed"


def picture(number: int) -> bytes:
    return encode(draw(32, 24, seed=number % 80), "JPEG", comment=str(number).encode())


def reads(server: Server) -> int:
    return int(server.json("/health/workers").get("imagesRead", 0))


def rest(*servers: Server) -> None:
    """Waits until nothing is read for as long as some scans take."""

    def are_still() -> bool:
        before = [reads(server) for server in servers]
        threading.Event().wait(4)
        return before == [reads(server) for server in servers]

    servers[0].until(are_still, WITHIN_SECONDS)


def test_services_on_nested_roots_leave_each_others_manifests_alone(
    serve: Serve, root: pathlib.Path
) -> None:
    """Neither reads in circles; the one that gives way says in health and answers what to do."""
    for number in range(20):
        put(root / f"2024/x/{number}.jpg", picture(number))
        put(root / f"2024/{number}.jpg", picture(20 + number))
    outer, inner = (serve(folder, SCAN_SECONDS="1") for folder in (root, root / "2024"))
    rest(outer, inner)
    before = reads(outer) + reads(inner)
    assert before <= 4 * 40
    assert inner.request("PUT", "/item?path=x/1.jpg", {"notes": "mine"})[0] == 200
    assert outer.json("/item?path=2024/x/1.jpg")["notes"] == "mine"
    threading.Event().wait(10)
    assert reads(outer) + reads(inner) == before
    both = {outer: "2024/", inner: ""}
    for place in ("", "x"):
        folders = [(server, f"{above}{place}".rstrip("/")) for server, above in both.items()]
        answers = [server.get(f"/folders?path={path}") for server, path in folders]
        assert sorted(status for status, _ in answers) == [200, 409]
        for (server, path), (status, body) in zip(folders, answers, strict=True):
            if status == 409:
                said = f"{path}/{OTHERS}, whose root is another folder: set STATE_DIR for one."
                assert said.lstrip("/") in body.decode()
                assert said.lstrip("/") in server.get("/health")[1].decode()
                assert server.json("/health")["status"] == "degraded"


@pytest.mark.parametrize("apart", [False, True], ids=["beside", "STATE_DIR"])
@pytest.mark.parametrize("kind", ["equal", "nested", "apart"])
def test_two_services_lose_no_note_and_come_to_rest(
    serve: Serve, root: pathlib.Path, tmp_path: pathlib.Path, kind: str, apart: bool
) -> None:
    """Random steps of people and other programs; then what is shown is right, or health says not.

    Only one of the services has a `STATE_DIR`.
    """
    steps, rng = scale(40, 1_700), random.Random(f"{kind} {apart}")
    folder = {"equal": root, "nested": root / "in", "apart": tmp_path / "other"}[kind]
    numbers = iter(range(100_000))
    for where in (root, folder):
        put(where / "a/first.jpg", picture(next(numbers)))
    state = {"STATE_DIR": str(tmp_path / "state")} if apart else {}
    services = [(serve(root, SCAN_SECONDS="1"), root)]
    services.append((serve(folder, SCAN_SECONDS="1", **state), folder))
    notes: dict[bytes, str] = {}  # by what is in the file of the photo

    def photos() -> list[pathlib.Path]:
        return sorted(each for top in {root, folder} for each in top.rglob("*.jpg"))

    def add() -> None:
        where = rng.choice([root, folder])
        put(where / rng.choice("ab") / f"{next(numbers)}.jpg", picture(next(numbers)))

    def move() -> None:
        photo = rng.choice(photos())
        photo.rename(photo.with_name(f"{next(numbers)}.jpg"))

    def edit() -> None:
        server, top = rng.choice(services)
        photo = rng.choice([each for each in photos() if each.is_relative_to(top)])
        path, note = photo.relative_to(top), f"note {next(numbers)}"
        if server.request("PUT", f"/item?path={path}", {"notes": note})[0] == 200:
            notes[photo.read_bytes()] = note

    def view() -> None:
        server, _ = rng.choice(services)
        server.get(rng.choice(("/folders?path=a", "/search?q=note", "/folders?path=in/b")))

    for _ in range(steps):
        rng.choices((add, move, edit, view), (3, 1, 4, 4))[0]()
    rest(*(server for server, _ in services))
    before = [reads(server) for server, _ in services]
    threading.Event().wait(5)
    assert [reads(server) for server, _ in services] == before
    reports = [server.json("/health") for server, _ in services]
    told = [reason for report in reports for reason in report["reasons"]]
    assert {each.partition(":")[0] for each in told} <= {CONTESTED}, told
    assert any(CONTESTED in each for each in told) == (kind == "nested" and not apart)
    sidecars = {top: list(top.rglob("*.jpg.json")) for top in (root, folder, tmp_path / "state")}
    kept = [json.loads(each.read_bytes())["notes"] for found in sidecars.values() for each in found]
    assert set(notes.values()) <= set(kept)
    shown = set()
    for photo, (server, top) in itertools.product(photos(), services):
        if photo.is_relative_to(top) and photo.read_bytes() in notes:
            shown.add(server.json(f"/item?path={photo.relative_to(top)}")["notes"])
    # A renamed photo that is edited before its sidecar has followed it keeps both.
    noted = {each["kind"] for report in reports for each in report["problems"]}
    assert set(notes.values()) <= shown or "orphanSidecars" in noted
    record(f"two services, {kind}", steps=steps, photos=len(photos()), reads=sum(before))
