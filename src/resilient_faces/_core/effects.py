"""The requests that a flow can make, and the types of flows and policies.

A flow decides and asks; a driver does and answers. The list is complete: make an attempt, sleep (a bare number of
seconds), call something else, ask a store, tell the listeners.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, Final, Protocol, TypeAlias, TypeVar

from resilient_faces._core.outcome import Call, Degraded, Outcome, Returned
from resilient_faces.events import Event

__all__ = [
    "ATTEMPT",
    "Ask",
    "Attempt",
    "CallOther",
    "Flow",
    "Inner",
    "Policy",
    "Request",
    "Sleep",
    "Target",
    "Tell",
    "Unanswered",
    "Value",
    "ask",
    "attempt",
    "call_other",
    "sleep",
    "tell",
]

T = TypeVar("T")

Value: TypeAlias = Any  # what users' functions take and return
Target: TypeAlias = Callable[..., Any]  # users' functions


class Attempt:
    """Call the guarded function; the answer is an `Outcome`."""

    __slots__ = ()


ATTEMPT: Final = Attempt()


Sleep: TypeAlias = float
"""Wait for so many seconds; the answer is None. The bare number is the request, because one is made for every retry.
Zero seconds are no sleep in sync code and one checkpoint in async code."""


class CallOther:
    """Call another of the user's functions (a fallback, a hook); the answer is an `Outcome`."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Target, args: tuple[object, ...] = (), kwargs: Mapping[str, object] = {}) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs


class Ask:
    """Ask a store: `operation(*args)`; the answer is its result, or `Unanswered`.

    Stores are synchronous. One whose `inline` is true answers from memory and is called as it is; any other is asked in
    a worker thread and given up after `limit` seconds, so that a store that is slow or dead never holds up a call.
    """

    __slots__ = ("args", "inline", "limit", "operation")

    def __init__(self, operation: Target, args: tuple[object, ...], inline: bool, limit: float) -> None:
        self.operation = operation
        self.args = args
        self.inline = inline
        self.limit = limit


class Unanswered:
    """The store failed or took too long; `code` says how."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code


class Tell:
    """Tell the listeners; the answer is None. What a listener raises stays with it."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event


Request: TypeAlias = Attempt | Sleep | CallOther | Ask | Tell
Flow: TypeAlias = Generator[Request, Any, T]
Inner: TypeAlias = Callable[[Call], Flow[Outcome]]


class Policy(Protocol):
    """What every policy has: options (its own members) and a flow.

    Attributes:
        quiet: It has nothing to do before a first attempt or after a success, so calls that simply succeed may pass
            it by. False unless declared.
        answers: It may turn a rejection into an answer.
    """

    @property
    def quiet(self) -> bool: ...

    answers: ClassVar[bool]

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        """The policy's part in one call: ask `inner` for outcomes and return one."""


# One typed helper each. On the hot part of a flow yielding the request itself saves a generator.


def attempt() -> Flow[Outcome]:
    """Make an attempt."""
    outcome: Outcome = yield ATTEMPT
    return outcome


def sleep(seconds: float) -> Flow[None]:
    """Wait for so many seconds."""
    yield seconds


def call_other(function: Target, *args: object, **kwargs: object) -> Flow[Outcome]:
    """Call another of the user's functions."""
    outcome: Outcome = yield CallOther(function, args, kwargs)
    return outcome


def ask(operation: Callable[..., T], *args: object, inline: bool = False, limit: float = 1.0) -> Flow[T | Unanswered]:
    """Ask a store."""
    answer: T | Unanswered = yield Ask(operation, args, inline, limit)
    return answer


def tell(event: Event) -> Flow[None]:
    """Tell the listeners."""
    yield Tell(event)


def innermost(call: Call) -> Flow[Outcome]:
    """The end of every chain of flows: the attempt itself, or what the direct path's came to."""
    outcome = call.first
    if outcome is None:
        outcome = yield ATTEMPT
    else:
        call.first = None
    return outcome


def unmarked(call: Call) -> Flow[Outcome]:
    """As `innermost`, for a function that returns `Degraded` where a policy further in answered in its place."""
    outcome: Outcome = yield ATTEMPT
    inside = outcome.value if isinstance(outcome, Returned) else None
    return inside if isinstance(inside, Degraded) else outcome


def handed(inner: Inner, call: Call) -> Flow[Outcome]:
    """What the direct path's attempts came to, for the policies around them; `inner` if one of those asks again."""
    outcome = call.first
    if outcome is None:
        outcome = yield from inner(call)
    else:
        call.first = None
    return outcome


def unwrap(outcome: Outcome) -> Value:
    """The value, or the error raised; for flows that asked for something whose failure is theirs."""
    if isinstance(outcome, Returned):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome  # else: error -> traceback -> frame -> outcome -> error
