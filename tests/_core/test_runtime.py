"""Clock, chance, context, options, workers, deadlines, and what a forked child renews."""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from resilient_faces import (
    CallTimeoutError,
    DeadlineExceededError,
    OptionError,
    RetryableError,
    UnknownOptionError,
    current_attempt,
    deadline,
    fallback,
    guard,
    last_outcome,
    remaining,
    request,
    retry,
    timeout,
)
from resilient_faces._core import workers
from resilient_faces._core.context import ATTEMPTS, REQUEST, amplification
from resilient_faces._core.options import Checks
from resilient_faces._core.outcome import name_of
from resilient_faces._core.runtime import RUNTIME, Runtime
from resilient_faces.retry import none
from resilient_faces.testing import Hang, ManualRuntime, Mode, fresh, script


class Again(RetryableError):
    pass


# -- the runtime ---------------------------------------------------------------------------------------------------


def test_a_manual_clock_moves_only_when_told(clock: ManualRuntime) -> None:
    """Both clocks move together, and sleeping is moving."""
    assert (RUNTIME.monotonic(), RUNTIME.wall()) == (1000.0, 1_700_001_000.0)
    clock.advance(5.0)
    RUNTIME.sleep(2.0)
    asyncio.run(RUNTIME.asleep(3.0))  # type: ignore[arg-type]
    assert (RUNTIME.monotonic(), RUNTIME.wall()) == (1010.0, 1_700_001_010.0)
    assert clock.slept == [2.0, 3.0]


def test_chance_is_what_the_test_sets(clock: ManualRuntime) -> None:
    """A number, or a function that draws."""
    assert RUNTIME.random() == 0.5
    clock.chance = iter([0.1, 0.2]).__next__
    assert [RUNTIME.random(), RUNTIME.random()] == [0.1, 0.2]


def test_the_real_runtime_is_back_after_a_test() -> None:
    """Nested ones come back in order."""
    before = RUNTIME.monotonic
    with ManualRuntime(now=5.0).installed():
        with ManualRuntime(now=7.0).installed():
            assert RUNTIME.monotonic() == 7.0
        assert RUNTIME.monotonic() == 5.0
    assert RUNTIME.monotonic == before


def test_the_real_runtime(resilience: None) -> None:
    """Its clocks run, its chances are from [0, 1), and no seconds are no sleep."""
    began = RUNTIME.monotonic()
    RUNTIME.sleep(0.01)
    assert RUNTIME.monotonic() - began >= 0.009
    RUNTIME.sleep(0.0)
    RUNTIME.sleep(-5.0)
    assert abs(RUNTIME.wall() - time.time()) < 5.0
    assert all(0.0 <= RUNTIME.random() < 1.0 for _ in range(100))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_real_async_sleep(resilience: None, backend: str) -> None:
    """Under both libraries."""

    async def main() -> float:
        began = time.monotonic()
        await RUNTIME.asleep(0.01)
        return time.monotonic() - began

    assert 0.009 <= anyio.run(main, backend=backend) < 5.0


def test_two_runtimes_draw_differently() -> None:
    """Chance comes from the system, not from a seed."""
    assert [Runtime().random() for _ in range(3)] != [Runtime().random() for _ in range(3)]


# -- fork ----------------------------------------------------------------------------------------------------------

FORK = """
import json, os, threading
from resilient_faces import Breaker, RetryableError
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._core import workers
from resilient_faces.breaker import consecutive
{before}
children = []
for _ in range(3):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps({in_child}).encode())
        os._exit(0)
    os.close(write)
    children.append(read)
print(json.dumps([json.loads(os.read(one, 65536)) for one in children]))
"""


def forked(tmp_path: Path, in_child: str, before: str = "") -> list[Any]:
    """What three forked children of a fresh interpreter say."""
    code = FORK.format(before=before, in_child=in_child)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: list[Any] = json.loads(done.stdout)
    return found


needs_fork = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.other_platform,
]


class TestFork:
    pytestmark = needs_fork

    def test_each_child_draws_its_own_chances(self, tmp_path: Path) -> None:
        """Workers of a prefork server must not back off in step."""
        draws = forked(tmp_path, "[RUNTIME.random() for _ in range(4)]", "RUNTIME.random()")
        assert len({tuple(one) for one in draws}) == 3

    def test_a_chance_that_somebody_set_is_left_alone(self, tmp_path: Path) -> None:
        """Also one that is a plain function; the rest is renewed all the same."""
        before = "RUNTIME.random = lambda: 0.25\nold = RUNTIME.stopping"
        assert forked(tmp_path, "[RUNTIME.random(), RUNTIME.stopping is old]", before) == [[0.25, False]] * 3

    def test_a_lock_that_was_held_is_renewed(self, tmp_path: Path) -> None:
        """A fork in the middle of another thread's bookkeeping must not freeze the child."""
        before = "b = Breaker('db', trips=consecutive(1)); b.circuit._new_lock().acquire()"
        assert forked(tmp_path, "b.circuit.snapshot().state.value", before) == ["closed"] * 3

    def test_workers_are_started_afresh(self, tmp_path: Path) -> None:
        """A child inherits no threads."""
        assert forked(tmp_path, "workers.run(lambda: 5, 10.0)", "workers.run(lambda: 1, 10.0)") == [5] * 3

    def test_a_shutdown_that_was_asked_for_stays_asked_for(self, tmp_path: Path) -> None:
        """The event is a new one, its meaning is not."""
        before = "import resilient_faces; resilient_faces.shutdown()"
        assert forked(tmp_path, "RUNTIME.stopping.is_set()", before) == [True] * 3
        assert forked(tmp_path, "RUNTIME.stopping.is_set()") == [False] * 3


# -- context -------------------------------------------------------------------------------------------------------


def test_amplification_multiplies_along_the_chain(clock: ManualRuntime) -> None:
    """Third attempt of an inner guard in the second of an outer one: six calls at least."""
    seen: list[int] = []

    @retry(attempts=3)
    def inner() -> None:
        seen.append(amplification(ATTEMPTS.get()))
        raise Again

    with pytest.raises(Again):
        retry(attempts=2)(inner.__call__)()
    assert seen == [1, 2, 3, 2, 4, 6]
    assert amplification(ATTEMPTS.get()) == 1


def test_last_outcome_tells_of_a_degraded_answer(mode: Mode, clock: ManualRuntime) -> None:
    """For bare values, which cannot say so themselves; a call that simply succeeds writes nothing."""
    seen: list[Any] = []
    function = fallback(value=0, name="zero")(mode.function(script(Again(), "ok")))

    if mode.is_async:

        async def both() -> None:
            assert last_outcome() is None
            await function()  # type: ignore[misc]
            seen.append(last_outcome())
    else:

        def both() -> None:  # type: ignore[misc]
            assert last_outcome() is None
            function()
            seen.append(last_outcome())

    mode.call(both)
    assert (seen[0].source, seen[0].degraded, seen[0].fault.code) == ("zero", True, "Again")


def test_request_comes_back_after_an_error(resilience: None) -> None:
    """The block's names end with it, however it ends."""
    with pytest.raises(Again), request("id", step="s") as info:
        raise Again
    assert (info.id, info.step) == ("id", "s")
    assert REQUEST.get().id == ""


def test_context_crosses_our_worker_threads(resilience: None) -> None:
    """Request, deadline and attempt are known in the thread that a time limit makes."""
    seen: list[object] = []

    @guard(retry(attempts=2, backoff=0.0), timeout(10.0))
    def work() -> None:
        seen.append((REQUEST.get().id, remaining() is not None, current_attempt(), threading.current_thread().name))
        if len(seen) == 1:
            raise Again

    with request("id-7"), deadline(60.0):
        work()
    assert [one[:3] for one in seen] == [("id-7", True, 1), ("id-7", True, 2)]  # type: ignore[index]
    assert seen[0][3] != threading.current_thread().name  # type: ignore[index]


def test_tasks_do_not_see_each_other_s_attempts(clock: ManualRuntime) -> None:
    """A task that is retrying tells its own children, not its neighbours."""
    seen: dict[str, list[int]] = {"a": [], "b": []}

    async def work(name: str, failures: int) -> None:
        seen[name].append(current_attempt())
        await asyncio.sleep(0)
        if len(seen[name]) <= failures:
            raise Again

    async def main() -> None:
        policy = retry(attempts=5)
        await asyncio.gather(policy(work)("a", 3), policy(work)("b", 1))

    asyncio.run(main())
    assert seen == {"a": [1, 2, 3, 4], "b": [1, 2]}


# -- deadlines -----------------------------------------------------------------------------------------------------


def test_the_nearest_deadline_counts(clock: ManualRuntime) -> None:
    """An inner one can only shorten what is left."""
    assert remaining() is None
    with deadline(10.0):
        with deadline(60.0):
            assert remaining() == 10.0
        clock.advance(4.0)
        with deadline(2.0):
            assert remaining() == 2.0
        assert remaining() == 6.0
        clock.advance(60.0)
        assert remaining() == 0.0
    assert remaining() is None


def test_nothing_starts_after_the_deadline(mode: Mode, clock: ManualRuntime) -> None:
    """A function whose time is over is not called."""
    scripted = script("never")
    inner = deadline(5.0)(mode.function(scripted))

    if mode.is_async:

        async def work() -> object:
            clock.advance(3.0)
            return await inner()  # type: ignore[misc]
    else:

        def work() -> object:  # type: ignore[misc]
            clock.advance(3.0)
            return inner()

    with pytest.raises(DeadlineExceededError, match="has passed"):
        mode.call(deadline(3.0)(work))
    assert scripted.count == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_code_is_cut_off(resilience: None, backend: str) -> None:
    """At its deadline, with an error that names it."""

    @deadline(0.02)
    async def work() -> None:
        await anyio.sleep(30)

    with pytest.raises(DeadlineExceededError, match="work"):
        anyio.run(work, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_error_of_the_function_is_its_own(resilience: None, backend: str) -> None:
    """A deadline or time limit does not claim what was raised inside."""
    own = TimeoutError("own")

    async def work() -> None:
        raise own

    for policy in (deadline(30.0), timeout(30.0)):
        with pytest.raises(TimeoutError) as caught:
            anyio.run(policy(work), backend=backend)
        assert caught.value is own


def test_cancellation_from_outside_is_not_a_deadline(resilience: None) -> None:
    """A task cancelled under a deadline is cancelled."""

    @deadline(30.0)
    async def work() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize(("own", "limits"), [(60.0, [5.0, 3.0, 1.0]), (2.0, [2.0, 2.0, 1.0])])
def test_a_deadline_bounds_every_attempt_s_timeout(
    own: float, limits: list[float], clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the deadline is the limit when that is less; the error says which one passed."""
    given: list[float | None] = []
    left: list[float | None] = []
    carry_out = workers.run

    def run(work: Any, limit: float | None, abandoned: Any = None) -> Any:
        given.append(limit)
        carry_out(work, 10.0)
        clock.advance(1.0)
        if len(given) == len(limits):
            raise workers.LimitPassed
        raise Again

    monkeypatch.setattr(workers, "run", run)

    @guard(deadline(5.0), retry(attempts=9, backoff=1.0, jitter=none(), on=Again), timeout(own), accept=["RF003"])
    def work() -> None:
        left.append(remaining())

    with pytest.raises(DeadlineExceededError):
        work()
    assert given == limits
    assert left == limits


def test_the_timeout_that_passes_before_the_deadline_says_so(
    clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the attempt's own limit then, and the error names its seconds."""

    def run(work: Any, limit: float | None, abandoned: Any = None) -> Any:
        raise workers.LimitPassed

    monkeypatch.setattr(workers, "run", run)
    with pytest.raises(CallTimeoutError, match="2"):
        guard(deadline(5.0), timeout(2.0))(lambda: None)()


# -- workers -------------------------------------------------------------------------------------------------------


def test_a_worker_gives_the_result_or_the_error() -> None:
    """From another thread, as if it were this one."""
    assert workers.run(lambda: threading.current_thread() is threading.main_thread(), 10.0) is False
    own = ValueError("own")

    def fail() -> None:
        raise own

    with pytest.raises(ValueError, match="own") as caught:
        workers.run(fail, 10.0)
    assert caught.value is own
    with pytest.raises(KeyboardInterrupt):
        workers.run(script(KeyboardInterrupt()).function(), 10.0)


def test_a_worker_is_used_again() -> None:
    """Threads are kept for the next call."""
    first = workers.run(threading.get_ident, 10.0)
    deadline_ = time.monotonic() + 5.0
    while time.monotonic() < deadline_:
        if workers.run(threading.get_ident, 10.0) == first:
            return
    pytest.fail("always another thread")


def test_a_worker_sees_the_caller_s_context() -> None:
    """In a copy: what it sets stays there."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("caller")

    def work() -> str:
        seen = variable.get()
        variable.set("worker")
        return seen

    assert workers.run(work, 10.0) == "caller"
    assert variable.get() == "caller"


def test_a_worker_that_takes_too_long_is_abandoned_and_comes_back() -> None:
    """It is counted for as long as it is stuck."""
    release, abandoned = threading.Event(), workers.Abandoned()
    with pytest.raises(workers.LimitPassed):
        workers.run(lambda: release.wait(10.0), 0.01, abandoned)
    assert abandoned.count == 1
    release.set()
    until = time.monotonic() + 5.0
    while abandoned.count and time.monotonic() < until:
        time.sleep(0.001)
    assert abandoned.count == 0


def test_a_timeout_error_of_the_work_is_not_the_limit() -> None:
    """`LimitPassed` is told apart from whatever the work raises."""
    with pytest.raises(TimeoutError, match="own"):
        workers.run(script(TimeoutError("own")).function(), 10.0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_workers_for_async_callers(backend: str) -> None:
    """The loop goes on meanwhile; the limit holds."""

    async def main() -> None:
        assert await workers.run_async(lambda: 5, 10.0) == 5
        with pytest.raises(ValueError, match="own"):
            await workers.run_async(script(ValueError("own")).function(), 10.0)
        release = threading.Event()
        with pytest.raises(workers.LimitPassed):
            await workers.run_async(lambda: release.wait(5.0), 0.01)
        release.set()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_work_apart_waits_for_no_other_work(backend: str) -> None:
    """When every thread that the loop lends is stuck, what is done apart is done all the same."""

    async def main() -> None:
        release = threading.Event()
        async with anyio.create_task_group() as group:
            lent = anyio.to_thread.current_default_thread_limiter()
            for _ in range(int(lent.total_tokens)):
                group.start_soon(workers.run_async, lambda: release.wait(10.0), None)
            while lent.available_tokens:
                await anyio.lowlevel.checkpoint()
            try:
                with anyio.fail_after(5.0):
                    assert await workers.run_async(lambda: 5, None, apart=True) == 5
            finally:
                release.set()

    anyio.run(main, backend=backend)


def test_many_threads_use_workers_at_once() -> None:
    """Each gets its own answer."""
    results: dict[int, int] = {}

    def one(number: int) -> None:
        for _ in range(20):
            results[number] = workers.run(lambda: number * number, 10.0)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: number * number for number in range(12)}


def test_a_sync_time_limit(resilience: None) -> None:
    """Blocking code is left behind at its limit."""
    release = threading.Event()

    @timeout(0.02)
    def work() -> None:
        release.wait(10.0)

    with pytest.raises(CallTimeoutError, match=r"work took longer than 0\.02 s"):
        work()
    release.set()


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "good"),
    [(0, True), (1.5, True), *[(bad, False) for bad in (math.inf, math.nan, -1, "1", True, None)]],
)
def test_what_is_a_number_of_seconds(value: object, good: bool) -> None:
    """Finite, zero or more, and not a boolean in disguise."""
    assert Checks("X").seconds("o", value, above=False) is good


def test_infinity_where_it_means_something() -> None:
    """A cap may be infinite."""
    assert Checks("X").seconds("o", math.inf, infinite=True)
    assert not Checks("X").seconds("o", 0.0)
    assert not Checks("X").whole("o", 2.0, 1)
    assert Checks("X").number("o", 1.0, 0.0, 1.0)
    assert not Checks("X").number("o", 1.1, 0.0, 1.0)


def test_nothing_wrong_is_nothing_raised() -> None:
    """And each broken rule is a line."""
    checks = Checks("X")
    checks.done()
    checks.that(False, "a", "good", 1, "Cure it.")
    checks.that(False, "b", "good", 2)
    with pytest.raises(OptionError) as caught:
        checks.done()
    assert str(caught.value) == "X.a must be good; got 1. Cure it.\nX.b must be good; got 2."


def test_a_mistyped_option_is_also_a_type_error() -> None:
    """As Python's own would be."""
    with pytest.raises(TypeError) as caught:
        retry(nonsense=1)  # type: ignore[call-arg]
    assert isinstance(caught.value, UnknownOptionError)
    assert "Did you mean" not in str(caught.value)


def test_names_of_functions() -> None:
    """Without the noise of nesting, for partials and objects too."""
    import functools

    class Thing:
        def __call__(self) -> None: ...

        def method(self) -> None: ...

    def inner() -> None: ...

    assert name_of(inner) == "inner"
    assert name_of(functools.partial(inner)) == "inner"
    assert name_of(Thing()).endswith("Thing")
    assert name_of(Thing.method) == "Thing.method"
    assert name_of(len) == "len"


# -- testing tools -------------------------------------------------------------------------------------------------


def test_fresh_forgets_everything() -> None:
    """Circuits, listeners and switches leave nothing behind."""
    from resilient_faces import circuit_breaker, circuits, listen, shutdown

    with fresh():
        kept = circuit_breaker("kept")
        listen(lambda event: None)
        shutdown()
        assert "kept" in circuits
    assert kept.name == "kept"
    assert "kept" not in circuits
    assert RUNTIME.listeners == ()
    assert not RUNTIME.stopping.is_set()


def test_a_script_plays_its_lines(mode: Mode, clock: ManualRuntime) -> None:
    """Errors are raised, hangs take time, values are returned, the last line is repeated."""
    scripted = script(Again, Hang(3.0, "slow"), Hang(1.0, ValueError("x")), "last")
    function = mode.function(scripted)
    with pytest.raises(Again):
        mode.call(function)
    assert mode.call(function, 1, a=2) == "slow"
    with pytest.raises(ValueError, match="x"):
        mode.call(function)
    assert [mode.call(function), mode.call(function)] == ["last", "last"]
    assert scripted.count == 5
    assert scripted.calls[1] == ((1,), {"a": 2})
    assert scripted.times == [1000.0, 1000.0, 1003.0, 1004.0, 1004.0]
    with pytest.raises(ValueError, match="at least one line"):
        script()


def test_random_is_not_shared_with_the_program() -> None:
    """Seeding Python's own generator does not put clients in step."""
    random.seed(5)
    first = [Runtime().random() for _ in range(2)]
    random.seed(5)
    assert [Runtime().random() for _ in range(2)] != first
