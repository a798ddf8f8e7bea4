"""`Retry`: call again what failed in a way that may pass, after a delay that spreads clients out."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final, NoReturn, Protocol, TypeAlias

from resilient_faces._core.context import (
    ATTEMPTS,
    DEADLINE,
    RECORDER,
    Recorder,
    Report,
    attach,
    event,
    wanted,
)
from resilient_faces._core.effects import CallOther, Flow, Inner, Sleep, Tell
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import Call, Degraded, Outcome, Returned
from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces.composing import Decorator
from resilient_faces.faults import Classification, Executed, Fault, Kind, Match, classify, matcher, rule
from resilient_faces.retry._tenacity import Strategies, is_strategy
from resilient_faces.retry.backoff import Backoff, Jitter, as_backoff, exponential, full

__all__ = ["Attempted", "Retrier", "Retry", "Stop", "retries_off", "retryable", "stop_after"]

_log: Final = logger_of("retry")


class Stop(Enum):
    """Why no further attempt is made."""

    attempts = "all attempts are used"
    not_retryable = "this kind of fault is not retried"
    not_idempotent = "the call may have been carried out and is not said to be idempotent"
    deadline = "the wait would end after the deadline"
    strategy = "the stop strategy said so"
    off = "retries are switched off"
    shutdown = "the process is shutting down"


@dataclass(frozen=True, slots=True)
class Attempted:
    """What a hook is told: which attempt, how it went, what comes next.

    Attributes:
        operation: Name of the guarded function.
        attempt: Number of the attempt, from 1.
        fault: What it came to; None before an attempt and after a success.
        error: The exception that it raised, if it raised one.
        delay: Seconds until the next attempt; None if there is none.
    """

    operation: str
    attempt: int
    fault: Fault | None = None
    error: Exception | None = None
    delay: float | None = None


Hook: TypeAlias = Callable[[Attempted], object]
OnResult: TypeAlias = Callable[[object], "Fault | bool | None"]
Delays: TypeAlias = "Backoff | Callable[[int], float] | float"


class StopStrategy(Protocol):
    """tenacity's stop strategies, and `stop_after`."""

    def __call__(self, retry_state: object, /) -> bool: ...


@checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier:
    """How one sort of fault is retried; the first retrier that matches decides alone, with a count of its own.

    Args:
        on: Which faults: exception classes, kinds, predicates.
        attempts: Calls that this retrier allows, the first included; 1 never repeats.
        backoff: Delay before its n-th retry.
        jitter: How the delay is spread.
    """

    on: Match
    attempts: int = 3
    backoff: Delays = exponential(0.1)
    jitter: Jitter = full()

    def __post_init__(self) -> None:
        checks = Checks("Retrier")
        _check_common(checks, self.attempts, self.backoff, self.jitter, self.on)
        checks.done()
        object.__setattr__(self, "backoff", as_backoff(self.backoff))


def _check_common(checks: Checks, attempts: object, backoff: object, jitter: object, on: object) -> None:
    if attempts != math.inf:
        checks.whole(
            "attempts",
            attempts,
            1,
            "To switch retries off, leave Retry out of the guard.",
            note=" (the first call counts too)",
        )
    checks.that(
        isinstance(backoff, (Backoff, int, float)) or callable(backoff),
        "backoff",
        "a delay such as exponential(0.1), a number of seconds, or a function of the retry's number",
        backoff,
    )
    checks.that(isinstance(jitter, Jitter), "jitter", "a jitter such as full() or none()", jitter, "Mind the brackets.")
    if on is not None:
        try:
            matcher(on)  # type: ignore[arg-type]
        except TypeError:
            checks.that(False, "on", "exception classes, kinds of fault or predicates", on)


@checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Decorator[NoReturn]):
    """Call again what failed in a way that may pass, after a delay that spreads clients out.

    Without further options it makes up to 3 attempts with full jitter over 0.1 s, 0.2 s, ..., and repeats what its
    classification calls throttled, transient, unavailable or a conflict; timeouts and damaged answers only if the call
    is `idempotent` or was not carried out. Unknown errors pass straight through, as do rejections by our own policies.

    Args:
        attempts: Calls at most, the first included: 3 unless `stop` is given, then `math.inf`.
        backoff: Delay before the n-th retry: a value of `resilient_faces.retry`, a function of n, seconds, or one of
            tenacity's `wait` strategies.
        jitter: How the delay is spread; not applied to tenacity's strategies, which bring their own.
        on: Repeat exactly these: exception classes, kinds of fault, predicates, or tenacity's `retry` strategy. None
            leaves it to the classification.
        never: Do not repeat these, whatever `on` says.
        idempotent: The call may be made twice without harm, so an unknown outcome may be repeated.
        retriers: Different rules for different faults, asked in order before the options above.
        on_result: Says that a returned value is a fault: True, or a `Fault`; the value is closed if it can be.
        stop: One of tenacity's `stop` strategies, or `stop_after`, beside `attempts`.
        max_elapsed: Seconds for all attempts and waits together; brings a deadline around the call.
        before_attempt: Hook called before each attempt; may be async in an async guard.
        after_attempt: Hook called after each attempt.
        before_sleep: Hook called before each wait.
        classify: How errors are classified; see `resilient_faces.faults`.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    attempts: int | float = field(default=None)  # type: ignore[assignment]  # None becomes 3 or infinity
    backoff: Delays = exponential(0.1)
    jitter: Jitter = full()
    on: Match | None = None
    never: Match | None = None
    idempotent: bool = False
    retriers: tuple[Retrier, ...] = ()
    on_result: OnResult | None = None
    stop: StopStrategy | None = None
    max_elapsed: float | None = None
    before_attempt: Hook | None = None
    after_attempt: Hook | None = None
    before_sleep: Hook | None = None
    classify: Classification | None = None

    _backoff: Backoff = field(init=False, repr=False, compare=False)
    _rules: _Rules = field(init=False, repr=False, compare=False)

    answers: ClassVar[bool] = False
    role: ClassVar[str] = "retry"

    def __post_init__(self) -> None:
        wait = self.backoff if is_strategy(self.backoff) else None
        repeat = self.on if is_strategy(self.on) else None
        if self.attempts is None:
            object.__setattr__(self, "attempts", 3 if self.stop is None else math.inf)
        checks = Checks("Retry")
        _check_common(
            checks,
            self.attempts,
            exponential() if wait is not None else self.backoff,
            self.jitter,
            None if repeat is not None else self.on,
        )
        if self.never is not None:
            _check_common(checks, 1, 0.0, full(), self.never)
        checks.that(isinstance(self.idempotent, bool), "idempotent", "True or False", self.idempotent)
        checks.that(
            isinstance(self.retriers, Iterable) and all(isinstance(one, Retrier) for one in self.retriers),
            "retriers",
            "a list of Retrier(...)",
            self.retriers,
        )
        if self.max_elapsed is not None:
            checks.seconds("max_elapsed", self.max_elapsed)
        for option in ("on_result", "before_attempt", "after_attempt", "before_sleep", "classify", "stop"):
            value = getattr(self, option)
            if value is not None:
                checks.function(option, value)
        for option in ("backoff", "on", "stop"):
            strategy = getattr(self, option)
            checks.that(
                not (is_strategy(strategy) and inspect.iscoroutinefunction(type(strategy).__call__)),
                option,
                "one of tenacity's synchronous strategies",
                strategy,
                "A strategy decides, it does not wait: use the one without async.",
            )
        checks.done()
        setattr_ = object.__setattr__
        setattr_(self, "retriers", tuple(self.retriers))
        strategies = None
        if wait is not None or repeat is not None or self.stop is not None:
            strategies = Strategies(repeat, self.stop, wait)
        setattr_(self, "_backoff", exponential() if wait is not None else as_backoff(self.backoff))
        setattr_(
            self,
            "_rules",
            _Rules(
                on=None if self.on is None or repeat is not None else matcher(self.on),
                never=None if self.never is None else matcher(self.never),
                retriers=tuple((matcher(one.on), one) for one in self.retriers),
                strategies=strategies,
                simple=not self.retriers and strategies is None,
            ),
        )

    @property
    def quiet(self) -> bool:
        """Hooks around attempts must see the first one too."""
        return self.before_attempt is None and self.after_attempt is None

    @property
    def time_limit(self) -> float | None:
        """Seconds for the whole, for the deadline joint that `guard` puts around this policy."""
        return self.max_elapsed

    def examine(self, value: object) -> bool:
        """Whether this returned value is a fault."""
        return self.on_result is not None and bool(self.on_result(value))

    @property
    def looks_at_results(self) -> bool:
        """Whether returned values must be examined."""
        return self.on_result is not None

    def result_fault(self, value: object) -> Fault | None:
        """The fault that a returned value stands for, if it does."""
        if self.on_result is None:
            return None
        found = self.on_result(value)
        if isinstance(found, Fault):
            return found
        return Fault(Kind.transient, "result", Executed.yes) if found else None

    def pause(self, attempt: int, fault: Fault, error: Exception | None, previous: float, random: float) -> float | Stop:
        """The rule of the simple case, without retriers or strategies: seconds to wait after this attempt, or why not.

        Args:
            attempt: Number of the failed attempt, from 1.
            fault: What it came to.
            error: What it raised; None for a returned value.
            previous: Seconds waited before it, 0 if none.
            random: A draw from [0, 1).
        """
        refused = self._refused(fault, error)
        if refused is not None:
            return refused
        if attempt >= self.attempts:
            return Stop.attempts
        backoff = self._backoff
        return _hinted(self.jitter.spread(backoff.delay(attempt), previous, backoff, random), fault, backoff.cap)

    def _refused(self, fault: Fault, error: Exception | None) -> Stop | None:
        """Why this fault is not repeated at all."""
        if fault.kind is _REJECTED or fault.kind is _CANCELLED:
            return Stop.not_retryable
        rules = self._rules
        if error is not None:
            if rules.never is not None and rules.never(error, fault):
                return Stop.not_retryable
            if rules.on is not None:
                return None if rules.on(error, fault) else Stop.not_retryable
        what = rule(fault.kind)
        if not what.retried:
            return Stop.not_retryable
        if what.needs_idempotence and not self.idempotent and fault.executed is not Executed.no and error is not None:
            return Stop.not_idempotent
        return None

    def _decide(self, state: _State, fault: Fault, error: Exception | None, outcome: Outcome) -> float | Stop:
        """The rule of the general case: retriers in order, then strategies and the options."""
        for index, (matches, retrier) in enumerate(self._rules.retriers):
            if error is not None and fault.kind is not Kind.rejected and matches(error, fault):
                state.counts[index] += 1
                used = state.counts[index]
                if used >= retrier.attempts:
                    return Stop.attempts
                backoff = as_backoff(retrier.backoff)
                spread = retrier.jitter.spread(backoff.delay(used), state.previous, backoff, RUNTIME.random())
                return _hinted(spread, fault, backoff.cap)
        state.own += 1
        strategies = self._rules.strategies
        if strategies is None:
            return self.pause(state.own, fault, error, state.previous, RUNTIME.random())
        repeat, stop, wait = strategies.decide(state.call, outcome, state.attempt, state.began, sum(state.delays))
        if repeat is None:
            refused = self._refused(fault, error)
            if refused is not None:
                return refused
        elif not repeat or fault.kind is Kind.rejected:
            return Stop.not_retryable
        if stop:
            return Stop.strategy
        if state.own >= self.attempts:
            return Stop.attempts
        if wait is not None:
            return wait
        backoff = self._backoff
        return _hinted(
            self.jitter.spread(backoff.delay(state.own), state.previous, backoff, RUNTIME.random()), fault, backoff.cap
        )

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        state: _State | None = None
        parent = ATTEMPTS.get()
        try:
            while True:
                if self.before_attempt is not None:
                    number = 1 if state is None else state.attempt + 1
                    yield CallOther(self.before_attempt, (Attempted(call.operation, number),))
                outcome = yield from inner(call)
                fault = outcome.fault
                if fault is None and self.on_result is not None and type(outcome) is Returned:
                    fault = self.result_fault(outcome.value)
                if fault is None:
                    if self.after_attempt is not None:
                        number = 1 if state is None else state.attempt + 1
                        yield CallOther(self.after_attempt, (Attempted(call.operation, number),))
                    if state is not None:
                        yield from self._succeeded(state, outcome)
                    return outcome
                if state is None:
                    state = _State(call, len(self._rules.retriers))
                state.attempt += 1
                state.faults.append(fault)
                error = None if outcome.fault is None else outcome.error
                delay = self._next(state, fault, error, outcome)
                if self.after_attempt is not None:
                    seconds = None if isinstance(delay, Stop) else delay
                    told = Attempted(call.operation, state.attempt, fault, error, seconds)
                    yield CallOther(self.after_attempt, (told,))
                if isinstance(delay, Stop):
                    if state.attempt > 1 or delay is Stop.not_idempotent or RECORDER.get() is not None:
                        yield from self._gave_up(state, delay, error)
                    return outcome
                if self.before_sleep is not None:
                    yield CallOther(
                        self.before_sleep, (Attempted(call.operation, state.attempt, fault, error, delay),)
                    )
                if RUNTIME.listeners or _log.isEnabledFor(logging.INFO):
                    yield Tell(
                        event(
                            "retry",
                            policy="retry",
                            status="retrying",
                            operation=call.operation,
                            fault=fault,
                            attempt=state.attempt,
                            delay=delay,
                        )
                    )
                if error is None:
                    yield from _discard(outcome)
                yield Sleep(delay)
                if RUNTIME.stopping.is_set():
                    yield from self._gave_up(state, Stop.shutdown, error)
                    return outcome
                del outcome, error  # the next attempt must not run with the last error's frames held here
                state.delays.append(delay)
                state.previous = delay
                ATTEMPTS.set((state.attempt + 1, call.function, parent))
        finally:
            if state is not None and state.delays:
                ATTEMPTS.set(parent)

    def _next(self, state: _State, fault: Fault, error: Exception | None, outcome: Outcome) -> float | Stop:
        """Seconds to wait, or why not, with the process's switches and the deadline applied."""
        if not RUNTIME.retries:
            return Stop.off
        if RUNTIME.stopping.is_set():
            return Stop.shutdown
        if self._rules.simple:
            delay = self.pause(state.attempt, fault, error, state.previous, RUNTIME.random())
        else:
            delay = self._decide(state, fault, error, outcome)
        if isinstance(delay, Stop):
            return delay
        if RUNTIME.attempts_cap is not None and state.attempt >= RUNTIME.attempts_cap:
            return Stop.attempts
        if RUNTIME.delay_cap is not None:
            delay = min(delay, RUNTIME.delay_cap)
        until = DEADLINE.get()
        if until is not None and RUNTIME.monotonic() + delay >= until:
            return Stop.deadline
        return delay

    def _gave_up(self, state: _State, stop: Stop, error: Exception | None) -> Flow[None]:
        """Leave the report on the error and tell who listens."""
        elapsed = RUNTIME.monotonic() - state.began
        faults, delays = tuple(state.faults), tuple(state.delays)
        if error is not None:
            attach(error, Report(state.attempt, elapsed, faults, delays, "failed", None, stop.value))
        state.record(stop.value)
        if state.attempt > 1 and RUNTIME.heard(logging.WARNING, "retry"):
            yield Tell(
                event(
                    "gave_up",
                    policy="retry",
                    status="failed",
                    operation=state.call.operation,
                    fault=faults[-1],
                    attempt=state.attempt,
                    elapsed=elapsed,
                    outcome="failed",
                )
            )

    def _succeeded(self, state: _State, outcome: Outcome) -> Flow[None]:
        """A later attempt succeeded."""
        state.attempt += 1
        state.record("")
        if RUNTIME.listeners or _log.isEnabledFor(logging.INFO):
            yield Tell(
                event(
                    "recovered",
                    policy="retry",
                    status="succeeded",
                    operation=state.call.operation,
                    attempt=state.attempt,
                    elapsed=RUNTIME.monotonic() - state.began,
                    outcome="degraded" if isinstance(outcome, Degraded) else "after_retry",
                )
            )


def _hinted(delay: float, fault: Fault, cap: float) -> float:
    """The server's hint is a floor, itself bounded by the cap."""
    hint = fault.retry_after
    return delay if hint is None else max(delay, min(hint, cap))


_REJECTED: Final = Kind.rejected
_CANCELLED: Final = Kind.cancelled


@dataclass(frozen=True, slots=True)
class _Rules:
    """What `Retry` made of its options, once."""

    on: Callable[[BaseException, Fault], bool] | None
    never: Callable[[BaseException, Fault], bool] | None
    retriers: tuple[tuple[Callable[[BaseException, Fault], bool], Retrier], ...]
    strategies: Strategies | None
    simple: bool


class _State:
    """What one call has been through, from its first failure on."""

    __slots__ = ("attempt", "began", "call", "counts", "delays", "faults", "own", "previous")

    def __init__(self, call: Call, retriers: int) -> None:
        self.call = call
        self.attempt = 0
        self.own = 0  # failures that no retrier claimed
        self.counts = [0] * retriers
        self.faults: list[Fault] = []
        self.delays: list[float] = []
        self.previous = 0.0
        self.began = RUNTIME.monotonic()

    def record(self, stopped: str) -> None:
        """Answer a wish for a report."""
        if RECORDER.get() is None:
            return
        recorder: Recorder | None = wanted(self.call)
        if recorder is not None:
            recorder.attempts += self.attempt - 1
            recorder.faults.extend(self.faults)
            recorder.delays.extend(self.delays)
            recorder.stopped = stopped


def _discard(outcome: Outcome) -> Flow[None]:
    """Close a value that is thrown away before the next attempt: a response, a body, a file."""
    if type(outcome) is Returned:
        for name in ("aclose", "close"):
            closing = getattr(outcome.value, name, None)
            if callable(closing):
                if name == "aclose" and not inspect.iscoroutinefunction(closing):
                    continue
                yield CallOther(closing)
                return


@checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class stop_after:
    """A stop for `Retry(stop=...)` and for tenacity's `Retrying(stop=...)` alike.

    Args:
        attempts: Stop after so many attempts, the first included.
        seconds: Stop once so many seconds have passed since the first attempt.
    """

    attempts: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        checks = Checks("stop_after")
        if self.attempts is not None:
            checks.whole("attempts", self.attempts, 1, note=" (the first call counts too)")
        if self.seconds is not None:
            checks.seconds("seconds", self.seconds, above=False)
        if self.attempts is None and self.seconds is None:
            checks.that(False, "attempts", "given unless seconds is", None)
        checks.done()

    def __call__(self, retry_state: object) -> bool:
        number = getattr(retry_state, "attempt_number", 0)
        since = getattr(retry_state, "seconds_since_start", None) or 0.0
        return (self.attempts is not None and number >= self.attempts) or (
            self.seconds is not None and since >= self.seconds
        )


def retryable(policy: Retry | None = None) -> Callable[[object], bool]:
    """Our classification as tenacity's `retry=`: True for the errors that this policy would repeat.

    Args:
        policy: Whose rules to apply; those of `Retry()` if None.
    """
    rules = Retry() if policy is None else policy
    judge = rules.classify or classify

    def asked(retry_state: object) -> bool:
        outcome = getattr(retry_state, "outcome", None)
        error = None if outcome is None else outcome.exception()
        if not isinstance(error, Exception):
            return False
        return rules._refused(judge(error), error) is None

    return asked


class retries_off:
    """Switch all retries of this process off inside a `with` block; the first failure comes straight out.

    Guards keep working otherwise: breakers count, fallbacks answer.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> retries_off:
        self._before = RUNTIME.retries
        RUNTIME.retries = False
        return self

    def __exit__(self, *error: object) -> None:
        RUNTIME.retries = self._before
