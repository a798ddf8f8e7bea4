"""What errors of AWS mean, as data: one table a service, each row with its reason. No botocore is needed to read it.

A code is looked up in the table of its service, then among the codes that all services share, then by HTTP status.
Code comes before status, because S3 and botocore turn an error inside a 200 into a 500 whatever it is about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from resilient_faces._core.context import report
from resilient_faces.adapters._aws_operations import SERVICE_OF
from resilient_faces.errors import OptionError, ResilienceError
from resilient_faces.faults import Classification, Executed, Fault, Kind, first_match, http_fault

NO_FACE: Final = "rekognition.no_face"
"""Code of the answer that an image shows no face: a result, although the service sends it as an error."""

NOT_THERE: Final = "endpoint.lacks_operation"
"""Code of a server on this machine that does not have the operation, see `adapters.aws.connect`."""


class AwsError(ResilienceError):
    """An error that the adapters themselves raise; it knows its fault.

    Attributes:
        fault: What it means for a retry, a circuit, a fallback.
    """

    fault: Fault = Fault(Kind.unknown, "aws")


class DamagedAnswerError(AwsError):
    """The service answered 200, but with something that is no answer of this operation.

    botocore turns such a body into an empty result without an error: a truncated GetItem looks like "not found".

    Attributes:
        operation: Such as `dynamodb.GetItem`.
        reason: What is wrong with the answer, without any of its content.
    """

    fault: Fault = Fault(Kind.integrity, "aws.damaged_answer", Executed.unknown)

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} answered with something that is no answer: {self.reason}"


@dataclass(frozen=True, slots=True)
class Row:
    """One error code: its kind, whether the call was carried out, and why that is so."""

    kind: Kind
    executed: Executed
    why: str


_NO, _YES, _MAYBE = Executed.no, Executed.yes, Executed.unknown
_REFUSED: Final = "refused before it was carried out"


def _rows(kind: Kind, executed: Executed, why: str, *codes: str) -> dict[str, Row]:
    return dict.fromkeys(codes, Row(kind, executed, why))


SHARED: Final[Mapping[str, Row]] = MappingProxyType(
    {
        **_rows(
            Kind.throttled,
            _NO,
            _REFUSED,
            "ThrottlingException",
            "Throttling",
            "ThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "BandwidthLimitExceeded",
            "PriorRequestNotComplete",
        ),
        "ProvisionedThroughputExceededException": Row(
            Kind.throttled, _NO, "quota of calls a second; slow all callers down"
        ),
        "SlowDown": Row(Kind.throttled, _NO, "S3's own word for a throttle"),
        **_rows(
            Kind.transient,
            _MAYBE,
            "the service failed; the work may be done",
            "InternalServerError",
            "InternalServerErrorException",  # older name of the same
            "InternalError",  # S3's name
            "InternalFailure",
            "InternalServiceError",
            "InternalServiceFault",
            "ServiceUnavailable",
            "ServiceUnavailableException",
        ),
        "RequestTimeout": Row(Kind.timeout, _NO, "the client was too slow in sending"),
        "RequestTimeoutException": Row(Kind.timeout, _NO, "the client was too slow in sending"),
        **_rows(
            Kind.auth,
            _NO,
            "only a person can mend it",
            "AccessDeniedException",
            "AccessDenied",
            "NotAuthorized",
            "AuthorizationError",
            "AuthorizationErrorException",
            "OptInRequired",
            "UnauthorizedOperation",
        ),
        **_rows(
            Kind.auth,
            _NO,
            "credentials are out of date: they may be refreshed, once",
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "TokenRefreshRequired",
        ),
        **_rows(
            Kind.auth,
            _NO,
            "credentials are unknown",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
        ),
        **_rows(
            Kind.auth,
            _NO,
            "wrong key, or a clock that is off",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
        ),
        "RequestTimeTooSkewed": Row(Kind.invalid, _NO, "the clock of this machine is off: set it, do not repeat"),
        **_rows(
            Kind.invalid,
            _NO,
            "the endpoint does not have the operation",
            "UnknownOperationException",
            "InvalidAction",
            NOT_THERE,
        ),
        **_rows(
            Kind.invalid,
            _NO,
            "the request is wrong",
            "ValidationException",
            "ValidationError",
            "SerializationException",
            "MalformedQueryString",
            "InvalidParameterCombination",
            "InvalidParameterValue",
            "MissingParameter",
            "MissingAction",
        ),
        "413": Row(Kind.invalid, _NO, "the body is too large for the gateway"),
        "InvalidEndpointException": Row(Kind.invalid, _NO, "this endpoint is not the table's"),
    }
)

REFRESHABLE: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
"""Codes that new credentials may mend."""

_KMS: Final = {
    **_rows(
        Kind.auth,
        _NO,
        "the key does not let us in",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "KmsOptInRequired",
        "KMSAccessDenied",
        "KMSAccessDeniedException",
        "KMSDisabled",
        "KMSInvalidState",
        "KMSNotFound",
        "KMSOptInRequired",
        "KmsAccessDeniedException",
        "KmsInvalidStateException",
    ),
    **_rows(
        Kind.throttled,
        _NO,
        "the key's own quota",
        "KmsThrottled",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KmsThrottlingException",
    ),
}

BY_SERVICE: Final[Mapping[str, Mapping[str, Row]]] = MappingProxyType(
    {
        "rekognition": {
            "ResourceNotFoundException": Row(Kind.not_found, _NO, "no such collection, or no such face or user in it"),
            "SessionNotFoundException": Row(Kind.not_found, _NO, "over after 3 minutes, or foreign: make a new one"),
            "ResourceAlreadyExistsException": Row(Kind.exists, _NO, "the collection is there: success for ensuring it"),
            "AlreadyExistsException": Row(Kind.exists, _NO, "an older text's name of the same"),
            "InvalidParameterException": Row(Kind.invalid, _NO, "the request or the image is wrong for good"),
            "InvalidImageFormatException": Row(Kind.invalid, _NO, "neither JPEG nor PNG, or damaged"),
            "ImageTooLargeException": Row(Kind.invalid, _NO, "more than 5 MB"),
            "InvalidS3ObjectException": Row(Kind.invalid, _NO, "the object cannot be read by the service"),
            "InvalidPaginationTokenException": Row(Kind.invalid, _NO, "begin the listing anew"),
            "IdempotentParameterMismatchException": Row(Kind.invalid, _NO, "a token used twice with other input"),
            "LimitExceededException": Row(Kind.quota, _NO, "a quota, not a rate; no use in asking again"),
            "ServiceQuotaExceededException": Row(Kind.quota, _NO, "the collection is full, or there are too many"),
            "HumanLoopQuotaExceededException": Row(Kind.quota, _NO, "too many reviews by people under way"),
            "ResourceInUseException": Row(Kind.conflict, _NO, "somebody else changes it; later"),
            "ResourceNotReadyException": Row(Kind.conflict, _NO, "it is being made; later"),
            "ConflictException": Row(Kind.conflict, _NO, "read the state anew, then again"),
        },
        "dynamodb": {
            "ConditionalCheckFailedException": Row(Kind.condition, _NO, "an answer of the business"),
            "TransactionConflictException": Row(Kind.conflict, _NO, "somebody else wrote at the same time"),
            "TransactionInProgressException": Row(Kind.conflict, _MAYBE, "the same token is under way"),
            "ReplicatedWriteConflictException": Row(Kind.conflict, _NO, "another region wrote at the same time"),
            "IdempotentParameterMismatchException": Row(Kind.invalid, _NO, "a token used twice with different writes"),
            "ResourceNotFoundException": Row(Kind.not_found, _NO, "no such table, or not yet"),
            "TableNotFoundException": Row(Kind.not_found, _NO, "no such table"),
            "ResourceInUseException": Row(Kind.exists, _NO, "the table is there, or is being made or deleted"),
            "TableInUseException": Row(Kind.exists, _NO, "the table is there, or is being made or deleted"),
            "TableAlreadyExistsException": Row(Kind.exists, _NO, "the table is there"),
            "LimitExceededException": Row(Kind.quota, _NO, "too many table operations at once"),
            "ItemCollectionSizeLimitExceededException": Row(Kind.quota, _NO, "10 GB for one key"),
            "PolicyNotFoundException": Row(Kind.not_found, _NO, "no such policy"),
        },
        "s3": {
            **_rows(Kind.not_found, _NO, "it is not there", "NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound"),
            "NoSuchUpload": Row(Kind.not_found, _NO, "ended or aborted; look for the object first, it may be complete"),
            "404": Row(Kind.not_found, _NO, "HEAD has no body, so the status is the code"),
            "403": Row(Kind.auth, _NO, "HEAD has no body, so the status is the code"),
            "412": Row(Kind.condition, _NO, "HEAD has no body, so the status is the code"),
            "503": Row(Kind.throttled, _NO, "HEAD has no body; for S3 this status says to slow down"),
            "ServiceUnavailable": Row(Kind.throttled, _NO, "for S3 this says to slow down"),
            "Busy": Row(Kind.throttled, _NO, "slow down"),
            "OperationAborted": Row(Kind.conflict, _NO, "another write to the same thing is under way"),
            "ConditionalRequestConflict": Row(Kind.conflict, _NO, "another write came between"),
            "PreconditionFailed": Row(Kind.condition, _NO, "an answer; after a lost one it may be our own write"),
            "BucketAlreadyOwnedByYou": Row(Kind.exists, _NO, "the bucket is there"),
            "BucketAlreadyExists": Row(Kind.auth, _NO, "somebody else's bucket has the name"),
            "ObjectAlreadyInActiveTierError": Row(Kind.exists, _NO, "it needs no restoring"),
            **_rows(
                Kind.integrity,
                _NO,
                "damaged on its way to the store, which refused it",
                "BadDigest",
                "XAmzContentSHA256Mismatch",
                "XAmzContentChecksumMismatch",
                "IncompleteBody",
                "InvalidDigest",
            ),
            **_rows(
                Kind.invalid,
                _NO,
                "the request is wrong",
                "EntityTooLarge",
                "EntityTooSmall",
                "InvalidPart",
                "InvalidPartOrder",
                "MalformedXML",
                "InvalidArgument",
                "InvalidRequest",
                "InvalidRange",
                "InvalidWriteOffset",
                "InvalidBucketName",
                "MethodNotAllowed",
                "UnsupportedMediaType",
                "EncryptionTypeMismatch",
                "KeyTooLongError",
            ),
            **_rows(
                Kind.invalid,
                _NO,
                "the wrong region; the SDK follows once by itself",
                "PermanentRedirect",
                "TemporaryRedirect",
                "AuthorizationHeaderMalformed",
            ),
            **_rows(
                Kind.conflict,
                _NO,
                "archived; much later",
                "InvalidObjectState",
                "RestoreAlreadyInProgress",
                "ObjectNotInActiveTierError",
            ),
            "IdempotencyParameterMismatch": Row(Kind.invalid, _NO, "a token used twice with other input"),
            **_rows(Kind.quota, _NO, "a quota of the account", "TooManyBuckets", "TooManyParts"),
        },
        "sqs": {
            **_KMS,
            **_rows(Kind.not_found, _NO, "no such queue", "QueueDoesNotExist", "NonExistentQueue"),
            "ReceiptHandleIsInvalid": Row(Kind.invalid, _NO, "the message was given to somebody else meanwhile"),
            "MessageNotInflight": Row(Kind.invalid, _NO, "the message was given to somebody else meanwhile"),
            "OverLimit": Row(Kind.quota, _NO, "120,000 messages in flight: settle some, do not spin"),
            "QueueDeletedRecently": Row(Kind.conflict, _NO, "its name is free after 60 s"),
            "PurgeQueueInProgress": Row(Kind.conflict, _NO, "one purge in 60 s"),
            "QueueNameExists": Row(Kind.exists, _NO, "the queue is there, with other attributes"),
            **_rows(
                Kind.invalid,
                _NO,
                "the request is wrong",
                "InvalidIdFormat",
                "InvalidMessageContents",
                "InvalidBatchEntryId",
                "BatchEntryIdsNotDistinct",
                "BatchRequestTooLong",
                "EmptyBatchRequest",
                "TooManyEntriesInBatchRequest",
                "InvalidAttributeName",
                "InvalidAttributeValue",
                "UnsupportedOperation",
                "ResourceNotFoundException",
            ),
            **_rows(Kind.auth, _NO, "only a person can mend it", "InvalidSecurity", "InvalidAddress"),
        },
        "sns": {  # over the wire without the suffix "Exception" that the classes have
            **_KMS,
            "Throttled": Row(Kind.throttled, _NO, _REFUSED),
            **_rows(Kind.not_found, _NO, "no such topic", "NotFound", "ResourceNotFound"),
            "EndpointDisabled": Row(Kind.invalid, _NO, "the device or address takes nothing more"),
            "PlatformApplicationDisabled": Row(Kind.invalid, _NO, "the platform application is off"),
            "OptedOut": Row(Kind.invalid, _NO, "the person wants no messages"),
            **_rows(
                Kind.invalid,
                _NO,
                "the request is wrong",
                "InvalidParameter",
                "ParameterValueInvalid",
                "InvalidSecurity",
                "InvalidState",
                "BatchEntryIdsNotDistinct",
                "BatchRequestTooLong",
                "EmptyBatchRequest",
                "InvalidBatchEntryId",
                "TooManyEntriesInBatchRequest",
            ),
            **_rows(
                Kind.quota,
                _NO,
                "a quota of the account",
                "TopicLimitExceeded",
                "SubscriptionLimitExceeded",
                "FilterPolicyLimitExceeded",
                "TagLimitExceeded",
            ),
            **_rows(Kind.conflict, _NO, "somebody else changes it; later", "ConcurrentAccess", "StaleTag"),
            "TagPolicy": Row(Kind.invalid, _NO, "the account's tag policy says no"),
        },
        "cloudwatch": {
            **_rows(Kind.quota, _NO, "a quota of the account", "LimitExceeded", "LimitExceededFault"),
            "LimitExceededException": Row(Kind.quota, _NO, "a quota of the account"),
            **_rows(
                Kind.invalid,
                _NO,
                "the request is wrong",
                "InvalidParameterValueException",
                "InvalidParameterCombinationException",
                "MissingRequiredParameterException",
                "MissingParameterException",
                "InvalidFormat",
                "InvalidNextToken",
                "InvalidParameterInput",
            ),
            **_rows(Kind.not_found, _NO, "it is not there", "ResourceNotFound", "ResourceNotFoundException"),
            "ConcurrentModificationException": Row(Kind.conflict, _NO, "somebody else changes it; later"),
            "ConflictException": Row(Kind.conflict, _NO, "somebody else changes it; later"),
        },
        "stepfunctions": {
            **_KMS,
            "ExecutionAlreadyExists": Row(Kind.exists, _NO, "success where the name is the idempotency key"),
            **_rows(Kind.exists, _NO, "there already", "StateMachineAlreadyExists", "ActivityAlreadyExists"),
            **_rows(
                Kind.not_found,
                _NO,
                "it is not there",
                "ExecutionDoesNotExist",
                "StateMachineDoesNotExist",
                "ActivityDoesNotExist",
                "ResourceNotFound",
            ),
            **_rows(Kind.not_found, _NO, "that token waits for nothing any more", "TaskDoesNotExist", "TaskTimedOut"),
            **_rows(Kind.conflict, _NO, "it is going away", "StateMachineDeleting"),
            "ConflictException": Row(Kind.conflict, _NO, "somebody else changes it; later"),
            **_rows(
                Kind.quota,
                _NO,
                "a quota of the account",
                "ExecutionLimitExceeded",
                "StateMachineLimitExceeded",
                "ActivityLimitExceeded",
                "ActivityWorkerLimitExceeded",
                "ServiceQuotaExceededException",
            ),
            **_rows(
                Kind.invalid,
                _NO,
                "the request is wrong",
                "InvalidArn",
                "InvalidDefinition",
                "InvalidExecutionInput",
                "InvalidName",
                "InvalidOutput",
                "InvalidToken",
                "InvalidLoggingConfiguration",
                "InvalidTracingConfiguration",
                "InvalidEncryptionConfiguration",
                "MissingRequiredParameter",
                "TooManyTags",
                "StateMachineTypeNotSupported",
                "ExecutionNotRedrivable",
            ),
        },
    }
)

BY_STATUS: Final[Mapping[tuple[str, str, int], Row]] = MappingProxyType(
    {
        ("rekognition", "ThrottlingException", 500): Row(
            Kind.transient, _MAYBE, 'its text is "Service Unavailable": the service is down, not we too fast'
        ),
    }
)
"""Codes that mean something else with a certain status: (service, code, status)."""

NO_FACE_TEXTS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "SearchFacesByImage": re.compile(r"\bno faces?\b", re.IGNORECASE),
        # Its text names no reason; a wrong parameter would be named behind it.
        "CompareFaces": re.compile(r"\bno faces?\b|\ARequest has invalid parameters\.?\Z", re.IGNORECASE),
    }
)
"""What the message of an InvalidParameterException looks like if it means that the image shows no face."""

TRANSACTION_REASONS: Final[Sequence[tuple[str, Row]]] = (
    ("ValidationError", Row(Kind.invalid, _NO, "the request is wrong")),
    ("ItemCollectionSizeLimitExceeded", Row(Kind.quota, _NO, "10 GB for one key")),
    ("ConditionalCheckFailed", Row(Kind.condition, _NO, "an answer of the business, whatever else occurred")),
    ("ThrottlingError", Row(Kind.throttled, _NO, "retry with the same token")),
    ("ProvisionedThroughputExceeded", Row(Kind.throttled, _NO, "retry with the same token")),
    ("TransactionConflict", Row(Kind.conflict, _NO, "retry soon with the same token")),
)
"""Reasons inside a cancelled transaction, worst first: the first that occurs speaks for the whole."""

TRANSPORT: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "EndpointConnectionError": Row(Kind.unavailable, _NO, "refused or unknown host: never sent"),
        "ConnectTimeoutError": Row(Kind.unavailable, _NO, "never connected"),
        "ProxyConnectionError": Row(Kind.unavailable, _NO, "never connected"),
        "SSLError": Row(Kind.invalid, _NO, "a bad certificate stays bad"),
        "ReadTimeoutError": Row(Kind.timeout, _MAYBE, "sent, and nothing came back"),
        "ConnectionClosedError": Row(Kind.transient, _MAYBE, "the connection ended without an answer"),
        **_rows(Kind.integrity, _MAYBE, "the body ended early", "ResponseStreamingError", "IncompleteReadError"),
        **_rows(Kind.integrity, _MAYBE, "the body was damaged", "ChecksumError", "FlexibleChecksumError"),
        "ResponseParserError": Row(Kind.integrity, _MAYBE, "the body is no answer"),
        **_rows(
            Kind.unavailable,
            _NO,
            "whoever hands out credentials did not answer; often passes",
            "CredentialRetrievalError",
            "MetadataRetrievalError",
        ),
        **_rows(
            Kind.auth,
            _NO,
            "no credentials, or they are over: a person signs in",
            "NoCredentialsError",
            "PartialCredentialsError",
            "TokenRetrievalError",
            "SSOError",
            "SSOTokenLoadError",
            "UnauthorizedSSOTokenError",
            "LoginRefreshRequired",
            "LoginError",
            "NoAuthTokenError",
        ),
        "ParamValidationError": Row(Kind.invalid, _NO, "refused before sending"),
        "UnseekableStreamError": Row(Kind.invalid, _NO, "the body cannot be sent a second time"),
        "PaginationError": Row(Kind.invalid, _NO, "the listing's token came twice"),
        "HTTPClientError": Row(Kind.transient, _MAYBE, "the connection failed in some other way"),
        "BotoCoreError": Row(Kind.invalid, _NO, "configuration or use of the SDK"),
    }
)
"""botocore's own exceptions; by name, so that nothing is imported. The first class of the MRO with a row decides."""


def classify_aws(error: BaseException) -> Fault | None:
    """What an error of boto3 or botocore means; None for errors of others.

    An error with which a retry gave up speaks for all of its attempts: what the last one came to was not carried out,
    but an earlier one may have been. Then it is a `timeout` where it would be repeated without further question: nobody
    knows, and an outer retry has no token of the inner one's.

    Meant for `first_match(classify_aws)` and the `classify` option of a policy.
    """
    fault = _last(error)
    if fault is None:
        return None
    doubtful = [one for one in report(error).faults[:-1] if one.executed is not _NO]
    if not doubtful:
        return fault
    executed = _YES if any(one.executed is _YES for one in (*doubtful, fault)) else _MAYBE
    # Lost connections alone stay what they are to everybody, who repeats them.
    transient = fault.executed is not _NO and all(one.kind is Kind.transient for one in (*doubtful, fault))
    unasked = fault.rule.retried and not fault.rule.needs_idempotence  # repeated without asking whether it may be
    kind = Kind.timeout if unasked and not transient else fault.kind
    return Fault(kind, fault.code, executed, fault.retry_after)


def _last(error: BaseException) -> Fault | None:
    """What the error itself means, whatever came before it."""
    if isinstance(error, AwsError):
        return error.fault
    if isinstance(error, OptionError):  # of an adapter's method: what was asked for can never work
        return Fault(Kind.invalid, type(error).__name__, _NO)
    names = [cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in _PACKAGES]
    if "ClientError" in names:
        return _client_error(error)
    if "WaiterError" in names:
        answer = getattr(error, "last_response", None)
        if isinstance(answer, Mapping) and answer.get("Error"):
            return _of_response(answer, "")
        return Fault(Kind.timeout, "WaiterError", _NO)
    if names and names[0] in _WRAPPERS:
        inner = getattr(error, "last_exception", None) or error.__cause__ or error.__context__
        return None if inner is None or inner is error else AWS(inner)
    for name in names:
        row = TRANSPORT.get(name)
        if row is not None:
            return Fault(row.kind, type(error).__name__, row.executed)
    return None


_PACKAGES: Final = frozenset({"botocore", "boto3", "s3transfer"})
_WRAPPERS: Final = frozenset({"RetriesExceededError", "S3UploadFailedError", "S3TransferFailedError"})
"""What s3transfer puts around the error that counts."""

AWS: Final[Classification] = first_match(classify_aws)
"""The classification of the adapters: AWS first, then everything that `classify` knows."""


def _client_error(error: BaseException) -> Fault:
    return _of_response(getattr(error, "response", None) or {}, str(getattr(error, "operation_name", "")))


def _of_response(response: Mapping[str, Any], operation: str) -> Fault:
    details: Mapping[str, Any] = response.get("Error") or {}
    code = str(details.get("Code") or "")
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    if code == "TransactionCanceledException":
        return _cancelled(response)
    service = SERVICE_OF.get(operation)
    short = code.rpartition("AWS.SimpleQueueService.")[2]
    pattern = NO_FACE_TEXTS.get(operation) if code == "InvalidParameterException" else None
    if pattern is not None and pattern.search(str(details.get("Message") or details.get("message") or "")):
        return Fault(Kind.condition, NO_FACE, _NO)
    row = BY_STATUS.get((service or "", code, status)) if isinstance(status, int) else None
    for name in (short, str(details.get("QueryErrorCode") or "")):
        row = row or (_anywhere(name) if service is None else BY_SERVICE.get(service, {}).get(name)) or SHARED.get(name)
    if row is not None:
        return Fault(row.kind, short, row.executed, _hint(response))
    if not isinstance(status, int) and code.isdigit():
        status = int(code)
    found = http_fault(status, _hint(response)) if isinstance(status, int) else None
    if found is not None:
        return Fault(found.kind, code or found.code, found.executed, found.retry_after)
    return Fault(Kind.integrity, code or "aws.damaged_answer", _MAYBE)


def _anywhere(code: str) -> Row | None:
    """The row of a code whose operation, and so its service, is not in the tables: if all services agree on it."""
    rows = [table[code] for table in BY_SERVICE.values() if code in table]
    return rows[0] if len({row.kind for row in rows}) == 1 else None


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
