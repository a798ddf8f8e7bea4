"""Cameras on real connections: every fault of the test server, told apart, noticed in time and survived."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from resilient_faces import guard, retry
from resilient_faces.adapters.rtsp import (
    Camera,
    CameraDeadError,
    CameraError,
    Limits,
    Reconnect,
    State,
    classify_camera,
)
from resilient_faces.faults import first_match
from resilient_faces.retry import fixed, none

av: Any = pytest.importorskip("av", reason="the extra `rtsp` is not installed: pip install 'resilient-faces[rtsp]'")
numpy: Any = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'resilient-faces[rtsp]'")

from resilient_faces.adapters.rtsp.capture import _Picture as Pictured  # noqa: E402
from resilient_faces.testing.rtsp_server import (  # noqa: E402  # once it is known that PyAV is there
    BlackHole,
    Clip,
    Fault,
    RtspProcess,
    RtspServer,
    ServedCamera,
    encode,
    moving_blocks,
    read_stamp,
)

SECRET = "pl4nted s3cret@:/"
RATE = 40.0
LIMITS = Limits(open=0.8, first_frame=0.8, stall=0.5, lost=1.0, tick=0.15, damaged=10)
QUICK = Reconnect(
    tries=2, backoff=fixed(0.1), jitter=none(), slow=fixed(0.2), hopeless=fixed(0.4), healthy=0.2, crowded=0
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return encode(moving_blocks(20), rate=RATE)


@pytest.fixture(scope="module")
def long_clip() -> Clip:
    """4 s without a repetition: frames of it tell how old they are, up to that."""
    return encode(moving_blocks(160), rate=RATE)


@pytest.fixture
def server(resilience: None, clip: Clip) -> Iterator[RtspServer]:
    with RtspServer() as running:
        running.add("/door", clip)
        yield running


@pytest.fixture
def served(server: RtspServer) -> ServedCamera:
    return server.cameras["/door"]


@pytest.fixture
def camera(server: RtspServer) -> Iterator[Camera]:
    with Camera(server.url("/door"), name="door", limits=LIMITS, reconnect=QUICK) as one:
        yield one
        assert one.close(), "the reader did not end"


def until(true: Callable[[], bool], within: float = 5.0) -> float:
    """Seconds until it is true."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s"
        time.sleep(0.01)
    return time.monotonic() - began


def failed(camera: Camera, code: str) -> Callable[[], bool]:
    return lambda: camera.health().failures.get(code, 0) > 0


# -- faults of a camera that was well ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.frozen, Fault.drip, Fault.reports_only])
def test_a_stall_is_noticed_and_survived(camera: Camera, served: ServedCamera, fault: Fault) -> None:
    """No byte, a byte now and then, reports without video: stalled at the limit, given up at its own, then back."""
    camera.take(5.0)
    served.fault = fault
    noticed = until(lambda: camera.state is State.stalled)
    assert LIMITS.stall - 0.1 <= noticed <= LIMITS.stall + 0.6
    assert until(failed(camera, "stalled")) <= LIMITS.lost - LIMITS.stall + 0.6
    served.fault = Fault.none
    until(lambda: camera.state is State.live)
    assert camera.take(1.0).connection == 2


def test_a_short_stall_costs_no_connection(camera: Camera, served: ServedCamera) -> None:
    """It is told, and the same connection goes on."""
    camera.take(5.0)
    served.fault = Fault.frozen
    until(lambda: camera.state is State.stalled)
    served.fault = Fault.none
    until(lambda: camera.state is State.live)
    assert camera.take(1.0).connection == 1
    assert camera.health().failures == {}


class Network:
    """A way to a server on which everything can be held up, and comes through afterwards."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += (near, far)
                for one, other in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=(one, other), daemon=True))
                    self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                self.open.wait()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Network:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5.0)


def test_what_was_held_up_on_the_way_is_not_shown(server: RtspServer, long_clip: Clip) -> None:
    """After a stall of the network all that was sent meanwhile comes at once; the first frame shown is of now."""
    limits = Limits(open=2.0, first_frame=2.0, stall=0.5, lost=20.0, tick=0.15)
    served = server.add("/long", long_clip)
    with Network(server.port) as network:
        place = server.url("/long").replace(f":{server.port}/", f":{network.port}/")
        with Camera(place, name="door", limits=limits, reconnect=QUICK) as camera:
            for _ in range(10):
                camera.take(5.0)
            network.open.clear()
            until(lambda: camera.state is State.stalled)
            time.sleep(1.0)
            network.open.set()
            frame = camera.take(5.0)
            assert frame.connection == 1
            assert time.monotonic() - served.sent[read_stamp(frame.image)] < 0.9  # and 1.5 s are what was held up
            assert frame.skipped > 20


def test_a_picture_that_does_not_change_is_told(server: RtspServer, served: ServedCamera) -> None:
    """Packets go on, the encoder hangs: seen in decoded video too."""
    limits = Limits(open=0.8, first_frame=0.8, stall=0.5, lost=1.0, tick=0.15, unchanged=0.5)
    with Camera(server.url("/door"), name="door", limits=limits, reconnect=QUICK) as camera:
        camera.take(5.0)
        served.fault = Fault.still
        until(lambda: camera.health().unchanged > 0.5)
        assert camera.state is State.live
        served.fault = Fault.none
        until(lambda: camera.health().unchanged == 0.0)


def test_a_camera_that_hangs_up_again_and_again_dies(server: RtspServer, served: ServedCamera) -> None:
    """One that gives a second of video each time is no camera that works: its tries are used up."""
    served.fault = Fault.brief
    plan = Reconnect(tries=1, backoff=fixed(0.1), slow=None)
    with (
        Camera(server.url("/door"), limits=LIMITS, reconnect=plan) as camera,
        pytest.raises(CameraDeadError, match="disconnected"),
    ):
        list(iter(camera))


def test_a_lost_connection_is_noticed_at_once(camera: Camera, server: RtspServer) -> None:
    """PyAV calls it the end of the stream and raises nothing."""
    camera.take(5.0)
    server.reset("/door")
    assert until(failed(camera, "disconnected")) < 0.5
    until(lambda: camera.state is State.live)


def test_corrupt_data_is_told(camera: Camera, served: ServedCamera) -> None:
    """Packets come in time and none can be decoded."""
    camera.take(5.0)
    served.fault = Fault.corrupt
    until(failed(camera, "corrupt"))
    served.fault = Fault.none
    until(lambda: camera.state is State.live)


def test_timestamps_that_jump_do_no_harm(camera: Camera, served: ServedCamera) -> None:
    """Only the time of arrival counts."""
    served.fault = Fault.backwards
    frames = [camera.take(5.0) for _ in range(25)]
    assert all(0.0 <= b.at - a.at < 0.5 for a, b in pairwise(frames))
    assert camera.health().failures == {}


def test_lost_packets_are_survived(camera: Camera, served: ServedCamera) -> None:
    """Frames may be broken without a flag; the camera stays live."""
    served.fault = Fault.lossy
    assert len([camera.take(5.0) for _ in range(20)]) == 20


def test_a_server_that_comes_back_revives_the_camera(camera: Camera, server: RtspServer) -> None:
    """Refused until the quick tries are used up; then dead, and revived once the server is there again."""
    camera.take(5.0)
    server.stop()
    with pytest.raises(CameraDeadError) as caught:
        list(camera)
    assert caught.value.code == "camera.refused"
    assert camera.health().dead
    server.start()
    assert camera.take(5.0).age < 0.5
    assert not camera.health().dead


def test_an_open_connection_is_no_picture(server: RtspServer, served: ServedCamera) -> None:
    """Until the first frame there is none, however well the handshake went, and whatever comes that is no video."""
    served.fault = Fault.reports_only
    with Camera(server.url("/door"), name="door", limits=LIMITS, reconnect=QUICK) as camera:
        until(lambda: served.clients > 0)
        assert camera.state is State.opening
        until(failed(camera, "silent"))
        assert (camera.health().connections, camera.health().age) == (0, None)


# -- cameras that cannot be opened ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault.silent, State.silent),
        (Fault.no_picture, State.silent),
        (Fault.unauthorised, State.unauthorised),
        (Fault.missing, State.not_found),
        (Fault.broken, State.refused),
        (Fault.corrupt, State.corrupt),
    ],
)
def test_what_keeps_a_camera_from_opening_is_told_apart(
    camera: Camera, served: ServedCamera, fault: Fault, state: State
) -> None:
    """Each has its state, within its limit; when it is mended the camera opens by itself."""
    served.fault = fault
    camera.close()
    camera.start()
    assert until(failed(camera, state.value)) < LIMITS.open + LIMITS.first_frame + 0.8
    served.fault = Fault.none
    until(lambda: camera.state is State.live)


def test_nobody_there_is_refused(server: RtspServer) -> None:
    """At once."""
    server.stop()
    with Camera(server.url("/door"), name="door", limits=LIMITS, reconnect=Reconnect(tries=0)) as camera:
        began = time.monotonic()
        with pytest.raises(CameraDeadError, match="refused"):
            camera.take(5.0)
        assert time.monotonic() - began < 0.8


def test_a_black_hole_is_silent_within_the_limit(resilience: None) -> None:
    """An address that neither takes nor refuses connections costs the open limit, and no thread afterwards."""
    with BlackHole() as hole:
        camera = Camera(
            f"rtsp://127.0.0.1:{hole.port}/x", name="hole", limits=LIMITS, reconnect=Reconnect(tries=0, slow=None)
        )
        began = time.monotonic()
        with pytest.raises(CameraDeadError, match="silent"):
            camera.take(5.0)
        assert LIMITS.open - 0.1 < time.monotonic() - began < LIMITS.open + 0.8
        assert camera.close()
    assert not [one for one in threading.enumerate() if one.name == "camera hole"]


def test_a_full_camera_is_silent(server: RtspServer, served: ServedCamera) -> None:
    """One viewer too many is told to play and sent nothing."""
    served.most_clients = 1
    with Camera(server.url("/door"), limits=LIMITS, reconnect=QUICK) as first:
        first.take(5.0)
        with Camera(server.url("/door"), limits=LIMITS, reconnect=QUICK) as second:
            until(failed(second, "silent"))
            first.close()
            second.take(5.0)


@pytest.mark.parametrize("digest", [False, True])
def test_passwords_with_reserved_characters(server: RtspServer, clip: Clip, digest: bool) -> None:
    """Percent-encoded they work with basic and with digest authentication; a wrong one is unauthorised."""
    server.add("/locked", clip, password=SECRET, digest=digest)
    place = server.url("/locked", user="viewer", password=quote(SECRET, safe=""))
    with Camera(place, limits=LIMITS, reconnect=QUICK) as camera:
        assert camera.take(5.0).number >= 1
    wrong = server.url("/locked", user="viewer", password="wrong")
    with Camera(wrong, limits=LIMITS, reconnect=QUICK) as camera, pytest.raises(CameraDeadError, match="unauthorised"):
        camera.take(5.0)


def test_a_password_gets_nowhere(server: RtspServer, clip: Clip, caplog: pytest.LogCaptureFixture) -> None:
    """Not into logs (FFmpeg's included), events, errors or their causes, whatever goes wrong."""
    secret = "pl4nted"
    caplog.set_level(logging.DEBUG)
    before = av.logging.get_level()
    told: list[str] = []
    from resilient_faces._core.runtime import RUNTIME

    RUNTIME.listen(lambda event: told.append(repr(event) + str(event.to_dict())))
    served = server.add("/locked", clip, password=secret)
    try:
        with Camera(server.url("/locked"), limits=LIMITS, reconnect=QUICK) as camera:
            camera.take(5.0)
            for fault in (Fault.unauthorised, Fault.missing):
                served.fault = fault
                server.reset("/locked")
                with pytest.raises(CameraError) as caught:
                    list(camera)
                error: BaseException | None = caught.value
                while error is not None:
                    told.append(repr(error) + str(error))
                    error = error.__cause__ or error.__context__
                served.fault = Fault.none
                camera.take(5.0)
            told.append(repr(camera) + repr(camera.health()))
    finally:
        av.logging.set_level(before)
    assert len(told) > 8
    assert secret not in "".join(told) + caplog.text


# -- frames --------------------------------------------------------------------------------------------------------


def test_a_slow_taker_sees_the_present(server: RtspServer, long_clip: Clip) -> None:
    """However long it works on each frame, the next one is new."""
    served, ages = server.add("/long", long_clip), []
    with Camera(server.url("/long"), limits=LIMITS, reconnect=QUICK) as camera:
        for _ in range(5):
            frame = camera.take(5.0)
            ages.append(time.monotonic() - served.sent[read_stamp(frame.image)])
            time.sleep(0.4)
        assert max(ages[1:]) < 0.8, ages  # handed out in order, the last would be 1.5 s old
        assert camera.take(5.0).skipped >= 3


def test_a_picture_is_bgr(camera: Camera) -> None:
    """uint8, height by width by three, blue first."""
    image = camera.take(5.0).image
    assert (image.shape, str(image.dtype)) == ((120, 160, 3), "uint8")
    assert image[:, :, 2].max() > image[60:, :, 0].max()  # the block that wanders is orange


def test_asyncio_and_trio_take_frames(server: RtspServer, mode: Any) -> None:
    """Both iterate without blocking their loop."""
    if not mode.is_async:
        return
    ticks = 0

    async def main() -> int:
        nonlocal ticks

        async def ticking() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.01)
                ticks += 1

        async with (
            Camera(server.url("/door"), limits=LIMITS, reconnect=QUICK) as camera,
            anyio.create_task_group() as g,
        ):
            g.start_soon(ticking)
            seen = 0
            async for _ in camera:
                seen += 1
                if seen == 10:
                    break
            g.cancel_scope.cancel()
        return seen

    assert mode.call(main) == 10
    assert ticks > 20


@pytest.mark.parametrize(("tcp", "udp", "used"), [(True, True, "tcp"), (False, True, "udp"), (True, False, "tcp")])
def test_the_transport_is_chosen_and_told(server: RtspServer, clip: Clip, tcp: bool, udp: bool, used: str) -> None:
    """TCP first, UDP for cameras that have no other."""
    server.add("/way", clip, tcp=tcp, udp=udp)
    with Camera(server.url("/way"), limits=LIMITS, reconnect=QUICK) as camera:
        camera.take(5.0)
        assert camera.health().transport == used


def test_parameter_sets_may_come_with_the_video(server: RtspServer, clip: Clip) -> None:
    """A description without them opens all the same."""
    server.add("/bare", clip, described=False)
    with Camera(server.url("/bare"), limits=LIMITS, reconnect=QUICK) as camera:
        assert camera.take(5.0).image.shape == (120, 160, 3)


def test_a_file_gives_every_frame_and_ends(resilience: None, clip: Clip, tmp_path: Path) -> None:
    """The same class reads recordings: none skipped, in order, then it is over."""
    file = tmp_path / "clip.h264"
    file.write_bytes(b"".join(b"\0\0\0\1" + unit for units in clip.frames for unit in units))
    with Camera(file) as camera:
        frames = []
        for frame in camera:
            time.sleep(0.002)
            frames.append((frame.number, read_stamp(frame.image)))
    assert frames == [(number + 1, number) for number in range(20)]


def test_a_file_that_is_not_there(resilience: None, tmp_path: Path) -> None:
    """Is not found, and not waited for."""
    with Camera(tmp_path / "none.mp4") as camera, pytest.raises(CameraDeadError, match="not_found"):
        camera.take(5.0)


def test_a_device_gives_the_newest_frame(resilience: None) -> None:
    """The same class reads devices; here FFmpeg's own, which makes pictures. Slow work on one misses others."""
    with Camera("testsrc=size=160x120:rate=50,realtime", format="lavfi", limits=LIMITS) as camera:
        assert camera.take(5.0).image.shape == (120, 160, 3)
        time.sleep(0.3)
        camera.take(5.0)
        frame = camera.take(5.0)
        assert camera.health().skipped > 5
        assert frame.age < 0.3
        assert (camera.state, camera.health().transport) == (State.live, "")


def test_a_device_that_is_not_there(resilience: None) -> None:
    """Is told like any other camera, and tried again."""
    with Camera("no-such-filter", format="lavfi", limits=LIMITS, reconnect=Reconnect(tries=0)) as camera:
        with pytest.raises(CameraDeadError):
            camera.take(5.0)
        assert camera.health().next_try is not None


@pytest.mark.parametrize("data", [b"", b"no video at all" * 100])
def test_a_file_without_video_is_corrupt(resilience: None, tmp_path: Path, data: bytes) -> None:
    """Nobody has hung up, and nobody refuses."""
    (tmp_path / "x.mp4").write_bytes(data)
    with Camera(tmp_path / "x.mp4", reconnect=QUICK) as camera, pytest.raises(CameraDeadError, match="corrupt"):
        camera.take(5.0)


def recording(file: Path) -> bytes:
    """A file with five frames."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height = 160, 120
        for image in moving_blocks(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return file.read_bytes()


@pytest.mark.parametrize("cut", [44, 200])  # FFmpeg says end of file, and input/output error
def test_a_file_that_is_cut_in_its_header_is_corrupt(resilience: None, tmp_path: Path, cut: int) -> None:
    """As one without video; whatever FFmpeg calls it."""
    file = tmp_path / "clip.mkv"
    file.write_bytes(recording(file)[:cut])
    with Camera(file, reconnect=QUICK) as camera, pytest.raises(CameraDeadError, match="corrupt"):
        camera.take(5.0)


def test_a_codec_that_nobody_knows_is_corrupt(
    resilience: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Video that FFmpeg has no decoder for is a state of the camera, and no error of ours."""
    file = tmp_path / "clip.avi"
    data = recording(file)
    assert data.count(b"FMP4") == 2
    file.write_bytes(data.replace(b"FMP4", b"????"))
    with Camera(file, reconnect=QUICK) as camera, pytest.raises(CameraDeadError, match="corrupt"):
        camera.take(5.0)
    assert "CAMERA_ERROR" not in caplog.text


LAYOUTS = ("yuv420p", "yuvj420p", "yuyv422", "nv12", "gray", "gray10le", "rgb24", "bgr24", "yuv420p10le", "rgb48le")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_of_any_layout(layout: str) -> None:
    """What devices and cameras give, in sizes that are no multiple of anything: as BGR, and thinned out."""
    frame = av.VideoFrame.from_ndarray(numpy.full((91, 161, 3), 90, numpy.uint8), format="rgb24")
    picture = Pictured(frame.reformat(format=layout))
    assert picture.image().shape == (91, 161, 3)
    assert picture.luma().shape == (12, 21)
    assert abs(picture.luma() - picture.luma()).max() == 0


def test_a_picture_that_lies_upside_down_in_memory() -> None:
    """Some devices give rows from bottom to top: nothing outside of them is read."""
    graph = av.filter.Graph()
    begin = graph.add_buffer(width=160, height=120, format="yuv420p", time_base=Fraction(1, 20))
    flip, end = graph.add("vflip"), graph.add("buffersink")
    begin.link_to(flip)
    flip.link_to(end)
    graph.configure()
    shown = numpy.zeros((180, 160), numpy.uint8)
    shown[:60] = 200  # the upper half is bright
    graph.push(av.VideoFrame.from_ndarray(shown, format="yuv420p"))
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    thin = Pictured(flipped).luma()
    assert thin.shape == (15, 20)
    assert thin[-1].mean() > 150
    assert thin[0].mean() < 50


def test_policies_read_the_cameras_errors(camera: Camera, served: ServedCamera) -> None:
    """A guard around `take` retries a stall, by the camera's own classification."""
    camera.take(5.0)
    take = guard(retry(attempts=30, backoff=fixed(0.0), classify=first_match(classify_camera)))(camera.take)
    served.fault = Fault.frozen
    threading.Timer(0.8, lambda: setattr(served, "fault", Fault.none)).start()
    until(lambda: camera.state is State.stalled)
    assert take(0.1).age < 0.6


# -- closing, and what is left -------------------------------------------------------------------------------------


def test_closing_ends_a_blocked_reading(camera: Camera, served: ServedCamera) -> None:
    """A camera that sends nothing is left within two ticks, with a farewell, from any thread."""
    camera.take(5.0)
    served.fault = Fault.no_picture
    time.sleep(0.1)
    began = time.monotonic()
    closer = threading.Thread(target=camera.close)
    closer.start()
    closer.join()
    assert time.monotonic() - began < 2.5 * LIMITS.tick
    until(lambda: "TEARDOWN" in served.last_words)


def test_reconnects_leave_nothing_behind(camera: Camera, server: RtspServer) -> None:
    """No thread and no descriptor more after ten of them."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        folder = Path("/dev/fd")
    camera.take(5.0)
    threads, files = threading.active_count(), len(list(folder.iterdir()))
    for number in range(10):
        server.reset("/door")
        until(lambda number=number: camera.health().connections >= number + 2)  # type: ignore[misc]
    time.sleep(0.1)
    assert threading.active_count() <= threads
    assert len(list(folder.iterdir())) <= files


def test_a_server_that_is_stopped_killed_and_restarted(resilience: None, tmp_path: Path) -> None:
    """A whole process: SIGSTOP stalls, SIGKILL disconnects, a restart on the same port revives."""
    with (
        RtspProcess(tmp_path, rate=RATE, password="pw") as process,
        Camera(process.url(), name="door", limits=LIMITS, reconnect=QUICK) as camera,
    ):
        camera.take(5.0)
        process.freeze()
        assert until(lambda: camera.state is State.stalled) < LIMITS.stall + 0.6
        process.thaw()
        until(lambda: camera.state is State.live)
        process.kill()
        assert until(failed(camera, "disconnected")) < 0.5
        process.start()
        until(lambda: camera.state is State.live)
