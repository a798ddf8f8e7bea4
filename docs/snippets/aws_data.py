"""The pages of tables, objects, queues and metrics; the tests run this file against clients that answer from memory."""

# ruff: noqa: N803  # parameters have boto3's names

from __future__ import annotations

import hashlib
import io
import os
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

from resilient_faces.adapters import aws
from resilient_faces.testing import ManualRuntime

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())
rest.enter_context(mock.patch.object(sys, "stdout", io.StringIO()))


class Tables:
    """As much of DynamoDB as the page needs: conditions are those of the page, and answers can be lost."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.tokens: set[str] = set()
        self.lost = 0

    def _answer(self, **members: Any) -> dict[str, Any]:
        if self.lost:
            self.lost -= 1
            raise aws.DamagedAnswerError("dynamodb", "lost")
        return members

    def put_item(self, TableName: str, Item: dict[str, Any], **options: Any) -> dict[str, Any]:
        there = self.items.get(Item["id"]["S"])
        if there is not None and "ConditionExpression" in options:
            import botocore.exceptions

            details = {"Code": "ConditionalCheckFailedException"}
            raise botocore.exceptions.ClientError({"Error": details, "Item": there}, "PutItem")
        self.items[Item["id"]["S"]] = Item
        return self._answer()

    def transact_write_items(self, TransactItems: list[Any], ClientRequestToken: str) -> dict[str, Any]:
        if ClientRequestToken not in self.tokens:
            self.tokens.add(ClientRequestToken)
            for write in TransactItems:
                change = write.get("Update") or write["Put"]
                key = (change.get("Key") or change["Item"])["id"]["S"]
                item = self.items.setdefault(key, {"id": {"S": key}})
                if "Item" in change:
                    self.items[key] = change["Item"]
                elif change["UpdateExpression"].startswith("ADD"):
                    item["n"] = {"N": str(int(item.get("n", {"N": "0"})["N"]) + 1)}
                else:
                    item["done"] = change["ExpressionAttributeValues"][":next"]
        return self._answer()

    def get_item(self, TableName: str, Key: dict[str, Any], ConsistentRead: bool) -> dict[str, Any]:
        item = self.items.get(Key["id"]["S"])
        return {} if item is None else {"Item": item}


class Objects:
    """As much of S3 as the page needs."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, Key: str, Body: bytes, **_: Any) -> dict[str, Any]:
        self.objects[Key] = Body
        return {"ETag": f'"{hashlib.md5(Body).hexdigest()}"'}

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        body = self.objects[Key]
        return {"Body": io.BytesIO(body), "ContentLength": len(body), "ETag": self.put_object(Key, body)["ETag"]}


class Queues:
    """As much of SQS as the page needs."""

    def __init__(self) -> None:
        self.messages: dict[str, list[dict[str, Any]]] = {"photos": [], "photos-dead": []}

    def send_message(self, QueueUrl: str, MessageBody: str, MessageAttributes: Any, **_: Any) -> dict[str, Any]:
        name = str(uuid.uuid4())
        message = {
            "MessageId": name,
            "ReceiptHandle": name,
            "Body": MessageBody,
            "MessageAttributes": MessageAttributes,
        }
        self.messages[QueueUrl.rpartition("/")[2]].append(message)
        return {"MessageId": name}

    def receive_message(self, QueueUrl: str, **_: Any) -> dict[str, Any]:
        return {"Messages": list(self.messages[QueueUrl.rpartition("/")[2]])}

    def delete_message(self, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:
        queue = self.messages[QueueUrl.rpartition("/")[2]]
        queue[:] = [one for one in queue if one["ReceiptHandle"] != ReceiptHandle]
        return {}

    def change_message_visibility(self, **_: Any) -> dict[str, Any]:
        return {}


class Metrics:
    """As much of CloudWatch as the page needs."""

    def put_metric_data(self, **_: Any) -> dict[str, Any]:
        return {}


def connected(service: str, **_: Any) -> Any:
    """What `connect` gives on the pages."""
    client = made[service]
    model = SimpleNamespace(service_name=service)
    client.meta = SimpleNamespace(  # type: ignore[attr-defined]
        service_model=model, region_name="us-west-2", endpoint_url="", method_to_api_mapping={}
    )
    return client


made = {"dynamodb": Tables(), "s3": Objects(), "sqs": Queues(), "cloudwatch": Metrics()}
rest.enter_context(mock.patch.object(aws, "connect", connected))
tables, queues = made["dynamodb"], made["sqs"]
assert isinstance(tables, Tables)
assert isinstance(queues, Queues)
tables.lost = 1

# --8<-- [start:condition]
from resilient_faces.adapters.aws import connect
from resilient_faces.adapters.dynamodb import DynamoDb

db = DynamoDb(connect("dynamodb", region="us-west-2"))
first = db.put("photos", {"id": {"S": "p1"}}, condition="attribute_not_exists(id)")
again = db.put("photos", {"id": {"S": "p1"}}, condition="attribute_not_exists(id)")
# --8<-- [end:condition]
assert (first.applied, first.repeated, again.applied) == (True, True, False)

tables.lost = 1
# --8<-- [start:count]
db.update("events", {"id": {"S": "e1"}}, "ADD n :one", values={":one": {"N": "1"}})
# --8<-- [end:count]
assert tables.items["e1"]["n"] == {"N": "1"}

# --8<-- [start:parts]
writes = [{"Put": {"TableName": "faces", "Item": {"id": {"S": f"face-{number}"}}}} for number in range(150)]
done = db.write_in_parts(writes, operation_id="photo-1/faces", progress="operations")
if not done.complete:
    print(f"{done.done} of {done.of} parts; a condition failed: {done.reasons}")
# --8<-- [end:parts]
assert (done.done, done.of) == (2, 2)
assert "face-149" in tables.items

photo = b"\xff\xd8\xff"
# --8<-- [start:objects]
from resilient_faces.adapters.s3 import S3

photos = S3(connect("s3", region="us-west-2"), "photos")
photos.put("2026/p1.jpg", photo)
whole = photos.get("2026/p1.jpg")
# --8<-- [end:objects]
assert whole == photo

# --8<-- [start:send]
from resilient_faces import Deadline, request
from resilient_faces.adapters.aws import connect
from resilient_faces.adapters.sqs import Sqs

QUEUE = "https://sqs.us-west-2.amazonaws.com/123456789012/photos"  # yours
DEAD_LETTERS = QUEUE + "-dead"

queue = Sqs(connect("sqs", region="us-west-2"), QUEUE, DEAD_LETTERS)
with request("r-42", "upload"), Deadline(30.0):
    queue.send('{"photo": "p1"}')
# --8<-- [end:send]
clock.advance(10.0)


def index(body: str) -> None:
    if "p2" in body:
        raise ValueError("planted")


queue.send('{"photo": "p2"}')
# --8<-- [start:work]
from resilient_faces.adapters.aws import AWS
from resilient_faces.faults import rule

handled: set[str] = set()

for message in queue.receive(10, wait=20, visibility=60):
    if message.id in handled:  # a copy of a message that was handled already
        queue.ack(message)
        continue
    try:
        with message.work(), queue.keep(message, visibility=60):
            index(message.body)
    except Exception as error:
        fault = AWS(error)
        if rule(fault.kind).retried and message.count < 4:
            queue.retry(message, delay=2.0**message.count)
        else:
            queue.dead(message, fault)  # kind and code; what the error says stays here
    else:
        handled.add(message.id)
        queue.ack(message)
# --8<-- [end:work]
assert len(handled) == 1
assert queues.messages["photos"] == []
assert queues.messages["photos-dead"][0]["MessageAttributes"]["reason"]["StringValue"] == "unknown: ValueError"

# --8<-- [start:metrics]
import sys

from resilient_faces.adapters.cloudwatch import CloudWatch, EmfWriter, Metric

lines = EmfWriter(sys.stdout, "FaceService", {"stage": "prod"})
lines.write(Metric("Indexed", 1, "Count"), Metric("Took", 0.21, "Seconds"), requestId="r-42")

metrics = CloudWatch(connect("cloudwatch", region="us-west-2"), "FaceService")
metrics.put([Metric("Backlog", 12, "Count")])
# --8<-- [end:metrics]
assert '"Indexed":1' in sys.stdout.getvalue()  # type: ignore[attr-defined]

folder = rest.enter_context(TemporaryDirectory())
rest.callback(os.chdir, Path.cwd())
os.chdir(folder)
# --8<-- [start:proxy]
from pathlib import Path

from resilient_faces.testing.fault_proxy import FaultKind, FaultPlan, FaultProxy, PlannedFault, read_ledger

plan = FaultPlan(
    (
        PlannedFault("dynamodb.PutItem", FaultKind.reset, nth=1, after=True),  # carried out, and the answer is lost
        PlannedFault("s3.GetObject", FaultKind.truncated, nth=2),
        PlannedFault("sqs.SendMessageBatch", FaultKind.partial, nth=1),
    )
)
ledger = Path("requests.jsonl")
with FaultProxy(plan, {"*": "http://127.0.0.1:4566"}, ledger=ledger) as proxy:  # in front of a server of yours
    print(proxy.url)  # point your client here
    with proxy.refusing():
        pass  # nobody listens
seen = read_ledger(ledger)
# --8<-- [end:proxy]
assert seen == []
rest.close()
