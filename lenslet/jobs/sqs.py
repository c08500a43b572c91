"""Jobs of many hosts in SQS queues: sent by any, done by any, kept until they are done."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from lenslet.config import Settings
from lenslet.errors import Invalid, LensletError, StorageUnavailable, one_line
from lenslet.jobs import Job, Kind, Queue, State, messages
from lenslet.manifest import Problem
from lenslet.paths import Path
from lenslet.storage.store import Store

log = logging.getLogger("lenslet")

MOST_HELD = 100  # messages of each queue; the others are for other hosts
URGENT = frozenset((Kind.THUMBNAIL, Kind.FOLDER, Kind.KEY))
_LONG_POLL_SECONDS, _PAUSE_SECONDS, _LOOK_SECONDS = 20, 5.0, 0.25
_DEAD_SECONDS, _DEAD_COUNTED = 60.0, 10_000
_BATCH = 10  # the most that one request takes (Amazon SQS, "Quotas")


class SqsQueue:
    """One queue, by its URL."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self.url = url

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self._store.call_queue(operation, self.url, **parameters)

    def send(self, bodies: list[bytes]) -> None:
        """Put messages in the queue; `StorageUnavailable` when it does not take them."""
        for first in range(0, len(bodies), _BATCH):
            some = bodies[first : first + _BATCH]
            entries = [
                {"Id": str(number), "MessageBody": body.decode()}
                for number, body in enumerate(some)
            ]
            answer = self._call("send_message_batch", Entries=entries)
            if answer.get("Failed"):
                raise StorageUnavailable(f"The queue did not take {len(answer['Failed'])} jobs.")

    def receive(self, most: int, seconds: int) -> list[dict[str, Any]]:
        """Up to ten messages, waiting for the first so long."""
        answer = self._call(
            "receive_message", MaxNumberOfMessages=min(most, _BATCH), WaitTimeSeconds=seconds
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def delete(self, receipts: list[str]) -> None:
        """These messages are done with."""
        for first in range(0, len(receipts), _BATCH):
            some = enumerate(receipts[first : first + _BATCH])
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in some]
            self._call("delete_message_batch", Entries=entries)

    def extend(self, receipt: str, seconds: int) -> None:
        """Keep a message from other hosts for so long from now."""
        self._call("change_message_visibility", ReceiptHandle=receipt, VisibilityTimeout=seconds)

    def visibility(self) -> int:
        """Seconds that a received message is hidden from others."""
        return int(self._attribute("VisibilityTimeout") or 30)

    def _attribute(self, name: str) -> str:
        answer = self._call("get_queue_attributes", AttributeNames=[name])
        return str(answer.get("Attributes", {}).get(name, ""))

    def dead_letters(self) -> SqsQueue | None:
        """The queue in which jobs end that could not be done; None where there is none."""
        policy = self._attribute("RedrivePolicy")
        if not policy:
            return None
        name = orjson.loads(policy)["deadLetterTargetArn"].rpartition(":")[2]
        return SqsQueue(self._store, f"{self.url.rpartition('/')[0]}/{name}")

    def count(self) -> int:
        """About how many messages wait."""
        return int(self._attribute("ApproximateNumberOfMessages") or 0)

    def problems(self, count: int) -> list[Problem]:
        """Dead letters as problems, the first of them with their paths."""
        told = f"could not be done; its message is in the queue {self.url.rpartition('/')[2]}"
        answer = self._call("receive_message", MaxNumberOfMessages=_BATCH, VisibilityTimeout=1)
        shown = sorted(_about(message["Body"]) for message in answer.get("Messages", []))
        rest = [""] * max(0, min(count, _DEAD_COUNTED) - len(shown))
        return [Problem("deadLetters", path, told) for path in [*shown, *rest]]


def _about(body: str) -> str:
    try:
        jobs = messages.decode(body, "", "")
    except Invalid as error:
        return one_line(error)
    return jobs[0].path if jobs else "an event"


class SharedJobs:
    """Jobs from request processes to whichever host takes them."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._normal = SqsQueue(store, settings.jobs_queue_url)
        self._urgent = SqsQueue(store, settings.jobs_urgent_queue_url or settings.jobs_queue_url)

    def send(self, job: Job) -> bool:
        """Pass a job on; False when the queue does not take it: the client asks again."""
        queue = self._urgent if job.kind in URGENT else self._normal
        try:
            queue.send([messages.encode(job)])
        except LensletError as error:
            log.warning("%s %s is not passed on: %s", job.kind.name, job.path, one_line(error))
            return False
        return True

    def send_images(self, images: list[Path], force: bool = False) -> None:
        """Have any host read these; `StorageUnavailable` when the queue does not take them."""
        self._normal.send(list(messages.encode_images(images, force)))


@dataclass(slots=True)
class Held:
    """A message whose jobs are being done here."""

    queue: SqsQueue
    receipt: str
    jobs: list[Job]
    due: float  # when others would get it, unless it is kept from them for longer
    seconds: int = 30
    since: float = field(default_factory=time.monotonic)


class Deliveries:
    """Takes jobs from the queues, and removes each message when its jobs are done.

    A process that dies removes nothing: its messages come back for others when their time is over.
    What fails is left there too, and ends, after as many tries as the queue says, with the dead
    letters.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        queue: Queue,
        state: Callable[[Job], State],
    ) -> None:
        urls = dict.fromkeys(
            filter(None, (settings.jobs_urgent_queue_url, settings.jobs_queue_url))
        )
        self._sources = [SqsQueue(store, url) for url in urls]
        self._root = settings.s3_bucket, settings.s3_prefix
        self._queue = queue
        self._state = state
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self.dead: list[Problem] = []
        self._dead_counts: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Receive from each queue on a thread of its own until `stop` is set."""
        threads = [
            threading.Thread(target=self._receive, args=(source, stop), name="deliveries")
            for source in self._sources
        ]
        for thread in threads:
            thread.start()
        looked = float("-inf")
        while not stop.wait(_LOOK_SECONDS):
            try:
                self.settle()
                if time.monotonic() - looked > _DEAD_SECONDS:
                    looked = time.monotonic()
                    self._look_for_dead()
            except LensletError as error:
                log.warning("queue: %s", one_line(error))
                stop.wait(_PAUSE_SECONDS)
        for thread in threads:
            thread.join()

    def _look_for_dead(self) -> None:
        """Tell health of the dead letters when there are more or fewer than before."""
        queues = {dead.url: dead for each in self._sources if (dead := each.dead_letters())}
        counts = {url: dead.count() for url, dead in queues.items()}
        if counts != self._dead_counts:
            self._dead_counts = counts
            self.dead = [p for url, n in counts.items() if n for p in queues[url].problems(n)]
            self._queue.put(Job(Kind.HEALTH))

    def _receive(self, source: SqsQueue, stop: threading.Event) -> None:
        seconds = 0
        while not stop.is_set():
            try:
                seconds = seconds or source.visibility()
                if not self.receive(source, seconds, 1 if stop.is_set() else _LONG_POLL_SECONDS):
                    stop.wait(_LOOK_SECONDS)
            except LensletError as error:
                log.warning("queue %s: %s", source.url, one_line(error))
                stop.wait(_PAUSE_SECONDS)

    def receive(self, source: SqsQueue, seconds: int, wait: int) -> bool:
        """Take some messages, hidden from others for `seconds`; False when enough are held."""
        with self._lock:
            room = MOST_HELD - sum(held.queue is source for held in self._held)
        if room <= 0:
            return False
        due = time.monotonic() + seconds
        for message in source.receive(room, wait):
            self._take(source, message, due, seconds)
        return True

    def _take(self, source: SqsQueue, message: dict[str, Any], due: float, seconds: int) -> None:
        try:
            jobs = messages.decode(message["Body"], *self._root)
        except Invalid as error:
            log.warning("queue %s: %s", source.url, error)
            return
        taken = [self._queue.put(job) for job in jobs]
        if all(taken):
            held = Held(source, message["ReceiptHandle"], jobs, due, seconds)
            with self._lock:
                self._held.append(held)

    def settle(self) -> None:
        """Remove the messages that are done, let go those that failed, keep the others."""
        with self._lock:
            held = list(self._held)
        done: dict[SqsQueue, list[Held]] = {}
        for message in held:
            try:
                if self._settled(message):
                    done.setdefault(message.queue, []).append(message)
            except LensletError as error:  # others may have it by now
                log.warning("queue %s: %s", message.queue.url, one_line(error))
                self._let_go([message])
        for queue, gone in done.items():
            queue.delete([message.receipt for message in gone])
            self._let_go(gone)

    def _settled(self, message: Held) -> bool:
        """Whether a message is done with; one that is not is kept from others for longer."""
        states = {job: self._state(job) for job in message.jobs}
        failed = [job for job, state in states.items() if state is State.FAILED]
        now = time.monotonic()
        if State.BUSY in states.values():
            if message.due - now < message.seconds / 2:
                message.queue.extend(message.receipt, message.seconds)
                message.due = now + message.seconds
            return False
        if failed and len(message.jobs) == 1:
            self._let_go([message])
            return False
        message.queue.send(list(map(messages.encode, failed)))  # each for itself
        return True

    def _let_go(self, gone: list[Held]) -> None:
        with self._lock:
            self._held = [held for held in self._held if held not in gone]
