"""A camera: its thread, and the ways to take frames from it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resilient_faces._core.context import event, remaining
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._core.workers import run_async
from resilient_faces.adapters._faces import load
from resilient_faces.adapters.rtsp import lines
from resilient_faces.adapters.rtsp.address import Address
from resilient_faces.adapters.rtsp.capture import Capture, FfmpegCapture
from resilient_faces.adapters.rtsp.limits import OPENINGS, Limits, Openings, Reconnect
from resilient_faces.adapters.rtsp.reading import Health, Reading
from resilient_faces.adapters.rtsp.slot import Frame, Slot
from resilient_faces.adapters.rtsp.states import CameraError, State

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Camera"]

_numbers: Final = itertools.count(1)
_LOOK: Final = 0.5  # seconds after which a pause looks whether the process is shutting down


class Camera:
    """Frames of one camera, the newest first of all; over freezes, lost connections and power cuts.

    Iterating starts it and yields frames until it is closed. A death is raised once (`CameraDeadError`); iterating on
    waits for the revival. A file yields every frame, and ends.

    Args:
        source: A URL, a device or a file. It may hold a password, and is never shown.
        name: For events, logs and errors; keep secrets out of it. By default `camera-1`, `camera-2`, ...
        slot: Whose it is, for events and log lines.
        limits: How long anything may take.
        reconnect: What is done when it has no picture.
        transport: For RTSP: `tcp`, `udp`, or `auto`: TCP, and UDP if the camera has no other.
        format: FFmpeg's input format, for devices: `v4l2` for `/dev/video0`.
        options: More options for FFmpeg, such as `{"video_size": "1280x720"}` for a device.
        live: Frames that nobody takes are gone. By default so for URLs and devices; a file waits for its taker.
        threads: Threads that decode; 0 leaves it to FFmpeg.
        openings: Which cameras share the bound on openings; by default all of the process.
        open: Opens a connection, in place of PyAV.

    Raises:
        OptionError: An option has a value that cannot be.
    """

    def __init__(
        self,
        source: str | Path | Address,
        *,
        name: str | None = None,
        slot: str = "",
        limits: Limits | None = None,
        reconnect: Reconnect | None = None,
        transport: str = "auto",
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        live: bool | None = None,
        threads: int = 1,
        openings: Openings | None = None,
        open: Callable[[], Capture] | None = None,
    ) -> None:
        self.address: Final = source if isinstance(source, Address) else Address(source)
        self.name: Final = f"camera-{next(_numbers)}" if name is None else name
        self.slot: Final = slot
        self.limits: Final = Limits() if limits is None else limits
        self._reconnect = Reconnect() if reconnect is None else reconnect
        more = dict(options or {})
        checks = Checks("Camera")
        checks.that(bool(self.name) and "://" not in self.name, "name", "a word for people", "one that is not")
        checks.that(isinstance(self.limits, Limits), "limits", "a Limits", limits)
        checks.that(isinstance(self._reconnect, Reconnect), "reconnect", "a Reconnect", reconnect)
        checks.that(transport in {"auto", "tcp", "udp"}, "transport", "auto, tcp or udp", transport)
        checks.whole("threads", threads, 0)
        checks.that("stimeout" not in more, "options", "without stimeout", "it", "FFmpeg ignores it; use Limits.open.")
        checks.done()
        self._live = (self.address.is_url or format is not None) if live is None else live
        self._openings = OPENINGS if openings is None else openings

        def opened() -> Capture:
            return FfmpegCapture(
                self.name,
                self.address,
                self.limits,
                transport=transport,
                format=format,
                options=more,
                threads=threads,
            )

        self._needs_av = open is None
        self._open = opened if open is None else open
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._box = Slot()
        self._reading: Reading | None = None
        self._thread: threading.Thread | None = None
        on_fork(self)

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read; iterating does so too. A camera that was closed begins anew.

        Raises:
            MissingExtraError: The extra `rtsp` is not installed.
        """
        if self._needs_av:
            load("av", "rtsp")
        with self._lock:
            if self._thread is not None:
                return
            self._end, self._box = threading.Event(), Slot()
            self._reading = Reading(
                camera=self.name,
                slot=self.slot,
                open=self._open,
                limits=self.limits,
                reconnect=self._reconnect,
                openings=self._openings,
                box=self._box,
                closing=_either(self._end),
                live=self._live,
            )
            self._thread = threading.Thread(
                target=_drive, args=(self._reading.steps(), self._end), name=f"camera {self.name}", daemon=True
            )
            self._thread.start()

    def close(self, limit: float | None = None) -> bool:
        """Stop reading, from any thread; takers learn it at once. May be called twice.

        Args:
            limit: Seconds to wait for the reader, which notices within a tick, or while it opens within
                `limits.open`; by default long enough for both.

        Returns:
            Whether the reader has ended. If not, it is told as `CAMERA_THREAD_STUCK`, and ends when its wait does.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._end.set()
            self._box.end(drop=True)
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(self.limits.open + 2.0 * self.limits.tick + 1.0 if limit is None else limit)
        if not thread.is_alive():
            return True
        lines.STUCK.tell(
            event("abandoned", policy=lines.POLICY, status=lines.STUCK.status, name=self.name, key=self.slot)
        )
        return False

    async def aclose(self, limit: float | None = None) -> bool:
        """As `close`, for a task. A cancellation does not stop the closing."""
        import anyio

        with anyio.CancelScope(shield=True):
            ended = await run_async(lambda: self.close(limit), None, apart=True)
        return ended  # noqa: RET504  # to type checkers the scope may end early

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def after_fork(self) -> None:
        """In a forked child: the reader, and its connection, are the parent's."""
        self._lock = threading.Lock()
        self._end, self._box = threading.Event(), Slot()
        self._box.end()
        self._thread = self._reading = None

    # -- frames ----------------------------------------------------------------------------------------------------

    def take(self, limit: float | None = None) -> Frame:
        """The newest frame that was not taken yet, waiting for one.

        Args:
            limit: Seconds to wait at most; the deadline in force bounds it too. None waits.

        Raises:
            CameraDeadError: The camera died since it was asked last.
            CameraError: There was no frame within the limit, and why; or it is closed.
        """
        self.start_unless_closed()
        try:
            return self._frame(self._box.take(_shorter(limit), self._oldest))
        except EOFError:
            pass
        raise CameraError(self.name, self._ended())

    async def atake(self, limit: float | None = None) -> Frame:
        """As `take`, for a task."""
        self.start_unless_closed()
        try:
            return self._frame(await self._box.atake(_shorter(limit), self._oldest))
        except EOFError:
            pass
        raise CameraError(self.name, self._ended())

    def latest(self) -> Frame | None:
        """The frame that would be taken next, left where it is; None if there is none that is fresh."""
        frame = self._box.latest()
        return frame if frame is not None and frame.age <= self._oldest else None

    def start_unless_closed(self) -> None:
        """Begin to read, unless it was closed."""
        if not self._end.is_set() and not self._box.ended:
            self.start()

    @property
    def _oldest(self) -> float:
        """What is older than a stall is not shown any more; a file's frames do not age."""
        return self.limits.stall if self._live else float("inf")

    def _frame(self, frame: Frame | None) -> Frame:
        if frame is not None:
            return frame
        state = State.opening if self._reading is None else self._reading.state
        raise CameraError(self.name, State.stalled if state is State.live else state)

    def _ended(self) -> State:
        return State.closed if self._reading is None else self._reading.state

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        self.start_unless_closed()
        try:
            frame = self._box.take(None, self._oldest)
        except EOFError:
            raise StopIteration from None
        assert frame is not None
        return frame

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        self.start_unless_closed()
        try:
            frame = await self._box.atake(None, self._oldest)
        except EOFError:
            raise StopAsyncIteration from None
        assert frame is not None
        return frame

    # -- how it is -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """How it is, in one word."""
        return self._ended() if self._end.is_set() or self._reading is not None else State.opening

    def health(self) -> Health:
        """How it is, and what it did so far."""
        reading = self._reading
        if reading is None:
            return Health(self.name, self.state, False, None, 0.0, 0, 0, 0, 0, 0, {}, 0.0, "", None)
        return reading.health()

    def __repr__(self) -> str:
        return f"Camera({self.address.shown!r}, name={self.name!r}, state={self.state.value!r})"


def _shorter(limit: float | None) -> float | None:
    """The limit, or what the deadline in force leaves of it."""
    left = remaining()
    if left is None:
        return limit
    return left if limit is None else min(left, limit)


def _either(end: threading.Event) -> Callable[[], bool]:
    """Whether the camera is being closed, or the process is."""
    return lambda: end.is_set() or RUNTIME.stopped


def _drive(steps: Generator[float, None, None], end: threading.Event) -> None:
    """What the thread does: let the reading go on, and wait when it asks for it."""
    for seconds in steps:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0.0 and not RUNTIME.stopped:
            if end.wait(min(left, _LOOK)):
                break


Camera.__init__ = checked_call(Camera.__init__)  # type: ignore[method-assign]
