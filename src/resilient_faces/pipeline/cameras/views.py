"""How sessions stand, as values to look at: counts and words, no identity and no address."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

from resilient_faces.errors import ResilienceError

__all__ = ["CameraView", "Cleanup", "Ending", "SessionExistsError", "SessionView", "SessionsClosedError"]


class Ending(str, Enum):
    """Why a session ended."""

    requested = "requested"  # `Sessions.stop`
    all_cameras_failed = "all_cameras_failed"
    receiver_failing = "receiver_failing"  # `Rules.failures` webhooks in a row
    receiver_silent = "receiver_silent"  # none accepted for `Rules.silence` seconds
    removed = "removed"  # from the register, by somebody else
    shutdown = "shutdown"
    failed = "failed"  # an error of our own; the log has its class and place


@dataclass(frozen=True, slots=True)
class CameraView:
    """How one camera of a session stands.

    Attributes:
        id: Its id.
        name: What people call it.
        state: In one word: of `adapters.rtsp.State`.
        dead: Its quick tries are used up; it is tried on, slowly.
        age: Seconds since its newest frame arrived; None before the first.
        looked: Frames in which people were looked for.
        reason: Why the last of these may have shown more than was seen, such as `insightface.pack_missing`; empty if
            all of it was looked at.
    """

    id: str
    name: str
    state: str
    dead: bool
    age: float | None
    looked: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """How a session stands, or stood when it ended.

    Attributes:
        slot: Its number.
        mode: Of its plan.
        age: Seconds since it began.
        cameras: How its cameras stand, in the order of the plan.
        recognised: Persons recognised so far.
        delivered: Webhooks that were accepted.
        undelivered: Webhooks that were given up.
        waiting: Webhooks that wait to be told.
        failures: Webhooks that failed since the last one that was accepted.
        silent_for: Seconds since then, or since it began.
        ended: Why it ended or is ending; None while it runs.
    """

    slot: int
    mode: str
    age: float
    cameras: tuple[CameraView, ...]
    recognised: int
    delivered: int
    undelivered: int
    waiting: int
    failures: int
    silent_for: float
    ended: Ending | None

    def to_dict(self) -> dict[str, object]:
        """As JSON members, with the names that webhooks use."""
        return {
            "slotId": self.slot,
            "mode": self.mode,
            "age": round(self.age, 3),
            "cameras": [{**asdict(one), "age": None if one.age is None else round(one.age, 3)} for one in self.cameras],
            "recognised": self.recognised,
            "delivered": self.delivered,
            "undelivered": self.undelivered,
            "waiting": self.waiting,
            "failures": self.failures,
            "silentFor": round(self.silent_for, 3),
            "ended": None if self.ended is None else self.ended.value,
        }


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What a shutdown stopped.

    Attributes:
        tasks: Tasks that were still running, one for each camera.
        sessions: Sessions.
    """

    tasks: int
    sessions: int


class SessionExistsError(ResilienceError, ValueError):
    """The slot has a session already.

    Attributes:
        slot: Which.
        code: `SESSION_ALREADY_EXISTS`.
    """

    code = "SESSION_ALREADY_EXISTS"

    def __init__(self, slot: int) -> None:
        super().__init__(slot)
        self.slot = slot

    def __str__(self) -> str:
        return f"Session already exists for slot {self.slot}"


class SessionsClosedError(ResilienceError, RuntimeError):
    """Sessions are being shut down, or not begun: start them inside `async with Sessions(...)`."""

    def __str__(self) -> str:
        return "No session can be started: Sessions is shut down, or its `async with` block was not entered."
