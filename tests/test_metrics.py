"""Counts of all processes, ids of requests, and logs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from conftest import BROKEN_JPEG, Server, jpeg, put
from prometheus_client.parser import text_string_to_metric_families
from webtest import TestApp

from lenslet.run.parts import PARTS
from lenslet.storage.local import LocalTree
from lenslet.web.app import create_app

Serve = Callable[..., Server]


class Broken(LocalTree):
    """A tree with a defect."""

    def stat(self, path):
        raise RuntimeError("broken")


def counts(server: Server) -> dict[tuple[str, ...], float]:
    """Every sample by its name and labels, as Prometheus's own parser reads them."""
    text = server.get("/metrics")[1].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_of_all_processes_are_counted_also_after_one_died(serve: Serve, root) -> None:
    put(root / "a.jpg")
    server = serve(root)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(server.get, ["/folders", "/api/item?path=none.jpg"] * 100))
    for pid in server.workers() - {server.index_pid()}:
        os.kill(pid, signal.SIGKILL)
    server.until(lambda: server.get("/health/live")[0] == 200)
    found = counts(server)
    folders = (("lenslet_requests_total", "/folders", name) for name in ("2xx", "3xx"))
    assert sum(found.get(each, 0) for each in folders) == 100
    assert found["lenslet_requests_total", "/item", "4xx"] == 100


def test_images_and_the_library_are_counted(serve: Serve, root: pathlib.Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        os.utime(put(root / name), (1, 1))
    os.utime(put(root / "bad.jpg", BROKEN_JPEG), (1, 1))
    server = serve(root, SCAN_SECONDS="1")
    for name in ("a.jpg", "b.jpg", "a.jpg"):
        assert server.thumbnail(name)[0] == 200
    found = server.until(
        lambda: (now := counts(server)).get(("lenslet_library", "unreadableImages")) == 1 and now
    )
    assert found["lenslet_images_total", "read"] >= 2
    assert found["lenslet_images_total", "failed"] >= 1
    assert found["lenslet_library", "items"] == 3
    server.until(lambda: counts(server)["lenslet_backlog",] == 0)


def test_health_is_a_gauge_and_every_metric_has_a_help_text(serve: Serve, root, tmp_path) -> None:
    os.utime(put(root / "a.jpg"), (1, 1))
    server = serve(root)
    states = [("lenslet_health", name) for name in ("ok", "degraded", "down")]

    def health() -> list[float]:
        found = counts(server)
        return [found[state] for state in states]

    server.until(lambda: health() == [1, 0, 0])
    families = list(text_string_to_metric_families(server.get("/metrics")[1].decode()))
    assert [each.name for each in families if not each.documentation] == []
    put(root / "a.jpg.json", b'{"v": 1, "tags": 7}')
    server.until(lambda: health() == [0, 1, 0])
    root.rename(tmp_path / "away")
    server.until(lambda: health() == [0, 0, 1])


def test_a_day_of_imports_and_edits_leaves_health_ok(serve: Serve, root, tmp_path) -> None:
    """Nobody has to act, whatever people do with their own photos."""
    for number in range(4):
        os.utime(put(root / f"2024/{number}.jpg", jpeg(seed=number)), (1, 1))
    server, states, over = serve(root, SCAN_SECONDS="1"), [], threading.Event()
    server.until(lambda: server.json("/health")["status"] == "ok")

    def watch() -> None:
        while not over.wait(0.1):
            report = server.json("/health")
            states.append((report["status"], report["reasons"]))

    watching = threading.Thread(target=watch)
    watching.start()
    for number in range(4):
        where = f"/item?path=2024/{number}.jpg"
        assert server.request("PUT", where, {"tags": ["x"]})[0] == 200
    server.until(lambda: counts(server)["lenslet_backlog",] == 0)
    put(root / "2024/half.jpg", jpeg()[:300])  # is being copied
    put(root / "back\\slash/a.jpg")
    (root / "2024/0.jpg").unlink()
    (root / "2024/1.jpg").rename(root / "renamed.jpg")
    put(root / "2024/2.jpg", jpeg(seed=9))  # is edited elsewhere
    found = {"unusableNames": 1, "orphanSidecars": 1, "unreadableImages": 1}
    server.until(
        lambda: (
            found.items() <= (server.json("/health")["library"] or {"counts": {}})["counts"].items()
            and server.json("/item?path=renamed.jpg")["tags"] == ["x"]
        )
    )
    over.set()
    watching.join()
    assert [state for state in states if state != ("ok", [])] == []


def test_a_request_has_an_id_and_its_time(make_app) -> None:
    app = make_app()
    first, second = app.get("/").headers, app.get("/nothing", status=404).headers
    assert first["X-Request-Id"] != second["X-Request-Id"]
    kept = app.get("/", headers={"X-Request-Id": "abc-1"}).headers
    assert kept["X-Request-Id"] == "abc-1"
    for forged in ("a b", "a" * 65, "x\ty"):
        answer = app.get("/", headers={"X-Request-Id": forged})
        assert answer.headers["X-Request-Id"] != forged


def test_each_event_is_one_line_of_json_with_the_request(serve: Serve, root, tmp_path) -> None:
    put(root / "a.jpg")
    server = serve(root, LOG_FORMAT="json", ACCESS_LOG="on", API_TOKEN="a-secret-token")
    root.rename(tmp_path / "away")
    headers = {"Authorization": "Bearer a-secret-token", "X-Request-Id": "mine"}
    assert server.get("/folders?path=x", **headers)[0] == 503
    server.stop()
    lines = [line for line in server.log.read_text().splitlines() if "ResourceWarning" not in line]
    events = [json.loads(line) for line in lines]  # those warnings are on for the tests only
    assert {"info", "warning"} <= {event["level"] for event in events}
    mine = [event for event in events if event.get("request") == "mine"]
    assert [event["level"] for event in mine] == ["warning", "info"]
    logged = r"127\.0\.0\.1 503 \d+ ms GET /folders\?path=x \(request mine\)"
    assert re.fullmatch(logged, mine[1]["message"])
    assert "a-secret-token" not in server.log.read_text()


def test_a_defect_is_answered_without_details_and_logged_with_them(
    make_gallery, root, caplog
) -> None:
    put(root / "a.jpg")
    gallery = make_gallery()
    broken = replace(gallery.library, tree=Broken(str(root)))
    app = TestApp(create_app(broken, gallery.channel, gallery.status, PARTS))
    answer = app.get("/search?q=x", status=500)
    assert answer.json["description"] == "An error in Lenslet; the log has more."
    assert "RuntimeError: broken" in caplog.text
    assert answer.headers["X-Request-Id"] in caplog.text
