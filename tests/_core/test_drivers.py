"""The two drivers and the direct path: what they do with interrupts, permits, stores and coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilient_faces import (
    Breaker,
    CircuitOpenError,
    Event,
    RetryableError,
    circuit_breaker,
    fallback,
    guard,
    listen,
    retry,
)
from resilient_faces.breaker import consecutive, failure_rate, slow_rate
from resilient_faces.composing import RULES as ORDER_RULES
from resilient_faces.flows import (
    Call,
    Flow,
    Inner,
    Outcome,
    Returned,
    Unanswered,
    ask,
    call_other,
    sleep,
    tell,
    unwrap,
)
from resilient_faces.flows import event as event_of
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, script


class Again(RetryableError):
    pass


class Interrupt(BaseException):
    pass


class Asking:
    """A policy made of one flow."""

    quiet = False
    answers = False

    def __init__(self, flow: Callable[[Inner, Call], Flow[Outcome]]) -> None:
        self._flow = flow

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        return (yield from self._flow(inner, call))


# -- interrupts give permits back ----------------------------------------------------------------------------------


def half_open(clock: ManualRuntime) -> Breaker:
    """A breaker whose circuit admits one probe."""
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=1.0)
    with pytest.raises(Again):
        breaker.call(script(Again()).function())
    clock.advance(1.0)
    return breaker


@pytest.mark.parametrize("outer", [[], [retry(attempts=3)], [fallback(value=0), retry(attempts=3)]], ids=len)
@pytest.mark.parametrize("error", [Interrupt, KeyboardInterrupt, SystemExit])
def test_an_interrupted_probe_gives_its_permit_back(
    clock: ManualRuntime, error: type[BaseException], outer: list[Any]
) -> None:
    """It is no evidence: the next call may probe, and its success closes the circuit."""
    breaker = half_open(clock)
    policy = guard(*outer, breaker)
    with pytest.raises(error):
        policy(script(error()).function())()
    assert breaker.circuit.snapshot().probes == 0
    assert breaker.circuit.state.value == "half_open"
    assert policy(script("ok").function())() == "ok"
    assert breaker.circuit.state.value == "closed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_probe_gives_its_permit_back(clock: ManualRuntime, backend: str) -> None:
    """Under both libraries, in the middle of the attempt."""
    breaker = half_open(clock)

    async def hang() -> None:
        await anyio.sleep(30)

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await guard(retry(), breaker)(hang)()

    anyio.run(main, backend=backend)
    snapshot = breaker.circuit.snapshot()
    assert (snapshot.probes, snapshot.state.value, snapshot.failures) == (0, "half_open", 1)


def test_an_interrupted_call_is_not_counted(mode: Mode, clock: ManualRuntime) -> None:
    """On the direct path, and in a later attempt."""
    policy = guard(retry(attempts=3), Breaker("db", trips=consecutive(2)))
    for lines in ((Interrupt(),), (Again(), Interrupt())):
        with pytest.raises(Interrupt):
            mode.run(policy, script(*lines))
    assert policy.policies[1].circuit.snapshot().failures == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("inner", [[], [circuit_breaker()], [Breaker(trips=slow_rate(0.5, slower_than=9.0, calls=20))]])
def test_no_policy_decides_over_an_interrupt(mode: Mode, clock: ManualRuntime, inner: list[Any]) -> None:
    """It passes every shape of the direct path by: no flow is entered, whatever a policy would make of it."""
    entered: list[Call] = []

    class Greedy:
        quiet = True
        answers = True

        def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
            entered.append(call)
            yield from inner(call)
            return Returned("swallowed")

    with pytest.raises(Interrupt):
        mode.run(guard(Greedy(), *inner), script(Interrupt()))
    assert entered == []


# -- the direct path -----------------------------------------------------------------------------------------------


def test_the_permit_of_the_first_attempt_is_settled_once(mode: Mode, clock: ManualRuntime) -> None:
    """A failed first attempt counts one failure, not none and not two."""
    breaker = circuit_breaker("db")
    with pytest.raises(ValueError):  # noqa: PT011
        mode.run(guard(retry(), breaker), script(ValueError()))
    assert breaker.circuit.snapshot().failures == 1


def test_a_call_that_was_made_comes_out_though_the_circuit_opened_meanwhile(mode: Mode, clock: ManualRuntime) -> None:
    """The first attempt was admitted: its own error is the answer, not `CircuitOpenError`."""
    breaker = Breaker("db", trips=consecutive(5))

    def work() -> None:
        breaker.circuit.force_open(9.0)
        raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        mode.call(guard(retry(), breaker)(mode.wrap(work)))
    assert breaker.circuit.snapshot().failures == 0


def test_a_late_success_changes_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """A call admitted before the circuit opened comes back while it is open: it stays open."""
    breaker = Breaker("db", trips=failure_rate(0.5, calls=4, minimum=2), recovery_timeout=10.0)
    inner = breaker(script(Again()).function())

    def work() -> str:
        for _ in range(2):
            with pytest.raises(Again):
                inner()
        return "late"

    assert mode.call(breaker(mode.wrap(work))) == "late"
    assert breaker.circuit.state.value == "open"
    assert breaker.circuit.snapshot().retry_after == 10.0


def test_a_success_is_noted_in_a_window(mode: Mode, clock: ManualRuntime) -> None:
    """Three successes on the direct path dilute one failure."""
    breaker = Breaker("db", trips=failure_rate(0.5, calls=4, minimum=1))
    function = breaker(mode.function(script("ok", "ok", "ok", Again(), "ok")))
    for _ in range(3):
        mode.call(function)
    with pytest.raises(Again):
        mode.call(function)
    assert breaker.circuit.state.value == "closed"


def test_a_success_clears_failures_in_a_row(mode: Mode, clock: ManualRuntime) -> None:
    """It is news then, although it comes on the direct path."""
    breaker = Breaker("db", trips=consecutive(2))
    function = breaker(mode.function(script(Again(), "ok", Again(), "ok")))
    for _ in range(2):
        with pytest.raises(Again):
            mode.call(function)
        assert mode.call(function) == "ok"
    assert breaker.circuit.state.value == "closed"


def around_a_retry(trips: Any) -> tuple[Breaker, Any]:
    """A circuit that sees one outcome of all attempts, which `guard` warns of."""
    breaker = Breaker("db", trips=trips)
    policy = guard(breaker, retry(attempts=2, backoff=1.0, jitter=none()), accept=[rule.id for rule in ORDER_RULES])
    return breaker, policy


def test_a_circuit_around_a_retry_counts_a_recovery(mode: Mode, clock: ManualRuntime) -> None:
    """A success at the second attempt ends a row of failures as one at the first does."""
    breaker, policy = around_a_retry(consecutive(2))
    function = policy(mode.function(script(Again(), Again(), Again(), "ok", Again(), Again())))
    with pytest.raises(Again):
        mode.call(function)
    assert mode.call(function) == "ok"
    with pytest.raises(Again):
        mode.call(function)
    assert breaker.circuit.state.value == "closed"


def test_a_circuit_around_a_retry_times_all_of_it(mode: Mode, clock: ManualRuntime) -> None:
    """The wait between attempts is a part of the call."""
    breaker, policy = around_a_retry(slow_rate(1.0, slower_than=0.5, calls=1, minimum=1))
    assert mode.call(policy(mode.function(script(Again(), "ok")))) == "ok"
    assert breaker.circuit.state.value == "open"


def test_an_open_circuit_under_a_fallback_is_answered(mode: Mode, clock: ManualRuntime) -> None:
    """And one without is refused at once; both are counted as rejected."""
    breaker = circuit_breaker("db", failure_threshold=1)
    bare, answered = breaker(mode.function(script(Again()))), guard(fallback(value="fell"), breaker)
    with pytest.raises(Again):
        mode.call(bare)
    with pytest.raises(CircuitOpenError):
        mode.call(bare)
    assert mode.run(answered, script("never")) == "fell"
    assert breaker.circuit.snapshot().rejected == 2


def test_a_value_that_is_an_exception_is_a_value(mode: Mode, clock: ManualRuntime) -> None:
    """Only raising is failing; None, False and exceptions can be returned."""
    error = ValueError("a value")

    def work() -> object:
        return error

    for policy in (retry(), circuit_breaker("db"), guard(fallback(value=0), retry(), circuit_breaker("db2"))):
        assert mode.call(policy(mode.wrap(work))) is error
        assert mode.run(policy, script(None)) is None
        assert mode.run(policy, script(False)) is False


# -- requests ------------------------------------------------------------------------------------------------------


def test_every_request_is_carried_out(mode: Mode, clock: ManualRuntime) -> None:
    """Attempt, sleep, another call, a store, the listeners: in the order asked, with their answers."""
    told: list[Event] = []
    listen(told.append)
    seen: list[object] = []

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        yield from sleep(2.0)
        outcome = yield from inner(call)
        other = yield from call_other(lambda a, b: a + b, 1, b=2)
        store = yield from ask(lambda key: key * 2, "k", inline=True)
        yield from tell(event_of("step", policy="mine", status="done", operation=call.operation))
        seen.extend([unwrap(other), store, call.args, call.kwargs])
        return Returned((unwrap(outcome), "changed"))

    function = guard(Asking(flow))(mode.function(script("ok")))
    assert mode.call(function, 7, x=8) == ("ok", "changed")
    assert seen == [3, "kk", (7,), {"x": 8}]
    assert clock.slept == [2.0]
    assert [(one.type, one.policy) for one in told] == [("step", "mine")]


def test_another_call_that_fails_is_an_outcome(mode: Mode, clock: ManualRuntime) -> None:
    """The flow decides what becomes of it."""

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        other = yield from call_other(script(Again("other")).function())
        assert other.fault is not None
        with pytest.raises(Again, match="other"):
            unwrap(other)
        return (yield from inner(call))

    assert mode.run(guard(Asking(flow)), script("ok")) == "ok"


def test_another_call_may_be_a_coroutine_in_async_guards(clock: ManualRuntime) -> None:
    """Plain functions may be called there as well."""

    async def other() -> str:
        await asyncio.sleep(0)
        return "other"

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        first = yield from call_other(other)
        second = yield from call_other(lambda: "plain")
        return Returned([unwrap(first), unwrap(second)])

    assert asyncio.run(guard(Asking(flow)).acall(script("x").coroutine())) == ["other", "plain"]  # type: ignore[arg-type]


@pytest.mark.parametrize("inline", [True, False])
def test_a_store_that_fails_is_unanswered(mode: Mode, clock: ManualRuntime, inline: bool) -> None:
    """With a code, in this thread or in a worker."""

    def broken() -> None:
        raise ConnectionRefusedError

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        answer = yield from ask(broken, inline=inline, limit=5.0)
        assert isinstance(answer, Unanswered)
        return Returned(answer.code)

    assert mode.run(guard(Asking(flow)), script("x")) == "ConnectionRefusedError"


def test_a_store_that_hangs_is_given_up(mode: Mode, resilience: None) -> None:
    """After its limit, without holding up the call for longer."""
    release = threading.Event()

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        answer = yield from ask(lambda: release.wait(10.0), limit=0.02)
        assert isinstance(answer, Unanswered)
        return Returned("given up")

    began = time.monotonic()
    assert mode.run(guard(Asking(flow)), script("x")) == "given up"
    assert time.monotonic() - began < 5.0
    release.set()


def test_a_store_in_a_worker_answers(mode: Mode, resilience: None) -> None:
    """From another thread, with the caller's context."""

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        answer = yield from ask(threading.get_ident, limit=5.0)
        return Returned(answer)

    assert mode.run(guard(Asking(flow)), script("x")) != threading.get_ident()


def test_an_async_sleep_of_zero_is_one_checkpoint(resilience: None) -> None:
    """Other tasks get their turn between attempts; a sync sleep of zero is none."""
    order: list[str] = []

    async def main() -> None:
        async def other() -> None:
            order.append("other")

        async def work() -> str:
            order.append("attempt")
            if order.count("attempt") == 1:
                raise Again
            return "ok"

        task = asyncio.ensure_future(other())
        await retry(backoff=0.0)(work)()
        await task

    asyncio.run(main())
    assert order == ["attempt", "other", "attempt"]


def test_a_flow_is_closed_however_it_ends(mode: Mode, clock: ManualRuntime) -> None:
    """Clean-up runs on success, on failure, and on an interrupt in the middle."""
    closed: list[str] = []

    def flow(inner: Inner, call: Call) -> Flow[Outcome]:
        try:
            return (yield from inner(call))
        finally:
            closed.append("closed")

    for line, error in (("ok", None), (Again(), Again), (Interrupt(), Interrupt)):
        if error is None:
            mode.run(guard(Asking(flow)), script(line))
        else:
            with pytest.raises(error):
                mode.run(guard(Asking(flow)), script(line))
    assert closed == ["closed"] * 3


def test_outcomes_do_not_show_values(resilience: None) -> None:
    """A value may be a frame or an identity; it stays out of reprs."""
    assert "secret" not in repr(Returned("secret"))
