"""The S3 service: one client a region, its errors in domain words, its requests counted.

boto3 costs 150 ms and 30 MB, so it is imported when the first request is made.
"""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from lenslet.config import Settings
from lenslet.errors import (
    Denied,
    EmptyObject,
    Invalid,
    LensletError,
    NotFound,
    Overtaken,
    StorageFull,
    StorageNonsense,
    StorageUnavailable,
    Unreachable,
    Unsupported,
    one_line,
)
from lenslet.storage.updating import Proofs

# What an operation needs in a policy, where that is not its own name.
_ACTIONS = {"ListObjectsV2": "s3:ListBucket", "HeadObject": "s3:GetObject"}
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_DENIED = frozenset(
    {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccessDeniedException"}
)
_TOO_LONG = frozenset({"KeyTooLongError", "InvalidObjectName", "InvalidURI"})
_OVERTAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_UNSUPPORTED = frozenset({"NotImplemented", "501"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_CREDENTIALS = {
    "InvalidAccessKeyId": "The store does not know the access key.",
    "SignatureDoesNotMatch": "The store does not accept the secret key.",
    "ExpiredToken": "The credentials for the store have expired.",
    "ExpiredTokenException": "The credentials for the store have expired.",
    "TokenRefreshRequired": "The credentials for the store have expired.",
    "InvalidToken": "The store does not accept the session token.",
    "InvalidClientTokenId": "The store does not know the access key.",
    "RequestTimeTooSkewed": "The clocks of this host and of the store differ too much.",
}
_SQS_HOST = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_UNAVAILABLE = {
    "AWS.SimpleQueueService.NonExistentQueue": "There is no such queue.",
    "QueueDoesNotExist": "There is no such queue.",
    "NoSuchBucket": "There is no such bucket.",
    "PermanentRedirect": "The bucket is in another region: set AWS_REGION.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set AWS_REGION.",
    "IllegalLocationConstraintException": "The bucket is in another region: set AWS_REGION.",
    "SlowDown": "The store asks to slow down.",
    "Throttling": "The store asks to slow down.",
    "ThrottlingException": "The store asks to slow down.",
    "RequestLimitExceeded": "The store asks to slow down.",
    "TooManyRequests": "The store asks to slow down.",
    "429": "The store asks to slow down.",
    "ServiceUnavailable": "The store cannot answer for now.",
    "503": "The store cannot answer for now.",
    "InternalError": "The store failed.",
    "500": "The store failed.",
    "RequestTimeout": "The store waited too long for the request.",
}

_SENDING = "sqs sending"  # while a client of ours waits for the answer
_READ_SECONDS = {"s3": 5, "sqs": 30, _SENDING: 3}  # a long poll takes 20
Count = Callable[[str], None]


class Store:
    """Requests to one S3 service, from any number of threads; `count` hears of each one sent."""

    def __init__(self, settings: Settings, count: Count = lambda operation: None) -> None:
        self._settings = settings
        self._count = count
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._silent: dict[str, Unreachable] = {}  # endpoints that did not answer last
        self._trying: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self.proofs = Proofs()

    @property
    def name(self) -> str:
        """What tells this service from others."""
        return self._settings.s3_endpoint or "s3:/"

    def client(self, region: str = "") -> Any:
        """The S3 client of a region, the settings' own where none is given."""
        region = region or self._settings.aws_region
        return self._client("s3", region, self._settings.s3_endpoint)

    def _client(self, service: str, region: str, endpoint: str) -> Any:
        key = service, region, endpoint
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key) or self._made(service, region, endpoint)
                self._clients[key] = client
        return client

    def _made(self, service: str, region: str, endpoint: str) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            max_pool_connections=self._settings.web_threads + self._settings.worker_threads,
            connect_timeout=2,
            read_timeout=_READ_SECONDS[service],
            retries={"mode": "adaptive", "total_max_attempts": 3},
            # A newer boto3 adds checksums that older services refuse; TLS and ETags stay.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            client: Any = boto3.session.Session().client(
                service.partition(" ")[0],
                region_name=region or ("us-east-1" if endpoint else None),
                endpoint_url=endpoint or None,
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise StorageUnavailable(f"The store cannot be used: {one_line(error)}") from error
        client.meta.events.register("before-send", self._sent)
        return client

    def _sent(self, event_name: str, **_: Any) -> None:
        self._count(event_name.rpartition(".")[2])

    def call(self, operation: str, region: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one operation, such as `get_object`.

        Raises `NotFound`, `Denied`, `Overtaken` when a condition does not hold, `Unsupported`,
        `StorageFull`, `StorageUnavailable` and `StorageNonsense`.
        """
        return self._answer(self.client(region), operation, parameters)

    def call_queue(self, operation: str, url: str, **parameters: Any) -> dict[str, Any]:
        """The answer to an operation on the SQS queue at a URL; raises what `call` raises."""
        host = urllib.parse.urlsplit(url)
        named = _SQS_HOST.fullmatch(host.hostname or "")
        region = named[1] if named else self._settings.aws_region
        service = "sqs" if operation == "receive_message" else _SENDING
        client = self._client(service, region, f"{host.scheme}://{host.netloc}")
        return self._answer(client, operation, {"QueueUrl": url, **parameters})

    def presigned(self, region: str, parameters: dict[str, Any], seconds: int) -> str:
        """A URL that gets an object for so long; nothing is asked of the service."""
        from botocore.exceptions import BotoCoreError

        try:
            url: str = self.client(region).generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=seconds
            )
        except BotoCoreError as error:
            raise self.unanswered(error) from error
        return url

    def _answer(self, client: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        with self._patience(client):
            try:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
            except ClientError as error:
                raise self._translated(error, parameters) from error
            except BotoCoreError as error:
                raise self.unanswered(error) from error
        return answer

    @contextlib.contextmanager
    def _patience(self, client: Any) -> Iterator[None]:
        """While an endpoint does not answer, one request at a time waits for it; others fail.

        Else one that accepts connections and says nothing would hold every thread. Another region,
        to which a pointer leads, is another endpoint.
        """
        endpoint = client.meta.endpoint_url
        silent, trying = self._silent.get(endpoint), self._trying[endpoint]
        if silent and not trying.acquire(blocking=False):
            raise StorageUnavailable(str(silent))
        try:
            yield
        except Unreachable as error:
            self._silent[endpoint] = error
            raise
        except LensletError:  # which is an answer
            self._silent.pop(endpoint, None)
            raise
        else:
            self._silent.pop(endpoint, None)
        finally:
            if silent:
                trying.release()

    def _translated(self, error: Any, parameters: dict[str, Any]) -> LensletError:
        """What the service said, in domain words; `NotModified` is an `Overtaken` with 304."""
        code = str(error.response["Error"].get("Code", ""))
        key = parameters.get("Key", parameters.get("Prefix", ""))
        where = parameters.get("Bucket", parameters.get("QueueUrl", ""))
        if code in _MISSING:
            return NotFound(f"There is no {key or '/'}.")
        if code == "304":
            return Overtaken("not modified")
        if code in _DENIED:
            service = "sqs" if "QueueUrl" in parameters else "s3"
            action = _ACTIONS.get(error.operation_name, f"{service}:{error.operation_name}")
            return Denied(f"The store does not allow {action} on {where}/{key}.")
        if code in _CREDENTIALS:
            self._forget_clients()
            return StorageUnavailable(_CREDENTIALS[code])
        if code in _OVERTAKEN:
            return Overtaken(f"Another writer of {key} was first.")
        if code in _UNSUPPORTED:
            return Unsupported("The store does not support what is needed here.")
        if code in _FULL:
            return StorageFull(f"{key}: the store has no space left.")
        if code == "InvalidRange":
            return EmptyObject(f"{key} has no such range.")
        if code in _TOO_LONG:
            if error.operation_name == "PutObject":
                return Invalid("path", "the name is too long for a file beside it")
            return NotFound(f"There is no {key}.")
        if code in _UNAVAILABLE:
            return StorageUnavailable(f"{_UNAVAILABLE[code]} ({where}, {code})")
        return StorageNonsense(f"The store answered {code or 'nothing'}: {one_line(error)}")

    def unanswered(self, error: Exception) -> LensletError:
        """What it means that there was no answer, or only a part of one."""
        from botocore import exceptions, parsers

        if isinstance(error, parsers.ResponseParserError):
            return StorageNonsense("The store answered what is not S3.")
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            self._forget_clients()
            return StorageUnavailable("No credentials for the store were found.")
        if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
            return Unreachable(f"The store cannot be reached ({type(error).__name__}).")
        return StorageUnavailable(f"The store cannot be used: {one_line(error)}")

    def _forget_clients(self) -> None:
        """Let the next request find new credentials."""
        with self._lock:
            self._clients.clear()
