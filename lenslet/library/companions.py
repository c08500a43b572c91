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

from lenslet.library.manifest import is_own_name
from lenslet.paths import SIDECARS
from lenslet.storage.tree import Stat

_XMP, _JSON = ".xmp", ".json"
_METADATA = ".supplemental-metadata"
_MOST = 46  # characters of a name, without `.json`
_NOTES = 2  # that are read: one of them may be Lenslet's own
_NUMBERED = re.compile(r"(.*?)(\(\d+\))?(\.[^.]*)?", re.DOTALL)
_NUMBER = re.compile(r"(.*?)(\(\d+\))?", re.DOTALL)
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
            elif not is_own_name(file) and not file.endswith(SIDECARS[0]):
                notes[stem] = file
        elif file.lower().endswith(_XMP):
            xmp[file[: -len(_XMP)]] = file
    by_stem = defaultdict[str, list[str]](list)
    for image in images if notes else ():
        for stem in _stems(image):
            by_stem[stem].append(image)
    for stem, file in notes.items():
        for image in next((by_stem[each] for each in _whole(stem) if each in by_stem), ()):
            found[image] = [file, *found[image]][:_NOTES]
    for image in images if xmp else ():
        if packet := xmp.get(image) or xmp.get(image.rpartition(".")[0]):
            found[image].insert(0, packet)
    return found


def _stems(image: str) -> set[str]:
    """Returns the names without `.json` that the note of an image may have, if none is cut off."""
    parts, found = _NUMBERED.fullmatch(image), set[str]()
    stem, number, suffix = (part or "" for part in parts.groups()) if parts else (image, "", "")
    for name in (stem, _EDITED.sub("", stem)):
        cut = f"{name}{suffix}{_METADATA}"[:_MOST]
        found |= {f"{each}{number}" for each in (name, name + suffix, cut)}
        found.add(f"{name}{number}{suffix}")
    return found


def _whole(stem: str) -> Iterator[str]:
    """Yields a note's name without `.json`, and without what may be the beginning of its end."""
    parts = _NUMBER.fullmatch(stem)
    name, number = (part or "" for part in parts.groups()) if parts else (stem, "")
    for length in range(len(_METADATA) + 1):
        if name.endswith(_METADATA[:length]):
            yield name.removesuffix(_METADATA[:length]) + number
