"""What `deploy/` has, on a real nginx and in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import MOST_SECONDS, ROOT, Server, free_port, jpeg, put, wait_for
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]
DEPLOY = ROOT / "deploy"
NGINX = shutil.which("nginx")
ODD = ["a b.jpg", "a+b.jpg", "a#b.jpg", "a%2Fb.jpg", "a?b&c=d.jpg", "😀.jpg", "é.jpg", "%41.jpg", "a;b,c.jpg"]  # fmt: skip


class Site:
    """nginx with `deploy/nginx.conf`, for a user with a password."""

    def __init__(self, port: int, plain: int) -> None:
        self.port, self.plain = port, plain
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def open(
        self, route: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        password = b64encode(b"ann:secret").decode()
        named = {"Authorization": f"Basic {password}", "Host": f"photos.example.org:{self.port}"}
        named["Cookie"] = "sso=ann"  # for single sign-on, where there is one
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"https://127.0.0.1:{self.port}{route}"
        request = urllib.request.Request(url, body, named, method=method)
        found: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=MOST_SECONDS, context=self.context
        )
        return found

    def ask(
        self, route: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, Any]:
        try:
            with self.open(route, method, body, **headers) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers


@pytest.fixture
def site(
    request: pytest.FixtureRequest, serve: Serve, root: pathlib.Path, tmp_path: pathlib.Path
) -> Iterator[tuple[Site, Server]]:
    """A library behind nginx, and the service itself.

    The parameter is `ACCEL_PREFIX`, or what changes the file for nginx.
    """
    if not NGINX:
        pytest.skip("nginx is not installed")
    for name in (*ODD, "sub/x.jpg"):
        os.utime(put(root / name, jpeg(seed=len(name))), (1, 1))
    settings = {"ALLOWED_HOSTS": "photos.example.org", "AUTH_HEADER": "Remote-User"}
    change = getattr(request, "param", "/originals/")
    prefix = change if isinstance(change, str) else "/originals/"
    server = serve(root, ACCEL_PREFIX=prefix, **settings)
    here, port, plain = tmp_path / "nginx", free_port(), free_port()
    here.mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(here / "key"), "-out", str(here / "cert")]
    subprocess.run(
        [*make, "-subj", "/CN=photos.example.org", *files], check=True, capture_output=True
    )
    secret = subprocess.check_output(["openssl", "passwd", "-apr1", "secret"], text=True)
    (here / "users").write_text(f"ann:{secret}")
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("127.0.0.1:7070", f"127.0.0.1:{server.port}"),
        ("/etc/ssl/photos.example.org.pem", here / "cert"),
        ("/etc/ssl/private/photos.example.org.key", here / "key"),
        ("/etc/nginx/lenslet.htpasswd", here / "users"),
        ("/var/cache/nginx/lenslet", here / "cache"),
        ("alias /srv/photos/", f"alias {root}/"),
        ("from=/srv/photos", f"from={root}"),
    ):
        assert old in text
        text = text.replace(old, str(new))
    text = change(text) if callable(change) else text
    (here / "conf").write_text(
        f"user root;\npid {here}/pid;\nerror_log {here}/error;\ndaemon off;\nevents {{}}\n"
        f"http {{ access_log off; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n"
        f"fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n{text} }}\n"
    )
    nginx = subprocess.Popen([str(NGINX), "-c", str(here / "conf"), "-p", str(here)])
    found = Site(port, plain)
    try:
        wait_for(lambda: found.ask("/photos/health/live")[0] == 200)
        server.until(lambda: json.loads(found.ask("/photos/search?q=x")[1])["total"] == 1)
        where = "/photos/folders?path=sub"
        server.until(lambda: "thumb" in json.loads(found.ask(where)[1])["items"][0])
        rests = {"Remote-User": "ann"}
        server.until(lambda: json.loads(server.get("/health/workers", **rests)[1])["backlog"] == 0)
        yield found, server
    finally:
        nginx.terminate()
        nginx.wait()


def test_behind_nginx_everything_is_where_it_says(site, root: pathlib.Path) -> None:
    """Odd names, URLs below the path, 304, who edited, passwords."""
    nginx, server = site
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", nginx.plain)) as plain:
        plain.request("GET", "/photos/folders?path=a%2Fb", headers={"Host": "photos.example.org"})
        with plain.getresponse() as moved:
            secure = "https://photos.example.org/photos/folders?path=a%2Fb"
            assert (moved.status, moved.headers["Location"]) == (301, secure)
    assert nginx.ask("/photos/folders", Authorization="")[0] == 401
    assert server.get("/folders")[0] == 401
    folder = json.loads(nginx.ask("/photos/folders")[1])
    assert {item["name"] for item in folder["items"]} == set(ODD)
    for name in ODD:
        query = urllib.parse.urlencode({"path": name})
        status, body, headers = nginx.ask(f"/photos/thumb?{query}", Accept="image/*")
        assert (status, body[:4]) == (200, b"RIFF")
        assert nginx.ask(f"/photos/thumb?{query}", If_None_Match=headers["ETag"])[0] == 304
        status, body, headers = nginx.ask(f"/photos/file?{query}")
        assert (status, body) == (200, (root / name).read_bytes())
        assert headers["Content-Type"] == "image/jpeg"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert nginx.ask(f"/photos/file?{query}", If_None_Match=headers["ETag"])[0] == 304
        assert nginx.ask(f"/photos/files/{urllib.parse.quote(name, safe='')}")[1] == body
    assert nginx.ask("/photos/files/sub%2Fx.jpg")[0] == 200
    route = "/photos/folders/sub/reindex"
    status, body, headers = nginx.ask(route, "POST", b"", Sec_Fetch_Site="same-origin")
    assert (status, headers["Location"]) == (202, "/photos/folders?path=sub")
    assert json.loads(nginx.ask("/photos/")[1])["openapi"] == "/photos/openapi.json"
    edit = "/photos/item?path=sub/x.jpg", "PUT", json.dumps({"notes": "n"}).encode()
    assert nginx.ask(*edit, Sec_Fetch_Site="cross-site")[0] == 403
    origin = f"https://photos.example.org:{nginx.port}"
    status, body, _ = nginx.ask(*edit, Origin=origin, Remote_User="eve")
    assert (status, json.loads(body)["updatedBy"]) == (200, "ann")
    etag = nginx.ask("/photos/folders", Accept_Encoding="gzip")[2]["ETag"]
    assert nginx.ask("/photos/folders", Accept_Encoding="gzip", If_None_Match=etag)[0] == 304


@pytest.mark.parametrize("site", ["/originals/", ""], indirect=True)
def test_what_a_client_has_is_not_sent_again_by_nginx(site, root: pathlib.Path) -> None:
    """Every route with an ETag: compressed, kept by nginx, sent by nginx, and passed on."""
    nginx, server = site
    items = json.loads(nginx.ask("/photos/folders?path=sub")[1])["items"]
    image = f"path=sub/x.jpg&v={items[0]['rev']}"
    server.until(lambda: nginx.ask(f"/photos/preview?{image}", Accept="image/*")[0] == 200)
    for route in ("folders", "openapi.json", "folders?path=sub", f"thumb?{image}", f"preview?{image}",
                  "file?path=sub/x.jpg", "files/sub/x.jpg"):  # fmt: skip
        for accepted in ("gzip", "identity"):
            for _ in range(2):  # the second time, nginx has what it may keep
                status, body, headers = nginx.ask(f"/photos/{route}", Accept_Encoding=accepted)
                assert status == 200, route
                for known, wanted in ((headers["ETag"], (304, b"")), ('"other"', (200, body))):
                    asked = {"Accept_Encoding": accepted, "If_None_Match": known}
                    assert nginx.ask(f"/photos/{route}", **asked)[:2] == wanted, (route, known)


def test_nginx_sends_the_originals_itself_also_in_parts(site, root: pathlib.Path, tmp_path) -> None:
    nginx, server = site
    data = (root / "sub/x.jpg").read_bytes()
    direct = server.request("GET", "/file?path=sub/x.jpg", **{"Remote-User": "ann"})
    assert direct == (200, b"")  # Python sends nothing but the name
    status, body, headers = nginx.ask("/photos/file?path=sub/x.jpg", Range="bytes=100-199")
    assert (status, body) == (206, data[100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{len(data)}"
    resumed = nginx.ask("/photos/file?path=sub/x.jpg", Range="bytes=200-", If_Range=headers["ETag"])
    assert (resumed[0], resumed[1]) == (206, data[200:])
    assert nginx.ask("/originals/sub/x.jpg")[0] == 404
    put(tmp_path / "outside/secret.jpg")
    (root / "sub/link.jpg").symlink_to(tmp_path / "outside/secret.jpg")
    assert nginx.ask("/photos/file?path=sub/link.jpg")[0] == 404


def test_nginx_keeps_thumbnails_that_never_change_behind_the_password(site) -> None:
    nginx, server = site
    item = next(i for i in json.loads(nginx.ask("/photos/folders?path=sub")[1])["items"])
    named, thumb = "/photos/thumb?path=sub/x.jpg&v=", item["thumb"]
    server.until(lambda: nginx.ask(named + "other")[0] == 200)

    def asked() -> int:
        headers = {"Remote-User": "ann"}
        text = server.get("/metrics", **headers)[1].decode()
        counts = re.findall(r'requests_total\{route="/thumb",status="2xx"\} (\d+)', text)
        return int(counts[0])

    before = asked()
    answers = [nginx.ask(named + thumb) for _ in range(5)]
    assert {(status, body) for status, body, _ in answers} == {(200, answers[0][1])}
    assert asked() == before + 1
    assert nginx.ask(named + thumb, Authorization="")[0] == 401
    for _ in range(2):
        nginx.ask(named + "other")
    assert asked() == before + 3  # such an answer may change


def test_a_link_opens_behind_nginx_until_it_is_taken_back(site) -> None:
    """Without a password, and without what nginx keeps for those who have one."""
    nginx, server = site
    thumb = json.loads(nginx.ask("/photos/folders?path=sub")[1])["items"][0]["thumb"]
    route = f"/photos/thumb?path=sub/x.jpg&v={thumb}"
    assert nginx.ask(route)[0] == 200  # nginx has it now

    def ask(
        where: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, bytes, Any]:
        sent = json.dumps(body).encode() if body else None
        given = {"Content_Type": "application/json"} if body else {}
        return nginx.ask(where, method, sent, **{"Authorization": "", **given, **headers})

    own = f"https://photos.example.org:{nginx.port}"
    made = ask("/photos/links", "POST", {"path": "sub"}, Origin=own, Authorization="Basic YW5uOnNlY3JldA==")  # fmt: skip
    link = json.loads(made[1])
    assert (
        link["url"].startswith(f"{own}/photos/?link={link['id']}#secret=") and link["by"] == "ann"
    )
    secret = link["url"].partition("#secret=")[2]
    status, _, headers = ask("/photos/session", "POST", {"link": secret}, Origin=own)
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert status == 204 and all(each in headers["Set-Cookie"] for each in ("HttpOnly", "Secure", "Path=/photos"))  # fmt: skip
    assert ask(route, Cookie=cookie)[0] == ask("/photos/folders?path=sub", Cookie=cookie)[0] == 200
    assert ask("/photos/folders?path=", Cookie=cookie)[0] == 404
    # Nobody gets in by claiming to have a link, or with a password that is wrong.
    claims = f"lenslet_link_{server.port}=x"
    for where in (route, f"{route}&link=x", "/photos/links?link=x"):
        for sent in ({}, {"Cookie": claims}, {"Cookie": claims, "Remote_User": "ann"}):
            assert ask(where, **sent)[0] == 401
        for name in ("ann:wrong", "eve:secret"):
            wrong = f"Basic {b64encode(name.encode()).decode()}"
            assert ask(where, Authorization=wrong, Cookie=cookie)[0] == 401
    assert nginx.ask(route, Cookie=cookie)[0] == 200  # a user who has one is still a user
    assert nginx.ask("/photos/folders?path=", Cookie=cookie)[0] == 200
    assert nginx.ask(f"/photos/links/{link['id']}", "DELETE", Origin=own)[0] == 204
    said = wait_for(lambda: (found := ask(route, Cookie=cookie))[0] == 401 and found)
    assert json.loads(said[1])["description"] == "This link has ended, or was taken back."


def with_sign_on(text: str) -> str:
    """The file with the single sign-on that the documents describe. Whoever has a cookie is in."""
    documented = re.findall(r"```nginx\n(set .*?)```", (ROOT / "docs/deploy.md").read_text(), re.S)
    (ours,), port = documented, free_port()
    theirs = "proxy_pass http://127.0.0.1:9091/api/authz/auth-request;"
    assert theirs in ours
    ours = ours.replace(theirs, f"proxy_pass http://127.0.0.1:{port};")
    text = text.replace("auth_basic $lenslet_page_realm;", "auth_request off;")
    text = re.sub("    auth_basic .*;\n    auth_basic_user_file .*\n", lambda _: ours, text)
    text = re.sub("    proxy_set_header Remote-User .*\n", "", text)
    answer = 'if ($cookie_sso = "") { return 401; } add_header Remote-User $cookie_sso; return 200;'
    return f"{text}\nserver {{ listen 127.0.0.1:{port}; location / {{ {answer} }} }}"


@pytest.mark.parametrize("site", [with_sign_on], indirect=True)
def test_single_sign_on_names_users_and_guests_need_no_account(site) -> None:
    nginx, _ = site
    own = f"https://photos.example.org:{nginx.port}"

    def ask(where: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        sent = json.dumps(body).encode() if body else None
        return nginx.ask(where, method, sent, Authorization="", Origin=own, **headers)

    for claims in (
        {"Cookie": ""},
        {"Cookie": "", "Remote_User": "ann"},
        {"Cookie": "lenslet_link_7070=x"},
    ):
        assert ask("/photos/folders", **claims)[0] == 401
    ann = {"Cookie": "sso=ann", "Content_Type": "application/json"}
    assert ask("/photos/folders", **ann)[0] == 200
    link = json.loads(ask("/photos/links", "POST", {"path": "sub"}, **ann)[1])
    assert link["by"] == "ann"
    page, secret = link["url"].removeprefix(own).split("#secret=")
    assert ask(page, Cookie="")[0] == 200
    as_json = {"Cookie": "", "Content_Type": "application/json"}
    status, _, headers = ask("/photos/session", "POST", {"link": secret}, **as_json)
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert status == 204
    assert ask("/photos/folders?path=sub", Cookie=cookie)[0] == 200
    assert ask("/photos/folders?path=", Cookie=cookie)[0] == 404
    # Who has an account keeps it, also with a link.
    assert ask("/photos/folders?path=", Cookie=f"{cookie}; sso=ann")[0] == 200


def stored_by(nginx: pathlib.Path) -> int:
    """How many bytes of answers nginx has in files, which it has unlinked."""
    master = (nginx / "pid").read_text().strip()
    workers = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
    files = (file for pid in workers for file in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    return sum(file.stat().st_size for file in files if f"{nginx}/proxy" in os.readlink(file))


def test_archives_are_not_stored_by_nginx_and_one_client_has_two_at_most(
    site, root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    nginx, server = site
    with (root / "sub/x.jpg").open("r+b") as file:
        file.truncate(100_000_000)
    where = "/photos/folders?path=sub"
    server.until(lambda: json.loads(nginx.ask(where)[1])["items"][0]["size"] == 100_000_000)
    with contextlib.ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(nginx.open("/photos/zip?path=sub")).read(1000)
        threading.Event().wait(2)
        assert stored_by(tmp_path / "nginx") < 1_000_000
        assert nginx.ask("/photos/zip?path=sub")[0] == 503
        assert nginx.ask(where)[0] == 200
    wait_for(lambda: nginx.ask("/photos/zip?path=sub", "HEAD")[0] == 200)


def test_the_page_works_behind_nginx_below_a_path_with_a_password(site, browser: Browser) -> None:
    nginx, _ = site
    context = browser.new_context(
        ignore_https_errors=True, http_credentials={"username": "ann", "password": "secret"}
    )
    page = context.new_page()
    page.goto(f"https://127.0.0.1:{nginx.port}/photos/#/")
    page.locator(".folders a").click()
    page.locator("main").get_by_role("link", name="x.jpg").click()
    expect(page.locator(".stage img")).to_have_count(1)
    page.keyboard.press("i")
    page.keyboard.press("f")
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    expect(page.locator(".stage img.large")).to_have_js_property("naturalWidth", 400)
    page.reload()
    expect(page.locator(".tokens a")).to_have_text("favourite")
    expect(page.locator("aside")).to_contain_text("by ann")
    page.goto(f"https://127.0.0.1:{nginx.port}/photos/#/{urllib.parse.quote(ODD[2])}")
    page.reload()
    expect(page.locator("header b")).to_have_text(ODD[2])
    context.close()


@pytest.mark.parametrize("beside", [False, True])
def test_the_service_file_is_valid_and_hardened(tmp_path: pathlib.Path, beside: bool) -> None:
    """Also with the change for files beside the photos that its comment describes."""
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "lenslet.service").read_text()
    if beside:
        (write,) = re.findall(r"^#   (ReadWritePaths=.*)$", text, re.MULTILINE)
        text = text.replace("Environment=STATE_DIR=/var/lib/lenslet", write)
    program = pathlib.Path(sys.executable).parent / "lenslet"
    text = text.replace("/opt/lenslet/.venv/bin/lenslet", str(program))
    (tmp_path / "lenslet.service").write_text(text)
    shutil.copy(DEPLOY / "lenslet.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("lenslet.service", "lenslet.socket")]
    verify = [analyze, "verify", "--man=no", *units]
    verified = subprocess.run(verify, capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    limits = [analyze, "security", "--offline=true", "--threshold=20", units[0]]
    assert subprocess.run(limits, capture_output=True).returncode == 0


def test_the_wheel_and_the_sdist_are_complete_and_install(tmp_path: pathlib.Path) -> None:
    source, built = tmp_path / "source", tmp_path / "built"
    names = ["setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lenslet", source / "lenslet", ignore=compiled)
    for name in names:
        shutil.copy(ROOT / name, source)
    stale = source / "build/lib/lenslet/deleted.py"  # an earlier version had it
    stale.parent.mkdir(parents=True)
    stale.touch()
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(source)]
    for command in (["init", "-q"], ["add", "lenslet"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()
    python = [sys.executable, "-m"]
    subprocess.run([*python, "build", "--outdir", built, source], check=True, capture_output=True)
    files = sorted(built.iterdir())
    assert len(files) == 2
    subprocess.run([*python, "twine", "check", "--strict", *files], check=True, capture_output=True)
    target = tmp_path / "installed"
    install = ["pip", "install", "--no-deps", "--target", target, *built.glob("*.whl")]
    subprocess.run([*python, *install], check=True, capture_output=True)
    # Else pip keeps the old commit when somebody asks for another one.
    assert (target / f"lenslet_backend-0.2.0+g{head}.dist-info").is_dir()
    assert not (target / "lenslet/deleted.py").exists()
    for folder in ("lenslet", "lenslet/web", "lenslet/guests", "lenslet/gallery/files"):
        wanted = {path.name for path in (ROOT / folder).iterdir() if path.suffix != ".pyc"}
        assert {path.name for path in (target / folder).iterdir()} >= wanted - {"__pycache__"}
