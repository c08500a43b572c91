"""Settings from environment variables and a file of them."""

import contextlib
import difflib
import ipaddress
import os
import re
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
_ALIKE, _ALIKE_IF_OURS = 0.92, 0.5  # see difflib.get_close_matches
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
    """Returns the settings of the environment; `filed` has what it leaves unset, from a file."""
    here = {name: value for name, value in environ.items() if value}
    bucketless = "ROOT_PATH" in here  # the environment's folder wins over the file's bucket
    merged = {n: v for n, v in filed.items() if n != "S3_BUCKET" or not bucketless} | here
    return settings(merged)


# The file with settings


def read_env_file(path: str) -> dict[str, str]:
    """Returns the variables of a file such as `.env`."""
    try:
        return dotenv(FilePath(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error


def dotenv(text: str) -> dict[str, str]:
    """Parses a `.env` file: `NAME=value` lines, `#` comments, optional quotes."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or "\0" in value:
            raise SettingError(f"line {number} of the env file: must be NAME=value")
        if value[:1] in ('"', "'"):
            value, quote, rest = value[1:].partition(value[0])
            if not (quote and re.fullmatch(r"(\s+#.*)?", rest)):
                reason = "a value in quotes ends with its quote, and only a comment may follow"
                raise SettingError(f"line {number} of the env file: {reason}")
        else:
            value = value.partition(" #")[0].rstrip()
        found[name] = value
    return found


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Returns the variables that look like settings and are none, each with the one it means.

    What begins with `LENSLET_` is meant for us, so it need not look alike as much.
    """
    found = {}
    for name in sorted(set(variables) - set(names())):
        text = name.upper().removeprefix("LENSLET_")
        alike = _ALIKE if text == name.upper() else _ALIKE_IF_OURS
        for meant in difflib.get_close_matches(text, names(), 1, alike):
            found[name] = meant
    return found


def check_misspelt(found: Settings, variables: Iterable[str]) -> list[str]:
    """Returns one sentence for each misspelt setting.

    Raises `SettingError` if access, or the photos, may be unprotected for it.
    """
    guards = {} if found.is_guarded else ACCESS
    guards = guards | ({} if found.state_dir else _UNTOUCHED)
    sentences = []
    for name, meant in misspelt(variables).items():
        sentence = f"{name} is not a setting: do you mean {meant}?"
        if meant in guards:
            without = f"Without that, {guards[meant]}. Rename {name}, or unset it."
            raise SettingError(f"{sentence} {without}")
        sentences.append(sentence)
    return sentences


def names() -> list[str]:
    """Returns the names of all settings, as environment variables."""
    return [each.name.upper() for each in _fields()]


def _fields() -> list[Field[Any]]:
    return [each for each in fields(Settings) if "check" in each.metadata]
