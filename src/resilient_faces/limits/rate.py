"""`RateLimiter`: paced admission. It reserves slots ahead of time and says when each begins."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar, NoReturn

from resilient_faces._core.context import DEADLINE, event
from resilient_faces._core.effects import Target
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass
from resilient_faces.composing import Decorator
from resilient_faces.errors import RateLimitedError
from resilient_faces.faults import Classification, Kind, classify

__all__ = ["RateLimiter", "Reservation"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Slots of a limiter: item i of the batch may start after `delay + i * interval` seconds.

    Attributes:
        delay: Seconds until the first slot.
        interval: Seconds between slots.
        count: Number of slots.
    """

    delay: float
    interval: float
    count: int

    def start_of(self, index: int) -> float:
        """Seconds from the reservation until slot `index` (from 0) begins."""
        return self.delay + index * self.interval


class RateLimiter(Decorator[NoReturn]):
    """At most so many starts in any second, evenly spaced, first come first served.

    Each call reserves the next free slot and waits for it. Slots are spaced by `1 / rate` (the generic cell rate
    algorithm with a burst of one), so any half-open second holds at most `rate + 1` starts whoever reserves, singly or
    in batches. A throttling answer slows it down by `decrease`, and it recovers by `recovery` starts per second in each
    second without another.

    Args:
        rate: Starts per second.
        name: For messages and events.
        max_wait: Seconds that a call may wait for its slot; None waits as long as the deadline allows.
        decrease: Factor on the rate after a throttling answer, more than 0 and less than 1.
        recovery: Starts per second that come back each second; a tenth of `rate` if None.
        floor: Lowest rate; a hundredth of `rate` if None.
        classify: How errors are classified, to recognise throttling.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        RateLimitedError: From the guarded function: the next slot is too far away.
    """

    __slots__ = (
        "__weakref__",
        "_classify",
        "_decrease",
        "_floor",
        "_full",
        "_lock",
        "_next",
        "_rate",
        "_recovery",
        "_throttled",
        "_updated",
        "max_wait",
        "name",
    )

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "limiter"

    def __init__(
        self,
        rate: float,
        *,
        name: str = "limiter",
        max_wait: float | None = None,
        decrease: float = 0.7,
        recovery: float | None = None,
        floor: float | None = None,
        classify: Classification = classify,
    ) -> None:
        checks = Checks("RateLimiter")
        good = checks.number("rate", rate, above=True, unit="per second")
        if max_wait is not None:
            checks.seconds("max_wait", max_wait, above=False)
        checks.number("decrease", decrease, 0.0, 0.999, above=True, cure="0.7 keeps 70 % of the rate.")
        if recovery is not None:
            checks.number("recovery", recovery, above=True, unit="per second each second")
        if floor is not None and good:
            checks.number("floor", floor, 0.0, rate, above=True, unit="per second")
        checks.done()
        self.name = name
        self.max_wait = max_wait
        self._full = float(rate)
        self._rate = float(rate)
        self._decrease = decrease
        self._recovery = rate / 10.0 if recovery is None else recovery
        self._floor = rate / 100.0 if floor is None else floor
        self._classify = classify
        self._lock = threading.Lock()
        now = RUNTIME.monotonic()
        self._next = now  # when the next free slot begins
        self._updated = now  # when the rate was brought up to date
        self._throttled = now - 1.0
        on_fork(self)

    @property
    def rate(self) -> float:
        """Starts per second at this moment."""
        with self._lock:
            self._recover(RUNTIME.monotonic())
            return self._rate

    def _recover(self, now: float) -> None:
        if self._rate < self._full:
            self._rate = min(self._full, self._rate + (now - self._updated) * self._recovery)
        self._updated = now

    def reserve_batch(self, count: int) -> Reservation:
        """Take the next `count` slots. Item i may start `delay + i * interval` seconds from now."""
        checks = Checks("reserve_batch")
        checks.whole("count", count, 1)
        checks.done()
        delay, interval = self._reserve(count, None)
        return Reservation(delay, interval, count)

    def reserve(self, max_wait: float | None = None) -> float:
        """Take the next slot and tell how many seconds away it is.

        Raises:
            RateLimitedError: It is further away than `max_wait` seconds; nothing was taken.
        """
        return self._reserve(1, max_wait)[0]

    def _reserve(self, count: int, max_wait: float | None) -> tuple[float, float]:
        """Seconds until the first slot, and between slots."""
        with self._lock:
            now = RUNTIME.monotonic()
            if self._rate < self._full:
                self._recover(now)
            interval = 1.0 / self._rate
            begins = max(self._next, now)
            delay = begins - now
            if max_wait is None or delay <= max_wait:
                self._next = begins + count * interval
                return delay, interval
        raise RateLimitedError(self.name, delay)

    def slow_down(self) -> None:
        """The other side said that we are too fast. Several answers to one burst count once."""
        with self._lock:
            now = RUNTIME.monotonic()
            self._recover(now)
            if now - self._throttled < 1.0 / self._rate * 2.0:
                return
            self._throttled = now
            self._rate = max(self._floor, self._rate * self._decrease)
            # What is reserved stays reserved; a pause of one new interval lets the other side breathe.
            self._next = max(self._next, now) + 1.0 / self._rate
        if RUNTIME.heard(logging.INFO, "limiter"):
            RUNTIME.tell(event("throttled", policy="limiter", status=f"{self._rate:.3g}/s", name=self.name))

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    # -- around a call ---------------------------------------------------------------------------------------------

    def _slot(self) -> float:
        """Take the next slot, within what the call may wait; seconds until it begins."""
        longest = self.max_wait
        end = DEADLINE.get()
        if longest is None and end is None:  # as `_reserve(1, None)`, for the calls that ask for nothing else
            with self._lock:
                now = RUNTIME.monotonic()
                if self._rate < self._full:
                    self._recover(now)
                begins = max(self._next, now)
                self._next = begins + 1.0 / self._rate
            return begins - now
        if end is not None:
            left = max(0.0, end - RUNTIME.monotonic())
            longest = left if longest is None else min(longest, left)
        return self._reserve(1, longest)[0]

    def _heed(self, error: Exception) -> None:
        if self._classify(error).kind is Kind.throttled:
            self.slow_down()

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function with a wait for its slot before it, and an ear for throttling after it."""
        return self._async(function) if asynchronous else self._sync(function)

    def _sync(self, function: Callable[..., object]) -> Target:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            delay = self._slot()
            if delay > 0.0:
                RUNTIME.sleep(delay)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self._heed(error)
                raise

        return guarded

    def _async(self, function: Callable[..., Awaitable[object]]) -> Target:
        @functools.wraps(function)
        async def guarded(*args: object, **kwargs: object) -> object:
            delay = self._slot()
            if delay > 0.0:
                await RUNTIME.asleep(delay)
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                self._heed(error)
                raise

        return guarded

    # -- as a block ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Wait for a slot in this thread."""
        RUNTIME.sleep(self._slot())

    async def aenter(self) -> None:
        """Wait for a slot in this task."""
        await RUNTIME.asleep(self._slot())

    def leave(self, entry: object, error: BaseException | None) -> None:
        """A throttling error slows the limiter down."""
        if isinstance(error, Exception):
            self._heed(error)

    def __repr__(self) -> str:
        return f"rate_limit({self._full:g}, name={self.name!r})"


RateLimiter.__init__ = checked_call(RateLimiter.__init__)  # type: ignore[method-assign]
