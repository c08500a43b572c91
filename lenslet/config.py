"""Frozen `Settings` from the environment and a `.env` file; reads nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path as FilePath
from typing import Any

from lenslet.errors import SettingError

_LATER = (
    "S3_BUCKET",
    "S3_PREFIX",
    "S3_ENDPOINT",
    "API_TOKEN",
    "READ_TOKEN",
    "CORS_ORIGINS",
    "ACCEL_PREFIX",
    "PRESIGN_SECONDS",
    "POINTER_BUCKETS",
    "LOG_FORMAT",
    "PAGE",
    "JOBS_QUEUE_URL",
    "JOBS_URGENT_QUEUE_URL",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked; each field is the environment variable of its name in capitals.

    Sizes are bytes or pixels, times are seconds. `cache_dir` follows `XDG_CACHE_HOME`.
    """

    root_path: str = "./data"
    state_dir: str = ""
    host: str = "127.0.0.1"
    port: int = 7070
    web_concurrency: int = 2
    web_threads: int = 8
    worker_threads: int = 0
    thumb_long_edge: int = 256
    thumb_quality: int = 70
    thumb_wait: float = 0.8
    page_size: int = 5000
    ignore: tuple[str, ...] = ()
    max_pixels: int = 150_000_000
    max_file_bytes: int = 512 * 1024 * 1024
    scan_seconds: float = 30.0
    pointer_roots: tuple[str, ...] = ()
    cache_dir: str = "~/.cache/lenslet"


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], Any]:
    def check(text: str) -> int | float:
        try:
            value = kind(text if text.isascii() else "")
        except ValueError:
            value = kind(high + 1)
        if not low <= value <= high:
            raise ValueError(f"{'a whole number' if kind is int else 'a number'} {low}–{high}")
        return value

    return check


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _absolute_folders(text: str) -> tuple[str, ...]:
    folders = _words(text)
    if not all(map(os.path.isabs, folders)):
        raise ValueError("a comma list of absolute folders")
    return folders


def _filled(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("a value that is not empty")
    return text


_CHECKS: dict[str, Callable[[str], Any]] = {
    "root_path": _filled,
    "state_dir": str,
    "host": _filled,
    "port": _number(int, 1, 65535),
    "web_concurrency": _number(int, 1, 64),
    "web_threads": _number(int, 1, 256),
    "worker_threads": _number(int, 1, 64),
    "thumb_long_edge": _number(int, 16, 4096),
    "thumb_quality": _number(int, 1, 100),
    "thumb_wait": _number(float, 0, 30),
    "page_size": _number(int, 1, 100_000),
    "ignore": _words,
    "max_pixels": _number(int, 1, 2_000_000_000),
    "max_file_bytes": _number(int, 1, 2**40),
    "scan_seconds": _number(float, 1, 86_400),
    "pointer_roots": _absolute_folders,
}


def settings(environ: Mapping[str, str]) -> Settings:
    """Settings from variables; `SettingError`, one line, for the first that cannot be used."""
    for name in _LATER:
        if environ.get(name):
            raise SettingError(f"{name} is set, and this version of Lenslet does not know it yet")
    values: dict[str, Any] = {"worker_threads": os.cpu_count() or 1}
    for field, check in _CHECKS.items():
        text = environ.get(field.upper(), "")
        if not text:
            continue
        try:
            values[field] = check(text)
        except ValueError as error:
            raise SettingError(
                f"{field.upper()}={text!r} cannot be used: it takes {error}"
            ) from error
    cache = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or "~", ".cache")
    values["cache_dir"] = os.path.join(os.path.expanduser(cache), "lenslet")
    return Settings(**values)


def load(environ: Mapping[str, str], folder: str = ".") -> Settings:
    """Settings from the environment, and from `folder`/.env for what it leaves unset."""
    file = FilePath(folder, ".env")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f".env cannot be read: {error}") from error
    return settings({**dotenv(text), **{name: value for name, value in environ.items() if value}})


def dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` file: `NAME=value` lines, `#` comments, optional quotes."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or "\0" in value:
            raise SettingError(f".env line {number} cannot be used: it takes NAME=value")
        if value[:1] in ('"', "'") and value.endswith(value[0]) and len(value) > 1:
            value = value[1:-1]
        else:
            value = value.partition(" #")[0].rstrip()
        found[name] = value
    return found


def names() -> list[str]:
    """The settings an operator can set, as environment variables."""
    return [field.name.upper() for field in fields(Settings) if field.name in _CHECKS]
