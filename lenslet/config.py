"""Settings from environment variables and a `.env` file."""

import contextlib
import grp
import ipaddress
import os
import pwd
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path as FilePath
from typing import Any

from lenslet import paths
from lenslet.errors import SettingError

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
# What is so without these settings.
ACCESS = dict.fromkeys(
    ("API_TOKEN", "READ_TOKEN", "AUTH_HEADER"),
    "everyone who reaches the port may do everything",
)
_UNTOUCHED = {"STATE_DIR": "Lenslet writes its own files beside the photos"}
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    what = f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"

    def check(text: str) -> int | float:
        try:
            value = kind(text if text.isascii() else "")
        except ValueError:
            value = kind(high + 1)
        if not low <= value <= high:
            raise ValueError(what)
        return value

    return check


def _bytes(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        """Returns a number of bytes; `512M` means 512 MiB."""
        match = re.fullmatch(r"(\d{1,16})([KMGT]?)", text.strip().upper(), re.ASCII)
        value = int(match[1]) << 10 * " KMGT".index(match[2] or " ") if match else -1
        if not low <= value <= high:
            raise ValueError(f"a number of bytes such as 1500000 or 512M, from {low} to {high}")
        return value

    return check


def _text(pattern: str, what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(what)
        return text

    return check


def _switch(text: str) -> bool:
    return _text("on|off", "on or off")(text) == "on"


_not_empty = _text(r"(?s)[^\0]*[^\0\s][^\0]*", "text that is not empty")
_any_url = _text(r"https?://[^\s/]+(/\S*)?", "a URL such as https://s3.example.org")
_location = _text(r"/[^\s?#]*/", "a path that begins and ends with /, such as /originals/")
_token = _text(r"[!-~]{8,}", "8 or more printable ASCII characters without spaces")
_header = _text(r"[A-Za-z][A-Za-z0-9-]*", "the name of a header, such as Remote-User")
_bucket = _text(
    r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", "the name of a bucket, without s3:// and without a prefix"
)


def _url(text: str) -> str:
    return _any_url(text).rstrip("/")


def _scan_seconds(text: str) -> float:
    try:
        return 0.0 if text.strip() == "0" else float(_number(float, 1, 86_400)(text))
    except ValueError as error:
        raise ValueError(f"0, or {error}") from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _buckets(text: str) -> tuple[str, ...]:
    return tuple(map(_bucket, _words(text)))


def _absolute_folders(text: str) -> tuple[str, ...]:
    folders = _words(text)
    if not all(map(os.path.isabs, folders)):
        raise ValueError("absolute folders, separated by commas")
    return folders


def _root(text: str) -> str:
    return os.path.expanduser(_not_empty(text))


def _folder(text: str) -> str:
    """Returns the absolute folder that a text means; `~` is the user's home."""
    folder = os.path.expanduser(text)
    if not os.path.isabs(folder):
        raise ValueError("an absolute folder, such as /var/lib/lenslet or ~/lenslet")
    return folder


def _networks(text: str) -> tuple[IPNetwork, ...]:
    try:
        return tuple(map(ipaddress.ip_network, _words(text)))
    except ValueError as error:
        raise ValueError("IP addresses or networks, separated by commas") from error


def _origins(text: str) -> tuple[str, ...]:
    origins = _words(text)
    named = all(re.fullmatch(r"https?://[^/\s*]+", origin) for origin in origins)
    if not named and origins != ("*",):
        raise ValueError("origins such as https://example.org, separated by commas, or * alone")
    return origins


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in _words(text))
    if not all(re.fullmatch(r"[a-z0-9_.-]+", host) for host in hosts):
        raise ValueError("host names without a port, separated by commas")
    return hosts


def _prefix(text: str) -> str:
    """Returns the prefix that keys begin with: empty, or ending with `/`."""
    prefix = text.strip("/")
    if not all(map(paths.usable_segment, prefix.split("/") if prefix else ())):
        raise ValueError("segments joined by /, none of them empty, '.' or '..'")
    return f"{prefix}/" if prefix else ""


def _setting(default: Any, check: Callable[[str], Any]) -> Any:
    """A field with the value `check(text)`; its `ValueError` says which values are allowed."""
    return field(default=default, metadata={"check": check})


def _secret() -> Any:
    """A token. Neither `repr` nor an error shows it."""
    return field(default="", repr=False, metadata={"check": _token})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked. Each field is the environment variable of the same name.

    Sizes are bytes or pixels, times are seconds. `cache_dir` comes from `XDG_CACHE_HOME`, and
    `state_home` from `XDG_STATE_HOME`. With `s3_bucket`, `root_path` is not used. With
    `worker_threads` 0 there is no index process here; with `scan_seconds` 0 it does not scan.
    """

    root_path: str = _setting("./data", _root)
    s3_bucket: str = _setting("", _bucket)
    s3_prefix: str = _setting("", _prefix)
    s3_endpoint: str = _setting("", _url)
    aws_region: str = _setting("", str.strip)
    state_dir: str = _setting("", _folder)
    host: str = _setting("127.0.0.1", _not_empty)
    port: int = _setting(7070, _number(int, 1, 65535))
    web_concurrency: int = _setting(2, _number(int, 1, 64))
    web_threads: int = _setting(32, _number(int, 1, 256))
    worker_threads: int = _setting(0, _number(int, 0, 64))
    thumb_long_edge: int = _setting(256, _number(int, 16, 4096))
    thumb_quality: int = _setting(70, _number(int, 1, 100))
    thumb_wait: float = _setting(0.8, _number(float, 0, 30))
    index_memory: int = _setting(0, _bytes(64 * 1024**2, 2**50))
    decode_seconds: float = _setting(40.0, _number(float, 1, 3600))
    preview_bytes: int = _setting(1024**3, _bytes(16 * 1024**2, 2**50))
    page: bool = _setting(True, _switch)
    img_wait: float = _setting(15.0, _number(float, 0, 60))
    page_size: int = _setting(1000, _number(int, 1, 100_000))
    ignore: tuple[str, ...] = _setting((), _words)
    max_pixels: int = _setting(150_000_000, _number(int, 1, 2_000_000_000))
    max_file_bytes: int = _setting(512 * 1024**2, _bytes(1, 2**40))
    scan_seconds: float = _setting(30.0, _scan_seconds)
    presign_seconds: int = _setting(900, _number(int, 0, 604_800))
    api_token: str = _secret()
    read_token: str = _secret()
    auth_header: str = _setting("", _header)
    trusted_proxies: tuple[IPNetwork, ...] = _setting(_LOOPBACK, _networks)
    allowed_hosts: tuple[str, ...] = _setting((), _hosts)
    cors_origins: tuple[str, ...] = _setting((), _origins)
    accel_prefix: str = _setting("", _location)
    log_format: str = _setting("text", _text("text|json", "text or json"))
    pointer_roots: tuple[str, ...] = _setting((), _absolute_folders)
    pointer_buckets: tuple[str, ...] = _setting((), _buckets)
    jobs_queue_url: str = _setting("", _url)
    jobs_urgent_queue_url: str = _setting("", _url)
    cache_dir: str = "~/.cache/lenslet"
    state_home: str = "~/.local/state/lenslet"

    @property
    def backend(self) -> str:
        return "s3" if self.s3_bucket else "local"

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets that images may be in: the root's, and those that pointers may lead to."""
        return tuple(filter(None, (self.s3_bucket, *self.pointer_buckets)))

    @property
    def is_guarded(self) -> bool:
        """True if not everyone who reaches the port has access."""
        return bool(self.api_token or self.read_token or self.auth_header)

    @property
    def many_hosts(self) -> bool:
        """True if several hosts index one bucket."""
        return bool(self.jobs_queue_url and self.s3_bucket and not self.state_dir)


def settings(environ: Mapping[str, str]) -> Settings:
    """Returns the settings; raises `SettingError`, with one line, for the first wrong one."""
    values = _defaults(environ)
    for each in _fields():
        text = environ.get(each.name.upper(), "")
        try:
            if text:
                values[each.name] = each.metadata["check"](text)
        except ValueError as error:
            shown = f"={text!r}" if each.repr else ""
            raise SettingError(f"{each.name.upper()}{shown}: must be {error}") from error
    home = os.path.expanduser(environ.get("HOME") or "~")
    for name, variable, default in (
        ("cache_dir", "XDG_CACHE_HOME", ".cache"),
        ("state_home", "XDG_STATE_HOME", ".local/state"),
    ):
        above = environ.get(variable) or os.path.join(home, default)
        values[name] = os.path.join(os.path.expanduser(above), "lenslet")
    return Settings(**values)


def _defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    """Defaults that depend on the host and on where the root is.

    With a bucket, threads mostly wait for the network, so there are more of them. A scan costs
    requests, so scans are rarer.
    """
    cores, memory = os.cpu_count() or 1, max(_memory() // 4, 64 * 1024**2)
    if not environ.get("S3_BUCKET"):
        return {"worker_threads": cores, "index_memory": memory}
    scan_seconds = 3600.0 if environ.get("JOBS_QUEUE_URL") else 120.0
    threads = min(4 * cores, 64)
    return {"worker_threads": threads, "index_memory": memory, "scan_seconds": scan_seconds}


def _memory() -> int:
    """Returns the bytes of memory of this machine or, if that has less, of its cgroup."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        for line in FilePath("/proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            version_1 = kind == "memory"
            top = "/sys/fs/cgroup/memory" if version_1 else "/sys/fs/cgroup"
            name = "memory.limit_in_bytes" if version_1 else "memory.max"
            for folder in (FilePath(path), *FilePath(path).parents):
                with contextlib.suppress(OSError, ValueError):  # `max`: no limit
                    found.append(int(FilePath(f"{top}{folder}/{name}").read_text()))
    return min(found)


def load(environ: Mapping[str, str], filed: Mapping[str, str]) -> Settings:
    """Returns the settings of the environment; `filed` has what it leaves unset, from `.env`."""
    return settings(_merged(environ, filed))


def _merged(environ: Mapping[str, str], filed: Mapping[str, str]) -> dict[str, str]:
    here = {name: value for name, value in environ.items() if value}
    bucketless = "ROOT_PATH" in here  # the environment's folder wins over the file's bucket
    return {n: v for n, v in filed.items() if n != "S3_BUCKET" or not bucketless} | here


# The file .env


def read_dotenv(environ: Mapping[str, str], folder: str = ".") -> tuple[dict[str, str], str]:
    """Returns the variables of `folder`/.env, and one line that says why they are ignored, if so.

    It is ignored if it lies in the folder that is served, because settings decide what else may
    be read, and by whom: whoever made such a folder must not. So also if other users may write it.
    What the environment says is served is never read.
    """
    file = FilePath(folder, ".env")
    try:
        reason = _untrusted(file, environ)
        found = {} if reason else dotenv(file.read_text(encoding="utf-8-sig"))
        reason = reason or _untrusted(file, _merged(environ, found))
    except FileNotFoundError:
        return {}, ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f".env cannot be read: {error}") from error
    return ({}, f"the file .env is ignored: {reason}") if reason else (found, "")


def _untrusted(file: FilePath, environ: Mapping[str, str]) -> str:
    """Returns why a file must not be a source of settings; `FileNotFoundError` if there is none."""
    target, folder = file.resolve(), file.parent.resolve()
    for path in (target, target.parent, folder):
        if _others_may_write(path.stat()):
            return f"other users may write {str(path)!r}; 'chmod go-w', or make it your own"
    root = "" if environ.get("S3_BUCKET") else os.path.expanduser(environ.get("ROOT_PATH", ""))
    above = (folder, *folder.parents, *target.parents)
    if os.path.isdir(root) and any(each.samefile(root) for each in above):
        return f"it lies in {root!r}, which is served; start elsewhere, or use the environment"
    return ""


def is_exposed(filed: Mapping[str, str], folder: str = ".") -> bool:
    """True if other users of this machine may read secrets in the file that these are from."""
    has_secrets = any(name.endswith(("TOKEN", "SECRETACCESS_KEY")) for name in filed)
    return has_secrets and bool(FilePath(folder, ".env").stat().st_mode & stat.S_IROTH)


def _others_may_write(found: os.stat_result) -> bool:
    """True if a user who is neither this one nor root may write a file, or replace a folder's.

    A group counts if others are in it: many systems give each user a group. In a folder such as
    `/tmp` (sticky) nobody replaces the files of others.
    """
    mine, mode = {0, os.geteuid()}, found.st_mode
    if found.st_uid not in mine or not mode & (stat.S_IWGRP | stat.S_IWOTH):
        return found.st_uid not in mine
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    members: set[str] = set()
    with contextlib.suppress(KeyError):  # a group without a name
        members.update(grp.getgrgid(found.st_gid).gr_mem)
    users = pwd.getpwall()
    members.update(user.pw_name for user in users if user.pw_gid == found.st_gid)
    members.difference_update(user.pw_name for user in users if user.pw_uid in mine)
    return bool(mode & stat.S_IWOTH or members)


def dotenv(text: str) -> dict[str, str]:
    """Parses a `.env` file: `NAME=value` lines, `#` comments, optional quotes."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or "\0" in value:
            raise SettingError(f".env line {number}: must be NAME=value")
        if value[:1] in ('"', "'"):
            value, quote, rest = value[1:].partition(value[0])
            if not (quote and re.fullmatch(r"(\s+#.*)?", rest)):
                reason = "a value in quotes ends with its quote, and only a comment may follow"
                raise SettingError(f".env line {number}: {reason}")
        else:
            value = value.partition(" #")[0].rstrip()
        found[name] = value
    return found


def misspelt(variables: Iterable[str]) -> list[str]:
    """Says which variables look like settings and are none, with the settings that may be meant."""
    found = []
    for name in sorted(set(variables) - set(names())):
        near = [known for known in names() if max(_difference(name, known)) <= ("_" in name)]
        begun = [known for known in names() if name[:5] == known[:5] == "THUMB"]
        if meant := near or begun:
            found.append(f"{name} is not a setting: do you mean {' or '.join(meant)}?")
    return found


def check_slips(found: Settings, variables: Iterable[str]) -> None:
    """Raises `SettingError` if access or the photos may be unprotected for a slip in a name."""
    guards = {} if found.is_guarded else ACCESS
    if not found.state_dir:
        guards = guards | _UNTOUCHED
    for name in variables:
        for known, without in guards.items():
            is_ours = name.startswith("LENSLET_") and known.endswith("TOKEN") and "TOKEN" in name
            if name != known and (is_ours or sum(_difference(name, known)) <= 1):
                raise SettingError(
                    f"{name} is not a setting: do you mean {known}? Without that, {without}. "
                    f"Rename {name}, or unset it."
                )


def _difference(name: str, known: str) -> tuple[int, int]:
    """Counts the letters that a name has more, and fewer, than a setting, whatever their order."""
    letters = Counter(name.upper().removeprefix("LENSLET_").replace("_", ""))
    wanted = Counter(known.replace("_", ""))
    return (letters - wanted).total(), (wanted - letters).total()


def names() -> list[str]:
    """Returns the names of all settings, as environment variables."""
    return [each.name.upper() for each in _fields()]


def _fields() -> list[Field[Any]]:
    return [each for each in fields(Settings) if "check" in each.metadata]
