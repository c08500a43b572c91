"""The outer ring can be deleted: what is left starts, indexes, tags, searches and serves."""

from __future__ import annotations

import pathlib
import shutil

from conftest import ROOT, Server, put

from lenslet.run.parts import PARTS
from lenslet.web.app import RESOURCES

OUTER = ("archive", "cluster", "gallery", "guests")


def lines(files: list[pathlib.Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def test_the_core_works_without_what_hangs_on_it(tmp_path) -> None:
    package = tmp_path / "core/lenslet"
    shutil.copytree(ROOT / "lenslet", package, ignore=shutil.ignore_patterns("__pycache__"))
    everything = lines([*package.rglob("*.py")])
    for name in OUTER:
        shutil.rmtree(package / name)
    for file in (package / "storage").glob("s3*.py"):
        file.unlink()
    parts = package / "run/parts.py"
    kept = (
        line for line in parts.read_text().splitlines() if not any(f".{n}" in line for n in OUTER)
    )
    parts.write_text("\n".join(kept))
    print(f"{everything} lines, {lines([*package.rglob('*.py')])} in the core")
    root = tmp_path / "photos"
    put(root / "2024/a.jpg")
    server = Server(root, tmp_path, cwd=str(package.parent))
    try:
        assert server.thumbnail("2024/a.jpg")[0] == 200
        assert server.request("PUT", "/item?path=2024/a.jpg", {"tags": ["sea"]})[0] == 200
        server.until(lambda: server.json("/search?q=tag:sea")["total"] == 1)
        assert [each["name"] for each in server.json("/folders?path=2024")["items"]] == ["a.jpg"]
        assert server.json("/health")["status"] == "ok"
        assert server.json("/")["name"] == "lenslet"
        running = pathlib.Path(f"/proc/{server.index_pid()}/cwd").resolve()
        assert running == package.parent
        assert [server.get(route)[0] for route in ("/links", "/zip", "/feed")] == [404, 404, 404]
        outer = {route for part in PARTS for route in part.routes} - RESOURCES.keys()
        assert not server.json("/openapi.json")["paths"].keys() & outer
    finally:
        server.stop()
