"""How cheap a retried call can be at all: the same duties with everything else taken out, written flat and as a flow.

`python -m bench.floor` prints ratios to the minimal loop, which has no duties. The duties are those that a retry here
never leaves out: classify the error, draw a jittered delay, mind the deadline, tell the attempt's number by context,
keep what the report needs, look whether anybody listens, and not block an event loop unnoticed.

`flat` is one loop in one function: it would have to be written again for async code, and again for each combination
with a breaker and a fallback. `flow` is one generator and the smallest driver for it: that rule exists once. What is
between the two is the price of writing each rule once, and what is above `flow` is ours.
"""

from __future__ import annotations

import argparse
import contextvars
import json
import logging
import platform
import random
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, Final

from bench import sampling
from bench.workloads import ATTEMPTS, Down, Function, flaky, minimal_loop

DEADLINE: Final[contextvars.ContextVar[float | None]] = contextvars.ContextVar("deadline", default=None)
NUMBER: Final[contextvars.ContextVar[list[Any] | None]] = contextvars.ContextVar("number", default=None)
LOG: Final = logging.getLogger("bench.floor")
KINDS: Final[dict[type[BaseException], str]] = {Down: "unavailable"}
BASE, FACTOR, CAP = 0.1, 2.0, 30.0

chance = random.Random(1).random
clock = time.monotonic


def doze(_seconds: float) -> None:
    """Stand in for the sleep."""


def looping() -> bool:
    """Whether this thread runs an event loop."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001


class Report:
    """What stays on an error that comes out."""

    def __init__(self, faults: list[str], delays: list[float], elapsed: float) -> None:
        self.faults, self.delays, self.elapsed = faults, delays, elapsed


def flat(function: Function) -> Function:
    """All duties in one loop."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            fault = KINDS.get(type(error))
            if fault is None:
                raise
        outer = NUMBER.get()
        began = clock()
        faults, delays = [fault], [0.0]
        heard = LOG.isEnabledFor(logging.INFO)
        link = [1, function, outer]
        NUMBER.set(link)
        try:
            while True:
                attempt = link[0]
                delay = min(CAP, BASE * FACTOR ** (attempt - 1)) * chance()
                until = DEADLINE.get()
                if until is not None and clock() + delay >= until:
                    raise TimeoutError
                if heard:
                    LOG.info("retry")
                if attempt == 1:
                    looping()
                doze(delay)
                delays.append(delay)
                link[0] = attempt + 1
                try:
                    return function(*args, **kwargs)
                except Exception as error:
                    fault = KINDS.get(type(error))
                    if fault is None:
                        raise
                    faults.append(fault)
                    if attempt + 1 >= ATTEMPTS:
                        error.report = Report(faults, delays, clock() - began)  # type: ignore[attr-defined]
                        raise
        finally:
            NUMBER.set(outer)

    return call


ATTEMPT: Final = object()


class Raised:
    """An error with its fault."""

    __slots__ = ("error", "fault")


class Returned:
    """A value."""

    __slots__ = ("value",)

    fault = None


def rule(function: Function, outcome: Any) -> Generator[Any, Any, Any]:
    """The same duties as decisions; whoever drives it calls and sleeps."""
    outer = NUMBER.get()
    began = clock()
    faults: list[str] = []
    delays: list[float] = []
    heard = LOG.isEnabledFor(logging.INFO)
    link = [1, function, outer]
    NUMBER.set(link)
    try:
        while True:
            faults.append(outcome.fault)
            attempt = link[0]
            if attempt >= ATTEMPTS:
                outcome.error.report = Report(faults, delays, clock() - began)
                return outcome
            delay = min(CAP, BASE * FACTOR ** (attempt - 1)) * chance()
            until = DEADLINE.get()
            if until is not None and clock() + delay >= until:
                return outcome
            if heard:
                LOG.info("retry")
            yield delay
            del outcome
            delays.append(delay)
            link[0] = attempt + 1
            outcome = yield ATTEMPT
            if outcome.fault is None:
                return outcome
    finally:
        NUMBER.set(outer)


def drive(flow: Generator[Any, Any, Any], function: Function, args: Any, kwargs: Any) -> Any:
    """Carry out what the rule asks for."""
    answer: Any = None
    wary = True
    send = flow.send
    try:
        while True:
            request = send(answer)
            if request is ATTEMPT:
                try:
                    answer = Returned()
                    answer.value = function(*args, **kwargs)
                except Exception as error:
                    answer = Raised()
                    answer.error = error
                    answer.fault = KINDS.get(type(error))
            else:
                answer = None
                if wary:
                    wary = looping()
                doze(request)
    except StopIteration as stop:
        return stop.value
    finally:
        answer = None


def flowing(function: Function) -> Function:
    """The direct path in front of the rule."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            first = Raised()
            first.error = error
            first.fault = KINDS.get(type(error))
        flow = rule(function, first)
        del first
        outcome = drive(flow, function, args, kwargs)
        if outcome.fault is None:
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome

    return call


def ratios(make: Callable[[Function], Function], rounds: int) -> float:
    """How many minimal loops a call with two failures costs."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        readings = sampling.interleave(
            sampling.calls,
            sampling.Subject(minimal_loop(flaky())),
            sampling.Subject(make(flaky())),
            {},
            plain=None,
            loop=loop,
            rounds=rounds,
            every=1,
            budget_ns=400_000.0,
        )
    finally:
        loop.close()
    return round(sampling.middle(readings["ours"].ratios), 2)


def main() -> None:
    """Print the ratios as JSON, ours beside them."""
    argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__).parse_args()
    from bench import ours

    ours.quiet()
    forms = {"flat": flat, "flow": flowing, "ours": ours.retries()}
    found = {name: ratios(make, 41) for name, make in forms.items()}
    json.dump({"python": platform.python_version(), "two-failures-sync": found}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
