"""The camera demonstration by script, and what its receiver got: `python proof/demo_cameras.py [--small]`.

The whole system as `face-service demo` starts it, each camera, the service and the demonstration in processes of their
own. Cameras are killed, frozen and restarted; the demonstration judges itself by what the receiver got and the service
said, and this judges the demonstration: every step is answered by the webhooks that belong to it, in their order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from _face_service import CURE
from _report import Proof

proof = Proof(
    "demo_cameras",
    "Cameras are killed, frozen and restarted: the receiver hears of each death, each revival and each person once",
    __doc__,
    "one camera of two is killed and restarted, one freezes for a moment",
)
SMALL = (2, "3 kill 2, 11 restart 2, 13 freeze 1, 16 thaw 1", 20.0)
WHOLE = (
    4,
    "3 kill 2, 4 freeze 3, 14 restart 2, 16 fault 4 reports_only, 34 thaw 3, 40 fault 4 none, 42 kill 1, 50 restart 1",
    80.0,
)


def watched(cameras: int, script: str, seconds: float) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and what was said of one demonstration."""
    with tempfile.TemporaryDirectory(prefix="fs-") as place:  # its own, so that one of a person's is not in the way
        command = [sys.executable, "-m", "face_service", "demo", "--json", "--cameras", str(cameras)]
        command += ["--script", script, "--seconds", str(seconds)]
        environment = {**os.environ, "TMPDIR": place}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    try:
        return done.returncode, json.loads(done.stdout), done.stderr
    except ValueError:
        return done.returncode, {}, done.stdout + done.stderr


def told(story: list[dict[str, Any]], camera: str, after: float) -> list[str]:
    """What the receiver was told of one camera from then on."""
    return [one["webhook"] for one in story if one.get("camera") == camera and "webhook" in one and one["at"] >= after]


def main() -> int:
    options = proof.parse()
    proof.need("insightface", "onnx", "av", "fastapi", "httpx", cure=CURE)
    cameras, script, seconds = SMALL if options.small else WHOLE
    code, report, said = watched(cameras, script, seconds)
    if not proof.check(bool(report), f"there is no report: {said[-2000:]}"):
        return proof.finish(parameters={"script": script}, figures={})
    for finding in report["findings"]:
        proof.check(finding["holds"], f"{finding['rule']}: {finding['seen']}")
    proof.check(code == 0, f"it ended with {code}")
    story = report["story"]
    for one in story:
        what = f"-> {one['done']}" if "done" in one else f"   {one['webhook']:20} {one.get('reason', '')}"
        proof.say(f"{one['at']:6.1f} s  {what:52} {'camera ' + one['camera'] if one.get('camera') else ''}")
    for camera in sorted({one["what"].split()[1] for one in report["done"] if one["what"].startswith("kill")}):
        killed = next(one["at"] for one in report["done"] if one["what"] == f"kill {camera}")
        heard = told(story, camera, killed)
        right = ["CAMERA_DISCONNECTED", "CAMERA_RECONNECTED"]
        proof.check(heard == right, f"after camera {camera} was killed the receiver heard {heard}")
    people = [one for one in story if one.get("webhook") == "RECOGNITION"]
    proof.check(len(people) == cameras, f"{len(people)} recognitions of {cameras} people")
    return proof.finish(
        parameters={"cameras": cameras, "script": script, "seconds": seconds},
        figures={"story": story, "webhooks": report["webhooks"], "session": report["session"]},
        packages=("av", "insightface", "onnxruntime", "fastapi", "uvicorn", "httpcore"),
    )


if __name__ == "__main__":
    sys.exit(main())
