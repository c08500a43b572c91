"""A thumbnail file beside its image: bound to it, whole or treated as missing."""

from __future__ import annotations

from lenslet.paths import THUMBNAIL, Path
from lenslet.storage import Stat, Storage


def path_of(item: Path) -> Path:
    return Path(item + THUMBNAIL)


def read(storage: Storage, item: Path, image: Stat) -> tuple[bytes, Stat]:
    """The thumbnail made from `image`, the file that `item` is; `NotFound` when there is none."""
    return storage.derived(
        path_of(item), lambda data, stat: stat.is_made_from(image) and _whole(data)
    )


def _whole(data: bytes) -> bool:
    """Whether a RIFF file has the length that its header says (WebP container, RFC 9649, 2.4)."""
    return data.startswith(b"RIFF") and len(data) == 8 + int.from_bytes(data[4:8], "little")


def keep(storage: Storage, item: Path, image: Stat, data: bytes, *, make: bool = False) -> None:
    """Store a thumbnail and bind it to the image that it was made from.

    With `make`, its folder is made: that of a pointer's subfolder is not there by itself.
    """
    storage.keep(path_of(item), data, image=image, make=make)


def drop(storage: Storage, item: Path) -> None:
    """Remove a thumbnail; `NotFound` when there is none."""
    storage.drop(path_of(item))
