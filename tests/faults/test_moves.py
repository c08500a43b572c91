"""The index process is killed while it moves sidecars after their photos."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Server, draw, encode, put
from scale import record, scale

pytestmark = pytest.mark.slow
WITHIN_SECONDS = 60.0


def noted(server: Server, folder: str) -> dict[str, str]:
    """The notes of a folder's photos, from all pages of its manifest."""
    found: dict[str, str] = {}
    pages = server.json(f"/folders?path={folder}").get("pageCount", 1)
    for page in range(pages):
        for item in server.json(f"/folders?path={folder}&page={page}").get("items", []):
            found[item["name"]] = item.get("notes", "")
    return found


@pytest.mark.parametrize("apart", [True, False])
def test_all_notes_follow_a_renamed_folder_while_the_index_process_is_killed(
    serve: Any, root: pathlib.Path, tmp_path: pathlib.Path, apart: bool
) -> None:
    """With `STATE_DIR` the folder is renamed; without it, only the photos go to another one."""
    count, kills, rng = scale(250, 10_000), scale(3, 10), random.Random(4)
    names = [f"{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        image = encode(draw(32, 24, seed=number % 80), "JPEG", comment=str(number).encode())
        os.utime(put(root / "2024" / name, image), (1, 1))
    put(root / "other/x.jpg")
    state = {"STATE_DIR": str(tmp_path / "state")} if apart else {}
    server = serve(root, SCAN_SECONDS="2", **state)
    server.until(lambda: server.json("/health/workers").get("backlog") == 0)

    def edit(name: str) -> bool:
        return server.request("PUT", f"/item?path=2024/{name}", {"notes": f"of {name}"})[0] == 200

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(edit, names))
    wanted = {name: f"of {name}" for name in names}
    server.until(lambda: noted(server, "2024") == wanted, WITHIN_SECONDS)
    if apart:
        (root / "2024").rename(root / "Summer")
    else:
        (root / "Summer").mkdir()
        for name in names:
            (root / "2024" / name).rename(root / "Summer" / name)
    for _ in range(kills):
        threading.Event().wait(rng.uniform(0.3, 3.0))
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(server.index_pid(), signal.SIGKILL)
    begun = time.monotonic()
    server.until(lambda: noted(server, "Summer") == wanted, WITHIN_SECONDS)
    took = time.monotonic() - begun
    sidecars = tmp_path / "state/Summer" if apart else root / "Summer"
    stored = {
        path.name.removesuffix(".json"): json.loads(path.read_bytes())["notes"]
        for path in sidecars.glob("*.jpg.json")
    }
    assert stored == wanted
    server.until(lambda: server.json("/health")["status"] == "ok", 30)
    assert "Traceback" not in server.log.read_text()
    moves = server.log.read_text().count("moved after its photo")
    assert count - 5 * kills <= moves <= count  # a kill may come before the line
    record("kill -9 while notes move", kills=kills, photos=count, seconds=round(took, 1))
