"""The consumer's rules, on plain objects and a manual clock: order of effects, verdicts, slots, what is made once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("botocore", reason="the extra `aws` is not installed")

from botocore import exceptions as botocore_exceptions

from resilient_faces.adapters.aws import DamagedAnswerError
from resilient_faces.adapters.rekognition import Indexed, IndexedFace, UnusableImageError, check_image
from resilient_faces.limits import RateLimiter
from resilient_faces.pipeline.indexing import Consumer, Handler, Pacer, Protected, Turnstile
from resilient_faces.pipeline.records import Ack, Dead, FaceRow, Job, PhotoRecord, PhotoStatus, Retry
from resilient_faces.pipeline.settings import Settings
from resilient_faces.testing import ManualRuntime

SETTINGS = Settings(rate=10.0, attempts=3)
JOB = Job("p1", "e1", "photos/p1.jpg")
FACE = IndexedFace("f1", "i1", (0.1, 0.1, 0.2, 0.2), 90.0)


def error(code: str, operation: str = "IndexFaces", status: int = 400) -> Exception:
    response = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    made: Exception = botocore_exceptions.ClientError(response, operation)
    return made


def gaps(times: Iterable[float]) -> list[float]:
    ordered = sorted(times)
    return [later - earlier for earlier, later in itertools.pairwise(ordered)]


@dataclass
class Message:
    body: str = JOB.to_json()
    count: int = 1


@dataclass
class World:
    """All stages as one object: what happened, in order, and scripted failures by stage."""

    clock: ManualRuntime
    log: list[str] = field(default_factory=list)
    fail: dict[str, list[Exception]] = field(default_factory=dict)
    after: dict[str, list[Exception]] = field(default_factory=dict)  # raised when the work is done already
    status: PhotoStatus | None = PhotoStatus.processing
    known: dict[str, str] = field(default_factory=dict)
    answer: Indexed = field(default_factory=lambda: Indexed((FACE,), (), "7.0"))
    committed: list[tuple[str, tuple[FaceRow, ...], str, float]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    delay: float | None = None

    def did(self, what: str) -> None:
        self.log.append(what)
        if self.fail.get(what):
            raise self.fail[what].pop(0)

    def done(self, what: str) -> None:
        if self.after.get(what):
            raise self.after[what].pop(0)

    def photo(self, photo_id: str) -> PhotoRecord | None:
        self.did("photo")
        return None if self.status is None else PhotoRecord(photo_id, self.status)

    def get(self, key: str) -> bytes:
        self.did("get")
        return b"\xff\xd8\xff"

    def collection(self, event_id: str) -> str | None:
        self.did("collection")
        return self.known.get(event_id)

    def create_collection(self, collection: str) -> str:
        self.did("create")
        self.done("create")
        return collection

    def remember_collection(self, event_id: str, collection: str) -> None:
        self.did("remember")
        self.known[event_id] = collection

    def index_faces(self, collection: str, image: bytes, external_image_id: str) -> Indexed:
        self.sent.append(self.clock.monotonic())
        self.external.append(external_image_id)
        self.did("index")
        self.done("index")
        return self.answer

    def commit(self, photo_id: str, rows: Sequence[FaceRow], token: str, at: float) -> None:
        self.committed.append((photo_id, tuple(rows), token, at))
        self.did("commit")
        self.done("commit")
        self.status = PhotoStatus.indexed

    def mark_failed(self, photo_id: str, reason: str) -> None:
        self.did(f"failed {reason}")

    def receive(self, most: int, *, wait: int, visibility: int) -> Sequence[Message]:
        self.did("receive")
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def ack(self, delivery: Message) -> None:
        self.did("ack")

    def retry(self, delivery: Message, delay: float) -> None:
        self.did("retry")
        self.delay = delay

    def send_dead(self, delivery: Message, reason: str) -> None:
        self.did(f"dead {reason}")


@pytest.fixture
def world(clock: ManualRuntime) -> World:
    return World(clock)


@pytest.fixture
def pacer(clock: ManualRuntime) -> Pacer:
    return Pacer(RateLimiter(SETTINGS.rate, name="test"))


@pytest.fixture
def handle(world: World, pacer: Pacer) -> Callable[..., Any]:
    handler = Handler(Protected(world, world, world, world, SETTINGS), SETTINGS)

    def run(message: Message | None = None) -> Any:
        return handler.handle(message or Message(), pacer.another())

    return run


def test_the_order_of_effects(world: World, handle: Callable[..., Any]) -> None:
    """Status, image, collection once, index, rows, and the ack last of all."""
    assert handle() == Ack(PhotoStatus.indexed)
    assert world.log == ["photo", "get", "collection", "create", "remember", "index", "commit", "ack"]
    world.status, world.log = PhotoStatus.processing, []
    handle()
    assert world.log == ["photo", "get", "index", "commit", "ack"]


def test_a_photo_that_is_indexed_already_is_acknowledged(world: World, handle: Callable[..., Any]) -> None:
    """A message that came twice costs one read and no request to the index."""
    world.status = PhotoStatus.indexed
    handle()
    assert world.log == ["photo", "ack"]


def test_no_face_is_a_result(world: World, handle: Callable[..., Any]) -> None:
    """Indexed with no rows, in the same commit."""
    world.answer = Indexed((), (("LOW_CONFIDENCE",),), "7.0")
    assert handle() == Ack(PhotoStatus.indexed)
    assert world.committed[0][1] == ()


def test_all_attempts_of_a_commit_are_the_same(world: World, handle: Callable[..., Any]) -> None:
    """One token, one time and the same rows, although an answer was lost in between."""
    closed = botocore_exceptions.ConnectionClosedError(endpoint_url="u")
    world.after["commit"] = [closed, DamagedAnswerError("dynamodb.TransactWriteItems", "cut")]
    assert handle() == Ack(PhotoStatus.indexed)
    assert len(world.committed) == 3
    assert len(set(world.committed)) == 1


def test_the_external_id_is_the_photos(world: World, handle: Callable[..., Any]) -> None:
    """Every attempt names the same photo, so the index stores no face twice."""
    world.after["index"] = [botocore_exceptions.ReadTimeoutError(endpoint_url="u")]
    handle()
    assert world.external == ["p1", "p1"]


@pytest.mark.parametrize("place", ["create", "remember"])
def test_a_collection_made_halfway_is_finished_later(world: World, handle: Callable[..., Any], place: str) -> None:
    """Created with its answer lost, or created and not remembered: the next handling does both again."""
    world.fail[place] = [error("InternalServerError", status=500)] * SETTINGS.attempts
    assert isinstance(handle(), Retry)
    assert handle() == Ack(PhotoStatus.indexed)
    assert world.known == {"e1": "event-e1"}


def test_a_collection_that_is_gone_is_made_anew_once(world: World, handle: Callable[..., Any]) -> None:
    """One recreation; if it is gone again, the message waits."""
    world.known["e1"] = "event-e1"
    world.fail["index"] = [error("ResourceNotFoundException")]
    assert handle() == Ack(PhotoStatus.indexed)
    assert world.log.count("create") == 1
    world.status, world.log = PhotoStatus.processing, []
    world.fail["index"] = [error("ResourceNotFoundException")] * 9
    assert isinstance(handle(), Retry)
    assert world.log.count("create") == 1


@pytest.mark.parametrize(
    ("place", "trouble", "reason"),
    [
        ("get", error("NoSuchKey", "GetObject", 404), "object not found"),
        ("index", error("InvalidImageFormatException"), "refused: InvalidImageFormatException"),
        ("index", UnusableImageError("the image is empty"), "the image is empty"),
    ],
)
def test_what_is_wrong_with_the_photo_is_no_fault(
    world: World, handle: Callable[..., Any], place: str, trouble: Exception, reason: str
) -> None:
    """Marked failed first, acknowledged then, tried once."""
    world.fail[place] = [trouble] * 9
    assert handle() == Ack(PhotoStatus.failed, reason)
    assert world.log[-2:] == [f"failed {reason}", "ack"]
    assert world.log.count(place) == 1


def test_a_fault_that_lasts_gives_the_message_back(world: World, handle: Callable[..., Any]) -> None:
    """After all attempts it waits, longer with each delivery, and is not acknowledged."""
    delays = []
    for count in (1, 2, 3):
        world.fail["get"] = [error("InternalError", "GetObject", 500)] * SETTINGS.attempts
        verdict = handle(Message(count=count))
        assert isinstance(verdict, Retry)
        delays.append(world.delay)
    assert delays == [1.0, 2.0, 4.0]
    assert "ack" not in world.log


def test_the_last_delivery_goes_to_the_dead_letters(world: World, handle: Callable[..., Any]) -> None:
    """Marked failed, then sent aside, then deleted."""
    world.fail["get"] = [error("InternalError", "GetObject", 500)] * SETTINGS.attempts
    verdict = handle(Message(count=SETTINGS.max_deliveries))
    assert isinstance(verdict, Dead)
    assert [entry.partition(" ")[0] for entry in world.log[-3:]] == ["failed", "dead", "ack"]
    assert "InternalError" in verdict.reason


@pytest.mark.parametrize("code", ["AccessDeniedException", "ServiceQuotaExceededException"])
def test_what_only_a_person_can_mend_is_not_repeated(world: World, handle: Callable[..., Any], code: str) -> None:
    """One request, then the dead letters, where a person sees it."""
    world.fail["index"] = [error(code)] * 9
    assert isinstance(handle(), Dead)
    assert world.log.count("index") == 1


@pytest.mark.parametrize(
    "body", ["", "[]", '{"v": 2}', json.dumps({"v": 1, "photo_id": "", "event_id": "e", "key": "k"})]
)
def test_a_body_that_is_no_job_is_dead(world: World, handle: Callable[..., Any], body: str) -> None:
    """No photo to mark: sent aside, then deleted."""
    assert isinstance(handle(Message(body)), Dead)
    assert [entry.partition(" ")[0] for entry in world.log] == ["dead", "ack"]


def test_an_unknown_photo_is_dead(world: World, handle: Callable[..., Any]) -> None:
    """A message for a photo that nobody uploaded is for a person to look at."""
    world.status = None
    assert handle() == Dead("the photo is unknown")


def test_an_open_circuit_costs_no_delivery(world: World, handle: Callable[..., Any]) -> None:
    """While the index is left alone the message waits where it is, and is handled when the circuit lets it."""
    world.fail["index"] = [error("InternalServerError", status=500)] * 20
    for _ in range(6):
        handle()
    world.fail.clear()
    assert handle() == Ack(PhotoStatus.indexed)


def test_a_throttle_slows_every_thread(world: World, pacer: Pacer, handle: Callable[..., Any]) -> None:
    """The limiter, not only this message, takes a throttling answer to heart."""
    world.fail["index"] = [error("ThrottlingException")]
    assert handle() == Ack(PhotoStatus.indexed)
    assert pacer.limiter.rate < SETTINGS.rate


def test_requests_start_in_their_slots(world: World, pacer: Pacer, clock: ManualRuntime) -> None:
    """Message i of a batch starts at delay + i * interval."""
    began = clock.monotonic()
    for slot in pacer.batch(5):
        slot.wait()
        world.sent.append(clock.monotonic() - began)
    assert world.sent == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_every_retry_takes_a_slot_of_its_own(world: World, handle: Callable[..., Any], clock: ManualRuntime) -> None:
    """No two requests closer than the interval, first attempts and retries alike."""
    clock.chance = 0.0  # the backoff itself adds nothing
    for _ in range(4):
        world.status = PhotoStatus.processing
        world.fail["index"] = [error("InternalServerError", status=500)] * 2
        handle()
    assert len(world.sent) == 12
    assert min(gaps(world.sent)) >= 0.1 - 1e-9


def test_a_missed_slot_is_given_up(pacer: Pacer, clock: ManualRuntime) -> None:
    """Who comes late takes a new slot instead of crowding those that are on time."""
    first, second = pacer.batch(2)
    clock.advance(5.0)
    starts = []
    for slot in (first, second):
        slot.wait()
        starts.append(clock.monotonic())
    assert starts[1] - starts[0] >= 0.1 - 1e-9


def test_the_turnstile_keeps_its_distance(clock: ManualRuntime) -> None:
    """Whatever arrives, what leaves is at least a gap apart; after a pause nobody waits."""
    turnstile = Turnstile(10.0, spare=0.0)
    left = []
    for pause in (0.0, 0.0, 0.05, 3.0, 0.0):
        clock.advance(pause)
        turnstile()
        left.append(clock.monotonic())
    assert gaps(left) == pytest.approx([0.1, 0.1, 3.0, 0.1])


def test_after_a_shutdown_nothing_is_begun(world: World, handle: Callable[..., Any], resilience: None) -> None:
    """A message that was not begun is given back at once."""
    from resilient_faces._core.runtime import RUNTIME

    RUNTIME.stop()
    assert handle() == Retry(0.0, "shutdown")
    assert world.log == ["retry"]


def test_each_message_has_its_own_verdict(world: World, clock: ManualRuntime, pacer: Pacer) -> None:
    """Of a batch, one fails and is given back; the others are acknowledged. The consumer survives a failed receive."""
    jobs = [Job(f"p{number}", "e1", f"photos/p{number}.jpg") for number in range(10)]
    world.waiting = [Message(job.to_json()) for job in jobs]
    world.fail["receive"] = [error("InternalError", "ReceiveMessage", 500)]
    original, lock = world.get, threading.Lock()

    def get(key: str) -> bytes:
        if key == "photos/p3.jpg":
            raise error("AccessDenied", "GetObject", 403)
        with lock:
            world.status = PhotoStatus.processing
        return original(key)

    world.get = get  # type: ignore[method-assign]
    stages = Protected(world, world, world, world, SETTINGS)
    verdicts: list[Any] = []

    class Noting(Handler[Message]):
        def handle(self, message: Message, slot: Any) -> Any:
            with one_at_a_time:
                world.status = PhotoStatus.processing
                verdicts.append(super().handle(message, slot))
            if len(verdicts) == 10:
                consumer.stop()
            return verdicts[-1]

    one_at_a_time = threading.Lock()
    consumer = Consumer(stages, Noting(stages, SETTINGS), pacer, SETTINGS)
    consumer.run()
    assert consumer.in_hand == 0
    assert sum(isinstance(verdict, Ack) for verdict in verdicts) == 9
    assert sum(isinstance(verdict, Dead) for verdict in verdicts) == 1


@pytest.mark.parametrize("image", [b"", b"GIF89a", b"\xff\xd8\xff" + b"0" * (5 * 1024 * 1024)])
def test_images_are_checked_before_they_are_sent(image: bytes) -> None:
    """What the service would refuse is not paid for."""
    with pytest.raises(UnusableImageError):
        check_image(image)
