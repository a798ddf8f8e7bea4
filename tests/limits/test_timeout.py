"""A time limit for one call: its own expiry told apart, context in worker threads, abandoned threads capped."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_faces import (
    AbandonedThreadsError,
    CallTimeoutError,
    DeadlineExceededError,
    Event,
    OptionError,
    RateLimitedError,
    ResilienceError,
    bulkhead,
    deadline,
    guard,
    listen,
    rate_limit,
    remaining,
    report,
    request,
    retry,
    timeout,
)
from resilient_faces._core.context import REQUEST
from resilient_faces._core.deadline import exceeded
from resilient_faces.flows import Policy
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script

SHORT = 0.02  # seconds; a real limit is the subject here


def hanging(mode: Mode, release: threading.Event) -> object:
    """A function of this mode that does not come back by itself."""
    if mode.is_async:

        async def hang() -> str:
            await anyio.sleep_forever()
            return "never"

        return hang

    def hang_sync() -> str:
        release.wait(10.0)
        return "late"

    return hang_sync


@pytest.fixture
def release() -> object:
    """Set at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def test_in_time(mode: Mode, resilience: None) -> None:
    """Then it is as if there were no limit."""
    assert mode.run(timeout(5.0), script("fine")) == "fine"
    with pytest.raises(KeyError):
        mode.run(timeout(5.0), script(KeyError()))


def test_out_of_time(mode: Mode, resilience: None, release: threading.Event) -> None:
    """The caller gets its error at the limit, with name and seconds."""
    began = time.monotonic()
    with pytest.raises(CallTimeoutError) as caught:
        mode.call(timeout(SHORT)(hanging(mode, release)))  # type: ignore[arg-type]
    assert time.monotonic() - began < 5.0
    assert caught.value.seconds == SHORT
    assert caught.value.name.startswith("hang")
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ResilienceError)
    assert str(caught.value).endswith("took longer than 0.02 s")


def test_the_functions_own_timeout_is_its_own(mode: Mode, resilience: None) -> None:
    """The very object comes out, and it is not called ours."""
    own = TimeoutError("mine")
    with pytest.raises(TimeoutError) as caught:
        mode.run(timeout(5.0), script(own))
    assert caught.value is own
    assert not isinstance(caught.value, CallTimeoutError)


def test_the_inner_limit_is_told_from_the_outer(mode: Mode, resilience: None, release: threading.Event) -> None:
    """Two limits around one call: the nearer one speaks."""
    with pytest.raises(CallTimeoutError) as caught:
        mode.call(guard(timeout(5.0), timeout(SHORT))(hanging(mode, release)))  # type: ignore[arg-type]
    assert caught.value.seconds == SHORT


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_asyncio_or_trio_timeout_inside(resilience: None, backend: str) -> None:
    """A scope of the function's own that expires inside is not ours either."""

    @timeout(5.0)
    async def work() -> str:
        with anyio.move_on_after(0.005) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.005):
                await anyio.sleep_forever()
        return "fine"

    assert anyio.run(work, backend=backend) == "fine"


@pytest.mark.parametrize("limit", [timeout, deadline])
def test_a_task_is_left_as_it_was(resilience: None, limit: Callable[[float], Any]) -> None:
    """asyncio counts cancellations; a limit takes its own back, whatever the function made of it, and only that."""

    async def swallow() -> str:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            return "late"
        return "unreachable"

    async def translate() -> None:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            raise KeyError from None

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        troubles: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
        assert await limit(SHORT)(swallow)() == "late"
        with pytest.raises(KeyError):
            await limit(SHORT)(translate)()
        for policy in (limit(SHORT), guard(limit(5.0), limit(SHORT)), guard(limit(SHORT), limit(SHORT))):
            with pytest.raises(TimeoutError) as caught:
                await policy(asyncio.sleep)(10.0)
            assert isinstance(caught.value, ResilienceError)
        if sys.version_info >= (3, 11):
            assert task.cancelling() == 0
        await limit(SHORT)(asyncio.sleep)(0.0)
        await asyncio.sleep(2 * SHORT)  # a limit that has ended does not come to bear
        assert troubles == []

    asyncio.run(main())


@pytest.mark.parametrize("limit", [timeout, deadline])
def test_cancelled_and_out_of_time_at_once(resilience: None, limit: Callable[[float], Any]) -> None:
    """The cancellation wins: who cancels a task waits for it to end so."""

    async def main() -> None:
        task = asyncio.ensure_future(limit(SHORT)(asyncio.sleep)(10.0))
        await asyncio.sleep(0.0)
        time.sleep(2 * SHORT)  # noqa: ASYNC251  the limit passes in the moment of the cancellation
        asyncio.get_running_loop().call_later(SHORT / 10.0, task.cancel)
        time.sleep(SHORT)  # noqa: ASYNC251
        # Before Python 3.11 a task does not know how often it was cancelled: either may win.
        either = () if sys.version_info >= (3, 11) else (CallTimeoutError, DeadlineExceededError)
        with pytest.raises((asyncio.CancelledError, *either)):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_from_outside(resilience: None, backend: str) -> None:
    """Who cancels the caller does not get a CallTimeoutError."""
    seen: list[str] = []

    @timeout(5.0)
    async def hang() -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await hang()
        seen.append("moved on")

    anyio.run(main, backend=backend)
    assert seen == ["moved on"]


def test_a_limit_by_the_arguments(mode: Mode, resilience: None) -> None:
    """Computed for each call."""
    seen: list[object] = []

    def limit(size: int, *, slow: bool = False) -> float:
        seen.append((size, slow))
        return 5.0

    guarded = timeout(limit)(mode.function(script("fine")))
    assert mode.call(guarded, 7, slow=True) == "fine"
    assert seen == [(7, True)]


def test_each_attempt_has_its_limit(mode: Mode, resilience: None, release: threading.Event) -> None:
    """Inside a retry it cuts one attempt; the next may be quick."""
    calls: list[int] = []
    hang = hanging(mode, release)

    if mode.is_async:

        async def work() -> object:
            calls.append(1)
            return await hang() if len(calls) == 1 else "fine"  # type: ignore[operator]

    else:

        def work() -> object:  # type: ignore[misc]
            calls.append(1)
            return hang() if len(calls) == 1 else "fine"  # type: ignore[operator]

    policy = guard(retry(attempts=2, backoff=0.0, jitter=none(), idempotent=True), timeout(SHORT))
    assert mode.call(policy(work)) == "fine"
    assert len(calls) == 2


def test_what_is_left_of_the_deadline(mode: Mode, resilience: None, release: threading.Event) -> None:
    """Less than the limit: then it is the deadline that has passed."""
    with pytest.raises(DeadlineExceededError):
        mode.call(guard(deadline(SHORT), timeout(5.0))(hanging(mode, release)))  # type: ignore[arg-type]


# -- what is inside knows of it ------------------------------------------------------------------------------------


def test_what_remains(mode: Mode, resilience: None) -> None:
    """The limit is a deadline for what is inside; afterwards all is as before, and the nearer of two counts."""
    seen: list[float | None] = []
    note = mode.wrap(lambda: seen.append(remaining()))
    for policy in (
        timeout(5.0),
        timeout(lambda: 5.0),
        guard(timeout(60.0), timeout(5.0)),
        guard(timeout(5.0), timeout(60.0)),
    ):
        mode.call(policy(note))
    assert all(left is not None and 4.0 < left <= 5.0 for left in seen), seen
    assert len(seen) == 4
    assert remaining() is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seconds", [5.0, lambda: 5.0], ids=["constant", "computed"])
def test_nothing_of_it_stays_in_the_task(resilience: None, backend: str, seconds: object) -> None:
    """After success, after a failure, and after its own expiry."""

    async def fail() -> None:
        raise KeyError

    async def main() -> None:
        await timeout(seconds)(anyio.lowlevel.checkpoint)()  # type: ignore[arg-type]
        assert remaining() is None
        with pytest.raises(KeyError):
            await timeout(seconds)(fail)()  # type: ignore[arg-type]
        assert remaining() is None
        with pytest.raises(CallTimeoutError):
            await timeout(SHORT)(anyio.sleep_forever)()
        assert remaining() is None

    anyio.run(main, backend=backend)


def test_no_attempt_after_it(mode: Mode, clock: ManualRuntime) -> None:
    """The caller of blocking code has its error by then; further attempts would be nobody's."""
    scripted = script(ConnectionResetError())
    with pytest.raises(ConnectionResetError) as caught:
        mode.run(guard(timeout(5.0), retry(attempts=10, backoff=2.0, jitter=none())), scripted)
    assert clock.slept == [2.0, 2.0]
    assert "deadline" in report(caught.value).stopped


def test_a_slot_beyond_it_is_refused_at_once(mode: Mode, clock: ManualRuntime) -> None:
    """And not taken."""
    limiter = rate_limit(1.0)
    limiter.reserve_batch(10)
    scripted = script("unused")
    with pytest.raises(RateLimitedError):
        mode.run(guard(timeout(5.0), limiter), scripted)
    assert scripted.count == 0
    assert limiter.reserve() == 10.0


@pytest.mark.parametrize("inner", [timeout(5.0), deadline(5.0), retry(max_elapsed=5.0)])
def test_the_error_is_the_outer_limit_s(mode: Mode, resilience: None, release: threading.Event, inner: Policy) -> None:
    """Whichever notices first: the limit that has passed is the one that speaks."""
    for seconds in (SHORT, lambda: SHORT):
        with pytest.raises(CallTimeoutError) as caught:
            mode.call(guard(timeout(seconds), inner)(hanging(mode, release)))  # type: ignore[arg-type]
        assert caught.value.seconds == SHORT


@pytest.mark.parametrize("seconds", [5.0, lambda: 5.0], ids=["constant", "computed"])
def test_inside_it_was_noticed_first(mode: Mode, clock: ManualRuntime, seconds: object) -> None:
    """A guard inside is asked to begin when the limit has passed already."""
    scripted = script("unused")
    inner = deadline(60.0)(mode.function(scripted))

    if mode.is_async:

        async def work() -> object:
            clock.advance(20.0)
            return await inner()  # type: ignore[misc]

    else:

        def work() -> object:  # type: ignore[misc]
            clock.advance(20.0)
            return inner()

    with pytest.raises(CallTimeoutError) as caught:
        mode.call(timeout(seconds)(work))  # type: ignore[arg-type]
    assert caught.value.seconds == 5.0
    assert scripted.count == 0


def test_somebody_else_noticed(mode: Mode, clock: ManualRuntime) -> None:
    """A client that goes by `remaining()` may raise the error as well."""

    def notice() -> None:
        clock.advance(5.0)
        raise DeadlineExceededError("client", None)

    with pytest.raises(CallTimeoutError):
        mode.call(timeout(5.0)(mode.wrap(notice)))


@pytest.mark.parametrize("seconds", [5.0, lambda: 5.0], ids=["constant", "computed"])
def test_noticed_a_moment_too_early(mode: Mode, clock: ManualRuntime, seconds: object) -> None:
    """The clocks of event loops are not as exact as ours; which limit is meant is known all the same."""
    with pytest.raises(CallTimeoutError):
        mode.run(timeout(seconds), script(exceeded("inside", clock.now + 5.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [5.0, lambda: 5.0], ids=["constant", "computed"])
def test_a_nearer_deadline_inside_is_not_its_own(mode: Mode, clock: ManualRuntime, seconds: object) -> None:
    """Its error comes out as it is."""
    nearer = exceeded("nearer", clock.now + 1.0)
    with pytest.raises(DeadlineExceededError) as caught:
        mode.run(timeout(seconds), script(nearer))  # type: ignore[arg-type]
    assert caught.value is nearer


def test_nor_is_the_deadline_around_it(mode: Mode, clock: ManualRuntime) -> None:
    """Of two the nearer speaks, also where something inside noticed."""

    def notice() -> None:
        clock.advance(6.0)
        assert remaining() == 0.0
        raise exceeded("inside", 1005.0)

    with pytest.raises(DeadlineExceededError):
        mode.call(guard(deadline(5.0), timeout(60.0))(mode.wrap(notice)))


# -- limits that are computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0, -0.0])
def test_no_time_at_all(mode: Mode, resilience: None, seconds: float) -> None:
    """The limit has passed before the call began, so it does not begin."""
    scripted = script("unused")
    with pytest.raises(CallTimeoutError):
        mode.run(timeout(lambda: seconds), scripted)
    assert scripted.count == 0


@pytest.mark.parametrize("seconds", [math.inf, None])
def test_no_limit(mode: Mode, resilience: None, seconds: float) -> None:
    """Then a deadline around it counts."""
    seen: list[float | None] = []
    note = mode.wrap(lambda: seen.append(remaining()))
    policy = timeout(lambda: seconds)
    mode.call(policy(note))
    mode.call(guard(deadline(5.0), policy)(note))
    assert seen[0] is None
    assert seen[1] is not None
    assert 4.0 < seen[1] <= 5.0


def test_as_good_as_none(mode: Mode, resilience: None) -> None:
    """Longer than a thread can wait."""
    assert mode.run(timeout(1e12), script("fine")) == "fine"


@pytest.mark.parametrize("seconds", [math.nan, "1", True, [1.0]])
def test_what_is_no_limit_is_refused(mode: Mode, resilience: None, seconds: object) -> None:
    """With the policy, the function and the value, and without a call."""
    scripted = script("unused")
    with pytest.raises(OptionError, match=r"^Timeout\.seconds must compute a number .* for 'scripted'\.$"):
        mode.run(timeout(lambda: seconds), scripted)  # type: ignore[arg-type,return-value]
    assert scripted.count == 0


# -- worker threads ------------------------------------------------------------------------------------------------


def test_context_crosses_into_the_worker(resilience: None) -> None:
    """Request, step and the user's own variables; what is set inside stays inside."""
    own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="default")
    own.set("mine")
    seen: list[object] = []

    def work() -> None:
        seen.extend([own.get(), REQUEST.get().id, threading.current_thread() is not threading.main_thread()])
        own.set("changed")

    with request("r-1", step="index"):
        timeout(5.0).call(work)
    assert seen == ["mine", "r-1", True]
    assert own.get() == "mine"


def test_two_calls_do_not_share_a_context(resilience: None) -> None:
    """A worker thread is used again, with the context of its next caller only."""
    own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="default")
    seen: list[str] = []

    def work() -> None:
        seen.append(own.get())
        own.set("left behind")

    policy = timeout(5.0)
    policy.call(work)
    policy.call(work)
    assert seen == ["default", "default"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_way_out_of_the_program_passes(resilience: None, error: type[BaseException]) -> None:
    """Raised in the worker, it arrives at the caller."""
    with pytest.raises(error):
        timeout(5.0).call(script(error()).function())


def test_abandoned_threads_are_counted_and_capped(resilience: None, release: threading.Event) -> None:
    """At the cap nothing more is started; when they end, everything works again."""
    policy = timeout(SHORT, max_abandoned=3)
    started: list[int] = []

    @policy
    def hang() -> None:
        started.append(1)
        release.wait(10.0)

    for stuck in range(1, 4):
        with pytest.raises(CallTimeoutError):
            hang()
        assert policy.abandoned == stuck
    with pytest.raises(AbandonedThreadsError, match="has too many abandoned threads"):
        hang()
    assert len(started) == 3
    release.set()
    end = time.monotonic() + 5.0
    while policy.abandoned and time.monotonic() < end:
        time.sleep(0.001)
    assert policy.abandoned == 0
    hang()
    assert len(started) == 4


def at_once(number: int, call: Callable[[], object]) -> Counter[str]:
    """What so many calls of as many threads at once come to."""
    came: list[str] = []

    def one() -> None:
        try:
            call()
            came.append("answer")
        except Exception as error:
            came.append(type(error).__name__)

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(came)


def test_what_is_under_way_at_the_cap_may_get_stuck_as_well(resilience: None, release: threading.Event) -> None:
    """The cap is on what is begun: with n calls at once there are never more than `max_abandoned - 1 + n`."""
    policy = timeout(0.2, max_abandoned=2)
    hang = policy(lambda: release.wait(10.0))
    with pytest.raises(CallTimeoutError):
        hang()
    assert at_once(5, hang) == {"CallTimeoutError": 5}
    assert policy.abandoned == 2 - 1 + 5
    assert at_once(5, hang) == {"AbandonedThreadsError": 5}


def test_a_bulkhead_inside_bounds_them(resilience: None, release: threading.Event) -> None:
    """A place is taken until its thread has really ended, so there is no more than one for each place."""
    started: list[int] = []

    def hang() -> None:
        started.append(1)
        release.wait(10.0)

    policy = timeout(SHORT, max_abandoned=100)
    places = bulkhead(3)
    guarded = guard(policy, places)(hang)
    for _ in range(3):
        at_once(8, guarded)
    assert at_once(8, guarded) == {"BulkheadFullError": 8}
    assert len(started) == policy.abandoned == places.snapshot().running == 3
    release.set()
    end = time.monotonic() + 5.0
    while policy.abandoned and time.monotonic() < end:
        time.sleep(0.001)
    assert places.snapshot().running == 0


def test_a_late_result_is_nobodys(resilience: None, release: threading.Event) -> None:
    """The next caller gets its own answer, not the one that came too late."""
    policy = timeout(SHORT)
    with pytest.raises(CallTimeoutError):
        policy.call(lambda: release.wait(10.0) and "late")
    release.set()
    for number in range(20):
        assert timeout(5.0).call(lambda number=number: number) == number


def test_abandoning_is_told(resilience: None, release: threading.Event) -> None:
    """With the operation and how many there are."""
    heard: list[Event] = []
    listen(heard.append)
    with pytest.raises(CallTimeoutError):
        timeout(SHORT).call(lambda: release.wait(10.0))
    assert [(one.type, one.policy, one.status) for one in heard] == [("abandoned", "timeout", "1")]


def test_threads_together(resilience: None) -> None:
    """Eight callers, each with its own answers."""
    policy = timeout(5.0)
    answers: list[tuple[object, object]] = []

    def ask(caller: int) -> None:
        answers.extend((policy.call(lambda n=n: (caller, n)), (caller, n)) for n in range(50))

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 400
    assert all(got == wanted for got, wanted in answers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0.0}, "Timeout.seconds must be more than 0 seconds; got 0.0."),
        ({"seconds": None}, "Timeout.seconds"),
        ({"seconds": 1.0, "max_abandoned": 0}, "Timeout.max_abandoned must be 1 or more; got 0."),
    ],
)
def test_options_are_checked(resilience: None, options: dict[str, object], words: str) -> None:
    """Option, rule, value."""
    with pytest.raises(OptionError) as caught:
        timeout(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)
