"""The demonstration: the whole indexing job on this machine, with faults between the consumer and its services.

Three processes beside this one take part: the AWS emulator (objects, queue, tables), the Rekognition-compatible
endpoint, and the fault proxy in front of both. Everything that this process asks of them goes through the proxy; only
setting up and the final reading of tables go straight to the servers. What must hold is judged from ledgers and
tables (`evidence`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.adapters.dynamodb import DynamoDb
from resilient_faces.composing import guard
from resilient_faces.errors import MissingExtraError
from resilient_faces.pipeline import build, photos
from resilient_faces.pipeline.evidence import Evidence, Findings, StoredFace, examine, read_calls
from resilient_faces.pipeline.indexing import CLASSIFY, Progress, collection_id
from resilient_faces.pipeline.photos import Photo
from resilient_faces.pipeline.records import Job
from resilient_faces.pipeline.rows import Tables, photo_record
from resilient_faces.pipeline.settings import Settings
from resilient_faces.retry import Retry, exponential, full
from resilient_faces.testing.children import python_module
from resilient_faces.testing.emulator import Emulator, cache_folder, ensure_environment
from resilient_faces.testing.fault_proxy import FaultKind, FaultPlan, PlannedFault, read_ledger, scatter

GRACE: Final = 5.0  # s for what is in hand when the run ends
EVENT_ID: Final = "demo"
BUCKET: Final = "photos"
KEPT_RUNS: Final = 5
_RUN: Final = "run-"
_IN_USE: Final = "in-use"


class Level(str, Enum):
    """How much goes wrong."""

    none = "none"
    default = "default"
    heavy = "heavy"


# Faults by operation: (kind, after the work was done, one in so many requests). At least one of each strikes.
_DEFAULT: Final[Mapping[str, tuple[tuple[FaultKind, bool, int], ...]]] = {
    "rekognition.IndexFaces": (
        (FaultKind.throttle, False, 40),
        (FaultKind.server_error, False, 40),
        (FaultKind.unavailable, False, 100),
        (FaultKind.hang, False, 200),
        (FaultKind.reset, False, 100),
        (FaultKind.reset, True, 66),
        (FaultKind.truncated, True, 100),
        (FaultKind.garbage, True, 100),
    ),
    "rekognition.CreateCollection": ((FaultKind.reset, True, 1),),
    "s3.GetObject": (
        (FaultKind.throttle, False, 100),
        (FaultKind.server_error, False, 100),
        (FaultKind.reset, False, 200),
        (FaultKind.truncated, True, 100),
    ),
    "s3.PutObject": ((FaultKind.server_error, False, 100), (FaultKind.reset, True, 100)),
    "dynamodb.GetItem": ((FaultKind.garbage, False, 200), (FaultKind.server_error, False, 200)),
    "dynamodb.TransactWriteItems": (
        (FaultKind.throttle, False, 100),
        (FaultKind.server_error, False, 100),
        (FaultKind.reset, True, 66),
        (FaultKind.truncated, True, 200),
    ),
    "sqs.SendMessage": ((FaultKind.reset, True, 100), (FaultKind.server_error, False, 200)),
    "sqs.DeleteMessage": ((FaultKind.server_error, False, 100), (FaultKind.reset, True, 200)),
}
_HEAVIER: Final = 3  # heavy has so many times the faults of default


@dataclass(frozen=True, slots=True)
class Plan:
    """All that goes wrong in one run, fixed by the seed before it starts.

    Attributes:
        seed: What it was made from.
        level: How much goes wrong.
        faults: For the proxy.
        missing: Photos whose object is never stored.
        corrupt: Photos whose object is damaged.
        refused: Photos that the service answers with a 500 for ever.
        unreadable: Files of one's own that are no pictures.
    """

    seed: int
    level: Level
    faults: FaultPlan
    missing: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def permanent(self) -> dict[str, str]:
        """Photos that must fail, with the reason; no others may."""
        return {
            **dict.fromkeys(self.missing, "missing"),
            **dict.fromkeys(self.corrupt, "corrupt"),
            **dict.fromkeys(self.refused, "refused for ever"),
            **dict.fromkeys(self.unreadable, "no picture"),
        }

    @property
    def fingerprint(self) -> str:
        """The same for the same plan."""
        text = self.faults.to_json() + json.dumps([self.level.value, sorted(self.permanent.items())])
        return sha256(text.encode()).hexdigest()[:16]


def make_plan(batch: Sequence[Photo], level: Level, seed: int) -> Plan:
    """The plan of a run. The same photos, level and seed give the same plan."""
    unreadable = tuple(photo.id for photo in batch if photo.boxes is None and not photos.readable(photo.data))
    if level is Level.none:
        return Plan(seed, level, FaultPlan(seed=seed), unreadable=unreadable)
    count = len(batch)
    times = _HEAVIER if level is Level.heavy else 1
    wanted = {
        operation: [(kind, after, times * max(1, count // one_in) if one_in > 1 else 1) for kind, after, one_in in rows]
        for operation, rows in _DEFAULT.items()
    }
    # Requests of an operation that surely come: one a photo, less those that heavy plans away.
    sure = max(1, int(count * (0.9 if level is Level.default else 0.8)))
    among = {operation: 1 if operation.endswith("CreateCollection") else sure for operation in wanted}
    rows = list(scatter(seed, wanted, among))
    missing: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    if level is Level.heavy:
        each = max(1, count // 100)
        well = [photo.id for photo in batch if photo.id not in unreadable]
        chosen = random.Random(f"permanent/{seed}").sample(well, min(len(well), 2 * each + 1))
        missing, corrupt, refused = tuple(chosen[:each]), tuple(chosen[each : 2 * each]), tuple(chosen[2 * each :])
        rows += [
            PlannedFault("rekognition.IndexFaces", FaultKind.server_error, subject=key, times=0) for key in refused
        ]
        # A lost answer of a receive hides its messages until their time is over: they come back and are handled then.
        rows.append(PlannedFault("sqs.ReceiveMessage", FaultKind.reset, nth=3, after=True))
    return Plan(seed, level, FaultPlan(tuple(rows), seed), missing, corrupt, refused, unreadable)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    level: Level = Level.default
    seed: int = 0
    count: int = 200
    folder: Path | None = None
    rate: float = 50.0
    limit: float = 300.0  # s for the whole job, after which what is left counts as not settled


@dataclass(slots=True)
class State:
    """What a live display shows; also what an interrupted run tells. Not evidence."""

    stage: str = "starting"
    photos: int = 0
    uploaded: int = 0
    faces: int = 0
    again: int = 0
    _indexed: set[str] = field(default_factory=set)  # ids: a message that came twice counts once
    _failed: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def indexed(self) -> int:
        return len(self._indexed)

    @property
    def failed(self) -> int:
        return len(self._failed)

    def note(self, progress: Progress) -> None:
        with self._lock:
            if progress.what == "indexed" and progress.photo_id not in self._indexed:
                self._indexed.add(progress.photo_id)
                self.faces += progress.faces
            elif progress.what in ("failed", "dead"):
                self._failed.add(progress.photo_id)
            elif progress.what == "again":
                self.again += 1

    def uploaded_one(self) -> None:
        with self._lock:
            self.uploaded += 1


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run."""

    findings: Findings
    plan: Plan
    options: Options
    seconds: float
    ready_after: float
    folder: Path

    def to_json(self) -> dict[str, object]:
        return self.findings.to_json(
            level=self.plan.level.value,
            seed=self.plan.seed,
            rate=self.options.rate,
            plan=self.plan.fingerprint,
            planned_failures=self.plan.permanent,
            seconds=round(self.seconds, 2),
            seconds_to_start=round(self.ready_after, 2),
        )


def run(options: Options, state: State, *, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Start the servers, index the photos, stop the servers, and judge.

    Raises:
        MissingExtraError: Something is not installed; EmulatorUnavailable among them.
        ChildError: A server did not come up.
        KeyboardInterrupt: Passed through, after all servers were stopped.
    """
    for module in ("boto3", "skimage", "PIL"):  # known before anything is started or installed
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(extra="demo", missing=module)
    settings = Settings.from_environment(rate=options.rate)
    began = time.monotonic()
    state.stage = "cutting photos"
    batch = photos.from_folder(options.folder) if options.folder else photos.burst(options.count, seed=options.seed)
    plan = make_plan(batch, options.level, options.seed)
    state.photos = len(batch)
    state.stage = "preparing the emulator"
    python = ensure_environment(tell=tell)
    with _run_folder() as folder, ExitStack() as servers:
        state.stage = "starting servers"
        (folder / "plan.json").write_text(plan.faults.to_json(), encoding="utf-8")
        emulator = servers.enter_context(Emulator(folder / "emulator", python=python))
        endpoint = servers.enter_context(
            python_module(
                "the Rekognition endpoint",
                "resilient_faces.adapters.local_rekognition",
                *("--ledger", str(folder / "endpoint.jsonl")),
                *("--index-tps", str(settings.rate)),
                *("--nice", "5"),  # searching takes all the processor there is; proxy and consumer must stay on time
                log=folder / "endpoint.log",
            )
        )
        proxy = servers.enter_context(
            python_module(
                "the fault proxy",
                "resilient_faces.testing.fault_proxy",
                *("--plan", str(folder / "plan.json")),
                *("--ledger", str(folder / "requests.jsonl")),
                *("--route", f"rekognition={endpoint.hello['url']}"),
                *("--route", f"*={emulator.url}"),
                log=folder / "proxy.log",
            )
        )
        direct = _Direct(emulator.url, str(endpoint.hello["url"]), settings)
        places = direct.set_up(proxy_url=str(proxy.hello["url"]))
        ready = time.monotonic()
        using = build.clients(settings, LocalEndpoint(str(proxy.hello["url"])))
        job = build.indexing(using, places, settings, tell=state.note)
        left = _work(job, batch, plan, state, direct, options.limit)
        seconds = time.monotonic() - ready
        state.stage = "reading ledgers and tables"
        evidence = Evidence(
            photos=batch,
            permanent=plan.permanent,
            requests=read_ledger(folder / "requests.jsonl"),
            calls=read_calls(folder / "endpoint.jsonl"),
            records=direct.records(),
            faces=direct.faces(),
            dead_letters=direct.dead_letters(),
            collection_faces=direct.collection_faces(),
            rate=options.rate,
            left_in_queue=left,
        )
        return Report(examine(evidence), plan, options, seconds, ready - began, folder)


def _work(job: build.Indexing, batch: Sequence[Photo], plan: Plan, state: State, direct: _Direct, limit: float) -> int:
    """Upload and consume until the queue is empty; returns how many messages are left."""
    state.stage = "indexing"
    consuming = threading.Thread(target=job.consumer.run, name="consumer", daemon=True)
    consuming.start()
    failed: list[BaseException] = []

    def upload() -> None:
        try:
            _upload(job, batch, plan, state)
        except BaseException as error:  # told by the main thread
            failed.append(error)

    uploading = threading.Thread(target=upload, name="upload", daemon=True)
    uploading.start()
    ends = time.monotonic() + limit
    left = len(batch)
    try:
        empty = 0
        while time.monotonic() < ends and empty < 3:
            time.sleep(0.1)
            if failed:
                raise failed[0]
            if uploading.is_alive():
                continue
            left = direct.left_in_queue()
            empty = empty + 1 if left == 0 and job.consumer.in_hand == 0 else 0
    except BaseException:
        # Waits end, nothing is tried again, messages that were not begun go back; then the servers are stopped.
        RUNTIME.stop()
        raise
    finally:
        job.consumer.stop()
        uploading.join(GRACE)
        consuming.join(GRACE)
    return left


def _upload(job: build.Indexing, batch: Sequence[Photo], plan: Plan, state: State) -> None:
    """Objects first, then photo records, then messages: a message never names what is not there."""
    upload = guard(
        Retry(attempts=8, backoff=exponential(0.1, factor=2.0, cap=2.0), jitter=full(), idempotent=True),
        classify=CLASSIFY,
    )
    put, note, send = upload(job.objects.put), upload(job.rows.add_photo), upload(job.queue.send)

    def one(photo: Photo) -> None:
        if RUNTIME.stopped:
            return
        if photo.id not in plan.missing:
            put(photo.key, damaged(photo.data) if photo.id in plan.corrupt else photo.data)
        note(photo.id, EVENT_ID, photo.key)
        # A lost answer leads to a second message; the consumer sees that its photo is indexed already.
        send(Job(photo.id, EVENT_ID, photo.key).to_json())
        state.uploaded_one()

    with ThreadPoolExecutor(4, thread_name_prefix="upload") as pool:
        for _ in pool.map(one, batch):
            pass


def damaged(data: bytes) -> bytes:
    """A file that begins as a JPEG does and then is none."""
    return data[:20] + b"\0" * 200


class _Direct:
    """Straight to the servers, past the proxy: for setting up, and for reading what is really there."""

    def __init__(self, emulator: str, endpoint: str, settings: Settings) -> None:
        self._tables = Tables()
        local = LocalEndpoint(emulator)
        self._s3 = connect("s3", region=settings.region, endpoint=local)
        self._sqs = connect("sqs", region=settings.region, endpoint=local)
        self._dynamodb = connect("dynamodb", region=settings.region, endpoint=local)
        self._rekognition = connect("rekognition", region=settings.region, endpoint=LocalEndpoint(endpoint))
        self._region = settings.region
        self._deliveries = settings.max_deliveries
        self._queue = self._dead_letters = ""

    def set_up(self, *, proxy_url: str) -> build.Places:
        """Make bucket, queues and tables."""
        self._s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": self._region})
        self._dead_letters = self._sqs.create_queue(QueueName="photos-dead")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._dead_letters, AttributeNames=["QueueArn"])[
            "Attributes"
        ]
        # The consumer sets dead messages aside itself, with the reason; this is the net below it.
        redrive = {"deadLetterTargetArn": attributes["QueueArn"], "maxReceiveCount": str(self._deliveries * 3)}
        created = self._sqs.create_queue(QueueName="photos", Attributes={"RedrivePolicy": json.dumps(redrive)})
        self._queue = created["QueueUrl"]
        for definition in self._tables.definitions():
            self._dynamodb.create_table(**definition)
        return build.Places(
            bucket=BUCKET,
            queue_url=proxy_url + _path(self._queue),
            dead_letter_url=proxy_url + _path(self._dead_letters),
            tables=self._tables,
        )

    def left_in_queue(self) -> int:
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes.get(name, 0)) for name in names)

    def records(self) -> dict[str, Any]:
        items = DynamoDb(self._dynamodb).scan(self._tables.photos)
        return {record.photo_id: record for record in map(photo_record, items)}

    def faces(self) -> list[StoredFace]:
        items = DynamoDb(self._dynamodb).scan(self._tables.faces)
        return [StoredFace(item["photo_id"]["S"], item.get("face_id", {}).get("S")) for item in items]

    def dead_letters(self) -> list[str]:
        found: list[str] = []
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._dead_letters, MaxNumberOfMessages=10, VisibilityTimeout=600
            )
            messages = answer.get("Messages") or []
            if not messages:
                return found
            found += [Job.from_json(message["Body"]).photo_id for message in messages]

    def collection_faces(self) -> dict[str, str]:
        """Face id to external id, of the whole collection; empty if no photo ever made it."""
        faces: dict[str, str] = {}
        token: dict[str, str] = {}
        while True:
            try:
                page = self._rekognition.list_faces(CollectionId=collection_id(EVENT_ID), MaxResults=1000, **token)
            except self._rekognition.exceptions.ResourceNotFoundException:
                return faces
            faces.update({face["FaceId"]: face.get("ExternalImageId", "") for face in page["Faces"]})
            if not page.get("NextToken"):
                return faces
            token = {"NextToken": page["NextToken"]}


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


# -- what runs leave ----------------------------------------------------------------------------------------------


@contextmanager
def _run_folder() -> Iterator[Path]:
    """A folder of its own for each run, for ledgers and logs; the last few are kept."""
    base = cache_folder() / "demo"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in sorted(base.glob(f"{_RUN}*"))[: -KEPT_RUNS + 1]:
        if not in_use(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = base / f"{_RUN}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(mode=0o700)
    with (folder / _IN_USE).open("w") as handle:
        _lock(handle.fileno())
        yield folder


def in_use(folder: Path) -> bool:
    """Whether a run that still goes on holds the folder."""
    try:
        with (folder / _IN_USE).open("a") as handle:
            return not _lock(handle.fileno())
    except OSError:
        return False


def _lock(handle: int) -> bool:
    """Take the lock of an open file, if the system has such locks; False if somebody else has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def clean() -> tuple[list[Path], list[Path]]:
    """Remove what demonstrations left: run folders and the emulator's environment.

    Returns:
        What was removed, and what is kept because a run goes on.
    """
    removed: list[Path] = []
    kept: list[Path] = []
    base = cache_folder()
    for folder in sorted((base / "demo").glob(f"{_RUN}*")):
        if in_use(folder):
            kept.append(folder)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    emulator = base / "emulator"
    if emulator.is_dir() and not kept:
        shutil.rmtree(emulator, ignore_errors=True)
        removed.append(emulator)
    for empty in (base / "demo", base):
        try:
            empty.rmdir()
        except OSError:  # not there, or not empty: something of somebody else's
            pass
    return removed, kept
