"""The one place that picks adapters: from addresses and settings to a pipeline that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from resilient_faces.adapters.aws import UNGUARDED, LocalEndpoint, connect
from resilient_faces.adapters.dynamodb import DynamoDb
from resilient_faces.adapters.rekognition import Rekognition
from resilient_faces.adapters.s3 import S3
from resilient_faces.adapters.sqs import Delivery, Sqs
from resilient_faces.limits import RateLimiter
from resilient_faces.pipeline.indexing import CLASSIFY, Consumer, Handler, Pacer, Progress, Protected, Turnstile
from resilient_faces.pipeline.rows import MOST_ROWS, DynamoFaceStore, Tables
from resilient_faces.pipeline.settings import Settings

THREADS_BESIDE_WORKERS: Final = 8  # receiving, uploading


@dataclass(frozen=True, slots=True)
class Places:
    """Names of what the pipeline uses in the account."""

    bucket: str
    queue_url: str
    dead_letter_url: str
    tables: Tables = field(default_factory=Tables)


@dataclass(frozen=True, slots=True)
class Clients:
    """One boto3 client a service, each of which tries once."""

    s3: Any
    sqs: Any
    dynamodb: Any
    rekognition: Any


@dataclass(frozen=True, slots=True)
class Indexing:
    """The indexing job, wired: `consumer.run()` works until `consumer.stop()`."""

    consumer: Consumer[Delivery]
    handler: Handler[Delivery]
    stages: Protected[Delivery]
    queue: Sqs
    objects: S3
    rows: DynamoFaceStore


def clients(settings: Settings, endpoint: LocalEndpoint | None = None) -> Clients:
    """Clients for AWS, or for a server on this machine that stands in for all four services."""

    def client(service: str, read_timeout: float) -> Any:
        return connect(
            service,
            region=settings.region,
            endpoint=endpoint,
            connect_timeout=settings.connect_timeout,
            read_timeout=read_timeout,
            pool=settings.workers + THREADS_BESIDE_WORKERS,
        )

    return Clients(
        s3=client("s3", settings.read_timeout),
        sqs=client("sqs", settings.read_timeout),
        dynamodb=client("dynamodb", settings.read_timeout),
        rekognition=client("rekognition", settings.index_timeout),
    )


def indexing(
    using: Clients, places: Places, settings: Settings, *, tell: Callable[[Progress], None] = lambda _: None
) -> Indexing:
    """The indexing job on S3, SQS, DynamoDB and Rekognition."""
    objects = S3(using.s3, places.bucket, **UNGUARDED)
    queue = Sqs(using.sqs, places.queue_url, places.dead_letter_url, **UNGUARDED)
    rows = DynamoFaceStore(DynamoDb(using.dynamodb, **UNGUARDED), places.tables)
    turnstile = Turnstile(settings.rate)
    index = Rekognition(using.rekognition, most_faces=MOST_ROWS, before_send=turnstile, **UNGUARDED)
    stages = Protected(objects, index, rows, queue, settings)
    handler = Handler(stages, settings, tell=tell)
    limiter = RateLimiter(settings.rate, name=f"rekognition/{settings.region}/IndexFaces", classify=CLASSIFY)
    consumer = Consumer(stages, handler, Pacer(limiter), settings)
    return Indexing(consumer, handler, stages, queue, objects, rows)
