"""What resources share: the library they are handed, parameters, answers, waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote, urlencode

import falcon
import orjson

from lenslet import conditional, manifest, paths
from lenslet.board import Board
from lenslet.config import Settings
from lenslet.errors import BadRequest, LensletError, NotFound, one_line
from lenslet.jobs import Job, Kind, Sender
from lenslet.paths import Path
from lenslet.places import Place
from lenslet.pointers import Resolver
from lenslet.search import Search
from lenslet.storage import Stat, Storage

JSON = "application/json"
RETRY_SECONDS = 1
POLL_SECONDS, POLL_SECONDS_LEAST = 0.02, 0.004  # a look for a file costs 20 µs
HEAD_BYTES = 64 * 1024  # of an image: dimensions and EXIF are there
_NUDGE_SECONDS, _NUDGE_SECONDS_FAR, _NUDGED_FOLDERS = 1.0, 20.0, 10_000
_LOOKS_FAR = 3
_AWAY = "The root is empty or cannot be reached: an unmounted disk?"
_YES, _NO = ("1", "true", "yes", "on", ""), ("0", "false", "no", "off")

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a request is about: where it lies, its file, what the manifest says of it.

    Of one in a bucket that is not in the manifest yet, its first bytes.
    """

    path: Path
    place: Place
    stat: Stat
    item: manifest.Item | None = None
    head: bytes = b""

    @property
    def file(self) -> Path:
        """Where the image lies in `place.storage.root`."""
        return self.place.folder.child(self.path.name)


@dataclass(slots=True)
class Library:
    """Everything that the resources work with, wired once by `create_app`."""

    storage: Storage
    settings: Settings
    resolver: Resolver
    search: Search
    jobs: Sender
    board: Board
    waiters: threading.BoundedSemaphore
    nudged: dict[Path, float] = field(default_factory=dict)

    def image(self, path: Path) -> Image:
        """An image as its file is now; `NotFound` when there is none.

        In a bucket, as the manifest has it: only what is not indexed yet is asked for.
        """
        place = self.resolver.item(path)
        tree, file = place.storage.root, place.folder.child(path.name)
        if not tree.remote:
            return Image(path, place, tree.stat(file))
        item = manifest.find(self.storage, path)
        if item:
            return Image(path, place, manifest.stat_of(item), item)
        head, stat = tree.head(file, HEAD_BYTES)
        return Image(path, place, stat, head=head)

    def known(self, image: Image) -> manifest.Item | None:
        """What the manifest knows of an image as it is now."""
        item = image.item
        if not (item or image.head):
            item = manifest.find(self.storage, image.path)
        return item if item and item["rev"] == image.stat.rev else None

    def away(self) -> str:
        """Why what is not found may be there all the same; nothing when the root is there."""
        try:
            empty = self.storage.root.is_empty()
        except LensletError as error:
            return one_line(error) if self.storage.root.remote else _AWAY
        if self.storage.root.remote:
            return "The bucket holds nothing here." if empty else ""
        return _AWAY if empty else ""

    def nudge(self, place: Place) -> None:
        """Have a folder looked at behind the answer, at most once a second from here.

        In a bucket, where it costs a listing, three times a minute; not at all where events tell.
        """
        far, folder = place.storage.root.remote, place.path
        if far and self.settings.jobs_queue_url and not place.pointed:
            return
        now = time.monotonic()
        least = _NUDGE_SECONDS_FAR if far else _NUDGE_SECONDS
        if now - self.nudged.get(folder, float("-inf")) < least:
            return
        if len(self.nudged) >= _NUDGED_FOLDERS:
            self.nudged.clear()
        self.nudged[folder] = now
        self.jobs.send(Job(Kind.FOLDER, folder))

    def wait(self, seconds: float, look: Callable[[], Found]) -> Found | None:
        """What `look` finds within `seconds`; None when it only raises `NotFound` until then.

        No more than half of the request threads ever wait. A bucket is asked three times at most.
        """
        far = self.storage.state.remote
        pause = max(POLL_SECONDS, seconds / _LOOKS_FAR) if far else POLL_SECONDS_LEAST
        with self._waiting(seconds) as until:
            if far and until:
                threading.Event().wait(pause)
            while True:
                try:
                    return look()
                except NotFound:
                    if time.monotonic() + pause > until:
                        return None
                threading.Event().wait(pause)
                pause = max(pause, min(1.2 * pause, POLL_SECONDS))

    @contextmanager
    def _waiting(self, seconds: float) -> Iterator[float]:
        if not seconds or not self.waiters.acquire(blocking=False):
            yield 0.0
            return
        try:
            yield time.monotonic() + seconds
        finally:
            self.waiters.release()


def path_param(req: falcon.Request) -> Path:
    """`?path=`, the root where it is absent."""
    return paths.parse(req.get_param("path", default=""))


def image_param(req: falcon.Request) -> Path:
    """`?path=` of one image; `BadRequest` when it names none."""
    path = path_param(req)
    if not path:
        raise BadRequest("path", "the path of an image is needed")
    return path


def number_param(req: falcon.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number in a query; `BadRequest` naming the parameter for any other text."""
    text = req.get_param(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise BadRequest(name, f"a whole number {low}–{high} is needed")
    return int(text)


def flag_param(req: falcon.Request, name: str) -> bool:
    """A yes or no in a query; just the name is a yes."""
    text = (req.get_param(name, default="no") or "").lower()
    if text not in (*_YES, *_NO):
        raise BadRequest(name, "true or false is needed")
    return text in _YES


def url(req: falcon.Request, route: str, **query: str | int) -> str:
    """A route's URL as this client reaches it, under whatever prefix."""
    asked = "?" + urlencode(query, quote_via=quote) if query else ""
    return f"{quote(req.root_path)}{route}{asked}"


def send_json(resp: falcon.Response, document: object) -> None:
    resp.content_type = JSON
    resp.data = orjson.dumps(document)
    resp.cache_control = ["no-store"]


def send(
    req: falcon.Request, resp: falcon.Response, data: bytes, content_type: str, tag: str
) -> None:
    """An answer that the client may keep: 304 when it has it already."""
    resp.set_header("ETag", f'"{tag}"')
    resp.cache_control = ["no-cache"]
    if conditional.not_modified(req.get_header("If-None-Match"), tag):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = content_type
    resp.data = data


def send_pending(req: falcon.Request, resp: falcon.Response, path: Path, poll: str) -> None:
    """202: it is being made; ask at `poll` again."""
    resp.status = falcon.HTTP_202
    resp.set_header("Retry-After", str(RETRY_SECONDS))
    resp.location = poll
    send_json(resp, {"status": "pending", "path": path, "poll": poll, "retryAfter": RETRY_SECONDS})
