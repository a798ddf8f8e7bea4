"""`Chain`: ordered alternatives, and an answer that says which of them gave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeAlias, TypeVar

from resilient_faces._core.effects import CallOther, Flow, Inner
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.outcome import Call, Degraded, Outcome, Raised, Returned, name_of
from resilient_faces._light import dataclass, field
from resilient_faces.composing import Decorator, is_async
from resilient_faces.degrade.fallback import degraded, unanswered
from resilient_faces.faults import Classification, Fault, Kind, Match

__all__ = ["Answer", "Chain", "chain"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """An answer and where it comes from.

    Attributes:
        value: The answer.
        source: Name of what gave it: the function's own, or an alternative's.
        degraded: Whether it is not the function's own.
    """

    value: T
    source: str
    degraded: bool


Alternative: TypeAlias = "Callable[..., T] | tuple[str, Callable[..., T]]"


@checked_names
@dataclass(frozen=True, slots=True)
class Chain(Decorator[Answer[T]], Generic[T]):
    """Ordered alternatives: the function first, then each of these, until one answers.

    The guarded function returns an `Answer`, which says who gave it. What the last one raises comes out.

    Args:
        alternatives: Callables that take the call's arguments, each alone or as `(name, callable)`; may be async in an
            async guard.
        on: Which errors to go on after: classes, kinds or predicates. None leaves it to the classification.
        classify: How errors are classified.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    alternatives: tuple[Alternative[T], ...]
    on: Match | None = field(default=None, kw_only=True)
    classify: Classification | None = field(default=None, kw_only=True)

    _named: tuple[tuple[str, Callable[..., T]], ...] = field(init=False, repr=False, compare=False)
    _on: Callable[[BaseException, Fault], bool] | None = field(init=False, repr=False, compare=False)

    answers: ClassVar[bool] = True
    quiet: ClassVar[bool] = False  # a success must be labelled too
    role: ClassVar[str] = "chain"

    def __post_init__(self) -> None:
        checks = Checks("Chain")
        named: list[tuple[str, Callable[..., T]]] = []
        checks.that(len(self.alternatives) > 0, "alternatives", "at least one callable", self.alternatives)
        for number, one in enumerate(self.alternatives):
            name, function = one if isinstance(one, tuple) and len(one) == 2 else (name_of(one), one)
            if checks.that(
                isinstance(name, str) and callable(function),
                f"alternatives[{number}]",
                "a callable, or a pair of name and callable",
                one,
            ):
                named.append((name, function))
        matches = checks.match("on", self.on)
        checks.done()
        object.__setattr__(self, "_named", tuple(named))
        object.__setattr__(self, "_on", matches)

    @property
    def awaits(self) -> str:
        """The option that holds a coroutine function, if one does."""
        return "alternatives" if any(is_async(function) for _, function in self._named) else ""

    def _goes_on(self, outcome: Raised) -> bool:
        if outcome.fault.kind is Kind.cancelled:
            return False
        if self._on is not None:
            return self._on(outcome.error, outcome.fault)
        return outcome.fault.rule.fallback

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        outcome = yield from inner(call)
        if isinstance(outcome, Returned):
            source = outcome.source if isinstance(outcome, Degraded) else call.operation
            return Returned(Answer(outcome.value, source, isinstance(outcome, Degraded)))
        for name, function in self._named:
            if not self._goes_on(outcome):
                break
            fault = outcome.fault
            outcome = yield CallOther(function, call.args, call.kwargs)
            if isinstance(outcome, Returned):
                return (yield from degraded(call, Answer(outcome.value, name, True), name, "chain", fault))
        unanswered(outcome)
        return outcome


def chain(*alternatives: Alternative[T], on: Match | None = None, classify: Classification | None = None) -> Chain[T]:
    """Ordered alternatives to the decorated function; the answer says which one gave it. See `Chain`."""
    return Chain(alternatives, on=on, classify=classify)
