"""tenacity both ways: its stop, wait and retry strategies inside our `Retry`, and ours inside its `Retrying`.

The one module that knows tenacity. It needs no import of it: who hands us a strategy has imported tenacity already, and
ours are plain callables. Strategies are asked through a slotted
look-alike of its call state; building tenacity's own costs five times as much (docs/explanation/execution-model.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar

from resilient_faces._core.effects import Value
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.retry._stop import Stop

__all__ = ["CallState", "Strategies", "call_state", "is_strategy", "reads_time"]


def is_strategy(thing: object) -> bool:
    """Whether this is one of tenacity's strategy objects, or a user's subclass of one. Imports nothing."""
    if "tenacity" not in sys.modules:
        return False
    return any(base.__module__.partition(".")[0] == "tenacity" for base in type(thing).__mro__)


_NO_CLOCK = frozenset({"stop_after_attempt", "stop_never", "_stop_never", "stop_when_event_set"})


def reads_time(stop: object) -> bool:
    """Whether a stop may want to know when the call began: all but those that are known not to."""
    if stop is None:
        return False
    parts = getattr(stop, "stops", None)
    if isinstance(parts, tuple):
        return any(reads_time(part) for part in parts)
    if is_strategy(stop):
        return type(stop).__name__ not in _NO_CLOCK
    return getattr(stop, "seconds", 0.0) is not None


_ERRORS_ONLY = frozenset(
    {
        "retry_if_exception",
        "retry_if_exception_type",
        "retry_if_not_exception_type",
        "retry_if_exception_cause_type",
        "retry_if_exception_message",
    }
)


def _reads_values(strategy: object) -> bool:
    """Whether a `retry` strategy may want a returned value repeated: all but those that are known not to."""
    if strategy is None:
        return False
    cls = type(strategy)
    if cls.__module__ != "tenacity.retry":
        return True
    if cls.__name__ in ("retry_any", "retry_all"):
        parts = getattr(strategy, "retries", ())
        return not parts or any(_reads_values(part) for part in parts)
    return cls.__name__ not in _ERRORS_ONLY


_JUDGES = frozenset(
    {"retry_if_exception", "retry_if_exception_type", "retry_if_not_exception_type", "retry_if_exception_message"}
)
_STOPS = frozenset({"stop_after_attempt"})
_WAITS = frozenset({"wait_fixed", "wait_none"})


def _is_stock(strategy: object, home: str, names: frozenset[str], member: str) -> bool:
    """Whether tenacity's own `__call__` of this strategy does no more than to look at its one member."""
    cls = type(strategy)
    return cls.__module__ == home and cls.__name__ in names and hasattr(strategy, member)


class _Future:
    """What strategies read of the last outcome."""

    __slots__ = ("attempt_number", "error", "failed", "value")

    attempt_number: int
    error: Exception | None
    failed: bool
    value: object

    def exception(self) -> Exception | None:
        return self.error

    def result(self) -> object:
        if self.error is not None:
            raise self.error
        return self.value


class CallState:
    """What strategies read of a call: the members of tenacity's `RetryCallState`. One for a call, as there."""

    __slots__ = (
        "args",
        "attempt_number",
        "fn",
        "idle_for",
        "kwargs",
        "outcome",
        "start_time",
        "upcoming_sleep",
    )

    args: tuple[object, ...]
    attempt_number: int
    fn: Callable[..., object]
    idle_for: float
    kwargs: dict[str, object]
    next_action: ClassVar[None] = None
    outcome: _Future
    retry_object: ClassVar[None] = None
    start_time: float
    upcoming_sleep: float

    @property
    def outcome_timestamp(self) -> float:
        return RUNTIME.monotonic()  # strategies are asked right after the outcome; few of them read this

    @property
    def seconds_since_start(self) -> float:
        return RUNTIME.monotonic() - self.start_time


def call_state(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object], began: float
) -> CallState:
    """The look-alike for one call."""
    state = CallState()
    state.fn = function
    state.args = args
    state.kwargs = kwargs
    state.outcome = _Future()
    state.outcome.value = None
    state.start_time = began
    state.idle_for = 0.0
    return state


class Strategies:
    """tenacity's strategies of one `Retry`, whichever were given.

    Attributes:
        judges: One of them says which outcomes are repeated.
        judges_results: It may want a returned value repeated.
        plain: All of them are stock ones that go by the number of the attempt and its error alone, so that their
            members answer, and no call state need be made.
        waits: One of them says how long.
    """

    __slots__ = ("_retry", "_stop", "_wait", "judges", "judges_results", "plain", "waits")

    def __init__(self, retry: object, stop: object, wait: object) -> None:
        self._retry = _asked(retry)
        self._stop = _asked(stop)
        self._wait = _asked(wait)
        self.plain = (
            (retry is None or _is_stock(retry, "tenacity.retry", _JUDGES, "predicate"))
            and (stop is None or _is_stock(stop, "tenacity.stop", _STOPS, "max_attempt_number"))
            and (wait is None or _is_stock(wait, "tenacity.wait", _WAITS, "wait_fixed"))
        )
        self.judges = retry is not None
        self.judges_results = _reads_values(retry)
        self.waits = wait is not None

    def repeats(self, value: object) -> bool:
        """Whether the `retry` strategy wants this returned value repeated."""
        if self._retry is None:
            return False
        state = call_state(print, (), {}, RUNTIME.monotonic())
        state.attempt_number = state.outcome.attempt_number = 1
        state.upcoming_sleep = 0.0
        state.outcome.error = None
        state.outcome.failed = False
        state.outcome.value = value
        return bool(self._retry(state))

    def decide_plainly(self, number: int, error: Exception | None) -> float | Stop | None:
        """As `decide`, if all strategies are `plain`."""
        if self._retry is not None and (error is None or not self._retry.predicate(error)):
            return Stop.not_retryable
        if self._stop is not None and number >= self._stop.max_attempt_number:
            return Stop.strategy
        return None if self._wait is None else float(self._wait.wait_fixed)

    def decide(
        self, state: CallState, number: int, error: Exception | None, value: object, upcoming: float
    ) -> float | Stop | None:
        """What the strategies say after attempt `number`: seconds to wait, None if there is no `wait`, or why not.

        They are asked in tenacity's order: `wait` before `stop`, so that stops can read `upcoming_sleep`.
        """
        future = state.outcome
        future.error = error
        future.failed = error is not None
        if error is None:
            future.value = value
        future.attempt_number = state.attempt_number = number
        state.upcoming_sleep = upcoming
        seconds: float | None = None
        try:
            if self._retry is not None and not self._retry(state):
                if self._stop is not None:
                    self._stop(state)  # it may count how often it is asked
                return Stop.not_retryable
            if self._wait is not None:
                seconds = state.upcoming_sleep = float(self._wait(state))
            if self._stop is not None and self._stop(state):
                return Stop.strategy
            return seconds
        finally:
            future.error = None  # its traceback leads back here
            if error is None:
                future.value = None


def _asked(strategy: object) -> Value | None:
    if strategy is None:
        return None
    if not callable(strategy):
        raise TypeError(f"{type(strategy).__name__} cannot be called")
    return strategy
