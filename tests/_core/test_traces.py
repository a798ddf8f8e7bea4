"""What a failing call leaves behind: a traceback with user code and a driver in it, no context, no garbage."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_faces import (
    Breaker,
    CircuitOpenError,
    RetryableError,
    bulkhead,
    chain,
    circuit_breaker,
    deadline,
    fallback,
    guard,
    rate_limit,
    retry,
    timeout,
)
from resilient_faces.breaker import consecutive, slow_rate
from resilient_faces.flows import Call, Flow, Inner, Outcome
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script


class Again(RetryableError):
    pass


class DoNothing:
    quiet = False
    answers = False

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        return (yield from inner(call))


STACKS: dict[str, Callable[[], Any]] = {
    "retry": lambda: retry(attempts=3, jitter=none()),
    "breaker": lambda: circuit_breaker("db", failure_threshold=100),
    "stack": lambda: guard(fallback(value=0, on=KeyError), retry(attempts=3), circuit_breaker("db", 100)),
    "timed": lambda: guard(retry(attempts=3), Breaker("db", trips=slow_rate(1.0, slower_than=9.0, calls=100))),
    "keyed": lambda: guard(retry(attempts=3), Breaker("db", key=lambda *args: "k", trips=consecutive(100))),
    "flow": lambda: guard(DoNothing(), retry(attempts=3), circuit_breaker("db", 100)),
    "hooks": lambda: retry(attempts=3, before_sleep=lambda _: None, after_attempt=lambda _: None),
}
POLICY_FILES = ("retry/policy.py", "breaker/policy.py", "fallback.py", "composing.py", "flows.py", "effects.py")


def frames(error: BaseException) -> list[str]:
    """Files of a traceback, outermost first."""
    return [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]


# -- tracebacks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [name for name in STACKS if name != "keyed"])
@pytest.mark.parametrize("error", [Again, ValueError])
def test_a_traceback_holds_no_policy_frames(
    mode: Mode, clock: ManualRuntime, stack: str, error: type[Exception]
) -> None:
    """Caller, wrapper, driver, function: whoever reads it finds the function, not our machinery."""
    with pytest.raises(error) as caught:
        mode.run(STACKS[stack](), script(error))
    seen = frames(caught.value)
    assert not [name for name in seen if name.endswith(POLICY_FILES)]
    ours = [name for name in seen if "/resilient_faces/_core/" in name]
    assert len(ours) <= 3, ours
    assert seen[-1].endswith("testing/script.py")


def test_the_traceback_ends_in_the_user_s_line(clock: ManualRuntime) -> None:
    """Of the attempt whose error comes out."""

    @retry(attempts=2)
    def work() -> None:
        raise Again("here")

    with pytest.raises(Again) as caught:
        work()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, last.line) == ("work", 'raise Again("here")')


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_no_context_from_earlier_attempts(mode: Mode, clock: ManualRuntime, stack: str) -> None:
    """The last error stands alone: it did not happen while an earlier one was handled."""
    with pytest.raises(Again) as caught:
        mode.run(STACKS[stack](), script(Again("1"), Again("2"), Again("3")))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_the_caller_s_own_context_stays(clock: ManualRuntime) -> None:
    """A call made while an error is handled keeps that error as its context, as without a guard."""
    outer = ValueError("outer")
    try:
        try:
            raise outer
        except ValueError:
            retry(attempts=2)(script(Again("1"), Again("2")).function())()
    except Again as error:
        assert error.__context__ is outer  # noqa: PT017


def test_a_rejection_has_no_context(mode: Mode, clock: ManualRuntime) -> None:
    """An open circuit's error is a fresh object each time, and says nothing of other calls."""
    breaker = guard(retry(), circuit_breaker("db", failure_threshold=1))
    function = breaker(mode.function(script(Again())))
    errors = []
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as caught:
            mode.call(function)
        errors.append(caught.value)
    assert len({id(one) for one in errors}) == 3
    assert [one.__context__ for one in errors] == [None] * 3


def test_the_error_of_a_failing_fallback_shows_what_it_answered_for(mode: Mode, clock: ManualRuntime) -> None:
    """The one context that is meant."""
    first = Again("first")

    def broken() -> object:
        raise KeyError("second")

    with pytest.raises(KeyError) as caught:
        mode.run(fallback(function=broken), script(first))
    assert caught.value.__context__ is first


# -- garbage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def set_aside() -> Iterator[None]:
    """What was there before is not looked through again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_collector(set_aside: None) -> Iterator[None]:
    """What only the cyclic collector could free stays to be counted."""
    gc.disable()
    yield
    gc.enable()


SCRIPTS: dict[str, tuple[object, ...]] = {
    "success": ("ok",),
    "recovers": (Again, Again, "ok"),
    "fails": (Again,),
    "not retryable": (ValueError,),
    "interrupted": (KeyboardInterrupt,),
    "interrupted later": (Again, KeyboardInterrupt),
}
JOINTS: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: guard(retry(attempts=3), bulkhead(2)),
    "limiter": lambda: guard(retry(attempts=3), rate_limit(1000.0)),
    "deadline": lambda: guard(deadline(100.0), retry(attempts=3)),
    "timeout": lambda: guard(retry(attempts=3), timeout(20.0)),
    "fallback": lambda: guard(fallback(value=0), retry(attempts=3), circuit_breaker("db", 100)),
    "fallback function": lambda: guard(fallback(function=lambda *_: 0), retry(attempts=3)),
    "failing fallback": lambda: guard(fallback(function=lambda *_: {}["x"]), retry(attempts=3)),
    "chain": lambda: chain(lambda *_: {}["x"], lambda *_: 5),
    "results": lambda: retry(on_result=lambda value: value == "ok", attempts=2),
}


def fresh_errors(lines: tuple[object, ...]) -> Callable[[], object]:
    """A function that raises new errors, and holds on to none of them."""
    count = 0

    def work() -> object:
        nonlocal count
        line = lines[min(count, len(lines) - 1)]
        count += 1
        if isinstance(line, type):
            raise line("x")
        return line

    return work


def swallow(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:
        pass


def garbage_of(call: Callable[[], None]) -> int:
    """Objects that only the cyclic collector can free after one more call, first uses aside."""
    for _ in range(3):
        call()
    gc.collect()
    call()
    return gc.collect()


@pytest.mark.parametrize("lines", sorted(SCRIPTS))
@pytest.mark.parametrize("stack", [*STACKS, *JOINTS])
def test_sync_calls_leave_no_cyclic_garbage(clock: ManualRuntime, no_collector: None, stack: str, lines: str) -> None:
    """On every path: what a call made goes with its last reference."""
    policy = {**STACKS, **JOINTS}[stack]()

    def once() -> None:
        swallow(functools.partial(policy.call, fresh_errors(SCRIPTS[lines])))

    assert garbage_of(once) == 0


@pytest.mark.parametrize("lines", [name for name in SCRIPTS if "interrupted" not in name])
@pytest.mark.parametrize("stack", [*STACKS, *JOINTS])
def test_async_calls_leave_no_cyclic_garbage(clock: ManualRuntime, no_collector: None, stack: str, lines: str) -> None:
    """The same for coroutines, in one loop."""
    policy = {**STACKS, **JOINTS}[stack]()
    found: list[int] = []

    async def once() -> None:
        work = fresh_errors(SCRIPTS[lines])

        async def awork() -> object:
            return work()

        try:
            await policy.acall(awork)
        except Exception:
            pass

    async def main() -> None:
        for _ in range(3):
            await once()
        gc.collect()
        await once()
        found.append(gc.collect())

    asyncio.run(main())
    assert found == [0]


def test_an_open_circuit_leaves_no_garbage(clock: ManualRuntime, no_collector: None) -> None:
    """Neither refused at once nor answered by a fallback."""
    for policy in (circuit_breaker("a", 1), guard(fallback(value=0), circuit_breaker("b", 1))):
        function = policy(fresh_errors((Again,)))
        assert garbage_of(functools.partial(swallow, function)) == 0


def test_a_cancelled_task_leaves_no_garbage(resilience: None, no_collector: None) -> None:
    """Cancelled in an attempt, and in the wait after one."""
    found: list[int] = []
    policy = guard(retry(backoff=30.0), circuit_breaker("db", 100))

    async def hang() -> None:
        await asyncio.sleep(30)

    async def fail() -> None:
        raise Again

    async def once(function: Any) -> None:
        task = asyncio.ensure_future(policy.acall(function))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def main() -> None:
        for function in (hang, fail):
            for _ in range(3):
                await once(function)
            gc.collect()
            await once(function)
            found.append(gc.collect())

    asyncio.run(main())
    assert found == [0, 0]


@pytest.mark.parametrize("limit", [timeout, deadline])
def test_a_task_under_a_time_limit_leaves_no_garbage(
    resilience: None, no_collector: None, limit: Callable[[float], Any]
) -> None:
    """Cut off or failed: its error's traceback holds the frames that the limit was in."""
    found: list[int] = []
    policy = limit(0.002)

    async def hang() -> None:
        await asyncio.sleep(30)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Again

    async def once(function: Any) -> None:
        ended = asyncio.get_running_loop().create_future()
        asyncio.ensure_future(policy.acall(function)).add_done_callback(
            lambda task: ended.set_result(isinstance(task.exception(), (Again, TimeoutError)))
        )
        assert await ended

    async def main() -> None:
        for function in (hang, fail):
            for _ in range(3):
                await once(function)
            await asyncio.sleep(0.01)
            gc.collect()
            await once(function)
            await asyncio.sleep(0.01)
            found.append(gc.collect())

    asyncio.run(main())
    assert found == [0, 0]


def test_the_last_attempt_runs_without_the_error_before_it(clock: ManualRuntime) -> None:
    """While a later attempt runs, nothing of ours holds the frames of an earlier failure."""
    seen: list[int] = []

    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    @retry(attempts=2)
    def work() -> str:
        seen.append(Big.alive)
        big = Big()
        if len(seen) == 1:
            raise Again
        return str(type(big))

    gc.disable()
    try:
        work()
    finally:
        gc.enable()
    assert seen == [0, 0]
    assert sys.exc_info() == (None, None, None)
