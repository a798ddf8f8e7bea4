"""Health and answers of the face service whose model comes and goes: `python proof/service_moments.py [--small]`.

One process, no restart, asked over HTTP as its callers ask it, with the generated card pack in real InsightFace. The
moments: no directory, a directory without files, a detector alone, a damaged detector, the whole pack, a pack that is
damaged under a model in use. At each of them health, liveness, readiness, an embedding and an enrolment are asked for,
and a session watches a real RTSP camera meanwhile.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _face_service import CURE, ServiceProcess
from _report import Proof

proof = Proof(
    "service_moments",
    "A service whose model is missing or damaged runs, says why, and takes the model into use when it appears",
    __doc__,
    "the same",
)
WITHIN = 10.0  # seconds in which a change must be noticed; it looks twice a second
SAID = (
    "Failed to load InsightFace model",
    "Service starting without model - recognition endpoints will fail",
    "Face model not initialized",
)


def main() -> int:
    proof.parse()
    proof.need("insightface", "onnx", "av", "fastapi", "httpx", cure=CURE)
    from resilient_faces.testing.card_pack import DETECTOR, RECOGNISER, photo, write_pack
    from resilient_faces.testing.rtsp_server import RtspProcess

    moments: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        good, pack = write_pack(folder / "good"), folder / "data" / "pack"
        camera = stack.enter_context(RtspProcess(folder / "camera", width=640, height=360, cards=True, first=1))
        service = stack.enter_context(
            ServiceProcess(folder, look_every=0.5, pace=0.2, agree=1, agree_of=1, callback_schemes="http",
                           callback_ports="any", callback_allow="127.0.0.1/32")
        )  # fmt: skip
        client = stack.enter_context(service.client())
        about = {"id": "c1", "rtspUrl": camera.url()}
        # Nobody listens at the callback: what is told is no concern here.
        begun = client.post("/sessions", json={"slotId": 1, "callbackUrl": "http://127.0.0.1:1/", "cameras": [about]})
        proof.check(begun.status_code == 200, f"a session cannot be begun without a model: {begun.text}")

        def embed() -> Any:
            return client.post("/embeddings/generate", files={"photo": ("a", photo(1))}, data={"submissionId": "1"})

        def moment(name: str, act: Callable[[], object], reason: str) -> None:
            act()
            began = time.monotonic()
            while True:
                health = client.get("/health").json()
                model = health["services"]["insightface"]
                seen = client.get("/sessions/1").json()["data"]["cameras"][0]
                if model["reason"] == reason and seen["reason"] == reason and seen["looked"] > 0:
                    break
                if time.monotonic() - began > WITHIN:
                    proof.check(False, f"{name}: {model}, the camera says {seen}, not {reason!r}")
                    break
                time.sleep(0.05)
            noticed = time.monotonic() - began
            answer, enrolled = embed(), client.post("/people/card-1/photos", files={"photo": ("a", photo(1))})
            live, ready = client.get("/health/live"), client.get("/health/ready")
            found = {
                "moment": name,
                "noticed_seconds": round(noticed, 1),
                "health": health["status"],
                "gallery": health["services"]["gallery"]["reason"],
                "embedding": answer.status_code,
                "reason": answer.json().get("reason", ""),
                "enrolment": enrolled.status_code,
                "camera": seen["reason"],
                "live": live.status_code,
                "ready": ready.status_code,
            }
            moments.append(found)
            proof.say(
                f"{name:28} {found['health']:9} embedding {answer.status_code} {found['reason']:27} "
                f"enrolment {enrolled.status_code}  noticed after {noticed:.1f} s"
            )
            expected = {
                "health": "degraded" if reason else "healthy",
                "gallery": "gallery.waits_for_model" if reason else "",
                "embedding": 503 if reason else 200,
                "reason": reason,
                "enrolment": 503 if reason else 200,
                "camera": reason,
                "live": 200,
                "ready": 200,
            }
            wrong = {key: found[key] for key, value in expected.items() if found[key] != value}
            proof.check(not wrong, f"{name}: {wrong}, not {expected}")

        def damage() -> None:
            (pack / DETECTOR).write_bytes(b"<html>not found</html>")

        def mend() -> None:
            for file in (DETECTOR, RECOGNISER):
                shutil.copy(good / file, pack / file)

        missing = "insightface.pack_missing"
        moment("no directory", lambda: None, missing)
        moment("a directory without files", lambda: pack.mkdir(parents=True), missing)
        moment("a detector alone", lambda: shutil.copy(good / DETECTOR, pack), "insightface.pack_incomplete")
        moment("a damaged detector", damage, "insightface.pack_damaged")
        moment("the whole pack", mend, "")
        moment("damaged under a model in use", damage, "")
        recognised = 0
        ends = time.monotonic() + WITHIN
        while not recognised and time.monotonic() < ends:
            recognised = client.get("/sessions/1").json()["data"]["recognised"]
            time.sleep(0.05)
        proof.check(recognised == 1, f"the session has recognised {recognised} people in the end, not 1")
        recoveries = client.get("/health").json()["services"]["insightface"]["recoveries"]
        proof.check(recoveries == 1, f"{recoveries} recoveries, not 1")
        code = service.stop()
        proof.check(code == 0, f"the service ended with {code}")
        log = service.log.read_text(encoding="utf-8")
        for text in SAID:
            proof.check(text in log, f"the log does not say {text!r}")
        proof.check("card-1" not in log, "the log names a person")
    return proof.finish(
        parameters={"moments": len(moments), "look_every": 0.5},
        figures={"moments": moments},
        packages=("insightface", "onnxruntime", "onnx", "av", "fastapi", "uvicorn"),
    )


if __name__ == "__main__":
    sys.exit(main())
