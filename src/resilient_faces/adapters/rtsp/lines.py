"""What is written to the log about a camera: the lines of the classroom document, and a few more in their form."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from resilient_faces._core.runtime import logger_of
from resilient_faces.telemetry.logs import WORDED

if TYPE_CHECKING:
    from resilient_faces.events import Event

__all__ = ["Line", "unexpected", "write"]

POLICY: Final = "camera"
WORDED.add(POLICY)  # these lines are written here, so the default listener leaves the events to us


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        status: Its first word, and the event's `status`.
        level: Its level.
        form: The rest, filled from the event.
    """

    status: str
    level: int
    form: str = "camera={camera}"


READ_FAIL: Final = Line("CAMERA_READ_FAIL", logging.WARNING, "slot={slot} camera={camera} error={code}")
RECONNECT: Final = Line("CAMERA_RECONNECT", logging.WARNING, "camera={camera} attempt={attempt}/{tries}")
RECONNECT_OK: Final = Line("CAMERA_RECONNECT_OK", logging.INFO)
RECONNECT_TIMEOUT: Final = Line("CAMERA_RECONNECT_TIMEOUT", logging.WARNING)
RECONNECT_ERROR: Final = Line("CAMERA_RECONNECT_ERROR", logging.ERROR, "camera={camera} error={code}")
DEAD: Final = Line("CAMERA_DEAD", logging.WARNING, "slot={slot} camera={camera} error={code}")
STOP: Final = Line("CAMERA_STOP", logging.INFO, "slot={slot} camera={camera}")
REVIVED: Final = Line("CAMERA_REVIVED", logging.INFO, "slot={slot} camera={camera}")
STALLED: Final = Line("CAMERA_STALLED", logging.WARNING, "slot={slot} camera={camera}")
RESUMED: Final = Line("CAMERA_RESUMED", logging.INFO, "slot={slot} camera={camera}")
UNCHANGED: Final = Line("CAMERA_PICTURE_UNCHANGED", logging.WARNING, "slot={slot} camera={camera}")
CHANGES: Final = Line("CAMERA_PICTURE_CHANGES", logging.INFO, "slot={slot} camera={camera}")
STUCK: Final = Line("CAMERA_THREAD_STUCK", logging.WARNING, "slot={slot} camera={camera}")


def write(line: Line, event: Event, tries: int) -> None:
    """Write the line of an event; the event goes with it, for `JsonFormatter`."""
    logger = logger_of(POLICY)
    if logger.isEnabledFor(line.level):
        rest = line.form.format(slot=event.key, camera=event.name, code=event.code, attempt=event.attempt, tries=tries)
        logger.log(line.level, "%s | %s", line.status, rest, extra={"event": event.to_dict()})


def unexpected(camera: str, slot: str, error: Exception) -> None:
    """An error that nobody expected: its class and place, not its text, which may hold an address."""
    tail = error.__traceback__
    while tail is not None and tail.tb_next is not None:
        tail = tail.tb_next
    place = "" if tail is None else f"{tail.tb_frame.f_globals.get('__name__', '')}:{tail.tb_lineno}"
    logger_of(POLICY).error(
        "CAMERA_ERROR | slot=%s camera=%s error=%s at=%s", slot, camera, type(error).__name__, place
    )
