"""A time limit for one call: its own expiry told apart, context in worker threads, abandoned threads capped."""

from __future__ import annotations

import contextvars
import threading
import time

import anyio
import pytest

from resilient_faces import (
    AbandonedThreadsError,
    CallTimeoutError,
    DeadlineExceededError,
    Event,
    OptionError,
    ResilienceError,
    deadline,
    guard,
    listen,
    request,
    retry,
    timeout,
)
from resilient_faces._core.context import REQUEST
from resilient_faces.retry import none
from resilient_faces.testing import Mode, script

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
