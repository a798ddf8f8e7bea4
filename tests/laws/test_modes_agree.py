"""A flow stepped by hand, `run_sync`, and `run_async` under asyncio and trio agree, whatever the script."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import Breaker, Event, RetryableError, classify, fallback, guard, retry
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.breaker import consecutive, failure_rate
from resilient_faces.flows import (
    ATTEMPT,
    Call,
    CallOther,
    Flow,
    Inner,
    Outcome,
    Raised,
    Returned,
    Sleep,
    Tell,
    attempt,
    run_async,
    run_sync,
)
from resilient_faces.retry import decorrelated, exponential, fixed, full, none
from resilient_faces.testing import ManualRuntime, fresh


@pytest.fixture(scope="module", autouse=True)
def quiet_log() -> Iterator[None]:
    """Thousands of circuits open here; nobody wants to read of it."""
    logger = logging.getLogger("resilient_faces")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


class Again(RetryableError):
    pass


class Interrupt(BaseException):
    pass


class DoNothing:
    quiet = False
    answers = False

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        return (yield from inner(call))


ERRORS: dict[str, type[BaseException]] = {
    "transient": Again,
    "unknown": ValueError,
    "timeout": TimeoutError,
    "interrupt": Interrupt,
}


@dataclass(frozen=True)
class Line:
    """What the function does in one call: takes some seconds, and then this."""

    seconds: float
    outcome: str


LINES = st.builds(
    Line,
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["ok", "ok", "bad", "transient", "transient", "transient", *ERRORS]),
)
PAUSES = st.lists(st.sampled_from([0.0, 0.5, 2.0, 5.0]), min_size=1, max_size=8)


@dataclass(frozen=True)
class Setup:
    """Options; policies are made afresh for each mode."""

    attempts: int
    backoff: Any
    jitter: Any
    trips: Any
    probes: int
    answer: str
    hooked: bool
    seed: int

    def policies(self, told: list[object]) -> list[Any]:
        made: list[Any] = []
        if self.answer:
            made.append(fallback(value="fell") if self.answer == "value" else fallback(function=lambda: "computed"))
        hook: Any = (lambda what: told.append((what.attempt, what.delay))) if self.hooked else None
        made.append(
            retry(
                attempts=self.attempts,
                backoff=self.backoff,
                jitter=self.jitter,
                on_result=lambda value: value == "bad",
                before_sleep=hook,
                after_attempt=hook,
            )
        )
        made.append(Breaker(trips=self.trips, recovery_timeout=1.0, probes=self.probes))
        return made


SETUPS = st.builds(
    Setup,
    attempts=st.integers(1, 4),
    backoff=st.sampled_from([fixed(0.0), fixed(1.0), exponential(0.5)]),
    jitter=st.sampled_from([none(), full(), decorrelated()]),
    trips=st.sampled_from([consecutive(1), consecutive(2), consecutive(3), failure_rate(0.5, calls=4, minimum=2)]),
    probes=st.integers(1, 2),
    answer=st.sampled_from(["", "value", "function"]),
    hooked=st.booleans(),
    seed=st.integers(0, 1000),
)


def by_hand(flow: Flow[Outcome], call: Call) -> Outcome:
    """What a driver does, written once more and as plainly as can be."""
    answer: object = None
    while True:
        try:
            request = flow.send(answer)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        answer = None
        if request is ATTEMPT or isinstance(request, CallOther):
            function, args = (call.function, call.args) if request is ATTEMPT else (request.function, request.args)
            try:
                answer = Returned(function(*args))
            except Exception as error:
                answer = Raised(error, classify(error))
            except BaseException:
                flow.close()
                raise
        elif isinstance(request, Tell):
            RUNTIME.tell(request.event)
        else:
            assert isinstance(request, (Sleep, int))
            RUNTIME.sleep(getattr(request, "seconds", request))


def story(mode: str, setup: Setup, lines: list[Line], pauses: list[float]) -> list[object]:
    """Everything that can be seen of some calls with pauses between them."""
    clock = ManualRuntime(chance=random.Random(setup.seed).random)
    log: list[object] = []
    script = iter(lines)

    def function() -> str:
        line = next(script, Line(0.0, "ok"))
        log.append(("called", clock.now))
        clock.advance(line.seconds)
        if line.outcome in ERRORS:
            raise ERRORS[line.outcome]
        return line.outcome

    async def coroutine() -> str:
        return function()

    policies = setup.policies(log)
    circuit = policies[-1].circuit
    circuit.name = "circuit"
    chain: Inner = lambda call: attempt()  # noqa: E731
    for policy in reversed(policies):
        chain = functools.partial(policy.flow, chain)

    def step() -> object:
        if mode == "guard":
            return guard(*policies, DoNothing())(function)()
        call = Call(function, (), {}, None, None, circuit)
        if mode == "by hand":
            outcome = by_hand(chain(call), call)
        elif mode == "run_sync":
            outcome = run_sync(chain(call), call, classify)
        else:
            call.function = coroutine
            outcome = anyio.run(run_async, chain(call), call, classify, backend=mode)
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome.value

    with fresh(), clock.installed():
        RUNTIME.listen(lambda told: log.append(without_name(told)))
        for pause in pauses:
            try:
                log.append(("gave", step(), clock.now))
            except (Exception, Interrupt) as error:
                log.append(("raised", type(error).__name__, error.args, clock.now))
            log.append(circuit.snapshot())
            clock.advance(pause)
    return [*log, [one for one in clock.slept if one > 0.0], clock.now]


def without_name(told: Event) -> dict[str, object]:
    """An event without the function's name, which is another one for coroutines."""
    return {key: value for key, value in told.to_dict().items() if key not in ("operation", "step")}


@given(SETUPS, st.lists(LINES, max_size=12), PAUSES)
def test_every_driver_tells_the_same_story(setup: Setup, lines: list[Line], pauses: list[float]) -> None:
    """Results, calls, events, hooks, waits, counters and the clock."""
    expected = story("by hand", setup, lines, pauses)
    for mode in ("run_sync", "guard", "asyncio", "trio"):
        assert story(mode, setup, lines, pauses) == expected, mode


@given(SETUPS, st.lists(LINES, max_size=12), PAUSES)
def test_guarded_functions_agree_in_every_mode(setup: Setup, lines: list[Line], pauses: list[float]) -> None:
    """The decorated function, direct path included: plain, under asyncio and under trio, many calls in one loop."""

    def told(backend: str) -> list[object]:
        clock = ManualRuntime(chance=random.Random(setup.seed).random)
        log: list[object] = []
        script = iter(lines)
        policies = setup.policies(log)

        def work() -> str:
            line = next(script, Line(0.0, "ok"))
            clock.advance(line.seconds)
            if line.outcome in ERRORS:
                raise ERRORS[line.outcome]
            return line.outcome

        async def awork() -> str:
            return work()

        def note(result: object) -> None:
            log.append((result, clock.now, policies[-1].circuit.snapshot().failures))

        def run() -> None:
            function = guard(*policies)(work)
            for pause in pauses:
                try:
                    note(function())
                except (Exception, Interrupt) as error:
                    note((type(error).__name__, *error.args[1:]))
                clock.advance(pause)

        async def arun() -> None:
            function = guard(*policies)(awork)
            for pause in pauses:
                try:
                    note(await function())
                except (Exception, Interrupt) as error:
                    note((type(error).__name__, *error.args[1:]))
                clock.advance(pause)

        with fresh(), clock.installed():
            RUNTIME.listen(lambda event: log.append((event.type, event.status, event.attempt, event.delay, event.t)))
            if backend == "sync":
                run()
            elif backend == "asyncio":
                asyncio.run(arun())
            else:
                anyio.run(arun, backend="trio")
        return [*log, [one for one in clock.slept if one > 0.0]]

    expected = told("sync")
    assert told("asyncio") == expected
    assert told("trio") == expected
