"""Real gunicorn: its processes are killed, stopped, reloaded and left alone with the corpus."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import MOST_SECONDS, ROOT, Server, encode, free_port, jpeg, put, wait_for
from PIL import Image

Serve = Callable[..., Server]
GUNICORN, SERVE, WORKER = ["-m", "gunicorn"], ["-m", "lenslet", "serve"], ["worker.py"]
SIGNALS_SECONDS = 1.0  # gunicorn loses a signal to a process that has just been forked


def fill(root: pathlib.Path, count: int, folder: str = "many") -> list[str]:
    """`count` photos in one folder, which were there an hour ago."""
    names = [f"{folder}/img{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        os.utime(put(root / name, jpeg(seed=number % 90, width=400 + number % 7)), (1, 1))
    return names


def check_whole(root: pathlib.Path) -> None:
    """No JSON and no thumbnail is ever half there."""
    for file in root.rglob("*"):
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix == ".thumbnail":
                Image.open(io.BytesIO(file.read_bytes())).load()
        except FileNotFoundError:
            continue


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, pathlib.Path]]:
    """A service that tests share, and its root: each has files of its own."""
    home = tmp_path_factory.mktemp("shared")
    put(home / "photos/a.jpg")
    server = Server(home / "photos", home)
    yield server, home / "photos"
    server.stop()


def reload(server: Server) -> None:
    """Has all processes replaced, one after the other."""
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: not server.workers() & before and len(server.workers()) == 3)


@contextlib.contextmanager
def started(command: list[str], log: pathlib.Path, **settings: str) -> Iterator[None]:
    """A service that is started with a command, beside its log."""
    environ = {**os.environ, "XDG_CACHE_HOME": str(log.parent / "cache"), **settings}
    with log.open("wb") as out:
        service = subprocess.Popen(command, cwd=log.parent, env=environ, stdout=out, stderr=out)
    try:
        yield
    finally:
        service.terminate()
        service.wait(MOST_SECONDS)


def ended(root: pathlib.Path, tmp_path: pathlib.Path, command: list[str], **settings: str) -> Any:
    """What a start that is refused has printed, and its status."""
    environ = {**os.environ, "ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path), **settings}
    words = [sys.executable, *command]
    return subprocess.run(
        words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=MOST_SECONDS
    )


def test_the_index_process_runs_at_a_lower_priority_than_the_others(library) -> None:
    server, _ = library
    index = server.index_pid()
    others = server.workers() - {index}
    usual = {os.getpriority(os.PRIO_PROCESS, pid) for pid in others}
    assert usual == {os.getpriority(os.PRIO_PROCESS, server.process.pid)}
    assert os.getpriority(os.PRIO_PROCESS, index) > max(usual)


def test_a_body_in_chunks_is_taken_and_limited(library) -> None:
    server, _ = library
    for body, wanted in ((b'{"notes": "in pieces"}', 200), (b'{"x": "' + b"y" * 300_000, 413)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=MOST_SECONDS)
        pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
        chunked = {"Transfer-Encoding": "chunked"}
        connection.request("PUT", "/item?path=a.jpg", pieces, chunked, encode_chunked=True)
        assert connection.getresponse().status == wanted
        connection.close()
    assert server.json("/item?path=a.jpg")["notes"] == "in pieces"


def test_an_original_is_sent_right_through_sendfile(library) -> None:
    server, root = library
    data = put(root / "a b.jpg", jpeg(1600, 1200)).read_bytes()
    assert server.get("/file?path=a%20b.jpg") == (200, data)
    assert server.get("/files/a%20b.jpg", Range="bytes=100-199") == (206, data[100:200])
    assert server.request("HEAD", "/files/a%20b.jpg") == (200, b"")
    assert server.get("/files/a%20b.jpg", Range="bytes=-1") == (206, data[-1:])


def test_hup_replaces_all_processes_and_leaves_one_index_process(serve: Serve, root) -> None:
    fill(root, 3)
    server = serve(root)
    first = server.index_pid()
    reload(server)
    server.until(lambda: server.json("/health/workers").get("pid") in server.workers() - {first})
    put(root / "many/new.jpg")
    server.until(lambda: "new.jpg" in server.get("/folders?path=many")[1].decode())
    assert server.thumbnail("many/new.jpg")[0] == 200


@pytest.mark.parametrize("route", ["/file?path=many/img0.jpg", "/zip?path=many"])
def test_an_answer_that_is_being_sent_outlives_a_hup(serve: Serve, root, tmp_path, route) -> None:
    """Also if it takes longer than both of gunicorn's times, and leaves no traceback."""
    for name in fill(root, 2):
        put(root / name, jpeg() + os.urandom(20 << 20))
    conf = tmp_path / "quick.conf.py"
    more = "timeout, graceful_timeout = 3, 1\n"
    conf.write_text((ROOT / "gunicorn.conf.py").read_text() + more)
    server = serve(root, GUNICORN_CMD_ARGS=f"--config {conf}")
    server.until(lambda: len(server.json("/folders?path=many").get("items", ())) == 2)
    server.until(lambda: server.index_pid() and len(server.workers()) == 3)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{route}", timeout=20) as answer:
        length = int(answer.headers["Content-Length"])
        before, sent = server.workers(), answer.read(1 << 20)
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: len(server.workers() - before) == 3)
        for _ in range(8):
            time.sleep(1)
            sent += answer.read(1 << 20)
        assert len(server.workers() & before) == 1
        sent += answer.read()
    assert len(sent) == length
    server.until(lambda: not server.workers() & before)
    assert "Traceback" not in server.log.read_text()


def test_term_ends_everything_promptly_in_the_middle_of_work(serve: Serve, root) -> None:
    fill(root, 300)
    server = serve(root)
    server.index_pid()
    children = server.workers()
    time.sleep(SIGNALS_SECONDS)
    timer = threading.Timer(30, server.process.kill)
    timer.start()
    assert server.stop() == 0
    timer.cancel()
    assert not [pid for pid in children if pathlib.Path(f"/proc/{pid}").exists()]
    assert not list(root.rglob(".lenslet-tmp-*"))
    check_whole(root)


def on_terminal(command: list[str], port: int, **environ: str) -> tuple[int, int]:
    """Starts a command on a pseudo-terminal of its own; its pid and the terminal."""
    pid, terminal = pty.fork()
    if not pid:
        environ = {**os.environ, **environ, "PORT": str(port)}
        os.execve(sys.executable, [sys.executable, *command], environ)
    return pid, terminal


def answers(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1) as answer:
        return bool(answer.status == 200)


@pytest.mark.timing
@pytest.mark.parametrize("command", [GUNICORN, SERVE])
def test_ctrl_c_in_a_terminal_ends_everything_within_two_seconds(root, tmp_path, command) -> None:
    """A terminal sends the signal to every process, and the master then sends another."""
    fill(root, 100)
    port = free_port()
    environ = {"ROOT_PATH": str(root), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    pid, terminal = on_terminal(command, port, **environ)
    wait_for(lambda: answers(port))
    forked = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    children = wait_for(lambda: len(found := forked.read_text().split()) == 3 and found)
    time.sleep(SIGNALS_SECONDS)
    began = time.monotonic()
    os.write(terminal, b"\x03")
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone when nobody has it open
        while data := os.read(terminal, 4096):
            shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert time.monotonic() - began < 2
    assert not [child for child in children if pathlib.Path(f"/proc/{child}").exists()]
    assert b"Traceback" not in shown and b"SIGKILL" not in shown
    os.close(terminal)
    assert sum(b"Lenslet serves" in line for line in shown.splitlines()) <= 1
    check_whole(root)


def test_a_port_in_use_ends_the_start(serve: Serve, root, tmp_path) -> None:
    server = serve(root)
    refused = ended(root, tmp_path, SERVE, PORT=str(server.port))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Connection in use: ('127.0.0.1', {server.port})" in refused.stderr


def without_thumbnails(server: Server, root: pathlib.Path, count: int) -> list[str]:
    """Photos whose thumbnails are gone, in a folder that has been indexed."""
    names = fill(root, count)
    server.until(lambda: len(server.json("/folders?path=many").get("items", [])) == count)
    server.until(lambda: all((root / f"{name}.thumbnail").exists() for name in names))
    for name in names:
        (root / f"{name}.thumbnail").unlink()
    return names


def test_pictures_that_find_no_place_to_wait_are_answered_at_once_as_is_everything_else(
    serve: Serve, root
) -> None:
    """With the index process stopped, 200 pictures are asked for."""
    server = serve(root, IMG_WAIT="6")
    names = without_thumbnails(server, root, 100)
    index = server.index_pid()
    os.kill(index, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(200) as clients:
        asked = [clients.submit(shown, server, name) for name in (*names, *names)]
        times = []
        for _ in range(40):
            began = time.monotonic()
            assert server.get("/folders?path=many")[0] == 200
            times.append(time.monotonic() - began)
        os.kill(index, signal.SIGCONT)
        answers = [each.result() for each in asked]
    assert sorted(times)[37] < 0.25, times
    assert {status for status, _ in answers} == {200, 503}
    assert sum(status == 200 for status, _ in answers) >= 24


def test_pictures_of_a_foreign_page_come_at_the_first_asking(serve: Serve, root) -> None:
    """Also if one process is asked for all 24 of them at once."""
    server = serve(root, WEB_CONCURRENCY="1", SCAN_SECONDS="0")
    names = without_thumbnails(server, root, 24)
    with concurrent.futures.ThreadPoolExecutor(24) as clients:
        answers = list(clients.map(lambda name: shown(server, name)[0], names))
    assert answers == [200] * 24


def test_a_request_that_gunicorn_refuses_is_answered_like_all_others(library) -> None:
    server, _ = library
    for target, status in (("/" + "x" * 9000, 414), ("/ HTTP/1.1\r\nno colon", 400)):
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            with client.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert json.loads(body).keys() == {"title", "description"}


def test_an_index_process_that_hangs_is_killed_and_replaced(serve: Serve, root, tmp_path) -> None:
    fill(root, 2)
    conf = tmp_path / "quick.conf.py"
    conf.write_text((ROOT / "gunicorn.conf.py").read_text() + "timeout = 3\n")
    server = serve(root, GUNICORN_CMD_ARGS=f"--config {conf}")
    pid = server.index_pid()
    os.kill(pid, signal.SIGSTOP)
    server.until(lambda: server.json("/health/workers").get("pid") not in (pid, None))
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_a_file_that_is_dropped_in_is_found_unasked_and_sooner_when_asked(
    serve: Serve, root
) -> None:
    fill(root, 2)
    server = serve(root, SCAN_SECONDS="2")
    server.until(lambda: (root / "many/img1.jpg.thumbnail").exists())
    put(root / "quiet/alone.jpg")
    server.until(lambda: (root / "quiet/alone.jpg.thumbnail").exists())
    assert server.json("/folders?path=quiet")["items"][0]["size"] > 0
    slow = serve(root, SCAN_SECONDS="3600")
    slow.index_pid()
    put(root / "many/asked.jpg")

    def listed() -> bool:
        items = {item["name"]: item for item in slow.json("/folders?path=many")["items"]}
        return items.get("asked.jpg", {}).get("hasThumb", False)

    slow.until(listed)


@pytest.mark.timing
def test_an_edit_is_found_by_every_request_process_within_five_seconds(serve: Serve, root) -> None:
    (name,) = fill(root, 1)
    server = serve(root)
    server.until(lambda: server.json("/search?q=img0").get("total") == 1)
    assert server.request("PUT", f"/item?path={name}", {"tags": ["quickly"]})[0] == 200
    server.until(lambda: server.json("/search?q=tag:quickly").get("total") == 1, 5)
    totals = [server.json("/search?q=tag:quickly")["total"] for _ in range(20)]
    assert totals == [1] * 20


def test_an_image_that_kills_its_reader_is_quarantined_alone(serve: Serve, root) -> None:
    """If the process that decodes it dies, it is tried once more, and the others go on."""
    big = Image.new("L", (16_000, 9_000))
    big.putpixel((1, 1), 9)
    photo = put(root / "big.png", encode(big, "PNG", compress_level=1))
    os.utime(photo, (1, 1))
    fill(root, 2)
    server = serve(root, WORKER_THREADS="1")
    pid = server.index_pid()
    first = server.until(lambda: decoder_of(photo))
    os.kill(first, signal.SIGKILL)
    second = server.until(lambda: (found := decoder_of(photo)) != first and found)
    os.kill(second, signal.SIGSEGV)
    items = server.until(lambda: [i for i in server.json("/folders")["items"] if i.get("error")])
    assert items[0]["error"] == "quarantined: reading it ends its process (SIGSEGV)"
    assert server.thumbnail("big.png")[0] == 422
    assert [server.thumbnail(f"many/img{number}.jpg")[0] for number in range(2)] == [200, 200]
    none = {"counts": {"quarantined": 0}}
    server.until(lambda: (server.json("/health")["library"] or none)["counts"]["quarantined"] == 1)
    assert server.json("/health")["status"] == "degraded"
    assert server.index_pid() == pid
    server.request("POST", "/thumb?path=big.png&force=1")
    assert server.until(lambda: server.get("/thumb?path=big.png")[0] == 200)
    server.until(lambda: server.json("/health")["status"] == "ok")


def decoder_of(photo: pathlib.Path) -> int:
    """The process that decodes a photo, 0 if none does."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"images/decoder.py" in (process / "cmdline").read_bytes():
                opened = [os.readlink(file) for file in (process / "fd").iterdir()]
                if str(photo) in opened:
                    return int(process.name)
    return 0


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [("PORT", "http", SERVE), ("ROOT_PATH", "/no/such/folder", WORKER),
     ("API_TOKEN", "s3cret", GUNICORN), ("STATE_DIR", "state", SERVE), ("PAGE_SIZE", "0", WORKER)],
)  # fmt: skip
def test_a_bad_setting_stops_the_start_with_one_line(root, tmp_path, name, value, command) -> None:
    refused = ended(root, tmp_path, command, **{name: value})
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert (value if name == "ROOT_PATH" else name) in refused.stderr
    assert "s3cret" not in refused.stderr


def test_the_master_outlives_a_root_that_is_away(serve: Serve, root, tmp_path) -> None:
    fill(root, 2)
    server = serve(root)
    server.until(lambda: server.json("/health").get("status") == "ok")
    root.rename(tmp_path / "away")
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: (server.get("/health")[0], server.get("/health/live")[0]) == (503, 200))
    (tmp_path / "away").rename(root)
    server.until(lambda: server.json("/health").get("status") == "ok")
    assert server.thumbnail("many/img1.jpg")[0] == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "http://127.0.0.1:PORT/ ("),
        ({"HOST": "0.0.0.0"}, "http://127.0.0.1:PORT/ (and at every address of this host) ("),
        ({"HOST": "::"}, "http://[::1]:PORT/ (and at every address of this host) ("),
        (
            {"GUNICORN_CMD_ARGS": "--bind unix:here.sock --bind 127.0.0.1:PORT"},
            "unix:here.sock and http://127.0.0.1:PORT/ (",
        ),
    ],
)
def test_the_start_names_the_address_to_open_and_where_its_own_files_are(
    root, tmp_path, settings, said
) -> None:
    fill(root, 1)
    port, state, log = str(free_port()), tmp_path / "my state", tmp_path / "log"
    settings = {name: value.replace("PORT", port) for name, value in settings.items()}
    settings |= {"ROOT_PATH": str(root), "STATE_DIR": str(state)}
    command = [sys.executable, *GUNICORN, "--config", str(ROOT / "gunicorn.conf.py")]
    with started(command, log, **{"PORT": port, **settings}):
        shown = wait_for(lambda: "Lenslet serves" in (text := log.read_text()) and text)
    assert f"Lenslet serves {root} at {said.replace('PORT', port)}its own files: {state})" in shown


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
@pytest.mark.parametrize("closed", ["photos", "photos/2024"])
def test_a_root_that_this_user_cannot_read_is_named_with_what_to_do(tmp_path, closed) -> None:
    root = tmp_path / "photos/2024"
    put(root / "a.jpg")
    limits = [] if os.geteuid() else ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    (tmp_path / closed).chmod(0o600)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    try:
        for command in ("serve", "index", "check"):
            words = [*limits, sys.executable, "-m", "lenslet", command, str(root)]
            refused = subprocess.run(
                words, env=environ, capture_output=True, text=True, timeout=MOST_SECONDS
            )
            assert (refused.returncode, refused.stdout) == (1, "")
            said = f"lenslet: '{root}' cannot be read by this user (uid {os.geteuid()}): give it"
            assert refused.stderr.startswith(f"{said} rights")
            assert refused.stderr.count("\n") == 1
    finally:
        (tmp_path / closed).chmod(0o755)


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """A folder with `gunicorn.conf.py`, and so with a `.env`."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "gunicorn.conf.py", folder)
    return folder


def test_settings_count_from_a_start_and_stay_after_a_hup(serve: Serve, root, checkout) -> None:
    fill(root, 1)
    (checkout / ".env").write_text("API_TOKEN='token-of-mine' # for the phone\n")
    server = serve(root, cwd=str(checkout))
    (checkout / ".env").write_text("PAGE_SIZE=none\n")
    reload(server)
    server.until(lambda: server.get("/folders")[0] == 401)
    found = server.get("/folders", Authorization="Bearer token-of-mine")
    assert found[0] in (200, 202)


def test_a_worker_beside_request_processes_makes_what_they_ask_for(
    serve: Serve, root, tmp_path
) -> None:
    """Previews, thumbnails and edits at once; health says whether it lives."""
    fill(root, 2)
    server = serve(root, WORKER_THREADS="0", SCAN_SECONDS="3600", IMG_WAIT="20")
    assert server.get("/preview?path=many/img0.jpg")[0] == 503
    missing = "no index process: run 'lenslet worker' on this host, as the same user and with the "
    missing += "same settings, XDG_CACHE_HOME too"
    assert server.json("/health")["reasons"] == [missing]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "WORKER_THREADS": "0"}
    command = [sys.executable, "-m", "lenslet", "worker", str(root)]
    for end in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(command, cwd=tmp_path, env=environ) as worker:
            try:
                server.until(lambda pid=worker.pid: server.index_pid() == pid)
                server.until(lambda: server.json("/health").get("status") == "ok")
                put(root / f"new/{end}.jpg")
                image = f"path=new/{end}.jpg"
                assert server.get(f"/preview?{image}", Accept="image/*")[0] == 200
                assert server.get(f"/thumb?{image}", Accept="image/*")[0] == 200
                assert server.request("PUT", f"/item?{image}", {"tags": [f"t{end}"]})[0] == 200
                server.until(lambda end=end: server.json(f"/search?q=t{end}").get("total") == 1)
                second = subprocess.run(
                    command, env=environ, capture_output=True, timeout=MOST_SECONDS
                )
                said = f"lenslet: process {worker.pid} indexes this library already\n"
                assert (second.returncode, second.stderr.decode()) == (1, said)
            finally:
                worker.send_signal(end)
        server.until(lambda: server.json("/health").get("status") == "degraded")
    assert server.json("/health")["reasons"] == [missing]


def test_a_second_service_on_a_library_says_so(serve: Serve, root, tmp_path) -> None:
    fill(root, 1)
    servers = [serve(root), serve(root), serve(root, WORKER_THREADS="0")]
    servers.append(serve(root, STATE_DIR=str(tmp_path / "state")))
    reload(servers[0])
    said = ["Another service indexes this library too" in s.log.read_text() for s in servers]
    assert said == [False, True, False, False]


def test_only_what_is_needed_is_imported(root, tmp_path) -> None:
    """Falcon and gunicorn cost 100 ms where nothing is served, boto3 150 ms and 30 MB."""
    put(root / "a.jpg")
    code = (
        "import sys; from lenslet.run import cli; status = cli.main(['index', sys.argv[1]]);"
        "web = {'falcon', 'gunicorn'} & set(sys.modules);"
        "from lenslet.run import serving; serving.gunicorn_settings(); serving.build(); "
        "print(status, web, [name for name in sys.modules if name.startswith('boto')])"
    )
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "ROOT_PATH": str(root)}
    command = [sys.executable, "-c", code, str(root)]
    told = subprocess.check_output(command, env=environ, text=True)
    assert told.splitlines()[-1] == "0 set() []"


def shown(server: Server, path: str) -> tuple[int, float]:
    """Asks for a thumbnail as an `<img>` does: its status, and after how many seconds it came."""
    began = time.monotonic()
    status, _ = server.get("/thumb?" + urllib.parse.urlencode({"path": path}), Accept="image/*")
    return status, time.monotonic() - began
