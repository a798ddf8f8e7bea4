"""What travels with a call by context: deadline, chain of attempts, request id and step, who asked for a report.

All of it crosses `await`, worker threads of this library and nested guards; threads of others need
`contextvars.copy_context().run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from resilient_faces._core.outcome import Permit, without_locals
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass, field
from resilient_faces.events import Event, EventType
from resilient_faces.faults import Fault

__all__ = [
    "ATTEMPTS",
    "BUDGET",
    "DEADLINE",
    "LAST",
    "PROBES",
    "RECORDER",
    "LastOutcome",
    "Link",
    "Recorder",
    "Report",
    "RequestInfo",
    "amplification",
    "attach",
    "current_attempt",
    "event",
    "last_outcome",
    "nobody",
    "remaining",
    "report",
    "request",
    "underway",
    "wanted",
]


class Link:
    """One link in the chain of attempts: a call that is being repeated. No link means the first attempt.

    There is one for each such call, and its number moves on: setting a context variable for every attempt would cost
    more. So work that an attempt leaves running reads the number of the attempt that is under way. For the same reason
    a call that has ended does not take its link out of the context: it marks it, and `underway` looks further out.

    Attributes:
        number: Number of the attempt; 0 once the call has ended.
        function: The guarded function.
        outer: The link of the guard further out.
    """

    __slots__ = ("function", "number", "outer")

    def __init__(self, number: int, function: Callable[..., object], outer: Link | None) -> None:
        self.number = number
        self.function = function
        self.outer = outer


def nobody() -> None:
    """The function of a link whose call has ended: a context must not keep alive what nobody calls any more."""


def underway() -> Link | None:
    """The link of the innermost call around this code that is being repeated; None if this is a first attempt."""
    link = ATTEMPTS.get()
    while link is not None and not link.number:
        link = link.outer
    return link


def amplification(link: Link | None) -> int:
    """How many calls the innermost dependency sees at least for one call from outside."""
    return 1 if link is None else max(1, link.number) * amplification(link.outer)


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Whose work this is, for events and logs."""

    id: str
    step: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a call went.

    Attributes:
        attempts: Attempts made, the first included; one that a policy further in refused is one too.
        elapsed: Seconds from the start to the end of the call; for a report on an exception, from the end of the
            first attempt, because nothing reads a clock while all is well.
        faults: What the failed attempts came to, in order.
        delays: Seconds waited before each further attempt.
        outcome: `first_try`, `after_retry`, `degraded` or `failed`.
        source: Which policy answered in the function's place; None if the function did.
        stopped: Why no further attempt was made; empty after a success.
    """

    attempts: int = 1
    elapsed: float = 0.0
    faults: tuple[Fault, ...] = ()
    delays: tuple[float, ...] = ()
    outcome: str = "first_try"
    source: str | None = None
    stopped: str = ""

    @property
    def degraded(self) -> bool:
        """Whether something other than the function answered."""
        return self.source is not None


@dataclass(slots=True)
class Recorder:
    """Collects what policies do during one call that wants a report."""

    function: object
    attempts: int = 1
    faults: list[Fault] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    source: str | None = None
    stopped: str = ""

    def about(self, function: object) -> bool:
        """Whether a call of this function is the one asked about, and not one that its function makes."""
        while function is not None:
            if function is self.function:
                return True
            function = getattr(function, "__wrapped__", None)
        return False


class LastOutcome:
    """How the last call that did not simply succeed ended.

    Attributes:
        source: Which policy answered; None if the function did, or the call failed.
        degraded: Whether something other than the function answered.
        fault: What went wrong last.
    """

    __slots__ = ("_qualname", "degraded", "fault", "source")

    def __init__(self, qualname: str, source: str | None, degraded: bool, fault: Fault | None) -> None:
        self._qualname = qualname
        self.source = source
        self.degraded = degraded
        self.fault = fault

    @property
    def operation(self) -> str:
        """Name of the guarded function."""
        return without_locals(self._qualname)

    def _facts(self) -> tuple[object, ...]:
        return self.operation, self.source, self.degraded, self.fault

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, LastOutcome) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())

    def __repr__(self) -> str:
        return f"LastOutcome({self.operation!r}, {self.source!r}, {self.degraded!r}, {self.fault!r})"


DEADLINE: Final[ContextVar[float | None]] = ContextVar("resilient_faces.deadline", default=None)
ATTEMPTS: Final[ContextVar[Link | None]] = ContextVar("resilient_faces.attempts", default=None)
BUDGET: Final[ContextVar[str | None]] = ContextVar("resilient_faces.budget", default=None)
PROBES: Final[ContextVar[tuple[Permit, ...]]] = ContextVar("resilient_faces.probes", default=())
"""The permits of probes that this code runs within."""
REQUEST: Final[ContextVar[RequestInfo]] = ContextVar("resilient_faces.request", default=RequestInfo("", ""))  # noqa: B039
RECORDER: Final[ContextVar[Recorder | None]] = ContextVar("resilient_faces.recorder", default=None)
LAST: Final[ContextVar[tuple[str, str, Fault] | None]] = ContextVar("resilient_faces.last", default=None)
"""Of the last degraded answer: the function's qualified name, which policy answered, and why. It becomes a
`LastOutcome` when somebody asks: one is written for every degraded answer, and hardly ever looked at."""


def remaining() -> float | None:
    """Seconds until the deadline that covers this code, never below zero; None if there is none.

    Hand it to whatever takes a time limit: a socket, a query, a client.
    """
    until = DEADLINE.get()
    return None if until is None else max(0.0, until - RUNTIME.monotonic())


def current_attempt() -> int:
    """Number of the attempt that this code runs in, from 1."""
    link = underway()
    return 1 if link is None else link.number


def last_outcome() -> LastOutcome | None:
    """The degraded answer that this context got last; None if there was none.

    A later call that recovers, or that fails although a fallback stood by, takes it away. A call that simply succeeds
    writes nothing, so ask right after a call whose answer may be degraded, or use `call_with_report`, which speaks of
    exactly one call.
    """
    last = LAST.get()
    return None if last is None else LastOutcome(last[0], last[1], True, last[2])


@contextmanager
def request(id: str, step: str = "") -> Iterator[RequestInfo]:
    """Name the request, and the step of it, that the events and logs of this block belong to."""
    info = RequestInfo(id, step)
    token = REQUEST.set(info)
    try:
        yield info
    finally:
        REQUEST.reset(token)


def event(
    type: EventType,
    *,
    policy: str,
    status: str,
    name: str = "",
    key: str = "",
    operation: str = "",
    fault: Fault | None = None,
    attempt: int | None = None,
    delay: float | None = None,
    elapsed: float | None = None,
    outcome: str = "",
    parent: int | None = None,
) -> Event:
    """An event of this moment, with the request, step and chain of attempts that the context carries."""
    info = REQUEST.get()
    return Event(
        type=type,
        at=RUNTIME.wall(),
        t=RUNTIME.monotonic(),
        request_id=info.id,
        step=info.step or operation,
        status=status,
        error_code="" if fault is None else fault.code,
        policy=policy,
        name=name,
        key=key,
        operation=operation,
        attempt=attempt,
        parent=parent,
        delay=delay,
        elapsed=elapsed,
        kind="" if fault is None else fault.kind.value,
        code="" if fault is None else fault.code,
        executed="" if fault is None else fault.executed.value,
        outcome=outcome,
    )


_MARK: Final = "__resilient_faces_report__"


def attach(error: BaseException, what: Report) -> None:
    """Leave a report on an error, for `report`; an error that takes no attributes goes without."""
    try:
        setattr(error, _MARK, what)
    except (AttributeError, TypeError):
        pass


def report(error: BaseException) -> Report:
    """How the call went that ended with this error: attempts, elapsed seconds, the chain of faults.

    An error that no policy repeated has one attempt to tell of.
    """
    found = getattr(error, _MARK, None)
    return found if isinstance(found, Report) else Report(outcome="failed")


def wanted(function: object) -> Recorder | None:
    """The recorder that asked about this call of the function, if any."""
    recorder = RECORDER.get()
    return recorder if recorder is not None and recorder.about(function) else None
