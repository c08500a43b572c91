"""Settings from environment variables and a file of such lines."""

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path as FilePath
from typing import Any

from lenslet import paths
from lenslet.errors import SettingError

Make = Callable[[str], Any]
IPNetwork = IPv4Network | IPv6Network
ACCESS = ("API_TOKEN", "READ_TOKEN", "AUTH_HEADER")
# How much the letters of two names are alike: THREAD_TOKEN is READ_TOKEN to 0.91.
_ALIKE = 0.92
# A line of a file: its name, and its value in double quotes, in single quotes or without.
_LINE = re.compile(
    r"""(?:export\s+)?(\w+)\s*=\s*(?:"([^"\0]*)"|'([^'\0]*)'|([^"'\s\0][^\0]*?)?)(?:\s+\#.*)?"""
)
_LOOPBACK = ip_network("127.0.0.0/8"), ip_network("::1")


def _setting(make: Make, what: str, default: Any = "", *, is_secret: bool = False) -> Any:
    """A field with the value `make(text)`; a `ValueError` means that it must be `what`.

    Neither `repr` nor an error shows a secret.
    """
    return field(default=default, repr=not is_secret, metadata={"make": make, "what": what})


def _number(default: float, low: float, high: float, *, or_zero: bool = False) -> Any:
    def make(text: str) -> float:
        value = type(default)(text if text.isascii() else "")
        if not (low <= value <= high or (or_zero and value == 0)):
            raise ValueError(text)
        return value

    what = f"{'a whole number' if isinstance(default, int) else 'a number'} from {low} to {high}"
    return _setting(make, f"0, or {what}" if or_zero else what, default)


def _bytes(default: int, low: int, high: int) -> Any:
    def make(text: str) -> int:
        match = re.fullmatch(r"(\d{1,16})([KMGT]?)", text.strip().upper(), re.ASCII)
        value = int(match[1]) << 10 * " KMGT".index(match[2] or " ") if match else -1
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return _setting(make, f"bytes such as 1500000 or 512M, from {low} to {high}", default)


def _matching(pattern: str, make: Make = str) -> Make:
    """Returns a function that calls `make` with a text that has this pattern."""

    def matching(text: str) -> Any:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return make(text)

    return matching


def _each(make: Make) -> Make:
    """Returns a function that calls `make` with each of the texts that commas separate."""
    return lambda text: tuple(make(word.strip()) for word in text.split(",") if word.strip())


def _list(make: Make, what: str, default: tuple[Any, ...] = ()) -> Any:
    return _setting(_each(make), f"{what}, separated by commas", default)


def _token() -> Any:
    what = "8 or more printable ASCII characters without spaces"
    return _setting(_matching("[!-~]{8,}"), what, is_secret=True)


def _url() -> Any:
    make = _matching(r"https?://[^\s/]+(/\S*)?", lambda url: url.rstrip("/"))
    return _setting(make, "a URL such as https://s3.example.org")


def _switch(default: bool) -> Any:
    return _setting(_matching("on|off", lambda text: text == "on"), "on or off", default)


def _origins(text: str) -> Any:
    return ("*",) if text.strip() == "*" else _each(_matching(r"https?://[^/\s*]+"))(text)


def _folder(text: str) -> str:
    """Returns the absolute folder that a text means; `~` is the user's home."""
    folder = os.path.expanduser(text)
    if not os.path.isabs(folder):
        raise ValueError(text)
    return folder


def _prefix(text: str) -> str:
    """Returns the prefix that keys begin with: empty, or ending with `/`."""
    prefix = paths.parse(text.strip("/"))
    return f"{prefix}/" if prefix else ""


_FILLED, _NOT_EMPTY = r"(?s)[^\0]*[^\0\s][^\0]*", "text that is not empty"
_BUCKET, _HOST = r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", "[A-Za-z0-9_.-]+"
_ORIGINS = "origins such as https://example.org, separated by commas, or * alone"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked. Each field is the environment variable of the same name.

    Sizes are bytes or pixels, times are seconds. With `s3_bucket`, `root_path` is not used. With
    `worker_threads` 0 there is no index process here; with `scan_seconds` 0 it does not scan.
    """

    root_path: str = _setting(_matching(_FILLED, os.path.expanduser), _NOT_EMPTY, "./data")
    s3_bucket: str = _setting(_matching(_BUCKET), "the name of a bucket, without s3:// or a prefix")
    s3_prefix: str = _setting(_prefix, "segments joined by /, none of them empty, '.' or '..'")
    s3_endpoint: str = _url()
    aws_region: str = _setting(str.strip, "text")
    state_dir: str = _setting(_folder, "an absolute folder, such as ~/lenslet")
    host: str = _setting(_matching(_FILLED), _NOT_EMPTY, "127.0.0.1")
    port: int = _number(7070, 1, 65535)
    web_concurrency: int = _number(2, 1, 64)
    web_threads: int = _number(32, 1, 256)
    worker_threads: int = _number(0, 0, 64)
    thumb_long_edge: int = _number(256, 16, 4096)
    thumb_quality: int = _number(70, 1, 100)
    thumb_wait: float = _number(0.8, 0, 30)
    index_memory: int = _bytes(0, 64 * 1024**2, 2**50)
    decode_seconds: float = _number(40.0, 1, 3600)
    preview_bytes: int = _bytes(1024**3, 16 * 1024**2, 2**50)
    page: bool = _switch(True)
    img_wait: float = _number(15.0, 0, 60)
    page_size: int = _number(1000, 1, 100_000)
    ignore: tuple[str, ...] = _list(str, "globs")
    max_pixels: int = _number(150_000_000, 1, 2_000_000_000)
    max_file_bytes: int = _bytes(512 * 1024**2, 1, 2**40)
    scan_seconds: float = _number(30.0, 1, 86_400, or_zero=True)
    presign_seconds: int = _number(900, 0, 604_800)
    api_token: str = _token()
    read_token: str = _token()
    auth_header: str = _setting(_matching("[A-Za-z][A-Za-z0-9-]*"), "a header, such as Remote-User")
    trusted_proxies: tuple[IPNetwork, ...] = _list(
        ip_network, "IP addresses or networks", _LOOPBACK
    )
    allowed_hosts: tuple[str, ...] = _list(_matching(_HOST, str.lower), "host names without a port")
    cors_origins: tuple[str, ...] = _setting(_origins, _ORIGINS, ())
    accel_prefix: str = _setting(_matching(r"/[^\s?#]*/"), "a path that begins and ends with /")
    log_format: str = _setting(_matching("text|json"), "text or json", "text")
    access_log: bool = _switch(False)
    pointer_roots: tuple[str, ...] = _list(_matching("(?s)/.*"), "absolute folders")
    pointer_buckets: tuple[str, ...] = _list(_matching(_BUCKET), "names of buckets")
    jobs_queue_url: str = _url()
    jobs_urgent_queue_url: str = _url()
    xdg_cache_home: str = _setting(str, "a folder", "~/.cache")
    xdg_state_home: str = _setting(str, "a folder", "~/.local/state")

    @property
    def cache_dir(self) -> str:
        """Where this host keeps what can be made again."""
        return os.path.join(os.path.expanduser(self.xdg_cache_home), "lenslet")

    @property
    def state_home(self) -> str:
        """Where Lenslet's own files are if the root cannot be written."""
        return os.path.join(os.path.expanduser(self.xdg_state_home), "lenslet")

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets that images may be in: the root's, and those that pointers may lead to."""
        return tuple(filter(None, (self.s3_bucket, *self.pointer_buckets)))

    @property
    def is_guarded(self) -> bool:
        """True if not everyone who reaches the port has access."""
        return bool(self.api_token or self.read_token or self.auth_header)


def settings(variables: Mapping[str, str]) -> Settings:
    """Returns the settings; raises `SettingError`, with one line, for the first wrong one."""
    values = _defaults(variables)
    for each in fields(Settings):
        name = each.name.upper()
        try:
            if text := variables.get(name, ""):
                values[each.name] = each.metadata["make"](text)
        except ValueError as error:
            shown = f"={text!r}" if each.repr else ""
            raise SettingError(f"{name}{shown}: must be {each.metadata['what']}") from error
    return Settings(**values)


def _defaults(variables: Mapping[str, str]) -> dict[str, Any]:
    """Defaults that depend on the host and on where the root is.

    With a bucket, threads mostly wait for the network, so there are more of them. A scan costs
    requests, so scans are rarer.
    """
    cores, memory = os.cpu_count() or 1, max(_memory() // 4, 64 * 1024**2)
    if not variables.get("S3_BUCKET"):
        return {"worker_threads": cores, "index_memory": memory}
    scan_seconds = 3600.0 if variables.get("JOBS_QUEUE_URL") else 120.0
    threads = min(4 * cores, 64)
    return {"worker_threads": threads, "index_memory": memory, "scan_seconds": scan_seconds}


def _memory() -> int:
    """Returns the bytes of memory of this machine or, if that has less, of its cgroup."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        for line in FilePath("/proc/self/cgroup").read_text().splitlines():
            path = FilePath("/sys/fs/cgroup" + line.split(":", 2)[2])
            for folder in (path, *path.parents):
                with contextlib.suppress(OSError, ValueError):  # `max`: no limit
                    found.append(int((folder / "memory.max").read_text()))
    return min(found)


def names() -> list[str]:
    """Returns the names of all settings, as environment variables."""
    return [each.name.upper() for each in fields(Settings)]


def misspelt(variables: Iterable[str], found: Settings) -> list[str]:
    """Returns a sentence for each variable whose name is nearly that of a setting.

    Raises `SettingError` if everyone may have access because of it.
    """
    known = {"".join(sorted(name)): name for name in names()}  # letters are often swapped
    sentences = []
    for name in sorted(set(variables) - set(names())):
        letters = "".join(sorted(name.upper().removeprefix("LENSLET_")))
        for near in difflib.get_close_matches(letters, known, 1, _ALIKE):
            sentences.append(f"{name} is not a setting: do you mean {known[near]}?")
            if known[near] in ACCESS and not found.is_guarded:
                raise SettingError(
                    f"{sentences[-1]} Without that, everyone has access; or unset it."
                )
    return sentences


def read_env_file(file: str) -> dict[str, str]:
    """Returns the variables of a file of `NAME=value` lines, with `#` comments and quotes."""
    try:
        lines = FilePath(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{file!r} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise SettingError(f"{file!r} line {number}: must be NAME=value, with closed quotes")
        found[match[1]] = match[2] or match[3] or match[4] or ""
    return found


def merged(environ: Mapping[str, str], filed: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of the environment that are not empty, and others of a file.

    A folder that the environment names wins over the file's bucket, a bucket over its prefix.
    """
    here = {name: value for name, value in environ.items() if value}
    hidden = {"S3_BUCKET": ""} if "ROOT_PATH" in here else {}
    hidden |= {"S3_PREFIX": ""} if "S3_BUCKET" in here else {}
    return {**filed, **hidden, **here}
