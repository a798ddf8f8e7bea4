"""`Retry`: call again what failed in a way that may pass, after a delay that spreads clients out."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, NoReturn, TypeAlias

from resilient_faces._core.context import (
    ATTEMPTS,
    DEADLINE,
    LAST,
    RECORDER,
    Report,
    attach,
    event,
    nobody,
    wanted,
)
from resilient_faces._core.effects import CallOther, Flow, Inner, Tell, Value
from resilient_faces._core.layers import Traits, found_traits
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import Call, Degraded, Outcome, Returned, name_of
from resilient_faces._core.repeating import Notes
from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator, is_async
from resilient_faces.events import Event, EventType
from resilient_faces.faults import Classification, Executed, Fault, Kind, Match, Matcher, classify, matcher
from resilient_faces.retry._stop import Stop
from resilient_faces.retry._tenacity import CallState, Strategies, call_state, is_strategy, reads_time
from resilient_faces.retry.backoff import Backoff, Computed, Jitter, as_backoff, exponential, full

__all__ = ["Attempted", "Retrier", "Retry", "Stop", "retries_off", "retryable", "stop_after"]

_log: Final = logger_of("retry")
_INFO: Final = logging.INFO


@dataclass(frozen=True, slots=True)
class Attempted:
    """What a hook is told: which attempt, how it went, what comes next.

    Attributes:
        operation: Name of the guarded function.
        attempt: Number of the attempt, from 1.
        fault: What it came to; None before an attempt and after a success.
        error: The exception that it raised, if it raised one.
        delay: Seconds until the next attempt; told to `before_sleep` only.
    """

    operation: str
    attempt: int
    fault: Fault | None = None
    error: Exception | None = None
    delay: float | None = None


Hook: TypeAlias = Callable[[Attempted], object]
OnResult: TypeAlias = Callable[[object], "Fault | bool | None"]
Delays: TypeAlias = "Backoff | Callable[[int], float] | Callable[[Value], float] | float"


# tenacity's strategies take its call state, which nothing here imports: any function of one argument will do.
StopStrategy: TypeAlias = Callable[[Value], bool]
Repeats: TypeAlias = "Match | Callable[[Value], object]"


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
        for option in ("backoff", "on"):
            given = getattr(self, option)
            checks.that(
                not is_strategy(given), option, "one of ours", given, "tenacity's strategies go into Retry itself."
            )
        checks.done()
        object.__setattr__(self, "backoff", as_backoff(self.backoff))


def _check_common(checks: Checks, attempts: object, backoff: object, jitter: object, on: Match | None) -> None:
    if attempts != math.inf:
        checks.whole(
            "attempts",
            attempts,
            1,
            "To switch retries off, leave Retry out of the guard.",
            note=" (the first call counts too)",
        )
    checks.that(
        isinstance(backoff, (Backoff, int, float)) or (callable(backoff) and not isinstance(backoff, type)),
        "backoff",
        "a delay such as exponential(0.1), a number of seconds, or a function of the retry's number",
        backoff,
        "Mind the brackets." if isinstance(backoff, type) else "",
    )
    checks.that(isinstance(jitter, Jitter), "jitter", "a jitter such as full() or none()", jitter, "Mind the brackets.")
    checks.match("on", on)


# An object of its own: to give the same delay is not to leave the option out.
_USUAL: Final[Backoff] = type.__call__(exponential, 0.1)
_SLOWER: Final = exponential(1.0)  # for throttling, as AWS's SDKs do: there the delay is what the other side needs


@checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Decorator[NoReturn]):
    """Call again what failed in a way that may pass, after a delay that spreads clients out.

    Without further options it makes up to 3 attempts with full jitter over 0.1 s, 0.2 s, ... (1 s, 2 s, ... where the
    other side throttles), and repeats what its
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
        stop: One of tenacity's `stop` strategies, or `stop_after`, beside `attempts`. One that counts seconds needs to
            know when each call began, so such calls run as a flow; `max_elapsed` is cheaper.
        max_elapsed: Seconds for all attempts and waits together; brings a deadline around the call.
        before_attempt: Hook called before each attempt; may be async in an async guard.
        after_attempt: Hook called after each attempt, before it is decided what comes next.
        before_sleep: Hook called before each wait.
        classify: How errors are classified; see `resilient_faces.faults`.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    attempts: int | float = field(default=None)  # type: ignore[assignment]  # None becomes 3 or infinity
    backoff: Delays = _USUAL
    jitter: Jitter = full()
    on: Repeats | None = None
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
    _slower: Backoff = field(init=False, repr=False, compare=False)
    _rules: _Rules = field(init=False, repr=False, compare=False)
    tops: tuple[float, ...] = field(init=False, repr=False, compare=False)
    traits: Traits = field(init=False, repr=False, compare=False)

    __own__: ClassVar[tuple[str, ...]] = ()
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
        checks.match("never", self.never)
        checks.that(isinstance(self.idempotent, bool), "idempotent", "True or False", self.idempotent)
        given = self.retriers
        if type(given) is not tuple and isinstance(given, Iterable) and not isinstance(given, (str, Mapping)):
            object.__setattr__(self, "retriers", tuple(given))  # which may be read once only
        checks.that(
            type(self.retriers) is tuple and all(isinstance(one, Retrier) for one in self.retriers),
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
                not (is_strategy(strategy) and is_async(strategy)),
                option,
                "one of tenacity's synchronous strategies",
                strategy,
                "A strategy decides, it does not wait: use the one without async.",
            )
        checks.done()
        setattr_ = object.__setattr__
        strategies = None
        if wait is not None or repeat is not None or self.stop is not None:
            strategies = Strategies(repeat, self.stop, wait)
        backoff = _USUAL if wait is not None else as_backoff(self.backoff)
        setattr_(self, "_backoff", backoff)
        setattr_(self, "_slower", _SLOWER if backoff is _USUAL else backoff)
        plain = self.on is None and self.never is None and not self.retriers and strategies is None
        setattr_(
            self,
            "tops",
            _tops(backoff, int(self.attempts)) if plain and self.attempts <= 32 and type(self.jitter) is full else (),
        )
        hooked = self.before_attempt is not None or self.after_attempt is not None
        setattr_(
            self,
            "_rules",
            _PLAIN
            if plain and not hooked and self.on_result is None
            else _Rules(
                on=None if self.on is None or repeat is not None else matcher(self.on),
                never=None if self.never is None else matcher(self.never),
                retriers=tuple((matcher(one.on), one) for one in self.retriers),
                strategies=strategies,
                bounded=self.attempts != math.inf or bool(self.retriers) or wait is None,
                plain=plain,
                hooked=hooked,
                examines=self.on_result is not None or (strategies is not None and strategies.judges_results),
                clocked=reads_time(self.stop),
            ),
        )
        setattr_(self, "traits", found_traits(self))

    @property
    def awaits(self) -> str:
        """The hook that is a coroutine function, if one is."""
        if not self._rules.hooked and self.before_sleep is None:
            return ""
        hooks = ("before_attempt", "after_attempt", "before_sleep")
        return next((name for name in hooks if is_async(getattr(self, name))), "")

    @property
    def quiet(self) -> bool:
        """Hooks around attempts must see the first one too, and a stop that counts seconds needs the start."""
        return not self._rules.hooked and not self._rules.clocked

    @property
    def time_limit(self) -> float | None:
        """Seconds for the whole, for the deadline joint that `guard` puts around this policy."""
        return self.max_elapsed

    def examine(self, value: object) -> bool:
        """Whether this returned value is a fault."""
        if self._rules.strategies is not None and self._rules.strategies.judges_results:
            return True  # its answer depends on the call: the flow asks
        return self.on_result is not None and bool(self.on_result(value))

    @property
    def looks_at_results(self) -> bool:
        """Whether returned values must be examined."""
        return self._rules.examines

    def result_fault(self, outcome: Outcome) -> Fault | None:
        """The fault that a returned value stands for, if it does; another policy's answer is none."""
        if not isinstance(outcome, Returned) or isinstance(outcome, Degraded):
            return None
        found = False if self.on_result is None else self.on_result(outcome.value)
        if isinstance(found, Fault):
            return found
        strategies = self._rules.strategies
        if not found and strategies is not None and strategies.judges_results:
            found = strategies.repeats(outcome.value)
        return Fault(Kind.transient, "result", Executed.yes) if found else None

    def pause(self, attempt: int, fault: Fault, previous: float, chance: float) -> float | Stop:
        """The rule of backoff: seconds to wait after this attempt, or that it was the last.

        Args:
            attempt: Number of the failed attempt, from 1.
            fault: What it came to.
            previous: Seconds waited before it, 0 if none.
            chance: A draw from [0, 1).
        """
        if attempt >= self.attempts:
            return _ATTEMPTS_USED
        backoff = self._backoff if fault.kind is not _THROTTLED else self._slower
        delay = self.jitter.spread(backoff.delay(attempt), previous, backoff, chance)
        return delay if fault.retry_after is None else _hinted(delay, fault.retry_after, backoff.cap)

    def refused(self, fault: Fault, error: Exception | None) -> Stop | None:
        """Why this fault is not repeated at all."""
        if fault.final:
            return Stop.not_retryable
        rules = self._rules
        if error is not None:
            if rules.never is not None and rules.never(error, fault):
                return Stop.not_retryable
            if rules.on is not None:
                return None if rules.on(error, fault) else Stop.not_retryable
        what = fault.rule
        if not what.retried:
            return Stop.not_retryable
        if what.needs_idempotence and not self.idempotent and fault.executed is not Executed.no and error is not None:
            return Stop.not_idempotent
        return None

    def _decide(
        self,
        notes: _State,
        fault: Fault,
        error: Exception | None,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        value: object,
    ) -> float | Stop:
        """The rule of the general case: what is refused, retriers in order, strategies, options, switches."""
        strategies = self._rules.strategies
        if strategies is None:
            delay = self._own_delay(notes, fault, error)
        else:
            delay = self._asked_delay(strategies, notes, fault, error, args, kwargs, value)
        switches = RUNTIME.retrying
        if switches is None or type(delay) is Stop:
            return delay
        if switches.stopped:
            return Stop.shutdown
        if not switches.on:
            return Stop.off
        return Stop.attempts if notes.number >= switches.attempts_cap else min(delay, switches.delay_cap)

    def _own_delay(self, notes: _State, fault: Fault, error: Exception | None) -> float | Stop:
        """What our own options say."""
        own = notes.number
        if self._rules.retriers:
            claimed = self._claimed(notes, fault, error)
            if claimed is not None:
                return claimed
            own -= sum(notes.counts)
        return self.refused(fault, error) or self.pause(own, fault, notes.previous, RUNTIME.random())

    def _claimed(self, notes: _State, fault: Fault, error: Exception | None) -> float | Stop | None:
        """What the first retrier says that matches; None if none does."""
        for index, (matches, retrier) in enumerate(self._rules.retriers):
            if not fault.final and matches(error, fault):
                notes.counts[index] += 1
                used = notes.counts[index]
                if used >= retrier.attempts:
                    return Stop.attempts
                backoff = as_backoff(retrier.backoff)
                delay = retrier.jitter.spread(backoff.delay(used), notes.previous, backoff, RUNTIME.random())
                return delay if fault.retry_after is None else _hinted(delay, fault.retry_after, backoff.cap)
        return None

    def _asked_delay(
        self,
        strategies: Strategies,
        notes: _State,
        fault: Fault,
        error: Exception | None,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        value: object,
    ) -> float | Stop:
        """What tenacity's strategies say, and our own options where there is none of them."""
        rules = self._rules
        ours: float | Stop = 0.0
        if rules.bounded:
            own = notes.number
            if rules.retriers:
                claimed = self._claimed(notes, fault, error)
                if claimed is not None:
                    return claimed
                own -= sum(notes.counts)
            if own >= self.attempts:
                ours = _ATTEMPTS_USED
            elif not strategies.waits:
                ours = self.pause(own, fault, notes.previous, RUNTIME.random())
        if strategies.plain:
            wait = strategies.decide_plainly(notes.number, error)
        else:
            state = notes.asked
            if state is None:
                state = notes.asked = call_state(notes.function, args, kwargs, notes.began)
            else:
                state.idle_for += notes.previous
            wait = strategies.decide(state, notes.number, error, value, 0.0 if ours is _ATTEMPTS_USED else ours)  # type: ignore[arg-type]
        if (not strategies.judges or fault.final) and (refused := self.refused(fault, error)) is not None:
            return refused
        return ours if wait is None or (ours is _ATTEMPTS_USED and type(wait) is not Stop) else wait

    # -- what a call meets, in this order, as a flow and on the direct path alike -----------------------------------

    def opened(self, function: Callable[..., object], fault: Fault, began: float | None) -> _State | None:
        """Notes on a call whose first attempt failed; None if such an error is simply passed on.

        Args:
            function: The guarded function.
            fault: What the attempt came to.
            began: Monotonic time of the call's start, if it was read.
        """
        rules = self._rules
        if not fault.rule.retried and rules.plain and RECORDER.get() is None:
            return None  # most errors that are not retried leave here
        state = _State()
        state.number = 1
        state.function = function
        outer = ATTEMPTS.get()
        while outer is not None and not outer.number:  # as `underway`
            outer = outer.outer
        state.outer = outer
        state.heard = True if RUNTIME.listeners else _log.isEnabledFor(_INFO)
        state.began = RUNTIME.monotonic() if began is None else began
        state.trail = []
        state.stop = None
        state.asked = None
        if rules.retriers:
            state.counts = [0] * len(rules.retriers)
        return state

    def weighed(
        self,
        notes: _State,
        fault: Fault,
        error: Exception | None,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        value: object = None,
    ) -> float | None:
        """Seconds until the next attempt, which is noted; None if there is none.

        Args:
            notes: The call so far.
            fault: What the attempt came to.
            error: What it raised; None if it returned something that stands for a fault.
            args: The call's arguments, for strategies that look at them.
            kwargs: The call's keyword arguments.
            value: What it returned.
        """
        notes.trail.append(fault)
        delay: float | Stop
        rules = self._rules
        if fault.simple and rules.plain and RUNTIME.retrying is None:
            delay = self.pause(notes.number, fault, notes.previous, RUNTIME.random())
        elif rules.strategies is not None and RUNTIME.retrying is None:
            delay = self._asked_delay(rules.strategies, notes, fault, error, args, kwargs, value)
        else:
            delay = self._decide(notes, fault, error, args, kwargs, value)
        if type(delay) is Stop:
            notes.stop = delay
            return None
        until = DEADLINE.get()
        if until is not None and RUNTIME.monotonic() + delay >= until:
            notes.stop = Stop.deadline
            return None
        if notes.number == 1:
            ATTEMPTS.set(notes)
        notes.trail.append(delay)
        return delay

    def waiting(self, notes: _State, delay: float) -> Event:
        """What to tell before the wait."""
        return notes.event("retry", "retrying", delay=delay)

    def gave_up(self, notes: _State, error: Exception | None) -> Event | None:
        """Leave the report on the error; what to tell."""
        attempts = notes.number
        delays = notes.delays[: attempts - 1]  # a wait that the end of the process cut short is none
        stop = notes.stop or Stop.shutdown
        notes.record(attempts, delays, stop.value)
        elapsed = RUNTIME.monotonic() - notes.began
        if error is not None and (attempts > 1 or stop is not Stop.attempts):
            attach(
                error,
                Report(attempts, elapsed, tuple(notes.faults), tuple(delays), "failed", None, stop.value),
            )
        if attempts > 1 and RUNTIME.heard(logging.WARNING, "retry"):
            return notes.event("gave_up", "failed", elapsed=elapsed, outcome="failed")
        return None

    def recovered(self, notes: _State, degraded: bool) -> Event | None:
        """A later attempt succeeded; what to tell."""
        if LAST.get() is not None and not degraded:
            LAST.set(None)  # this call recovered: an earlier degraded answer is no longer the last outcome
        if not notes.heard and RECORDER.get() is None:
            return None
        notes.record(notes.number, notes.delays, "")
        elapsed = RUNTIME.monotonic() - notes.began
        how = "degraded" if degraded else "after_retry"
        return notes.event("recovered", "succeeded", elapsed=elapsed, outcome=how)

    # -- as a flow ---------------------------------------------------------------------------------------------------

    @property
    def steady(self) -> bool:
        """Whether nothing of the user's runs between attempts, so that the direct path can repeat them by itself."""
        return not self._rules.hooked and not self._rules.examines and self.before_sleep is None

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        rules = self._rules
        if rules.hooked:
            inner = functools.partial(self._with_hooks, inner, [0])
        began = RUNTIME.monotonic() if rules.clocked else None
        notes: _State | None = None
        try:
            while True:
                outcome: Outcome = yield from inner(call)
                fault = outcome.fault
                if fault is None and rules.examines:
                    fault = self.result_fault(outcome)
                if fault is None:
                    if notes is not None and (told := self.recovered(notes, isinstance(outcome, Degraded))) is not None:
                        yield Tell(told)
                    return outcome
                if notes is None and (notes := self.opened(call.function, fault, began)) is None:
                    return outcome
                error, value = (None, outcome.value) if isinstance(outcome, Returned) else (outcome.error, None)
                delay = self.weighed(notes, fault, error, call.args, call.kwargs, value)
                del error, value
                if delay is not None:
                    if self.before_sleep is not None:
                        yield CallOther(self.before_sleep, (notes.attempted(call, outcome, delay),))
                    if notes.heard:
                        yield Tell(self.waiting(notes, delay))
                    if outcome.fault is None:
                        yield from _discard(outcome, call)
                    yield delay
                if delay is None or RUNTIME.stopped:
                    told = self.gave_up(notes, None if isinstance(outcome, Returned) else outcome.error)
                    if told is not None:
                        yield Tell(told)
                    return outcome
                del outcome  # the next attempt must not run with the last error's frames held here
                notes.number += 1
        finally:
            if notes is not None:
                notes.number = 0
                notes.function = nobody

    def _with_hooks(self, inner: Inner, made: list[int], call: Call) -> Flow[Outcome]:
        """An attempt with the hooks around it."""
        made[0] += 1
        if self.before_attempt is not None:
            yield CallOther(self.before_attempt, (Attempted(call.operation, made[0]),))
        outcome = yield from inner(call)
        if self.after_attempt is not None:
            fault, error = outcome.fault, None if isinstance(outcome, Returned) else outcome.error
            if fault is None:
                fault = self.result_fault(outcome)
            yield CallOther(self.after_attempt, (Attempted(call.operation, made[0], fault, error),))
        return outcome


def _hinted(delay: float, hint: float, cap: float) -> float:
    """The server's hint is a floor, itself bounded by the cap."""
    return max(delay, min(hint, cap))


_THROTTLED: Final = Kind.throttled


_ATTEMPTS_USED: Final = Stop.attempts


@dataclass(frozen=True, slots=True)
class _Rules:
    """What `Retry` made of its options, once."""

    on: Matcher | None
    never: Matcher | None
    retriers: tuple[tuple[Matcher, Retrier], ...]
    strategies: Strategies | None
    bounded: bool  # our own options have a say beside the strategies
    plain: bool  # no more than attempts, backoff and jitter: the kind of fault decides alone
    hooked: bool  # hooks around attempts
    examines: bool  # looks at returned values
    clocked: bool  # the stop counts seconds


_PLAIN: Final = _Rules(None, None, (), None, bounded=True, plain=True, hooked=False, examines=False, clocked=False)


def _tops(backoff: Backoff, attempts: int) -> tuple[float, ...]:
    """The longest delays of a backoff, by the number of the retry; nothing if they depend on more than that."""
    if type(backoff) is Computed:
        return ()  # the user's function may answer differently each time
    return _computed_tops(backoff, attempts)


@functools.lru_cache(maxsize=128)
def _computed_tops(backoff: Backoff, attempts: int) -> tuple[float, ...]:
    return (0.0, *[backoff.delay(number) for number in range(1, attempts)])


class _State(Notes):
    """Notes on one call, in full."""

    __slots__ = ("asked", "began", "counts", "stop")

    asked: CallState | None  # what strategies of tenacity read
    began: float
    stop: Stop | None  # why there is no further attempt
    counts: list[int]  # failures that each retrier claimed; only if there are retriers

    @property
    def previous(self) -> float:
        """Seconds waited before the attempt that was noted last."""
        return self.trail[-2] if len(self.trail) > 1 else 0.0  # type: ignore[return-value]  # delays and faults by turns

    def attempted(self, call: Call, outcome: Outcome, delay: float) -> Attempted:
        """What a hook is told before the wait."""
        error = None if isinstance(outcome, Returned) else outcome.error
        return Attempted(call.operation, self.number, self.faults[-1], error, delay)

    def event(
        self,
        type: EventType,
        status: str,
        delay: float | None = None,
        elapsed: float | None = None,
        outcome: str = "",
    ) -> Event:
        """What listeners are told."""
        return event(
            type,
            policy="retry",
            status=status,
            operation=name_of(self.function),
            fault=self.faults[-1] if outcome in ("", "failed") else None,
            attempt=self.number,
            delay=delay,
            elapsed=elapsed,
            outcome=outcome,
            parent=None if self.outer is None else self.outer.number or None,
        )

    def record(self, attempts: int, delays: list[float], stopped: str) -> None:
        """Answer a wish for a report."""
        recorder = wanted(self.function)
        if recorder is not None:
            recorder.attempts += attempts - 1
            recorder.faults.extend(self.faults)
            recorder.delays.extend(delays)
            recorder.stopped = stopped


def _discard(outcome: Outcome, call: Call) -> Flow[None]:
    """Close a value that is thrown away before the next attempt: a response, a body, a file."""
    if isinstance(outcome, Returned) and not isinstance(outcome, Degraded):
        asynchronous = is_async(call.function)
        for name in ("aclose", "close") if asynchronous else ("close",):
            closing = getattr(outcome.value, name, None)
            if callable(closing) and (asynchronous or not is_async(closing)):
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
        return rules.refused(judge(error), error) is None

    return asked


class retries_off:
    """Switch all retries of this process off inside a `with` block; the first failure comes straight out.

    Guards keep working otherwise: breakers count, fallbacks answer.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> retries_off:
        self._before = RUNTIME.retrying
        RUNTIME.switch(on=False)
        return self

    def __exit__(self, *error: object) -> None:
        RUNTIME.retrying = self._before
