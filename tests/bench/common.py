"""What the benches share: pictures to measure on, processes with their costs, tables."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
CHECKOUT = HERE.parent.parent
WORDS = ["beach", "sunset", "harbour", "mountain", "river", "city", "night", "winter", "summer",
         "garden", "portrait", "wedding", "birthday", "family", "dog", "cat", "boat", "train",
         "castle", "bridge"]  # fmt: skip
_PACKAGES = ("pillow", "falcon", "gunicorn", "orjson", "blake3")

os.environ.setdefault("WEB_CONCURRENCY", "2")


def options(about: str | None, **defaults: int) -> argparse.Namespace:
    """What the command line says; prints the machine."""
    parser = argparse.ArgumentParser(description=about)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    found = parser.parse_args()
    machine()
    return found


@contextlib.contextmanager
def workplace() -> Iterator[pathlib.Path]:
    """An empty folder, in `BENCH_DIR` or the temporary folder, that is removed afterwards."""
    place = os.environ.get("BENCH_DIR")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lenslet-bench-", dir=place))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def corpus(name: str) -> list[pathlib.Path]:
    """Real photos of a folder of `LENSLET_CORPUS`; none where that is not set."""
    folder = os.environ.get("LENSLET_CORPUS")
    return sorted((pathlib.Path(folder) / name).iterdir()) if folder else []


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A picture with detail of every size, as photos have it: 1/f noise in three colours."""
    rows, columns = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[None, :, None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width, height)) ** 1.5
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    found = np.fft.irfft2(np.fft.rfft2(noise, axes=(0, 1)) * falling, (height, width), axes=(0, 1))
    light, tint, warmth = np.moveaxis(found / found.std(), 2, 0)
    layers = np.stack([light + 0.3 * warmth, light + 0.2 * tint, light - 0.3 * warmth], axis=-1)
    return Image.fromarray(np.clip(128 + 52 * layers, 0, 255).astype(np.uint8))


def pictures(folder: pathlib.Path, count: int, size: tuple[int, int], suffix: str) -> None:
    """Draw `count` different pictures of one size into a folder, cut from a few large ones."""
    folder.mkdir(parents=True)
    width, height = size
    large = [picture(2 * width, 2 * height, seed) for seed in range(4)]
    for number in range(count):
        x, y = number * 37 % (width + 1), number * 53 % (height + 1)
        image = large[number % len(large)].crop((x, y, x + width, y + height))
        image.save(folder / f"img{number:05d}{suffix}", quality=85)


def settle() -> None:
    """Wait until new files count as written to their end."""
    time.sleep(2.1)


def forget(folder: pathlib.Path) -> None:
    """Take away everything derived in a folder and below, and the caches of searches.

    Nothing is deleted until the end: ext4 without a journal looks for inodes that were not in use
    lately, which takes a tenth of the next run's time.
    """
    cache = pathlib.Path(os.environ["XDG_CACHE_HOME"])
    trash = pathlib.Path(tempfile.mkdtemp(dir=cache.parent))
    for number, path in enumerate(folder.rglob("*")):
        if path.name.endswith((".thumbnail", ".json", ".vips")):
            path.rename(trash / str(number))
    if cache.exists():
        cache.rename(trash / "cache")


class Cost:
    """What a command cost: wall and CPU seconds, and the most private memory it had, in MB."""

    def __init__(self, command: Sequence[str], **environ: str) -> None:
        begun, self.megabytes = time.monotonic(), 0.0
        none = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environ = {**os.environ, **environ}
        process = subprocess.Popen(command, env=environ, cwd=CHECKOUT, **none)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            with contextlib.suppress(OSError, KeyError):
                self.megabytes = max(self.megabytes, private_megabytes(process.pid))
            time.sleep(0.02)
        self.seconds = time.monotonic() - begun
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        self.cpu = usage.ru_utime + usage.ru_stime


def index(folder: pathlib.Path, **environ: str) -> Cost:
    return Cost([sys.executable, "-m", "lenslet", "index", str(folder)], **environ)


def private_megabytes(pid: int) -> float:
    """A process's share of its memory without that of files, in MB (PSS less Pss_File)."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = dict(line.split()[:2] for line in lines)
    return (int(found["Pss:"]) - int(found["Pss_File:"])) / 1024


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Service:
    """Lenslet, or a peer, under gunicorn, until it is stopped."""

    def __init__(
        self,
        root: pathlib.Path,
        port: int,
        *more: str,
        cwd: pathlib.Path = CHECKOUT,
        **environ: str,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        environ = {**os.environ, "ROOT_PATH": str(root), "PORT": str(port), **environ}
        self._begun = time.monotonic()
        command = [sys.executable, "-m", "gunicorn", *more]
        self.process = subprocess.Popen(command, env=environ, cwd=cwd)

    def started(self, route: str) -> float:
        """Seconds from the start until a route answers 200."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url + route) as answer:
                if answer.status == 200:
                    return time.monotonic() - self._begun
            time.sleep(0.005)
        raise SystemExit("gunicorn did not start")

    def pids(self) -> list[int]:
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in pathlib.Path(children).read_text().split()]

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *self.pids()])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextlib.contextmanager
def serving(root: pathlib.Path, port: int, *more: str, **how: Any) -> Iterator[Service]:
    service = Service(root, port, *more, **how)
    try:
        yield service
    finally:
        service.stop()


class Load(NamedTuple):
    """Requests a second, percentiles of what each took in ms, and CPU time of each in ms."""

    rate: float
    p50: float
    p95: float
    p99: float
    cpu: float = 0.0


_DONE = """
done = function(summary, latency)
  for _, share in ipairs({50, 95, 99}) do print("takes " .. latency:percentile(share) / 1000) end
end
"""


def load(service: Service, route: str, seconds: int, *more: str, script: str = "") -> Load:
    """What `wrk` with one thread and eight connections sees; any answer but 200 and 304 ends it."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is needed: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script + _DONE)
        file.flush()
        command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", file.name, *more]
        before = service.cpu()
        ended = subprocess.run([*command, service.url + route], capture_output=True, text=True)
        cpu = service.cpu() - before
    rate = re.search(r"Requests/sec:\s+([\d.]+)", ended.stdout)
    if not rate or "Non-2xx or 3xx" in ended.stdout or "Socket errors" in ended.stdout:
        raise SystemExit(f"{route}: {ended.stdout} {ended.stderr}")
    takes = map(float, re.findall(r"takes ([\d.]+)", ended.stdout))
    return Load(float(rate[1]), *takes, 1000 * cpu / (float(rate[1]) * seconds))


def links(root: pathlib.Path, count: int, folders: int) -> list[str]:
    """Make a library of hard links to a hundred tiny images; the paths of the items, in order."""
    source = root.with_name(f"{root.name}-source")
    source.mkdir(parents=True)
    for number in range(100):
        size, colour = (16 + number % 7, 12 + number % 5), (2 * number, 90, 200 - number)
        Image.new("RGB", size, colour).save(source / f"{number}.jpg")
    paths = []
    for number in range(folders):
        word, other = WORDS[number % 20], WORDS[(7 * number + 3) % 20]
        folder = f"{2000 + number // 25}/{number % 25:02d}-{word}-{other}"
        (root / folder).mkdir(parents=True)
        for item in range(number * count // folders, (number + 1) * count // folders):
            day = f"{2000 + number // 25}{1 + item % 12:02d}{1 + item % 28:02d}"
            paths.append(f"{folder}/IMG_{day}_{item:06d}-{WORDS[item * 13 % 20]}.jpg")
            os.link(source / f"{item % 100}.jpg", root / paths[-1])
    return paths


def bare(file: pathlib.Path, port: int, kind: str = "") -> AbstractContextManager[Service]:
    """The bare Falcon application under gunicorn with Lenslet's processes and threads."""
    processes = os.environ["WEB_CONCURRENCY"]
    arguments = ["peers:bare()", "-k", "gthread", "-w", processes, "--threads", "8"]
    arguments += ["--keep-alive", "15", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    environ = {"BENCH_FILE": str(file), "BENCH_TYPE": kind, "PYTHONPATH": str(HERE)}
    return serving(HERE, port, *arguments, cwd=HERE, **environ)


def until(what: Callable[[], Any], seconds: float = 600.0, pause: float = 0.02) -> float:
    """Seconds until `what` is true."""
    begun = time.monotonic()
    while not what():
        if time.monotonic() - begun > seconds:
            raise SystemExit(f"not within {seconds} s")
        time.sleep(pause)
    return time.monotonic() - begun


def percentiles(values: Iterable[float]) -> tuple[float, float, float]:
    """p50, p95 and p99."""
    ordered = sorted(values)
    cuts = statistics.quantiles(ordered, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print("|", " | ".join(_shown(cell) for cell in row), "|")
    sys.stdout.flush()


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def machine() -> None:
    """Print the machine and the versions of what is measured."""
    (model, *_) = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    print(f"{dt.date.today()}: {os.cpu_count()} cores, {model}, {versions}")
