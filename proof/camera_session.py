"""A session of the document, step by step, on real parts: `python proof/camera_session.py [--write | --check]`.

Two cameras, each of a server in a process of its own, which is killed and told to fail; cards as people, found by real
FaceAnalysis with the generated pack; a real receiver of webhooks on loopback. At each step all lines of the loggers
`camera` and `session`, and all that the receiver got, are set down and checked: their order, levels, ids, signatures.

`--write` puts them into docs/reference/camera-sessions.md; `--check` compares, and fails if the page says something
else. What depends on the machine is left out: times, cosines, and lines about stalls that passed.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from _page import Part
from _report import Proof

WITHIN: Final = 30.0  # seconds for each thing that is waited for
PASSING: Final = ("CAMERA_STALLED", "CAMERA_RESUMED")  # a busy machine may cause them
MASKED: Final = re.compile(r'"(seenAt|at|cosine)": [^,}\n]+')

proof = Proof(
    "camera_session",
    "a session of the document writes its lines and tells its webhook what the reference shows, step by step",
    __doc__,
    small="the same",
)
part = Part(proof, "reference/camera-sessions.md")


class Steps(logging.Handler):
    """What was logged and told, step by step."""

    def __init__(self, receiver: Any) -> None:
        super().__init__(logging.INFO)
        self.receiver = receiver
        self.lines: list[str] = []
        self.done: list[dict[str, Any]] = []
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.startswith(PASSING):
            self.lines.append(f"{record.levelname:7} {text}")

    def seen(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def told(self) -> list[dict[str, Any]]:
        """What the receiver got in this step."""
        return [json.loads(one.body) for one in self.receiver.got[self._told :]]

    def end(self, title: str) -> None:
        """The step is over; what happens from now on belongs to the next."""
        told = self.told()
        self._told += len(told)
        lines: list[str] = []
        for stops, group in itertools.groupby(self.lines, lambda line: "CAMERA_STOP" in line):
            some = list(group)
            lines += sorted(some) if stops else some  # threads that end at the same time say so in any order
        self.done.append({"step": title, "lines": lines, "webhooks": told})
        proof.say(f"--- {title}")
        for line in lines:
            proof.say(f"    {line}")
        for body in told:
            proof.say(f"    > {json.dumps(body)}")
        self.lines = []


async def until(true: Callable[[], bool], what: str) -> None:
    import anyio

    with anyio.move_on_after(WITHIN):
        while not true():  # noqa: ASYNC110  # it happens in other threads
            await anyio.sleep(0.01)
    proof.check(true(), f"within {WITHIN:g} s: {what}")


async def run(folder: Path, steps: Steps, receiver: Any, key: Any) -> None:
    """The steps."""
    import anyio

    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import FrameRecogniser, InsightFaceEngine, picture_of
    from resilient_faces.adapters.rtsp import CLASSROOM
    from resilient_faces.adapters.webhook import Destinations, Webhook
    from resilient_faces.pipeline.cameras import (
        CameraPlan,
        Ending,
        MemoryRegister,
        Rules,
        SessionExistsError,
        SessionPlan,
        Sessions,
        rtsp_cameras,
    )
    from resilient_faces.retry import fixed
    from resilient_faces.testing.card_pack import Placed, scene, write_pack
    from resilient_faces.testing.rtsp_server import Fault, RtspProcess

    recogniser = FrameRecogniser(write_pack(folder / "pack"), detection_size=320, lowest_score=0.3, threads=1)
    engine = recogniser.engine
    assert isinstance(engine, InsightFaceEngine)
    gallery = Gallery(engine.space)
    card = picture_of(scene([Placed(0, (40, 40), 240)], width=320, height=320))
    gallery.add("student-0", engine.embed(card, engine.detect(card))[0])

    # The document's schedule; slow tries a second apart and a count that begins afresh after a second save time here.
    plan = dataclasses.replace(CLASSROOM, slow=fixed(1.0), healthy=1.0)
    webhook = Webhook(key, destinations=Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",)))
    register = MemoryRegister()
    sessions = Sessions(
        recogniser,
        gallery,
        webhook,
        rules=Rules(pace=0.2, heartbeat=59.0),
        cameras=rtsp_cameras(reconnect=plan),
        register=register,
    )
    size: dict[str, Any] = {"cameras": 2, "width": 320, "height": 180, "rate": 10.0, "gop": 10, "cards": True}
    with RtspProcess(folder / "front", **size) as front, RtspProcess(folder / "back", **size) as back:
        cameras = [CameraPlan("front", "Front door", front.url(0)), CameraPlan("back", "Back door", back.url(1))]
        asked = SessionPlan(slot=7, callback=receiver.url, cameras=cameras)

        async with sessions:
            await sessions.start(asked)
            await until(lambda: len(steps.told()) == 1, "a person is told")
            await until(lambda: all(one.looked > 3 for one in sessions.active()[0].cameras), "both are looked at")
            steps.end("A session begins, and a person is seen in three of five frames")

            try:
                await sessions.start(asked)
            except SessionExistsError as error:
                proof.check(str(error) == "Session already exists for slot 7", f"what a second start raises: {error}")
            else:
                proof.check(False, "a second start is refused")
            steps.end("It is started once more")

            front.tell(0, Fault.broken)
            front.reset(0)
            await until(lambda: steps.seen("attempt=2/3"), "the second try")
            front.tell(0, Fault.silent)
            await until(lambda: steps.seen("attempt=3/3"), "the third try")
            front.tell(0, Fault.none)
            await until(lambda: steps.seen("CAMERA_RECONNECT_OK"), "it is connected again")
            await anyio.sleep(1.5)
            steps.end("A camera loses its connection; two tries fail, the third does not")

            front.kill()
            await until(lambda: len(steps.told()) == 1, "the death is told")
            steps.end("The server of a camera is killed; three tries fail, and another camera is alive")

            front.start()
            await until(lambda: len(steps.told()) == 1, "the revival is told")
            steps.end("The server is started again")

            back.kill()
            await until(lambda: len(steps.told()) == 1, "the other death is told")
            steps.end("The other server is killed")

            front.tell(0, Fault.missing)
            front.reset(0)
            await until(lambda: sessions.get(7) is None, "the session is gone")
            view = await sessions.wait(7)
            proof.check(view is None, "nothing of it is left")
            steps.end("The last camera is lost: 404 ends its tries at once, and the session with it")

            front.tell(0, Fault.none)
            await sessions.start(dataclasses.replace(asked, slot=8, cameras=cameras[:1]))
            await until(lambda: len(steps.told()) == 1, "a person is told in the next session")
            register.drop(8)
            await until(lambda: sessions.get(8) is None, "the removal is noticed")
            steps.end("A session is removed elsewhere")

            await sessions.start(dataclasses.replace(asked, slot=9, cameras=cameras[:1]))
            await until(lambda: len(steps.told()) == 1, "a person is told in the third session")
            view = await sessions.stop(9)
            proof.check(view is not None and view.ended is Ending.requested, "stop gives the last view")
            proof.check(await sessions.stop(9) is None, "stop of an unknown session gives None")
            steps.end("A session is stopped")

            await sessions.start(dataclasses.replace(asked, slot=10, cameras=cameras[:1]))
            await until(lambda: len(steps.told()) == 1, "a person is told in the fourth session")
            stopped = await sessions.shutdown()
            proof.check((stopped.tasks, stopped.sessions) == (1, 1), f"a shutdown counts: {stopped}")
            steps.end("The service shuts down")


def written(steps: Steps) -> str:
    """As the page shows it."""
    text = ""
    for number, step in enumerate(steps.done, 1):
        text += f"### {number}. {step['step']}\n\n"
        if step["lines"]:
            text += "```text\n" + "\n".join(step["lines"]) + "\n```\n\n"
        for body in step["webhooks"]:
            text += "```json\n" + MASKED.sub(r'"\1": "..."', json.dumps(body, indent=2)) + "\n```\n\n"
    return text


def main() -> int:
    proof.parse()
    proof.need("insightface", "onnxruntime", "onnx", "av", "httpcore", cure="pip install 'resilient-faces[all]'")
    import threading

    import anyio

    from resilient_faces.adapters.webhook import SigningKey, Verifier
    from resilient_faces.testing.webhook_receiver import Receiver

    key = SigningKey.new()
    with tempfile.TemporaryDirectory() as folder, Receiver(200) as receiver:
        steps = Steps(receiver)
        for name in ("camera", "session"):
            logger = logging.getLogger(f"resilient_faces.{name}")
            logger.setLevel(logging.INFO)
            logger.addHandler(steps)
        anyio.run(run, Path(folder), steps, receiver, key)
        left = [one.name for one in threading.enumerate() if one.name.startswith("camera ")]
        proof.check(not left, f"no thread of a camera is left: {left}")
        verifier = Verifier(key)
        ids = [verifier.verify(one.headers, one.body).id for one in receiver.got]
        proof.check(len(set(ids)) == len(ids), "every delivery has an id of its own, and a good signature")
    part.settle(written(steps))
    return proof.finish(
        parameters={"cameras": 2, "schedule": "CLASSROOM"},
        figures={"steps": steps.done},
        packages=("resilient-faces", "insightface", "onnxruntime", "av", "httpcore"),
    )


if __name__ == "__main__":
    sys.exit(main())
