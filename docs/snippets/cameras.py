"""The page of cameras; the tests run this file, on a server of its own, and no packet leaves the machine."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("av", reason="the extra `rtsp` is not installed: pip install 'resilient-faces[rtsp]'")
pytest.importorskip("numpy", reason="numpy is not installed: pip install 'resilient-faces[rtsp]'")

from resilient_faces.adapters import rtsp as adapter
from resilient_faces.testing import rtsp_server

running = rtsp_server.RtspServer()
running.add("/door", rtsp_server.encode(rtsp_server.moving_blocks(10), rate=50.0), password="secret")
running.start()
url = running.url("/door")
seen: list[object] = []
codes: list[str] = []


def recognise(image: object) -> None:
    seen.append(image)


def tell(code: str) -> None:
    codes.append(code)


# --8<-- [start:frames]
from resilient_faces.adapters.rtsp import Camera

with Camera(url, name="door") as camera:
    for frame in camera:
        recognise(frame.image)  # uint8, (height, width, 3), BGR
        if frame.number > 20:
            break
# --8<-- [end:frames]
assert len(seen) > 5

# --8<-- [start:deaths]
from resilient_faces.adapters.rtsp import CameraDeadError


def watch(camera: Camera) -> None:
    while True:
        try:
            for frame in camera:
                recognise(frame.image)
            return  # closed
        except CameraDeadError as error:
            tell(error.code)  # for example "camera.refused"; going on waits for its revival


# --8<-- [end:deaths]
running.stop()
with Camera(url, name="door", reconnect=adapter.Reconnect(tries=0)) as camera:
    watching = threading.Thread(target=watch, args=(camera,))
    watching.start()
    while not codes:
        watching.join(0.01)
watching.join()
assert codes == ["camera.refused"]
running.start()


# --8<-- [start:tasks]
async def watch_it(url: str) -> int:
    async with Camera(url, name="door") as camera:
        async for frame in camera:
            if frame.number > 20:
                return frame.number
    return 0


# --8<-- [end:tasks]
assert asyncio.run(watch_it(url)) > 20

# --8<-- [start:take]
from resilient_faces import guard, retry
from resilient_faces.adapters.rtsp import classify_camera
from resilient_faces.faults import first_match

with Camera(url, name="door") as camera:
    take = guard(retry(attempts=3, classify=first_match(classify_camera)))(camera.take)
    newest = take(5.0)  # CameraError after three times 5 s without a frame
    health = camera.health()
# --8<-- [end:take]
assert newest.camera == health.camera == "door"
running.stop()

# --8<-- [start:schedule]
from resilient_faces.adapters.rtsp import CLASSROOM, Limits, Reconnect
from resilient_faces.retry import exponential, full

quick = Reconnect(tries=5, backoff=exponential(0.5, cap=8.0), jitter=full())
patient = Limits(open=10.0, stall=10.0, lost=60.0)  # a battery camera behind a slow line
three_tries = CLASSROOM  # exactly 2 s before each of three tries
# --8<-- [end:schedule]
assert quick.slow is not None
assert patient.lost == 60.0
assert three_tries.backoff.delay(3) == 2.0

# --8<-- [start:server]
from resilient_faces.testing.rtsp_server import Fault, RtspServer, encode, moving_blocks

server = RtspServer()
served = server.add("/door", encode(moving_blocks(20)), password="secret")
with server, Camera(server.url("/door"), name="door") as camera:
    camera.take()
    served.fault = Fault.unauthorised  # or frozen, drip, corrupt, ...
    server.reset("/door")
    try:
        list(camera)
    except CameraDeadError as error:
        tell(error.code)
# --8<-- [end:server]
assert codes[-1] == "camera.unauthorised"
