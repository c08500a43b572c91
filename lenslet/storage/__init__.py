"""Trees of files: local folders, S3 buckets, and what is laid over them.

`tree` has the contract that all of them keep, and `is_ours`, the rule of what is Lenslet's own.
`open_tree` opens the library's own tree from the settings.
"""

import contextlib
import hashlib
import os
import shutil
from dataclasses import replace

from lenslet import paths
from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.storage.local import MARKER, LocalTree
from lenslet.storage.overlay import Overlay
from lenslet.storage.tree import Buckets, DocumentCache, Tree, Trust

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
    claim = f"{cache_folder(settings, 'state')}-{_digest(state)}"
    marker = os.path.join(state, MARKER)
    upper = LocalTree(os.path.join(state, at), private=True, marker=marker, claim=claim)
    return Overlay(upper, tree)


def check_settings(settings: Settings, *, writes: bool = True) -> Settings:
    """Returns the settings with the `STATE_DIR` that is used; `SettingError` if none can be used.

    A local root that cannot be written gets `state_folder`, which is then used for as long as it
    exists, because it may hold what people wrote. It is created here, with a copy of the links, but
    only if the caller `writes`, and not for an empty root: that is an unmounted disk. A bucket is
    not checked: one that is unreachable right now must not stop the start.
    """
    if settings.state_dir:
        _check_state_dir(settings, os.path.realpath(settings.state_dir), writes=writes)
    if settings.s3_bucket:
        return settings
    _check_root(settings.root_path)
    own, root = state_folder(settings), settings.root_path
    is_needed = writes and not _can_write(root) and os.listdir(root)
    if settings.state_dir or not (is_needed or os.path.isdir(own)):
        return settings
    with contextlib.suppress(OSError):  # it is there already, or the root has no links
        os.makedirs(own, mode=0o700)
        shutil.copy2(os.path.join(root, paths.LINKS), own, follow_symlinks=False)
    if not _can_write(own):
        raise SettingError(
            f"neither {root_name(settings)!r} nor {own!r} can be written: "
            "let Lenslet write in one of them, or set STATE_DIR"
        )
    return replace(settings, state_dir=own)


def state_folder(settings: Settings) -> str:
    """Returns the folder for Lenslet's own files if this root cannot be written."""
    return os.path.join(settings.state_home, _unique_name(settings))


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


def _check_state_dir(settings: Settings, state: str, *, writes: bool) -> None:
    shown = f"STATE_DIR={settings.state_dir!r}"
    if not settings.s3_bucket:
        root = os.path.realpath(settings.root_path)
        common = os.path.commonpath((state, root))
        inside = paths.Path(os.path.relpath(state, root))
        ignores = paths.Ignore(settings.ignore).path
        is_ignored = any(map(ignores, (inside, *inside.ancestors())))
        if common == state or (common == root and not is_ignored):
            raise SettingError(
                f"{shown} and ROOT_PATH must be separate folders; inside ROOT_PATH the name must "
                "be an ignored one, such as .lenslet"
            )
    above = state
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if writes and not (os.path.isdir(above) and _can_write(above)):
        raise SettingError(
            f"{shown} cannot be written by this user (uid {os.geteuid()}): allow it, or run this "
            "as the user of the service"
        )


def root_name(settings: Settings) -> str:
    """What is served, as an operator names it."""
    if settings.s3_bucket:
        return f"s3://{settings.s3_bucket}/{settings.s3_prefix}"
    return os.path.realpath(settings.root_path)


def cache_folder(settings: Settings, name: str) -> str:
    """Creates the folder of this root in the host's cache; returns the path of `name` in it."""
    folder = os.path.join(settings.cache_dir, _unique_name(settings))
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _can_write(folder):
        raise SettingError(f"the cache {folder!r} cannot be written: set XDG_CACHE_HOME")
    return os.path.join(folder, name)


def _unique_name(settings: Settings) -> str:
    """Returns a name for the folders of this root: readable, and different for every root."""
    root = root_name(settings)
    unique = f"{settings.s3_endpoint} {root}" if settings.s3_bucket else root
    return f"{os.path.basename(root.rstrip('/'))[:40]}-{_digest(unique)}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
