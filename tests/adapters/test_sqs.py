"""SQS: what travels with a message, what a lost answer leaves behind, dead letters and their way back."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces import request
from resilient_faces._core.context import REQUEST, remaining
from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters import cloudwatch, dynamodb, s3, sns, sqs
from resilient_faces.adapters.aws import AWS, AsyncFace, DamagedAnswerError
from resilient_faces.adapters.sqs import (
    MAX_VISIBILITY,
    AsyncSqs,
    Delivery,
    Outgoing,
    RefusedEntriesError,
    Sqs,
    UnfinishedBatchError,
)
from resilient_faces.errors import DeadlineExceededError, OptionError
from resilient_faces.events import Event
from resilient_faces.faults import Fault, Kind
from resilient_faces.limits import Deadline


@pytest.fixture
def queue(services: Any) -> Sqs:
    return Sqs(services.through("sqs"), services.queue(), services.queue())


def take(queue: Sqs, most: int = 10) -> tuple[Delivery, ...]:
    return queue.receive(most, wait=1, visibility=60)


def dead_letters(services: Any, queue: Sqs) -> tuple[Delivery, ...]:
    return take(Sqs(services.direct("sqs"), queue._dead_letters or ""))


def test_all_copies_of_a_message_carry_one_id(services: Any, queue: Sqs) -> None:
    """The answer is lost, the send is repeated: two messages, by one id one."""
    services.lose("sqs.SendMessage")
    sent = queue.send("work")
    copies = take(queue)
    assert [one.id for one in copies] == [sent.id, sent.id]
    assert len({one.message_id for one in copies}) == 2


def test_a_fifo_queue_drops_the_second_copy(services: Any) -> None:
    """Its de-duplication id is ours."""
    queue = Sqs(services.through("sqs"), services.queue(fifo=True))
    services.lose("sqs.SendMessage")
    queue.send("work", group="g")
    assert [one.group for one in take(queue)] == ["g"]
    with pytest.raises(OptionError, match="group"):
        queue.send("work")


def test_request_and_deadline_travel_with_the_work(services: Any, queue: Sqs, clock: ManualRuntime) -> None:
    """What is in force where a message is sent is in force where it is worked on, less the time in between."""
    with request("request-7", "upload"), Deadline(30.0):
        queue.send("work")
    clock.advance(10.0)
    (delivery,) = take(queue)
    assert delivery.request_id == "request-7"
    with delivery.work():
        assert REQUEST.get().id == "request-7"
        assert remaining() == pytest.approx(20.0, abs=0.01)
    clock.advance(21.0)
    with pytest.raises(DeadlineExceededError), delivery.work():
        raise AssertionError("begun too late")


def test_work_without_a_deadline_waits_for_ever(services: Any, queue: Sqs, clock: ManualRuntime) -> None:
    """`math.inf` says so where a deadline is in force; and a message of others has none."""
    with Deadline(30.0):
        queue.send("ours", within=math.inf)
    services.direct("sqs").send_message(QueueUrl=queue._queue, MessageBody="theirs")
    clock.advance(1000.0)
    found = {one.body: one for one in take(queue)}
    assert set(found) == {"ours", "theirs"}
    assert found["theirs"].id == found["theirs"].message_id
    with found["theirs"].work():
        assert remaining() is None
        assert REQUEST.get().id == found["theirs"].id


def test_expired_work_is_dropped_and_counted(services: Any, queue: Sqs, clock: ManualRuntime) -> None:
    """Deleted without being handed on, told as an event of its request; what is in time comes through."""
    heard: list[Event] = []
    RUNTIME.listen(heard.append)
    with request("request-8"):
        queue.send("late", within=5.0)
    queue.send("in time")
    clock.advance(5.9)
    assert len(take(queue)) == 2  # clocks may differ by a second
    late = Sqs(services.through("sqs"), queue._queue, tolerance=0.0)
    with request("request-9"):
        late.send("late", within=5.0)
    clock.advance(6.0)
    assert take(late) == ()
    assert late.expired == 1
    told = [one for one in heard if one.status == "expired"]
    assert [(one.type, one.policy, one.request_id) for one in told] == [("rejected", "sqs", "request-9")]


def test_a_receive_is_not_repeated(services: Any, queue: Sqs) -> None:
    """A lost answer hides its messages; asking again at once would hide more and use up deliveries."""
    queue.send("work")
    services.lose("sqs.ReceiveMessage")
    with pytest.raises(Exception, match="closed"):
        take(queue)
    assert services.seen.count("ReceiveMessage") == 1


def test_a_message_that_lacks_something_is_a_damaged_answer(
    local: Callable[..., Any], script: Callable[..., Any]
) -> None:
    """Not an empty queue, and not a crash of the reader."""
    client = local("sqs")
    script(client, (200, {"Messages": [{"MessageId": "m", "Body": "b"}]}))
    with pytest.raises(DamagedAnswerError, match="lacks"):
        Sqs(client, "http://127.0.0.1/q", retry=None).receive(1, wait=0, visibility=1)


def test_a_receive_waits_no_longer_than_the_deadline(clock: ManualRuntime) -> None:
    """A wait that the read timeout cuts off would hide what came meanwhile."""
    asked: list[int] = []

    class Line:
        def receive_message(self, **parameters: Any) -> dict[str, Any]:
            asked.append(parameters["WaitTimeSeconds"])
            return {}

    queue = Sqs(Line(), "q", retry=None, breaker=None)
    for left in (60.0, 5.5, 1.5, 0.5):
        with Deadline(left):
            queue.receive(1, wait=20, visibility=60)
    queue.receive(1, wait=20, visibility=60)
    assert asked == [20, 4, 0, 0, 20]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"most": 0, "wait": 1, "visibility": 60}, "most"),
        ({"most": 1, "wait": 21, "visibility": 60}, "wait"),
        ({"most": 1, "wait": 1, "visibility": -1}, "visibility"),
        ({"most": 1, "wait": 1, "visibility": 43_201}, "visibility"),
        ({"most": "1", "wait": 1, "visibility": 60}, "most"),
    ],
)
def test_what_the_queue_would_refuse_is_refused_before(options: dict[str, Any], wrong: str) -> None:
    """In one message that names the option and its rule."""
    queue = Sqs(object(), "q", retry=None, breaker=None)
    with pytest.raises(OptionError, match=rf"\ASqs\.receive\.{wrong} must be"):
        queue.receive(**options)
    for body in (b"bytes", None):
        with pytest.raises(OptionError, match=r"Sqs\.send\.body must be a string"):
            queue.send(body)  # type: ignore[arg-type]


def test_receipts_that_are_lost_are_let_go(services: Any, queue: Sqs) -> None:
    """Somebody else has the message by now, or it is done: neither is an error."""
    queue.send("work")
    (delivery,) = take(queue)
    assert queue.extend(delivery, 60.0)
    stale = dataclasses.replace(delivery, receipt="no-such-receipt")
    queue.ack(stale)
    queue.retry(stale, 0.0)
    assert not queue.extend(stale, 60.0)
    queue.ack_many([stale, delivery])
    assert queue.waiting() == (0, 0)


@pytest.mark.parametrize(
    "reason",
    ["Message does not exist or is not available for visibility timeout change.", "The receipt handle has expired."],
)
def test_a_lost_receipt_may_be_told_by_its_text_only(
    local: Callable[..., Any], script: Callable[..., Any], caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """As of FIFO queues and expired receipts: the code is that of any wrong parameter, and the text has the receipt."""
    caplog.set_level("DEBUG", logger="resilient_faces")
    text = f"Value planted for parameter ReceiptHandle is invalid. Reason: {reason}"
    wrong = (
        400,
        {"__type": "com.amazonaws.sqs#InvalidParameterValueException", "message": text},
        {"x-amzn-query-error": "InvalidParameterValue;Sender"},
    )
    client = local("sqs")
    seen = script(client, wrong)
    queue = Sqs(client, "http://127.0.0.1/q.fifo")
    delivery = Delivery("b", "planted", 1, "m", received=RUNTIME.monotonic())
    queue.ack(delivery)
    queue.retry(delivery, 5.0)
    assert not queue.extend(delivery, 60.0)
    heart = sqs._Heart(queue, delivery, 30)
    assert not heart.beat()
    assert heart.hold.lost
    code = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue"}
    seen.replies = [(200, {"Failed": [{**code, "Message": text}], "Successful": []})]
    queue.ack_many([delivery])
    seen.replies = [(200, {"Failed": [{**code, "Message": "Value is too long."}], "Successful": []})]
    with pytest.raises(RefusedEntriesError) as caught:
        queue.ack_many([delivery])
    assert "planted" not in f"{caught.value!r}{caplog.text}"
    seen.replies = [(400, {"message": "Value 1 for parameter VisibilityTimeout is invalid."}, wrong[2])]
    with pytest.raises(Exception, match="VisibilityTimeout"):
        queue.extend(delivery, 60.0)


def test_a_retry_hands_the_message_out_again(queue: Sqs) -> None:
    """With its count."""
    queue.send("work")
    (first,) = take(queue)
    queue.retry(first, 0.0)
    (second,) = take(queue)
    assert (first.count, second.count, second.id) == (1, 2, first.id)


# -- batches ------------------------------------------------------------------------------------------------------


def test_only_what_failed_is_sent_again(services: Any, queue: Sqs, clock: ManualRuntime) -> None:
    """23 messages are three requests; of the first only a half got in."""
    services.strike("sqs.SendMessageBatch", "partial")
    sent = queue.send_many([f"work {number}" for number in range(23)])
    assert len({one.id for one in sent}) == len({one.message_id for one in sent}) == 23
    assert services.seen == ["SendMessageBatch"] * 3
    assert queue.waiting()[0] == 23
    found: list[Delivery] = []
    while batch := take(queue):
        found += batch
    services.strike("sqs.DeleteMessageBatch", "partial")
    queue.ack_many(found)
    assert services.seen.count("DeleteMessageBatch") == 3
    assert queue.waiting() == (0, 0)


def test_what_the_queue_refuses_is_not_sent_again(
    local: Callable[..., Any], script: Callable[..., Any], clock: ManualRuntime
) -> None:
    """The sender's own fault stays one; all others are sent, and their ids are told."""
    client = local("sqs")
    wrong = {"Id": "1", "SenderFault": True, "Code": "InvalidMessageContents"}
    sent = script(
        client, (200, {"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": None}], "Failed": [wrong]})
    )
    with pytest.raises(RefusedEntriesError) as caught:
        Sqs(client, "http://127.0.0.1/q").send_many(["planted good", Outgoing("planted bad")])
    error = caught.value
    assert (len(sent.sent), error.done, error.refused) == (1, 1, {"1": "InvalidMessageContents"})
    assert AWS(error).kind is Kind.invalid
    assert "planted" not in f"{error!s}{error!r}{sent.operations}"


def test_a_batch_that_gets_nowhere_is_handed_back(services: Any, queue: Sqs, clock: ManualRuntime) -> None:
    """As the messages that were given, to be sent later with the same ids."""
    services.strike("sqs.SendMessageBatch", "partial", *range(1, 30))
    messages = [Outgoing("a", id="id-a"), Outgoing("b", id="id-b")]
    with pytest.raises(UnfinishedBatchError) as caught:
        queue.send_many(messages)
    assert caught.value.left == (messages[1],)
    assert [one.id for one in caught.value.results] == ["id-a"]  # type: ignore[attr-defined]


def test_an_answer_must_speak_of_every_entry(
    local: Callable[..., Any], script: Callable[..., Any], clock: ManualRuntime
) -> None:
    """An empty 200 would pass for success otherwise."""
    client = local("sqs")
    sent = script(client, (200, {"Successful": [], "Failed": []}))
    with pytest.raises(DamagedAnswerError, match="all entries"):
        Sqs(client, "http://127.0.0.1/q").send_many(["a"])
    assert len(sent.sent) == 3


def test_batches_keep_to_the_size_of_a_request(services: Any, queue: Sqs) -> None:
    """1 MB of bodies a request; one that is larger is refused before it is sent."""
    queue.send_many(["x" * 400_000] * 3)
    assert services.seen == ["SendMessageBatch"] * 2
    with pytest.raises(OptionError, match="S3"):
        queue.send("x" * 1_048_577)
    with pytest.raises(OptionError, match="delay"):
        queue.send("x", delay=901.0)


# -- dead letters -------------------------------------------------------------------------------------------------


def test_a_dead_letter_is_sent_before_its_message_is_deleted(services: Any, queue: Sqs) -> None:
    """A crash between the two leaves the message in both places, never in none."""
    queue.send("work")
    (delivery,) = take(queue)
    services.strike("sqs.DeleteMessage", "500", 1, 2, 3)
    with pytest.raises(Exception, match="InternalServerError"):
        queue.dead(delivery, "no use")
    assert services.seen.index("SendMessage", 1) < services.seen.index("DeleteMessage")
    services.strike("sqs.SendMessage", "500", 1, 2, 3)
    with pytest.raises(Exception, match="InternalServerError"):
        queue.dead(delivery, "no use")
    assert services.seen.count("DeleteMessage") == 3
    (letter,) = dead_letters(services, queue)
    assert (letter.id, letter.body, letter.reason) == (delivery.id, "work", "no use")


def test_a_dead_letter_says_kind_and_code_and_names_nobody(
    services: Any, queue: Sqs, clock: ManualRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """The text of the error, which may hold anything, stays behind; so does the deadline."""
    caplog.set_level("DEBUG", logger="resilient_faces")
    heard: list[Event] = []
    RUNTIME.listen(heard.append)
    with request("request-1"):
        queue.send("key-of-a-photo", within=5.0)
    (delivery,) = take(queue)
    queue.dead(delivery, AWS(ValueError("planted-name")))
    clock.advance(100.0)
    (letter,) = dead_letters(services, queue)
    assert (letter.reason, letter.request_id, letter.deadline) == ("unknown: ValueError", "request-1", None)
    texts = f"{letter!r}{delivery!r}{heard}{caplog.text}{services.written}{letter.attributes}"
    assert "planted-name" not in texts
    assert "key-of-a-photo" not in f"{letter!r}{delivery!r}{heard}{caplog.text}{services.written}"


def test_a_reason_is_short_and_printable(services: Any, queue: Sqs) -> None:
    """And never empty, which the queue would refuse."""
    queue.send("a")
    queue.send("b")
    for delivery, reason in zip(take(queue), ("x\n\x00" * 300, ""), strict=True):
        queue.send_dead(delivery, reason)
    assert {one.reason for one in dead_letters(services, queue)} == {"x" * 250, "unknown"}


def test_without_a_dead_letter_queue_there_are_no_dead_letters(services: Any) -> None:
    """Said with the option that is missing."""
    queue = Sqs(services.through("sqs"), services.queue())
    with pytest.raises(OptionError, match="dead_letter_url"):
        queue.send_dead(Delivery("b", "r", 1, "m"), "x")
    with pytest.raises(OptionError, match="dead_letter_url"):
        list(queue.redrive())
    with pytest.raises(OptionError, match="another queue"):
        Sqs(object(), "q", "q")


def test_dead_letters_go_back_with_their_ids(services: Any, queue: Sqs) -> None:
    """All attributes but reason and deadline; how often is counted; nothing is left behind."""
    with request("request-1"):
        sent = queue.send_many([str(number) for number in range(12)])
    while batch := take(queue):
        for delivery in batch:
            queue.dead(delivery, "x")
    steps = list(queue.redrive())
    assert {one.id for one in steps} == {one.id for one in sent}
    assert not any(one.error_code for one in steps)
    assert queue.waiting() == (12, 0)
    (again, *_) = take(queue)
    assert (again.reason, again.request_id) == ("", "request-1")
    assert again.attributes["redriven"]["StringValue"] == "1"
    queue.dead(again, "x")
    list(queue.redrive())
    numbers: list[str] = []
    while batch := take(queue):
        numbers += [one.attributes["redriven"]["StringValue"] for one in batch if one.id == again.id]
    assert numbers == ["2"]


def test_a_fifo_message_can_die_and_come_back_again_and_again(services: Any) -> None:
    """A FIFO queue forgets no de-duplication id for five minutes: one that came twice would swallow the message."""
    main, dead = services.queue(fifo=True), services.queue(fifo=True)
    queue = Sqs(services.through("sqs"), main, dead)
    long = "i" * 200
    queue.send("work", id=long, group="g")
    for _ in range(3):
        (delivery,) = take(queue)
        queue.dead(delivery, "no use")
        assert [one.error_code for one in queue.redrive(1)] == [""]
    assert [one.id for one in take(queue)] == [long]


def test_long_ids_of_fifo_messages_stay_different(services: Any) -> None:
    """The queue takes 128 printable characters: what is longer is hashed, not cut."""
    queue = Sqs(services.through("sqs"), services.queue(fifo=True))
    for number in "12":
        queue.send("work", id="i" * 128 + number, group="g")
    queue.send("work", id="two words", group="h")
    assert len(take(queue)) == 3


def test_a_count_of_others_is_no_reason_to_stop(services: Any, queue: Sqs) -> None:
    """An attribute `redriven` that somebody else wrote may be anything."""
    attribute = {"redriven": {"DataType": "String", "StringValue": "yes"}}
    services.direct("sqs").send_message(QueueUrl=queue._dead_letters, MessageBody="x", MessageAttributes=attribute)
    assert [one.error_code for one in queue.redrive()] == [""]


def test_what_was_moved_once_is_not_moved_twice(services: Any, queue: Sqs) -> None:
    """A message that dies again meanwhile, or a second copy, stays a dead letter and can be seen at once."""
    queue.send("work")
    (delivery,) = take(queue)
    queue.send_dead(delivery, "x")
    queue.dead(delivery, "x")  # two copies of one message
    assert len(list(queue.redrive())) == 1
    assert queue.waiting() == (1, 1)
    assert len(dead_letters(services, queue)) == 1


def test_a_redrive_that_is_stopped_leaves_the_rest_untouched(services: Any, queue: Sqs) -> None:
    """Between two steps nothing is half done; what was received and not moved is seen by others at once."""
    queue.send_many(["a", "b", "c"])
    for delivery in take(queue):
        queue.dead(delivery, "x")
    steps = queue.redrive()
    next(steps)
    steps.close()
    assert queue.waiting() == (1, 2)
    assert len(list(queue.redrive(1))) == 1
    assert queue.waiting() == (2, 1)


def test_what_cannot_be_moved_stays_a_dead_letter(services: Any, queue: Sqs) -> None:
    """Its code is told, and the next one is tried."""
    queue.send_many(["a", "b"])
    for delivery in take(queue):
        queue.dead(delivery, "x")
    services.strike("sqs.SendMessage", "500", 1, 2, 3)
    steps = list(queue.redrive())
    assert sorted(one.error_code for one in steps) == ["", "InternalServerError"]
    assert queue.waiting()[0] == 1


# -- the heartbeat ------------------------------------------------------------------------------------------------


class Line:
    """A client that notes what is asked of it."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.beaten = threading.Event()

    def change_message_visibility(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters["VisibilityTimeout"])
        self.beaten.set()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return {}


def lost() -> Exception:
    exceptions = pytest.importorskip("botocore.exceptions")
    details = {"Error": {"Code": "ReceiptHandleIsInvalid"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error: Exception = exceptions.ClientError(details, "ChangeMessageVisibility")
    return error


def held(line: Line, received: float | None = None) -> tuple[Any, Delivery]:
    return Sqs(line, "q", retry=None, breaker=None), Delivery("b", "r", 1, "m", received=received)


def test_work_in_hand_is_kept_hidden() -> None:
    """From a thread, a third into each time; and no longer than the work."""
    line = Line()
    queue, delivery = held(line)
    with queue.keep(delivery, 1) as hold:
        assert line.beaten.wait(5)
    count = len(line.asked)
    assert (set(line.asked), hold.lost) == ({1}, False)
    assert not any(thread.name == "resilient_faces-heartbeat" for thread in threading.enumerate())
    assert len(line.asked) == count


def test_a_lost_receipt_is_told_to_the_work(clock: ManualRuntime) -> None:
    """A failed beat is none: two more come before the time is over."""
    line = Line(OSError("x"), lost())
    queue, delivery = held(line)
    heart = sqs._Heart(queue, delivery, 30)
    assert heart.beat()
    assert not heart.beat()
    assert heart.hold.lost


def test_a_message_that_could_not_be_kept_is_lost_too(clock: ManualRuntime) -> None:
    """When its time is over somebody else may have it, whatever the reason why it was not extended."""
    line = Line(OSError("x"), OSError("x"), OSError("x"))
    queue, delivery = held(line, received=clock.now)
    heart = sqs._Heart(queue, delivery, 30)
    beats = []
    for _ in range(3):
        clock.advance(10.0)
        beats.append(heart.beat())
    assert (beats, heart.hold.lost) == ([True, True, False], True)


def test_work_that_begins_late_is_kept_at_once() -> None:
    """Counted from when the message was handed out: one that waited its turn has not got all of its time left."""
    line = Line()
    queue, delivery = held(line, received=RUNTIME.monotonic() - 200.0)
    with queue.keep(delivery, 600):
        assert line.beaten.wait(5)
    assert line.asked == [600]


def test_nobody_keeps_a_message_for_longer_than_twelve_hours(clock: ManualRuntime) -> None:
    """Counted from when it was handed out."""
    line = Line()
    queue, delivery = held(line, received=clock.now)
    clock.advance(MAX_VISIBILITY - 100)
    heart = sqs._Heart(queue, delivery, 600)
    assert heart.beat()
    clock.advance(99)
    assert not heart.beat()
    assert (line.asked, heart.hold.lost) == ([99], True)


def test_an_extension_asks_for_no_more_than_the_queue_allows(clock: ManualRuntime) -> None:
    """Twelve hours in all, less a second for what the answer took; what is too late is not asked for."""
    line = Line()
    queue, delivery = held(line, received=clock.now)
    clock.advance(3600.0)
    assert queue.extend(delivery, MAX_VISIBILITY)
    queue.retry(delivery, 600.0)
    clock.advance(MAX_VISIBILITY)
    assert not queue.extend(delivery, 60.0)
    queue.retry(delivery, 0.0)
    assert line.asked == [MAX_VISIBILITY - 3601, 600, 0]


def test_an_extension_that_hangs_hides_nothing(clock: ManualRuntime) -> None:
    """It is given up in time for another; and when the time is over the message is lost, answer or no answer."""
    told: list[object] = []

    class Hanging(Line):
        def change_message_visibility(self, **parameters: Any) -> dict[str, Any]:
            told.append(remaining())
            clock.advance(19.0)
            told.append(heart.hold.lost)
            clock.advance(1.0)
            told.append(heart.hold.lost)
            raise OSError

    queue, delivery = held(Hanging(), received=clock.now)
    heart = sqs._Heart(queue, delivery, 30)
    clock.advance(10.0)
    assert not heart.beat()
    assert told == [10.0, False, True]


def test_a_short_time_that_the_message_was_taken_for_counts(clock: ManualRuntime) -> None:
    """The first extension comes within it, whatever each of them asks for."""
    queue, delivery = held(Line(OSError("x")), received=clock.now)
    heart = sqs._Heart(queue, dataclasses.replace(delivery, visibility=30), 600)
    assert heart._next == clock.now + 10.0
    clock.advance(10.0)
    assert heart.beat()
    assert heart._next == clock.now + 10.0
    clock.advance(10.0)
    assert heart.beat()
    assert heart._next == clock.now + 200.0
    clock.advance(590.0)
    assert not heart.hold.lost
    clock.advance(10.0)
    assert heart.hold.lost


def test_who_has_done_the_work_waits_for_no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for longer than a second, whatever has become of the queue."""
    monkeypatch.setattr(sqs, "_PATIENCE", 0.01)
    answer, ended = threading.Event(), threading.Event()

    class Hanging(Line):
        def change_message_visibility(self, **parameters: Any) -> dict[str, Any]:
            self.beaten.set()
            answer.wait(5)
            ended.set()
            return {}

    line = Hanging()
    queue, delivery = held(line, received=RUNTIME.monotonic() - 20.0)
    with queue.keep(delivery, 30):
        assert line.beaten.wait(5)
    assert not ended.is_set()
    answer.set()


# -- faces and options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "face", "without"),
    [
        (sqs.Sqs, sqs.AsyncSqs, {"redrive"}),
        (dynamodb.DynamoDb, dynamodb.AsyncDynamoDb, {"scan"}),
        (s3.S3, s3.AsyncS3, set()),
        (sns.Sns, sns.AsyncSns, set()),
        (cloudwatch.CloudWatch, cloudwatch.AsyncCloudWatch, set()),
    ],
)
def test_both_faces_have_the_same_methods(plain: type, face: type, without: set[str]) -> None:
    """But for iterators, which belong into a thread of their own."""
    methods = {name for name in vars(plain) if not name.startswith("_") and callable(getattr(plain, name))}
    assert {name for name in vars(face) if not name.startswith("_")} == methods - without
    assert issubclass(face, AsyncFace)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_face_keeps_a_message_too(backend: str) -> None:
    """Without holding up the loop."""
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    line = Line()
    queue, delivery = held(line)

    async def work() -> bool:
        async with AsyncSqs(queue).keep(delivery, 1) as hold:
            while not line.asked:
                await anyio.sleep(0.01)
        await AsyncSqs(queue).extend(delivery, 5)
        return bool(hold.lost)

    assert not anyio.run(work, backend=backend)
    assert line.asked[-1] == 5


def test_attributes_of_others_are_kept(services: Any, queue: Sqs) -> None:
    """Ten are as many as a message takes. A dead letter has ours beside them; on its way back they are as they were."""
    theirs: dict[str, Any] = {
        f"theirs{number}": {"DataType": "Binary", "BinaryValue": b"\x00\xff"} for number in range(9)
    }
    theirs["theirs9"] = {"DataType": "String.own", "StringValue": "x"}
    services.direct("sqs").send_message(QueueUrl=queue._queue, MessageBody="x", MessageAttributes=theirs)
    (delivery,) = take(queue)
    queue.dead(delivery, Fault(Kind.invalid, "code"))
    (letter,) = dead_letters(services, queue)
    assert (letter.id, letter.reason) == (delivery.message_id, "invalid: code")
    assert set(letter.attributes) == {*theirs, "id", "reason"}
    queue.extend(dataclasses.replace(letter, received=None), 0.0)
    Sqs(services.direct("sqs"), queue._dead_letters or "").retry(letter, 0.0)
    assert [one.error_code for one in queue.redrive()] == [""]
    (back,) = take(queue)
    given = ("DataType", "StringValue", "BinaryValue")
    assert {
        name: {part: value[part] for part in given if part in value} for name, value in back.attributes.items()
    } == theirs


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"a": 1}', '{"a": "b"}', "[" * 100_000])
def test_what_others_call_as_we_do_is_theirs(text: str) -> None:
    """An attribute of that name may be anything."""
    attributes = {sqs._FOLDED: {"DataType": "String", "StringValue": text}}
    assert sqs._unfolded(attributes) == attributes


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [
        ("30", "Number", "id"),
        ("1699999000000", "Number", "id"),  # milliseconds
        ("1699999000", "String", "id"),
        ("1699999000", "Number", "theirs"),
        ("1e400", "Number", "id"),
        ("soon", "Number", "id"),
    ],
)
def test_a_deadline_of_others_drops_nothing(
    local: Callable[..., Any], script: Callable[..., Any], clock: ManualRuntime, value: str, kind: str, name: str
) -> None:
    """An attribute of that name counts on a message with an id, as a number that is seconds since 1970."""
    client = local("sqs")
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "b",
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": "x"},
            "deadline": {"DataType": kind, "StringValue": value},
        },
    }
    seen = script(client, (200, {"Messages": [message]}))
    (delivery,) = Sqs(client, "http://127.0.0.1/q").receive(1, wait=0, visibility=30)
    assert (delivery.deadline, seen.operations) == (None, ["ReceiveMessage"])
    assert delivery.attributes["deadline"]["StringValue"] == value
    ours = {"id": {"StringValue": "x"}, "deadline": {"DataType": "Number", "StringValue": "1700005000"}}
    seen.replies = [(200, {"Messages": [{**message, "MessageAttributes": ours}]})]
    (delivery,) = Sqs(client, "http://127.0.0.1/q").receive(1, wait=0, visibility=30)
    assert delivery.deadline == 1_700_005_000.0


def test_a_deadline_beyond_all_time_is_none(services: Any, queue: Sqs) -> None:
    """What no reader would take for a moment is not sent."""
    queue.send("work", within=1e40)
    (delivery,) = take(queue)
    assert set(delivery.attributes) == {"id"}


def test_a_group_stays_in_order(local: Callable[..., Any], script: Callable[..., Any], clock: ManualRuntime) -> None:
    """One of each group in a batch: what is sent again would come behind what followed it."""
    client = local("sqs")
    stored: list[str] = []
    turned_away = ["b0"]

    def answer() -> Any:
        good, bad = [], []
        for entry in seen.sent[-1].body["Entries"]:
            body = entry["MessageBody"]
            if body in turned_away:
                bad.append({"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"})
            else:
                stored.append(body)
                good.append({"Id": entry["Id"], "MessageId": body, "MD5OfMessageBody": None})
        if always not in turned_away:
            turned_away.clear()
        return 200, {"Successful": good, "Failed": bad}

    always = "a1"
    seen = script(client, answer)
    queue = Sqs(client, "http://127.0.0.1/q.fifo")
    messages = [Outgoing(f"{group}{number}", group=group) for group in "ab" for number in range(3)]
    sent = queue.send_many(messages)
    assert [one.message_id for one in sent] == [one.body for one in messages]
    assert [one for one in stored if one[0] == "a"] == ["a0", "a1", "a2"]
    assert [one for one in stored if one[0] == "b"] == ["b0", "b1", "b2"]
    batches = [[entry["MessageBody"] for entry in one.body["Entries"]] for one in seen.sent]
    assert batches == [["a0", "b0"], ["b0", "a1"], ["b1", "a2"], ["b2"]]
    stored.clear()
    turned_away.append(always)
    with pytest.raises(UnfinishedBatchError) as caught:
        queue.send_many(messages)
    assert [one.body for one in caught.value.left if isinstance(one, Outgoing)] == ["a1", "a2", "b2"]
    assert stored == ["a0", "b0", "b1"]


def test_a_receive_waits_no_longer_than_the_client(local: Callable[..., Any], script: Callable[..., Any]) -> None:
    """A wait that the read timeout cuts off would hide what came meanwhile."""
    for options, waited in (({}, 20), ({"read_timeout": 5.0}, 4), ({"read_timeout": 0.5}, 0)):
        client = local("sqs", **options)
        seen = script(client, (200, {}))
        Sqs(client, "http://127.0.0.1/q").receive(1, wait=20, visibility=60)
        assert seen.sent[0].body["WaitTimeSeconds"] == waited


def test_what_cannot_be_sent_is_said_without_showing_it() -> None:
    """Half a pair of surrogates has no place in UTF-8; a group may be a person."""
    plain, fifo = (Sqs(object(), name, retry=None, breaker=None) for name in ("q", "q.fifo"))
    for call, wrong in (
        (lambda: plain.send("planted\ud800"), r"Sqs\.send\.body must be text that UTF-8 has a place for"),
        (lambda: plain.send("b", id="planted\ud800"), r"Sqs\.send\.id must be text that UTF-8 has a place for"),
        (lambda: plain.send("b", group="planted"), r"Sqs\.send\.group must be given for a FIFO queue and no other"),
        (lambda: fifo.send("planted"), r"Sqs\.send\.group must be given for a FIFO queue and no other; got None"),
    ):
        with pytest.raises(OptionError, match=wrong) as caught:
            call()
        assert "planted" not in str(caught.value)
