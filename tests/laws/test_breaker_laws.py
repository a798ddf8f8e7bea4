"""Laws of the breaker: whatever the order of calls, answers, pauses and hands on the switch.

A plain model of the rules runs beside the real circuit; after each step the two must agree in every counter. Permits
are kept and come back when they like, which is how late answers arise.
"""

from __future__ import annotations

import math
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from resilient_faces import Breaker
from resilient_faces._core.outcome import Permit, Refused, Verdict
from resilient_faces.breaker import State, consecutive, failure_rate, failures_within
from resilient_faces.testing import ManualRuntime, fresh

FIRST, GROWTH, LONGEST, LEASE = 5.0, 2.0, 30.0, 8.0
HOLDERS = st.sampled_from([None, "a", "b"])
VERDICTS = st.sampled_from(list(Verdict))


class Circuits(RuleBasedStateMachine):
    """The circuit and a model of it."""

    permits = Bundle("permits")

    @initialize(limit=st.integers(1, 4), probes=st.integers(1, 4), data=st.data())
    def begin(self, limit: int, probes: int, data: st.DataObject) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(fresh())
        self.clock = self.stack.enter_context(ManualRuntime().installed())
        self.limit, self.permitted = limit, probes
        self.needed = data.draw(st.integers(1, probes), label="successes")
        self.circuit = Breaker(
            "law",
            trips=consecutive(limit),
            recovery_timeout=FIRST,
            growth=GROWTH,
            max_recovery_timeout=LONGEST,
            probes=probes,
            successes=self.needed,
            probe_lease=LEASE,
        ).circuit
        self.state, self.generation = State.closed, 0
        self.holders = {}
        self.row = self.failures = self.rejected = self.opened = self.reopenings = 0
        self.until = 0.0
        self.flying: dict[int, float] = {}  # id of a probe's permit: when its lease ends
        self.succeeded = self.failed = 0
        self.inside = 0  # most probes ever seen at once

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    # -- the model -------------------------------------------------------------------------------------------------

    def _go(self, state: State) -> None:
        self.state = state
        self.holders: dict[str | None, float] = {}
        self.generation += 1
        self.row = self.succeeded = self.failed = 0
        self.flying = {}
        if state is State.closed:
            self.reopenings = 0

    def _open(self, reopenings: int) -> None:
        self._go(State.open)
        self.reopenings = reopenings
        self.until = self.clock.now + min(FIRST * GROWTH**reopenings, LONGEST)
        self.opened += 1

    def _decide(self, verdict: Verdict) -> None:
        self.succeeded += verdict is Verdict.success
        self.failed += verdict is Verdict.failure
        self.failures += verdict is Verdict.failure
        if self.succeeded >= self.needed:
            self._go(State.closed)
        elif self.failed > self.permitted - self.needed:
            self._open(self.reopenings + 1)

    def _expect_admission(self) -> bool:
        """Whether the model lets a call in now."""
        if self.state in (State.open, State.forced_open):
            if self.clock.now < self.until:
                self.rejected += 1
                return False
            self._go(State.half_open)
        if self.state is State.half_open:
            for probe, ends in list(self.flying.items()):
                if ends <= self.clock.now and self.state is State.half_open:
                    del self.flying[probe]
                    self._decide(Verdict.failure)
            if self.state is not State.half_open:
                self.rejected += 1
                return False
            if len(self.flying) + self.succeeded + self.failed >= self.permitted:
                self.rejected += 1
                return False
        return True

    # -- steps -----------------------------------------------------------------------------------------------------

    @rule(target=permits)
    def call(self) -> object:
        """Ask for leave: model and circuit agree, and so do the look without a lock and the one with it."""
        left = self.circuit.refusal()
        self.rejected += left > 0.0
        was_open = self.state in (State.open, State.forced_open) and self.clock.now < self.until
        assert (left > 0.0) is was_open
        admitted = self._expect_admission()
        granted = self.circuit.acquire()
        assert isinstance(granted, Permit) is admitted
        if isinstance(granted, Refused):
            assert granted.retry_after > 0.0
            if was_open:
                assert granted.retry_after == left == self.until - self.clock.now
            return multiple()
        if self.state is State.half_open:
            self.flying[id(granted)] = self.clock.now + LEASE
        return granted, self.generation

    @rule(held=consumes(permits), verdict=VERDICTS)
    def answer(self, held: tuple[Permit, int], verdict: Verdict) -> None:
        """A call ends, perhaps long after its generation did."""
        permit, generation = held
        before = self.circuit.snapshot()
        self.circuit.settle(permit, verdict)
        if generation != self.generation:
            assert self.circuit.snapshot() == before  # a late answer changes nothing
        elif self.state is State.half_open:
            ends = self.flying.pop(id(permit), None)
            if ends is None:
                assert self.circuit.snapshot() == before  # its lease was over, and others have noticed
                return
            late = ends <= self.clock.now
            self._decide(Verdict.failure if late and verdict is Verdict.success else verdict)
        elif self.state is State.closed:
            self._count(verdict)

    def _count(self, verdict: Verdict) -> None:
        if verdict is Verdict.success:
            self.row = 0
        elif verdict is Verdict.failure:
            self.row += 1
            self.failures += 1
            if self.row >= self.limit:
                self._open(0)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0, 8.0, 30.0, 3600.0]))
    def pause(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule(held=consumes(permits))
    def trip(self, held: tuple[Permit, int]) -> None:
        """One answer opens the circuit at once, unless it is late."""
        permit, generation = held
        before = self.circuit.snapshot()
        self.circuit.trip(permit, None)
        if generation != self.generation or (self.state is State.half_open and id(permit) not in self.flying):
            assert self.circuit.snapshot() == before
        elif self.state is State.disabled:
            pass
        else:
            self.failures += 1
            self._open(self.reopenings + 1 if self.state is State.half_open else 0)

    @rule()
    def reset(self) -> None:
        """By hand: closed, and everything forgotten."""
        self.circuit.reset()
        self._go(State.closed)

    @rule(seconds=st.sampled_from([None, 3.0, 10.0]), by=HOLDERS)
    def force_open(self, seconds: float | None, by: str | None) -> None:
        """By hand: open, with or without an end."""
        self.circuit.force_open(seconds, by=by)
        until = math.inf if seconds is None else self.clock.now + seconds
        if self.state is not State.forced_open:
            self._go(State.forced_open)
            self.opened += 1
        self.holders[by] = max(until, self.holders.get(by, 0.0))
        self.until = max(self.holders.values())

    @rule()
    def disable(self) -> None:
        """By hand: everything passes."""
        self.circuit.disable()
        if self.state is not State.disabled:
            self._go(State.disabled)

    @rule(by=HOLDERS)
    def release(self, by: str | None) -> None:
        """By hand: the end of force_open and disable. Who still holds it does so for their own time."""
        self.circuit.release(by=by)
        if self.state is State.forced_open:
            self.holders.pop(by, None)
            self.until = max(self.holders.values(), default=self.clock.now)
            if self.until <= self.clock.now:
                self._go(State.half_open)
        elif self.state is State.disabled:
            self._go(State.closed)

    @precondition(lambda self: not (self.state is State.forced_open and math.isinf(self.until)))
    @rule(target=permits)
    def be_patient(self) -> object:
        """Never wedged: after the longest open time, lease and open time again somebody is always let in."""
        for _ in range(self.permitted + 2):
            self.clock.advance(LONGEST + LEASE)
            self.rejected += self.circuit.refusal() > 0.0
            admitted = self._expect_admission()
            granted = self.circuit.acquire()
            assert isinstance(granted, Permit) is admitted
            if isinstance(granted, Permit):
                if self.state is State.half_open:
                    self.flying[id(granted)] = self.clock.now + LEASE
                return granted, self.generation
        raise AssertionError("the circuit is wedged")

    # -- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def no_more_probes_than_permitted(self) -> None:
        if hasattr(self, "circuit"):
            assert self.circuit.snapshot().probes <= self.permitted

    @invariant()
    def counters_are_exact(self) -> None:
        if not hasattr(self, "circuit"):
            return
        snapshot = self.circuit.snapshot()
        assert snapshot.state is self.state
        assert snapshot.probes == len(self.flying)
        assert (snapshot.rejected, snapshot.failures, snapshot.opened) == (self.rejected, self.failures, self.opened)
        if self.state in (State.closed, State.open, State.half_open):
            assert snapshot.reopenings == self.reopenings
        if self.state is State.closed:
            assert snapshot.figures == {"consecutive_failures": self.row}

    @invariant()
    def the_slot_is_true(self) -> None:
        """What the direct path reads: nobody's while calls may not pass, everybody's when a success is no news."""
        if not hasattr(self, "circuit"):
            return
        passes = self.state in (State.closed, State.disabled)
        assert (self.circuit.generation is not None) is passes
        assert (self.circuit.calm is not None) is (passes and self.row == 0)


TestCircuits = Circuits.TestCase


ANSWERS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 4.0, 11.0])), max_size=60)


@given(failures=st.integers(1, 5), answers=ANSWERS)
def test_failures_within_opens_exactly_when_the_period_holds_so_many(
    failures: int, answers: list[tuple[bool, float]]
) -> None:
    """Against the plain definition, whatever the order of answers and pauses."""
    with fresh(), ManualRuntime().installed() as clock:
        circuit = Breaker("law", trips=failures_within(failures, 10.0)).circuit
        failed: list[float] = []
        for good, pause in answers:
            clock.advance(pause)
            permit = circuit.acquire()
            assert isinstance(permit, Permit)
            circuit.settle(permit, Verdict.success if good else Verdict.failure)
            if not good:
                failed.append(clock.now)
            expected = not good and sum(clock.now - then <= 10.0 for then in failed) >= failures
            assert (circuit.state is State.open) is expected
            if expected:
                return


@given(
    fraction=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]),
    minimum=st.integers(1, 8),
    by_time=st.booleans(),
    answers=ANSWERS,
)
def test_failure_rate_opens_exactly_when_the_window_says_so(
    fraction: float, minimum: int, by_time: bool, answers: list[tuple[bool, float]]
) -> None:
    """Against the plain definition over a list of all calls: `>=`, minimum throughput, judged at each failure."""
    with fresh(), ManualRuntime().installed() as clock:
        window = {"seconds": 10.0} if by_time else {"calls": 8}
        circuit = Breaker("law", trips=failure_rate(fraction, minimum=minimum, **window)).circuit  # type: ignore[arg-type]
        calls: list[tuple[float, bool]] = []
        for good, pause in answers:
            clock.advance(pause)
            permit = circuit.acquire()
            assert isinstance(permit, Permit)
            if good and permit.note is not None and circuit.calm is permit:
                permit.note(True)
            else:
                circuit.settle(permit, Verdict.success if good else Verdict.failure)
            calls.append((clock.now, good))
            inside = [ok for then, ok in calls if clock.now - then <= 10.0] if by_time else [ok for _, ok in calls[-8:]]
            bad = inside.count(False)
            expected = not good and len(inside) >= minimum and bad >= fraction * len(inside)
            assert (circuit.state is State.open) is expected
            if expected:
                return
