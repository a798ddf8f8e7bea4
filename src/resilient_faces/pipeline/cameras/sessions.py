"""All sessions of a process, by slot."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from resilient_faces.pipeline.cameras.parts import Recogniser, Register, Sender, Watch
from resilient_faces.pipeline.cameras.plans import Rules, SessionPlan
from resilient_faces.pipeline.cameras.views import Cleanup, SessionView

if TYPE_CHECKING:
    from typing_extensions import Self

    from resilient_faces.adapters.gallery import Gallery

__all__ = ["Sessions"]


class Sessions:
    """Sessions, each of which watches the cameras of one slot, recognises people and tells a webhook's receiver.

    An async context manager, on asyncio and trio; every task of every session lives inside its block.

    Args:
        recogniser: Who finds people in frames: a `FrameRecogniser`. Without a model it answers nobody, and sessions go
            on.
        gallery: Who may be seen, unless a plan says otherwise.
        webhook: Who delivers: a `Webhook`.
        rules: How sessions are led.
        cameras: Makes the camera of a plan; `rtsp_cameras()` if None.
        register: Where sessions are entered, so that they can be removed elsewhere; this process's memory if None.
        at_once: Frames in recognition at once, of all sessions together. Cameras take turns. By default half of the
            processors, since one recognition uses several.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        gallery: Gallery,
        webhook: Sender,
        *,
        rules: Rules | None = None,
        cameras: Watch | None = None,
        register: Register | None = None,
        at_once: int | None = None,
    ) -> None: ...

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `shutdown`, if that was not called; then every task has ended."""

    async def start(self, plan: SessionPlan) -> SessionView:
        """Begin a session; returns at once, while its cameras are being opened.

        Raises:
            SessionExistsError: The slot has one. `SESSION_EXISTS | slot=` is logged.
            SessionsClosedError: Outside of the block, or after a shutdown.
            OptionError: A camera's address is none.
            MissingExtraError: The extra `rtsp` is not installed.
        """
        raise NotImplementedError

    async def stop(self, slot: int) -> SessionView | None:
        """End a session and wait until nothing of it is left: tasks, cameras, threads. None if there is none.

        What waits to be told has `Rules.grace` seconds; a camera that is being opened ends within `Limits.open`.
        Cancelling the wait does not take the stop back.
        """
        raise NotImplementedError

    def get(self, slot: int) -> SessionView | None:
        """How the session of a slot stands; None if there is none."""
        raise NotImplementedError

    def active(self) -> tuple[SessionView, ...]:
        """How all sessions stand, by slot."""
        raise NotImplementedError

    async def wait(self, slot: int) -> SessionView | None:
        """Wait for the end of a session, whatever ends it; None if there is none."""
        raise NotImplementedError

    async def shutdown(self) -> Cleanup:
        """Stop all sessions as `stop` does, side by side, and say how much was stopped. None is begun from now on.

        Logs `Cleanup complete: n tasks, m sessions`; an error meanwhile is logged as `Error during cleanup` and not
        raised.
        """
        raise NotImplementedError
