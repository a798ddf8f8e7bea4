"""Permits and generations, probes and their leases, open times, and what is done by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces import Event, Fault, Kind, Switch
from resilient_faces._core.outcome import Permit, Refused, Verdict
from resilient_faces.breaker import Opening, State, consecutive, failure_rate
from resilient_faces.testing import ManualRuntime

Hands = Callable[..., Any]  # makes a `Hand` of conftest.py
RESET = Fault(Kind.transient, "ConnectionResetError")


class TestGenerations:
    """Permits that come back late."""

    def test_a_closed_circuit_gives_all_the_same_permit(self, hand: Hands) -> None:
        """An admission allocates nothing."""
        circuit = hand()
        assert circuit.permit() is circuit.permit()

    @pytest.mark.parametrize("verdict", list(Verdict))
    @pytest.mark.parametrize("rule", [consecutive(3), failure_rate(0.5, calls=4, minimum=4)], ids=["row", "rate"])
    def test_a_late_result_does_not_touch_an_open_circuit(
        self, hand: Hands, clock: ManualRuntime, verdict: Verdict, rule: object
    ) -> None:
        """It neither closes the circuit nor extends its open time."""
        circuit = hand(trips=rule, recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail(4) if rule != consecutive(3) else circuit.fail(3)
        clock.advance(2.0)
        before = circuit.circuit.snapshot()
        circuit.circuit.settle(late, verdict, RESET)
        assert circuit.circuit.snapshot() == before
        assert circuit.circuit.refusal() == 3.0

    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_a_late_result_is_no_probe(self, hand: Hands, clock: ManualRuntime, verdict: Verdict) -> None:
        """While half-open, only the probe decides."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail()
        clock.advance(5.0)
        probe = circuit.permit()
        circuit.circuit.settle(late, verdict)
        assert circuit.state is State.half_open
        circuit.circuit.settle(probe, Verdict.success)
        assert circuit.state is State.closed

    @pytest.mark.parametrize("rule", [consecutive(2), failure_rate(0.5, calls=4, minimum=2)], ids=["row", "rate"])
    def test_a_late_failure_does_not_enter_the_new_window(
        self, hand: Hands, clock: ManualRuntime, rule: object
    ) -> None:
        """After recovery the circuit counts from zero, whatever still comes back from before."""
        circuit = hand(trips=rule, recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail(2)
        clock.advance(5.0)
        circuit.succeed()
        before = circuit.circuit.snapshot()
        for _ in range(5):
            circuit.circuit.settle(late, Verdict.failure, RESET)
        assert circuit.circuit.snapshot() == before
        assert circuit.state is State.closed

    def test_a_late_success_does_not_enter_the_new_window(self, hand: Hands, clock: ManualRuntime) -> None:
        """A note goes to the window of its own generation, which nobody reads any more."""
        circuit = hand(trips=failure_rate(0.5, calls=100, minimum=4), recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail(4)
        clock.advance(5.0)
        circuit.succeed()
        assert late.note is not None
        for _ in range(50):
            late.note(True)
            circuit.circuit.settle(late, Verdict.success)
        assert circuit.circuit.snapshot().figures["failure_rate_calls"] == 0

    def test_a_late_success_does_not_forget_the_new_row(self, hand: Hands, clock: ManualRuntime) -> None:
        """Failures in a row stay in a row when an answer from before the outage arrives among them."""
        circuit = hand(trips=consecutive(2), recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail(2)
        clock.advance(5.0)
        circuit.succeed()
        circuit.fail()
        circuit.circuit.settle(late, Verdict.success)
        circuit.fail()
        assert circuit.state is State.open

    def test_a_late_trip_changes_nothing(self, hand: Hands, clock: ManualRuntime) -> None:
        """An answer that would open the circuit at once is late like any other."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        late = circuit.permit()
        circuit.fail()
        clock.advance(5.0)
        circuit.succeed()
        circuit.circuit.trip(late, RESET)
        assert circuit.state is State.closed

    def test_a_late_probe_changes_nothing(self, hand: Hands, clock: ManualRuntime) -> None:
        """A probe of a trial that is over is as late as anything."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=2, successes=2)
        circuit.fail()
        clock.advance(5.0)
        first, second = circuit.permit(), circuit.permit()
        circuit.circuit.settle(first, Verdict.failure)
        before = circuit.circuit.snapshot()
        circuit.circuit.settle(second, Verdict.failure)
        circuit.circuit.settle(second, Verdict.success)
        circuit.circuit.trip(second, RESET)
        assert circuit.circuit.snapshot() == before

    def test_a_permit_is_settled_once(self, hand: Hands, clock: ManualRuntime) -> None:
        """A probe that reports twice decides once."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=3, successes=3)
        circuit.fail()
        clock.advance(5.0)
        probe = circuit.permit()
        circuit.permit()
        for _ in range(5):
            circuit.circuit.settle(probe, Verdict.success)
        assert circuit.state is State.half_open


class TestProbes:
    """Half-open circuits."""

    def test_one_probe_unless_told_otherwise(self, hand: Hands, clock: ManualRuntime) -> None:
        """The second caller is refused while the first probes, and told when to come back."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        circuit.fail()
        clock.advance(5.0)
        circuit.permit()
        assert 0.0 < circuit.refused().retry_after <= 60.0
        assert circuit.circuit.snapshot().probes == 1

    def test_not_a_moment_early(self, hand: Hands, clock: ManualRuntime) -> None:
        """The open time is kept to the end, and the refusal counts down."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        circuit.fail()
        clock.advance(4.75)
        assert circuit.refused().retry_after == 0.25
        clock.advance(0.25)
        circuit.permit()

    @pytest.mark.parametrize("probes", [1, 2, 5])
    def test_so_many_at_once(self, hand: Hands, clock: ManualRuntime, probes: int) -> None:
        """The number is that of probes in flight."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=probes)
        circuit.fail()
        clock.advance(5.0)
        for _ in range(probes):
            circuit.permit()
        circuit.refused()
        assert circuit.circuit.snapshot().probes == probes

    @pytest.mark.parametrize("probes", [1, 3])
    def test_threads_get_no_more_than_that(self, hand: Hands, clock: ManualRuntime, probes: int) -> None:
        """Eight threads ask at the same moment."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=probes)
        circuit.fail()
        clock.advance(5.0)
        together = threading.Barrier(8)
        granted: list[object] = []

        def ask() -> None:
            together.wait()
            granted.extend(circuit.circuit.acquire() for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(one, Permit) for one in granted) == probes
        assert sum(isinstance(one, Refused) for one in granted) == 160 - probes
        assert circuit.circuit.snapshot().rejected == 160 - probes

    def test_closes_as_soon_as_that_is_certain(self, hand: Hands, clock: ManualRuntime) -> None:
        """Two of three are enough; the third need not be awaited."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=3, successes=2)
        circuit.fail()
        clock.advance(5.0)
        first, second, _ = circuit.permit(), circuit.permit(), circuit.permit()
        circuit.circuit.settle(first, Verdict.success)
        assert circuit.state is State.half_open
        circuit.circuit.settle(second, Verdict.success)
        assert circuit.state is State.closed

    def test_opens_as_soon_as_that_is_certain(self, hand: Hands, clock: ManualRuntime) -> None:
        """Two of three failed: two can no longer succeed."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=3, successes=2)
        circuit.fail()
        clock.advance(5.0)
        first, second, _ = circuit.permit(), circuit.permit(), circuit.permit()
        circuit.circuit.settle(first, Verdict.failure)
        assert circuit.state is State.half_open
        circuit.circuit.settle(second, Verdict.failure)
        assert circuit.state is State.open

    def test_a_neutral_probe_decides_nothing_and_gives_its_place_back(self, hand: Hands, clock: ManualRuntime) -> None:
        """Neutral is not success: a cancelled probe must not close the circuit, nor a hundred of them."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        circuit.fail()
        clock.advance(5.0)
        circuit.settle(Verdict.neutral, 100)
        assert circuit.state is State.half_open
        circuit.fail()
        assert circuit.state is State.open


class TestLease:
    """A probe that never answers."""

    def test_a_hung_probe_cannot_wedge_the_circuit(self, hand: Hands, clock: ManualRuntime) -> None:
        """Its lease ends as a failure: hanging is no sign of health. After the open time the next one probes."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probe_lease=10.0, growth=1.0)
        circuit.fail()
        clock.advance(5.0)
        circuit.permit()  # hangs
        clock.advance(9.75)
        assert circuit.refused().retry_after == 0.25
        clock.advance(0.25)
        assert circuit.refused().retry_after == 5.0  # open again
        assert circuit.circuit.last == "probe.lease"
        clock.advance(5.0)
        circuit.succeed()
        assert circuit.state is State.closed

    def test_one_of_several_hangs(self, hand: Hands, clock: ManualRuntime) -> None:
        """With places to spare, the trial goes on without it."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probes=3, successes=2, probe_lease=10.0)
        circuit.fail()
        clock.advance(5.0)
        circuit.permit()  # hangs
        clock.advance(10.0)
        circuit.succeed(2)
        assert circuit.state is State.closed

    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_an_answer_after_the_lease_changes_nothing(
        self, hand: Hands, clock: ManualRuntime, verdict: Verdict
    ) -> None:
        """Once the circuit has opened again, the old probe is late like any call."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probe_lease=10.0)
        circuit.fail()
        clock.advance(5.0)
        hung = circuit.permit()
        clock.advance(10.0)
        circuit.refused()
        before = circuit.circuit.snapshot()
        circuit.circuit.settle(hung, verdict)
        assert circuit.circuit.snapshot() == before

    def test_an_answer_after_the_lease_is_a_failure(self, hand: Hands, clock: ManualRuntime) -> None:
        """Even if nobody asked meanwhile: a probe that took longer than its lease has failed."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, probe_lease=10.0)
        circuit.fail()
        clock.advance(5.0)
        hung = circuit.permit()
        clock.advance(10.0)
        circuit.circuit.settle(hung, Verdict.success)
        assert circuit.state is State.open

    def test_the_lease_is_on_unless_told_otherwise(self, hand: Hands, clock: ManualRuntime) -> None:
        """Nobody has to know of it for it to work."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
        circuit.fail()
        clock.advance(5.0)
        circuit.permit()
        clock.advance(60.0)
        circuit.refused()
        clock.advance(10.0)
        circuit.permit()


class TestOpenTime:
    def test_grows_and_is_capped(self, hand: Hands, clock: ManualRuntime) -> None:
        """5, 10, 20, 40 s, and no further than the cap."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, growth=2.0, max_recovery_timeout=30.0)
        circuit.fail()
        seen = []
        for _ in range(5):
            left = circuit.circuit.seconds_left
            seen.append(left)
            clock.advance(left)
            circuit.fail()
        assert seen == [5.0, 10.0, 20.0, 30.0, 30.0]

    def test_shrinks_back_after_a_recovery(self, hand: Hands, clock: ManualRuntime) -> None:
        """The next outage begins small again."""
        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, growth=2.0)
        for _ in range(3):
            circuit.fail()
            clock.advance(circuit.circuit.seconds_left)
        circuit.succeed()
        circuit.fail()
        assert circuit.circuit.seconds_left == 5.0
        assert circuit.circuit.snapshot().reopenings == 0

    def test_computed_from_the_failing_outcome(self, hand: Hands, clock: ManualRuntime) -> None:
        """The function is told the fault, the re-openings and what it would be otherwise."""
        told: list[Opening] = []

        def compute(opening: Opening) -> float:
            told.append(opening)
            return 42.0

        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, open_for=compute)
        circuit.circuit.settle(circuit.permit(), Verdict.failure, RESET)
        assert circuit.circuit.seconds_left == 42.0
        clock.advance(42.0)
        circuit.circuit.settle(circuit.permit(), Verdict.failure, RESET)
        assert told == [Opening(RESET, 0, 5.0), Opening(RESET, 1, 10.0)]

    def test_computed_for_a_hung_probe_too(self, hand: Hands, clock: ManualRuntime) -> None:
        """What opened it then is the lease."""
        told: list[Opening] = []
        circuit = hand(
            trips=consecutive(1), recovery_timeout=5.0, probe_lease=10.0, open_for=lambda one: told.append(one) or 7.0
        )
        circuit.fail()
        clock.advance(7.0)
        circuit.permit()
        clock.advance(10.0)
        circuit.refused()
        assert circuit.circuit.seconds_left == 7.0
        assert told[1].fault == Fault(Kind.timeout, "probe.lease")

    def test_the_function_may_ask_the_circuit(self, hand: Hands) -> None:
        """No lock is held while it runs."""
        seen: list[object] = []
        made: list[Any] = []

        def compute(opening: Opening) -> float:
            circuit = made[0].circuit
            seen.extend([circuit.acquire(), circuit.snapshot().state, circuit.refusal() > 0.0])
            return 9.0

        made.append(hand(trips=consecutive(1), open_for=compute))
        done = threading.Thread(target=made[0].fail, daemon=True)
        done.start()
        done.join(5.0)
        assert not done.is_alive()
        assert isinstance(seen[0], Refused)
        assert seen[1:] == [State.open, True]
        assert made[0].circuit.seconds_left == 9.0

    @pytest.mark.parametrize("answer", [RuntimeError(), "soon", None])
    def test_a_function_that_fails_leaves_the_default(self, hand: Hands, answer: object) -> None:
        """The circuit opens whatever the user's function does."""

        def compute(opening: Opening) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        circuit = hand(trips=consecutive(1), recovery_timeout=5.0, open_for=compute)
        circuit.fail()
        assert circuit.circuit.seconds_left == 5.0

    def test_no_negative_open_time(self, hand: Hands) -> None:
        """Less than nothing is nothing: the next call probes."""
        circuit = hand(trips=consecutive(1), open_for=lambda _: -5.0)
        circuit.fail()
        assert circuit.state is State.open
        circuit.permit()

    def test_computed_once_for_each_opening(self, hand: Hands) -> None:
        """Threads whose calls fail around one opening must not each add to its time."""
        together = threading.Barrier(8)
        calls: list[Opening] = []
        for _ in range(30):
            circuit = hand(trips=consecutive(1), recovery_timeout=5.0, open_for=lambda one: calls.append(one) or 60.0)
            calls.clear()
            permit = circuit.permit()

            def fail(circuit: Any = circuit, permit: Permit = permit) -> None:
                together.wait()
                circuit.circuit.settle(permit, Verdict.failure)

            threads = [threading.Thread(target=fail) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(calls) == 1
            assert circuit.circuit.seconds_left == 60.0

    def test_the_event_tells_the_computed_time(self, hand: Hands, events: list[Event]) -> None:
        """What the listener hears is what holds."""
        circuit = hand(trips=consecutive(1), open_for=lambda _: 42.0)
        with pytest.raises(ConnectionResetError):
            circuit.breaker.call(_reset)
        assert [(one.status, one.delay) for one in events if one.type == "transition"] == [("open", 42.0)]


def _reset() -> None:
    raise ConnectionResetError


class TestByHand:
    def test_reset_closes_and_forgets(self, hand: Hands, clock: ManualRuntime) -> None:
        """Failures, probes, re-openings: all gone."""
        circuit = hand(trips=consecutive(2), recovery_timeout=5.0)
        circuit.fail(2)
        clock.advance(5.0)
        circuit.fail()
        circuit.circuit.reset()
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.circuit.seconds_left == 5.0

    def test_reset_forgets_pending_failures_of_a_closed_circuit(self, hand: Hands) -> None:
        """Closed already, it still begins anew, and calls from before are late."""
        circuit = hand(trips=consecutive(2))
        late = circuit.permit()
        circuit.fail()
        circuit.circuit.reset()
        circuit.circuit.settle(late, Verdict.failure)
        circuit.fail()
        assert circuit.state is State.closed

    def test_forced_open_has_no_end(self, hand: Hands, clock: ManualRuntime) -> None:
        """Nobody gets in, however long it takes, and the caller is not told a time that nobody knows."""
        circuit = hand()
        circuit.circuit.force_open()
        clock.advance(1e9)
        assert math.isinf(circuit.refused().retry_after)
        assert circuit.circuit.snapshot().retry_after is None
        assert circuit.state is State.forced_open

    def test_forced_open_until_a_time(self, hand: Hands, clock: ManualRuntime) -> None:
        """Then it probes, as after any opening."""
        circuit = hand()
        circuit.circuit.force_open(10.0)
        assert circuit.refused().retry_after == 10.0
        clock.advance(10.0)
        circuit.succeed()
        assert circuit.state is State.closed

    def test_release_probes_first(self, hand: Hands) -> None:
        """Released does not mean healthy."""
        circuit = hand()
        circuit.circuit.force_open()
        circuit.circuit.release()
        assert circuit.state is State.half_open
        circuit.fail()
        assert circuit.state is State.open

    def test_the_longer_hold_wins(self, hand: Hands, clock: ManualRuntime) -> None:
        """A second, shorter hold does not end the first."""
        circuit = hand()
        circuit.circuit.force_open(100.0, by="a")
        circuit.circuit.force_open(10.0, by="b")
        clock.advance(50.0)
        assert circuit.refused().retry_after == 50.0
        circuit.circuit.force_open(10.0, by="a")
        assert circuit.refused().retry_after == 50.0
        circuit.circuit.release(by="a")
        assert circuit.state is State.half_open

    def test_every_holder_must_let_go(self, hand: Hands) -> None:
        """The last one opens the door."""
        circuit = hand()
        circuit.circuit.force_open(by="a")
        circuit.circuit.force_open(by="b")
        circuit.circuit.release(by="b")
        circuit.circuit.release(by="nobody")
        assert circuit.state is State.forced_open
        circuit.circuit.release(by="a")
        assert circuit.state is State.half_open

    def test_a_hold_that_ran_out_does_not_outlive_another(self, hand: Hands, clock: ManualRuntime) -> None:
        """One for ten seconds, one without an end: when the second lets go, nobody holds it any more."""
        circuit = hand()
        circuit.circuit.force_open(10.0, by="a")
        circuit.circuit.force_open(by="b")
        clock.advance(11.0)
        circuit.circuit.release(by="b")
        assert circuit.state is State.half_open

    def test_what_is_left_of_another_hold_is_left(self, hand: Hands, clock: ManualRuntime) -> None:
        """The one that goes on holding it does so for its own time."""
        circuit = hand()
        circuit.circuit.force_open(10.0, by="a")
        circuit.circuit.force_open(by="b")
        clock.advance(4.0)
        circuit.circuit.release(by="b")
        assert circuit.refused().retry_after == circuit.circuit.refusal() == 6.0
        clock.advance(6.0)
        circuit.succeed()
        assert circuit.state is State.closed

    def test_what_begins_forced_open_is_held_too(self, hand: Hands) -> None:
        """By nobody in particular, as with a plain `force_open()`."""
        circuit = hand(initial="forced_open")
        circuit.circuit.force_open(1.0, by="a")
        circuit.circuit.release(by="a")
        assert circuit.state is State.forced_open
        circuit.circuit.release()
        assert circuit.state is State.half_open

    def test_a_hold_that_ran_out_holds_nobody(self, hand: Hands, clock: ManualRuntime) -> None:
        """Who held it for ten seconds does not keep it open next week."""
        circuit = hand()
        circuit.circuit.force_open(10.0)
        clock.advance(10.0)
        circuit.succeed()
        circuit.circuit.force_open(by="somebody else")
        circuit.circuit.release(by="somebody else")
        assert circuit.state is State.half_open

    def test_release_is_no_way_out_of_an_ordinary_opening(self, hand: Hands) -> None:
        """What failures opened only time or reset() closes."""
        circuit = hand(trips=consecutive(1))
        circuit.fail()
        circuit.circuit.release()
        assert circuit.state is State.open

    def test_a_switch_holds_several(self, hand: Hands) -> None:
        """One switch, two circuits, and each probes afterwards."""
        one, other = hand(), hand()
        with Switch(one.breaker.name, other.breaker.name):
            assert one.state is other.state is State.forced_open
        assert one.state is other.state is State.half_open

    def test_two_switches_hold_one(self, hand: Hands) -> None:
        """It stays open until the last one lets go."""
        circuit = hand()
        first, second = Switch(circuit.breaker.name), Switch(circuit.breaker.name)
        first.open()
        second.open()
        first.release()
        assert circuit.state is State.forced_open
        second.release()
        assert circuit.state is State.half_open

    def test_a_switch_needs_names_that_exist(self, resilience: None) -> None:
        """A mistyped name must not look like maintenance."""
        with pytest.raises(Exception, match="at least one name"):
            Switch()
        with pytest.raises(KeyError, match="nobody"):
            Switch("nobody").open()

    def test_disabled_lets_all_pass_and_counts_nothing(self, hand: Hands) -> None:
        """As if there were no breaker."""
        circuit = hand(trips=consecutive(1))
        circuit.circuit.disable()
        circuit.fail(10)
        assert circuit.state is State.disabled
        assert circuit.circuit.snapshot().failures == 0
        circuit.circuit.release()
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    def test_metrics_only_tells_and_never_opens(self, hand: Hands, events: list[Event]) -> None:
        """It counts, says once that it would have opened, and lets all pass."""
        circuit = hand(trips=consecutive(2))
        circuit.circuit.metrics_only()
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                circuit.breaker.call(_reset)
        assert circuit.state is State.metrics_only
        assert circuit.circuit.snapshot().failures == 5
        assert [one.status for one in events if one.type == "transition"] == ["metrics_only", "would_open"]

    def test_metrics_only_feeds_its_windows(self, hand: Hands) -> None:
        """Successes count as well, or the rate would be a lie."""
        circuit = hand(trips=failure_rate(0.5, calls=10, minimum=10))
        circuit.circuit.metrics_only()
        assert circuit.breaker.call(lambda: 1) == 1
        assert circuit.circuit.snapshot().figures["failure_rate_calls"] == 1

    @pytest.mark.parametrize(
        ("initial", "admits"),
        [("closed", True), ("open", False), ("forced_open", False), ("disabled", True), ("metrics_only", True)],
    )
    def test_the_state_to_begin_in(self, hand: Hands, initial: str, admits: bool) -> None:
        """It holds from the first call on."""
        circuit = hand(initial=initial)
        assert isinstance(circuit.circuit.acquire(), Permit) is admits
        assert circuit.state.value == initial

    def test_beginning_forced_open_lasts(self, hand: Hands, clock: ManualRuntime) -> None:
        """Until somebody releases it."""
        circuit = hand(initial="forced_open")
        clock.advance(1e6)
        circuit.refused()
        circuit.circuit.release()
        circuit.permit()

    def test_beginning_open_probes_after_the_open_time(self, hand: Hands, clock: ManualRuntime) -> None:
        """A process that starts into an outage begins carefully."""
        circuit = hand(initial="open", recovery_timeout=5.0)
        assert circuit.refused().retry_after == 5.0
        clock.advance(5.0)
        circuit.succeed()
        assert circuit.state is State.closed

    def test_reset_ends_everything_by_hand(self, hand: Hands) -> None:
        """Forced open, disabled, metrics only: closed, holders forgotten."""
        circuit = hand()
        for act in (circuit.circuit.force_open, circuit.circuit.disable, circuit.circuit.metrics_only):
            act()
            circuit.circuit.reset()
            assert circuit.state is State.closed


def test_refusal_agrees_with_acquire(hand: Hands, clock: ManualRuntime) -> None:
    """The look without a lock never says no where the locked one would say yes."""
    circuit = hand(trips=consecutive(1), recovery_timeout=5.0)
    assert circuit.circuit.refusal() == 0.0
    circuit.fail()
    assert circuit.circuit.refusal() == circuit.refused().retry_after == 5.0
    clock.advance(5.0)
    assert circuit.circuit.refusal() == 0.0
    circuit.permit()


def test_counters_are_exact(hand: Hands, clock: ManualRuntime) -> None:
    """Rejected, failed, opened: each once for each time."""
    circuit = hand(trips=consecutive(2), recovery_timeout=5.0)
    circuit.fail(2)
    for _ in range(7):
        circuit.refused()
    clock.advance(5.0)
    circuit.fail()
    for _ in range(3):
        assert circuit.circuit.refusal() > 0.0
    snapshot = circuit.circuit.snapshot()
    assert (snapshot.rejected, snapshot.failures, snapshot.opened) == (10, 3, 2)
    assert circuit.circuit.snapshot().rejected == 10  # looking takes none
