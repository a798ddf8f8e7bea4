"""Many cameras for long, with servers that are killed and frozen: `python proof/cameras_soak.py [--small]`.

50 cameras (320 x 180, 10 frames a second, a key frame each second) in 10 sessions, on 10 servers in processes of their
own. Each shows a card, and each is looked at once a second by real FaceAnalysis with the generated pack at 320 pixels.
For 10 minutes servers are killed and started again, or stopped and continued, at random moments (`--seed`), three at a
time at most; the cameras of a session are on five servers, so no session loses all of them. Then all servers live.

The claim breaks if a camera is not live although its server is, for longer than the longest pause between two tries and
what an opening takes; if a session ends; if somebody is told who was not there, or twice; if the
last word about a camera is not that it is back; if threads, descriptors or memory grow.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _report import Proof

EACH: Final = 5  # cameras of a server, and of a session
DOWN: Final = 3  # servers at most
FRESH: Final = 3.0  # seconds: an older frame is not handed out
OPENING: Final = 15.0  # seconds from a try that will succeed to the first frame, on a machine that is busy
GROWTH: Final = 25.0  # MB of about 300, which vary by some with what 50 decoders hold at the moment

proof = Proof(
    "cameras_soak",
    "50 cameras whose servers are killed and frozen for 10 minutes all come back, and nothing grows",
    __doc__,
    small="25 cameras for 20 seconds, with a quicker schedule of tries",
)
proof.parser.add_argument("--seed", type=int, default=7, help="of the moments and kinds of faults")
proof.parser.add_argument("--seconds", type=float, help="how long servers are killed and frozen")


@dataclass
class Server:
    """A server, and since when it lives; None while it does not."""

    process: Any
    alive_since: float | None
    kills: int = 0
    freezes: int = 0


@dataclass(frozen=True)
class Used:
    """What the process has used and holds at one moment."""

    at: float
    cpu: float
    threads: int
    descriptors: int
    resident: float  # MB
    megabytes: float  # of these, what is in use
    decoded: int
    looked: int


def memory() -> float:
    """Resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Soak:
    """Servers, sessions, and what was seen of them.

    Attributes:
        ages: Seconds since the newest frame, of cameras that are live.
        back: Seconds from a server's return to a camera's first frame.
        late: The longest that a camera was not live although its server was.
    """

    def __init__(self, folder: Path, small: bool, seed: int) -> None:
        from resilient_faces.adapters.rtsp import Reconnect
        from resilient_faces.retry import fixed
        from resilient_faces.testing.rtsp_server import RtspProcess

        self.count = 5 if small else 10  # servers, and sessions
        self.lengths = (1.0, 6.0) if small else (2.0, 40.0)  # seconds for which a server is away
        self.pause = 3.0 if small else 60.0  # the longest between two tries
        self.reconnect = Reconnect(slow=fixed(self.pause)) if small else Reconnect()
        self.dice = random.Random(seed)
        self.ages = array("f")  # small, so that what is measured is not this
        self.back: list[float] = []
        self.late = 0.0
        self.cameras: dict[tuple[int, str], Any] = {}
        self.sessions: Any = None
        self._down: set[tuple[int, str]] = set()
        size: dict[str, Any] = {"cameras": EACH, "width": 320, "height": 180, "rate": 10.0, "gop": 10, "cards": True}
        self.stack = ExitStack()
        self.servers = [
            Server(self.stack.enter_context(RtspProcess(folder / f"server{number}", **size)), time.monotonic())
            for number in range(self.count)
        ]

    def server(self, slot: int, number: int) -> Server:
        """The server of one camera."""
        return self.servers[(slot + number) % self.count]

    def watched(self, plan: Any, slot: int) -> Any:
        """Makes a camera, and remembers it."""
        from resilient_faces.pipeline.cameras import rtsp_cameras

        camera = self.cameras[slot, plan.id] = rtsp_cameras(reconnect=self.reconnect)(plan, slot)
        return camera

    def used(self) -> Used:
        gc.collect()
        resident = memory()
        try:
            # Each thread's decoders free memory that glibc keeps for that thread: resident, and not in use.
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:
            proof.say("  this C library cannot give free memory back; it is counted as used")
        views = self.sessions.active()
        return Used(
            time.monotonic(),
            time.process_time(),
            threading.active_count(),
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
            resident,
            memory(),
            sum(camera.health().frames for camera in self.cameras.values()),
            sum(camera.looked for view in views for camera in view.cameras),
        )

    def well(self, place: tuple[int, str]) -> float | None:
        """Age of a camera's newest frame if it is live, and the frame may still be handed out."""
        health = self.cameras[place].health()
        return health.age if health.state.value == "live" and health.age < FRESH else None

    async def look(self) -> None:
        """Look at all cameras again and again."""
        import anyio

        while True:
            await anyio.sleep(0.25)
            for place in self.cameras:
                since = self.server(place[0], int(place[1])).alive_since
                age = self.well(place)
                if since is None:
                    self._down.add(place)
                elif age is None:
                    self.late = max(self.late, time.monotonic() - since)
                else:
                    self.ages.append(age)
                    if place in self._down:
                        self._down.discard(place)
                        self.back.append(time.monotonic() - since)

    async def trouble(self, seconds: float) -> None:
        """Kill and freeze for so long; then all servers live, and cameras have the time that they may take."""
        import anyio

        async def away(server: Server, kind: str, length: float) -> None:
            (server.process.kill if kind == "kill" else server.process.freeze)()
            await anyio.sleep(length)
            await anyio.to_thread.run_sync(server.process.start if kind == "kill" else server.process.thaw)
            server.alive_since = time.monotonic()

        ends = time.monotonic() + seconds
        async with anyio.create_task_group() as group:
            while time.monotonic() < ends:
                await anyio.sleep(self.dice.expovariate(2.0 * DOWN / sum(self.lengths)))
                kind, length, which = self.dice.choice("kf"), self.dice.uniform(*self.lengths), self.dice.random()
                alive = [one for one in self.servers if one.alive_since is not None]
                if len(self.servers) - len(alive) < DOWN:
                    server = alive[int(which * len(alive))]
                    server.alive_since = None
                    server.kills += kind == "k"
                    server.freezes += kind == "f"
                    group.start_soon(away, server, {"k": "kill", "f": "freeze"}[kind], length)
        with anyio.move_on_after(self.pause + OPENING):
            while any(self.well(place) is None for place in self.cameras):  # noqa: ASYNC110  # of other threads
                await anyio.sleep(0.1)


async def run(soak: Soak, folder: Path, receiver: Any, seconds: float) -> tuple[Used, Used, Sequence[Any]]:
    """Begin all sessions, trouble them, end them."""
    import anyio

    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import FrameRecogniser, InsightFaceEngine, picture_of
    from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook
    from resilient_faces.pipeline.cameras import CameraPlan, SessionPlan, Sessions
    from resilient_faces.testing.card_pack import Placed, scene, write_pack

    recogniser = FrameRecogniser(write_pack(folder / "pack"), detection_size=320, lowest_score=0.3, threads=1)
    engine = recogniser.engine
    assert isinstance(engine, InsightFaceEngine)
    gallery = Gallery(engine.space)
    for number in range(EACH):
        card = picture_of(scene([Placed(number, (40, 40), 240)], width=320, height=320))
        gallery.add(f"card-{number}", engine.embed(card, engine.detect(card))[0])
    rules = Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",))
    webhook = Webhook(SigningKey.new(), destinations=rules)
    async with Sessions(recogniser, gallery, webhook, cameras=soak.watched) as sessions:
        soak.sessions = sessions
        for slot in range(soak.count):
            plans = [
                CameraPlan(str(number), "", soak.server(slot, number).process.url(number)) for number in range(EACH)
            ]
            await sessions.start(SessionPlan(slot=slot, callback=receiver.url, cameras=plans))
        async with anyio.create_task_group() as group:
            group.start_soon(soak.look)
            await soak.trouble(0.2 * seconds)  # what is made once and kept is made meanwhile
            before = soak.used()
            await soak.trouble(0.8 * seconds)
            after = soak.used()
            group.cancel_scope.cancel()
        views = sessions.active()
        await sessions.shutdown()
    return before, after, views


def last_told(bodies: Sequence[dict[str, Any]]) -> set[str]:
    """What was told last of the cameras of which anything was told."""
    last = {(body["slotId"], body["cameraId"]): body["status"] for body in bodies if "cameraId" in body}
    return set(last.values())


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and largest, in seconds."""
    ordered = sorted(values) or [0.0]
    at = {"median": 0.5, "p99": 0.99, "most": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) for name, part in at.items()}


def judge(soak: Soak, before: Used, after: Used, views: Sequence[Any], bodies: Sequence[Any]) -> dict[str, Any]:
    """Check the claim; the figures."""
    count, took = len(soak.cameras), after.at - before.at
    limit = soak.pause + OPENING
    proof.check(
        soak.late <= limit, f"a camera was not live for {soak.late:.1f} s while its server was; limit {limit:g}"
    )
    proof.check(len(views) == soak.count, f"{soak.count - len(views)} sessions ended")
    dead = [f"{one.id} of session {view.slot}" for view in views for one in view.cameras if one.dead]
    proof.check(not dead, f"dead in the end: {dead}")
    proof.check(all(view.undelivered == 0 for view in views), "every webhook was delivered")
    people = Counter(
        (body["slotId"], body["recognition"]["personId"], body["recognition"]["cameraId"])
        for body in bodies
        if "recognition" in body
    )
    expected = {(slot, f"card-{number}", str(number)): 1 for slot in range(soak.count) for number in range(EACH)}
    wrong = {key: people[key] for key in {*people, *expected} if people[key] != expected.get(key, 0)}
    proof.check(not wrong, f"each card is told once, of the camera that shows it; otherwise: {wrong}")
    proof.check(last_told(bodies) <= {"CAMERA_RECONNECTED"}, "the last word about each camera is that it is back")
    proof.check(after.threads <= before.threads + 3, f"threads: {before.threads} before, {after.threads} after")
    proof.check(
        after.descriptors <= before.descriptors + 3,
        f"descriptors: {before.descriptors} before, {after.descriptors} after",
    )
    grown = after.megabytes - before.megabytes
    proof.check(grown < GROWTH, f"memory in use grew from {before.megabytes:.1f} to {after.megabytes:.1f} MB")
    left = [one.name for one in threading.enumerate() if one.name.startswith("camera ")]
    proof.check(not left, f"threads of cameras are left: {left}")
    statuses = Counter(body.get("status", body["callbackType"]) for body in bodies)
    return {
        "cameras": count,
        "seconds": round(took, 1),
        "kills": sum(one.kills for one in soak.servers),
        "freezes": sum(one.freezes for one in soak.servers),
        "cpu_percent_a_camera": round(100.0 * (after.cpu - before.cpu) / took / count, 2),
        "decoded_a_second": round((after.decoded - before.decoded) / took, 1),
        "looked_a_second": round((after.looked - before.looked) / took, 1),
        "age_of_newest_frame": spread(soak.ages),
        "live_again_after": spread(soak.back),
        "longest_not_live": round(soak.late, 1),
        "webhooks": dict(statuses),
        "threads": [before.threads, after.threads],
        "descriptors": [before.descriptors, after.descriptors],
        "megabytes_in_use": [round(before.megabytes, 1), round(after.megabytes, 1)],
        "megabytes_resident": [round(before.resident, 1), round(after.resident, 1)],
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def main() -> int:
    given = proof.parse()
    proof.need("insightface", "onnxruntime", "onnx", "av", "httpcore", cure="pip install 'resilient-faces[all]'")
    import anyio

    from resilient_faces.testing.webhook_receiver import Receiver

    seconds = given.seconds or (20.0 if given.small else 600.0)
    with tempfile.TemporaryDirectory() as folder, Receiver(200) as receiver:
        soak = Soak(Path(folder), given.small, given.seed)
        with soak.stack:
            before, after, views = anyio.run(run, soak, Path(folder), receiver, seconds)
        figures = judge(soak, before, after, views, [json.loads(one.body) for one in receiver.got])
    for name, value in figures.items():
        proof.say(f"  {name:22} {value}")
    return proof.finish(
        parameters={"seed": given.seed, "trouble": seconds, "down": DOWN, "away": soak.lengths},
        figures=figures,
        packages=("resilient-faces", "insightface", "onnxruntime", "av", "httpcore"),
    )


if __name__ == "__main__":
    sys.exit(main())
