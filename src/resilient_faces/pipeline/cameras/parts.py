"""What sessions ask of their surroundings. The adapters fulfil these; tests and other programs bring their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from resilient_faces.adapters._faces import load
from resilient_faces.adapters.rtsp import Camera, Health, Limits, Openings, Reconnect
from resilient_faces.pipeline.cameras.plans import CameraPlan

if TYPE_CHECKING:
    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import Sightings
    from resilient_faces.adapters.webhook import Delivery

__all__ = ["Recogniser", "Register", "Sender", "Source", "TakenFrame", "Watch", "rtsp_cameras"]


class TakenFrame(Protocol):
    """One frame of a source: `adapters.rtsp.Frame`."""

    @property
    def number(self) -> int:
        """Of all frames that the source gave; it only grows."""

    @property
    def connection(self) -> int:
        """Which connection it came over."""

    @property
    def at(self) -> float:
        """Monotonic time of its arrival."""

    async def aimage(self) -> Any:
        """Its pixels, without blocking the event loop: uint8 array of shape (height, width, 3), BGR."""


class Source(Protocol):
    """A camera: `adapters.rtsp.Camera`. Entering starts it, leaving closes it."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object: ...

    async def atake(self) -> TakenFrame:
        """The newest frame, waiting for one.

        Raises:
            CameraDeadError: It died; asked again, it waits for the revival.
            CameraError: No frame will ever come.
        """

    def latest(self) -> TakenFrame | None:
        """The frame that would be taken now; None if there is none that is fresh."""

    def health(self) -> Health:
        """How it is."""


Watch: TypeAlias = Callable[[CameraPlan, int], Source]
"""Makes the source of a camera, from its plan and the slot; nothing is opened yet."""


class Recogniser(Protocol):
    """Says who is in a frame: `adapters.insightface.FrameRecogniser`. What it cannot see it answers with a reason.

    It must come to an end: one that may hang wants a `timeout` around it.
    """

    async def arecognise(self, frame: Any, gallery: Gallery) -> Sightings: ...


class Sender(Protocol):
    """Delivers webhooks, repeats what fails, and says how it went: `adapters.webhook.Webhook`."""

    async def asend(self, url: str, body: Mapping[str, Any], *, id: str, about: str) -> Delivery: ...


class Register(Protocol):
    """Which sessions there shall be, where others can see and remove them: another process, an operator.

    `session` is the id of one session, so that one which was removed and begun anew elsewhere is not mistaken for it.
    An error means that it is not known, and ends nothing.
    """

    async def add(self, slot: int, session: str) -> bool:
        """Enter a session; False if the slot has one."""

    async def holds(self, slot: int, session: str) -> bool:
        """Whether this session is still there."""

    async def remove(self, slot: int, session: str) -> None:
        """Take it out, if it is still there."""


def rtsp_cameras(
    *,
    limits: Limits | None = None,
    reconnect: Reconnect | None = None,
    openings: Openings | None = None,
    transport: str = "auto",
) -> Watch:
    """Cameras of `adapters.rtsp`, all with the same limits and schedule.

    Args:
        limits: How long anything may take.
        reconnect: What is done when one has no picture; `CLASSROOM` is the schedule of the classroom document.
        openings: Which cameras share the bound on openings.
        transport: `tcp`, `udp` or `auto`.

    Raises:
        OptionError: A value cannot be.
    """

    def watch(plan: CameraPlan, slot: int) -> Source:
        load("av", "rtsp")  # whoever starts the session is told what to install, and not its log
        return Camera(
            plan.address,
            name=plan.id,
            slot=str(slot),
            limits=limits,
            reconnect=reconnect,
            openings=openings,
            transport=transport,
        )

    return watch
