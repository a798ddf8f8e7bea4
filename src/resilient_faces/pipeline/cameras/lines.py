"""What is written to the log about sessions: the lines of the classroom document, and a few more in their form.

What happens to a camera is told by `adapters.rtsp`, `CAMERA_DEAD` and `CAMERA_STOP` included.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from resilient_faces._core.context import event
from resilient_faces._core.runtime import logger_of
from resilient_faces.telemetry.lines import Line, place_of

if TYPE_CHECKING:
    from resilient_faces.events import EventType

__all__ = ["tell", "unexpected"]

POLICY: Final = "session"

EXISTS: Final = Line("SESSION_EXISTS", logging.WARNING, "SESSION_EXISTS | slot={slot}")
STARTED: Final = Line("SESSION_STARTED", logging.INFO, "SESSION_STARTED | slot={slot} cameras={cameras}")
RECOGNISED: Final = Line("PERSON_RECOGNISED", logging.INFO, "PERSON_RECOGNISED | slot={slot} camera={camera}")
FORGOTTEN: Final = Line("RECOGNITION_FORGOTTEN", logging.WARNING, "RECOGNITION_FORGOTTEN | slot={slot}")
ALL_DEAD: Final = Line("ALL_CAMERAS_DEAD", logging.ERROR, "ALL_CAMERAS_DEAD | slot={slot}")
AUTO_STOP: Final = Line("SESSION_AUTO_STOP", logging.WARNING, "SESSION_AUTO_STOP | slot={slot} reason={reason}")
REMOVED: Final = Line("SESSION_REMOVED", logging.INFO, "Session stopped externally: slot={slot}")
STOPPED: Final = Line("SESSION_STOPPED", logging.INFO, "SESSION_STOPPED | slot={slot} reason={reason}")
CLEANED: Final = Line("SESSIONS_CLEANED", logging.INFO, "Cleanup complete: {tasks} tasks, {sessions} sessions")


def tell(line: Line, type: EventType, slot: int | str, camera: str = "", **more: object) -> None:
    """Write a line and tell its event."""
    line.tell(event(type, policy=POLICY, status=line.status, name=camera, key=str(slot)), **more)


def unexpected(slot: int, error: BaseException, camera: str = "") -> None:
    """An error that nobody expected: its class and place, not its text, which may hold anything."""
    while getattr(error, "exceptions", None):  # of a group the first
        error = error.exceptions[0]  # type: ignore[attr-defined]
    of = f" camera={camera}" if camera else ""
    logger_of(POLICY).error("SESSION_ERROR | slot=%s%s error=%s at=%s", slot, of, type(error).__name__, place_of(error))


def cleaning(error: BaseException) -> None:
    """An error while something was put away; it stops nothing."""
    logger_of(POLICY).error("Error during cleanup: %s at %s", type(error).__name__, place_of(error))
