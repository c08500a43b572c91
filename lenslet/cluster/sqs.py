"""Many hosts on one bucket: requests travel through SQS queues, as do the bucket's own events.

A message names a folder to index or a thumbnail that somebody waits for. An event asks for the
folder of its object to be indexed. A message is deleted when its work has ended. A host that
dies deletes nothing: after the queue's visibility timeout others receive its messages. What is not
understood, or kills its hosts, ends as a dead letter. Imported only if a queue is set.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus

import orjson

from lenslet import paths
from lenslet.cluster.host import BucketHost
from lenslet.config import Settings
from lenslet.errors import BadRequest, Invalid, LensletError, one_line
from lenslet.index import messages
from lenslet.index.messages import Look, Rebuild, Render, Request, Sender
from lenslet.library import manifest
from lenslet.paths import FOLDER_FILES, ROOT, SIDECARS, THUMBNAIL, Path
from lenslet.storage.s3_client import Client

log = logging.getLogger("lenslet")

MOST_HELD = 100  # messages of each queue that a host works on at a time
_LONG_POLL_SECONDS, _AGAIN_SECONDS = 10, 1.0
_REST_SECONDS = 10.0  # of a queue that did not take a request
_BATCH = 10  # the most that one request receives (Amazon SQS, "Quotas")


# Messages


def decode(body: str, bucket: str, prefix: str) -> list[Look | Render]:
    """Returns the requests of a message; none for an event that changes nothing.

    Raises `Invalid` for a message that is not understood: it is left for the dead letters.
    """
    if not body.startswith("{"):
        found = messages.decode(body)
        # Only the host that scans writes the rollup, and it does so if folders changed.
        return [Look(ROOT, anew=True, deep=True) if isinstance(found, Rebuild) else found]
    try:
        folders = dict.fromkeys(_folders(orjson.loads(body), bucket, prefix))
        return [Look(path) for path in folders]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("message", f"not understood ({type(error).__name__})") from error


def _folders(found: dict[str, Any], bucket: str, prefix: str) -> Iterator[Path]:
    """Yields the folders that events of S3 are about; ignores writes of derived files.

    Keys are encoded as HTML forms do, with `+` and `%XX` (Amazon S3, "Event message structure").
    """
    if found.get("Event") == "s3:TestEvent":
        return
    for record in found["Records"]:
        event, key = record["eventName"], unquote_plus(record["s3"]["object"]["key"])
        if record["s3"]["bucket"]["name"] != bucket or not key.startswith(prefix):
            continue
        try:
            path = paths.parse(key[len(prefix) :])
        except BadRequest:
            continue
        image = path.name.removesuffix(THUMBNAIL if "Delete" in event else "")
        for suffix in SIDECARS:
            image = image.removesuffix(suffix)
        is_text = path.name.lower().endswith((".xmp", ".json"))
        beside = is_text and not manifest.is_own_name(path.name)
        if paths.is_item(image) or beside or path.name in FOLDER_FILES:
            yield path.parent


# Sending and receiving


class SharedQueue:
    """Sends requests to any host: most of a request process, some of an index process."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        own: Sender,
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        """`own` reaches the index process of this host, if there is one.

        `sent` is called when another host may change something soon.
        """
        self._client = client
        self._own = own
        self._own_looks = settings.worker_threads > 0
        self._sent = sent
        self._normal = settings.jobs_queue_url
        self._urgent = settings.jobs_urgent_queue_url or self._normal
        self._reason, self._failed = "", float("-inf")  # the last failure, and when that was

    @property
    def problem(self) -> str:
        """Why the queue takes no requests. So long none is sent, so that nobody waits for it."""
        return self._reason if time.monotonic() - self._failed < _REST_SECONDS else ""

    def send(self, request: Request) -> None:
        """Sends a request to any host, or to this one if the queue does not take it.

        Previews stay here: they are in the cache of the host that shows them. So do views, which
        are looks that nobody waits for.
        """
        is_preview = isinstance(request, Render) and request.preview
        is_view = isinstance(request, Look) and not request.asked
        if is_preview or (is_view and self._own_looks) or not self.post(request):
            self._own.send(request)

    def post(self, request: Request) -> bool:
        """Sends a request to any host; False if the queue does not take it."""
        if self.problem:
            return False
        urgent = not isinstance(request, Look) or request.asked
        url, body = self._urgent if urgent else self._normal, messages.encode(request).decode()
        try:
            self._client.call_queue("send_message", url, MessageBody=body)
        except LensletError as error:
            self._reason = f"The queue does not take requests: {one_line(error)}"
            self._failed = time.monotonic()
            log.warning("%s", self._reason)
            return False
        self._sent()
        return True


class Consumer:
    """Receives the messages of a queue, and deletes each when its jobs have ended.

    Until then the queue hides it for its visibility timeout. If the work takes longer, another host
    does it too, which is harmless.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        settings: Settings,
        loop: Sender,
        host: BucketHost,
    ) -> None:
        self._client = client
        self._url = url
        self._root = settings.s3_bucket, settings.s3_prefix
        self._loop = loop
        self._host = host
        self._held = 0  # messages that were received and not deleted
        self._ended = queue.SimpleQueue[str]()  # receipts of messages whose jobs have ended

    def run(self, report: Callable[[str], None], stop: threading.Event) -> None:
        """Receives until `stop` is set.

        `report` gets the reason if that fails, and "" when it is over.
        """
        problem = ""
        while not stop.is_set():
            before, problem = problem, ""
            try:
                self.receive(0 if before else _LONG_POLL_SECONDS)
            except Exception as error:  # the outermost frame: the next message may be another
                problem = f"The queue cannot be read: {one_line(error) or type(error).__name__}"
                if problem != before:
                    log.warning("%s", problem)
                stop.wait(_AGAIN_SECONDS)
            if problem or before:
                report(problem)
        with contextlib.suppress(LensletError):
            self._delete_ended()

    def receive(self, wait: int) -> None:
        """Takes up to ten messages, waiting `wait` seconds for the first."""
        self._delete_ended()
        room = MOST_HELD - self._held
        if room <= 0:
            threading.Event().wait(0.25)
            return
        most = {"MaxNumberOfMessages": min(room, _BATCH), "WaitTimeSeconds": wait}
        answer = self._client.call_queue("receive_message", self._url, **most)
        for message in answer.get("Messages", []):
            self._take(message)

    def _delete_ended(self) -> None:
        """Deletes messages whose jobs have ended. One that cannot be deleted comes again."""
        while not self._ended.empty():
            self._held -= 1
            receipt = self._ended.get()
            self._client.call_queue("delete_message", self._url, ReceiptHandle=receipt)

    def _take(self, message: dict[str, Any]) -> None:
        try:
            requests = decode(message["Body"], *self._root)
        except Invalid as error:
            log.warning("queue %s: %s", self._url, error)
            return
        left, receipt = len(requests), message["ReceiptHandle"]
        self._held += 1

        def end() -> None:  # called once for each job, by the loop
            nonlocal left
            left -= 1
            if not left:
                self._ended.put(receipt)

        for request in requests:
            self._host.hold(request.path, end)
        for request in requests:
            self._loop.send(request)
        if not requests:
            self._ended.put(receipt)
