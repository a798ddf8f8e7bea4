"""What the demonstration sees: asked from the service and the receiver, several times a second, and kept."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from face_service.demo.system import System

__all__ = ["Row", "Watch"]

FRESH: Final = 2.0  # seconds that the newest frame of a camera that is well may be old
SETTLED: Final = 15.0  # seconds after which whatever was done to a camera must have been noticed, or be over


@dataclass(frozen=True, slots=True)
class Row:
    """One camera at one moment."""

    number: int
    done: str  # what was done to it
    state: str  # what the service says
    dead: bool
    age: float | None  # of its newest frame
    looked: int
    recognised: bool  # the person on its card

    @property
    def well(self) -> bool:
        """Whether it gives frames."""
        return self.state == "live" and not self.dead and self.age is not None and self.age < FRESH


@dataclass(slots=True)
class Watch:
    """What was seen so far.

    Attributes:
        rows: How the cameras stand.
        health: What the service says of itself.
        session: How its session stands; empty if it has ended.
        states: States that each camera was seen in.
        deaths: Cameras that were seen dead.
        revivals: Cameras that were seen alive after that.
        failures: Questions that the service did not answer.
    """

    system: System
    rows: tuple[Row, ...] = ()
    health: dict[str, Any] = field(default_factory=dict)
    session: dict[str, Any] = field(default_factory=dict)
    states: dict[int, set[str]] = field(default_factory=dict)
    deaths: set[int] = field(default_factory=set)
    revivals: set[int] = field(default_factory=set)
    failures: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def letters(self) -> Counter[str]:
        """Webhooks that were delivered, by what they tell."""
        return Counter(letter.kind for letter in list(self.system.inbox.letters))

    def look(self) -> None:
        """Ask everybody."""
        try:
            self.health = self.system.health()
            self.session = self.system.session() or {}
        except (httpx.HTTPError, ValueError):
            self.failures += 1
            return
        known = self.recognised()
        cameras = {str(one["id"]): one for one in self.session.get("cameras", ())}
        rows = []
        for camera in self.system.cameras:
            seen = cameras.get(str(camera.number), {})
            row = Row(
                number=camera.number,
                done=camera.how,
                state=str(seen.get("state", "-")),
                dead=bool(seen.get("dead", False)),
                age=seen.get("age"),
                looked=int(seen.get("looked", 0)),
                recognised=camera.person in known,
            )
            self.states.setdefault(row.number, set()).add(row.state)
            if row.dead:
                self.deaths.add(row.number)
            elif row.well and row.number in self.deaths:
                self.revivals.add(row.number)
            rows.append(row)
        self.rows = tuple(rows)

    def recognised(self) -> dict[str, list[str]]:
        """Who was told to be recognised, and by which cameras."""
        found: dict[str, list[str]] = {}
        for letter in list(self.system.inbox.letters):
            if letter.kind == "RECOGNITION":
                found.setdefault(letter.body["recognition"]["personId"], []).append(letter.camera)
        return found

    @property
    def at_rest(self) -> bool:
        """Whether all cameras that run are well, and all that are down are known to be."""
        return bool(self.rows) and all(row.well if row.done == "running" else not row.well for row in self.rows)
