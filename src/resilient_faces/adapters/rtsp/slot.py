"""The place between the thread that reads a camera and whoever takes its frames: it holds one, the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from resilient_faces._core.runtime import RUNTIME, waker
from resilient_faces._core.workers import run_async
from resilient_faces.adapters.rtsp.states import CameraDeadError

if TYPE_CHECKING:
    from resilient_faces.adapters._faces import Image
    from resilient_faces.adapters.rtsp.capture import Picture

__all__ = ["Frame", "Slot"]


class Frame:
    """One frame.

    Attributes:
        camera: Name of its camera.
        number: Of all frames that the camera gave, from 1. Gaps are frames that nobody took in time.
        at: Monotonic time of its arrival. Cameras' own timestamps jump and go backwards, so they are not used.
        skipped: How many frames came and went since the one taken before.
        connection: Which connection it came over, from 1.
    """

    __slots__ = ("_image", "_picture", "at", "camera", "connection", "number", "skipped")

    def __init__(self, camera: str, number: int, at: float, connection: int, picture: Picture) -> None:
        self.camera = camera
        self.number = number
        self.at = at
        self.connection = connection
        self.skipped = 0
        self._picture = picture
        self._image: Image | None = None

    @property
    def age(self) -> float:
        """Seconds since it arrived."""
        return RUNTIME.monotonic() - self.at

    @property
    def image(self) -> Image:
        """The picture: uint8 array of shape (height, width, 3), BGR. Converted when first asked for, in that thread."""
        if self._image is None:
            self._image = self._picture.image()
        return self._image

    async def aimage(self) -> Image:
        """As `image`, converted in a worker thread: a large picture takes longer than an event loop should wait."""
        if self._image is None:
            self._image = await run_async(self._picture.image, None, apart=True)
        return self._image

    def __repr__(self) -> str:
        return f"Frame(camera={self.camera!r}, number={self.number}, at={self.at:.3f}, skipped={self.skipped})"


class Slot:
    """Holds the newest frame until it is taken.

    Attributes:
        skipped: Frames that were replaced before anybody took them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wakers: dict[object, Callable[[], None]] = {}
        self._frame: Frame | None = None
        self._death: CameraDeadError | None = None
        self._passed = 0
        self.ended = False
        self.skipped = 0

    # -- the reading side ------------------------------------------------------------------------------------------

    def put(self, frame: Frame) -> None:
        """Be the newest frame; after the end nobody wants it."""
        with self._lock:
            if self.ended:
                return
            if self._frame is not None:
                self._passed += 1
                self.skipped += 1
            self._frame = frame
            self._tell()

    @property
    def free(self) -> bool:
        """Whether the last frame was taken."""
        return self._frame is None

    def until_free(self, limit: float) -> None:
        """Wait for the last frame to be taken, at most so many seconds."""
        with self._lock:
            if self._frame is not None and not self.ended:
                self._changed.wait(limit)

    def die(self, error: CameraDeadError) -> None:
        """Whoever takes next is told, once."""
        with self._lock:
            self._death = error
            self._tell()

    def revive(self) -> None:
        """A death that nobody has heard of yet is no news any more."""
        with self._lock:
            self._death = None

    def end(self, *, drop: bool = False) -> None:
        """No frame will come; the last one may still be taken, unless it is to be dropped."""
        with self._lock:
            self.ended = True
            if drop:
                self._frame = self._death = None
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        for wake in self._wakers.values():
            try:
                wake()
            except RuntimeError:  # its event loop is closed
                pass
        self._wakers.clear()

    # -- the taking side -------------------------------------------------------------------------------------------

    def latest(self) -> Frame | None:
        """The frame that lies here, which stays."""
        return self._frame

    def _take(self, oldest: float) -> Frame | None:
        """The frame, if it is not older than so many seconds. Lock held.

        Raises:
            CameraDeadError: The camera died since somebody last asked.
            EOFError: No frame will come.
        """
        frame = self._frame
        if frame is not None and frame.age <= oldest:
            frame.skipped, self._passed, self._frame = self._passed, 0, None
            self._changed.notify_all()  # the reading of a file waits for it
            return frame
        death, self._death = self._death, None
        if death is not None:
            raise death
        if self.ended:
            raise EOFError
        return None

    def take(self, limit: float | None, oldest: float) -> Frame | None:
        """Wait for a frame, in this thread; None if there was none within the limit."""
        ends = None if limit is None else RUNTIME.monotonic() + limit
        with self._lock:
            while True:
                frame = self._take(oldest)
                if frame is not None:
                    return frame
                left = None if ends is None else ends - RUNTIME.monotonic()
                if left is not None and left <= 0.0:
                    return None
                self._changed.wait(left)

    async def atake(self, limit: float | None, oldest: float) -> Frame | None:
        """As `take`, in this task."""
        import anyio

        await anyio.lowlevel.checkpoint()  # before, since a frame that is taken must not be lost to a cancellation
        with anyio.move_on_after(limit):
            while True:
                changed = anyio.Event()
                with self._lock:
                    frame = self._take(oldest)
                    if frame is None:
                        self._wakers[changed] = waker(changed)
                if frame is not None:
                    return frame
                try:
                    await changed.wait()
                finally:
                    with self._lock:
                        self._wakers.pop(changed, None)
        return None
