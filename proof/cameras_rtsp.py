"""Cameras on real RTSP servers: `python proof/cameras_rtsp.py [--small]`.

Faults: a server in a process of its own is stopped, killed and restarted, made to drip, to send reports only, damaged
data, 401 and 404; and an address that is a black hole. For each: the fault's code, how long after it the camera was
known to have it, how long after the mending it was live again. The same on GStreamer's server, where it is installed
(Debian: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
gstreamer1.0-plugins-ugly).
Reconnects: 1,000 over 20 cameras in parallel, with the threads, descriptors and memory they leave behind.
"""

from __future__ import annotations

import gc
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


def until(true: Callable[[], bool], within: float) -> float | None:
    """Seconds until it is true; None if it is not within so many."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > within:
            return None
        time.sleep(0.005)
    return time.monotonic() - began


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def faults(proof: Proof, server: Any, whose: str) -> list[dict[str, Any]]:
    """One row a fault."""
    from resilient_faces.adapters.rtsp import Camera, Limits, Reconnect, State
    from resilient_faces.retry import fixed, none
    from resilient_faces.testing.rtsp_server import BlackHole, Fault

    limits = Limits(open=2.0, first_frame=2.0, stall=1.0, lost=2.0, tick=0.25)
    plan = Reconnect(
        tries=3, backoff=fixed(PAUSE), jitter=none(), slow=fixed(PAUSE), hopeless=fixed(PAUSE), healthy=1.0, crowded=0.0
    )
    rows: list[dict[str, Any]] = []

    def row(
        name: str, code: str, limit: float, begin: Callable[[], Any], end: Callable[[], Any] | None, url: str
    ) -> None:
        with Camera(url, name="camera", limits=limits, reconnect=plan) as camera:
            opening = end is None
            if not opening:
                camera.take(10.0)
                time.sleep(0.5)
            began = time.monotonic()
            begin()
            told = until(lambda: camera.health().failures.get(code, 0) > 0, limit + 10.0)
            noticed = None if told is None else time.monotonic() - began
            proof.check(
                noticed is not None and noticed <= limit + SLACK,
                f"{whose}, {name}: camera.{code} within {limit:g} s; found {camera.health().failures} after {noticed}",
            )
            recovered = tried = None
            if end is not None:
                end()
                frames, mended = camera.health().frames, time.monotonic()
                if until(lambda: camera.health().frames > frames and camera.state is State.live, 20.0) is not None:
                    recovered = time.monotonic() - mended
                # A pause may have just begun, or a try that is bound to fail: the next one comes after both.
                tried = PAUSE * 1.5 + (limits.open + limits.first_frame if code in {"stalled", "silent"} else PAUSE)
                proof.check(
                    recovered is not None and recovered <= tried + GOP / RATE + 1.0,
                    f"{whose}, {name}: live within a key frame and 1 s of the next try; found {recovered}",
                )
            found = {"server": whose, "fault": name, "code": f"camera.{code}", "limit": limit}
            rows.append({**found, "noticed": rounded(noticed), "recovered": rounded(recovered)})
            proof.say(
                f"  {whose:10} {name:14} camera.{code:13} noticed {noticed or -1:5.2f} s (limit {limit:g})"
                + ("" if recovered is None else f"  live again {recovered:5.2f} s after the mending")
            )

    good = server.url(0)
    row("killed", "disconnected", 0.0, server.kill, server.start, good)
    row("frozen", "stalled", limits.lost, server.freeze, server.thaw, good)
    row("wrong password", "unauthorised", 0.0, lambda: None, None, good.replace(":pw@", ":wrong@"))
    row("wrong path", "not_found", 0.0, lambda: None, None, server.url(99))
    if whose == "ours":

        def told(fault: Fault) -> Callable[[], None]:
            return lambda: server.tell(0, fault)

        well = told(Fault.none)
        for fault, code, limit in (
            (Fault.frozen, "stalled", limits.lost),
            (Fault.drip, "stalled", limits.lost),
            (Fault.reports_only, "stalled", limits.lost),
            (Fault.corrupt, "corrupt", limits.lost),
        ):
            row(f"{fault.value} stream", code, limit, told(fault), well, good)
        row("no picture", "silent", limits.open + limits.first_frame, told(Fault.no_picture), None, good)
        well()
        with BlackHole() as hole:
            row("black hole", "silent", limits.open, lambda: None, None, f"rtsp://127.0.0.1:{hole.port}/x")
        server.kill()
        row("nobody there", "refused", 0.0, lambda: None, None, good)
    return rows


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

        proof.check(until(lambda: connected(1), 30.0) is not None, "all cameras open")
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
            if not proof.check(done is not None, f"all cameras come back from round {number}"):
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
        "every fault of a camera is told apart and noticed within 2 s of its limit, a camera is live within a key "
        "frame and 1 s of the next try, and 1,000 reconnects leave no thread, descriptor or memory behind",
        __doc__,
    )
    given = proof.parse()
    proof.need("av", "numpy")
    from resilient_faces.testing.rtsp_server import RtspProcess

    with tempfile.TemporaryDirectory() as folder:
        with RtspProcess(Path(folder), rate=RATE, gop=GOP, password="pw") as server:
            rows = faults(proof, server, "ours")
        gstreamer = GstServer.available()
        if gstreamer:
            other = GstServer()
            try:
                rows += faults(proof, other, "gstreamer")
            finally:
                other.kill()
        else:
            proof.check(not os.environ.get("CI"), "GStreamer's server is installed in CI")
            proof.say("  GStreamer's server is not installed: left out")
        counts = reconnects(proof, Path(folder), 5 if given.small else 50)
    return proof.finish(
        parameters={"rate": RATE, "gop": GOP, "pause": PAUSE, "cameras": CAMERAS, "gstreamer": gstreamer},
        figures={"faults": rows, "reconnects": counts},
        packages=["resilient-faces", "av", "numpy"],
    )


if __name__ == "__main__":
    sys.exit(main())
