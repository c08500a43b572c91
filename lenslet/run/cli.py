"""The command line: `lenslet serve`, `worker`, `index`, `check` and `clean`."""

import argparse
import contextlib
import functools
import logging
import os
import pathlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from lenslet import __version__, errors, run
from lenslet.errors import LensletError, one_line
from lenslet.index.compare import Plan
from lenslet.index.folders import Looker, Task
from lenslet.index.loop import Loop
from lenslet.index.record import Record
from lenslet.index.status import Progress, Status
from lenslet.library import health
from lenslet.library.health import FolderHealth, Problem
from lenslet.library.manifest import is_page
from lenslet.paths import (
    HEALTH,
    MANIFEST,
    ROLLUP,
    ROLLUP_DELTA,
    ROOT,
    THUMBNAIL,
    Path,
    is_item,
)
from lenslet.run.worker import work
from lenslet.storage.tree import Tree
from lenslet.times import Clock

_ABOUT = "Serve a folder of photos over HTTP, with everything it knows in files beside them."
_SETTINGS = (
    "Every setting is an environment variable or a line of the file of --env-file, such as "
    "PORT=7070 or STATE_DIR=/var/lib/lenslet; docs/settings.md lists them."
)
# What `check` finds beside the kinds of `health`.
_NOT_INDEXED = dict.fromkeys(
    ("missingManifest", "staleManifest", "missingThumbnail", "staleThumbnail"),
    "a running service or 'lenslet index' makes them",
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.path is not None:
        _set_root(options.path)
    for name in ("host", "port"):
        if getattr(options, name, None):
            os.environ[name.upper()] = getattr(options, name)
    try:
        status: int = options.run(options.env_file)
        sys.stdout.flush()
    except LensletError as error:
        raise SystemExit(f"lenslet: {error}") from error
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as with `lenslet check | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _set_root(path: str) -> None:
    """Uses the folder or bucket of the command line as the root."""
    if not path.startswith("s3://"):
        os.environ["ROOT_PATH"] = path
        os.environ.pop("S3_BUCKET", None)
        return
    bucket, _, prefix = path.removeprefix("s3://").partition("/")
    os.environ["S3_BUCKET"], os.environ["S3_PREFIX"] = bucket, prefix


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lenslet", description=_ABOUT, epilog=_SETTINGS)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="{serve,worker,index,check,clean}", required=True)
    folder = "the folder of photos, or s3://bucket/prefix (default: S3_BUCKET or ROOT_PATH)"
    for name, action, about in (
        ("serve", _serve, "serve a folder or a bucket until stopped"),
        ("worker", work, "only index a folder or a bucket, until stopped"),
        ("index", _index, "make every manifest and thumbnail now, and say what failed"),
        ("check", _check, "say what is missing or broken; change nothing"),
        (
            "clean",
            _clean,
            "list what Lenslet has made and can make again; with --remove, remove it",
        ),
    ):
        command = commands.add_parser(name, help=about, description=about, epilog=_SETTINGS)
        command.add_argument("path", metavar="PATH", nargs="?", help=folder)
        command.add_argument(
            "--env-file", metavar="FILE", default="", help="settings not in the environment"
        )
        command.set_defaults(run=action)
        if name == "clean":
            removes = functools.partial(_clean, removes=True)
            command.add_argument("--remove", dest="run", action="store_const", const=removes)
        if name == "serve":
            command.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
            command.add_argument("--port", help="port to listen on (default: PORT or 7070)")
    return parser


def _version() -> str:
    """The version and, if it was installed from a checkout or is one, its commit."""
    checkout, commit = pathlib.Path(__file__).parents[2], ""
    if (checkout / ".git").exists():
        command = ("git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD")
        with contextlib.suppress(OSError):
            commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    else:
        with contextlib.suppress(metadata.PackageNotFoundError):  # see `setup.py`
            return f"lenslet {metadata.version('lenslet-backend')}"
    return f"lenslet {__version__}" + (f"+g{commit.strip()}" if commit else "")


def _serve(env_file: str) -> int:
    from lenslet.run import serving  # takes 100 ms that no other command needs

    serving.Server(env_file).run()
    return 0


# lenslet index


class Shown(Status):
    """Shows each second how far indexing is, on a terminal."""

    def beat(self, progress: Progress) -> None:
        super().beat(progress)
        if sys.stderr.isatty():
            print(progress, end="\x1b[K\r", file=sys.stderr, flush=True)


def _index(env_file: str) -> int:
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    library = run.open_library(run.load_settings(env_file), patient=True)
    library.tree.check()
    loop = Loop(library, Shown())
    loop.run(threading.Event(), once=True)
    for what, problem in (("storage", loop.outage), ("search", loop.search_problem)):
        if problem:
            print(f"{what}: {problem}")
    report = loop.report()
    counts, problems = report["counts"], report["problems"]
    *_, read, seconds = loop.progress()
    speed = f"{read} read in {seconds:.1f} s ({read / max(seconds, 0.001):.0f}/s)"
    print(f"{health.summary(report)}: {speed}, {counts['thumbnails']} have thumbnails")
    found = (Problem(kind, **each) for kind, listed in problems.items() for each in listed)
    _print_problems(counts, found)
    failed = any(counts[kind] for kind in health.DEGRADING | {"unreadableImages"})
    return int(failed or bool(loop.outage))


# lenslet check


def _check(env_file: str) -> int:
    library = run.open_library(run.load_settings(env_file, writes=False))
    library.tree.check()
    looker, tree = Looker(library, Clock(), writes=False), library.tree
    found = list(_foreign(tree, ROOT, HEALTH, ROLLUP, ROLLUP_DELTA))
    folders, paths = list[FolderHealth](), [ROOT]
    while paths:
        path = paths.pop()
        outcome = looker.look(Task(path, Record()))
        if outcome.outage:
            raise errors.StorageUnavailable(outcome.outage)
        if not (record := outcome.record):
            continue
        paths += map(path.child, record.children)
        folders.append(record.health)
        found += (Problem(each.kind, each.path, each.reason) for each in record.orphans)
        found += _in_folder(tree, path, outcome.plan) if outcome.plan else record.health.problems
    print(health.summary(health.report(folders, {})))
    print(f"to back up with the photos: {_YOURS}")
    is_wrong = any(problem.kind not in health.NOTES for problem in found)
    if not is_wrong:
        print("nothing is missing, stale, orphaned or broken")
    _print_problems(Counter(problem.kind for problem in found), found)
    return int(is_wrong)


def _foreign(tree: Tree, folder: Path, *names: str) -> Iterator[Problem]:
    """Yields the files of other programs that are in the place of Lenslet's own."""
    for name in names:
        try:
            tree.own_rev(folder.child(name))
        except errors.Foreign as error:
            yield Problem("unreadableFolders", folder, str(error))


def _in_folder(tree: Tree, path: Path, plan: Plan) -> Iterator[Problem]:
    """Yields what is wrong in a folder that could be read."""
    if plan.stored.generated_at:
        if plan.changed:
            yield Problem("staleManifest", path, "the folder is not what its manifest says")
    else:
        missing = Problem("missingManifest", path, "the folder has not been indexed")
        yield from list(_foreign(tree, path, MANIFEST)) or [missing]
    was, now = ({i["name"]: i["rev"] for i in m.items} for m in (plan.stored, plan.manifest))
    for name in plan.todo:
        if was.get(name, now[name]) != now[name]:
            yield Problem("staleThumbnail", path.child(name), "made from an earlier image")
        else:
            yield Problem("missingThumbnail", path.child(name), "not made yet")
    yield from plan.problems


def _print_problems(counts: Mapping[str, int], found: Iterable[Problem]) -> None:
    """Prints how many problems there are of each kind, and then each, the worst first."""
    advice = {**{name: kind.advice for name, kind in health.KINDS.items()}, **_NOT_INDEXED}
    kinds = sorted(advice, key=lambda kind: (kind in health.NOTES, kind in _NOT_INDEXED))
    for kind in filter(counts.get, kinds):
        print(f"{counts[kind]:6} {kind} ({advice[kind]})")
    for kind, path, reason in sorted(
        found, key=lambda problem: (kinds.index(problem.kind), problem.path.split("/"))
    ):
        if kind not in health.NOTES:
            print(f"{kind}: {path or '/'}: {one_line(reason)}")


# lenslet clean

_YOURS = (
    "photo.jpg.json, photo.jpg.lenslet.json, .lenslet.folder.json, _links.json and _searches.json"
)


def _clean(env_file: str, *, removes: bool = False) -> int:
    library = run.open_library(run.load_settings(env_file, writes=removes))
    tree = library.tree.own or library.tree
    tree.check()
    count, folders = 0, [ROOT]
    while folders:
        folder = folders.pop()
        listing = tree.listing(folder)
        folders += map(folder.child, reversed(listing.folders))
        for path in filter(_is_derived, map(folder.child, sorted(listing.files))):
            with contextlib.suppress(errors.Foreign, errors.NotFound):
                tree.own_rev(path)
                count += 1
                tree.delete(path) if removes else print(path)
    print(f"{count} files {'were removed' if removes else 'can be made again'}")
    print(f"yours stay: {_YOURS}")
    return 0


def _is_derived(path: Path) -> bool:
    """True if a file has a name that Lenslet gives to what it can make again."""
    image = path.name.removesuffix(THUMBNAIL)
    is_summary = path in (ROLLUP, ROLLUP_DELTA, HEALTH)
    is_thumbnail = image != path.name and is_item(image)
    return is_summary or is_thumbnail or path.name == MANIFEST or is_page(path.name)
