"""A demonstration from its start to its end, however it ends: nothing that it started is left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from face_service.demo.control import Control
from face_service.demo.judge import Done, Report, judge
from face_service.demo.script import FAULTS, VERBS, Step
from face_service.demo.system import System
from face_service.demo.watch import Watch

__all__ = ["Run"]

_LOOK_EVERY: Final = 0.25  # seconds


@dataclass(slots=True)
class Run:
    """One demonstration.

    Attributes:
        cameras: How many.
        seconds: After so many it ends; None: when somebody ends it.
        script: What is done by itself.
        stage: What it is at.
        done: What was done so far.
    """

    cameras: int
    seconds: float | None
    script: tuple[Step, ...] = ()
    stage: str = "not begun"
    done: list[Done] = field(default_factory=list)
    _system: System | None = None
    _watch: Watch | None = None
    _tell: Callable[[str], None] = print

    def go(self, tell: Callable[[str], None], show: Callable[[Watch], None]) -> Report:
        """Run it; Ctrl-C ends it and is passed on."""
        self._tell = tell
        with (
            tempfile.TemporaryDirectory(prefix="face-service-demo-") as folder,
            Control(self.answer),
            System(Path(folder), self.cameras, self._stage) as system,
        ):
            self._system = system
            watch = self._watch = Watch(system)
            self._stage("watching")
            self._until_it_ends(watch, show)
            self._stage("ending the service")
            system.end()
            return judge(system, watch, tuple(self.done))

    def _stage(self, text: str) -> None:
        self.stage = text
        self._tell(text)

    def _until_it_ends(self, watch: Watch, show: Callable[[Watch], None]) -> None:
        steps = list(self.script)
        while self.seconds is None or watch.seconds < self.seconds:
            began = time.monotonic()
            while steps and steps[0].at <= watch.seconds:
                self._do(steps.pop(0))
            watch.look()
            show(watch)
            if not watch.session and self.seconds is None and watch.rows:
                return  # all cameras are dead: there is nothing to see any more
            time.sleep(max(0.0, _LOOK_EVERY - (time.monotonic() - began)))

    def _do(self, step: Step) -> str:
        assert self._system is not None
        assert self._watch is not None
        said = self._system.do(step)
        self.done.append(Done(self._watch.seconds, step, said))
        self._tell(f"{step}: {said}")
        return said

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Do what another terminal asks for."""
        watch = self._watch
        if watch is None:
            return {"ok": False, "said": f"The demonstration is still {self.stage}."}
        verb, camera, fault = question.get("verb"), question.get("camera"), str(question.get("fault", ""))
        if verb == "status":
            rows = [f"camera {row.number}: {row.done}, the service says {row.state}" for row in watch.rows]
            return {"ok": True, "said": "\n".join(rows)}
        if verb not in VERBS or type(camera) is not int or not 1 <= camera <= self.cameras:
            return {"ok": False, "said": f"There are cameras from 1 to {self.cameras}."}
        if verb == "fault" and fault not in FAULTS:
            return {"ok": False, "said": f"A fault is one of {', '.join(FAULTS)}."}
        return {"ok": True, "said": self._do(Step(watch.seconds, verb, camera, fault))}

    def summary(self) -> str:
        """What was done, when it was interrupted."""
        watch = self._watch
        if watch is None:
            return ""
        told = sum(watch.letters().values())
        return f"{len(self.done)} things done to cameras, {told} webhooks received."
