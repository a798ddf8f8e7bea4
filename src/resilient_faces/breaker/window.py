"""Failure statistics: what a closed circuit remembers, and when that is enough to open.

A rule is a value; it makes a fresh statistic for each generation of a closed circuit. A statistic is written under the
circuit's lock, with one exception: `note` is called for each success without a lock, and must be one atomic operation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass

__all__ = ["Statistic", "TripRule", "consecutive", "failure_rate", "failures_within", "slow_rate"]

MOST_REMEMBERED: Final = 4096  # calls that a time window keeps; under more traffic it looks back less far


class Statistic(Protocol):
    """What one rule remembers of one generation."""

    note: Callable[[bool], object] | None
    """Takes True for each success, without a lock; None if successes are no news."""
    pending: bool
    """The next success must be settled under the lock."""
    dated: ClassVar[bool]
    """It wants to know when; if not, it is told 0."""

    def success(self, now: float, slow: bool) -> bool:
        """Count a success; whether it was enough to open, as a slow one may be."""

    def failure(self, now: float, slow: bool) -> bool:
        """Count a failure; whether it was enough to open."""

    def bad(self, now: float) -> int:
        """Calls that count towards opening."""

    def figures(self, now: float) -> dict[str, float]:
        """What the snapshot shows."""


class TripRule(Protocol):
    """When a closed circuit opens."""

    @property
    def slow_after(self) -> float:
        """Seconds from which on a call is slow; infinite if the rule does not time calls."""

    def statistic(self) -> Statistic: ...


# -- consecutive failures ------------------------------------------------------------------------------------------


@checked_names
@dataclass(frozen=True, slots=True)
class consecutive:
    """Open after so many failures in a row; one success forgets them.

    Args:
        failures: 1 or more.
    """

    __own__: ClassVar[tuple[str, ...]] = ()
    failures: int = 5

    slow_after = math.inf
    deaf = True  # its statistic takes no notes

    def __post_init__(self) -> None:
        checks = Checks("consecutive")
        checks.whole("failures", self.failures, 1)
        checks.done()

    def statistic(self) -> Statistic:
        return _Row(self.failures)


class _Row:
    __slots__ = ("_count", "_limit", "note", "pending")

    dated: ClassVar[bool] = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self.note: Callable[[bool], object] | None = None
        self.pending = False

    def success(self, now: float, slow: bool) -> bool:
        self._count = 0
        self.pending = False
        return False

    def failure(self, now: float, slow: bool) -> bool:
        self._count += 1
        self.pending = True
        return self._count >= self._limit

    def bad(self, now: float) -> int:
        return self._count

    def figures(self, now: float) -> dict[str, float]:
        return {"consecutive_failures": self._count}


# -- failures in a period ------------------------------------------------------------------------------------------


@checked_names
@dataclass(frozen=True, slots=True)
class failures_within:
    """Open after so many failures within a period, however many successes there were.

    Args:
        failures: 1 or more.
        seconds: Length of the period.
    """

    __own__: ClassVar[tuple[str, ...]] = ()
    failures: int
    seconds: float

    slow_after = math.inf
    deaf = True  # its statistic takes no notes

    def __post_init__(self) -> None:
        checks = Checks("failures_within")
        checks.whole("failures", self.failures, 1)
        checks.seconds("seconds", self.seconds)
        checks.done()

    def statistic(self) -> Statistic:
        return _Period(self.failures, self.seconds)


class _Period:
    __slots__ = ("_seconds", "_times", "note", "pending")

    dated: ClassVar[bool] = True

    def __init__(self, failures: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=failures)
        self.note: Callable[[bool], object] | None = None
        self.pending = False

    def success(self, now: float, slow: bool) -> bool:
        return False

    def failure(self, now: float, slow: bool) -> bool:
        times = self._times
        times.append(now)
        return len(times) == times.maxlen and now - times[0] <= self._seconds

    def bad(self, now: float) -> int:
        return sum(now - time <= self._seconds for time in self._times)

    def figures(self, now: float) -> dict[str, float]:
        return {"failures_within": self.bad(now)}


# -- rates over a window -------------------------------------------------------------------------------------------


def _usual_minimum(calls: int | None) -> int:
    return min(10, calls) if isinstance(calls, int) and calls > 0 else 10


def _check_rate(checks: Checks, fraction: object, calls: object, seconds: object, minimum: object) -> None:
    checks.number("fraction", fraction, 0.0, 1.0, above=True, cure="0.5 means half of the calls.")
    checks.that((calls is None) != (seconds is None), "calls", "given, or else seconds, but not both", (calls, seconds))
    if calls is not None:
        checks.whole("calls", calls, 1)
    if seconds is not None:
        checks.seconds("seconds", seconds)
    if checks.whole("minimum", minimum, 1) and isinstance(calls, int) and isinstance(minimum, int):
        checks.that(minimum <= calls, "minimum", f"at most the window's calls ({calls})", minimum)


@checked_names
@dataclass(frozen=True, slots=True)
class failure_rate:
    """Open when this part of the calls in a window failed (`>=`, not rounded).

    Args:
        fraction: More than 0, up to 1.
        calls: Window of the last so many calls; or
        seconds: window of the last so many seconds.
        minimum: Calls that must be in the window before it can open anything: 10, or `calls` if that is less.
    """

    __own__: ClassVar[tuple[str, ...]] = ()
    fraction: float
    calls: int | None = None
    seconds: float | None = None
    minimum: int = None  # type: ignore[assignment]  # None becomes 10, or the window if that is smaller

    slow_after = math.inf

    def __post_init__(self) -> None:
        if self.minimum is None:
            object.__setattr__(self, "minimum", _usual_minimum(self.calls))
        checks = Checks("failure_rate")
        _check_rate(checks, self.fraction, self.calls, self.seconds, self.minimum)
        checks.done()

    def statistic(self) -> Statistic:
        if self.calls is not None:
            return _CountRate("failure_rate", self.fraction, self.calls, self.minimum, slow=False)
        assert self.seconds is not None
        return _TimeRate("failure_rate", self.fraction, self.seconds, self.minimum, slow=False)


@checked_names
@dataclass(frozen=True, slots=True)
class slow_rate:
    """Open when this part of the calls in a window was slow, failed or not.

    Args:
        fraction: More than 0, up to 1.
        slower_than: Seconds from which on (`>=`) a call is slow.
        calls: Window of the last so many calls; or
        seconds: window of the last so many seconds.
        minimum: Calls that must be in the window before it can open anything: 10, or `calls` if that is less.
    """

    __own__: ClassVar[tuple[str, ...]] = ()
    fraction: float
    slower_than: float
    calls: int | None = None
    seconds: float | None = None
    minimum: int = None  # type: ignore[assignment]  # None becomes 10, or the window if that is smaller

    def __post_init__(self) -> None:
        if self.minimum is None:
            object.__setattr__(self, "minimum", _usual_minimum(self.calls))
        checks = Checks("slow_rate")
        checks.seconds("slower_than", self.slower_than)
        _check_rate(checks, self.fraction, self.calls, self.seconds, self.minimum)
        checks.done()

    @property
    def slow_after(self) -> float:
        return self.slower_than

    def statistic(self) -> Statistic:
        if self.calls is not None:
            return _CountRate("slow_rate", self.fraction, self.calls, self.minimum, slow=True)
        assert self.seconds is not None
        return _TimeRate("slow_rate", self.fraction, self.seconds, self.minimum, slow=True)


class _CountRate:
    """True for each good call in a bounded deque, False for each bad one; counted only when it may matter."""

    __slots__ = ("_fraction", "_label", "_marks", "_minimum", "_slow", "note", "pending")

    dated: ClassVar[bool] = False

    def __init__(self, label: str, fraction: float, calls: int, minimum: int, slow: bool) -> None:
        self._label = label
        self._fraction = fraction
        self._minimum = minimum
        self._slow = slow
        self._marks: deque[bool] = deque(maxlen=calls)
        self.note: Callable[[bool], object] | None = self._marks.append
        self.pending = False

    def success(self, now: float, slow: bool) -> bool:
        good = not (self._slow and slow)
        self._marks.append(good)
        return not good and self._tripped()

    def failure(self, now: float, slow: bool) -> bool:
        good = self._slow and not slow
        self._marks.append(good)
        return not good and self._tripped()

    def _tripped(self) -> bool:
        # Others append without the lock: `count` is one C call, iterating would not be.
        bad = self._marks.count(False)
        total = len(self._marks)
        return total >= self._minimum and bad >= self._fraction * total

    def bad(self, now: float) -> int:
        return self._marks.count(False)

    def figures(self, now: float) -> dict[str, float]:
        total = len(self._marks)
        return {self._label: self._marks.count(False) / total if total else 0.0, f"{self._label}_calls": total}


class _TimeRate:
    """Times of good and of bad calls. Old ones are forgotten by the clock, not by traffic.

    Good calls are noted without the lock, so only their ends are touched (`popleft`, `len`). When the ring is full the
    window reaches back as far as the ring does: both sides are counted over the same span, and the rate stays true.
    """

    __slots__ = ("_bad", "_fraction", "_good", "_label", "_minimum", "_seconds", "_slow", "note", "pending")

    dated: ClassVar[bool] = True

    def __init__(self, label: str, fraction: float, seconds: float, minimum: int, slow: bool) -> None:
        self._label = label
        self._fraction = fraction
        self._seconds = seconds
        self._minimum = minimum
        self._slow = slow
        good: deque[float] = deque(maxlen=MOST_REMEMBERED)
        self._good = good
        self._bad: deque[float] = deque(maxlen=MOST_REMEMBERED)
        append, runtime = good.append, RUNTIME

        def note(_: bool) -> None:
            append(runtime.monotonic())

        self.note: Callable[[bool], object] | None = note
        self.pending = False

    def success(self, now: float, slow: bool) -> bool:
        return self._add(now, self._slow and slow)

    def failure(self, now: float, slow: bool) -> bool:
        return self._add(now, slow if self._slow else True)

    def _add(self, now: float, bad: bool) -> bool:
        if not bad:
            self._good.append(now)
            return False
        self._bad.append(now)
        good, failed = self._counts(now)
        return good + failed >= self._minimum and failed >= self._fraction * (good + failed)

    def bad(self, now: float) -> int:
        return self._counts(now)[1]

    def _counts(self, now: float) -> tuple[int, int]:
        since = now - self._seconds
        for ring in (self._good, self._bad):
            if len(ring) == ring.maxlen:
                since = max(since, ring[0])
        for ring in (self._good, self._bad):
            try:
                while ring[0] < since:
                    ring.popleft()
            except IndexError:
                pass
        return len(self._good), len(self._bad)

    def figures(self, now: float) -> dict[str, float]:
        good, bad = self._counts(now)
        total = good + bad
        return {self._label: bad / total if total else 0.0, f"{self._label}_calls": total}
