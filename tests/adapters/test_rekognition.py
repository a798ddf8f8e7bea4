"""The Rekognition adapter: checked before the call, results instead of errors, and nothing about people in a text."""

from __future__ import annotations

import inspect
import io
import json
import logging
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("boto3", reason="the extra `aws` is not installed")

from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters.aws import AWS, UNGUARDED, CostMeter, DamagedAnswerError, LocalEndpoint, connect
from resilient_faces.adapters.rekognition import (
    MAX_IMAGE_BYTES,
    AsyncRekognition,
    Comparison,
    LivenessStatus,
    Rekognition,
    S3Image,
    Search,
    UnusableImageError,
    check_image,
    image_id,
    size_of,
)
from resilient_faces.errors import CircuitOpenError, OptionError
from resilient_faces.faults import Executed, Kind
from resilient_faces.pipeline.presets import COMPARE

FACE_ID = "11111111-2222-3333-4444-555555555555"
BOX = {"Left": 0.1, "Top": 0.2, "Width": 0.3, "Height": 0.4}
STORED = {
    "FaceId": FACE_ID,
    "ImageId": "i",
    "ExternalImageId": "planted-identity",
    "BoundingBox": BOX,
    "Confidence": 99.0,
}
NO_FACES = (400, {"__type": "InvalidParameterException", "Message": "There are no faces in the image."})


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", width, height) + bytes(9)


def jpeg(width: int, height: int, *, frame: int = 0xC0, before: bytes = b"") -> bytes:
    tables = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14) + b"\xff\xc4" + struct.pack(">H", 4) + bytes(2)
    return b"\xff\xd8" + tables + before + bytes([0xFF, frame]) + struct.pack(">HBHH", 17, 8, height, width) + bytes(12)


PHOTO = jpeg(640, 480)


# -- before the call -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        ("photo.jpg", "must be bytes or an S3Image; got str"),
        (b"GIF89a" + bytes(100), "neither a JPEG nor a PNG"),
        (PHOTO + bytes(MAX_IMAGE_BYTES), "bytes; Rekognition takes 5242880"),
        (png(79, 200), "79 x 200 pixels"),
        (jpeg(200, 79), "200 x 79 pixels"),
        (jpeg(200, 10, frame=0xC2, before=b"\xff\xff"), "200 x 10 pixels"),
    ],
)
def test_an_image_that_can_never_be_used_is_not_sent(local: Any, script: Any, image: bytes, reason: str) -> None:
    """botocore sends all of these; each would be a request, and a charge."""
    client = local()
    seen = script(client, (200, {}))
    with pytest.raises(UnusableImageError, match=reason) as refused:
        Rekognition(client).index_faces("c", image)
    fault = AWS(refused.value)
    assert (fault.kind, fault.executed) == (Kind.invalid, Executed.no)
    assert seen.sent == []


CALLS: dict[str, dict[str, Any]] = {
    "create_collection": {"collection": "c"},
    "delete_collection": {"collection": "c"},
    "describe_collection": {"collection": "c"},
    "index_faces": {"collection": "c", "image": PHOTO, "external_image_id": "e", "quality": "LOW"},
    "list_faces": {"collection": "c", "most": 5},
    "delete_faces": {"collection": "c", "face_ids": [FACE_ID]},
    "search_faces_by_image": {"collection": "c", "image": PHOTO, "threshold": 80.0, "most": 5, "quality": "LOW"},
    "search_faces": {"collection": "c", "face_id": FACE_ID, "threshold": 80.0, "most": 5},
    "compare_faces": {"source": PHOTO, "target": PHOTO, "threshold": 80.0, "quality": "LOW"},
    "detect_faces": {"image": PHOTO},
    "create_liveness_session": {"token": "t"},
    "liveness_result": {"session_id": FACE_ID},
}
ODD: list[Any] = [
    -1,
    "",
    "a/b c",
    float("nan"),
    True,
    b"planted",
    ["planted"],
    {"planted": 1},
    S3Image("no bucket", "n"),
    S3Image(5, "n"),  # type: ignore[arg-type]
    S3Image("bucket", None),  # type: ignore[arg-type]
    S3Image("bucket", "n", 7),  # type: ignore[arg-type]
    memoryview(PHOTO),
]
MAY_BE_NONE = ("most", "token", "external_image_id", "quality")


@pytest.mark.parametrize(("method", "option"), [(method, name) for method, given in CALLS.items() for name in given])
def test_odd_arguments_are_refused_before_the_call(local: Any, script: Any, method: str, option: str) -> None:
    """With an error that names the rule, whatever they are; nothing is sent, and nothing of a picture is shown."""
    client = local()
    seen = script(client, (200, {}))
    call = getattr(Rekognition(client), method)
    for odd in ODD if option in MAY_BE_NONE else [None, *ODD]:
        with pytest.raises((OptionError, UnusableImageError)) as refused:
            call(**{**CALLS[method], option: odd})
        assert "planted" not in str(refused.value)
    assert seen.sent == []


def test_an_image_of_just_the_right_size_is_taken() -> None:
    """5 MB and 80 pixels are within the limits."""
    check_image(jpeg(80, 80) + bytes(MAX_IMAGE_BYTES - len(jpeg(80, 80))))
    check_image(png(80, 80))


def test_sizes_are_read_from_real_files() -> None:
    """As Pillow writes them, with and without progressive scans and EXIF."""
    image = pytest.importorskip("PIL.Image", reason="the extra `demo` is not installed").new("RGB", (123, 91))
    exif = image.getexif()
    exif[0x010E] = "x" * 500
    for options in ({"format": "JPEG"}, {"format": "JPEG", "progressive": True, "exif": exif}, {"format": "PNG"}):
        sink = io.BytesIO()
        image.save(sink, **options)
        assert size_of(sink.getvalue()) == (123, 91)


def test_a_header_that_cannot_be_read_is_left_to_the_service() -> None:
    """A guess would refuse what it takes."""
    for image in (b"\xff\xd8\xff\xe0\x00\x10" + bytes(20), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xc0"):
        assert size_of(image) is None
        check_image(image)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda r: r.create_collection("a b"), "collection"),
        (lambda r: r.create_collection("c" * 256), "collection"),
        (lambda r: r.index_faces("c", PHOTO, "planted identity"), "external_image_id"),
        (lambda r: r.index_faces("c", PHOTO, ""), "external_image_id"),
        (lambda r: r.search_faces_by_image("c", PHOTO, threshold=100.1), "threshold"),
        (lambda r: r.search_faces_by_image("c", PHOTO, most=0), "most"),
        (lambda r: r.search_faces_by_image("c", PHOTO, most=4097), "most"),
        (lambda r: r.search_faces_by_image("c", PHOTO, quality="GOOD"), "quality"),
        (lambda r: r.search_faces("c", "planted-identity"), "face_id"),
        (lambda r: r.compare_faces(PHOTO, PHOTO, threshold=-1), "threshold"),
        (lambda r: r.delete_faces("c", []), "face_ids"),
        (lambda r: r.delete_faces("c", ["planted-identity"]), "face_ids"),
        (lambda r: r.delete_faces("c", FACE_ID), "face_ids"),
        (lambda r: r.list_faces("c", most=0), "most"),
        (lambda r: r.liveness_result("planted-identity"), "session_id"),
        (lambda r: r.create_liveness_session(token="planted identity"), "token"),
        (lambda r: r.detect_faces(S3Image("b", "k")), "bucket"),
    ],
)
def test_what_the_service_would_refuse_is_not_sent(local: Any, script: Any, call: Any, option: str) -> None:
    """botocore checks neither patterns nor maxima. The message names the option and shows no identity."""
    client = local()
    seen = script(client, (200, {}))
    with pytest.raises(OptionError, match=rf"\.{option} must be") as refused:
        call(Rekognition(client))
    assert "planted" not in str(refused.value)
    assert AWS(refused.value).kind is Kind.invalid
    assert seen.sent == []


# -- collections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "requests"),
    [
        ("ProvisionedThroughputExceededException", 400, 3),
        ("ThrottlingException", 400, 3),
        ("InternalServerError", 500, 3),
        ("LimitExceededException", 400, 1),  # a quota, whatever its name sounds like
        ("ServiceQuotaExceededException", 400, 1),
        ("InvalidParameterException", 400, 1),
        ("AccessDeniedException", 400, 1),
    ],
)
def test_indexing_repeats_what_may_pass(
    local: Any, script: Any, failed: Any, clock: ManualRuntime, code: str, status: int, requests: int
) -> None:
    """Throttling and faults of the server; neither quotas nor what is wrong for good."""
    client = local()
    seen = script(client, failed(code, status))
    with pytest.raises(Exception, match=code):
        Rekognition(client).index_faces("c", PHOTO)
    assert len(seen.sent) == requests


def test_a_collection_that_exists_counts_as_made(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """No look before it: the error is the answer."""
    client = local()
    adapter = Rekognition(client)
    seen = script(client, (200, {"CollectionArn": "a"}), failed("ResourceAlreadyExistsException"))
    assert adapter.create_collection("event-7") == "event-7"
    assert adapter.create_collection("event-7") == "event-7"
    assert seen.operations == ["CreateCollection"] * 2


def test_making_one_is_logged_once_it_was_made(
    local: Any, script: Any, failed: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Not when it was there."""
    client = local()
    script(client, (200, {"CollectionArn": "a"}), failed("ResourceAlreadyExistsException"))
    caplog.set_level(logging.INFO, "resilient_faces.rekognition")
    adapter = Rekognition(client)
    adapter.create_collection("event-7")
    adapter.create_collection("event-7")
    assert [one.event for one in caplog.records if hasattr(one, "event")] == ["rekognition.collection.created"]


def test_any_other_error_of_making_one_comes_out(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """A quota is no success."""
    client = local()
    script(client, failed("ServiceQuotaExceededException"))
    with pytest.raises(Exception, match="ServiceQuota") as raised:
        Rekognition(client).create_collection("event-7")
    assert AWS(raised.value).kind is Kind.quota


def test_a_lost_collection_is_made_anew_once(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """And if it is gone again, somebody deletes it, and that comes out."""
    client = local()
    lost = failed("ResourceNotFoundException")
    indexed = (200, {"FaceRecords": [{"Face": STORED}], "FaceModelVersion": "7.0"})
    seen = script(client, lost, (200, {"CollectionArn": "a"}), indexed)
    adapter = Rekognition(client, recreate=True)
    assert len(adapter.index_faces("c", PHOTO).faces) == 1
    assert seen.operations == ["IndexFaces", "CreateCollection", "IndexFaces"]
    seen.sent.clear()
    seen.replies = [lost, (200, {"CollectionArn": "a"}), lost]
    with pytest.raises(Exception, match="ResourceNotFound"):
        adapter.index_faces("c", PHOTO)
    assert seen.operations == ["IndexFaces", "CreateCollection", "IndexFaces"]


def test_a_search_never_makes_a_collection(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """An empty one would answer that nobody is known, instead of that everything is lost."""
    client = local()
    seen = script(client, failed("ResourceNotFoundException"))
    adapter = Rekognition(client, recreate=True)
    for search in (lambda: adapter.search_faces_by_image("c", PHOTO), lambda: adapter.search_faces("c", FACE_ID)):
        with pytest.raises(Exception, match="ResourceNotFound"):
            search()
    assert seen.operations == ["SearchFacesByImage", "SearchFaces"]
    with pytest.raises(Exception, match="ResourceNotFound"):
        Rekognition(client).index_faces("c", PHOTO)
    assert seen.operations[2:] == ["IndexFaces"], "nor does indexing, unless it is told to"


def test_deleting_what_is_gone_is_no_error(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """The answer may have been lost: gone is gone."""
    client = local()
    script(client, failed("InternalServerError", 500), failed("ResourceNotFoundException"), (200, {"StatusCode": 200}))
    adapter = Rekognition(client)
    assert adapter.delete_collection("c") is False
    assert adapter.delete_collection("c") is True


# -- faces ---------------------------------------------------------------------------------------------------------


def test_every_attempt_of_indexing_carries_one_external_id(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """It is what keeps a repetition from storing a second face; made from the bytes if none was given."""
    client = local()
    indexed = (200, {"FaceRecords": [], "FaceModelVersion": "7.0", "UnindexedFaces": [{"Reasons": ["LOW_SHARPNESS"]}]})
    seen = script(client, failed("InternalServerError", 500), indexed)
    answer = Rekognition(client, most_faces=7).index_faces("c", PHOTO)
    assert (answer.faces, answer.unindexed) == ((), (("LOW_SHARPNESS",),))
    assert [one.body["ExternalImageId"] for one in seen.sent] == [image_id(PHOTO)] * 2
    assert seen.sent[0].body["MaxFaces"] == 7
    assert image_id(PHOTO) != image_id(png(100, 100))
    assert image_id(S3Image("bucket", "key")) != image_id(S3Image("bucket", "key", "2"))
    Rekognition(client).index_faces("c", S3Image("bucket", "key"), "mine")
    assert seen.sent[-1].body["ExternalImageId"] == "mine"
    assert seen.sent[-1].body["Image"] == {"S3Object": {"Bucket": "bucket", "Name": "key"}}


def test_no_face_is_a_result(local: Any, script: Any, clock: Any) -> None:
    """The service sends an error; nothing is retried, no circuit hears of it, no fallback is called for."""
    client = local()
    seen = script(client, NO_FACES)
    adapter = Rekognition(client)
    for _ in range(10):
        assert adapter.search_faces_by_image("c", PHOTO) == Search(())
    assert len(seen.sent) == 10
    seen.replies = [(400, {"__type": "InvalidParameterException", "Message": "Request has invalid parameters"})]
    answer = adapter.compare_faces(PHOTO, PHOTO)
    assert answer == Comparison(None, (), ())
    assert (answer.source, answer.similarity) == (None, None)


def test_a_wrong_parameter_is_no_result(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """The same code with another message stays an error."""
    client = local()
    seen = script(client, failed("InvalidParameterException", message="faceId was not found in the collection"))
    with pytest.raises(Exception, match="InvalidParameter"):
        Rekognition(client).search_faces_by_image("c", PHOTO)
    assert len(seen.sent) == 1


@pytest.mark.parametrize("reply", [("ThrottlingException", 400), ("InternalServerError", 500)])
def test_a_comparison_waits_as_long_as_it_is_told(
    local: Any, script: Any, failed: Any, clock: ManualRuntime, reply: tuple[str, int]
) -> None:
    """Three retries with a factor of 5 and a cap of 1 s: after 0.1, 0.5 and 1 s."""
    client = local()
    seen = script(client, failed(*reply))
    adapter = Rekognition(client, retry=COMPARE.retry, limiter=None)
    with pytest.raises(Exception, match=reply[0]):
        adapter.compare_faces(PHOTO, PHOTO)
    assert clock.slept == pytest.approx([0.1, 0.5, 1.0])
    assert len(seen.sent) == 4


def test_matches_come_best_first(local: Any, script: Any, clock: Any) -> None:
    """With what was searched for, and without a match as an empty result."""
    client = local()
    found = [{"Similarity": s, "Face": STORED} for s in (81.0, 99.5, 90.0)]
    answer = {
        "FaceMatches": found,
        "FaceModelVersion": "7.0",
        "SearchedFaceBoundingBox": BOX,
        "SearchedFaceConfidence": 98,
    }
    seen = script(client, (200, answer), (200, {**answer, "FaceMatches": []}))
    adapter = Rekognition(client)
    search = adapter.search_faces_by_image("c", PHOTO, threshold=70, most=3)
    assert [one.similarity for one in search.matches] == [99.5, 90.0, 81.0]
    assert search.best is search.matches[0]
    assert search.best is not None
    assert search.best.face.external_image_id == "planted-identity"
    assert search.searched is not None
    assert (search.searched.box, search.searched.confidence) == ((0.1, 0.2, 0.3, 0.4), 98.0)
    assert (seen.sent[0].body["FaceMatchThreshold"], seen.sent[0].body["MaxFaces"]) == (70.0, 3)
    assert adapter.search_faces("c", FACE_ID).best is None


def test_a_comparison_tells_matches_and_the_others(local: Any, script: Any, clock: Any) -> None:
    """And the quality of each face."""
    client = local()
    face = {"BoundingBox": BOX, "Confidence": 99.0, "Quality": {"Brightness": 50.0, "Sharpness": 60.0}}
    answer = {
        "SourceImageFace": {"BoundingBox": BOX, "Confidence": 97.0},
        "FaceMatches": [{"Similarity": 95.0, "Face": face}],
        "UnmatchedFaces": [face],
    }
    script(client, (200, answer))
    comparison = Rekognition(client).compare_faces(PHOTO, PHOTO)
    assert comparison.similarity == 95.0
    assert comparison.source is not None
    assert comparison.source.confidence == 97.0
    assert (comparison.unmatched[0].brightness, comparison.unmatched[0].sharpness) == (50.0, 60.0)


def test_listings_are_read_to_their_end_or_as_far_as_wanted(local: Any, script: Any, clock: Any) -> None:
    """Page by page, each under the guard."""
    client = local()
    first, last = {"Faces": [STORED] * 2, "NextToken": "2"}, {"Faces": [STORED]}
    seen = script(client, (200, first), (200, last))
    adapter = Rekognition(client, rates={"ListFaces": 1e6})
    assert len(adapter.list_faces("c")) == 3
    assert [one.body.get("NextToken") for one in seen.sent] == [None, "2"]
    seen.replies = [(200, first)]
    assert len(adapter.list_faces("c", most=5)) == 5
    assert len(seen.sent) == 5
    seen.replies = [(200, {"CollectionIds": ["a"], "NextToken": "2"}), (200, {"CollectionIds": ["b"]})]
    assert adapter.list_collections() == ("a", "b")


def test_deleted_faces_are_told(local: Any, script: Any, clock: Any) -> None:
    """A repetition after a lost answer tells fewer, and is no error."""
    client = local()
    script(client, (200, {"DeletedFaces": [FACE_ID]}))
    assert Rekognition(client).delete_faces("c", [FACE_ID]) == (FACE_ID,)


# -- liveness ------------------------------------------------------------------------------------------------------


def test_attempts_of_creating_a_session_create_one(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """boto3 does not make the token by itself."""
    client = local()
    seen = script(client, failed("InternalServerError", 500), (200, {"SessionId": FACE_ID}))
    assert Rekognition(client).create_liveness_session() == FACE_ID
    assert len({one.body["ClientRequestToken"] for one in seen.sent}) == 1
    Rekognition(client).create_liveness_session(token="mine")
    assert seen.sent[-1].body["ClientRequestToken"] == "mine"


def test_a_status_that_nobody_knows_is_no_result(local: Any, script: Any, clock: Any) -> None:
    """As a fault of the answer, which is asked for once: it will not get better."""
    client = local()
    seen = script(client, (200, {"SessionId": FACE_ID, "Status": "planted"}))
    with pytest.raises(DamagedAnswerError, match="its status is none that is known") as caught:
        Rekognition(client).liveness_result(FACE_ID)
    assert "planted" not in str(caught.value)
    assert len(seen.sent) == 1


@pytest.mark.parametrize("status", ["FAILED", "EXPIRED", "SUCCEEDED", "CREATED", "IN_PROGRESS"])
def test_how_a_session_ended_is_a_result(local: Any, script: Any, clock: Any, status: str) -> None:
    """Also a bad end: only a new session helps."""
    client = local()
    answer = {"SessionId": FACE_ID, "Status": status, "Confidence": 12.5, "ReferenceImage": {"Bytes": "cGxhbnRlZA=="}}
    seen = script(client, (200, answer))
    result = Rekognition(client).liveness_result(FACE_ID)
    assert (result.status, result.confidence) == (LivenessStatus(status), 12.5)
    assert result.finished is (status in ("FAILED", "EXPIRED", "SUCCEEDED"))
    assert result.reference_image == b"planted"
    assert "planted" not in repr(result)
    assert len(seen.sent) == 1


# -- money, privacy, async -----------------------------------------------------------------------------------------


def test_the_daily_cap_stops_paid_calls(local: Any, script: Any, clock: ManualRuntime) -> None:
    """And a fallback may answer them."""
    client = local()
    seen = script(client, (200, {"FaceDetails": []}))
    adapter = Rekognition(client, meter=CostMeter(0.002))
    adapter.detect_faces(PHOTO)
    adapter.detect_faces(PHOTO)
    with pytest.raises(CircuitOpenError):
        adapter.detect_faces(PHOTO)
    assert len(seen.sent) == 2


def test_nothing_about_people_reaches_a_text(
    local: Any, script: Any, failed: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Marked bytes and a marked identity, looked for in events, logs, errors and representations."""
    told: list[Any] = []
    RUNTIME.listen(told.append)
    caplog.set_level(logging.DEBUG, "resilient_faces")
    client = local()
    marked = PHOTO + b"planted-bytes"
    stored = (200, {"FaceRecords": [{"Face": STORED}], "FaceModelVersion": "7.0"})
    seen = script(client, failed("InternalServerError", 500), failed("ThrottlingException"), stored)
    adapter = Rekognition(client)
    texts = [repr(adapter.index_faces("c", marked, "planted-identity"))]
    seen.replies = [failed("InternalServerError", 500)]
    for _ in range(3):
        with pytest.raises(Exception, match=r".") as raised:
            adapter.index_faces("c", marked, "planted-identity")
        texts += [str(raised.value), repr(raised.value)]
    seen.replies = [(200, {"FaceMatches": [{"Similarity": 99.0, "Face": STORED}], "FaceModelVersion": "7.0"})]
    texts.append(repr(adapter.search_faces("c", FACE_ID)))
    texts.append(repr(S3Image("bucket", "planted-key")))
    texts += [json.dumps(one.to_dict()) for one in told]
    texts += [one.getMessage() for one in caplog.records if one.name.startswith("resilient_faces")]
    assert len(told) > 5
    assert not [text for text in texts if "planted" in text]


def test_both_faces_have_the_same_methods() -> None:
    """With the same parameters."""

    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(cls).items()
            if not name.startswith("_") and callable(method)
        }

    assert methods(AsyncRekognition) == methods(Rekognition)
    assert all(inspect.iscoroutinefunction(getattr(AsyncRekognition, name)) for name in methods(Rekognition))


# -- against the local endpoint ------------------------------------------------------------------------------------


class ByShade:
    """An engine that sees one face in every picture that is not black, and knows it by the picture's shade."""

    name = "by-shade"
    space = "shades"
    names_people = False

    def detect(self, picture: Any) -> tuple[Any, ...]:
        from resilient_faces.adapters.recogniser import Face

        if picture.pixels.mean() < 10:
            return ()
        return (Face((picture.width // 4, picture.height // 4, picture.width * 3 // 4, picture.height * 3 // 4), 0.9),)

    def embed(self, picture: Any, faces: tuple[Any, ...]) -> Any:
        import numpy as np

        angle = float(picture.pixels.mean()) / 255 * np.pi / 2
        return np.array([(np.cos(angle), np.sin(angle))] * len(faces), np.float32).reshape(len(faces), 2)

    def similarity(self, cosine: float) -> float:
        return min(100.0, max(0.0, 100 * cosine))


def shade(value: int, side: int = 160) -> bytes:
    import PIL.Image

    sink = io.BytesIO()
    PIL.Image.new("L", (side, side), value).save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture
def endpoint(resilience: None) -> Iterator[str]:
    """The local endpoint, in this process."""
    pytest.importorskip("skimage", reason="the extra `demo` is not installed")
    from resilient_faces.adapters.local_rekognition import RekognitionServer, RekognitionService

    service = RekognitionService(ByShade())
    server = RekognitionServer(service)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.url
    finally:
        server.shutdown()
        server.server_close()
        service.close()


def test_every_method_against_the_endpoint(endpoint: str) -> None:
    """Real requests over HTTP, real answers."""
    client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(endpoint))
    adapter = Rekognition(client, **UNGUARDED)
    adapter.create_collection("c")
    adapter.create_collection("c")
    assert adapter.list_collections() == ("c",)
    (face,) = adapter.index_faces("c", shade(200), "light").faces
    again = adapter.index_faces("c", shade(200), "light")
    adapter.index_faces("c", shade(60), "dark")
    assert adapter.describe_collection("c").faces == 2, "the repetition stored nothing"
    assert [one.face_id for one in again.faces] in ([face.face_id], [])
    found = adapter.search_faces_by_image("c", shade(198), threshold=90)
    assert [one.face.external_image_id for one in found.matches] == ["light"]
    assert adapter.search_faces_by_image("c", shade(0)).searched is None
    assert face.face_id is not None
    assert adapter.search_faces("c", face.face_id, threshold=99).best is None
    assert adapter.compare_faces(shade(200), shade(199)).matches
    assert adapter.compare_faces(shade(200), shade(0)).source is None
    assert len(adapter.detect_faces(shade(200))) == 1
    assert adapter.detect_faces(shade(0)) == ()
    assert {one.external_image_id for one in adapter.list_faces("c")} == {"light", "dark"}
    assert len(adapter.list_faces("c", most=1)) == 1
    assert adapter.delete_faces("c", [face.face_id]) == (face.face_id,)
    session = adapter.create_liveness_session(token="one")
    assert adapter.create_liveness_session(token="one") == session
    assert adapter.liveness_result(session).status is LivenessStatus.created
    assert adapter.delete_collection("c") is True
    assert adapter.delete_collection("c") is False
    client.close()


def test_the_async_face_against_the_endpoint(endpoint: str) -> None:
    """The same from a coroutine."""
    import anyio

    client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(endpoint))

    async def main() -> int:
        adapter = AsyncRekognition(Rekognition(client))
        await adapter.create_collection("c")
        await adapter.index_faces("c", shade(200), external_image_id="light")
        return (await adapter.describe_collection("c")).faces

    assert anyio.run(main) == 1
    client.close()
