"""One session: a task for each camera, one that tells, one that keeps the clocks, one that looks for its removal."""

from __future__ import annotations

import math
import uuid
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters.rtsp import CameraDeadError, CameraError
from resilient_faces.adapters.webhook import Delivery, Patience
from resilient_faces.faults import Fault, Kind
from resilient_faces.pipeline.cameras import bodies, lines
from resilient_faces.pipeline.cameras.agreeing import Agreeing
from resilient_faces.pipeline.cameras.outbox import Message, Outbox
from resilient_faces.pipeline.cameras.views import CameraView, Ending, SessionView

if TYPE_CHECKING:
    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import Sightings
    from resilient_faces.pipeline.cameras.parts import Register, Sender, Source, TakenFrame
    from resilient_faces.pipeline.cameras.plans import CameraPlan, Rules, SessionPlan

    Look: TypeAlias = "Callable[[Source, TakenFrame, Gallery], Awaitable[tuple[TakenFrame, Sightings]]]"

__all__ = ["Parts", "Session", "Watched"]

_TICK: Final = 0.25  # seconds between two looks at the clocks
_GLANCE: Final = 1.0  # seconds after which a pause looks whether the camera has died
_AT_ONCE: Final = frozenset({Ending.requested, Ending.removed, Ending.shutdown})
_GIVEN_UP: Final[Mapping[str, Ending]] = {"failures": Ending.receiver_failing, "silence": Ending.receiver_silent}


@dataclass(frozen=True, slots=True)
class Parts:
    """What all sessions of a process share."""

    look: Look
    sender: Sender
    register: Register
    rules: Rules


class Watched:
    """A camera of a session, and what its frames showed.

    Attributes:
        agreeing: Whom its last frames agree on.
        dead: Its death was heard of, and no revival since.
        over: It will give no frame any more.
        watching: Its task runs.
        looked: Frames that were looked at.
        last: Number of the last of them.
        reason: Why there may have been more to see in it.
    """

    __slots__ = ("agreeing", "dead", "last", "looked", "over", "plan", "reason", "source", "watching")

    def __init__(self, plan: CameraPlan, source: Source, rules: Rules) -> None:
        self.plan = plan
        self.source = source
        self.agreeing = Agreeing(rules.agreement)
        self.dead = self.over = self.watching = False
        self.looked = self.last = 0
        self.reason = ""

    def view(self) -> CameraView:
        """How it stands."""
        health = self.source.health()
        return CameraView(
            self.plan.id, self.plan.name, health.state.value, health.dead, health.age, self.looked, self.reason
        )


class Session:
    """One session, from its first camera's opening to the last farewell.

    Args:
        plan: What it does.
        cameras: Its cameras; none is open yet.
        gallery: Who may be seen.
        parts: What it shares with others.

    Attributes:
        id: Its own, other than its slot's next one.
        ending: Why it ends; None while it runs.
        gone: Set once nothing of it is left.
    """

    def __init__(self, plan: SessionPlan, cameras: tuple[Watched, ...], gallery: Gallery, parts: Parts) -> None:
        self.plan: Final = plan
        self.id: Final = uuid.uuid4().hex
        self.cameras: Final = cameras
        self.ending: Ending | None = None
        self.gone: Final = anyio.Event()
        self._gallery = gallery
        self._parts = parts
        self._rules = rules = parts.rules
        self._recognised: set[str] = set()
        self._outbox = Outbox(rules.waiting)
        self._patience = Patience(failures=rules.failures, seconds=rules.silence)
        self._delivered = self._messages = 0
        self._began = self._told = RUNTIME.monotonic()
        self._until = math.inf  # when the farewell is over
        self._end = anyio.Event()
        self._news = anyio.Event()
        self._farewell = anyio.Event()

    # -- its life --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and tell until it ends, then say farewell: what waits is told, within bounds."""
        lines.tell(lines.STARTED, "step", self.plan.slot, cameras=len(self.cameras))
        try:
            async with anyio.create_task_group() as telling:
                for task in (self._tell, self._keep, self._follow):
                    telling.start_soon(task)
                async with anyio.create_task_group() as watching:
                    for one in self.cameras:
                        watching.start_soon(self._watch, one)
                    await self._end.wait()
                    watching.cancel_scope.cancel()
                self._judge()
                await self._farewell.wait()
                telling.cancel_scope.cancel()
        finally:
            self._outbox.abandon()

    def end(self, ending: Ending) -> None:
        """Let it end. The first reason stays; whoever asks for the end waits no longer than the grace."""
        if self.ending is None:
            self.ending = ending
            self._outbox.hasten()
            self._news.set()
            self._end.set()
        if ending in _AT_ONCE:
            self._until = min(self._until, RUNTIME.monotonic() + self._rules.grace)

    @property
    def tasks(self) -> int:
        """Cameras that are being watched."""
        return sum(one.watching for one in self.cameras)

    def view(self) -> SessionView:
        """How it stands."""
        return SessionView(
            slot=self.plan.slot,
            mode=self.plan.mode,
            age=RUNTIME.monotonic() - self._began,
            cameras=tuple(one.view() for one in self.cameras),
            recognised=len(self._recognised),
            delivered=self._delivered,
            undelivered=self._outbox.lost,
            waiting=len(self._outbox),
            failures=self._patience.failures,
            silent_for=self._patience.silent_for,
            ended=self.ending,
        )

    # -- cameras ---------------------------------------------------------------------------------------------------

    async def _watch(self, one: Watched) -> None:
        """Watch one camera; however this ends, it is closed."""
        one.watching = True
        try:
            async with one.source:
                while await self._round(one):
                    pass
        except Exception as error:
            lines.unexpected(self.plan.slot, error, one.plan.id)
            self._died(one, over=True)
        finally:
            one.watching = False

    async def _round(self, one: Watched) -> bool:
        """Take a frame and look at it; whether there may be another."""
        began = RUNTIME.monotonic()
        try:
            frame = await one.source.atake()
            if frame.number <= one.last:  # it came as the newest while an older one waited for its turn
                return True
            began = RUNTIME.monotonic()
            self._lives(one)
            await self._look(one, frame)
        except CameraDeadError:
            self._died(one)
            return True
        except CameraError:  # there will be no frame: given up, or a file at its end
            if not RUNTIME.stopped:
                self._died(one, over=True)
            return False
        except Exception as error:  # of a part that was injected: the camera shall not be lost by it
            one.reason = "recogniser.failed"
            lines.unexpected(self.plan.slot, error, one.plan.id)
        await self._pause(one, began + self._rules.pace)
        return True

    async def _look(self, one: Watched, frame: TakenFrame) -> None:
        """Have the frame looked at, or a newer one, when it is this camera's turn; tell whom enough frames agree on."""
        frame, seen = await self._parts.look(one.source, frame, self._gallery)
        one.last = frame.number
        one.looked += 1
        one.reason = seen.reason
        if seen.reason:  # not all of it was looked at: it speaks neither for anybody nor against
            return
        shown: dict[str, float] = {}
        for sighting in seen.found:
            person = sighting.match.identity
            if person is not None:
                shown[person] = max(sighting.match.cosine, shown.get(person, -1.0))
        for person, cosine in one.agreeing.note(frame.connection, shown).items():
            if person not in self._recognised:
                self._recognised.add(person)
                lines.tell(lines.RECOGNISED, "step", self.plan.slot, one.plan.id)
                body = bodies.recognition(self.plan, one.plan, person, cosine, frame.at)
                self._put(("person", person), body, person)

    async def _pause(self, one: Watched, until: float) -> None:
        """Wait for the next look. A death is heard of earlier."""
        while (left := until - RUNTIME.monotonic()) > 0.0 and not RUNTIME.stopped:
            await RUNTIME.asleep(min(left, _GLANCE))
            if one.source.health().dead:
                return

    def _lives(self, one: Watched) -> None:
        if one.dead:
            one.dead = False
            self._status("CAMERA_RECONNECTED", "CAMERA_REVIVED", one.plan)

    def _died(self, one: Watched, *, over: bool = False) -> None:
        """One camera is dead. The session lives on as long as another is not; a dead one may be revived until then."""
        known, one.dead, one.over = one.dead, True, over
        if self.ending is not None:
            return
        if all(other is one or self._is_dead(other) for other in self.cameras):
            lines.tell(lines.ALL_DEAD, "gave_up", self.plan.slot)
            self._status("STOPPED", "ALL_CAMERAS_FAILED")
            self.end(Ending.all_cameras_failed)
        elif not known:
            self._status("CAMERA_DISCONNECTED", "CAMERA_FAILURE", one.plan)

    @staticmethod
    def _is_dead(one: Watched) -> bool:
        """Whether a camera whose death was heard of is still dead: its next frame may be on the way here."""
        return one.dead and (one.over or one.source.health().dead)

    # -- the receiver ----------------------------------------------------------------------------------------------

    def _status(self, status: str, reason: str, camera: CameraPlan | None = None, **more: Any) -> None:
        body = bodies.status(self.plan, status, reason, camera=camera, **more)
        self._put(("camera", camera.id) if camera is not None else "session", body)

    def _put(self, about: Hashable, body: Mapping[str, Any], person: str | None = None) -> None:
        self._messages += 1
        forgotten = self._outbox.put(Message(f"{self.id}-{self._messages}", about, body, person))
        if forgotten is not None and forgotten.person is not None:
            self._recognised.discard(forgotten.person)
            lines.tell(lines.FORGOTTEN, "rejected", self.plan.slot)
        self._news.set()

    async def _tell(self) -> None:
        """Deliver what waits, one after the other and in order: who is slow holds up nobody but himself."""
        while True:
            message = self._outbox.take()
            if message is None:
                await self._news.wait()
                self._news = anyio.Event()
                continue
            delivery = await self._deliver(message)
            self._told = RUNTIME.monotonic()
            self._patience.note(delivery)
            self._delivered += delivery.delivered
            self._outbox.settle(accepted=delivery.delivered, asked=not delivery.refused, ending=self.ending is not None)
            self._judge()

    async def _deliver(self, message: Message) -> Delivery:
        about = f"slot={self.plan.slot}"
        try:
            return await self._parts.sender.asend(self.plan.callback, message.body, id=message.id, about=about)
        except Exception as error:
            lines.unexpected(self.plan.slot, error)
            return Delivery(message.id, "", False, 0, None, Fault(Kind.unknown, "webhook.failed"), 0.0)

    # -- the clocks ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Look at the clocks from time to time."""
        while not RUNTIME.stopped:
            await RUNTIME.asleep(_TICK)
            self._judge()
        self.end(Ending.shutdown)
        self._farewell.set()

    def _judge(self) -> None:
        """Whether the receiver is given up, a sign of life is due, the farewell over."""
        lost = self._patience.lost
        if lost:
            if self.ending is None:
                lines.tell(lines.AUTO_STOP, "gave_up", self.plan.slot, reason=lost)
            self.end(_GIVEN_UP[lost])
            self._farewell.set()
        elif self.ending is not None:
            if self._outbox.idle or RUNTIME.monotonic() >= self._until:
                self._farewell.set()
        elif self._outbox.idle and RUNTIME.monotonic() - self._told >= self._rules.heartbeat:
            cameras = [{"id": one.id, "state": one.state} for one in (each.view() for each in self.cameras)]
            self._status("RUNNING", "HEARTBEAT", cameras=cameras)

    async def _follow(self) -> None:
        """Notice that somebody else has removed the session."""
        while self.ending is None and not RUNTIME.stopped:
            await RUNTIME.asleep(self._rules.look)
            try:
                if await self._parts.register.holds(self.plan.slot, self.id) or self.ending is not None:
                    continue
            except Exception as error:
                lines.unexpected(self.plan.slot, error)
                continue
            lines.tell(lines.REMOVED, "step", self.plan.slot)
            self.end(Ending.removed)
