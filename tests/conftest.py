"""Real folders with drawn photos, the library over them, and real gunicorn."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import os
import pathlib
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from buckets import BucketPath, Layered, Service, start_moto
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from webtest import TestApp

from lenslet import config
from lenslet.cluster.host import BucketHost
from lenslet.images.decoders import Decoders
from lenslet.index.loop import Loop
from lenslet.index.messages import Channel, Look
from lenslet.index.scan import Scan
from lenslet.index.status import Status
from lenslet.paths import Path
from lenslet.run import open_library
from lenslet.run.parts import PARTS
from lenslet.storage import check_settings
from lenslet.times import Clock as RealClock
from lenslet.web.app import RESOURCES, create_app
from lenslet.web.openapi import document

ALL_ROUTES = RESOURCES | {route: each for part in PARTS for route, each in part.routes.items()}
DESCRIPTION = document(("lenslet.web", *(part.package for part in PARTS)))

# botocore reads its description of a service anew for each client, which takes 0.15 s.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
# Otherwise each of the services that are started here compiles all modules anew: 0.14 s of a core.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = os.environ.get("LENSLET_CORPUS")
# The most that a test waits for anything, on a machine that does much else: each wait ends as soon
# as what is waited for has come, or can come no more.
MOST_SECONDS = 120.0
BROKEN_JPEG = b"\xff\xd8\xff\xe0 this is not a photo"


def draw(width: int = 400, height: int = 300, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A photo with a red corner at the top left and a blue one at the bottom right."""
    image = Image.new("RGB", (width, height), (90 + seed % 90, 140, 120))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, width // 3, height // 3), fill=(220, 30, 30))
    pen.rectangle((2 * width // 3, 2 * height // 3, width, height), fill=(30, 30, 220))
    return image.convert(mode)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(width: int = 400, height: int = 300, *, seed: int = 0, **options: Any) -> bytes:
    return encode(draw(width, height, seed=seed), "JPEG", **options)


def exif(**tags: Any) -> bytes:
    """EXIF with an orientation and dates, by the names that cameras' manuals use."""
    numbers = {"Orientation": 0x0112, "DateTime": 0x0132, "OffsetTime": 0x9010}
    inner = {
        "DateTimeOriginal": 0x9003,
        "DateTimeDigitized": 0x9004,
        "OffsetTimeOriginal": 0x9011,
        "OffsetTimeDigitized": 0x9012,
    }
    data = Image.Exif()
    for name, value in tags.items():
        if name in inner or name == "OffsetTime":
            data.get_ifd(0x8769)[inner.get(name, 0x9010)] = value
        else:
            data[numbers[name]] = value
    return data.tobytes()


Root = pathlib.Path | BucketPath | Layered


def environ_of(root: Root) -> dict[str, str]:
    """The settings that name a root."""
    if isinstance(root, Layered):
        return {**environ_of(root.below), "STATE_DIR": str(root.above)}
    if isinstance(root, pathlib.Path):
        return {"ROOT_PATH": str(root)}
    return {
        "S3_BUCKET": root.bucket,
        "S3_PREFIX": root.key,
        "S3_ENDPOINT": root.service.endpoint,
        "AWS_REGION": "us-east-1",
        "PRESIGN_SECONDS": "0",
    }


def put(path: Any, data: bytes | None = None) -> Any:
    """Write a photo (or `data`), making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(seed=len(path.name)) if data is None else data)
    return path


def tree(root: pathlib.Path | BucketPath) -> dict[str, bytes]:
    """Every file below a folder and what is in it."""
    if isinstance(root, BucketPath):
        return root.tree()
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextmanager
def read_only(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that nobody can write: mounted so for root, who may do everything else."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in folders}
    try:
        if os.geteuid() != 0:
            for path in folders:
                path.chmod(0o555)
        yield folder
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", folder], check=True)
        else:
            for path, mode in modes.items():
                path.chmod(mode)


class Clock(RealClock):
    """Seconds that pass when a test says so; files just drawn count as settled."""

    def __init__(self, *, real: bool = False) -> None:
        self.now = 1000.0
        self.real = real
        self.settling_seconds = 10

    def __call__(self) -> float:
        return time.monotonic() if self.real else self.now

    def wall_ns(self) -> int:
        return time.time_ns() + self.settling_seconds * 10**9


# Starting a process that decodes takes 0.1 s of a core, so galleries use them one after another.
IDLE_DECODERS: defaultdict[tuple[float, ...], list[Decoders]] = defaultdict(list)


def limits_of(settings: config.Settings) -> tuple[float, ...]:
    return settings.worker_threads, settings.index_memory, settings.decode_seconds


def decoders_for(settings: config.Settings) -> Decoders:
    idle = IDLE_DECODERS[limits_of(settings)]
    return idle.pop() if idle else open_library(settings, patient=True).decoders


def pytest_sessionfinish() -> None:
    close_idle_decoders()


def close_idle_decoders() -> None:
    while IDLE_DECODERS:
        for decoders in IDLE_DECODERS.popitem()[1]:
            decoders.close()


class Gallery:
    """A library, the application over it and its index loop, which runs when told to."""

    def __init__(self, root: Root, cache: pathlib.Path, **settings: str) -> None:
        self.root = root
        fresh_seconds = float(settings.pop("fresh_seconds", "0"))
        homes = {"XDG_CACHE_HOME": str(cache), "XDG_STATE_HOME": f"{cache}-state"}
        environ = {**homes, "THUMB_WAIT": "0", **environ_of(root)}
        self.settings = check_settings(config.settings({**environ, **settings}))
        self.clock, self.channel, self.status = Clock(), Channel(), Status()
        self.library = open_library(self.settings, fresh_seconds=fresh_seconds)
        self.told: list[tuple[str, str | None]] = []
        self.decoders: Decoders | None = None
        self.restart()
        self.app = TestApp(create_app(self.library, self.channel, self.status, PARTS))

    def restart(self, *, real: bool = False) -> None:
        """A new index loop, as after a crash: it remembers nothing.

        A loop that runs on its threads closes its decoders in the end, so it has its own.
        """
        self.clock.real = real
        library = open_library(self.settings, patient=True)
        if not real:
            self.decoders = self.decoders or decoders_for(self.settings)
            library = replace(library, decoders=self.decoders)
        self.host = BucketHost(self.settings, lambda look: False)
        self.loop = Loop(
            library,
            self.status,
            self.clock,
            self.host if self.settings.jobs_queue_url else None,
        )

    def index(self) -> None:
        """Do everything there is to do, as if `SCAN_SECONDS` had passed before."""
        self.clock.now += self.settings.scan_seconds
        self.loop.work.later(Scan(), 0.0)
        self.settle()

    def ask(self, path: str = "") -> None:
        """What a request for a folder does behind its answer."""
        self.clock.now += 60
        self.loop.send(Look(Path(path), asked=True))
        self.settle()

    def step(self) -> bool:
        """Handle the next message or, if there is none, do what the loop asks others for."""
        while (request := self.channel.receive(0)) is not None:
            self.loop.send(request)
        if self.loop.step():
            return True
        with contextlib.suppress(queue.Empty):
            self.loop.work.inbox.put(self.loop.work.tasks.get_nowait()())
            return True
        read = self.loop.read_next() or self.loop.read_next(slow=True)
        if read:
            self.loop.work.inbox.put(read)
            if read.facts or read.problem:
                error = read.problem or (read.facts and read.facts.error)
                self.told.append((read.wanted.path, error or None))
        return read is not None

    def settle(self, seconds: float = 10.0) -> None:
        """Do what is due within some seconds of the loop's own clock."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            if not self.step():
                self.clock.now += 0.25
        self.loop.beat()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The loop on its threads and by the real clock, as in the index process."""
        self.restart(real=True)
        stop = threading.Event()
        runner = threading.Thread(target=self.loop.run, args=(stop,))
        listener = threading.Thread(target=self._listen, args=(stop,))
        runner.start()
        listener.start()
        try:
            yield
        finally:
            stop.set()
            self.loop.wake()
            runner.join()
            listener.join()

    def _listen(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if (request := self.channel.receive(0.05)) is not None:
                self.loop.send(request)

    def folder(self, path: str = "") -> dict[str, Any]:
        """The manifest of a folder, which must be there."""
        answer: dict[str, Any] = self.app.get("/folders", {"path": path}, status=200).json
        return answer

    def items(self, path: str = "") -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in self.folder(path)["items"]}

    def cover(self, path: str) -> dict[str, str]:
        """What an entry of a folder says of its cover, an image that is listed."""
        folder, _, name = path.rpartition("/")
        item = self.items(folder)[name]
        return {"cover": path, "coverRev": item["rev"], "coverThumb": item["thumb"]}

    def found(self, query: str, **params: Any) -> list[str]:
        answer = self.app.get("/search", {"q": query, **params}, status=200).json
        return [item["path"] for item in answer["items"]]

    def close(self) -> None:
        if self.decoders:
            IDLE_DECODERS[limits_of(self.settings)].append(self.decoders)
        self.library.decoders.close()
        self.channel.close()


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Root:
    """An empty folder for photos, or a bucket; also with a `STATE_DIR` over it."""
    kind = getattr(request, "param", "folder")
    found: Root = tmp_path / "photos"
    if kind.startswith("bucket"):
        found = request.getfixturevalue("bucket")
    found.mkdir()
    return Layered(found, tmp_path / "state") if kind.endswith("+state") else found


def is_bucket(root: Root) -> bool:
    return isinstance(root.below if isinstance(root, Layered) else root, BucketPath)


@pytest.fixture
def make_gallery(tmp_path: pathlib.Path, root: pathlib.Path) -> Iterator[Callable[..., Gallery]]:
    """Makes a gallery over `root` with settings of its own."""
    made: list[Gallery] = []

    def make(**settings: str) -> Gallery:
        gallery = Gallery(root, tmp_path / "cache", **settings)
        made.append(gallery)
        return gallery

    yield make
    for gallery in made:
        gallery.close()


@pytest.fixture
def indexed(make_gallery: Callable[..., Gallery]) -> Callable[..., Gallery]:
    """Makes a gallery over `root` that has indexed what is there."""

    def indexed(**settings: str) -> Gallery:
        gallery = make_gallery(**settings)
        gallery.index()
        return gallery

    return indexed


@pytest.fixture
def make_app(indexed: Callable[..., Gallery], root: Root) -> Callable[..., TestApp]:
    """Makes an application over two photos, `a.jpg` and `sub/b.jpg`, with settings of its own."""
    put(root / "a.jpg")
    put(root / "sub/b.jpg")
    return lambda **settings: indexed(**settings).app


class Server:
    """Real gunicorn, as a checkout starts it."""

    def __init__(
        self,
        root: Root,
        home: pathlib.Path,
        *,
        cwd: str = str(ROOT),
        **settings: str,
    ) -> None:
        self.port = free_port()
        self.log = home / f"gunicorn-{self.port}.log"
        environ = {k: v for k, v in os.environ.items() if k not in config.names()}
        environ |= {**environ_of(root), "PORT": str(self.port), **settings}
        environ |= {"XDG_CACHE_HOME": str(home / "cache"), "PYTHONWARNINGS": "default"}
        environ["XDG_STATE_HOME"] = str(home / "cache-state")
        with self.log.open("wb") as log:
            here = os.path.exists(os.path.join(cwd, "gunicorn.conf.py"))
            elsewhere = [] if here else ["--config", str(ROOT / "gunicorn.conf.py")]
            command = [sys.executable, "-m", "gunicorn", *elsewhere]
            self.process = subprocess.Popen(
                command, cwd=cwd, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self.until(lambda: self.get("/health/live")[0] == 200)

    def get(self, route: str, **headers: str) -> tuple[int, bytes]:
        return self.request("GET", route, **headers)

    def request(
        self, method: str, route: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body; 0 when nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{route}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=MOST_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error, contextlib.suppress(http.client.HTTPException, OSError):
                return error.code, error.read()
            return 0, b""
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError):
            return 0, b""

    def json(self, route: str) -> Any:
        return json.loads(self.get(route)[1] or b"{}")

    def until(self, what: Callable[[], Any], seconds: float = MOST_SECONDS) -> Any:
        """The first true thing that `what` says; fails, with the log, once the service has ended."""

        def goes_on() -> bool:
            return self.process.poll() is None

        try:
            return wait_for(what, seconds, goes_on)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log.read_text()[-4000:]}") from error

    def thumbnail(self, path: str, seconds: float = MOST_SECONDS) -> tuple[int, bytes]:
        """Ask for a thumbnail as a client does, until it is there or cannot be."""
        route = "/thumb?" + urllib.parse.urlencode({"path": path})
        answers: list[tuple[int, bytes]] = []

        def ask() -> bool:
            answers.append(self.get(route))
            return answers[-1][0] not in (0, 202, 503)

        self.until(ask, seconds)
        return answers[-1]

    def index_pid(self) -> int:
        """The index process, once it lives and says so."""
        return int(self.until(lambda: self.json("/health/workers").get("pid")))

    def workers(self) -> set[int]:
        """The processes that the master has forked."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(map(int, children.read_text().split()))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


def wait_for(
    what: Callable[[], Any],
    seconds: float = MOST_SECONDS,
    goes_on: Callable[[], bool] = lambda: True,
) -> Any:
    """The first true thing that `what` says without an error of the network.

    Fails after some seconds, or at once if the program that it waits for does not go on.
    """
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := what():
                return found
        assert goes_on(), "it has ended"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        pause.wait(0.05)


@pytest.fixture(scope="session")
def moto() -> Iterator[Service]:
    """A real S3 server that counts requests and fails when told to."""
    service = start_moto(free_port())
    wait_for(lambda: service.reset() or True)
    yield service
    service.stop()


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest) -> Service:
    """The S3 server at `LENSLET_S3_ENDPOINT`, with `LENSLET_S3_KEY` and its secret, or moto."""
    endpoint = os.environ.get("LENSLET_S3_ENDPOINT")
    if endpoint:
        keys = os.environ["LENSLET_S3_KEY"], os.environ["LENSLET_S3_SECRET"]
        return Service(endpoint, *keys)
    found: Service = request.getfixturevalue("moto")
    return found


@pytest.fixture
def bucket(service: Service, monkeypatch: pytest.MonkeyPatch) -> BucketPath:
    """A new bucket, and the keys to it in the environment."""
    for name, value in service.environ.items():
        monkeypatch.setenv(name, value)
    return service.bucket()


@pytest.fixture
def make(tmp_path, service: Service) -> Iterator[Callable[..., Gallery]]:
    """Makes hosts: galleries over a root, each with a cache of its own."""
    made: list[Gallery] = []

    def make(root: BucketPath | pathlib.Path, **settings: str) -> Gallery:
        if isinstance(root, pathlib.Path):
            settings |= {"S3_ENDPOINT": service.endpoint, "AWS_REGION": "us-east-1"}
            settings |= {"PRESIGN_SECONDS": "0"}
        made.append(Gallery(root, tmp_path / f"cache{len(made)}", **settings))
        return made[-1]

    yield make
    for gallery in made:
        gallery.close()


@pytest.fixture
def ours(moto: Service, monkeypatch) -> Iterator[BucketPath]:
    """A bucket on the server that counts and fails when told to, whatever the others run on."""
    for name, value in moto.environ.items():
        monkeypatch.setenv(name, value)
    yield moto.bucket()
    moto.reset()


def free_port() -> int:
    """A port that nobody uses, below those that the system gives to clients such as browsers."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Callable[..., Server]]:
    """Starts gunicorn over a folder; everything started is stopped."""
    servers: list[Server] = []

    def start(root: pathlib.Path, **settings: str) -> Server:
        servers.append(Server(root, tmp_path, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


BROWSER_MS = 1000 * MOST_SECONDS
in_both_browsers = pytest.mark.parametrize("browser", ["chromium", "firefox-esr"], indirect=True)


@pytest.fixture(scope="session")
def browsers() -> Iterator[Callable[[str], Browser]]:
    """Debian's Chromium and Firefox, each started when it is first asked for."""
    with sync_playwright() as playwright, contextlib.ExitStack() as started:

        @functools.cache
        def start(name: str) -> Browser:
            program = shutil.which(name)
            if not program and not os.environ.get("CI"):
                pytest.skip(f"{name} is not installed")
            if name == "chromium":
                arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                found = playwright.chromium.launch(executable_path=program, args=arguments)
            else:
                settings: dict[str, Any] = {"browser.download.alwaysOpenPanel": False}
                found = playwright.firefox.launch(
                    channel="moz-firefox", executable_path=program, firefox_user_prefs=settings
                )
            started.callback(found.close)
            return found

        yield start


@pytest.fixture
def browser(request: pytest.FixtureRequest, browsers: Callable[[str], Browser]) -> Browser:
    """Chromium, and where a test asks for both browsers, Firefox too."""
    return browsers(getattr(request, "param", "chromium"))


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address of a service; at the end the console must be without errors.

    What the browser itself logs about an answer with an error status is no error of the page.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(
        server: Server | str, where: str = "", *, details: bool = True, **options: Any
    ) -> Page:
        base = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}/"
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(BROWSER_MS)
        if details:
            context.add_init_script("if (location.host) localStorage.details ??= 'open'")
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda it: it.type == "beforeunload" or errors.append(it.message))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and "Failed to load resource" not in message.text
                and errors.append(message.text)
            ),
        )
        page.goto(base + where)
        return page

    expect.set_options(timeout=BROWSER_MS)
    yield open_page
    for context in contexts:
        for page in context.pages:  # a request that a test holds would fail in a later one
            page.unroute_all(behavior="ignoreErrors")
        context.close()
    assert errors == []
