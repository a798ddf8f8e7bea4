"""Liveness sessions: made, fed by hand, read; three minutes, one result."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")

import numpy as np
import PIL.Image

from resilient_faces.adapters.local_rekognition import RekognitionServer, RekognitionService, ServiceError
from resilient_faces.adapters.recogniser import Face, Picture


class Somebody:
    """An engine that sees one face, or none on black."""

    name = "somebody"
    space = "none"
    names_people = False

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        return (Face((10, 10, 60, 60), 0.9),) if picture.pixels.max() > 50 else ()

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Any:
        return np.ones((len(faces), 1), np.float32)

    def similarity(self, cosine: float) -> float:
        return 100.0


class World:
    """A service and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.service = RekognitionService(Somebody(), now=lambda: self.now)

    def create(self, **request: Any) -> str:
        return str(self.service.call("CreateFaceLivenessSession", request, "r")["SessionId"])

    def results(self, session: str) -> dict[str, Any]:
        return self.service.call("GetFaceLivenessSessionResults", {"SessionId": session}, "r")

    def feed(self, session: str, **request: Any) -> dict[str, Any]:
        return self.service.feed_liveness(session, request, "r")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.service.close()


def photo(shade: int = 200, quality: int = 50, side: int = 100) -> dict[str, str]:
    sink = io.BytesIO()
    PIL.Image.new("L", (side, side), shade).save(sink, "JPEG", quality=quality)
    return {"Bytes": base64.b64encode(sink.getvalue()).decode()}


def refused(call: Any, *arguments: Any, **request: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        call(*arguments, **request)
    return caught.value.code


def test_from_created_to_succeeded(world: World) -> None:
    """The result is what was fed: confidence, picture and the box of its face."""
    session = world.create()
    assert world.results(session) == {"SessionId": session, "Status": "CREATED"}
    world.feed(session, Status="IN_PROGRESS")
    assert world.results(session)["Status"] == "IN_PROGRESS"
    world.feed(session, Status="SUCCEEDED", Confidence=97.5, Image=photo())
    found = world.results(session)
    assert (found["Status"], found["Confidence"]) == ("SUCCEEDED", 97.5)
    assert found["ReferenceImage"]["Bytes"] == photo()["Bytes"]
    assert found["ReferenceImage"]["BoundingBox"] == {"Left": 0.1, "Top": 0.1, "Width": 0.5, "Height": 0.5}


def test_a_failed_check_is_a_result(world: World) -> None:
    """FAILED is an answer with a low confidence, not an error."""
    session = world.create()
    world.feed(session, Status="FAILED", Confidence=3)
    assert world.results(session) == {"SessionId": session, "Status": "FAILED", "Confidence": 3.0}


@pytest.mark.parametrize("first", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("second", ["IN_PROGRESS", "SUCCEEDED", "FAILED"])
def test_a_session_is_used_once(world: World, first: str, second: str) -> None:
    """Nothing follows a result."""
    session = world.create()
    world.feed(session, Status=first, Confidence=50)
    assert refused(world.feed, session, Status=second, Confidence=90) == "InvalidParameterException"
    assert world.results(session)["Confidence"] == 50


def test_a_session_in_progress_does_not_begin_again(world: World) -> None:
    """One start a session."""
    session = world.create()
    world.feed(session, Status="IN_PROGRESS")
    assert refused(world.feed, session, Status="IN_PROGRESS") == "InvalidParameterException"


@pytest.mark.parametrize("begun", [False, True])
def test_it_expires_after_three_minutes(world: World, begun: bool) -> None:
    """Without a result by then it is EXPIRED, which is an answer, and cannot be fed; a day later it is unknown."""
    session = world.create()
    if begun:
        world.feed(session, Status="IN_PROGRESS")
    world.now += 180.0
    assert world.results(session)["Status"] in ("CREATED", "IN_PROGRESS")
    world.now += 0.1
    assert world.results(session)["Status"] == "EXPIRED"
    assert refused(world.feed, session, Status="SUCCEEDED", Confidence=99) == "InvalidParameterException"
    world.now += 24 * 3600.0
    assert refused(world.results, session) == "SessionNotFoundException"


def test_a_result_does_not_expire(world: World) -> None:
    """What was finished in time can be read later."""
    session = world.create()
    world.feed(session, Status="SUCCEEDED", Confidence=99)
    world.now += 3600.0
    assert world.results(session)["Status"] == "SUCCEEDED"


def test_a_token_makes_creation_repeatable(world: World) -> None:
    """The same token and settings give the same session; with other settings it is refused; without it, two."""
    first = world.create(ClientRequestToken="t1", Settings={"AuditImagesLimit": 2})
    assert world.create(ClientRequestToken="t1", Settings={"AuditImagesLimit": 2}) == first
    assert (
        refused(world.create, ClientRequestToken="t1", Settings={"AuditImagesLimit": 3}) == "InvalidParameterException"
    )
    assert world.create() != world.create()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"Status": "SUCCEEDED"}, "InvalidParameterException"),
        ({"Status": "SUCCEEDED", "Confidence": 101}, "InvalidParameterException"),
        ({"Status": "EXPIRED"}, "InvalidParameterException"),
        ({}, "InvalidParameterException"),
        ({"Status": "FAILED", "Image": photo(0)}, "InvalidParameterException"),
        ({"Status": "FAILED", "Image": {"Bytes": "bm8gcGljdHVyZQ=="}}, "InvalidImageFormatException"),
    ],
)
def test_wrong_results_change_nothing(world: World, wrong: dict[str, Any], code: str) -> None:
    """No confidence, no such status, no face, no picture: refused, and the session is as it was."""
    session = world.create()
    assert refused(world.feed, session, **wrong) == code
    assert world.results(session) == {"SessionId": session, "Status": "CREATED"}


def test_a_large_reference_image_is_refused(world: World) -> None:
    """The service gives at most 200 KB back."""
    noise = np.random.default_rng(1).integers(0, 255, (600, 600, 3), np.uint8)
    sink = io.BytesIO()
    PIL.Image.fromarray(noise).save(sink, "PNG")
    image = {"Bytes": base64.b64encode(sink.getvalue()).decode()}
    assert refused(world.feed, world.create(), Status="FAILED", Image=image) == "ImageTooLargeException"


@pytest.mark.parametrize(
    "wrong",
    [
        {"ClientRequestToken": "x" * 65},
        {"Settings": {"AuditImagesLimit": 5}},
        {"Settings": {"OutputConfig": {"S3Bucket": "bucket"}}},
        {"Settings": "yes"},
    ],
)
def test_wrong_settings_are_refused(world: World, wrong: dict[str, Any]) -> None:
    """Bounds of the model, and a bucket that nothing would be written to."""
    assert refused(world.create, **wrong) == "InvalidParameterException"


def test_unknown_sessions(world: World) -> None:
    """Never made is not found; no session id at all is a wrong parameter."""
    assert refused(world.results, "3f6f0e2c-0000-4000-8000-000000000000") == "SessionNotFoundException"
    assert refused(world.results, "x") == "InvalidParameterException"


def test_it_is_fed_over_http(world: World) -> None:
    """POST /local/liveness/SESSION, as the documentation says."""
    server = RekognitionServer(world.service)
    server.start()
    session = world.create()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    body = json.dumps({"Status": "SUCCEEDED", "Confidence": 91.0})
    connection.request("POST", f"/local/liveness/{session}", body=body)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"SessionId": session, "Status": "SUCCEEDED"})
    assert world.results(session)["Confidence"] == 91.0
    connection.close()
    server.stop()
