"""One point in time for everything inside: attempts, waits, queues, worker threads, nested guards."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from resilient_faces import (
    DeadlineExceededError,
    OptionError,
    bulkhead,
    deadline,
    guard,
    rate_limit,
    remaining,
    report,
    retry,
    timeout,
)
from resilient_faces.retry import none
from resilient_faces.testing import Hang, ManualRuntime, Mode, script


def test_without_one_nothing_remains(mode: Mode, clock: ManualRuntime) -> None:
    """None, which is not zero."""
    assert mode.call(mode.wrap(remaining)) is None


def test_what_remains(mode: Mode, clock: ManualRuntime) -> None:
    """It counts down inside and is gone outside."""
    seen: list[float | None] = []

    def work() -> None:
        seen.append(remaining())
        clock.advance(4.0)
        seen.append(remaining())
        clock.advance(100.0)
        seen.append(remaining())

    mode.call(deadline(10.0)(mode.wrap(work)))
    assert seen == [10.0, 6.0, 0.0]
    assert remaining() is None


@pytest.mark.parametrize(("outer", "inner", "left"), [(10.0, 3.0, 3.0), (3.0, 10.0, 3.0)])
def test_the_nearest_counts(mode: Mode, clock: ManualRuntime, outer: float, inner: float, left: float) -> None:
    """A nested guard cannot give itself more time."""
    seen: list[float | None] = []
    inside = deadline(inner)(mode.wrap(lambda: seen.append(remaining())))
    mode.call(deadline(outer)(inside))
    assert seen == [left]


def test_no_wait_that_would_end_after_it(mode: Mode, clock: ManualRuntime) -> None:
    """The retry gives up at once with the real error, instead of sleeping for nothing."""
    scripted = script(ConnectionResetError())
    with pytest.raises(ConnectionResetError) as caught:
        mode.run(guard(deadline(5.0), retry(attempts=10, backoff=2.0, jitter=none())), scripted)
    assert clock.slept == [2.0, 2.0]
    assert scripted.count == 3
    assert "deadline" in report(caught.value).stopped


def test_attempts_use_it_up(mode: Mode, clock: ManualRuntime) -> None:
    """The time that calls take counts as well as waits."""
    scripted = script(Hang(4.0, ConnectionResetError()))
    with pytest.raises(ConnectionResetError):
        mode.run(guard(deadline(5.0), retry(attempts=10, backoff=2.0, jitter=none())), scripted)
    assert scripted.count == 1


def test_nothing_starts_after_it(mode: Mode, clock: ManualRuntime) -> None:
    """A guard inside a deadline that has passed does not call its function."""
    scripted = script("late")
    inner = deadline(60.0)(mode.function(scripted))

    if mode.is_async:

        async def work() -> object:
            clock.advance(20.0)
            return await inner()  # type: ignore[misc]

    else:

        def work() -> object:  # type: ignore[misc]
            clock.advance(20.0)
            return inner()

    with pytest.raises(DeadlineExceededError, match="the deadline of 'scripted' has passed"):
        mode.call(deadline(10.0)(work))
    assert scripted.count == 0


def test_it_is_our_own_no(clock: ManualRuntime, mode: Mode) -> None:
    """A rejection: no retry repeats it, and it is a TimeoutError for those who catch those."""
    error = DeadlineExceededError("x", None)
    assert isinstance(error, TimeoutError)
    scripted = script(error)
    with pytest.raises(DeadlineExceededError):
        mode.run(retry(attempts=5), scripted)
    assert scripted.count == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_code_is_cut_off(resilience: None, backend: str) -> None:
    """At the deadline, and its clean-up runs."""
    cleaned: list[str] = []

    @deadline(0.01)
    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append("up")

    with pytest.raises(DeadlineExceededError, match="hang"):
        anyio.run(hang, backend=backend)
    assert cleaned == ["up"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_of_the_function_is_its_own(resilience: None, backend: str) -> None:
    """It is not mistaken for the deadline's."""
    own = TimeoutError("mine")

    @deadline(10.0)
    async def work() -> None:
        raise own

    with pytest.raises(TimeoutError) as caught:
        anyio.run(work, backend=backend)
    assert caught.value is own


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancellation_from_outside_passes(resilience: None, backend: str) -> None:
    """Who cancels the caller does not get a DeadlineExceededError."""
    seen: list[str] = []

    @deadline(10.0)
    async def hang() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await hang()
            seen.append("not reached")
        seen.append("moved on")

    anyio.run(main, backend=backend)
    assert seen == ["moved on"]


def test_it_crosses_worker_threads(resilience: None) -> None:
    """What remains is known where blocking code runs under a time limit."""
    seen: list[float | None] = []
    guarded = guard(deadline(10.0), timeout(5.0))(lambda: seen.append(remaining()))
    guarded()
    guard(deadline(5.0), timeout(10.0))(lambda: seen.append(remaining()))()
    assert all(left is not None and 4.0 < left <= 5.0 for left in seen), seen
    assert len(seen) == 2


def test_it_crosses_tasks(resilience: None) -> None:
    """Tasks started inside inherit it; tasks beside do not."""
    seen: dict[str, float | None] = {}

    async def note(name: str) -> None:
        seen[name] = remaining()

    @deadline(10.0)
    async def work() -> None:
        await asyncio.create_task(note("inside"))

    async def main() -> None:
        await asyncio.gather(work(), note("beside"))

    asyncio.run(main())
    assert seen["inside"] is not None
    assert seen["beside"] is None


def test_queues_end_with_it(resilience: None) -> None:
    """A bulkhead waits no longer than what remains."""
    limit = bulkhead(1, max_waiting=1)
    with limit, pytest.raises(Exception, match="bulkhead 'bulkhead' is full"):
        guard(deadline(0.02), limit).call(lambda: None)


def test_limiters_end_with_it(mode: Mode, clock: ManualRuntime) -> None:
    """A slot beyond the deadline is refused at once, and not taken."""
    limiter = rate_limit(1.0)
    limiter.reserve_batch(10)
    with pytest.raises(Exception, match="no slot soon enough"):
        mode.run(guard(deadline(5.0), limiter), script("unused"))
    assert clock.slept == []
    assert limiter.reserve() == 10.0


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_as_a_block(clock: ManualRuntime, asynchronous: bool) -> None:
    """The block is asked to look at `remaining()`; afterwards all is as before."""
    policy = deadline(10.0)
    seen: list[float | None] = []
    if asynchronous:

        async def main() -> None:
            async with policy:
                seen.append(remaining())
            seen.append(remaining())

        asyncio.run(main())
    else:
        with policy:
            seen.append(remaining())
        seen.append(remaining())
    assert seen == [10.0, None]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), "5", True])
def test_options_are_checked(resilience: None, seconds: object) -> None:
    """Seconds are more than zero."""
    with pytest.raises(OptionError, match=r"Deadline\.seconds must be more than 0 seconds; got"):
        deadline(seconds)  # type: ignore[arg-type]
