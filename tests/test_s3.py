"""A library in a bucket, on a real S3 server: what it asks, what it survives, where it points."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from buckets import BucketPath, Service, start_moto
from conftest import Gallery, exif, free_port, jpeg, put, wait_for

from lenslet.index.messages import Look, Rebuild
from lenslet.index.scan import Scan
from lenslet.paths import Path

Make = Callable[..., Gallery]


@pytest.fixture
def indexed(make: Make) -> Make:
    """Makes a host that has indexed what is there."""

    def indexed(root: Any, **settings: str) -> Gallery:
        gallery = make(root, **settings)
        gallery.index()
        return gallery

    return indexed


def counted(bucket: BucketPath, act: Callable[[], object]) -> dict[str, int]:
    """The requests that something costs."""
    bucket.service.reset()
    act()
    return bucket.service.counts()


# Few requests


def kinds(folder: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["kind"] for entry in folder["dirs"]}


def test_indexing_costs_one_listing_a_folder_and_one_get_an_image(make, ours) -> None:
    folders, images = 5, 12
    for folder in range(folders):
        for number in range(images):
            put(ours / f"d{folder}/{number}.jpg", jpeg(40, 30, seed=number))
    gallery = make(ours)
    first = counted(ours, gallery.index)
    keys = ours.all_keys()
    of_images = folders * images
    assert sum(key.endswith(".thumbnail") for key in keys) == of_images
    assert first["LIST"] <= 2 * (folders + 1) + 3  # when it begins, and when its images are read
    # two conditional looks at each manifest, and the small files at the root
    assert first["GET"] <= of_images + 2 * (folders + 1) + 20
    assert first["PUT"] <= of_images + 2 * (folders + 1) + 4 + 4  # to try the store's conditions
    assert "HEAD" not in first and first["DELETE"] <= 1
    counted(ours, gallery.index)
    cost = counted(ours, gallery.index)
    assert cost.pop("GET") <= 3  # the rollup's head, the delta, the report
    assert cost == {"LIST": folders + 1}


ENDPOINTS = [
    ("GET", "/folders?path=d", {"GET": 1}),
    ("GET", "/thumb?path=d/a.jpg", {"GET": 1}),
    ("GET", "/item?path=d/a.jpg", {"GET": 1}),
    ("PUT", "/item?path=d/a.jpg", {"GET": 1, "PUT": 1}),
    ("DELETE", "/item?path=d/b.jpg", {"GET": 2, "PUT": 1, "DELETE": 1}),
    ("GET", "/file?path=d/a.jpg", {}),
    ("HEAD", "/file?path=d/a.jpg", {}),
    ("GET", "/search?q=a", {"GET": 2}),
    ("GET", "/health", {"GET": 3}),  # the report, links, saved searches
    ("GET", "/health/live", {}),
]


def test_each_endpoint_costs_few_requests(indexed, ours) -> None:
    put(ours / "d/a.jpg")
    put(ours / "d/b.jpg")
    gallery = indexed(ours, PRESIGN_SECONDS="900")
    gallery.app.put("/item?path=d/b.jpg", b'{"tags": ["x"]}')
    gallery.found("a")
    for method, route, most in ENDPOINTS:

        def ask(method: str = method, route: str = route) -> None:
            gallery.app.request(route, method=method, body=b'{"tags": ["y"]}')

        gallery.app.request("/folders?path=d")  # as a page does before it asks for anything else
        cost = counted(ours, ask)
        manifests = 0 if route.startswith(("/search", "/health", "/folders")) else 2
        allowed = most | {"GET": most.get("GET", 0) + manifests}  # each asks whether it is still so
        assert all(count <= allowed.get(kind, 0) for kind, count in cost.items()), (route, cost)


def test_tags_cost_one_get_and_one_put_an_image_and_search_one_get(indexed, ours) -> None:
    paths = [f"d/{number}.jpg" for number in range(20)]
    for path in paths:
        put(ours / path)
    gallery = indexed(ours, fresh_seconds="2")
    gallery.app.put("/item?path=d/0.jpg", b'{"tags": ["before"]}')  # tries the store's conditions
    gallery.index()
    body = {"paths": paths, "add": ["new"]}
    cost = counted(ours, lambda: gallery.app.post_json("/items/tags", body))
    assert cost["PUT"] == 20 and 20 <= cost["GET"] <= 21  # and perhaps the manifest
    gallery.index()
    assert sum(ours.service.gets(".jpg.json").values()) == 2 * 20
    assert not ours.service.gets(".lenslet.json") and not ours.service.gets(".jpg")
    assert len(gallery.found("tag:new")) == 20


def test_an_edit_meets_files_that_the_manifest_does_not_know_yet(indexed, ours) -> None:
    """The preferred file stays the one that counts, also if it came a moment ago."""
    put(ours / "a.jpg")
    put(ours / "a.jpg.json", b'{"of": "another program"}')
    gallery = indexed(ours)
    put(ours / "a.jpg.lenslet.json", b'{"v": 1, "tags": ["old"], "notes": "theirs"}')
    for tags in (["new"], ["newer"]):
        gallery.app.put_json("/item?path=a.jpg", {"tags": tags})
        stored = json.loads((ours / "a.jpg.lenslet.json").read_text())
        assert (stored["tags"], stored["notes"]) == (tags, "theirs")
        gallery.index()
    assert gallery.items()["a.jpg"]["notes"] == "theirs"


def test_an_edit_is_for_the_photo_that_is_shown_and_not_for_one_that_replaced_it(
    indexed, ours
) -> None:
    put(ours / "a.jpg", jpeg(seed=1, exif=exif(DateTimeOriginal="2024:06:01 12:00:00")))
    gallery = indexed(ours)
    first = gallery.items()["a.jpg"]["hash"]
    put(ours / "a.jpg", jpeg(seed=2, exif=exif(DateTimeOriginal="2024:06:02 12:00:00")))
    gallery.app.put_json("/item?path=a.jpg", {"tags": ["mine"]})
    assert json.loads((ours / "a.jpg.json").read_text())["hash"] == first
    gallery.index()
    assert "tags" not in gallery.items()["a.jpg"]
    put(ours / "moved.jpg", jpeg(seed=1, exif=exif(DateTimeOriginal="2024:06:01 12:00:00")))
    gallery.index()
    gallery.settle(60)
    assert gallery.items()["moved.jpg"]["tags"] == ["mine"]


def test_an_image_that_is_not_indexed_has_no_size_yet(make, ours) -> None:
    """No request decodes an image; asking costs no more than a byte of it."""
    put(ours / "d/big.jpg", jpeg(1200, 800, exif=exif(Orientation=6)))
    gallery = make(ours)
    assert gallery.app.get("/item?path=d/big.jpg").json["exif"] == {"width": 0, "height": 0}
    cost = counted(ours, lambda: gallery.app.get("/item?path=d/big.jpg"))
    assert cost["GET"] <= 6 and "HEAD" not in cost  # manifest (twice missing), one byte, sidecars
    gallery.index()
    assert gallery.app.get("/item?path=d/big.jpg").json["exif"]["width"] == 800


# Views


def test_a_folder_that_is_viewed_is_listed_at_once_and_not_again_soon(indexed, ours) -> None:
    put(ours / "d/0.jpg")
    gallery = indexed(ours, SCAN_SECONDS="86400")
    put(ours / "d/new.jpg")

    def view() -> int:
        gallery.app.get("/folders?path=d")
        return counted(ours, lambda: gallery.settle(20)).get("LIST", 0)

    assert view()
    assert "new.jpg" in gallery.items("d")
    assert [view(), view()] == [0, 0]


# Originals


def test_an_original_is_fetched_from_the_bucket_itself(indexed, bucket) -> None:
    name = 'naïve + "q" 😀#%.jpg'
    put(bucket / name, jpeg(90, 60))
    gallery = indexed(bucket, PRESIGN_SECONDS="60")
    head = gallery.app.head("/file?" + urllib.parse.urlencode({"path": name}), status=200)
    assert head.content_length == len((bucket / name).read_bytes())
    # A client that keeps a redirect may have one whose URL has ended: it must get a new one.
    for known in ("", head.headers["ETag"], "*"):
        answer = gallery.app.get("/file", {"path": name}, headers={"If-None-Match": known})
        assert (answer.status_int, answer.headers["Cache-Control"]) == (302, "private, max-age=30")
        with urllib.request.urlopen(answer.headers["Location"], timeout=20) as original:
            assert original.read() == (bucket / name).read_bytes()
            assert original.headers["Content-Type"] == "image/jpeg"
            assert urllib.parse.quote(name, safe="") in original.headers["Content-Disposition"]
    gallery.app.get("/file?path=nope.jpg", status=404)


def test_an_original_that_changed_since_is_passed_on_as_it_is_now(make, bucket) -> None:
    """A download that is resumed never mixes two objects."""
    put(bucket / "a.jpg", jpeg(90, 60))
    gallery, new = make(bucket), jpeg(300, 200)
    gallery.index()
    tag = gallery.app.head("/file?path=a.jpg").headers["ETag"]
    (bucket / "a.jpg").write_bytes(new)
    answer = gallery.app.get("/file?path=a.jpg", headers={"Range": "bytes=0-9"}, status=206)
    assert answer.body == new[:10]
    assert answer.headers["Content-Range"] == f"bytes 0-9/{len(new)}"
    headers = {"Range": "bytes=100-199", "If-Range": tag}
    answer = gallery.app.get("/file?path=a.jpg", headers=headers, status=200)
    assert answer.body == new and "Content-Range" not in answer.headers


# Editing safely


def test_an_edit_that_was_acknowledged_outlives_a_delete_of_what_was_before(make, ours) -> None:
    """The store passes over the condition of a DELETE, as Ceph does."""
    put(ours / "a.jpg")
    one, other = make(ours), make(ours)
    one.index()
    tag = one.app.put("/item?path=a.jpg", b'{"notes": "1"}').headers["ETag"]
    other.app.put("/item?path=a.jpg", b'{"notes": "2"}')
    one.app.delete("/item?path=a.jpg", headers={"If-Match": tag}, status=412)
    assert other.app.get("/item?path=a.jpg").json["notes"] == "2"
    one.app.delete("/item?path=a.jpg", status=204)
    assert not (ours / "a.jpg.json").exists()
    other.app.put("/item?path=a.jpg", b'{"notes": "3"}', status=200)


def test_no_acknowledged_edit_is_lost_with_8_writers_on_3_hosts(make, bucket) -> None:
    put(bucket / "a.jpg")
    hosts = [make(bucket) for _ in range(3)]
    hosts[0].index()
    acknowledged: list[str] = []

    def write(writer: int) -> None:
        for number in range(5):
            key = f"key {writer} {number}"
            body = json.dumps({key: number, "tags": [key]}).encode()
            answer = hosts[writer % 3].app.put("/item?path=a.jpg", body, expect_errors=True)
            if answer.status_int == 200:
                acknowledged.append(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    stored = json.loads((bucket / "a.jpg.json").read_text())
    assert len(acknowledged) == 40
    assert [key for key in acknowledged if key not in stored] == []


def test_an_edit_whose_answer_was_lost_is_stored_once(indexed, ours) -> None:
    put(ours / "a.jpg")
    gallery = indexed(ours)
    gallery.app.put("/item?path=a.jpg", b'{"tags": ["x"]}')
    ours.service.fault("PUT", "a.jpg.json", -500, "InternalError", 1)
    answer = gallery.app.put("/item?path=a.jpg", b'{"tags": ["x", "y"], "count": 1}', status=200)
    assert (answer.json["tags"], answer.json["count"]) == (["x", "y"], 1)
    assert json.loads((ours / "a.jpg.json").read_text())["tags"] == ["x", "y"]


@pytest.mark.parametrize(
    "fault",
    [
        ("CONDITIONAL", "", 501, "NotImplemented"),
        ("CONDITIONAL", "", 0, ""),
        ("IF_MATCH", "", 412, "PreconditionFailed"),  # as Ceph 16 does in a bucket with versions
    ],
)
def test_a_store_without_conditional_writes_is_indexed_not_edited(indexed, ours, fault) -> None:
    put(ours / "a.jpg")
    ours.service.fault(*fault)
    gallery = indexed(ours)
    for _ in range(2):
        answer = gallery.app.put("/item?path=a.jpg", b'{"notes": "1"}', status=501)
        assert "conditional writes" in answer.json["description"]
    assert "conditional writes" in gallery.app.get("/health").json["reasons"][0]
    put(ours / "b.jpg")
    gallery.index()
    gallery.settle(300)
    assert gallery.items()["b.jpg"]["hasThumb"] is True
    assert gallery.found("jpg") == ["a.jpg", "b.jpg"]
    assert [key for key in ours.all_keys() if key.startswith(".") or key == "a.jpg.json"] == []


def test_a_put_that_arrives_late_does_not_undo_a_later_delete(indexed, ours) -> None:
    """It was meant to replace an earlier mark of removal, which no later mark is equal to."""
    put(ours / "a.jpg")
    gallery = indexed(ours)
    route, sidecar = "/item?path=a.jpg", ours / "a.jpg.json"
    gallery.app.put(route, b'{"notes": "1"}')
    gallery.app.delete(route, status=204)
    mark = sidecar.get()
    gallery.app.put(route, b'{"notes": "2"}')
    gallery.app.delete(route, status=204)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        sidecar.write_bytes(b'{"v": 1, "notes": "late"}', IfMatch=mark["ETag"])
    assert gallery.app.get(route).json["notes"] == ""
    assert mark["Body"].read().strip() == b""  # a copy of the bucket has a file without content


def test_two_hosts_that_index_one_folder_at_once_lose_none_of_its_items(make, bucket) -> None:
    for number in range(30):
        put(bucket / f"d/{number}.jpg", jpeg(60 + number, 40))
    hosts = [make(bucket) for _ in range(2)]
    for host in hosts:
        host.loop.work.later(Scan(full=True), 0.0)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: host.settle(60), hosts))
    items = hosts[0].items("d")
    assert {name: item["w"] for name, item in items.items()} == {
        f"{number}.jpg": 60 + number for number in range(30)
    }
    assert all(item["hasThumb"] and "hash" in item for item in items.values())
    assert len(hosts[1].found("path:d", limit=100)) == 30


def test_hosts_find_what_others_edit(make, bucket) -> None:
    """Each adds to the rollup's delta on top of what the other has written."""
    for number in range(4):
        put(bucket / f"d{number}/a.jpg")
    one, other = make(bucket), make(bucket)
    one.index()
    other.index()
    for host, folder, tag in ((one, "d0", "red"), (other, "d1", "blue"), (one, "d2", "green")):
        host.app.put(f"/item?path={folder}/a.jpg", json.dumps({"tags": [tag]}).encode())
        host.settle(30)
    for host in (one, other):
        found = [host.found(f"tag:{tag}") for tag in ("red", "blue", "green")]
        assert found == [["d0/a.jpg"], ["d1/a.jpg"], ["d2/a.jpg"]]
    other.loop.send(Rebuild())
    other.settle(30)
    one.index()
    assert one.found("tag:red") == ["d0/a.jpg"]
    suggested = one.app.get("/search/suggest?q=g").json["suggestions"]
    assert {"text": "green", "count": 1, "kind": "tag"} in suggested


# What the bucket holds


def test_keys_that_cannot_be_a_path_are_counted_and_shown_escaped(indexed, bucket) -> None:
    for key in ("d/a.jpg", "d//b.jpg", "d/back\\slash.jpg", "d/\x01.jpg", "d/../up.jpg", "d/"):
        (bucket / "x").service.client.put_object(Bucket=bucket.bucket, Key=key, Body=jpeg(8, 6))
    gallery = indexed(bucket)
    assert set(gallery.items("d")) == {"a.jpg"}
    problems = gallery.app.get("/health").json["library"]["problems"]["unusableNames"]
    assert sorted(problem["path"] for problem in problems) == [
        "d/..", "d//", "d/\\x01.jpg", "d/back\\x5cslash.jpg",
    ]  # fmt: skip
    too_long = "q/" * 600 + "q.jpg"
    for path in ("nope", "nope.jpg", "d/nope.jpg", "d/a.jpg/x.jpg", "_index.json", too_long):
        for route in ("/folders", "/item", "/thumb", "/file"):
            gallery.app.get(route, {"path": path}, status=404)


def test_new_changed_and_removed_objects_are_found_by_the_next_scan(indexed, bucket) -> None:
    for name in ("stays", "changes", "goes"):
        put(bucket / f"d/{name}.jpg")
    put(bucket / "gone/a.jpg")
    gallery = indexed(bucket)
    before = gallery.items("d")
    (bucket / "d/changes.jpg").write_bytes(jpeg(77, 55))
    (bucket / "d/goes.jpg").unlink()
    put(bucket / "d/new/deep/b.jpg", jpeg(33, 22))
    for key in (bucket / "gone").all_keys():
        (bucket / key).unlink()
    gallery.index()
    items = gallery.items("d")
    assert set(items) == {"stays.jpg", "changes.jpg"}
    assert items["stays.jpg"] == before["stays.jpg"]
    assert (items["changes.jpg"]["w"], items["changes.jpg"]["hasThumb"]) == (77, True)
    found = [kinds(gallery.folder(path)) for path in ("", "d", "d/new")]
    assert found == [{"d": "leaf-real"}, {"new": "branch"}, {"deep": "leaf-real"}]
    gallery.settle(30)
    assert gallery.found("deep") == ["d/new/deep/b.jpg"]
    assert gallery.found("goes") == gallery.found("gone") == []


def test_derived_objects_all_come_back_and_sidecars_stay(indexed, bucket) -> None:
    put(bucket / "d/a.jpg")
    put(bucket / "b.jpg")
    gallery = indexed(bucket)
    gallery.app.put("/item?path=d/a.jpg", b'{"tags": ["mine"]}')
    gallery.settle(30)
    for key in bucket.all_keys():
        if not key.endswith((".jpg", ".jpg.json")):
            (bucket / key).unlink()
    again = indexed(bucket)
    assert again.found("tag:mine") == ["d/a.jpg"]
    assert again.app.get("/thumb?path=d/a.jpg").body[:4] == b"RIFF"
    thumbnail = (bucket / "d/a.jpg.thumbnail").get()
    assert thumbnail["Metadata"] == {"rev": again.items("d")["a.jpg"]["rev"]}
    assert thumbnail["ContentType"] == "image/webp"


# Errors that mean something

REFUSALS = [
    (403, "InvalidAccessKeyId", 503, "does not know the access key"),
    (403, "SignatureDoesNotMatch", 503, "does not accept the secret key"),
    (400, "ExpiredToken", 503, "credentials for the store have expired"),
    (403, "RequestTimeTooSkewed", 503, "clocks"),
    (404, "NoSuchBucket", 503, "no such bucket"),
    (503, "SlowDown", 503, "slow down"),
    (418, "Teapot", 502, "Teapot"),
    (403, "QuotaExceeded", 507, "no space left"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "answered", "said"), REFUSALS)
def test_what_a_store_refuses_is_said_in_the_answer_and_mended(
    indexed, ours, status, code, answered, said
) -> None:
    put(ours / "d/a.jpg")
    gallery = indexed(ours)
    ours.service.fault("*", ours.bucket, status, code)
    for route in ("/folders?path=d", "/item?path=d/a.jpg"):
        answer = gallery.app.get(route, status=answered)
        assert said in answer.json["description"]
        assert "traceback" not in answer.text.lower()
        assert ("Retry-After" in answer.headers) == (answered == 503)
    health = gallery.app.get("/health", status=503).json
    assert health["status"] == "down" and said in " ".join(health["reasons"])
    ours.service.reset()
    gallery.app.get("/folders?path=d", status=200)
    gallery.app.get("/health", status=200)


def test_an_archived_object_says_so_and_is_not_tried_again_and_again(indexed, ours) -> None:
    put(ours / "d/a.jpg")
    (ours / "d/cold.jpg").write_bytes(jpeg(), StorageClass="DEEP_ARCHIVE")
    gallery = indexed(ours)
    said = "archived (storage class DEEP_ARCHIVE): restore it"
    assert said in gallery.items("d")["cold.jpg"]["error"]
    assert said in gallery.app.get("/thumb?path=d/cold.jpg", status=422).json["description"]
    gallery.told.clear()
    gallery.settle(4000)
    assert gallery.told == []
    (ours / "d/cold.jpg").write_bytes(jpeg())  # as it was, restored
    gallery.app.post("/folders/d/reindex", status=202)
    gallery.settle()
    assert gallery.items("d")["cold.jpg"]["hasThumb"] is True


CIPHERS = [
    (400, "InvalidRequest: The object was stored using a form of Server Side Encryption. The correct "
     "parameters must be provided to retrieve the object.", "SSE-C cannot be read"),
    (403, "AccessDenied: User: x is not authorized to perform: kms:Decrypt on the resource", "allow kms:Decrypt"),
    (400, "KMS.DisabledException: arn:aws:kms:key is disabled.", "is encrypted (KMS.DisabledException)"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "said"), CIPHERS)
def test_an_object_that_cannot_be_decrypted_says_why(indexed, ours, status, code, said) -> None:
    put(ours / "d/a.jpg")
    put(ours / "d/b.jpg")
    ours.service.fault("GET", "d/b.jpg", status, code)
    gallery = indexed(ours)
    assert gallery.items("d")["a.jpg"]["hasThumb"] is True
    answer = gallery.app.get("/thumb?path=d/b.jpg", status=403).json["description"]
    assert "d/b.jpg" in answer and "is encrypted" in answer and said in answer
    (problem,) = gallery.app.get("/health").json["library"]["problems"]["unreadableFiles"]
    assert problem["path"] == "d/b.jpg" and said in problem["reason"]


def test_what_is_not_allowed_answers_403_with_the_key_and_the_action(indexed, ours) -> None:
    for name in ("a", "b", "c"):
        put(ours / f"d/{name}.jpg")
    ours.service.fault("GET", "d/b.jpg", 403, "AccessDenied")
    gallery = indexed(ours)
    items = gallery.items("d")
    assert [items[f"{name}.jpg"]["hasThumb"] for name in "abc"] == [True, False, True]
    answer = gallery.app.get("/thumb?path=d/b.jpg", status=403).json["description"]
    assert "s3:GetObject" in answer and "d/b.jpg" in answer
    ours.service.fault("PUT", "d/a.jpg.json", 403, "AccessDenied")
    answer = gallery.app.put("/item?path=d/a.jpg", b"{}", status=403).json["description"]
    assert "s3:PutObject" in answer and "d/a.jpg.json" in answer
    gallery.loop.send(Look(Path("d")))
    gallery.settle()
    (problem,) = gallery.app.get("/health").json["library"]["problems"]["unreadableFiles"]
    assert problem["path"] == "d/b.jpg" and "s3:GetObject" in problem["reason"]
    ours.service.reset()
    gallery.clock.now += 100
    gallery.index()
    assert gallery.items("d")["b.jpg"]["hasThumb"] is True
    gallery.app.put("/item?path=d/a.jpg", b"{}", status=200)
    gallery.loop.send(Look(Path("d")))
    gallery.settle()
    assert gallery.app.get("/health").json["reasons"] == []


def test_a_bucket_that_may_only_be_read_is_not_indexed_and_health_says_why(make, ours) -> None:
    put(ours / "d/a.jpg")
    ours.service.fault("PUT", ours.bucket, 403, "AccessDenied")
    gallery = make(ours)
    gallery.index()
    assert "s3:PutObject" in str(gallery.app.get("/health").json["reasons"])
    gallery.app.put("/item?path=d/a.jpg", b"{}", status=403)
    assert ours.all_keys() == ["d/a.jpg"]


def test_a_store_that_cannot_be_reached_is_waited_for(make, tmp_path, monkeypatch) -> None:
    port = free_port()
    service = Service(f"http://127.0.0.1:{port}", "key", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    gallery = make(BucketPath(service, "later"))
    answer = gallery.app.get("/folders", status=503)
    assert "cannot be reached" in answer.json["description"]
    assert gallery.app.get("/health", status=503).json["status"] == "down"
    gallery.index()
    started = start_moto(port)
    try:
        wait_for(lambda: started.reset() or True)
        started.client.create_bucket(Bucket="later")
        put(BucketPath(started, "later", "a.jpg"))
        gallery.index()
        assert gallery.items()["a.jpg"]["hasThumb"] is True
    finally:
        started.stop()


def test_a_path_that_is_not_there_costs_few_requests_however_deep(indexed, ours) -> None:
    put(ours / "a.jpg")
    gallery = indexed(ours)
    cost = counted(ours, lambda: gallery.app.get("/folders", {"path": "a/" * 300}, status=404))
    assert sum(cost.values()) <= 4


def test_what_a_failing_store_kept_from_a_manifest_is_written_later(make, ours) -> None:
    """A message that asks for the folder is kept until then."""
    put(ours / "d/a.jpg")
    gallery = make(ours, SCAN_SECONDS="0", JOBS_QUEUE_URL="http://127.0.0.1:9/queue")
    gallery.loop.send(Look(Path("d")))
    gallery.settle(60)
    put(ours / "d/new.jpg")
    ended: list[str] = []
    ours.service.fault("GET", "d/_index.json", 500, "InternalError", 6)
    ours.service.fault("LIST", ours.bucket, 500, "InternalError", 6)
    gallery.host.hold(Path("d"), lambda: ended.append("d"))
    gallery.loop.send(Look(Path("d")))
    gallery.settle(1)
    assert ended == []
    ours.service.reset()
    gallery.settle(200)
    assert gallery.items("d")["new.jpg"]["hasThumb"] is True
    assert ended == ["d"]


def test_what_a_dead_host_wrote_and_did_not_tell_search_is_found(make, bucket) -> None:
    for name in ("goes", "edited", "stays"):
        put(bucket / f"d/{name}.jpg")
    dead, other = make(bucket, SCAN_SECONDS="0"), make(bucket)
    other.index()
    (bucket / "d/goes.jpg").unlink()
    put(bucket / "d/new.jpg")
    edit = b'{"v": 1, "tags": ["new"], "updatedAt": "2024-01-01T00:00:00Z"}'
    put(bucket / "d/edited.jpg.json", edit)
    dead.loop.send(Look(Path("d")))
    while "new.jpg" not in dead.items("d"):
        dead.step()
    # The manifest says so, and it ends before search does.
    assert dead.items("d")["edited.jpg"]["tags"] == ["new"] and other.found("tag:new") == []
    other.index()
    other.settle(120)
    assert sorted(other.found("path:d")) == ["d/edited.jpg", "d/new.jpg", "d/stays.jpg"]
    assert other.found("tag:new") == ["d/edited.jpg"]


# Pointers


def pointer(folder: BucketPath, **target: str) -> None:
    more = {"label": "Elsewhere"}
    if target.pop("readonly", ""):
        more["readonly"] = True
    document = {"version": 1, "kind": "pointer", "target": {"type": "s3", **target}, **more}
    put(folder / ".lenslet.folder.json", json.dumps(document).encode())


@pytest.fixture(params=["bucket", "folder"])
def home(request, bucket, tmp_path):
    """A root that holds pointers: a bucket or a local folder."""
    if request.param == "bucket":
        return bucket
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_pointer_shows_another_bucket_under_its_own_path(make, indexed, home, bucket) -> None:
    other = bucket.service.bucket()
    put(other / "art/2024/one.jpg", jpeg(90, 60))
    put(other / "art/2024/deep/two.jpg", jpeg(30, 20))
    put(other / "secret.jpg")
    put(home / "own.jpg")
    pointer(home / "ptr", bucket=other.bucket, prefix="art/2024", region="us-east-1")
    gallery = indexed(home, POINTER_BUCKETS=other.bucket)
    shown = {"name": "ptr", "kind": "leaf-pointer", "label": "Elsewhere"}
    assert gallery.folder()["dirs"] == [{**shown, **gallery.cover("ptr/one.jpg")}]
    assert gallery.items("ptr")["one.jpg"]["hasThumb"] is True
    assert kinds(gallery.folder("ptr")) == {"deep": "leaf-real"}
    assert gallery.app.get("/thumb?path=ptr/deep/two.jpg").body[:4] == b"RIFF"
    assert gallery.app.get("/file?path=ptr/one.jpg").body == jpeg(90, 60)
    gallery.app.put("/item?path=ptr/deep/two.jpg", b'{"tags": ["far"]}')
    gallery.settle(30)
    assert gallery.found("tag:far") == ["ptr/deep/two.jpg"]
    assert set(other.all_keys()) == {
        "art/2024/one.jpg", "art/2024/deep/two.jpg", "art/2024/deep/two.jpg.json", "secret.jpg",
    }  # fmt: skip
    fresh = make(home, POINTER_BUCKETS=other.bucket)
    assert fresh.app.get("/item?path=ptr/deep/two.jpg").json["tags"] == ["far"]
    assert fresh.app.get("/item?path=ptr/one.jpg").json["exif"]["width"] == 90
    put(other / "art/2024/deep/three.jpg")
    gallery.clock.now += 130
    gallery.index()
    assert set(gallery.items("ptr/deep")) == {"two.jpg", "three.jpg"}


def test_a_pointer_into_its_own_bucket_is_one_into_the_root(make, indexed, bucket) -> None:
    put(bucket / "lib/art/one.jpg")
    pointer(bucket / "lib/ptr", bucket=bucket.bucket, prefix="lib/art/", readonly="yes")
    gallery = indexed(bucket / "lib")
    assert gallery.items("ptr")["one.jpg"]["hasThumb"] is True
    gallery.app.put("/item?path=ptr/one.jpg", b"{}", status=403)
    gallery.app.put("/item?path=art/one.jpg", b'{"tags": ["x"]}', status=200)
    gallery.index()
    assert gallery.app.get("/item?path=ptr/one.jpg").json["tags"] == ["x"]
    fresh = make(bucket / "lib")
    fresh.app.put("/item?path=ptr/one.jpg", b"{}", status=403)


def test_pointers_that_lead_nowhere_answer_for_their_own_folder(indexed, home, bucket) -> None:
    other = bucket.service.bucket()
    put(home / "fine/a.jpg")
    pointer(home / "strange", bucket="not-allowed")
    pointer(home / "missing", bucket=other.bucket, prefix="nothing/here")
    pointer(home / "nobucket", bucket="no-such-bucket-anywhere")
    put(home / "bad/.lenslet.folder.json", b"{")
    gallery = indexed(home, POINTER_BUCKETS=f"{other.bucket},no-such-bucket-anywhere")
    found = kinds(gallery.folder())
    assert found["fine"] == "leaf-real"
    assert found.keys() == {"bad", "fine", "missing", "nobucket", "strange"}
    for path, status in (("strange", 403), ("missing", 403), ("bad", 403), ("nobucket", 503)):
        for route in (f"/folders?path={path}", f"/thumb?path={path}/x.jpg"):
            assert gallery.app.get(route, status=status).json["description"]
    assert len(gallery.app.get("/health").json["library"]["problems"]["brokenPointers"]) == 3


def test_a_loop_through_two_buckets_is_found_however_it_is_reached(make, bucket) -> None:
    other = bucket.service.bucket()
    put(bucket / "own.jpg")
    put(bucket / "b/x.jpg")
    put(other / "c/y.jpg")
    pointer(bucket / "b/p", bucket=other.bucket, prefix="c")
    pointer(other / "c/q", bucket=bucket.bucket, prefix="b")
    gallery = make(bucket, POINTER_BUCKETS=other.bucket)
    for _ in range(4):
        gallery.index()
    found = [key for key in bucket.all_keys() if key.endswith("_index.json")]
    assert sorted(found) == ["_index.json", "b/_index.json", "b/p/_index.json"]
    for asked in (gallery, make(bucket, POINTER_BUCKETS=other.bucket)):
        assert len(asked.app.get("/folders?path=b/p/q", status=508).json["chain"]) > 1


def test_a_pointer_that_is_taken_back_is_obeyed(make, indexed, home, bucket) -> None:
    other, third = bucket.service.bucket(), bucket.service.bucket()
    put(other / "sub/y.jpg")
    put(third / "z.jpg")
    put(home / "own.jpg")
    pointer(home / "P", bucket=other.bucket)
    gallery = indexed(home, POINTER_BUCKETS=other.bucket)
    assert gallery.folder("P/sub")["items"]
    asked = make(home, POINTER_BUCKETS=other.bucket)
    pointer(home / "P", bucket=other.bucket, readonly="yes")
    asked.app.put("/item?path=P/sub/y.jpg", b"{}", status=403)  # at once, whatever was cached
    pointer(home / "P", bucket=third.bucket)
    gallery.clock.now += 130
    gallery.index()
    fresh = make(home, POINTER_BUCKETS=other.bucket)
    for path in ("P", "P/sub"):
        fresh.app.get("/folders", {"path": path}, status=403)
    fresh.app.put("/item?path=P/sub/y.jpg", b"{}", status=403)
    fresh.app.get("/file?path=P/sub/y.jpg", status=403)
    assert set(other.all_keys()) == {"sub/y.jpg"}


def test_a_folder_of_a_host_cannot_be_pointed_to_from_a_bucket(indexed, bucket, tmp_path) -> None:
    put(tmp_path / "local/a.jpg")
    target = {"type": "local", "path": str(tmp_path / "local")}
    document = json.dumps({"version": 1, "kind": "pointer", "target": target}).encode()
    put(bucket / "ptr/.lenslet.folder.json", document)
    gallery = indexed(bucket, POINTER_ROOTS=str(tmp_path))
    answer = gallery.app.get("/folders?path=ptr", status=403)
    assert str(tmp_path) not in answer.text


def test_a_pointer_keeps_its_sidecars_in_state_dir(make, indexed, home, bucket, tmp_path) -> None:
    other = bucket.service.bucket()
    put(other / "x/one.jpg")
    put(home / "own.jpg")
    pointer(home / "ptr", bucket=other.bucket, prefix="x")
    gallery = indexed(home, POINTER_BUCKETS=other.bucket, STATE_DIR=str(tmp_path / "state"))
    gallery.app.put("/item?path=ptr/one.jpg", b'{"tags": ["kept"]}')
    gallery.settle(30)
    fresh = make(home, POINTER_BUCKETS=other.bucket, STATE_DIR=str(tmp_path / "state"))
    assert fresh.app.get("/item?path=ptr/one.jpg").json["tags"] == ["kept"]
    assert other.all_keys() == ["x/one.jpg"]
    place = f".targets/s3/{other.bucket}/x/one.jpg.json"  # by target, not by pointer
    assert (tmp_path / "state" / place).is_file()
