"""Which files of other programs say something of a photo: XMP sidecars, and Google Takeout's JSON.

They are read with the photo, and never changed. Takeout's files have these names:

=====================================  ==========================================
`a.jpg.supplemental-metadata.json`     `a.jpg`
`a.jpg.supp.json`, `a.jpg.json`        `a.jpg`: the end is cut off
`a.json`                               `a.jpg`
46 characters and `.json`              a long name
`a.jpg(1).json`, `a.jpg.supp(1).json`  `a(1).jpg`
any of these                           `a-edited.jpg`, in some languages
=====================================  ==========================================
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from blake3 import blake3

from lenslet.paths import SIDECARS
from lenslet.storage.tree import Stat

_XMP, _JSON = ".xmp", ".json"
_METADATA = ".supplemental-metadata"
_MOST = 46  # characters of a name, without `.json`
_NOTES = 2  # that are read: one of them may be Lenslet's own
_NUMBERED = re.compile(r"(.*?)(\(\d+\))?(\.[^.]*)?", re.DOTALL)
_EDITED = re.compile(r"-(edited|bearbeitet|modifié|editado|editada|modificato|bewerkt|redigerad)$")


class Companions(NamedTuple):
    """The files that say something of one image, by `names`, and a `rev` that changes with them."""

    names: tuple[str, ...] = ()
    rev: str = ""


NONE = Companions()


def of(files: Mapping[str, Stat], names: Iterable[str]) -> Companions:
    """Returns these files of a folder as companions."""
    if not (names := tuple(names)):
        return NONE
    revs = "/".join(f"{name}/{files[name].rev}" for name in names)
    return Companions(names, str(blake3(revs.encode()).hexdigest())[:12])


def find(images: Collection[str], files: Iterable[str]) -> dict[str, list[str]]:
    """Returns for each image its companions: XMP comes first, and `a.jpg.xmp` before `a.xmp`."""
    xmp, notes, found = dict[str, str](), dict[str, str](), defaultdict[str, list[str]](list)
    for file in files:
        if file.endswith(_JSON):
            stem = file.removesuffix(_JSON)
            if stem in images:
                found[stem] = [file]
            elif not stem.startswith("_") and not file.endswith(SIDECARS[0]):
                notes[stem] = file
        elif file.lower().endswith(_XMP):
            xmp[file[: -len(_XMP)]] = file
    for image in images if notes else ():
        others = [notes[stem] for stem in dict.fromkeys(_stems(image)) if stem in notes]
        if others:
            found[image] = (others + found[image])[:_NOTES]
    for image in images if xmp else ():
        if packet := xmp.get(image) or xmp.get(image.rpartition(".")[0]):
            found[image].insert(0, packet)
    return found


def _stems(image: str) -> Iterator[str]:
    """Yields the names without `.json` that the note of an image may have."""
    parts = _NUMBERED.fullmatch(image)
    stem, number, suffix = (part or "" for part in parts.groups()) if parts else (image, "", "")
    for name in dict.fromkeys((stem, _EDITED.sub("", stem))):
        whole = f"{name}{suffix}{_METADATA}"
        if number:
            yield f"{name}{number}{suffix}"
        for length in range(len(whole), len(name + suffix) - 1, -1):
            yield whole[:length] + number
        yield whole[:_MOST] + number
        yield f"{name}{number}"
