"""The six closures of the success path: no circuit, a circuit, a circuit that times its calls; each sync and async.

A call that simply succeeds costs one Python frame, one read of the circuit's slot before it and one after. No lock, no
allocation, no event, and a clock only where the circuit times its calls. Everything else is `_core/repeating.py`'s
business: the closure hands it the error of the first attempt together with the permit that attempt was admitted under.

The six are written out by hand: a shared body with every part behind a test costs 35 to 75 % more on each call, a loop
over gates 260 to 370 % (docs/explanation/execution-model.md has the figures).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Final

from resilient_faces._core.drivers import run_async, run_sync
from resilient_faces._core.gates import tell_news
from resilient_faces._core.outcome import Degraded, Gate, Permit, Returned, Verdict, begin
from resilient_faces._core.repeating import Segment, flow_async, flow_sync
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.errors import CircuitOpenError

__all__ = ["GUARDED_CODES", "close"]

Sync = Callable[..., object]
Async = Callable[..., Awaitable[object]]


def close(function: Sync, segment: Segment, circuit: Gate | None, timed: bool, asynchronous: bool) -> Sync:
    """The closure for this function: the one of the six that fits, or the flow alone if a policy is not quiet."""
    if not segment.shape.quiet:
        make = _flow_async if asynchronous else _flow_sync
        return make(function, segment, circuit)  # type: ignore[arg-type]
    if circuit is None:
        return (_plain_async if asynchronous else _plain_sync)(function, segment)  # type: ignore[arg-type]
    if timed:
        return (_timed_async if asynchronous else _timed_sync)(function, segment, circuit)  # type: ignore[arg-type]
    return (_gated_async if asynchronous else _gated_sync)(function, segment, circuit)  # type: ignore[arg-type]


# Most calls have no keyword arguments, and `**kwargs` would make a dict for each of them.
#
# In all of them the call goes on outside of the `except` block, so that nothing raised there is chained to the first
# error. That error leaves in a list, out of which it is taken: no frame here may go on holding it, because its
# traceback holds the frame.


def _plain_sync(function: Sync, segment: Segment) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as caught:
            failure = [caught]
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                return result
            return flow_sync(segment, function, args, kwargs, [Returned(result)], None, None)
        return segment.shape.carry_sync(segment, function, args, kwargs, failure, None, None)

    return guarded


def _plain_async(function: Async, segment: Segment) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        try:
            result = await (function(*args, **kwargs) if kwargs else function(*args))
        except Exception as caught:
            failure = [caught]
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                return result
            return await flow_async(segment, function, args, kwargs, [Returned(result)], None, None)
        return await segment.shape.carry_async(segment, function, args, kwargs, failure, None, None)

    return guarded


def _gated_sync(function: Sync, segment: Segment, circuit: Gate) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        if permit is None:
            if not segment.shape.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            return segment.shape.carry_sync(segment, function, args, kwargs, [], None, circuit)
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as caught:
            failure = [caught]
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                if circuit.calm is not permit:
                    _settle(circuit, permit, False)
                elif permit.note is not None:
                    permit.note(True)
                return result
            return flow_sync(segment, function, args, kwargs, [Returned(result)], permit, circuit)
        return segment.shape.carry_sync(segment, function, args, kwargs, failure, permit, circuit)

    return guarded


def _gated_async(function: Async, segment: Segment, circuit: Gate) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        if permit is None:
            if not segment.shape.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            return await segment.shape.carry_async(segment, function, args, kwargs, [], None, circuit)
        try:
            result = await (function(*args, **kwargs) if kwargs else function(*args))
        except Exception as caught:
            failure = [caught]
        else:
            examine = segment.examine
            if examine is None or not examine(result):
                if circuit.calm is not permit:
                    _settle(circuit, permit, False)
                elif permit.note is not None:
                    permit.note(True)
                return result
            return await flow_async(segment, function, args, kwargs, [Returned(result)], permit, circuit)
        return await segment.shape.carry_async(segment, function, args, kwargs, failure, permit, circuit)

    return guarded


def _timed_sync(function: Sync, segment: Segment, circuit: Gate) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        if permit is None:
            if not segment.shape.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            return segment.shape.carry_sync(segment, function, args, kwargs, [], None, circuit)
        began = RUNTIME.monotonic()
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)
        except Exception as caught:
            took = RUNTIME.monotonic() - began
            failure = [caught]
        else:
            took = RUNTIME.monotonic() - began
            examine = segment.examine
            if examine is None or not examine(result):
                if took >= permit.slow_after or circuit.calm is not permit:
                    _settle(circuit, permit, took >= permit.slow_after)
                elif permit.note is not None:
                    permit.note(True)
                return result
            came = [Returned(result)]
            return flow_sync(segment, function, args, kwargs, came, permit, circuit, took)
        return segment.shape.carry_sync(segment, function, args, kwargs, failure, permit, circuit, took)

    return guarded


def _timed_async(function: Async, segment: Segment, circuit: Gate) -> Async:
    @functools.wraps(function)
    async def guarded(*args: object, **kwargs: object) -> object:
        permit = circuit.generation
        if permit is None:
            if not segment.shape.answered and (left := circuit.refusal()):
                raise CircuitOpenError(circuit.name, left, circuit.last)
            return await segment.shape.carry_async(segment, function, args, kwargs, [], None, circuit)
        began = RUNTIME.monotonic()
        try:
            result = await (function(*args, **kwargs) if kwargs else function(*args))
        except Exception as caught:
            took = RUNTIME.monotonic() - began
            failure = [caught]
        else:
            took = RUNTIME.monotonic() - began
            examine = segment.examine
            if examine is None or not examine(result):
                if took >= permit.slow_after or circuit.calm is not permit:
                    _settle(circuit, permit, took >= permit.slow_after)
                elif permit.note is not None:
                    permit.note(True)
                return result
            came = [Returned(result)]
            return await flow_async(segment, function, args, kwargs, came, permit, circuit, took)
        return await segment.shape.carry_async(segment, function, args, kwargs, failure, permit, circuit, took)

    return guarded


# A policy that must know of every call: no direct path.


def _flow_sync(function: Sync, segment: Segment, circuit: Gate | None) -> Sync:
    @functools.wraps(function)
    def guarded(*args: object, **kwargs: object) -> object:
        call = begin(function, args, kwargs, None, None, circuit)
        outcome = run_sync(segment.start(call), call, segment.classify)
        if isinstance(outcome, Returned):
            return outcome if segment.shape.marks and isinstance(outcome, Degraded) else outcome.value
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
            return outcome if segment.shape.marks and isinstance(outcome, Degraded) else outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, call

    return guarded


def _settle(circuit: Gate, permit: Permit, slow: bool) -> None:
    """Count a success that is news: something changed during the call, or it was slow."""
    circuit.settle(permit, Verdict.success, None, slow)
    tell_news(circuit)


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
