"""Bytes, objects and garbage: counted, not timed, so they repeat exactly."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

Loop = asyncio.AbstractEventLoop
COUNT: Final = 200
CALLS: Final = 200
TASKS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one thing takes."""

    bytes: int
    objects: int


def of_decorated(decorate: Callable[[Any], Any], functions: list[Any]) -> Footprint:
    """What a decorated function takes besides the function itself; mean of many."""
    decorate(functions[-1])  # first imports, caches
    kept: list[Any] = [None] * len(functions)
    gc.collect()
    gc.disable()
    objects = len(gc.get_objects())
    for index, function in enumerate(functions):
        kept[index] = decorate(function)
    objects = len(gc.get_objects()) - objects
    kept = [None] * len(functions)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for index, function in enumerate(functions):
        kept[index] = decorate(function)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    return Footprint(round((after - before) / len(functions)), round(objects / len(functions)))


def left_behind(decorate: Callable[[Any], Any], make: Callable[[], Any]) -> Footprint:
    """What stays after decorated functions are dropped; mean of many, rounded down."""

    def once() -> None:
        kept = [decorate(make()) for _ in range(COUNT)]
        kept.clear()
        gc.collect()

    once()
    once()
    objects = len(gc.get_objects())
    once()
    objects = len(gc.get_objects()) - objects
    tracemalloc.start()
    once()
    before, _ = tracemalloc.get_traced_memory()
    once()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Footprint(max(0, (after - before) // COUNT), max(0, objects // COUNT))


def of_calls(call: Callable[[int], Any], *, loop: Loop | None) -> Footprint:
    """Cyclic garbage (objects) and memory held after a collection (bytes) for each call; rounded down."""

    def many(times: int) -> None:
        for _ in range(times):
            with suppress(Exception):
                call(1)

    async def many_async(times: int) -> None:
        for _ in range(times):
            with suppress(Exception):
                await call(1)

    def run(times: int) -> None:
        if loop is None:
            many(times)
        else:
            loop.run_until_complete(many_async(times))

    run(50)
    gc.collect()
    gc.disable()
    run(CALLS)
    garbage = gc.collect()
    tracemalloc.start()
    run(CALLS)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    run(CALLS)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    return Footprint(max(0, (after - before) // CALLS), garbage // CALLS)


def _task(loop: Loop, guarded: Callable[[int], Any]) -> asyncio.Task[Any]:
    return loop.create_task(guarded(1))


def of_tasks(decorate: Callable[[Any], Callable[[int], Awaitable[Any]]], loop: Loop) -> int:
    """Bytes a task while all tasks wait inside the guarded function."""

    async def measure() -> int:
        gate: asyncio.Future[None] = loop.create_future()

        async def load(x: int) -> int:
            await gate
            return x

        guarded = decorate(load)
        await asyncio.gather(*[_turn() for _ in range(3)])
        gc.collect()
        gc.disable()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        waiting = [_task(loop, guarded) for _ in range(TASKS)]
        for _ in range(4):
            await _turn()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.enable()
        gate.set_result(None)
        await asyncio.gather(*waiting)
        return round((after - before) / TASKS)

    async def _turn() -> None:
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned

    return loop.run_until_complete(measure())
