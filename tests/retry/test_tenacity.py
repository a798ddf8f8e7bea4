"""tenacity both ways: its strategies and combinations in our retry, ours in its `Retrying` and `AsyncRetrying`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import tenacity

from resilient_faces import Fault, Kind, OptionError, Retrier, RetryableError, fallback, guard, report, retry
from resilient_faces.retry import (
    Stop,
    exponential,
    fibonacci,
    fixed,
    linear,
    none,
    retryable,
    sequence,
    stop_after,
)
from resilient_faces.testing import Hang, ManualRuntime, Mode, script


class Again(RetryableError):
    pass


class Other(Exception):
    pass


def run(mode: Mode, policy: object, *lines: object) -> tuple[int, object]:
    """How often the script was called, and the value or the error that came out."""
    scripted = script(*lines)
    try:
        return scripted.count, mode.run(policy, scripted)  # type: ignore[arg-type]
    except Exception as error:
        return scripted.count, error
    finally:
        run.count = scripted.count  # type: ignore[attr-defined]


def calls(mode: Mode, policy: object, *lines: object) -> int:
    run(mode, policy, *lines)
    count: int = run.count  # type: ignore[attr-defined]
    return count


# -- its strategies in our retry -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "count"),
    [
        (tenacity.stop_after_attempt(4), 4),
        (tenacity.stop_after_attempt(4) | tenacity.stop_after_attempt(2), 2),
        (tenacity.stop_after_attempt(4) & tenacity.stop_after_attempt(2), 4),
        (tenacity.stop_any(tenacity.stop_after_attempt(5), tenacity.stop_after_delay(2.5)), 4),
        (tenacity.stop_all(tenacity.stop_after_attempt(2), tenacity.stop_after_delay(2.5)), 4),
        (tenacity.stop_after_delay(2), 3),
        (tenacity.stop_before_delay(2.5), 3),
        (lambda state: state.attempt_number >= 3, 3),
        (stop_after(attempts=3), 3),
        (stop_after(seconds=2.0), 3),
        (stop_after(attempts=9, seconds=2.0), 3),
        (tenacity.stop_after_attempt(9) | stop_after(attempts=3), 3),
    ],
)
def test_stops(mode: Mode, clock: ManualRuntime, stop: Callable[..., bool], count: int) -> None:
    """Each stock stop, combinations, functions of the state, and our own; one second between attempts."""
    assert calls(mode, retry(stop=stop, backoff=1.0, jitter=none()), Again()) == count


def test_stop_never_leaves_the_end_to_success(mode: Mode, clock: ManualRuntime) -> None:
    """`stop_never` with the default of unlimited attempts."""
    assert calls(mode, retry(stop=tenacity.stop_never), *[Again()] * 30, "ok") == 31


def test_stop_when_event_set(mode: Mode, clock: ManualRuntime) -> None:
    """The event is looked at after each attempt."""
    event = threading.Event()
    clock.on_sleep = lambda _: event.set()
    assert calls(mode, retry(stop=tenacity.stop_when_event_set(event), backoff=1.0), Again()) == 2


def test_attempts_beside_a_stop(mode: Mode, clock: ManualRuntime) -> None:
    """Whichever comes first; without `attempts` the stop alone decides."""
    assert calls(mode, retry(attempts=2, stop=tenacity.stop_after_attempt(5)), Again()) == 2
    assert calls(mode, retry(attempts=7, stop=tenacity.stop_after_attempt(5)), Again()) == 5
    assert calls(mode, retry(attempts=7, stop=tenacity.stop_any(tenacity.stop_after_attempt(5))), Again()) == 5
    assert calls(mode, retry(stop=tenacity.stop_after_attempt(5)), Again()) == 5


def test_a_stop_delay_counts_from_the_start_of_the_first_attempt(clock: ManualRuntime) -> None:
    """As in tenacity: attempts of 6 s under a stop of 10 s are two."""
    scripted = script(Hang(6.0, Again()))
    with pytest.raises(Again):
        retry(stop=tenacity.stop_after_delay(10), backoff=0.0)(scripted.function())()
    assert scripted.count == 2


@pytest.mark.parametrize(
    ("wait", "waits"),
    [
        (tenacity.wait_none(), [0, 0, 0]),
        (tenacity.wait_fixed(2), [2, 2, 2]),
        (tenacity.wait_incrementing(start=1, increment=2), [1, 3, 5]),
        (tenacity.wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (tenacity.wait_combine(tenacity.wait_fixed(1), tenacity.wait_exponential()), [2, 3, 5]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(4)), [1, 4, 4]),
        (tenacity.wait_random(1, 1), [1, 1, 1]),
        (tenacity.wait_random_exponential(multiplier=1, max=1, min=1), [1, 1, 1]),
        (tenacity.wait_exponential_jitter(initial=1, max=3, jitter=0), [1, 2, 3]),
        (tenacity.wait_fixed(1) + exponential(1.0), [2, 3, 5]),
        (exponential(1.0) + tenacity.wait_fixed(1), [2, 3, 5]),  # type: ignore[operator]
    ],
)
def test_waits(mode: Mode, clock: ManualRuntime, wait: Callable[..., float], waits: list[float]) -> None:
    """Each stock wait and combinations, without jitter of ours on top."""
    calls(mode, retry(attempts=4, backoff=wait), Again())
    assert sum(clock.slept) == sum(waits)
    if all(waits):
        assert clock.slept == waits


@pytest.mark.skipif(not hasattr(tenacity, "wait_exception"), reason="older tenacity")
@pytest.mark.other_platform
def test_wait_by_exception(mode: Mode, clock: ManualRuntime) -> None:
    """The error itself says how long."""
    policy = retry(attempts=3, backoff=tenacity.wait_exception(lambda error: float(str(error))))
    calls(mode, policy, Again("3"), Again("5"), "ok")
    assert clock.slept == [3.0, 5.0]


@pytest.mark.parametrize(
    ("on", "lines", "count"),
    [
        (tenacity.retry_if_exception_type(Other), [Other()], 4),
        (tenacity.retry_if_exception_type(Other), [Again()], 1),
        (tenacity.retry_if_not_exception_type(Other), [Other()], 1),
        (tenacity.retry_if_not_exception_type(Other), [Again()], 4),
        (tenacity.retry_if_exception(lambda error: str(error) == "x"), [Other("x")], 4),
        (tenacity.retry_if_exception(lambda error: str(error) == "x"), [Other("y")], 1),
        (tenacity.retry_if_exception_message("x"), [Other("x")], 4),
        (tenacity.retry_if_exception_message(match="x+"), [Other("xx")], 4),
        (tenacity.retry_if_not_exception_message("x"), [Other("x")], 1),
        (tenacity.retry_if_not_exception_message("x"), [Other("y")], 4),
        (tenacity.retry_always, [Other()], 4),
        (tenacity.retry_never, [Again()], 1),
        (tenacity.retry_if_exception_type(Other) | tenacity.retry_if_exception_type(KeyError), [KeyError()], 4),
        (tenacity.retry_if_exception_type(Exception) & tenacity.retry_if_exception_message("x"), [Other("y")], 1),
        (tenacity.retry_any(tenacity.retry_never, tenacity.retry_if_exception_type(Other)), [Other()], 4),
        (tenacity.retry_all(tenacity.retry_never, tenacity.retry_if_exception_type(Other)), [Other()], 1),
        (tenacity.retry_if_result(lambda value: value is None), [None, None, "ok"], 3),
        (tenacity.retry_if_result(lambda value: value is None), ["ok"], 1),
        (tenacity.retry_if_result(lambda value: value is None), [Again()], 1),
        (tenacity.retry_if_not_result(lambda value: value == "ok"), [None, None, "ok"], 3),
        (
            tenacity.retry_if_result(lambda value: value is None) | tenacity.retry_if_exception_type(Other),
            [None, Other(), "ok"],
            3,
        ),
        (tenacity.retry_unless_exception_type(Other), ["ok", "ok", Other()], 3),
    ],
)
def test_retries(mode: Mode, clock: ManualRuntime, on: object, lines: list[object], count: int) -> None:
    """Each stock retry strategy and combinations, on errors and on returned values."""
    assert calls(mode, retry(attempts=4, backoff=0.0, on=on), *lines) == count  # type: ignore[arg-type]


STOCK = [
    (tenacity.retry_if_exception_type, (Other,)),
    (tenacity.retry_if_not_exception_type, (Other,)),
    (tenacity.retry_if_exception, (lambda error: isinstance(error, Other),)),
    (tenacity.retry_if_exception_message, ("x",)),
    (tenacity.stop_after_attempt, (3,)),
    (tenacity.wait_fixed, (2,)),
    (tenacity.wait_none, ()),
]


@pytest.mark.parametrize(("cls", "options"), STOCK, ids=[cls.__name__ for cls, _ in STOCK])
@pytest.mark.parametrize("line", [Other("x"), Other("y"), Again("x"), Again("y"), None], ids=repr)
def test_stock_strategies_answer_as_if_called(
    clock: ManualRuntime, cls: Callable[..., object], options: tuple[object, ...], line: object
) -> None:
    """Those that go by number and error alone are asked by their members; a subclass is called, and says the same."""
    derived = type("Derived", (cls,), {})  # type: ignore[arg-type]
    seen = []
    for made in (cls(*options), derived(*options)):
        option = {"retry": "on", "stop": "stop", "wait": "backoff"}[cls.__name__.partition("_")[0]]
        given: dict[str, object] = {"attempts": 5, "backoff": 0.0, "on_result": lambda value: value is None}
        policy = retry(**{**given, option: made})  # type: ignore[arg-type]
        before = len(clock.slept)
        scripted = script(line)
        try:
            policy(scripted.function())()
        except (Other, Again):
            pass
        seen.append((scripted.count, clock.slept[before:]))
    assert seen[0] == seen[1]


def test_a_stock_strategy_that_is_changed_later_is_heard(mode: Mode, clock: ManualRuntime) -> None:
    """Its members are asked at each failure and not once."""
    stop = tenacity.stop_after_attempt(2)
    policy = retry(stop=stop, backoff=0.0)
    assert calls(mode, policy, Again()) == 2
    stop.max_attempt_number = 4
    assert calls(mode, policy, Again()) == 4


def test_retry_by_cause(mode: Mode, clock: ManualRuntime) -> None:
    """`retry_if_exception_cause_type` looks at what an error was raised from."""
    caused = Other()
    caused.__cause__ = KeyError()
    on = tenacity.retry_if_exception_cause_type(KeyError)
    assert calls(mode, retry(attempts=3, on=on), caused) == 3  # type: ignore[arg-type]
    assert calls(mode, retry(attempts=3, on=on), Other()) == 1  # type: ignore[arg-type]


def test_a_user_s_subclass_is_a_strategy_too(mode: Mode, clock: ManualRuntime) -> None:
    """Users write their own by inheritance."""

    class Every(tenacity.wait.wait_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            return float(retry_state.attempt_number * 10)

    calls(mode, retry(attempts=3, backoff=Every()), Again())
    assert clock.slept == [10.0, 20.0]


def test_strategies_read_the_state_of_the_call(clock: ManualRuntime) -> None:
    """Function, arguments, attempt, outcome, times and waits, as tenacity's own state has them."""
    seen: list[tuple[object, ...]] = []

    def look(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        seen.append(
            (
                state.args,
                state.kwargs,
                state.attempt_number,
                state.outcome.failed,
                type(state.outcome.exception()),
                state.idle_for,
                state.upcoming_sleep,
            )
        )
        with pytest.raises(Again):
            state.outcome.result()
        return False

    scripted = script(Again(), Again(), "ok")
    retry(stop=look, backoff=tenacity.wait_fixed(2))(scripted.function())(1, b=2)
    assert seen == [
        ((1,), {"b": 2}, 1, True, Again, 0, 2),
        ((1,), {"b": 2}, 2, True, Again, 2, 2),
    ]


def test_what_a_strategy_cannot_change(mode: Mode, clock: ManualRuntime) -> None:
    """Our own rejections are not repeated even by `retry_always`, and a deadline bounds its waits."""
    from resilient_faces import CircuitOpenError, deadline

    assert calls(mode, retry(attempts=4, on=tenacity.retry_always), CircuitOpenError("db", 1.0)) == 1  # type: ignore[arg-type]
    bounded = guard(deadline(5.0), retry(attempts=4, backoff=tenacity.wait_fixed(6)))
    assert calls(mode, bounded, Again()) == 1
    assert clock.slept == []


def test_a_strategy_s_stop_is_in_the_report(mode: Mode, clock: ManualRuntime) -> None:
    """Who asks why learns that it was the strategy."""
    _, error = run(mode, retry(stop=tenacity.stop_after_attempt(2)), Again())
    assert isinstance(error, Again)
    assert report(error).stopped == Stop.strategy.value


def test_a_strategy_under_other_policies(mode: Mode, clock: ManualRuntime) -> None:
    """The rest of the guard neither knows nor cares."""
    policy = guard(fallback(value="fell"), retry(stop=tenacity.stop_after_attempt(2), backoff=tenacity.wait_none()))
    assert run(mode, policy, Again())[1] == "fell"


def test_async_strategies_are_refused() -> None:
    """A strategy decides, it does not wait."""

    async def true(value: object) -> bool:
        return True

    strategy = tenacity.asyncio.retry_if_result(true)
    with pytest.raises(OptionError, match=r"Retry\.on must be one of tenacity's synchronous strategies"):
        retry(on=strategy)  # type: ignore[arg-type]


def test_a_wait_in_a_retrier_works_or_is_refused(mode: Mode, clock: ManualRuntime) -> None:
    """It does not wait until the first failure to be wrong."""
    try:
        policy = retry(retriers=[Retrier(on=Again, backoff=tenacity.wait_fixed(2))])
    except OptionError as error:
        assert "Retrier.backoff" in str(error)  # noqa: PT017
        return
    calls(mode, policy, Again(), "ok")
    assert clock.slept == [2.0]


# -- ours in its Retrying ------------------------------------------------------------------------------------------


def retrying(asynchronous: bool, slept: list[float], **options: object) -> tenacity.BaseRetrying:
    """tenacity's loop, sleeping into a list."""
    if asynchronous:

        async def asleep(seconds: float) -> None:
            slept.append(seconds)

        return tenacity.AsyncRetrying(sleep=asleep, reraise=True, **options)  # type: ignore[arg-type]
    return tenacity.Retrying(sleep=slept.append, reraise=True, **options)  # type: ignore[arg-type]


def drive(asynchronous: bool, loop: tenacity.BaseRetrying, *lines: object) -> int:
    """Run a script under tenacity's loop; how often it was called."""
    scripted = script(*lines)
    try:
        if asynchronous:
            asyncio.run(loop(scripted.coroutine()))  # type: ignore[arg-type]
        else:
            loop(scripted.function())
    except (Again, Other, TimeoutError):
        pass
    return scripted.count


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["Retrying", "AsyncRetrying"])


@both
@pytest.mark.parametrize(
    ("wait", "waits"),
    [
        (fixed(2.0), [2, 2, 2]),
        (linear(1.0), [1, 2, 3]),
        (exponential(1.0, factor=3.0, cap=8.0), [1, 3, 8]),
        (sequence((5.0, 1.0)), [5, 1, 1]),
        (fibonacci(1.0), [1, 1, 2]),
        (tenacity.wait_fixed(1) + exponential(1.0), [2, 3, 5]),
        (tenacity.wait_chain(fixed(7.0), linear(1.0)), [7, 2, 3]),  # type: ignore[arg-type]
    ],
)
def test_our_delays_as_its_wait(asynchronous: bool, wait: object, waits: list[float]) -> None:
    """Alone and in its combinations."""
    slept: list[float] = []
    loop = retrying(asynchronous, slept, wait=wait, stop=tenacity.stop_after_attempt(4))
    assert drive(asynchronous, loop, Again()) == 4
    assert slept == waits


@both
@pytest.mark.parametrize(
    ("stop", "count"),
    [
        (stop_after(attempts=3), 3),
        (tenacity.stop_after_attempt(5) | stop_after(attempts=2), 2),
        (tenacity.stop_any(stop_after(attempts=2), stop_after(attempts=4)), 2),
        (tenacity.stop_all(stop_after(attempts=2), stop_after(attempts=4)), 4),
        (stop_after(seconds=0.0), 1),
    ],
)
def test_our_stop_as_its_stop(asynchronous: bool, stop: object, count: int) -> None:
    """Alone and in its combinations."""
    assert drive(asynchronous, retrying(asynchronous, [], stop=stop), Again()) == count


@both
@pytest.mark.parametrize(
    ("asked", "lines", "count"),
    [
        (retryable(), [Again()], 3),
        (retryable(), [Other()], 1),
        (retryable(), [TimeoutError()], 1),
        (retryable(retry(idempotent=True)), [TimeoutError()], 3),
        (retryable(retry(on=Other)), [Other()], 3),
        (retryable(retry(on=Other)), [Again()], 1),
        (retryable(retry(classify=lambda error: Fault(Kind.transient, "x"))), [Other()], 3),  # type: ignore[arg-type]
        (retryable(), ["ok"], 1),
        (tenacity.retry_any(retryable(), tenacity.retry_if_result(lambda v: v is None)), [None, Again(), "ok"], 3),
    ],
)
def test_our_classification_as_its_retry(asynchronous: bool, asked: object, lines: list[object], count: int) -> None:
    """`retryable()` repeats what a policy of ours would."""
    loop = retrying(asynchronous, [], retry=asked, stop=tenacity.stop_after_attempt(3))
    assert drive(asynchronous, loop, *lines) == count


def test_a_stop_is_checked() -> None:
    """It needs something to stop at."""
    with pytest.raises(OptionError, match=r"stop_after\.attempts must be given unless seconds is"):
        stop_after()
    with pytest.raises(OptionError, match=r"stop_after\.attempts must be 1 or more"):
        stop_after(attempts=0)
    with pytest.raises(OptionError, match=r"stop_after\.seconds must be 0 or more"):
        stop_after(seconds=-1.0)
