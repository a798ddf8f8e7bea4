"""tenacity both ways: its stop, wait and retry strategies inside our `Retry`, and ours inside its `Retrying`.

The one module that knows tenacity. It needs no import of it: who hands us a strategy has imported tenacity already, and
ours are plain callables. Strategies are asked through a slotted
look-alike of its call state; building tenacity's own costs five times as much (docs/explanation/execution-model.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from resilient_faces._core.outcome import Call, Outcome, Returned
from resilient_faces._core.runtime import RUNTIME

__all__ = ["Strategies", "is_strategy", "reads_time"]


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


class _Future:
    """What strategies read of the last outcome."""

    __slots__ = ("attempt_number", "held")

    held: Outcome  # filled by `_state_of`: `_core/outcome.py` says why
    attempt_number: int

    @property
    def failed(self) -> bool:
        return not isinstance(self.held, Returned)

    def exception(self) -> BaseException | None:
        return None if isinstance(self.held, Returned) else self.held.error

    def result(self) -> object:
        if isinstance(self.held, Returned):
            return self.held.value
        raise self.held.error


class _State:
    """What strategies read of a call: the members of tenacity's `RetryCallState`."""

    __slots__ = (
        "args",
        "attempt_number",
        "fn",
        "idle_for",
        "kwargs",
        "next_action",
        "outcome",
        "outcome_timestamp",
        "retry_object",
        "start_time",
        "upcoming_sleep",
    )

    args: tuple[object, ...]
    attempt_number: int
    fn: Callable[..., object]
    idle_for: float
    kwargs: dict[str, object]
    next_action: None
    outcome: _Future
    outcome_timestamp: float
    retry_object: None
    start_time: float
    upcoming_sleep: float

    @property
    def seconds_since_start(self) -> float:
        return self.outcome_timestamp - self.start_time


def _state_of(call: Call, outcome: Outcome, number: int, began: float, waited: float) -> _State:
    future = _Future()
    future.held = outcome
    future.attempt_number = number
    state = _State()
    state.fn = call.function
    state.args = call.args
    state.kwargs = call.kwargs
    state.attempt_number = number
    state.outcome = future
    state.start_time = began
    state.outcome_timestamp = RUNTIME.monotonic()
    state.idle_for = waited
    state.upcoming_sleep = 0.0
    state.next_action = None
    state.retry_object = None
    return state


class Strategies:
    """tenacity's strategies of one `Retry`, whichever were given."""

    __slots__ = ("_retry", "_stop", "_wait", "judges_results", "waits")

    def __init__(self, retry: object, stop: object, wait: object) -> None:
        self._retry = _asked(retry)
        self._stop = _asked(stop)
        self._wait = _asked(wait)
        self.judges_results = _reads_values(retry)  # a strategy may want a returned value repeated
        self.waits = wait is not None  # one of them says how long

    def repeats(self, outcome: Outcome) -> bool:
        """Whether the `retry` strategy wants this outcome repeated."""
        return self._retry is not None and bool(self._retry(_state_of(_NOBODY, outcome, 1, RUNTIME.monotonic(), 0.0)))

    def decide(
        self, call: Call, outcome: Outcome, number: int, began: float, waited: float, upcoming: float
    ) -> tuple[bool | None, bool | None, float | None]:
        """What the strategies say after attempt `number`: repeat?, stop?, seconds to wait; None where none was given.

        They are asked in tenacity's order: `wait` before `stop`, so that stops can read `upcoming_sleep`.
        """
        state = _state_of(call, outcome, number, began, waited)
        state.upcoming_sleep = upcoming
        repeat = None if self._retry is None else bool(self._retry(state))
        wait: float | None = None
        if self._wait is not None and repeat is not False:
            wait = float(self._wait(state))  # type: ignore[arg-type]
            state.upcoming_sleep = wait
        stop = None if self._stop is None else bool(self._stop(state))
        return repeat, stop, wait


_NOBODY = Call(print, (), {}, None, None, None)


def _asked(strategy: object) -> Callable[[object], object] | None:
    if strategy is None:
        return None
    if not callable(strategy):
        raise TypeError(f"{type(strategy).__name__} cannot be called")
    return strategy
