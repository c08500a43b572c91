"""Trees of files: local folders, S3 buckets, and what is laid over them.

`tree` has the contract that all of them keep, and `is_ours`, the rule of what is Lenslet's own.
`open_tree` opens the library's own tree from the settings.
"""

import contextlib
import functools
import glob
import hashlib
import itertools
import os
import shutil
from dataclasses import replace

from lenslet import paths
from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.storage import files
from lenslet.storage.local import MARKER, LocalTree
from lenslet.storage.overlay import Overlay
from lenslet.storage.tree import Buckets, Copy, DocumentCache, Tree, Trust

_CACHED_BYTES, _CACHED_BYTES_S3 = 8 * 1024 * 1024, 16 * 1024 * 1024


def open_tree(
    settings: Settings,
    buckets: Buckets | None,
    *,
    fresh_seconds: float = 0.0,
    trusts: Trust = lambda since: False,
) -> Tree:
    """Opens the tree that the settings name. The disk or bucket may be away right now.

    `buckets` opens those that the settings name.

    A tree in a bucket always caches manifests in memory, and uses one for `fresh_seconds` before
    it asks again, or longer while `trusts` says that nothing changed. A local one caches only with
    `fresh_seconds`, as in request processes.
    """
    if settings.s3_bucket:
        assert buckets
        root = buckets.open(settings.s3_bucket, settings.s3_prefix)
    else:
        root = LocalTree(settings.root_path)
    tree = with_state(settings, root, paths.ROOT)
    if settings.s3_bucket and not settings.state_dir:
        tree.cache = DocumentCache(_CACHED_BYTES_S3, fresh_seconds, trusts)
    elif settings.s3_bucket or fresh_seconds:
        tree.cache = DocumentCache(_CACHED_BYTES)
    return tree


def with_state(settings: Settings, tree: Tree, at: paths.Path) -> Tree:
    """Returns a tree with `STATE_DIR/at` laid over it, if `STATE_DIR` is set."""
    if not settings.state_dir:
        return tree
    state = os.path.realpath(settings.state_dir)
    marker = os.path.join(state, MARKER) if os.path.exists(_claim(settings)) else ""
    return Overlay(LocalTree(os.path.join(state, at), private=True, marker=marker), tree)


def check_settings(settings: Settings, *, writes: bool = True) -> Settings:
    """Returns the settings with the `STATE_DIR` that is used; `SettingError` if none can be used.

    A local root that cannot be written gets `state_folder`, which is then used for as long as it
    exists, because it may hold what people wrote. It is created here, with a copy of `USER_FILES`,
    but only if the caller `writes`, and not for an empty root: that is an unmounted disk. That of a
    library that has moved here moves along. A bucket is not checked: one that is unreachable right
    now must not stop the start. Creates this root's folder in the cache if the caller `writes`.
    """
    if not settings.s3_bucket:
        _check_root(settings.root_path)
        _check_apart(settings, "XDG_CACHE_HOME", settings.cache_dir)
    if writes:
        _make_cache(cache_folder(settings))
    if settings.state_dir:
        _check_state_dir(settings, writes=writes)
    if settings.s3_bucket or settings.state_dir:
        return settings
    own, root = state_folder(settings), settings.root_path
    is_needed = not _can_write(root) and os.listdir(root)
    if is_needed and not os.path.isdir(own):
        own = _moved_here(settings, own, writes=writes)
    if not ((is_needed and writes) or os.path.isdir(own)):
        return settings
    with contextlib.suppress(OSError):  # it is there already
        os.makedirs(own, mode=0o700)
        for name in paths.USER_FILES:
            with contextlib.suppress(OSError):  # the root has none
                shutil.copy2(os.path.join(root, name), own, follow_symlinks=False)
    if not _can_write(own):
        raise SettingError(
            f"neither {root_name(settings)!r} nor {own!r} can be written: "
            "let Lenslet write in one of them, or set STATE_DIR"
        )
    settings = replace(settings, state_dir=own)
    _check_state_dir(settings, writes=writes)
    return settings


def state_folder(settings: Settings) -> str:
    """Returns the folder for Lenslet's own files if this root cannot be written."""
    return os.path.join(settings.state_home, _unique_name(settings))


def _moved_here(settings: Settings, own: str, *, writes: bool) -> str:
    """Returns the `state_folder` of the library that has moved here, `own` if there is none.

    It is renamed to `own` if the caller `writes`.
    """
    for marker in glob.iglob(os.path.join(settings.state_home, "*", MARKER)):
        state = os.path.dirname(marker)
        if _can_write(state):
            owner = _owner(LocalTree(state, private=True).copies([paths.Path(MARKER)]))
            if owner and _has_moved(owner, root_name(settings), state):
                if not writes:
                    return state
                os.rename(state, own)
                with contextlib.suppress(OSError):  # else another library there would wait for it
                    os.unlink(_claim(replace(settings, root_path=owner, state_dir=state)))
                break
    return own


def _can_write(folder: str) -> bool:
    return os.access(folder, os.W_OK, effective_ids=True)


def _check_root(root: str) -> None:
    try:
        os.scandir(os.path.join(root, ".")).close()
    except PermissionError as error:
        raise SettingError(
            f"{root!r} cannot be read by this user (uid {os.geteuid()}): give it rights to read "
            "that folder and to pass through all folders above it, or start Lenslet as another user"
        ) from error
    except OSError as error:
        chosen = "" if root != "./data" else " (no folder was named: './data' is the default)"
        raise SettingError(f"{root!r} is not a folder{chosen}") from error


def _check_state_dir(settings: Settings, *, writes: bool) -> None:
    """Refuses a `STATE_DIR` among the photos, or of another library; notes whose a new one is.

    If a file in the host's cache says that this was noted before, its disk is not mounted now.
    """
    state, marker = os.path.realpath(settings.state_dir), paths.Path(MARKER)
    tree, note = LocalTree(state, private=True), functools.partial(_note_owner, settings)
    if not settings.s3_bucket:
        _check_apart(settings, "STATE_DIR", state)
    if not writes:
        note(tree.copies([marker]))
        return
    claim = _claim(settings)
    if os.path.exists(claim) and not os.path.exists(os.path.join(state, MARKER)):
        return
    with contextlib.suppress(OSError):
        files.make_folders(state)
    if not _can_write(state):
        raise SettingError(
            f"STATE_DIR={settings.state_dir!r} cannot be written by this user (uid "
            f"{os.geteuid()}): allow it, or run this as the user of the service"
        )
    tree.update([marker], note)
    os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    files.sync_folder(os.path.dirname(claim))


def _note_owner(settings: Settings, copies: list[Copy]) -> tuple[paths.Path, bytes] | None:
    """Returns the marker of a `STATE_DIR` with this library, None if it is so already.

    `SettingError` if it belongs to another one.
    """
    state, name = os.path.realpath(settings.state_dir), root_name(settings)
    owner = _owner(copies)
    if owner == name:
        return None
    if owner and not _has_moved(owner, name, state):
        raise SettingError(
            f"STATE_DIR={settings.state_dir!r} belongs to the library {owner!r}: choose another "
            f"for {name!r}; or if that library has moved here, empty the file "
            f"{os.path.join(state, MARKER)!r}"
        )
    return paths.Path(MARKER), os.fsencode(name) + b"\n"


def _owner(copies: list[Copy]) -> str:
    """Returns the root that a marker names; "" if it names none."""
    return os.fsdecode((copies and copies[0].data) or b"").strip("\0\n")


def _has_moved(owner: str, root: str, state: str) -> bool:
    """True if the old root is gone, and most images with a thumbnail in `state` are in this one.

    A thumbnail has its image's time. A hundred are enough.
    """
    with contextlib.suppress(OSError):
        if not all(name.startswith(".") for name in os.listdir(owner)):
            return False
    made = glob.iglob(f"**/*{paths.THUMBNAIL}", root_dir=state, recursive=True)
    names, fit = [*itertools.islice(made, 100)], 0
    for name in names:
        image = os.path.join(root, name.removesuffix(paths.THUMBNAIL))
        with contextlib.suppress(OSError):
            apart = os.path.getmtime(image) - os.path.getmtime(os.path.join(state, name))
            fit += abs(apart) < 2  # seconds: `tar` and FAT keep no fractions
    return 2 * fit > len(names)


def _check_apart(settings: Settings, name: str, folder: str) -> None:
    """Refuses a folder for files of Lenslet's own that would be part of the library."""
    root, folder = os.path.realpath(settings.root_path), os.path.realpath(folder)
    common = os.path.commonpath((folder, root))
    inside = paths.Path(os.path.relpath(folder, root))
    ignores = paths.Ignore(settings.ignore).path
    is_ignored = any(map(ignores, (inside, *inside.ancestors())))
    if common == folder or (common == root and not is_ignored):
        raise SettingError(
            f"{name}={getattr(settings, name.lower())!r} and ROOT_PATH must be separate folders; "
            "inside ROOT_PATH the name must be an ignored one, such as .lenslet"
        )


def root_name(settings: Settings) -> str:
    """What is served, as an operator names it."""
    if settings.s3_bucket:
        return f"s3://{settings.s3_bucket}/{settings.s3_prefix}"
    return os.path.realpath(settings.root_path)


def cache_folder(settings: Settings, name: str = "") -> str:
    """Returns the path of `name` in the folder of this root in the host's cache."""
    return os.path.join(settings.cache_dir, _unique_name(settings), name)


def _make_cache(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _can_write(folder):
        raise SettingError(f"the cache {folder!r} cannot be written: set XDG_CACHE_HOME")


def _claim(settings: Settings) -> str:
    """Returns the file in the host's cache that is there once its `STATE_DIR` was used."""
    state = os.path.realpath(settings.state_dir)
    return f"{cache_folder(settings, 'state')}-{_digest(state)}"


def _unique_name(settings: Settings) -> str:
    """Returns a name for the folders of this root: readable, and different for every root."""
    root = root_name(settings)
    unique = f"{settings.s3_endpoint} {root}" if settings.s3_bucket else root
    return f"{os.path.basename(root.rstrip('/'))[:40]}-{_digest(unique)}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
