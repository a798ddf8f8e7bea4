"""Sessions on real parts: cameras of a real server, webhooks over loopback, threads that end."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

pytest.importorskip("av", reason="the extra `rtsp` is not installed: pip install 'resilient-faces[rtsp]'")
pytest.importorskip("httpcore", reason="the extra `webhook` is not installed: pip install 'resilient-faces[webhook]'")

from resilient_faces.adapters.gallery import Match
from resilient_faces.adapters.insightface import Sighting, Sightings
from resilient_faces.adapters.rtsp import Limits, Reconnect
from resilient_faces.adapters.webhook import Destinations, SigningKey, Verifier, Webhook
from resilient_faces.pipeline.cameras import Agreement, CameraPlan, Ending, Rules, SessionPlan, Sessions, rtsp_cameras
from resilient_faces.retry import fixed, none
from resilient_faces.testing.rtsp_server import BlackHole, Fault, RtspServer, encode, moving_blocks, read_stamp
from resilient_faces.testing.webhook_receiver import Receiver

RATE = 40.0
LIMITS = Limits(open=0.8, first_frame=0.8, stall=0.5, lost=1.0, tick=0.15)
QUICK = Reconnect(
    tries=1, backoff=fixed(0.1), jitter=none(), slow=fixed(0.2), hopeless=fixed(0.2), healthy=0.2, crowded=0
)
RULES = Rules(agreement=Agreement(2, 3), pace=0.05, grace=2.0)
SECRET = "pl4nted-s3cret"
KEY = SigningKey.new()


class Stamps:
    """Takes the number in a frame for a person: an even one is Anna, and an odd one nobody."""

    async def arecognise(self, frame: Any, gallery: Any) -> Sightings:
        if read_stamp(frame) % 2:
            return Sightings()
        return Sightings((Sighting(None, Match("anna", 0.9, 0.5)),))  # type: ignore[arg-type]


@pytest.fixture
def server(resilience: None) -> Iterator[RtspServer]:
    with RtspServer() as running:
        clip = encode(moving_blocks(20), rate=RATE)
        for name in ("front", "back"):
            running.add(f"/{name}", clip, password=SECRET)
        yield running


def sessions(**options: Any) -> Sessions:
    sender = Webhook(
        KEY, destinations=Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",)), timeout=2.0
    )
    made: dict[str, Any] = {"rules": RULES, "cameras": rtsp_cameras(limits=LIMITS, reconnect=QUICK), **options}
    return Sessions(Stamps(), None, sender, **made)  # type: ignore[arg-type]


async def until(true: Callable[[], bool], within: float = 10.0) -> None:
    with anyio.fail_after(within):
        while not true():  # noqa: ASYNC110  # it happens in other threads
            await anyio.sleep(0.01)


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("camera ")]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_life_of_a_session(server: RtspServer, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Recognition, a death, a revival, the death of all: signed webhooks in order, the document's lines, no thread
    left."""
    caplog.set_level(logging.INFO, "resilient_faces")
    front, back = (server.cameras[f"/{name}"] for name in ("front", "back"))

    def lose(served: Any) -> None:
        served.fault = Fault.missing
        server.reset(served.path)

    with Receiver(200) as receiver:

        def told() -> list[str]:
            bodies = [json.loads(one.body) for one in receiver.got]
            return [one.get("status") or one["recognition"]["personId"] for one in bodies]

        async def main() -> None:
            plan = SessionPlan(
                slot=7,
                callback=receiver.url,
                cameras=[CameraPlan(name, name, server.url(f"/{name}")) for name in ("front", "back")],
            )
            async with sessions() as running:
                await running.start(plan)
                await until(lambda: told() == ["anna"])
                lose(front)
                await until(lambda: len(told()) == 2)
                front.fault = Fault.none
                await until(lambda: len(told()) == 3)
                assert running.get(7).cameras[0].state == "live"  # type: ignore[union-attr]
                lose(front)
                await until(lambda: len(told()) == 4)
                lose(back)
                view = await running.wait(7)
                assert view is not None
                assert (view.ended, view.delivered, view.recognised) == (Ending.all_cameras_failed, 5, 1)
                assert threads() == []

        anyio.run(main, backend=backend)
        assert told() == ["anna", "CAMERA_DISCONNECTED", "CAMERA_RECONNECTED", "CAMERA_DISCONNECTED", "STOPPED"]
        verifier = Verifier(KEY)
        assert len({verifier.verify(one.headers, one.body).id for one in receiver.got}) == 5
    lines = [(one.levelname, one.getMessage()) for one in caplog.records]
    for line in (
        ("WARNING", "CAMERA_READ_FAIL | slot=7 camera=front error=camera.disconnected"),
        ("WARNING", "CAMERA_DEAD | slot=7 camera=front error=camera.not_found"),
        ("INFO", "CAMERA_REVIVED | slot=7 camera=front"),
        ("ERROR", "ALL_CAMERAS_DEAD | slot=7"),
        ("INFO", "CAMERA_STOP | slot=7 camera=front"),
        ("INFO", "CAMERA_STOP | slot=7 camera=back"),
        ("INFO", "SESSION_STOPPED | slot=7 reason=all_cameras_failed"),
    ):
        assert line in lines
    assert SECRET not in caplog.text
    assert "anna" not in caplog.text


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cameras_that_are_being_opened_do_not_hold_up_a_stop(server: RtspServer, backend: str) -> None:
    """More black holes than the loop lends threads: their limit of opening bounds the stop, and nothing is left."""

    async def main() -> None:
        with BlackHole() as hole, Receiver(200) as receiver:
            async with sessions() as running:
                for slot in range(3):
                    cameras = [CameraPlan(f"c{n}", "", f"rtsp://127.0.0.1:{hole.port}/x") for n in range(20)]
                    await running.start(SessionPlan(slot=slot, callback=receiver.url, cameras=cameras))
                await anyio.sleep(0.3)
                began = time.monotonic()
                found = await running.shutdown()
                assert (found.tasks, found.sessions) == (60, 3)
                assert time.monotonic() - began < LIMITS.open + 4.0  # less than two closings one after the other
                assert threads() == []

    anyio.run(main, backend=backend)


def test_sessions_come_and_go_without_a_trace(server: RtspServer) -> None:
    """Started and stopped again and again: no thread, no connection of theirs is left."""

    async def main() -> None:
        with Receiver(200) as receiver:
            async with sessions() as running:
                for slot in range(10):
                    cameras = [CameraPlan("c1", "", server.url("/front"))]
                    await running.start(SessionPlan(slot=slot, callback=receiver.url, cameras=cameras))
                    await until(lambda slot=slot: running.get(slot).cameras[0].looked > 0)  # type: ignore[misc,union-attr]
                    assert (await running.stop(slot)).ended is Ending.requested  # type: ignore[union-attr]
                    assert threads() == []
            await until(lambda: server.cameras["/front"].clients == 0)

    anyio.run(main)
