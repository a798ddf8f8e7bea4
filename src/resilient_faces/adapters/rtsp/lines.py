"""What is written to the log about a camera: the lines of the classroom document, and a few more in their form."""

from __future__ import annotations

import logging
from typing import Final

from resilient_faces._core.runtime import logger_of
from resilient_faces.telemetry.lines import Line, place_of

__all__ = ["unexpected"]

POLICY: Final = "camera"
_WHOSE: Final = "slot={slot} camera={camera}"


def _line(status: str, level: int, rest: str = _WHOSE) -> Line:
    return Line(status, level, f"{status} | {rest}")


READ_FAIL: Final = _line("CAMERA_READ_FAIL", logging.WARNING, f"{_WHOSE} error={{code}}")
RECONNECT: Final = _line("CAMERA_RECONNECT", logging.WARNING, "camera={camera} attempt={attempt}/{tries}")
RECONNECT_OK: Final = _line("CAMERA_RECONNECT_OK", logging.INFO, "camera={camera}")
RECONNECT_TIMEOUT: Final = _line("CAMERA_RECONNECT_TIMEOUT", logging.WARNING, "camera={camera}")
RECONNECT_ERROR: Final = _line("CAMERA_RECONNECT_ERROR", logging.ERROR, "camera={camera} error={code}")
DEAD: Final = _line("CAMERA_DEAD", logging.WARNING, f"{_WHOSE} error={{code}}")
STOP: Final = _line("CAMERA_STOP", logging.INFO)
REVIVED: Final = _line("CAMERA_REVIVED", logging.INFO)
STALLED: Final = _line("CAMERA_STALLED", logging.WARNING)
RESUMED: Final = _line("CAMERA_RESUMED", logging.INFO)
UNCHANGED: Final = _line("CAMERA_PICTURE_UNCHANGED", logging.WARNING)
CHANGES: Final = _line("CAMERA_PICTURE_CHANGES", logging.INFO)
STUCK: Final = _line("CAMERA_THREAD_STUCK", logging.WARNING)


def unexpected(camera: str, slot: str, error: Exception) -> None:
    """An error that nobody expected: its class and place, not its text, which may hold an address."""
    logger_of(POLICY).error(
        "CAMERA_ERROR | slot=%s camera=%s error=%s at=%s", slot, camera, type(error).__name__, place_of(error)
    )
