"""Pixels: `pixels` makes thumbnails and reads EXIF, in processes that `decoders` starts.

Only `pixels` and `colours` import Pillow. Nothing here knows storage.
"""

from dataclasses import dataclass, field
from typing import Any, BinaryIO

from blake3 import blake3

# The version of what is read from an image, raised with every new fact. Items of an older version
# are read again; those of a newer one are left alone.
FACTS_VERSION = 5
# The version of how pixels are rendered. A release that raises it raises `FACTS_VERSION` too, so
# that an older release leaves the newer thumbnails alone.
_RENDERING = 2
_CHUNK_BYTES = 1 << 20
MOST_FILES = 4  # that one request to a decoder has
DIGEST_CHARS = 12  # of a thumbnail's hash: enough to distinguish the thumbnails of one image
NEEDS_MEMORY = "decoding needs more memory than INDEX_MEMORY allows"


def rendering(*, long_edge: int, quality: int) -> str:
    """Says how an image is made smaller, such as `256-70-1`."""
    return f"{long_edge}-{quality}-{_RENDERING}"


# The long edges of previews: for a screen, and for a tile of a list on a fine screen.
SCREEN, TILE = 1600, 640


def preview(long_edge: int) -> dict[str, int]:
    """Says how a preview is made, as parameters of `pixels.render`."""
    return {"long_edge": long_edge, "quality": 80}


def hash_of(file: BinaryIO) -> str:
    """Reads a file to its end, and returns its hash."""
    hasher = blake3()
    while data := file.read(_CHUNK_BYTES):
        hasher.update(data)
    return f"blake3:{hasher.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Facts:
    """An image's upright size in pixels and, if it says so, when it was taken.

    `created_at` is in UTC, `taken_at` as the camera's clock showed it. `written` is what cameras
    and people wrote into it, by keys of an item. `warning` says what is wrong with an image that
    can be decoded in part. If it cannot be decoded at all, `error` says why, and the other fields
    come from its header. If that is damaged too, width and height are 0. `hash` is that of the
    file, and `rev` says which file it was. `limit` is the setting that refused it, with its value.
    `thumb` identifies its thumbnail: a digest, and how it was made. `companions` is the `rev` of
    the files that were read with it, None if it is not known whether there are any.
    """

    width: int = 0
    height: int = 0
    created_at: str | None = None
    taken_at: str | None = None
    written: dict[str, Any] = field(default_factory=dict)
    warning: str | None = None
    error: str | None = None
    hash: str | None = None
    limit: str | None = None
    thumb: str | None = None
    rev: str = ""
    companions: str | None = None

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of an item that say what the image shows, without those that are not known."""
        found = {
            "w": self.width,
            "h": self.height,
            "hash": self.hash,
            "createdAt": self.created_at,
            "takenAt": self.taken_at,
            "warning": self.warning,
            "error": self.error,
            **self.written,
        }
        return {key: value for key, value in found.items() if value is not None}
