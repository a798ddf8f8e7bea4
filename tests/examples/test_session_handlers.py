"""`examples/session_handlers.py`: 003-18, 003-19, 003-23, 003-25 and 003-32 as one program."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resilient_faces import RetryableError, circuits, services
from resilient_faces.breaker import State
from resilient_faces.testing import ManualRuntime

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "session_handlers.py"
SPEAKER = {"role": "speaker", "session": "s-1", "token": "t"}
LISTENER = {"role": "listener", "session": "s-2"}


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_session_handlers", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def backend(program: ModuleType, clock: ManualRuntime) -> Any:
    return program.ScriptedBackend()


@pytest.fixture
def handlers(program: ModuleType, backend: Any) -> Any:
    return program.SessionHandlers(backend)


def body(response: Any) -> Any:
    return json.loads(response["body"])


def test_it_runs_as_it_stands() -> None:
    """One command, no account, no waiting."""
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("as expected\n")
    assert "rate limiting is off" in done.stdout


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_connect_and_disconnect_retry(handlers: Any, backend: Any, clock: ManualRuntime, name: str) -> None:
    """Up to three times, 1, 2, 4 s; then 503, and the session table is marked."""
    operation = {"connect": "put", "disconnect": "delete"}[name]
    clock.chance = 0.0
    backend.scripts = {operation: [RetryableError()] * 3}
    assert getattr(handlers, name)(SPEAKER)["statusCode"] == 200
    assert clock.slept == [1.0, 2.0, 4.0]
    backend.scripts = {operation: [RetryableError()] * 4}
    response = getattr(handlers, name)(SPEAKER)
    assert response["statusCode"] == 503
    assert response["headers"]["Retry-After"] == "30"
    assert services.health().http_status == 503
    assert getattr(handlers, name)(SPEAKER)["statusCode"] == 200
    assert services.health().http_status == 200


def test_heartbeat_goes_through_the_breaker(handlers: Any, backend: Any, clock: ManualRuntime) -> None:
    """Five failures open it, then the table is left alone; after 30 s one probe finds it well."""
    backend.scripts = {"touch": [RetryableError()] * 5}
    for _ in range(5):
        assert handlers.heartbeat(SPEAKER)["statusCode"] == 503
    assert circuits["session-table"].state is State.open
    backend.calls.clear()
    clock.advance(12.0)
    response = handlers.heartbeat(SPEAKER)
    assert (response["statusCode"], response["headers"]["Retry-After"]) == (503, "18")
    assert backend.calls == []
    clock.advance(18.0)
    assert body(handlers.heartbeat(SPEAKER)) == {"health": "healthy"}
    assert clock.slept == []


def test_limits_are_off_while_their_table_is_unavailable(
    handlers: Any, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Allowed, with a warning; optional, so the service is degraded and serves; it comes back by itself."""
    backend.scripts = {"limit": [OSError(), OSError()]}
    with caplog.at_level(logging.WARNING):
        assert handlers.connect(SPEAKER)["statusCode"] == 200
    warned = [(record.levelname, record.name) for record in caplog.records]
    assert warned == [("WARNING", "resilient_faces.services"), ("WARNING", "session_service")]
    assert services.degraded() == ("rate-limits",)
    assert services.health().http_status == 200
    handlers.connect(SPEAKER)
    handlers.connect(SPEAKER)
    assert services.degraded() == ()


def test_limits_hold_otherwise(handlers: Any, backend: Any) -> None:
    """Over the limit is refused, and nothing is written."""
    backend.scripts = {"limit": [True]}
    assert handlers.connect(SPEAKER)["statusCode"] == 429
    assert "put" not in backend.calls


def test_listeners_come_in_anonymously(program: ModuleType, handlers: Any, backend: Any) -> None:
    """While Cognito is unavailable; speakers are refused and nothing is written for them."""
    backend.scripts = {"identify": [program.CognitoUnavailable(), program.CognitoUnavailable()]}
    assert body(handlers.connect(LISTENER)) == {"session": "s-2", "anonymous": True}
    backend.calls.clear()
    response = handlers.connect(SPEAKER)
    assert response["statusCode"] == 503
    assert body(response)["allowed"] is False
    assert backend.calls == ["identify"]
    assert services.health().status == "degraded"
    assert body(handlers.connect(SPEAKER)) == {"session": "s-1", "anonymous": False}
    assert services.health().status == "healthy"


def test_the_show_notices_a_wrong_answer(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A show that cannot fail shows nothing."""
    monkeypatch.setattr(program.SessionHandlers, "_limits_are_off", lambda self, user: True)
    assert program.show(lambda _: None) != []
