"""Archives of folders and selections: what is in them, when they end, and who waits for them."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import pathlib
import socket
import struct
import threading
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import BROKEN_JPEG, MOST_SECONDS, Gallery, Server, jpeg, put
from hypothesis import given
from hypothesis import strategies as st
from test_pointers import point

from lenslet.archive import container as archive
from lenslet.storage.tree import Stat

Make = Callable[..., Gallery]
everywhere = pytest.mark.parametrize("root", ["folder", "bucket", "folder+state"], indirect=True)
LONG = jpeg() + bytes(400_000)  # more than is sent at once
BORDER = 2**31 - 1  # what fits the fields of `zipfile` without its ZIP64


@pytest.fixture
def gallery(indexed: Make, root: pathlib.Path) -> Gallery:
    """Two photos and a broken one in `2024/wedding`, one below it and one beside it, indexed."""
    for number, name in enumerate(("img2.jpg", "img10.jpg", "deep/été.jpg")):
        put(root / "2024/wedding" / name, jpeg(seed=number))
    put(root / "2024/wedding/img3.jpg", BROKEN_JPEG)
    put(root / "2024/a.jpg", jpeg(seed=9))
    return indexed(PAGE_SIZE="2")


def zipped(answer: Any) -> dict[str, bytes]:
    """The files of an archive that was sent, in order; its length and its checksums are right."""
    assert answer.content_type == "application/zip"
    assert answer.content_length == len(answer.body)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def post(gallery: Gallery, *paths: str, **more: Any) -> Any:
    return gallery.app.post_json("/zip", {"paths": paths}, **more)


@everywhere
def test_a_folder_is_sent_in_order_below_its_own_name(gallery: Gallery, root) -> None:
    names = ["img2.jpg", "img3.jpg", "img10.jpg"]
    wanted = {f"wedding/{name}": (root / "2024/wedding" / name).read_bytes() for name in names}
    answer = gallery.app.get("/zip?path=2024/wedding")
    assert list(zipped(answer).items()) == list(wanted.items())
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Accept-Ranges"] == "none"
    shown = answer.headers["Content-Disposition"]
    assert shown == 'attachment; filename="wedding.zip"'
    assert (
        gallery.app.get("/zip?path=2024/wedding", headers={"Range": "bytes=0-9"}).status_int == 200
    )


@everywhere
def test_all_below_a_folder_is_sent_if_asked_for(gallery: Gallery) -> None:
    below = ["wedding/img2.jpg", "wedding/img3.jpg", "wedding/img10.jpg", "wedding/deep/été.jpg"]
    found = zipped(gallery.app.get("/zip?path=2024&recursive=true"))
    assert list(found) == ["2024/a.jpg", *(f"2024/{name}" for name in below)]
    whole = zipped(gallery.app.get("/zip?recursive=true"))
    assert list(whole) == [f"photos/{name}" for name in found]


@everywhere
def test_a_selection_has_the_paths_below_its_common_folder(gallery: Gallery, root) -> None:
    first, last = "2024/wedding/img10.jpg", "2024/wedding/deep/été.jpg"
    found = zipped(post(gallery, first, f"/{last}", first))
    assert list(found) == ["img10.jpg", "deep/été.jpg"]
    assert found["img10.jpg"] == (root / first).read_bytes()
    assert list(zipped(post(gallery, first))) == ["img10.jpg"]
    named = post(gallery, first, "2024/a.jpg").headers["Content-Disposition"]
    assert 'filename="2024.zip"' in named


def test_what_a_search_finds_is_sent_below_the_folder(gallery: Gallery) -> None:
    gallery.settle(400)
    answer = gallery.app.get("/zip", {"path": "2024", "q": "img -name:img3"})
    assert list(zipped(answer)) == ["wedding/img2.jpg", "wedding/img10.jpg"]
    assert 'filename="2024.zip"' in answer.headers["Content-Disposition"]
    assert len(zipped(gallery.app.get("/zip?q=jpg"))) == 5
    gallery.app.get("/zip?path=2024&q=nothing", status=404)
    gallery.app.get("/zip?path=2024&q=date:x", status=400)


def test_a_form_may_ask_because_a_browser_saves_only_its_answer(gallery: Gallery) -> None:
    paths = json.dumps(["2024/a.jpg", "2024/wedding/deep/été.jpg"])
    answer = gallery.app.post("/zip", {"paths": paths})
    assert list(zipped(answer)) == ["a.jpg", "wedding/deep/été.jpg"]
    raw = json.dumps({"paths": ["2024/a.jpg"]})  # as curl sends it
    assert list(zipped(gallery.app.post("/zip", raw))) == ["a.jpg"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 422), (b"{}", 422), (b'{"paths": []}', 422), (b'{"paths": "a.jpg"}', 422), (b'{"paths": [1]}', 422),
     (b'{"paths": [""]}', 400), (b'{"paths": ["../x.jpg"]}', 400), (b'{"paths": ["2024"]}', 404), (b"paths=", 400),
     (b"paths=x", 400), (b'paths=["2024/a.jpg"]&more=1', 400), (b'{"paths": ["2024/a.jpg", "2024/no.jpg"]}', 404),
     (json.dumps({"paths": ["a.jpg"] * 5001}).encode(), 422), (b" " * 270_000, 413)],
)  # fmt: skip
def test_a_wrong_selection_is_refused_whole(gallery: Gallery, body: bytes, status: int) -> None:
    answer = gallery.app.post("/zip", body, status=status)
    assert set(answer.json) == {"title", "description"}


def test_an_odd_name_is_kept_and_names_the_download(make_gallery: Make, root) -> None:
    for name in ("été 'q' 100%", "😀; a,b"):
        put(root / name / "a'b.jpg")
        gallery = make_gallery()
        gallery.index()
        answer = gallery.app.get("/zip?path=" + urllib.parse.quote(name))
        assert list(zipped(answer)) == [f"{name}/a'b.jpg"]
        shown = answer.headers["Content-Disposition"]
        assert urllib.parse.unquote(shown.partition("UTF-8''")[2]) == f"{name}.zip"
        assert shown.isascii() and '"' not in shown


def test_names_that_windows_cannot_unpack_are_others_and_each_once(indexed: Make, root) -> None:
    wanted = {
        "12:30?.jpg": "12_30_.jpg", "12_30_.jpg": "12_30_ (2).jpg", "A.JPG": "A.JPG",
        "a.jpg": "a (3).jpg", "a (2).jpg": "a (2).jpg", "con.jpg": "con_.jpg",
        "console.jpg": "console.jpg", "end. /x.jpg": "end__/x.jpg", "e\u0301.jpg": "e\u0301.jpg",
        "\xe9.jpg": "\xe9 (2).jpg", '"<*>|".jpg': "______.jpg", "Nul/a..jpg": "Nul_/a..jpg",
    }  # fmt: skip
    for number, name in enumerate(wanted):
        put(root / "t" / name, jpeg(seed=number))
    gallery = indexed()
    sent = zipped(gallery.app.get("/zip?path=t&recursive=true"))
    assert {sent[f"t/{new}"]: new for new in wanted.values()} == {
        (root / "t" / name).read_bytes(): new for name, new in wanted.items()
    }


@everywhere
def test_head_has_the_length_and_opens_no_image(gallery: Gallery, root) -> None:
    got = gallery.app.get("/zip?path=2024/wedding")
    (root / "2024/wedding/img2.jpg").unlink()
    head = gallery.app.head("/zip?path=2024/wedding")
    assert (head.body, head.content_length) == (b"", len(got.body))
    assert set(head.headers) == set(got.headers)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(1_700_000_001, 1_700_000_001), (-5, 315_532_800), (2**33, 2**31 - 1)],
)
def test_the_time_of_an_image_is_kept_to_the_second(
    indexed: Make, root, seconds: int, kept: int
) -> None:
    """From 1980 to 2038, which is what ZIP has room for."""
    os.utime(put(root / "f/a.jpg"), (seconds, seconds))
    gallery = indexed()
    with zipfile.ZipFile(io.BytesIO(gallery.app.get("/zip?path=f").body)) as found:
        (info,) = found.infolist()
    assert struct.unpack("<2HBl", info.extra) == (0x5455, 5, 1, kept)
    if kept == seconds:
        assert info.date_time == (2023, 11, 14, 22, 13, 20)
    assert info.external_attr >> 16 == 0o100644


def test_a_folder_without_images_or_that_is_missing_answers_404(gallery: Gallery, root) -> None:
    (root / "empty").mkdir()
    gallery.index()
    for path in ("empty", "", "none", ".hidden"):
        assert gallery.app.get(f"/zip?path={path}", status=404).json["description"]
    for flag in ("", "perhaps"):
        gallery.app.get(f"/zip?path=2024&recursive={flag}", status=400)


def test_a_folder_that_is_not_indexed_yet_answers_202(gallery: Gallery, root) -> None:
    put(root / "new/deep/b.jpg")
    answer = gallery.app.get("/zip?path=new&recursive=true", status=202)
    assert answer.json["poll"] == "/zip?path=new&recursive=true"
    gallery.settle(400)
    assert list(zipped(gallery.app.get(answer.json["poll"]))) == ["new/deep/b.jpg"]


def test_pointers_are_followed_but_not_around(indexed: Make, root) -> None:
    put(root / "art/one.jpg")
    put(root / "art/deep/two.jpg")
    point(root / "all/C", "art")
    point(root / "all/broken", "nowhere")
    point(root / "all/around", "all")
    put(root / "all/three.jpg")
    gallery = indexed()
    found = zipped(gallery.app.get("/zip?path=all&recursive=true"))
    assert list(found) == ["all/three.jpg", "all/C/one.jpg", "all/C/deep/two.jpg"]
    gallery.app.get("/zip?path=all/around", status=508)
    gallery.app.get("/zip?path=all/broken", status=403)


FORGED = ["", ".", "..", "../outside", "a/../..", "a//", "sub/../sub", "\\u0000", "x\\\\y"]


def test_a_forged_manifest_leads_nowhere_else(indexed: Make, root, tmp_path) -> None:
    put(tmp_path / "outside/secret.jpg")
    put(root / "sub/a.jpg")
    gallery = indexed()
    forged = ",".join(f'{{"name":"{name}","kind":"branch"}}' for name in FORGED)
    for folder in (root, root / "sub"):
        text = (folder / "_index.json").read_text().replace('"dirs":[', f'"dirs":[{forged},')
        (folder / "_index.json").write_text(text.replace(",]", "]"))
    assert list(zipped(gallery.app.get("/zip?recursive=true"))) == ["photos/sub/a.jpg"]
    stat = os.stat(tmp_path / "outside/secret.jpg")
    rev = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    text = (root / "sub/_index.json").read_text().replace("a.jpg", "../../outside/secret.jpg")
    known = gallery.items("sub")["a.jpg"]
    text = text.replace(known["rev"], rev).replace(f":{known['size']},", f":{stat.st_size},")
    (root / "sub/_index.json").write_text(text)
    gallery.app.get("/zip?path=sub", status=400)


def spoil(path: Any, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(jpeg(seed=77) + bytes(9))


@everywhere
@pytest.mark.parametrize("how", ["missing", "shorter", "another"])
def test_an_image_that_has_changed_ends_the_connection(indexed: Make, root, how) -> None:
    put(root / "f/1.jpg", LONG)
    put(root / "f/2.jpg")
    put(root / "f/3.jpg")
    gallery = indexed()
    spoil(root / "f/2.jpg", how)
    with pytest.raises(ConnectionResetError):
        gallery.app.get("/zip?path=f")
    spoil(root / "f/1.jpg", how)
    refused = gallery.app.get("/zip?path=f", status=404 if how == "missing" else 503)
    assert "f/1.jpg" in refused.json["description"]
    assert "Content-Disposition" not in refused.headers
    gallery.settle()  # the first to meet it has had the folder looked at
    assert "f/3.jpg" in zipped(gallery.app.get("/zip?path=f"))


# Archives of any size


class Sparse(io.RawIOBase):
    """A file of NUL bytes."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int | None = -1, /) -> bytes:
        size = min(size or 0, self.left)
        self.left -= size
        return bytes(size)


def made(sizes: list[int], names: list[str]) -> Iterator[bytes]:
    files: Any = [
        (name, Stat(size, 0), Sparse(size)) for name, size in zip(names, sizes, strict=True)
    ]
    return archive.pieces(files)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20), st.integers(0, 600_000), max_size=5))  # fmt: skip
def test_the_length_is_known_before(files: dict[str, int]) -> None:
    names, sizes = [*files], [*files.values()]
    data = b"".join(made(sizes, names))
    assert len(data) == archive.length(files.items())
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert [each.file_size for each in found.infolist()] == sizes
        assert found.testzip() is None


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[BORDER - 1, 3], [BORDER, 3], [1] * 65_535])
def test_large_archives_are_whole(tmp_path: pathlib.Path, sizes: list[int]) -> None:
    names, zeros = [f"{number}.jpg" for number in range(len(sizes))], bytes(1 << 20)
    whole = [int(size) for size in sizes]
    with (tmp_path / "a.zip").open("wb") as file:
        for piece in made(whole, names):
            if zeros.startswith(piece):
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
    assert (tmp_path / "a.zip").stat().st_size == archive.length(zip(names, whole, strict=True))
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        assert [each.file_size for each in found.infolist()] == whole
        assert found.testzip() is None


# Many at once


def start(server: Server, route: str) -> http.client.HTTPResponse:
    """A download of which the client has read only the head."""
    url = f"http://127.0.0.1:{server.port}{route}"
    found: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=MOST_SECONDS)
    return found


def read_slowly(client: socket.socket) -> None:
    """Reads 80 KiB in a second, until there is no more."""
    with contextlib.suppress(OSError):
        while client.recv(8 << 10):
            time.sleep(0.1)


def test_who_reads_all_the_time_but_slowly_gives_way_too(serve, root) -> None:
    with put(root / "f/0.jpg").open("r+b") as file:
        file.truncate(100_000_000)
    put(root / "g/a.jpg")
    server: Server = serve(root, WEB_CONCURRENCY="1")
    server.until(lambda: len(server.json("/folders?path=f").get("items", [])) == 1)
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            clients.callback(client.shutdown, socket.SHUT_RDWR)
            client.sendall(b"GET /zip?path=f HTTP/1.1\r\nHost: localhost\r\n\r\n")
            threading.Thread(target=read_slowly, args=(client,), daemon=True).start()
        server.until(lambda: server.get("/zip?path=g")[0] == 503)
        server.until(lambda: server.get("/zip?path=g")[0] == 200)


def test_who_reads_slowly_gives_way_to_others_and_holds_no_thread(serve, root) -> None:
    with put(root / "f/0.jpg").open("r+b") as file:
        file.truncate(100_000_000)
    put(root / "g/a.jpg")
    server: Server = serve(root, WEB_CONCURRENCY="1", WEB_THREADS="6")
    server.until(lambda: len(server.json("/folders?path=f").get("items", [])) == 1)
    with contextlib.ExitStack() as clients:
        slow = [clients.enter_context(start(server, "/zip?path=f")) for _ in range(4)]
        assert server.get("/zip?path=g")[0] == 503
        server.until(lambda: server.get("/zip?path=g")[0] == 200)
        for _ in range(4):  # more than there are threads
            server.until(lambda: server.get("/zip?path=g")[0] == 200)
            slow.append(clients.enter_context(start(server, "/zip?path=f")))
        for each in slow[:4]:
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                each.read()
        assert server.get("/folders?path=f")[0] == 200
        clients.close()
        server.until(lambda: server.get("/zip?path=g")[0] == 200)
    assert "Traceback" not in server.log.read_text()


def test_only_so_many_archives_are_sent_at_a_time(serve, root) -> None:
    for number in range(4):
        with put(root / f"f/{number}.jpg").open("r+b") as file:
            file.truncate(30_000_000)
    put(root / "g/a.jpg")
    server: Server = serve(root, WEB_CONCURRENCY="1")
    server.until(lambda: len(server.json("/folders?path=f").get("items", [])) == 4)
    with contextlib.ExitStack() as clients:
        downloads = [clients.enter_context(start(server, "/zip?path=f")) for _ in range(4)]
        assert [each.status for each in downloads] == [200] * 4
        assert server.get("/folders?path=f")[0] == 200
        status, body = server.get("/zip?path=g")
        assert (status, json.loads(body)["description"][:10]) == (503, "4 archives")
        downloads.pop().close()
        assert server.until(lambda: server.get("/zip?path=g")[0] == 200)
        (root / "f/3.jpg").unlink()
        with pytest.raises(http.client.IncompleteRead):
            downloads[0].read()
    server.until(lambda: server.get("/zip?path=g")[0] == 200)
    assert "Traceback" not in server.log.read_text()
