"""The shape of the package: imports point down, third parties stay at home."""

from __future__ import annotations

import ast
import functools

import pytest
from conftest import ROOT

OUTER = ["archive", "gallery", "guests"]  # with `cluster`: each can be deleted
LAYERS = [
    "base",
    "storage",
    "images",
    "library",
    "search",
    "index",
    "cluster",
    "web",
    *OUTER,
    "run",
]
BASE = {"", "errors", "times", "paths", "config", "bounds"}
HOMES = {
    "PIL": {"images"},
    "gunicorn": {"run"},
    "falcon": {"web", *OUTER},
    "boto3": {"storage"},
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    package = ROOT / "lenslet"
    found = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
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


def layer(name: str) -> str:
    """The layer of a module, by its dotted name in the package."""
    return "base" if name in BASE else name.partition(".")[0].replace("__main__", "run")


def ours(name: str) -> set[str]:
    """The modules of the package that a module imports."""
    found = {each.removeprefix("lenslet.") for each in imported(modules()[name])}
    return (found & modules().keys()) - {name}


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer(name) for name in modules()} == set(LAYERS)


def test_imports_point_down() -> None:
    upwards = {
        (name, each)
        for name in modules().keys() - {""}  # the package's front door
        for each in ours(name)
        if LAYERS.index(layer(each)) > LAYERS.index(layer(name))
    }
    assert upwards == set()


def is_outer(name: str) -> bool:
    return layer(name) in (*OUTER, "cluster") or name.startswith("storage.s3")


def test_nothing_in_the_core_imports_what_hangs_on_it() -> None:
    """Not even inside a function; `run` puts the parts together."""
    core = {name for name in modules() if not is_outer(name) and layer(name) != "run"} - {""}
    assert {(name, each) for name in core for each in ours(name) if is_outer(each)} == set()


def test_no_module_imports_itself_through_others() -> None:
    """An `__init__` may import the modules of its folder."""
    left = {
        name: {each for each in ours(name) if not name.startswith(f"{each}.")} for name in modules()
    }
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize(("package", "homes"), HOMES.items())
def test_third_parties_are_imported_only_where_they_belong(package: str, homes: set[str]) -> None:
    users = {
        layer(name)
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
    assert readers == {"run", "run.cli", "images.decoders"}


def test_the_example_settings_are_the_settings_with_their_defaults(tmp_path) -> None:
    """`.env.example` names every setting, and as it stands it changes nothing."""
    from lenslet import config

    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = dict(
        line.removeprefix("#").split("=", 1)
        for line in lines
        if line.startswith("#") and "=" in line
    )
    assert set(shown) == set(config.names())
    file = tmp_path / "env"
    file.write_text("\n".join(f"{name}={value}" for name, value in shown.items()))
    assert config.settings(config.read_env_file(str(file))) == config.settings({})
