"""What the service watches over: the model, the gallery that needs it, the sessions that need both; and how all stand.

The model is looked for while there is none, whether or not somebody asks for it: a service that says it is degraded may
be sent no requests, and would stay so for ever.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from face_service.errors import ApiError, Code, log_failure
from face_service.people import People
from face_service.photos import Photos, not_available
from resilient_faces import services
from resilient_faces.adapters.gallery import Gallery
from resilient_faces.adapters.insightface import FrameRecogniser, Sightings
from resilient_faces.adapters.rtsp import CLASSROOM, Limits, Reconnect
from resilient_faces.adapters.webhook import Webhook
from resilient_faces.breaker import Breaker
from resilient_faces.pipeline.cameras import (
    Agreement,
    Ending,
    Rules,
    SessionPlan,
    Sessions,
    SessionView,
    Watch,
    rtsp_cameras,
)
from resilient_faces.retry import exponential

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from face_service.settings import Settings
    from resilient_faces.adapters.recogniser import Recogniser

__all__ = ["Parts", "totals", "watching"]

_log: Final = logging.getLogger("face_service")

TICK: Final = 1.0  # seconds between two looks at how all stand
MOST_ENDINGS: Final = 10_000  # slots of which is remembered how their last session ended
CAMERAS: Final = "cameras"
RECEIVERS: Final = "webhook-receivers"


class Parts:
    """The service's parts, wired.

    Args:
        settings: How the service runs.
        make: Makes the recogniser from pack and options; InsightFace if None.
        cameras: Makes the cameras of sessions; RTSP if None.
        webhook: Delivers webhooks; a signed one if None.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        make: Callable[..., Recogniser] | None = None,
        cameras: Watch | None = None,
        webhook: Webhook | None = None,
    ) -> None:
        self.settings = settings
        self.photos = Photos(
            most_pixels=settings.photo_pixels, lowest_score=settings.lowest_score, at_once=settings.at_once
        )
        self.people = People(settings.gallery_file, threshold=settings.threshold, margin=settings.margin)
        options: dict[str, Any] = {"detection_size": settings.detection_size}
        self.frames = FrameRecogniser(
            settings.pack_directory,
            criticality=settings.model,
            look_every=settings.look_every,
            **(options if make is None else {"make": make}),
        )
        self._circuit = Breaker(self.frames.service)  # by its name the one that frames go through
        self.webhook = webhook or Webhook(settings.signing_keys(), destinations=settings.destinations())
        slow = exponential(settings.camera_slow, factor=2.0, cap=6 * settings.camera_slow)
        schedule = CLASSROOM if settings.camera_schedule == "classroom" else Reconnect()
        limits = Limits(
            open=settings.camera_open,
            stall=settings.camera_stall,
            lost=settings.camera_lost,
            tick=min(0.5, settings.camera_stall / 2),
        )
        self.sessions = Sessions(
            _Known(self.frames, self.people),
            Gallery("whichever-is-open", threshold=settings.threshold, margin=settings.margin),
            self.webhook,
            rules=Rules(
                agreement=Agreement(settings.agree, settings.agree_of),
                pace=settings.pace,
                failures=settings.failures,
                silence=settings.silence,
                heartbeat=settings.heartbeat,
                grace=settings.grace,
            ),
            cameras=cameras or rtsp_cameras(limits=limits, reconnect=replace(schedule, slow=slow)),
        )
        self.endings: OrderedDict[int, Ending] = OrderedDict()
        self.tasks: TaskGroup | None = None
        for name in (CAMERAS, RECEIVERS):
            services.register(name, "optional")

    @property
    def engine(self) -> Recogniser:
        """The model, under the circuit that frames go through too.

        Raises:
            ApiError: There is none.
        """
        engine = self.frames.engine
        if engine is None:
            raise not_available(self.frames.health().reason, self.settings.look_every)
        return _Guarded(engine, self._circuit)

    async def start(self, plan: SessionPlan) -> SessionView:
        """Begin a session, and remember how it ends.

        Raises:
            ApiError: There are too many.
            SessionExistsError: The slot has one.
            SessionsClosedError: The service is ending.
        """
        if self.sessions.get(plan.slot) is None and len(self.sessions.active()) >= self.settings.sessions:
            raise ApiError(503, Code.busy, "Too many sessions at the moment", retry_after=30.0)
        view = await self.sessions.start(plan)
        if self.tasks is not None:
            self.tasks.start_soon(self._remember, plan.slot)
        return view

    async def _remember(self, slot: int) -> None:
        view = await self.sessions.wait(slot)
        if view is not None and view.ended is not None:
            self.endings.pop(slot, None)
            self.endings[slot] = view.ended
            while len(self.endings) > MOST_ENDINGS:
                self.endings.popitem(last=False)

    @staticmethod
    def not_stopped(error: Exception) -> ApiError:
        """What becomes of a session that could not be stopped."""
        log_failure(_log, "Failed to stop session", error)
        return ApiError(500, Code.stop_session_failed, "Failed to stop the session")

    def look(self) -> None:
        """Take the model into use if it has appeared, and open the gallery; blocks, and never raises.

        Whoever looks is the only one who does: an error ends one look, and not the service.
        """
        try:
            self.people.open(self.frames.look())
        except Exception as error:
            log_failure(_log, "Failed to look for model and gallery", error)

    def mark(self) -> None:
        """Tell the register of services how cameras and receivers stand."""
        active = self.sessions.active()
        _mark(CAMERAS, "camera.dead", any(camera.dead for one in active for camera in one.cameras))
        _mark(RECEIVERS, "webhook.failing", any(one.failures for one in active))

    async def keep_looking(self) -> None:
        """Look at everything, for ever."""
        while True:
            await anyio.sleep(TICK)
            if self.people.gallery is None:
                await anyio.to_thread.run_sync(self.look)
            self.mark()


class _Guarded:
    """A recogniser under a circuit."""

    def __init__(self, engine: Recogniser, circuit: Breaker) -> None:
        self.name, self.names_people, self.space = engine.name, engine.names_people, engine.space
        self.similarity = engine.similarity
        self.detect = circuit(engine.detect)
        self.embed = circuit(engine.embed)


class _Known:
    """Recognises people of whichever gallery is open."""

    def __init__(self, frames: FrameRecogniser, people: People) -> None:
        self._frames = frames
        self._people = people

    async def arecognise(self, frame: Any, gallery: Gallery) -> Sightings:
        """Say who is in a frame, and why that may not be all."""
        known = self._people.gallery
        if known is None and self._frames.engine is not None:
            return Sightings(reason=self._people.reason)
        return await self._frames.arecognise(frame, gallery if known is None else known)  # an empty one is false


def _mark(name: str, reason: str, bad: bool) -> None:
    if bad:
        services.degrade(name, reason)
    else:
        services.recover(name)


@asynccontextmanager
async def watching(make: Callable[[], Parts]) -> AsyncIterator[Parts]:
    """The service's parts at work, from its start to its end.

    Args:
        make: Makes the parts; loads the model, and so runs in a worker thread.
    """
    parts = await anyio.to_thread.run_sync(make)
    await anyio.to_thread.run_sync(parts.look)
    async with parts.sessions, anyio.create_task_group() as tasks:
        parts.tasks = tasks
        tasks.start_soon(parts.keep_looking)
        _log.info("Service started")
        try:
            yield parts
        finally:
            tasks.cancel_scope.cancel()
            _log.info("Shutting down service...")
            with anyio.CancelScope(shield=True):
                await parts.sessions.shutdown()
            _log.info("Service shutdown complete")


def totals(views: tuple[SessionView, ...]) -> dict[str, int]:
    """Sessions and cameras, counted."""
    cameras = [camera for one in views for camera in one.cameras]
    return {
        "active": len(views),
        "cameras": len(cameras),
        "camerasDead": sum(one.dead for one in cameras),
        "receiversFailing": sum(one.failures > 0 for one in views),
    }
