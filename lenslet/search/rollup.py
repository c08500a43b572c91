"""The rollup of all items and its delta, as the index process writes them.

One rule: a folder belongs in the delta if the generation of its manifest differs from the one that
the rollup lists for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from lenslet.errors import Denied, NotFound
from lenslet.library.manifest import Item, Manifest, is_later
from lenslet.paths import ROLLUP, ROLLUP_DELTA, Path, folder_key
from lenslet.search.folding import (
    Generations,
    copy_rollup,
    encode_delta,
    encode_rollup,
    fold_copy,
    forget_copies,
    parse_delta,
    read_delta,
    read_folders,
    read_head,
)
from lenslet.storage.tree import Document, Tree, is_ours

_KEPT_SECONDS = 600.0  # how long a copy that is no longer current may still be in use
_CHUNK = 1 << 20
_MOST_NAMED = 20_000  # folders, about 2 MB


class Rollup:
    """Keeps the rollup and the delta. Used by one thread at a time.

    `generations` are the folders' generations in the rollup, `delta` those in the delta.
    """

    def __init__(self, tree: Tree, cache: Tree) -> None:
        self._tree = tree
        self._cache = cache
        self._generation = ""  # of the rollup that was read last
        self.generations: Generations = {}
        self.delta: Generations = {}

    @property
    def exists(self) -> bool:
        return bool(self._generation)

    def refresh(self) -> None:
        """Reads both files."""
        try:
            generation = str(read_head(self._tree)["generation"])
            if generation != self._generation:
                self._generation = copy_rollup(self._tree, self._cache, generation)
                with self._cache.open(Path(f"{self._generation}.json"))[0] as file:
                    self.generations = read_folders(file)
        except NotFound:
            self._generation, self.generations = "", {}
        self.delta = read_delta(self._tree)

    def flush(self, changed: Generations) -> None:
        """Names the `changed` folders in the delta, so that search looks at their manifests.

        The generation of a folder that is gone is "".
        """
        wanted = self._delta_after(self.delta, changed)
        if wanted == self.delta or len(wanted) > _MOST_NAMED:
            self.delta = wanted  # so many are in the next rollup, which is due
            return

        def change(copies: list[Document]) -> tuple[Path, bytes | None]:
            stored: Generations = {}
            for copy in copies:
                if copy.data is None or not is_ours(ROLLUP_DELTA, copy.data):
                    raise Denied(f"{ROLLUP_DELTA} is not Lenslet's own and is left as it is.")
                stored = parse_delta(copy.data)
            self.delta = self._delta_after(stored, changed)
            return Path(ROLLUP_DELTA), encode_delta(self.delta)

        self._tree.update([Path(ROLLUP_DELTA)], change, derived=True)

    def _delta_after(self, stored: Generations, changed: Generations) -> Generations:
        found = dict(stored)
        for path, generation in changed.items():
            if not generation or not is_later(found.get(path, ""), generation):
                found[path] = generation
        return {
            path: generation
            for path, generation in sorted(found.items())
            if generation != self.generations.get(path, "")
        }

    def compact(self, folders: Iterable[Path], load: Callable[[Path], Manifest]) -> int:
        """Writes the rollup anew from the manifests of `folders`; returns the number of items.

        A folder without a complete manifest is left out; the delta names it when it has one.
        """
        count, generations = 0, {}

        def items() -> Iterator[Item]:
            nonlocal count
            for folder in sorted(folders, key=folder_key):
                found = load(folder)
                if found.generated_at:
                    generations[folder] = found.generated_at
                    count += len(found.items)
                    yield from found.items

        generation = secrets.token_hex(8)
        name = Path(f"{generation}.json")
        self._cache.write(name, lambda: encode_rollup(generation, items(), generations))
        fold_copy(self._cache, generation)  # so that it can be searched as soon as it is there
        with self._cache.open(name)[0] as file:

            def content() -> Iterator[bytes]:
                file.seek(0)
                return iter(partial(file.read, _CHUNK), b"")

            self._tree.write(Path(ROLLUP), content)
        self._generation, self.generations = generation, generations
        forget_copies(self._cache, {generation}, _KEPT_SECONDS)
        return count
