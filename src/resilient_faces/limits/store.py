"""What processes share of a paced limiter: what a store must offer, and a store in memory.

The state is when the next free slot begins, by the store's own clock, and how far a throttling answer has slowed the
limiter down. It is brought up to date in one step by whoever asks; a process that ends without using what it reserved
wastes that, and blocks nobody.
"""

from __future__ import annotations

import math
import threading
from typing import Protocol, runtime_checkable

from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass

__all__ = ["Granted", "LimiterStore", "MemoryLimiterStore", "Pace", "rate_at"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a limiter may go; see `RateLimiter`.

    Attributes:
        rate: Starts per second.
        decrease: Factor on the rate after a throttling answer.
        recovery: Starts per second that come back each second.
        floor: Lowest rate.
    """

    rate: float
    decrease: float
    recovery: float
    floor: float


@dataclass(frozen=True, slots=True)
class Granted:
    """What a store says to who asks for slots.

    Attributes:
        delay: Seconds until the first slot begins, from `since` on.
        interval: Seconds between slots.
        taken: Whether they were reserved; False if the first was further away than allowed.
        since: This process's monotonic time that the delay counts from, if the store can tell; None for when the answer
            was there, which is later than the store meant by as long as the answer was on its way.
    """

    delay: float
    interval: float
    taken: bool = True
    since: float | None = None

    @property
    def sound(self) -> bool:
        """Whether these can be the slots of a limiter; a store may hold what somebody else wrote."""
        numbers = (self.delay, self.interval, 0.0 if self.since is None else self.since)
        if not all(isinstance(one, (int, float)) and math.isfinite(one) for one in numbers):
            return False
        return self.interval > 0.0


@runtime_checkable
class LimiterStore(Protocol):
    """Where processes share limiters. Methods are synchronous, each is one step, and may raise anything.

    Attributes:
        inline: The store answers from memory, so it may be asked without a worker thread.
    """

    inline: bool

    def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
        """Take the next `count` slots.

        Args:
            key: The limiter.
            count: Slots, 1 or more.
            pace: How fast it may go.
            longest: Take nothing if the first slot is more than so many seconds away; None takes it in any case.
            lead: Seconds before which no slot may begin, nor any that is reserved later.
        """

    def slow_down(self, key: str, pace: Pace) -> float:
        """The other side was too busy: lower the rate, once for the answers to one burst; the rate from now on."""

    def join(self, key: str, member: str, within: float) -> int:
        """Say that this process uses the limiter, and learn how many have said so within so many seconds."""


def rate_at(pace: Pace, slowed_to: float, since: float) -> float:
    """Starts per second `since` seconds after a throttling answer had slowed the limiter down to `slowed_to`."""
    return min(pace.rate, slowed_to + max(0.0, since) * pace.recovery)


class _Record:
    __slots__ = ("members", "next", "slowed_at", "slowed_to")

    def __init__(self) -> None:
        self.next = self.slowed_at = float("-inf")
        self.slowed_to = float("inf")
        self.members: dict[str, float] = {}


class MemoryLimiterStore:
    """Shared limiters of one process: for tests, and the reference for the store contract."""

    inline = True

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        self._records.clear()

    def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
        with self._lock:
            record = self._records.setdefault(key, _Record())
            now = RUNTIME.monotonic()
            interval = 1.0 / rate_at(pace, record.slowed_to, now - record.slowed_at)
            begins = max(record.next, now + lead)
            taken = longest is None or begins - now <= longest
            if taken:
                record.next = begins + count * interval
            return Granted(begins - now, interval, taken)

    def slow_down(self, key: str, pace: Pace) -> float:
        with self._lock:
            record = self._records.setdefault(key, _Record())
            now = RUNTIME.monotonic()
            rate = rate_at(pace, record.slowed_to, now - record.slowed_at)
            if now - record.slowed_at < 2.0 / rate:
                return rate
            record.slowed_to = rate = max(pace.floor, rate * pace.decrease)
            record.slowed_at = now
            # What is reserved stays reserved; a pause of one new interval lets the other side breathe.
            record.next = max(record.next, now) + 1.0 / rate
            return rate

    def join(self, key: str, member: str, within: float) -> int:
        with self._lock:
            members = self._records.setdefault(key, _Record()).members
            now = RUNTIME.monotonic()
            members[member] = now
            for gone in [one for one, seen in members.items() if seen <= now - within]:
                del members[gone]
            return len(members)
