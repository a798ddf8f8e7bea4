"""What `connect` gives: deadlines in requests, damaged answers found, credentials that follow, life after a freeze."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.adapters._aws_clients import is_aws
from resilient_faces.adapters.aws import (
    AWS,
    NOT_THERE,
    OPERATIONS,
    DamagedAnswerError,
    LocalEndpoint,
    Requests,
    connect,
    lambda_deadline,
    protect,
)
from resilient_faces.breaker import Breaker, consecutive
from resilient_faces.errors import CircuitOpenError, DeadlineExceededError, OptionError, UnknownOptionError
from resilient_faces.faults import Executed, Kind
from resilient_faces.flows import Verdict
from resilient_faces.limits import Deadline, RateLimiter
from resilient_faces.retry import Retry

httpsession = pytest.importorskip("botocore.httpsession", reason="the extra `aws` is not installed")
TIMES_PER_REQUEST = hasattr(httpsession.URLLib3Session, "_get_request_timeout")
"""Whether this version of botocore takes a read timeout for one request."""


# -- options -------------------------------------------------------------------------------------------------------


def test_wrong_options_are_named(local: Any) -> None:
    """All of them at once, and mistyped names with the one that was meant."""
    with pytest.raises(OptionError) as wrong:
        connect("", region="", connect_timeout=0, read_timeout=-1, pool=0)
    assert [line.split(" must")[0] for line in str(wrong.value).splitlines()] == [
        "connect.service",
        "connect.region",
        "connect.connect_timeout",
        "connect.read_timeout",
        "connect.pool",
    ]
    for region in ("us west 2", "us-west-2.", "-west", "us_west_2", "7", None):
        with pytest.raises(OptionError, match=r"connect\.region must be a region such as 'us-west-2'; got"):
            connect("s3", region=region)  # type: ignore[arg-type]
    with pytest.raises(UnknownOptionError, match="Did you mean read_timeout"):
        connect("s3", region="us-west-2", read_timout=1.0)
    with pytest.raises(OptionError, match=r"connect\.profile must be left out with an endpoint"):
        local(profile="p")
    with pytest.raises(OptionError, match=r"LocalEndpoint\.url must be an address") as wrong:
        LocalEndpoint("127.0.0.1:80")
    for wrong in (None, 8091, "http://[::1"):
        with pytest.raises(OptionError, match=r"LocalEndpoint\.url must be an address"):
            LocalEndpoint(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="without a user and a password") as wrong:
        LocalEndpoint("http://user:planted@127.0.0.1:80")
    assert "planted" not in str(wrong.value)
    for port in ("planted", "99999"):  # as of `user:password` whose host was forgotten
        with pytest.raises(OptionError, match=r"LocalEndpoint\.url must be an address") as wrong:
            LocalEndpoint(f"http://user:{port}")
        assert port not in "".join(traceback.format_exception(wrong.value))


# -- the deadline --------------------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for one in kept:
            one.close()


def test_what_remains_of_the_deadline_is_the_read_timeout(silent: str, resilience: None) -> None:
    """A client with 2 s under a deadline of 0.6 s gives up after 0.6 s, where botocore can; else after its 2 s."""
    client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(silent), read_timeout=2.0)
    began = time.monotonic()
    with Deadline(0.6), pytest.raises(Exception, match="Read timeout"):
        client.list_faces(CollectionId="c")
    took = time.monotonic() - began
    if TIMES_PER_REQUEST:
        assert 0.5 < took < 1.8
    else:
        assert 1.9 < took < 4.0
    client.close()


def test_each_operation_has_its_own_read_timeout(local: Any, script: Any) -> None:
    """A long poll may be silent for longer than a look-up; a read timeout of yours is for all."""
    limits: dict[str, float] = {}

    def note(request: Any, operation_name: str, **_: object) -> None:
        limits[operation_name] = request.context["read_timeout"]

    for client, expected in ((local("sqs"), (25.0, 10.0)), (local("sqs", read_timeout=3.0), (3.0, 3.0))):
        script(client, (200, {}))
        client.meta.events.register("request-created.sqs", note)
        client.receive_message(QueueUrl="http://127.0.0.1:9/q")
        client.delete_message(QueueUrl="http://127.0.0.1:9/q", ReceiptHandle="r")
        assert (limits["ReceiveMessage"], limits["DeleteMessage"]) == expected


def test_nothing_is_sent_after_the_deadline(local: Any, script: Any, clock: ManualRuntime) -> None:
    """It is known beforehand that nobody waits for the answer."""
    client = local()
    seen = script(client, (200, {"Faces": []}))
    with Deadline(1.0):
        clock.advance(1.5)
        with pytest.raises(DeadlineExceededError, match=r"rekognition\.ListFaces"):
            client.list_faces(CollectionId="c")
    assert seen.sent == []


@contextmanager
def local_rekognition() -> Iterator[str]:
    """The URL of a server that answers ListCollections."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"CollectionIds": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# -- answers that are none -----------------------------------------------------------------------------------------


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


QUEUE = {"QueueUrl": "http://127.0.0.1:9/q"}


@pytest.mark.parametrize("good", [True, False])
def test_the_queue_stored_what_was_sent(local: Any, script: Any, good: bool) -> None:
    """boto3 leaves the checksums of bodies unread."""
    client = local("sqs")
    script(client, (200, {"MessageId": "m", "MD5OfMessageBody": md5("body" if good else "b0dy")}))
    if good:
        client.send_message(**QUEUE, MessageBody="body")
    else:
        with pytest.raises(DamagedAnswerError, match="checksum"):
            client.send_message(**QUEUE, MessageBody="body")


@pytest.mark.parametrize("good", [True, False])
def test_a_batch_stored_what_was_sent(local: Any, script: Any, good: bool) -> None:
    """Each entry by its id."""
    client = local("sqs")
    told = [{"Id": "1", "MessageId": "m", "MD5OfMessageBody": md5("one" if good else "two")}]
    script(client, (200, {"Successful": told, "Failed": [{"Id": "2", "SenderFault": False, "Code": "x"}]}))
    entries = [{"Id": "1", "MessageBody": "one"}, {"Id": "2", "MessageBody": "two"}]
    if good:
        client.send_message_batch(**QUEUE, Entries=entries)
    else:
        with pytest.raises(DamagedAnswerError, match="checksum"):
            client.send_message_batch(**QUEUE, Entries=entries)


@pytest.mark.parametrize("good", [True, False])
def test_what_comes_out_of_the_queue_is_whole(local: Any, script: Any, good: bool) -> None:
    """A message whose body does not fit its checksum is no message."""
    client = local("sqs")
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "body", "MD5OfBody": md5("body" if good else "other")}
    script(client, (200, {"Messages": [message]}))
    if good:
        assert client.receive_message(**QUEUE)["Messages"][0]["Body"] == "body"
    else:
        with pytest.raises(DamagedAnswerError, match="checksum"):
            client.receive_message(**QUEUE)


BODIES: dict[str, dict[str, Any]] = {
    "rekognition.CreateCollection": {"CollectionId": "c"},
    "rekognition.DeleteCollection": {"CollectionId": "c"},
    "rekognition.DescribeCollection": {"CollectionId": "c"},
    "rekognition.ListCollections": {},
    "rekognition.IndexFaces": {"CollectionId": "c", "Image": {"Bytes": b"x"}},
    "rekognition.ListFaces": {"CollectionId": "c"},
    "rekognition.DeleteFaces": {"CollectionId": "c", "FaceIds": ["1"]},
    "rekognition.SearchFacesByImage": {"CollectionId": "c", "Image": {"Bytes": b"x"}},
    "rekognition.SearchFaces": {"CollectionId": "c", "FaceId": "1"},
    "rekognition.CompareFaces": {"SourceImage": {"Bytes": b"x"}, "TargetImage": {"Bytes": b"x"}},
    "rekognition.DetectFaces": {"Image": {"Bytes": b"x"}},
    "rekognition.CreateFaceLivenessSession": {},
    "rekognition.GetFaceLivenessSessionResults": {"SessionId": "1" * 36},
    "dynamodb.BatchGetItem": {"RequestItems": {"table": {"Keys": [{"k": {"S": "1"}}]}}},
    "dynamodb.BatchWriteItem": {"RequestItems": {"table": [{"DeleteRequest": {"Key": {"k": {"S": "1"}}}}]}},
    "dynamodb.Scan": {"TableName": "table"},
    "s3.GetObject": {"Bucket": "bucket", "Key": "k"},
    "s3.HeadObject": {"Bucket": "bucket", "Key": "k"},
    "s3.PutObject": {"Bucket": "bucket", "Key": "k", "Body": b""},
    "s3.CopyObject": {"Bucket": "bucket", "Key": "k", "CopySource": "bucket/other"},
    "s3.CreateMultipartUpload": {"Bucket": "bucket", "Key": "k"},
    "s3.UploadPart": {"Bucket": "bucket", "Key": "k", "UploadId": "u", "PartNumber": 1, "Body": b""},
    "s3.UploadPartCopy": {
        "Bucket": "bucket",
        "Key": "k",
        "UploadId": "u",
        "PartNumber": 1,
        "CopySource": "bucket/other",
    },
    "s3.CompleteMultipartUpload": {"Bucket": "bucket", "Key": "k", "UploadId": "u"},
    "sqs.SendMessage": {"QueueUrl": "http://127.0.0.1:9/q", "MessageBody": "body"},
    "sqs.GetQueueAttributes": {"QueueUrl": "http://127.0.0.1:9/q", "AttributeNames": ["All"]},
    "sns.Publish": {"TopicArn": "arn:aws:sns:us-west-2:1:t", "Message": "m"},
}


def answer_of(name: str, members: tuple[str, ...]) -> tuple[int, Any, dict[str, str]]:
    """A 200 of this operation with these members."""
    service = name.partition(".")[0]
    if service == "s3":
        headers = {"ETag": {"ETag": '"tag"'}, "ContentLength": {"Content-Length": "0"}}
        bodies = {
            "s3.CopyObject": ("CopyObjectResult.ETag", b"<CopyObjectResult><ETag>tag</ETag></CopyObjectResult>"),
            "s3.UploadPartCopy": ("CopyPartResult.ETag", b"<CopyPartResult><ETag>tag</ETag></CopyPartResult>"),
            "s3.CreateMultipartUpload": ("UploadId", b"<R><UploadId>u</UploadId></R>"),
            "s3.CompleteMultipartUpload": ("ETag", b"<R><ETag>tag</ETag></R>"),
        }
        told, body = bodies.get(name, ("", b""))
        if name in bodies:
            return 200, body if told in members else b"<R></R>", {}
        return 200, b"", {key: value for one in members for key, value in headers.get(one, {}).items()}
    if service == "sns":
        body = "".join(f"<{one}>1</{one}>" for one in members)
        return 200, f"<PublishResponse><PublishResult>{body}</PublishResult></PublishResponse>".encode(), {}
    values = {"MD5OfMessageBody": md5("body"), "Count": 0, "StatusCode": 200}
    listed = {"FaceRecords", "FaceMatches", "Faces", "FaceDetails", "DeletedFaces", "CollectionIds", "Items"}
    mapped = {"Responses", "UnprocessedKeys", "UnprocessedItems", "Attributes", "SourceImageFace"}
    made = {one: values.get(one, [] if one in listed else {} if one in mapped else "x") for one in members}
    return 200, made, {}


@pytest.mark.parametrize("name", [name for name, row in OPERATIONS.items() if row.mandatory])
def test_each_mandatory_member_is_looked_for(local: Any, script: Any, clock: Any, name: str) -> None:
    """With all of them the answer is taken; without one it is none, whichever it is, and the error names it."""
    service, _, operation = name.partition(".")
    client = local(service)
    method = {api: own for own, api in client.meta.method_to_api_mapping.items()}[operation]
    mandatory = OPERATIONS[name].mandatory
    seen = script(client, answer_of(name, mandatory))
    getattr(client, method)(**BODIES[name])
    for missing in mandatory:
        if missing == "ContentLength":  # a header that every answer has
            continue
        seen.replies = [answer_of(name, tuple(one for one in mandatory if one != missing))]
        with pytest.raises(Exception, match=r".") as refused:
            getattr(client, method)(**BODIES[name])
        fault = AWS(refused.value)
        assert (fault.kind, fault.executed) == (Kind.integrity, Executed.unknown)
        assert missing in str(refused.value)


@pytest.mark.parametrize("service", ["sns", "cloudwatch", "stepfunctions", "dynamodb"])
def test_a_page_is_no_answer_of_any_service(local: Any, script: Any, service: str) -> None:
    """Whatever the protocol: JSON, CBOR or XML."""
    client = local(service)
    script(client, (200, b"<!doctype html><html><body>Welcome</body></html>", {"Content-Type": "text/html"}))
    with pytest.raises(Exception, match=r".") as raised:
        {
            "sns": lambda: client.publish(TopicArn="arn:aws:sns:us-west-2:1:t", Message="m"),
            "cloudwatch": lambda: client.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}]),
            "stepfunctions": lambda: client.start_execution(stateMachineArn="a"),
            "dynamodb": lambda: client.get_item(TableName="table", Key={"k": {"S": "1"}}),
        }[service]()
    assert AWS(raised.value).kind is Kind.integrity


GATE = {"message": "Please sign in to the network"}


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("dynamodb", lambda client: client.get_item(TableName="table", Key={"k": {"S": "1"}})),
        ("dynamodb", lambda client: client.put_item(TableName="table", Item={"k": {"S": "1"}})),
        ("sqs", lambda client: client.receive_message(**QUEUE)),
        ("lambda", lambda client: client.get_function(FunctionName="f")),
    ],
)
def test_an_object_of_somebody_else_is_no_answer(local: Any, script: Any, service: str, call: Any) -> None:
    """What a network's gate says would pass for "no such item", "written" and "empty queue"."""
    client = local(service)
    script(client, (200, GATE))
    with pytest.raises(DamagedAnswerError, match="nothing in the body"):
        call(client)


def test_answers_may_be_empty_and_grow(local: Any, script: Any) -> None:
    """No item, members that this botocore does not know yet, answers without members."""
    table, queue, functions = local("dynamodb"), local("sqs"), local("lambda")
    known = (200, {"Item": {"k": {"S": "1"}}, "New": 1})
    script(table, (200, {}), known)
    assert "Item" not in table.get_item(TableName="table", Key={"k": {"S": "1"}})
    assert table.get_item(TableName="table", Key={"k": {"S": "1"}})["Item"] == {"k": {"S": "1"}}
    script(queue, (200, {}), (200, b""), (200, {"New": 1}))
    for _ in range(3):
        queue.delete_message(**QUEUE, ReceiptHandle="r")
    script(functions, (200, {"Runtime": "any", "New": 1}))
    assert functions.get_function_configuration(FunctionName="f")["Runtime"] == "any"


def test_a_stream_of_events_is_left_to_its_reader(local: Any, script: Any) -> None:
    """Whoever looks into it before has taken its events away."""

    def event(kind: str, payload: bytes) -> bytes:
        told = {":message-type": "event", ":event-type": kind, ":content-type": "application/octet-stream"}
        headers = b"".join(
            bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
            for name, value in told.items()
        )
        head = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
        whole = head + zlib.crc32(head).to_bytes(4, "big") + headers + payload
        return whole + zlib.crc32(whole).to_bytes(4, "big")

    client = local("s3")
    script(client, (200, event("Records", b"rows") + event("End", b"")))
    answer = client.select_object_content(
        Bucket="bucket",
        Key="key",
        Expression="SELECT * FROM S3Object",
        ExpressionType="SQL",
        InputSerialization={"CSV": {}},
        OutputSerialization={"CSV": {}},
    )
    assert list(answer["Payload"]) == [{"Records": {"Payload": b"rows"}}, {"End": {}}]


def test_a_stand_in_that_lacks_the_operation_is_not_retried(local: Any, script: Any, clock: Any) -> None:
    """It answers 500 with a page; a retry would take that for a server that failed."""
    client = local()
    seen = script(client, (500, b"<!doctype html><html lang=en><title>500 Internal Server Error</title></html>"))
    with pytest.raises(Exception, match=NOT_THERE) as raised:
        Requests(client)("ListFaces", CollectionId="c")
    fault = AWS(raised.value)
    assert (fault.kind, fault.code) == (Kind.invalid, NOT_THERE)
    assert len(seen.sent) == 1


def test_an_error_that_was_cut_is_no_refusal(local: Any, script: Any, clock: Any) -> None:
    """Its code is lost, and it may be the answer to an attempt that followed one which was carried out."""
    client = local("dynamodb")
    script(client, (400, b'{"__type": "Condi', {"Content-Length": "80"}))
    with pytest.raises(DamagedAnswerError, match="17 bytes instead of 80") as raised:
        client.put_item(TableName="table", Item={"k": {"S": "1"}})
    fault = AWS(raised.value)
    assert (fault.kind, fault.executed) == (Kind.integrity, Executed.unknown)


def test_a_page_instead_of_xml_is_damage_and_no_missing_operation(local: Any, script: Any, clock: Any) -> None:
    """botocore makes a 500 of a 200 of S3 that is no XML."""
    client = local("s3")
    script(client, (200, b"<!doctype html><html>Welcome", {"Content-Type": "text/html"}))
    with pytest.raises(Exception, match=r".") as raised:
        client.copy_object(Bucket="bucket", Key="key", CopySource="bucket/other")
    assert AWS(raised.value).kind in (Kind.transient, Kind.integrity)


REGIONS = ["us-west-2", "cn-north-1", "us-iso-east-1", "us-gov-west-1"]
ENDPOINTS = [*[(region, both) for region in REGIONS for both in (False, True)], ("eusc-de-east-1", False)]


@pytest.mark.parametrize(("region", "dualstack"), ENDPOINTS)
def test_every_partition_is_aws(script: Any, clock: Any, region: str, dualstack: bool) -> None:
    """China and the sovereign clouds have domains of their own: their names are regions, and their 500s are retried."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "dynamodb",
        region_name=region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, use_dualstack_endpoint=dualstack),
    )
    assert Requests(client).name_of("GetItem") == f"dynamodb/{region}/GetItem"
    seen = script(client, (500, b"<html>oops</html>"), (200, {}))
    protect(client, Retry())
    client.get_item(TableName="table", Key={"k": {"S": "1"}})
    assert len(seen.sent) == 2


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9"),
        ("http://stand-in", "stand-in"),
        ("https://amazonaws.com.stand-in:80", "amazonaws.com.stand-in:80"),
    ],
)
def test_what_stands_in_is_named_by_its_address(url: str, place: str, resilience: None) -> None:
    """Another server is another circuit; a port that nobody gave is left out."""
    client = connect("dynamodb", region="us-west-2", endpoint=LocalEndpoint(url))
    assert Requests(client).name_of("GetItem") == f"dynamodb/{place}/GetItem"
    assert not is_aws(url)


def test_a_500_of_a_gateway_in_front_of_aws_stays_a_server_fault(script: Any, clock: Any) -> None:
    """Only what is no host of AWS can lack an operation."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "rekognition",
        region_name="us-west-2",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    script(client, (500, b"<html>oops</html>"))
    from resilient_faces import retry

    with pytest.raises(Exception, match="500") as raised:
        protect(client, retry(attempts=1)).list_faces(CollectionId="c")
    assert AWS(raised.value).kind is Kind.transient


def test_a_server_on_this_machine_is_reached_without_a_proxy(
    credentials: Path, monkeypatch: pytest.MonkeyPatch, resilience: None
) -> None:
    """Also if the environment names it; botocore sends even that to the proxy, which cannot know it."""
    proxied: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy, local_rekognition() as url:

        def accept() -> None:
            while True:
                try:
                    taken, _ = proxy.accept()
                except OSError:
                    return
                proxied.append("request")
                taken.close()

        threading.Thread(target=accept, daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL_REKOGNITION", url)
        for client in (
            connect("rekognition", region="us-west-2"),
            connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(url)),
        ):
            assert client.list_collections()["CollectionIds"] == []
            client.close()
        proxy.shutdown(socket.SHUT_RDWR)
    assert proxied == []


# -- credentials ---------------------------------------------------------------------------------------------------


def key_of(headers: Any) -> str:
    return str(headers["authorization"]).partition("Credential=")[2].partition("/")[0]


def write(file: Path, key: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
    other.replace(file)


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared credentials file, and no other source of credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    write(file, "FIRST")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return file


def test_a_rotated_key_is_used_without_a_restart(credentials: Path, script: Any, resilience: None) -> None:
    """botocore alone reads the file once."""
    client = connect("rekognition", region="us-west-2")
    seen = script(client, (200, {"Faces": []}))
    client.list_faces(CollectionId="c")
    write(credentials, "SECOND")
    client.list_faces(CollectionId="c")
    assert [key_of(one.headers) for one in seen.sent] == ["FIRST", "SECOND"]


def test_a_file_that_is_just_being_written_keeps_the_old_key_in_force(
    credentials: Path, script: Any, resilience: None
) -> None:
    """Half a file is no reason to fail."""
    client = connect("rekognition", region="us-west-2")
    seen = script(client, (200, {"Faces": []}))
    credentials.write_text("[default]\naws_access_key_id = ")
    client.list_faces(CollectionId="c")
    credentials.write_text("[defau")
    client.list_faces(CollectionId="c")
    credentials.unlink()
    client.list_faces(CollectionId="c")
    write(credentials, "SECOND")
    client.list_faces(CollectionId="c")
    assert [key_of(one.headers) for one in seen.sent] == ["FIRST", "FIRST", "FIRST", "SECOND"]


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken", "RequestExpired"])
def test_an_expired_token_is_looked_up_again_once(
    credentials: Path, script: Any, failed: Any, monkeypatch: pytest.MonkeyPatch, clock: Any, code: str
) -> None:
    """botocore renews ahead of time and does not react to the error. The repeated request is signed anew."""
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = connect("rekognition", region="us-west-2")

    def expired() -> Any:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
        return failed(code)

    seen = script(client, expired, (200, {"Faces": []}))
    client.list_faces(CollectionId="c")
    assert [key_of(one.headers) for one in seen.sent] == ["OLD", "NEW"]


def test_a_token_that_stays_expired_is_not_asked_for_again_and_again(
    credentials: Path, script: Any, failed: Any, clock: Any
) -> None:
    """Twice in all; then a person is needed."""
    client = connect("rekognition", region="us-west-2")
    seen = script(client, failed("ExpiredTokenException"))
    with pytest.raises(Exception, match="ExpiredToken") as raised:
        Requests(client)("ListFaces", CollectionId="c")
    assert AWS(raised.value).kind is Kind.auth
    assert len(seen.sent) == 2


def test_keys_are_in_no_text(credentials: Path, resilience: None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor where they come from."""
    from resilient_faces.adapters._aws_credentials import FollowingCredentials

    class Found:
        @staticmethod
        def get_frozen_credentials() -> Any:
            raise AssertionError("nobody asked")

    assert repr(FollowingCredentials(Found, (credentials,))) == "FollowingCredentials(...)"
    assert "secret" not in repr(LocalEndpoint("http://127.0.0.1:1", "key", "secret"))
    assert "key" not in repr(LocalEndpoint("http://127.0.0.1:1", "key", "secret"))


def test_without_credentials_it_is_the_sdk_that_says_so(
    credentials: Path, monkeypatch: pytest.MonkeyPatch, resilience: None
) -> None:
    """As a fault that no retry mends."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials.with_name("none")))
    client = connect("rekognition", region="us-west-2")
    with pytest.raises(Exception, match="credentials") as raised:
        client.list_faces(CollectionId="c")
    fault = AWS(raised.value)
    assert (fault.kind, fault.executed) == (Kind.auth, Executed.no)


# -- freeze and thaw -----------------------------------------------------------------------------------------------


def test_connections_from_before_a_freeze_are_dropped(resilience: None, clock: ManualRuntime) -> None:
    """A frozen process cannot see that its connections died; the first request after it opens a new one."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    peers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            peers.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()
            self.wfile.write(b'{"Faces":[]}')

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        endpoint = LocalEndpoint(f"http://127.0.0.1:{server.server_port}")
        client = connect("rekognition", region="us-west-2", endpoint=endpoint)
        client.list_faces(CollectionId="c")
        clock.epoch += 30.0
        client.list_faces(CollectionId="c")
        assert peers[0] == peers[1], "kept alive"
        clock.epoch += 3600.0  # the monotonic clock stood still, as it may while frozen
        client.list_faces(CollectionId="c")
        assert peers[2] != peers[1]
        client.close()
    finally:
        server.shutdown()
        server.server_close()


class Invocation:
    """As much of Lambda's context as is needed."""

    def __init__(self, clock: ManualRuntime, seconds: float) -> None:
        self._clock = clock
        self._ends = clock.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - self._clock.now) * 1000)


def test_the_invocations_remaining_time_is_the_deadline(
    local: Any, script: Any, failed: Any, clock: ManualRuntime
) -> None:
    """Retries end with a margin to answer in, not with the process killed by Lambda."""
    client = local()
    script(client, failed("ThrottlingException"))
    clock.chance = 0.999
    context = Invocation(clock, 3.0)
    with lambda_deadline(context, margin=0.5), pytest.raises(Exception, match="ThrottlingException"):
        Requests(client)("ListFaces", CollectionId="c")
    assert context.get_remaining_time_in_millis() >= 500
    with lambda_deadline(Invocation(clock, 2.0)):
        pass
    clock.advance(10.0)
    with pytest.raises(DeadlineExceededError):
        lambda_deadline(context)
    with pytest.raises(OptionError, match=r"lambda_deadline\.margin"):
        lambda_deadline(context, margin=-1.0)


def test_after_a_thaw_the_next_invocation_works(local: Any, script: Any, failed: Any, clock: ManualRuntime) -> None:
    """An hour of nothing between two invocations: circuit, limiter and deadline are those of a fresh start."""
    client = local()
    seen = script(client, failed("InternalServerError", 500))
    requests = Requests(client, retry=None, rates={"ListFaces": 2.0})
    with lambda_deadline(Invocation(clock, 60.0)):
        for _ in range(5):
            with pytest.raises(Exception, match="InternalServerError"):
                requests("ListFaces", CollectionId="c")
    clock.advance(3600.0)
    seen.replies = [(200, {"Faces": []})]
    clock.slept.clear()
    with lambda_deadline(Invocation(clock, 60.0)):
        for _ in range(3):
            requests("ListFaces", CollectionId="c")
    assert clock.slept == pytest.approx([0.5, 0.5]), "no burst for the time that was slept through"


def test_a_probe_that_froze_does_not_wedge_the_circuit(clock: ManualRuntime) -> None:
    """Its lease has run out when it thaws: that counts as a failed probe, and the next one decides."""
    breaker = Breaker("frozen", trips=consecutive(1), recovery_timeout=1.0, probe_lease=30.0)
    circuit = breaker.circuit
    circuit.trip(circuit.acquire(), None)
    clock.advance(1.5)
    frozen = circuit.acquire()
    clock.advance(3600.0)
    with pytest.raises(CircuitOpenError):
        breaker.call(lambda: None)
    clock.advance(3.0)
    breaker.call(lambda: None)
    circuit.settle(frozen, Verdict.failure)
    assert circuit.state.value == "closed"
    limiter = RateLimiter(10.0)
    clock.advance(3600.0)
    assert [limiter.reserve() for _ in range(2)] == pytest.approx([0.0, 0.1])


def test_the_models_of_a_service_are_read_once() -> None:
    """They are most of what making a client takes; another data path has others."""
    from resilient_faces.adapters._aws_clients import _models

    endpoint = LocalEndpoint("http://127.0.0.1:9")
    one, other = (connect("sqs", region="us-west-2", endpoint=endpoint) for _ in range(2))
    assert one.meta.service_model is not other.meta.service_model
    assert one.meta.service_model._service_description is other.meta.service_model._service_description
    assert _models(None) is _models(None)
    assert _models("elsewhere") is not _models(None)
