"""When a folder in a bucket is listed because somebody looks at it."""

from collections.abc import Callable

from lenslet.index.messages import REST_SECONDS
from lenslet.paths import Path

_SECOND_LOOK_SECONDS = 20.0  # finds what was uploaded right after the first look
_EVENT_SECONDS = 3600.0  # a bucket that sent an event in this time sends them
_FOLDERS = 10_000


class Views:
    """Decides which views are followed by a look: only a listing tells whether a folder changed.

    The first one, one 20 seconds later, and then as seldom as keeps a folder that does not change
    at one request a minute. None if the bucket tells what changes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[float, float]] = {}  # the last view, and the second look
        self._event = float("-inf")

    def event(self) -> None:
        """Notes that the bucket sends events."""
        self._event = self._clock()

    def see(self, path: Path, looked: float, items: int) -> tuple[bool, float]:
        """Notes a view. The last look at the folder was at `looked`; `items` is how many it found.

        Returns whether a look is due, and the seconds until the second look; 0 if it was due.
        """
        now = self._clock()
        last, second = self._seen.pop(path, (float("-inf"), float("-inf")))
        is_first = now - last > REST_SECONDS
        if is_first:
            second = now + _SECOND_LOOK_SECONDS
        if len(self._seen) >= _FOLDERS:
            self._seen.clear()
        self._seen[path] = now, second
        requests = 1 + 2 * items // 1000  # an image and its thumbnail are two of 1,000 keys
        is_due = is_first or now >= second > looked or now - looked >= REST_SECONDS * requests
        return is_due, max(0.0, second - now)

    @property
    def sends_events(self) -> bool:
        """True if the bucket tells what changes."""
        return self._clock() - self._event < _EVENT_SECONDS
