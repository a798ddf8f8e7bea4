"""Take samples: ns per call of a function in a short, tight loop, with the garbage collector off.

One thread's samples are its own CPU time: on a shared machine a long call is more likely to lose its core in the middle
of a sample than a short one, and on the wall clock that would look like the long call's fault.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter_ns, thread_time_ns
from typing import Any, Final

Loop = asyncio.AbstractEventLoop
Nothing = Callable[[], None]
Sample = Callable[[Any, int, Loop], float]

SHORTEST: Final = 20
LONGEST: Final = 50_000


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep the garbage collector out of a sample."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calls(function: Callable[[int], Any], times: int, _loop: Loop) -> float:
    """Call a function that returns."""
    turns = repeat(None, times)
    began = thread_time_ns()
    for _ in turns:
        function(1)
    return (thread_time_ns() - began) / times


def timed_calls(function: Callable[[int], Any], times: int, _loop: Loop) -> float:
    """As `calls`, by the clock on the wall, for calls that sleep."""
    turns = repeat(None, times)
    began = perf_counter_ns()
    for _ in turns:
        function(1)
    return (perf_counter_ns() - began) / times


def raising_calls(function: Callable[[int], Any], times: int, _loop: Loop) -> float:
    """Call a function that raises, and catch it."""
    turns = repeat(None, times)
    began = thread_time_ns()
    for _ in turns:
        try:
            function(1)
        except Exception:  # whatever the peer raises
            pass
    return (thread_time_ns() - began) / times


def method_calls(holder: Any, times: int, _loop: Loop) -> float:
    """Look `load` up on an object or a class, and call it."""
    turns = repeat(None, times)
    began = thread_time_ns()
    for _ in turns:
        holder.load(1)
    return (thread_time_ns() - began) / times


def awaits(function: Callable[[int], Awaitable[Any]], times: int, loop: Loop) -> float:
    """Await a coroutine function that returns."""

    async def sample() -> float:
        turns = repeat(None, times)
        began = thread_time_ns()
        for _ in turns:
            await function(1)
        return (thread_time_ns() - began) / times

    return loop.run_until_complete(sample())


def raising_awaits(function: Callable[[int], Awaitable[Any]], times: int, loop: Loop) -> float:
    """Await a coroutine function that raises, and catch it."""

    async def sample() -> float:
        turns = repeat(None, times)
        began = thread_time_ns()
        for _ in turns:
            try:
                await function(1)
            except Exception:
                pass
        return (thread_time_ns() - began) / times

    return loop.run_until_complete(sample())


THREADS: Final = 8


def threaded_calls(function: Callable[[int], Any], times: int, _loop: Loop) -> float:
    """Call from eight threads at once; wall time over all their calls."""
    gate = threading.Barrier(THREADS + 1)

    def run() -> None:
        turns = repeat(None, times)
        gate.wait()
        for _ in turns:
            function(1)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = perf_counter_ns()
    for thread in threads:
        thread.join()
    return (perf_counter_ns() - began) / (times * THREADS)


def tasks(function: Callable[[int], Awaitable[Any]], times: int, loop: Loop) -> float:
    """Run that many tasks at once, each awaiting the function once."""

    async def sample() -> float:
        began = thread_time_ns()
        await asyncio.gather(*[loop.create_task(function(1)) for _ in range(times)])  # type: ignore[arg-type]
        return (thread_time_ns() - began) / times

    return loop.run_until_complete(sample())


def decorations(decorate: Callable[[int], Any], times: int, _loop: Loop) -> float:
    """Decorate that many functions; each result is kept until the sample is over."""
    kept: list[Any] = []
    keep = kept.append
    began = thread_time_ns()
    for index in range(times):
        keep(decorate(index))
    return (thread_time_ns() - began) / times


def nothing() -> None:
    """No preparation."""


@dataclass(slots=True)
class Subject:
    """One thing to time.

    Attributes:
        target: What the sample calls.
        enter: Called before each sample, outside the clock.
        leave: Called after each sample, outside the clock.
        times: Calls a sample, set by `calibrate`.
    """

    target: Any
    enter: Nothing = nothing
    leave: Nothing = nothing
    times: int = 0


@dataclass(slots=True)
class Readings:
    """The readings of one subject: ns per call, and the ratio to the baseline samples just before and after."""

    ns: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def take(sample: Sample, subject: Subject, loop: Loop) -> float:
    """One sample, in ns per call."""
    subject.enter()
    try:
        with no_collector():
            return sample(subject.target, subject.times, loop)
    finally:
        subject.leave()


def calibrate(sample: Sample, subject: Subject, loop: Loop, budget_ns: float, fixed: int) -> None:
    """Choose how many calls make a sample of about the budget; `fixed` calls if it is not zero."""
    if fixed:
        subject.times = fixed
        take(sample, subject, loop)
        return
    subject.times = SHORTEST
    take(sample, subject, loop)  # warm: caches, specialisation, first imports
    subject.times = 100
    cost = min(take(sample, subject, loop) for _ in range(3))
    subject.times = max(SHORTEST, min(LONGEST, int(budget_ns / max(cost, 1.0))))


def interleave(
    sample: Sample,
    baseline: Subject,
    ours: Subject,
    others: dict[str, Subject],
    *,
    plain: Subject | None,
    loop: Loop,
    rounds: int,
    every: int,
    budget_ns: float,
    fixed: int = 0,
) -> dict[str, Readings]:
    """Alternate the baseline with ours (and `plain`) in each round, and with the others in every so many rounds.

    Returns:
        Readings by name: `baseline`, `ours`, `plain` if there is one, and each of the others.
    """
    often = {"ours": ours} if plain is None else {"ours": ours, "plain": plain}
    subjects = {"baseline": baseline, **often, **others}
    for subject in subjects.values():
        calibrate(sample, subject, loop, budget_ns, fixed)
    readings = {name: Readings() for name in subjects}
    before = take(sample, baseline, loop)
    for turn in range(rounds):
        for name in (*often, *others) if turn % every == 0 else tuple(often):
            ns = take(sample, subjects[name], loop)
            after = take(sample, baseline, loop)
            readings[name].ns.append(ns)
            readings[name].ratios.append(2.0 * ns / (before + after))
            readings["baseline"].ns.append(after)
            before = after
        if turn % 8 == 0:
            gc.collect()  # what some peers leave behind must not pile up
    return readings


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
