"""The indexing job: messages from the queue, images from the store, faces into the index, rows into tables, the ack.

Rules that everything here serves:

- At most `rate` IndexFaces requests a second, retries included. A batch reserves its slots when it is received; every
  retry reserves one of its own; a slot that was missed is given up. `Turnstile` spaces the requests once more as they
  leave.
- The external image id is the photo's id and the transaction's token is made before its first attempt, both outside
  the retry loop: work that was done although its answer was lost is recognised, not done twice.
- A message is deleted only after its rows are committed. Each message has a verdict of its own.
- A picture that is missing or damaged is a fact about the photo, not a fault of a service: the photo is marked failed
  and the message acknowledged. No face is a result like any other.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, NoReturn

from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces.adapters.aws import classify_aws
from resilient_faces.adapters.rekognition import UnusableImageError
from resilient_faces.breaker import Breaker, failure_rate
from resilient_faces.composing import Decorator, Guard, guard
from resilient_faces.errors import CircuitOpenError, RateLimitedError, Rejected
from resilient_faces.faults import Fault, Kind, first_match, rule
from resilient_faces.limits import Deadline, RateLimiter, Timeout
from resilient_faces.pipeline.records import (
    Ack,
    Dead,
    FaceRow,
    Job,
    MalformedJobError,
    PhotoStatus,
    Retry,
    Verdict,
)
from resilient_faces.pipeline.settings import Settings
from resilient_faces.pipeline.stages import Delivered, FaceIndex, FaceStore, IndexAnswer, ObjectStore, Queue
from resilient_faces.retry import Retry as Retrying
from resilient_faces.retry import exponential, full

CLASSIFY: Final = first_match(classify_aws)
WAIT_FOR_MESSAGES: Final = 1  # s of long polling: an idle consumer notices a stop within it
_REDELIVERY: Final = exponential(1.0, factor=2.0, cap=60.0)
_log: Final = logger_of("indexing")


class Turnstile:
    """Lets one request at a time through, `gap` seconds apart, as it leaves: lateness of one never crowds the next.

    A thread sleeps inside the lock on purpose: the lock is the queue in front of the gate, and the next gap is
    counted from the moment that this request really left.
    """

    def __init__(self, rate: float, *, spare: float = 0.04) -> None:
        self.gap = (1.0 + spare) / rate
        self._lock = threading.Lock()
        self._last = float("-inf")

    def __call__(self) -> None:
        with self._lock:
            wait = self._last + self.gap - RUNTIME.monotonic()
            if wait > 0:
                RUNTIME.sleep(wait)
            self._last = RUNTIME.monotonic()


class Pacer:
    """Slots for IndexFaces requests, from one limiter."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter

    def batch(self, count: int) -> list[Slot]:
        """Slots for the first requests of so many messages."""
        reserved = self.limiter.reserve_batch(count)
        now = RUNTIME.monotonic()
        return [
            Slot(self, now + reserved.delay + number * reserved.interval, reserved.interval) for number in range(count)
        ]

    def another(self) -> Slot:
        return self.batch(1)[0]


class Slot:
    """When the next request of one message may leave. Used once; then, and when it was missed, a new one is taken."""

    def __init__(self, pacer: Pacer, start: float, width: float) -> None:
        self._pacer = pacer
        self._start: float | None = start
        self._width = width

    def wait(self) -> None:
        """Sleep until the slot begins."""
        start, self._start = self._start, None
        now = RUNTIME.monotonic()
        if start is None or now > start + self._width:
            start = now + self._pacer.limiter.reserve_batch(1).delay
        if start > now:
            RUNTIME.sleep(start - now)
        if RUNTIME.stopped:  # the wait was cut short: what is given back is not sent ahead of its time
            raise RateLimitedError(self._pacer.limiter.name, max(0.0, start - RUNTIME.monotonic()))

    def throttled(self) -> None:
        """The service said that we are too fast: every thread slows down, not only this one."""
        self._pacer.limiter.slow_down()


class InSlot(Decorator[NoReturn]):
    """As a policy: each attempt waits for the slot in its first argument; a throttling answer slows the limiter."""

    __slots__ = ()

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "limiter"

    def around(self, function: Callable[..., object], asynchronous: bool) -> Callable[..., object]:
        @functools.wraps(function)
        def in_slot(slot: Slot, *arguments: object) -> object:
            slot.wait()
            try:
                return function(slot, *arguments)
            except Exception as error:
                if CLASSIFY(error).kind is Kind.throttled:
                    slot.throttled()
                raise

        return in_slot


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened, for a live display. Reports are made from ledgers, not from this."""

    what: str  # "indexed", "failed", "again", "dead", "seen before"
    photo_id: str = ""
    faces: int = 0
    code: str = ""


class Protected(Generic[Delivered]):
    """The stages with the library's own retry, breaker and time limit around each call.

    One circuit a service; the limits of attempts and time come from the settings. Every operation here may be
    repeated: each is idempotent by itself or by a token that is made before it.
    """

    def __init__(
        self, store: ObjectStore, index: FaceIndex, rows: FaceStore, queue: Queue[Delivered], settings: Settings
    ) -> None:
        self._settings = settings
        objects = self._guard("s3", settings.read_timeout)
        tables = self._guard("dynamodb", settings.read_timeout)
        messages = self._guard("sqs", settings.read_timeout)
        faces = self._guard("rekognition", settings.index_timeout)
        self._index = index
        self.get = objects(store.get)
        self.photo = tables(rows.photo)
        self.collection = tables(rows.collection)
        self.remember_collection = tables(rows.remember_collection)
        self.commit = tables(rows.commit)
        self.mark_failed = tables(rows.mark_failed)
        self.ack = messages(queue.ack)
        self.retry = messages(queue.retry)
        self.send_dead = messages(queue.send_dead)
        self.create_collection = faces(index.create_collection)
        # Outside the breaker and the time limit: waiting for a slot is no part of the request.
        self.index_faces = self._guard("rekognition", settings.index_timeout, InSlot())(self._index_faces)
        # Receiving is not repeated within a call: the loop asks again anyway, after the breaker's pause if it must.
        self.receive = guard(self._breaker("sqs/receive"), classify=CLASSIFY)(queue.receive)

    def _index_faces(self, slot: Slot, collection: str, image: bytes, external_image_id: str) -> IndexAnswer:
        return self._index.index_faces(collection, image, external_image_id)

    def _guard(self, service: str, seconds: float, *between: InSlot) -> Guard[NoReturn]:
        return guard(
            Retrying(
                attempts=self._settings.attempts,
                backoff=exponential(0.1, factor=2.0, cap=2.0),
                jitter=full(),
                idempotent=True,
            ),
            *between,
            self._breaker(service),
            Timeout(
                seconds + self._settings.connect_timeout + 1.0
            ),  # for what drips: silence ends at the socket's limit
            classify=CLASSIFY,
        )

    def _breaker(self, service: str) -> Breaker:
        return Breaker(
            f"{service}/{self._settings.region}",
            trips=failure_rate(0.6, calls=20, minimum=20),
            recovery_timeout=1.0,
            growth=2.0,
            max_recovery_timeout=8.0,
        )


class Handler(Generic[Delivered]):
    """Handles one message: gives its verdict, and carries the verdict out."""

    def __init__(
        self, stages: Protected[Delivered], settings: Settings, *, tell: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self._stages = stages
        self._settings = settings
        self._tell = tell
        self._collections: dict[str, str] = {}
        self._creating = threading.Lock()

    def handle(self, message: Delivered, slot: Slot) -> Verdict:
        """Everything for one message, within the time that one handling may take."""
        verdict = self.judge(message, slot)
        self._apply(message, verdict)
        return verdict

    def judge(self, message: Delivered, slot: Slot) -> Verdict:
        """What is to become of the message. The work is done here, and committed before an ack is said."""
        try:
            job = Job.from_json(message.body)
        except MalformedJobError as error:
            return Dead(str(error))
        if RUNTIME.stopped:
            return Retry(0.0, "shutdown")  # not begun: given back at once
        ends = RUNTIME.monotonic() + self._settings.handling
        try:
            with Deadline(self._settings.handling):
                while True:
                    try:
                        return self._work(job, slot)
                    except CircuitOpenError as error:
                        # A pause of the dependency is no failure of this message: it keeps its delivery and waits.
                        pause = error.retry_after or 1.0
                        if RUNTIME.stopped or RUNTIME.monotonic() + pause > ends:
                            raise
                        RUNTIME.sleep(pause)
        except Exception as error:
            return self._failed(message, CLASSIFY(error), error)

    def _work(self, job: Job, slot: Slot) -> Verdict:
        stages = self._stages
        record = stages.photo(job.photo_id)
        if record is None:
            return Dead("the photo is unknown")
        if record.status is PhotoStatus.indexed:
            return Ack(PhotoStatus.indexed, "seen before")
        try:
            image = stages.get(job.key)
        except Exception as error:
            if CLASSIFY(error).kind is not Kind.not_found:
                raise
            return self._unusable(job, "object not found")
        collection = self._collection(job.event_id)
        try:
            found = self._index(job, collection, image, slot)
        except UnusableImageError as error:
            return self._unusable(job, str(error))
        except Exception as error:
            fault = CLASSIFY(error)
            if fault.kind is not Kind.invalid:
                raise
            return self._unusable(job, f"refused: {fault.code}")
        rows = [
            FaceRow(
                photo_id=job.photo_id,
                number=number,
                face_id=face.face_id,
                image_id=face.image_id,
                box=face.box,
                confidence=face.confidence,
                model_version=found.model_version,
            )
            for number, face in enumerate(found.faces)
        ]
        # Token and time are fixed before the first attempt: with one token all attempts must write the very same.
        stages.commit(job.photo_id, rows, str(uuid.uuid4()), RUNTIME.wall())
        self._tell(Progress("indexed", job.photo_id, faces=len(rows)))
        return Ack(PhotoStatus.indexed)

    def _index(self, job: Job, collection: str, image: bytes, slot: Slot) -> IndexAnswer:
        try:
            return self._stages.index_faces(slot, collection, image, job.photo_id)
        except Exception as error:
            if CLASSIFY(error).kind is not Kind.not_found:
                raise
        # The collection is gone: made anew once. If it is gone again, somebody deletes it, and the message waits.
        collection = self._collection(job.event_id, anew=True)
        return self._stages.index_faces(slot, collection, image, job.photo_id)

    def _collection(self, event_id: str, *, anew: bool = False) -> str:
        """The event's collection: made with its first photo, known from then on; one that exists is a success."""
        known = self._collections.get(event_id)
        if known is not None and not anew:
            return known
        with self._creating:  # other threads of this process wait; other processes meet "exists", which is success
            known = self._collections.get(event_id)
            if known is None or anew:
                known = self._stages.collection(event_id)
                if known is None or anew:
                    known = self._stages.create_collection(collection_id(event_id))
                    self._stages.remember_collection(event_id, known)
                    _log.info(
                        "collection made", extra={"event": "rekognition.collection.created", "event_id": event_id}
                    )
                self._collections[event_id] = known
            return known

    def _unusable(self, job: Job, reason: str) -> Verdict:
        """Nothing will ever help this photo: marked first, acknowledged then."""
        self._stages.mark_failed(job.photo_id, reason)
        self._tell(Progress("failed", job.photo_id, code=reason))
        return Ack(PhotoStatus.failed, reason)

    def _failed(self, message: Delivered, fault: Fault, error: Exception) -> Verdict:
        if RUNTIME.stopped:
            return Retry(0.0, "shutdown")
        after = error.retry_after if isinstance(error, Rejected) else fault.retry_after
        if message.count >= self._settings.max_deliveries:
            return Dead(f"{message.count} deliveries failed, the last with {fault.code}")
        if not rule(fault.kind).retried and fault.kind not in (Kind.rejected, Kind.not_found, Kind.unknown):
            return Dead(f"{fault.kind.value}: {fault.code}")
        return Retry(max(_REDELIVERY.delay(message.count), after or 0.0), fault.code)

    def _apply(self, message: Delivered, verdict: Verdict) -> None:
        stages = self._stages
        match verdict:
            case Ack(note=note):
                stages.ack(message)
                if note == "seen before":
                    self._tell(Progress("seen before"))
            case Retry(delay=delay, code=code):
                self._tell(Progress("again", code=code))
                stages.retry(message, delay)
            case Dead(reason=reason):
                try:
                    photo_id = Job.from_json(message.body).photo_id
                    stages.mark_failed(photo_id, reason)
                except MalformedJobError:
                    photo_id = ""
                stages.send_dead(message, reason)  # before the message is deleted: twice is better than never
                stages.ack(message)
                self._tell(Progress("dead", photo_id, code=reason))


class Consumer(Generic[Delivered]):
    """Receives batches and hands each message with its slot to a worker thread, until told to stop."""

    def __init__(
        self, stages: Protected[Delivered], handler: Handler[Delivered], pacer: Pacer, settings: Settings
    ) -> None:
        self._stages = stages
        self._handler = handler
        self._pacer = pacer
        self._settings = settings
        self._free = threading.Semaphore(settings.workers)
        self._stop = threading.Event()
        self._in_hand = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Work until `stop` is called; then finish what is in hand."""
        with ThreadPoolExecutor(self._settings.workers, thread_name_prefix="indexing") as pool:
            while not self._stop.is_set():
                room = self._take_room()
                if not room:
                    continue
                messages = self._received(room)
                with self._lock:
                    self._in_hand += len(messages)
                for _ in range(room - len(messages)):
                    self._free.release()
                if not messages:
                    continue
                for message, slot in zip(messages, self._pacer.batch(len(messages)), strict=True):
                    pool.submit(self._handler.handle, message, slot).add_done_callback(self._done)

    def stop(self) -> None:
        """Take no further message. What is in hand is finished; what was not begun becomes visible again."""
        self._stop.set()

    @property
    def in_hand(self) -> int:
        """Messages that are being handled."""
        with self._lock:
            return self._in_hand

    def _take_room(self) -> int:
        """Free workers, at most one batch; waits a moment for the first."""
        if not self._free.acquire(timeout=0.2):
            return 0
        room = 1
        while room < self._settings.batch and self._free.acquire(blocking=False):
            room += 1
        return room

    def _received(self, most: int) -> tuple[Delivered, ...]:
        try:
            found = self._stages.receive(most, wait=WAIT_FOR_MESSAGES, visibility=self._settings.visibility)
        except Exception as error:
            after = error.retry_after if isinstance(error, Rejected) else None
            _log.info("receive failed: %s", CLASSIFY(error).code)
            self._stop.wait(0.2 if after is None else min(after, 2.0))
            return ()
        return tuple(found)

    def _done(self, future: Future[Verdict]) -> None:
        with self._lock:
            self._in_hand -= 1
        self._free.release()
        error = future.exception()
        if error is not None:  # the verdict could not be carried out: the message comes back when its time is over
            _log.warning("verdict not carried out: %s", CLASSIFY(error).code)


def collection_id(event_id: str) -> str:
    """The same collection id for the same event, always."""
    return f"event-{event_id}"
