"""What every AWS adapter shares: errors classified as data, answers checked for damage, clients that try once.

`classify_aws` needs no botocore to import: it knows botocore's classes by name. The rows below cover the operations
that the adapters use; each says why. A code that no row names is told by its HTTP status: 5xx is transient, 4xx is
permanent.
"""

from __future__ import annotations

import importlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from resilient_faces.errors import MissingExtraError, ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

_NO, _MAYBE = Executed.no, Executed.unknown


class DamagedAnswerError(ResilienceError):
    """The service answered 200, but with something that is no answer of this operation.

    botocore turns such a body into an empty result without an error: a truncated GetItem looks like "not found".

    Attributes:
        operation: Such as `dynamodb.GetItem`.
        reason: What is wrong with the answer, without any of its content.
    """

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} answered 200 without an answer: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """One error code: its kind, whether the call was carried out, and why that is so."""

    kind: Kind
    executed: Executed
    why: str


_REFUSED: Final = "refused before it was carried out"

# Codes that mean the same for every service here.
SHARED: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "ThrottlingException": Row(Kind.throttled, _NO, _REFUSED),
        "Throttling": Row(Kind.throttled, _NO, _REFUSED),
        "ThrottledException": Row(Kind.throttled, _NO, _REFUSED),
        "TooManyRequestsException": Row(Kind.throttled, _NO, _REFUSED),
        "RequestLimitExceeded": Row(Kind.throttled, _NO, _REFUSED),
        "RequestThrottled": Row(Kind.throttled, _NO, _REFUSED),
        "BandwidthLimitExceeded": Row(Kind.throttled, _NO, _REFUSED),
        "PriorRequestNotComplete": Row(Kind.throttled, _NO, _REFUSED),
        "ProvisionedThroughputExceededException": Row(
            Kind.throttled, _NO, "quota of calls a second; slow all callers down"
        ),
        "SlowDown": Row(Kind.throttled, _NO, "S3's own word for a throttle"),
        "InternalServerError": Row(Kind.transient, _MAYBE, "the service failed; the work may be done"),
        "InternalServerErrorException": Row(Kind.transient, _MAYBE, "older name of the same"),
        "InternalError": Row(Kind.transient, _MAYBE, "S3's name of the same"),
        "InternalFailure": Row(Kind.transient, _MAYBE, "the service failed; the work may be done"),
        "ServiceUnavailable": Row(Kind.transient, _MAYBE, "a gateway's answer; the work may be done"),
        "RequestTimeout": Row(Kind.timeout, _NO, "the client was too slow in sending"),
        "AccessDeniedException": Row(Kind.auth, _NO, "only a person can mend it"),
        "AccessDenied": Row(Kind.auth, _NO, "only a person can mend it"),
        "ExpiredToken": Row(Kind.auth, _NO, "credentials are out of date"),
        "ExpiredTokenException": Row(Kind.auth, _NO, "credentials are out of date"),
        "UnrecognizedClientException": Row(Kind.auth, _NO, "credentials are unknown"),
        "InvalidSignatureException": Row(Kind.auth, _NO, "wrong key, or a clock that is off"),
        "SignatureDoesNotMatch": Row(Kind.auth, _NO, "wrong key"),
        "InvalidAccessKeyId": Row(Kind.auth, _NO, "credentials are unknown"),
        "UnknownOperationException": Row(Kind.invalid, _NO, "the endpoint does not have the operation"),
        "ValidationException": Row(Kind.invalid, _NO, "the request is wrong"),
        "SerializationException": Row(Kind.invalid, _NO, "the request is wrong"),
    }
)

# Codes that need to know the service: the same name can mean different things.
BY_SERVICE: Final[Mapping[str, Mapping[str, Row]]] = MappingProxyType(
    {
        "rekognition": {
            "ResourceNotFoundException": Row(Kind.not_found, _NO, "no such collection"),
            "ResourceAlreadyExistsException": Row(Kind.exists, _NO, "the collection is there: success for ensuring it"),
            "AlreadyExistsException": Row(Kind.exists, _NO, "an older text's name of the same"),
            "InvalidParameterException": Row(Kind.invalid, _NO, "the request or the image is wrong for good"),
            "InvalidImageFormatException": Row(Kind.invalid, _NO, "neither JPEG nor PNG, or damaged"),
            "ImageTooLargeException": Row(Kind.invalid, _NO, "more than 5 MB"),
            "InvalidS3ObjectException": Row(Kind.invalid, _NO, "the object cannot be read by the service"),
            "LimitExceededException": Row(Kind.quota, _NO, "a quota, not a rate; no use in asking again"),
            "ServiceQuotaExceededException": Row(Kind.quota, _NO, "the collection is full"),
        },
        "dynamodb": {
            "ConditionalCheckFailedException": Row(Kind.condition, _NO, "an answer of the business"),
            "TransactionConflictException": Row(Kind.conflict, _NO, "somebody else wrote at the same time"),
            "TransactionInProgressException": Row(Kind.conflict, _NO, "the same token is under way"),
            "IdempotentParameterMismatchException": Row(Kind.invalid, _NO, "a token used twice with different writes"),
            "ResourceNotFoundException": Row(Kind.not_found, _NO, "no such table"),
            "ResourceInUseException": Row(Kind.exists, _NO, "the table is there"),
            "LimitExceededException": Row(Kind.quota, _NO, "too many table operations at once"),
        },
        "s3": {
            "NoSuchKey": Row(Kind.not_found, _NO, "the object is not there"),
            "NoSuchBucket": Row(Kind.not_found, _NO, "the bucket is not there"),
            "404": Row(Kind.not_found, _NO, "HEAD has no body, so the status is the code"),
            "BucketAlreadyOwnedByYou": Row(Kind.exists, _NO, "the bucket is there"),
            "BadDigest": Row(Kind.integrity, _NO, "the body was damaged on its way"),
            "IncompleteBody": Row(Kind.integrity, _NO, "the body was cut on its way"),
        },
        "sqs": {
            "QueueDoesNotExist": Row(Kind.not_found, _NO, "no such queue"),
            "AWS.SimpleQueueService.NonExistentQueue": Row(Kind.not_found, _NO, "the same, in the other protocol"),
            "ReceiptHandleIsInvalid": Row(Kind.invalid, _NO, "the message was given to somebody else meanwhile"),
            "MessageNotInflight": Row(Kind.invalid, _NO, "the message was given to somebody else meanwhile"),
        },
    }
)

# Reasons inside a cancelled transaction, worst first: the first that occurs speaks for the whole.
TRANSACTION_REASONS: Final[Sequence[tuple[str, Row]]] = (
    ("ValidationError", Row(Kind.invalid, _NO, "the request is wrong")),
    ("ItemCollectionSizeLimitExceeded", Row(Kind.quota, _NO, "10 GB for one key")),
    ("ConditionalCheckFailed", Row(Kind.condition, _NO, "an answer of the business, whatever else occurred")),
    ("ThrottlingError", Row(Kind.throttled, _NO, "retry with the same token")),
    ("ProvisionedThroughputExceeded", Row(Kind.throttled, _NO, "retry with the same token")),
    ("TransactionConflict", Row(Kind.conflict, _NO, "retry soon with the same token")),
)

# botocore's own exceptions; by name, so that nothing is imported. The first class of the MRO with a row decides.
TRANSPORT: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "EndpointConnectionError": Row(Kind.unavailable, _NO, "refused or unknown host: never sent"),
        "ConnectTimeoutError": Row(Kind.unavailable, _NO, "never connected"),
        "ProxyConnectionError": Row(Kind.unavailable, _NO, "never connected"),
        "SSLError": Row(Kind.invalid, _NO, "a bad certificate stays bad"),
        "ReadTimeoutError": Row(Kind.timeout, _MAYBE, "sent, and nothing came back"),
        "ConnectionClosedError": Row(Kind.transient, _MAYBE, "the connection ended without an answer"),
        "ResponseStreamingError": Row(Kind.integrity, _MAYBE, "the body ended early"),
        "IncompleteReadError": Row(Kind.integrity, _MAYBE, "the body ended early"),
        "ChecksumError": Row(Kind.integrity, _MAYBE, "the body was damaged"),
        "FlexibleChecksumError": Row(Kind.integrity, _MAYBE, "the body was damaged"),
        "ResponseParserError": Row(Kind.integrity, _MAYBE, "the body is no answer"),
        "NoCredentialsError": Row(Kind.auth, _NO, "no credentials"),
        "PartialCredentialsError": Row(Kind.auth, _NO, "half of the credentials is missing"),
        "ParamValidationError": Row(Kind.invalid, _NO, "refused before sending"),
        "HTTPClientError": Row(Kind.transient, _MAYBE, "the connection failed in some other way"),
        "BotoCoreError": Row(Kind.invalid, _NO, "configuration or use of the SDK"),
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of one operation.

    Attributes:
        idempotent: A repetition changes nothing, so a retry of an unknown outcome is safe.
        mandatory: Members without which a 200 is no answer.
    """

    idempotent: bool
    mandatory: tuple[str, ...] = ()


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "rekognition.CreateCollection": Operation(idempotent=True, mandatory=("CollectionArn",)),  # exists is success
        "rekognition.IndexFaces": Operation(
            idempotent=True, mandatory=("FaceRecords", "FaceModelVersion")
        ),  # ExternalImageId
        "rekognition.ListFaces": Operation(idempotent=True, mandatory=("Faces",)),
        "rekognition.DescribeCollection": Operation(idempotent=True, mandatory=("FaceModelVersion",)),
        "rekognition.DeleteCollection": Operation(idempotent=True, mandatory=("StatusCode",)),
        "dynamodb.GetItem": Operation(idempotent=True),
        "dynamodb.PutItem": Operation(idempotent=True),
        "dynamodb.UpdateItem": Operation(idempotent=True),  # only SET with fixed values is used here
        "dynamodb.TransactWriteItems": Operation(idempotent=True),  # with one ClientRequestToken for all attempts
        "dynamodb.Scan": Operation(idempotent=True, mandatory=("Items", "Count")),
        "s3.GetObject": Operation(idempotent=True, mandatory=("ETag",)),
        "s3.PutObject": Operation(idempotent=True, mandatory=("ETag",)),
        "sqs.SendMessage": Operation(idempotent=False, mandatory=("MessageId", "MD5OfMessageBody")),
        "sqs.ReceiveMessage": Operation(idempotent=False),
        "sqs.DeleteMessage": Operation(idempotent=True),
        "sqs.ChangeMessageVisibility": Operation(idempotent=True),
    }
)

_SERVICE_OF: Final = MappingProxyType({name.partition(".")[2]: name.partition(".")[0] for name in OPERATIONS})


def classify_aws(error: BaseException) -> Fault | None:
    """What an error of boto3 or botocore means; None for errors of others.

    Meant for `first_match(classify_aws)` and the `classify` option of a policy.
    """
    if isinstance(error, DamagedAnswerError):
        return Fault(Kind.integrity, "aws.damaged_answer", _MAYBE)
    names = [cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in ("botocore", "boto3")]
    if "ClientError" in names:
        return _client_error(error)
    for name in names:
        row = TRANSPORT.get(name)
        if row is not None:
            return Fault(row.kind, type(error).__name__, row.executed)
    return None


def _client_error(error: BaseException) -> Fault:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    details: Mapping[str, Any] = response.get("Error") or {}
    code = str(details.get("Code") or "")
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    service = _SERVICE_OF.get(str(getattr(error, "operation_name", "")), "")
    if code == "TransactionCanceledException":
        return _cancelled(response)
    row: Row | None = None
    for name in (code, str(details.get("QueryErrorCode") or "")):
        row = row or BY_SERVICE.get(service, {}).get(name) or SHARED.get(name)
    if row is not None and row.kind is Kind.throttled and status == 500:
        row = SHARED["InternalServerError"]  # Rekognition says ThrottlingException with a 500 when it is down
    if row is not None:
        return Fault(row.kind, code, row.executed, _hint(response))
    if status == 429:
        return Fault(Kind.throttled, code or "http.429", _NO, _hint(response))
    if isinstance(status, int) and status >= 500:
        return Fault(Kind.transient, code or f"http.{status}", _MAYBE, _hint(response))
    if isinstance(status, int) and status >= 400:
        return Fault(Kind.invalid, code or f"http.{status}", _NO)
    return Fault(Kind.integrity, code or "aws.damaged_answer", _MAYBE)


def cancellation_codes(error: BaseException) -> tuple[str, ...]:
    """The reason of each write in a cancelled transaction, in their order; `None` as text for those that were fine."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return tuple(str(reason.get("Code")) for reason in response.get("CancellationReasons") or ())


def _cancelled(response: Mapping[str, Any]) -> Fault:
    codes = {str(reason.get("Code")) for reason in response.get("CancellationReasons") or ()}
    for code, row in TRANSACTION_REASONS:
        if code in codes:
            return Fault(row.kind, f"TransactionCanceled.{code}", row.executed)
    return Fault(Kind.unknown, "TransactionCanceledException", _NO)


def _hint(response: Mapping[str, Any]) -> float | None:
    headers: Mapping[str, str] = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    for name, unit in (("x-amz-retry-after", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < 3600:
            return seconds
    return None


# -- clients ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """A server on this machine that speaks a service's protocol.

    The SDK then reads no profile and no credentials of the user.
    """

    url: str
    access_key: str = "local"
    secret_key: str = "local"  # noqa: S105  # a server on this machine asks for none


def connect(
    service: str,
    *,
    region: str,
    endpoint: LocalEndpoint | None = None,
    connect_timeout: float = 2.0,
    read_timeout: float = 10.0,
    pool: int = 32,
) -> Any:
    """Make a boto3 client that tries once, has explicit time limits and refuses damaged answers.

    Retrying belongs to the guard around the call: two retrying layers multiply.

    Args:
        service: Such as `rekognition`.
        region: Such as `us-west-2`.
        endpoint: A server on this machine; None for AWS itself with the SDK's own credentials.
        connect_timeout: Seconds to connect in.
        read_timeout: Seconds between two bytes of an answer.
        pool: Connections kept; at least as many as threads that call.

    Raises:
        MissingExtraError: boto3 is not installed (extra `aws`).
    """
    botocore_session = _load("botocore.session")
    config_class = _load("botocore.config").Config
    boto3 = _load("boto3")
    settings: dict[str, Any] = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": connect_timeout,
        "read_timeout": read_timeout,
        "max_pool_connections": pool,
        "tcp_keepalive": True,
    }
    if endpoint is None:
        client = boto3.Session().client(service, region_name=region, config=config_class(**settings))
    else:
        nothing = (None, None, None, None)
        overrides = {
            "profile": nothing,
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        session = botocore_session.Session(session_vars=overrides)
        settings.update(proxies={}, use_fips_endpoint=False, use_dualstack_endpoint=False)
        if service == "s3":
            settings["s3"] = {"addressing_style": "path"}
        client = boto3.Session(botocore_session=session).client(
            service,
            region_name=region,
            endpoint_url=endpoint.url,
            aws_access_key_id=endpoint.access_key,
            aws_secret_access_key=endpoint.secret_key,
            config=config_class(**settings),
        )
    client.meta.events.register(f"after-call.{service}", refuse_damaged)
    return client


def refuse_damaged(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """For botocore's `after-call` event: raise `DamagedAnswerError` for a 200 that is no answer.

    Streamed bodies are not read here; who reads them compares length and checksum.
    """
    if http_response.status_code >= 300 or model.has_streaming_output:
        return
    service = model.service_model
    name = f"{service.service_name}.{model.name}"
    content = http_response.content
    length = http_response.headers.get("Content-Length")
    if length is not None and model.http.get("method") != "HEAD" and length.isdigit() and int(length) != len(content):
        raise DamagedAnswerError(name, f"{len(content)} bytes instead of {length}")
    checksum = http_response.headers.get("x-amz-crc32")
    if checksum is not None and checksum.isdigit() and int(checksum) != zlib.crc32(content):
        raise DamagedAnswerError(name, "the checksum is wrong")
    if "json" in service.metadata.get("protocol", ""):
        try:
            whole = isinstance(json.loads(content or b"{}"), dict)
        except ValueError:
            whole = False
        if not whole or (not content and model.output_shape is not None and model.output_shape.members):
            raise DamagedAnswerError(name, "the body is no JSON object")
    known = OPERATIONS.get(name)
    missing = [member for member in known.mandatory if member not in parsed] if known is not None else []
    if missing:
        raise DamagedAnswerError(name, f"{' and '.join(missing)} missing")


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra="aws", missing=module.partition(".")[0]) from error
