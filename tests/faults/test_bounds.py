"""Documents without end: each costs memory and time in proportion to what Lenslet itself writes."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Gallery, Server, jpeg, put
from processes import limited
from scale import LONG

from lenslet.paths import Path
from lenslet.search.format import parse_delta
from lenslet.search.writer import Rollup
from lenslet.storage.local import LocalTree

pytestmark = pytest.mark.slow
MEMORY_BYTES = 250 << 20
LARGEST_BYTES = 8 << 20  # of Lenslet's own documents
PHOTO = jpeg(24, 16)


def long(start: bytes, end: bytes = b"0]}\n", size: int = 100 << 20) -> bytes:
    return start + b"{}," * ((size - len(start) - len(end)) // 3) + end


HEAD = b'{"v":1,"generatedAt":"2026-01-01T00:00:00Z",'
MANIFEST = b'{"v":1,"path":"a/","generatedAt":"2026-01-01T00:00:00Z",'
ROLLUP = b'{"v":1,"generatedAt":"2026-01-01T00:00:00Z","id":"0123456789abcdef","items":['
OURS = {  # each begins like a document of Lenslet
    "a/_index_0.json": MANIFEST + b'"page":0,"items":[',
    "b/_index.json": MANIFEST + b'"items":[',
    "_health.json": HEAD + b'"x":[',
    "_rollup_delta.json": HEAD + b'"folders":[',
    "_rollup.json": ROLLUP + b'\n],"folders":[',
}
FOREIGN = ("a/_index.json", "_rollup_delta.json", "_rollup.json", "_health.json")


@pytest.fixture
def small(serve: Callable[..., Server]) -> Iterator[Callable[..., Server]]:
    """Starts a service of which no process may take more than 250 MB."""
    with contextlib.ExitStack() as limits:

        def start(root: pathlib.Path, **settings: str) -> Server:
            server = serve(root, SCAN_SECONDS="1", THUMB_WAIT="0", **settings)
            server.index_pid()
            limits.enter_context(limited(server, MEMORY_BYTES))
            return server

        yield start


def listed(server: Server, folder: str) -> set[str]:
    found = server.json(f"/folders?path={folder}")
    return {each["name"] for each in found.get("items", ()) if each.get("hash")}


@pytest.mark.parametrize("size", [7 << 20, 100 << 20], ids=["7 MB", "100 MB"])
def test_objects_without_end_in_documents_that_seem_ours(root, small, size: int) -> None:
    """Memory stays small, the documents are made again, and a pointer is broken."""
    for name in ("a/0.jpg", "a/1.jpg", "a/2.jpg", "b/0.jpg"):
        put(root / name, PHOTO)
    server = small(root, PAGE_SIZE="2")
    server.until(lambda: (root / "_rollup.json").exists() and (root / "a/_index_1.json").exists())
    for file, start in OURS.items():
        (root / file).write_bytes(long(start, size=size))
    pointer = b'{"version":1,"kind":"pointer","target":{"type":"local","path":"a"},"x":['
    put(root / "p/.lenslet.folder.json", long(pointer, b"0]}", size))
    for folder in "ab":  # a new photo is indexed, also beside the document, and search finds it
        put(root / folder / "0.new.jpg", PHOTO)
        server.until(lambda folder=folder: "0.new.jpg" in listed(server, folder))
    server.until(lambda: server.json("/search?q=0.new").get("total") == 2)
    assert server.json("/search/suggest?q=a") != {}
    server.until(lambda: all((root / file).stat().st_size < 10_000 for file in OURS))
    assert server.get("/folders?path=p")[0] == 403
    problems = server.until(
        lambda: server.json("/health").get("library", {}).get("problems", {}).get("brokenPointers")
    )
    assert [each["path"] for each in problems] == ["p"]
    assert "65536" in problems[0]["reason"]


@pytest.mark.parametrize("size", [7 << 20, 100 << 20], ids=["7 MB", "100 MB"])
def test_objects_without_end_in_documents_of_others(root, small, size: int) -> None:
    """They stay as they are, are named, and hinder only what they are in the place of."""
    put(root / "a/one.jpg", PHOTO)
    put(root / "b/one.jpg", PHOTO)
    data = long(b"[", b"0]", size)
    for file in FOREIGN:
        put(root / file, data)
    server = small(root)
    server.until(lambda: "one.jpg" in listed(server, "b"))
    put(root / "b/two.jpg", PHOTO)
    server.until(lambda: "two.jpg" in listed(server, "b"))
    assert [server.get(each)[0] for each in ("/folders?path=a", "/search?q=two")] == [409, 409]

    def health() -> str:
        return json.dumps(server.json("/health"))

    server.until(lambda: "_health.json is not Lenslet's own" in health())
    (root / "_health.json").rename(root / "others.json")
    server.until(lambda: all(f"{each} is not Lenslet's own" in health() for each in FOREIGN[:2]))
    (root / "_rollup_delta.json").rename(root / "others2.json")
    server.until(lambda: "_rollup.json is not Lenslet's own" in health())
    server.until(
        lambda: [i["path"] for i in server.json("/search?q=two")["items"]] == ["b/two.jpg"]
    )
    kept = ("a/_index.json", "others.json", "others2.json", "_rollup.json")
    assert all((root / file).read_bytes() == data for file in kept)


def write_heavy(root: pathlib.Path, count: int, character: str) -> None:
    """Photos with as many and as long tags as are allowed."""
    for number in range(count):
        put(root / f"a/{number}.jpg", PHOTO)
        tags = [f"{each:03}" + character * 197 for each in range(500)]
        sidecar = {"v": 1, "tags": tags, "notes": "", "updatedAt": "2026-01-01T00:00:00Z"}
        text = json.dumps(sidecar, ensure_ascii=False)
        put(root / f"a/{number}.jpg.json", text.encode())


@pytest.mark.parametrize(
    ("count", "character"), [(950, "\u20ac") if LONG else (100, "x")], ids=["long" if LONG else ""]
)
def test_a_manifest_of_many_long_tags_is_read_back(
    root, make_gallery: Callable[..., Gallery], count: int, character: str
) -> None:
    """It has pages of at most 8 MB, and each photo is read once."""
    write_heavy(root, count, character)
    gallery = make_gallery()
    gallery.index()
    assert len(gallery.told) == count
    names, first = [], gallery.folder("a")
    for page in range(first["pageCount"]):
        names += [i["name"] for i in gallery.app.get(f"/folders?path=a&page={page}").json["items"]]
        assert len(names) == (first["starts"] + [count])[page + 1]
    assert names == [f"{number}.jpg" for number in range(count)]
    assert max(file.stat().st_size for file in (root / "a").glob("_*.json")) < LARGEST_BYTES
    written = (root / "a/_index.json").stat().st_mtime_ns
    gallery.restart()
    gallery.index()
    assert len(gallery.told) == count
    assert (root / "a/_index.json").stat().st_mtime_ns == written
    assert gallery.app.get(f"/search?q=tag:499{character * 197}").json["total"] == count


def test_more_subfolders_than_a_manifest_holds_are_named(
    root, make_gallery: Callable[..., Gallery]
) -> None:
    put(root / "a/a.jpg", PHOTO)
    put(root / "more/a.jpg", PHOTO)
    for number in range(15_000):
        (root / f"more/{number:05}{'x' * 250}").mkdir()
    gallery = make_gallery()
    gallery.index()
    assert [*gallery.items("a")] == ["a.jpg"]
    problems = gallery.app.get("/health").json["library"]["problems"]["unreadableFolders"]
    assert [each["path"] for each in problems] == ["more"]
    assert "15000 subfolders" in problems[0]["reason"]


TAGS = [f"tag{number}" for number in range(501)]
SIDECARS = {
    "more than 1 MiB": ({"notes": "x" * (1 << 20)}, "1048576"),
    "501 tags": ({"tags": TAGS}, "501 tags are more than 500"),
    "a tag of 201 characters": ({"tags": ["x" * 201]}, "a tag has more than 200 characters"),
    "an integer of more than 64 bits": ({"tags": [], "mine": 2**64}, "64-bit"),
    "lists without end": ({"tags": [], "x": [[]] * 100_000}, "lists and objects"),
}


@pytest.mark.parametrize("case", SIDECARS)
def test_a_sidecar_over_a_limit_is_unreadable(
    root, make_gallery: Callable[..., Gallery], case: str
) -> None:
    more, reason = SIDECARS[case]
    put(root / "a.jpg", PHOTO)
    put(root / "a.jpg.json", text := json.dumps({"v": 1, **more}).encode())
    gallery = make_gallery()
    gallery.index()
    for answer in (
        gallery.app.get("/item?path=a.jpg", status=409),
        gallery.app.put_json("/item?path=a.jpg", {"notes": "x"}, status=409),
    ):
        assert answer.json["description"].startswith("a.jpg.json")
        assert reason in answer.json["description"]
    problems = gallery.app.get("/health").json["library"]["problems"]["unreadableSidecars"]
    assert [(each["path"], reason in each["reason"]) for each in problems] == [("a.jpg", True)]
    assert (root / "a.jpg.json").read_bytes() == text
    (root / "a.jpg.json").unlink()


def many(text: str) -> str:
    return f"[{','.join([text] * ((1 << 20) // (len(text) + 1) - 20))}]"


@pytest.mark.timing
@pytest.mark.parametrize(
    "shape", ['"\\ud83d\\ude00"', '"[{"', "0.12345678901234567", "7", '"a"', "{}"]
)
def test_a_sidecar_of_any_shape_is_parsed_in_proportion_and_can_be_written(
    root, make_gallery: Callable[..., Gallery], shape: str
) -> None:
    """What is accepted can be sent and written, or is said to be too large."""
    put(root / "a.jpg", PHOTO)
    text = '{"tags":["x"],"v":1,"mine":' + many(shape) + "}"
    put(root / "a.jpg.json", text.encode())
    app = make_gallery().app
    app.get("/item?path=a.jpg", status="*")
    begun = time.process_time()
    found = app.get("/item?path=a.jpg", status="*")
    edited = app.put_json("/item?path=a.jpg", {"notes": "n"}, status="*")
    assert time.process_time() - begun < 1  # ten times as much as measured
    assert edited.status_int in (200, 409, 422), edited.body
    if found.status_int == 409:
        assert "lists and objects" in found.json["description"]
    else:
        assert json.loads(found.body)["mine"] == json.loads(text)["mine"]


def test_a_session_takes_a_few_kb(root, serve: Callable[..., Server]) -> None:
    """Anybody may ask for one: what takes long to parse is refused before."""
    put(root / "a.jpg", PHOTO)
    server = serve(root, API_TOKEN="secret-123")
    assert server.request("POST", "/session", {"token": "secret-123"})[0] == 204
    assert server.request("POST", "/session", {"token": "x" * 5000})[0] == 401
    assert server.request("POST", "/session", {"token": [[]] * 2500})[0] == 413
    assert server.request("POST", "/session", {"token": "x" * 255_000})[0] == 413


def test_the_delta_is_never_larger_than_what_is_read(root, tmp_path) -> None:
    """If it would be, it stays as it is, and search knows after the next rollup."""
    put(root / "a.jpg", PHOTO)
    tree, generation = LocalTree(str(root)), "2026-01-01T00:00:00Z"
    rollup = Rollup(tree, LocalTree(str(tmp_path / "cache"), private=True))
    few = {Path(str(number)): generation for number in range(5)}

    def stored() -> dict[Path, str]:
        return parse_delta((root / "_rollup_delta.json").read_bytes())

    rollup.name(few, 0)
    assert stored() == few
    many_names = {Path(f"{'x' * 250}/{'y' * 250}/{number}"): generation for number in range(9_000)}
    rollup.name(many_names, 0)
    assert rollup.delta == few | many_names
    assert stored() == few
    assert (root / "_rollup_delta.json").stat().st_size < 1000


def test_a_manifest_in_a_bucket_that_is_too_large_is_made_again(
    bucket, make: Callable[..., Gallery]
) -> None:
    bucket.mkdir()
    put(bucket / "a/one.jpg", PHOTO)
    put(bucket / "a/_index.json", long(MANIFEST + b'"items":[', size=9 << 20))
    gallery = make(bucket)
    gallery.index()
    assert [*gallery.items("a")] == ["one.jpg"]
    assert len((bucket / "a/_index.json").read_bytes()) < 10_000
