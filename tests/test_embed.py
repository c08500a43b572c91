"""Lenslet inside another program."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from conftest import MOST_SECONDS, ROOT, put, wait_for
from webtest import TestApp

import lenslet
from lenslet.errors import SettingError

SITE = """
import sys, time
import lenslet
from webtest import TestApp

photos = lenslet.create_app({"ROOT_PATH": sys.argv[1], "XDG_CACHE_HOME": sys.argv[2]})

def site(environ, start_response):
    if environ["PATH_INFO"].startswith("/photos/"):
        environ["SCRIPT_NAME"] += "/photos"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/photos")
        return photos(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mine"]

def until(what):
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)

app = TestApp(site)
assert app.get("/").text == "mine"
assert app.get("/photos/").json["openapi"] == "/photos/openapi.json"
until(lambda: app.get("/photos/thumb?path=a/one.jpg").status_int == 200)
app.put_json("/photos/item?path=a/one.jpg", {"tags": ["inside"]})
until(lambda: app.get("/photos/search?q=tag:inside").json["total"] == 1)
assert app.get("/photos/health").json["workers"]["alive"]
"""


def test_an_application_is_mounted_below_another(root: pathlib.Path, tmp_path) -> None:
    """In a process of its own, because the threads that index end with their process."""
    put(root / "a/one.jpg")
    os.utime(root / "a/one.jpg", (1, 1))
    command = [sys.executable, "-c", SITE, str(root), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("threads", ["0", "2"])
def test_a_closed_application_leaves_no_thread_and_no_process(root, tmp_path, threads) -> None:
    put(root / "a/one.jpg")
    settings = {"ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path)}

    def running() -> tuple[int, int]:
        tasks = pathlib.Path("/proc/self/task").glob("*/children")
        return threading.active_count(), sum(len(each.read_text().split()) for each in tasks)

    before = running()
    with lenslet.create_app({**settings, "WORKER_THREADS": threads}) as app:
        page = TestApp(app)
        assert page.get("/item?path=a/one.jpg&exif=full").json["tags"] == []
        if threads != "0":
            wait_for(lambda: page.get("/thumb?path=a/one.jpg").status_int == 200)
        assert running() > before
    assert running() == before


def test_everything_is_indexed_from_a_program(root: pathlib.Path, tmp_path) -> None:
    put(root / "a/one.jpg")
    report = lenslet.index_once({"ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path)})
    assert (report["counts"]["items"], report["counts"]["thumbnailsMissing"]) == (1, 0)
    assert json.loads((root / "_index.json").read_bytes())["dirs"][0]["name"] == "a"


def test_a_program_that_ends_does_not_wait(root: pathlib.Path, tmp_path) -> None:
    for number in range(50):
        put(root / f"{number}.jpg")
    code = "import lenslet, sys; lenslet.create_app({'ROOT_PATH': sys.argv[1]})"
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code, root], cwd=ROOT, env=environ, timeout=MOST_SECONDS, check=True
    )


def test_a_wrong_setting_is_an_error_of_its_own(tmp_path) -> None:
    for settings in (
        {"ROOT_PATH": str(tmp_path / "none")},
        {"THUMB_QUALITY": "best"},
        {"ROOT_PATH": str(tmp_path), "THUMB_WAIT": 1},
        {"ROOT_PATH": str(tmp_path), "API_TOKNE": "a-long-token"},
        {"ROOT_PATH": str(tmp_path), "API_TOKEN": ""},  # `os.environ.get("API_TOKEN", "")`
    ):
        with pytest.raises(SettingError):
            lenslet.create_app(settings)


def test_a_wrong_value_says_what_is_meant() -> None:
    with pytest.raises(SettingError, match=r"^THUMB_QUALITY: must be text, not int$"):
        lenslet.create_app({"THUMB_QUALITY": 80})  # type: ignore[dict-item]
    with pytest.raises(SettingError, match=r"^THUMB_QUALTIY is not a setting"):
        lenslet.create_app({"THUMB_QUALTIY": "80"})


def test_a_worker_works_for_all_processes_of_a_program(root: pathlib.Path, tmp_path) -> None:
    put(root / "a/one.jpg")
    settings = {"ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path), "WORKER_THREADS": "0"}
    app = TestApp(lenslet.create_app(settings))
    assert app.get("/health/workers").json["alive"] is False
    command = [sys.executable, "-m", "lenslet", "worker"]
    with subprocess.Popen(command, env={**os.environ, **settings}) as worker:
        try:
            wait_for(lambda: app.get("/health").json["status"] == "ok")
            image = {"Accept": "image/webp"}
            assert app.get("/preview?path=a/one.jpg", headers=image).content_type == "image/webp"
        finally:
            worker.terminate()


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, lenslet; print([m for m in sys.modules if m.split('.')[0] in ('PIL', 'falcon', 'orjson')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
