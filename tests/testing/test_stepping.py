"""A clock that stands still until the test lets time pass, whatever sleeps in the background."""

from __future__ import annotations

import anyio
import pytest

from resilient_faces._core.runtime import RUNTIME
from resilient_faces.testing import SteppedRuntime, settle

pytestmark = [pytest.mark.usefixtures("resilience"), pytest.mark.parametrize("backend", ["asyncio", "trio"])]


def test_sleepers_wake_in_order_and_time_waits_for_them(backend: str) -> None:
    """Each finishes what it does, at its own time, before the next wakes; nobody who sleeps longer wakes at all."""
    woke: list[tuple[str, float]] = []

    async def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            await RUNTIME.asleep(pause)
            await anyio.lowlevel.checkpoint()
            woke.append((name, RUNTIME.monotonic()))

    async def main() -> None:
        with SteppedRuntime(0.0).installed() as clock:
            async with anyio.create_task_group() as group:
                group.start_soon(sleeper, "a", 1.0, 1.0, 5.0)
                group.start_soon(sleeper, "b", 1.5, 100.0)
                await clock.elapse(3.0)
                assert clock.now == 3.0
                assert woke == [("a", 1.0), ("b", 1.5), ("a", 2.0)]
                group.cancel_scope.cancel()
            await clock.elapse(1000.0)  # whoever was cancelled sleeps no more
            assert len(woke) == 3

    anyio.run(main, backend=backend)


def test_settling_waits_for_everybody(backend: str) -> None:
    """However many turns they take."""
    done: list[int] = []

    async def busy() -> None:
        for number in range(50):
            await anyio.lowlevel.checkpoint()
            done.append(number)
        await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(busy)
            await settle()
            assert len(done) == 50
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_after_a_shutdown_nobody_sleeps(backend: str) -> None:
    """As with the process's own runtime."""

    async def main() -> None:
        with SteppedRuntime().installed() as clock:
            RUNTIME.stop()
            await RUNTIME.asleep(1000.0)
            assert clock.now == 1000.0

    anyio.run(main, backend=backend)
