"""The Rekognition-compatible endpoint, spoken to with boto3 over HTTP on loopback."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")
pytest.importorskip("boto3", reason="the extra `aws` is not installed")

import numpy as np
import PIL.Image
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st

from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.adapters.local_rekognition import (
    MAX_IMAGE_BYTES,
    Ledger,
    Quota,
    Quotas,
    RekognitionServer,
    RekognitionService,
    ServiceError,
    subject_of,
)
from resilient_faces.adapters.local_rekognition.__main__ import main as run_child
from resilient_faces.adapters.recogniser import Face, Picture

STRANGER = "3f6f0e2c-0000-4000-8000-000000000000"


class ByShade:
    """An engine that sees faces in the middle of every picture and knows them by the picture's shade."""

    name = "by-shade"
    space = "shades"
    names_people = False

    def __init__(self) -> None:
        self.searches = 0
        self.faces: tuple[Face, ...] | None = None
        self.score = 0.9
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        self.searches += 1
        self.gate.wait(5)
        if self.broken:
            raise RuntimeError("planted-secret")
        if self.faces is not None:
            return self.faces
        return (Face((picture.width // 4, picture.height // 4, picture.width * 3 // 4, picture.height * 3 // 4), 0.9),)

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Any:
        angles = [
            float(picture.pixels[face.box[1] : face.box[3], face.box[0] : face.box[2]].mean()) / 255 * np.pi / 2
            for face in faces
        ]
        return np.array([(np.cos(one), np.sin(one)) for one in angles], np.float32).reshape(len(faces), 2)

    def similarity(self, cosine: float) -> float:
        return min(100.0, max(0.0, 100 * cosine))


def jpeg(width: int = 200, height: int = 200, shade: int = 100) -> bytes:
    sink = io.BytesIO()
    PIL.Image.new("L", (width, height), shade).save(sink, "JPEG")
    return sink.getvalue()


OBJECTS = {"whole": jpeg(shade=50), "large": b"\xff\xd8\xff" + bytes(6 * 1024 * 1024), "text": b"text"}


def stored_object(bucket: str, name: str, version: str | None) -> bytes:
    return OBJECTS[name]


@pytest.fixture
def engine() -> ByShade:
    return ByShade()


@pytest.fixture
def serving() -> Iterator[Callable[..., RekognitionService]]:
    """Make a service that is closed when the test is over."""
    made: list[RekognitionService] = []

    def make(*given: Any, **options: Any) -> RekognitionService:
        made.append(RekognitionService(*given, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def server(engine: ByShade, tmp_path: Path) -> Iterator[RekognitionServer]:
    ledger = Ledger(tmp_path / "calls.jsonl")
    service = RekognitionService(
        engine, quotas=Quotas("us-west-2", everywhere=1000), ledger=ledger, objects=stored_object
    )
    server = RekognitionServer(service)
    server.start()
    yield server
    assert server.stop()
    service.close()
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


def test_the_same_image_and_id_store_no_second_face(client: Any, engine: ByShade, tmp_path: Path) -> None:
    """A repetition gives the same answer, searches nothing and stores nothing; the ledger says so."""
    client.create_collection(CollectionId="c")
    first, again = (
        client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="a")["FaceRecords"]
        for _ in range(2)
    )
    assert first == again
    assert first[0]["Face"]["BoundingBox"] == {"Left": 0.25, "Top": 0.25, "Width": 0.5, "Height": 0.5}
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
    for collection, shade, name in (("c", 60, "a"), ("c", 60, "b"), ("c", 200, "a"), ("d", 60, "a")):
        client.index_faces(CollectionId=collection, Image={"Bytes": jpeg(shade=shade)}, ExternalImageId=name)
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 3
    assert client.describe_collection(CollectionId="d")["FaceCount"] == 1


def test_the_same_image_at_the_same_time_is_searched_once(client: Any, engine: ByShade) -> None:
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


def test_more_faces_than_wanted_come_back_unindexed(client: Any, engine: ByShade) -> None:
    """MaxFaces bounds what is stored; the others are named with their reason."""
    engine.faces = tuple(Face((x, 20, x + 50, 70), 0.9) for x in (0, 60, 120))
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


def test_a_failed_image_can_be_sent_again(client: Any, engine: ByShade) -> None:
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


def test_above_the_quota_the_service_throttles(engine: ByShade, serving: Any) -> None:
    """The answer is the service's own throttling error, before any work."""
    service = serving(engine, quotas=Quotas("us-west-2", rates={"IndexFaces": 1}))
    service.call("CreateCollection", {"CollectionId": "c"}, "r")
    _index(service)
    with pytest.raises(ServiceError) as caught:
        _index(service)
    assert engine.searches == 1
    assert (caught.value.code, caught.value.status) == ("ProvisionedThroughputExceededException", 400)
    service.close()


def _index(service: RekognitionService) -> None:
    image = {"Bytes": base64.b64encode(jpeg()).decode()}
    service.call("IndexFaces", {"CollectionId": "c", "Image": image, "ExternalImageId": "a"}, "r")


def test_the_ledger_holds_no_image(client: Any, tmp_path: Path) -> None:
    """An image and whom it shows are named by hashes; neither its bytes nor credentials are written."""
    client.create_collection(CollectionId="c")
    client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId="Ann-Planted")
    line = calls(tmp_path)[-1]
    assert set(line) == {
        "t", "took", "op", "request_id", "outcome", "collection", "subject", "done", "faces", "stored", "image",
    }  # fmt: skip
    assert len(line["image"]) == 16
    assert line["subject"] == subject_of("Ann-Planted")
    assert not [word for word in ("Credential", "Ann-Planted") if word in (tmp_path / "calls.jsonl").read_text()]


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


# -- likeness -----------------------------------------------------------------------------------------------------


def test_the_most_alike_come_first(client: Any) -> None:
    """A search gives faces above the threshold, best first, at most as many as wanted, and a known face not itself."""
    client.create_collection(CollectionId="c")
    ids = {}
    for shade in (40, 90, 100, 110, 240):
        answer = client.index_faces(CollectionId="c", Image={"Bytes": jpeg(shade=shade)}, ExternalImageId=f"s{shade}")
        ids[shade] = answer["FaceRecords"][0]["Face"]["FaceId"]

    def names(matches: list[dict[str, Any]]) -> list[str]:
        assert [one["Similarity"] for one in matches] == sorted((one["Similarity"] for one in matches), reverse=True)
        return [one["Face"]["ExternalImageId"] for one in matches]

    found = client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg(shade=101)}, FaceMatchThreshold=98)
    assert names(found["FaceMatches"]) == ["s100", "s110", "s90"]
    assert found["SearchedFaceConfidence"] == pytest.approx(90)
    few = client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg(shade=101)}, MaxFaces=1)
    assert names(few["FaceMatches"]) == ["s100"]
    known = client.search_faces(CollectionId="c", FaceId=ids[100], FaceMatchThreshold=98, MaxFaces=2)
    assert names(known["FaceMatches"]) == ["s90", "s110"]
    assert known["SearchedFaceId"] == ids[100]


def test_search_uses_the_largest_face(client: Any, engine: ByShade) -> None:
    """Of several faces in the image the largest is searched, whatever the order of the engine."""
    client.create_collection(CollectionId="c")
    engine.faces = (Face((0, 0, 50, 50), 0.99), Face((60, 60, 180, 180), 0.7))
    found = client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg()})
    assert found["SearchedFaceBoundingBox"] == pytest.approx({"Left": 0.3, "Top": 0.3, "Width": 0.6, "Height": 0.6})


def test_compare_tells_matches_from_others(client: Any, engine: ByShade) -> None:
    """Faces of the target above the threshold are matches, the others are named as unmatched."""
    target = PIL.Image.new("L", (400, 200), 100)
    target.paste(250, (200, 0, 400, 200))
    sink = io.BytesIO()
    target.save(sink, "PNG")
    engine.faces = (Face((20, 20, 120, 120), 0.9), Face((260, 20, 360, 120), 0.9))
    answer = client.compare_faces(
        SourceImage={"Bytes": jpeg(400, 200)}, TargetImage={"Bytes": sink.getvalue()}, SimilarityThreshold=90
    )
    assert [one["Similarity"] > 99 for one in answer["FaceMatches"]] == [True]
    assert answer["FaceMatches"][0]["Face"]["BoundingBox"]["Left"] == 0.05
    assert [one["BoundingBox"]["Left"] for one in answer["UnmatchedFaces"]] == [0.65]
    assert answer["SourceImageFace"]["Confidence"] == pytest.approx(90)


def test_no_face_is_told_in_the_services_words(client: Any, engine: ByShade) -> None:
    """Searching and comparing without a face are InvalidParameter; indexing and detecting answer with nothing."""
    client.create_collection(CollectionId="c")
    engine.faces = ()
    with pytest.raises(ClientError) as search:
        client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg()})
    assert search.value.response["Error"] == {
        "Code": "InvalidParameterException",
        "Message": "There are no faces in the image. Should be at least 1.",
    }
    with pytest.raises(ClientError) as compare:
        client.compare_faces(SourceImage={"Bytes": jpeg()}, TargetImage={"Bytes": jpeg()})
    assert compare.value.response["Error"]["Message"] == "Request has invalid parameters"
    assert client.index_faces(CollectionId="c", Image={"Bytes": jpeg()})["FaceRecords"] == []
    assert client.detect_faces(Image={"Bytes": jpeg()})["FaceDetails"] == []


def test_detected_faces_are_described(client: Any, engine: ByShade) -> None:
    """Box, confidence, quality, and with an engine that finds landmarks where they are and how the head is held."""
    points = ((80.0, 80.0), (120.0, 80.0), (100.0, 101.6), (84.0, 120.0), (116.0, 120.0))
    engine.faces = (Face((50, 50, 150, 150), 0.9, points),)
    (face,) = client.detect_faces(Image={"Bytes": jpeg(shade=102)}, Attributes=["ALL"])["FaceDetails"]
    assert face["Quality"]["Brightness"] == pytest.approx(40, abs=1)
    assert face["Landmarks"][2] == {"Type": "nose", "X": 0.5, "Y": pytest.approx(0.508)}
    assert face["Pose"] == pytest.approx({"Roll": 0.0, "Yaw": 0.0, "Pitch": 0.0}, abs=0.5)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({0: (80.0, 100.0), 1: (120.0, 80.0)}, ("Roll", -26.6)),
        ({2: (107.6, 101.6)}, ("Yaw", 20.0)),
    ],
)
def test_a_head_that_is_held_otherwise(
    client: Any, engine: ByShade, moved: dict[int, tuple[float, float]], expected: tuple[str, float]
) -> None:
    """Tilted eyes are roll; a nose nearer to one eye is yaw."""
    points = [(80.0, 80.0), (120.0, 80.0), (100.0, 101.6), (84.0, 120.0), (116.0, 120.0)]
    for place, point in moved.items():
        points[place] = point
    engine.faces = (Face((50, 50, 150, 150), 0.9, tuple(points)),)
    (face,) = client.detect_faces(Image={"Bytes": jpeg()})["FaceDetails"]
    assert face["Pose"][expected[0]] == pytest.approx(expected[1], abs=1)


def test_dark_faces_are_not_indexed_unless_asked_for(client: Any) -> None:
    """QualityFilter is AUTO for indexing and NONE for searching; what falls short comes back with its reason."""
    client.create_collection(CollectionId="c")
    dark = {"Bytes": jpeg(shade=20)}
    auto = client.index_faces(CollectionId="c", Image=dark, ExternalImageId="a")
    assert [face["Reasons"] for face in auto["UnindexedFaces"]] == [["LOW_BRIGHTNESS"]]
    assert auto["FaceRecords"] == []
    none = client.index_faces(CollectionId="c", Image=dark, ExternalImageId="a", QualityFilter="NONE")
    assert len(none["FaceRecords"]) == 1
    assert len(client.search_faces_by_image(CollectionId="c", Image=dark)["FaceMatches"]) == 1
    assert (
        code_of(client.search_faces_by_image, CollectionId="c", Image=dark, QualityFilter="LOW")
        == "InvalidParameterException"
    )


@pytest.mark.parametrize(("size", "faces"), [((1920, 1080), 1), ((3840, 2160), 0), ((1080, 1920), 1)])
def test_faces_that_the_service_would_not_see(client: Any, engine: ByShade, size: tuple[int, int], faces: int) -> None:
    """A face needs 40 pixels in a picture of 1920 x 1080, and more in proportion in a larger one."""
    engine.faces = (Face((100, 100, 145, 145), 0.9), Face((200, 200, 239, 260), 0.9))
    assert len(client.detect_faces(Image={"Bytes": jpeg(*size)})["FaceDetails"]) == faces


# -- more of collections ------------------------------------------------------------------------------------------


def test_faces_are_deleted_and_can_be_indexed_again(client: Any, engine: ByShade) -> None:
    """Unknown ids are told apart; a deleted face is found no more, and its image makes a new one."""
    client.create_collection(CollectionId="c")
    index = {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "ExternalImageId": "a"}
    first = client.index_faces(**index)["FaceRecords"][0]["Face"]["FaceId"]
    assert len(client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg()})["FaceMatches"]) == 1
    answer = client.delete_faces(CollectionId="c", FaceIds=[first, STRANGER])
    assert answer["DeletedFaces"] == [first]
    assert answer["UnsuccessfulFaceDeletions"] == [{"FaceId": STRANGER, "Reasons": ["FACE_NOT_FOUND"]}]
    assert client.search_faces_by_image(CollectionId="c", Image={"Bytes": jpeg()})["FaceMatches"] == []
    again = client.index_faces(**index)["FaceRecords"][0]["Face"]["FaceId"]
    assert again != first
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 1


def test_more_faces_of_the_same_image_later(client: Any, engine: ByShade) -> None:
    """Asked for more faces than before, an image gives the stored ones again and only the others anew."""
    engine.faces = tuple(Face((x, 20, x + 50, 70), 0.9) for x in (0, 60, 120))
    client.create_collection(CollectionId="c")
    index = {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "ExternalImageId": "a"}
    one = client.index_faces(**index, MaxFaces=1)["FaceRecords"]
    three = client.index_faces(**index, MaxFaces=3)["FaceRecords"]
    assert one[0]["Face"]["FaceId"] in [record["Face"]["FaceId"] for record in three]
    assert client.describe_collection(CollectionId="c")["FaceCount"] == 3


def test_collections_are_listed_in_pages(client: Any) -> None:
    """In the order of their making; a page is not disturbed by one that is deleted meanwhile."""
    for number in range(5):
        client.create_collection(CollectionId=f"c{number}")
    first = client.list_collections(MaxResults=2)
    client.delete_collection(CollectionId="c1")
    rest = client.list_collections(NextToken=first["NextToken"])
    assert (first["CollectionIds"], rest["CollectionIds"]) == (["c0", "c1"], ["c2", "c3", "c4"])
    assert rest["FaceModelVersions"] == ["7.0"] * 3
    assert "NextToken" not in rest


@pytest.mark.parametrize("token", ["", "x", "MS9mYWNlcy8xLzI=", "MS9jb2xsZWN0aW9ucy85OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="])
def test_a_token_that_was_not_given_out(client: Any, token: str) -> None:
    """A token of nobody, or of another listing, is refused as the service refuses it."""
    assert code_of(client.list_collections, NextToken=token) == "InvalidPaginationTokenException"


def test_chosen_faces_are_listed(client: Any) -> None:
    """ListFaces can be asked for faces by their ids."""
    client.create_collection(CollectionId="c")
    ids = [
        client.index_faces(CollectionId="c", Image={"Bytes": jpeg()}, ExternalImageId=f"p{number}")["FaceRecords"][0][
            "Face"
        ]["FaceId"]
        for number in range(3)
    ]
    found = client.list_faces(CollectionId="c", FaceIds=[ids[2], ids[0], STRANGER])["Faces"]
    assert [face["FaceId"] for face in found] == [ids[0], ids[2]]


WRONG = {
    "collection": ("list_faces", {"CollectionId": "no such"}),
    "page size": ("list_faces", {"CollectionId": "c", "MaxResults": 4097}),
    "no face wanted": ("index_faces", {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "MaxFaces": 101}),
    "filter": ("index_faces", {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "QualityFilter": "BEST"}),
    "face id": ("search_faces", {"CollectionId": "c", "FaceId": "1"}),
    "unknown face": ("search_faces", {"CollectionId": "c", "FaceId": STRANGER}),
    "threshold": (
        "search_faces_by_image",
        {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "FaceMatchThreshold": 100.5},
    ),
    "matches": ("search_faces_by_image", {"CollectionId": "c", "Image": {"Bytes": jpeg()}, "MaxFaces": 4097}),
    "similarity": (
        "compare_faces",
        {"SourceImage": {"Bytes": jpeg()}, "TargetImage": {"Bytes": jpeg()}, "SimilarityThreshold": 100.5},
    ),
    "two images": (
        "detect_faces",
        {"Image": {"Bytes": jpeg(), "S3Object": {"Bucket": "b-1", "Name": "whole"}}},
    ),
    "empty image": ("detect_faces", {"Image": {"Bytes": b""}}),
    "faces to delete": ("delete_faces", {"CollectionId": "c", "FaceIds": ["1"]}),
}


@pytest.mark.parametrize("what", WRONG)
def test_rules_that_the_sdk_does_not_check(client: Any, what: str) -> None:
    """Patterns, bounds and enumerations are the endpoint's to check, as they are the service's."""
    client.create_collection(CollectionId="c")
    method, arguments = WRONG[what]
    assert code_of(getattr(client, method), **arguments) == "InvalidParameterException"


@pytest.mark.parametrize(
    "target",
    ["index_faces", "list_faces", "delete_faces", "search_faces", "search_faces_by_image", "describe_collection"],
)
def test_an_unknown_collection(client: Any, target: str) -> None:
    """Every operation on a collection says that it is not there."""
    more: dict[str, Any] = {
        "index_faces": {"Image": {"Bytes": jpeg()}},
        "search_faces_by_image": {"Image": {"Bytes": jpeg()}},
        "search_faces": {"FaceId": STRANGER},
        "delete_faces": {"FaceIds": [STRANGER]},
    }
    assert code_of(getattr(client, target), CollectionId="none", **more.get(target, {})) == "ResourceNotFoundException"


# -- images elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", "InvalidS3ObjectException"), ("text", "InvalidImageFormatException"), ("whole", None)],
)
def test_images_in_an_object_store(client: Any, name: str, code: str | None) -> None:
    """An object is fetched and judged as bytes are; one that cannot be had is told as the service tells it."""
    image = {"S3Object": {"Bucket": "photos", "Name": name}}
    if code is None:
        assert len(client.detect_faces(Image=image)["FaceDetails"]) == 1
    else:
        assert code_of(client.detect_faces, Image=image) == code


def test_an_object_may_be_larger_than_bytes(client: Any) -> None:
    """15 MB against 5 MB: this one is only no picture."""
    assert (
        code_of(client.detect_faces, Image={"S3Object": {"Bucket": "photos", "Name": "large"}})
        == "InvalidImageFormatException"
    )


def test_without_an_object_store_objects_are_refused(engine: ByShade, serving: Any) -> None:
    """Nobody is asked for the object."""
    service = serving(engine)
    with pytest.raises(ServiceError) as caught:
        service.call("DetectFaces", {"Image": {"S3Object": {"Bucket": "photos", "Name": "whole"}}}, "r")
    assert caught.value.code == "InvalidS3ObjectException"
    service.close()


# -- protocol -----------------------------------------------------------------------------------------------------


def post(server: RekognitionServer, operation: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", "/", body=body, headers={"X-Amz-Target": f"RekognitionService.{operation}"})
    answer = connection.getresponse()
    payload = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, payload


def test_headers_and_body_of_an_error(server: RekognitionServer) -> None:
    """As the service gives them: type in the body, request id and date in the headers."""
    status, headers, payload = post(server, "DescribeCollection", b'{"CollectionId": "none"}')
    assert status == 400
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert headers["content-length"] == str(len(payload))
    assert headers["x-amzn-requestid"]
    assert headers["date"].endswith("GMT")
    error = json.loads(payload)
    assert set(error) == {"__type", "Code", "Logref", "Message"}
    assert error["__type"] == error["Code"] == "ResourceNotFoundException"
    assert error["Logref"] == headers["x-amzn-requestid"]


def test_a_hint_is_labelled(server: RekognitionServer, engine: ByShade) -> None:
    """Each answer's headers say which engine gave it, and that its similarity is no identity."""
    _, headers, _ = post(server, "ListCollections", b"{}")
    assert (headers["x-local-engine"], headers["x-local-similarity"]) == ("by-shade", "hint")


def test_too_large_a_body_is_answered(server: RekognitionServer) -> None:
    """As by the gateway in front of the service: 413 and nothing; the client hears it although it was still sending."""
    status, _, payload = post(server, "DetectFaces", bytes(16 * 1024 * 1024))
    assert (status, payload) == (413, b"")


def test_a_fault_of_our_own_tells_nothing(
    client: Any, engine: ByShade, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A broken engine is a 500 of the service; its text reaches neither client nor log nor ledger."""
    engine.broken = True
    with pytest.raises(ClientError) as caught:
        client.detect_faces(Image={"Bytes": jpeg()})
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert caught.value.response["Error"] == {"Code": "InternalServerError", "Message": "Internal server error"}
    assert "RuntimeError" in caplog.text
    seen = caplog.text + (tmp_path / "calls.jsonl").read_text() + str(caught.value.response)
    assert "planted-secret" not in seen


def test_deep_json_is_refused(server: RekognitionServer) -> None:
    """Nesting that breaks the parser is the client's fault, not a 500."""
    status, _, payload = post(server, "ListFaces", b'{"a":' * 200_000)
    assert (status, json.loads(payload)["__type"]) == (400, "SerializationException")


# -- quotas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("region", "allowed"), [("us-east-1", 50), ("eu-central-1", 5)])
def test_quotas_are_the_regions(engine: ByShade, region: str, allowed: int) -> None:
    """50 IndexFaces a second in the large regions, 5 elsewhere."""
    quotas = Quotas(region, clock=lambda: 0.0)
    for _ in range(allowed):
        quotas.take("IndexFaces")
    with pytest.raises(ServiceError):
        quotas.take("IndexFaces")
    quotas.take("CompareFaces")


def test_the_other_throttling_error() -> None:
    """The service has two; which one is given can be chosen."""
    quotas = Quotas("us-west-2", everywhere=1, error="ThrottlingException", clock=lambda: 0.0)
    quotas.take("ListFaces")
    with pytest.raises(ServiceError) as caught:
        quotas.take("ListFaces")
    assert (caught.value.code, caught.value.status) == ("ThrottlingException", 400)


def test_no_quota_at_all() -> None:
    """Infinite calls a second: no bucket."""
    quotas = Quotas("us-west-2", everywhere=float("inf"), clock=lambda: 0.0)
    for _ in range(1000):
        quotas.take("CreateCollection")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"rates": {"IndexFases": 1}},
            r"Quotas\.rates must name .*; got IndexFases\. It has: CompareFaces, .*IndexFaces",
        ),
        ({"rates": {"IndexFaces": 0}}, r"Quotas\.rates\['IndexFaces'\] must be more than 0 calls a second; got 0"),
        ({"everywhere": float("nan")}, r"Quotas\.everywhere must be more than 0 calls a second; got nan"),
        ({"error": "Slow"}, r"Quotas\.error must be"),
    ],
)
def test_wrong_quotas_are_refused(wrong: dict[str, Any], said: str) -> None:
    """A mistyped operation, a rate of nothing, an error that the service does not have."""
    with pytest.raises(ValueError, match=said):
        Quotas("us-west-2", **wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ledger", "{here}/none/x"), "--ledger {here}/none/x cannot be written: No such file or directory."),
        (("--ledger", ""), "argument --ledger: must be a file; got ''. Leave the option out to do without."),
        (("--host", "192.0.2.1"), "--host 192.0.2.1 --port 0 cannot be listened on: "),
        (("--host", ""), "argument --host: must be an address of this machine, such as 127.0.0.1; got ''. 0.0.0.0"),
        (("--index", "3"), "unrecognized arguments: --index 3"),
        (("--port", "x"), "argument --port: must be a whole number from 0 to 65535; got 'x'."),
        (("--index-tps", "nan"), "argument --index-tps: must be more than 0 calls a second; got 'nan'."),
        (("--region", "a b"), "--region must be the name of a region, such as us-west-2; got 'a b'."),
    ],
)
def test_wrong_options_of_the_child(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who starts it for a test reads what was wrong, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        run_child([one.format(here=tmp_path) for one in arguments])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert said.format(here=tmp_path) in " ".join(shown.err.split())


# -- whatever comes -----------------------------------------------------------------------------------------------

NAMES = (
    "CollectionId", "Image", "SourceImage", "TargetImage", "ExternalImageId", "MaxFaces", "MaxResults", "NextToken",
    "FaceId", "FaceIds", "FaceMatchThreshold", "SimilarityThreshold", "QualityFilter", "Attributes", "SessionId",
    "ClientRequestToken", "Settings",
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20) | st.just("c")
SCALARS |= st.just(STRANGER) | st.sampled_from(["x", "bm8=", base64.b64encode(jpeg()).decode()])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Bytes", "S3Object", "Bucket", "Name", "AuditImagesLimit"]), inner, max_size=2
        )
    ),
    max_leaves=5,
)
ANYTHING = RekognitionService(ByShade(), quotas=Quotas("us-west-2", everywhere=float("inf")), objects=stored_object)


@example("IndexFaces", {"QualityFilter": []})
@example("IndexFaces", {"ExternalImageId": "\ud800"})  # JSON can carry half a character
@given(st.sampled_from(sorted(ANYTHING.operations)), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_no_request_is_a_fault_of_the_server(operation: str, request: dict[str, Any]) -> None:
    """Whatever is in a request, the answer is an answer or an error of the client."""
    for asked in (request, {"CollectionId": "c", "Image": {"Bytes": base64.b64encode(jpeg()).decode()}, **request}):
        status, answer = 200, {}
        try:
            answer = ANYTHING.call(operation, asked, "r")
        except ServiceError as error:
            status = error.status
        assert status in (200, 400)
        assert isinstance(json.dumps(answer), str)


def test_threads_at_work_on_one_collection(engine: ByShade, serving: Any) -> None:
    """Indexing, searching, listing and deleting at once: no fault of the server, and in the end all agree."""
    service = serving(engine, quotas=Quotas("us-west-2", everywhere=float("inf")))
    service.call("CreateCollection", {"CollectionId": "c"}, "r")
    pictures = [{"Bytes": base64.b64encode(jpeg(shade=shade)).decode()} for shade in range(60, 68)]

    def work(worker: int) -> set[str]:
        mine: set[str] = set()
        for number in range(12):
            asked = {"CollectionId": "c", "Image": pictures[worker], "ExternalImageId": f"{worker}-{number}"}
            mine.add(service.call("IndexFaces", asked, "r")["FaceRecords"][0]["Face"]["FaceId"])
            found = service.call("SearchFacesByImage", {**asked, "FaceMatchThreshold": 0}, "r")["FaceMatches"]
            assert {match["Face"]["FaceId"] for match in found} >= mine
            if number % 3 == 2:
                service.call("DeleteFaces", {"CollectionId": "c", "FaceIds": [mine.pop()]}, "r")
        return mine

    with ThreadPoolExecutor(8) as pool:
        kept = set().union(*pool.map(work, range(8)))
    listed = {face["FaceId"] for face in service.call("ListFaces", {"CollectionId": "c"}, "r")["Faces"]}
    asked = {"CollectionId": "c", "Image": pictures[0], "FaceMatchThreshold": 0}
    found = {one["Face"]["FaceId"] for one in service.call("SearchFacesByImage", asked, "r")["FaceMatches"]}
    assert listed == found == kept
    assert len(kept) == 8 * (12 - 4)
    service.close()
