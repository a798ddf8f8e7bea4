"""What a camera is like, in one word; each way of being out of order has its fault."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Final

from resilient_faces.errors import ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

__all__ = ["CameraDeadError", "CameraError", "State", "classify_camera", "state_of"]


class State(str, Enum):
    """How a camera is. While it is out of order the word stays, over all tries, until there is a picture again."""

    opening = "opening"  # never seen yet
    live = "live"
    stalled = "stalled"  # was live; the connection is open and no frame comes
    silent = "silent"  # nobody answers, or agrees to play and no frame comes
    disconnected = "disconnected"  # the connection ended
    refused = "refused"  # nobody is there, or the server says that it cannot
    unauthorised = "unauthorised"
    not_found = "not_found"
    corrupt = "corrupt"  # data comes and is no video
    failed = "failed"  # our own code raised something that nobody expected
    closed = "closed"  # by us, or the file is at its end

    @property
    def code(self) -> str:
        """The code of its fault, for example `camera.stalled`."""
        return f"camera.{self.value}"


_KINDS: Final[dict[State, Kind]] = {
    State.opening: Kind.timeout,
    State.live: Kind.timeout,  # asked for a frame sooner than the next one came
    State.stalled: Kind.timeout,
    State.silent: Kind.timeout,
    State.disconnected: Kind.transient,
    State.refused: Kind.unavailable,
    State.unauthorised: Kind.auth,
    State.not_found: Kind.not_found,
    State.corrupt: Kind.integrity,
    State.failed: Kind.unknown,
    State.closed: Kind.cancelled,
}

HOPELESS: Final = frozenset({State.unauthorised, State.not_found})
"""What a person has to mend; trying quickly may lock the account."""


def fault_of(state: State) -> Fault:
    """The fault that this state stands for. Reading changes nothing, so every one counts as not carried out."""
    return Fault(_KINDS[state], state.code, Executed.no)


class CameraError(ResilienceError):
    """The camera has no frame to give. It carries neither address nor password, and no error that has them.

    Attributes:
        camera: Name of the camera.
        state: How it is.
    """

    def __init__(self, camera: str, state: State) -> None:
        super().__init__(camera, state)
        self.camera = camera
        self.state = state

    @property
    def code(self) -> str:
        """For example `camera.stalled`."""
        return self.state.code

    def __str__(self) -> str:
        return f"camera {self.camera!r}: {self.state.value}"


class CameraDeadError(CameraError):
    """The quick tries are used up. The camera is tried again, slowly, for as long as it is not closed."""

    def __str__(self) -> str:
        return f"camera {self.camera!r} is dead: {self.state.value}"


def classify_camera(error: BaseException) -> Fault | None:
    """What an error of this package means; None for others."""
    return fault_of(error.state) if isinstance(error, CameraError) else None


# By class name, since the classes are PyAV's and are there only once it is imported.
_BY_NAME: Final[dict[str, State]] = {
    "HTTPUnauthorizedError": State.unauthorised,
    "HTTPForbiddenError": State.unauthorised,
    "PermissionError": State.unauthorised,
    "HTTPNotFoundError": State.not_found,
    "FileNotFoundError": State.not_found,
    "HTTPServerError": State.refused,
    "HTTPClientError": State.refused,
    "HTTPOtherClientError": State.refused,
    "HTTPTooManyRequestsError": State.refused,
    "HTTPBadRequestError": State.refused,
    "ConnectionRefusedError": State.refused,
    "ConnectionError": State.disconnected,
    "EOFError": State.disconnected,
    "TimeoutError": State.silent,
    "ExitError": State.silent,
    "InvalidDataError": State.corrupt,
    "DemuxerNotFoundError": State.corrupt,
    "StreamNotFoundError": State.corrupt,
    "DecoderNotFoundError": State.corrupt,
    "ArgumentError": State.corrupt,
}
_OPENING: Final = frozenset({errno.EIO, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EBUSY, errno.EADDRNOTAVAIL})


def state_of(error: BaseException, *, waited: float, limit: float) -> State:
    """What an error of PyAV says about the camera.

    Args:
        error: What was raised.
        waited: Seconds that the call took.
        limit: Seconds that it might take. FFmpeg's error for a peer that never answers depends on where it waited
            ("invalid data" among them), so an error as late as the limit is a timeout, whatever its class.
    """
    if waited >= 0.95 * limit:
        return State.silent
    if isinstance(error, OSError) and error.errno in _OPENING:
        return State.refused  # names that are not found come as EIO
    for cls in type(error).__mro__:
        found = _BY_NAME.get(cls.__name__)
        if found is not None:
            return found
    return State.failed
