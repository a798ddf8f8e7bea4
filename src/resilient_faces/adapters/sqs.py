"""Amazon SQS: send, receive, acknowledge, give back for later, set aside as dead, and move the dead back.

Every message carries an attribute `id` that stays the same in all its copies: a plain queue can hand a message out
twice, and a send whose answer is lost is repeated. The id of the request and the deadline of the work travel with it;
work whose time is over is dropped. A dead letter is sent before its message is deleted, and deleted after it was sent
back: a crash between the two leaves a message twice, never none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.context import REQUEST, event, remaining, request
from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME, OwnLock, logger_of
from resilient_faces.adapters._aws_batches import Left, RefusedEntriesError, UnfinishedBatchError, send_all
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AsyncFace, DamagedAnswerError, Requests, classify_aws, threaded
from resilient_faces.errors import DeadlineExceededError, OptionError
from resilient_faces.faults import Fault
from resilient_faces.limits import Deadline

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = [
    "MAX_VISIBILITY",
    "AsyncSqs",
    "Delivery",
    "Hold",
    "Outgoing",
    "Redriven",
    "RefusedEntriesError",
    "Sent",
    "Sqs",
    "UnfinishedBatchError",
]

MAX_VISIBILITY: Final = 43_200
"""Seconds that a message can be hidden for, from when it was handed out."""
MAX_WAIT: Final = 20
"""Seconds that a receive can wait for a message."""
MOST_BYTES: Final = 1_048_576
"""Of a message, and of a batch: body and attributes."""
_MOST_ATTRIBUTES: Final = 10
_BATCH: Final = 10
_PATIENCE: Final = 1.0  # seconds that an extension is waited for when the work is done
_OVERHEAD: Final = 600  # bytes for our own attributes

_log: Final = logger_of("sqs")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent.

    Attributes:
        body: Its text; holds keys, never data.
        id: The same for every repetition of this message; made when it is sent unless given.
        delay: Seconds until it is handed out, 900 at most; not for FIFO queues.
        within: Seconds that the work is worth doing in. None takes what remains of the deadline in force,
            `math.inf` sets no limit.
        group: Messages of a FIFO queue with the same group stay in order.
    """

    body: str = field(repr=False)
    id: str = ""
    delay: float = 0.0
    within: float | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent. `id` is ours and the same in all copies, `message_id` the queue's name for one of them."""

    id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it was handed out.

    Attributes:
        body: Its text; holds keys, never data.
        receipt: What acknowledges this delivery.
        count: How often the message was handed out, this time included.
        message_id: The queue's name for it.
        id: The same in all copies of the message; by it a reader knows work that is done already.
        request_id: Of the request that the work belongs to; empty if unknown.
        deadline: When the work is no longer worth doing, in seconds since 1970; None for never.
        reason: Of a dead letter: why it is one.
        attributes: All that it carries, as SQS writes them.
        group: Of a FIFO queue.
        received: When it was handed out, by the monotonic clock.
        visibility: Seconds that it was hidden for then.
    """

    body: str = field(repr=False)
    receipt: str = field(repr=False)
    count: int
    message_id: str
    id: str = ""
    request_id: str = ""
    deadline: float | None = None
    reason: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    group: str | None = None
    received: float | None = None
    visibility: int | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """The work on this message: its request id and its deadline are in force inside.

        Raises:
            DeadlineExceededError: The deadline has passed.
        """
        with request(self.request_id or self.id or self.message_id):
            if self.deadline is None:
                yield
                return
            left = self.deadline - RUNTIME.wall()
            if left <= 0.0:
                raise DeadlineExceededError("message", None)
            with Deadline(left):
                yield


@dataclass(slots=True)
class Hold:
    """A delivery that is kept hidden while it is worked on.

    Attributes:
        gone: The queue says that the receipt is no longer good.
        hidden_until: When others can receive the message, by the monotonic clock, as far as is known.
    """

    gone: bool = False
    hidden_until: float = math.inf

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the message by now: the receipt is no longer good, or the time is over."""
        return self.gone or RUNTIME.monotonic() >= self.hidden_until


@dataclass(frozen=True, slots=True)
class Redriven:
    """One dead letter that was looked at. `error_code` says why it was not moved; it is still a dead letter then."""

    id: str
    error_code: str = ""


class Sqs:
    """One queue and its dead-letter queue, each request under its guard.

    Args:
        client: A boto3 client for sqs that tries once (`adapters.aws.connect`).
        queue_url: Of the queue.
        dead_letter_url: Where dead letters go; None if there is no such queue.
        tolerance: Seconds that clocks of senders and readers may differ by: work is dropped so much later.
        options: The guards, as `Requests` takes them.

    Attributes:
        expired: Messages that were dropped because the time of their work was over.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        dead_letter_url: str | None = None,
        *,
        tolerance: float = 1.0,
        **options: Unpack[Guarding],
    ) -> None:
        checks = Checks("Sqs")
        check_client(checks, client, "sqs")
        checks.that(isinstance(queue_url, str) and queue_url != "", "queue_url", "the URL of a queue", type(queue_url))
        good = dead_letter_url is None or (isinstance(dead_letter_url, str) and dead_letter_url != "")
        checks.that(good, "dead_letter_url", "the URL of a queue, or None", dead_letter_url)
        checks.that(dead_letter_url != queue_url, "dead_letter_url", "another queue", "the same")
        checks.seconds("tolerance", tolerance, above=False)
        checks.done()
        self._requests = Requests(client, **options)
        config = getattr(getattr(client, "meta", None), "config", None)
        self._patience: float | None = getattr(config, "read_timeout", None)
        self._queue = queue_url
        self._dead_letters = dead_letter_url
        self._tolerance = tolerance
        self._lock = OwnLock()
        self.expired = 0

    # -- sending -------------------------------------------------------------------------------------------------

    def send(
        self,
        body: str,
        *,
        id: str | None = None,
        delay: float = 0.0,
        within: float | None = None,
        group: str | None = None,
    ) -> Sent:
        """Put a message in.

        Repeated after a lost answer it is there twice, with the same id; a FIFO queue drops the second copy.

        Args:
            body: Its text; keys, never data.
            id: The same for every repetition of this message; by default one for all attempts of this call.
            delay: Seconds until it is handed out, 900 at most; not for FIFO queues.
            within: Seconds that the work is worth doing in; see `Outgoing`.
            group: Messages of a FIFO queue with the same group stay in order.
        """
        entry = self._entry(Outgoing(body, id or "", delay, within, group))
        mine = _text(entry["MessageAttributes"], "id")
        return Sent(mine, self._put(self._queue, entry))

    def send_many(self, messages: Iterable[str | Outgoing]) -> tuple[Sent, ...]:
        """Put messages in, ten at a time; what the queue could not take just now is sent again, and only that.

        Of each group of a FIFO queue one at a time: a message that is sent again would come behind its successors.

        Raises:
            UnfinishedBatchError: The queue keeps leaving messages out; `left` has them.
            RefusedEntriesError: Messages are wrong in themselves; all others are in the queue.
        """
        outgoing = [Outgoing(one) if isinstance(one, str) else one for one in messages]
        entries = [{"Id": str(number), **self._entry(one)} for number, one in enumerate(outgoing)]
        names: dict[str, str] = {}
        left, refused = self._batches("SendMessageBatch", _in_turn(entries), names, _weight, _group)
        left.sort(key=lambda entry: int(entry["Id"]))
        sent = tuple(
            Sent(_text(entry["MessageAttributes"], "id"), names[entry["Id"]])
            for entry in entries
            if entry["Id"] in names
        )
        # With the ids that they were sent under: whoever sends them once more makes copies that readers can tell.
        rest = [replace(outgoing[int(entry["Id"])], id=_text(entry["MessageAttributes"], "id")) for entry in left]
        _raise_unless_whole("sqs.SendMessageBatch", rest, len(sent), sent, refused, left)
        return sent

    # -- receiving -----------------------------------------------------------------------------------------------

    def receive(self, most: int, *, wait: int, visibility: int) -> tuple[Delivery, ...]:
        """Take up to `most` messages, 10 at most; wait so many seconds for the first, hide them for `visibility`.

        It waits no longer than the deadline in force and the client's read timeout allow, less a second for the answer
        to come.

        Messages whose work is no longer worth doing are deleted, counted in `expired` and told as an event. A receive
        whose answer is lost is not repeated: its messages come back when their time is over, and count as handed out.
        """
        checks = Checks("Sqs.receive")
        checks.whole("most", most, 1)
        if checks.whole("wait", wait, 0):
            checks.that(wait <= MAX_WAIT, "wait", f"{MAX_WAIT} seconds or less", wait)
        if checks.whole("visibility", visibility, 0):
            checks.that(visibility <= MAX_VISIBILITY, "visibility", f"{MAX_VISIBILITY} seconds or less", visibility)
        checks.done()
        deliveries = self._receive(self._queue, most, wait, visibility)
        latest = RUNTIME.wall() - self._tolerance
        late = [one for one in deliveries if one.deadline is not None and one.deadline < latest]
        if not late:
            return deliveries
        self._drop(late)
        return tuple(one for one in deliveries if one not in late)

    def ack(self, delivery: Delivery) -> None:
        """The work is done: delete the message. One that is gone, or was handed to somebody else, is let go."""
        self._unless_lost("DeleteMessage", self._queue, delivery)

    def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        """As `ack`, ten at a time; what the queue could not delete just now is deleted again, and only that.

        Raises:
            UnfinishedBatchError: The queue keeps leaving messages undeleted; `left` has their deliveries.
        """
        entries = [{"Id": str(number), "ReceiptHandle": one.receipt} for number, one in enumerate(deliveries)]
        left, refused = self._batches("DeleteMessageBatch", entries, {})
        refused = {number: code for number, code in refused.items() if code not in _LOST}
        rest = [deliveries[int(entry["Id"])] for entry in left]
        _raise_unless_whole("sqs.DeleteMessageBatch", rest, len(entries) - len(rest) - len(refused), (), refused, left)

    def retry(self, delivery: Delivery, delay: float) -> None:
        """Hand the message out again after `delay` seconds; one that somebody else has by now is theirs.

        Twelve hours after it was handed out it comes back whatever one asks for.
        """
        self.extend(delivery, delay)

    def extend(self, delivery: Delivery, seconds: float) -> bool:
        """Keep the message hidden for so many seconds from now, for no more than twelve hours in all.

        Returns:
            False if the receipt is no longer good, or the twelve hours are over.
        """
        whole = max(0, min(MAX_VISIBILITY, round(seconds)))
        if whole:
            whole = min(whole, _left_of(delivery))
            if whole < 1:
                return False
        return self._unless_lost("ChangeMessageVisibility", self._queue, delivery, VisibilityTimeout=whole)

    @contextmanager
    def keep(self, delivery: Delivery, visibility: int) -> Iterator[Hold]:
        """Keep the message hidden for as long as the block runs, by extending its time again and again.

        An extension that gets no answer is given up after a third of the time, and asked for anew. Leaving the block
        waits a second at most for one that is under way.

        Args:
            delivery: The message.
            visibility: Seconds that each extension hides it for; it is extended when a third of them has passed.

        Yields:
            A hold whose `lost` says that somebody else may have the message: the work had better stop.
        """
        checks = Checks("Sqs.keep")
        checks.whole("visibility", visibility, 1)
        checks.done()
        heart = _Heart(self, delivery, visibility)
        heart.start()
        try:
            yield heart.hold
        finally:
            heart.stop()

    # -- dead letters --------------------------------------------------------------------------------------------

    def dead(self, delivery: Delivery, reason: str | Fault) -> None:
        """Nothing will help this message: a copy goes into the dead-letter queue, and then it is deleted.

        Args:
            delivery: The message.
            reason: A fault, of which kind and code are kept; or a few words, which must name nobody.
        """
        self.send_dead(delivery, reason)
        self.ack(delivery)

    def send_dead(self, delivery: Delivery, reason: str | Fault) -> None:
        """Put a copy into the dead-letter queue, with the reason; `ack` comes after it."""
        if self._dead_letters is None:
            raise OptionError("Sqs.dead_letter_url must be given for dead letters; got None.")
        name = delivery.id or delivery.message_id
        why = f"{reason.kind.value}: {reason.code}" if isinstance(reason, Fault) else reason
        shown = "".join(letter for letter in why if letter.isprintable())[:250] or "unknown"
        # The deadline stays behind: what somebody moves back later is to be done.
        attributes = _folded(delivery.attributes, {"id": name, "reason": shown}, {"deadline"})
        # Of this very message: one that was moved back and dies again is no copy of its first dead letter.
        extra = _fifo(self._dead_letters, delivery.group or "dead", f"dead-{delivery.message_id}")
        self._put(self._dead_letters, {"MessageBody": delivery.body, "MessageAttributes": attributes, **extra})

    def redrive(self, most: int | None = None, *, visibility: int = 60) -> Generator[Redriven, None, None]:
        """Move dead letters back into the queue, one at each step; stop between steps and nothing is half done.

        Each keeps its id, and is sent before its dead letter is deleted. What dies again meanwhile is left where it is:
        no id is moved twice, and the run ends when it meets nothing new. Dead letters that were received and not moved
        are shown to others at once when the iterator ends or is closed.

        Args:
            most: Messages at most; None for all.
            visibility: Seconds that the dead letters under way are hidden for.

        Yields:
            One value for each dead letter, moved or not.
        """
        source = self._dead_letters
        if source is None:
            raise OptionError("Sqs.dead_letter_url must be given to move dead letters; got None.")
        seen: set[str] = set()
        untouched: list[Delivery] = []
        try:
            while most is None or len(seen) < most:
                letters = self._receive(source, _BATCH, 1, visibility)
                fresh = {one.id: one for one in letters if one.id not in seen}
                untouched += [one for one in letters if fresh.get(one.id) is not one]
                waiting = list(fresh.values())
                if not waiting:
                    return
                untouched += waiting
                for letter in waiting[: None if most is None else most - len(seen)]:
                    seen.add(letter.id)
                    untouched.remove(letter)
                    yield Redriven(letter.id, self._move(source, letter))
        finally:
            for letter in untouched:
                self._unless_lost("ChangeMessageVisibility", source, letter, VisibilityTimeout=0)

    def _move(self, source: str, letter: Delivery) -> str:
        """Send a dead letter back and delete it. Returns the code of what went wrong; then it stays a dead letter."""
        times = _text(letter.attributes, "redriven")
        told = {"id": letter.id, "redriven": str(int(times) + 1 if times.isdecimal() else 1)}
        try:
            entry = {
                "MessageBody": letter.body,
                "MessageAttributes": _with(letter.attributes, told, {"deadline", "reason", *told}),
                **_fifo(self._queue, letter.group or "redriven", f"back-{letter.message_id}"),
            }
            self._put(self._queue, entry)
            self._unless_lost("DeleteMessage", source, letter)
        except Exception as error:
            fault = classify_aws(error)
            if fault is None:
                raise
            return fault.code
        return ""

    def waiting(self) -> tuple[int, int]:
        """About how many messages wait in the queue, and how many dead letters (0 without such a queue)."""
        return self._count(self._queue), 0 if self._dead_letters is None else self._count(self._dead_letters)

    def _count(self, url: str) -> int:
        name = "ApproximateNumberOfMessages"
        answer = self._requests("GetQueueAttributes", QueueUrl=url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    # -- parts ---------------------------------------------------------------------------------------------------

    def _entry(self, message: Outgoing) -> dict[str, Any]:
        fifo = self._queue.endswith(".fifo")
        checks = Checks("Sqs.send")
        cure = "Put it into S3 and send its key."
        if checks.that(isinstance(message.body, str), "body", "a string", type(message.body).__name__):
            size = _size(message.body)
            if checks.that(size >= 0, "body", "text that UTF-8 has a place for", "half of a pair of surrogates"):
                checks.that(0 < size <= MOST_BYTES - _OVERHEAD, "body", "1 byte to 1 MB", size, cure)
        if checks.that(isinstance(message.id, str), "id", "a string", type(message.id).__name__):
            checks.that(_size(message.id) >= 0, "id", "text that UTF-8 has a place for", "half of a pair of surrogates")
        checks.number("delay", message.delay, 0.0, 0.0 if fifo else 900.0, unit="seconds")
        if message.within is not None:
            checks.seconds("within", message.within, infinite=True)
        group = None if message.group is None else "one"  # not shown: it may be a person
        checks.that(fifo is (message.group is not None), "group", "given for a FIFO queue and no other", group)
        checks.done()
        mine = message.id or uuid.uuid4().hex
        within = remaining() if message.within is None else message.within
        told = {"id": mine, "requestId": REQUEST.get().id}
        if within is not None and (ends := RUNTIME.wall() + within) < _LATEST:
            told["deadline"] = f"{ends:.3f}"
        entry: dict[str, Any] = {"MessageBody": message.body, "MessageAttributes": _with({}, told, set())}
        if message.delay:
            entry["DelaySeconds"] = math.ceil(message.delay)
        return {**entry, **_fifo(self._queue, message.group or "", mine)}

    def _put(self, url: str, entry: Mapping[str, Any]) -> str:
        """Send one message, again if the answer is lost: by its id readers tell the copies. The queue's name for it."""
        answer = self._requests.call("SendMessage", {"QueueUrl": url, **entry}, dict, idempotent=True)
        return str(answer["MessageId"])

    def _batches(
        self,
        operation: str,
        entries: Sequence[dict[str, Any]],
        names: dict[str, str],
        weigh: Callable[[dict[str, Any]], int] = lambda _: 0,
        apart: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> tuple[Left[dict[str, Any]], dict[str, str]]:
        """Send all entries. Fills `names` with ids of messages; returns what is left, and codes of what is wrong."""
        refused: dict[str, str] = {}

        def send(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
            def read(answer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
                good, bad = list(answer.get("Successful") or ()), list(answer.get("Failed") or ())
                if {str(one.get("Id")) for one in (*good, *bad)} != {entry["Id"] for entry in batch}:
                    raise DamagedAnswerError(f"sqs.{operation}", "it does not speak of all entries")
                return good, bad

            # May be repeated: each message carries its id.
            parameters = {"QueueUrl": self._queue, "Entries": batch}
            good, bad = self._requests.call(operation, parameters, read, idempotent=True)
            names.update((str(one["Id"]), str(one.get("MessageId", ""))) for one in good)
            refused.update((str(one["Id"]), _code_of(one)) for one in bad if one.get("SenderFault"))
            again = {str(one["Id"]) for one in bad if not one.get("SenderFault")}
            return [entry for entry in batch if entry["Id"] in again]

        return send_all(entries, send, most=_BATCH, weigh=weigh, heaviest=MOST_BYTES, apart=apart), refused

    def _receive(self, url: str, most: int, wait: int, visibility: int) -> tuple[Delivery, ...]:
        for left in (remaining(), self._patience):
            if left is not None:  # a wait that the read timeout cuts off would hide what came meanwhile
                wait = max(0, min(wait, math.floor(left - 1.0)))
        parameters = {
            "QueueUrl": url,
            "MaxNumberOfMessages": max(1, min(_BATCH, most)),
            "WaitTimeSeconds": wait,
            "VisibilityTimeout": visibility,
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["ApproximateReceiveCount", "MessageGroupId"],
        }
        return self._requests.call("ReceiveMessage", parameters, lambda answer: _deliveries(answer, visibility))

    def _unless_lost(self, operation: str, url: str, delivery: Delivery, **parameters: Any) -> bool:
        try:
            self._requests(operation, QueueUrl=url, ReceiptHandle=delivery.receipt, **parameters)
        except Exception as error:
            details: Mapping[str, Any] = (getattr(error, "response", None) or {}).get("Error") or {}
            if _code_of(details) not in _LOST:
                raise
            return False
        return True

    def _drop(self, late: Sequence[Delivery]) -> None:
        name = self._queue.rpartition("/")[2]
        try:
            self.ack_many(late)
        except Exception as error:  # they come again, and are dropped then: those in time must not be held up
            fault = classify_aws(error)
            _log.info("expired messages not deleted: %s", type(error).__name__ if fault is None else fault.code)
            return
        with self._lock:
            self.expired += len(late)
        for one in late:
            with request(one.request_id or one.id, "receive"):
                RUNTIME.tell(event("rejected", policy="sqs", status="expired", name=name, attempt=one.count))


class AsyncSqs(AsyncFace[Sqs]):
    """`Sqs` for async code; for `redrive` use the sync one in a thread of your own."""

    send = threaded(Sqs.send)
    send_many = threaded(Sqs.send_many)
    receive = threaded(Sqs.receive)
    ack = threaded(Sqs.ack)
    ack_many = threaded(Sqs.ack_many)
    retry = threaded(Sqs.retry)
    extend = threaded(Sqs.extend)
    dead = threaded(Sqs.dead)
    send_dead = threaded(Sqs.send_dead)
    waiting = threaded(Sqs.waiting)

    @asynccontextmanager
    async def keep(self, delivery: Delivery, visibility: int) -> AsyncIterator[Hold]:
        """As `Sqs.keep`."""
        manager = self.sync.keep(delivery, visibility)
        hold = manager.__enter__()
        try:
            yield hold
        finally:
            import anyio

            with anyio.CancelScope(shield=True):  # no extension may be under way when the message is given back
                await self.in_thread(lambda: manager.__exit__(None, None, None))


class _Heart:
    """Extends one delivery's time from a thread until it is told to stop."""

    def __init__(self, queue: Sqs, delivery: Delivery, visibility: int) -> None:
        self._queue = queue
        self._delivery = delivery
        self._visibility = visibility
        now = RUNTIME.monotonic()
        hidden = delivery.visibility or visibility
        hidden_until = (now if delivery.received is None else delivery.received) + hidden
        self._third = hidden / 3.0
        # A message that waited its turn has not got all of its time left.
        self._next = hidden_until - 2.0 * self._third
        # Somebody may have extended it by hand meanwhile: the first extension says whether it is lost.
        self.hold = Hold(hidden_until=max(hidden_until, now + self._third))
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="resilient_faces-heartbeat", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._over.wait(max(0.0, self._next - RUNTIME.monotonic())) and self.beat():
            pass

    def beat(self) -> bool:
        """Extend the time once; False if there is no more use in it."""
        began = RUNTIME.monotonic()
        seconds = min(self._visibility, _left_of(self._delivery))
        if self.hold.lost or seconds < 1:
            self.hold.gone = True
            return False
        try:
            with Deadline(self._third):  # one that hangs leaves time for another
                self.hold.gone = not self._queue.extend(self._delivery, seconds)
        except Exception as error:
            fault = classify_aws(error)
            _log.info("visibility not extended: %s", type(error).__name__ if fault is None else fault.code)
            self._next += self._third
            return not self.hold.lost
        self.hold.hidden_until = began + seconds
        self._third = seconds / 3.0
        self._next = began + self._third
        return not self.hold.lost


def _left_of(delivery: Delivery) -> int:
    """Seconds that the queue lets the message be hidden for yet."""
    if delivery.received is None:
        return MAX_VISIBILITY
    # Less one: the queue's count began before the answer came, and it refuses what is a second too long.
    return math.floor(delivery.received + MAX_VISIBILITY - RUNTIME.monotonic()) - 1


_LOST: Final = ("ReceiptHandleIsInvalid", "MessageNotInflight")
"""The message was deleted, or handed out again when its time was over."""


def _code_of(details: Mapping[str, Any]) -> str:
    """The code of an error. A lost receipt has one of `_LOST`, where the queue may tell it by its text only."""
    code = str(details.get("Code") or "").rpartition("AWS.SimpleQueueService.")[2]
    # A FIFO queue's receipt ends with its time, any other when it expires. The text holds the receipt: it stays here.
    if code.startswith("InvalidParameterValue") and _OF_RECEIPT in str(details.get("Message")):
        return _LOST[0]
    return code


_OF_RECEIPT: Final = "for parameter ReceiptHandle is invalid"


def _deliveries(answer: Mapping[str, Any], visibility: int) -> tuple[Delivery, ...]:
    try:
        return tuple(_delivery(message, visibility) for message in answer.get("Messages") or ())
    except (KeyError, ValueError) as error:
        raise DamagedAnswerError("sqs.ReceiveMessage", f"a message lacks something ({type(error).__name__})") from None


def _delivery(message: Mapping[str, Any], visibility: int) -> Delivery:
    system: Mapping[str, str] = message.get("Attributes") or {}
    attributes = _unfolded(message.get("MessageAttributes") or {})
    name = str(message["MessageId"])
    return Delivery(
        body=str(message["Body"]),
        receipt=str(message["ReceiptHandle"]),
        count=int(system.get("ApproximateReceiveCount", 1)),
        message_id=name,
        id=_text(attributes, "id") or name,
        request_id=_text(attributes, "requestId"),
        deadline=_moment(attributes),
        reason=_text(attributes, "reason"),
        attributes=attributes,
        group=system.get("MessageGroupId"),
        received=RUNTIME.monotonic(),
        visibility=visibility,
    )


_EARLIEST: Final = 1e9  # the year 2001
_LATEST: Final = 1e11  # the year 5138; a time in milliseconds is beyond it


def _moment(attributes: Mapping[str, Any]) -> float | None:
    """When the work is over, in seconds since 1970; None if nobody said so in the way that `send` does.

    Somebody else's attribute of that name may be anything, and its message must not be dropped.
    """
    if not _text(attributes, "id") or (attributes.get("deadline") or {}).get("DataType") != "Number":
        return None
    try:
        value = float(_text(attributes, "deadline"))
    except ValueError:
        return None
    return value if _EARLIEST <= value < _LATEST else None


def _text(attributes: Mapping[str, Any], name: str) -> str:
    return str((attributes.get(name) or {}).get("StringValue") or "")


def _with(attributes: Mapping[str, Any], told: Mapping[str, str], without: set[str]) -> dict[str, Any]:
    """Attributes as SQS takes them: those there but for some, and ours; a message takes ten."""
    kept = ("DataType", "StringValue", "BinaryValue")
    all_of_them = {
        name: {member: value[member] for member in kept if member in value}
        for name, value in attributes.items()
        if name not in without
    }
    for name, text in told.items():
        if text and (name in all_of_them or len(all_of_them) < _MOST_ATTRIBUTES):
            all_of_them[name] = {"DataType": "Number" if name == "deadline" else "String", "StringValue": text}
    return all_of_them


def _folded(attributes: Mapping[str, Any], told: Mapping[str, str], without: set[str]) -> dict[str, Any]:
    """As `_with`, but that none of ours gives way: where there are too many, the last of theirs become one."""
    theirs = _with(attributes, {}, {*without, *told})
    if len(theirs) + len(told) > _MOST_ATTRIBUTES:
        kept = _MOST_ATTRIBUTES - len(told) - 1
        packed = {
            name: {**value, "BinaryValue": base64.b64encode(value["BinaryValue"]).decode()}
            if "BinaryValue" in value
            else value
            for name, value in list(theirs.items())[kept:]
        }
        theirs = {name: theirs[name] for name in list(theirs)[:kept]}
        theirs[_FOLDED] = {"DataType": "String", "StringValue": json.dumps(packed)}
    return _with(theirs, told, set())


_FOLDED: Final = "resilient_faces.attributes"


def _unfolded(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """All attributes of a message, those that `_folded` made one of included."""
    if _FOLDED not in attributes:
        return attributes
    try:
        packed: dict[str, dict[str, Any]] = {
            name: {**value, "BinaryValue": base64.b64decode(value["BinaryValue"])}
            if "BinaryValue" in value
            else {**value}
            for name, value in json.loads(_text(attributes, _FOLDED)).items()
        }
    except (AttributeError, TypeError, ValueError, RecursionError):  # somebody else's
        return attributes
    return {**packed, **{name: value for name, value in attributes.items() if name != _FOLDED}}


_PLAIN_ID: Final = re.compile(r"[!-~]{1,128}")  # what a FIFO queue takes as de-duplication id


def _fifo(url: str, group: str, name: str) -> dict[str, str]:
    if not url.endswith(".fifo"):
        return {}
    if _PLAIN_ID.fullmatch(name) is None:  # hashed, not cut: two ids that begin alike are two messages
        name = hashlib.sha256(name.encode()).hexdigest()
    return {"MessageGroupId": group, "MessageDeduplicationId": name}


def _size(text: str) -> int:
    """Bytes of a text as it is sent; -1 if it cannot be."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def _weight(entry: Mapping[str, Any]) -> int:
    return len(entry["MessageBody"].encode()) + _OVERHEAD


def _group(entry: Mapping[str, Any]) -> object:
    return entry.get("MessageGroupId")


def _in_turn(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each group, then the second of each, so that batches can be full; as they are without groups."""
    before: dict[object, int] = {}
    ranks: list[int] = []
    for entry in entries:
        group = _group(entry)
        ranks.append(before.get(group, 0))
        if group is not None:
            before[group] = ranks[-1] + 1
    order = sorted(range(len(entries)), key=ranks.__getitem__)
    return [entries[number] for number in order]


def _raise_unless_whole(
    operation: str,
    rest: Sequence[object],
    done: int,
    results: Sequence[object],
    refused: Mapping[str, str],
    left: Left[dict[str, Any]],
) -> None:
    if left:
        raise UnfinishedBatchError(operation, rest, done, results, refused, left.fault) from left.error
    if refused:
        raise RefusedEntriesError(operation, (), done, results, refused)
