"""What can go wrong, in domain words; knows no HTTP.

``str(error)`` is a sentence that a client may read: it never holds a path of the server.
"""

from __future__ import annotations


class LensletError(Exception):
    """Everything that Lenslet raises on purpose."""


class SettingError(LensletError):
    """A setting that stops the start: one line with its name, its value and what is allowed."""


class BadRequest(LensletError):
    """A request that is malformed; `parameter` names the part at fault."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter


class NotFound(LensletError):
    """Nothing is there, or nothing that is served."""


class Ignored(NotFound):
    """A folder that is marked as no part of the library."""


class NotRegular(NotFound):
    """Something is there that is no file: a link, a folder, a pipe."""


class Denied(LensletError):
    """The operating system, the store or a `readonly` mark says no."""


class BrokenPointer(Denied):
    """A pointer folder whose file is unusable or whose target is not allowed."""


class Conflict(LensletError):
    """A file that is not ours, or not readable, is in the way."""


class PreconditionFailed(LensletError):
    """`If-Match` or `If-None-Match` does not hold; `stored` is the sidecar as it is, if any."""

    def __init__(self, reason: str, stored: bytes | None = None) -> None:
        super().__init__(reason)
        self.stored = stored


class TooLarge(LensletError):
    """A request body over its limit."""


class RangeNotSatisfiable(LensletError):
    """A `Range` beyond the end of `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The range lies beyond the {size} bytes of the file.")
        self.size = size


class Invalid(LensletError):
    """Understood and wrong; `field` names what."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class UnreadableImage(LensletError):
    """An image that cannot be decoded: one line that says what is wrong with it."""


class StorageUnavailable(LensletError):
    """The store does not answer for now; asking again later may help."""


class Unreachable(StorageUnavailable):
    """The store does not answer at all."""


class EmptyObject(LensletError):
    """No byte of an object is where one was asked for."""


class StorageNonsense(LensletError):
    """The store answered what no store should answer."""


class Unsupported(LensletError):
    """The store lacks what is needed: conditional writes."""


class Overtaken(LensletError):
    """Another writer was first: look again at what is there now."""


class StorageFull(LensletError):
    """No space left to write."""


class PointerLoop(LensletError):
    """Pointer folders that lead back to themselves, or too many of them in a row."""

    def __init__(self, chain: list[str]) -> None:
        super().__init__("The folder points, in the end, to itself: " + " → ".join(chain))
        self.chain = chain


def one_line(text: object, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters, for a reason that is kept or shown."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
