"""The default listener: events to `logging`, and a formatter that makes a JSON line of each record.

Loggers are called `resilient_faces.<policy>`. Transitions, giving up and services that are marked as degraded are
WARNING, all else is INFO. The same line from the same place is written at most once in `REPEAT` seconds; the next one
says how many were left out.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from resilient_faces._core.context import REQUEST
from resilient_faces._core.runtime import RUNTIME, logger_of, on_fork
from resilient_faces.events import Event

__all__ = ["JsonFormatter", "log_event"]

REPEAT: Final = 1.0  # seconds
_LEVELS: Final[dict[str | tuple[str, str], int]] = {
    ("services", "degraded"): logging.WARNING,  # a service that goes is seldom; single degraded answers are not
    "retry": logging.INFO,
    "recovered": logging.INFO,
    "rejected": logging.INFO,
    "throttled": logging.INFO,
    "step": logging.INFO,
    "transition": logging.WARNING,
    "gave_up": logging.WARNING,
    "degraded": logging.INFO,
    "abandoned": logging.WARNING,
    "store_failed": logging.WARNING,
}
_MOST_PLACES: Final = 1000
_ONCE: Final = frozenset({"rejected", "degraded", "store_failed", "throttled", "retry", "gave_up"})


class _Repeats:
    """When each line was written last, and how many have been left out since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}
        on_fork(self)

    def admit(self, place: tuple[str, ...], now: float) -> int | None:
        """How many were left out before this one; None if this one is left out too."""
        with self._lock:
            last, left_out = self._seen.get(place, (-REPEAT, 0))
            if now - last < REPEAT:
                self._seen[place] = (last, left_out + 1)
                return None
            if len(self._seen) >= _MOST_PLACES:
                self._seen.clear()
            self._seen[place] = (now, 0)
            return left_out

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


repeats: Final = _Repeats()


def log_event(event: Event) -> None:
    """Write one event to its policy's logger."""
    logger = logger_of(event.policy)
    level = _LEVELS.get((event.policy, event.type)) or _LEVELS.get(event.type, logging.INFO)
    if not logger.isEnabledFor(level):
        return
    left_out = 0
    if event.type in _ONCE:
        # An attempt of its own is no repetition: the number belongs to the place.
        place = (event.type, event.policy, event.name, event.key, event.operation, event.status, str(event.attempt))
        admitted = repeats.admit(place, event.t)
        if admitted is None:
            return
        left_out = admitted
    logger.log(level, "%s", _sentence(event, left_out), extra={"event": event.to_dict()})


def _sentence(event: Event, left_out: int) -> str:
    parts = [event.type, event.status]
    if event.name:
        parts.append(f"name={event.name}")
    if event.key:
        parts.append(f"key={event.key}")
    if event.operation:
        parts.append(f"operation={event.operation}")
    if event.attempt is not None:
        parts.append(f"attempt={event.attempt}")
    if event.delay is not None:
        parts.append(f"delay={event.delay:.3f}s")
    if event.kind:
        parts.append(f"fault={event.kind}/{event.code}")
    if left_out:
        parts.append(f"({left_out} like it left out)")
    return " ".join(part for part in parts if part)


class JsonFormatter(logging.Formatter):
    """One JSON object a record, always with `requestId`, `step`, `status` and `errorCode`.

    Use it on any handler: `handler.setFormatter(JsonFormatter())`. Records of other loggers get the request and step of
    the context; their arguments are formatted into `message` as usual.
    """

    def format(self, record: logging.LogRecord) -> str:
        members = getattr(record, "event", None)
        if not isinstance(members, dict):
            info = REQUEST.get()
            members = {
                "at": record.created,
                "requestId": info.id,
                "step": getattr(record, "step", info.step),
                "status": getattr(record, "status", record.levelname.lower()),
                "errorCode": getattr(record, "errorCode", ""),
            }
            if record.exc_info is not None and record.exc_info[0] is not None:
                members["errorCode"] = members["errorCode"] or record.exc_info[0].__name__
        import json  # for whoever formats; the library itself writes no JSON

        line = {"level": record.levelname, "logger": record.name, "message": record.getMessage(), **members}
        return json.dumps(line, default=str)


RUNTIME.log = log_event
