"""What came of an attempt, the state of one call, and what a breaker's gate must offer the direct path."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from types import FunctionType
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from resilient_faces.faults import Fault

__all__ = ["Call", "Degraded", "Gate", "Outcome", "Permit", "Raised", "Refused", "Returned", "Transition", "Verdict"]


class Returned:
    """The function returned `value`."""

    __slots__ = ("value",)

    fault: ClassVar[Fault | None] = None

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:  # the value stays out: it may be a frame or an identity
        return "Returned()"


class Degraded(Returned):
    """A policy answered in the function's place; `source` says which one."""

    __slots__ = ("source",)

    def __init__(self, value: object, source: str) -> None:
        self.value = value
        self.source = source

    def __repr__(self) -> str:
        return f"Degraded({self.source!r})"


class Raised:
    """The function raised `error`, classified once as `fault`."""

    __slots__ = ("error", "fault")

    def __init__(self, error: Exception, fault: Fault) -> None:
        self.error = error
        self.fault: Fault = fault

    def __repr__(self) -> str:
        return f"Raised({self.fault.kind.value}, {self.fault.code})"


Outcome: TypeAlias = Returned | Raised


# What the engine itself makes for each attempt: the same values, made empty and filled in place, because a call of an
# `__init__` written in Python costs more than all the rest of making one.


class Got(Returned):
    """`Returned`, filled by whoever makes it."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__


class Caught(Raised):
    """`Raised`, filled by whoever makes it."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__


class Verdict(Enum):
    """What an outcome means to a breaker."""

    success = "success"
    failure = "failure"
    neutral = "neutral"  # no evidence: the permit goes back and nothing is counted


class Permit:
    """Leave to make a call, with the generation it was granted under.

    A closed circuit hands the same permit to everybody; each probe has its own. A transition replaces the object, so
    that a late answer fails an identity test and a late `note` goes to a window that nobody reads any more.

    Attributes:
        note: A C-level callable that takes `True` for each success (a window's append), or None.
        slow_after: Seconds from which on a call counts as slow; infinite if calls are not timed.
        expires: Monotonic time until which a probe must have answered; None for a permit of a closed circuit.
    """

    __slots__ = ("expires", "note", "slow_after")

    def __init__(
        self,
        note: Callable[[bool], object] | None = None,
        slow_after: float = math.inf,
        expires: float | None = None,
    ) -> None:
        self.note = note
        self.slow_after = slow_after
        self.expires = expires


class Refused:
    """No permit: ask again after `retry_after` seconds; infinite if only a person can change that."""

    __slots__ = ("retry_after",)

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


class Transition:
    """A change of a circuit's state, as news for the listeners."""

    __slots__ = ("delay", "fault", "key", "name", "now", "was")

    def __init__(self, name: str, key: str, was: str, now: str, delay: float | None, fault: Fault | None) -> None:
        self.name = name
        self.key = key
        self.was = was
        self.now = now
        self.delay = delay
        self.fault = fault


class Gate(Protocol):
    """What `breaker/` fulfils and the direct path reads."""

    name: str
    last: str | None
    """Code of the fault that opened the circuit."""
    generation: Permit | None
    """The permit that everybody may call under, and the only one that may still change anything; None if the circuit
    does not let everybody through."""
    calm: Permit | None
    """The same permit while a success is no news; None when one must be settled, because failures are pending."""
    news: list[Transition]
    """Changes of state that the listeners have not been told yet; empty but for moments."""

    def take_news(self) -> list[Transition]:
        """The changes that nobody has told yet; whoever takes them tells them."""

    def refusal(self) -> float:
        """Seconds until a probe may be asked for; 0 if one may be asked for now. Takes no lock."""

    def acquire(self, now: float | None = None) -> Permit | Refused:
        """Leave to call, or not."""

    def probing(self, permits: tuple[Permit, ...]) -> bool:
        """Whether one of these is a probe that is under way."""

    def settle(self, permit: Permit, verdict: Verdict, fault: Fault | None = None, slow: bool = False) -> None:
        """Count what came of a permitted call. A permit of an older generation changes nothing."""

    def trip(self, permit: Permit, fault: Fault | None) -> None:
        """Open at once because of one answer."""


class Call:
    """The state of one call; nothing else is per call.

    Attributes:
        function: What the driver calls for an attempt.
        args: Positional arguments.
        kwargs: Keyword arguments.
        first: What the direct path's attempt came to, to be taken as the first answer; None once taken.
        granted: The permit which that attempt was admitted under; None once taken.
        gate: The circuit of the segment, if it has one.
        took: Seconds that the direct path's attempt took, if the circuit times its calls.
    """

    __slots__ = ("args", "first", "function", "gate", "granted", "kwargs", "took")

    def __init__(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        first: Outcome | None,
        granted: Permit | None,
        gate: Gate | None,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.first = first
        self.granted = granted
        self.gate = gate
        self.took = 0.0

    def take_granted(self) -> Permit | None:
        """The direct path's permit, once."""
        permit = self.granted
        self.granted = None
        return permit

    @property
    def operation(self) -> str:
        """Name of the guarded function, for events and messages."""
        return name_of(self.function)


class _Begun(Call):
    """`Call`, filled by `begin`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__


def begin(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    first: Outcome | None,
    granted: Permit | None,
    gate: Gate | None,
) -> Call:
    """A `Call`; as `Call(...)`, for less."""
    call = _Begun()
    call.function = function
    call.args = args
    call.kwargs = kwargs
    call.first = first
    call.granted = granted
    call.gate = gate
    call.took = 0.0
    return call


def name_of(function: object) -> str:
    """A function's qualified name without `<locals>` noise; the class of a callable object."""
    return without_locals(qualname_of(function))


def qualname_of(function: object) -> str:
    """As `name_of`, with the noise."""
    name = getattr(function, "__qualname__", None)
    if isinstance(name, str):
        return name
    inner = getattr(function, "func", None)  # functools.partial
    return type(function).__qualname__ if inner is None else qualname_of(inner)


def without_locals(qualname: str) -> str:
    """A qualified name from its last `<locals>` on."""
    return qualname.rpartition("<locals>.")[2]


def mark_target(function: object, target: Callable[..., object]) -> None:
    """Note on what a joint made which function of the user's is within: it makes another with each decorating."""
    if isinstance(function, FunctionType):
        function.__dict__["_resilient_faces_target"] = (id(function), target)


def target_of(function: Callable[..., object]) -> Callable[..., object]:
    """The function of the user's within what a joint made; any other is its own."""
    noted, target = getattr(function, "_resilient_faces_target", (0, function))
    # The note counts on that very object only: `functools.wraps` copies it to wrappers of others.
    return target if noted == id(function) else function
