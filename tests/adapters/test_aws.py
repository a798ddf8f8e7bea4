"""Errors of AWS as data, and answers that are none."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_faces import Retry
from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.adapters.aws import (
    AWS,
    BY_SERVICE,
    BY_STATUS,
    NO_FACE,
    OPERATIONS,
    SHARED,
    TRANSACTION_REASONS,
    TRANSPORT,
    AwsError,
    DamagedAnswerError,
    LocalEndpoint,
    classify_aws,
    connect,
    refuse_damaged,
)
from resilient_faces.faults import Executed, Fault, Kind

botocore_exceptions = pytest.importorskip("botocore.exceptions", reason="the extra `aws` is not installed")


def client_error(code: str, operation: str, status: int = 400, **more: Any) -> BaseException:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    error: BaseException = botocore_exceptions.ClientError(response, operation)
    return error


@pytest.mark.parametrize(
    ("code", "operation", "status", "kind", "executed"),
    [
        ("ThrottlingException", "IndexFaces", 400, Kind.throttled, Executed.no),
        ("ThrottlingException", "IndexFaces", 500, Kind.transient, Executed.unknown),
        ("ProvisionedThroughputExceededException", "IndexFaces", 400, Kind.throttled, Executed.no),
        ("InternalServerError", "IndexFaces", 500, Kind.transient, Executed.unknown),
        ("ResourceAlreadyExistsException", "CreateCollection", 400, Kind.exists, Executed.no),
        ("AlreadyExistsException", "CreateCollection", 400, Kind.exists, Executed.no),
        ("ResourceNotFoundException", "IndexFaces", 400, Kind.not_found, Executed.no),
        ("LimitExceededException", "IndexFaces", 400, Kind.quota, Executed.no),
        ("AccessDeniedException", "IndexFaces", 400, Kind.auth, Executed.no),
        ("SlowDown", "GetObject", 503, Kind.throttled, Executed.no),
        ("ServiceUnavailable", "GetObject", 503, Kind.throttled, Executed.no),
        ("ServiceUnavailable", "IndexFaces", 503, Kind.transient, Executed.unknown),
        ("SlowDown", "CopyObject", 500, Kind.throttled, Executed.no),  # botocore makes a 500 of an error in a 200
        ("AccessDenied", "CopyObject", 500, Kind.auth, Executed.no),
        ("403", "HeadObject", 403, Kind.auth, Executed.no),
        ("412", "HeadObject", 412, Kind.condition, Executed.no),
        ("503", "HeadObject", 503, Kind.throttled, Executed.no),
        ("500", "HeadObject", 500, Kind.transient, Executed.unknown),
        ("413", "IndexFaces", 413, Kind.invalid, Executed.no),
        ("501", "IndexFaces", 501, Kind.invalid, Executed.no),
        ("LimitExceededException", "GetItem", 400, Kind.quota, Executed.no),
        ("OverLimit", "ReceiveMessage", 400, Kind.quota, Executed.no),
        ("KmsThrottled", "SendMessage", 400, Kind.throttled, Executed.no),
        ("ExpiredTokenException", "IndexFaces", 400, Kind.auth, Executed.no),
        ("RequestTimeTooSkewed", "GetObject", 403, Kind.invalid, Executed.no),
        ("SessionNotFoundException", "GetFaceLivenessSessionResults", 400, Kind.not_found, Executed.no),
        ("ConditionalCheckFailedException", "AnOperationNobodyUses", 400, Kind.condition, Executed.no),
        ("ResourceInUseException", "AnOperationNobodyUses", 400, Kind.invalid, Executed.no),  # services disagree
        ("NoSuchKey", "GetObject", 404, Kind.not_found, Executed.no),
        ("ConditionalCheckFailedException", "UpdateItem", 400, Kind.condition, Executed.no),
        ("TransactionInProgressException", "TransactWriteItems", 400, Kind.conflict, Executed.unknown),
        ("ReceiptHandleIsInvalid", "DeleteMessage", 400, Kind.invalid, Executed.no),
        ("SomethingNew", "IndexFaces", 502, Kind.transient, Executed.unknown),
        ("SomethingNew", "IndexFaces", 429, Kind.throttled, Executed.no),
        ("SomethingNew", "IndexFaces", 400, Kind.invalid, Executed.no),
    ],
)
def test_codes(code: str, operation: str, status: int, kind: Kind, executed: Executed) -> None:
    """Code first, then service, then status; whether it was carried out comes with it."""
    fault = classify_aws(client_error(code, operation, status))
    assert fault is not None
    assert (fault.kind, fault.code, fault.executed) == (kind, code, executed)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (["None", "TransactionConflict"], Kind.conflict),
        (["TransactionConflict", "ThrottlingError"], Kind.throttled),
        (["ThrottlingError", "ConditionalCheckFailed"], Kind.condition),
        (["ConditionalCheckFailed", "ValidationError"], Kind.invalid),
        (["None"], Kind.unknown),
    ],
)
def test_cancelled_transactions_are_told_by_their_worst_reason(codes: list[str], kind: Kind) -> None:
    """A condition that failed wins over a throttle, a wrong request over both."""
    reasons = {"CancellationReasons": [{"Code": code} for code in codes]}
    fault = classify_aws(client_error("TransactionCanceledException", "TransactWriteItems", **reasons))
    assert fault is not None
    assert fault.kind is kind


@pytest.mark.parametrize(
    ("codes", "kind", "executed"),
    [
        (("ThrottlingException",) * 2, Kind.throttled, Executed.no),
        ((None, "ThrottlingException"), Kind.timeout, Executed.unknown),
        ((None, "TransactionInProgressException"), Kind.timeout, Executed.unknown),
        ((None, "TransactionConflictException"), Kind.timeout, Executed.unknown),
        ((None, "ConditionalCheckFailedException"), Kind.condition, Executed.unknown),
        ((None, None), Kind.transient, Executed.unknown),
        (("ThrottlingException", None), Kind.transient, Executed.unknown),
        (("late", None), Kind.timeout, Executed.unknown),
        (("done", "ThrottlingException"), Kind.timeout, Executed.yes),
        ((None, "damaged"), Kind.integrity, Executed.unknown),
        ((None, "ResourceNotFoundException"), Kind.not_found, Executed.unknown),
    ],
)
def test_an_error_speaks_for_all_attempts_of_the_retry_that_gave_up(
    clock: ManualRuntime, codes: tuple[str | None, ...], kind: Kind, executed: Executed
) -> None:
    """The last one may be known not to be carried out, and an earlier one not."""

    class Done(AwsError):
        fault = Fault(Kind.integrity, "done", Executed.yes)

    class Damaged(AwsError):
        fault = Fault(Kind.integrity, "damaged", Executed.unknown)

    others: dict[str | None, BaseException] = {
        "damaged": Damaged(),
        None: botocore_exceptions.ConnectionClosedError(endpoint_url="u"),
        "late": botocore_exceptions.ReadTimeoutError(endpoint_url="u"),
        "done": Done(),
    }
    errors = [others.get(code) or client_error(str(code), "TransactWriteItems") for code in codes]

    @Retry(attempts=2, idempotent=True, classify=AWS)
    def write() -> None:
        raise errors.pop(0)

    with pytest.raises(
        (AwsError, botocore_exceptions.ClientError, botocore_exceptions.ConnectionClosedError)
    ) as caught:
        write()
    fault = AWS(caught.value)
    assert (fault.kind, fault.executed) == (kind, executed)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "executed"),
    [
        ("EndpointConnectionError", {"endpoint_url": "u"}, Kind.unavailable, Executed.no),
        ("ConnectTimeoutError", {"endpoint_url": "u"}, Kind.unavailable, Executed.no),
        ("ReadTimeoutError", {"endpoint_url": "u"}, Kind.timeout, Executed.unknown),
        ("ConnectionClosedError", {"endpoint_url": "u"}, Kind.transient, Executed.unknown),
        ("NoCredentialsError", {}, Kind.auth, Executed.no),
        ("IncompleteReadError", {"actual_bytes": 1, "expected_bytes": 2}, Kind.integrity, Executed.unknown),
    ],
)
def test_transport(name: str, arguments: dict[str, Any], kind: Kind, executed: Executed) -> None:
    """botocore's own exceptions are known by name."""
    fault = classify_aws(getattr(botocore_exceptions, name)(**arguments))
    assert fault is not None
    assert (fault.kind, fault.executed) == (kind, executed)


@pytest.mark.parametrize(
    ("operation", "message", "code", "kind"),
    [
        ("SearchFacesByImage", "There are no faces in the image. Should be at least 1.", NO_FACE, Kind.condition),
        ("CompareFaces", "Request has Invalid Parameters", NO_FACE, Kind.condition),
        (
            "CompareFaces",
            "Request has invalid parameters: SimilarityThreshold must be 0 to 100",
            "InvalidParameterException",
            Kind.invalid,
        ),
        ("SearchFacesByImage", "Request has invalid parameters", "InvalidParameterException", Kind.invalid),
        ("IndexFaces", "There are no faces", "InvalidParameterException", Kind.invalid),
    ],
)
def test_no_face_is_an_answer_and_no_fault(operation: str, message: str, code: str, kind: Kind) -> None:
    """It opens no circuit, is not retried and brings no fallback; told apart by the message, which never comes out."""
    error = client_error("InvalidParameterException", operation)
    error.response["Error"]["Message"] = message  # type: ignore[attr-defined]
    fault = AWS(error)
    assert (fault.kind, fault.code) == (kind, code)
    assert (fault.rule.failure, fault.rule.retried, fault.rule.fallback) == (False, False, False)


def test_the_queue_speaks_two_protocols() -> None:
    """The same error has another code over the old one, and a second code beside it."""
    for code, query in (
        ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
        ("QueueDoesNotExist", ""),
        ("AWS.SimpleQueueService.Unheard", "QueueDoesNotExist"),
    ):
        error = client_error(code, "SendMessage", Error={"Code": code, "QueryErrorCode": query})
        assert AWS(error).kind is Kind.not_found


def test_what_the_transfer_manager_wraps_is_looked_into() -> None:
    """Its own classes say nothing of the cause."""
    s3transfer = pytest.importorskip("s3transfer.exceptions")
    boto3 = pytest.importorskip("boto3.exceptions")
    inner = client_error("SlowDown", "PutObject", 503)
    assert AWS(s3transfer.RetriesExceededError(inner)).kind is Kind.throttled
    wrapped = boto3.S3UploadFailedError("failed")
    wrapped.__context__ = inner
    assert AWS(wrapped).kind is Kind.throttled
    assert AWS(boto3.S3UploadFailedError("failed")).kind is Kind.unknown


def test_a_waiter_speaks_of_its_last_answer() -> None:
    """Or of its time being over."""
    denied = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    assert AWS(botocore_exceptions.WaiterError("w", "r", denied)).kind is Kind.auth
    assert AWS(botocore_exceptions.WaiterError("w", "r", {"Table": {}})).kind is Kind.timeout


def test_errors_of_others_are_left_to_others() -> None:
    """What is not of AWS gets no fault here."""
    assert classify_aws(ValueError("x")) is None
    assert classify_aws(ConnectionResetError()) is None


def test_a_hint_of_the_server_is_carried() -> None:
    """`x-amz-retry-after` is in milliseconds."""
    metadata = {"HTTPStatusCode": 400, "HTTPHeaders": {"x-amz-retry-after": "1500"}}
    fault = classify_aws(client_error("ThrottlingException", "IndexFaces", ResponseMetadata=metadata))
    assert fault is not None
    assert fault.retry_after == 1.5


TABLES = {**BY_SERVICE, "shared": SHARED, "transport": TRANSPORT, "transactions": dict(TRANSACTION_REASONS)}


def test_every_row_says_why() -> None:
    """A table without reasons cannot be checked."""
    assert all(row.why for rows in TABLES.values() for row in rows.values())
    assert all(row.why for row in BY_STATUS.values())
    assert set(BY_SERVICE) == {"rekognition", "dynamodb", "s3", "sqs", "sns", "cloudwatch", "stepfunctions"}


MORE_OPERATIONS = (  # of the orchestrator, which has no adapter of calls here
    "stepfunctions.StartExecution",
    "stepfunctions.DescribeExecution",
    "stepfunctions.StopExecution",
    "stepfunctions.CreateStateMachine",
    "stepfunctions.DeleteStateMachine",
    "stepfunctions.SendTaskSuccess",
    "stepfunctions.SendTaskFailure",
    "stepfunctions.SendTaskHeartbeat",
)


@pytest.mark.parametrize("name", sorted({*OPERATIONS, *MORE_OPERATIONS}))
def test_every_error_of_the_services_own_model_is_named(name: str) -> None:
    """What botocore's model lists for an operation stands in a table: by the code that goes over the wire."""
    session = pytest.importorskip("botocore.session").get_session()
    service, _, called = name.partition(".")
    unnamed = []
    for shape in session.get_service_model(service).operation_model(called).error_shapes:
        code = str((shape.metadata.get("error") or {}).get("code", shape.name))
        code = code.rpartition("AWS.SimpleQueueService.")[2]
        if not {code} & {*BY_SERVICE[service], *SHARED, "TransactionCanceledException"}:
            unnamed.append(code)
    assert not unnamed


def test_every_exception_of_the_network_has_a_row() -> None:
    """What is left to the base class is the use of the SDK, which no retry mends."""
    network = (botocore_exceptions.HTTPClientError, botocore_exceptions.ConnectionError)
    named = {
        name
        for name, cls in vars(botocore_exceptions).items()
        if isinstance(cls, type) and issubclass(cls, network) and cls is not botocore_exceptions.ConnectionError
    }
    assert len(named) >= 8
    assert not named - {*TRANSPORT}


def test_operations_are_the_services_own() -> None:
    """Each operation of the table is in botocore's model, with its mandatory members in the answer's shape."""
    session = pytest.importorskip("botocore.session").get_session()
    for name, operation in OPERATIONS.items():
        service, _, called = name.partition(".")
        shape = session.get_service_model(service).operation_model(called).output_shape
        for member in operation.mandatory:
            inside = shape
            for part in member.split("."):
                assert inside is not None, name
                assert part in inside.members, name
                inside = inside.members[part]


@dataclass
class Answer:
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status_code: int = 200


def model(service: str, operation: str) -> Any:
    session = pytest.importorskip("botocore.session").get_session()
    return session.get_service_model(service).operation_model(operation)


@pytest.mark.parametrize(
    ("answer", "parsed", "reason"),
    [
        (Answer(b'{"FaceRecords": ', {"Content-Length": "40"}), {}, "16 bytes instead of 40"),
        (Answer(b"<!doctype html>"), {}, "no JSON object"),
        (Answer(b""), {}, "no JSON object"),
        (Answer(b"[]"), {}, "no JSON object"),
        (Answer(b"{}"), {}, "FaceRecords and FaceModelVersion missing"),
        (Answer(b"{}", {"x-amz-crc32": "1"}), {}, "checksum"),
    ],
)
def test_a_200_that_is_no_answer_raises(answer: Answer, parsed: dict[str, Any], reason: str) -> None:
    """botocore takes all of these for an empty success."""
    with pytest.raises(DamagedAnswerError, match=reason):
        refuse_damaged(answer, parsed, model("rekognition", "IndexFaces"))


def test_a_good_answer_passes() -> None:
    """Whole JSON with its mandatory members, or an operation that answers with nothing."""
    content = b'{"FaceRecords": [], "FaceModelVersion": "7.0"}'
    headers = {"Content-Length": str(len(content)), "x-amz-crc32": str(zlib.crc32(content))}
    parsed = {"FaceRecords": [], "FaceModelVersion": "7.0"}
    refuse_damaged(Answer(content, headers), parsed, model("rekognition", "IndexFaces"))
    refuse_damaged(Answer(b""), {}, model("sqs", "DeleteMessage"))
    refuse_damaged(Answer(b"oops", status_code=500), {}, model("rekognition", "IndexFaces"))


def test_the_damage_is_an_integrity_fault() -> None:
    """It is retried if the call is idempotent, and counts for the breaker."""
    fault = classify_aws(DamagedAnswerError("dynamodb.GetItem", "cut"))
    assert fault is not None
    assert fault.kind is Kind.integrity


def test_a_client_for_this_machine_reads_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, no proxy, no retries inside, explicit limits."""
    for name, value in {
        "AWS_PROFILE": "nobody",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_MAX_ATTEMPTS": "9",
    }.items():
        monkeypatch.setenv(name, value)
    client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint("http://127.0.0.1:1"), read_timeout=3.0)
    config = client.meta.config
    assert (config.retries["total_max_attempts"], config.read_timeout, config.proxies) == (1, 3.0, {})
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    with pytest.raises(botocore_exceptions.EndpointConnectionError):
        client.list_faces(CollectionId="c")
    client.close()


def test_classification_needs_no_botocore() -> None:
    """The tables are importable where no SDK is installed."""
    program = (
        "import sys; sys.modules['botocore'] = None; sys.modules['boto3'] = None; import resilient_faces.adapters.aws"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_lost_receipts_are_let_go() -> None:
    """Deleting a message that is gone, or that somebody else has by now, is no error."""
    from resilient_faces.adapters.sqs import Delivery, Sqs

    def gone(**_: object) -> None:
        raise client_error("ReceiptHandleIsInvalid", "DeleteMessage")

    def refused(**_: object) -> None:
        raise client_error("AccessDenied", "DeleteMessage", 403)

    delivery = Delivery("{}", "r", 1, "m")
    Sqs(SimpleNamespace(delete_message=gone), "q", "d").ack(delivery)
    with pytest.raises(botocore_exceptions.ClientError):
        Sqs(SimpleNamespace(delete_message=refused), "q", "d").ack(delivery)
