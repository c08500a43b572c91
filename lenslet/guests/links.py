"""`_links.json`: which folders are shown to guests, until when, and what of them."""

import contextlib
import datetime as dt
import functools
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_origin

import orjson
from blake3 import blake3

from lenslet import paths, times
from lenslet.bounds import DOCUMENT_BYTES, loads
from lenslet.config import Settings
from lenslet.errors import (
    Foreign,
    Invalid,
    LensletError,
    NotFound,
    NotRegular,
    StorageUnavailable,
)
from lenslet.paths import LINKS, Path
from lenslet.storage.tree import BLANK, NO_STAT, Content, Copy, DocumentCache, Stat, Tree

_SECRET_BYTES, _ID_CHARACTERS = 16, 12
_SURE_SECONDS, _JUMP_SECONDS = 86_400.0, 60.0  # see `Links._is_sure`
_ENDED = "This link has ended, or was taken back."
_ADVICE = "copy it to STATE_DIR (the start line names it), or remove it"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


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
        self._all = tree
        self._tree = tree.own or tree  # write access to the photos alone must not create links
        self._clock = clock
        self._began, self._began_ns = clock(), clock.wall_ns()
        self._forget()

    @property
    def exist(self) -> bool:
        """False if no file says which links were taken back: it was never made, or is blank."""
        return bool(self._read()[0].strip(BLANK))

    @property
    def problem(self) -> str:
        """Why links are not as they should be; empty if they are."""
        try:
            data, stat = self._read()
            _parse(data)
            if stat == NO_STAT and self._tree is not self._all:
                with contextlib.suppress(NotFound):
                    self._all.stat(Path(LINKS))
                    return f"{LINKS} at the root is not read: {_ADVICE}"
        except LensletError as error:
            return str(error)
        is_blank = stat != NO_STAT and not data.strip(BLANK)
        return f"{LINKS} is blank: restore it from a backup, or make a link" if is_blank else ""

    def all(self) -> list[Link]:
        """Returns the links that have not ended, the newest first."""
        found = self._valid(self._links()).values()
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
            links = self._links()
        except LensletError as error:  # whose words are for those who make links
            raise StorageUnavailable("Links cannot be read right now.") from error
        link = links.get(_digest(secret))
        if link and not link.has_ended(self._now()):
            return link
        if link and self._is_sure():
            with contextlib.suppress(LensletError):
                self._change(dict)
        raise NotFound(_ENDED)

    def add(self, link: Link, days: int) -> tuple[Link, str]:
        """Stores a link that ends in some days; returns it, and its secret."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now = self._now()
        ends = times.text(now + dt.timedelta(days=days))
        new = replace(link, hash=_digest(secret), created=times.text(now), ends=ends)
        self._change(lambda links: {**links, new.hash: new})
        return new, secret

    def remove(self, link_id: str) -> None:
        """Takes a link back: from now on it shows nothing."""

        def remove(links: dict[str, Link]) -> dict[str, Link]:
            left = {digest: link for digest, link in links.items() if link.id != link_id}
            if len(left) == len(links):
                raise NotFound("There is no such link.")
            return left

        self._change(remove)

    def _forget(self) -> None:
        # In a bucket, a link is used for a second, so that other hosts see a change within two.
        seconds = 0.0 if self._tree.has_stamps else 1.0
        self._cache = DocumentCache(4 * DOCUMENT_BYTES, seconds)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.wall_ns() // 10**9, times.UTC)

    def _is_sure(self) -> bool:
        """True if the clock was never set since this process began, which is a day ago or more."""
        seconds = self._clock() - self._began
        jump = (self._clock.wall_ns() - self._began_ns) / 1e9 - seconds
        return seconds > _SURE_SECONDS and abs(jump) < _JUMP_SECONDS

    def _valid(self, links: dict[str, Link]) -> dict[str, Link]:
        now = self._now()
        return {digest: link for digest, link in links.items() if not link.has_ended(now)}

    def _links(self) -> dict[str, Link]:
        return _parse(self._read()[0])

    def _read(self) -> Content:
        return self._cache.read(Path(LINKS), self._load, fresh=False)

    def _load(self, known: Stat) -> Content | None:
        try:
            return self._tree.read_changed(Path(LINKS), known, DOCUMENT_BYTES)
        except NotRegular as error:
            raise Foreign(Path(LINKS)) from error
        except NotFound:
            self._tree.check()  # its disk may be away
            return b"", NO_STAT

    def _change(self, change: Callable[[dict[str, Link]], dict[str, Link]]) -> None:
        """Writes what `change` makes of the links."""

        def write(copies: list[Copy]) -> tuple[Path, bytes]:
            stored = copies[0].data if copies else b""
            if stored is None:
                raise Foreign(Path(LINKS))
            links = change(_parse(stored))
            if self._is_sure():
                links = self._valid(links)
            document = {"v": 1, "links": [asdict(link) for link in links.values()]}
            data = orjson.dumps(document, option=_OPTIONS)
            if len(data) > DOCUMENT_BYTES:  # it could not be read any more
                raise Invalid("body", f"{LINKS} would be too large: take some links back")
            return Path(LINKS), data

        self._tree.update([Path(LINKS)], write)
        self._forget()


def _digest(secret: str) -> str:
    return blake3(secret.encode()).hexdigest()


@functools.lru_cache(maxsize=2)
def _parse(data: bytes) -> dict[str, Link]:
    """Returns links by hash, none if the file is blank; `Foreign` if it is nonsense."""
    if not data.strip(BLANK):
        return {}
    try:
        document = loads(data)
        if document["v"] != 1:
            raise ValueError("another version")
        return {link.hash: link for link in map(_link, document["links"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Foreign(Path(LINKS)) from error


def _link(found: dict[str, Any]) -> Link:
    """Returns a stored link; raises an error if a key is missing, unknown or of another type."""
    found.pop("used", None)  # of a version that was never released
    link = Link(**{**found, "path": paths.parse(found["path"])})
    for key in fields(Link):
        if type(getattr(link, key.name)) is not (get_origin(key.type) or key.type):
            raise TypeError(key.name)
    if not all(isinstance(text, str) for text in link.photos.values()):
        raise TypeError("photos")
    times.parse(link.ends)
    return link
