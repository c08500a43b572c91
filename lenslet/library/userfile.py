"""A list that the user makes, in a JSON file at the root: of links, of saved searches."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_origin

import orjson

from lenslet import paths
from lenslet.bounds import DOCUMENT_BYTES, loads
from lenslet.errors import Foreign, Invalid, LensletError, NotFound, NotRegular
from lenslet.paths import Path
from lenslet.storage.tree import BLANK, NO_STAT, Content, Copy, DocumentCache, Stat, Tree

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Entry = TypeVar("Entry", bound="DataclassInstance")

_ADVICE = "copy it to STATE_DIR (the start line names it), or remove it"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class UserFile(Generic[Entry]):
    """The entries of a file at the root, or in `STATE_DIR`. Safe for threads.

    With `STATE_DIR`, the file at the root is not read: write access to the photos alone must not
    create links. `Foreign` if the file is another program's, or if one entry is not complete.
    """

    def __init__(self, tree: Tree, name: str, key: str, decode: Callable[[Any], Entry]) -> None:
        """`key` is that of the list in the file; `decode` makes an entry of JSON, see `entry`."""
        self._all = tree
        self._tree = tree.own or tree
        self._path = Path(name)
        self._key = key
        self._decode = decode
        self._parse = functools.lru_cache(maxsize=2)(self._parsed)
        self._forget()

    @property
    def exists(self) -> bool:
        """False if the file was never made, or is blank."""
        return bool(self._read()[0].strip(BLANK))

    @property
    def problem(self) -> str:
        """Why the file is not as it should be; empty if it is."""
        try:
            data, stat = self._read()
            self._parse(data)
            if stat == NO_STAT and self._tree is not self._all:
                with contextlib.suppress(NotFound):
                    self._all.stat(self._path)
                    return f"{self._path} at the root is not read: {_ADVICE}"
        except LensletError as error:
            return str(error)
        is_blank = stat != NO_STAT and not data.strip(BLANK)
        return f"{self._path} is blank: restore it from a backup, or remove it" if is_blank else ""

    def entries(self) -> list[Entry]:
        """Returns all entries, in the order of the file."""
        return [*self._parse(self._read()[0])]

    def change(self, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Writes what `change` makes of the entries. It may raise, and may be called again."""

        def write(copies: list[Copy]) -> tuple[Path, bytes] | None:
            stored = copies[0].data if copies else b""
            if stored is None:
                raise Foreign(self._path)
            before = [*self._parse(stored)]
            entries = change([*before])
            document = {"v": 1, self._key: [asdict(each) for each in entries]}
            data = orjson.dumps(document, option=_OPTIONS)
            if len(data) > DOCUMENT_BYTES:  # it could not be read any more
                raise Invalid("body", f"{self._path} would be too large: remove some {self._key}")
            return None if entries == before else (self._path, data)

        self._tree.update([self._path], write)
        self._forget()

    def _forget(self) -> None:
        # In a bucket, a file is used for a second, so that other hosts see a change within two.
        seconds = 0.0 if self._tree.has_stamps else 1.0
        self._cache = DocumentCache(4 * DOCUMENT_BYTES, seconds)

    def _read(self) -> Content:
        return self._cache.read(self._path, self._load, fresh=False)

    def _load(self, known: Stat) -> Content | None:
        try:
            return self._tree.read_changed(self._path, known, DOCUMENT_BYTES)
        except NotRegular as error:
            raise Foreign(self._path) from error
        except NotFound:
            self._tree.check()  # its disk may be away
            return b"", NO_STAT

    def _parsed(self, data: bytes) -> tuple[Entry, ...]:
        if not data.strip(BLANK):
            return ()
        try:
            document = loads(data)
            if document["v"] != 1:
                raise ValueError("another version")
            return tuple(map(self._decode, document[self._key]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Foreign(self._path) from error


def entry(kind: type[Entry], found: dict[str, Any]) -> Entry:
    """Returns a stored entry, whose `path` is one of the library.

    Raises an error if a key is missing, unknown or of another type.
    """
    made = kind(**{**found, "path": paths.parse(found["path"])})
    for key in fields(kind):
        if type(getattr(made, key.name)) is not (get_origin(key.type) or key.type):
            raise TypeError(key.name)
    return made
