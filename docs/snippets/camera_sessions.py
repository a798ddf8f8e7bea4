"""The page "Sessions of cameras"; the tests run this file, on servers of its own, and no packet leaves the machine."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from unittest import mock

import pytest

for module, extra in (("av", "rtsp"), ("numpy", "rtsp"), ("httpcore", "webhook")):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the extra `{extra}` is not installed")

from resilient_faces._core.runtime import RUNTIME, Runtime
from resilient_faces.adapters import webhook as adapter
from resilient_faces.adapters.gallery import Gallery, Match
from resilient_faces.adapters.insightface import Sighting, Sightings
from resilient_faces.pipeline import cameras as pipeline
from resilient_faces.testing.rtsp_server import RtspServer, encode, moving_blocks
from resilient_faces.testing.webhook_receiver import Receiver

RUNTIME.monotonic, RUNTIME.asleep = Runtime().monotonic, Runtime().asleep  # cameras are real here, and so is time

running = RtspServer()
running.add("/front", encode(moving_blocks(10), rate=50.0), password="secret")
running.start()
url = running.url("/front")
receiver = Receiver(200)
receiver.__enter__()
callback = receiver.url
loopback = adapter.Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",))
webhook = adapter.Webhook(adapter.SigningKey.new(), destinations=loopback)
gallery = year_8 = Gallery("stand-in")


class StandIn:
    async def arecognise(self, frame: object, gallery: Gallery) -> Sightings:
        return Sightings((Sighting(None, Match("ann", 0.9, 0.5)),))  # type: ignore[arg-type]


recogniser = StandIn()

# --8<-- [start:rules]
from resilient_faces.pipeline.cameras import Agreement, Rules

rules = Rules(pace=0.5, agreement=Agreement(frames=3, of=5))  # twice a second; for Sessions(..., rules=rules)
# --8<-- [end:rules]
rules = Rules(pace=0.02, look=0.1)

# --8<-- [start:cameras]
from resilient_faces.adapters.rtsp import CLASSROOM, Limits
from resilient_faces.pipeline.cameras import rtsp_cameras

# Three tries, 2 s before each; for Sessions(..., cameras=cameras).
cameras = rtsp_cameras(limits=Limits(stall=5.0, lost=15.0), reconnect=CLASSROOM)
# --8<-- [end:cameras]
quick = mock.patch.object(pipeline, "Sessions", partial(pipeline.Sessions, rules=rules, cameras=cameras))
quick.start()

# --8<-- [start:sessions]
import anyio

from resilient_faces.pipeline.cameras import CameraPlan, SessionExistsError, SessionPlan, Sessions


async def main() -> None:
    async with Sessions(recogniser, gallery, webhook) as sessions:
        plan = SessionPlan(
            slot=7,
            callback=callback,
            cameras=[CameraPlan("front", "Front door", url)],
            gallery=year_8,  # who may be seen; without it everybody in `gallery`
        )
        await sessions.start(plan)
        try:
            await sessions.start(plan)
        except SessionExistsError as error:
            print(error)  # Session already exists for slot 7

        await lesson()
        view = sessions.get(7)  # None if there is none; `active()` gives all
        print(view.recognised, view.delivered, view.failures, view.cameras[0].state)

        last = await sessions.stop(7)  # None for a slot without a session
        print(last.ended, last.undelivered)
    # every task and every thread has ended


# --8<-- [end:sessions]
quick.stop()


async def lesson() -> None:
    with anyio.fail_after(10.0):
        while not receiver.got:  # noqa: ASYNC110  # it comes from another thread
            await anyio.sleep(0.01)


anyio.run(main)
assert json.loads(receiver.got[0].body)["recognition"]["personId"] == "ann"


# --8<-- [start:register]
from typing import Any


MINE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"


class RedisRegister:
    """Sessions of all processes: whoever deletes the key ends the session, and a process that dies frees its slots."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis  # redis.asyncio.Redis

    async def add(self, slot: int, session: str) -> bool:
        return bool(await self.redis.set(f"session/{slot}", session, nx=True, ex=300))

    async def holds(self, slot: int, session: str) -> bool:
        renew = MINE.format("'expire', KEYS[1], 300")
        return bool(await self.redis.eval(renew, 1, f"session/{slot}", session))

    async def remove(self, slot: int, session: str) -> None:
        await self.redis.eval(MINE.format("'del', KEYS[1]"), 1, f"session/{slot}", session)


# --8<-- [end:register]


class Redis:
    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def set(self, key: str, value: str, *, nx: bool, ex: int) -> bool:
        return self.kept.setdefault(key, value) == value

    async def eval(self, script: str, keys: int, key: str, value: str) -> int:
        if self.kept.get(key) != value:
            return 0
        if "'del'" in script:
            del self.kept[key]
        return 1


async def removed_elsewhere() -> None:
    redis = Redis()
    async with Sessions(recogniser, gallery, webhook, rules=rules, register=RedisRegister(redis)) as sessions:
        plan = SessionPlan(slot=7, callback=receiver.url, cameras=[CameraPlan("front", "", url)])
        await sessions.start(plan)
        await anyio.sleep(0.3)
        assert sessions.get(7) is not None
        redis.kept.clear()
        with anyio.fail_after(5.0):
            view = await sessions.wait(7)
        assert view is not None
        assert view.ended == "removed"
        await sessions.start(plan)
        await sessions.stop(7)
        assert not redis.kept


anyio.run(removed_elsewhere)

# --8<-- [start:remote]
from typing import Any

from resilient_faces import guard, timeout
from resilient_faces.adapters.insightface import Sightings


class Remote:
    """Recognition by a service: what may hang has a time limit, and so never keeps the others' turn for long."""

    def __init__(self, ask: Any) -> None:
        self.ask = guard(timeout(2.0))(ask)

    async def arecognise(self, frame: Any, gallery: Any) -> Sightings:
        try:
            return await self.ask(frame, gallery)
        except TimeoutError:
            return Sightings(reason="remote.timeout")  # the session goes on, and the view says why nobody is seen


# --8<-- [end:remote]


async def answers(frame: Any, gallery: Any) -> Sightings:
    return Sightings()


async def hangs(frame: Any, gallery: Any) -> Sightings:
    raise TimeoutError


async def ask() -> None:
    assert (await Remote(answers).arecognise(None, None)).reason == ""
    assert (await Remote(hangs).arecognise(None, None)).reason == "remote.timeout"


anyio.run(ask)
running.stop()
receiver.__exit__(None, None, None)

# --8<-- [start:clock]
from resilient_faces.testing import SteppedRuntime


async def half_an_hour() -> None:
    with SteppedRuntime().installed() as clock:
        async with Sessions(recogniser, gallery, sender, cameras=scripted) as sessions:
            await sessions.start(SessionPlan(slot=7, callback="https://school.example/hook", cameras=[front]))
            await clock.elapse(1800.0)  # takes no time
            assert sessions.get(7) is not None


# --8<-- [end:clock]
from types import SimpleNamespace

from resilient_faces.adapters.rtsp import Health, State
from resilient_faces.adapters.webhook import Delivery

front = CameraPlan("front", "", "rtsp://camera.example/live")


class Dark:
    """A camera without a picture."""

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def atake(self) -> Any:
        await anyio.sleep_forever()

    def latest(self) -> None: ...

    def health(self) -> Health:
        return Health("front", State.opening, False, None, 0.0, 0, 0, 0, 0, 0, {}, 0.0, "", None)


def scripted(plan: CameraPlan, slot: int) -> Dark:
    return Dark()


async def accept(*_: Any, id: str, about: str) -> Delivery:
    return Delivery(id, "school.example:443", True, 1, 200, None, 0.1)


sender = SimpleNamespace(asend=accept)
anyio.run(half_an_hour)
