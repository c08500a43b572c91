"""The command line: `lenslet serve`, `index`, `check` and `demo`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lenslet import __version__, errors, run
from lenslet.errors import LensletError, NotFound, one_line
from lenslet.index.look import Look, Looker
from lenslet.index.loop import Indexer
from lenslet.index.queue import Queue
from lenslet.library import health, open_library
from lenslet.library.health import Problem
from lenslet.library.manifest import Dir
from lenslet.paths import ROOT, Path
from lenslet.storage import root_name
from lenslet.times import Clock

_ABOUT = "Serve a folder of photos over HTTP, with everything it knows in files beside them."
_SETTINGS = (
    "Every setting is an environment variable or a line of a .env file in the working directory, "
    "such as PORT=7070 or STATE_DIR=/var/lib/lenslet; README.md lists them."
)
_SHOW_SECONDS, _SHOW_SECONDS_PLAIN = 0.2, 5.0


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.path is not None:
        _set_root(options.path)
    for name in ("host", "port"):
        if getattr(options, name, None):
            os.environ[name.upper()] = getattr(options, name)
    run.quiet_pillow()
    try:
        status: int = options.run(options)
    except LensletError as error:
        raise SystemExit(f"lenslet: {error}") from error
    except KeyboardInterrupt:
        return 130
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
    parser.add_argument("--version", action="version", version=f"lenslet {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, action, about in (
        ("serve", _serve, "serve a folder or a bucket until stopped"),
        ("index", _index, "make every manifest and thumbnail now, and say what failed"),
        (
            "check",
            _check,
            "say what is missing, stale, orphaned, foreign or broken; change nothing",
        ),
        ("demo", _demo, "draw a small sample gallery (default: ./lenslet-demo) and serve it"),
    ):
        command = commands.add_parser(name, help=about, description=about, epilog=_SETTINGS)
        where = "the folder of photos, or s3://bucket/prefix (default: S3_BUCKET or ROOT_PATH)"
        command.add_argument("path", metavar="PATH", nargs="?", help=where)
        command.set_defaults(run=action)
        if name in ("serve", "demo"):
            command.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
            command.add_argument("--port", help="port to listen on (default: PORT or 7070)")
    return parser


def _serve(options: argparse.Namespace) -> int:
    from lenslet.run import serving  # takes 100 ms that no other command needs

    serving.Server(prog="lenslet").run()
    return 0


def _demo(options: argparse.Namespace) -> int:
    from lenslet.run import demo

    folder = options.path or "lenslet-demo"
    made = demo.make(folder)
    print(f"{made} photos drawn in {folder}" if made else f"{folder} is there already")
    _set_root(folder)
    return _serve(options)


# lenslet index


class Progress:
    """Shows how far indexing is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.done = 0
        self._began = time.monotonic()
        self._shown = 0.0
        self._bar = sys.stderr.isatty()

    def count(self, path: Path, error: str | None) -> None:
        self.done += 1

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def show(self, backlog: int) -> None:
        now = time.monotonic()
        if now - self._shown < (_SHOW_SECONDS if self._bar else _SHOW_SECONDS_PLAIN):
            return
        self._shown = now
        rate = self.done / max(self.seconds, 0.001)
        left = f"{backlog / rate:.0f} s left" if rate else "…"
        text = f"{self.done} of {self.done + backlog} images, {rate:.0f}/s, {left}"
        if self._bar:
            filled = 30 * self.done // max(1, self.done + backlog)
            text = f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {text}"
        print(text, end="" if self._bar else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _index(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    settings = run.load_settings()
    progress, queue, stop = Progress(), Queue(), threading.Event()
    status = run.own_status(settings)
    library = open_library(settings, status.count, patient=True)
    try:
        library.tree.check()
    except LensletError as error:
        print(f"{root_name(settings)}: {one_line(error)} Nothing is written.")
        return 1
    indexer = Indexer(library, queue, status, listener=progress.count)
    runner = threading.Thread(target=indexer.run, args=(stop,), kwargs={"once": True})
    runner.start()
    try:
        while runner.is_alive():
            runner.join(_SHOW_SECONDS)
            indexer.beat()
            progress.show(indexer.backlog)
    finally:
        stop.set()
        queue.wake()
        runner.join()
        progress.end()
    return _summary(indexer.report(), progress)


def _summary(found: dict[str, Any], progress: Progress) -> int:
    counts = found["counts"]
    rate = progress.done / max(progress.seconds, 0.001)
    print(
        f"{counts['items']} images in {counts['folders']} folders: "
        f"{progress.done} read in {progress.seconds:.1f} s ({rate:.0f}/s), "
        f"{counts['items'] - counts['thumbnailsMissing'] - _undecodable(counts)} have thumbnails"
    )
    shown = [p for problems in found["problems"].values() for p in problems]
    for problem in shown:
        print(f"  {problem['path'] or '/'}: {problem['reason']}")
    failed = sum(counts[kind] for kind in _FAILURES)
    hidden = sum(counts[kind] for kind in health.KINDS) - len(shown)
    if hidden > 0:
        print(f"  … and {hidden} more")
    if failed:
        print(f"{failed} could not be read")
    return int(failed > 0)


def _undecodable(counts: dict[str, int]) -> int:
    return counts["unreadableImages"] + counts["quarantined"]


_FAILURES = (
    "unreadableImages",
    "quarantined",
    "unreadableFiles",
    "unreadableFolders",
    "unreadableSidecars",
    "brokenPointers",
)


# lenslet check


def _check(options: argparse.Namespace) -> int:
    settings = run.load_settings()
    library = open_library(settings)
    try:
        library.tree.check()
    except LensletError as error:
        print(f"{root_name(settings)}: {one_line(error)}")
        return 1
    counts: Counter[str] = Counter()
    for kind, path, reason in sorted(_problems(Looker(library, Clock()), ROOT)[1], key=_by_path):
        counts[kind] += 1
        print(f"{kind}: {path or '/'}: {one_line(reason)}")
    if not counts:
        print("nothing is missing, stale, orphaned, foreign or broken")
    return int(bool(counts))


def _by_path(problem: Problem) -> list[str]:
    return problem.path.split("/")


def _problems(looker: Looker, path: Path) -> tuple[Dir | None, list[Problem]]:
    """Checks a folder and all below it: how it shows in its parent, and what is wrong."""
    name = {"name": path.name}
    below: dict[Path, tuple[Dir | None, list[Problem]]] = {}

    def entry(child: Path, default: Dir | None) -> Dir | None:
        below[child] = _problems(looker, child)
        return below[child][0]

    try:
        look = looker.look(path, {}, entry)
    except errors.Ignored:
        return None, []
    except NotFound:
        return {**name, "kind": "branch"}, []
    except (errors.BrokenPointer, errors.PointerLoop) as error:
        return {**name, "kind": "leaf-pointer"}, [Problem("brokenPointers", path, str(error))]
    except LensletError as error:
        return {**name, "kind": "branch"}, [Problem("unreadableFolders", path, str(error))]
    assert look is not None  # it returns None only with `unless`
    found = list(_in_folder(path, look))
    return look.entry, found + [problem for _, some in below.values() for problem in some]


def _in_folder(path: Path, look: Look) -> Iterator[Problem]:
    if not look.old.generated_at:
        yield Problem("missingManifest", path, "the folder has not been indexed")
    elif look.plan.changed:
        yield Problem("staleManifest", path, "the folder is not what its manifest says")
    known = {item["name"]: item["rev"] for item in look.old.items}
    for name in look.plan.todo:
        replaced = known.get(name, look.listing.files[name].rev) != look.listing.files[name].rev
        kind = "staleThumbnail" if replaced else "missingThumbnail"
        yield Problem(kind, path.child(name), "not made yet")
    yield from look.plan.problems


if __name__ == "__main__":
    raise SystemExit(main())
