"""The reading of one camera, from the first opening to the end: a generator that asks for pauses.

What happens when is decided here and nowhere else. The generator is run by the camera's thread; a test runs it by hand,
with a manual clock and a capture that is written down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.context import event
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters.rtsp import lines
from resilient_faces.adapters.rtsp.limits import Openings, Reconnect, Tries
from resilient_faces.adapters.rtsp.slot import Frame, Slot
from resilient_faces.adapters.rtsp.states import CameraDeadError, CameraError, State, fault_of

if TYPE_CHECKING:
    from resilient_faces.adapters.rtsp.capture import Capture, Picture
    from resilient_faces.adapters.rtsp.limits import Limits
    from resilient_faces.telemetry.lines import Line

__all__ = ["Health", "Reading", "StallClock"]

_GAPS: Final = 16  # frames over which the interval is measured
_LOOK: Final = 1.0  # seconds between two looks at whether the picture changes
_MAKES_UP: Final = 5  # damaged pieces that a good frame makes up for
_SAME: Final = 0.5  # mean difference of brightness, of 255, below which two pictures are the same


@dataclass(frozen=True, slots=True)
class Health:
    """How a camera is, and what it did so far.

    Attributes:
        camera: Its name.
        state: In one word.
        dead: The quick tries are used up.
        age: Seconds since the newest frame arrived; None before the first.
        rate: Frames a second, over the last 16; 0.0 while it is not known.
        frames: Decoded so far.
        skipped: Of these, how many nobody took in time.
        damaged: Pieces that could not be decoded.
        stalls: How often it stalled.
        connections: How often it was connected and gave a frame.
        failures: How often it failed, by state.
        unchanged: Seconds for which the picture has been the same.
        transport: `tcp` or `udp`, whichever is used; empty if there is no choice.
        next_try: Seconds until the next opening, while it waits for one.
    """

    camera: str
    state: State
    dead: bool
    age: float | None
    rate: float
    frames: int
    skipped: int
    damaged: int
    stalls: int
    connections: int
    failures: dict[str, int]
    unchanged: float
    transport: str
    next_try: float | None


class StallClock:
    """When the frames of one connection came, and what their absence means.

    Args:
        limits: How long is too long.
        opened: Monotonic time at which the connection was open.
    """

    __slots__ = ("_arrivals", "_bad", "_limits", "_spoilt", "began", "last", "opened")

    def __init__(self, limits: Limits, opened: float) -> None:
        self._limits = limits
        self.opened = opened
        self.began: float | None = None  # first frame
        self.last: float | None = None  # newest frame
        self._arrivals: deque[float] = deque(maxlen=_GAPS)
        self._bad = 0  # since the last frame
        self._spoilt = 0  # over frames too: noise is decoded into a picture now and then

    def frame(self, at: float) -> None:
        """A frame arrived."""
        if self.began is None:
            self.began = at
        self.last = at
        self._bad = 0
        self._spoilt = max(0, self._spoilt - _MAKES_UP)
        self._arrivals.append(at)

    def damaged(self, pieces: int) -> None:
        """Pieces came that cannot be decoded."""
        self._bad += pieces
        self._spoilt += pieces if self.last is not None else 0  # before the first key frame nothing can be decoded

    @property
    def interval(self) -> float:
        """Seconds between frames; 0.0 while it is not known."""
        count = len(self._arrivals)
        return (self._arrivals[-1] - self._arrivals[0]) / (count - 1) if count > 1 else 0.0

    @property
    def stall(self) -> float:
        """Seconds without a frame after which the camera is stalled."""
        return max(self._limits.stall, self._limits.stall_frames * self.interval)

    def stalled(self, now: float) -> bool:
        """Whether the last frame is too long ago."""
        return self.last is not None and now - self.last >= self.stall

    @property
    def spoiled(self) -> bool:
        """Whether what comes is no video."""
        return self._spoilt >= self._limits.damaged

    def verdict(self, now: float) -> State | None:
        """Why the connection is to be given up; None if it is not."""
        if self.last is None:
            if now - self.opened < self._limits.first_frame:
                return None
            return State.corrupt if self._bad else State.silent
        if now - self.last >= max(self._limits.lost, 2.0 * self.stall):
            return State.corrupt if self._bad else State.stalled
        return None


@dataclass(slots=True)
class _Sameness:
    """Whether the picture changes."""

    looked: float = 0.0
    since: float = 0.0
    told: bool = False
    before: Any = field(default=None, repr=False)

    def look(self, picture: Picture, now: float) -> None:
        """Compare, once a second, with the picture before."""
        if self.before is not None and now - self.looked < _LOOK:
            return
        self.looked = now
        thin = picture.luma()
        before, self.before = self.before, thin
        if before is None or before.shape != thin.shape or abs(thin - before).mean() >= _SAME:
            self.since = now


class Reading:
    """Reads one camera for as long as it is wanted.

    Args:
        camera: Its name.
        slot: Whose it is, for log lines and events.
        open: Opens a connection.
        limits: How long anything may take.
        reconnect: What is done after a failure.
        openings: Bounds how many cameras open at once.
        box: Where frames go.
        closing: Whether to stop.
        live: Its frames are gone if nobody takes them. Otherwise it is a file: each frame waits to be taken, and at the
            end nothing is reopened.
    """

    def __init__(
        self,
        *,
        camera: str,
        slot: str,
        open: Callable[[], Capture],
        limits: Limits,
        reconnect: Reconnect,
        openings: Openings,
        box: Slot,
        closing: Callable[[], bool],
        live: bool,
    ) -> None:
        self._camera = camera
        self._slot = slot
        self._open = open
        self._limits = limits
        self._reconnect = reconnect
        self._openings = openings
        self._box = box
        self._closing = closing
        self._live = live
        self._tries = Tries(reconnect)
        self._clock: StallClock | None = None
        self._sameness = _Sameness()
        self._trying: int | None = None  # number of the quick try under way
        self._next: float | None = None
        self._frames = self._damaged = self._stalls = self._connections = 0
        self._last: float | None = None
        self._failures: dict[str, int] = {}
        self._transport = ""
        self.state = State.opening

    def steps(self) -> Generator[float, None, None]:
        """Read to the end; yields seconds to wait for."""
        try:
            if self._reconnect.spread:
                yield RUNTIME.random() * self._reconnect.spread
            while not self._closing():
                state, healthy = yield from self._connection()
                if state is None or self._closing():
                    return
                pause = self._failed(state, healthy)
                if pause is None:
                    return
                self._next = RUNTIME.monotonic() + pause
                yield pause
                self._next = None
        finally:
            if not self._tries.dead or self._closing():
                self.state = State.closed
            self._tell("step", lines.STOP)
            self._box.end()

    # -- one connection --------------------------------------------------------------------------------------------

    def _connection(self) -> Generator[float, None, tuple[State | None, float]]:
        """Open and read; how the camera is in the end (None: it is wanted no more), and how long there were frames."""
        ticket = object()
        while (wait := self._openings.admit(ticket)) > 0.0:
            yield wait
            if self._closing():
                return None, 0.0
        capture: Capture | None = None
        clock = self._clock = None
        try:
            try:
                capture = self._open()
                self._transport = capture.transport
                clock = self._clock = StallClock(self._limits, RUNTIME.monotonic())
                state = self._read(capture, clock, ticket)
            except CameraError as error:
                state = error.state
            except Exception as error:  # a reader that dies is a failure like any other
                lines.unexpected(self._camera, self._slot, error)
                state = State.failed
        finally:
            self._openings.done(ticket)
            if capture is not None:
                capture.close()
            del capture
        seen = clock is not None and clock.began is not None and clock.last is not None
        return state, (clock.last - clock.began if seen else 0.0)  # type: ignore[operator,union-attr]

    def _read(self, capture: Capture, clock: StallClock, ticket: object) -> State | None:
        while not self._closing():
            if not self._live and not self._box.free:
                self._box.until_free(self._limits.tick)
                continue
            asked = RUNTIME.monotonic()
            read = capture.read()
            now = RUNTIME.monotonic()
            # FFmpeg's parser holds a frame back until the next one begins, and gives it up when a wait is ended. It had
            # arrived before that wait: taken for new, it would set back the clock of a camera that has just frozen.
            arrived = asked if now - asked >= 0.8 * self._limits.tick else now
            if read.damaged:
                self._damaged += read.damaged
                clock.damaged(read.damaged)
            for picture in read.pictures:
                if clock.began is None:
                    self._openings.done(ticket)
                self._frame(picture, arrived, clock)
            if read.ended:
                if self._live:
                    return State.disconnected
                return State.corrupt if clock.began is None else None
            if clock.spoiled:
                return State.corrupt
            if not self._live:
                continue
            if clock.stalled(now) and self.state is State.live:
                self.state = State.stalled
                self._stalls += 1
                self._tell("transition", lines.STALLED, state=State.stalled, elapsed=now - (clock.last or now))
            verdict = clock.verdict(now)
            if verdict is not None:
                return verdict
        return None

    def _frame(self, picture: Picture, at: float, clock: StallClock) -> None:
        clock.frame(at)
        self._frames += 1
        self._last = at
        if clock.began == at and self.state is not State.live:
            self._connections += 1
            self._connected()
        elif self.state is State.stalled and not clock.stalled(RUNTIME.monotonic()):
            self.state = State.live
            self._tell("recovered", lines.RESUMED)
        if self._live and self._limits.unchanged is not None:
            self._look(picture, at, self._limits.unchanged)
        frame = Frame(self._camera, self._frames, at, self._connections, picture)
        if self._live:
            self._box.put(frame)
        else:
            while not self._closing() and not self._box.free:  # one packet may hold several frames
                self._box.until_free(self._limits.tick)
            self._box.put(frame)

    def _connected(self) -> None:
        """The first frame of a connection: only that proves that there is a picture."""
        self.state = State.live
        self._sameness = _Sameness()
        if self._tries.dead:
            self._tries.dead = False
            self._box.revive()
            self._tell("recovered", lines.REVIVED)
        elif self._trying is not None:
            self._tell("recovered", lines.RECONNECT_OK, attempt=self._trying)
        self._trying = None

    def _look(self, picture: Picture, now: float, limit: float) -> None:
        same = self._sameness
        same.look(picture, now)
        if not same.told and now - same.since >= limit:
            same.told = True
            self._tell("degraded", lines.UNCHANGED, elapsed=now - same.since)
        elif same.told and same.since == now:
            same.told = False
            self._tell("recovered", lines.CHANGES)

    # -- between connections ---------------------------------------------------------------------------------------

    def _failed(self, state: State, healthy: float) -> float | None:
        """Tell what is wrong, and how long to wait; None: no more tries."""
        if self._trying is not None:
            timeout = state in {State.silent, State.stalled}
            self._tell(
                "transition",
                lines.RECONNECT_TIMEOUT if timeout else lines.RECONNECT_ERROR,
                state=state,
                attempt=self._trying,
            )
        elif not self._tries.dead:
            age = None if self._last is None else RUNTIME.monotonic() - self._last
            self._tell("transition", lines.READ_FAIL, state=state, elapsed=age)
        self.state = state
        self._failures[state.value] = self._failures.get(state.value, 0) + 1
        pause = self._tries.failed(state, healthy, RUNTIME.random())
        self._trying = pause.attempt
        if pause.died:
            self._tell("gave_up", lines.DEAD, state=state, delay=pause.seconds)
            self._box.die(CameraDeadError(self._camera, state))
        elif pause.attempt is not None:
            self._tell("retry", lines.RECONNECT, state=state, attempt=pause.attempt, delay=pause.seconds)
        return pause.seconds

    def _tell(
        self,
        type: Any,
        line: Line,
        *,
        state: State | None = None,
        attempt: int | None = None,
        delay: float | None = None,
        elapsed: float | None = None,
    ) -> None:
        told = event(
            type,
            policy=lines.POLICY,
            status=line.status,
            name=self._camera,
            key=self._slot,
            fault=None if state is None else fault_of(state),
            attempt=attempt,
            delay=delay,
            elapsed=elapsed,
        )
        line.tell(told, tries=self._reconnect.tries)

    def health(self) -> Health:
        """How things stand now."""
        now, clock, dead = RUNTIME.monotonic(), self._clock, self._tries.dead
        interval = clock.interval if clock is not None and self.state is State.live else 0.0
        since = self._sameness.since
        return Health(
            camera=self._camera,
            state=self.state,
            dead=dead,
            age=None if self._last is None else now - self._last,
            rate=1.0 / interval if interval else 0.0,
            frames=self._frames,
            skipped=self._box.skipped,
            damaged=self._damaged,
            stalls=self._stalls,
            connections=self._connections,
            failures=dict(self._failures),
            unchanged=max(0.0, self._sameness.looked - since) if since else 0.0,
            transport=self._transport,
            next_try=None if self._next is None else max(0.0, self._next - now),
        )
