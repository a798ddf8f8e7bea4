"""Sessions through the service: begun, asked for, stopped, and what is said when that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from face_service.testing import CALLBACK, RTSP, Service, until
from face_service.watching import _Known
from resilient_faces.adapters.gallery import Gallery
from resilient_faces.adapters.insightface import Sightings

Lines = Callable[[str], list[tuple[str, str]]]


def test_a_session_is_begun(service: Service) -> None:
    """From slot, callback and cameras; the answer says how it stands, and repeats no address."""
    answer = service.begin(7, "c1", "c2")
    assert answer.status_code == 200
    assert answer.json()["status"] == 200
    data = answer.json()["data"]
    assert (data["slotId"], data["mode"], data["ended"]) == (7, "ATTENDANCE", None)
    assert [(one["id"], one["name"], one["state"]) for one in data["cameras"]] == [
        ("c1", "Camera c1", "opening"),
        ("c2", "Camera c2", "opening"),
    ]
    assert "pl4nted" not in answer.text
    assert service.ask("GET", "/sessions/7").json()["data"]["slotId"] == 7
    assert [one["slotId"] for one in service.ask("GET", "/sessions").json()["data"]] == [7]


def test_a_camera_may_be_called_by_a_number(service: Service) -> None:
    """Back ends number their cameras, and may leave names and modes out."""
    body = {"slotId": 1, "callbackUrl": CALLBACK, "cameras": [{"id": 12, "rtspUrl": RTSP}], "mode": "EXAM"}
    data = service.ask("POST", "/sessions", json=body).json()["data"]
    assert data["mode"] == "EXAM"
    assert (data["cameras"][0]["id"], data["cameras"][0]["name"]) == ("12", "12")


def test_a_slot_has_one_session(service: Service, lines: Lines) -> None:
    """409 with the document's words; it is logged, and the session that is there goes on."""
    service.begin(7)
    answer = service.begin(7)
    assert answer.status_code == 409
    assert answer.json() == {
        "status": 409,
        "message": "Session already exists for slot 7",
        "code": "SESSION_ALREADY_EXISTS",
    }
    assert ("WARNING", "SESSION_EXISTS | slot=7") in lines("resilient_faces.session")
    assert service.ask("GET", "/sessions/7").status_code == 200


def test_a_session_is_stopped(service: Service) -> None:
    """The answer comes when nothing of it is left: its camera is closed, the slot is free."""
    service.begin(7)
    camera = service.cameras["c1"]
    answer = service.ask("POST", "/sessions/7/stop")
    assert answer.status_code == 200
    assert answer.json()["data"]["ended"] == "requested"
    assert camera.closed == 1
    assert service.ask("GET", "/sessions/7").status_code == 404
    assert service.begin(7).status_code == 200


def test_what_is_not_there_cannot_be_stopped(service: Service) -> None:
    """404, like asking for it."""
    for answer in (service.ask("POST", "/sessions/7/stop"), service.ask("GET", "/sessions/7")):
        assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")


def test_a_stop_that_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    """500 with its own code, without the error's text."""

    secret = "pl4nted"

    async def broken(slot: int) -> Any:
        raise RuntimeError(secret)

    monkeypatch.setattr(service.parts.sessions, "stop", broken)
    answer = service.ask("POST", "/sessions/7/stop")
    assert (answer.status_code, answer.json()["code"]) == (500, "STOP_SESSION_FAILED")
    assert "pl4nted" not in answer.text + everything.text


def test_cameras_cannot_be_looked_up(service: Service) -> None:
    """By their id: 501."""
    answer = service.ask("GET", "/cameras/c1")
    assert (answer.status_code, answer.json()["code"]) == (501, "NOT_IMPLEMENTED")


def test_how_a_session_ended_is_remembered(service: Service) -> None:
    """Once all its cameras are dead it is gone, and whoever asks learns why."""
    service.begin(7, "c1", "c2")
    for one in ("c1", "c2"):
        service.portal.call(service.cameras[one].die)
    until(lambda: service.ask("GET", "/sessions/7").status_code == 404)
    until(lambda: service.ask("GET", "/sessions/7").json()["code"] == "ALL_CAMERAS_FAILED")
    service.begin(8)
    service.ask("POST", "/sessions/8/stop")
    until(lambda: service.ask("GET", "/sessions/8").json().get("reason") == "requested")
    assert service.ask("GET", "/sessions/8").json()["code"] == "SESSION_NOT_FOUND"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://school.example/hook", "must begin with https"),
        ("https://school.example:22/hook", "must use a port that callbacks may use"),
        ("https://pl4nted:pl4nted@school.example/", "must not hold a user or password"),
        ("https://127.0.0.1/hook", "must not lead to an address that callbacks may not reach"),
        ("https://169.254.169.254/latest", "must not lead to an address that callbacks may not reach"),
        ("https://[::1]/hook", "must not lead to an address that callbacks may not reach"),
        ("https://", "must be a URL with a host"),
    ],
)
def test_a_callback_may_not_go_everywhere(service: Service, url: str, said: str) -> None:
    """It is refused when the session is begun: 422, with its place, without the URL."""
    answer = service.begin(1, callbackUrl=url)
    assert answer.status_code == 422
    assert answer.json()["detail"] == [{"type": "value_error", "loc": ["body", "callbackUrl"], "msg": said}]
    assert service.ask("GET", "/sessions").json()["data"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"slotId": -1},
        {"slotId": 1.5},
        {"slotId": "one"},
        {"callbackUrl": "ftp://school.example"},
        {"callbackUrl": "https://school.example/" + "x" * 3000},
        {"cameras": []},
        {"cameras": [{"id": "c", "name": "n", "rtspUrl": "file:///etc/passwd"}]},
        {"cameras": [{"id": "c", "name": "n", "rtspUrl": "/dev/video0"}]},
        {"cameras": [{"id": "c", "name": "n", "rtspUrl": "http://camera/"}]},
        {"cameras": [{"id": "c", "name": "n", "rtspUrl": "rtsp://us:er@:x"}]},
        {"cameras": [{"id": "c c", "name": "n", "rtspUrl": RTSP}]},
        {"cameras": [{"id": "c", "name": "a\nb", "rtspUrl": RTSP}]},
        {"cameras": [{"id": "c", "rtspUrl": RTSP}, {"id": "c", "rtspUrl": RTSP}]},
        {"cameras": [{"id": "1", "rtspUrl": RTSP}, {"id": 1, "rtspUrl": RTSP}]},
        {"cameras": [{"id": f"c{number}", "rtspUrl": RTSP} for number in range(33)]},
        {"mode": "two words"},
        {"callbackURL": "https://school.example"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_request_that_cannot_be(service: Service, change: dict[str, Any], everything: Any) -> None:
    """422 and no session; cameras are RTSP and nothing else, mistyped members are refused, no address is repeated."""
    answer = service.begin(1, **change)
    assert answer.status_code == 422
    assert answer.json()["message"] == "Request validation failed"
    assert service.cameras == {}
    assert "pl4nted" not in answer.text + everything.text
    assert "passwd" not in answer.text + everything.text


@pytest.mark.parametrize(
    ("cameras", "place", "said"),
    [
        ([{"id": "1", "rtspUrl": RTSP}, {"id": 1, "rtspUrl": RTSP}], [], "must have different ids"),
        ([{"id": number, "rtspUrl": RTSP} for number in range(33)], [], "must be 32 cameras at most"),
        (
            [{"id": "1", "rtspUrl": RTSP}, {"id": "2", "rtspUrl": "rtsp://us:er@:x"}],
            [1, "rtspUrl"],
            "must be a URL with a host; percent-encode what user and password have of :/?#[]@ and blanks",
        ),
    ],
    ids=["twice", "too many", "no host"],
)
def test_what_is_wrong_with_cameras_is_told_by_its_place(
    service: Service, cameras: list[Any], place: list[Any], said: str
) -> None:
    """Rule and place, also where one request contradicts itself."""
    assert service.begin(1, cameras=cameras).json()["detail"] == [
        {"type": "value_error", "loc": ["body", "cameras", *place], "msg": said}
    ]


def test_sessions_at_a_time_are_bounded(start: Callable[..., Service]) -> None:
    """One too many is told to come again; a slot that has one is a conflict as ever."""
    service = start(sessions=2)
    assert [service.begin(slot).status_code for slot in (1, 2)] == [200, 200]
    answer = service.begin(3)
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_BUSY")
    assert service.begin(2).status_code == 409
    service.ask("POST", "/sessions/1/stop")
    assert service.begin(3).status_code == 200


def test_a_shutdown_stops_and_counts(tmp_path: Path, resilience: None, lines: Lines) -> None:
    """All sessions are stopped and counted, their cameras closed, in the document's words."""
    with Service(tmp_path) as service:
        service.begin(1, "c1", "c2")
        service.begin(2, "c3")
        cameras = list(service.cameras.values())
    assert all(camera.closed == 1 for camera in cameras)
    own = [line for _, line in lines("face_service")]
    assert own[-2:] == ["Shutting down service...", "Service shutdown complete"]
    assert ("INFO", "Cleanup complete: 3 tasks, 2 sessions") in lines("resilient_faces.session")


def test_frames_are_looked_at_with_the_gallery_that_is_open(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not anybody is enrolled; without a gallery the reason is told, and nobody is searched for."""
    frame = np.full((32, 32, 3), 200, np.uint8)
    known = _Known(service.parts.frames, service.parts.people)

    def look() -> Sightings:
        return service.portal.call(known.arecognise, frame, Gallery("another"))

    empty = look()
    assert (empty.reason, empty.found[0].match.reason) == ("", "empty")
    service.enrol("ann", 200)
    assert look().found[0].match.identity == "ann"
    monkeypatch.setattr(service.parts.people, "_gallery", None)
    monkeypatch.setattr(service.parts.people, "_reason", "gallery.damaged")
    assert look() == Sightings(reason="gallery.damaged")


def test_addresses_reach_no_log(service: Service, everything: pytest.LogCaptureFixture) -> None:
    """Passwords of cameras and tokens of callbacks: neither in a line nor in an answer."""
    service.begin(1)
    service.portal.call(service.cameras["c1"].die)
    until(lambda: service.ask("GET", "/sessions/1").status_code == 404)
    assert "pl4nted" not in everything.text
