"""Every operation of the adapters meets every fault: `python proof/adapter_faults.py [--small] [--write | --check]`.

Real boto3 talks through the fault proxy to the AWS emulator and to the Rekognition endpoint. Each operation meets each
fault twice over: struck once, so that the next attempt can succeed, and struck always. What the caller got is compared
with what the servers hold, and requests are counted at the proxy. The claim breaks if a value is wrong, if an answer
and the servers contradict each other, or if something happened twice where the service offers a way to avoid it.

`--write` puts the table into docs/reference/adapter-faults.md; `--check` compares, and fails if the page says something
else. `--small` runs operations and faults that reach every service and every fault; it compares those rows.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from _report import ROOT, Proof

ATTEMPTS: Final = 3
READ_TIMEOUT: Final = 0.5  # s; a fault `hang` costs this much
PATIENCE: Final = 20.0  # s, for all requests that are not struck so: a busy machine must not pass for a fault
REGION: Final = "us-west-2"
PAGE: Final = ROOT / "docs" / "reference" / "adapter-faults.md"
BEGIN: Final = "<!-- table of proof/adapter_faults.py -->"
END: Final = "<!-- end of the table -->"
MODES: Final = ("once", "always")
PART: Final = -1
MANY: Final = 150  # writes of the write in parts
MAY_HAPPEN_TWICE: Final = ("sqs.send", "sqs.send_many", "sqs.dead", "sqs.redrive", "sns.publish")

proof = Proof(
    "adapter_faults",
    "no fault between an adapter and its service gives a wrong value, or makes an effect twice where that is avoidable",
    __doc__,
    small="some operations, some faults: all services and all faults are reached",
)
proof.parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
proof.parser.add_argument("--check", action="store_true", help="fail if the page has another table")
proof.parser.add_argument("--only", metavar="TEXT", help="operations whose name contains this")


@dataclass(frozen=True)
class Strike:
    """One column of the matrix: what happens to the request or to its answer."""

    name: str
    kind: str | None  # of the proxy; None closes its port
    after: bool = False


STRIKES: Final = (
    Strike("throttle", "throttle"),
    Strike("500", "500"),
    Strike("503", "503"),
    Strike("hang", "hang"),
    Strike("refused", None),
    Strike("reset", "reset"),
    Strike("truncated", "truncated"),
    Strike("garbage 200", "garbage"),
    Strike("applied, answer lost", "reset", after=True),
)
PARTIAL: Final = Strike("half done", "partial")


@dataclass
class Case:
    """One operation of an adapter.

    Attributes:
        name: `service.method`, and what sort of call.
        wire: The request that is struck.
        prepare: Makes what the call needs, directly at the server; returns what the other functions are given.
        call: The call under test, through the proxy.
        right: Whether the value that it returned is right.
        effect: How often the effect is there, from the server itself; None for an operation that only reads.
        copies: Ids of the copies that readers would see, where an effect can be there twice.
        batch: Also meets the fault that does half of a batch.
    """

    name: str
    wire: str
    prepare: Callable[[World, str], Any]
    call: Callable[[World, Any], Any]
    right: Callable[[Any, Any], bool] = lambda value, subject: True
    effect: Callable[[World, Any], int] | None = None
    copies: Callable[[World, Any], list[str]] | None = None
    batch: bool = False

    @property
    def strikes(self) -> tuple[Strike, ...]:
        return (*STRIKES, PARTIAL) if self.batch else STRIKES


@dataclass
class World:
    """Servers, clients that reach them directly, and adapters that reach them `through` the proxy."""

    proxy: Any
    ledger: Path
    direct: Mapping[str, Any]
    through: Mapping[str, Any]
    sessions: set[str]
    faces: Mapping[str, bytes]
    topic: str
    subscribed: str
    hurried: list[str] = field(default_factory=list)  # requests to come that shall not wait for long
    refusing: bool = False
    numbers: Iterator[int] = field(default_factory=itertools.count)
    drained: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def options(self, attempts: int = ATTEMPTS) -> dict[str, Any]:
        from resilient_faces.retry import Retry

        return {"retry": Retry(attempts=attempts, backoff=0.0, before_sleep=self._reopen)}

    def _reopen(self, _: object) -> None:
        """Before a repetition: a port that is refused once is open again."""
        if self.refusing:
            self.refusing = False
            self.proxy.accept()

    @property
    def dynamodb(self) -> Any:
        from resilient_faces.adapters.dynamodb import DynamoDb

        return DynamoDb(self.through["dynamodb"], **self.options())

    @property
    def s3(self) -> Any:
        from resilient_faces.adapters.s3 import S3

        return S3(self.through["s3"], "bucket", **self.options())

    @property
    def rekognition(self) -> Any:
        from resilient_faces.adapters.rekognition import Rekognition

        return Rekognition(self.through["rekognition"], **self.options())

    def sqs(self, queue: Queue) -> Any:
        from resilient_faces.adapters.sqs import Sqs

        return Sqs(self.through["sqs"], queue.url, queue.dead, **self.options())

    def item(self, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = (
            self.direct["dynamodb"].get_item(TableName="items", Key=by(key), ConsistentRead=True).get("Item")
        )
        return found

    def put_item(self, key: str, **members: Any) -> str:
        self.direct["dynamodb"].put_item(TableName="items", Item={**by(key), **members})
        return key

    def counts(self, keys: Iterable[str]) -> int:
        """What the counters of all these items say; `PART` if some say 1 and the others nothing."""
        found = {int((self.item(key) or {}).get("n", {"N": "0"})["N"]) for key in keys}
        if found == {0, 1}:
            return PART
        if len(found) != 1:
            raise AssertionError(f"counters differ: {sorted(found)}")
        return found.pop()

    def drain(self, url: str) -> list[dict[str, Any]]:
        """All messages that can be received."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self.direct["sqs"].receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
            )
            messages = answer.get("Messages", [])
            if not messages:
                return found
            found += messages
            for message in messages:
                self.direct["sqs"].delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def stays(self, url: str) -> list[dict[str, Any]]:
        """As `drain`; asked again it says the same."""
        if url not in self.drained:
            self.drained[url] = self.drain(url)
        return self.drained[url]


@dataclass(frozen=True)
class Queue:
    """A queue made for one call, its dead-letter queue, and a delivery if the call needs one."""

    url: str
    dead: str
    delivery: Any = None


def by(key: str) -> dict[str, Any]:
    return {"id": {"S": key}}


def queue(world: World, tag: str, *, fifo: bool = False) -> Queue:
    def make(name: str) -> str:
        attributes = {"FifoQueue": "true"} if fifo else {}
        full = f"{name}-{uuid.uuid4().hex[:12]}" + (".fifo" if fifo else "")
        return str(world.direct["sqs"].create_queue(QueueName=full, Attributes=attributes)["QueueUrl"])

    return Queue(make("queue"), make("dead"))


def delivered(world: World, tag: str, count: int = 1) -> Queue:
    """A queue of which messages were received already."""
    from resilient_faces.adapters.aws import UNGUARDED
    from resilient_faces.adapters.sqs import Sqs

    made = queue(world, tag)
    reader = Sqs(world.direct["sqs"], made.url, made.dead, **UNGUARDED)
    for number in range(count):
        reader.send(f"work {number}", id=f"{tag}-{number}")
    got = reader.receive(10, wait=1, visibility=600)
    assert len(got) == count
    return Queue(made.url, made.dead, got if count > 1 else got[0])


def with_dead_letter(world: World, tag: str) -> Queue:
    from resilient_faces.adapters.aws import UNGUARDED
    from resilient_faces.adapters.sqs import Sqs

    made = delivered(world, tag)
    Sqs(world.direct["sqs"], made.url, made.dead, **UNGUARDED).dead(made.delivery, "test")
    return made


def there(world: World, queue: Queue) -> int:
    """Messages in the queue, handed out ones included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    said = world.direct["sqs"].get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
    return sum(int(said[name]) for name in names)


def hidden(world: World, queue: Queue) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    return int(world.direct["sqs"].get_queue_attributes(QueueUrl=queue.url, AttributeNames=[name])["Attributes"][name])


def ids(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    return [message["MessageAttributes"]["id"]["StringValue"] for message in messages]


def each(messages: list[dict[str, Any]], kinds: int) -> int:
    """How often each of so many different messages is there, at most; 0 if one of them is not there at all."""
    found = ids(messages)
    return max((found.count(one) for one in found), default=0) if len(set(found)) == kinds else 0


def published(world: World, subject: str) -> list[str]:
    """Ids in what the subscribed queue got of this subject."""
    for message in world.drain(world.subscribed):
        notice = json.loads(message["Body"])
        world.drained.setdefault(notice["Message"], []).append(notice)
    return [notice["MessageAttributes"]["id"]["Value"] for notice in world.drained.get(subject, [])]


def sampled(world: World, name: str) -> int:
    from resilient_faces._core.runtime import RUNTIME

    now = RUNTIME.wall()
    points = world.direct["cloudwatch"].get_metric_statistics(
        Namespace="proof", MetricName=name, StartTime=now - 600, EndTime=now + 600, Period=60, Statistics=["Sum"]
    )["Datapoints"]
    return round(sum(point["Sum"] for point in points))


def collection(world: World, tag: str, *, faces: int = 0) -> tuple[str, tuple[str, ...]]:
    """A collection made directly, with faces; its id and theirs."""
    name = f"c-{uuid.uuid4().hex[:12]}"
    world.direct["rekognition"].create_collection(CollectionId=name)
    stored: list[str] = []
    for number in range(faces):
        answer = world.direct["rekognition"].index_faces(
            CollectionId=name, Image={"Bytes": world.faces["a"]}, ExternalImageId=f"known-{number}"
        )
        stored += [record["Face"]["FaceId"] for record in answer["FaceRecords"]]
    return name, tuple(stored)


def exists(world: World, name: str) -> int:
    return int(name in world.direct["rekognition"].list_collections(MaxResults=1000)["CollectionIds"])


def stored(world: World, name: str) -> int:
    return len(world.direct["rekognition"].list_faces(CollectionId=name)["Faces"])


def adds(keys: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {
            "Update": {
                "TableName": "items",
                "Key": by(key),
                "UpdateExpression": "ADD n :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }
        for key in keys
    ]


def objects(world: World, key: str) -> int:
    found = world.direct["s3"].list_objects_v2(Bucket="bucket", Prefix=key).get("Contents", [])
    return len(found)


def body(world: World, key: str) -> bytes:
    data: bytes = world.direct["s3"].get_object(Bucket="bucket", Key=key)["Body"].read()
    return data


def put_object(world: World, key: str, data: bytes = b"old") -> str:
    world.direct["s3"].put_object(Bucket="bucket", Key=key, Body=data)
    return key


DATA: Final = bytes(range(256)) * 40


def cases() -> list[Case]:
    """Every public operation of the adapters."""
    return [*_dynamodb(), *_s3(), *_sqs(), *_sns_and_cloudwatch(), *_rekognition()]


def _dynamodb() -> list[Case]:
    def new(world: World, tag: str) -> str:
        return tag

    def some(world: World, tag: str) -> list[str]:
        return [world.put_item(f"{tag}-{number}", x={"S": "x"}) for number in range(4)]

    def parts(world: World, tag: str) -> list[str]:
        return [f"{tag}-{number}" for number in range(MANY)]

    one = {":one": {"N": "1"}}
    absent = {"condition": "attribute_not_exists(id)"}
    return [
        Case(
            "dynamodb.get",
            "dynamodb.GetItem",
            lambda w, t: w.put_item(t, x={"S": "x"}),
            lambda w, s: w.dynamodb.get("items", by(s)),
            lambda value, s: value == {**by(s), "x": {"S": "x"}},
        ),
        Case(
            "dynamodb.put",
            "dynamodb.PutItem",
            new,
            lambda w, s: w.dynamodb.put("items", by(s)),
            lambda value, s: value.applied,
            lambda w, s: int(w.item(s) is not None),
        ),
        Case(
            "dynamodb.put, condition",
            "dynamodb.PutItem",
            new,
            lambda w, s: w.dynamodb.put("items", by(s), **absent),
            lambda value, s: value.applied,
            lambda w, s: int(w.item(s) is not None),
        ),
        Case(
            "dynamodb.put, condition fails",
            "dynamodb.PutItem",
            lambda w, t: w.put_item(t, x={"S": "theirs"}),
            lambda w, s: w.dynamodb.put("items", {**by(s), "x": {"S": "ours"}}, **absent),
            lambda value, s: not value.applied and value.found["x"] == {"S": "theirs"},
        ),
        Case(
            "dynamodb.update, SET",
            "dynamodb.UpdateItem",
            new,
            lambda w, s: w.dynamodb.update("items", by(s), "SET n = :one", values=one),
            lambda value, s: value.applied,
            lambda w, s: w.counts([s]),
        ),
        Case(
            "dynamodb.update, condition",
            "dynamodb.UpdateItem",
            new,
            lambda w, s: w.dynamodb.update(
                "items", by(s), "SET n = :one", values=one, condition="attribute_not_exists(n)"
            ),
            lambda value, s: value.applied,
            lambda w, s: w.counts([s]),
        ),
        Case(
            "dynamodb.update, ADD",
            "dynamodb.TransactWriteItems",
            new,
            lambda w, s: w.dynamodb.update("items", by(s), "ADD n :one", values=one),
            lambda value, s: value.applied,
            lambda w, s: w.counts([s]),
        ),
        Case(
            "dynamodb.delete",
            "dynamodb.DeleteItem",
            lambda w, t: w.put_item(t),
            lambda w, s: w.dynamodb.delete("items", by(s)),
            effect=lambda w, s: int(w.item(s) is None),
        ),
        Case(
            "dynamodb.transact",
            "dynamodb.TransactWriteItems",
            lambda w, t: [f"{t}-a", f"{t}-b"],
            lambda w, s: w.dynamodb.transact(adds(s)),
            lambda value, s: value.applied,
            lambda w, s: w.counts(s),
        ),
        Case(
            f"dynamodb.write_in_parts, {MANY} writes",
            "dynamodb.TransactWriteItems",
            parts,
            lambda w, s: w.dynamodb.write_in_parts(adds(s), operation_id=f"op-{s[0]}", progress="items"),
            lambda value, s: value.complete and value.of == 2,
            lambda w, s: w.counts(s),
        ),
        Case(
            "dynamodb.get_many",
            "dynamodb.BatchGetItem",
            some,
            lambda w, s: w.dynamodb.get_many("items", [by(key) for key in (*s, "nobody")]),
            lambda value, s: [None if one is None else one["id"]["S"] for one in value] == [*s, None],
            batch=True,
        ),
        Case(
            "dynamodb.write_many",
            "dynamodb.BatchWriteItem",
            lambda w, t: [f"{t}-{number}" for number in range(4)],
            lambda w, s: w.dynamodb.write_many("items", puts=[by(key) for key in s]),
            lambda value, s: value == len(s),
            lambda w, s: int(all(w.item(key) is not None for key in s)),
            batch=True,
        ),
        Case(
            "dynamodb.scan",
            "dynamodb.Scan",
            lambda w, t: w.direct["dynamodb"].put_item(TableName="few", Item=by("only")),
            lambda w, s: list(w.dynamodb.scan("few")),
            lambda value, s: value == [by("only")],
        ),
    ]


def _s3() -> list[Case]:
    def etag(world: World, key: str) -> tuple[str, str]:
        put_object(world, key)
        return key, world.direct["s3"].head_object(Bucket="bucket", Key=key)["ETag"]

    return [
        Case(
            "s3.get",
            "s3.GetObject",
            lambda w, t: put_object(w, t, DATA),
            lambda w, s: w.s3.get(s),
            lambda value, s: value == DATA,
        ),
        Case(
            "s3.head",
            "s3.HeadObject",
            lambda w, t: put_object(w, t, DATA),
            lambda w, s: w.s3.head(s),
            lambda value, s: value.size == len(DATA),
        ),
        Case(
            "s3.put",
            "s3.PutObject",
            lambda w, t: t,
            lambda w, s: w.s3.put(s, DATA),
            effect=objects,
        ),
        Case(
            "s3.put_if, absent",
            "s3.PutObject",
            lambda w, t: t,
            lambda w, s: w.s3.put_if(s, DATA),
            lambda value, s: value.applied,
            objects,
        ),
        Case(
            "s3.put_if, etag",
            "s3.PutObject",
            etag,
            lambda w, s: w.s3.put_if(s[0], DATA, etag=s[1]),
            lambda value, s: value.applied,
            lambda w, s: int(body(w, s[0]) == DATA),
        ),
        Case(
            "s3.put_if, condition fails",
            "s3.PutObject",
            put_object,
            lambda w, s: w.s3.put_if(s, DATA),
            lambda value, s: not value.applied,
        ),
        Case(
            "s3.copy",
            "s3.CopyObject",
            lambda w, t: (put_object(w, f"from-{t}", DATA), f"to-{t}"),
            lambda w, s: w.s3.copy(*s),
            effect=lambda w, s: objects(w, s[1]),
        ),
        Case(
            "s3.delete",
            "s3.DeleteObject",
            put_object,
            lambda w, s: w.s3.delete(s),
            effect=lambda w, s: 1 - objects(w, s),
        ),
    ]


def _sqs() -> list[Case]:
    def waiting(world: World, tag: str) -> Queue:
        made = queue(world, tag)
        world.direct["sqs"].send_message(QueueUrl=made.url, MessageBody="work")
        return made

    def moved(world: World, made: Queue) -> int:
        return each(world.stays(made.url), 1)

    return [
        Case(
            "sqs.send",
            "sqs.SendMessage",
            queue,
            lambda w, s: w.sqs(s).send("work"),
            effect=lambda w, s: len(w.stays(s.url)),
            copies=lambda w, s: ids(w.stays(s.url)),
        ),
        Case(
            "sqs.send, FIFO",
            "sqs.SendMessage",
            lambda w, t: queue(w, t, fifo=True),
            lambda w, s: w.sqs(s).send("work", group="g"),
            effect=lambda w, s: len(w.stays(s.url)),
        ),
        Case(
            "sqs.send_many",
            "sqs.SendMessageBatch",
            queue,
            lambda w, s: w.sqs(s).send_many(["a", "b", "c", "d"]),
            lambda value, s: len(value) == 4,
            lambda w, s: each(w.stays(s.url), 4),
            lambda w, s: sorted(set(ids(w.stays(s.url)))),
            batch=True,
        ),
        Case(
            "sqs.receive",
            "sqs.ReceiveMessage",
            waiting,
            lambda w, s: w.sqs(s).receive(10, wait=0, visibility=600),
            lambda value, s: [one.body for one in value] == ["work"],
            hidden,
        ),
        Case(
            "sqs.ack",
            "sqs.DeleteMessage",
            delivered,
            lambda w, s: w.sqs(s).ack(s.delivery),
            effect=lambda w, s: 1 - there(w, s),
        ),
        Case(
            "sqs.ack_many",
            "sqs.DeleteMessageBatch",
            lambda w, t: delivered(w, t, 4),
            lambda w, s: w.sqs(s).ack_many(s.delivery),
            effect=lambda w, s: int(there(w, s) == 0),
            batch=True,
        ),
        Case(
            "sqs.retry, sqs.extend",
            "sqs.ChangeMessageVisibility",
            delivered,
            lambda w, s: w.sqs(s).retry(s.delivery, 0.0),
            effect=lambda w, s: 1 - hidden(w, s),
        ),
        Case(
            "sqs.dead, sending",
            "sqs.SendMessage",
            delivered,
            lambda w, s: w.sqs(s).dead(s.delivery, "test"),
            lambda value, s: True,
            lambda w, s: len(w.stays(s.dead)),
            lambda w, s: ids(w.stays(s.dead)),
        ),
        Case(
            "sqs.dead, deleting",
            "sqs.DeleteMessage",
            delivered,
            lambda w, s: w.sqs(s).dead(s.delivery, "test"),
            effect=lambda w, s: 1 - there(w, s),
        ),
        Case(
            "sqs.redrive, sending",
            "sqs.SendMessage",
            with_dead_letter,
            lambda w, s: list(w.sqs(s).redrive(1)),
            effect=moved,
            copies=lambda w, s: ids(w.stays(s.url)),
        ),
        Case(
            "sqs.redrive, deleting",
            "sqs.DeleteMessage",
            with_dead_letter,
            lambda w, s: list(w.sqs(s).redrive(1)),
            effect=lambda w, s: 1 - there(w, Queue(s.dead, "")),
        ),
        Case(
            "sqs.waiting",
            "sqs.GetQueueAttributes",
            waiting,
            lambda w, s: w.sqs(s).waiting(),
            lambda value, s: value == (1, 0),
        ),
    ]


def _sns_and_cloudwatch() -> list[Case]:
    from resilient_faces.adapters.cloudwatch import CloudWatch, Metric
    from resilient_faces.adapters.sns import Sns

    def publish(world: World, subject: str) -> Any:
        return Sns(world.through["sns"], world.topic, **world.options()).publish(subject)

    def put(world: World, name: str) -> Any:
        # Two attempts, as by default, without the wait between them.
        return CloudWatch(world.through["cloudwatch"], "proof", **world.options(2)).put([Metric(name, 1.0)])

    return [
        Case(
            "sns.publish",
            "sns.Publish",
            lambda w, t: t,
            publish,
            effect=lambda w, s: len(published(w, s)),
            copies=published,
        ),
        Case(
            "cloudwatch.put",
            "cloudwatch.PutMetricData",
            lambda w, t: "".join(one for one in t if one.isalnum()),
            put,
            effect=sampled,
        ),
    ]


def _rekognition() -> list[Case]:
    a = "a"
    return [
        Case(
            "rekognition.create_collection",
            "rekognition.CreateCollection",
            lambda w, t: f"c-{uuid.uuid4().hex[:12]}",
            lambda w, s: w.rekognition.create_collection(s),
            lambda value, s: value == s,
            exists,
        ),
        Case(
            "rekognition.delete_collection",
            "rekognition.DeleteCollection",
            lambda w, t: collection(w, t)[0],
            lambda w, s: w.rekognition.delete_collection(s),
            effect=lambda w, s: 1 - exists(w, s),
        ),
        Case(
            "rekognition.describe_collection",
            "rekognition.DescribeCollection",
            lambda w, t: collection(w, t, faces=1)[0],
            lambda w, s: w.rekognition.describe_collection(s),
            lambda value, s: value.faces == 1,
        ),
        Case(
            "rekognition.list_collections",
            "rekognition.ListCollections",
            lambda w, t: collection(w, t)[0],
            lambda w, s: w.rekognition.list_collections(),
            lambda value, s: s in value,
        ),
        Case(
            "rekognition.index_faces",
            "rekognition.IndexFaces",
            lambda w, t: collection(w, t)[0],
            lambda w, s: w.rekognition.index_faces(s, w.faces[a], "picture-1"),
            lambda value, s: len(value.faces) == 1,
            stored,
        ),
        Case(
            "rekognition.list_faces",
            "rekognition.ListFaces",
            lambda w, t: collection(w, t, faces=1)[0],
            lambda w, s: w.rekognition.list_faces(s),
            lambda value, s: len(value) == 1,
        ),
        Case(
            "rekognition.delete_faces",
            "rekognition.DeleteFaces",
            lambda w, t: collection(w, t, faces=1),
            lambda w, s: w.rekognition.delete_faces(*s),
            effect=lambda w, s: 1 - stored(w, s[0]),
        ),
        Case(
            "rekognition.search_faces_by_image",
            "rekognition.SearchFacesByImage",
            lambda w, t: collection(w, t, faces=1)[0],
            lambda w, s: w.rekognition.search_faces_by_image(s, w.faces[a]),
            lambda value, s: len(value.matches) == 1,
        ),
        Case(
            "rekognition.search_faces",
            "rekognition.SearchFaces",
            lambda w, t: collection(w, t, faces=2),
            lambda w, s: w.rekognition.search_faces(s[0], s[1][0]),
            lambda value, s: len(value.matches) == 1,
        ),
        Case(
            "rekognition.compare_faces",
            "rekognition.CompareFaces",
            lambda w, t: None,
            lambda w, s: w.rekognition.compare_faces(w.faces[a], w.faces[a]),
            lambda value, s: len(value.matches) == 1,
        ),
        Case(
            "rekognition.detect_faces",
            "rekognition.DetectFaces",
            lambda w, t: None,
            lambda w, s: w.rekognition.detect_faces(w.faces[a]),
            lambda value, s: len(value) == 1,
        ),
        Case(
            "rekognition.create_liveness_session",
            "rekognition.CreateFaceLivenessSession",
            lambda w, t: len(w.sessions),
            lambda w, s: w.rekognition.create_liveness_session(),
            effect=lambda w, s: len(w.sessions) - s,
        ),
        Case(
            "rekognition.liveness_result",
            "rekognition.GetFaceLivenessSessionResults",
            lambda w, t: w.direct["rekognition"].create_face_liveness_session()["SessionId"],
            lambda w, s: w.rekognition.liveness_result(s),
            lambda value, s: value.status.value == "CREATED",
        ),
    ]


# -- one cell of the matrix ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What one operation came to under one fault."""

    case: str
    strike: str
    mode: str
    outcome: str
    requests: int
    effect: str

    @property
    def cell(self) -> tuple[str, str, str]:
        return self.outcome, str(self.requests), self.effect


def run(world: World, case: Case, strike: Strike, mode: str) -> Result:
    from resilient_faces.adapters.aws import AWS
    from resilient_faces.adapters.dynamodb import Written
    from resilient_faces.adapters.s3 import Stored
    from resilient_faces.adapters.sqs import Redriven
    from resilient_faces.faults import Executed
    from resilient_faces.testing.fault_proxy import FaultKind, FaultPlan, PlannedFault, read_ledger
    from resilient_faces.testing.runtime import fresh

    tag = f"{case.name}-{next(world.numbers)}".replace(" ", "").replace(",", "-")
    subject = case.prepare(world, tag)
    before = len(read_ledger(world.ledger))
    planned: tuple[PlannedFault, ...] = ()
    if strike.kind is not None:
        most = 1 if mode == "once" else 60
        planned = tuple(
            PlannedFault(case.wire, FaultKind(strike.kind), nth=nth, after=strike.after) for nth in range(1, most + 1)
        )
    world.proxy.replan(FaultPlan(planned))
    where = f"{case.name} x {strike.name} ({mode})"
    world.hurried[:] = [case.wire.partition(".")[2]] * (len(planned) if strike.kind == "hang" else 0)
    error: Exception | None = None
    value: Any = None
    with fresh():
        if strike.kind is None:
            world.proxy.refuse()
            world.refusing = mode == "once"
        try:
            value = case.call(world, subject)
        except Exception as raised:
            error = raised
        finally:
            world.refusing = False
            world.proxy.accept()
            world.proxy.replan(FaultPlan())
    requests = len(read_ledger(world.ledger)) - before
    count = None if case.effect is None else case.effect(world, subject)

    sure = False  # that nothing happened
    failed = error is not None
    if error is not None:
        fault = AWS(error)
        outcome = f"{fault.kind.value}: {fault.code}"
        sure = fault.executed is Executed.no
    elif isinstance(value, (Written, Stored)) and value.repeated:
        outcome = "value: its own earlier write"
    elif value is False and case.name.startswith("cloudwatch"):
        outcome, failed = "dropped", True
    elif value is False or value == ():
        outcome = "value: it is gone already"
    elif isinstance(value, list) and value and isinstance(value[0], Redriven) and value[0].error_code:
        outcome, failed = f"not moved: {value[0].error_code}", True
    else:
        outcome = "value"
    if error is None and not failed:
        proof.check(case.right(value, subject), f"{where}: the value is wrong")
        proof.check(count not in (0, PART), f"{where}: the caller got a value, and not all of it happened")
    proof.check(not (sure and count), f"{where}: said to be not carried out, and it was")
    if count is not None and count > 1:
        allowed = case.name.partition(",")[0] in MAY_HAPPEN_TWICE and "FIFO" not in case.name
        proof.check(allowed, f"{where}: happened {count} times")
        copies = case.copies(world, subject) if case.copies else []
        kinds = 4 if case.name == "sqs.send_many" else 1
        proof.check(len(set(copies)) == kinds, f"{where}: the copies do not carry one id")
    return Result(case.name, strike.name, mode, outcome, requests, _effect(count, failed, sure))


def _effect(count: int | None, failed: bool, sure: bool) -> str:
    if count is None:
        return "-"
    if count == 0:
        return "none"
    if count == PART:
        return "a part, once"
    if count == 1:
        return "once, reported unknown" if failed else "once"
    return ("twice" if count == 2 else f"{count} times") + ", one id"


# -- the table ----------------------------------------------------------------------------------------------------


def table(results: Iterable[Result]) -> str:
    """Markdown, an operation after the other; faults that come to the same share a row."""
    by_case: dict[str, dict[str, dict[str, Result]]] = {}
    for one in results:
        by_case.setdefault(one.case, {}).setdefault(one.strike, {})[one.mode] = one
    lines: list[str] = []
    service = ""
    for case, strikes in by_case.items():
        if case.partition(".")[0] != service:
            service = case.partition(".")[0]
            lines += [
                "",
                f"### {service}",
                "",
                "| operation | fault | struck once | requests | effect | struck always | requests | effect |",
                "|---|---|---|---|---|---|---|---|",
            ]
        rows: dict[tuple[str, ...], list[str]] = {}
        for strike, modes in strikes.items():
            rows.setdefault((*modes["once"].cell, *modes["always"].cell), []).append(strike)
        for number, (cells, names) in enumerate(rows.items()):
            shown = f"`{case}`" if number == 0 else ""
            lines.append(f"| {shown} | {'; '.join(names)} | {' | '.join(cells)} |")
    return "\n".join(lines).strip() + "\n"


def compare(page: str, results: list[Result], small: bool) -> list[str]:
    """What the page says otherwise. In a small run only the rows that were run are compared."""
    begin, end = page.find(BEGIN), page.find(END)
    if begin < 0 or end < 0:
        return ["the page has no place for the table"]
    found = page[begin + len(BEGIN) : end].strip() + "\n"
    said: dict[tuple[str, str], str] = {}
    name = ""
    for line in found.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 8 and cells[0] != "operation":
            name = cells[0].strip("`") or name
            for strike in cells[1].split("; "):
                said[name, strike] = " | ".join(cells[2:])
    pairs: dict[tuple[str, str], list[str]] = {}
    for one in results:
        pairs.setdefault((one.case, one.strike), []).extend(one.cell)
    wrong = [
        f"{case} x {strike}: the page says {said.get((case, strike))!r}, found {' | '.join(cells)!r}"
        for (case, strike), cells in pairs.items()
        if said.get((case, strike)) != " | ".join(cells)
    ]
    if not small and not wrong and found != table(results):
        wrong.append("the page has rows that are not run, or another order: run with --write")
    return wrong


SMALL: Final[Mapping[str, tuple[str, ...]]] = {
    "dynamodb.get": ("garbage 200", "truncated"),
    "dynamodb.put, condition": ("applied, answer lost", "throttle"),
    "dynamodb.update, ADD": ("applied, answer lost", "hang"),
    f"dynamodb.write_in_parts, {MANY} writes": ("applied, answer lost",),
    "dynamodb.write_many": ("half done",),
    "s3.get": ("truncated", "garbage 200", "503"),
    "s3.put_if, absent": ("applied, answer lost", "reset"),
    "s3.copy": ("truncated", "500"),
    "sqs.send": ("applied, answer lost", "refused"),
    "sqs.send_many": ("half done", "applied, answer lost"),
    "sqs.receive": ("garbage 200", "applied, answer lost"),
    "sqs.dead, sending": ("applied, answer lost",),
    "sns.publish": ("throttle", "applied, answer lost"),
    "cloudwatch.put": ("throttle", "applied, answer lost", "hang"),
    "rekognition.index_faces": ("applied, answer lost", "garbage 200", "refused"),
    "rekognition.create_liveness_session": ("applied, answer lost",),
}


# -- the servers --------------------------------------------------------------------------------------------------


class ByShade:
    """An engine that sees a face in every picture and tells it by its shade: what is found is not the subject here."""

    name = "by-shade"
    space = "shades"
    names_people = False

    def detect(self, picture: Any) -> Any:
        from resilient_faces.adapters.recogniser import Face

        return (Face((picture.width // 4, picture.height // 4, picture.width * 3 // 4, picture.height * 3 // 4), 0.9),)

    def embed(self, picture: Any, faces: Any) -> Any:
        import numpy as np

        angle = float(picture.pixels.mean()) / 255 * np.pi / 2
        return np.array([(np.cos(angle), np.sin(angle))] * len(faces), np.float32)

    def similarity(self, cosine: float) -> float:
        return 100.0 * max(0.0, cosine)


def picture(shade: int) -> bytes:
    import PIL.Image

    sink = io.BytesIO()
    PIL.Image.new("L", (200, 200), shade).save(sink, "JPEG")
    return sink.getvalue()


@contextmanager
def worlds() -> Iterator[World]:
    from resilient_faces.adapters.aws import LocalEndpoint, connect
    from resilient_faces.adapters.local_rekognition import MODEL_VERSION, Quotas, RekognitionServer, RekognitionService
    from resilient_faces.adapters.local_rekognition.storage import Storage
    from resilient_faces.testing.emulator import Emulator
    from resilient_faces.testing.fault_proxy import FaultPlan, FaultProxy

    sessions: set[str] = set()

    class Counting(Storage):
        """Notes which liveness sessions there are."""

        def add_session(self, session: Any, token: str | None, **options: Any) -> Any:
            made = super().add_session(session, token, **options)
            sessions.add(made.id)
            return made

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = stack.enter_context(Emulator(folder / "emulator"))
        service = RekognitionService(
            ByShade(),
            storage=Counting(None, space=ByShade.space, version=MODEL_VERSION),
            quotas=Quotas(REGION, everywhere=float("inf")),
        )
        endpoint = RekognitionServer(service)
        endpoint.start()
        stack.callback(endpoint.stop)
        ledger = folder / "requests.jsonl"
        routes = {"rekognition": endpoint.url, "*": emulator.url}
        proxy = stack.enter_context(FaultProxy(FaultPlan(), routes, ledger=ledger))

        def clients(url: str, rekognition: str, read_timeout: float) -> dict[str, Any]:
            made = {}
            for name in ("dynamodb", "s3", "sqs", "sns", "cloudwatch", "rekognition"):
                at = LocalEndpoint(rekognition if name == "rekognition" else url)
                made[name] = connect(name, region=REGION, endpoint=at, connect_timeout=1.0, read_timeout=read_timeout)
                stack.callback(made[name].close)
            return made

        direct = clients(emulator.url, endpoint.url, 10.0)
        through = clients(proxy.url, proxy.url, PATIENCE)
        hurried: list[str] = []

        def hurry(params: dict[str, Any], model: Any, **_: object) -> None:
            if model.name in hurried:
                hurried.remove(model.name)
                params["context"]["read_timeout"] = READ_TIMEOUT

        for client in through.values():
            client.meta.events.register_last("before-call", hurry)
        for name in ("items", "few"):
            direct["dynamodb"].create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        direct["s3"].create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
        topic = direct["sns"].create_topic(Name="topic")["TopicArn"]
        inbox = direct["sqs"].create_queue(QueueName="subscribed")["QueueUrl"]
        arn = direct["sqs"].get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        direct["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        yield World(
            proxy=proxy,
            ledger=ledger,
            direct=direct,
            through=through,
            hurried=hurried,
            sessions=sessions,
            faces={"a": picture(60), "b": picture(200)},
            topic=topic,
            subscribed=inbox,
        )


def main() -> int:
    options = proof.parse()
    if options.only and (options.write or options.check):
        proof.parser.error("--only is for looking: it neither writes nor compares the page.")
    proof.need("boto3", "PIL", "numpy")
    from resilient_faces._core.runtime import RUNTIME
    from resilient_faces.testing.children import ChildError
    from resilient_faces.testing.emulator import EmulatorUnavailable

    RUNTIME.sleep = lambda seconds, function=None: None  # how long they wait is no subject here
    results: list[Result] = []
    try:
        with worlds() as world:
            for case in cases():
                if options.only and options.only not in case.name:
                    continue
                strikes = case.strikes
                if options.small:
                    strikes = tuple(one for one in strikes if one.name in SMALL.get(case.name, ()))
                for strike in strikes:
                    for mode in MODES:
                        one = run(world, case, strike, mode)
                        results.append(one)
                        if options.only:
                            proof.say(f"{one.case:40} {one.strike:22} {one.mode:7} {' | '.join(one.cell)}")
                proof.say(f"{case.name}: {len(strikes)} faults")
    except (EmulatorUnavailable, ChildError) as error:
        proof.lacks(str(error))
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{table(results)}\n{END}{after}", encoding="utf-8")
    if options.check:
        for wrong in compare(PAGE.read_text(encoding="utf-8"), results, options.small):
            proof.check(False, wrong)
    reached = {one.strike for one in results}
    proof.check(bool(options.only) or reached == {one.name for one in (*STRIKES, PARTIAL)}, "a fault was not reached")
    return proof.finish(
        parameters={"attempts": ATTEMPTS, "read_timeout": READ_TIMEOUT, "faults": sorted(reached)},
        figures={
            "operations": len({one.case for one in results}),
            "cells": len(results),
            "twice": sorted({one.case for one in results if "one id" in one.effect}),
            "reported_unknown": sum(one.effect == "once, reported unknown" for one in results),
            "most_requests": max((one.requests for one in results), default=0),
            "rows": [one.__dict__ for one in results],
        },
        packages=("resilient-faces", "boto3", "botocore"),
    )


if __name__ == "__main__":
    sys.exit(main())
