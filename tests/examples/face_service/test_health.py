"""Health: live whatever happens, ready unless something critical is missing, each dependency by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from face_service.testing import Service, StubEngine, picture, until
from resilient_faces import circuits, services
from resilient_faces.adapters.insightface import PackError


def health(service: Service) -> dict[str, Any]:
    answer = service.ask("GET", "/health", key=None)
    found: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if found["ready"] else 503)
    assert found["live"] is True
    return found


def test_all_is_well(service: Service) -> None:
    """Each dependency is named, and sessions are counted."""
    found = health(service)
    assert (found["schema"], found["status"], found["ready"]) == (1, "healthy", True)
    assert set(found["services"]) == {"insightface", "gallery", "cameras", "webhook-receivers"}
    assert found["sessions"] == {"active": 0, "cameras": 0, "camerasDead": 0, "receiversFailing": 0}


def test_an_open_circuit_never_fails_liveness(start: Callable[..., Service]) -> None:
    """Not even a critical one: a new process would have the same dependency. Readiness may say no."""
    service = start(model="critical")
    circuits["insightface"].force_open()
    assert service.ask("GET", "/health/live", key=None).json() == {"status": "live"}
    ready = service.ask("GET", "/health/ready", key=None)
    assert (ready.status_code, ready.json()) == (503, {"status": "not_ready"})
    assert health(service)["status"] == "unhealthy"


def test_a_dead_camera_is_told(service: Service) -> None:
    """Optional: the service is degraded, and stays ready."""
    service.begin(1, "c1", "c2")
    service.portal.call(service.cameras["c1"].die)
    until(lambda: health(service)["services"]["cameras"]["status"] == "degraded")
    found = health(service)
    assert (found["status"], found["ready"]) == ("degraded", True)
    assert found["services"]["cameras"]["reason"] == "camera.dead"
    assert {name: found["sessions"][name] for name in ("active", "cameras", "camerasDead")} == {
        "active": 1,
        "cameras": 2,
        "camerasDead": 1,
    }
    service.ask("POST", "/sessions/1/stop")
    assert health(service)["services"]["cameras"]["status"] == "healthy"


def test_a_receiver_that_fails_is_told(service: Service) -> None:
    """A webhook that was given up degrades the receivers."""
    service.begin(1, "c1", "c2")
    service.portal.call(service.cameras["c1"].die)
    until(lambda: health(service)["services"]["webhook-receivers"]["status"] == "degraded")
    assert health(service)["sessions"]["receiversFailing"] == 1


class Moments:
    """A pack that is missing, damaged or there, as the test says; its files change with it."""

    def __init__(self, pack: Path) -> None:
        self.pack = pack
        self.reason = "missing"
        self.loads = 0

    def make(self, pack: Path) -> StubEngine:
        self.loads += 1
        if self.reason:
            raise PackError(self.reason, f"{pack} is {self.reason}")
        return StubEngine()

    def becomes(self, reason: str) -> None:
        self.reason = reason
        self.pack.mkdir(parents=True, exist_ok=True)
        (self.pack / "det.onnx").write_text(reason or "whole")


def test_a_model_that_appears_is_taken_into_use(tmp_path: Path, resilience: None, caplog: Any) -> None:
    """Missing, damaged, whole: the service starts, says why, and works without a restart and without being asked."""
    service = Service(tmp_path, look_every=0.1)
    moments = Moments(service.settings.pack_directory)
    service.make = moments.make
    with service:
        said = [(one.levelname, one.getMessage()) for one in caplog.records]
        assert any(level == "ERROR" and "Failed to load InsightFace model" in text for level, text in said)
        warning = "Service starting without model - recognition endpoints will fail"
        assert ("WARNING", warning) in said

        def reason() -> str:
            return str(health(service)["services"]["insightface"]["reason"])

        assert reason() == "insightface.pack_missing"
        assert health(service)["services"]["gallery"]["reason"] == "gallery.waits_for_model"
        assert health(service)["status"] == "degraded"
        assert service.embed(picture()).json()["reason"] == "insightface.pack_missing"
        assert service.enrol("ann").json()["code"] == "GALLERY_UNAVAILABLE"
        moments.becomes("damaged")
        until(lambda: reason() == "insightface.pack_damaged")
        assert service.embed(picture()).json()["reason"] == "insightface.pack_damaged"
        moments.becomes("")
        until(lambda: health(service)["status"] == "healthy")
        assert service.embed(picture()).status_code == 200
        assert service.enrol("ann").status_code == 200
        assert health(service)["services"]["insightface"]["recoveries"] == 1


def test_an_error_of_looking_ends_nothing(
    tmp_path: Path, resilience: None, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    """An engine that cannot embed yet, say: the service starts, looks again, and its text is in no log."""
    monkeypatch.setattr("face_service.watching.TICK", 0.02)
    text, broken = "pl4nted", True

    class Slow(StubEngine):
        def embed(self, picture: Any, faces: Any) -> Any:
            if broken:
                raise RuntimeError(text)
            return super().embed(picture, faces)

    with Service(tmp_path, Slow()) as service:
        assert service.ask("GET", "/people").json()["reason"] == "gallery.failed"
        assert health(service)["services"]["gallery"]["reason"] == "gallery.failed"
        with monkeypatch.context() as patched:
            patched.setattr(service.parts.frames, "look", None)  # calling it raises
            until(lambda: "Failed to look for model and gallery: TypeError" in everything.text)
        broken = False
        until(lambda: service.ask("GET", "/people").status_code == 200)
        assert health(service)["status"] == "healthy"
    assert "The gallery cannot be used: RuntimeError" in everything.text
    assert "pl4nted" not in everything.text


def test_sessions_run_without_a_model(tmp_path: Path, resilience: None) -> None:
    """A session may be begun before the model is there."""
    service = Service(tmp_path)
    service.make = Moments(tmp_path / "pack").make
    with service:
        assert service.begin(1).status_code == 200


def test_health_says_nothing_of_people_or_addresses(service: Service) -> None:
    """It is asked without a key."""
    service.enrol("pl4nted", 10)
    service.begin(1)
    text = service.ask("GET", "/health", key=None).text
    assert "pl4nted" not in text
    assert "school.example" not in text
    services.degrade("cameras", "camera.dead")
    assert service.ask("GET", "/health/ready", key=None).json() == {"status": "ready"}
