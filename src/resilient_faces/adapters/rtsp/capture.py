"""One connection to one camera, on PyAV: open, read a little, close. All three in the thread that owns it.

FFmpeg has two ways to end a wait. Its socket option is reset by any byte, so a camera that drips, or sends reports and
no video, holds a reader for ever. The callback that PyAV's `timeout` installs is not, and a read that it ended can be
resumed; so every wait here ends within a tick, and the caller's own clocks decide. Each poll of the callback takes the
interpreter's lock: beside threads that hog it with pure Python, `sys.setswitchinterval(0.0005)` keeps the frame rate.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters._faces import load
from resilient_faces.adapters.rtsp.states import CameraError, State, state_of

if TYPE_CHECKING:
    from resilient_faces.adapters._faces import Image
    from resilient_faces.adapters.rtsp.address import Address
    from resilient_faces.adapters.rtsp.limits import Limits

__all__ = ["Capture", "FfmpegCapture", "Picture", "Read"]

_GRID: Final = 8  # every eighth pixel of every eighth row is looked at for change


class Picture(Protocol):
    """A decoded frame."""

    def image(self) -> Image:
        """As uint8 array of shape (height, width, 3), BGR."""

    def luma(self) -> Image:
        """A thinned-out copy of its brightness, to see whether the picture changes."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one look at a camera gave.

    Attributes:
        pictures: Decoded frames, in order.
        damaged: Pieces that could not be decoded.
        ended: There will be no more.
    """

    pictures: tuple[Picture, ...] = ()
    damaged: int = 0
    ended: bool = False


NOTHING: Final = Read()


class Capture(Protocol):
    """An open connection. Its methods are called by one thread only.

    Attributes:
        transport: `tcp`, `udp`, or empty if there is no choice.
    """

    transport: str

    def read(self) -> Read:
        """Wait for data, at most a tick.

        Raises:
            CameraError: The connection is of no more use.
        """

    def close(self) -> None:
        """Give it back, with a farewell to the camera."""


class _Picture:
    __slots__ = ("_frame",)

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def image(self) -> Image:
        image: Image = self._frame.to_ndarray(format="bgr24")
        return image

    def luma(self) -> Image:
        numpy = load("numpy", "rtsp")
        plane = self._frame.planes[0]
        if plane.line_size <= 0:  # rows from bottom to top, as some devices give them: the memory begins elsewhere
            upright: Image = self._frame.to_ndarray(format="gray")[::_GRID, ::_GRID]
            return upright.astype(numpy.int16)
        rows = numpy.frombuffer(plane, numpy.uint8).reshape(-1, plane.line_size)
        thin: Image = rows[::_GRID, : plane.width : _GRID].astype(numpy.int16)
        return thin


class FfmpegCapture:
    """A connection on PyAV.

    Args:
        camera: Name, for errors.
        address: Where it is.
        limits: `open`, `first_frame` and `tick` are used.
        transport: `tcp` or `udp` for RTSP, `auto` for the first of these that the camera has.
        format: FFmpeg's input format, for devices: `v4l2`, `avfoundation`, `dshow`.
        options: More options for FFmpeg.
        threads: Threads that decode; 0 leaves it to FFmpeg.

    Raises:
        CameraError: It cannot be opened.
        MissingExtraError: The extra `rtsp` is not installed.
    """

    def __init__(
        self,
        camera: str,
        address: Address,
        limits: Limits,
        *,
        transport: str = "auto",
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        self._camera = camera
        self._tick = limits.tick
        self._av: Any = load("av", "rtsp")
        self.transport = ""
        wanted: dict[str, str] = {}
        if address.is_rtsp:
            # What probing would read comes with the first key frame anyway: it costs a second, and frames grow old.
            wanted = {"probesize": "32", "analyzeduration": "0", "timeout": str(round(limits.open * 1e6))}
            self.transport = "tcp" if transport == "auto" else transport
        while True:
            chosen = {**wanted, **({"rtsp_transport": self.transport} if self.transport else {}), **(options or {})}
            found = self._open(address, limits, format, chosen)
            if not isinstance(found, State):
                break
            if found is State.refused and self._no_such_transport and self.transport == "tcp" and transport == "auto":
                self.transport = "udp"
                continue
            raise CameraError(camera, found)
        self._container: Any = found
        self._stream: Any = next(iter(self._container.streams.video), None)
        if self._stream is None or self._stream.codec_context is None:  # no video, or none that FFmpeg can decode
            self._container.close()
            raise CameraError(camera, State.corrupt)
        self._stream.codec_context.thread_count = threads
        self._packets: Any = self._container.demux(self._stream)

    def _open(self, address: Address, limits: Limits, format: str | None, options: dict[str, str]) -> Any:
        """The open container, or how the camera is. PyAV's errors have the whole URL in them: none leaves here."""
        self._no_such_transport = False
        began = RUNTIME.monotonic()
        timeout = (limits.open, self._tick) if address.is_url else None
        try:
            return self._av.open(address.revealed(), format=format, timeout=timeout, options=options)
        except (OSError, ValueError, EOFError, self._av.FFmpegError) as error:
            self._no_such_transport = getattr(error, "errno", None) == errno.EPROTONOSUPPORT
            if self._no_such_transport:
                return State.refused
            state = state_of(error, waited=RUNTIME.monotonic() - began, limit=limits.open)
            recording = not address.is_url and format is None  # where nobody refuses or hangs up
            return State.corrupt if recording and state in {State.disconnected, State.refused} else state

    def read(self) -> Read:
        began = RUNTIME.monotonic()
        state: State
        try:
            packet = next(self._packets)
        except StopIteration:
            return Read(ended=True)
        except (OSError, ValueError, EOFError, self._av.FFmpegError) as error:
            self._packets = self._container.demux(self._stream)  # the error ended it, not the connection
            # Once the first wait was ended, FFmpeg may call the next one an input/output error.
            waited = RUNTIME.monotonic() - began >= 0.8 * self._tick
            if waited and (
                getattr(error, "errno", None) == errno.EIO or type(error).__name__ in {"ExitError", "TimeoutError"}
            ):
                return NOTHING
            if type(error).__name__ == "InvalidDataError":
                return Read(damaged=1)
            state = State.disconnected
        else:
            return self._decoded(packet)
        raise CameraError(self._camera, state)

    def _decoded(self, packet: Any) -> Read:
        ended = packet.size == 0  # PyAV's last packet, which flushes the decoder
        try:
            frames = packet.decode()
        except (OSError, ValueError, EOFError, self._av.FFmpegError):
            return Read(damaged=1, ended=ended)
        good = tuple(_Picture(frame) for frame in frames if not frame.is_corrupt)
        return Read(good, len(frames) - len(good), ended)

    def close(self) -> None:
        self._packets.close()  # stops PyAV's clock: while that has run out, FFmpeg sends no farewell
        self._container.close()
