"""The law of the execution model: direct path and flow give the same results, events, counters and delays.

Each example makes the same world twice: once with policies that are all quiet, so that calls which simply succeed take
the direct path, and once with a policy among them that does nothing but is not quiet, so that every call is a flow.
The guarded function follows a random script, and while it runs it may let time pass, call itself, and reset, force,
release, disable or trip the very circuit that it runs under.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from resilient_faces import (
    Breaker,
    Event,
    Fault,
    Kind,
    RetryableError,
    fallback,
    first_match,
    guard,
    last_outcome,
    retry,
)
from resilient_faces._core.context import LAST
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.breaker import consecutive, failure_rate, failures_within, slow_rate
from resilient_faces.composing import RULES as ORDER_RULES
from resilient_faces.flows import Call, Flow, Inner, Outcome
from resilient_faces.retry import Retrier, decorrelated, equal, exponential, fixed, full, none
from resilient_faces.testing import ManualRuntime, fresh


@pytest.fixture(scope="module", autouse=True)
def quiet_log() -> Iterator[None]:
    """Thousands of circuits open here; nobody wants to read of it."""
    logger = logging.getLogger("resilient_faces")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


class DoNothing:
    """Not quiet, hence part of every call; changes nothing."""

    quiet = False
    answers = False

    def flow(self, inner: Inner, call: Call) -> Flow[Outcome]:
        return (yield from inner(call))


class StandAside:
    """A joint that passes everything on: what is around it and what is within it know nothing of each other."""

    def around(self, function: Callable[..., Any], asynchronous: bool) -> Callable[..., Any]:
        if asynchronous:

            @functools.wraps(function)
            async def passing_async(*args: object, **kwargs: object) -> object:
                return await function(*args, **kwargs)

            return passing_async

        @functools.wraps(function)
        def passing(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return passing


class Again(RetryableError):
    pass


class Throttled(Exception):
    pass


class Interrupt(BaseException):
    pass


class Confusing(Exception):
    """An error that the classification chokes on."""


class Puzzling(Exception):
    """An error that the policies' own judgements choke on."""


ERRORS: dict[str, type[BaseException]] = {
    "transient": Again,
    "throttled": Throttled,
    "timeout": TimeoutError,
    "unknown": ValueError,
    "missing": FileNotFoundError,
    "trips": PermissionError,
    "interrupt": Interrupt,
    "confusing": Confusing,
    "puzzling": Puzzling,
}


def _classify(error: BaseException) -> Fault | None:
    if isinstance(error, Confusing):
        raise ZeroDivisionError
    return Fault(Kind.throttled, "SlowDown", retry_after=2.5) if isinstance(error, Throttled) else None


def _denied(error: BaseException) -> bool:
    if isinstance(error, Puzzling):
        raise ZeroDivisionError
    return isinstance(error, PermissionError)


def _bad(value: object) -> bool:
    if value == "puzzling value":
        raise ZeroDivisionError
    return value == "bad"


classification = first_match(_classify)


# -- what can happen -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Do:
    """One thing done between calls or during one."""

    what: str  # advance, call, reset, force, release, disable, observe
    seconds: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """What the function does when it is called: some things, and then an outcome."""

    during: tuple[Do, ...]
    outcome: str


@dataclass(frozen=True)
class Setup:
    """Options of the policies, and where the policy that does nothing stands."""

    fallback: str
    retry: dict[str, Any] | None
    breaker: dict[str, Any] | None
    place: int
    asynchronous: bool
    seed: int
    order: tuple[str, ...] = ("fallback", "retry", "breaker")


SECONDS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 2.0, 3.0, 7.0])
ADVANCE = st.builds(Do, st.just("advance"), SECONDS)
BY_HAND = st.builds(Do, st.sampled_from(["reset", "force", "release", "disable", "observe"]), SECONDS)
CALL = st.just(Do("call"))
OUTCOMES = st.sampled_from(["ok", "ok", "ok", "bad", "puzzling value", "transient", "transient", *ERRORS])
ATTEMPTS = st.builds(Attempt, st.lists(st.one_of(ADVANCE, ADVANCE, CALL, BY_HAND), max_size=3).map(tuple), OUTCOMES)
JUDGED = ATTEMPTS.map(
    lambda one: replace(one, outcome="bad") if "uzzling" in one.outcome or "conf" in one.outcome else one
)
BETWEEN = st.lists(st.one_of(CALL, CALL, CALL, ADVANCE, BY_HAND), min_size=1, max_size=12)
RULES = st.one_of(
    st.builds(consecutive, st.integers(1, 4)),
    st.builds(failures_within, failures=st.integers(1, 3), seconds=st.sampled_from([1.0, 3.0])),
    st.builds(failure_rate, st.sampled_from([0.3, 0.5, 1.0]), calls=st.integers(2, 5), minimum=st.integers(1, 2)),
    st.builds(failure_rate, st.just(0.5), seconds=st.sampled_from([2.0, 5.0]), minimum=st.integers(1, 3)),
    st.builds(slow_rate, st.sampled_from([0.5, 1.0]), slower_than=st.just(0.75), calls=st.just(3), minimum=st.just(2)),
    st.builds(slow_rate, st.just(0.3), slower_than=st.just(0.5), calls=st.just(5), minimum=st.just(3)),
)
BREAKERS = st.fixed_dictionaries(
    {
        "trips": st.one_of(RULES, RULES, st.tuples(RULES, RULES)),
        "recovery_timeout": st.sampled_from([0.5, 1.0, 4.0]),
        "growth": st.sampled_from([1.0, 2.0]),
        "probes": st.integers(1, 3),
        "probe_lease": st.sampled_from([0.75, 5.0]),
        "on_result": st.sampled_from([None, _bad]),
        "trip_on": st.sampled_from([None, PermissionError, _denied]),
        "ignore": st.sampled_from([None, ValueError]),
    }
)
RETRIES = st.fixed_dictionaries(
    {
        "attempts": st.integers(1, 4),
        "backoff": st.sampled_from([fixed(0.0), fixed(1.0), exponential(0.5, cap=3.0)]),
        "jitter": st.sampled_from([none(), full(), decorrelated()]),
        "idempotent": st.booleans(),
        "on_result": st.sampled_from([None, _bad]),
        "retriers": st.sampled_from([(), (Retrier(on=TimeoutError, attempts=2, backoff=0.5, jitter=full()),)]),
    }
)
PLAIN = st.fixed_dictionaries(  # what the direct path repeats by itself, and most people use
    {
        "attempts": st.integers(1, 4),
        "backoff": st.sampled_from([fixed(1.0), exponential(0.5, cap=3.0)]),
        "jitter": st.sampled_from([full(), full(), equal()]),
        "idempotent": st.booleans(),
    }
)
COUNTING = st.fixed_dictionaries(
    {
        "trips": RULES,
        "recovery_timeout": st.sampled_from([0.5, 1.0, 4.0]),
        "probes": st.integers(1, 3),
        "trip_on": st.sampled_from([None, PermissionError, _denied]),
    }
)
SETUPS = st.builds(
    Setup,
    fallback=st.sampled_from(["", "", "value", "function", "result"]),
    retry=st.one_of(st.none(), RETRIES, PLAIN, PLAIN),
    breaker=st.one_of(st.none(), BREAKERS, BREAKERS, COUNTING, COUNTING),
    place=st.integers(0, 3),
    asynchronous=st.booleans(),
    seed=st.integers(0, 1000),
    order=st.one_of(
        st.just(("fallback", "retry", "breaker")), st.permutations(["fallback", "retry", "breaker"]).map(tuple)
    ),
)


# -- a world -------------------------------------------------------------------------------------------------------


class Clock(ManualRuntime):
    """Async waits need no loop."""

    async def asleep(self, seconds: float) -> None:
        self._wait(seconds)


class World:
    """One guarded function with all that can be seen of it."""

    def __init__(self, setup: Setup, lines: list[Attempt], flow: bool, joint: bool = False) -> None:
        self.clock = Clock(chance=random.Random(setup.seed).random)
        self.setup = setup
        self.lines: Iterator[Attempt] = iter(lines)
        self.log: list[object] = []
        self.breaker = None if setup.breaker is None else Breaker(**setup.breaker)
        made: dict[str, Any] = {}
        if setup.fallback == "value":
            made["fallback"] = fallback(value="fell")
        elif setup.fallback == "function":
            made["fallback"] = fallback(function=lambda: "fell")
        elif setup.fallback == "result":
            made["fallback"] = fallback(value="fell", on_result=_bad)
        if setup.retry is not None:
            made["retry"] = retry(**setup.retry)
        if self.breaker is not None:
            made["breaker"] = self.breaker
        policies = [made[role] for role in setup.order if role in made]
        if flow or not policies:
            policies.insert(setup.place, DoNothing())
        if joint:
            policies.insert(setup.place, StandAside())
        whole = guard(*policies, classify=classification, accept=[rule.id for rule in ORDER_RULES])
        self.depth = 0
        self.guarded: Callable[[], Any]
        self.guarded = whole(self._coroutine) if setup.asynchronous else whole(self._function)
        outside = setup.order[: setup.order.index("breaker")]
        self.refused_at_once = joint or not setup.fallback or "fallback" not in outside

    def _hand(self, do: Do) -> None:
        if do.what == "advance":
            self.clock.advance(do.seconds)
        if self.breaker is None:
            return
        circuit = self.breaker.circuit
        if do.what == "reset":
            circuit.reset()
        elif do.what == "force":
            circuit.force_open(do.seconds or None)
        elif do.what == "release":
            circuit.release()
        elif do.what == "disable":
            circuit.disable()
        elif do.what == "observe":
            circuit.metrics_only()

    def _line(self) -> Attempt:
        line = next(self.lines, Attempt((), "ok"))
        self.log.append(("called", self.clock.now, line.outcome))
        return line

    def _outcome(self, line: Attempt) -> str:
        if line.outcome in ERRORS:
            raise ERRORS[line.outcome]
        return line.outcome

    def _function(self) -> str:
        line = self._line()
        for do in line.during:
            if do.what != "call":
                self._hand(do)
            elif self.depth < 3:
                self.call()
        return self._outcome(line)

    async def _coroutine(self) -> str:
        line = self._line()
        for do in line.during:
            if do.what != "call":
                self._hand(do)
            elif self.depth < 3:
                self.call()
        return self._outcome(line)

    def call(self) -> None:
        """One call, and everything that can be seen after it."""
        self.depth += 1
        LAST.set(None)
        try:
            result = self.guarded()
            if self.setup.asynchronous:
                result = finish(result)
            self.log.append(("gave", result, self.clock.now))
        except BaseException as error:
            if not isinstance(error, (Exception, Interrupt)):
                raise
            self.log.append(("raised", type(error).__name__, error.args, self.clock.now))
        self.depth -= 1
        self.log.append(last_outcome())
        if self.breaker is not None:
            snapshot = self.breaker.circuit.snapshot()
            assert self.depth or snapshot.probes == 0, "a probe's place was lost"
            self.log.append(snapshot)

    def heard(self, what: Event) -> None:
        # A circuit whose refusal nobody would answer refuses at once, before there is an event to tell: `rejected`
        # counts it, and the snapshots in the log compare that.
        if what.type != "rejected" or not self.refused_at_once:
            self.log.append(what)

    def story(self, between: list[Do]) -> list[object]:
        """Everything that can be seen while these things are done."""
        with fresh(), self.clock.installed():
            RUNTIME.listen(self.heard)
            for do in between:
                if do.what == "call":
                    self.call()
                else:
                    self._hand(do)
        return [*self.log, self.clock.slept, self.clock.now]


def finish(coroutine: Coroutine[Any, Any, Any]) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


@given(SETUPS, st.lists(ATTEMPTS, max_size=15), BETWEEN)
def test_direct_path_and_flow_tell_the_same_story(setup: Setup, lines: list[Attempt], between: list[Do]) -> None:
    """Whatever the policies, the script, and what becomes of the circuit during a call."""
    direct = World(setup, lines, flow=False).story(between)
    flow = World(setup, lines, flow=True).story(between)
    for number, (one, other) in enumerate(zip(direct, flow, strict=False)):
        assert one == other, number
    assert len(direct) == len(flow)
    changed = any(isinstance(one, Event) and one.type == "transition" for one in direct)
    event("the circuit moved" if changed else "the circuit stood still")


@given(SETUPS, st.lists(ATTEMPTS, max_size=15), BETWEEN)
def test_it_makes_no_difference_where_the_policy_stands_that_does_nothing(
    setup: Setup, lines: list[Attempt], between: list[Do]
) -> None:
    """Outermost, innermost or in between: a flow that hands on what it gets is not there."""
    stories = []
    for place in (0, 3):
        moved = replace(setup, place=place)
        stories.append(World(moved, lines, flow=True).story(between))
    assert stories[0] == stories[1]


@given(SETUPS, st.lists(JUDGED, max_size=15), BETWEEN)
def test_a_joint_that_does_nothing_is_not_there(setup: Setup, lines: list[Attempt], between: list[Do]) -> None:
    """It parts the guard, and both parts go on as one: an answer further in is known as such further out.

    But for judgements that raise: their errors come out past all policies of their part, and to the other part they are
    errors like others.
    """
    whole = World(setup, lines, flow=False).story(between)
    parted = World(setup, lines, flow=False, joint=True).story(between)
    refusals = [one for one in whole if not (isinstance(one, Event) and one.type == "rejected")]
    assert refusals == parted
