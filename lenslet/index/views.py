"""When a folder in a bucket is listed because somebody looks at it."""

from collections.abc import Callable

from lenslet.paths import Path

SECOND_LOOK_SECONDS = 20.0  # finds what was uploaded right after the first look
REST_SECONDS = 60.0  # after so long without a view, the next one is a first one
_EVENT_SECONDS = 3600.0  # a bucket that sent an event in this time sends them
_FOLDERS = 10_000


class Views:
    """Decides which views are followed by a look: only a listing tells whether a folder changed.

    The first one, and later ones as seldom as keeps a folder that does not change at one request a
    minute. None if the bucket tells what changes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Path, float] = {}
        self._event = float("-inf")

    def event(self) -> None:
        """Notes that the bucket sends events."""
        self._event = self._clock()

    def is_first(self, path: Path) -> bool:
        """Notes a view; True if it is the first one after a rest."""
        now, before = self._clock(), self._seen.pop(path, float("-inf"))
        if len(self._seen) >= _FOLDERS:
            self._seen.clear()
        self._seen[path] = now
        return now - before > REST_SECONDS

    def is_due(self, looked: float, items: int) -> bool:
        """True if a later view is followed by a look, for a folder that was `looked` at then."""
        requests = 1 + 2 * items // 1000  # an image and its thumbnail are two of 1,000 keys
        return self._clock() - looked >= REST_SECONDS * requests

    @property
    def sends_events(self) -> bool:
        """True if the bucket tells what changes."""
        return self._clock() - self._event < _EVENT_SECONDS
