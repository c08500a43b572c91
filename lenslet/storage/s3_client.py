"""Requests to S3 and SQS: a boto3 client for each region, and domain errors.

boto3 takes 150 ms and 30 MB, so it is imported when the first request is made.
"""

import contextlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

from lenslet import errors
from lenslet.config import Settings
from lenslet.errors import LensletError, NotFound, StorageNonsense, StorageUnavailable, one_line


class SameObject(Exception):
    """The object is still the version that `IfNoneMatch` names (304)."""


# Policy actions whose name differs from the operation's.
_ACTIONS = {"ListObjectsV2": "s3:ListBucket", "HeadObject": "s3:GetObject"}
# What these codes mean, whatever their status. Most can be put right by an operator.
_REASONS = {
    "InvalidAccessKeyId": "The store does not know the access key.",
    "InvalidClientTokenId": "The store does not know the access key.",
    "SignatureDoesNotMatch": "The store does not accept the secret key.",
    "InvalidToken": "The store does not accept the session token.",
    "ExpiredToken": "The credentials for the store have expired.",
    "ExpiredTokenException": "The credentials for the store have expired.",
    "TokenRefreshRequired": "The credentials for the store have expired.",
    "RequestTimeTooSkewed": "The clocks of this host and of the store differ too much.",
    "SlowDown": "The store asks to slow down.",
    "Throttling": "The store asks to slow down.",
    "ThrottlingException": "The store asks to slow down.",
    "RequestLimitExceeded": "The store asks to slow down.",
    "NoSuchBucket": "There is no such bucket.",
    "PermanentRedirect": "The bucket is in another region: set AWS_REGION.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set AWS_REGION.",
    "IllegalLocationConstraintException": "The bucket is in another region: set AWS_REGION.",
}
# What the messages of Amazon S3 say of an object whose key Lenslet lacks.
_ENCRYPTED = re.compile("kms|Server Side Encryption", re.IGNORECASE)
_TOO_LONG = frozenset({"KeyTooLongError", "InvalidObjectName", "InvalidURI"})
_SQS_HOST = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SENDING = "sqs sending"  # with short timeouts: a client of Lenslet waits for the answer
_READ_SECONDS = {"s3": 4, "sqs": 12, _SENDING: 2}  # a long poll takes 10


class Client:
    """Sends requests from any number of threads.

    If it is `patient`, as in the index process, a throttled request waits (botocore's adaptive
    retries). If not, it fails soon, and three quarters of the threads may wait for a store that
    says nothing; the others answer what needs no store.
    """

    def __init__(self, settings: Settings, *, patient: bool = False) -> None:
        self._settings = settings
        self.name = settings.s3_endpoint or "s3:/"  # of the service
        self._patient = patient
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str, str], Any] = {}
        self.writes = 0  # how many succeeded
        self._threads = settings.web_threads + settings.worker_threads
        places = self._threads if patient else max(1, 3 * settings.web_threads // 4)
        self._places = threading.BoundedSemaphore(places)
        self.conditions: dict[str, bool] = {}  # whether a bucket honours conditional writes

    def call(self, operation: str, region: str, **parameters: Any) -> dict[str, Any]:
        """Returns the answer to one S3 operation, such as `get_object`.

        Raises domain errors, such as `NotFound`, and `SameObject`; `Overtaken` if any other
        condition does not hold.
        """
        return self._answer(self._s3(region), operation, parameters)

    def call_queue(self, operation: str, url: str, **parameters: Any) -> dict[str, Any]:
        """Returns the answer to an operation on the SQS queue at a URL; raises as `call` does."""
        host = urllib.parse.urlsplit(url)
        named = _SQS_HOST.fullmatch(host.hostname or "")
        region = named[1] if named else self._settings.aws_region
        service = _SENDING if operation.startswith("send") else "sqs"
        client = self._client(service, region, f"{host.scheme}://{host.netloc}")
        return self._answer(client, operation, {"QueueUrl": url, **parameters})

    def presigned(self, region: str, parameters: dict[str, Any], seconds: int) -> str:
        """Returns a URL that gets an object for `seconds` seconds. Sends no request."""
        with self.domain_errors():
            client, how = self._s3(region), {"Params": parameters, "ExpiresIn": seconds}
            return str(client.generate_presigned_url("get_object", **how))

    def _s3(self, region: str) -> Any:
        return self._client("s3", region or self._settings.aws_region, self._settings.s3_endpoint)

    def _client(self, service: str, region: str, endpoint: str) -> Any:
        key = service, region, endpoint
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = self._make(*key)
            return client

    def _make(self, service: str, region: str, endpoint: str) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if endpoint else "auto"},
            max_pool_connections=self._threads,
            connect_timeout=2,
            read_timeout=_READ_SECONDS[service],
            retries={
                "mode": "adaptive" if self._patient else "standard",
                # Those who use a queue try again themselves.
                "total_max_attempts": 1 if service != "s3" else 3 if self._patient else 2,
            },
            # Older services refuse the checksums of a newer boto3; TLS still protects the data.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        with self.domain_errors():
            client: Any = boto3.session.Session().client(
                service.partition(" ")[0],
                region_name=region or ("us-east-1" if endpoint else None),
                endpoint_url=endpoint or None,
                config=config,
            )
        return client

    def _answer(self, client: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if not self._places.acquire(blocking=self._patient):
            raise StorageUnavailable("Too many requests wait for the store right now.")
        try:
            with self.domain_errors(**parameters):
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
        finally:
            self._places.release()
        self.writes += operation in ("put_object", "delete_object")
        return answer

    @contextlib.contextmanager
    def domain_errors(self, **parameters: Any) -> Iterator[None]:
        """Turns the errors of boto3 into domain errors about a request's `parameters`."""
        from botocore import exceptions, parsers

        try:
            yield
        except exceptions.ClientError as error:
            raise self._translated(error, parameters) from error
        except parsers.ResponseParserError as error:
            raise StorageNonsense("The store sent an answer that is not valid S3.") from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            name = type(error).__name__
            raise StorageUnavailable(f"The store cannot be reached ({name}).") from error
        except (exceptions.BotoCoreError, ValueError) as error:  # such as a lack of credentials
            self._clients.clear()
            raise StorageUnavailable(f"The store cannot be used: {one_line(error)}") from error

    def _translated(self, error: Any, parameters: dict[str, Any]) -> LensletError | SameObject:
        """Returns the domain error for what the store answered, by its code, then its status."""
        code = str(error.response["Error"].get("Code", ""))
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        key = parameters.get("Key", parameters.get("Prefix", ""))
        where = parameters.get("Bucket", parameters.get("QueueUrl", ""))
        if code in _REASONS:
            if status == 403 or "Token" in code:
                self._clients.clear()  # so that a later request looks for new credentials
            return StorageUnavailable(f"{_REASONS[code]} ({where}, {code})")
        if code in _TOO_LONG:
            if error.operation_name == "PutObject":
                return errors.Invalid("path", "the name is too long for a file beside it")
            return NotFound(f"There is no {key}.")
        if code == "QuotaExceeded" or status == 507:
            return errors.StorageFull(f"{key}: the store has no space left.")
        message = error.response["Error"].get("Message", "")
        if code == "InvalidObjectState":
            kind = error.response["Error"].get("StorageClass", "GLACIER")
            return errors.Archived(
                f"It is archived (storage class {kind}): restore it, then index it again."
            )
        if code.startswith("KMS.") or (status in (400, 403) and _ENCRYPTED.search(message)):
            advice = "allow kms:Decrypt and kms:GenerateDataKey; SSE-C cannot be read"
            return errors.Denied(f"{where}/{key} is encrypted ({code}): {advice}.")
        match status:
            case 404:
                return NotFound(f"There is no {key or '/'}.")
            case 403:
                service = "sqs" if "QueueUrl" in parameters else "s3"
                action = _ACTIONS.get(error.operation_name, f"{service}:{error.operation_name}")
                return errors.Denied(f"The store does not allow {action} on {where}/{key}.")
            case 304:
                return SameObject()
            case 409 | 412 | 416:  # the last: it is shorter now
                return errors.Overtaken(f"Another writer of {key} was first.")
            case 501:
                return errors.Unsupported("The store does not support this request.")
            case 429 | 500 | 503:
                return StorageUnavailable(f"The store cannot answer right now. ({where}, {code})")
        return StorageNonsense(f"The store answered {code or 'nothing'}: {one_line(error)}")
