"""What clients ask of the index process, and how that gets there."""

from __future__ import annotations

import logging
import select
import socket
from typing import NamedTuple, Protocol

import orjson

from lenslet import paths
from lenslet.errors import Invalid, StorageUnavailable
from lenslet.images import SCREEN, TILE
from lenslet.paths import Path

log = logging.getLogger("lenslet")

_MESSAGE_BYTES = 8192


class Render(NamedTuple):
    """A client waits for a thumbnail of an image, or a `preview` with this long edge.

    `anew`: although it has one.
    """

    path: Path
    preview: int = 0
    anew: bool = False


class Look(NamedTuple):
    """Look at a folder.

    `asked`: a client waits for it. `anew` reads again what could not be read, and writes the
    manifest in any case. `deep`: every folder below as well.
    """

    path: Path
    asked: bool = False
    anew: bool = False
    deep: bool = False


class Rebuild(NamedTuple):
    """Write the rollup anew."""


Request = Render | Look | Rebuild
_KINDS = {kind.__name__: kind for kind in (Render, Look, Rebuild)}


class Sender(Protocol):
    """Sends requests to an index process."""

    @property
    def problem(self) -> str:
        """Why requests could not be sent last; empty if they could."""

    def send(self, request: Request) -> None:
        """Sends a request; `StorageUnavailable` if it cannot be taken: the client tries again."""


def unreachable(request: Request) -> StorageUnavailable:
    """Returns the error of a request that no index process takes."""
    if isinstance(request, Render) and request.preview:
        advice = "Previews are only made by one: use the thumbnail or the original."
    else:
        advice = "Run 'lenslet worker' on this host, or check JOBS_QUEUE_URL."
    return StorageUnavailable(f"No index process can be reached from here. {advice}")


def encode(request: Request) -> bytes:
    """Returns a request as JSON, such as `["Look", "art/2025", true, false, false]`."""
    return orjson.dumps([type(request).__name__, *request])


def decode(data: bytes | str) -> Request:
    """Returns the request that was encoded; `Invalid` for anything else."""
    try:
        kind, *fields = orjson.loads(data)
        if fields:
            fields[0] = paths.parse(fields[0])
        request: Request = _KINDS[kind](*fields)
        is_preview = isinstance(request, Render) and request.preview in (0, SCREEN, TILE)
        if not all(isinstance(flag, bool) for flag in fields[1 + is_preview :]):
            raise TypeError("a flag is not true or false")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("message", f"not understood ({type(error).__name__})") from error
    return request


def post(sender: socket.socket, request: Request) -> None:
    """Sends a request as one datagram."""
    try:
        sender.send(encode(request))
    except (BlockingIOError, TimeoutError, ConnectionError) as error:
        raise StorageUnavailable("The index process has too much to do right now.") from error


class Channel:
    """Carries requests from request processes to the index process, over a socket pair.

    Made before any fork.
    """

    problem = ""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)

    def send(self, request: Request) -> None:
        post(self._sender, request)

    def receive(self, wait: float) -> Request | None:
        """Returns the next request, if one comes within `wait` seconds."""
        if not select.select([self._receiver], [], [], wait)[0]:
            return None
        try:
            return decode(self._receiver.recv(_MESSAGE_BYTES))
        except BlockingIOError:
            return None
        except Invalid as error:  # of a process of another version
            log.warning("%s", error)
            return None

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()
