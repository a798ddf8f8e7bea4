"""DynamoDB: what a lost answer, a failed condition and a half-done batch come to, by what the tables hold."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient_faces import Retry
from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.adapters._aws_batches import ROUNDS
from resilient_faces.adapters.aws import AWS
from resilient_faces.adapters.dynamodb import (
    AsyncDynamoDb,
    DifferentWritesError,
    DynamoDb,
    Transacted,
    UnfinishedBatchError,
    _canonical,
    _marked,
    _split,
)
from resilient_faces.errors import OptionError
from resilient_faces.faults import Kind
from resilient_faces.limits import Deadline
from resilient_faces.pipeline.presets import AUDIT

ONE = {":one": {"N": "1"}}
ABSENT = "attribute_not_exists(id)"


def by(key: str) -> dict[str, Any]:
    return {"id": {"S": key}}


def add(table: str, key: str) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": table,
            "Key": by(key),
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": ONE,
        }
    }


def counters(services: Any, table: str) -> list[str]:
    items = services.direct("dynamodb").scan(TableName=table, ConsistentRead=True)["Items"]
    return [item["n"]["N"] for item in items if "n" in item]


@pytest.fixture
def table(services: Any) -> str:
    return str(services.table())


@pytest.fixture
def db(services: Any) -> DynamoDb:
    return DynamoDb(services.through("dynamodb"))


def test_a_put_whose_answer_is_lost_knows_its_own_write(services: Any, db: DynamoDb, table: str) -> None:
    """The repetition meets its condition failed by the first attempt, and says that the item is written."""
    services.lose("dynamodb.PutItem")
    done = db.put(table, {**by("a"), "x": {"S": "mine"}}, condition=ABSENT)
    assert (done.applied, done.repeated) == (True, True)
    assert services.seen == ["PutItem", "PutItem"]


def test_somebody_elses_item_is_an_answer(services: Any, db: DynamoDb, table: str) -> None:
    """No error, one request, and what stands there instead; it does not show in the result's text."""
    db.put(table, {**by("a"), "x": {"S": "theirs"}}, condition=ABSENT)
    done = db.put(table, {**by("a"), "x": {"S": "mine"}}, condition=ABSENT)
    assert (done.applied, done.repeated) == (False, False)
    assert done.found is not None
    assert done.found["x"] == {"S": "theirs"}
    assert "theirs" not in repr(done)
    assert services.seen == ["PutItem", "PutItem"]


def test_a_callers_own_operation_id_survives_its_own_repetitions(services: Any, table: str) -> None:
    """Who brings a guard of their own gives the id, and is told that the write is theirs."""
    db = DynamoDb(services.through("dynamodb"), retry=None)
    services.lose("dynamodb.PutItem")
    with pytest.raises(Exception, match="Connection was closed"):
        db.put(table, by("a"), condition=ABSENT, operation_id="op")
    assert db.put(table, by("a"), condition=ABSENT, operation_id="op").repeated
    assert not db.put(table, by("a"), condition=ABSENT, operation_id="another").applied


def test_an_update_under_a_condition_knows_its_own_write(services: Any, db: DynamoDb, table: str) -> None:
    """As a put does; a second writer is told no."""
    services.lose("dynamodb.UpdateItem")
    done = db.update(table, by("a"), "SET n = :one REMOVE gone", condition="attribute_not_exists(n)", values=ONE)
    assert (done.applied, done.repeated) == (True, True)
    assert not db.update(table, by("a"), "SET n = :one", condition="attribute_not_exists(n)", values=ONE).applied


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("SET a = :a", "SET #resilient_mark = :resilient_mark, a = :a"),
        ("REMOVE b SET a = :a", "REMOVE b SET #resilient_mark = :resilient_mark, a = :a"),
        ("set #set = :set", "SET #resilient_mark = :resilient_mark, #set = :set"),
        ("REMOVE b", "SET #resilient_mark = :resilient_mark REMOVE b"),
        ("REMOVE offset ", "SET #resilient_mark = :resilient_mark REMOVE offset "),
    ],
)
def test_the_mark_joins_the_expression(expression: str, expected: str) -> None:
    """An update expression has one SET clause, wherever it stands, and names that look like it are none."""
    assert _marked(expression) == expected


@pytest.mark.parametrize("expression", ["ADD n :one", "SET n = if_not_exists(n, :zero) + :one"])
def test_what_counts_on_counts_once(services: Any, db: DynamoDb, table: str, expression: str) -> None:
    """Its answer is lost, it is repeated, and the counter says one: a transaction with a token carries it."""
    services.lose("dynamodb.TransactWriteItems")
    values = {**ONE, ":zero": {"N": "0"}} if "zero" in expression else ONE
    assert db.update(table, by("a"), expression, values=values).applied
    assert services.seen == ["TransactWriteItems"] * 2
    assert counters(services, table) == ["1"]


def test_a_count_whose_condition_fails_tells_what_stands_there(services: Any, db: DynamoDb, table: str) -> None:
    """As any other write under a condition; nothing, if there is no item."""
    db.put(table, {**by("a"), "n": {"N": "5"}})
    values = {**ONE, ":most": {"N": "3"}}
    done = db.update(table, by("a"), "ADD n :one", condition="n < :most", values=values)
    assert (done.applied, done.found) == (False, {**by("a"), "n": {"N": "5"}})
    done = db.update(table, by("b"), "ADD n :one", condition="n < :most", values=values)
    assert (done.applied, done.found) == (False, None)


def test_an_outer_retry_does_not_count_again(local: Any, script: Any, failed: Any, clock: ManualRuntime) -> None:
    """The inner one gave up throttled, with a token that is gone, after an attempt whose answer was lost."""
    exceptions = pytest.importorskip("botocore.exceptions")
    client = local("dynamodb")
    throttled = failed("ProvisionedThroughputExceededException")
    sent = script(client, exceptions.ConnectionClosedError(endpoint_url="u"), throttled, throttled, (200, {}))
    db = DynamoDb(client)
    with pytest.raises(client.exceptions.ProvisionedThroughputExceededException):
        Retry(attempts=2, classify=AWS).call(lambda: db.update("ttt", by("a"), "ADD n :one", values=ONE))
    assert len({one.body["ClientRequestToken"] for one in sent.sent}) == 1


@pytest.mark.parametrize(
    ("expression", "counts"),
    [
        ("SET #a = :a, b.c=:c", False),
        ("SET a = if_not_exists(a, :a), #ab = if_not_exists( #ab , :b)", False),
        ("REMOVE a, b DELETE c :c", False),
        ("SET before = now, now = :now", True),
        ("SET a = if_not_exists(b, :a), b = :b", True),
        ("REMOVE tags[0]", True),
        ("SET tags[99] = :tag", True),
        ("add n :one", True),
    ],
)
def test_what_depends_on_the_old_item_goes_as_a_transaction(expression: str, counts: bool) -> None:
    """Twice is not as once where the old value decides: the element after the removed one moves up."""
    sent: list[str] = []

    class Line:
        def update_item(self, **_: Any) -> dict[str, Any]:
            sent.append("update")
            return {}

        def transact_write_items(self, ClientRequestToken: str, **_: Any) -> dict[str, Any]:  # noqa: N803
            assert len(ClientRequestToken) <= 36
            sent.append("transaction")
            return {}

    DynamoDb(Line(), retry=None, breaker=None).update("table", by("a"), expression, operation_id="x" * 50)
    assert sent == ["transaction" if counts else "update"]


def test_all_attempts_of_a_transaction_carry_one_token(
    local: Callable[..., Any], script: Callable[..., Any], clock: ManualRuntime
) -> None:
    """A conflict is tried again with it; the SDK would make a new one for each attempt."""
    client = local("dynamodb")
    conflict = {
        "__type": "TransactionCanceledException",
        "Message": "m",
        "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}],
    }
    sent = script(client, (400, conflict), (400, conflict), (200, {}))
    assert DynamoDb(client).transact([add("t", "a"), add("t", "b")]).applied
    tokens = {one.body["ClientRequestToken"] for one in sent.sent}
    assert (len(sent.sent), len(tokens)) == (3, 1)
    assert clock.slept


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (("ThrottlingError", "None"), Kind.throttled),
        (("ValidationError", "ThrottlingError"), Kind.invalid),
        (("TransactionConflict", "None"), Kind.conflict),
    ],
)
def test_the_reasons_decide_what_a_cancellation_is(
    local: Callable[..., Any], script: Callable[..., Any], codes: tuple[str, str], kind: Kind
) -> None:
    """Not the one code that they all share; what is no condition is raised."""
    client = local("dynamodb")
    reasons = [{"Code": code} for code in codes]
    script(client, (400, {"__type": "TransactionCanceledException", "CancellationReasons": reasons}))
    with pytest.raises(Exception, match="TransactionCanceled") as caught:
        DynamoDb(client, retry=None).transact([add("t", "a"), add("t", "b")])
    assert AWS(caught.value).kind is kind


def test_a_condition_in_a_transaction_is_an_answer(db: DynamoDb, table: str) -> None:
    """All reasons in the order of the writes; nothing is written."""
    db.put(table, by("a"))
    wanted = [
        {"Put": {"TableName": table, "Item": by("b")}},
        {"Put": {"TableName": table, "Item": by("a"), "ConditionExpression": ABSENT}},
    ]
    assert db.transact(wanted) == Transacted(False, ("None", "ConditionalCheckFailed"))
    assert db.get(table, by("b")) is None


def test_more_than_a_transaction_takes_is_refused_with_a_cure() -> None:
    """Found out before anything is sent."""
    with pytest.raises(OptionError, match="write_in_parts") as caught:
        DynamoDb(object()).transact([add("t", str(number)) for number in range(101)])
    assert "101" in str(caught.value)


def test_a_record_waits_as_long_as_it_is_told(
    local: Callable[..., Any], script: Callable[..., Any], failed: Callable[..., Any], clock: ManualRuntime
) -> None:
    """Two retries on throughput errors, each after twice the wait; then the error comes out."""
    client = local("dynamodb")
    db = DynamoDb(client, retry=AUDIT.retry)
    sent = script(client, failed("ProvisionedThroughputExceededException"))
    with pytest.raises(Exception, match="ProvisionedThroughputExceeded"):
        db.put("audit", by("a"))
    assert (len(sent.sent), clock.slept) == (3, pytest.approx([0.1, 0.2]))
    sent.replies[:] = [failed("ProvisionedThroughputExceededException"), (200, {})]
    assert db.put("audit", by("a")).applied


# -- writes in parts ----------------------------------------------------------------------------------------------


def test_a_write_in_parts_goes_on_where_it_stopped(services: Any, db: DynamoDb, table: str) -> None:
    """250 writes are three transactions. The second fails for good; the repetition leaves the first alone."""
    writes = [add(table, str(number)) for number in range(250)]
    progress = services.table()
    services.strike("dynamodb.TransactWriteItems", "503", 2, 3, 4)
    with pytest.raises(Exception, match="ServiceUnavailable"):
        db.write_in_parts(writes, operation_id="op", progress=progress)
    assert counters(services, table) == ["1"] * 99
    before = len(services.seen)
    done = db.write_in_parts(writes, operation_id="op", progress=progress)
    assert (done.done, done.of, done.complete) == (3, 3, True)
    assert services.seen[before:].count("TransactWriteItems") == 2
    assert counters(services, table) == ["1"] * 250
    before = len(services.seen)
    assert db.write_in_parts(writes, operation_id="op", progress=progress).complete
    assert services.seen[before:] == ["GetItem"]


def test_a_part_whose_answer_was_lost_long_ago_is_not_carried_out_again(
    services: Any, db: DynamoDb, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service forgets tokens after ten minutes; the progress, written with each part, does not."""
    writes = [add(table, str(number)) for number in range(120)]
    progress = services.table()
    assert db.write_in_parts(writes, operation_id="op", progress=progress).complete
    looks = [0, 2]  # a stale look first, as of somebody who works beside us
    monkeypatch.setattr(DynamoDb, "_parts_done", lambda *_: looks.pop(0))
    assert db.write_in_parts(writes, operation_id="op", progress=progress).complete
    assert counters(services, table) == ["1"] * 120


@pytest.mark.parametrize("kept", [0, 1])
def test_a_write_in_parts_that_was_deleted_is_written_anew(
    services: Any, db: DynamoDb, table: str, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """With its progress, and a minute later: it says that it is complete only if it is. Also if both go meanwhile."""
    writes = [add(table, str(number)) for number in range(120)]
    progress = services.table()
    assert db.write_in_parts(writes, operation_id="op", progress=progress).complete
    db.write_many(table, deletes=[by(str(number)) for number in range(120)])
    db.delete(progress, by("op"))
    look = DynamoDb._parts_done
    looks = [1] * kept  # it began before they were deleted
    monkeypatch.setattr(DynamoDb, "_parts_done", lambda *args: looks.pop() if looks else look(*args))
    assert db.write_in_parts(writes, operation_id="op", progress=progress).complete
    assert counters(services, table) == ["1"] * 120
    assert db.get(progress, by("op"))["done"] == {"N": "2"}


def test_progress_may_be_deleted_as_soon_as_it_is_complete(services: Any, table: str) -> None:
    """Also if the writer has not heard of it yet: the attempt that follows knows its own part, and repeats nothing."""
    progress = services.table()
    reader = services.direct("dynamodb")
    read: list[str] = []

    def tidy(*_: object) -> None:
        read.append(reader.get_item(TableName=progress, Key=by("op"))["Item"]["done"]["N"])
        reader.delete_item(TableName=progress, Key=by("op"))

    db = DynamoDb(services.through("dynamodb"), retry=Retry(before_sleep=tidy))
    services.lose("dynamodb.TransactWriteItems")
    assert db.write_in_parts([add(table, "a")], operation_id="op", progress=progress).complete
    assert (read, counters(services, table)) == (["1"], ["1"])


def test_two_who_write_the_same_parts_write_them_once(services: Any, table: str) -> None:
    """Each goes on where the other stands."""
    writes = [add(table, str(number)) for number in range(250)]
    progress = services.table()
    db = DynamoDb(services.direct("dynamodb"), breaker=None)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(db.write_in_parts, writes, operation_id="op", progress=progress) for _ in range(4)]
        assert all(one.result().complete for one in done)
    assert counters(services, table) == ["1"] * 250


def test_a_condition_inside_a_part_stops_it(services: Any, db: DynamoDb, table: str) -> None:
    """What was done is told, with the reasons of the part that was not."""
    db.put(table, by("there"))
    writes = [add(table, str(number)) for number in range(99)]
    writes.append({"Put": {"TableName": table, "Item": by("there"), "ConditionExpression": ABSENT}})
    done = db.write_in_parts(writes, operation_id="op", progress=services.table())
    assert (done.done, done.of, done.reasons) == (1, 2, ("ConditionalCheckFailed",))
    assert not done.complete


def test_an_id_stands_for_one_set_of_writes(services: Any, db: DynamoDb, table: str) -> None:
    """Reused for others it is refused, without showing it; numbers written in another way are the same writes."""
    progress = services.table()
    db.write_in_parts([add(table, "a")], operation_id="planted-id", progress=progress)
    same = add(table, "a")
    same["Update"]["ExpressionAttributeValues"] = {":one": {"N": "1.0"}}
    assert db.write_in_parts([same], operation_id="planted-id", progress=progress).complete
    with pytest.raises(DifferentWritesError) as caught:
        db.write_in_parts([add(table, "b")], operation_id="planted-id", progress=progress)
    assert "planted-id" not in f"{caught.value} {caught.value!r} {caught.value.args}"
    assert AWS(caught.value).kind is Kind.invalid


def test_parts_keep_to_both_limits() -> None:
    """99 writes beside the progress, and 4 MB."""
    assert [len(part) for part in _split([add("t", str(number)) for number in range(200)])] == [99, 99, 2]
    large = [{"Put": {"TableName": "t", "Item": {**by(str(n)), "x": {"S": "x" * 390_000}}}} for n in range(20)]
    assert [len(part) for part in _split(large)] == [8, 8, 4]


def test_equal_items_have_equal_texts() -> None:
    """Members in any order, numbers as DynamoDB compares them, bytes."""
    assert _canonical({"a": {"N": "10"}, "b": {"B": b"x"}}) == _canonical({"b": {"B": b"x"}, "a": {"N": "1e1"}})
    assert _canonical({"a": {"S": "10"}}) != _canonical({"a": {"S": "1e1"}})
    assert _canonical({"N": f"{10**37}"}) == _canonical({"N": "1E37"}) != _canonical({"N": f"{10**37 + 1}"})
    assert len({_canonical({"N": zero}) for zero in ("0", "-0", "0.00", "0E5")}) == 1


# -- batches ------------------------------------------------------------------------------------------------------


def test_items_come_in_the_order_of_their_keys(services: Any, db: DynamoDb, table: str) -> None:
    """120 keys are two requests; a key that stands twice is asked once, one without an item gives None."""
    db.write_many(table, puts=[by(str(number)) for number in range(118)])
    keys = [by(str(number)) for number in (*range(117, -1, -1), 999, 5)]
    before = len(services.seen)
    found = db.get_many(table, keys)
    assert found == (*(by(str(number)) for number in range(117, -1, -1)), None, by("5"))
    assert services.seen[before:] == ["BatchGetItem"] * 2


def test_numbers_keep_all_their_digits(local: Any, script: Any) -> None:
    """DynamoDB's numbers have 38 digits: each key has its own item, and one that is not there none."""
    keys = [{"id": {"N": f"1234567890123456789012345678901234567{last}"}} for last in (1, 2)]
    client = local("dynamodb")
    sent = script(client, (200, {"Responses": {"t": [keys[1]]}, "UnprocessedKeys": {}}))
    assert DynamoDb(client).get_many("t", keys) == (None, keys[1])
    assert sent.sent[0].body["RequestItems"]["t"]["Keys"] == keys


def test_only_the_rest_of_a_batch_is_sent_again(services: Any, db: DynamoDb, table: str, clock: ManualRuntime) -> None:
    """Half of the first request is left; after a pause it goes with what had not been sent yet."""
    services.strike("dynamodb.BatchWriteItem", "partial")
    assert db.write_many(table, puts=[by(str(number)) for number in range(30)]) == 30
    assert services.seen == ["BatchWriteItem"] * 2
    assert len(clock.slept) == 1
    services.strike("dynamodb.BatchGetItem", "partial")
    assert len([item for item in db.get_many(table, [by(str(number)) for number in range(30)]) if item]) == 30
    assert db.write_many(table, deletes=[by("0")]) == 1
    assert db.get(table, by("0")) is None


def test_a_batch_that_gets_nowhere_ends(
    services: Any, db: DynamoDb, table: str, clock: ManualRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """After so many requests in vain the rest is handed back; none of it is in any text, also after pickling."""
    caplog.set_level(logging.DEBUG, logger="resilient_faces")  # the SDK itself writes bodies at DEBUG
    services.strike("dynamodb.BatchWriteItem", "partial", *range(1, 30))
    with pytest.raises(UnfinishedBatchError) as caught:
        db.write_many(table, puts=[by("planted-a"), by("planted-b")])
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.done, error.left) == (1, ({"PutRequest": {"Item": by("planted-b")}},))
    assert AWS(error).kind is Kind.throttled
    assert len(services.seen) == ROUNDS + 1
    assert "planted" not in f"{error!s}{error!r}{caplog.text}{services.written}"
    assert clock.slept == sorted(clock.slept)  # with the same chance each pause is as long as the last, or longer


def test_no_pause_of_a_batch_ends_after_the_deadline(
    services: Any, db: DynamoDb, table: str, clock: ManualRuntime
) -> None:
    """What is left then is handed back at once."""
    services.strike("dynamodb.BatchWriteItem", "partial", *range(1, 30))
    began = clock.now
    with Deadline(0.3), pytest.raises(UnfinishedBatchError):
        db.write_many(table, puts=[by("a"), by("b")])
    assert clock.now - began < 0.3


def test_a_repeated_batch_writes_once(services: Any, db: DynamoDb, table: str) -> None:
    """Puts and deletes of whole items may be repeated after a lost answer."""
    services.lose("dynamodb.BatchWriteItem")
    assert db.write_many(table, puts=[by("a")]) == 1
    assert services.seen == ["BatchWriteItem"] * 2


# -- both faces ---------------------------------------------------------------------------------------------------


def test_options_are_checked() -> None:
    """A mistyped one is refused, a wrong one named."""
    with pytest.raises(TypeError, match="retries"):
        DynamoDb(object(), retries=Retry())  # type: ignore[call-arg]
    with pytest.raises(OptionError, match=r"DynamoDb\.mark"):
        DynamoDb(object(), mark="")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_face_does_the_same(services: Any, table: str, backend: str) -> None:
    """In a worker thread, with the same guards."""
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    db = AsyncDynamoDb(DynamoDb(services.through("dynamodb")))

    async def both() -> tuple[bool, Any]:
        done = await db.put(table, by("a"), condition=ABSENT)
        return done.repeated, await db.get(table, by("a"))

    services.lose("dynamodb.PutItem")
    repeated, item = anyio.run(both, backend=backend)
    assert repeated
    assert item["id"] == {"S": "a"}
