"""How long a camera may take, and what is done when it has none to give: values, and one count of openings."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.adapters.rtsp.states import HOPELESS, State
from resilient_faces.retry.backoff import Backoff, Jitter, equal, exponential, fixed, full, none

__all__ = ["CLASSROOM", "Limits", "Openings", "Pause", "Reconnect", "Tries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long anything about a camera may take, in seconds of monotonic time.

    Args:
        open: Connecting, and each answer of the handshake together.
        first_frame: From there to the first decoded frame: a key frame, which comes every 2 to 10 s.
        stall: Without a frame for so long a live camera is stalled. It is told, and the connection kept: many a stall
            passes, and then no frame is lost.
        stall_frames: The same in frame intervals, for slow streams; the longer of both counts.
        lost: Stalled for so long in all, the connection is given up. At least twice the stall in force.
        tick: How often a reading that waits looks around; closing takes as long.
        unchanged: A picture that did not change for so long is told; None never looks.
        damaged: So many pieces that cannot be decoded are corrupt video; a frame makes up for five of them.
    """

    open: float = 5.0
    first_frame: float = 10.0
    stall: float = 3.0
    stall_frames: float = 5.0
    lost: float = 10.0
    tick: float = 0.5
    unchanged: float | None = 30.0
    damaged: int = 50

    def __post_init__(self) -> None:
        checks = Checks("Limits")
        for name in ("open", "first_frame", "stall", "lost", "tick"):
            checks.seconds(name, getattr(self, name))
        checks.number("stall_frames", self.stall_frames, 1.0)
        if self.unchanged is not None:
            checks.seconds("unchanged", self.unchanged, cure="None switches it off.")
        checks.whole("damaged", self.damaged, 1)
        checks.done()
        checks.that(self.lost >= self.stall, "lost", "at least stall", self.lost, "A stall is told before it is lost.")
        checks.that(self.tick <= self.stall, "tick", "at most stall", self.tick, "Else a stall is noticed late.")
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """What is done when a camera has no picture: a few quick tries, then it is dead, and slow tries that can revive it.

    The first opening and every later one follow the same rules.

    Args:
        tries: Quick tries after a failure, before the camera is dead. None after 401 and 404.
        backoff: Seconds before each quick try.
        jitter: How these are spread, so that a hundred cameras do not come back in the same second.
        slow: Seconds before each try of a dead camera; None gives it up, and its reading ends.
        hopeless: The same after 401 and 404, which a person has to mend; quick logins lock accounts.
        healthy: After so many seconds of frames the count of tries begins afresh, not earlier: a camera that dies
            right after its first frame must not be tried in a quick loop.
        crowded: Least pause after a camera that agreed to play and sent nothing. Many allow three or four viewers, and
            hold the place of a lost one for a while.
        spread: Seconds over which the first opening is spread, where many cameras start at once.
    """

    tries: int = 3
    backoff: Backoff = field(default_factory=lambda: exponential(1.0, factor=2.0, cap=30.0))
    jitter: Jitter = field(default_factory=full)
    slow: Backoff | None = field(default_factory=lambda: exponential(10.0, factor=2.0, cap=60.0))
    hopeless: Backoff = field(default_factory=lambda: exponential(60.0, factor=2.0, cap=600.0))
    healthy: float = 10.0
    crowded: float = 5.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        checks = Checks("Reconnect")
        checks.whole("tries", self.tries, 0, "0 makes a camera dead at its first failure.")
        for name in ("backoff", "hopeless") if self.slow is None else ("backoff", "slow", "hopeless"):
            value = getattr(self, name)
            checks.that(isinstance(value, Backoff), name, "a delay of resilient_faces.retry, such as fixed(2.0)", value)
        checks.that(isinstance(self.jitter, Jitter), "jitter", "a jitter of resilient_faces.retry", self.jitter)
        for name in ("healthy", "crowded", "spread"):
            checks.seconds(name, getattr(self, name), above=False)
        checks.done()


CLASSROOM: Final = Reconnect(backoff=fixed(2.0), jitter=none(), crowded=0.0)
"""Three tries, exactly 2 s before each: the schedule that the classroom document writes down. Cameras that were lost
together come back together, so this is for a few."""

_HALF: Final = equal()  # full jitter may pause for nothing, which is no pause after 401


@dataclass(frozen=True, slots=True)
class Pause:
    """What comes after a failure.

    Attributes:
        seconds: Until the next try; None: there is none.
        attempt: Its number among the quick tries; None if the camera is dead.
        died: It is dead from now on.
    """

    seconds: float | None
    attempt: int | None
    died: bool


class Tries:
    """Where one camera is in its schedule."""

    __slots__ = ("_plan", "_waited", "dead", "quick", "slow")

    def __init__(self, plan: Reconnect) -> None:
        self._plan = plan
        self.quick = self.slow = 0
        self.dead = False
        self._waited = 0.0

    def failed(self, state: State, healthy: float, chance: float) -> Pause:
        """What comes after this failure.

        Args:
            state: How the camera is.
            healthy: Seconds of frames that it gave before, this time.
            chance: A draw from [0, 1).
        """
        plan = self._plan
        if healthy >= plan.healthy:
            self.quick = self.slow = 0
            self._waited = 0.0
        hopeless = state in HOPELESS
        if self.quick < plan.tries and not hopeless and not self.dead:
            self.quick += 1
            seconds = self._spread(plan.backoff, plan.jitter, self.quick, chance)
            if state is State.silent:
                seconds = max(seconds, plan.crowded)
            return Pause(seconds, self.quick, False)
        died, self.dead = not self.dead, True
        self.quick = plan.tries
        self.slow += 1
        if plan.slow is None:
            return Pause(None, None, died)
        backoff, jitter = (plan.hopeless, _HALF) if hopeless else (plan.slow, full())
        return Pause(self._spread(backoff, jitter, self.slow, chance), None, died)

    def _spread(self, backoff: Backoff, jitter: Jitter, number: int, chance: float) -> float:
        self._waited = jitter.spread(backoff.delay(number), self._waited, backoff, chance)
        return self._waited


class Openings:
    """How many cameras of a process may be opening at once: each costs a burst of decoding.

    An opening counts for `lease` seconds at most: one that takes longer waits for its camera and costs nothing, and a
    wall of dead cameras must not hold up those that are back.

    Args:
        most: Openings at once.
        lease: Seconds after which an opening no longer counts.
    """

    def __init__(self, most: int = 8, lease: float = 1.5) -> None:
        checks = Checks("Openings")
        checks.whole("most", most, 1)
        checks.seconds("lease", lease)
        checks.done()
        self.most: Final = most
        self.lease: Final = lease
        self._lock = threading.Lock()
        self._began: dict[object, float] = {}
        on_fork(self)

    def admit(self, who: object) -> float:
        """Begin an opening: 0.0 if it may, else seconds after which to ask again."""
        now = RUNTIME.monotonic()
        with self._lock:
            self._began = {one: at for one, at in self._began.items() if now - at < self.lease}
            if len(self._began) < self.most:
                self._began[who] = now
                return 0.0
            return min(0.1, self.lease)

    def done(self, who: object) -> None:
        """The opening came to its end."""
        with self._lock:
            self._began.pop(who, None)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._began = {}


OPENINGS: Final = Openings()
