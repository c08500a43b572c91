"""Errors in domain words. `web/answers.py` has their status codes.

`str(error)` is a sentence for the client, without any path of the server. Only `SettingError` is
for the operator, and may show one.
"""


class LensletError(Exception):
    """Base class of every error that Lenslet raises on purpose."""


class SettingError(LensletError):
    """A setting that stops the start: one line that says what is wrong and what is allowed."""


class BadRequest(LensletError, ValueError):
    """A malformed request; `parameter` names the part at fault."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter


class NotFound(LensletError):
    """There is nothing at this path, or nothing that is served."""


class Ignored(NotFound):
    """A folder that is marked as not part of the library."""


class NotRegular(NotFound):
    """Something that is not a regular file: a link, a folder, a pipe."""


class Denied(LensletError):
    """The operating system, the store or a `readonly` pointer does not allow it."""


class Foreign(Denied):
    """A file of another program, or service, is where one of Lenslet's own would be."""

    def __init__(
        self, path: str, how: str = "is not Lenslet's own: rename it, or set STATE_DIR"
    ) -> None:
        super().__init__(f"{path} {how}.")


class Archived(Denied):
    """An object that must be restored before it can be read; `rev` is its rev, "" if unknown."""

    def __init__(self, reason: str, rev: str = "") -> None:
        super().__init__(reason)
        self.rev = rev


class BrokenPointer(Denied):
    """A pointer folder with an invalid file, or a target that is missing or not allowed."""


class Conflict(LensletError):
    """A document is foreign, unreadable or too large to be used."""


class PreconditionFailed(LensletError):
    """`If-Match` or `If-None-Match` does not hold; `stored` is the current sidecar, if any."""

    def __init__(self, reason: str, stored: bytes | None = None) -> None:
        super().__init__(reason)
        self.stored = stored


class TooLarge(LensletError):
    """A request body, or a folder's list of subfolders, over its limit."""


class Invalid(LensletError, ValueError):
    """A well-formed value that is not allowed; `field` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class UnreadableImage(LensletError):
    """An image that cannot be decoded; the message says why in one line."""


class StorageUnavailable(LensletError):
    """Storage cannot be used right now. Trying again later may help."""


class Overloaded(StorageUnavailable):
    """The system does not let this process start another thread or process."""


class StorageNonsense(StorageUnavailable):
    """The store sent an answer that is not valid S3."""


class Unsupported(LensletError):
    """The store lacks a feature that is needed, such as conditional writes."""


class Overtaken(LensletError):
    """Another writer was first: read again and retry."""


class StorageFull(LensletError):
    """No space left to write."""


class PointerLoop(LensletError):
    """Pointer folders that lead back to themselves, or more than 16 of them in a row."""

    def __init__(self, chain: list[str]) -> None:
        super().__init__(
            "The folder points back to itself, or through too many others: " + " → ".join(chain)
        )
        self.chain = chain


def one_line(text: object, limit: int = 200) -> str:
    """Returns `text` as one line of at most `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
