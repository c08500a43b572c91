"""Many hosts on one bucket, and the queues that any host takes jobs from."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from buckets import BucketPath, Service
from conftest import MOST_SECONDS, ROOT, environ_of, jpeg, put, wait_for

from lenslet import config
from lenslet.cluster.host import BucketHost
from lenslet.cluster.sqs import Consumer, decode
from lenslet.errors import Invalid
from lenslet.index.messages import Look, Render, Request, encode
from lenslet.paths import Path
from lenslet.storage.s3_client import Client

MANY = int(os.environ.get("LENSLET_MANY", "100"))  # images


class Queues:
    """A queue, an urgent one and their dead letters, on the server that has the bucket too."""

    def __init__(self, service: Service, name: str, visibility: int = 5) -> None:
        where = {"endpoint_url": service.endpoint, "region_name": "us-east-1"}
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        self.client = boto3.client("sqs", **where, **keys)
        self.dead = self._make(f"{name}-dead", {})
        arn = self.attributes(self.dead, "QueueArn")["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
        attributes = {"VisibilityTimeout": str(visibility), "RedrivePolicy": policy}
        self.normal = self._make(name, attributes)
        self.urgent = self._make(f"{name}-urgent", attributes)

    def _make(self, name: str, attributes: dict[str, str]) -> str:
        url: str = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def attributes(self, url: str, *names: str) -> dict[str, str]:
        answer = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        found: dict[str, str] = answer["Attributes"]
        return found

    def count(self, url: str) -> int:
        """Messages that wait or are being worked on."""
        names = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        return sum(map(int, self.attributes(url, *names).values()))

    @property
    def empty(self) -> bool:
        return self.count(self.normal) + self.count(self.urgent) == 0

    @property
    def settings(self) -> dict[str, str]:
        return {"JOBS_QUEUE_URL": self.normal, "JOBS_URGENT_QUEUE_URL": self.urgent}

    def announce(self, bucket: BucketPath) -> None:
        """Have the bucket send its events to the queue."""
        arn = self.attributes(self.normal, "QueueArn")["QueueArn"]
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        bucket.service.client.put_bucket_notification_configuration(
            Bucket=bucket.bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": arn, "Events": events}]
            },
        )


@pytest.fixture
def queues(ours: BucketPath) -> Queues:
    return Queues(ours.service, ours.bucket)


class Host:
    """A host of its own: an index process alone (`worker.py`), or gunicorn."""

    def __init__(
        self, home: pathlib.Path, bucket: BucketPath, *flags: str, **settings: str
    ) -> None:
        home.mkdir(parents=True)
        self.environ = {k: v for k, v in os.environ.items() if k not in config.names()}
        self.environ |= {**environ_of(bucket), "XDG_CACHE_HOME": str(home), **settings}
        self.name = BucketHost(config.settings(self.environ), lambda look: False).name
        self.command = [sys.executable, str(ROOT / "worker.py"), *flags]
        self.log = home / "log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(MOST_SECONDS)


@pytest.fixture
def start(tmp_path, ours) -> Iterator[Callable[..., Host]]:
    """Starts index processes; everything started is stopped."""
    hosts: list[Host] = []

    def start(*flags: str, **settings: str) -> Host:
        hosts.append(Host(tmp_path / f"host{len(hosts)}", ours, *flags, **settings))
        return hosts[-1]

    yield start
    for host in hosts:
        host.kill()


def manifests(bucket: BucketPath) -> dict[str, dict[str, Any]]:
    """The items of every manifest in a bucket, by path."""
    found = {}
    for key in bucket.all_keys():
        if key.endswith("_index.json"):
            with contextlib.suppress(Exception):
                for item in json.loads((bucket / key).read_bytes())["items"]:
                    found[item["path"]] = item
    return found


def rendered(bucket: BucketPath) -> int:
    return sum(item["hasThumb"] and "hash" in item for item in manifests(bucket).values())


def photos(bucket: BucketPath, folders: int, images: int) -> None:
    for folder in range(folders):
        for number in range(images):
            put(bucket / f"d{folder}/{number}.jpg", jpeg(48, 32, seed=number))


# Messages

EVENT = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "s3": {
        "bucket": {"name": "b", "arn": "arn:aws:s3:::b"},
        "object": {"key": "pre/d%2Fa+b%2B%C3%A9.jpg", "size": 9, "eTag": "abc"},
    },
}


def event(key: str, name: str = "ObjectCreated:Put", bucket: str = "b") -> dict[str, Any]:
    item = {**EVENT["s3"]["object"], "key": urllib.parse.quote_plus(key)}  # type: ignore[index]
    return {**EVENT, "eventName": name, "s3": {"bucket": {"name": bucket}, "object": item}}


def test_events_of_s3_are_understood_as_they_are() -> None:
    assert decode(json.dumps({"Records": [EVENT]}), "b", "pre/") == [Look(Path("d"))]
    assert decode('{"Event": "s3:TestEvent"}', "b", "") == []


FOLDER = Look(Path("e"))


@pytest.mark.parametrize(
    ("record", "jobs"),
    [
        (event("x.jpg.thumbnail"), []),
        (event("_index.json"), []),
        (event("d/_rollup.json"), []),
        (event("x.txt"), []),
        (event("x.jpg", bucket="other"), []),
        (event("a//x.jpg"), []),
        (event("e/x.jpg"), [FOLDER]),
        (event("e/x.jpg.json"), [FOLDER]),
        (event("e/x.jpg.lenslet.json"), [FOLDER]),
        (event("e/.nomedia"), [FOLDER]),
        (event("e/x.jpg", "ObjectRemoved:Delete"), [FOLDER]),
        (event("e/x.jpg.thumbnail", "ObjectRemoved:Delete"), [FOLDER]),
    ],
)  # fmt: skip
def test_what_lenslet_wrote_itself_is_no_news(record, jobs) -> None:
    assert decode(json.dumps({"Records": [record]}), "b", "") == jobs


@pytest.mark.parametrize(
    "job",
    [
        Render(Path("a/é.jpg"), anew=True),
        Look(Path("a"), asked=True, deep=True),
        Look(Path("")),
    ],
)
def test_a_request_comes_back_from_its_message(job: Request) -> None:
    assert decode(encode(job).decode(), "b", "") == [job]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '["Nope", ""]', '["Look", ".."]', '["Look", 5]', '["Look", "a", "yes"]', '["Look"]',
             '{"Records": [{}]}', '{"Records": 5}', '{"Type": "Notification", "Message": "x"}'],
)  # fmt: skip
def test_what_is_no_message_is_left_to_the_dead_letters(body: str) -> None:
    with pytest.raises(Invalid):
        decode(body, "b", "")


# Queues


def test_a_new_object_is_indexed_from_its_event(make, start, ours, queues) -> None:
    photos(ours, 2, 2)
    make(ours).index()
    queues.announce(ours)
    start(**queues.settings, SCAN_SECONDS="0")
    put(ours / "d0/1.jpg", jpeg(70, 50))  # replaced
    put(ours / "d1/new ☃+.jpg", jpeg(90, 60))
    (ours / "d1/0.jpg").unlink()
    edit = b'{"v": 1, "tags": ["synced"], "updatedAt": "2024-01-01T00:00:00Z"}'
    put(ours / "d0/0.jpg.json", edit)
    ours.service.reset()

    def done() -> bool:
        items = manifests(ours)
        return (
            items["d0/1.jpg"]["w"] == 70
            and items.get("d1/new ☃+.jpg", {}).get("hasThumb") is True
            and "d1/0.jpg" not in items
            and items["d0/0.jpg"].get("tags") == ["synced"]
        )

    assert wait_for(done)
    put(ours / "brand/new/folder/a.jpg")
    wait_for(lambda: "brand/new/folder/a.jpg" in manifests(ours) and queues.empty)
    wait_for(
        lambda: any(
            d["name"] == "brand" for d in json.loads((ours / "_index.json").read_bytes())["dirs"]
        )
    )
    gallery = make(ours)
    found = wait_for(lambda: gallery.found("tag:synced"))
    assert found == ["d0/0.jpg"]


def test_requests_on_a_host_without_an_index_process_are_served_by_the_others(
    start, serve, ours, queues
) -> None:
    photos(ours, 1, 3)
    server = serve(ours, WORKER_THREADS="0", **queues.settings)
    server.until(lambda: len(server.workers()) == 2)
    assert server.get("/folders?path=d0")[0] == 202
    start(**queues.settings, SCAN_SECONDS="0")
    server.until(lambda: server.get("/folders?path=d0")[0] == 200)
    status, data = server.thumbnail("d0/1.jpg")
    assert (status, data[:4]) == (200, b"RIFF")
    route = "/item?path=d0/2.jpg"
    assert server.request("PUT", route, {"tags": ["far"]})[0] == 200
    server.until(lambda: manifests(ours)["d0/2.jpg"].get("tags") == ["far"])
    assert server.json("/health/workers") == {"alive": False, "problems": []}
    assert server.json("/health")["status"] in ("ok", "degraded")


def test_a_message_is_deleted_when_its_work_has_ended(make, ours, queues) -> None:
    put(ours / "d/a.jpg")
    gallery = make(ours, **queues.settings)
    client, url = Client(gallery.settings), queues.normal
    queues.client.send_message(QueueUrl=url, MessageBody=encode(Look(Path("d"))).decode())
    received: list[Request] = []

    class Receiving:
        """The host's own loop, which shows what it is sent."""

        def send(self, request: Request) -> None:
            received.append(request)
            gallery.loop.send(request)

    consumer = Consumer(client, url, gallery.settings, Receiving(), gallery.host)
    stop = threading.Event()
    runner = threading.Thread(target=consumer.run, args=(lambda problem: None, stop))
    runner.start()
    try:
        wait_for(lambda: len(received) == 2)  # the queue hides a message for five seconds
        assert queues.count(queues.normal) == 1
        gallery.settle(30)
    finally:
        stop.set()
        runner.join()
    wait_for(lambda: queues.empty)
    assert gallery.items("d")["a.jpg"]["hasThumb"] is True


@pytest.mark.timing
def test_a_queue_that_cannot_be_reached_delays_no_edit_and_is_in_health(
    serve, ours, queues
) -> None:
    """The edit is stored; a scan finds it."""
    put(ours / "d/a.jpg")
    server = serve(ours, WORKER_THREADS="0", JOBS_QUEUE_URL="http://127.0.0.1:9/queue")
    begun = time.monotonic()
    for number in range(3):
        assert server.request("PUT", "/item?path=d/a.jpg", {"tags": [str(number)]})[0] == 200
    assert time.monotonic() - begun < 5
    assert server.get("/folders?path=d")[0] == 503
    assert server.request("POST", "/folders/d/reindex")[0] == 503
    server.until(lambda: "queue" in str(server.json("/health")["reasons"]))  # one of two says so


def test_a_host_does_its_own_work_while_the_queue_cannot_be_reached(serve, ours) -> None:
    put(ours / "d/a.jpg")
    server = serve(ours, SCAN_SECONDS="0", JOBS_QUEUE_URL="http://127.0.0.1:9/queue")
    server.until(lambda: server.get("/folders?path=d")[0] == 200)
    assert server.request("PUT", "/item?path=d/a.jpg", {"tags": ["alone"]})[0] == 200
    server.until(lambda: manifests(ours)["d/a.jpg"].get("tags") == ["alone"])


def test_what_is_not_understood_ends_with_the_dead_letters_and_a_dead_hosts_work_is_done(
    make, ours, queues
) -> None:
    put(ours / "d/a.jpg")
    queues.client.set_queue_attributes(
        QueueUrl=queues.normal, Attributes={"VisibilityTimeout": "1"}
    )
    job = encode(Look(Path("d"))).decode()
    for message in (job, "nonsense"):
        queues.client.send_message(QueueUrl=queues.normal, MessageBody=message)
    dead, gallery = make(ours, **queues.settings), make(ours, **queues.settings)
    for each in (dead, gallery):
        client = Client(each.settings)
        last = Consumer(client, queues.normal, gallery.settings, each.loop, each.host)
        last.receive(2)
        threading.Event().wait(1.5)
    gallery.settle()
    assert gallery.items("d")["a.jpg"]["hasThumb"] is True
    for _ in range(3):
        last.receive(1)
        threading.Event().wait(1.2)
    assert (queues.count(queues.normal), queues.count(queues.dead)) == (0, 1)


@pytest.mark.slow
def test_of_two_hosts_one_reads_the_new_images_of_a_folder(start, ours, queues) -> None:
    """Both hear of them by events; the other takes the folder over if the first is killed."""
    put(ours / "d/first.jpg")
    queues.announce(ours)
    hosts = [start(**queues.settings), start(**queues.settings, SCAN_SECONDS="0")]
    wait_for(lambda: rendered(ours) == 1 and queues.empty, 60)
    ours.service.reset()
    photos(ours, 1, MANY)
    wait_for(lambda: rendered(ours) == MANY + 1, 180)
    read = ours.service.gets(".jpg")
    assert len(read) >= MANY
    assert sum(read.values()) - len(read) <= MANY // 50
    assert all(host.process.poll() is None for host in hosts)
    assert "reader" not in json.loads((ours / "d0/_index.json").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize(("starts_again", "seconds"), [(True, 110), (False, 200)])
def test_a_killed_hosts_folder_is_read_by_itself_or_after_two_minutes_by_another(
    start, ours, queues, starts_again, seconds
) -> None:
    photos(ours, 1, 80)
    started = [start(**queues.settings, WORKER_THREADS="1") for _ in range(2)]
    hosts = {host.name: host for host in started}
    index = ours / "d0/_index.json"
    reader = wait_for(lambda: index.exists() and json.loads(index.read_bytes()).get("reader"), 60)
    hosts[reader["host"]].kill()
    assert rendered(ours) < 80
    if starts_again:
        hosts[reader["host"]].start()
    wait_for(lambda: rendered(ours) == 80, seconds)
