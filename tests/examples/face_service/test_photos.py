"""Photos that come in: which are taken, what is said of the others, and what none of them can do."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from face_service.testing import Service, StubEngine, picture, until

PNG = picture()
JPEG = picture(kind="JPEG")


def said(response: object) -> tuple[int, str]:
    status, body = response.status_code, response.json()  # type: ignore[attr-defined]
    assert body["status"] == status, "the code in the body is the answer's own"
    return status, body["code"]


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(b"\0" * (width + 1)) for _ in range(min(height, 64))) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def descriptors() -> int:
    """How many this process has open, where the system tells."""
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


@pytest.mark.parametrize(("photo", "name"), [(PNG, "a.png"), (JPEG, "a.jpg"), (PNG, "a.jpg"), (JPEG, "a.exe")])
def test_a_photo_becomes_an_embedding(service: Service, photo: bytes, name: str) -> None:
    """What was asked for, whatever the file is called: the content says what it is."""
    answer = service.embed(photo, name=name, submission=7)
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == 200
    data = body["data"]
    assert data["submissionId"] == 7
    assert len(data["embedding"]) == 8
    assert sum(number**2 for number in data["embedding"]) == pytest.approx(1.0)
    assert (data["space"], data["quality"]) == ("stub", 0.93)
    assert data["box"] == {"left": 0.0, "top": 0.0, "width": 0.5, "height": 1.0}


@pytest.mark.parametrize("faces", [0, 3])
def test_a_photo_must_show_one_person(service: Service, faces: int) -> None:
    """No face and several are answers of their own, with 400 and the document's codes."""
    service.engine.faces = faces
    answer = service.embed(PNG)
    assert said(answer) == (400, "NO_FACE_IN_PHOTO" if faces == 0 else "MULTIPLE_FACES_DETECTED")


def test_a_poor_face_is_told_its_score(service: Service) -> None:
    """With two decimals, in the document's words."""
    service.engine.score = 0.456
    answer = service.embed(PNG)
    assert said(answer) == (400, "LOW_QUALITY_FACE")
    assert answer.json()["message"] == "Face quality too low (score: 0.46)"


BAD = {
    "nothing": (b"", 400, "PHOTO_FILE_NOT_FOUND"),
    "a text": (b"hello", 400, "INVALID_FILE_FORMAT"),
    "a GIF": (b"GIF89a" + b"\0" * 100, 400, "INVALID_FILE_FORMAT"),
    "the beginning of a JPEG": (JPEG[:200], 400, "INVALID_FILE_FORMAT"),
    "a PNG cut in its data": (PNG[: len(PNG) * 2 // 3], 400, "INVALID_FILE_FORMAT"),
    "a bomb": (png_of(30_000, 30_000), 413, "PHOTO_TOO_LARGE"),
    "a bomb that Pillow refuses": (png_of(60_000, 60_000), 413, "PHOTO_TOO_LARGE"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_photo_is_refused(service: Service, name: str) -> None:
    """Each with its own code; nothing is searched, and the next photo is taken as ever."""
    photo, status, code = BAD[name]
    assert said(service.embed(photo)) == (status, code)
    assert service.engine.looked == 0
    assert service.embed(PNG).status_code == 200


@pytest.mark.parametrize(
    "files", [{}, {"picture": ("a.png", PNG)}, {"photo": ("", b"")}, {"photo": (None, b"text")}], ids=str
)
def test_a_form_without_its_photo(service: Service, files: dict[str, object]) -> None:
    """No part, a part of another name, one that names no file, one that is a text."""
    form = {"submissionId": (None, "7"), **files}
    assert said(service.ask("POST", "/embeddings/generate", files=form)) == (400, "PHOTO_FILE_REQUIRED")


def test_what_is_no_form(service: Service) -> None:
    """A photo in a body of its own is not looked into: 415."""
    for body in ({"content": PNG, "headers": {"content-type": "image/png"}}, {"json": {"photo": "x"}}, {}):
        assert said(service.ask("POST", "/embeddings/generate", **body)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("submission", ["", "seven", "1.5", "-1", str(2**60), "9" * 5000])
def test_the_submission_is_a_number(service: Service, submission: str) -> None:
    """422, with its place and rule, and without what was sent."""
    answer = service.embed(PNG, submission=submission)
    assert answer.status_code == 422
    body = answer.json()
    assert body["message"] == "Request validation failed"
    (detail,) = body["detail"]
    assert detail["loc"] == ["body", "submissionId"]
    assert set(detail) == {"type", "loc", "msg"}
    assert service.engine.looked == 0


def test_any_other_error_is_a_500_without_its_text(
    service: Service, everything: pytest.LogCaptureFixture, lines: Callable[[str], list[tuple[str, str]]]
) -> None:
    """The caller learns that it failed, the log learns where and of which class: nobody learns what it said."""
    service.engine.raises = RuntimeError("pl4nted: /srv/models/secret.onnx")
    answer = service.embed(PNG)
    assert said(answer) == (500, "IMAGE_PROCESSING_FAILED")
    assert answer.json()["message"] == "Failed to process photo"
    assert "pl4nted" not in answer.text
    assert "pl4nted" not in everything.text
    ((level, line),) = lines("face_service.photos")
    assert level == "ERROR"
    assert "RuntimeError" in line
    assert "in detect" in line


def test_an_open_circuit_answers_for_the_model(service: Service) -> None:
    """After five failures nobody is sent to it: 503 with Retry-After and the reason; liveness is untouched."""
    service.engine.raises = RuntimeError("broken")
    assert {said(service.embed(PNG)) for _ in range(5)} == {(500, "IMAGE_PROCESSING_FAILED")}
    answer = service.embed(PNG)
    assert said(answer) == (503, "MODEL_NOT_AVAILABLE")
    assert answer.json()["reason"] == "insightface.circuit_open"
    assert int(answer.headers["retry-after"]) >= 1
    assert service.engine.looked == 5
    assert service.ask("GET", "/health/live", key=None).status_code == 200
    health = service.ask("GET", "/health", key=None)
    assert health.status_code == 200
    assert health.json()["services"]["insightface"]["status"] == "degraded"


def test_business_answers_open_no_circuit(service: Service) -> None:
    """A hundred photos without a face say nothing about the model."""
    service.engine.faces = 0
    for _ in range(20):
        assert said(service.embed(PNG))[1] == "NO_FACE_IN_PHOTO"
    service.engine.faces = 1
    assert service.embed(PNG).status_code == 200


def test_a_large_photo_is_shrunk_while_it_is_unpacked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve million pixels come to the engine as no more than 2048 a side; the box is told in shares."""
    sizes: list[tuple[int, int]] = []
    detect = service.engine.detect

    def noting(shown: object) -> object:
        sizes.append((shown.width, shown.height))  # type: ignore[attr-defined]
        return detect(shown)  # type: ignore[arg-type]

    monkeypatch.setattr(service.engine, "detect", noting)
    for kind in ("JPEG", "PNG"):
        answer = service.embed(picture(4000, 3000, kind=kind))
        assert answer.status_code == 200
        assert answer.json()["data"]["box"]["width"] == pytest.approx(0.5)
    assert sizes == [(2048, 1536)] * 2


def test_more_pixels_than_the_settings_say(start: Callable[..., Service]) -> None:
    """The limit is the service's own, told from the header."""
    service = start(photo_pixels=10_000)
    assert service.embed(picture(100, 100)).status_code == 200
    answer = service.embed(picture(101, 100))
    assert said(answer) == (413, "PHOTO_TOO_LARGE")
    assert "10000 pixels" in answer.json()["message"]


def test_few_photos_are_searched_at_a_time(start: Callable[..., Service]) -> None:
    """So many as the settings say; the others wait for their turn, and the event loop for nobody."""
    service = start(decodings=2)
    inside: list[int] = []
    most, lock, go = 0, threading.Lock(), threading.Event()

    def hold() -> None:
        nonlocal most
        with lock:
            inside.append(1)
            most = max(most, len(inside))
        go.wait(10.0)
        with lock:
            inside.pop()

    service.engine.hold = hold
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(service.embed(PNG).status_code)) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(inside) == 2)
    assert service.ask("GET", "/health/live", key=None).status_code == 200
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * 5
    assert most == 2


def test_one_photo_too_many_is_told_to_come_again(
    start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue for a turn is bounded: 503 with Retry-After, not a wait without end."""
    monkeypatch.setattr("face_service.photos.MOST_WAITING", 0)
    service = start(decodings=1)
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go.wait(10.0)

    service.engine.hold = hold
    first = threading.Thread(target=lambda: service.embed(PNG))
    first.start()
    inside.wait(10.0)
    answer = service.embed(PNG)
    go.set()
    first.join()
    assert said(answer) == (503, "SERVICE_BUSY")
    assert "retry-after" in answer.headers


def test_no_temporary_file_is_left(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of an upload of several megabytes: no file, and no descriptor."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    noise = PIL.Image.frombytes("RGB", (1200, 1200), os.urandom(1200 * 1200 * 3))
    sink = io.BytesIO()
    noise.save(sink, "PNG")
    large = sink.getvalue()
    assert len(large) > 4_000_000
    service.embed(large)
    before = descriptors()
    for photo in (large, large[:-100], b"GIF89a" + large):
        service.embed(photo)
        service.engine.raises = RuntimeError("broken")
        service.embed(photo)
        service.engine.raises = None
    assert list(place.iterdir()) == []
    assert descriptors() <= before


def test_pictures_reach_no_log(service: Service, everything: pytest.LogCaptureFixture) -> None:
    """Neither bytes of a photo, nor its name, nor the numbers made of it."""
    marked = picture(kind="PNG")
    marked = marked[:-12] + b"\0\0\0\x07tEXtPL4NTED\0\0\0\0" + marked[-12:]
    answer = service.embed(marked, name="pl4nted-name.png")
    assert answer.status_code in {200, 400}
    service.embed(b"pl4nted-bytes", name="pl4nted-name.png")
    service.embed(PNG, submission="pl4nted-number")
    assert "pl4nted" not in everything.text.lower()
    assert "0.93" not in everything.text


def test_without_a_model_it_says_so(tmp_path: Path, resilience: None) -> None:
    """503 with the document's words, the reason, and when to come again."""
    from resilient_faces.adapters.insightface import PackError

    def missing(pack: Path) -> StubEngine:
        raise PackError("missing", f"nothing in {pack}")

    service = Service(tmp_path)
    service.make = missing
    with service:
        answer = service.embed(PNG)
        assert said(answer) == (503, "MODEL_NOT_AVAILABLE")
        assert answer.json()["message"] == "Face model not initialized"
        assert answer.json()["reason"] == "insightface.pack_missing"
        assert "retry-after" in answer.headers
