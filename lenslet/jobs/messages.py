"""What stands in a queue's messages: jobs of Lenslet, and the events that S3 sends of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_plus

import orjson

from lenslet import paths
from lenslet.errors import BadRequest, Invalid
from lenslet.jobs import Job, Kind
from lenslet.paths import SIDECARS, THUMBNAIL, Path

IMAGES_AT_ONCE = 25  # of a folder, in one message


def encode(job: Job) -> bytes:
    """One job as a message."""
    flags = {name: True for name in ("force", "deep") if getattr(job, name)}
    return orjson.dumps({"lenslet": job.kind.name, "paths": [job.path], **flags})


def encode_images(images: list[Path], force: bool = False) -> Iterator[bytes]:
    """Images to be read, as messages of some each."""
    flags = {"force": True} if force else {}
    for first in range(0, len(images), IMAGES_AT_ONCE):
        some = images[first : first + IMAGES_AT_ONCE]
        yield orjson.dumps({"lenslet": Kind.KEY.name, "paths": some, **flags})


def decode(body: str, bucket: str, prefix: str) -> list[Job]:
    """The jobs that a message asks for; none for an event of no interest.

    `Invalid` when it is nothing that is understood: such a message is left to the dead letters.
    """
    try:
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise Invalid("message", "not a JSON object")
        if "lenslet" in found:
            force, deep = found.get("force") is True, found.get("deep") is True
            kind = Kind[found["lenslet"]]
            return [Job(kind, paths.parse(path), force, deep) for path in found["paths"]]
        return list(_of_events(_events(found), bucket, prefix))
    except (orjson.JSONDecodeError, BadRequest, KeyError, TypeError, AttributeError) as error:
        raise Invalid("message", f"not understood ({type(error).__name__})") from error


def _events(found: dict[str, Any]) -> Iterable[tuple[str, str, str, str]]:
    """Name, bucket, key and ETag of each event: as S3 sends them, also through SNS or EventBridge.

    The keys of S3's own notifications are encoded as in a form (Amazon S3, "Event message
    structure"); those of EventBridge are not.
    """
    if found.get("Type") == "Notification" and isinstance(found.get("Message"), str):
        yield from _events(orjson.loads(found["Message"]))
    elif "detail-type" in found:
        detail = found["detail"]
        item = detail["object"]
        yield found["detail-type"], detail["bucket"]["name"], item["key"], item.get("etag", "")
    elif found.get("Event") != "s3:TestEvent":
        for record in found["Records"]:
            item = record["s3"]["object"]
            name = record["s3"]["bucket"]["name"]
            key = unquote_plus(item["key"])
            yield record["eventName"], name, key, item.get("eTag", "")


def _of_events(
    events: Iterable[tuple[str, str, str, str]], bucket: str, prefix: str
) -> Iterator[Job]:
    """Jobs for what may have changed; what Lenslet itself wrote is passed over."""
    for event, name, key, etag in events:
        if name != bucket or not key.startswith(prefix):
            continue
        try:
            path = paths.parse(key[len(prefix) :])
        except BadRequest:
            continue
        removed = "Removed" in event or "Deleted" in event
        image = Path(path.removesuffix(THUMBNAIL))
        if path.endswith(THUMBNAIL) and removed and paths.is_item(image.name):
            yield Job(Kind.KEY, image, force=True)
        elif paths.is_item(path.name):
            yield Job(Kind.KEY, path, rev="" if removed else etag.strip('"'))
        elif path.name in paths.ABOUT_FOLDERS or any(map(paths.is_item, _images_of(path.name))):
            yield Job(Kind.KEY, path)


def _images_of(name: str) -> list[str]:
    return [name.removesuffix(suffix) for suffix in SIDECARS if name.endswith(suffix)]
