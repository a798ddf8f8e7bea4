"""`Fallback`: another answer when the function has none, by value or by callable, chosen by what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Generic, NoReturn, TypeAlias, TypeVar

from resilient_faces._core.context import LAST, RECORDER, event, wanted
from resilient_faces._core.effects import CallOther, Flow, Inner, Tell, Value
from resilient_faces._core.layers import Traits, found_traits
from resilient_faces._core.options import Checks, checked_call, checked_names
from resilient_faces._core.outcome import Call, Degraded, Outcome, Raised, name_of, qualname_of
from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator, is_async
from resilient_faces.events import Event
from resilient_faces.faults import Classification, Executed, Fault, Kind, Match, related

__all__ = ["Fallback", "degraded", "with_fallback"]

_INFO: Final = logging.INFO
_log: Final = logger_of("fallback")

T = TypeVar("T")
_NOTHING: Final[Mapping[Value, Value]] = {}  # shared by all that choose nothing
UNSET: Final[NoReturn] = object()  # type: ignore[assignment]

Choice: TypeAlias = "T | Callable[..., T]"


@checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback(Decorator[T], Generic[T]):
    """Another answer when the function has none.

    What speaks for the fault most exactly answers: the most specific class in `by_error`, then its kind in `by_kind`,
    then `function`, then `value`. Callables get the call's arguments; what they raise comes out, with the first error
    as its context. Business answers (not found, condition failed, invalid, ...) are no reason for a fallback.

    Args:
        value: The answer.
        function: Computes the answer from the call's arguments; may be async in an async guard.
        by_error: Answers by exception class; the class nearest to the error's own is taken, causes come after.
        by_kind: Answers by kind of fault.
        on: Which errors to answer for: classes, kinds or predicates. None leaves it to the classification.
        on_result: Says that a returned value is no answer: True, or a `Fault`.
        name: Source that degraded answers are marked with.
        classify: How errors are classified.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    value: T = field(default=UNSET)
    function: Callable[..., T] | None = None
    by_error: Mapping[type[BaseException], Choice[T]] = _NOTHING
    by_kind: Mapping[Kind, Choice[T]] = _NOTHING
    on: Match | None = None
    on_result: Callable[[object], Fault | bool | None] | None = None
    name: str = "fallback"
    classify: Classification | None = None

    _on: Callable[[BaseException, Fault], bool] | None = field(init=False, repr=False, compare=False)
    traits: Traits = field(init=False, repr=False, compare=False)

    __own__: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[bool] = True
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "fallback"

    def __post_init__(self) -> None:
        checks = Checks("Fallback")
        checks.that(
            self.value is not UNSET or self.function is not None or bool(self.by_error) or bool(self.by_kind),
            "value",
            "given, or else function, by_error or by_kind",
            "nothing",
            "value=None is an answer too.",
        )
        checks.that(
            self.value is UNSET or self.function is None, "function", "left out when value is given", self.function
        )
        for option in ("function", "on_result", "classify"):
            if getattr(self, option) is not None:
                checks.function(option, getattr(self, option))
        by_error, by_kind = self.by_error, self.by_kind
        if by_error is not _NOTHING and checks.that(
            isinstance(by_error, Mapping), "by_error", "a mapping of answers", by_error
        ):
            for cls in by_error:
                good = isinstance(cls, type) and issubclass(cls, BaseException)
                checks.that(good, "by_error", "keyed by exception classes", cls)
        if by_kind is not _NOTHING and checks.that(
            isinstance(by_kind, Mapping), "by_kind", "a mapping of answers", by_kind
        ):
            for kind in by_kind:
                checks.that(isinstance(kind, Kind), "by_kind", "keyed by Kind", kind)
        checks.name("name", self.name)
        matches = checks.match("on", self.on)
        checks.done()
        object.__setattr__(self, "_on", matches)
        object.__setattr__(self, "traits", found_traits(self))

    @property
    def awaits(self) -> str:
        """The option that is, or holds, a coroutine function, if one does."""
        if self.function is not None and is_async(self.function):
            return "function"
        if self.by_error is _NOTHING and self.by_kind is _NOTHING:
            return ""
        for option, answers in (("by_error", self.by_error), ("by_kind", self.by_kind)):
            if any(callable(one) and is_async(one) for one in answers.values()):
                return option
        return ""

    @property
    def looks_at_results(self) -> bool:
        return self.on_result is not None

    def examine(self, value: object) -> bool:
        """Whether this returned value is no answer."""
        return self.on_result is not None and bool(self.on_result(value))

    def _speaks_for(self, error: Exception, fault: Fault) -> bool:
        """Whether this error is one to answer for."""
        if self._on is None:
            return fault.rule.fallback  # cancelled ones have no fallback
        return fault.kind is not Kind.cancelled and self._on(error, fault)

    @property
    def steady(self) -> bool:
        """Whether the answer is always the value, so that the direct path can give it by itself."""
        return self.value is not UNSET and not self.by_error and not self.by_kind and self.on_result is None

    def answered(self, function: Callable[..., object], error: Exception, fault: Fault) -> bool:
        """Whether the value is the answer to this failure; if so, it is told."""
        if not (fault.rule.fallback if self._on is None else self._speaks_for(error, fault)):  # mostly without a call
            LAST.set(None)
            return False
        if RUNTIME.listeners or _log.isEnabledFor(_INFO):
            RUNTIME.tell(_event(function, self.name, "fallback", fault))
        LAST.set((qualname_of(function), self.name, fault))
        if RECORDER.get() is not None:
            _record(function, self.name, fault)
        return True

    def _concerned(self, outcome: Outcome) -> Fault | None:
        """The fault to answer for; None if the outcome stands."""
        if isinstance(outcome, Raised):
            return outcome.fault if self._speaks_for(outcome.error, outcome.fault) else None
        if self.on_result is None or isinstance(outcome, Degraded):
            return None
        found = self.on_result(outcome.value)
        if isinstance(found, Fault):
            return found
        return Fault(Kind.unknown, "result", Executed.yes) if found else None

    def _choose(self, outcome: Outcome, fault: Fault) -> object:
        """The answer, or the callable that computes it; `UNSET` if there is none for this fault."""
        if self.by_error and isinstance(outcome, Raised):
            for error in related(outcome.error):
                for cls in type(error).__mro__:
                    if cls in self.by_error:
                        return self.by_error[cls]
        if self.by_kind and fault.kind in self.by_kind:
            return self.by_kind[fault.kind]
        return self.value if self.function is None else self.function

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        if outcome.fault is None and self.on_result is None:
            return outcome
        fault = self._concerned(outcome)
        choice = UNSET if fault is None else self._choose(outcome, fault)
        if fault is None or choice is UNSET:
            unanswered(outcome)
            return outcome
        if choice is not self.value and callable(choice):
            answer: Outcome = yield CallOther(choice, call.args, call.kwargs)
            if isinstance(answer, Raised):
                if isinstance(outcome, Raised) and answer.error.__context__ is None:
                    answer.error.__context__ = outcome.error
                return answer
            choice = answer.value
        if RUNTIME.listeners or _log.isEnabledFor(_INFO):
            yield Tell(_event(call.function, self.name, "fallback", fault))
        _mark(call.function, self.name, fault)
        return Degraded(choice, self.name)


def degraded(call: Call, value: object, source: str, policy: str, fault: Fault) -> Flow[Outcome]:
    """A degraded answer, made recognisable: in the outcome, in the report, in `last_outcome()` and in an event."""
    if RUNTIME.heard(logging.INFO, policy):
        yield Tell(_event(call.function, source, policy, fault))
    _mark(call.function, source, fault)
    return Degraded(value, source)


def unanswered(outcome: Outcome) -> None:
    """A failure comes out as it is: an earlier degraded answer of this context is no longer the last outcome."""
    if isinstance(outcome, Raised):
        LAST.set(None)


def _mark(function: object, source: str, fault: Fault) -> None:
    """Make the answer recognisable as degraded: in `last_outcome()`, and in the report if one is wanted."""
    LAST.set((qualname_of(function), source, fault))
    _record(function, source, fault)


def _record(function: object, source: str, fault: Fault) -> None:
    recorder = wanted(function)
    if recorder is not None:
        recorder.source = source
        if not recorder.faults:
            recorder.faults.append(fault)


def _event(function: object, source: str, policy: str, fault: Fault) -> Event:
    return event(
        "degraded",
        policy=policy,
        status="degraded",
        name=source,
        operation=name_of(function),
        fault=fault,
        outcome="degraded",
    )


@checked_call
def with_fallback(fallback_value: T = UNSET, fallback_function: Callable[..., T] | None = None) -> Fallback[T]:
    """A fallback for every `Exception`: the value, or the function called with the call's arguments.

    `Fallback` answers only where the classification sees a reason; this one always does.

    Args:
        fallback_value: The answer; None if neither is given.
        fallback_function: Computes the answer instead.
    """
    if fallback_value is UNSET and fallback_function is None:
        return Fallback(value=None, on=Exception)  # type: ignore[arg-type]
    return Fallback(value=fallback_value, function=fallback_function, on=Exception)
