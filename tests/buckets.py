"""A bucket on a real S3 server, with the few methods of `pathlib.Path` that tests use."""

from __future__ import annotations

import json
import pathlib
import secrets
import subprocess
import sys
import types
import urllib.request
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from lenslet import config
from lenslet.config import Settings


class Service:
    """An S3 server that runs already, and the keys to it."""

    def __init__(self, endpoint: str, key: str, secret: str, process: Any = None) -> None:
        self.endpoint = endpoint
        self.environ = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        self._process = process
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=50),
        )

    def control(self, what: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.endpoint}/test/{what}", data)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def fault(self, method: str, part: str, status: int, code: str, times: int = 1000) -> None:
        """Make requests whose URL holds `part` fail, so many times."""
        self.control("fault", [method, part, status, code, times])

    def age(self, path: BucketPath, seconds: float) -> None:
        """Make an object so much older."""
        self.control("age", [path.bucket, path.key, seconds])

    def counts(self) -> dict[str, int]:
        """Requests by method since the last reset; a listing is a LIST."""
        found: dict[str, int] = self.control("counts")
        return found

    def gets(self, suffix: str) -> dict[str, int]:
        """How often each object whose key ends so was read since the last reset."""
        paths: dict[str, int] = self.control("paths")
        wanted = (path for path in paths if path.startswith("GET /") and path.endswith(suffix))
        return {path: paths[path] for path in wanted}

    def reset(self) -> None:
        self.control("reset", {})

    def settings(self, bucket: str, **more: str) -> Settings:
        environ = {"S3_BUCKET": bucket, "S3_ENDPOINT": self.endpoint, "AWS_REGION": "us-east-1"}
        return config.settings({**environ, **more})

    def bucket(self) -> BucketPath:
        """A new bucket, which stays."""
        name = f"test-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        return BucketPath(self, name)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


def start_moto(port: int) -> Service:
    """moto, made to behave, in a process of its own."""
    server = pathlib.Path(__file__).parent / "s3server.py"
    process = subprocess.Popen([sys.executable, str(server), str(port)])
    return Service(f"http://127.0.0.1:{port}", "key", "secret", process)


class BucketPath:
    """A key of a bucket, or what its folders would be."""

    def __init__(self, service: Service, bucket: str, key: str = "") -> None:
        self.service = service
        self.bucket = bucket
        self.key = key

    def __truediv__(self, name: str) -> BucketPath:
        return BucketPath(self.service, self.bucket, f"{self.key}/{name}".lstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> BucketPath:
        return BucketPath(self.service, self.bucket, self.key.rpartition("/")[0])

    def mkdir(self, **_: bool) -> None:
        """There are no folders to be made."""

    def write_bytes(self, data: bytes, **more: Any) -> None:
        self.service.client.put_object(Bucket=self.bucket, Key=self.key, Body=data, **more)

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def get(self) -> Any:
        return self.service.client.get_object(Bucket=self.bucket, Key=self.key)

    def read_bytes(self) -> bytes:
        with self.get()["Body"] as body:
            data: bytes = body.read()
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def exists(self) -> bool:
        """True unless it is missing, or the empty object that a removed sidecar leaves."""
        try:
            answer = self.get()
        except ClientError:
            return False
        answer["Body"].close()
        return bool(answer["Metadata"].get("rev") != "removed")

    def stat(self) -> types.SimpleNamespace:
        """Its time, in nanoseconds."""
        seconds = int(self.get()["LastModified"].timestamp())
        return types.SimpleNamespace(st_mtime_ns=seconds * 10**9)

    def unlink(self) -> None:
        self.service.client.delete_object(Bucket=self.bucket, Key=self.key)

    def all_keys(self) -> list[str]:
        """Every key of the bucket below this one."""
        pages = self.service.client.get_paginator("list_objects_v2")
        prefix = f"{self.key}/" if self.key else ""
        return [
            entry["Key"]
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix)
            for entry in page.get("Contents", ())
        ]

    def tree(self) -> dict[str, bytes]:
        """Every object below this key and what is in it."""
        start = len(f"{self.key}/") if self.key else 0
        root = BucketPath(self.service, self.bucket)
        return {key[start:]: (root / key).read_bytes() for key in self.all_keys()}


class Layered:
    """A root that is never written, below the `STATE_DIR` that everything is kept in."""

    def __init__(self, below: pathlib.Path | BucketPath, above: pathlib.Path) -> None:
        self.below = below
        self.above = above

    def __truediv__(self, name: str) -> Layered:
        return Layered(self.below / name, self.above / name)

    def __str__(self) -> str:
        return str(self.below)

    @property
    def name(self) -> str:
        return self.below.name

    @property
    def parent(self) -> Layered:
        return Layered(self.below.parent, self.above.parent)

    @property
    def _there(self) -> Any:
        """The layer that the file is in; the root where it is in none."""
        return self.above if self.above.exists() else self.below

    def mkdir(self, **how: bool) -> None:
        self.below.mkdir(**how)

    def exists(self) -> bool:
        return self.above.exists() or self.below.exists()

    def write_bytes(self, data: bytes) -> None:
        self._there.write_bytes(data)

    def read_bytes(self) -> bytes:
        data: bytes = self._there.read_bytes()
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        text: str = self._there.read_text(encoding=encoding)
        return text

    def stat(self) -> Any:
        return self._there.stat()

    def unlink(self) -> None:
        self._there.unlink()
