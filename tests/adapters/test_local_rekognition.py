"""The Rekognition-compatible endpoint, spoken to with boto3 over HTTP on loopback."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")
pytest.importorskip("boto3", reason="the extra `aws` is not installed")

import PIL.Image
from botocore.exceptions import ClientError

from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.adapters.local_rekognition import (
    MAX_IMAGE_BYTES,
    Ledger,
    Quota,
    RekognitionServer,
    RekognitionService,
)
from resilient_faces.adapters.recogniser import Face, Picture


class OneFace:
    """An engine that sees one face in the middle of every picture, and counts its searches."""

    name = "one-face"
    names_people = False

    def __init__(self) -> None:
        self.searches = 0
        self.faces = 1
        self.gate = threading.Event()
        self.gate.set()

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        self.searches += 1
        self.gate.wait(5)
        box = (picture.width // 4, picture.height // 4, picture.width // 2, picture.height // 2)
        return (Face(box, 0.9),) * self.faces


def jpeg(width: int = 100, height: int = 100, shade: int = 100) -> bytes:
    sink = io.BytesIO()
    PIL.Image.new("L", (width, height), shade).save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture
def engine() -> OneFace:
    return OneFace()


@pytest.fixture
def server(engine: OneFace, tmp_path: Path) -> Iterator[RekognitionServer]:
    ledger = Ledger(tmp_path / "calls.jsonl")
    service = RekognitionService(engine, index_tps=1000, ledger=ledger)
    server = RekognitionServer(service, engine_name=engine.name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    ledger.close()


@pytest.fixture
def client(server: RekognitionServer) -> Iterator[Any]:
    client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(server.url))
    yield client
    client.close()


def calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def code_of(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(caught.value.response["Error"]["Code"])


def test_collections_come_and_go(client: Any) -> None:
    """Created once, described, deleted once; each wrong step has the service's own error."""
    made = client.create_collection(CollectionId="event-1")
    assert made["CollectionArn"] == "aws:rekognition:us-west-2:000000000000:collection/event-1"
    assert made["ResponseMetadata"]["RequestId"]
    assert code_of(client.create_collection, CollectionId="event-1") == "ResourceAlreadyExistsException"
    assert client.describe_collection(CollectionId="event-1")["FaceCount"] == 0
    assert client.delete_collection(CollectionId="event-1")["StatusCode"] == 200
    assert code_of(client.delete_collection, CollectionId="event-1") == "ResourceNotFoundException"


def test_the_same_image_and_id_store_no_second_face(client: Any, engine: OneFace, tmp_path: Path) -> None:
    """A repetition gives the same answer, searches nothing and stores nothing; the ledger says so."""
    client.create_collection(CollectionId="c")
    first, again = (
        client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="a")["FaceRecords"]
        for _ in range(2)
    )
    assert first == again
    assert first[0]["Face"]["BoundingBox"] == {"Left": 0.25, "Top": 0.25, "Width": 0.25, "Height": 0.25}
    assert engine.searches == 1
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 1
    assert [(call["done"], call["stored"]) for call in calls(tmp_path) if call["op"] == "IndexFaces"] == [
        ("indexed", 1),
        ("repeated", 0),
    ]


def test_other_id_or_other_image_is_another_face(client: Any) -> None:
    """Each of the three, image, collection and external id, makes a face of its own."""
    for collection in ("c", "d"):
        client.create_collection(CollectionId=collection)
    for collection, shade, name in (("c", 1, "a"), ("c", 1, "b"), ("c", 200, "a"), ("d", 1, "a")):
        client.index_faces(CollectionId=collection, Image={"Bytes": jpeg(shade=shade)}, ExternalImageId=name)
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 3
    assert client.describe_collection(CollectionId="d")["FaceCount"] == 1


def test_the_same_image_at_the_same_time_is_searched_once(client: Any, engine: OneFace) -> None:
    """A retry that overtakes its first attempt waits for it and gets its answer."""
    client.create_collection(CollectionId="c")
    engine.gate.clear()

    def index(_: int) -> str:
        answer = client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="a")
        return str(answer["FaceRecords"][0]["Face"]["FaceId"])

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(index, number) for number in range(4)]
        engine.gate.set()
        assert len({answer.result() for answer in answers}) == 1
    assert engine.searches == 1


def test_more_faces_than_wanted_come_back_unindexed(client: Any, engine: OneFace) -> None:
    """MaxFaces bounds what is stored; the others are named with their reason."""
    engine.faces = 3
    client.create_collection(CollectionId="c")
    answer = client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="a", MaxFaces=2)
    assert len(answer["FaceRecords"]) == 2
    assert [face["Reasons"] for face in answer["UnindexedFaces"]] == [["EXCEEDS_MAX_FACES"]]


def test_limits_are_the_services_own(client: Any) -> None:
    """Too large, no picture, too small, no collection, an id with a space: each has its code."""
    client.create_collection(CollectionId="c")

    def code(image: bytes, **more: Any) -> str:
        return code_of(client.index_faces, **{"CollectionId": "c", "Image": {"Bytes": image}, **more})

    assert code(b"x" * (MAX_IMAGE_BYTES + 1)) == "ImageTooLargeException"
    assert code(b"GIF89a") == "InvalidImageFormatException"
    assert code(jpeg(79, 200)) == "InvalidParameterException"
    assert code(jpeg(), CollectionId="none") == "ResourceNotFoundException"
    assert code(jpeg(), ExternalImageId="a b") == "InvalidParameterException"
    assert code_of(client.list_users, CollectionId="c") == "UnknownOperationException"


def test_a_failed_image_can_be_sent_again(client: Any, engine: OneFace) -> None:
    """A search that failed leaves nothing behind that a repetition would be answered with."""
    client.create_collection(CollectionId="c")
    for _ in range(2):
        with pytest.raises(ClientError, match="InvalidImageFormat"):
            client.index_faces(CollectionId="c", Image={"Bytes": b"\xff\xd8\xff"}, ExternalImageId="a")
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 0


def test_faces_are_listed_in_pages(client: Any) -> None:
    """ListFaces gives all faces, in pages of the wanted size."""
    client.create_collection(CollectionId="c")
    for number in range(5):
        client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId=f"p{number}")
    pages = client.get_paginator("list_faces").paginate(CollectionId="c", PaginationConfig={"PageSize": 2})
    sizes = [[face["ExternalImageId"] for face in page["Faces"]] for page in pages]
    assert [len(size) for size in sizes] == [2, 2, 1]
    assert sorted(name for size in sizes for name in size) == [f"p{number}" for number in range(5)]


def test_the_quota_is_a_bucket_of_one_second() -> None:
    """At most one second's worth at once, refilled evenly."""
    now = 0.0
    quota = Quota(10, clock=lambda: now)
    assert [quota.take() for _ in range(11)] == [True] * 10 + [False]
    now = 0.15
    assert [quota.take(), quota.take()] == [True, False]
    now = 60.0
    assert sum(quota.take() for _ in range(20)) == 10


def test_above_the_quota_the_service_throttles(engine: OneFace) -> None:
    """The answer is the service's own throttling error, before any work."""
    from resilient_faces.adapters.local_rekognition import ServiceError

    service = RekognitionService(engine, index_tps=1)
    service.call("CreateCollection", {"CollectionId": "c"}, "r")
    _index(service)
    with pytest.raises(ServiceError) as caught:
        _index(service)
    assert engine.searches == 1
    assert (caught.value.code, caught.value.status) == ("ProvisionedThroughputExceededException", 400)


def _index(service: RekognitionService) -> None:
    import base64

    image = {"Bytes": base64.b64encode(jpeg()).decode()}
    service.call("IndexFaces", {"CollectionId": "c", "Image": image, "ExternalImageId": "a"}, "r")


def test_the_ledger_holds_no_image(client: Any, tmp_path: Path) -> None:
    """An image is named by a hash; neither its bytes nor credentials are written."""
    client.create_collection(CollectionId="c")
    client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="a")
    line = calls(tmp_path)[-1]
    assert set(line) == {
        "t", "took", "op", "request_id", "outcome", "collection", "external_id", "done", "faces", "stored", "image",
    }  # fmt: skip
    assert len(line["image"]) == 16
    assert "Credential" not in (tmp_path / "calls.jsonl").read_text()


def test_chunked_bodies_and_keep_alive(server: RekognitionServer) -> None:
    """A client may send its body in chunks, and use the connection again."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    headers = {"X-Amz-Target": "RekognitionService.CreateCollection", "Content-Type": "application/x-amz-json-1.1"}
    for name in (b"c1", b"c2"):
        body = iter([b'{"CollectionId": "', name, b'"}'])
        connection.request("POST", "/", body=body, headers=headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
    connection.close()


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"'])
def test_a_body_that_is_no_object_is_refused(server: RekognitionServer, body: bytes) -> None:
    """Broken JSON is the client's fault, not a 500."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("POST", "/", body=body, headers={"X-Amz-Target": "RekognitionService.CreateCollection"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["__type"]) == (400, "SerializationException")
    connection.close()
