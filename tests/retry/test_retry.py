"""`Retry`: what is repeated, how often, after which waits, and what comes out."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

import resilient_faces
from resilient_faces import (
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    DecorationError,
    Executed,
    Fault,
    Kind,
    OptionError,
    Report,
    Retrier,
    Retry,
    RetryableError,
    UnknownOptionError,
    current_attempt,
    deadline,
    fallback,
    first_match,
    guard,
    report,
    retries_off,
    retry,
    shutdown,
)
from resilient_faces.retry import Attempted, Stop, decorrelated, exponential, fixed, full, linear, none, sequence
from resilient_faces.testing import Hang, ManualRuntime, Mode, quick_retries, script


class A(RetryableError):
    pass


class B(RetryableError):
    pass


class C(RetryableError):
    pass


def attempts_of(mode: Mode, policy: Retry, *lines: object) -> int:
    """How often a script is called under a policy; what it ends with is nobody's matter here."""
    scripted = script(*lines)
    try:
        mode.run(policy, scripted)
    except Exception:
        pass
    return scripted.count


# -- how often -----------------------------------------------------------------------------------------------------


def test_a_call_that_succeeds_is_made_once(mode: Mode, clock: ManualRuntime) -> None:
    """No wait, no second call, and the value comes out."""
    scripted = script("ok")
    assert mode.run(retry(), scripted, 1, 2) == "ok"
    assert scripted.calls == [((1, 2), {})]
    assert clock.slept == []


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_count_the_first_call_too(mode: Mode, clock: ManualRuntime, attempts: int) -> None:
    """`attempts=1` never repeats; n attempts have n - 1 waits between them."""
    assert attempts_of(mode, retry(attempts=attempts), A()) == attempts
    assert len(clock.slept) == attempts - 1


def test_three_attempts_unless_told_otherwise(mode: Mode, clock: ManualRuntime) -> None:
    """The default of the documentation."""
    assert attempts_of(mode, retry(), A()) == 3


def test_a_later_attempt_may_succeed(mode: Mode, clock: ManualRuntime) -> None:
    """It gets the same arguments, and its value comes out."""
    scripted = script(A(), B(), "ok")
    assert mode.call(retry()(mode.function(scripted)), 1, key="x") == "ok"
    assert scripted.calls == [((1,), {"key": "x"})] * 3


def test_the_last_error_comes_out_as_it_is(mode: Mode, clock: ManualRuntime) -> None:
    """The original exception, the last one, and not a wrapper."""
    last = B("last")
    with pytest.raises(B) as caught:
        mode.run(retry(attempts=2), script(A("first"), last))
    assert caught.value is last


def test_infinitely_many_attempts(mode: Mode, clock: ManualRuntime) -> None:
    """`math.inf` leaves the end to something else, here to success."""
    assert attempts_of(mode, retry(attempts=math.inf), *[A()] * 50, "ok") == 51


# -- which faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "executed", "plain", "idempotent"),
    [
        (Kind.throttled, Executed.unknown, 3, 3),
        (Kind.transient, Executed.unknown, 3, 3),
        (Kind.unavailable, Executed.no, 3, 3),
        (Kind.conflict, Executed.unknown, 3, 3),
        (Kind.timeout, Executed.unknown, 1, 3),
        (Kind.timeout, Executed.yes, 1, 3),
        (Kind.timeout, Executed.no, 3, 3),
        (Kind.integrity, Executed.unknown, 1, 3),
        (Kind.integrity, Executed.yes, 1, 3),
        (Kind.integrity, Executed.no, 3, 3),
        (Kind.unknown, Executed.unknown, 1, 1),
        (Kind.exists, Executed.no, 1, 1),
        (Kind.not_found, Executed.no, 1, 1),
        (Kind.condition, Executed.no, 1, 1),
        (Kind.auth, Executed.no, 1, 1),
        (Kind.invalid, Executed.no, 1, 1),
        (Kind.quota, Executed.no, 1, 1),
        (Kind.rejected, Executed.no, 1, 1),
        (Kind.cancelled, Executed.unknown, 1, 1),
    ],
)
def test_what_is_repeated(kind: Kind, executed: Executed, plain: int, idempotent: int, clock: ManualRuntime) -> None:
    """By kind; an unknown outcome only if the call is idempotent or was not carried out."""
    told = first_match(lambda error: Fault(kind, "x", executed))
    for policy, calls in (
        (retry(classify=told), plain),
        (retry(classify=told, idempotent=True), idempotent),
    ):
        scripted = script(ValueError())
        with pytest.raises(ValueError):  # noqa: PT011
            policy(scripted.function())()
        assert scripted.count == calls


def test_on_repeats_exactly_what_it_names(mode: Mode, clock: ManualRuntime) -> None:
    """Classes, kinds and predicates; what the classification would repeat is not, unless it is named."""
    assert attempts_of(mode, retry(on=ValueError), ValueError()) == 3
    assert attempts_of(mode, retry(on=ValueError), A()) == 1
    assert attempts_of(mode, retry(on=Kind.unknown), ValueError()) == 3
    assert attempts_of(mode, retry(on=(KeyError, lambda error: str(error) == "again")), ValueError("again")) == 3
    assert attempts_of(mode, retry(on=(KeyError, lambda error: str(error) == "again")), ValueError("no")) == 1


def test_on_overrides_the_rule_of_idempotence(mode: Mode, clock: ManualRuntime) -> None:
    """Who names an error says that it may be repeated."""
    assert attempts_of(mode, retry(on=TimeoutError), TimeoutError()) == 3


def test_never_wins(mode: Mode, clock: ManualRuntime) -> None:
    """Whatever `on` and the classification say."""
    assert attempts_of(mode, retry(never=A), A()) == 1
    assert attempts_of(mode, retry(never=A), B()) == 3
    assert attempts_of(mode, retry(on=RetryableError, never=A), A()) == 1
    assert attempts_of(mode, retry(never=Kind.transient), A()) == 1


@pytest.mark.parametrize("policy", [retry(), retry(on=Exception), retry(retriers=[Retrier(on=Exception)])])
@pytest.mark.parametrize("error", [CircuitOpenError("db", 0.5), DeadlineExceededError("f")])
def test_a_rejection_of_our_own_is_never_repeated(
    mode: Mode, clock: ManualRuntime, policy: Retry, error: Exception
) -> None:
    """An open circuit or a passed deadline is for the caller, even if `on` names every exception."""
    assert attempts_of(mode, policy, error) == 1
    assert clock.slept == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts_pass_straight_through(clock: ManualRuntime, error: type[BaseException]) -> None:
    """Also in the second attempt, and even if `on` names them."""
    scripted = script(A(), error())
    with pytest.raises(error):
        retry(on=BaseException)(scripted.function())()
    assert scripted.count == 2


def test_cancellation_passes_straight_through(clock: ManualRuntime) -> None:
    """A task that is cancelled in an attempt stays cancelled."""
    calls = 0

    @retry(on=BaseException)
    async def work() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert calls == 1


def test_a_wait_can_be_cancelled(resilience: None) -> None:
    """The backoff sleep of a task ends with the task; no further call is made."""
    scripted = script(A())
    work = retry(backoff=30.0, jitter=none())(scripted.coroutine())

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(work(), 0.02)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 5.0
    assert scripted.count == 1


# -- waits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (retry(attempts=4, backoff=exponential(1.0), jitter=none()), [1, 2, 4]),
        (retry(attempts=4, backoff=exponential(1.0), jitter=full()), [0.5, 1, 2]),
        (retry(attempts=4, backoff=exponential(1.0, cap=3.0), jitter=none()), [1, 2, 3]),
        (retry(attempts=4, backoff=linear(1.0), jitter=none()), [1, 2, 3]),
        (retry(attempts=4, backoff=sequence((3.0, 1.0)), jitter=none()), [3, 1, 1]),
        (retry(attempts=4, backoff=2, jitter=none()), [2, 2, 2]),
        (retry(attempts=4, backoff=lambda n: n * n, jitter=none()), [1, 4, 9]),
        (retry(attempts=4, backoff=exponential(1.0), jitter=decorrelated()), [2, 3.5, 5.75]),
        (retry(attempts=4), [0.05, 0.1, 0.2]),
    ],
)
def test_waits_between_attempts(mode: Mode, clock: ManualRuntime, policy: Retry, waits: list[float]) -> None:
    """Delay, cap and jitter in that order, with chances of one half."""
    assert attempts_of(mode, policy, A()) == 4
    assert clock.slept == pytest.approx(waits)


def test_a_hint_of_the_server_is_a_floor(mode: Mode, clock: ManualRuntime) -> None:
    """Its Retry-After lengthens the wait, bounded by the delay's cap; a shorter one changes nothing."""
    hints = iter([5.0, 0.01, 900.0])
    told = first_match(lambda error: Fault(Kind.throttled, "slow", Executed.no, next(hints, None)))
    attempts_of(mode, retry(attempts=5, backoff=exponential(1.0, cap=20.0), jitter=none(), classify=told), A())
    assert clock.slept == [5.0, 2.0, 20.0, 8.0]


def test_a_hint_beyond_the_deadline_ends_the_call(mode: Mode, clock: ManualRuntime) -> None:
    """Waiting for it would be in vain."""
    told = first_match(lambda error: Fault(Kind.throttled, "slow", Executed.no, 8.0))
    policy = guard(deadline(5.0), retry(attempts=5, backoff=0.1, classify=told))
    with pytest.raises(A):
        mode.run(policy, script(A()))
    assert clock.slept == []


# -- retriers ------------------------------------------------------------------------------------------------------


def test_the_example_of_the_amazon_states_language(mode: Mode, clock: ManualRuntime) -> None:
    """A, B, C, B under {A, B: 1 s, 2 retries, doubled} and {C: 5 s} wait 1, 2 and 5 s; then all is used up."""
    policy = retry(
        retriers=[
            Retrier(on=(A, B), attempts=3, backoff=exponential(1.0, factor=2.0), jitter=none()),
            Retrier(on=C, backoff=5.0, jitter=none()),
        ]
    )
    scripted = script(A(), B(), C(), B(), "never reached")
    with pytest.raises(B):
        mode.run(policy, scripted)
    assert clock.slept == [1.0, 2.0, 5.0]
    assert scripted.count == 4


def test_the_first_retrier_that_matches_decides_alone(mode: Mode, clock: ManualRuntime) -> None:
    """A later one for the same error is not asked, not even when the first has no attempt left."""
    policy = retry(
        attempts=9,
        retriers=[Retrier(on=A, attempts=2, backoff=1.0, jitter=none()), Retrier(on=RetryableError, attempts=9)],
    )
    assert attempts_of(mode, policy, A()) == 2
    assert clock.slept == [1.0]


def test_faults_that_no_retrier_names_follow_the_options(mode: Mode, clock: ManualRuntime) -> None:
    """With a count of their own."""
    policy = retry(
        attempts=2, backoff=7.0, jitter=none(), retriers=[Retrier(on=A, attempts=3, backoff=1.0, jitter=none())]
    )
    scripted = script(A(), B(), A(), B())
    with pytest.raises(B):
        mode.run(policy, scripted)
    assert clock.slept == [1.0, 7.0, 1.0]
    assert scripted.count == 4


def test_a_retrier_may_forbid(mode: Mode, clock: ManualRuntime) -> None:
    """`attempts=1` never repeats what it names."""
    assert attempts_of(mode, retry(attempts=5, retriers=[Retrier(on=A, attempts=1)]), A()) == 1


def test_retriers_that_can_be_read_once_only(mode: Mode, clock: ManualRuntime) -> None:
    """Looking whether they are good does not use them up."""
    assert attempts_of(mode, retry(retriers=(one for one in [Retrier(on=A, attempts=5)])), A()) == 5


def test_retriers_by_kind_for_results_too(mode: Mode, clock: ManualRuntime) -> None:
    """A returned value that is a fault has a kind, and the retrier for that kind decides."""
    policy = retry(
        on_result=lambda value: Fault(Kind.throttled, "busy") if value == "busy" else None,
        retriers=[Retrier(on=Kind.throttled, attempts=5, backoff=7.0, jitter=none())],
    )
    assert mode.run(policy, script("busy", "busy", "ok")) == "ok"
    assert clock.slept == [7.0, 7.0]


# -- results -------------------------------------------------------------------------------------------------------


def test_a_result_may_be_a_fault(mode: Mode, clock: ManualRuntime) -> None:
    """`on_result` says True, or which fault; what it says decides as for an error."""
    scripted = script(None, None, "ok")
    assert mode.run(retry(on_result=lambda value: value is None), scripted) == "ok"
    assert scripted.count == 3
    final = script("gone")
    told = retry(on_result=lambda value: Fault(Kind.not_found, "gone") if value == "gone" else None)
    assert mode.run(told, final) == "gone"
    assert final.count == 1


def test_the_last_bad_result_comes_out(mode: Mode, clock: ManualRuntime) -> None:
    """Attempts are used up: the caller gets what the function returned, unclosed."""
    results = [Closable(), Closable()]
    assert mode.run(retry(attempts=2, on_result=lambda value: True), script(*results)) is results[1]
    assert [one.closed for one in results] == [["close"], []]


class Closable:
    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self) -> None:
        self.closed.append("close")


class ClosableBothWays(Closable):
    async def aclose(self) -> None:
        self.closed.append("aclose")


class Response:
    """As aiohttp's: `close` is not a coroutine function."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_discarded_result_is_closed_before_the_next_attempt(mode: Mode, clock: ManualRuntime) -> None:
    """A response that is thrown away gives its connection back; the one that is returned stays open."""
    responses = [Response(503), Response(503), Response(200)]
    answer = mode.run(retry(on_result=resilient_faces.classify_response), script(*responses))
    assert answer is responses[2]
    assert [one.closed for one in responses] == [1, 1, 0]


def test_a_result_is_closed_in_the_way_of_its_mode(mode: Mode, clock: ManualRuntime) -> None:
    """What has `close` and an async `aclose` is closed by the one that can be carried out."""
    first, second = ClosableBothWays(), ClosableBothWays()
    mode.run(retry(on_result=lambda value: value is first), script(first, second))
    assert first.closed == ["aclose" if mode.is_async else "close"]
    assert second.closed == []


def test_a_close_that_fails_is_no_matter(mode: Mode, clock: ManualRuntime) -> None:
    """The value is thrown away in any case."""

    class Stubborn:
        def close(self) -> None:
            raise RuntimeError("no")

    first = Stubborn()
    assert mode.run(retry(on_result=lambda value: value is first), script(first, "ok")) == "ok"


# -- hooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_hooks_are_told_of_each_attempt_and_wait(mode: Mode, clock: ManualRuntime, asynchronous: bool) -> None:
    """Before and after each attempt, and before each wait; async hooks in async guards."""
    if asynchronous and not mode.is_async:
        return
    told: list[tuple[str, int, str | None, float | None]] = []

    def hook(name: str) -> object:
        def sync(what: Attempted) -> None:
            told.append((name, what.attempt, type(what.error).__name__ if what.error else None, what.delay))

        async def coroutine(what: Attempted) -> None:
            sync(what)

        return coroutine if asynchronous else sync

    policy = retry(
        attempts=2,
        backoff=3.0,
        jitter=none(),
        before_attempt=hook("before"),  # type: ignore[arg-type]
        after_attempt=hook("after"),  # type: ignore[arg-type]
        before_sleep=hook("sleep"),  # type: ignore[arg-type]
    )
    assert mode.run(policy, script(A(), "ok")) == "ok"
    assert told == [
        ("before", 1, None, None),
        ("after", 1, "A", None),
        ("sleep", 1, "A", 3.0),
        ("before", 2, None, None),
        ("after", 2, None, None),
    ]


def test_hooks_see_calls_that_simply_succeed(mode: Mode, clock: ManualRuntime) -> None:
    """A guard with hooks around attempts leaves the direct path."""
    told: list[int] = []
    assert mode.run(retry(before_attempt=lambda what: told.append(what.attempt)), script("ok")) == "ok"
    assert mode.run(retry(after_attempt=lambda what: told.append(-what.attempt)), script("ok")) == "ok"
    assert told == [1, -1]


def test_the_last_attempt_has_no_wait_to_tell_of(mode: Mode, clock: ManualRuntime) -> None:
    """`before_sleep` is not called; `after_attempt` is, with the error."""
    after: list[Attempted] = []
    sleeps: list[Attempted] = []
    with pytest.raises(A):
        mode.run(retry(attempts=1, after_attempt=after.append, before_sleep=sleeps.append), script(A("x")))
    assert [(one.attempt, one.delay, str(one.error), one.fault and one.fault.kind) for one in after] == [
        (1, None, "x", Kind.transient)
    ]
    assert sleeps == []


def test_a_hook_runs_before_the_wait(mode: Mode, clock: ManualRuntime) -> None:
    """`before_sleep` comes when no time has passed yet."""
    times: list[float] = []
    mode.run(retry(backoff=5.0, jitter=none(), before_sleep=lambda _: times.append(clock.now)), script(A(), "ok"))
    assert times == [1000.0]
    assert clock.now == 1005.0


# -- deadlines and ends --------------------------------------------------------------------------------------------


def test_no_wait_that_would_end_after_the_deadline(mode: Mode, clock: ManualRuntime) -> None:
    """Waits of 1, 2, 4 s under 5 s: the third is not begun, and the error says why."""
    policy = guard(deadline(5.0), retry(attempts=9, backoff=exponential(1.0), jitter=none()))
    with pytest.raises(A) as caught:
        mode.run(policy, script(A()))
    assert clock.slept == [1.0, 2.0]
    assert report(caught.value).stopped == Stop.deadline.value


def test_a_drawn_wait_minds_the_deadline_too(mode: Mode, clock: ManualRuntime) -> None:
    """Half of 4 s fits into 3 s, half of 8 s after that does not."""
    policy = guard(deadline(3.0), retry(attempts=9, backoff=exponential(4.0)))
    with pytest.raises(A) as caught:
        mode.run(policy, script(A()))
    assert clock.slept == [2.0]
    assert report(caught.value).stopped == Stop.deadline.value


def test_a_wait_may_end_just_before_the_deadline(mode: Mode, clock: ManualRuntime) -> None:
    """What fits is waited; what would end on the deadline itself leaves nothing for the attempt."""
    fits = guard(deadline(1.5), retry(attempts=2, backoff=1.0, jitter=none()))
    assert mode.run(fits, script(A(), "ok")) == "ok"
    exact = guard(deadline(1.0), retry(attempts=2, backoff=1.0, jitter=none()))
    with pytest.raises(A):
        mode.run(exact, script(A(), "ok"))


def test_max_elapsed_covers_attempts_and_waits(clock: ManualRuntime) -> None:
    """It brings a deadline of its own, the time in the function included."""
    policy = retry(attempts=9, backoff=1.0, jitter=none(), max_elapsed=10.0)
    scripted = script(Hang(3.0, A()))
    with pytest.raises(A):
        policy(scripted.function())()
    assert scripted.count == 3  # 3 s + 1 s + 3 s + 1 s + 3 s, and no more
    assert clock.now == 1011.0


def test_what_remains_shrinks_from_attempt_to_attempt(clock: ManualRuntime) -> None:
    """The function can hand it to its client."""
    left: list[float | None] = []

    @retry(attempts=3, backoff=1.0, jitter=none(), max_elapsed=10.0)
    def work() -> None:
        left.append(resilient_faces.remaining())
        raise A

    with pytest.raises(A):
        work()
    assert left == [10.0, 9.0, 8.0]
    assert resilient_faces.remaining() is None


def test_shutdown_ends_waits_of_threads(resilience: None) -> None:
    """A thread that waits half a minute for its next attempt gets its error at once, and nothing is tried again."""
    scripted = script(A("first"))
    caught: list[BaseException] = []

    def run() -> None:
        try:
            retry(backoff=30.0, jitter=none())(scripted.function())()
        except A as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while scripted.count == 0:
        time.sleep(0.001)
    shutdown()
    thread.join(5.0)
    assert not thread.is_alive()
    assert scripted.count == 1
    assert report(caught[0]).stopped == Stop.shutdown.value


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_shutdown_ends_waits_of_tasks(resilience: None, backend: str) -> None:
    """A task looks four times a second whether the process is shutting down."""
    anyio = pytest.importorskip("anyio")
    scripted = script(A())

    async def main() -> None:
        threading.Timer(0.01, shutdown).start()
        await retry(backoff=30.0, jitter=none())(scripted.coroutine())()

    began = time.monotonic()
    with pytest.raises(A):
        anyio.run(main, backend=backend)
    assert time.monotonic() - began < 5.0
    assert scripted.count == 1


def test_after_shutdown_nothing_is_tried_again(mode: Mode, clock: ManualRuntime) -> None:
    """The first failure comes straight out."""
    shutdown()
    assert attempts_of(mode, retry(attempts=5), A()) == 1
    assert clock.slept == []


def test_retries_off(mode: Mode, clock: ManualRuntime) -> None:
    """Inside the block nothing is repeated, in nested blocks neither; guards work otherwise."""
    with retries_off():
        assert attempts_of(mode, retry(attempts=5), A()) == 1
        with retries_off():
            pass
        assert attempts_of(mode, retry(attempts=5), A()) == 1
        assert mode.run(guard(fallback(value="fell"), retry()), script(A())) == "fell"
    assert attempts_of(mode, retry(attempts=5), A()) == 5


def test_quick_retries(mode: Mode, clock: ManualRuntime) -> None:
    """Test mode bounds attempts and waits of every retry, and ends with its block."""
    policy = retry(attempts=5, backoff=10.0, jitter=none())
    with quick_retries():
        assert attempts_of(mode, policy, A()) == 5
    assert sum(clock.slept) == 0.0
    before = len(clock.slept)
    with quick_retries(attempts=2, delay=0.5):
        assert attempts_of(mode, policy, A()) == 2
        assert attempts_of(mode, retry(attempts=1), A()) == 1
    assert clock.slept[before:] == [0.5]
    assert attempts_of(mode, policy, A()) == 5


# -- reports -------------------------------------------------------------------------------------------------------


def test_a_report_on_a_call_that_recovered(mode: Mode, clock: ManualRuntime) -> None:
    """Attempts, elapsed time, faults and waits in order."""
    function = retry(backoff=2.0, jitter=none())(mode.function(script(Hang(1.0, A()), B(), "ok")))
    value, told = mode.call(function.call_with_report)  # type: ignore[misc]
    assert value == "ok"
    assert (told.attempts, told.elapsed, told.delays, told.outcome) == (3, 5.0, (2.0, 2.0), "after_retry")
    assert [one.code for one in told.faults] == ["A", "B"]
    assert (told.source, told.degraded, told.stopped) == (None, False, "")


def test_a_report_on_a_first_try(mode: Mode, clock: ManualRuntime) -> None:
    """The guard is asked as it is; arguments are passed on."""
    scripted = script(Hang(1.0, "ok"))
    value, told = mode.call(retry()(mode.function(scripted)).call_with_report, 1, b=2)  # type: ignore[misc]
    assert (value, told) == ("ok", Report(attempts=1, elapsed=1.0, outcome="first_try"))
    assert scripted.calls == [((1,), {"b": 2})]


def test_a_report_on_a_degraded_answer(mode: Mode, clock: ManualRuntime) -> None:
    """It says who answered, and after how many attempts."""
    function = guard(fallback(value=0, name="zero"), retry(attempts=2))(mode.function(script(A())))
    value, told = mode.call(function.call_with_report)  # type: ignore[misc]
    assert (value, told.outcome, told.source, told.degraded, told.attempts) == (0, "degraded", "zero", True, 2)
    assert told.stopped == Stop.attempts.value


def test_a_report_on_the_error_that_comes_out(mode: Mode, clock: ManualRuntime) -> None:
    """With or without `call_with_report`, `report(error)` tells the story."""
    function = retry(attempts=3, backoff=1.0, jitter=none())(mode.function(script(A(), B(), C())))
    for call in (function, function.call_with_report):
        with pytest.raises(C) as caught:
            mode.call(retry(attempts=3, backoff=1.0, jitter=none())(mode.function(script(A(), B(), C()))))
        told = report(caught.value)
        assert (told.attempts, told.delays, told.outcome, told.elapsed) == (3, (1.0, 1.0), "failed", 2.0)
        assert [one.code for one in told.faults] == ["A", "B", "C"]
        assert told.stopped == Stop.attempts.value
        assert call is not None


def test_call_with_report_on_failure(mode: Mode, clock: ManualRuntime) -> None:
    """The report is on the error that comes out, here of a call that was not repeated."""
    with pytest.raises(ValueError, match="no") as caught:
        mode.call(retry()(mode.function(script(Hang(2.0, ValueError("no"))))).call_with_report)
    told = report(caught.value)
    assert (told.attempts, told.outcome, told.elapsed) == (1, "failed", 2.0)
    assert [one.kind for one in told.faults] == [Kind.unknown]
    assert told.stopped == Stop.not_retryable.value


def test_a_report_on_a_stranger(resilience: None) -> None:
    """An error that no policy repeated has one attempt to tell of."""
    assert report(ValueError()) == Report(outcome="failed")


def test_a_call_not_repeated_for_want_of_idempotence_says_so(mode: Mode, clock: ManualRuntime) -> None:
    """Otherwise nobody would know why."""
    with pytest.raises(TimeoutError) as caught:
        mode.run(retry(), script(TimeoutError()))
    assert report(caught.value).stopped == Stop.not_idempotent.value


def test_a_report_is_about_one_call(mode: Mode, clock: ManualRuntime) -> None:
    """What a guarded function calls has a report of its own."""
    inner = retry(attempts=5, backoff=0.0)(mode.function(script(A(), A(), A(), "ok")))

    if mode.is_async:

        @retry(backoff=0.0)
        async def outer() -> object:
            return await inner()  # type: ignore[misc]
    else:

        @retry(backoff=0.0)
        def outer() -> object:  # type: ignore[misc]
            return inner()

    value, told = mode.call(outer.call_with_report)  # type: ignore[misc]
    assert (value, told.attempts, told.faults) == ("ok", 1, ())


def test_an_error_without_room_for_a_report(mode: Mode, clock: ManualRuntime) -> None:
    """It comes out all the same."""

    class Slotted(RetryableError):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with pytest.raises(Slotted) as caught:
        mode.run(retry(), script(Slotted()))
    assert report(caught.value) == Report(outcome="failed")


# -- what the function can know ------------------------------------------------------------------------------------


def test_the_function_knows_its_attempt(mode: Mode, clock: ManualRuntime) -> None:
    """`current_attempt()` counts from 1, and is back at 1 after the call."""
    seen: list[int] = []

    def look() -> None:
        seen.append(current_attempt())
        if len(seen) < 3:
            raise A

    mode.call(retry(attempts=3)(mode.wrap(look)))
    mode.call(retry(attempts=3)(mode.wrap(look)))
    assert seen == [1, 2, 3, 1]
    assert current_attempt() == 1


@pytest.mark.parametrize("hook", [None, lambda _: None], ids=["direct", "flow"])
def test_the_attempt_is_forgotten_after_a_failure(clock: ManualRuntime, hook: Callable[[object], None] | None) -> None:
    """Also when all attempts fail, or an interrupt ends the second one."""
    policy = retry(attempts=3, before_sleep=hook)
    with pytest.raises(A):
        policy(script(A()).function())()
    assert current_attempt() == 1
    with pytest.raises(KeyboardInterrupt):
        policy(script(A(), KeyboardInterrupt()).function())()
    assert current_attempt() == 1


@pytest.mark.parametrize("hook", [None, lambda _: None], ids=["direct", "flow"])
def test_a_context_keeps_no_function_that_nobody_calls(
    clock: ManualRuntime, hook: Callable[[object], None] | None
) -> None:
    """The link of a call that was repeated stays in the context; what it named is let go."""

    def function() -> None:
        if current_attempt() == 1:
            raise A

    retry(attempts=3, before_sleep=hook)(function)()
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_a_task_that_outlives_the_call_is_on_a_first_attempt(clock: ManualRuntime) -> None:
    """It copied the context of a call that was being repeated, and that call has ended."""
    seen: list[int] = []

    async def main() -> None:
        started: list[asyncio.Task[None]] = []

        async def later() -> None:
            seen.append(current_attempt())
            await ended.wait()
            seen.append(current_attempt())

        async def work() -> None:
            if current_attempt() == 2:
                started.append(asyncio.create_task(later()))
                await asyncio.sleep(0)
                return
            raise A

        ended = asyncio.Event()
        await retry(attempts=3)(work)()
        ended.set()
        await started[0]

    asyncio.run(main())
    assert seen == [2, 1]


# -- other options for one call ------------------------------------------------------------------------------------


def test_with_options(mode: Mode, clock: ManualRuntime) -> None:
    """The same function with other options of its retry; the original keeps its own."""
    scripted = script(A())
    function = retry(attempts=2)(mode.function(scripted))
    with pytest.raises(A):
        mode.call(function.with_options(attempts=5))
    assert scripted.count == 5
    with pytest.raises(A):
        mode.call(function)
    assert scripted.count == 7


def test_with_options_shares_the_circuit(mode: Mode, clock: ManualRuntime) -> None:
    """Only the retry is another one: failures count on the same circuit, named or not."""
    policy = guard(retry(attempts=1), resilient_faces.Breaker(trips=resilient_faces.breaker.consecutive(2)))
    function = policy(mode.function(script(A())))
    for call in (function, function.with_options(attempts=1)):
        with pytest.raises(A):
            mode.call(call)
    with pytest.raises(CircuitOpenError):
        mode.call(function)


def test_with_options_needs_a_retry_and_its_options(clock: ManualRuntime) -> None:
    """What cannot be set is named."""
    plain = fallback(value=0)(script(1).function())
    with pytest.raises(UnknownOptionError, match="with_options sets options of Retry, and this guard has none"):
        plain.with_options(attempts=2)
    with pytest.raises(UnknownOptionError, match="Did you mean attempts"):
        retry()(script(1).function()).with_options(attempt=2)
    with pytest.raises(OptionError, match=r"Retry\.attempts must be 1 or more"):
        retry()(script(1).function()).with_options(attempts=0)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_generator_function_is_refused() -> None:
    """With what to do instead, for plain and async ones and for objects with such a `__call__` alike."""

    def items() -> Iterator[int]:
        yield 1

    async def aitems() -> object:
        yield 1

    with pytest.raises(DecorationError, match=r"items is a generator: .* Guard the function that fetches one item"):
        retry()(items)
    with pytest.raises(DecorationError, match="aitems is an async generator"):
        retry()(aitems)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"attempts": 0},
            (
                "Retry.attempts must be 1 or more (the first call counts too); got 0. "
                "To switch retries off, leave Retry out of the guard."
            ),
        ),
        ({"attempts": 1.5}, "Retry.attempts must be 1 or more (the first call counts too); got 1.5."),
        ({"attempts": True}, "Retry.attempts must be 1 or more (the first call counts too); got True."),
        ({"attempts": -math.inf}, "Retry.attempts must be 1 or more (the first call counts too); got -inf."),
        ({"backoff": "1"}, "Retry.backoff must be a delay such as exponential(0.1), a number of seconds, or a func"),
        ({"backoff": exponential}, "Mind the brackets."),
        ({"never": iter([KeyError])}, "An iterator can be read once only: give a tuple."),
        ({"retriers": ""}, "Retry.retriers must be a list of Retrier(...); got ''."),
        ({"retriers": {}}, "Retry.retriers must be a list of Retrier(...); got {}."),
        ({"backoff": -1}, "fixed.seconds must be 0 or more seconds; got -1."),
        ({"jitter": full}, "Retry.jitter must be a jitter such as full() or none(); got <class"),
        ({"jitter": full}, "Mind the brackets."),
        ({"on": "ValueError"}, "Retry.on must be exception classes, kinds of fault or predicates; got 'ValueError'."),
        ({"idempotent": 1}, "Retry.idempotent must be True or False; got 1."),
        ({"retriers": [1]}, "Retry.retriers must be a list of Retrier(...); got (1,)."),
        ({"retriers": 1}, "Retry.retriers must be a list of Retrier(...); got 1."),
        ({"max_elapsed": 0}, "Retry.max_elapsed must be more than 0 seconds; got 0."),
        ({"on_result": 1}, "Retry.on_result must be callable; got 1."),
        ({"stop": 1}, "Retry.stop must be callable; got 1."),
        ({"before_sleep": "x"}, "Retry.before_sleep must be callable; got 'x'."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], said: str) -> None:
    """Class, option, rule, value, cure."""
    with pytest.raises(OptionError) as caught:
        Retry(**options)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_wrong_never_is_called_by_its_name() -> None:
    """The message names the option that is wrong."""
    with pytest.raises(OptionError, match=r"^Retry\.never must be exception classes"):
        retry(never="ValueError")  # type: ignore[arg-type]


def test_all_wrong_options_come_in_one_message() -> None:
    """A line each."""
    with pytest.raises(OptionError) as caught:
        retry(attempts=0, idempotent="no", max_elapsed=-1)  # type: ignore[arg-type]
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "Retry.attempts",
        "Retry.idempotent",
        "Retry.max_elapsed",
    ]


def test_a_long_value_is_cut_in_the_message() -> None:
    """A message stays readable whatever was given."""
    with pytest.raises(OptionError) as caught:
        retry(attempts="x" * 5000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_a_mistyped_option_is_named() -> None:
    """With the nearest one that exists, and all that there are."""
    with pytest.raises(UnknownOptionError) as caught:
        retry(attemps=3)  # type: ignore[call-arg]
    assert str(caught.value).startswith("Retry has no option 'attemps'. Did you mean attempts? It takes: attempts, ")


def test_missing_brackets_are_noticed() -> None:
    """`@retry` above a function is a common slip."""
    with pytest.raises(OptionError, match=r"Write @retry\(\), with brackets, above the function"):

        @retry  # type: ignore[call-arg]
        def work() -> None: ...


def test_a_retrier_is_checked_too() -> None:
    """Under its own name."""
    with pytest.raises(OptionError, match=r"Retrier\.attempts must be 1 or more"):
        Retrier(on=A, attempts=0)
    with pytest.raises(OptionError, match=r"Retrier\.on must be exception classes"):
        Retrier(on="A")  # type: ignore[arg-type]
    with pytest.raises(UnknownOptionError, match="Retrier has no option 'delay'"):
        Retrier(on=A, delay=1.0)  # type: ignore[call-arg]


def test_a_retry_is_a_value() -> None:
    """Equal options are equal policies, with no state of any call."""
    assert retry(attempts=4) == retry(attempts=4) != retry(attempts=5)
    assert len({retry(), retry(), retry(attempts=7)}) == 2
    with pytest.raises(AttributeError):
        retry().attempts = 5  # type: ignore[misc]


def test_two_calls_at_once_share_nothing(clock: ManualRuntime) -> None:
    """Counts, waits and retriers belong to one call: a call inside another starts from its own first attempt."""
    policy = retry(attempts=3, backoff=exponential(1.0), jitter=none())
    inner = script(A())
    calls = 0

    @policy
    def outer() -> None:
        nonlocal calls
        calls += 1
        with pytest.raises(A):
            policy(inner.function())()
        raise B

    with pytest.raises(B):
        outer()
    assert calls == 3
    assert inner.count == 9
    assert clock.slept == [1.0, 2.0, 1.0, 1.0, 2.0, 2.0, 1.0, 2.0]


def test_a_call_timeout_is_a_timeout(mode: Mode, clock: ManualRuntime) -> None:
    """Whether the call was carried out is unknown, so it is repeated only if that does no harm."""
    assert attempts_of(mode, retry(), CallTimeoutError("f", 1.0)) == 1
    assert attempts_of(mode, retry(idempotent=True), CallTimeoutError("f", 1.0)) == 3


def test_fixed_is_fixed(clock: ManualRuntime) -> None:
    """`backoff=fixed(1)` and `backoff=1` are the same."""
    for policy in (retry(backoff=fixed(1.0), jitter=none()), retry(backoff=1.0, jitter=none())):
        with pytest.raises(A):
            policy(script(A()).function())()
    assert clock.slept == [1.0] * 4


def test_after_shutdown_nobody_is_told_of_a_retry(mode: Mode, clock: ManualRuntime) -> None:
    """No further attempt is announced, to hooks or listeners, once the process is stopping."""
    told: list[object] = []
    stop = resilient_faces.listen(lambda event: told.append(event.type))
    shutdown()
    scripted = script(A(), "ok")
    with pytest.raises(A):
        mode.run(retry(before_sleep=told.append), scripted)
    stop()
    assert scripted.count == 1
    assert told == []


def test_a_quiet_policy_inside_is_asked_for_each_attempt(mode: Mode, clock: ManualRuntime) -> None:
    """The direct path's attempt is taken once; whatever lies between the retry and the call, the next ones are made."""
    scripted = script(A(), A(), "ok")
    inner = resilient_faces.fallback(value=0, on=KeyError)
    assert mode.run(guard(retry(attempts=3, backoff=0.0), inner, accept=["RF002"]), scripted) == "ok"
    assert scripted.count == 3
