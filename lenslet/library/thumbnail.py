"""A thumbnail beside its image: bound to it, and complete or treated as missing."""

from __future__ import annotations

from lenslet.errors import NotFound
from lenslet.paths import THUMBNAIL, Path
from lenslet.storage import Stat, Tree


def path_of(item: Path) -> Path:
    return Path(item + THUMBNAIL)


def read(tree: Tree, item: Path, image: Stat) -> tuple[bytes, Stat]:
    """Reads the thumbnail that was made from `image`, the file of `item`; `NotFound` if none."""
    data, stat = tree.read(path_of(item))
    if not (stat.made_from(image) and _is_complete(data)):
        raise NotFound(f"{item} has no thumbnail yet.")
    return data, stat


def _is_complete(data: bytes) -> bool:
    """True if a RIFF file is as long as its header says (WebP container, RFC 9649, 2.4)."""
    return data.startswith(b"RIFF") and len(data) == 8 + int.from_bytes(data[4:8], "little")


def write(tree: Tree, item: Path, image: Stat, data: bytes) -> None:
    """Writes a thumbnail, bound to the image that it was made from."""
    tree.write(path_of(item), data, image=image)


def delete(tree: Tree, item: Path) -> None:
    """Removes a thumbnail; `NotFound` if there is none."""
    tree.delete(path_of(item))
