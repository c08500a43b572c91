"""`_links.json`: which folders are shown to guests, until when, and what of them."""

import contextlib
import datetime as dt
import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from lenslet import times
from lenslet.config import Settings
from lenslet.errors import LensletError, NotFound, StorageUnavailable
from lenslet.library.userfile import UserFile, entry
from lenslet.paths import LINKS, Path
from lenslet.storage.tree import Tree

_SECRET_BYTES, _ID_CHARACTERS = 16, 12
_SURE_SECONDS, _JUMP_SECONDS = 86_400.0, 60.0  # see `Links._is_sure`
_ENDED = "This link has ended, or was taken back."


@dataclass(frozen=True, slots=True)
class Link:
    """What one link shows: what is at and below `path` and, unless it is empty, `query` finds.

    Of `photos`, if there are any, it shows these alone: their paths, each with its hash.
    `hash` is that of its secret, which nobody keeps. Times are RFC 3339. Guests may also see tags
    and notes (`words`), where a photo was taken (`position`), and get the files themselves
    (`download`). `preview`: everybody who has its address may see its label and cover, as
    messengers show them.
    """

    hash: str
    path: Path
    query: str
    ends: str
    label: str = ""
    photos: dict[str, str] = field(default_factory=dict)
    created: str = times.LONG_AGO
    by: str = ""
    words: bool = False
    position: bool = False
    download: bool = False
    preview: bool = False

    @property
    def id(self) -> str:
        """Names the link; it gives no access."""
        return self.hash[:_ID_CHARACTERS]

    def has_ended(self, now: dt.datetime) -> bool:
        return times.parse(self.ends) <= now


def link_cookie(settings: Settings) -> str:
    """The name of the cookie with a link's secret. Browsers send it to every port of a host."""
    return f"lenslet_link_{settings.port}"


@functools.lru_cache(maxsize=8)
def links_of(tree: Tree) -> "Links":
    """Returns the links of a library, the same object each time."""
    return Links(tree, times.Clock())


class Links:
    """The links of a library. Safe for threads.

    `NotFound` for a link that does not exist, or that has ended; `Foreign` if `_links.json` is
    another program's. Links that have ended are removed for good when the file is written, or when
    one of them is opened, but not because of a clock that is wrong for a while.
    """

    def __init__(self, tree: Tree, clock: times.Clock) -> None:
        self._file = UserFile(tree, LINKS, "links", _link)
        self._clock = clock
        self._began, self._began_ns = clock(), clock.wall_ns()

    @property
    def exist(self) -> bool:
        """False if no file says which links were taken back: it was never made, or is blank."""
        return self._file.exists

    @property
    def problem(self) -> str:
        """Why links are not as they should be; empty if they are."""
        return self._file.problem

    def all(self) -> list[Link]:
        """Returns the links that have not ended, the newest first."""
        found = self._valid(self._file.entries())
        return sorted(found, key=lambda link: link.created, reverse=True)

    def get(self, link_id: str) -> Link:
        """Returns the link that an id names."""
        for link in self.all():
            if link.id == link_id:
                return link
        raise NotFound(_ENDED)

    def opened_by(self, secret: str) -> Link:
        """Returns the link of a secret, for a guest."""
        try:
            links = self._file.entries()
        except LensletError as error:  # whose words are for those who make links
            raise StorageUnavailable("Links cannot be read right now.") from error
        digest = _digest(secret)
        link = next((each for each in links if each.hash == digest), None)
        if link and not link.has_ended(self._now()):
            return link
        if link and self._is_sure():
            with contextlib.suppress(LensletError):
                self._change(list)
        raise NotFound(_ENDED)

    def add(self, link: Link, days: int) -> tuple[Link, str]:
        """Stores a link that ends in some days; returns it, and its secret."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._now()
        ends = times.text(now + dt.timedelta(days=days))
        new = replace(link, hash=_digest(secret), created=times.text(now), ends=ends)
        self._change(lambda links: [*links, new])
        return new, secret

    def remove(self, link_id: str) -> None:
        """Takes a link back: from now on it shows nothing."""

        def remove(links: list[Link]) -> list[Link]:
            left = [link for link in links if link.id != link_id]
            if len(left) == len(links):
                raise NotFound("There is no such link.")
            return left

        self._change(remove)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.wall_ns() // 10**9, times.UTC)

    def _is_sure(self) -> bool:
        """True if the clock was never set since this process began, which is a day ago or more."""
        seconds = self._clock() - self._began
        jump = (self._clock.wall_ns() - self._began_ns) / 1e9 - seconds
        return seconds > _SURE_SECONDS and abs(jump) < _JUMP_SECONDS

    def _valid(self, links: list[Link]) -> list[Link]:
        now = self._now()
        return [link for link in links if not link.has_ended(now)]

    def _change(self, change: Callable[[list[Link]], list[Link]]) -> None:
        """Writes what `change` makes of the links, without those that have ended for sure."""
        left = self._valid if self._is_sure() else list
        self._file.change(lambda links: left(change(links)))


def _digest(secret: str) -> str:
    return blake3(secret.encode()).hexdigest()


def _link(found: dict[str, Any]) -> Link:
    """Returns a stored link; raises an error if it is not complete."""
    found.pop("used", None)  # of a version that was never released
    link = entry(Link, found)
    if not all(isinstance(text, str) for text in link.photos.values()):
        raise TypeError("photos")
    times.parse(link.ends)
    return link
