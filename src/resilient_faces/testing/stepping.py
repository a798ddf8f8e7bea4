"""A manual clock for code that has tasks in the background."""

from __future__ import annotations

import heapq
import itertools
from typing import Any, Final

from resilient_faces._core.runtime import RUNTIME, ManualRuntime, running_asyncio

__all__ = ["SteppedRuntime", "settle"]

_PATIENCE: Final = 100_000  # turns of the event loop, for tasks that never come to rest
_QUIET: Final = 5  # turns of asyncio's loop in which nobody moves: a cancellation takes a turn to reach its task


async def settle() -> None:
    """Let all other tasks of this event loop run until each of them waits for something."""
    if not running_asyncio():
        from trio.testing import wait_all_tasks_blocked

        await wait_all_tasks_blocked()
        return
    import asyncio

    me, quiet = asyncio.current_task(), 0
    for _ in range(_PATIENCE):
        await asyncio.sleep(0)
        waiting = (getattr(task, "_fut_waiter", None) for task in asyncio.all_tasks() if task is not me)
        quiet = quiet + 1 if all(waiter is not None and not waiter.done() for waiter in waiting) else 0
        if quiet == _QUIET:
            return
    raise RuntimeError("settle: some task never waits for anything")


class SteppedRuntime(ManualRuntime):
    """As `ManualRuntime`, but a task that sleeps waits until the test lets so much time pass.

    With the manual runtime a background loop that sleeps and looks around lets hours pass while the test waits for
    something else. Here time stands still until `elapse`, and whoever wakes ends what they do before the next wakes.

        with SteppedRuntime().installed() as clock:
            async with Sessions(...) as sessions:
                await clock.elapse(120.0)
    """

    def __init__(self, now: float = 1000.0, **options: Any) -> None:
        super().__init__(now, **options)
        self._sleepers: list[tuple[float, int, Any]] = []
        self._numbers = itertools.count()

    async def asleep(self, seconds: float) -> None:
        """Wait until so much time was let pass."""
        import anyio

        if seconds <= 0.0 or RUNTIME.stopped:
            await anyio.lowlevel.checkpoint()
            return
        self.slept.append(seconds)
        sleeper = (self.now + seconds, next(self._numbers), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def elapse(self, seconds: float = 0.0) -> None:
        """Let so much time pass, from one sleeper's end to the next; in between all tasks come to rest."""
        until = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            woken.set()
            await settle()
        self.now = until
