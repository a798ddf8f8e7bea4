"""The six closures of the success path: no circuit, a circuit, a circuit that times its calls; each sync and async.

A call that simply succeeds costs one Python frame, one read of the circuit's slot before it and one after. No lock, no
allocation, no event, and a clock only where the circuit times its calls. Everything else is the flow's business: the
closure hands it the failed first attempt together with the permit that attempt was admitted under.

The six are written out by hand: a shared body with every part behind a test costs 35 to 75 % more on each call, a loop
over gates 260 to 370 % (docs/explanation/execution-model.md has the figures).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Final

from resilient_faces._core.context import event
from resilient_faces._core.drivers import run_async, run_sync
from resilient_faces._core.effects import Flow, Inner
from resilient_faces._core.outcome import Call, Caught, Gate, Outcome, Permit, Returned, Transition, Verdict, begin
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.errors import CircuitOpenError
from resilient_faces.events import Event
from resilient_faces.faults import Classification, Fault

__all__ = ["GUARDED_CODES", "Segment", "close", "tell_news", "transition_event"]

Sync = Callable[..., object]
Async = Callable[..., Awaitable[object]]


class Segment:
    """What the functions of one guard share between two joints: the chain of flows and what the direct path needs.

    Attributes:
        chain: The policies' flows, each with the next inside; None until a call first needs it, which most guarded
            functions seldom do.
        classify: The classification that all policies of the segment read.
        examine: True for a returned value that some policy wants to look at; None if no policy looks at values.
        answered: A policy outside the circuit may turn a rejection into an answer.
        quiet: Calls that simply succeed may pass all policies by.
    """

    __slots__ = ("answered", "chain", "classify", "examine", "quiet")

    def __init__(
        self,
        classify: Classification,
        examine: Callable[[object], bool] | None,
        answered: bool,
        quiet: bool,
    ) -> None:
        self.chain: Inner | None = None
        self.classify: Callable[[BaseException], Fault] = classify.__call__  # a third of calling the object
        self.examine = examine
        self.answered = answered
        self.quiet = quiet

    def link(self) -> Inner:
        """Make the chain."""
        raise NotImplementedError

    def start(self, call: Call) -> Flow[Outcome]:
        """The chain's flow for one call."""
        chain = self.chain
        if chain is None:
            chain = self.chain = self.link()
        return chain(call)


def close(function: Sync, segment: Segment, circuit: Gate | None, timed: bool, asynchronous: bool) -> Sync:
    """The closure for this function: the one of the six that fits, or the flow alone if a policy is not quiet."""
    if not segment.quiet:
        make = _flow_async if asynchronous else _flow_sync
        return make(function, segment, circuit)  # type: ignore[arg-type]
    if circuit is None:
        return (_plain_async if asynchronous else _plain_sync)(function, segment)  # type: ignore[arg-type]
    if timed:
        return (_timed_async if asynchronous else _timed_sync)(function, segment, circuit)  # type: ignore[arg-type]
    return (_gated_async if asynchronous else _gated_sync)(function, segment, circuit)  # type: ignore[arg-type]


# In all of them the flow runs outside of the `except` block, so that nothing it raises is chained to the first error,
# and what refers to an error is dropped before leaving: the error's traceback holds this frame.


def _plain_sync(function: Sync, segment: Segment) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        first: Outcome
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            first = Caught()
            first.error = error
            first.fault = segment.classify(error)
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                return result
            first = Returned(result)
        call = begin(function, args, kwargs, first, None, None)
        del first
        outcome = run_sync(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _plain_async(function: Async, segment: Segment) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        first: Outcome
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            first = Caught()
            first.error = error
            first.fault = segment.classify(error)
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                return result
            first = Returned(result)
        call = begin(function, args, kwargs, first, None, None)
        del first
        outcome = await run_async(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _gated_sync(function: Sync, segment: Segment, circuit: Gate) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        first: Outcome | None
        if permit is None:
            if not segment.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            first = None  # the flow begins at the beginning
        else:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                first = Caught()
                first.error = error
                first.fault = segment.classify(error)
            else:
                examine = segment.examine
                if examine is None or not examine(result):
                    if circuit.calm is not permit:
                        _settle(circuit, permit, False)
                    elif permit.note is not None:
                        permit.note(True)
                    return result
                first = Returned(result)
        call = begin(function, args, kwargs, first, permit, circuit)
        del first
        outcome = run_sync(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _gated_async(function: Async, segment: Segment, circuit: Gate) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        first: Outcome | None
        if permit is None:
            if not segment.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            first = None  # the flow begins at the beginning
        else:
            try:
                result = await function(*args, **kwargs)
            except Exception as error:
                first = Caught()
                first.error = error
                first.fault = segment.classify(error)
            else:
                examine = segment.examine
                if examine is None or not examine(result):
                    if circuit.calm is not permit:
                        _settle(circuit, permit, False)
                    elif permit.note is not None:
                        permit.note(True)
                    return result
                first = Returned(result)
        call = begin(function, args, kwargs, first, permit, circuit)
        del first
        outcome = await run_async(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _timed_sync(function: Sync, segment: Segment, circuit: Gate) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        first: Outcome | None
        if permit is None:
            if not segment.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            first = None  # the flow begins at the beginning
            took = 0.0
        else:
            began = RUNTIME.monotonic()
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                took = RUNTIME.monotonic() - began
                first = Caught()
                first.error = error
                first.fault = segment.classify(error)
            else:
                took = RUNTIME.monotonic() - began
                examine = segment.examine
                if examine is None or not examine(result):
                    if took >= permit.slow_after or circuit.calm is not permit:
                        _settle(circuit, permit, took >= permit.slow_after)
                    elif permit.note is not None:
                        permit.note(True)
                    return result
                first = Returned(result)
        call = begin(function, args, kwargs, first, permit, circuit)
        call.took = took
        del first
        outcome = run_sync(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _timed_async(function: Async, segment: Segment, circuit: Gate) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        first: Outcome | None
        if permit is None:
            if not segment.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            first = None  # the flow begins at the beginning
            took = 0.0
        else:
            began = RUNTIME.monotonic()
            try:
                result = await function(*args, **kwargs)
            except Exception as error:
                took = RUNTIME.monotonic() - began
                first = Caught()
                first.error = error
                first.fault = segment.classify(error)
            else:
                took = RUNTIME.monotonic() - began
                examine = segment.examine
                if examine is None or not examine(result):
                    if took >= permit.slow_after or circuit.calm is not permit:
                        _settle(circuit, permit, took >= permit.slow_after)
                    elif permit.note is not None:
                        permit.note(True)
                    return result
                first = Returned(result)
        call = begin(function, args, kwargs, first, permit, circuit)
        call.took = took
        del first
        outcome = await run_async(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


# A policy that must know of every call: no direct path.


def _flow_sync(function: Sync, segment: Segment, circuit: Gate | None) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        call = begin(function, args, kwargs, None, None, circuit)
        outcome = run_sync(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _flow_async(function: Async, segment: Segment, circuit: Gate | None) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        call = begin(function, args, kwargs, None, None, circuit)
        outcome = await run_async(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _settle(circuit: Gate, permit: Permit, slow: bool) -> None:
    """Count a success that is news: something changed during the call, or it was slow."""
    circuit.settle(permit, Verdict.success, None, slow)
    tell_news(circuit)


def tell_news(circuit: Gate) -> None:
    """Tell the listeners what changed in a circuit."""
    if circuit.news:
        for transition in circuit.take_news():
            RUNTIME.tell(transition_event(transition))


def transition_event(transition: Transition) -> Event:
    """The event of a circuit's change of state."""
    return event(
        "transition",
        policy="breaker",
        status=transition.now,
        name=transition.name,
        key=transition.key,
        fault=transition.fault,
        delay=transition.delay,
    )


# -- recognising our own -------------------------------------------------------------------------------------------

GUARDED_CODES: Final[frozenset[CodeType]] = frozenset(
    constant
    for factory in (
        _plain_sync,
        _plain_async,
        _gated_sync,
        _gated_async,
        _timed_sync,
        _timed_async,
        _flow_sync,
        _flow_async,
    )
    for constant in factory.__code__.co_consts
    if isinstance(constant, CodeType) and constant.co_name == "guarded"
)
"""The closures' code objects: a function with one of these is guarded, whatever marks a foreign decorator copied."""
