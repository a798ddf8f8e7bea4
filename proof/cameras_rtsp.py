"""Cameras on real RTSP servers: `python proof/cameras_rtsp.py [--small] [--write | --check]`.

Faults: a server in a process of its own is stopped, killed and restarted, made to drip, to send reports only, damaged
data, 401 and 404; and an address that is a black hole. For each, in a session of the pipeline with a second camera
that stays alive: the fault's code, how long after it the camera was known to have it, how long after the mending it was
live again, and what a receiver of webhooks on loopback got. The same on GStreamer's server, where it is installed
(Debian: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
gstreamer1.0-plugins-ugly).
Reconnects: 1,000 over 20 cameras in parallel, with the threads, descriptors and memory they leave behind.

`--write` puts the table of faults into docs/reference/camera-sessions.md; `--check` compares all of it but the times,
which must be within their limits, and fails if the page says something else.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _page import Part
from _report import Proof

CAMERAS = 20
RATE, GOP = 20.0, 10  # frames a second, frames from key frame to key frame: half a second
PAUSE = 0.5  # seconds before each try
SLACK = 2.0  # seconds by which a limit may be missed
GROWTH = 5.0  # MB

GSTREAMER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch("( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=20/1 ! "
    "x264enc tune=zerolatency speed-preset=veryfast key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=1 )")
server.get_mount_points().add_factory("/cam0", factory)
if server.attach(None) == 0: sys.exit("the port is taken")
auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken(); token.set_string("media.factory.role", "viewer")
auth.add_basic(GstRtspServer.RTSPAuth.make_basic("viewer", "pw"), token); server.set_auth(auth)
roles = GstRtspServer.RTSPPermissions()
roles.add_permission_for_role("viewer", "media.factory.access", True)
roles.add_permission_for_role("viewer", "media.factory.construct", True)
factory.set_permissions(roles)
print("{}", flush=True)
GLib.MainLoop().run()
"""


class GstServer:
    """GStreamer's server, under the system's own Python, with the face of `RtspProcess`."""

    PYTHON = "/usr/bin/python3"

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    @classmethod
    def available(cls) -> bool:
        look = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
        if not Path(cls.PYTHON).exists():
            return False
        return subprocess.run([cls.PYTHON, "-c", look], check=False, capture_output=True).returncode == 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.PYTHON, "-c", GSTREAMER, str(self.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def url(self, number: int = 0) -> str:
        return f"rtsp://viewer:pw@127.0.0.1:{self.port}/cam{number}"

    def freeze(self) -> None:
        self.process.send_signal(19)

    def thaw(self) -> None:
        self.process.send_signal(18)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    stop = kill


@dataclasses.dataclass
class Row:
    """One fault, and what became of it. Times in seconds."""

    server: str
    fault: str
    code: str
    limit: float
    noticed: float | None = None
    recovered: float | None = None
    told: tuple[str, ...] = ()


class World:
    """Sessions on blind recognition, their cameras' events, and a receiver."""

    def __init__(self, proof: Proof, receiver: Any) -> None:
        from resilient_faces._core.runtime import RUNTIME
        from resilient_faces.adapters.insightface import Sightings
        from resilient_faces.adapters.rtsp import Limits, Openings, Reconnect
        from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook
        from resilient_faces.pipeline.cameras import Rules, Sessions, rtsp_cameras
        from resilient_faces.retry import fixed, none

        self.proof = proof
        self.receiver = receiver
        self.rows: list[Row] = []
        self.events: list[Any] = []
        self.limits = Limits(open=2.0, first_frame=2.0, stall=1.0, lost=2.0, tick=0.25)
        slow = {"slow": fixed(PAUSE), "hopeless": fixed(PAUSE), "healthy": 1.0, "crowded": 0.0}

        def cameras(tries: int) -> Any:
            plan = Reconnect(tries=tries, backoff=fixed(PAUSE), jitter=none(), **slow)
            return rtsp_cameras(limits=self.limits, reconnect=plan, openings=Openings(20))

        quick, patient = cameras(1), cameras(20)

        class Blind:
            async def arecognise(self, frame: Any, gallery: Any) -> Sightings:
                return Sightings()

        RUNTIME.listen(self.events.append)
        self.sessions = Sessions(
            Blind(),
            None,  # type: ignore[arg-type]
            Webhook(
                SigningKey.new(),
                destinations=Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",)),
            ),
            rules=Rules(pace=0.2, heartbeat=59.0),
            cameras=lambda plan, slot: (patient if plan.id == "patient" else quick)(plan, slot),
        )

    async def begin(self, slot: int, **addresses: str) -> float:
        """Begin a session with these cameras; the moment."""
        from resilient_faces.pipeline.cameras import CameraPlan, SessionPlan

        plans = [CameraPlan(one, one, address) for one, address in addresses.items()]
        await self.sessions.start(SessionPlan(slot=slot, callback=self.receiver.url, cameras=plans))
        return time.monotonic()

    def heard(self, slot: int, camera: str, since: float, *statuses: str) -> Any:
        """The first event of these about the camera since that moment; None if there was none."""
        for one in list(self.events):
            if (one.key, one.name) == (str(slot), camera) and one.t >= since and one.status in statuses:
                return one
        return None

    def told(self, slot: int, camera: str, since: int) -> tuple[str, ...]:
        """What the receiver got about the camera, after so many requests."""
        bodies = [json.loads(one.body) for one in self.receiver.got[since:]]
        return tuple(one["status"] for one in bodies if (one["slotId"], one.get("cameraId")) == (slot, camera))

    async def until(self, true: Callable[[], object], within: float) -> bool:
        import anyio

        with anyio.move_on_after(within):
            while not true():  # noqa: ASYNC110  # it happens in other threads
                await anyio.sleep(0.005)
        return bool(true())

    async def live(self, slot: int, camera: str) -> None:
        """Wait until a camera is well, and has been so for long enough to have its tries again."""
        import anyio

        good = await self.until(lambda: self.heard_state(slot, camera) == "live", 20.0)
        self.proof.check(good, f"{camera} of slot {slot} is live")
        await anyio.sleep(1.2)

    def heard_state(self, slot: int, camera: str) -> str:
        view = self.sessions.get(slot)
        return next((one.state for one in view.cameras if one.id == camera), "") if view is not None else ""

    async def meets(
        self,
        row: Row,
        slot: int,
        camera: str,
        began: float | Callable[[], Any],
        mend: Callable[[], Any] | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        """One camera meets one fault: set down when it is noticed, when it is over, and what is told.

        Args:
            row: Where it is set down.
            slot: Of the session.
            camera: Which.
            began: Begins the fault; or the moment at which the session began, with the fault there already.
            mend: Ends it.
            at_once: End it at once, before the camera is dead.
        """
        import anyio

        where, proof, got = f"{row.server}, {row.fault}", self.proof, len(self.receiver.got)
        moment = began if isinstance(began, float) else time.monotonic()
        if not isinstance(began, float):
            await self.live(slot, camera)
            got, moment = len(self.receiver.got), time.monotonic()
            await anyio.to_thread.run_sync(began)
        else:
            got = 0
        await self.until(lambda: self.heard(slot, camera, moment, "CAMERA_READ_FAIL"), row.limit + 10.0)
        event = self.heard(slot, camera, moment, "CAMERA_READ_FAIL")
        row.noticed = None if event is None else event.t - moment
        good = event is not None and event.code == row.code and row.noticed <= row.limit + SLACK
        found = "nothing" if event is None else f"{event.code} after {row.noticed:.2f} s"
        proof.check(good, f"{where}: {row.code} within {row.limit:g} s; found {found}")
        if not at_once:
            lost = await self.until(lambda: self.told(slot, camera, got), 20.0)
            proof.check(lost, f"{where}: the receiver is told")
        if mend is not None:
            await anyio.to_thread.run_sync(mend)
            mended = time.monotonic()
            back = ("CAMERA_REVIVED", "CAMERA_RECONNECT_OK")
            await self.until(lambda: self.heard(slot, camera, moment, *back), 20.0)
            event = self.heard(slot, camera, moment, *back)
            row.recovered = None if event is None else max(0.0, event.t - mended)
            # A pause may have just begun, or a try that is bound to fail: the next one comes after both.
            waits = row.code in {"camera.stalled", "camera.silent", "camera.corrupt"}
            tried = PAUSE * 1.5 + (self.limits.open + self.limits.first_frame if waits else PAUSE)
            proof.check(
                row.recovered is not None and row.recovered <= tried + GOP / RATE + 1.0,
                f"{where}: live within a key frame and 1 s of the next try; found {row.recovered}",
            )
            if not at_once:
                await self.until(lambda: len(self.told(slot, camera, got)) > 1, 5.0)
        row.told = self.told(slot, camera, got)
        expected = () if at_once else ("CAMERA_DISCONNECTED", *(() if mend is None else ("CAMERA_RECONNECTED",)))
        proof.check(row.told == expected, f"{where}: the receiver got {row.told}, not {expected}")

    def row(self, server: str, fault: str, code: str, limit: float = 0.0) -> Row:
        self.rows.append(Row(server, fault, f"camera.{code}", limit))
        return self.rows[-1]


def restarting(server: Any) -> Callable[[], None]:
    """Kills a server and starts it again at once."""

    def restart() -> None:
        server.kill()
        server.start()

    return restart


async def machine(world: World, slot: int, server: Any, whose: str, steady: str) -> None:
    """A whole server is restarted, killed, frozen; and what only a person can mend."""
    import anyio

    good = server.url(0)
    wrong = {"password": good.replace(":pw@", ":wrong@"), "path": server.url(99)}
    rows = [
        world.row(whose, "killed", "disconnected"),
        world.row(whose, "frozen", "stalled", world.limits.lost),
        world.row(whose, "restarted", "disconnected"),
        world.row(whose, "wrong password", "unauthorised"),
        world.row(whose, "wrong path", "not_found"),
    ]
    began = await world.begin(slot, camera=good, patient=good, steady=steady, **wrong)
    async with anyio.create_task_group() as group:
        group.start_soon(world.meets, rows[3], slot, "password", began)
        group.start_soon(world.meets, rows[4], slot, "path", began)
    await world.meets(rows[0], slot, "camera", server.kill, server.start)
    await world.meets(rows[1], slot, "camera", server.freeze, server.thaw)
    await world.live(slot, "patient")
    meets = functools.partial(world.meets, at_once=True)
    await meets(rows[2], slot, "patient", restarting(server), lambda: None)


async def streams(world: World, slot: int, server: Any, steady: str) -> None:
    """Faults of single streams, side by side; and addresses where nobody is."""
    import anyio

    from resilient_faces.testing.rtsp_server import BlackHole, Fault

    stalls = (Fault.frozen, Fault.drip, Fault.reports_only, Fault.corrupt)
    limits = world.limits
    rows = [
        world.row(
            "ours",
            f"stream {one.value.replace('_', ' ')}",
            "corrupt" if one is Fault.corrupt else "stalled",
            limits.lost,
        )
        for one in stalls
    ]
    rows.append(world.row("ours", "no picture", "silent", limits.open + limits.first_frame))
    rows.append(world.row("ours", "black hole", "silent", limits.open))
    rows.append(world.row("ours", "nobody there", "refused"))
    server.tell(4, Fault.no_picture)
    with BlackHole() as hole, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        addresses = {f"stream{number}": server.url(number) for number in range(4)}
        addresses |= {"silent": server.url(4), "hole": f"rtsp://127.0.0.1:{hole.port}/x"}
        addresses |= {"nobody": f"rtsp://127.0.0.1:{closed.getsockname()[1]}/x", "steady": steady}
        began = await world.begin(slot, **addresses)
        async with anyio.create_task_group() as group:
            for number, fault in enumerate(stalls):
                begin = functools.partial(server.tell, number, fault)
                mend = functools.partial(server.tell, number, Fault.none)
                group.start_soon(world.meets, rows[number], slot, f"stream{number}", begin, mend)
            for row, camera in zip(rows[4:], ("silent", "hole", "nobody"), strict=True):
                group.start_soon(world.meets, row, slot, camera, began)
        await world.sessions.stop(slot)


async def faults(proof: Proof, folder: Path, gstreamer: bool) -> list[Row]:
    """One row a fault; all servers side by side."""
    import anyio

    from resilient_faces.testing.rtsp_server import RtspProcess
    from resilient_faces.testing.webhook_receiver import Receiver

    size: dict[str, Any] = {"rate": RATE, "gop": GOP, "password": "pw"}
    with (
        Receiver(200) as receiver,
        RtspProcess(folder / "a", **size) as whole,
        RtspProcess(folder / "b", cameras=5, **size) as single,
        RtspProcess(folder / "c", **size) as other,
    ):
        world = World(proof, receiver)
        theirs = GstServer() if gstreamer else None
        try:
            async with world.sessions, anyio.create_task_group() as group:
                group.start_soon(machine, world, 1, whole, "ours", other.url())
                group.start_soon(streams, world, 2, single, other.url())
                if theirs is not None:
                    group.start_soon(machine, world, 3, theirs, "GStreamer", other.url())
        finally:
            if theirs is not None:
                theirs.kill()
    world.rows.sort(key=lambda row: row.server != "ours")  # which keeps the order of each server's
    return world.rows


def table(rows: list[Row]) -> str:
    """As the page shows it."""
    lines = [
        "| server | fault | code | limit | noticed after | live again after | told |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        limit = f"{row.limit:g} s" if row.limit else "at once"
        times = ["-" if one is None else f"{one:.2f} s" for one in (row.noticed, row.recovered)]
        told = ", ".join(f"`{one}`" for one in row.told) or "nothing: a quick try succeeded"
        lines.append(f"| {row.server} | {row.fault} | `{row.code}` | {limit} | {' | '.join(times)} | {told} |")
    return "\n".join(lines)


def until(true: Callable[[], bool], within: float) -> bool:
    """Whether it becomes true within so many seconds."""
    ends = time.monotonic() + within
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True


def memory() -> float:
    """Resident memory in MB."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def reconnects(proof: Proof, folder: Path, rounds: int) -> dict[str, Any]:
    """Reset every connection again and again."""
    from resilient_faces.adapters.rtsp import Camera, Openings, Reconnect
    from resilient_faces.retry import fixed
    from resilient_faces.testing.rtsp_server import RtspProcess

    plan = Reconnect(tries=50, backoff=fixed(0.1), healthy=0.0)
    openings = Openings(CAMERAS)
    descriptors = Path("/proc/self/fd")
    with RtspProcess(folder, cameras=CAMERAS, rate=RATE, gop=GOP) as server:
        cameras = [Camera(server.url(n), name=f"cam{n}", reconnect=plan, openings=openings) for n in range(CAMERAS)]
        for camera in cameras:
            camera.start()

        def connected(times: int) -> bool:
            return all(camera.health().connections >= times for camera in cameras)

        proof.check(until(lambda: connected(1), 30.0), "all cameras open")
        warm = max(3, rounds // 5)
        before: tuple[int, int, float] = (0, 0, 0.0)
        began = time.monotonic()
        for number in range(warm + rounds):
            if number == warm:
                time.sleep(0.5)
                before = (threading.active_count(), len(list(descriptors.iterdir())), memory())
                began = time.monotonic()
            server.reset()
            done = until(lambda number=number: connected(number + 2), 30.0)  # type: ignore[misc]
            if not proof.check(done, f"all cameras come back from round {number}"):
                break
        took = time.monotonic() - began
        time.sleep(0.5)
        after = (threading.active_count(), len(list(descriptors.iterdir())), memory())
        for camera in cameras:
            camera.close()
    names = ("threads", "descriptors", "megabytes")
    proof.check(after[0] <= before[0], f"threads: {before[0]} before, {after[0]} after")
    proof.check(after[1] <= before[1], f"descriptors: {before[1]} before, {after[1]} after")
    proof.check(
        after[2] - before[2] < GROWTH, f"memory grows by less than {GROWTH} MB: {before[2]:.1f} to {after[2]:.1f}"
    )
    left = [one.name for one in threading.enumerate() if one.name.startswith("camera ")]
    proof.check(not left, f"closing ends every reader; left: {left}")
    found = {name: [round(a, 1), round(b, 1)] for name, a, b in zip(names, before, after, strict=True)}
    proof.say(f"  {rounds * CAMERAS} reconnects in {took:.0f} s: {found}")
    return {"reconnects": rounds * CAMERAS, "seconds": round(took, 1), **found}


def main() -> int:
    proof = Proof(
        "cameras_rtsp",
        "every fault of a camera is told apart, noticed within 2 s of its limit and told to the webhook; a camera is "
        "live within a key frame and 1 s of the next try; 1,000 reconnects leave no thread, descriptor, memory behind",
        __doc__,
    )
    part = Part(proof, "reference/camera-sessions.md")
    given = proof.parse()
    proof.need("av", "numpy", "httpcore")
    import anyio

    with tempfile.TemporaryDirectory() as folder:
        gstreamer = GstServer.available()
        rows = anyio.run(faults, proof, Path(folder), gstreamer)
        for row in rows:
            proof.say(f"  {' '.join(table([row]).splitlines()[-1].split())}")
        if gstreamer:
            part.settle(table(rows), but=r"\d+\.\d\d s")
        else:
            proof.check(not os.environ.get("CI"), "GStreamer's server is installed in CI")
            proof.say("  GStreamer's server is not installed: its rows are left out, and no page is compared")
        counts = reconnects(proof, Path(folder), 5 if given.small else 50)
    return proof.finish(
        parameters={"rate": RATE, "gop": GOP, "pause": PAUSE, "cameras": CAMERAS, "gstreamer": gstreamer},
        figures={"faults": [dataclasses.asdict(row) for row in rows], "reconnects": counts},
        packages=["resilient-faces", "av", "numpy", "httpcore"],
    )


if __name__ == "__main__":
    sys.exit(main())
