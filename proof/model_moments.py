"""Health and answers of a service whose model comes and goes: `python proof/model_moments.py [--small]`.

One process, no restart, real sessions of ONNX Runtime on the generated card pack. The moments: no directory, a
directory without files, a detector alone, a damaged detector, the whole pack, a pack that is damaged under a model in
use, and a model whose inference fails. At each of them a frame with two known persons is shown, and health is asked.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _report import Proof

proof = Proof(
    "model_moments",
    "A model that is missing or damaged degrades the service, which takes it into use when it appears",
    __doc__,
    "the same",
)


def main() -> int:
    proof.parse()
    proof.need("insightface", "onnxruntime", "onnx", cure="pip install 'resilient-faces[insightface]'")
    import logging

    logging.getLogger("resilient_faces").setLevel(logging.CRITICAL)
    from resilient_faces import services
    from resilient_faces.adapters.gallery import Gallery
    from resilient_faces.adapters.insightface import FrameRecogniser, InsightFaceEngine, picture_of
    from resilient_faces.testing import ManualRuntime
    from resilient_faces.testing.card_pack import DETECTOR, RECOGNISER, Placed, scene, write_pack

    frame = scene([Placed(1, (20, 60), 380), Placed(2, (560, 60), 380)], width=1000, height=500)
    moments: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary, ManualRuntime().installed() as clock:
        good, pack = write_pack(Path(temporary) / "good"), Path(temporary) / "pack"
        engine = InsightFaceEngine(good)
        gallery = Gallery(engine.space)
        for number in (1, 2):
            picture = picture_of(scene([Placed(number, (40, 40), 300)], width=400, height=400))
            gallery.add(f"person-{number}", engine.embed(picture, engine.detect(picture))[0])

        recogniser = FrameRecogniser(pack, criticality="critical")

        def moment(name: str, act: Callable[[], object], health: str, people: int, reason: str) -> None:
            act()
            clock.advance(10.0)
            seen = recogniser.recognise(frame, gallery)
            known = sum(1 for one in seen.found if one.match)
            now = recogniser.health()
            found = {
                "health": now.status,
                "of": services.health().status,
                "why": now.reason,
                "known": known,
                "reason": seen.reason,
            }
            moments.append({"moment": name, **found})
            proof.say(f"{name:36} {now.status:9} {services.health().status:10} {known} known  {seen.reason}")
            proof.check((now.status, known, seen.reason) == (health, people, reason), f"{name}: {found}")
            proof.check(
                services.health().http_status == (200 if health == "healthy" else 503), f"{name}: the whole's health"
            )

        def damage() -> None:
            (pack / DETECTOR).write_bytes(b"<html>not found</html>")

        def mend() -> None:
            for file in (DETECTOR, RECOGNISER):
                shutil.copy(good / file, pack / file)

        missing = "insightface.pack_missing"
        moment("no directory", lambda: None, "degraded", 0, missing)
        moment("a directory without files", pack.mkdir, "degraded", 0, missing)
        moment(
            "a detector alone", lambda: shutil.copy(good / DETECTOR, pack), "degraded", 0, "insightface.pack_incomplete"
        )
        moment("a damaged detector", damage, "degraded", 0, "insightface.pack_damaged")
        moment("the whole pack", mend, "healthy", 2, "")
        moment("damaged under a model in use", damage, "healthy", 2, "")
        moment("loading that by hand", recogniser.load, "healthy", 2, "")

        working = recogniser.engine
        assert isinstance(working, InsightFaceEngine)
        detect = working.detect

        def fail(picture: object) -> Any:
            raise RuntimeError("the session is broken")

        def broken() -> None:
            working.detect = fail  # type: ignore[method-assign]
            for _ in range(5):
                recogniser.recognise(frame, gallery)
            clock.advance(-10.0)  # the circuit has just opened

        def works() -> None:
            working.detect = detect  # type: ignore[method-assign]

        moment("inference fails", broken, "degraded", 0, "insightface.circuit_open")
        moment("inference works again", works, "healthy", 2, "")
        proof.check(recogniser.health().recoveries == 2, f"{recogniser.health().recoveries} recoveries, not 2")
    return proof.finish(
        parameters={"moments": len(moments)},
        figures={"moments": moments},
        packages=("insightface", "onnxruntime", "onnx", "numpy", "opencv-python"),
    )


if __name__ == "__main__":
    sys.exit(main())
