"""Lines in words of their own: written once, never left out, with their event; other listeners hear it too."""

from __future__ import annotations

import logging

import pytest

from resilient_faces._core.context import event
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.events import Event
from resilient_faces.telemetry import JsonFormatter
from resilient_faces.telemetry.lines import Line, place_of
from resilient_faces.testing import ManualRuntime

DEAD = Line("CAMERA_DEAD", logging.WARNING, "CAMERA_DEAD | slot={slot} camera={camera} try={attempt}/{tries}")


def told() -> Event:
    return event("gave_up", policy="camera", status=DEAD.status, name="door", key="7", attempt=2)


def test_a_line_is_written_once_and_its_event_is_heard(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """The default listener adds no sentence of its own; everybody else is told, and JSON has the event's members."""
    caplog.set_level(logging.INFO)
    heard: list[Event] = []
    RUNTIME.listen(heard.append)
    DEAD.tell(told(), tries=3)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("resilient_faces.camera", "WARNING")
    assert record.getMessage() == "CAMERA_DEAD | slot=7 camera=door try=2/3"
    assert '"status": "CAMERA_DEAD"' in JsonFormatter().format(record)
    assert heard == [told()]


def test_a_repeated_line_is_not_left_out(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """The default listener writes equal sentences once a second; these lines are counted by whoever reads them."""
    caplog.set_level(logging.INFO)
    for _ in range(3):
        DEAD.tell(told(), tries=3)
    assert len(caplog.records) == 3


def test_a_line_that_nobody_reads_is_not_made(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """Below the logger's level its form is not even filled; listeners hear all the same."""
    caplog.set_level(logging.ERROR, "resilient_faces")
    heard: list[Event] = []
    RUNTIME.listen(heard.append)
    Line("X", logging.WARNING, "{missing}").tell(told())
    assert len(heard) == 1
    assert not caplog.records


def test_the_place_of_an_error_has_none_of_its_text() -> None:
    """Module and line of where it was raised; nothing for one that never was."""
    try:
        int("rtsp://user:password@camera")
    except ValueError as error:
        place = place_of(error)
    assert place.startswith(f"{__name__}:")
    assert "password" not in place
    assert place_of(ValueError("x")) == ""
