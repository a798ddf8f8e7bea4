"""Sessions on scripted cameras and a clock that the test moves: who is told what, what ends one, what is left."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import MissingExtraError, OptionError, deadline, request
from resilient_faces._core.context import DEADLINE, REQUEST
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters.gallery import Match
from resilient_faces.adapters.insightface import Sighting, Sightings
from resilient_faces.adapters.rtsp import CameraDeadError, CameraError, Health, State
from resilient_faces.adapters.webhook import Delivery
from resilient_faces.events import Event
from resilient_faces.faults import Fault, Kind
from resilient_faces.pipeline.cameras import (
    Agreement,
    CameraPlan,
    Cleanup,
    Ending,
    MemoryRegister,
    Rules,
    SessionExistsError,
    SessionPlan,
    Sessions,
    SessionsClosedError,
    SessionView,
    rtsp_cameras,
)
from resilient_faces.pipeline.cameras.agreeing import Agreeing
from resilient_faces.testing import SteppedRuntime, fresh, settle

SECRET = "pl4nted-s3cret"
URL = f"https://school.example/hook?token={SECRET}"
FACE: Any = None  # nobody here looks at boxes
BROKEN = object()  # as a picture: recognition raises


# -- the surroundings, scripted ------------------------------------------------------------------------------------


@dataclass
class Shown:
    """A frame; its picture is who is in it, or a reason why nobody is seen."""

    number: int
    connection: int
    at: float
    picture: Any

    async def aimage(self) -> Any:
        return self.picture


class ScriptedCamera:
    """A camera that does what the test says."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.state = State.opening
        self.dead = self.ended = False
        self.open = self.opened = 0
        self.connection = 1
        self.number = 0
        self.frame: Shown | None = None
        self.death: State | None = None
        self.closing: list[Exception] = []
        self.opening: list[Exception] = []
        self.raises: list[Exception] = []
        self._changed = anyio.Event()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def show(self, *people: str, reason: str = "", picture: Any = None) -> None:
        """A frame with these people arrives; a dead camera is revived by it."""
        self.number += 1
        self.state, self.dead, self.death = State.live, False, None
        self.frame = Shown(self.number, self.connection, RUNTIME.monotonic(), picture or reason or people)
        self._tell()

    def die(self, state: State = State.refused) -> None:
        self.state, self.dead, self.death = state, True, state
        self.connection += 1
        self._tell()

    def end(self) -> None:
        self.state, self.ended = State.closed, True
        self._tell()

    async def __aenter__(self) -> object:
        if self.opening:
            raise self.opening.pop()
        self.open += 1
        self.opened += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            self.open -= 1
        if self.closing:
            raise self.closing.pop()

    async def atake(self) -> Shown:
        await anyio.lowlevel.checkpoint()
        while True:
            if self.raises:
                raise self.raises.pop()
            if self.frame is not None:
                frame, self.frame = self.frame, None
                return frame
            if self.death is not None:
                state, self.death = self.death, None
                raise CameraDeadError(self.id, state)
            if self.ended:
                raise CameraError(self.id, self.state)
            await self._changed.wait()

    def latest(self) -> Shown | None:
        return self.frame

    def health(self) -> Health:
        age = None if not self.number else 0.0
        return Health(self.id, self.state, self.dead, age, 10.0, self.number, 0, 0, 0, 1, {}, 0.0, "tcp", None)


class ScriptedRecogniser:
    """Sees who is in the picture, at once or when it is let."""

    def __init__(self) -> None:
        self.galleries: list[Any] = []
        self.order: list[Any] = []
        self.inside = self.most_inside = 0
        self.gate: anyio.Event | None = None

    async def arecognise(self, frame: Any, gallery: Any) -> Sightings:
        self.galleries.append(gallery)
        self.order.append(frame)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.inside -= 1
        if frame is BROKEN:
            raise ValueError(f"the picture of {SECRET}")
        if isinstance(frame, str):
            return Sightings(reason=frame)
        return Sightings(tuple(Sighting(FACE, Match(None if one == "?" else one, 0.91234, 0.5)) for one in frame))


@dataclass
class ScriptedReceiver:
    """A sender whose receivers accept, refuse or hang, by URL."""

    got: list[tuple[str, str, dict[str, Any], str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    refusing: bool = False
    raising: bool = False
    takes: float = 0.0
    over: anyio.Event = field(default_factory=anyio.Event)

    async def asend(self, url: str, body: Any, *, id: str, about: str) -> Delivery:
        self.ids.append(id)
        if url in self.hanging:
            await self.over.wait()
        await RUNTIME.asleep(self.takes)
        if self.raising:
            raise OptionError(SECRET)
        if self.refusing:
            return Delivery(id, "r", False, 0, None, Fault(Kind.rejected, "circuit.open"), 0.0)
        if url in self.away:
            return Delivery(id, "r", False, 4, 503, Fault(Kind.transient, "http.503"), 7.0)
        self.got.append((url, about, dict(body), id))
        return Delivery(id, "r", True, 1, 200, None, 0.1)

    @property
    def told(self) -> list[Any]:
        """What was accepted, in short: persons, or status and camera."""
        return [
            body["recognition"]["personId"]
            if "recognition" in body
            else " ".join(filter(None, (body["status"], body.get("cameraId"))))
            for _, _, body, _ in self.got
        ]


class World:
    """Sessions with all that is around them."""

    def __init__(self, clock: SteppedRuntime) -> None:
        self.clock = clock
        self.cameras: dict[tuple[int, str], ScriptedCamera] = {}
        self.recogniser = ScriptedRecogniser()
        self.receiver = ScriptedReceiver()
        self.register = MemoryRegister()
        self.events: list[Event] = []
        self.broken_cameras: list[Exception] = []
        self.sessions: Sessions
        RUNTIME.listen(self.events.append)

    def watch(self, plan: CameraPlan, slot: int) -> ScriptedCamera:
        if self.broken_cameras:
            raise self.broken_cameras.pop()
        camera = self.cameras[slot, plan.id] = ScriptedCamera(plan.id)
        return camera

    async def start(self, slot: int = 7, *cameras: str, **more: Any) -> list[ScriptedCamera]:
        ids = cameras or ("c1",)
        plans = [CameraPlan(one, f"Camera {one}", f"rtsp://admin:{SECRET}@cam.example/{one}") for one in ids]
        await self.sessions.start(SessionPlan(**{"slot": slot, "callback": URL, "cameras": plans, **more}))
        await settle()
        return [self.cameras[slot, one] for one in ids]

    async def see(self, camera: ScriptedCamera, *people: str, times: int = 3, reason: str = "") -> None:
        """So many frames, one in each second, are shown and looked at."""
        for _ in range(times):
            camera.show(*people, reason=reason)
            await self.clock.elapse(1.0)

    def view(self, slot: int = 7) -> SessionView:
        view = self.sessions.get(slot)
        assert view is not None
        return view

    @property
    def statuses(self) -> list[str]:
        return [one.status for one in self.events if one.policy == "session"]


Scenario: TypeAlias = Callable[[World], Awaitable[None]]


class Play:
    """Plays scenarios on one back end."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __call__(self, scenario: Scenario, **options: Any) -> World:
        async def main() -> World:
            failed: Exception | None = None
            over = anyio.Event()
            with SteppedRuntime().installed() as clock:
                world = World(clock)

                async def let_it_end() -> None:
                    """Once the scenario is over nothing that it left hanging shall hang for ever."""
                    await over.wait()
                    world.receiver.over.set()
                    await clock.elapse(1000.0)

                options.setdefault("register", world.register)
                made = Sessions(world.recogniser, "everybody", world.receiver, cameras=world.watch, **options)  # type: ignore[arg-type]
                async with anyio.create_task_group() as group:
                    group.start_soon(let_it_end)
                    try:
                        async with made as world.sessions:
                            try:
                                await scenario(world)
                            finally:
                                over.set()
                    except Exception as error:
                        failed = error
                if failed is not None:
                    raise failed
                assert not any(one.open for one in world.cameras.values()), "a camera was left open"
                assert not made.active()
                return world

        return anyio.run(main, backend=self.backend)


@pytest.fixture(params=["asyncio", "trio"])
def play(request: pytest.FixtureRequest, resilience: None) -> Play:
    return Play(request.param)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "resilient_faces.session"]


# -- recognising ---------------------------------------------------------------------------------------------------


def test_a_person_counts_once_enough_frames_agree(play: Play) -> None:
    """With the third of five, told with slot, recognition, mode and type, and only once in a session, whichever camera
    sees them later."""

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back", mode="EXAM")
        await world.see(front, "anna", times=2)
        assert world.receiver.told == []
        seen = RUNTIME.wall()
        await world.see(front, "anna", times=1)
        ((url, about, body, _),) = world.receiver.got
        assert (url, about) == (URL, "slot=7")
        at = body["recognition"].pop("seenAt")
        assert body == {
            "callbackType": "RECOGNITION",
            "slotId": 7,
            "mode": "EXAM",
            "recognition": {
                "personId": "anna",
                "cameraId": "front",
                "cameraName": "Camera front",
                "cosine": 0.9123,
            },
        }
        assert at == "2023-11-14T22:30:02.000Z"
        assert seen == 1_700_001_002.0
        await world.see(back, "anna", "ben", "?", times=5)
        assert world.receiver.told == ["anna", "ben"]
        assert world.view().recognised == 2
        await world.sessions.stop(7)
        (front,) = await world.start(7, "front")  # another session of the slot knows nobody
        await world.see(front, "anna")
        assert world.receiver.told == ["anna", "ben", "anna"]

    play(scenario)


def test_a_broken_picture_names_nobody(play: Play) -> None:
    """Damage is silent: whoever a single frame shows by mistake is not told."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        for _ in range(10):
            await world.see(camera, "ghost", times=1)
            await world.see(camera, times=2)
        assert set(world.receiver.told) <= {"RUNNING"}
        assert world.view().cameras[0].looked == 30

    play(scenario)


def test_without_a_model_the_session_goes_on(play: Play) -> None:
    """The answer is empty and has a reason, which the view shows; such frames count neither for nor against anybody."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        await world.see(camera, "anna", times=2)
        await world.see(camera, reason="insightface.pack_missing", times=50)
        assert world.view().cameras[0].reason == "insightface.pack_missing"
        assert world.receiver.told == ["RUNNING"]  # a sign of life, and no more
        await world.see(camera, "anna", times=1)
        assert world.view().cameras[0].reason == ""
        assert world.receiver.told[-1] == "anna"

    play(scenario)


def test_an_error_of_recognition_loses_no_camera(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever raises: it is logged by class and place, and the next frame is looked at."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        camera.show(picture=BROKEN)
        await world.clock.elapse(1.0)
        assert world.view().cameras[0].reason == "recogniser.failed"
        camera.raises.append(RuntimeError(SECRET))
        camera.show("anna")
        await world.clock.elapse(1.0)
        await world.see(camera, "anna")
        assert world.receiver.told == ["anna"]

    play(scenario)
    found = [text for level, text in lines(caplog) if level == "ERROR"]
    assert [text.partition(" at=")[0] for text in found] == [
        "SESSION_ERROR | slot=7 camera=c1 error=ValueError",
        "SESSION_ERROR | slot=7 camera=c1 error=RuntimeError",
    ]
    assert SECRET not in caplog.text


def test_a_plan_may_bring_its_gallery(play: Play) -> None:
    """Who may be seen differs between classes; an empty one is one."""
    own: Any = []

    async def scenario(world: World) -> None:
        (first,) = await world.start(1)
        (second,) = await world.start(2, gallery=own)
        await world.see(first, times=1)
        await world.see(second, times=1)
        assert world.recogniser.galleries == ["everybody", own]

    play(scenario)


# -- turns ---------------------------------------------------------------------------------------------------------


def test_cameras_take_turns(play: Play) -> None:
    """However many frames one camera has and however slow recognition is: each waits with one, and gets its turn; no
    more are inside than are let in, of all sessions together."""

    async def scenario(world: World) -> None:
        cameras = [*await world.start(1, "a", "b"), *await world.start(2, "c")]
        for turn in range(4):
            world.recogniser.gate = anyio.Event()
            for camera in cameras:
                camera.show(f"{camera.id}{turn}")
            await settle()
            world.recogniser.gate.set()
            await world.clock.elapse(1.0)
        assert world.recogniser.most_inside == 1
        turns = [{one[0][0] for one in world.recogniser.order[n : n + 3]} for n in range(0, 12, 3)]
        assert turns == [{"a", "b", "c"}] * 4

    play(scenario, at_once=1)


def test_the_newest_frame_is_looked_at(play: Play) -> None:
    """What a camera showed while its older frame waited takes that one's place, and is not looked at twice."""

    async def scenario(world: World) -> None:
        first, second = await world.start(7, "a", "b")
        world.recogniser.gate = anyio.Event()
        first.show("first")
        await settle()
        for number in range(3):
            second.show(f"second {number}")
            await settle()
        world.recogniser.gate.set()
        await world.clock.elapse(10.0)
        assert world.recogniser.order == [("first",), ("second 2",)]

    play(scenario, at_once=1)


def test_the_pace_is_kept(play: Play) -> None:
    """A camera of many frames is looked at as often as the rules say."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        for _ in range(200):
            camera.show()
            await world.clock.elapse(0.1)
        assert 9 <= len(world.recogniser.order) <= 11

    play(scenario, rules=Rules(pace=2.0))


# -- cameras that die ----------------------------------------------------------------------------------------------


def test_a_dead_camera_is_told_and_so_is_its_revival(play: Play) -> None:
    """Others are alive: the receiver gets state, reason, id and name; the session goes on."""

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        await world.see(back, times=1)
        front.die(State.unauthorised)
        await world.clock.elapse()
        assert world.view().cameras[0].state == "unauthorised"
        assert world.view().cameras[0].dead
        front.die(State.refused)  # once more, before a frame of it was taken: no news
        await world.clock.elapse(5.0)
        front.show()
        await world.clock.elapse(1.0)
        lost, back_again = (body for _, _, body, _ in world.receiver.got)
        assert lost.pop("at") == "2023-11-14T22:30:01.000Z"
        back_again.pop("at")
        head = {"callbackType": "SESSION_STATUS", "slotId": 7, "mode": "ATTENDANCE"}
        camera = {"cameraId": "front", "cameraName": "Camera front"}
        assert lost == {**head, "status": "CAMERA_DISCONNECTED", "reason": "CAMERA_FAILURE", **camera}
        assert back_again == {**head, "status": "CAMERA_RECONNECTED", "reason": "CAMERA_REVIVED", **camera}
        assert world.view().ended is None

    play(scenario)


def test_a_death_is_heard_of_within_a_second(play: Play) -> None:
    """Also by a session that looks at its cameras once in a minute."""

    async def scenario(world: World) -> None:
        front, _ = await world.start(7, "front", "back")
        await world.see(front, times=1)
        front.die()
        await world.clock.elapse(1.0)
        assert world.receiver.told == ["CAMERA_DISCONNECTED front"]

    play(scenario, rules=Rules(pace=60.0))


def test_the_last_cameras_death_ends_the_session(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and told, then session, recognised students and tasks are gone, and the slot is free."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        await world.see(front, "anna")
        back.die()
        await world.clock.elapse(1.0)
        front.die()
        await world.clock.elapse(1.0)
        assert world.receiver.told == ["anna", "CAMERA_DISCONNECTED back", "STOPPED"]
        body = world.receiver.got[-1][2]
        assert {key: body[key] for key in ("slotId", "status", "reason")} == {
            "slotId": 7,
            "status": "STOPPED",
            "reason": "ALL_CAMERAS_FAILED",
        }
        assert world.sessions.get(7) is None
        assert world.sessions.active() == ()
        assert front.open == back.open == 0
        await world.start(7)

    play(scenario)
    assert ("ERROR", "ALL_CAMERAS_DEAD | slot=7") in lines(caplog)
    assert ("INFO", "SESSION_STOPPED | slot=7 reason=all_cameras_failed") in lines(caplog)


def test_a_session_waits_for_its_last_word(play: Play) -> None:
    """While the receiver is slow the slot stays taken; a stop in between shortens the wait to the grace."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.takes = 40.0
        camera.die()
        await world.clock.elapse(39.0)
        assert world.view().ended is Ending.all_cameras_failed
        assert camera.open == 0
        await world.clock.elapse(1.0)
        assert world.sessions.get(7) is None
        assert world.receiver.told == ["STOPPED"]
        (camera,) = await world.start()
        camera.die()
        await world.clock.elapse(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(world.sessions.stop, 7)
            await world.clock.elapse(6.0)
            assert world.sessions.get(7) is None
        assert world.receiver.told == ["STOPPED"]

    play(scenario)


def test_a_last_word_that_nobody_takes_is_not_repeated_for_ever(play: Play) -> None:
    """The session ends all the same."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.away.add(URL)
        camera.die()
        await world.clock.elapse(1.0)
        assert world.sessions.get(7) is None
        assert len(world.receiver.ids) == 1

    play(scenario)


def test_a_camera_that_has_just_come_back_keeps_the_session(play: Play) -> None:
    """Its frame is on the way while the other one dies."""

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        back.die()
        await settle()
        front.die()
        back.state, back.dead = State.live, False  # connected; the frame comes in a moment
        await settle()
        assert world.view().ended is None
        back.show()
        await world.clock.elapse(1.0)
        assert world.receiver.told == [
            "CAMERA_DISCONNECTED back",
            "CAMERA_DISCONNECTED front",
            "CAMERA_RECONNECTED back",
        ]
        back.die()
        await world.clock.elapse(1.0)
        assert world.receiver.told[-1] == "STOPPED"

    play(scenario)


@pytest.mark.parametrize("how", ["given up", "file", "opening"])
def test_a_camera_that_ends_for_good_is_a_dead_one(play: Play, how: str) -> None:
    """Given up, a file at its end, or never opened for an error of our own."""

    async def scenario(world: World) -> None:
        watch = world.watch

        def watching(plan: CameraPlan, slot: int) -> ScriptedCamera:
            camera = watch(plan, slot)
            if how == "opening" and plan.id == "front":
                camera.opening.append(RuntimeError(SECRET))
            return camera

        world.sessions._watch = watching
        front, back = await world.start(7, "front", "back")
        if how == "given up":
            front.die()
            front.end()
        elif how == "file":
            front.end()
        await world.clock.elapse(1.0)
        assert world.receiver.told == ["CAMERA_DISCONNECTED front"]
        assert world.sessions.get(7) is not None
        back.end()
        await world.clock.elapse(1.0)
        assert world.receiver.told[1:] == ["STOPPED"]

    play(scenario)


# -- the receiver --------------------------------------------------------------------------------------------------


def test_ten_failures_in_a_row_stop_the_session(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Nine do not, and a success begins the count anew; what other sessions' receivers do does not matter."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        other = "https://other.example/hook"
        (camera,) = await world.start(7)
        await world.start(8, callback=other)
        world.receiver.away.add(URL)

        async def fail(times: int) -> None:
            for number in range(times):
                await world.see(camera, f"{len(world.receiver.ids)}/{number}")

        await fail(9)
        assert world.view().failures == 9
        world.receiver.away.clear()
        await world.see(camera, "anna")
        assert (world.view().failures, world.view().delivered) == (0, 10)  # and now all are told
        world.receiver.away.add(URL)
        await fail(9)
        assert world.view().ended is None
        await fail(1)
        assert world.sessions.get(7) is None
        assert world.view(8).ended is None
        assert camera.open == 0

    play(scenario)
    assert ("WARNING", "SESSION_AUTO_STOP | slot=7 reason=failures") in lines(caplog)
    assert ("INFO", "SESSION_STOPPED | slot=7 reason=receiver_failing") in lines(caplog)


def test_two_minutes_without_a_success_stop_the_session(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Also if there was never one: the clock runs from the session's start, and no delivery under way holds it up."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        world.receiver.hanging.add(URL)
        (camera,) = await world.start()
        await world.clock.elapse(60.0)
        await world.see(camera, "anna")
        await world.clock.elapse(56.5)
        assert world.view().ended is None
        await world.clock.elapse(0.5)
        assert world.sessions.get(7) is None
        assert camera.open == 0
        world.receiver.hanging.clear()
        (camera,) = await world.start()  # a later session has its own clock
        await world.clock.elapse(100.0)
        world.receiver.away.add(URL)
        await world.clock.elapse(100.0)
        assert world.view().ended is None
        await world.clock.elapse(60.0)
        assert world.sessions.get(7) is None

    play(scenario)
    assert ("WARNING", "SESSION_AUTO_STOP | slot=7 reason=silence") in lines(caplog)
    assert ("INFO", "SESSION_STOPPED | slot=7 reason=receiver_silent") in lines(caplog)


def test_a_quiet_session_gives_a_sign_of_life(play: Play) -> None:
    """It has nothing to tell for an hour, and is not stopped for it; the sign says how the cameras are."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        camera.show()
        await world.clock.elapse(600.0)
        assert world.view().ended is None
        assert world.receiver.told == ["RUNNING"] * 20 or world.receiver.told == ["RUNNING"] * 19
        body = world.receiver.got[0][2]
        assert body["reason"] == "HEARTBEAT"
        assert body["cameras"] == [{"id": "c1", "state": "live"}]

    play(scenario)


def test_whoever_has_something_to_tell_gives_no_other_sign(play: Play) -> None:
    """A delivery is one."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        for number in range(5):
            await world.see(camera, str(number))
            await world.clock.elapse(24.0)
        assert world.receiver.told == ["0", "1", "2", "3", "4"]

    play(scenario)


def test_a_receiver_that_was_away_gets_everything(play: Play) -> None:
    """What failed is told again once something was accepted, under the same id."""

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        world.receiver.away.add(URL)
        await world.see(front, "anna", "ben")
        back.die()
        await world.clock.elapse(20.0)
        assert len(world.receiver.ids) == 3
        assert world.view().waiting == 3
        world.receiver.away.clear()
        await world.clock.elapse(11.0)  # the sign of life
        assert world.receiver.told == ["RUNNING", "anna", "ben", "CAMERA_DISCONNECTED back"]
        assert world.receiver.ids[:3] == world.receiver.ids[4:]
        assert len(set(world.receiver.ids)) == 4
        assert (world.view().delivered, world.view().undelivered, world.view().waiting) == (4, 0, 0)

    play(scenario)


def test_a_recognition_that_had_to_go_is_told_when_the_person_is_seen_again(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue is bounded; what goes is the oldest, and the session forgets that it knew."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.hanging.add(URL)
        await world.see(camera, "first")  # under way
        await world.see(camera, "second")
        await world.see(camera, "third")
        await world.see(camera, "fourth")
        assert (world.view().recognised, world.view().waiting, world.view().undelivered) == (3, 3, 1)
        await world.see(camera, "second")
        assert (world.view().recognised, world.view().undelivered) == (3, 2)

    play(scenario, rules=Rules(waiting=2))
    assert lines(caplog) == [("WARNING", "RECOGNITION_FORGOTTEN | slot=7")] * 2


def test_one_slow_receiver_holds_up_nobody_else(play: Play) -> None:
    """Another session's is told meanwhile, and its own cameras are watched."""

    async def scenario(world: World) -> None:
        other = "https://other.example/hook"
        world.receiver.hanging.add(URL)
        (slow,) = await world.start(7)
        (quick,) = await world.start(8, callback=other)
        await world.see(slow, "anna")
        await world.see(quick, "ben")
        await world.see(slow, "carl")
        assert world.receiver.told == ["ben"]
        assert world.view(7).recognised == 2

    play(scenario)


def test_a_refusal_of_our_own_is_no_failure(play: Play) -> None:
    """An open circuit asked nobody; the clock goes on meanwhile."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.refusing = True
        for number in range(12):
            await world.see(camera, str(number))
        assert world.view().failures == 0
        world.receiver.refusing = False
        await world.clock.elapse(31.0)
        assert world.view().delivered == 13
        world.receiver.refusing = True
        await world.clock.elapse(121.0)
        assert world.sessions.get(7) is None

    play(scenario)


def test_a_sender_that_raises_is_a_failure(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Counted like one that says so; its text stays out of the log."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.raising = True
        await world.see(camera, "anna")
        assert world.view().failures == 1

    play(scenario)
    assert lines(caplog)[0][1].startswith("SESSION_ERROR | slot=7 error=OptionError at=")
    assert SECRET not in caplog.text


# -- starting and stopping -----------------------------------------------------------------------------------------


def test_a_slot_has_one_session(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """A second start is logged and refused, also one that comes while the first is being entered elsewhere."""

    async def scenario(world: World) -> None:
        await world.start(7)
        with pytest.raises(SessionExistsError) as caught:
            await world.start(7, "c2")
        assert str(caught.value) == "Session already exists for slot 7"
        assert (caught.value.slot, caught.value.code) == (7, "SESSION_ALREADY_EXISTS")
        assert isinstance(caught.value, ValueError)
        assert world.view().cameras[0].id == "c1"

        failed: list[BaseException] = []

        async def start() -> None:
            try:
                await world.start(9)
            except SessionExistsError as error:
                failed.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(start)
        assert len(failed) == 4

    play(scenario)
    assert lines(caplog) == [("WARNING", "SESSION_EXISTS | slot=7"), *[("WARNING", "SESSION_EXISTS | slot=9")] * 4]


def test_a_slot_that_another_process_has_is_taken(play: Play) -> None:
    """The register knows; nothing of the attempt is left."""

    async def scenario(world: World) -> None:
        await world.register.add(7, "another process's")
        with pytest.raises(SessionExistsError):
            await world.start(7)
        assert world.sessions.get(7) is None
        world.register.drop(7)
        await world.start(7)

    play(scenario)


def test_a_camera_that_cannot_be_made_starts_no_session(play: Play) -> None:
    """The caller gets the error, and the slot is free."""

    async def scenario(world: World) -> None:
        world.broken_cameras.append(OptionError("no such transport"))
        with pytest.raises(OptionError):
            await world.start(7)
        await world.start(7)

    play(scenario)


class HangingRegister(MemoryRegister):
    """Enters a session, and the answer never comes."""

    async def add(self, slot: int, session: str) -> bool:
        await super().add(slot, session)
        await anyio.sleep_forever()
        return True


def test_a_start_that_is_cancelled_leaves_nothing(play: Play) -> None:
    """Nobody knows whether the register has entered it; it is taken out."""
    register = HangingRegister()

    async def scenario(world: World) -> None:
        with anyio.move_on_after(0.01):
            await world.start(7)
        assert world.sessions.get(7) is None
        assert not register._sessions

    play(scenario, register=register)


def test_a_missing_extra_is_told_to_whoever_starts(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not to the log of a session that loses all its cameras."""
    monkeypatch.setitem(sys.modules, "av", None)

    async def scenario(world: World) -> None:
        world.sessions._watch = rtsp_cameras()
        with pytest.raises(MissingExtraError, match=r"resilient-faces\[rtsp\]"):
            await world.start(7)
        assert world.sessions.get(7) is None

    play(scenario)


def test_what_is_no_plan_is_refused(play: Play) -> None:
    """With the name of what is."""

    async def scenario(world: World) -> None:
        with pytest.raises(OptionError, match=r"Sessions\.start\.plan must be a SessionPlan; got 'dict'"):
            await world.sessions.start({"slotId": 7})  # type: ignore[arg-type]

    play(scenario)


def test_stopping_leaves_nothing(play: Play) -> None:
    """Tasks are cancelled and awaited, cameras closed, students and counts gone; who waits gets the last view."""

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        await world.see(front, "anna")
        view = await world.sessions.stop(7)
        assert view is not None
        assert (view.ended, view.recognised, view.delivered) == (Ending.requested, 1, 1)
        assert front.open == back.open == 0
        assert front.opened == back.opened == 1
        assert world.sessions.get(7) is None
        assert not await world.register.holds(7, "")
        assert not world.register._sessions
        assert await world.sessions.stop(7) is None
        assert await world.sessions.wait(7) is None
        await world.start(7)
        assert (world.view().recognised, world.view().failures, world.view().delivered) == (0, 0, 0)

    play(scenario)


def test_two_stops_wait_for_the_same_end(play: Play) -> None:
    """And one whose caller went away is carried out all the same."""

    async def scenario(world: World) -> None:
        await world.start(7)
        await world.start(8)
        ended: list[Any] = []

        async def stop() -> None:
            ended.append(await world.sessions.stop(7))

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            group.start_soon(stop)
        assert [one.ended for one in ended] == [Ending.requested] * 2
        with anyio.CancelScope() as scope:
            scope.cancel()
            await world.sessions.stop(8)
        await settle()
        assert world.sessions.get(8) is None

    play(scenario)


def test_what_waits_is_told_within_the_grace(play: Play) -> None:
    """A stop is no reason to lose somebody; a receiver that hangs is no reason to wait for ever."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start()
        world.receiver.takes = 2.0
        camera.show("anna", "ben")
        await world.clock.elapse(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(world.sessions.stop, 7)
            await world.clock.elapse(3.5)
            assert world.receiver.told == ["anna", "ben"]
            assert world.sessions.get(7) is None
        (camera,) = await world.start()
        world.receiver.takes = 3.0
        camera.show("anna", "ben")
        await settle()
        async with anyio.create_task_group() as group:
            ended: list[Any] = []

            async def stop() -> None:
                ended.append(await world.sessions.stop(7))

            group.start_soon(stop)
            await world.clock.elapse(5.25)
        assert (ended[0].delivered, ended[0].undelivered) == (1, 1)

    play(scenario, rules=Rules(agreement=Agreement(1, 1)))


def test_a_session_that_is_removed_elsewhere_ends(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Its loop notices, says so, and ends; so it does if another has taken its slot."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        (camera,) = await world.start(7)
        await world.clock.elapse(10.0)
        assert world.view().ended is None
        assert world.register.drop(7)
        await world.register.add(7, "another process's")
        await world.clock.elapse(1.0)
        assert world.sessions.get(7) is None
        assert camera.open == 0
        assert await world.register.holds(7, "another process's")  # which is left alone

    play(scenario)
    assert lines(caplog)[:3] == [
        ("INFO", "SESSION_STARTED | slot=7 cameras=1"),
        ("INFO", "Session stopped externally: slot=7"),
        ("INFO", "SESSION_STOPPED | slot=7 reason=removed"),
    ]


class SlowRegister(MemoryRegister):
    """One that is asked over a network."""

    async def remove(self, slot: int, session: str) -> None:
        await anyio.lowlevel.checkpoint()
        await super().remove(slot, session)


class BrokenRegister(MemoryRegister):
    """Fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    async def holds(self, slot: int, session: str) -> bool:
        if self.broken:
            raise ConnectionError(SECRET)
        return await super().holds(slot, session)

    async def remove(self, slot: int, session: str) -> None:
        if self.broken:
            raise ConnectionError(SECRET)
        await super().remove(slot, session)


def test_a_register_that_fails_ends_nothing(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Not knowing is no removal; and at the end an error of it is logged, not raised."""
    register = BrokenRegister()

    async def scenario(world: World) -> None:
        await world.start(7)
        register.broken = True
        await world.clock.elapse(10.0)
        assert world.view().ended is None
        assert await world.sessions.stop(7) is not None

    play(scenario, register=register)
    found = lines(caplog)
    assert found[0][1].startswith("SESSION_ERROR | slot=7 error=ConnectionError at=")
    assert found[-1][0] == "ERROR"
    assert found[-1][1].startswith("Error during cleanup: ConnectionError at ")
    assert SECRET not in caplog.text


# -- the end of all ------------------------------------------------------------------------------------------------


def test_a_shutdown_counts_what_it_stopped(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Tasks and sessions, logged; then none can be started. What fails meanwhile is logged and not raised."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        front, _ = await world.start(7, "front", "back")
        (other,) = await world.start(8)
        front.closing.append(RuntimeError(SECRET))
        front.show()
        other.show("anna")
        await settle()
        assert await world.sessions.shutdown() == Cleanup(3, 2)
        assert world.sessions.active() == ()
        assert not any(one.open for one in world.cameras.values())
        assert await world.sessions.shutdown() == Cleanup(0, 0)
        with pytest.raises(SessionsClosedError, match="No session can be started"):
            await world.start(9)

    play(scenario)
    texts = [text for _, text in lines(caplog)]
    assert texts.count("Cleanup complete: 3 tasks, 2 sessions") == 1
    assert any(text.startswith("SESSION_ERROR | slot=7 camera=front error=RuntimeError") for text in texts)
    assert "SESSION_STOPPED | slot=8 reason=shutdown" in texts
    assert SECRET not in caplog.text


def test_leaving_the_block_is_a_shutdown(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """However it is left: `play` looks that no camera stays open. An error of the block comes out as it is."""
    caplog.set_level(logging.INFO, "resilient_faces.session")

    async def scenario(world: World) -> None:
        await world.start(7, "front", "back")
        raise LookupError("the block's own")

    with pytest.raises(LookupError, match="the block's own"):
        play(scenario)
    assert ("INFO", "Cleanup complete: 2 tasks, 1 sessions") in lines(caplog)


def test_cancellation_releases_everything(play: Play) -> None:
    """The task that holds the block is cancelled amid everything: cameras are closed, the register is emptied."""

    async def main() -> None:
        with SteppedRuntime().installed() as clock:
            world = World(clock)
            world.receiver.hanging.add(URL)
            world.recogniser.gate = anyio.Event()
            world.register = SlowRegister()
            made = Sessions(
                world.recogniser,
                "everybody",  # type: ignore[arg-type]
                world.receiver,
                cameras=world.watch,
                register=world.register,
                rules=Rules(agreement=Agreement(1, 1)),
            )
            with anyio.CancelScope() as scope:
                async with made as world.sessions:
                    cameras = [*await world.start(7, "a", "b", "c"), *await world.start(8)]
                    world.recogniser.gate.set()
                    cameras[0].show("anna")
                    await settle()
                    world.recogniser.gate = anyio.Event()
                    cameras[1].show("ben")
                    cameras[2].show("carl")
                    await settle()
                    scope.cancel()
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
            assert [one.open for one in cameras] == [0, 0, 0, 0]
            assert not world.register._sessions
            assert not made.active()

    anyio.run(main, backend=play.backend)


def test_a_process_that_shuts_down_ends_its_sessions(play: Play) -> None:
    """Without a loop that spins because no wait lasts any more."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start(7)
        RUNTIME.stop()
        camera.end()
        await world.clock.elapse(1.0)
        assert world.sessions.get(7) is None
        assert world.receiver.told == []
        RUNTIME.stop(False)

    play(scenario)


def test_outside_of_the_block_nothing_starts(play: Play) -> None:
    """There would be nobody to wait for its tasks."""

    async def main() -> None:
        sessions = Sessions(ScriptedRecogniser(), None, ScriptedReceiver())  # type: ignore[arg-type]
        plan = SessionPlan(slot=1, callback=URL, cameras=[CameraPlan("a", "", "rtsp://h/x")])
        with pytest.raises(SessionsClosedError):
            await sessions.start(plan)

    anyio.run(main, backend=play.backend)


def test_a_session_does_not_inherit_its_request(play: Play) -> None:
    """The deadline and the id of the request that started it end with that request."""
    found: list[Any] = []

    async def scenario(world: World) -> None:
        async def arecognise(frame: Any, gallery: Any) -> Sightings:
            found.append((DEADLINE.get(), REQUEST.get().id))
            return Sightings()

        world.recogniser.arecognise = arecognise  # type: ignore[method-assign]
        with deadline(1.0), request("r-1"):
            (camera,) = await world.start(7)
        camera.show()
        await world.clock.elapse(1.0)

    play(scenario)
    assert found == [(None, "")]


def test_no_secret_leaves(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Identities, addresses and the callback's token are in no line, event or view."""
    caplog.set_level(logging.DEBUG)

    async def scenario(world: World) -> None:
        front, back = await world.start(7, "front", "back")
        await world.see(front, SECRET)
        back.die()
        await world.clock.elapse(1.0)
        front.die()
        await settle()
        shown = repr(world.events) + repr(world.sessions.active())
        shown += repr([one.to_dict() for one in world.sessions.active()])
        await world.clock.elapse(1.0)
        assert SECRET in world.receiver.told  # the receiver is told who
        assert SECRET not in shown + caplog.text
        assert world.statuses == [
            "SESSION_STARTED",
            "PERSON_RECOGNISED",
            "ALL_CAMERAS_DEAD",
            "SESSION_STOPPED",
        ]

    play(scenario)


def test_a_view_as_json(play: Play) -> None:
    """With the names that webhooks use."""

    async def scenario(world: World) -> None:
        (camera,) = await world.start(7)
        await world.see(camera, "anna")
        assert world.view().to_dict() == {
            "slotId": 7,
            "mode": "ATTENDANCE",
            "age": 3.0,
            "cameras": [
                {
                    "id": "c1",
                    "name": "Camera c1",
                    "state": "live",
                    "dead": False,
                    "age": 0.0,
                    "looked": 3,
                    "reason": "",
                }
            ],
            "recognised": 1,
            "delivered": 1,
            "undelivered": 0,
            "waiting": 0,
            "failures": 0,
            "silentFor": 1.0,
            "ended": None,
        }

    play(scenario)


# -- a law ---------------------------------------------------------------------------------------------------------

CAMERAS = ("a", "b")
ACTIONS = st.one_of(
    st.tuples(st.just("see"), st.sampled_from(CAMERAS), st.sampled_from(["anna", "ben", ""])),
    st.tuples(st.just("die"), st.sampled_from(CAMERAS), st.just("")),
    st.tuples(st.just("receiver"), st.sampled_from(["away", "back"]), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from(["1", "40"]), st.just("")),
)


@given(script=st.lists(ACTIONS, max_size=40))
def test_whatever_happens_the_receiver_knows_in_the_end(script: list[tuple[str, str, str]]) -> None:
    """Once it is back: whoever enough frames agreed on, once; of each camera whether it is dead; and that the session
    is over, if it is, after which nothing comes."""

    async def scenario(world: World) -> None:
        cameras = dict(zip(CAMERAS, await world.start(7, *CAMERAS), strict=True))
        agreeing = {name: Agreeing(Agreement(2, 3)) for name in CAMERAS}
        agreed: set[str] = set()
        over = False
        for what, which, person in [*script, ("receiver", "back", ""), ("wait", "40", ""), ("wait", "40", "")]:
            if what == "see" and not over:
                camera = cameras[which]
                camera.show(*filter(None, [person]))
                agreed |= set(agreeing[which].note(camera.connection, {person: 0.5} if person else {}))
                await world.clock.elapse(1.0)
            elif what == "die":
                cameras[which].die()
                over = over or all(camera.dead for camera in cameras.values())
                await world.clock.elapse(1.0)
            elif what == "receiver" and which == "away":
                world.receiver.away.add(URL)
            elif what == "receiver":
                world.receiver.away.clear()
            elif what == "wait":
                await world.clock.elapse(float(which))
        told = world.receiver.told
        assert (world.sessions.get(7) is None) is over
        if over:
            assert "STOPPED" not in told[:-1]
            return  # what waited when it ended had one more try, and the receiver may have been away
        people = [one for one in told if one in {"anna", "ben"}]
        assert sorted(people) == sorted(agreed)
        for name, camera in cameras.items():
            last = [one for one in told if one.endswith(f" {name}")][-1:]
            assert last == ([f"CAMERA_DISCONNECTED {name}"] if camera.dead else last)
            assert camera.dead or last in ([], [f"CAMERA_RECONNECTED {name}"])

    with fresh():
        rules = Rules(agreement=Agreement(2, 3), failures=1000, silence=100_000.0)
        Play("asyncio")(scenario, rules=rules)
