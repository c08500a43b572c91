"""The shape of the package: imports point down, third parties stay at home."""

from __future__ import annotations

import ast
import configparser

import pytest
from conftest import ROOT

ORDER = [
    "errors", "times", "memory", "paths", "config", "storage.tree", "storage.opening", "storage.replacing", "storage.documents", "storage.local", "storage.updating", "storage.store", "storage.download", "storage.s3", "storage",
    "webp", "images", "sidecar", "manifest", "places", "pointers", "comparison", "thumbnail", "folding", "rollup", "search", "jobs", "jobs.messages", "jobs.sqs", "board", "health",
    "mount", "sight", "looker", "known", "books", "probe", "renderer", "reading", "keys", "folders", "indexer", "conditional", "resources.common", "resources.file",
    "resources.folders", "resources.health", "resources.item", "resources.search", "resources.thumb",
    "resources", "app", "processes", "serving", "demo", "cli",
]  # fmt: skip
HOMES = {
    "PIL": {"images", "demo"},
    "gunicorn": {"serving"},
    "falcon": {"app", "resources"},
    "boto3": {"storage", "jobs"},
}


def modules() -> dict[str, ast.Module]:
    package = ROOT / "lenslet"
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = ast.parse(file.read_text())
    return found


def imported(module: ast.Module) -> set[str]:
    """What a module imports, as dotted names."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(modules()) == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down(name: str) -> None:
    ours = {each.removeprefix("lenslet.") for each in imported(modules()[name])} & set(ORDER)
    above = set(ORDER[ORDER.index(name) :]) - {name}
    below_itself = {each for each in above if each.startswith(f"{name}.")}
    assert not ours & (above - below_itself)


@pytest.mark.parametrize(("package", "homes"), HOMES.items())
def test_third_parties_are_imported_only_where_they_belong(package: str, homes: set[str]) -> None:
    users = {
        name.partition(".")[0]
        for name, module in modules().items()
        if any(each.partition(".")[0] == package for each in imported(module))
    }
    assert users <= homes


def test_every_module_says_what_it_is() -> None:
    for name, module in modules().items():
        assert ast.get_docstring(module), name


def test_only_the_entry_points_and_what_starts_a_process_read_the_environment() -> None:
    readers = {
        name
        for name, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers == {"processes", "cli", "probe"}


def test_the_example_settings_are_the_settings_with_their_defaults() -> None:
    """`.env.example` names every setting, and as it stands it changes nothing."""
    from lenslet import config

    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(
        line.removeprefix("#").split("=", 1)
        for line in lines
        if line.startswith("#") and "=" in line
    )
    assert set(shown) == {*config.names(), "XDG_CACHE_HOME"}
    text = "\n".join(f"{name}={value}" for name, value in shown.items() if name != "XDG_CACHE_HOME")
    assert config.settings({**config.dotenv(text), "HOME": "/h"}) == config.settings({"HOME": "/h"})


def test_there_are_six_dependencies_and_no_more() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = {line.partition(">")[0] for line in setup["options"]["install_requires"].split()}
    assert needed == {"falcon", "gunicorn", "pillow", "boto3", "orjson", "blake3"}
