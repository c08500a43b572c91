"""Lenslet and programs that a user would pick instead: the same photos, on the same machine.

`pip` installs the peers, each into an environment of its own. PiGallery2 has no package that can be
installed: set `PIGALLERY2` to the folder of a release. A peer that is missing is left out, with a
message. Each program makes the thumbnails of its default settings.

A run starts with nothing made, requests one thumbnail, the listing, then all thumbnails over 8 connections. The
photos are in the system's cache. CPU seconds are those of all processes, from the start until 5
seconds after the last thumbnail; memory is their PSS at that time.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import common

import lenslet

CONNECTIONS, REST_SECONDS = 8, 5
PORTS = itertools.count(7180)  # lenslet 0.4 refuses a port that was in use lately
SETS = {"small": (1600, 1200), "large": (4000, 3000)}
NAMED = ("copyparty", "lenslet", "pillow", "pyvips", "sigal")
SIGAL = "use_orig = orig_link = True\n"  # no second, larger copy of each photo
BROWSER = ("-H", "Accept-Encoding: gzip", "--timeout", "60s")


class Program(NamedTuple):
    """A program, its packages, and its commands; a server's also with what its page requests."""

    name: str
    packages: tuple[str, ...]
    command: str
    thumbnail: str = ""
    listing: str = ""

    @property
    def is_ours(self) -> bool:
        return not self.packages and "-m lenslet" in self.command


_LENSLET = f"{shlex.quote(sys.executable)} -P -m lenslet"
_COPYPARTY = "{bin}/copyparty -q -nih -i 127.0.0.1 -p {port} -v {photos}::r --hist {state} --th-dec"
_PIGALLERY2 = (
    "node {bin}/src/backend/index.js --config-path={state}/config.json --Server-host=127.0.0.1"
    " --Server-port={port} --Media-folder={photos} --Media-tempFolder={state}"
    " --Database-dbFolder={state} --Users-authenticationRequired=false --Server-Log-level=error"
)
PROGRAMS = (
    Program("Lenslet", (), _LENSLET + " serve {photos} --port {port}", "/thumb?path={}", "/folders?path="),
    Program("copyparty, Pillow", ("copyparty", "pillow"), f"{_COPYPARTY} pil", "/{}?th=w&cache=i&raster", "/?ls"),
    Program("copyparty, pyvips", ("copyparty", "pyvips[binary]"), f"{_COPYPARTY} vips", "/{}?th=w&cache=i&raster", "/?ls"),
    Program("lenslet 0.4 of PyPI", ("lenslet==0.4.*",), "{bin}/lenslet {photos} --port {port}", "/thumb?path=/{}", "/folders?path=/"),
    Program("PiGallery2", (), _PIGALLERY2, "/pgapi/gallery/content/{}/320", "/pgapi/gallery/content/"),
    Program("`lenslet index`", (), _LENSLET + " index {photos}"),
    Program("sigal, thumbnails alone", ("sigal",), "{bin}/sigal build -c {state}/sigal.py {photos} {state}/pages"),
)  # fmt: skip


def main() -> None:
    options = common.options(__doc__, photos=2000, large=300, rounds=3, seconds=5)
    with common.workplace() as place:
        programs = {program: where for program in PROGRAMS if (where := installed(program, place))}
        rows: list[list[object]] = [
            [each.name, version(each, where)] for each, where in programs.items()
        ]
        common.table("Programs", ("program", "version"), rows)
        common.pictures(place / "small", options.photos, SETS["small"], ".jpg")
        common.pictures(place / "large", options.large, SETS["large"], ".jpg")
        found: dict[str, list[list[float]]] = {program.name: [] for program in programs}
        for number, (program, where) in itertools.product(range(options.rounds), programs.items()):
            print(f"round {number + 1}: {program.name}", file=sys.stderr)
            found[program.name].append(measure(program, where, place, options.seconds))
    rows = [
        [name, *map(statistics.median, zip(*rounds, strict=True))] for name, rounds in found.items()
    ]
    small, large = f"{options.photos:,} of 1600×1200", f"{options.large:,} of 12 MP"
    every = ("program", f"{small}, s", "CPU s", f"{large}, s", "CPU s")
    common.table("All thumbnails", every, (row[:5] for row in rows))
    first = ("first of 12 MP, s from start", "s from request")
    again = ("made before, p50 ms", "CPU ms", f"listings of {options.photos:,} a second")
    served = ("program", *first, *again, "MB at rest")
    common.table("Serving", served, ([row[0], *row[5:]] for row in rows if row[5:]))


def installed(program: Program, place: pathlib.Path) -> pathlib.Path | None:
    """The folder of a program's commands; None, with a message, if it cannot be had here."""
    if program.command == _PIGALLERY2:
        folder = pathlib.Path(os.environ.get("PIGALLERY2", "nowhere")).absolute()
        if shutil.which("node") and (folder / "src/backend/index.js").exists():
            return folder
        print("PiGallery2 is left out: it needs Node.js, and a release's folder in PIGALLERY2.")
        return None
    folder = place / "programs" / program.name.replace(" ", "-")
    if program.packages:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-I", "-m", "pip", "install", "-q", *program.packages]
        ended = subprocess.run(pip, capture_output=True, text=True)
        if ended.returncode:
            print(f"{program.name} is left out: {ended.stderr.strip().splitlines()[-1]}")
            return None
    return folder / "bin"


def version(program: Program, where: pathlib.Path) -> str:
    if program.packages:
        pip = [f"{where}/python", "-I", "-m", "pip", "freeze"]
        frozen = subprocess.check_output(pip, text=True).split()
        return ", ".join(line.replace("==", " ") for line in frozen if line.startswith(NAMED))
    if program.is_ours:
        return lenslet.__version__
    return str(json.loads((where / "package.json").read_text())["version"])


class Trial:
    """A program, and a new folder of links to photos for it; nothing is made yet."""

    def __init__(self, program: Program, where: pathlib.Path, photos: pathlib.Path) -> None:
        self.program, self.names = program, sorted(path.name for path in photos.iterdir())
        self.folder, self.port = pathlib.Path(tempfile.mkdtemp(dir=photos.parent)), next(PORTS)
        state = self.folder / "state"
        state.mkdir()
        (state / "sigal.py").write_text(SIGAL)
        shutil.copytree(photos, self.folder / "photos", copy_function=os.link)
        words = {"bin": where, "port": self.port, "state": state, "photos": self.folder / "photos"}
        self.command = [word.format(**words) for word in shlex.split(program.command)]
        self.environ = {**os.environ, "NODE_ENV": "production", "PYTHONPATH": ""}
        self.environ |= dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(state))
        del self.environ["WEB_CONCURRENCY"]  # lenslet 0.4 would read it, and refuses
        if program.is_ours:  # a listing has all photos, as those of the others
            count = str(len(self.names))
            self.environ |= {"PYTHONPATH": str(common.CHECKOUT), "PAGE_SIZE": count}
        common.settle()

    def batch(self) -> tuple[float, float]:
        """Wall and CPU seconds of a command that makes all thumbnails and ends."""
        cost = common.Cost(self.command, **self.environ)
        made = [*self.folder.rglob("*.thumbnail"), *self.folder.rglob("thumbnails/*")]
        if len(made) != len(self.names):
            raise SystemExit(f"{self.program.name} made {len(made)} of {len(self.names)}")
        return cost.seconds, cost.cpu


def measure(
    program: Program, where: pathlib.Path, place: pathlib.Path, seconds: int
) -> list[float]:
    """One round of a program, in the order of the tables; the first four figures of a batch."""
    small, large = (Trial(program, where, place / name) for name in SETS)
    if not program.thumbnail:
        return [*small.batch(), *large.batch()]
    with contextlib.closing(Server(large)) as server:
        first = server.first()
        of_large = server.all()
    with contextlib.closing(Server(small)) as server:
        server.first()
        of_small = server.all()
        memory = server.megabytes()
        again = common.load(server, program.thumbnail.format(small.names[0]), seconds, "-c1")
        listing = common.load(server, program.listing, seconds, *BROWSER)
    return [*of_small, *of_large, *first, again.p50, again.cpu, listing.rate, memory]


class Server(common.Service):
    """A program that serves a folder, until it is closed."""

    close = common.Service.stop

    def __init__(self, trial: Trial) -> None:
        self.trial, self.url = trial, f"http://127.0.0.1:{trial.port}"
        self._log, self._begun = trial.folder / "log", time.monotonic()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                trial.command, env=trial.environ, cwd=trial.folder, stdout=log, stderr=log
            )

    def first(self) -> tuple[float, float]:
        """Seconds until the first thumbnail has arrived: from the start; from its request."""
        asked = 0.0
        while self.process.poll() is None:
            now = time.monotonic()
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                status, after = self.ask(self.connection(), self.trial.names[0])
                asked = asked or now
                if status == 200:
                    return time.monotonic() - self._begun, time.monotonic() - asked
                time.sleep(after)
            time.sleep(0.005)
        raise SystemExit(f"{self.trial.program.name} ended: {self._log.read_text()[-500:]}")

    def all(self) -> tuple[float, float]:
        """Seconds from the start to the last thumbnail; CPU seconds until the program rests."""
        with urllib.request.urlopen(self.url + self.trial.program.listing) as answer:
            answer.read()  # as a page does first; PiGallery2 reads all metadata for it
        mine = threading.local()

        def thumbnail(name: str) -> None:
            if not hasattr(mine, "client"):
                mine.client = self.connection()
            status = 202
            while status == 202:
                status, after = self.ask(mine.client, name)
                time.sleep(after)
            if status != 200:
                raise SystemExit(f"{self.trial.program.name} answered {status}")

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(thumbnail, self.trial.names))
        seconds = time.monotonic() - self._begun
        time.sleep(REST_SECONDS)
        return seconds, self.cpu()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.trial.port, timeout=120)

    def ask(self, client: http.client.HTTPConnection, name: str) -> tuple[int, float]:
        """The status, and how many seconds to wait before the same request is sent again."""
        client.request("GET", self.trial.program.thumbnail.format(name))
        answer = client.getresponse()
        answer.read()
        kind = answer.headers.get("Content-Type")
        if answer.status == 200 and kind not in ("image/webp", "image/jpeg"):
            raise SystemExit(f"{self.trial.program.name} answered {kind}")  # an icon, say
        return answer.status, float(answer.headers.get("Retry-After", 0))

    def read(self, name: str) -> Iterator[str]:
        """A file of /proc of each of the program's processes."""
        found = [self.process.pid]
        for pid in found:
            yield pathlib.Path(f"/proc/{pid}/{name}").read_text()
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())

    def cpu(self) -> float:
        """CPU seconds of all processes, with those that ended."""
        fields = [text.rpartition(")")[2].split()[11:15] for text in self.read("stat")]
        return sum(int(ticks) for four in fields for ticks in four) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        texts = self.read("smaps_rollup")
        return sum(int(text.partition("\nPss:")[2].split()[0]) for text in texts) / 1024


if __name__ == "__main__":
    main()
