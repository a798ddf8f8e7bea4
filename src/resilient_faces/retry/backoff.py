"""Delays and jitters as values.

A delay says how long to wait before the n-th retry (n from 1); its cap is applied first, and a jitter spreads what
comes out *below* the cap, so that clients do not fall into step once they are saturated. Both are plain values: equal
options make equal values, and a delay can be called with a number, or with tenacity's call state as its `wait`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field

__all__ = [
    "Backoff",
    "Jitter",
    "additive",
    "decorrelated",
    "equal",
    "exponential",
    "fibonacci",
    "fixed",
    "full",
    "linear",
    "none",
    "proportional",
    "sequence",
    "upward",
]

_NO_END: Final = "A delay without a cap grows without end; 86400 is a day."
CAP: Final = 30.0  # seconds; the cap of a delay that names none


if TYPE_CHECKING:

    class Numbered(Protocol):
        """What tenacity hands to a `wait`, as far as a delay needs it."""

        attempt_number: int


class Backoff:
    """Base of the delays: `delay(number)` before jitter, never more than `cap` seconds."""

    __slots__ = ()
    __own__: ClassVar[tuple[str, ...]] = ()  # equal values are one

    cap: float

    def delay(self, number: int) -> float:
        """Seconds before the retry with this number, from 1; an overflow yields the cap."""
        raise NotImplementedError

    def __call__(self, retry_state: int | Numbered) -> float:
        """As `delay`; takes tenacity's call state too, under its name for it, so that a delay serves as its `wait`."""
        return self.delay(retry_state if isinstance(retry_state, int) else retry_state.attempt_number)


def _cap_or(cap: float | None, longest: float) -> float:
    return max(CAP, longest) if cap is None else cap


@checked_names
@dataclass(frozen=True, slots=True)
class fixed(Backoff):
    """The same delay each time.

    Args:
        seconds: The delay.
        cap: Bound for server hints, in seconds; 30, or the delay itself if that is longer.
    """

    seconds: float
    cap: float = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        checks = Checks("fixed")
        checks.seconds("seconds", self.seconds, above=False)
        if self.cap is not None:
            checks.seconds("cap", self.cap, above=False)
        checks.done()
        object.__setattr__(self, "cap", _cap_or(self.cap, self.seconds))

    def delay(self, number: int) -> float:
        return min(self.seconds, self.cap)


@checked_names
@dataclass(frozen=True, slots=True)
class linear(Backoff):
    """`base + (n - 1) * step`, up to `cap`; `step` is `base` unless given.

    Args:
        base: Seconds before the first retry.
        step: Seconds that each further delay is longer.
        cap: Longest delay, in seconds.
    """

    base: float
    step: float = field(default=None, kw_only=True)  # type: ignore[assignment]
    cap: float = field(default=CAP, kw_only=True)

    def __post_init__(self) -> None:
        if self.step is None:
            object.__setattr__(self, "step", self.base)
        checks = Checks("linear")
        checks.seconds("base", self.base, above=False)
        checks.seconds("step", self.step, above=False)
        checks.seconds("cap", self.cap, cure=_NO_END)
        checks.done()

    def delay(self, number: int) -> float:
        return min(self.base + (number - 1) * self.step, self.cap)


@checked_names
@dataclass(frozen=True, slots=True)
class exponential(Backoff):
    """`base * factor ** (n - 1)`, up to `cap`.

    Args:
        base: Seconds before the first retry.
        factor: What each delay is multiplied with to give the next; 1 or more.
        cap: Longest delay, in seconds.
    """

    base: float = 0.1
    factor: float = field(default=2.0, kw_only=True)
    cap: float = field(default=CAP, kw_only=True)

    def __post_init__(self) -> None:
        checks = Checks("exponential")
        checks.seconds("base", self.base, above=False)
        checks.number("factor", self.factor, 1.0, cure="For the same delay each time use fixed(seconds).")
        checks.seconds("cap", self.cap, cure=_NO_END)
        checks.done()

    def delay(self, number: int) -> float:
        try:
            seconds = self.base * self.factor ** (number - 1)
        except OverflowError:
            return self.cap
        cap = self.cap
        return seconds if seconds < cap else cap  # noqa: FURB136  # a third of `min`, for each retry


@checked_names
@dataclass(frozen=True, slots=True)
class sequence(Backoff):
    """Delays from a list; the last one repeats.

    Args:
        seconds: The delays, in order.
        cap: Bound for server hints, in seconds; 30, or the longest delay if that is longer.
    """

    seconds: tuple[float, ...]
    cap: float = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        checks = Checks("sequence")
        if checks.that(isinstance(self.seconds, Iterable), "seconds", "a list of numbers of seconds", self.seconds):
            object.__setattr__(self, "seconds", tuple(self.seconds))
            checks.that(len(self.seconds) > 0, "seconds", "at least one delay", self.seconds)
            for index, one in enumerate(self.seconds):
                checks.seconds(f"seconds[{index}]", one, above=False)
        checks.done()
        if self.cap is not None:
            checks.seconds("cap", self.cap, above=False)
            checks.done()
        object.__setattr__(self, "cap", _cap_or(self.cap, max(self.seconds)))

    def delay(self, number: int) -> float:
        return min(self.seconds[min(number, len(self.seconds)) - 1], self.cap)


@checked_names
@dataclass(frozen=True, slots=True)
class fibonacci(Backoff):
    """`base` times 1, 1, 2, 3, 5, ..., up to `cap`.

    Args:
        base: Seconds before the first and the second retry.
        cap: Longest delay, in seconds.
    """

    base: float = 0.1
    cap: float = field(default=CAP, kw_only=True)

    def __post_init__(self) -> None:
        checks = Checks("fibonacci")
        checks.seconds("base", self.base, above=False)
        checks.seconds("cap", self.cap, cure=_NO_END)
        checks.done()

    def delay(self, number: int) -> float:
        before, current = 0.0, self.base
        for _ in range(number - 1):
            before, current = current, before + current
            if current >= self.cap:
                return self.cap
        return min(current, self.cap)


@dataclass(frozen=True, slots=True)
class Computed(Backoff):
    """A user's function of the retry number, held below `cap`."""

    function: Callable[[int], float]
    cap: float = CAP

    def delay(self, number: int) -> float:
        seconds = float(self.function(number))
        return self.cap if math.isnan(seconds) else min(max(0.0, seconds), self.cap)


def as_backoff(given: Backoff | Callable[[int], float] | float) -> Backoff:
    """A delay from whatever a `backoff=` option may be: a delay, a function of the number, or seconds."""
    if isinstance(given, Backoff):
        return given
    return fixed(given) if isinstance(given, (int, float)) else Computed(given)


# -- jitters -------------------------------------------------------------------------------------------------------


class Jitter:
    """Base of the jitters: `spread` makes the delay to wait from the delay that was computed."""

    __slots__ = ()
    __own__: ClassVar[tuple[str, ...]] = ()  # equal values are one

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        """The delay to wait.

        Args:
            delay: Seconds, at most `backoff.cap`.
            previous: Seconds waited before, 0 before the first retry.
            backoff: Where the delay comes from.
            chance: A draw from [0, 1).
        """
        raise NotImplementedError

    def __call__(self, seconds: float) -> float:
        """One draw for a delay of so many seconds, outside of any retry."""
        return self.spread(seconds, 0.0, fixed(seconds), RUNTIME.random())


@checked_names
@dataclass(frozen=True, slots=True)
class none(Jitter):
    """No jitter. Clients that failed together will come back together."""

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        return delay


@checked_names
@dataclass(frozen=True, slots=True)
class full(Jitter):
    """`U(0, delay)`: fewest calls and quickest completion of all in AWS's simulation, hence the default."""

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        return delay * chance


@checked_names
@dataclass(frozen=True, slots=True)
class equal(Jitter):
    """`delay / 2 + U(0, delay / 2)`: at least half of the delay is kept."""

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        return delay * 0.5 * (1.0 + chance)


@checked_names
@dataclass(frozen=True, slots=True)
class proportional(Jitter):
    """`U(delay * (1 - fraction), delay * (1 + fraction))`, the upper end held at the cap.

    Args:
        fraction: From 0 to 1; gRPC uses 0.2.
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        checks = Checks("proportional")
        checks.number("fraction", self.fraction, 0.0, 1.0)
        checks.done()

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        low = delay * (1.0 - self.fraction)
        high = min(delay * (1.0 + self.fraction), backoff.cap)
        return low + (high - low) * chance


@checked_names
@dataclass(frozen=True, slots=True)
class additive(Jitter):
    """`delay + U(0, seconds)`; near the cap the whole span moves below it instead of being cut.

    Args:
        seconds: Width of the span.
    """

    seconds: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("additive")
        checks.seconds("seconds", self.seconds, above=False)
        checks.done()

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        width = min(self.seconds, backoff.cap)
        return min(delay, backoff.cap - width) + width * chance


@checked_names
@dataclass(frozen=True, slots=True)
class decorrelated(Jitter):
    """`min(cap, U(base, 3 * previous))`, AWS's formula; `previous` starts at `base`, the first delay of the backoff.

    Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        base = backoff.delay(1)
        top = 3.0 * (previous or base)
        return min(backoff.cap, base + (top - base) * chance)


@checked_names
@dataclass(frozen=True, slots=True)
class upward(Jitter):
    """`delay + U(0, fraction * delay)`, above the cap if need be: what `retry_with_backoff` promises.

    Saturated clients keep 90 % of their step; prefer `full` in new code.

    Args:
        fraction: From 0 to 1.
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        checks = Checks("upward")
        checks.number("fraction", self.fraction, 0.0, 1.0)
        checks.done()

    def spread(self, delay: float, previous: float, backoff: Backoff, chance: float) -> float:
        return delay + delay * self.fraction * chance
