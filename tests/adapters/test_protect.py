"""Guards put into a boto3 client that somebody else made."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import pytest

from resilient_faces import Breaker, circuit_breaker, circuits, fallback, guard, retry
from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters.aws import AWS, DamagedAnswerError, Requests, UnrepeatableBodyError, protect, unprotect
from resilient_faces.breaker import consecutive
from resilient_faces.errors import CircuitOpenError, DeadlineExceededError, DecorationError, ResilienceWarning
from resilient_faces.faults import Kind
from resilient_faces.limits import Deadline
from resilient_faces.retry import Retrier, Retry, none

ONCE = {"total_max_attempts": 1, "mode": "standard"}


def page(*faces: str, after: str | None = None) -> tuple[int, dict[str, Any]]:
    return 200, {"Faces": [{"FaceId": one} for one in faces], **({"NextToken": after} if after else {})}


def test_the_same_client_comes_back_guarded(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """Types, `exceptions` and `meta` stay what they were, because it is the very same object."""
    client = foreign(retries=ONCE)
    before = type(client)
    seen = script(client, failed("InternalServerError", 500), page("f"))
    assert protect(client, retry()) is client
    assert type(client) is before
    assert client.list_faces(CollectionId="c")["Faces"] == [{"FaceId": "f"}]
    assert len(seen.sent) == 2
    assert client.list_faces.__name__ == "list_faces"


def test_paginators_use_the_guarded_operations(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """A page that fails is asked for again, and the listing goes on."""
    client = protect(foreign(retries=ONCE), retry())
    script(client, page("a", after="2"), failed("InternalServerError", 500), page("b", after="3"), page("c"))
    pages = client.get_paginator("list_faces").paginate(CollectionId="c")
    assert [face["FaceId"] for one in pages for face in one["Faces"]] == ["a", "b", "c"]


def test_waiters_use_the_guarded_operations(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """A waiter that meets a fault is not over."""
    client = protect(foreign("dynamodb", retries=ONCE), retry())
    seen = script(client, failed("InternalServerError", 500), (200, {"Table": {"TableStatus": "ACTIVE"}}))
    client.get_waiter("table_exists").wait(TableName="table")
    assert len(seen.sent) == 2


def test_each_operation_has_its_own_idempotence(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """One policy for the whole client, and still nothing is sent twice that may not be."""
    from botocore.exceptions import ReadTimeoutError

    client = protect(foreign("dynamodb", retries=ONCE), retry())
    seen = script(client, ReadTimeoutError(endpoint_url="u"), (200, {}))
    client.get_item(TableName="table", Key={"k": {"S": "1"}})
    assert len(seen.sent) == 2
    seen.replies = [ReadTimeoutError(endpoint_url="u")]
    with pytest.raises(ReadTimeoutError):
        client.execute_statement(Statement="insert")  # has no row, and its name does not say that it reads
    assert len(seen.sent) == 3


@pytest.mark.parametrize(
    ("service", "method", "parameters", "requests"),
    [
        ("dynamodb", "put_item", {"TableName": "table", "Item": {}}, 3),
        (
            "dynamodb",
            "put_item",
            {"TableName": "table", "Item": {}, "ConditionExpression": "attribute_not_exists(k)"},
            1,
        ),
        ("dynamodb", "delete_item", {"TableName": "table", "Key": {}, "ConditionExpression": "attribute_exists(k)"}, 1),
        ("dynamodb", "update_item", {"TableName": "table", "Key": {}, "UpdateExpression": "ADD n :one"}, 1),
        ("s3", "put_object", {"Bucket": "bucket", "Key": "k", "Body": b""}, 3),
        ("s3", "put_object", {"Bucket": "bucket", "Key": "k", "Body": b"", "IfNoneMatch": "*"}, 1),
        ("s3", "delete_object", {"Bucket": "bucket", "Key": "k", "IfMatch": '"tag"'}, 1),
        ("sqs", "send_message", {"QueueUrl": "http://127.0.0.1:9/q", "MessageBody": "b"}, 1),
        (
            "sqs",
            "send_message",
            {"QueueUrl": "http://127.0.0.1:9/q.fifo", "MessageBody": "b", "MessageDeduplicationId": "1"},
            3,
        ),
        ("sns", "publish", {"TopicArn": "arn:aws:sns:us-west-2:1:t", "Message": "m"}, 1),
        ("rekognition", "index_faces", {"CollectionId": "c", "Image": {"Bytes": b"x"}}, 1),
        ("rekognition", "index_faces", {"CollectionId": "c", "Image": {"Bytes": b"x"}, "ExternalImageId": "e"}, 3),
    ],
)
@pytest.mark.parametrize("direct", [False, True], ids=["protect", "Requests"])
def test_the_parameters_say_whether_a_call_may_be_made_twice(
    foreign: Any, script: Any, clock: Any, service: str, method: str, parameters: Any, requests: int, direct: bool
) -> None:
    """What an adapter makes safe, by an id or a mark of its own, is not safe for calls that others make."""
    from botocore.exceptions import ReadTimeoutError

    client = foreign(service, retries=ONCE)
    seen = script(client, ReadTimeoutError(endpoint_url="u"))
    operation = client.meta.method_to_api_mapping[method]
    call = partial(Requests(client), operation) if direct else getattr(protect(client, retry()), method)
    with pytest.raises(ReadTimeoutError):
        call(**parameters)
    assert len(seen.sent) == requests


def test_a_client_that_waits_for_ever_keeps_to_the_deadline(script: Any, clock: Any) -> None:
    """`read_timeout=None` is a choice that boto3 allows."""
    import boto3
    from botocore.config import Config

    config = Config(read_timeout=None, retries=ONCE)
    client = boto3.client(
        "dynamodb", region_name="us-west-2", aws_access_key_id="a", aws_secret_access_key="b", config=config
    )
    script(protect(client, retry()), (200, {}))
    with Deadline(5.0):
        assert "Item" not in client.get_item(TableName="table", Key={"k": {"S": "1"}})


def test_who_knows_better_says_so_for_operations_without_a_row(foreign: Any, script: Any, clock: Any) -> None:
    """`idempotent=True` counts where nothing is known; a row of the tables it does not override."""
    from botocore.exceptions import ReadTimeoutError

    client = protect(foreign("dynamodb", retries=ONCE), retry(idempotent=True))
    seen = script(client, ReadTimeoutError(endpoint_url="u"), (200, {}))
    client.execute_statement(Statement="insert")
    assert len(seen.sent) == 2


def test_a_retrier_of_ones_own_does_not_repeat_an_unknown_outcome_either(foreign: Any, script: Any, clock: Any) -> None:
    """Retriers decide alone, so they are fitted too."""
    from botocore.exceptions import ConnectionClosedError

    mine = Retry(retriers=(Retrier(on=Exception, attempts=5, jitter=none()),))
    client = protect(foreign("dynamodb", retries=ONCE), mine)
    seen = script(client, ConnectionClosedError(endpoint_url="u"))
    with pytest.raises(ConnectionClosedError):
        client.execute_statement(Statement="insert")
    assert len(seen.sent) == 1
    with pytest.raises(ConnectionClosedError):
        client.get_item(TableName="table", Key={"k": {"S": "1"}})
    assert len(seen.sent) == 6


def test_one_token_for_all_attempts_of_a_transaction(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """boto3 makes a token for each call, which under a retry is each attempt: two tokens would write twice."""
    client = protect(foreign("dynamodb", retries=ONCE), retry())
    seen = script(client, failed("InternalServerError", 500), (200, {}))
    client.transact_write_items(TransactItems=[{"Put": {"TableName": "table", "Item": {"k": {"S": "1"}}}}])
    tokens = {one.body["ClientRequestToken"] for one in seen.sent}
    assert (len(seen.sent), len(tokens)) == (2, 1)


def test_policies_are_given_the_calls_own_arguments(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """A circuit for each table, and a fallback that knows which item was wanted."""
    client = foreign("dynamodb", retries=ONCE)
    script(client, failed("InternalServerError", 500))
    tables = Breaker("tables", trips=consecutive(1), key=lambda **wanted: wanted["TableName"])
    protect(client, guard(fallback(function=lambda **wanted: {"cached": wanted["Key"]}), retry(attempts=1), tables))
    key = {"k": {"S": "1"}}
    assert client.get_item(TableName="orders", Key=key) == {"cached": key}
    assert tables.circuit_of("orders").state.value == "open"
    assert tables.circuit_of("others").state.value == "closed"


def test_a_call_inside_of_another_leaves_its_body_alone(foreign: Any, script: Any, clock: Any) -> None:
    """A fallback that asks something else while it reads the file goes on where it was."""
    client, elsewhere = foreign("s3", retries=ONCE), foreign("dynamodb", retries=ONCE)
    script(client, SLOW_DOWN)
    script(elsewhere, (200, {}))
    protect(elsewhere, retry())
    read: list[bytes] = []

    def keep(**given: Any) -> str:
        file = given["Body"]
        file.seek(0)
        read.append(file.read(2))
        elsewhere.get_item(TableName="table", Key={"k": {"S": "1"}})
        read.append(file.read())
        return "kept"

    protect(client, guard(fallback(function=keep), retry(attempts=2)))
    assert client.put_object(Bucket="bucket", Key="key", Body=io.BytesIO(b"data")) == "kept"
    assert read == [b"da", b"ta"]


def test_a_policy_for_each_operation(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """A function of the operation's name gives each its own circuit."""
    client = protect(foreign(retries=ONCE), lambda operation: circuit_breaker(f"faces/{operation}"))
    script(client, failed("InternalServerError", 500))
    for _ in range(5):
        with pytest.raises(Exception, match="InternalServerError"):
            client.list_faces(CollectionId="c")
    with pytest.raises(CircuitOpenError):
        client.list_faces(CollectionId="c")
    assert circuits["faces/ListFaces"].state.value == "open"
    assert circuits["faces/ListCollections"].state.value == "closed"


def test_a_client_that_retries_inside_is_told_of(foreign: Any, script: Any) -> None:
    """With the number of requests that one call can come to."""
    with pytest.warns(ResilienceWarning, match="RF101 .* 3 attempts of the policy x 3 inside are up to 9 requests"):
        protect(foreign(retries={"total_max_attempts": 3, "mode": "standard"}), retry())
    with pytest.warns(ResilienceWarning, match="any number of attempts of the policy x 3 inside are requests without"):
        protect(foreign(retries={"total_max_attempts": 3}), Retry(attempts=float("inf")))
    with pytest.warns(ResilienceWarning, match="up to 5 attempts by itself: 1 attempts"):
        protect(foreign(retries={"mode": "legacy"}), circuit_breaker("faces"))
    with pytest.warns(ResilienceWarning, match="up to 10 attempts by itself"):
        protect(foreign("dynamodb", retries={"mode": "legacy"}), retry())


@pytest.mark.parametrize(("service", "mode"), [("rekognition", None), ("dynamodb", None), ("dynamodb", "legacy")])
def test_the_number_in_the_warning_is_the_number_of_requests(
    foreign: Any, script: Any, failed: Any, monkeypatch: pytest.MonkeyPatch, service: str, mode: str | None
) -> None:
    """Counted on this very version of botocore, whose defaults changed between versions."""
    from resilient_faces.adapters.aws import inner_attempts

    monkeypatch.setattr("time.sleep", lambda _: None)
    client = foreign(service, retries=None if mode is None else {"mode": mode})
    seen = script(client, failed("InternalServerError", 500))
    with pytest.raises(Exception, match="InternalServerError"):
        client.list_tables() if service == "dynamodb" else client.list_collections()
    assert len(seen.sent) == inner_attempts(client)


def test_attempts_of_the_sdk_are_told_as_attempts(
    foreign: Any, script: Any, failed: Any, clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event for each, with the attempt of the policy as its parent; and the chain of attempts multiplies them."""
    from resilient_faces._core.context import amplification, underway

    monkeypatch.setattr("time.sleep", lambda _: None)
    told: list[Any] = []
    chain: list[int] = []
    RUNTIME.listen(told.append)
    client = foreign(retries={"total_max_attempts": 2, "mode": "standard"})
    with pytest.warns(ResilienceWarning):
        protect(client, retry(attempts=2, backoff=0.0))
    client.meta.events.register("before-send.rekognition", lambda **_: chain.append(amplification(underway())))
    script(client, failed("InternalServerError", 500))
    with pytest.raises(Exception, match="InternalServerError"):
        client.list_faces(CollectionId="c")
    assert [(one.attempt, one.parent) for one in told if one.policy == "sdk"] == [(2, 1), (2, 2)]
    assert chain == [1, 2, 2, 4]
    assert underway() is None


def test_damaged_answers_raise(foreign: Any, script: Any, clock: Any) -> None:
    """A bare client takes a page of the hotel's network for an empty list."""
    client = foreign(retries=ONCE)
    seen = script(client, (200, b"<!doctype html>Welcome"))
    assert "Faces" not in client.list_faces(CollectionId="c")
    protect(client, retry(attempts=2))
    with pytest.raises(DamagedAnswerError):
        client.list_faces(CollectionId="c")
    assert len(seen.sent) == 3


def test_the_deadline_is_kept(foreign: Any, script: Any, clock: ManualRuntime) -> None:
    """What has passed is not begun."""
    client = protect(foreign(retries=ONCE), circuit_breaker("faces"))
    seen = script(client, page("f"))
    with Deadline(1.0):
        client.list_faces(CollectionId="c")
        clock.advance(2.0)
        with pytest.raises(DeadlineExceededError):
            client.list_faces(CollectionId="c")
    assert len(seen.sent) == 1


def test_guards_come_off_again(foreign: Any, script: Any, failed: Any, clock: Any) -> None:
    """As if nothing had been."""
    client = foreign(retries=ONCE)
    before = dict(vars(client))
    protect(client, guard(retry(), circuit_breaker("faces")))
    assert unprotect(client) is client
    assert vars(client) == before
    seen = script(client, failed("InternalServerError", 500), (200, b"<html>"))
    with pytest.raises(Exception, match="InternalServerError"):
        client.list_faces(CollectionId="c")
    assert "Faces" not in client.list_faces(CollectionId="c"), "the hooks are gone too"
    assert len(seen.sent) == 2
    assert unprotect(client) is client


def test_what_others_had_put_on_is_there_again(foreign: Any, script: Any, clock: Any) -> None:
    """A tracer, for example, that wraps a method of the client."""
    client = foreign(retries=ONCE)
    script(client, page("f"))
    traced: list[str] = []
    plain = client.list_faces

    def tracing(**parameters: Any) -> Any:
        traced.append("call")
        return plain(**parameters)

    client.list_faces = tracing
    protect(client, retry()).list_faces(CollectionId="c")
    unprotect(client).list_faces(CollectionId="c")
    assert client.list_faces is tracing
    assert traced == ["call", "call"]


def test_what_connect_gave_stays_when_guards_come_off(local: Any, script: Any, clock: Any) -> None:
    """Each takes away only what it brought."""
    client = unprotect(protect(local(), retry()))
    seen = script(client, (200, b"<html>"))
    with pytest.raises(DamagedAnswerError):
        client.list_faces(CollectionId="c")
    told: list[Any] = []
    RUNTIME.listen(told.append)
    seen.replies = [page("f")]
    protect(client, retry()).list_faces(CollectionId="c")
    assert told == [], "each request is counted once, however often guards came and went"


def test_an_adapter_around_a_guarded_client_is_told_of(foreign: Any) -> None:
    """Two retries multiply, whoever put them there."""
    client = protect(foreign(retries=ONCE), retry(attempts=4))
    with pytest.warns(ResilienceWarning, match="3 attempts of the policy x 4 inside are up to 12 requests"):
        Requests(client)


def test_a_client_of_coroutines_is_refused(foreign: Any) -> None:
    """A retry around a function that only makes a coroutine would see no failure at all."""
    client = foreign(retries=ONCE)

    async def list_faces(**_: Any) -> None: ...

    for method in client.meta.method_to_api_mapping:
        setattr(client, method, list_faces)
    for use in (lambda: protect(client, retry()), lambda: Requests(client)):
        with pytest.raises(DecorationError, match="AsyncRekognition"):
            use()


def test_nobody_is_guarded_twice(foreign: Any) -> None:
    """Two retries multiply."""
    client = protect(foreign(retries=ONCE), retry())
    with pytest.raises(DecorationError, match="unprotect"):
        protect(client, retry())


SLOW_DOWN = (503, b"<Error><Code>SlowDown</Code></Error>")


def test_the_transfer_manager_uses_the_guarded_operations(foreign: Any, script: Any, clock: Any) -> None:
    """s3transfer calls the client's methods, so it calls the guarded ones."""
    client = protect(foreign("s3", retries=ONCE), retry())
    seen = script(client, SLOW_DOWN, (200, b"", {"ETag": '"x"'}))
    client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
    assert len(seen.sent) == 2
    assert b"data" in seen.sent[1].body


def test_a_part_of_an_upload_is_sent_again(foreign: Any, script: Any, clock: Any) -> None:
    """Whatever became of the first: it takes the place of the part with its number. So does the end of the upload."""
    from boto3.s3.transfer import TransferConfig

    client = protect(foreign("s3", retries=ONCE), retry())
    broken = (500, b"<Error><Code>InternalError</Code></Error>")
    seen = script(
        client,
        (200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"),
        (200, b"", {"ETag": '"a"'}),
        broken,
        (200, b"", {"ETag": '"b"'}),
        (200, broken[1]),  # S3 answers 200 before it knows
        (200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
    )
    whole = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, use_threads=False)
    client.upload_fileobj(io.BytesIO(b"x" * (10 << 20)), "bucket", "key", Config=whole)
    assert seen.operations == ["POST", "PUT", "PUT", "PUT", "POST", "POST"]


def test_a_second_upload_is_not_begun(foreign: Any, script: Any, clock: Any) -> None:
    """Its parts would stay, and be paid for; and what ends an upload under a condition would meet its own object."""
    client = protect(foreign("s3", retries=ONCE), retry())
    seen = script(client, (500, b"<Error><Code>InternalError</Code></Error>"))
    with pytest.raises(Exception, match="InternalError"):
        client.create_multipart_upload(Bucket="bucket", Key="key")
    with pytest.raises(Exception, match="InternalError"):
        client.complete_multipart_upload(Bucket="bucket", Key="key", UploadId="u", IfNoneMatch="*")
    assert len(seen.sent) == 2


def test_a_task_is_not_taken_twice(foreign: Any, script: Any, clock: Any) -> None:
    """`GetActivityTask` hands a task out: if its answer is lost, asking again would take the next."""
    client = protect(foreign("stepfunctions", retries=ONCE), retry())
    seen = script(client, (500, {}))
    with pytest.raises(Exception, match="500"):
        client.get_activity_task(activityArn="arn:aws:states:us-west-2:1:activity:a")
    assert len(seen.sent) == 1


def test_what_the_sdk_refuses_shows_no_values(foreign: Any, script: Any, clock: Any) -> None:
    """It stays the SDK's error, and says which parameter; the value may be a picture or an identity."""
    from botocore.exceptions import ParamValidationError

    client = protect(foreign(retries=ONCE), retry())
    seen = script(client, (200, {}))
    with pytest.raises(ParamValidationError, match="Invalid type for parameter CollectionId") as refused:
        client.list_faces(CollectionId=["planted"])
    assert "planted" not in f"{refused.value} {refused.value.kwargs} {refused.value.__cause__}"
    assert refused.value.__suppress_context__, "a traceback would show it"
    assert seen.sent == []


def test_a_file_is_sent_whole_by_every_attempt(foreign: Any, script: Any, clock: Any) -> None:
    """The first attempt reads it to its end; without going back the second would store an empty object."""
    client = protect(foreign("s3", retries=ONCE), retry())
    seen = script(client, SLOW_DOWN, SLOW_DOWN, (200, b"", {"ETag": '"x"'}))
    file = io.BytesIO(b"headdata")
    file.seek(4)
    client.put_object(Bucket="bucket", Key="key", Body=file)
    assert [b"data" in one.body and b"head" not in one.body for one in seen.sent] == [True, True, True]
    assert (
        len({one.headers.get("x-amz-decoded-content-length", one.headers.get("content-length")) for one in seen.sent})
        == 1
    )


def test_a_body_that_cannot_be_read_again_is_not_sent_again(foreign: Any, script: Any, clock: Any) -> None:
    """Half of it is gone: the attempt that would send the rest is not made."""

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._rest = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self._rest.readinto(buffer)

        def tell(self) -> int:
            raise io.UnsupportedOperation("tell")

    from resilient_faces.adapters._aws_clients import Body

    body = Body(Pipe(b"data"))
    body.rewind()
    with pytest.raises(UnrepeatableBodyError, match="give bytes, or a file that can seek"):
        body.rewind()
    assert AWS(UnrepeatableBodyError()).kind is Kind.invalid


def test_what_is_no_client_or_no_policy_is_refused(local: Any) -> None:
    """Nothing is put on."""
    import boto3

    client = local("dynamodb")
    table = boto3.resource("dynamodb", region_name="us-west-2").Table("t")
    for wrong in (None, "dynamodb", table):
        with pytest.raises(
            DecorationError, match=r"protect takes a boto3 client; got .*\. Of a resource, it is meta\."
        ):
            protect(wrong, retry())
    for policy in (3, lambda name: None):
        with pytest.raises(DecorationError, match="protect takes a policy, or a function of an operation's name that "):
            protect(client, policy)  # type: ignore[arg-type]
    assert protect(client, retry()) is client
