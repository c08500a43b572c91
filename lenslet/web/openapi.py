"""Makes the OpenAPI document from the table `api.toml` of each package that has routes.

`web/api.toml` says how such a table is written.
"""

import functools
import tomllib
from collections.abc import Container, Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from lenslet.library.item import KEYS
from lenslet.search import format as search
from lenslet.web.answers import JSON

Json = dict[str, Any]

_TYPES: Json = {
    **{name: {"type": name} for name in ("string", "boolean", "number", "object")},
    "integer": {"type": "integer", "minimum": 0},
    "binary": {"type": "string", "format": "binary"},
    "nothing": False,
}
_KINDS = {str: "string", bool: "boolean", int: "integer", list: "string[]"}


@functools.cache
def document(packages: tuple[str, ...]) -> Json:
    """Returns the document of the routes of these packages.

    The table of a later one may change what an earlier one says of a route.
    """
    table: Json = {}
    for package in packages:
        text = files(package).joinpath("api.toml").read_text()
        for name, entry in tomllib.loads(text).items():
            table[name] = table.get(name, {}) | entry
    paths: Json = {}
    for name, entry in table.items():
        method, _, route = name.partition(" ")
        if route:
            paths.setdefault(route, {})[method.lower()] = _operation(entry, table)
    needed = [name for name, key in KEYS.items() if key.needed]
    items = {
        "Item": _item(KEYS, needed, table["item"]),
        "FoundItem": _item(search.COPIED, search.ROLLUP_KEYS, table["item"]),
    }
    schemas = {name: _schema(shape) for name, shape in (table["schemas"] | items).items()}
    components = {
        "schemas": table["types"] | schemas,
        "parameters": table["parameters"],
        "responses": {status: _answer(status, each) for status, each in table["answers"].items()},
        "securitySchemes": table["securitySchemes"],
    }
    return {**table["document"], "paths": paths, "components": components}


def _item(names: Iterable[str], needed: Container[str], about: Json) -> Json:
    """Returns the shape of an item with these keys; `about` has their descriptions."""
    kinds = {name: f"{_KINDS[KEYS[name].kind]}: {about.get(name, '')}" for name in names}
    return {name if name in needed else f"{name}?": kind for name, kind in kinds.items()}


def _operation(entry: Json, table: Json) -> Json:
    """Returns the description of a route and method, from its entry in the table."""
    is_public = entry.get("public", False)
    group, _, name = entry["id"].partition(".")
    shared = [*entry.get("answers", ()), *([] if is_public else table["common"]["answers"])]
    own = {status: _answer(status, shape) for status, shape in entry.items() if status.isdigit()}
    operation = {
        "operationId": name,
        "tags": [group],
        "summary": entry["summary"],
        "parameters": [_ref("parameters", each) for each in entry.get("parameters", ())],
        "responses": {f"{status}": _ref("responses", status) for status in sorted(shared)} | own,
    }
    if "body" in entry:
        content = _content(entry["body"])
        content[JSON]["example"] = entry["example"]
        operation["requestBody"] = {"required": True, "content": content}
    return operation | ({"security": []} if is_public else {})


def _answer(status: str, shape: Any) -> Json:
    text = ""
    if isinstance(shape, str):
        shape, _, text = shape.partition(": ")
    return {"description": text or HTTPStatus(int(status)).phrase, "content": _content(shape)}


def _content(shape: Any) -> Json:
    """Returns the schema of a body or an answer, for each of its media types."""
    is_json = isinstance(shape, str) or any("/" not in key for key in shape)
    shapes = {JSON: shape} if is_json else shape
    return {media_type: {"schema": _schema(each)} for media_type, each in shapes.items()}


def _schema(shape: Any) -> Any:
    """Returns the JSON Schema of a shape."""
    if isinstance(shape, dict):
        return _object(shape)
    if isinstance(shape, list):
        return {"enum": shape}
    kind, _, text = shape.partition(": ")
    name = kind.removesuffix("[]")
    schema = _TYPES.get(name, _ref("schemas", name))
    if kind != name:
        schema = {"type": "array", "items": schema}
    return schema | {"description": text} if text else schema


def _object(shape: Json) -> Json:
    schemas = {key: _schema(each) for key, each in shape.items()}
    others = schemas.pop("*", True)
    return {
        "type": "object",
        "properties": {key.removesuffix("?"): each for key, each in schemas.items()},
        "required": [key for key in schemas if not key.endswith("?")],
        "additionalProperties": others,
    }


def _ref(kind: str, name: object) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
