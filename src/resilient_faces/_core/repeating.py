"""What happens to a call that did not simply succeed: its policies' flows are carried out, or it is repeated in a loop.

Most guards are a retry with at most one circuit inside it, and perhaps policies around it that answer. For them the
two loops here do what the flows of retry and breaker do, in the same order; the law *direct path equals flow* compares
results, events, counters and delays of both. The decisions are methods of the policies and exist once, but for one
line: `top * chance`, the delay of a retry with full jitter after a fault that needs no second look. With it spelt out,
and neither generators nor outcomes, a retried call costs little more than half
(docs/explanation/execution-model.md has the figures).

Whoever holds an error drops it before leaving: the error's traceback holds the frame.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from resilient_faces._core.context import ATTEMPTS, DEADLINE, LAST, RECORDER, Link, nobody
from resilient_faces._core.drivers import run_async, run_sync
from resilient_faces._core.effects import Flow, Inner, Policy, Value, handed, innermost, unmarked
from resilient_faces._core.gates import INFO, LOG, OPEN, admission, rejection, tell_news
from resilient_faces._core.outcome import (
    Call,
    Caught,
    Gate,
    Outcome,
    Permit,
    Refused,
    Returned,
    Verdict,
    begin,
)
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.errors import CircuitOpenError
from resilient_faces.events import Event
from resilient_faces.faults import Classification, Fault

__all__ = [
    "Accounts",
    "Answers",
    "Notes",
    "Repeats",
    "Segment",
    "Shape",
    "flow_async",
    "flow_sync",
    "repeat_async",
    "repeat_sync",
]

Args = tuple[object, ...]
Kwargs = dict[str, object]
CarrySync: TypeAlias = Callable[..., object]
CarryAsync: TypeAlias = Callable[..., Awaitable[object]]


class Notes(Link):
    """What a retry remembers of one call, from its first failure on; in the context it is the call's link.

    It knows the function but not the call: a context outlives the call when a task is started inside.

    Attributes:
        heard: Somebody listens, so events are worth building.
        trail: What happened so far, by turns: what an attempt came to, the seconds waited after it. One list, since a
            second one for each failing call would show.
    """

    __slots__ = ("heard", "trail")

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:
        __init__ = object.__init__  # filled by whoever makes it: `_core/outcome.py` says why

    heard: bool
    trail: list[Fault | float]

    @property
    def faults(self) -> list[Fault]:
        """What the attempts came to so far."""
        return self.trail[::2]  # type: ignore[return-value]  # by turns, see above

    @property
    def delays(self) -> list[float]:
        """Seconds waited so far."""
        return self.trail[1::2]  # type: ignore[return-value]  # likewise


if TYPE_CHECKING:

    class Repeats(Protocol):
        """The decisions of a retry, in the order in which a call meets them.

        Attributes:
            tops: At each retry's number (from 1; nothing is at 0) the longest delay before it, if all there is to
                deciding after a simple fault is a draw below that; else empty.
        """

        tops: tuple[float, ...]

        def opened(self, function: Callable[..., object], fault: Fault, began: float | None) -> Notes | None:
            """Notes on a call whose first attempt failed; None if such an error is simply passed on."""

        def weighed(
            self, notes: Notes, fault: Fault, error: Exception | None, args: Args, kwargs: Kwargs, value: object = None
        ) -> float | None:
            """Seconds until the next attempt, which is noted; None if there is none."""

        def waiting(self, notes: Notes, delay: float) -> Event:
            """What to tell before the wait."""

        def gave_up(self, notes: Notes, error: Exception | None) -> Event | None:
            """No further attempt is made; what to tell."""

        def recovered(self, notes: Notes, degraded: bool) -> Event | None:
            """A later attempt succeeded; what to tell."""


if TYPE_CHECKING:

    class Accounts(Protocol):
        """How a breaker counts a failure of a permitted call."""

        def account(self, circuit: Gate, permit: Permit, error: Exception | None, fault: Fault, slow: bool) -> None: ...


if TYPE_CHECKING:

    class Answers(Protocol):
        """A policy that answers with one value where it answers at all."""

        @property
        def value(self) -> object: ...

        def answered(self, function: Callable[..., object], error: Exception, fault: Fault) -> bool:
            """Whether `value` is the answer to this failure; if so, it is told."""


class Shape:
    """What segments of alike policies have in common.

    Attributes:
        answered: A policy outside the circuit may turn a rejection into an answer.
        awaits: A policy has a coroutine function of its own to call, which a synchronous call cannot await.
        beyond: There are policies around the retry; their flows are given what it came to.
        carry_async: As `carry_sync`, in a task.
        carry_sync: How a call goes on that did not simply succeed: by flows, or repeated without.
        circuit: Which policy has a circuit, from 0; None if none has.
        marks: Its function's values are handed on with the mark `Degraded` where a policy answered, as a segment
            further out looks for that.
        quiet: Calls that simply succeed may pass all policies by.
        reads: What its function returns may carry that mark, because a policy further in answers.
        repeats: Which policy is the retry, if calls can be repeated without flows; else None.
        settles: The only policy around the retry, which comes first, needs no flow.
    """

    __slots__ = (
        "answered",
        "awaits",
        "beyond",
        "carry_async",
        "carry_sync",
        "circuit",
        "marks",
        "quiet",
        "reads",
        "repeats",
        "settles",
    )

    def __init__(
        self, *, answered: bool, quiet: bool, circuit: int | None, reads: bool, marks: bool, awaits: bool
    ) -> None:
        self.answered = answered
        self.awaits = awaits
        self.quiet = quiet
        self.circuit = circuit
        self.reads = reads
        self.marks = marks
        self.repeats: int | None = None
        self.beyond = self.settles = False
        self.carry_sync: CarrySync = flow_sync
        self.carry_async: CarryAsync = flow_async

    def repeat(self, *, counts: bool, beyond: bool, settles: bool) -> None:
        """Let calls be repeated without flows: the policies end with a retry, or with a retry and a breaker."""
        self.repeats = -2 if counts else -1
        self.beyond, self.settles = beyond, settles
        self.carry_sync, self.carry_async = repeat_sync, repeat_async


class Segment:
    """What the functions of one guard share between two joints: the chain of flows and what the direct path needs.

    Attributes:
        chain: The policies' flows, each with the next inside; None until a call first needs it, which most guarded
            functions seldom do.
        classify: The classification that all policies of the segment read.
        examine: True for a returned value that some policy wants to look at; None if no policy looks at values.
        policies: The policies, outermost first.
        shape: What follows from their kinds.
    """

    __slots__ = ("chain", "classify", "examine", "policies", "shape")

    def __init__(
        self,
        policies: tuple[Policy, ...],
        classify: Classification,
        examine: Callable[[object], bool] | None,
        shape: Shape,
    ) -> None:
        self.chain: Inner | None = None
        self.policies = policies
        self.classify = classify
        self.examine = examine
        self.shape = shape

    def start(self, call: Call) -> Flow[Outcome]:
        """The chain's flow for one call."""
        chain = self.chain
        if chain is None:
            chain = self.chain = self._link()
        return chain(call)

    def _link(self) -> Inner:
        chain: Inner = unmarked if self.shape.reads else innermost
        repeats = self.shape.repeats
        for index, policy in enumerate(reversed(self.policies), 1):
            chain = functools.partial(policy.flow, chain)
            if index == -(repeats or 0):
                chain = functools.partial(handed, chain)
        return chain


def flow_sync(
    segment: Segment,
    function: Callable[..., object],
    args: Args,
    kwargs: Kwargs,
    came: list[Exception] | list[Returned],
    permit: Permit | None,
    circuit: Gate | None,
    took: float = 0.0,
) -> object:
    """What the flows come to.

    In `came` is the error of the first attempt, or its value if a policy looks at that; nothing if it is still to come.
    """
    call = begin(function, args, kwargs, None, permit, circuit)
    call.took = took
    if came:
        first = came.pop()
        call.first = first if isinstance(first, Returned) else _caught(first, segment.classify(first))
        del first
    outcome = run_sync(segment.start(call), call, segment.classify)
    if isinstance(outcome, Returned):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome, call


async def flow_async(
    segment: Segment,
    function: Callable[..., Awaitable[object]],
    args: Args,
    kwargs: Kwargs,
    came: list[Exception] | list[Returned],
    permit: Permit | None,
    circuit: Gate | None,
    took: float = 0.0,
) -> object:
    """As `flow_sync`, in a task."""
    call = begin(function, args, kwargs, None, permit, circuit)
    call.took = took
    if came:
        first = came.pop()
        call.first = first if isinstance(first, Returned) else _caught(first, segment.classify(first))
        del first
    outcome = await run_async(segment.start(call), call, segment.classify)
    if isinstance(outcome, Returned):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome, call


def repeat_sync(
    segment: Segment,
    function: Callable[..., object],
    args: Args,
    kwargs: Kwargs,
    failure: list[Exception],
    permit: Permit | None,
    circuit: Gate | None,
    took: float = 0.0,
) -> object:
    """What a call comes to by being repeated. Its first attempt raised `failure`, or is still to come."""
    shape = segment.shape
    classify = segment.classify
    known = classify.known
    error: Exception | None
    fault: Fault | None
    if failure:
        error = failure.pop()
        fault = known.get(type(error)) or classify(error)
    else:
        error = fault = None
    policies: Value = segment.policies
    retry: Repeats = policies[shape.repeats]
    breaker: Accounts = policies[-1]  # if there is a circuit
    tops = retry.tops if DEADLINE.get() is None else ()
    notes: Notes | None = None
    number = 1
    delay: float | None
    try:
        try:
            while True:
                if fault is None:  # an attempt
                    if circuit is not None and (permit := circuit.generation) is None:
                        permit, error, fault = _admitted(circuit, function)
                    if fault is None:
                        try:
                            value = function(*args, **kwargs) if kwargs else function(*args)
                        except Exception as caught:
                            error = caught
                            fault = known.get(type(caught)) or classify(caught)
                        else:
                            if circuit is not None and permit is not None:
                                _succeeded(circuit, permit)
                            if notes is not None and (
                                notes.heard or LAST.get() is not None or RECORDER.get() is not None
                            ):
                                told = retry.recovered(notes, False)
                                if told is not None:
                                    RUNTIME.tell(told)
                            return value
                if circuit is not None and permit is not None:
                    breaker.account(circuit, permit, error, fault, False)
                    if circuit.news:
                        tell_news(circuit)
                if notes is None:
                    notes = retry.opened(function, fault, None)
                    if notes is None:
                        break
                    trail = notes.trail
                if fault.simple and number < len(tops) and RUNTIME.retrying is None:
                    delay = tops[number] * RUNTIME.random()
                    trail.append(fault)
                    trail.append(delay)
                    if number == 1:
                        ATTEMPTS.set(notes)
                else:
                    delay = retry.weighed(notes, fault, error, args, kwargs)
                    if delay is None:
                        break
                if notes.heard:
                    RUNTIME.tell(retry.waiting(notes, delay))
                if delay > 0.0:
                    RUNTIME.sleep(delay, function)
                if RUNTIME.stopped:
                    break
                number += 1
                notes.number = number
                error = fault = None  # the next attempt must not run with the last error's frames held here
            if notes is not None and (told := retry.gave_up(notes, error)) is not None:
                RUNTIME.tell(told)
        except BaseException:  # interrupted, or the user's judgement raised: neutral, the permit goes back
            if circuit is not None and permit is not None:
                circuit.settle(permit, _NEUTRAL)
            raise
        finally:
            if notes is not None:
                notes.number = 0
                notes.function = nobody
        if not shape.beyond:
            raise error  # type: ignore[misc]  # it is one: the loop is left after a failure only
        if shape.settles:
            answers: Answers = policies[0]
            if answers.answered(function, error, fault):  # type: ignore[arg-type]  # likewise
                return answers.value
            raise error  # type: ignore[misc]
        call = begin(function, args, kwargs, _caught(error, fault), None, circuit)
    finally:
        error = None
    outcome = run_sync(segment.start(call), call, classify)
    if isinstance(outcome, Returned):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome, call


async def repeat_async(
    segment: Segment,
    function: Callable[..., Awaitable[object]],
    args: Args,
    kwargs: Kwargs,
    failure: list[Exception],
    permit: Permit | None,
    circuit: Gate | None,
    took: float = 0.0,
) -> object:
    """As `repeat_sync`, in a task: attempts are awaited, waits are cancellable."""
    shape = segment.shape
    classify = segment.classify
    known = classify.known
    error: Exception | None
    fault: Fault | None
    if failure:
        error = failure.pop()
        fault = known.get(type(error)) or classify(error)
    else:
        error = fault = None
    policies: Value = segment.policies
    retry: Repeats = policies[shape.repeats]
    breaker: Accounts = policies[-1]  # if there is a circuit
    tops = retry.tops if DEADLINE.get() is None else ()
    notes: Notes | None = None
    number = 1
    delay: float | None
    try:
        try:
            while True:
                if fault is None:  # an attempt
                    if circuit is not None and (permit := circuit.generation) is None:
                        permit, error, fault = _admitted(circuit, function)
                    if fault is None:
                        try:
                            value = await (function(*args, **kwargs) if kwargs else function(*args))
                        except Exception as caught:
                            error = caught
                            fault = known.get(type(caught)) or classify(caught)
                        else:
                            if circuit is not None and permit is not None:
                                _succeeded(circuit, permit)
                            if notes is not None and (
                                notes.heard or LAST.get() is not None or RECORDER.get() is not None
                            ):
                                told = retry.recovered(notes, False)
                                if told is not None:
                                    RUNTIME.tell(told)
                            return value
                if circuit is not None and permit is not None:
                    breaker.account(circuit, permit, error, fault, False)
                    if circuit.news:
                        tell_news(circuit)
                if notes is None:
                    notes = retry.opened(function, fault, None)
                    if notes is None:
                        break
                    trail = notes.trail
                if fault.simple and number < len(tops) and RUNTIME.retrying is None:
                    delay = tops[number] * RUNTIME.random()
                    trail.append(fault)
                    trail.append(delay)
                    if number == 1:
                        ATTEMPTS.set(notes)
                else:
                    delay = retry.weighed(notes, fault, error, args, kwargs)
                    if delay is None:
                        break
                if notes.heard:
                    RUNTIME.tell(retry.waiting(notes, delay))
                await RUNTIME.asleep(delay)
                if RUNTIME.stopped:
                    break
                number += 1
                notes.number = number
                error = fault = None  # the next attempt must not run with the last error's frames held here
            if notes is not None and (told := retry.gave_up(notes, error)) is not None:
                RUNTIME.tell(told)
        except BaseException:  # cancelled, or the user's judgement raised: neutral, the permit goes back
            if circuit is not None and permit is not None:
                circuit.settle(permit, _NEUTRAL)
            raise
        finally:
            if notes is not None:
                notes.number = 0
                notes.function = nobody
        if not shape.beyond:
            raise error  # type: ignore[misc]  # it is one: the loop is left after a failure only
        if shape.settles:
            answers: Answers = policies[0]
            if answers.answered(function, error, fault):  # type: ignore[arg-type]  # likewise
                return answers.value
            raise error  # type: ignore[misc]
        call = begin(function, args, kwargs, _caught(error, fault), None, circuit)
    finally:
        error = None
    outcome = await run_async(segment.start(call), call, classify)
    if isinstance(outcome, Returned):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome, call


def _caught(error: Exception | None, fault: Fault | None) -> Outcome:
    """A failure as an outcome, which flows go by."""
    assert error is not None
    assert fault is not None
    outcome = Caught()
    outcome.error = error
    outcome.fault = fault
    return outcome


def _admitted(circuit: Gate, function: Callable[..., object]) -> tuple[Permit | None, Exception | None, Fault | None]:
    """Leave to make an attempt while the circuit does not let everybody through, or what the refusal comes to."""
    left = circuit.refusal()  # without a lock
    if not left:
        granted = admission(circuit)
        if circuit.news:
            tell_news(circuit)
        if not isinstance(granted, Refused):
            return granted, None, None
        left = granted.retry_after
    if RUNTIME.listeners or LOG.isEnabledFor(INFO):
        RUNTIME.tell(rejection(circuit, left, function))
    return None, CircuitOpenError(circuit.name, left, circuit.last), OPEN


def _succeeded(circuit: Gate, permit: Permit) -> None:
    """Count a success."""
    if circuit.calm is not permit:
        circuit.settle(permit, _SUCCESS)
        if circuit.news:
            tell_news(circuit)
    elif permit.note is not None:
        permit.note(True)


_SUCCESS: Final = Verdict.success
_NEUTRAL: Final = Verdict.neutral
