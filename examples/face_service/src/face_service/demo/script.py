"""What is done to which camera, and when: the words of `face-service camera` and of `--script`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from resilient_faces.errors import OptionError
from resilient_faces.testing.rtsp_server import Fault

__all__ = ["FAULTS", "VERBS", "WHOLE", "Step", "parsed"]

VERBS: Final = {
    "kill": "end its process, as a power cut does",
    "freeze": "stop its process; connections stay open and nothing comes",
    "thaw": "let it go on",
    "restart": "start it again at its address",
    "fault": "let it misbehave: " + ", ".join(fault.value for fault in Fault),
}
FAULTS: Final = tuple(fault.value for fault in Fault)

WHOLE: Final = "3 kill 2, 13 restart 2, 16 freeze 1, 21 thaw 1"
"""The script that shows all of it: a camera that dies and is revived, one that stalls and comes back."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        at: Seconds after the session began.
        verb: What.
        camera: To which, from 1.
        fault: Of the verb `fault`: which.
    """

    at: float
    verb: str
    camera: int
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.camera}" + (f" {self.fault}" if self.fault else "")


def parsed(text: str, cameras: int) -> tuple[Step, ...]:
    """Read a script such as `3 kill 2, 13 restart 2`, in order of time.

    Raises:
        OptionError: A step cannot be read; the message names it.
    """
    steps = [_step(part.strip(), cameras) for part in text.split(",") if part.strip()]
    return tuple(sorted(steps, key=lambda step: step.at))


def _step(text: str, cameras: int) -> Step:
    words = text.split()
    fault = words[3] if len(words) == 4 else ""
    try:
        at, verb, camera = float(words[0]), words[1], int(words[2])
        good = 0.0 <= at < math.inf and verb in VERBS and 1 <= camera <= cameras and len(words) <= 4
        good = good and (fault in FAULTS if verb == "fault" else not fault)
    except (ValueError, IndexError):
        good = False
    if not good:
        raise OptionError(
            f"--script: a step is SECONDS VERB CAMERA, such as `3 kill 2`, with a camera from 1 to {cameras} and one "
            f"of {', '.join(VERBS)} (`fault` with a name behind the camera); got {text!r}."
        )
    return Step(at, verb, camera, fault)
