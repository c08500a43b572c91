"""What the resources share: the library, parameters, answers, and waiting for the index process."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import quote, urlencode

import falcon
import orjson

from lenslet import errors, paths
from lenslet.bounds import BODY_BYTES
from lenslet.config import Settings
from lenslet.errors import BadRequest, Denied, LensletError, NotFound, StorageUnavailable, one_line
from lenslet.images.decoders import Decoders
from lenslet.index.queue import Job, Kind, Sender
from lenslet.index.status import Status
from lenslet.index.views import REST_SECONDS
from lenslet.library import manifest, orphans, sidecar
from lenslet.library.location import Location, Locator
from lenslet.library.previews import Previews
from lenslet.library.sidecar import Photo
from lenslet.paths import Path
from lenslet.search.query import Search
from lenslet.storage.tree import Stat, Tree
from lenslet.web.requests import Requests

JSON = "application/json"
FOREVER = ["private", "max-age=31536000", "immutable"]  # Cache-Control of a URL with a version
RETRY_SECONDS = 1
POLL_SECONDS, POLL_SECONDS_LEAST = 0.1, 0.004  # looking for a thumbnail takes 60 µs
POLL_SECONDS_S3 = 1.0
_NUDGE_SECONDS, _NUDGE_SECONDS_S3, _NUDGED_FOLDERS = 1.0, 20.0, 10_000
_LOOKS_S3 = 3

# The HTTP status of each error, and of those derived from it. The most specific class counts.
STATUSES: dict[type[LensletError], str] = {
    errors.BadRequest: falcon.HTTP_400,
    errors.Denied: falcon.HTTP_403,
    errors.NotFound: falcon.HTTP_404,
    errors.Foreign: falcon.HTTP_409,
    errors.Conflict: falcon.HTTP_409,
    errors.PreconditionFailed: falcon.HTTP_412,
    errors.TooLarge: falcon.HTTP_413,
    errors.RangeNotSatisfiable: falcon.HTTP_416,
    errors.Invalid: falcon.HTTP_422,
    errors.UnreadableImage: falcon.HTTP_422,
    errors.SettingError: falcon.HTTP_500,
    errors.Unsupported: falcon.HTTP_501,
    errors.StorageNonsense: falcon.HTTP_502,
    errors.Overtaken: falcon.HTTP_503,
    errors.StorageUnavailable: falcon.HTTP_503,
    errors.StorageFull: falcon.HTTP_507,
    errors.PointerLoop: falcon.HTTP_508,
}

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a request is about: where it is, its file, and its item in the manifest.

    The item is looked for only if the image is in a bucket.
    """

    path: Path
    location: Location
    stat: Stat
    item: manifest.Item | None = None

    @property
    def file(self) -> Path:
        """Where the image is in `location.tree`."""
        return self.location.file(self.path.name)


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits, as long as it `stays`."""

    stays: bool = True


class Waiters:
    """Requests that wait: about `most`. One more sends away the one that has waited longest.

    So those that wait for slow images keep no others from waiting. Until it has left, a request
    that was sent away counts too: there are never more than twice as many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: dict[Waiter, None] = {}

    def enter(self) -> Waiter | None:
        """Takes a place; None if there is none."""
        with self._lock:
            if len(self._waiting) >= 2 * self._most:
                return None
            staying = [waiter for waiter in self._waiting if waiter.stays]
            if len(staying) >= self._most:
                staying[0].stays = False
            waiter = Waiter()
            self._waiting[waiter] = None
            return waiter

    def leave(self, waiter: Waiter) -> None:
        with self._lock:
            del self._waiting[waiter]


@dataclass(slots=True)
class Service:
    """What the resources work with. `jobs` sends work to the index process."""

    settings: Settings
    tree: Tree
    locator: Locator
    search: Search
    previews: Previews
    decoders: Decoders
    jobs: Sender
    status: Status
    requests: Requests
    waiters: Waiters
    stand_in: Callable[[], AbstractContextManager[None]]
    nudged: dict[Path, float] = field(default_factory=dict)

    def image(self, path: Path, *, fresh: bool = False) -> Image:
        """Returns an image as its file is now; `NotFound` if there is none.

        In a bucket, unless it must be `fresh`, as its item in the manifest says, which may be out
        of date: no request.
        """
        location = self.locator.item(path)
        if location.chain and fresh:  # the pointer may have become readonly
            location = self.locator.item(path, fresh=True)
        tree, file = location.tree, location.file(path.name)
        if tree.has_stamps or fresh:
            return Image(path, location, tree.stat(file))
        item = manifest.find(self.tree, path)
        return Image(path, location, manifest.stat_of(item) if item else tree.stat(file), item)

    def known(self, image: Image) -> manifest.Item | None:
        """Returns an image's item in the manifest, if the image has not changed since."""
        item = image.item or manifest.find(self.tree, image.path)
        return item if item and item["rev"] == image.stat.rev else None

    def photo(self, image: Image, item: manifest.Item | None) -> Photo:
        """Returns which photo an image is, `item` being what is known of it.

        An image that was not read since it changed is read for its hash: this is rare, and no edit
        may be written to another photo's sidecar.
        """
        known = item or {}
        if image.item and image.location.tree.stat(image.file).rev != image.stat.rev:
            known = {}  # in a bucket the manifest may be out of date
        digest = known.get("hash", "" if "error" in known else None)
        if digest is None and image.stat.size <= self.settings.max_file_bytes:
            digest = orphans.hash_of(image.location.tree, image.file)
        lists = (tuple(known.get(key, ())) for key in ("edited", "strays"))
        return Photo(digest, known.get("createdAt"), *lists)

    def edit(self, image: Image, change: sidecar.Edit) -> sidecar.Sidecar | None:
        """Edits an image's sidecar, which says which photo it belongs to. Its folder is indexed."""
        item = self.known(image)
        photo = functools.cache(partial(self.photo, image, item))

        def change_and_name(stored: sidecar.Sidecar | None) -> sidecar.Document | None:
            document = change(stored)
            if document is None:
                return None
            if item and "hash" in item:
                return sidecar.with_facts(document, sidecar.facts_of(item))
            return {**document, "hash": photo().hash} if photo().hash else document

        with self._editing(image) as tree:
            return sidecar.edit(tree, image.file, change_and_name, photo)

    def remove_sidecar(self, image: Image, check: Callable[[sidecar.Sidecar | None], None]) -> None:
        """Removes an image's sidecar, unless `check` raises an error. Its folder is indexed."""
        with self._editing(image) as tree:
            sidecar.remove(tree, image.file, check, partial(self.photo, image, self.known(image)))

    @contextmanager
    def _editing(self, image: Image) -> Iterator[Tree]:
        """Yields the tree of an image to edit; enqueues its folder if no error is raised."""
        location = image.location
        if location.readonly:
            raise Denied(f"{location.path} points to images that are marked readonly.")
        yield location.tree
        self.tell(image.path.parent)
        if location.chain and location.tree is self.tree:
            self.tell(location.folder)

    def away(self) -> str:
        """Says why the root cannot be used right now; empty if it can."""
        try:
            self.tree.check()
        except LensletError as error:
            return one_line(error)
        return ""

    def explained(self, error: LensletError) -> LensletError:
        """Returns the error to answer: while the root is away, a missing file may still exist."""
        if isinstance(error, NotFound) and (away := self.away()):
            return StorageUnavailable(away)
        return error

    def nudge(self, location: Location) -> None:
        """Says that somebody looks at a folder, without waiting.

        It is indexed, at most once a second. In a bucket the index process decides whether it is;
        one of another host hears only of the first view after a rest, as each message costs.
        """
        cheap, near = location.tree.has_stamps, self.settings.worker_threads > 0
        folder, now = location.path, time.monotonic()
        least = _NUDGE_SECONDS if cheap else _NUDGE_SECONDS_S3 if near else REST_SECONDS
        due = now - self.nudged.get(folder, float("-inf")) >= least
        if len(self.nudged) >= _NUDGED_FOLDERS:
            self.nudged.clear()
        if due or not (cheap or near):
            self.nudged[folder] = now
        if due and cheap:
            self.tell(folder)
        elif due:
            with contextlib.suppress(StorageUnavailable):
                self.jobs.send(Job(Kind.VIEW, folder))

    def tell(self, folder: Path) -> None:
        """Asks for a folder to be indexed. If the job cannot be sent, a scan finds the change."""
        with contextlib.suppress(StorageUnavailable):
            self.jobs.send(Job(Kind.FOLDER, folder, asked=True))

    def wait(
        self, seconds: float, look: Callable[[], Found], *, in_cache: bool = False
    ) -> Found | None:
        """Returns what `look` finds within `seconds`; None if it raises `NotFound` until then.

        Only as many requests wait as `waiters` allows, the newest ones. In a bucket, where a look
        is a request, it looks once a second, or three times if `seconds` is less than 3; not so
        `in_cache`, that is, for what this host keeps.
        """
        costs = self.tree.is_shared and not in_cache
        pause = min(seconds / _LOOKS_S3, POLL_SECONDS_S3) if costs else POLL_SECONDS_LEAST
        with self.apart() if seconds else contextlib.nullcontext() as waiter:
            until = time.monotonic() + seconds
            if costs and waiter:
                threading.Event().wait(pause)
            while True:
                try:
                    return look()
                except NotFound:
                    if not (waiter and waiter.stays) or time.monotonic() + pause > until:
                        return None
                threading.Event().wait(pause)
                pause = max(pause, min(1.2 * pause, POLL_SECONDS))

    @contextmanager
    def apart(self) -> Iterator[Waiter | None]:
        """Lets another thread take the place of this one; None if too many requests wait."""
        if not (waiter := self.waiters.enter()):
            yield None
            return
        try:
            with self.stand_in():
                yield waiter
        finally:
            self.waiters.leave(waiter)


def status_of(error: LensletError) -> str:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class Resource:
    """An endpoint. Every one that answers GET answers HEAD too."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "on_get"):
            setattr(cls, "on_head", cls.on_get)  # noqa: B010 - mypy knows no such attribute


def path_param(req: falcon.Request) -> Path:
    """Parses `?path=`, the root if it is absent."""
    return paths.parse(req.get_param("path", default=""))


def image_param(req: falcon.Request) -> Path:
    """Parses `?path=` of one image; `BadRequest` if it is empty."""
    return parse_image(req.get_param("path", default=""))


def parse_image(text: str, parameter: str = "path") -> Path:
    """Parses the path of an image; `BadRequest` if it is empty."""
    path = paths.parse(text, parameter)
    if not path:
        raise BadRequest(parameter, "must be the path of an image")
    return path


def choice_param(req: falcon.Request, name: str, allowed: tuple[str, ...]) -> str:
    """Parses a parameter with a few allowed values; the first is the default."""
    found = req.get_param(name, default=allowed[0])
    if found not in allowed:
        raise BadRequest(name, "must be " + " or ".join(allowed))
    return found


def read_json(req: falcon.Request, most: int = BODY_BYTES) -> object:
    """Reads the request's JSON; `TooLarge` over `most` bytes, `BadRequest` if it is not JSON."""
    if (req.content_length or 0) > most:
        raise errors.TooLarge(f"The body has more than {most} bytes.")
    chunked = req.env.get("wsgi.input_terminated")  # such a stream ends with the body
    try:
        raw = (req.stream if chunked else req.bounded_stream).read(most + 1)
    except Exception as error:  # every server has its own errors for a broken body
        raise BadRequest("body", "malformed, or not sent to its end") from error
    if len(raw) > most:
        raise errors.TooLarge(f"The body has more than {most} bytes.")
    if len(raw) < (req.content_length or 0):
        raise BadRequest("body", "not sent to its end")
    try:
        found: object = sidecar.loads(raw)
    except ValueError as error:
        raise BadRequest("body", f"not JSON: {error}") from error
    return found


def url(req: falcon.Request, route: str, **query: str | int) -> str:
    """Returns a route's URL as this client reaches it, with the prefix it uses."""
    encoded = "?" + urlencode(query, quote_via=quote) if query else ""
    return f"{quote(req.context.prefix)}{route}{encoded}"


def send_json(resp: falcon.Response, document: object) -> None:
    resp.content_type = JSON
    resp.data = orjson.dumps(document)
    resp.cache_control = ["no-store"]


def send(
    req: falcon.Request, resp: falcon.Response, data: bytes, content_type: str, tag: str
) -> None:
    """Sends an answer that the client may keep; 304 if it has this version already."""
    if not sent_unchanged(req, resp, tag):
        resp.content_type = content_type
        resp.data = data


def sent_unchanged(req: falcon.Request, resp: falcon.Response, tag: str) -> bool:
    """Sets the ETag; True if the client has this version and gets 304 (RFC 9110, 13.1.2)."""
    resp.set_header("ETag", f'"{tag}"')
    resp.cache_control = ["no-cache"]
    known = req.get_header("If-None-Match")
    if known and (known.strip() == "*" or tag in (req.if_none_match or ())):
        resp.status = falcon.HTTP_304
        return True
    return False


def send_pending(req: falcon.Request, resp: falcon.Response, path: Path, poll: str) -> None:
    """Sends 202: the result is being made; the client asks again at `poll`."""
    resp.status = falcon.HTTP_202
    resp.set_header("Retry-After", str(RETRY_SECONDS))
    resp.location = poll
    send_json(resp, {"status": "pending", "path": path, "poll": poll, "retryAfter": RETRY_SECONDS})
