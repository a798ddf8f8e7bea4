"""The pages of AWS clients and of Rekognition; the tests run this file, and no packet leaves it."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore.awsrequest import AWSResponse

from resilient_faces.adapters import aws
from resilient_faces.testing import ManualRuntime

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())
nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
rest.enter_context(mock.patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", **nowhere}))
sent: list[str] = []


def answering(client: Any, *answers: tuple[int, dict[str, Any]]) -> None:
    """Give a client these answers, the last one for ever."""
    left = list(answers)

    def answer(request: Any, **_: object) -> AWSResponse:
        status, body = left.pop(0) if len(left) > 1 else left[0]
        sent.append(str(request.headers.get("X-Amz-Target")))
        data = json.dumps(body).encode()
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda: iter([data])))

    client.meta.events.register_first("before-send", answer)


coming: list[tuple[int, dict[str, Any]]] = []  # answers for the clients of the next calls of `connect`
really_connect = aws.connect


def connected(service: str, **options: Any) -> Any:
    """What `connect` gives on the pages."""
    client = really_connect(service, **options)
    if coming:
        answering(client, *coming)
    return client


rest.enter_context(mock.patch.object(aws, "connect", connected))

FACE_ID = "11111111-2222-3333-4444-555555555555"
box = {"Left": 0.1, "Top": 0.1, "Width": 0.2, "Height": 0.2}
stored = {"FaceId": FACE_ID, "ImageId": "i", "BoundingBox": box, "Confidence": 99.0, "ExternalImageId": "photo-17"}
lost = (500, {"__type": "InternalServerError"})
photo = b"\xff\xd8\xff\xc0\x00\x11\x08\x01\xe0\x02\x80" + bytes(64)

# --8<-- [start:connect]
from resilient_faces.adapters.aws import Requests, connect

client = connect("dynamodb", region="eu-central-1")
requests = Requests(client)  # retry, circuit and limiter of (region, operation)
# --8<-- [end:connect]
answering(client, lost, (200, {"Item": {"id": {"S": "42"}}, "Table": {"TableName": "orders"}}))

# --8<-- [start:requests]
row = requests("GetItem", TableName="orders", Key={"id": {"S": "42"}})["Item"]
# --8<-- [end:requests]
assert row == {"id": {"S": "42"}}
assert len(sent) == 2

# --8<-- [start:options]
from functools import partial

from resilient_faces.breaker import Breaker, failure_rate
from resilient_faces.retry import Retry

careful = Requests(
    client,
    retry=Retry(attempts=5),
    breaker=partial(Breaker, trips=failure_rate(0.5, calls=50), recovery_timeout=10.0),
    rates={"DescribeTable": 10.0},  # calls a second: your own quota
)
# --8<-- [end:options]
careful("DescribeTable", TableName="orders")
assert careful.name_of("GetItem") == "dynamodb/eu-central-1/GetItem"

# --8<-- [start:protect]
import boto3
from botocore.config import Config

from resilient_faces import circuit_breaker, guard, retry
from resilient_faces.adapters.aws import protect

faces = boto3.client(
    "rekognition",
    region_name="us-west-2",
    config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),  # only one layer may retry
)
protect(faces, guard(retry(attempts=4), circuit_breaker("rekognition")))
# --8<-- [end:protect]
answering(faces, lost, (200, {"Faces": [stored], "NextToken": "2"}), lost, (200, {"Faces": [stored]}))

# --8<-- [start:paginator]
pages = faces.get_paginator("list_faces").paginate(CollectionId="guests")  # each page under the guard
ids = [face["FaceId"] for page in pages for face in page["Faces"]]
# --8<-- [end:paginator]
assert ids == [FACE_ID, FACE_ID]

# --8<-- [start:protect_each]
from resilient_faces.adapters.aws import unprotect

unprotect(faces)
protect(faces, lambda operation: guard(retry(), circuit_breaker(f"rekognition/{operation}")))
# --8<-- [end:protect_each]
faces.list_faces(CollectionId="guests")

# --8<-- [start:classify]
from resilient_faces import fallback
from resilient_faces.adapters.aws import AWS


@guard(fallback(value=[]), retry(), classify=AWS)  # these policies know what an error of AWS means
def guests() -> list[str]:
    return [face["FaceId"] for face in faces.list_faces(CollectionId="guests")["Faces"]]


# --8<-- [end:classify]
unprotect(faces)
assert guests() == [FACE_ID]

context = SimpleNamespace(get_remaining_time_in_millis=lambda: 3000)

# --8<-- [start:lambda_deadline]
from typing import Any

from resilient_faces.adapters.aws import lambda_deadline


def handler(event: dict[str, str], context: Any) -> dict[str, Any]:
    with lambda_deadline(context, margin=0.5):  # half a second is kept for the answer
        return requests("GetItem", TableName="orders", Key={"id": {"S": event["id"]}})["Item"]


# --8<-- [end:lambda_deadline]
assert handler({"id": "42"}, context) == row

coming[:] = [lost, (200, {"CollectionArn": "a", "FaceRecords": [{"Face": stored}], "FaceModelVersion": "7.0"})]
# --8<-- [start:rekognition]
from resilient_faces.adapters.aws import connect
from resilient_faces.adapters.rekognition import Rekognition

client = connect("rekognition", region="us-west-2")
rekognition = Rekognition(client)
rekognition.create_collection("guests")  # one that exists is a success
indexed = rekognition.index_faces("guests", photo, external_image_id="photo-17")
for face in indexed.faces:
    print(face.face_id, face.box, face.confidence)
print(indexed.unindexed)  # why other faces of the picture were not stored
# --8<-- [end:rekognition]
assert indexed.faces[0].face_id == FACE_ID

no_faces = (400, {"__type": "InvalidParameterException", "Message": "There are no faces in the image."})
match = {"Similarity": 98.5, "Face": stored}
coming[:] = [(200, {"FaceMatches": [match], "FaceModelVersion": "7.0", "SearchedFaceBoundingBox": box}), no_faces]
client = connect("rekognition", region="us-west-2")
rekognition = Rekognition(client)
said: list[str] = []


def welcome(who: str | None) -> None:
    said.append(str(who))


# --8<-- [start:search]
found = rekognition.search_faces_by_image("guests", photo, threshold=90)
if found.searched is None:
    print("no face in the picture")
elif found.best is None:
    print("a face that nobody knows")
else:
    welcome(found.best.face.external_image_id)
# --8<-- [end:search]
assert said == ["photo-17"]
assert rekognition.search_faces_by_image("guests", photo).searched is None

coming[:] = [(200, {"CollectionArn": "a", "FaceRecords": [], "FaceModelVersion": "7.0"})]
waited = len(clock.slept)
photos = [photo + bytes([number]) for number in range(100)]

# --8<-- [start:beyond]
from zlib import crc32

regions = ("us-west-2", "eu-west-1")  # 50 calls a second each, and a collection each
places = [Rekognition(connect("rekognition", region=region)) for region in regions]
for place in places:
    place.create_collection("guests")
for picture in photos:
    places[crc32(picture) % len(places)].index_faces("guests", picture)  # the same photo, the same place
found_in = [place.search_faces_by_image for place in places]  # a search has to ask both
# --8<-- [end:beyond]
assert sum(clock.slept[waited:]) < 1.9, "one place would take 2 s"

# --8<-- [start:cost]
from resilient_faces import CircuitOpenError, fallback, guard
from resilient_faces.adapters.aws import CostMeter

meter = CostMeter(cap=50.0)  # dollars a day (UTC), in this process
metered = Rekognition(client, meter=meter)


@guard(fallback(value=None, on=CircuitOpenError))  # the cap is reached, or the service is down
def who(picture: bytes) -> str | None:
    best = metered.search_faces_by_image("guests", picture).best
    return None if best is None else best.face.external_image_id


who(photo)
print(meter.snapshot().dollars, meter.snapshot().left)
# --8<-- [end:cost]
assert meter.snapshot().calls == {"rekognition.SearchFacesByImage": 1}

coming[:] = [no_faces]
# --8<-- [start:asynchronous]
from resilient_faces import deadline
from resilient_faces.adapters.rekognition import AsyncRekognition, Rekognition

service = AsyncRekognition(Rekognition(connect("rekognition", region="us-west-2")))


async def nobody_on(photo: bytes) -> bool:
    async with deadline(5.0):  # also the read timeout of the request in its thread
        return (await service.search_faces_by_image("guests", photo)).searched is None


# --8<-- [end:asynchronous]
assert asyncio.run(nobody_on(photo))

coming[:] = [
    (200, {"SessionId": FACE_ID}),
    (200, {"SessionId": FACE_ID, "Status": "SUCCEEDED", "Confidence": 97}),
]
rekognition = Rekognition(connect("rekognition", region="us-west-2"))

# --8<-- [start:liveness]
from resilient_faces.adapters.rekognition import LivenessStatus

session = rekognition.create_liveness_session()  # give its id to the browser
result = rekognition.liveness_result(session)
if result.finished:
    alive = result.status is LivenessStatus.succeeded and (result.confidence or 0.0) >= 90.0
# --8<-- [end:liveness]
assert alive

rest.close()
