"""The command line: `lenslet serve`, `worker`, `index` and `check`."""

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
from lenslet.errors import LensletError, one_line
from lenslet.index.compare import Plan
from lenslet.index.folders import Looker, Task
from lenslet.index.loop import Loop
from lenslet.index.record import Record
from lenslet.index.status import IMAGES_FAILED, IMAGES_READ, Status
from lenslet.library import health
from lenslet.library.health import Problem
from lenslet.paths import HEALTH, MANIFEST, ROLLUP, ROLLUP_DELTA, ROOT, Path
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
_SHOW_SECONDS = 5.0  # between two lines, where it is no terminal
_HARMLESS = health.NOTES | {"orphanSidecars", "unusableNames"}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.path is not None:
        _set_root(options.path)
    for name in ("host", "port"):
        if getattr(options, name, None):
            os.environ[name.upper()] = getattr(options, name)
    try:
        status: int = options.run(options)
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
    parser.add_argument("--version", action="version", version=f"lenslet {__version__}")
    commands = parser.add_subparsers(metavar="{serve,worker,index,check}", required=True)
    folder = "the folder of photos, or s3://bucket/prefix (default: S3_BUCKET or ROOT_PATH)"
    for name, action, about, path in (
        ("serve", _serve, "serve a folder or a bucket until stopped", folder),
        ("worker", _work, "only index a folder or a bucket, until stopped", folder),
        ("index", _index, "make every manifest and thumbnail now, and say what failed", folder),
        ("check", _check, "say what is missing or broken; change nothing", folder),
    ):
        command = commands.add_parser(name, help=about, description=about, epilog=_SETTINGS)
        command.add_argument("path", metavar="PATH", nargs="?", help=path)
        command.add_argument(
            "--env-file", metavar="FILE", help="settings that are not in the environment"
        )
        command.set_defaults(run=action)
        if name == "serve":
            command.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
            command.add_argument("--port", help="port to listen on (default: PORT or 7070)")
    return parser


def _serve(options: argparse.Namespace) -> int:
    from lenslet.run import serving  # takes 100 ms that no other command needs

    serving.Server(options.env_file).run()
    return 0


def _work(options: argparse.Namespace) -> int:
    from lenslet.run import worker

    return worker.work(options.env_file)


# lenslet index


class Progress(Status):
    """Shows each second how far indexing is, or every 5 seconds where it is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._began = self._shown = time.monotonic()
        self._end = "\x1b[K\r" if sys.stderr.isatty() else "\n"
        self._seconds = 0.0 if sys.stderr.isatty() else _SHOW_SECONDS

    def __str__(self) -> str:
        done = self.total(IMAGES_READ) + self.total(IMAGES_FAILED)
        seconds = time.monotonic() - self._began
        return f"{done} read in {seconds:.1f} s ({done / max(seconds, 0.001):.0f}/s)"

    def beat(self, backlog: int) -> None:
        super().beat(backlog)
        if time.monotonic() - self._shown > self._seconds:
            self._shown = time.monotonic()
            print(f"{self}, {backlog} to do", end=self._end, file=sys.stderr, flush=True)


def _index(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    library = run.open_library(run.load_settings(options.env_file), patient=True)
    library.tree.check()
    progress = Progress()
    loop = Loop(library, progress)
    loop.run(threading.Event(), once=True)
    for what, problem in (("storage", loop.outage), ("search", loop.search_problem)):
        if problem:
            print(f"{what}: {problem}")
    return _summary(loop.report(), progress) or int(bool(loop.outage))


def _summary(found: dict[str, Any], progress: Progress) -> int:
    """Says what was indexed and what is wrong; 1 if something could not be read."""
    counts = found["counts"]
    print(f"{health.summary(found)}: {progress}, {counts['thumbnails']} have thumbnails")
    kinds = health.KINDS.keys() - health.NOTES
    shown = [p for kind in kinds for p in found["problems"].get(kind, ())]
    for problem in sorted(shown, key=lambda problem: problem["path"].split("/")):
        print(f"  {problem['path'] or '/'}: {problem['reason']}")
    hidden = sum(counts[kind] for kind in kinds) - len(shown)
    if hidden > 0:
        print(f"  … and {hidden} more")
    if failed := sum(counts[kind] for kind in health.KINDS.keys() - _HARMLESS):
        print(f"{failed} could not be read")
    return int(failed > 0)


# lenslet check


def _check(options: argparse.Namespace) -> int:
    library = run.open_library(run.load_settings(options.env_file, writes=False))
    library.tree.check()
    looker, tree = Looker(library, Clock(), writes=False), library.tree
    found = _foreign(tree, *map(ROOT.child, (HEALTH, ROLLUP, ROLLUP_DELTA)))
    counts, unsupported, paths = Counter[str](), Counter[str](), [ROOT]
    while paths:
        path = paths.pop()
        outcome = looker.look(Task(path, Record()))
        if outcome.outage:
            raise errors.StorageUnavailable(outcome.outage)
        if not (record := outcome.record):
            continue
        paths += map(path.child, record.children)
        found += (Problem(each.kind, each.path, each.reason) for each in record.orphans)
        found += _in_folder(tree, path, outcome.plan) if outcome.plan else record.health.problems
        counts.update(record.health.counts)
        unsupported.update(record.health.unsupported)
    print(health.summary({"counts": counts, "unsupported": dict(unsupported.most_common())}))
    _print_problems(found)
    return int(any(problem.kind not in health.NOTES for problem in found))


def _print_problems(found: list[Problem]) -> None:
    """Prints how many problems there are of each kind, and then each, the worst first."""
    advice = {**{name: kind.advice for name, kind in health.KINDS.items()}, **_NOT_INDEXED}
    kinds = sorted(advice, key=lambda kind: (kind in health.NOTES, kind in _NOT_INDEXED))
    counts = Counter(problem.kind for problem in found)
    if not counts.keys() - health.NOTES:
        print("nothing is missing, stale, orphaned or broken")
    for kind in filter(counts.get, kinds):
        print(f"{counts[kind]:6} {kind} ({advice[kind]})")
    for kind, path, reason in sorted(
        found, key=lambda problem: (kinds.index(problem.kind), problem.path.split("/"))
    ):
        if kind not in health.NOTES:
            print(f"{kind}: {path or '/'}: {one_line(reason)}")


def _foreign(tree: Tree, *files: Path) -> list[Problem]:
    """Names the files of other programs that are in the place of Lenslet's own."""
    found = []
    for file in files:
        try:
            tree.own_rev(file)
        except errors.Foreign as error:
            found.append(Problem("unreadableFolders", file.parent, str(error)))
    return found


def _in_folder(tree: Tree, path: Path, plan: Plan) -> Iterator[Problem]:
    if not plan.stored.generated_at and (foreign := _foreign(tree, path.child(MANIFEST))):
        yield from foreign
    elif not plan.stored.generated_at:
        yield Problem("missingManifest", path, "the folder has not been indexed")
    elif plan.changed:
        yield Problem("staleManifest", path, "the folder is not what its manifest says")
    was, now = ({i["name"]: i["rev"] for i in m.items} for m in (plan.stored, plan.manifest))
    for name in plan.todo:
        if was.get(name, now[name]) != now[name]:
            yield Problem("staleThumbnail", path.child(name), "made from an earlier image")
        else:
            yield Problem("missingThumbnail", path.child(name), "not made yet")
    yield from plan.problems


if __name__ == "__main__":
    raise SystemExit(main())
