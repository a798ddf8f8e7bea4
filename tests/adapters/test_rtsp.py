"""What a camera does, decided without a camera: addresses, states, schedules, clocks, the reading, the slot."""

from __future__ import annotations

import contextlib
import logging
import pickle
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import OptionError, deadline
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.adapters.rtsp import (
    CLASSROOM,
    Address,
    Camera,
    CameraDeadError,
    CameraError,
    Frame,
    Limits,
    Openings,
    Read,
    Reconnect,
    State,
    classify_camera,
)
from resilient_faces.adapters.rtsp.limits import Tries
from resilient_faces.adapters.rtsp.reading import Reading, StallClock
from resilient_faces.adapters.rtsp.slot import Slot
from resilient_faces.adapters.rtsp.states import state_of
from resilient_faces.events import Event
from resilient_faces.faults import Executed, Kind, first_match
from resilient_faces.retry import exponential, fixed, none
from resilient_faces.telemetry import JsonFormatter
from resilient_faces.testing import ManualRuntime, Mode

SECRET = "pl4nted-s3cret"


# -- addresses -----------------------------------------------------------------------------------------------------

PLACES = (
    f"rtsp://admin:{SECRET}@10.0.0.7:554/Streaming/Channels/101",
    f"rtsp://john.doe:{SECRET}@cam.example/live",
    f"rtsp://a%40b:{SECRET}@cam.example/live",
    f"rtsp://:{SECRET}@cam.example/live",
    f"rtsp://admin:x@{SECRET}@cam.example/live",
    f"rtsp://admin:x/{SECRET}@cam.example/live",
    f"rtsp://admin:x?{SECRET}#@cam.example/live",
    f"rtsp://{SECRET}@cam.example:554/live",
    f"rtsp://cam.example/user=admin_password={SECRET}_channel=1.sdp",
    f"rtsp://cam.example/live?username=admin&password={SECRET}",
    f"rtsps://cam.example:7441/{SECRET}?enableSrtp",
    f"http://cam.example/video.mjpg?token={SECRET}#{SECRET}",
    f"RTSP://[fe80::1%25eth0]:554/{SECRET}",
)


@pytest.mark.parametrize("place", PLACES)
def test_an_address_keeps_its_secrets(place: str) -> None:
    """Wherever a vendor puts password or token, neither the address nor its camera shows it; FFmpeg gets all of it."""
    address = Address(place)
    camera = Camera(address)
    shown = [repr(address), str(address), address.shown, f"{address}", repr(camera), repr(camera.health())]
    assert not any(SECRET in one for one in shown)
    assert ("cam.example" in address.shown) or ("10.0.0.7" in address.shown) or ("[fe80" in address.shown)
    assert address.revealed() == place
    assert pickle.loads(pickle.dumps(address)).revealed() == place


@pytest.mark.parametrize(
    "place", ["", f"rtsp://admin:{SECRET}@", f"rtsp://{SECRET} x/live", f"rtsp://[::{SECRET}/x", f"rtsp:///{SECRET}"]
)
def test_an_address_that_is_none_is_refused_without_being_shown(place: str) -> None:
    """The message names the cure, not the address."""
    with pytest.raises(OptionError, match=r"Address\.source must be a URL") as caught:
        Address(place)
    assert SECRET not in str(caught.value)


def test_a_path_shows_its_name_only() -> None:
    """Folders tell whose recordings these are."""
    assert Address(Path("/home") / SECRET / "clip.mp4").shown == "clip.mp4"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transport": "smoke"}, "Camera.transport must be auto, tcp or udp"),
        ({"options": {"stimeout": "5"}}, "use Limits.open"),
        ({"name": f"rtsp://{SECRET}"}, "Camera.name must be a word for people"),
        ({"threads": -1}, "Camera.threads must be 0 or more"),
        ({"limits": 5}, "Camera.limits must be a Limits"),
        ({"reconnect": 5}, "Camera.reconnect must be a Reconnect"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], said: str) -> None:
    """The message names class, option, rule and cure, and no secret."""
    with pytest.raises(OptionError) as caught:
        Camera("rtsp://cam.example/live", **options)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_mistyped_option_is_refused() -> None:
    """So are those of the values."""
    with pytest.raises(TypeError, match="Did you mean reconnect"):
        Camera("x.mp4", reconect=None)  # type: ignore[call-arg]
    for make in (lambda: Limits(opne=1.0), lambda: Reconnect(trys=1)):  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword"):
            make()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limits(open=0.0), "Limits.open must be more than 0"),
        (lambda: Limits(lost=1.0), "Limits.lost must be at least stall"),
        (lambda: Limits(tick=4.0), "Limits.tick must be at most stall"),
        (lambda: Limits(unchanged=-1.0), "Limits.unchanged must be more than 0"),
        (lambda: Reconnect(tries=-1), "Reconnect.tries must be 0 or more"),
        (lambda: Reconnect(backoff=2.0), "Reconnect.backoff must be a delay"),
        (lambda: Reconnect(slow=3), "Reconnect.slow must be a delay"),
        (lambda: Reconnect(jitter=0.1), "Reconnect.jitter must be a jitter"),
        (lambda: Openings(0), "Openings.most must be 1 or more"),
    ],
)
def test_a_value_that_cannot_be_is_refused(make: Any, said: str) -> None:
    """Limits, schedules and bounds say what is wrong with them."""
    with pytest.raises(OptionError) as caught:
        make()
    assert said in str(caught.value)


# -- states --------------------------------------------------------------------------------------------------------

KINDS = {
    State.stalled: Kind.timeout,
    State.silent: Kind.timeout,
    State.disconnected: Kind.transient,
    State.refused: Kind.unavailable,
    State.unauthorised: Kind.auth,
    State.not_found: Kind.not_found,
    State.corrupt: Kind.integrity,
    State.failed: Kind.unknown,
    State.closed: Kind.cancelled,
}


@pytest.mark.parametrize(("state", "kind"), KINDS.items())
def test_each_state_has_its_fault(state: State, kind: Kind) -> None:
    """Every policy reads the same code and kind; a death has those of its cause."""
    for error in (CameraError("door", state), CameraDeadError("door", state)):
        fault = first_match(classify_camera)(error)
        assert (fault.kind, fault.code) == (kind, f"camera.{state.value}")
        assert fault.executed is Executed.no
        assert pickle.loads(pickle.dumps(error)).state is state
    assert classify_camera(ValueError()) is None


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("HTTPUnauthorizedError", State.unauthorised),
        ("HTTPForbiddenError", State.unauthorised),
        ("HTTPNotFoundError", State.not_found),
        ("HTTPServerError", State.refused),
        ("HTTPBadRequestError", State.refused),
        ("ConnectionRefusedError", State.refused),
        ("ConnectionResetError", State.disconnected),
        ("EOFError", State.disconnected),
        ("TimeoutError", State.silent),
        ("ExitError", State.silent),
        ("InvalidDataError", State.corrupt),
        ("FileNotFoundError", State.not_found),
        ("PermissionError", State.unauthorised),
        ("MemoryError", State.failed),
    ],
)
def test_errors_of_pyav_are_told_apart(name: str, state: State) -> None:
    """By their class; one that nobody knows is our failure and no judgement of the camera."""
    av: Any = pytest.importorskip("av.error", reason="the extra `rtsp` is not installed")
    error = getattr(av, name)(1, "x") if hasattr(av, name) else MemoryError()
    assert state_of(error, waited=0.1, limit=5.0) is state


def test_an_error_as_late_as_the_limit_is_silence() -> None:
    """FFmpeg calls a peer that never answers "invalid data"."""
    av: Any = pytest.importorskip("av.error", reason="the extra `rtsp` is not installed")
    assert state_of(av.InvalidDataError(1, "x"), waited=4.9, limit=5.0) is State.silent
    assert state_of(av.InvalidDataError(1, "x"), waited=0.2, limit=5.0) is State.corrupt
    assert state_of(av.OSError(5, "x"), waited=0.2, limit=5.0) is State.refused  # how a name that is not found shows


# -- the schedule --------------------------------------------------------------------------------------------------


def test_the_classroom_schedule() -> None:
    """Three tries, exactly 2 s before each, then dead; slowly ever after."""
    tries = Tries(CLASSROOM)
    quick = [tries.failed(State.silent, 0.0, 0.7) for _ in range(3)]
    assert [(one.seconds, one.attempt, one.died) for one in quick] == [(2.0, number, False) for number in (1, 2, 3)]
    fourth = tries.failed(State.silent, 0.0, 0.7)
    assert (fourth.attempt, fourth.died, tries.dead) == (None, True, True)
    slow = [tries.failed(State.silent, 0.0, 1.0 - 2**-40) for _ in range(20)]
    assert not any(one.died for one in slow)
    assert max(one.seconds or 0.0 for one in slow) == pytest.approx(60.0)
    assert Limits().open == 5.0  # the document's connect timeout


@pytest.mark.parametrize("state", [State.unauthorised, State.not_found])
def test_what_a_person_must_mend_is_not_tried_quickly(state: State) -> None:
    """401 and 404 end the quick tries at once, and the slow ones are slower still: never under half a minute."""
    tries = Tries(Reconnect())
    first = tries.failed(state, 0.0, 0.0)
    assert (first.attempt, first.died) == (None, True)
    assert first.seconds == 30.0
    later = [tries.failed(state, 0.0, 1.0 - 2**-40).seconds or 0.0 for _ in range(20)]
    assert later == sorted(later)
    assert later[-1] == pytest.approx(600.0)


def test_the_count_begins_afresh_after_healthy_seconds_only() -> None:
    """A camera that dies right after its first frame uses its tries up; one that ran has them again."""
    tries = Tries(Reconnect(healthy=10.0))
    assert [tries.failed(State.disconnected, 9.9, 0.5).attempt for _ in range(3)] == [1, 2, 3]
    assert tries.failed(State.disconnected, 9.9, 0.5).died
    tries.dead = False
    assert tries.failed(State.disconnected, 10.0, 0.5).attempt == 1


def test_a_crowded_camera_is_given_time() -> None:
    """One that agreed to play and sent nothing may still hold the place of our lost connection."""
    assert Tries(Reconnect()).failed(State.silent, 0.0, 0.0).seconds == 5.0
    assert Tries(Reconnect()).failed(State.refused, 0.0, 0.0).seconds == 0.0


def test_a_camera_may_be_given_up() -> None:
    """Without a slow schedule death is the end."""
    pause = Tries(Reconnect(tries=0, slow=None)).failed(State.refused, 0.0, 0.5)
    assert pause == type(pause)(None, None, True)


def test_a_hundred_cameras_after_a_power_cut_do_not_storm() -> None:
    """Lost together, they come back spread over the pause; with the document's fixed 2 s all knock at once."""
    draws = [number / 100 for number in range(100)]

    def busiest(plan: Reconnect) -> int:
        starts = Counter(int((Tries(plan).failed(State.disconnected, 99.0, one).seconds or 0.0) * 10) for one in draws)
        return max(starts.values())

    assert busiest(Reconnect()) <= 11  # in any tenth of a second
    assert busiest(CLASSROOM) == 100


@given(
    states=st.lists(st.sampled_from([one for one in State if one not in {State.live, State.opening}]), max_size=40),
    chance=st.floats(0.0, 1.0, exclude_max=True),
    healthy=st.sampled_from([0.0, 5.0, 30.0]),
)
def test_no_schedule_gives_a_camera_up_or_hammers_it(states: list[State], chance: float, healthy: float) -> None:
    """Whatever goes wrong, there is a next try within ten minutes; at most three in a row are quick."""
    tries, row = Tries(Reconnect()), 0
    for state in states:
        pause = tries.failed(state, healthy, chance)
        assert pause.seconds is not None
        assert 0.0 <= pause.seconds <= 600.0
        row = row + 1 if pause.attempt is not None and healthy < 10.0 else 0
        assert row <= 3
        assert tries.dead is (pause.attempt is None)


def test_openings_are_bounded(clock: ManualRuntime) -> None:
    """No more than so many at once; those that end, or wait for their camera, make place."""
    openings = Openings(2, lease=1.5)
    assert [openings.admit(one) for one in "abc"] == [0.0, 0.0, 0.1]
    openings.done("a")
    assert openings.admit("c") == 0.0
    assert openings.admit("d") > 0.0
    clock.advance(1.5)  # b and c are still under way, and wait: they cost nothing
    assert openings.admit("d") == 0.0


# -- the clocks ----------------------------------------------------------------------------------------------------


def test_a_slow_stream_is_not_stalled() -> None:
    """The limit follows the stream: a camera with a frame in five seconds is well."""
    clock = StallClock(Limits(), 0.0)
    for number in range(5):
        clock.frame(5.0 * number)
    assert clock.stall == 25.0
    assert not clock.stalled(44.9)
    assert clock.stalled(45.0)
    assert clock.verdict(69.9) is None
    assert clock.verdict(70.0) is State.stalled


def test_the_first_frame_has_a_deadline_of_its_own() -> None:
    """An open connection proves nothing; what came until then tells silence from corruption."""
    clock = StallClock(Limits(), 0.0)
    assert clock.verdict(9.9) is None
    assert clock.verdict(10.0) is State.silent
    clock.damaged(3)
    assert clock.verdict(10.0) is State.corrupt
    clock.damaged(300)
    assert not clock.spoiled  # before the first key frame nothing can be decoded


def test_damage_in_a_row_is_corruption() -> None:
    """Damage that many good frames come with is none."""
    clock = StallClock(Limits(damaged=5), 0.0)
    clock.frame(0.0)
    clock.damaged(4)
    assert not clock.spoiled
    clock.frame(0.1)
    clock.damaged(4)
    assert not clock.spoiled
    clock.damaged(1)
    assert clock.spoiled


def test_noise_that_is_decoded_now_and_then_is_corruption() -> None:
    """A decoder makes a picture of one piece in ten; that is not video, and would never be ten in a row."""
    clock = StallClock(Limits(damaged=50), 0.0)
    clock.frame(0.0)
    for number in range(1, 13):
        clock.damaged(9)
        clock.frame(0.5 * number)
    assert not clock.spoiled
    clock.damaged(2)
    assert clock.spoiled
    frozen = StallClock(Limits(), 0.0)
    frozen.frame(0.0)
    frozen.damaged(9)
    frozen.frame(0.1)
    assert frozen.verdict(20.0) is State.stalled  # since its last frame nothing came at all


@given(gaps=st.lists(st.floats(0.001, 4.0), min_size=2, max_size=40), more=st.floats(0.0, 100.0))
def test_no_verdict_comes_before_its_limit(gaps: list[float], more: float) -> None:
    """Stalled never before `stall`, given up never before `lost`, and both for certain once the stream's own pace is
    exceeded five and ten times."""
    limits = Limits()
    clock, now = StallClock(limits, 0.0), 0.0
    for gap in gaps:
        now += gap
        clock.frame(now)
    late = now + more
    assert clock.stalled(late) is (late - now >= max(3.0, 5.0 * clock.interval))
    assert clock.verdict(late) is (State.stalled if late - now >= max(10.0, 10.0 * clock.interval) else None)
    assert clock.stalled(now + 20.0 + 1e-6)


# -- the reading, with captures that are written down --------------------------------------------------------------


class Still:
    """A picture of one shade."""

    def __init__(self, shade: int = 0) -> None:
        self.shade = shade

    def image(self) -> Any:
        return self.shade

    def luma(self) -> Any:
        numpy = pytest.importorskip("numpy", reason="the extra `rtsp` is not installed")
        return numpy.full((4, 4), self.shade, numpy.int16)


WAIT, HELD, BAD, BAD_NOW, END = "wait", "held", "bad", "bad_now", "end"


class Written:
    """A connection whose looks are written down: seconds to the next frame, or one of the words."""

    transport = "tcp"

    def __init__(self, clock: ManualRuntime, looks: Iterable[Any], tick: float = 0.5) -> None:
        self.clock = clock
        self.looks = iter(looks)
        self.tick = tick
        self.closed = 0
        self.shade = 0

    def read(self) -> Read:
        look = next(self.looks, END)
        if isinstance(look, (int, float)):
            self.clock.advance(look)
            self.shade = (self.shade + 40) % 256
            return Read((Still(self.shade),))
        if isinstance(look, Read):
            self.clock.advance(0.1)
            return look
        if isinstance(look, BaseException):
            raise look
        if look in {WAIT, HELD, BAD}:
            self.clock.advance(self.tick)
        return {
            WAIT: Read(),
            HELD: Read((Still(),)),
            BAD: Read(damaged=1),
            BAD_NOW: Read(damaged=1),
            END: Read(ended=True),
        }[look]

    def close(self) -> None:
        self.closed += 1


class Scene:
    """A reading, its captures one after the other, and what was told."""

    def __init__(self, clock: ManualRuntime, *captures: Any, live: bool = True, **options: Any) -> None:
        self.clock = clock
        self.captures = [one if isinstance(one, (BaseException, Written)) else Written(clock, one) for one in captures]
        self.left = list(self.captures)
        self.box = Slot()
        self.events: list[Event] = []
        self.frames: list[Frame] = []
        self.over = False
        RUNTIME.listen(self.events.append)
        put = self.box.put

        def putting(frame: Frame) -> None:
            self.frames.append(frame)
            put(frame)

        self.box.put = putting  # type: ignore[method-assign]
        self.openings = options.pop("openings", Openings())
        self.reading = Reading(
            camera="door",
            slot="7",
            open=self.open,
            limits=options.pop("limits", Limits()),
            reconnect=options.pop("reconnect", CLASSROOM),
            openings=self.openings,
            box=self.box,
            closing=lambda: self.over,
            live=live,
        )

    def open(self) -> Any:
        if not self.left:
            self.over = True
            return Written(self.clock, [])
        capture = self.left.pop(0)
        if isinstance(capture, BaseException):
            raise capture
        return capture

    def play(self) -> list[float]:
        """To the end of the script; the pauses."""
        pauses = []
        for pause in self.reading.steps():
            pauses.append(pause)
            self.clock.advance(pause)
        return pauses

    @property
    def told(self) -> list[str]:
        return [one.status for one in self.events]


def down(state: State = State.refused) -> CameraError:
    return CameraError("door", state)


def test_the_document_step_by_step(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """A read that fails is logged, the capture released, then three tries, 2.0 s before each, with the document's
    lines at the document's levels; then the camera is dead."""
    caplog.set_level(logging.INFO, "resilient_faces.camera")
    lost = Written(clock, [0.1] * 3)
    scene = Scene(clock, lost, down(State.silent), down(), [*([0.1] * 110), END], down(), down(), down())
    pauses = scene.play()
    assert lost.closed == 1
    assert pauses[:3] == [2.0, 2.0, 2.0]
    lines = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert lines[:14] == [
        ("WARNING", "CAMERA_READ_FAIL | slot=7 camera=door error=camera.disconnected"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=1/3"),
        ("WARNING", "CAMERA_RECONNECT_TIMEOUT | camera=door"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=2/3"),
        ("ERROR", "CAMERA_RECONNECT_ERROR | camera=door error=camera.refused"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=3/3"),
        ("INFO", "CAMERA_RECONNECT_OK | camera=door"),
        ("WARNING", "CAMERA_READ_FAIL | slot=7 camera=door error=camera.disconnected"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=1/3"),
        ("ERROR", "CAMERA_RECONNECT_ERROR | camera=door error=camera.refused"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=2/3"),
        ("ERROR", "CAMERA_RECONNECT_ERROR | camera=door error=camera.refused"),
        ("WARNING", "CAMERA_RECONNECT | camera=door attempt=3/3"),
        ("ERROR", "CAMERA_RECONNECT_ERROR | camera=door error=camera.refused"),
    ]
    assert lines[14] == ("WARNING", "CAMERA_DEAD | slot=7 camera=door error=camera.refused")
    assert lines[-1] == ("INFO", "CAMERA_STOP | slot=7 camera=door")
    assert [f"{one.status}" for one in scene.events] == [line.split(" ")[0] for _, line in lines]


def test_lines_are_written_once_and_carry_their_event(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """The default listener leaves these events to the camera; as JSON a line has the event's members."""
    caplog.set_level(logging.DEBUG)
    scene = Scene(clock, [0.1], reconnect=Reconnect(tries=1, slow=None))
    scene.play()
    found = [one for one in caplog.records if "CAMERA_RECONNECT |" in one.getMessage()]
    assert len(found) == 1
    assert len(caplog.records) == len(scene.events)
    line = JsonFormatter().format(found[0])
    for member in ('"policy": "camera"', '"name": "door"', '"key": "7"', '"code": "camera.disconnected"'):
        assert member in line
    assert '"attempt": 1' in line


def test_a_stall_is_told_and_ridden_out(clock: ManualRuntime) -> None:
    """It is not yet a reconnect: the connection stays, and what comes later is told as recovered."""
    scene = Scene(clock, [*([0.1] * 20), *([WAIT] * 12), *([0.1] * 5)])
    scene.play()
    assert scene.told[:2] == ["CAMERA_STALLED", "CAMERA_RESUMED"]
    assert scene.events[0].elapsed == pytest.approx(3.0, abs=0.51)
    assert {frame.connection for frame in scene.frames} == {1}
    assert scene.reading.health().stalls == 1


def test_a_stall_that_lasts_ends_the_connection(clock: ManualRuntime) -> None:
    """After `lost` seconds, as `camera.stalled`."""
    frozen = Written(clock, [*([0.1] * 20), *([WAIT] * 100)])
    scene = Scene(clock, frozen, [0.1])
    scene.play()
    assert scene.told[:4] == ["CAMERA_STALLED", "CAMERA_READ_FAIL", "CAMERA_RECONNECT", "CAMERA_RECONNECT_OK"]
    failed = scene.events[1]
    assert (failed.code, failed.kind) == ("camera.stalled", "timeout")
    assert failed.elapsed == pytest.approx(10.0, abs=0.51)
    assert frozen.closed == 1


def test_the_frame_that_a_timeout_flushes_does_not_set_the_clock_back(clock: ManualRuntime) -> None:
    """The parser gives up an old frame when a wait is ended: it had come before that wait, and looks alive."""
    scene = Scene(clock, [*([0.1] * 20), HELD, *([WAIT] * 30)])
    began = clock.now
    scene.play()
    stalled = next(one for one in scene.events if one.status == "CAMERA_STALLED")
    assert stalled.t - (began + 2.0) == pytest.approx(3.0, abs=0.01)  # from the freeze, not from the flush
    assert scene.frames[20].at == pytest.approx(began + 2.0)


@pytest.mark.parametrize("look", [WAIT, BAD])
def test_an_open_connection_without_a_frame_fails(clock: ManualRuntime, look: str) -> None:
    """After `first_frame` seconds: silent if nothing came, corrupt if what came was no video."""
    scene = Scene(clock, [look] * 100)
    began = clock.now
    scene.play()
    assert scene.events[0].code == ("camera.silent" if look is WAIT else "camera.corrupt")
    assert scene.events[0].t - began == pytest.approx(10.0, abs=0.5)


def test_damage_before_the_first_key_frame_is_none(clock: ManualRuntime) -> None:
    """Who joins between two key frames cannot decode, and loses nothing but time."""
    scene = Scene(clock, [*([BAD_NOW] * 200), *([0.1] * 5)])
    scene.play()
    assert len(scene.frames) == 5
    assert scene.events[0].code == "camera.disconnected"
    assert scene.reading.health().damaged == 200


def test_corrupt_video_is_told(clock: ManualRuntime) -> None:
    """So many undecodable pieces in a row, though each comes in time."""
    scene = Scene(clock, [0.1, *([BAD_NOW] * 60)])
    scene.play()
    assert scene.events[0].code == "camera.corrupt"


def test_a_dead_camera_is_tried_on_and_revived(clock: ManualRuntime) -> None:
    """While somebody wants it, a slow schedule goes on; the first frame revives it."""
    scene = Scene(clock, *[down() for _ in range(9)], [0.1] * 5)
    pauses = scene.play()
    assert scene.told[:2] == ["CAMERA_READ_FAIL", "CAMERA_RECONNECT"]
    dead, revived = scene.told.index("CAMERA_DEAD"), scene.told.index("CAMERA_REVIVED")
    assert dead + 1 == revived  # slow tries are not told one by one
    assert pauses[3:9] == [5.0, 10.0, 20.0, 30.0, 30.0, 30.0]  # half of 10, 20, 40, 60: full jitter at chance 0.5
    assert len(scene.frames) == 5


def test_a_death_is_handed_to_whoever_takes(clock: ManualRuntime) -> None:
    """Once, with its cause; a revival that came first takes it back."""
    scene = Scene(clock, down(State.unauthorised), reconnect=Reconnect(slow=None))
    scene.play()
    with pytest.raises(CameraDeadError, match="camera 'door' is dead: unauthorised"):
        scene.box.take(0.0, 3.0)
    with pytest.raises(EOFError):
        scene.box.take(0.0, 3.0)
    assert scene.reading.state is State.unauthorised
    revived = Scene(clock, down(State.unauthorised), [0.1], reconnect=Reconnect(healthy=0.0))
    revived.play()
    assert revived.box.take(0.0, 1e9) is not None
    with pytest.raises(EOFError):  # the end, and no death that is over
        revived.box.take(0.0, 1e9)


def test_an_error_of_our_own_is_a_failure_like_any_other(
    clock: ManualRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader lives on, by the same schedule; the log names the class, not the text."""
    broken = Written(clock, [0.1, RuntimeError(f"rtsp://x:{SECRET}@y")])
    scene = Scene(clock, ZeroDivisionError(SECRET), broken, [0.1])
    scene.play()
    assert scene.events[0].code == "camera.failed"
    assert len(scene.frames) == 2
    assert broken.closed == 1
    assert "CAMERA_ERROR | slot=7 camera=door error=ZeroDivisionError at=" in caplog.text
    assert SECRET not in caplog.text


def test_an_opening_gives_its_place_back(clock: ManualRuntime) -> None:
    """At the first frame, or when it fails."""
    openings = Openings(1)
    scene = Scene(clock, down(), [0.1], openings=openings)
    steps = scene.reading.steps()
    next(steps)
    assert openings.admit("other") == 0.0
    assert next(steps) > 0.0  # now this one waits for its turn
    openings.done("other")
    clock.advance(0.1)
    next(steps)
    assert len(scene.frames) == 1
    steps.close()


def test_the_first_opening_may_be_spread(clock: ManualRuntime) -> None:
    """So that a hundred cameras that are started together do not open together."""
    clock.chance = 0.25
    assert Scene(clock, [0.1], reconnect=Reconnect(spread=8.0)).play()[0] == 2.0


def test_a_picture_that_does_not_change_is_told(clock: ManualRuntime) -> None:
    """Packets go on, the encoder hangs: told once, and once more when the picture moves."""
    same = [Read((Still(9),)) for _ in range(350)]
    scene = Scene(clock, [*([0.1] * 20), *same, *([0.1] * 30)])
    scene.play()
    assert scene.told[:2] == ["CAMERA_PICTURE_UNCHANGED", "CAMERA_PICTURE_CHANGES"]
    assert scene.events[0].elapsed == pytest.approx(30.0, abs=1.2)
    unwatched = Scene(clock, [*same], limits=Limits(unchanged=None))
    unwatched.play()
    assert "CAMERA_PICTURE_UNCHANGED" not in unwatched.told


def test_a_file_waits_for_its_taker_and_ends(clock: ManualRuntime) -> None:
    """No frame is skipped, nothing stalls, and the end is no failure."""
    scene = Scene(clock, [60.0] * 3, live=False)
    taken: list[int] = []
    scene.box.until_free = lambda limit: taken.append(scene.box.take(0.0, 1e9).number)  # type: ignore[method-assign,union-attr]
    scene.play()
    assert taken == [1, 2, 3]
    assert scene.told == ["CAMERA_STOP"]
    assert scene.box.skipped == 0


def test_a_file_that_is_no_video_is_corrupt(clock: ManualRuntime) -> None:
    """Its end without a frame is a failure."""
    scene = Scene(clock, [BAD_NOW] * 3, live=False)
    scene.play()
    assert scene.events[0].code == "camera.corrupt"


def test_no_secret_of_an_error_gets_out(clock: ManualRuntime, caplog: pytest.LogCaptureFixture) -> None:
    """Events, lines, errors, their notes and causes: all are made from names and words."""
    caplog.set_level(logging.DEBUG)
    scene = Scene(clock, OSError(5, f"rtsp://u:{SECRET}@h"), reconnect=Reconnect(tries=0, slow=None))
    scene.play()
    with pytest.raises(CameraDeadError) as caught:
        scene.box.take(0.0, 1.0)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    told += "".join(repr(one) + str(one.to_dict()) for one in scene.events) + repr(scene.reading.health())
    assert SECRET not in told
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# -- the slot ------------------------------------------------------------------------------------------------------


def frame(number: int, at: float | None = None) -> Frame:
    return Frame("door", number, RUNTIME.monotonic() if at is None else at, 1, Still(number))


def test_the_newest_frame_wins(clock: ManualRuntime) -> None:
    """Slow processing sees the present; it learns how many it missed."""
    slot = Slot()
    for number in range(1, 6):
        slot.put(frame(number))
    taken = slot.take(0.0, 3.0)
    assert taken is not None
    assert (taken.number, taken.skipped, slot.skipped) == (5, 4, 4)
    assert slot.take(0.0, 3.0) is None
    assert taken.image == 5


def test_a_stale_frame_is_not_shown(clock: ManualRuntime) -> None:
    """Better none than one from before the stall."""
    slot = Slot()
    slot.put(frame(1))
    clock.advance(3.1)
    assert slot.take(0.0, 3.0) is None
    slot.put(frame(2))
    assert slot.take(0.0, 3.0).age == 0.0  # type: ignore[union-attr]


def test_whoever_waits_is_woken_from_another_thread(mode: Mode) -> None:
    """A frame, or the end, reaches a waiting thread, an asyncio task and a trio task."""
    slot = Slot()

    def later() -> None:
        slot.put(frame(1))

    def end() -> None:
        slot.end()

    def take_both() -> list[int]:
        threading.Timer(0.05, later).start()
        seen = [slot.take(5.0, 9.0).number]  # type: ignore[union-attr]
        threading.Timer(0.05, end).start()
        with pytest.raises(EOFError):
            slot.take(5.0, 9.0)
        return seen

    async def atake_both() -> list[int]:
        threading.Timer(0.05, later).start()
        seen = [(await slot.atake(5.0, 9.0)).number]  # type: ignore[union-attr]
        threading.Timer(0.05, end).start()
        with pytest.raises(EOFError):
            await slot.atake(5.0, 9.0)
        return seen

    assert mode.call(atake_both if mode.is_async else take_both) == [1]


def test_a_task_that_is_cancelled_leaves_nothing_behind(mode: Mode) -> None:
    """The slot forgets whom to wake, and the frame is there for the next."""
    if not mode.is_async:
        return  # a thread cannot be cancelled
    slot = Slot()

    async def main() -> int:
        with anyio.move_on_after(0.02):
            await slot.atake(None, 9.0)
        assert not slot._wakers
        slot.put(frame(4))
        return (await slot.atake(0.0, 9.0)).number  # type: ignore[union-attr]

    assert mode.call(main) == 4


# -- the camera ----------------------------------------------------------------------------------------------------


class Steady:
    """A connection that gives a frame in 5 ms, until it is told otherwise."""

    transport = "tcp"

    def __init__(self) -> None:
        self.open = True
        self.owner: int | None = None
        self.closed_by: int | None = None
        self.wait = threading.Event()

    def read(self) -> Read:
        self.owner = threading.get_ident()
        self.wait.wait(0.005)
        return Read((Still(1),)) if self.open else Read()

    def close(self) -> None:
        self.closed_by = threading.get_ident()


@pytest.fixture
def steady(resilience: None) -> Iterator[tuple[Camera, Steady]]:
    capture = Steady()
    camera = Camera("rtsp://cam.example/live", name="door", open=lambda: capture, limits=Limits(tick=0.01))
    yield camera, capture
    assert camera.close()


def test_iterating_gives_frames_in_order(steady: tuple[Camera, Steady], mode: Mode) -> None:
    """As a loop in a thread, in asyncio and in trio; it begins to read by itself and ends with the camera."""
    camera, _ = steady

    def plain() -> list[int]:
        numbers = []
        for one in camera:
            numbers.append(one.number)
            if len(numbers) == 3:
                camera.close()
        return numbers

    async def tasks() -> list[int]:
        numbers = []
        async with camera:
            async for one in camera:
                numbers.append(one.number)
                if len(numbers) == 3:
                    await camera.aclose()
        return numbers

    numbers = mode.call(tasks if mode.is_async else plain)
    assert len(numbers) == 3  # type: ignore[arg-type]
    assert all(a < b for a, b in pairwise(numbers))  # type: ignore[call-overload]
    assert camera.state is State.closed


def test_the_connection_is_closed_by_the_thread_that_reads(steady: tuple[Camera, Steady]) -> None:
    """Closing it from another one crashes FFmpeg."""
    camera, capture = steady
    camera.take(5.0)
    closer = threading.Thread(target=camera.close)
    closer.start()
    closer.join()
    assert capture.closed_by == capture.owner != threading.get_ident()


def test_a_closed_camera_says_so_and_can_begin_anew(steady: tuple[Camera, Steady]) -> None:
    """Taking raises, iterating is over; `start` opens it again."""
    camera, _ = steady
    camera.take(5.0)
    while camera.latest() is None:
        time.sleep(0.001)
    assert camera.close()  # what lies there goes with it
    assert camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.take(1.0)
    assert list(camera) == []
    camera.start()
    assert camera.take(5.0).camera == "door"


def test_taking_has_a_limit_and_says_why(steady: tuple[Camera, Steady], mode: Mode) -> None:
    """The error has the camera's state; a deadline bounds the wait as well."""
    camera, capture = steady
    camera.take(5.0)
    capture.open = False
    take = camera.atake if mode.is_async else camera.take
    with contextlib.suppress(CameraError):
        mode.call(take, 0.03)  # a frame may lie there
    with pytest.raises(CameraError) as caught:
        mode.call(take, 0.03)
    assert caught.value.code == "camera.stalled"
    if not mode.is_async:
        with deadline(0.03), pytest.raises(CameraError):
            camera.take()


def test_a_reader_that_is_stuck_is_told(resilience: None, caplog: pytest.LogCaptureFixture) -> None:
    """Closing comes back within its limit and says that the reader has not ended."""
    go_on = threading.Event()

    def stuck() -> Any:
        go_on.wait(5.0)
        raise down()

    camera = Camera("rtsp://cam.example/live", name="door", open=stuck)
    camera.start()
    assert camera.close(0.05) is False
    assert "CAMERA_THREAD_STUCK | slot= camera=door" in caplog.text
    go_on.set()


def test_shutdown_ends_the_reading(steady: tuple[Camera, Steady]) -> None:
    """When the process is told to stop, cameras need no word of their own."""
    camera, _ = steady
    camera.take(5.0)
    RUNTIME.stop()
    assert len(list(camera)) <= 2  # one that lies there, one under way
    assert camera.state is State.closed


def test_a_forked_child_does_not_touch_the_parents_camera(steady: tuple[Camera, Steady]) -> None:
    """There the camera is closed, and may be started anew."""
    camera, _ = steady
    camera.take(5.0)
    parents = (camera._end, camera._thread, camera._reading, camera._box)
    camera.after_fork()
    assert camera.state is State.opening
    with pytest.raises(CameraError):
        camera.take(0.0)
    camera._end, camera._thread, camera._reading, camera._box = parents


def test_a_camera_that_was_not_started_tells_its_health() -> None:
    """Nothing is opened by asking."""
    health = Camera("clip.mp4", name="clip").health()
    assert (health.camera, health.state, health.frames, health.age) == ("clip", State.opening, 0, None)


def test_exponential_slow_schedule_is_ours_to_choose(clock: ManualRuntime) -> None:
    """Any delay of the retry package serves."""
    plan = Reconnect(tries=1, backoff=fixed(0.5), jitter=none(), slow=exponential(1.0, factor=3.0, cap=5.0))
    clock.chance = 1.0 - 2**-40
    pauses = Scene(clock, *[down() for _ in range(5)], reconnect=plan).play()
    assert pauses == pytest.approx([0.5, 1.0, 3.0, 5.0, 5.0])
