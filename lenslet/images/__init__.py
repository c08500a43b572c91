"""Pixels: `pixels` makes thumbnails and reads EXIF, in processes that `decoders` starts.

`pixels` is the only importer of Pillow, besides the demo. Nothing here knows paths or storage.
"""

from dataclasses import dataclass

NEEDS_MEMORY = "decoding needs more memory than INDEX_MEMORY allows"


@dataclass(frozen=True, slots=True)
class Facts:
    """An image's upright size in pixels and, if it says so, when it was taken.

    `created_at` is in UTC, `taken_at` as the camera's clock showed it. `warning` says what is wrong
    with an image that can be shown. If an image cannot be shown, `error` says why, and the other
    fields come from its header. If that is damaged too, width and height are 0. `hash` is that of
    the file, and `rev` says which file it was.
    """

    width: int = 0
    height: int = 0
    created_at: str | None = None
    taken_at: str | None = None
    warning: str | None = None
    error: str | None = None
    hash: str | None = None
    rev: str = ""
