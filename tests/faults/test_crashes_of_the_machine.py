"""The machine crashes: only what was fsynced is sure to be there, and the rest may be torn.

The system calls of a real service are traced while writers edit and others read. They are replayed
up to a moment, and from that the disk after a crash at that moment is made:

- What was done in a folder (files created, renamed and removed) is there if the folder was fsynced
  afterwards. Of the rest, some is there: the first so many in order, as in a journal, or any.
- A file's content is there if the file was fsynced. If not, the file is whole, empty, all NUL
  bytes, cut at a multiple of 512 bytes, or with NUL bytes in place of its last blocks. Its
  modification time is there in any case.

Both the library and the host's cache are such a disk. The photos are there from the start.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from buckets import Layered
from conftest import ROOT, Server
from PIL import Image
from scale import record, scale
from test_kills import (
    PATIENCE,
    SEED,
    Edit,
    Writers,
    at,
    check_service,
    edit_of,
    make_photos,
    torn_files,
)

pytestmark = pytest.mark.slow
BLOCK = 512
CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,"
    "truncate,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,utimensat"
)
TRACE = """
import os, subprocess, time
subprocess.Popen(
    ["strace", "-f", "-y", "-ttt", "-s", "10000000", "--strings-in-hex=all", "--quiet=all",
     "-e", "trace={calls}", "-e", "signal=none", "-o", {file!r}, "-p", str(os.getpid())],
    start_new_session=True,
)
while "TracerPid:\\t0\\n" in open("/proc/self/status").read():
    time.sleep(0.01)
"""

# What strace writes


@dataclass(frozen=True)
class Call:
    """One change of the disk. An fsync counts for what had been done when it began."""

    time: float
    name: str  # create, write, link, rename, remove, folder, time, begin or fsync
    path: str
    more: Any = None


LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
TEXT = r"((?:\\x[0-9a-f]{2})*)"
PLACE = rf"(?:\d+|AT_FDCWD)<{TEXT}>(?:\(deleted\))?"
NAMED = rf'(?:{PLACE}, )?"{TEXT}"'
SHAPES = {
    "openat": re.compile(rf"{NAMED}, ([A-Z_|]+)[^)]*\) += \d+<{TEXT}>"),
    "write": re.compile(rf'{PLACE}, "{TEXT}", \d+\) += (\d+)'),
    "rename": re.compile(rf"{NAMED}, {NAMED}\) += 0"),
    "link": re.compile(rf"{NAMED}, {NAMED}(?:, 0)?\) += 0"),
    "unlink": re.compile(rf"{NAMED}(?:, 0)?\) += 0"),
    "mkdir": re.compile(rf"{NAMED}, \d+\) += 0"),
    "fsync": re.compile(rf"{PLACE}"),
    "utimensat": re.compile(
        rf"{PLACE}, NULL, \[.*\{{tv_sec=(-?\d+), tv_nsec=(\d+)\}}[^\]]*\], 0\) += 0"
    ),
}
SAME = {"renameat": "rename", "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir"}
SAME |= {"fdatasync": "fsync", "linkat": "link"}


def text(hexed: str | None) -> str:
    return bytes.fromhex((hexed or "").replace("\\x", "")).decode()


def joined(folder: str | None, name: str) -> str:
    return os.path.normpath(os.path.join(text(folder), text(name)))


def calls_in(trace: pathlib.Path, disk: pathlib.Path) -> Iterator[Call]:
    """Yields what changes the files below `disk`, in the order in which it ended."""
    here = "".join(f"\\x{byte:02x}" for byte in os.fsencode(disk))
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        found = LINE.fullmatch(line)
        assert found, line[:200]
        process, moment, rest = found[1], float(found[2]), found[3]
        is_resumed = rest.startswith("<... ")
        if rest.endswith(" <unfinished ...>"):
            begun[process] = rest = rest.removesuffix(" <unfinished ...>")
        elif is_resumed:
            rest = begun.pop(process, "") + rest.partition(" resumed>")[2]
        name, _, rest = rest.partition("(")
        if here not in rest:
            continue
        name = SAME.get(name, name)
        if name == "fsync" and not is_resumed:
            yield Call(moment, "begin", text(SHAPES["fsync"].match(rest)[1]))
        if process not in begun and not re.search(r"= (-1 E|\?)", rest[-200:]):
            yield from changes(moment, name, rest)


def changes(moment: float, name: str, rest: str) -> Iterator[Call]:
    """What one call that succeeded has changed."""
    if name == "openat" and not re.search("O_CREAT|O_TRUNC", rest):
        return
    if name == "pwrite64" and "(deleted)" in rest:
        return  # a file without a name, which a crash ends
    found = SHAPES[name].match(rest) if name in SHAPES else None
    assert found, f"not understood: {name}({rest[:300]}"
    match name:
        case "openat":
            yield Call(moment, "create", text(found[4]))
        case "write":
            data = bytes.fromhex(found[2].replace("\\x", ""))
            yield Call(moment, "write", text(found[1]), data[: int(found[3])])
        case "link" | "rename":
            new = joined(found[3], found[4])
            yield Call(moment, name, new, joined(found[1], found[2]))
        case "unlink":
            yield Call(moment, "remove", joined(found[1], found[2]))
        case "mkdir":
            yield Call(moment, "folder", joined(found[1], found[2]))
        case "utimensat":
            yield Call(moment, "time", text(found[1]), int(found[2]) * 10**9 + int(found[3]))
        case "fsync":
            yield Call(moment, "fsync", text(found[1]))


# The disk


def torn(data: bytes, chance: random.Random) -> bytes:
    """What may be left of a file that was not fsynced."""
    size = len(data)
    kept = data[: chance.randrange(size + 1) // BLOCK * BLOCK]
    return chance.choice([b"", bytes(size), kept, kept + bytes(size - len(kept))])


@dataclass(eq=False)
class File:
    """A file: its content now, and as it was fsynced last. A folder has no content."""

    data: bytes = b""
    synced: bytes | None = None
    mtime_ns: int | None = None
    is_folder: bool = False

    def after_crash(self, chance: random.Random) -> bytes:
        """What is read of it after a crash."""
        is_sure = self.synced == self.data
        return self.data if is_sure else chance.choice([self.data, torn(self.data, chance)])


@dataclass
class Change:
    """A name in a folder that is given to a file, or removed; `old` is the name it had."""

    path: str
    file: File | None
    old: str | None = None
    is_covered: bool = False  # the folder's fsync that has begun includes it

    def apply(self, names: dict[str, File]) -> None:
        if self.old:
            names.pop(self.old, None)
        if self.file:
            names[self.path] = self.file
        else:
            names.pop(self.path, None)


@dataclass
class Disk:
    """`names` are what processes see, `sure` what is there after any crash, `waiting` the rest."""

    names: dict[str, File] = field(default_factory=dict)
    sure: dict[str, File] = field(default_factory=dict)
    waiting: list[Change] = field(default_factory=list)

    def do(self, call: Call) -> None:
        file = self.names.get(call.path)
        match call.name:
            case "create" | "folder":
                if file is None:
                    self._change(Change(call.path, File(is_folder=call.name == "folder")))
            case "write" if file:  # not one that has been removed
                file.data += call.more
            case "time" if file:
                file.mtime_ns = call.more
            case "link":
                self._change(Change(call.path, self.names[call.more]))
            case "rename":
                self._change(Change(call.path, self.names[call.more], call.more))
            case "remove":
                self._change(Change(call.path, None))
            case "begin":
                for change in self._in(call.path):
                    change.is_covered = True
            case "fsync":
                for change in [each for each in self._in(call.path) if each.is_covered]:
                    change.apply(self.sure)
                    self.waiting.remove(change)
                if file and not file.is_folder:
                    file.synced = file.data

    def _change(self, change: Change) -> None:
        change.apply(self.names)
        self.waiting.append(change)

    def _in(self, folder: str) -> list[Change]:
        return [change for change in self.waiting if os.path.dirname(change.path) == folder]

    def after_crash(self, chance: random.Random, top: str) -> dict[str, tuple[bytes, int | None]]:
        """The files below `top` after a crash: one of many outcomes."""
        names = dict(self.sure)
        in_order = self.waiting[: chance.randrange(len(self.waiting) + 1)]
        some = [change for change in self.waiting if chance.random() < 0.5]
        for change in chance.choice([in_order, some]):
            change.apply(names)
        return {
            path: (file.after_crash(chance), file.mtime_ns)
            for path, file in names.items()
            if not file.is_folder and self._is_reached(path, names, top)
        }

    def _is_reached(self, path: str, names: dict[str, File], top: str) -> bool:
        """True if all folders on the way are there: those that were not made are from before."""
        made = {path for path, file in self.names.items() if file.is_folder}
        while (path := os.path.dirname(path)) != top:
            if path in made and path not in names:
                return False
        return True


# The test


def trace_edits(
    disk: pathlib.Path, root: pathlib.Path | Layered, names: list[str], trace: pathlib.Path
) -> Writers:
    """Runs a service that is traced from its start, with writers and a reader."""
    conf = trace.with_suffix(".py")
    hook = TRACE.format(calls=CALLS, file=str(trace))
    conf.write_text((ROOT / "gunicorn.conf.py").read_text() + hook)
    with service(root, disk, GUNICORN_CMD_ARGS=f"--config {conf}") as server:

        def ask(method: str, route: str, body: Any) -> tuple[int, bytes, int]:
            return *server.request(method, route, body), 1

        writers, chance = Writers(4, ask, names, shared=2), random.Random(SEED)
        with writers.writing():
            while writers.edits < scale(50, 1500):
                read_something(server, chance.choice(names))
        server.until(lambda: server.json("/health").get("status") == "ok", PATIENCE)
    return writers


def read_something(server: Server, name: str) -> None:
    """What makes the service write into the library and into its cache."""
    pictures = at("/thumb", path=name), at("/preview", path=name)
    for route in (at("/folders", path=os.path.dirname(name)), "/search?path=all&q=w1", *pictures):
        assert server.get(route)[0] in (200, 202, 404), route


@dataclass
class Promises:
    """What was answered to writers, and when."""

    own: dict[str, list[tuple[float, Edit]]]
    shared: dict[str, list[tuple[float, str]]]

    @classmethod
    def to(cls, writers: Writers) -> Promises:
        found = cls({}, {})
        for writer in writers.all:
            found.own |= {path: [(0.0, None)] for path in writer.stored}
            for moment, path, what in writer.history:
                kind = found.own if path in writer.stored else found.shared
                kind.setdefault(path, []).append((moment, what))
        return found

    def broken(self, stored: dict[str, Edit], moment: float) -> list[str]:
        """What was answered before a moment and is not stored, or never was an edit.

        The edit that follows the last answered one may have been stored, too.
        """
        bad = []
        for path, history in self.own.items():
            answered = sum(when < moment for when, _ in history)
            allowed = [
                edit and (sorted(edit[0]), edit[1])
                for _, edit in history[answered - 1 : answered + 1]
            ]
            if stored.get(path) not in allowed:
                bad.append(f"{path}: {stored.get(path)} is none of {allowed}")
        for path, added in self.shared.items():
            tags = set((stored.get(path) or ([], ""))[0])
            lost = {tag for when, tag in added if when < moment} - tags
            if lost or tags - {tag for _, tag in added}:
                bad.append(f"{path}: {lost} lost of {tags}")
        return bad


def sidecars_in(
    files: dict[str, tuple[bytes, int | None]], folder: pathlib.Path
) -> dict[str, Edit]:
    """The sidecars on a disk, by image; one that does not parse fails here."""
    return {
        path.removeprefix(f"{folder}/").removesuffix(".json"): edit_of(json.loads(data))
        for path, (data, _) in files.items()
        if path.endswith(".jpg.json") and path.startswith(f"{folder}/")
    }


def restore(
    disk: pathlib.Path, photos: pathlib.Path, count: int, files: dict[str, tuple[bytes, int | None]]
) -> None:
    """Makes the disk what it is after a crash."""
    shutil.rmtree(disk)
    make_photos(photos, count)
    for path, (data, mtime_ns) in files.items():
        file = pathlib.Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if mtime_ns is not None:
            os.utime(file, ns=(mtime_ns, mtime_ns))


SETTINGS = {"PAGE_SIZE": "10"}  # so that folders have pages, which may be of two generations
HAS_STRACE = shutil.which("strace") is not None


@pytest.mark.skipif(not HAS_STRACE and not os.environ.get("CI"), reason="strace is not installed")
@pytest.mark.parametrize("kept", ["photos", "state"])
def test_after_a_crash_of_the_machine_no_edit_is_lost_and_torn_files_are_made_again(
    tmp_path: pathlib.Path, kept: str
) -> None:
    """Edits are in sidecars beside the photos, or in a `STATE_DIR` that was new."""
    disk, photos, state = tmp_path / "disk", tmp_path / "disk/photos", tmp_path / "disk/state"
    root = photos if kept == "photos" else Layered(photos, state)
    sidecars = disk / kept
    names = make_photos(photos, 33)
    writers = trace_edits(disk, root, names, tmp_path / "trace")
    calls = list(calls_in(tmp_path / "trace", disk))
    promises, chance, replay = Promises.to(writers), random.Random(SEED), Disk()
    cuts = {chance.randrange(len(calls) - 1) for _ in range(scale(200, 4000))}
    tried = set(chance.sample(sorted(cuts), scale(int(kept == "photos"), 30)))
    for number, call in enumerate(calls[:-1]):
        replay.do(call)
        if number not in cuts:
            continue
        for _ in range(5):
            files = replay.after_crash(chance, str(disk))
            stored = sidecars_in(files, sidecars)
            assert promises.broken(stored, calls[number + 1].time) == [], f"cut {number}"
        if number in tried:
            restore(disk, photos, len(names), files)
            check_start(root, disk, names, {name: stored.get(name) for name in names})
    figures = {"edits": writers.edits, "crashes": 5 * len(cuts), "starts": len(tried)}
    record(f"crash of the machine, edits in {kept}", **figures)


@contextlib.contextmanager
def service(root: pathlib.Path | Layered, home: pathlib.Path, **settings: str) -> Iterator[Server]:
    server = Server(root, home, **SETTINGS, **settings)
    try:
        yield server
    finally:
        server.stop()


def check_start(
    root: pathlib.Path | Layered, disk: pathlib.Path, names: list[str], edits: dict[str, Edit]
) -> None:
    """The service starts on a disk after a crash, and everything is right without help."""
    for file in disk.glob("cache/lenslet/*/search/*"):
        os.utime(file, (1, 1))  # copies for search are of another start
    with service(root, disk) as server:
        check_service(server, names, edits)
        for name in names[::8]:
            server.until(lambda name=name: has_preview(server, name))
        server.until(lambda: torn_files(disk / "photos") == [])


def has_preview(server: Server, name: str) -> bool:
    status, data = server.get(at("/preview", path=name))
    if status == 200:
        Image.open(io.BytesIO(data)).load()
    return status == 200


def derived_files(disk: pathlib.Path, where: str) -> list[pathlib.Path]:
    """All that is in the cache, or manifests, thumbnails, rollup and report beside the photos."""
    if where == "cache":
        return sorted(path for path in disk.glob("cache/**/*") if path.is_file())
    return sorted([*disk.glob("photos/**/_*.json"), *disk.glob("photos/**/*.thumbnail")])


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
        check_start(root, tmp_path, names, edits)
