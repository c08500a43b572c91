"""The machine crashes: only what was fsynced is sure to be there, and the rest may be torn.

A file's content is sure as it was at the file's last fsync, and the names of a folder are as they
were at the folder's. All fsyncs of a service are watched while it answers edits.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import random
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from conftest import Gallery, Server, put
from PIL import Image
from scale import scale
from test_kills import SEED, Edit, at, check_service, edit_of, make_photos, torn_files

BLOCK = 512


class Disk:
    """What is sure to be on the disk after a crash of the machine."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.names: dict[int, dict[str, int]] = {}  # of a folder, by its inode: those in it
        self.content: dict[int, bytes] = {}  # of a file, by its inode
        for folder in [top, *(path for path in top.rglob("*") if path.is_dir())]:
            self._sync_folder(folder)
        for file in (path for path in top.rglob("*") if path.is_file()):
            self.content[file.stat().st_ino] = file.read_bytes()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Sees each fsync; what it has written since counts from then on."""
        real = os.fsync

        def fsync(fd: int) -> None:
            real(fd)
            place = pathlib.Path(os.readlink(f"/proc/self/fd/{fd}"))
            if place.is_dir():
                self._sync_folder(place)
            else:
                self.content[os.fstat(fd).st_ino] = place.read_bytes()

        with mock.patch.object(os, "fsync", fsync):
            yield

    def _sync_folder(self, folder: pathlib.Path) -> None:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.inode() for entry in entries}
        self.names[folder.stat().st_ino] = found

    def after_crash(self) -> dict[str, bytes]:
        """The files of which the names are sure, by path; one that was not fsynced is empty."""
        found, waiting = {}, [(self.top, self.top.stat().st_ino)]
        for folder, number in waiting:
            for name, inode in self.names.get(number, {}).items():
                waiting.append((folder / name, inode))
                found[str(folder / name)] = self.content.get(inode, b"")
        return found

    def unsure(self) -> list[str]:
        """The files that may be torn after a crash, if their names are on the disk by then."""
        files = [path for path in self.top.rglob("*") if path.is_file()]
        return [str(f) for f in files if self.content.get(f.stat().st_ino) != f.read_bytes()]


@pytest.mark.parametrize("where", ["photos", "state"])
def test_what_was_answered_is_on_the_disk_and_no_sidecar_is_ever_torn(
    make_gallery: Callable[..., Gallery], root: pathlib.Path, where: str
) -> None:
    """Edits are in sidecars beside the photos, or in a `STATE_DIR` that is new."""
    for number in range(4):
        put(root / f"2024/july/{number}.jpg")
    disk, chance, told = Disk(root.parent), random.Random(SEED), dict[str, Edit]()
    state = {"STATE_DIR": str(root.parent / "state")} if where == "state" else {}
    with disk.watched():
        gallery = make_gallery(**state)
        for number in range(scale(60, 600)):
            path = f"2024/july/{chance.randrange(4)}.jpg"
            sidecar = root.parent / where / f"{path}.json"
            if chance.random() < 0.2 and told.get(path):
                gallery.app.delete(at("/item", path=path), status=204)
                told[path] = None
            else:
                edit = {"tags": [f"t{number}"], "notes": f"n{number}" * chance.randrange(300)}
                gallery.app.put_json(at("/item", path=path), edit, status=200)
                told[path] = edit["tags"], edit["notes"]
            if chance.random() < 0.1:
                gallery.index()
            sure = disk.after_crash().get(str(sidecar))
            assert (sure and edit_of(json.loads(sure))) == told[path], (SEED, number)
            assert [file for file in disk.unsure() if file.endswith(".jpg.json")] == []


def torn(data: bytes, chance: random.Random) -> bytes:
    """What may be left of a file that was not fsynced."""
    size = len(data)
    kept = data[: chance.randrange(size + 1) // BLOCK * BLOCK]
    return chance.choice([b"", bytes(size), kept, kept + bytes(size - len(kept))])


def derived_files(home: pathlib.Path, where: str) -> list[pathlib.Path]:
    """All that is in the cache, or manifests, thumbnails, rollup and report beside the photos."""
    if where == "cache":
        return sorted(path for path in home.glob("cache/**/*") if path.is_file())
    return sorted([*home.glob("photos/**/_*.json"), *home.glob("photos/**/*.thumbnail")])


@contextlib.contextmanager
def service(root: pathlib.Path, home: pathlib.Path) -> Iterator[Server]:
    """A service whose folders have pages, which may be of two generations."""
    server = Server(root, home, PAGE_SIZE="10")
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_derived_files_of_every_kind_that_are_torn_are_made_again(
    root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Every file that a crash may tear is torn: first in the cache, then beside the photos."""
    names, chance = make_photos(root, 33), random.Random(SEED)
    edits: dict[str, Edit] = {names[0]: (["kept"], "notes")}
    with service(root, tmp_path) as server:
        server.request("PUT", at("/item", path=names[0]), {"tags": ["kept"], "notes": "notes"})
        check_service(server, names, edits)
        server.until(lambda: has_preview(server, names[0]))
    for where in ["cache", "photos"] * scale(1, 10):
        for file in derived_files(tmp_path, where):
            times = file.stat()
            file.write_bytes(torn(file.read_bytes(), chance))
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        for file in tmp_path.glob("cache/lenslet/*/search/*"):
            os.utime(file, (1, 1))  # of another start of the machine
        with service(root, tmp_path) as server:
            check_service(server, names, edits)
            for name in names[::8]:
                server.until(lambda server=server, name=name: has_preview(server, name))
            server.until(lambda: torn_files(root) == [])


def has_preview(server: Server, name: str) -> bool:
    status, data = server.get(at("/preview", path=name))
    if status == 200:
        Image.open(io.BytesIO(data)).load()
    return status == 200
