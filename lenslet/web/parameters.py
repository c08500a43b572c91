"""Parses the parameters and bodies of requests."""

from urllib.parse import unquote_to_bytes

import falcon

from lenslet import errors, paths
from lenslet.bounds import BODY_BYTES
from lenslet.errors import BadRequest, Invalid
from lenslet.library import sidecar
from lenslet.paths import Path


def path_param(req: falcon.Request) -> Path:
    """Parses `?path=`, the root if it is absent."""
    return parse_path(req, req.get_param("path", default=""))


def image_param(req: falcon.Request) -> Path:
    """Parses `?path=` of one image; `BadRequest` if it is empty."""
    return parse_image(req, req.get_param("path", default=""))


def parse_image(req: falcon.Request, text: str, parameter: str = "path") -> Path:
    """Parses the path of an image; `BadRequest` if it is empty."""
    path = parse_path(req, text, parameter)
    if not path:
        raise BadRequest(parameter, "must be the path of an image")
    return path


def parse_path(req: falcon.Request, text: str, parameter: str = "path") -> Path:
    """Parses a path, and finds in which form of Unicode it is written: see `Locator.written`."""
    path, written = paths.parse(text, parameter), req.context.written
    return path if path.isascii() else Path(written(path))


def choice_param(req: falcon.Request, name: str, allowed: tuple[str, ...]) -> str:
    """Parses a parameter with a few allowed values; the first is the default."""
    found = req.get_param(name, default=allowed[0])
    if found not in allowed:
        raise BadRequest(name, "must be " + " or ".join(filter(None, allowed)))
    return found


def read_json(req: falcon.Request, most: int = BODY_BYTES) -> object:
    """Reads the request's JSON; `TooLarge` over `most` bytes, `BadRequest` if it is not JSON."""
    return _loads(_read_body(req, most))


def read_json_or_form(req: falcon.Request, field: str) -> object:
    """Reads JSON, or a form whose one field holds the JSON value of this key.

    Only a form makes a browser save the answer to a POST. The media type cannot decide: programs
    such as curl send JSON as a form.
    """
    raw, start = _read_body(req, BODY_BYTES), f"{field}=".encode()
    if not raw.startswith(start):
        return _loads(raw)
    return {field: _loads(unquote_to_bytes(raw.removeprefix(start).replace(b"+", b" ")))}


def strings(body: object, name: str) -> list[str]:
    """Returns a list of strings in a JSON object, empty if it is absent."""
    if not isinstance(body, dict):
        raise Invalid("body", "must be a JSON object")
    found = body.get(name, [])
    if not (isinstance(found, list) and all(isinstance(each, str) for each in found)):
        raise Invalid(name, "must be a list of strings")
    return found


def _read_body(req: falcon.Request, most: int) -> bytes:
    chunked = req.env.get("wsgi.input_terminated")  # such a stream ends with the body
    try:
        raw = (req.stream if chunked else req.bounded_stream).read(most + 1)
    except Exception as error:  # every server has its own errors for a broken body
        raise BadRequest("body", "malformed, or not sent to its end") from error
    if len(raw) > most:
        raise errors.TooLarge(f"The body has more than {most} bytes.")
    if len(raw) < (req.content_length or 0):
        raise BadRequest("body", "not sent to its end")
    return bytes(raw)


def _loads(raw: bytes) -> object:
    try:
        found: object = sidecar.loads(raw)
    except ValueError as error:
        raise BadRequest("body", f"not JSON: {error}") from error
    return found
