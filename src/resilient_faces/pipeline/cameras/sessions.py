"""All sessions of a process, by slot."""

from __future__ import annotations

import contextvars
import os
from types import TracebackType
from typing import TYPE_CHECKING, Final

import anyio

from resilient_faces._core.options import Checks, checked_call
from resilient_faces.limits import Bulkhead
from resilient_faces.pipeline.cameras import lines
from resilient_faces.pipeline.cameras.parts import Recogniser, Register, Sender, Source, TakenFrame, Watch, rtsp_cameras
from resilient_faces.pipeline.cameras.plans import Rules, SessionPlan
from resilient_faces.pipeline.cameras.register import MemoryRegister
from resilient_faces.pipeline.cameras.session import Parts, Session, Watched
from resilient_faces.pipeline.cameras.views import (
    Cleanup,
    Ending,
    SessionExistsError,
    SessionsClosedError,
    SessionView,
)

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from typing_extensions import Self

    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import Sightings

__all__ = ["Sessions"]

_MANY: Final = 1_000_000  # cameras that wait for their turn: each waits with one frame, so they bound themselves
_FORGETTING: Final = 5.0  # seconds that a register has for the removal of a session that is over


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
    ) -> None:
        checks = Checks("Sessions")
        for name, part, methods in (
            ("recogniser", recogniser, ("arecognise",)),
            ("webhook", webhook, ("asend",)),
            ("register", register, ("add", "holds", "remove")),
        ):
            good = (name == "register" and part is None) or all(callable(getattr(part, one, None)) for one in methods)
            checks.that(good, name, f"an object with {', '.join(methods)}", type(part).__name__)
        checks.that(rules is None or isinstance(rules, Rules), "rules", "a Rules or None", rules)
        if cameras is not None:
            checks.function("cameras", cameras, "rtsp_cameras(...) makes it.")
        if at_once is not None:
            checks.whole("at_once", at_once, 1)
        checks.done()
        self._gallery = gallery
        self._watch = rtsp_cameras() if cameras is None else cameras
        self._rules = Rules() if rules is None else rules
        self._sessions: dict[int, Session] = {}
        self._group: TaskGroup | None = None
        self._context: contextvars.Context | None = None
        self._closed = False
        turns = Bulkhead(at_once or max(1, (os.cpu_count() or 2) // 2), max_waiting=_MANY, name="recognition")

        @turns
        async def look(source: Source, frame: TakenFrame, gallery: Gallery) -> tuple[TakenFrame, Sightings]:
            """Look at the camera's newest frame, which may be newer than the one that it waited with."""
            newest = source.latest()
            if newest is not None and newest.number > frame.number:
                frame = newest
            return frame, await recogniser.arecognise(await frame.aimage(), gallery)

        self._parts = Parts(look, webhook, MemoryRegister() if register is None else register, self._rules)

    # -- the block -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        self._closed = False
        # What a request carries by context, such as its deadline, is not to reach the session that it starts.
        self._context = contextvars.copy_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `shutdown`, if that was not called; then every task has ended."""
        assert self._group is not None
        try:
            await self.shutdown()
        finally:
            # Whatever ended the block is its own affair: a group would wrap it.
            await self._group.__aexit__(None, None, None)

    # -- sessions --------------------------------------------------------------------------------------------------

    async def start(self, plan: SessionPlan) -> SessionView:
        """Begin a session; returns at once, while its cameras are being opened.

        Raises:
            SessionExistsError: The slot has one. `SESSION_EXISTS | slot=` is logged.
            SessionsClosedError: Outside of the block, or after a shutdown.
            OptionError: `plan` is no plan.
            MissingExtraError: The extra `rtsp` is not installed.
        """
        checks = Checks("Sessions.start")
        checks.that(isinstance(plan, SessionPlan), "plan", "a SessionPlan", type(plan).__name__)
        checks.done()
        if self._group is None or self._context is None or self._closed:
            raise SessionsClosedError
        if plan.slot in self._sessions:
            raise self._exists(plan.slot)
        cameras = tuple(Watched(one, self._watch(one, plan.slot), self._rules) for one in plan.cameras)
        session = Session(plan, cameras, self._gallery if plan.gallery is None else plan.gallery, self._parts)
        self._sessions[plan.slot] = session  # from here on it can be stopped
        try:
            entered = await self._parts.register.add(plan.slot, session.id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._forget(session)  # whether it was entered is not known
            self._drop(session)
            raise
        if not entered:
            self._drop(session)
            raise self._exists(plan.slot)
        self._context.run(self._group.start_soon, self._run, session)
        return session.view()

    async def stop(self, slot: int) -> SessionView | None:
        """End a session and wait until nothing of it is left: tasks, cameras, threads. None if there is none.

        What waits to be told has `Rules.grace` seconds; a camera that is being opened ends within `Limits.open`.
        Cancelling the wait does not take the stop back.
        """
        session = self._sessions.get(slot)
        if session is None:
            return None
        session.end(Ending.requested)
        await session.gone.wait()
        return session.view()

    def get(self, slot: int) -> SessionView | None:
        """How the session of a slot stands; None if there is none."""
        session = self._sessions.get(slot)
        return None if session is None else session.view()

    def active(self) -> tuple[SessionView, ...]:
        """How all sessions stand, by slot."""
        return tuple(self._sessions[slot].view() for slot in sorted(self._sessions))

    async def wait(self, slot: int) -> SessionView | None:
        """Wait for the end of a session, whatever ends it; None if there is none."""
        session = self._sessions.get(slot)
        if session is None:
            return None
        await session.gone.wait()
        return session.view()

    async def shutdown(self) -> Cleanup:
        """Stop all sessions as `stop` does, side by side, and say how much was stopped. None is begun from now on.

        Logs `Cleanup complete: n tasks, m sessions`; an error meanwhile is logged as `Error during cleanup` and not
        raised.
        """
        again, self._closed = self._closed, True
        left = list(self._sessions.values())
        found = Cleanup(sum(one.tasks for one in left), len(left))
        for one in left:
            one.end(Ending.shutdown)
        for one in left:
            await one.gone.wait()
        if not again:
            lines.tell(lines.CLEANED, "step", "", tasks=found.tasks, sessions=found.sessions)
        return found

    async def _run(self, session: Session) -> None:
        """One session, whose end, of whatever kind, leaves the others alone."""
        try:
            await session.run()
        except Exception as error:
            lines.unexpected(session.plan.slot, error)
            session.end(Ending.failed)
        finally:
            session.end(Ending.shutdown)  # if it has not ended, everything was cancelled
            with anyio.CancelScope(shield=True):
                await self._forget(session)
            assert session.ending is not None
            lines.tell(lines.STOPPED, "step", session.plan.slot, reason=session.ending.value)
            self._drop(session)

    async def _forget(self, session: Session) -> None:
        """Take it out of the register."""
        try:
            with anyio.fail_after(_FORGETTING):
                await self._parts.register.remove(session.plan.slot, session.id)
        except Exception as error:
            lines.cleaning(error)

    def _drop(self, session: Session) -> None:
        """Nothing of it is left."""
        del self._sessions[session.plan.slot]
        session.gone.set()

    @staticmethod
    def _exists(slot: int) -> SessionExistsError:
        lines.tell(lines.EXISTS, "rejected", slot)
        return SessionExistsError(slot)


Sessions.__init__ = checked_call(Sessions.__init__)  # type: ignore[method-assign]
