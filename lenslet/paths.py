"""Paths and names: which are safe, which are images, ignored or temporary. Touches no file."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from lenslet.errors import BadRequest


class Format(NamedTuple):
    """A format of images: its name for people and for Pillow, its media type, and its suffixes."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    has_exif_at_end: bool = False


# All that are served. Add what Pillow can read here, and its plugin in images/pixels.py.
FORMATS = (
    Format("JPEG", "image/jpeg", (".jpg", ".jpeg")),
    Format("PNG", "image/png", (".png",)),
    Format("WebP", "image/webp", (".webp",), has_exif_at_end=True),
)
_BY_SUFFIX = {suffix: each for each in FORMATS for suffix in each.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
MANIFEST = "_index.json"
ROLLUP, ROLLUP_DELTA = "_rollup.json", "_rollup_delta.json"
HEALTH = "_health.json"
LINKS, SEARCHES = "_links.json", "_searches.json"
USER_FILES = (LINKS, SEARCHES)  # at the root, made by people
POINTERS = (".lenslet.folder.json", ".lenscat.folder.json")
IGNORE_MARKS = (".nomedia", ".lensletignore")
FOLDER_FILES = (*POINTERS, *IGNORE_MARKS)  # they say something about the folder they are in
THUMBNAIL = ".thumbnail"
SIDECARS = (".lenslet.json", ".json")  # read in this order
TEMPORARY = ".lenslet-tmp-"
_NOT_COUNTED = (*SUFFIXES, THUMBNAIL, ".json", ".xmp")  # where `unsupported` files are counted

# What systems and NAS devices (Synology, QNAP, Asustor, NetApp, Buffalo) keep beside people's
# folders: thumbnails, snapshots, what was deleted. In lower case.
_IGNORED = frozenset(
    {
        *("$recycle.bin", "recycler", "system volume information", "thumbs.db"),
        *("lost+found", "__macosx"),
        *("@eadir", "@tmp", "@sharebin", "@sharesnap", "@recycle", "@recently-snapshot"),
        *("@transcode", "#recycle", "#snapshot", "~snapshot", "trashbox"),
    }
)
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_DIGITS = re.compile(r"([0-9]+)")
_TEMPORARY = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{16}")
LONGEST_NAME, LONGEST_PATH = 255, 3800  # bytes; a whole path may have 4,096
_SHORTENED = 200  # bytes that stay of a name that is too long with a suffix


class Path(str):
    """Valid segments joined by `/`, relative to the root. The root is the empty path."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.rpartition("/")[2]

    @property
    def parent(self) -> Path:
        return Path(self.rpartition("/")[0])

    @property
    def segments(self) -> list[str]:
        return self.split("/") if self else []

    def child(self, name: str) -> Path:
        """Returns the path of `name` in this folder. `name` must be usable."""
        return Path(f"{self}/{name}") if self else Path(name)

    def holds(self, other: Path) -> bool:
        """True if `other` is this folder or is below it."""
        return not self or other == self or other.startswith(self + "/")

    def below(self, folder: Path) -> Path:
        """Returns this path relative to `folder`, which holds it."""
        return Path(self[len(folder) :].lstrip("/"))

    def ancestors(self) -> Iterator[Path]:
        """The folders above, nearest first, the root last."""
        path = self
        while path:
            path = path.parent
            yield path


ROOT = Path("")


def parse(text: str, parameter: str = "path") -> Path:
    """Returns the safe path that a client's text means.

    One leading and one trailing `/` are dropped. Raises `BadRequest`, naming `parameter`, for
    empty, `.` and `..` segments, control characters, backslashes, text that is not UTF-8, names
    over 255 bytes and paths over 3,800.
    """
    path = text.removeprefix("/").removesuffix("/")
    if not path:
        return ROOT
    if not all(map(usable_segment, path.split("/"))):
        raise BadRequest(
            parameter, "an empty or too long name, '.', '..', a control character or a backslash"
        )
    if len(path.encode()) > LONGEST_PATH:
        raise BadRequest(parameter, f"longer than {LONGEST_PATH} bytes")
    return Path(path)


def usable(name: str) -> bool:
    """True if a name in a folder can be part of a path."""
    return not _UNUSABLE.search(name)


def usable_segment(name: str) -> bool:
    """Like `usable`, and also False for empty names, `.`, `..` and names over 255 bytes."""
    return usable(name) and name not in ("", ".", "..") and len(name.encode()) <= LONGEST_NAME


def escaped(name: str) -> str:
    """Returns an unusable name in a form that can be shown, with `\\xNN` for bad characters."""
    return _UNUSABLE.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", name)


def is_item(name: str) -> bool:
    """True if a file with this name is an image that Lenslet serves."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def file_beside(image: str, suffix: str) -> Path:
    """Returns the path of a file that Lenslet keeps beside an image, by the image's name or path.

    It has the image's name and a suffix. If that is more than 255 bytes, it has the first bytes of
    the name and a hash of the whole; docs/files.md has the rule.
    """
    folder, slash, name = image.rpartition("/")
    raw = name.encode()
    if len(raw) + len(suffix) > LONGEST_NAME:
        start, digest = raw[:_SHORTENED].decode(errors="ignore"), hashlib.sha256(raw).hexdigest()
        name = f"{start}~{digest[:16]}.{name.rpartition('.')[2]}"
    return Path(f"{folder}{slash}{name}{suffix}")


def without_image(
    files: Iterable[str], suffixes: tuple[str, ...], there: Collection[str]
) -> set[str]:
    """Returns the names of images that are not `there`, but `files` beside them with a suffix are.

    A name that was too long is the shortened one: by it, `file_beside` finds the same file.
    """
    ended = ((name, suffix) for name in files for suffix in suffixes if name.endswith(suffix))
    names = {name.removesuffix(suffix) for name, suffix in ended}.difference(there)
    found = set(filter(is_item, names))
    if not found:
        return found
    return found - {file_beside(name, end).removesuffix(end) for name in there for end in suffixes}


def unsupported(name: str) -> str:
    """Returns the suffix of a file that is not shown, such as `.heic`; empty for any other file.

    Files without a suffix, JSON and Lenslet's own are not meant to be shown.
    """
    name = name.lower()
    if name.startswith(".") or name.endswith(_NOT_COUNTED):
        return ""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" if stem and dot else ""


def is_temporary(name: str) -> bool:
    """True for the temporary files that Lenslet makes, and for no other."""
    return name.startswith(TEMPORARY) and _TEMPORARY.fullmatch(name) is not None


def format_of(name: str) -> Format:
    """Returns the format that the name of an item stands for."""
    return _BY_SUFFIX["." + name.lower().rpartition(".")[2]]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key, different for each name: `img2` is before `img10`, and case does not count."""
    parts: list[str | int] = list(_DIGITS.split(name.casefold()))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def folder_key(path: Path) -> list[tuple[list[str | int], str]]:
    """A sort key: a folder comes before the folders below it."""
    return [natural_key(segment) for segment in path.segments]


class Ignore:
    """Says which names are not part of the library: system clutter and the operator's globs.

    A glob with a `/` is matched against the whole path, any other against the name.
    """

    def __init__(self, globs: tuple[str, ...] = ()) -> None:
        self._globs = [(re.compile(fnmatch.translate(g.strip("/"))), "/" in g) for g in globs]

    def path(self, path: Path) -> bool:
        """True if the last segment of a path is ignored."""
        name = path.name
        clutter = name.startswith(".") or name.lower() in _IGNORED
        return clutter or any(glob.match(path if whole else name) for glob, whole in self._globs)
