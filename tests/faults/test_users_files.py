"""What a user put beside photos is never replaced or removed, whatever its name, by real gunicorn.

Libraries are drawn at random, from a seed, full of files with Lenslet's names that are not
Lenslet's.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import stat
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Server, draw, encode, exif, jpeg, put
from PIL import ImageCms
from scale import record, scale

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]
Content = Callable[[random.Random], bytes]
SMALL = jpeg(32, 24)


# Files that are not Lenslet's


def words(rng: random.Random) -> bytes:
    return " ".join(
        rng.choices(["index", "of", "my", "photos", "é"], k=rng.randint(1, 99))
    ).encode()


def noise(rng: random.Random) -> bytes:
    return b"\x01" + rng.randbytes(rng.randint(1, 200_000))


def photo(rng: random.Random) -> bytes:
    return jpeg(24, 24, seed=rng.randrange(90))


def json_of(*documents: Any) -> Content:
    """JSON of one of these, indented or not."""

    def content(rng: random.Random) -> bytes:
        indent = rng.choice([None, 1, 4])
        return json.dumps(rng.choice(documents), indent=indent).encode()

    return content


def webp(**options: Any) -> Content:
    def content(rng: random.Random) -> bytes:
        image = draw(40, 30, seed=rng.randrange(90))
        if options.get("save_all"):
            return encode(image, "WEBP", append_images=[draw(40, 30, mode="L")], **options)
        return encode(image, "WEBP", **options)

    return content


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ANY_JSON = json_of(
    *([], [1, 2], "text", 7, None, {}, {"v": 1}, {"v": 1, "items": [], "dirs": [], "path": ""}),
    {"generatedAt": "2024-01-01T00:00:00Z", "items": []},
    {"posts": [{"title": "T" * 300, "v": 2, "generatedAt": 5}] * 500},
)
NEARLY_JSON = json_of(
    {"v": 1, "photos": ["a"], "export": {"generatedAt": "2024-01-01T00:00:00Z"}},
    {"v": 1, "pages": {"v": 1, "generatedAt": "2024-01-01T00:00:00Z"}},
)
TORN_JSON: Content = lambda rng: b'{"v": 1, "pages": ["' + words(rng)  # noqa: E731
DOCUMENTS = (ANY_JSON, NEARLY_JSON, words, noise, photo, TORN_JSON)
THUMBNAILS = (
    words,
    noise,
    photo,
    webp(exif=exif(DateTime="2024:01:01 00:00:00")),
    webp(icc_profile=PROFILE),
    webp(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    webp(save_all=True, duration=100),
    lambda rng: encode(draw(30, 30), "PNG"),
    lambda rng: b"RIFF\x10\x00\x00\x00WEBPEXIF" + rng.randbytes(8),
)
SIDECARS = (
    *DOCUMENTS,
    json_of({"title": "img.jpg", "photoTakenTime": {"timestamp": "1"}, "description": "mine"}),
    json_of({"v": 2, "tags": ["newer"]}, {"v": 1, "tags": "text"}, {"v": 1, "notes": 5}),
    json_of({"v": "1", "tags": []}, {"tags": ["a"], "notes": "n"}, {"v": True, "tags": []}),
    lambda rng: b"\xef\xbb\xbf" + json.dumps({"v": 1.5, "tags": []}).encode(),
    lambda rng: b'{"v": 1, "tags": [NaN]}',
    lambda rng: b"[" * 3_000 + b"]" * 3_000,
)
POINTERS = (
    *DOCUMENTS,
    json_of(
        {"version": 9, "kind": "pointer", "target": {"type": "local", "path": "a"}},
        {"version": 1, "kind": "pointer", "target": {"type": "local", "path": "/etc"}},
        {"version": 1, "kind": "pointer", "target": {"type": "local", "path": ""}},
        {"version": 1, "kind": "pointer", "target": {"type": "s3", "bucket": "none"}},
    ),
)


def names(rng: random.Random) -> dict[str, tuple[Content, ...]]:
    """Names of Lenslet's, and some that are nearly so, with what a user may have in them."""
    number = rng.choice([0, 1, 2, 7, 12345, 10**12])
    image = rng.choice(["img0.jpg", "img1.jpg", "img2.png", "gone.jpg", "gone.JPEG", "IMG.webp"])
    hexes = "".join(rng.choices("0123456789abcdef", k=16))
    near = [hexes[1:], f"{hexes}0", hexes.upper() + "G", f"{hexes}.txt", "notes", "", f"{hexes}~"]
    return {
        **dict.fromkeys(("_index.json", f"_index_{number}.json"), DOCUMENTS),
        **dict.fromkeys(("_rollup.json", "_rollup_delta.json", "_health.json"), DOCUMENTS),
        **dict.fromkeys(("_INDEX.json", "_index_00.json", "_index_0.json.bak"), DOCUMENTS),
        f"{image}.thumbnail": THUMBNAILS,
        f"{rng.choice(['notes', 'film.mp4', ''])}.thumbnail": THUMBNAILS,
        f"{image}.json": SIDECARS,
        f"{image}.lenslet.json": SIDECARS,
        f".lenslet-tmp-{rng.choice(near)}": (words, noise, photo),
        rng.choice([".lenslet-state", ".lenslet", ".lenslet.json"]): (words,),
    }


def furnish(folder: pathlib.Path, rng: random.Random, *, pointer: bool) -> None:
    """Puts images and files of a user's own into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("img0.jpg", "img1.jpg", "img2.jpg", "img3.jpg"):
        os.utime(put(folder / name, SMALL), (1, 1))
    os.utime(put(folder / "img2.png", encode(draw(20, 30), "PNG")), (1, 1))
    for name, contents in names(rng).items():
        if rng.random() < 0.8:
            place(folder / name, rng.choice(contents)(rng), rng)
    if pointer:
        (folder / ".lenslet.folder.json").write_bytes(rng.choice(POINTERS)(rng))


def place(path: pathlib.Path, data: bytes, rng: random.Random) -> None:
    """Mostly a file, sometimes with an image's time; or a link, a folder, a pipe."""
    kind = rng.choice(
        ["file"] * 12 + ["timed"] * 4 + ["link", "lost link", "folder", "pipe", "twin"]
    )
    own = path.with_name(f"my own {path.name.strip('.')}.txt")
    if kind in ("link", "twin"):
        own.write_bytes(data)
    if kind == "link":
        path.symlink_to(rng.choice([own, own.name]))
    elif kind == "twin":
        path.hardlink_to(own)
    elif kind == "lost link":
        path.symlink_to("not there")
    elif kind == "folder":
        put(path / "kept.txt", data)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(data)
        os.utime(path, (1, 1) if kind == "timed" else (rng.randrange(2**31),) * 2)


def users(root: pathlib.Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: what it is, its bytes, its times and that it is the same file."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        content: Any = None
        try:
            info = path.lstat()
            if path.is_symlink():
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
        except FileNotFoundError:  # a temporary file of the service
            continue
        kept = (info.st_mtime_ns, info.st_nlink) if not stat.S_ISDIR(info.st_mode) else ()
        found[str(path.relative_to(root))] = (info.st_mode, info.st_ino, content, *kept)
    return found


# Everything that may be asked


def requests(root: pathlib.Path) -> list[tuple[str, str, Any]]:
    """Every route, for every folder and for every image there is or was."""
    folders = [path for path in (root, *sorted(root.rglob("*"))) if path.is_dir()]
    asked: list[tuple[str, str, Any]] = [("POST", "/search/rebuild-index", None)]
    for folder in folders:
        path = str(folder.relative_to(root)).removeprefix(".")
        where = urllib.parse.quote(path)
        asked += [
            ("GET", f"/folders?path={where}", None),
            ("GET", f"/search?q=&path={where}", None),
        ]
        asked += [("POST", f"/folders/{where}/reindex?recursive=true".replace("//", "/"), None)]
        images = {name.removesuffix(".thumbnail").removesuffix(".json") for name in listed(folder)}
        for image in sorted(images):
            asked += about(f"{path}/{image}".lstrip("/"))
    return asked


def listed(folder: pathlib.Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "my own" not in path.name]


def about(image: str) -> list[tuple[str, str, Any]]:
    path = "?" + urllib.parse.urlencode({"path": image})
    return [
        ("GET", f"/item{path}", None),
        ("GET", f"/file{path}", None),
        ("POST", f"/thumb{path}&force=true", None),
        ("DELETE", f"/thumb{path}", None),
        ("GET", f"/thumb{path}", None),
        ("GET", f"/preview{path}", None),
        ("PUT", f"/item{path}", {"tags": ["a"], "notes": "n"}),
        ("POST", "/items/tags", {"paths": [image], "add": ["b"]}),
        ("PUT", f"/item{path}", {"updatedAt": "2000-01-01T00:00:00Z"}),
        ("DELETE", f"/item{path}", None),
        ("DELETE", f"/thumb{path}", None),
        ("DELETE", f"/thumb{path}.thumbnail", None),
    ]


def command_line(home: pathlib.Path, *arguments: str | pathlib.Path, **settings: str) -> str:
    """Runs `lenslet`; what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "lenslet", *map(str, arguments)],
        env={**os.environ, "XDG_CACHE_HOME": str(home / "cache"), **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode in (0, 1) and "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("seed", range(scale(1, 25)))
def test_nothing_of_a_users_is_replaced_or_removed(seed: int, serve: Serve, root, tmp_path) -> None:
    rng = random.Random(seed)
    for number in range(scale(3, 12)):
        furnish(
            root / "/".join(["d"] * (number % 3) + [f"f{number}"]), rng, pointer=number % 3 == 2
        )
    furnish(root, rng, pointer=False)
    before = users(root)
    paged = {"PAGE_SIZE": "2", "THUMB_WAIT": "0", "SCAN_SECONDS": "2"}
    if seed % 5 == 4:
        paged["STATE_DIR"] = str(tmp_path / "state")
    server = serve(root, **paged)
    server.until(lambda: " images in " in server.log.read_text())  # all have been looked at
    asked = requests(root)
    rng.shuffle(asked)
    for method, route, body in asked:
        status, answer = server.request(method, route, body)
        assert 0 < status < 500 or status in (503, 508), (seed, method, route, status, answer)
    server.until(lambda: not server.json("/health/workers")["backlog"])
    server.stop()
    assert "Traceback" not in server.log.read_text(), seed
    for _ in range(scale(1, 2)):
        command_line(tmp_path, "index", root, PAGE_SIZE="2")
        command_line(tmp_path, "check", root, PAGE_SIZE="2")
    after = users(root)
    changed = {name: after.get(name) for name, was in before.items() if after.get(name) != was}
    assert changed == {}, seed
    record("users' files", files=len(before), requests=len(asked))
