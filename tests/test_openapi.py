"""The description of the routes, and what the service really answers."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ALL_ROUTES, DESCRIPTION, ROOT, Server, exif, jpeg, put

NAMES = {"/folders/{rest:path} put": ["/folders/{path}"], "/folders/{rest:path} post": ["/folders/{path}/reindex"],
         "/files/{rest:path} get": ["/files/{path}"], "/health/{part} get": ["/health/storage", "/health/workers"]}  # fmt: skip


def test_the_description_is_valid() -> None:
    from openapi_spec_validator import validate  # it takes half a second, in each process

    validate(DESCRIPTION)


def test_what_is_described_is_served(make_gallery) -> None:
    app = make_gallery().app
    answer = app.get("/openapi.json")
    assert answer.json == DESCRIPTION
    app.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}, status=304)


def test_every_route_and_method_is_described_and_no_other() -> None:
    served = {
        (name, method)
        for route, resource in ALL_ROUTES.items()
        for method in ("get", "put", "post", "delete")
        if hasattr(resource, f"on_{method}")
        for name in NAMES.get(f"{route} {method}", [route])
    }
    described = {
        (route, method) for route, methods in DESCRIPTION["paths"].items() for method in methods
    }
    assert described == served


def test_every_route_is_in_the_short_form_of_the_documents() -> None:
    text = (ROOT / "docs/api.md").read_text()
    for route in DESCRIPTION["paths"]:
        pattern = re.sub(r"\\\{\w+\\\}", r"[^/?'`]+(/img1\\.jpg)?", re.escape(route))
        assert re.search(rf"[0` ]{pattern}[?'`]", text), route


def test_a_generated_client_knows_the_type_of_every_answer() -> None:
    """openapi-python-client knows JSON, text and bytes; the documents say what others are."""
    text = (ROOT / "docs/api.md").read_text()
    known = dict(re.findall(r"^  (\S+/\S+): (\S+)$", text, re.MULTILINE))
    routes = [each for methods in DESCRIPTION["paths"].values() for each in methods.values()]
    answers = [*DESCRIPTION["components"]["responses"].values()]
    answers += [answer for route in routes for answer in route["responses"].values()]
    for kinds in filter(None, (answer.get("content") for answer in answers)):
        kind = next(iter(kinds))
        assert re.match(r"text/|application/(json|octet-stream)$", known.get(kind, kind)), kind


def samples() -> list[dict[str, Any]]:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    return [json.loads(block) for block in blocks]


def test_a_folder_answers_as_the_sample_in_the_documents(make_gallery, root) -> None:
    for name in ("2024/img1.jpg", "2024/img2.jpg", "2024/img3.jpg", "2024/Harbour/a.jpg"):
        put(root / name, jpeg(exif=exif(DateTimeOriginal="2025:02:15 14:32:00")))
    gallery = make_gallery(PAGE_SIZE="2")
    gallery.app.put_json("/item?path=2024/img1.jpg", {"tags": ["beach"]})
    gallery.index()
    gallery.index()
    sample, real = samples()[0], gallery.folder("2024")
    assert real.keys() == sample.keys()
    assert real["items"][0].keys() == sample["items"][0].keys()
    named = ("v", "path", "page", "pageCount", "itemCount", "starts")
    assert [real[key] for key in named] == [sample[key] for key in named]
    assert sample["dirs"][0].items() <= real["dirs"][0].items()


def test_the_table_has_every_key_of_an_item() -> None:
    text = (ROOT / "docs/api.md").read_text()
    table = text[text.index("| key of an item |") : text.index("More keys may be added.")]
    named = [
        key
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(named) == sorted(DESCRIPTION["components"]["schemas"]["Item"]["properties"])


def test_keys_of_ones_own_are_kept_and_so_is_a_typo_and_412_has_the_sidecar(indexed, root) -> None:
    put(root / "a.jpg")
    gallery = indexed()
    app = gallery.app
    app.put_json("/item?path=a.jpg", {"rating": 4, "tagz": ["x"]})
    shown = app.put_json("/item?path=a.jpg", {"tags": ["beach"], "rating": None}).json
    assert (shown["rating"], shown["tagz"], shown["tags"]) == (None, ["x"], ["beach"])
    headers = {"If-Match": '"abc"'}
    refused = app.put_json("/item?path=a.jpg", {"tags": []}, headers=headers, status=412)
    sample = samples()[1]
    assert {*refused.json} - {"rating", "tagz"} == {*sample}
    assert all(refused.json[key] == sample[key] for key in ("v", "tags", "title", "description"))


@pytest.mark.slow
def test_the_live_service_answers_as_described(
    serve: Callable[..., Server], root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """schemathesis makes requests from the description, valid and invalid ones.

    `Allow` of OPTIONS is left out: `/folders/{path}` and `/folders/{path}/reindex` are one route.
    """
    for name in ("art/2025/foo.webp", "art/a.jpg", "b.png"):
        os.utime(put(root / name, jpeg()), (1, 1))
    server = serve(root, THUMB_WAIT="0.1")
    server.until(lambda: server.json("/search?q=foo").get("total") == 1)
    command = [
        str(pathlib.Path(sys.executable).parent / "schemathesis"), "run",
        f"http://127.0.0.1:{server.port}/openapi.json", "--url", f"http://127.0.0.1:{server.port}",
        "--max-examples", os.environ.get("LENSLET_EXAMPLES", "10"), "--seed", "1", "--no-color",
        "--exclude-checks", "positive_data_acceptance,allow_header_conformance", "--generation-codec", "latin-1",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert "Traceback" not in server.log.read_text()
