"""When a closed circuit has seen enough: consecutive failures, failures in a period, rates by calls and by time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces import Breaker, OptionError
from resilient_faces._core.outcome import Verdict
from resilient_faces.breaker import (
    State,
    TripRule,
    consecutive,
    failure_rate,
    failures_within,
    slow_rate,
    window,
)
from resilient_faces.testing import Hang, ManualRuntime, Mode, script

Hands = Callable[..., Any]  # makes a `Hand` of conftest.py


class TestConsecutive:
    def test_opens_at_the_limit_and_not_before(self, hand: Hands) -> None:
        """Five in a row open it, four do not."""
        circuit = hand(trips=consecutive(5))
        circuit.fail(4)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    def test_one_success_forgets_all(self, hand: Hands) -> None:
        """In a row means in a row."""
        circuit = hand(trips=consecutive(3))
        circuit.fail(2)
        circuit.succeed()
        circuit.fail(2)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    def test_neutral_is_neither(self, hand: Hands) -> None:
        """A neutral call interrupts no row and lengthens none."""
        circuit = hand(trips=consecutive(3))
        circuit.fail(2)
        circuit.settle(Verdict.neutral, 10)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    def test_time_alone_forgets_nothing(self, hand: Hands, clock: ManualRuntime) -> None:
        """A row of failures has no age: use `failures_within` where it should."""
        circuit = hand(trips=consecutive(2))
        circuit.fail()
        clock.advance(86_400.0)
        circuit.fail()
        assert circuit.state is State.open

    def test_figures(self, hand: Hands) -> None:
        """The snapshot tells the row."""
        circuit = hand(trips=consecutive(5))
        circuit.fail(3)
        assert circuit.circuit.snapshot().figures == {"consecutive_failures": 3}


class TestFailuresWithin:
    def test_successes_between_do_not_matter(self, hand: Hands) -> None:
        """So many failures within the period, however many successes."""
        circuit = hand(trips=failures_within(3, 10.0))
        circuit.fail()
        circuit.succeed(50)
        circuit.fail()
        circuit.succeed(50)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    @pytest.mark.parametrize(("gap", "state"), [(10.0, State.open), (10.001, State.closed)])
    def test_the_period_is_inclusive(self, hand: Hands, clock: ManualRuntime, gap: float, state: State) -> None:
        """A failure is forgotten once more than the period has passed."""
        circuit = hand(trips=failures_within(2, 10.0))
        circuit.fail()
        clock.advance(gap)
        circuit.fail()
        assert circuit.state is state

    def test_old_failures_are_replaced(self, hand: Hands, clock: ManualRuntime) -> None:
        """A slow drip of failures never opens it."""
        circuit = hand(trips=failures_within(3, 10.0))
        for _ in range(100):
            circuit.fail()
            clock.advance(6.0)
        assert circuit.state is State.closed

    def test_figures_forget_by_time(self, hand: Hands, clock: ManualRuntime) -> None:
        """The snapshot counts what still counts."""
        circuit = hand(trips=failures_within(5, 10.0))
        circuit.fail(2)
        assert circuit.circuit.snapshot().figures == {"failures_within": 2}
        clock.advance(10.5)
        assert circuit.circuit.snapshot().figures == {"failures_within": 0}


class TestFailureRateByCalls:
    def test_needs_the_minimum(self, hand: Hands) -> None:
        """One failure of one call is 100 %, and says nothing yet."""
        circuit = hand(trips=failure_rate(0.5, calls=20, minimum=10))
        circuit.fail(9)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    @pytest.mark.parametrize(("good", "state"), [(6, State.open), (7, State.closed)])
    def test_the_threshold_itself_opens_and_nothing_is_rounded(self, hand: Hands, good: int, state: State) -> None:
        """4 of 10 is 0.4 and opens; 4 of 11 is 0.3636..., which no rounding makes 0.4."""
        circuit = hand(trips=failure_rate(0.4, calls=20, minimum=10))
        circuit.succeed(good)
        circuit.fail(4)
        assert circuit.state is state

    def test_rounding_would_open_it(self, hand: Hands) -> None:
        """499 of 1,000 is less than half, though 50 % to the eye."""
        circuit = hand(trips=failure_rate(0.5, calls=1000, minimum=1000))
        circuit.succeed(501)
        circuit.fail(499)
        assert circuit.state is State.closed
        circuit.fail()  # pushes a success out: 500 of 1,000
        assert circuit.state is State.open

    def test_looks_at_the_last_calls_only(self, hand: Hands) -> None:
        """Old failures leave the window as calls come."""
        circuit = hand(trips=failure_rate(0.5, calls=10, minimum=10))
        circuit.succeed(6)
        circuit.fail(4)
        assert circuit.state is State.closed
        circuit.succeed(10)
        circuit.fail(4)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    @pytest.mark.parametrize(("calls", "enough"), [(4, 4), (10, 10), (100, 10)])
    def test_the_minimum_fits_the_window(self, hand: Hands, calls: int, enough: int) -> None:
        """Unless told otherwise it is ten calls, or the whole window if that is smaller."""
        circuit = hand(trips=failure_rate(0.5, calls=calls))
        circuit.fail(enough - 1)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    def test_idle_time_forgets_nothing(self, hand: Hands, clock: ManualRuntime) -> None:
        """A window by calls has no clock."""
        circuit = hand(trips=failure_rate(0.5, calls=10, minimum=4))
        circuit.fail(2)
        clock.advance(3600.0)
        circuit.succeed()
        circuit.fail()
        assert circuit.state is State.open

    def test_figures(self, hand: Hands) -> None:
        """The snapshot tells rate and size of the window."""
        circuit = hand(trips=failure_rate(0.9, calls=10, minimum=10))
        circuit.succeed(3)
        circuit.fail()
        assert circuit.circuit.snapshot().figures == {"failure_rate": 0.25, "failure_rate_calls": 4}


class TestFailureRateBySeconds:
    def test_an_idle_hour_forgets(self, hand: Hands, clock: ManualRuntime) -> None:
        """Failures of an hour ago do not count towards a window of a minute, although no call pushed them out."""
        circuit = hand(trips=failure_rate(0.5, seconds=60.0, minimum=4))
        circuit.fail(3)
        clock.advance(3600.0)
        circuit.fail()
        assert circuit.state is State.closed
        assert circuit.circuit.snapshot().figures == {"failure_rate": 1.0, "failure_rate_calls": 1}

    def test_forgets_while_calls_go_on(self, hand: Hands, clock: ManualRuntime) -> None:
        """Good calls age too: the rate is that of the last minute."""
        circuit = hand(trips=failure_rate(0.5, seconds=60.0, minimum=10))
        circuit.succeed(100)
        clock.advance(61.0)
        circuit.fail(9)
        assert circuit.state is State.closed
        circuit.fail()
        assert circuit.state is State.open

    @pytest.mark.parametrize(("gap", "state"), [(60.0, State.closed), (60.5, State.open)])
    def test_the_edge_of_the_window(self, hand: Hands, clock: ManualRuntime, gap: float, state: State) -> None:
        """A call of exactly so many seconds ago is still in it."""
        circuit = hand(trips=failure_rate(1.0, seconds=60.0, minimum=2))
        circuit.succeed()
        clock.advance(gap)
        circuit.fail(2)
        assert circuit.state is state

    def test_a_full_ring_keeps_the_rate_true(
        self, hand: Hands, clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With more traffic than is remembered, both sides are counted over the shorter span that the ring reaches."""
        monkeypatch.setattr(window, "MOST_REMEMBERED", 100)
        circuit = hand(trips=failure_rate(0.5, seconds=1000.0, minimum=10))
        circuit.fail(9)
        clock.advance(1.0)
        for _ in range(100):  # 9 of 109 failed; the ring of good calls is full
            circuit.succeed()
            clock.advance(0.01)
        clock.advance(1.0)
        circuit.fail(60)  # 69 of 169 (or 60 of 160): less than half
        assert circuit.state is State.closed
        figures = circuit.circuit.snapshot().figures
        assert figures["failure_rate_calls"] == 160  # the nine old failures lie further back than the good calls do
        assert figures["failure_rate"] == 60 / 160

    def test_memory_is_bounded(self, hand: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """However busy the minute is, no more than the ring is remembered."""
        monkeypatch.setattr(window, "MOST_REMEMBERED", 50)
        circuit = hand(trips=failure_rate(1.0, seconds=3600.0, minimum=1000))
        circuit.succeed(500)
        circuit.fail(500)
        assert circuit.circuit.snapshot().figures["failure_rate_calls"] <= 100


class TestSlowRate:
    def test_slow_successes_open_it(self, hand: Hands) -> None:
        """A dependency that answers, but too late, is no healthy one."""
        circuit = hand(trips=slow_rate(0.5, slower_than=1.0, calls=10, minimum=4))
        circuit.settle(Verdict.success, 2, slow=False)
        circuit.settle(Verdict.success, 1, slow=True)
        assert circuit.state is State.closed
        circuit.settle(Verdict.success, 1, slow=True)
        assert circuit.state is State.open

    def test_quick_failures_do_not(self, hand: Hands) -> None:
        """A rule about time says nothing about failures; name a second one for those."""
        circuit = hand(trips=slow_rate(0.5, slower_than=1.0, calls=10, minimum=4))
        circuit.fail(10)
        assert circuit.state is State.closed

    def test_slow_failures_count(self, hand: Hands) -> None:
        """Slow is slow, failed or not."""
        circuit = hand(trips=slow_rate(0.5, slower_than=1.0, seconds=60.0, minimum=4))
        circuit.settle(Verdict.failure, 4, slow=True)
        assert circuit.state is State.open

    @pytest.mark.parametrize(("seconds", "state"), [(0.999, "closed"), (1.0, "open")])
    @pytest.mark.parametrize("by", [{"calls": 10}, {"seconds": 60.0}], ids=["calls", "seconds"])
    def test_the_threshold_itself_is_slow(
        self, mode: Mode, clock: ManualRuntime, seconds: float, state: str, by: dict[str, float]
    ) -> None:
        """Slow begins at `slower_than`, timed on the direct path."""
        breaker = Breaker("slow", trips=slow_rate(0.5, slower_than=1.0, minimum=3, **by))  # type: ignore[arg-type]
        guarded = breaker(mode.function(script(Hang(seconds, "answer"))))
        for _ in range(3):
            assert mode.call(guarded) == "answer"
        assert breaker.circuit.state.value == state

    def test_slow_failures_are_timed_in_the_flow_too(self, mode: Mode, clock: ManualRuntime) -> None:
        """The time of a failed first attempt is not lost on its way from the direct path to the flow."""
        breaker = Breaker("slow", trips=slow_rate(1.0, slower_than=1.0, calls=3, minimum=3))
        guarded = breaker(mode.function(script(Hang(2.0, ConnectionResetError()))))
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                mode.call(guarded)
        assert breaker.circuit.state is State.open

    def test_a_slow_probe_has_not_recovered(self, hand: Hands, clock: ManualRuntime) -> None:
        """What opened the circuit keeps it open."""
        circuit = hand(trips=slow_rate(1.0, slower_than=1.0, calls=2, minimum=2), recovery_timeout=5.0)
        circuit.settle(Verdict.success, 2, slow=True)
        clock.advance(5.0)
        circuit.settle(Verdict.success, slow=True)
        assert circuit.state is State.open

    def test_a_rate_by_time_forgets_slow_calls(self, hand: Hands, clock: ManualRuntime) -> None:
        """An idle hour makes a slow morning a matter of the past."""
        circuit = hand(trips=slow_rate(0.5, slower_than=1.0, seconds=60.0, minimum=3))
        circuit.settle(Verdict.success, 2, slow=True)
        clock.advance(3600.0)
        circuit.settle(Verdict.success, 1, slow=True)
        assert circuit.state is State.closed


class TestSeveralRules:
    @pytest.mark.parametrize("slow", [False, True])
    def test_any_of_them_opens(self, hand: Hands, slow: bool) -> None:
        """Rules stand side by side: one is enough."""
        circuit = hand(trips=(consecutive(3), slow_rate(1.0, slower_than=1.0, calls=3, minimum=3)))
        circuit.settle(Verdict.success if slow else Verdict.failure, 3, slow=slow)
        assert circuit.state is State.open

    def test_all_of_them_hear_successes(self, hand: Hands) -> None:
        """Two windows are both fed by the direct path."""
        circuit = hand(
            trips=(failure_rate(0.5, calls=10, minimum=10), slow_rate(0.5, slower_than=1.0, calls=10, minimum=10))
        )
        circuit.succeed(4)
        figures = circuit.circuit.snapshot().figures
        assert figures["failure_rate_calls"] == figures["slow_rate_calls"] == 4


def test_a_new_generation_begins_with_an_empty_window(hand: Hands, clock: ManualRuntime) -> None:
    """What was before the circuit opened is no evidence about after."""
    circuit = hand(trips=failure_rate(0.5, calls=10, minimum=4), recovery_timeout=5.0)
    circuit.fail(4)
    clock.advance(5.0)
    circuit.succeed()  # the probe
    assert circuit.state is State.closed
    circuit.fail(3)
    assert circuit.state is State.closed
    circuit.fail()
    assert circuit.state is State.open


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: consecutive(0), ["consecutive.failures must be 1 or more; got 0"]),
        (lambda: consecutive(True), ["consecutive.failures must be 1 or more; got True"]),
        (lambda: failures_within(0, 0.0), ["failures_within.failures", "failures_within.seconds"]),
        (lambda: failure_rate(0.0, calls=10), ["failure_rate.fraction", "0.5 means half of the calls"]),
        (lambda: failure_rate(50, calls=10), ["failure_rate.fraction", "got 50"]),
        (lambda: failure_rate(0.5), ["failure_rate.calls", "given, or else seconds"]),
        (lambda: failure_rate(0.5, calls=10, seconds=5.0), ["failure_rate.calls", "but not both"]),
        (
            lambda: failure_rate(0.5, calls=5, minimum=10),
            ["failure_rate.minimum", "at most the window's calls (5)", "got 10"],
        ),
        (lambda: slow_rate(0.5, slower_than=0.0, calls=10), ["slow_rate.slower_than"]),
        (lambda: slow_rate(0.5, 1.0, calls=0, minimum=0), ["slow_rate.calls", "slow_rate.minimum"]),
    ],
)
def test_wrong_options_are_named(make: Callable[[], TripRule], words: list[str]) -> None:
    """Option, rule and value, and all wrong ones in one message."""
    with pytest.raises(OptionError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
