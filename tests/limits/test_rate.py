"""The paced limiter: how many starts a second holds, what a reservation says, slowing down and recovering."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import threading
import time
from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import (
    DeadlineExceededError,
    Event,
    Fault,
    Kind,
    OptionError,
    RateLimitedError,
    RateLimiter,
    ResilienceWarning,
    deadline,
    first_match,
    guard,
    listen,
    rate_limit,
    retry,
    shutdown,
)
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.limits import MemoryLimiterStore
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, fresh, script


class Throttled(Exception):
    pass


heed = first_match(lambda error: Fault(Kind.throttled, "Throttled") if isinstance(error, Throttled) else None)

# -- the law -------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.just(1)),
        st.tuples(st.just("batch"), st.integers(1, 60)),
        st.tuples(st.just("pause"), st.sampled_from([0.001, 0.02, 0.3, 1.0, 7.0])),
        st.tuples(st.just("slow"), st.just(0)),
        st.tuples(st.just("wait"), st.just(1)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=40,
)


def most_in_a_second(starts: list[float]) -> int:
    """The largest number of starts in any half-open second."""
    starts = sorted(starts)
    most, first = 0, 0
    for last, start in enumerate(starts):
        while start - starts[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(rate=st.sampled_from([0.5, 1.0, 3.0, 7.5, 50.0]), steps=STEPS)
def test_no_second_holds_more_than_the_rate_and_one(rate: float, steps: list[tuple[str, float]]) -> None:
    """Whoever reserves, singly or in batches, with throttling, pauses and calls that are cancelled in between."""
    with fresh(), ManualRuntime().installed() as clock:
        limiter = RateLimiter(rate)
        starts: list[float] = []
        waiting: list[tuple[float, float]] = []
        for what, number in steps:
            if what == "pause":
                clock.advance(number)
            elif what == "slow":
                limiter.slow_down()
            elif what == "wait":
                slot = limiter._slot(most_in_a_second)
                starts.append(clock.now if slot is None else slot[0])
                if slot is not None:
                    waiting.append(slot)
            elif what == "cancel":
                waiting = [slot for slot in waiting if slot[0] > clock.now]
                if waiting:
                    gone = waiting.pop(int(number) % len(waiting))
                    starts.remove(gone[0])
                    limiter._give_back(gone)
            elif what == "one":
                starts.append(clock.now + limiter.reserve())
            else:
                batch = limiter.reserve_batch(int(number))
                assert batch.count == number
                starts += [clock.now + batch.start_of(index) for index in range(batch.count)]
        assert ("cancel", 0) in [(what, 0) for what, _ in steps] or starts == sorted(starts)  # first come, first served
        assert most_in_a_second(starts) <= rate + 1


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.3, 1.0]),  # seconds since the one before
        st.sampled_from(["call", "call", "call", "cancelled", "batch"]),
    ),
    max_size=60,
)


@given(
    rate=st.sampled_from([1.0, 3.0, 10.0, 50.0]),
    arrivals=ARRIVALS,
    stalls=st.lists(st.tuples(st.floats(0.0, 4.0), st.floats(0.001, 3.0)), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_nor_after_a_stall(
    rate: float, arrivals: list[tuple[float, str]], stalls: list[tuple[float, float]], order: random.Random
) -> None:
    """Calls that all wake up late do not start together, nor beside slots reserved by hand; none is left waiting."""
    with fresh(), ManualRuntime().installed() as clock:
        limiter = RateLimiter(rate)
        starts: list[float] = []
        began = clock.now
        agenda: list[tuple[float, float, int, object]] = []  # when, order among those of one moment, number, what
        when = began
        for number, (pause, what) in enumerate(arrivals):
            when += pause
            agenda.append((when, 0.0, number, what))
        heapq.heapify(agenda)

        def go_on(flow: Iterator[object], number: int) -> None:
            pause = next(flow, None)
            if pause is None:
                starts.append(clock.now)
            else:
                assert isinstance(pause, float)
                heapq.heappush(agenda, (clock.now + pause, order.random(), number, flow))

        while agenda:
            due, _, number, what = heapq.heappop(agenda)
            clock.now = max(clock.now, due)
            for at, length in stalls:
                if began + at <= clock.now < began + at + length:
                    clock.now = began + at + length
            if what == "batch":
                batch = limiter.reserve_batch(3)
                starts += [clock.now + batch.start_of(index) for index in range(3)]
            elif what in ("call", "cancelled"):
                slot = limiter._slot(most_in_a_second)
                if slot is None:
                    starts.append(clock.now)
                    continue
                flow = limiter._paced(slot, most_in_a_second)
                if what == "call":
                    go_on(flow, number)
                elif next(flow, None) is not None:
                    heapq.heappush(agenda, (clock.now + 0.1 / rate, order.random(), number, flow.close))
                else:
                    starts.append(clock.now)
            elif callable(what):
                what()
            else:
                go_on(what, number)  # type: ignore[arg-type]
        assert most_in_a_second(starts) <= rate + 1
        wanted = sum({"call": 1, "batch": 3, "cancelled": 0}[what] for _, what in arrivals)
        assert wanted <= len(starts) <= wanted + sum(what == "cancelled" for _, what in arrivals)


@given(rate=st.sampled_from([1.0, 8.0, 50.0]), steps=STEPS)
def test_slots_are_never_wasted(rate: float, steps: list[tuple[str, float]]) -> None:
    """Without throttling, n reserved slots end (n - 1) intervals after the first, if nobody pauses."""
    with fresh(), ManualRuntime().installed() as clock:
        limiter = RateLimiter(rate)
        began = clock.now
        starts: list[float] = []
        for what, number in steps:
            if what in ("one", "batch"):
                batch = limiter.reserve_batch(int(number))
                starts += [clock.now + batch.start_of(index) for index in range(batch.count)]
        if starts:
            assert starts[0] == began
            assert starts[-1] == pytest.approx(began + (len(starts) - 1) / rate)


@given(
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.01, 0.1, 1.0, 30.0])), max_size=60),
    decrease=st.sampled_from([0.1, 0.5, 0.7]),
)
def test_the_rate_stays_within_its_bounds(steps: list[tuple[bool, float]], decrease: float) -> None:
    """Never below the floor, never above what was asked for; it recovers while nobody complains."""
    with fresh(), ManualRuntime().installed() as clock:
        limiter = RateLimiter(50.0, decrease=decrease, floor=5.0, recovery=2.0)
        for throttled, pause in steps:
            before = limiter.rate
            if throttled:
                limiter.slow_down()
                assert limiter.rate <= before
            clock.advance(pause)
            assert 5.0 <= limiter.rate <= 50.0
        clock.advance(23.0)
        assert limiter.rate == 50.0


# -- reservations --------------------------------------------------------------------------------------------------


def test_a_batch(clock: ManualRuntime) -> None:
    """At 50 a second message i begins at i * 20 ms; the next batch follows on."""
    limiter = rate_limit(50.0, name="index-faces")
    first = limiter.reserve_batch(50)
    assert (first.delay, first.interval, first.count) == (0.0, 0.02, 50)
    assert first.start_of(49) == pytest.approx(0.98)
    second = limiter.reserve_batch(10)
    assert second.delay == pytest.approx(1.0)
    assert limiter.reserve() == pytest.approx(1.2)


def test_time_that_passed_is_not_saved_up(clock: ManualRuntime) -> None:
    """After an idle hour there is no burst."""
    limiter = rate_limit(10.0)
    clock.advance(3600.0)
    assert [limiter.reserve() for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


def test_a_refused_reservation_takes_nothing(clock: ManualRuntime) -> None:
    """The slot is still there for who can wait."""
    limiter = rate_limit(1.0, name="api")
    limiter.reserve()
    with pytest.raises(RateLimitedError, match="limiter 'api' has no slot soon enough; try again in 1 s") as caught:
        limiter.reserve(max_wait=0.5)
    assert caught.value.retry_after == 1.0
    assert limiter.reserve() == 1.0


def test_threads_reserve_different_slots(clock: ManualRuntime) -> None:
    """Eight threads, no slot given twice."""
    limiter = rate_limit(100.0)
    found: list[float] = []

    def ask() -> None:
        found.extend(limiter.reserve() for _ in range(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == pytest.approx([number / 100.0 for number in range(800)])


def test_a_batch_begins_when_it_was_taken(clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when its thread gets to go on."""
    limiter = rate_limit(10.0)
    times = iter([1000.0])
    monkeypatch.setattr(RUNTIME, "monotonic", lambda: next(times, 1003.0))
    batch = limiter.reserve_batch(10)
    assert (batch.begins, batch.delay) == (1000.0, 0.0)
    assert batch.missed(0)


def test_no_slot_is_further_away_than_a_year(mode: Mode, clock: ManualRuntime) -> None:
    """Nobody waits for it, and no clock can tell it."""
    limiter = rate_limit(10.0, name="api")
    with pytest.raises(
        OptionError, match=r"reserve_batch\.count must be 316224000 or less at 10 a second: .* than a year"
    ):
        limiter.reserve_batch(10**12)
    assert limiter.reserve() == 0.0
    for _ in range(2):
        limiter.reserve_batch(316224000)
        clock.advance(1.0)
    with pytest.raises(RateLimitedError):
        limiter.reserve_batch(1)
    with pytest.raises(RateLimitedError):
        mode.run(limiter, script("unused"))


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_batch_of_nothing(clock: ManualRuntime, count: object) -> None:
    """At least one, and a whole number."""
    with pytest.raises(OptionError, match=r"reserve_batch\.count must be 1 or more; got"):
        rate_limit(1.0).reserve_batch(count)  # type: ignore[arg-type]


# -- throttling ----------------------------------------------------------------------------------------------------


def test_slowing_down_and_recovering(clock: ManualRuntime) -> None:
    """Down by a factor, back by so many a second."""
    limiter = rate_limit(50.0, decrease=0.5, recovery=5.0)
    limiter.slow_down()
    assert limiter.rate == 25.0
    clock.advance(2.0)
    assert limiter.rate == 35.0
    clock.advance(100.0)
    assert limiter.rate == 50.0


def test_answers_to_one_burst_count_once(clock: ManualRuntime) -> None:
    """Fifty throttled answers of one moment are one piece of news."""
    limiter = rate_limit(50.0, decrease=0.5)
    for _ in range(50):
        limiter.slow_down()
    assert limiter.rate == 25.0
    clock.advance(1.0)
    limiter.slow_down()
    assert limiter.rate < 25.0


def test_reserved_slots_stay_reserved(clock: ManualRuntime) -> None:
    """The next one comes after them and a pause of one new interval."""
    limiter = rate_limit(10.0, decrease=0.5)
    limiter.reserve_batch(5)
    limiter.slow_down()
    batch = limiter.reserve_batch(2)
    assert batch.delay == pytest.approx(0.5 + 0.2)
    assert batch.interval == pytest.approx(0.2)


def test_slowing_down_is_told(clock: ManualRuntime) -> None:
    """Once for each time that it happens."""
    heard: list[Event] = []
    listen(heard.append)
    limiter = rate_limit(50.0, decrease=0.5, name="index")
    limiter.slow_down()
    limiter.slow_down()
    assert [(one.type, one.policy, one.name, one.status) for one in heard] == [
        ("throttled", "limiter", "index", "25/s")
    ]


# -- around calls --------------------------------------------------------------------------------------------------


def test_calls_are_spaced(mode: Mode, clock: ManualRuntime) -> None:
    """The first at once, each further one an interval later."""
    scripted = script("fine")
    guarded = rate_limit(4.0)(mode.function(scripted))
    for _ in range(4):
        assert mode.call(guarded) == "fine"
    assert [time - scripted.times[0] for time in scripted.times] == [0.0, 0.25, 0.5, 0.75]


def test_no_longer_than_the_caller_may_wait(mode: Mode, clock: ManualRuntime) -> None:
    """Refused at once, without a sleep and without a call."""
    limiter = rate_limit(1.0, max_wait=2.0)
    scripted = script("fine")
    guarded = limiter(mode.function(scripted))
    limiter.reserve_batch(3)
    with pytest.raises(RateLimitedError):
        mode.call(guarded)
    assert scripted.count == 0
    assert clock.slept == []


@pytest.mark.parametrize("error", [Throttled(), KeyError()])
def test_a_throttled_call_slows_it_down(mode: Mode, clock: ManualRuntime, error: Exception) -> None:
    """And no other error does."""
    limiter = rate_limit(50.0, decrease=0.5, classify=heed)
    with pytest.raises(type(error)):
        mode.run(limiter, script(error))
    assert limiter.rate == (25.0 if isinstance(error, Throttled) else 50.0)


def test_it_reads_the_guard_s_classification(mode: Mode, clock: ManualRuntime) -> None:
    """As all other policies do."""
    limiter = rate_limit(50.0, decrease=0.5)
    with pytest.raises(Throttled):
        mode.run(guard(limiter, classify=heed), script(Throttled()))
    assert limiter.rate == 25.0


def test_its_own_classification_is_the_guard_s(mode: Mode, clock: ManualRuntime) -> None:
    """One for all policies: two different ones are refused."""
    limiter = rate_limit(50.0, decrease=0.5, classify=heed)
    scripted = script(Throttled(), "fine")
    assert mode.run(guard(retry(), limiter), scripted) == "fine"
    with pytest.raises(OptionError, match="one classification"):
        guard(limiter, classify=first_match(lambda error: None))


def test_the_first_throttling_answer_counts_however_slow_it_is(clock: ManualRuntime) -> None:
    """Also of a limiter with less than two starts a second."""
    limiter = rate_limit(0.5, decrease=0.5)
    limiter.slow_down()
    assert limiter.rate == 0.25


class Interrupted:
    """A lock that an interrupt comes to, before it is taken or after."""

    def __init__(self, lock: threading.RLock, *, taken: bool) -> None:
        self.lock = lock
        self.taken = taken

    def acquire(self) -> None:
        if self.taken:
            self.lock.acquire()
        raise KeyboardInterrupt

    def release(self) -> None:
        self.lock.release()


@pytest.mark.parametrize("taken", [False, True])
def test_an_interrupt_leaves_the_lock_free(clock: ManualRuntime, taken: bool) -> None:
    """Ctrl-C while it is taken, or while another thread has it; whoever comes next is let in."""
    limiter = rate_limit(1.0)
    lock = limiter._lock
    limiter._lock = Interrupted(lock, taken=taken)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        limiter(lambda: None)()
    limiter._lock = lock
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
    other.start()
    other.join()
    assert free == [True]


def test_a_sync_limiter_that_waits_in_a_loop_warns(clock: ManualRuntime) -> None:
    """Its wait stops every other task; the message names the function."""

    @rate_limit(1.0)
    def paced() -> None: ...

    async def main() -> None:
        paced()
        paced()

    with pytest.warns(ResilienceWarning, match=r"RF100 the sync guard of 'paced'"):
        asyncio.run(main())


def test_inside_a_retry_each_attempt_waits_for_a_slot(mode: Mode, clock: ManualRuntime) -> None:
    """Further attempts are paced as first ones are."""
    scripted = script(ConnectionResetError(), ConnectionResetError(), "fine")
    policy = guard(retry(attempts=3, backoff=0.0, jitter=none()), rate_limit(2.0))
    assert mode.run(policy, scripted) == "fine"
    assert [time - scripted.times[0] for time in scripted.times] == [0.0, 0.5, 1.0]


# -- waits that end otherwise --------------------------------------------------------------------------------------


class Cut:
    """A shutdown that comes while somebody waits: the wait ends at once, the clock stands where it stood."""

    def __init__(self, clock: ManualRuntime) -> None:
        self.clock = clock
        clock.on_sleep = self

    def __call__(self, seconds: float) -> None:
        self.clock.now -= seconds
        shutdown()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_a_shutdown_lets_nobody_in_before_their_time(mode: Mode, clock: ManualRuntime, shared: bool) -> None:
    """The wait ends at once, with a refusal; and so does every later one, while a slot that is free is still given."""
    limiter = RateLimiter(2.0, name="api", store=MemoryLimiterStore() if shared else None)
    limiter.reserve()
    scripted = script("fine")
    guarded = limiter(mode.function(scripted))
    Cut(clock)
    for _ in range(2):
        with pytest.raises(RateLimitedError, match="limiter 'api' has no slot soon enough; try again in"):
            mode.call(guarded)
    assert scripted.count == 0
    clock.advance(10.0)
    assert mode.call(guarded) == "fine"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_nor_into_a_block(clock: ManualRuntime, asynchronous: bool) -> None:
    """As into a call."""
    limiter = rate_limit(2.0)
    limiter.reserve()
    Cut(clock)

    async def asynchronously() -> None:
        async with limiter:
            pytest.fail("let in")

    def plainly() -> None:
        with limiter:
            pytest.fail("let in")

    with pytest.raises(RateLimitedError):
        asyncio.run(asynchronously()) if asynchronous else plainly()


class Gone(BaseException):
    """What ends a wait: a cancellation, a KeyboardInterrupt."""


def test_who_goes_gives_the_slot_back(mode: Mode, clock: ManualRuntime) -> None:
    """The one behind it gets it, if nobody else has it; so calls that give up do not push the others back for ever."""
    limiter = rate_limit(2.0)
    guarded = limiter(mode.wrap(lambda: None))
    mode.call(guarded)

    def gone(seconds: float) -> None:
        clock.now -= seconds
        raise Gone

    clock.on_sleep = gone
    for _ in range(50):
        with pytest.raises(Gone):
            mode.call(guarded)
    assert limiter.reserve() == 0.5


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_task_gives_its_slot_back(resilience: None, backend: str) -> None:
    """Cancelled by an event loop, not by this library."""
    limiter = rate_limit(0.001)

    @limiter
    async def work() -> None: ...

    async def main() -> None:
        await work()
        for _ in range(5):
            with anyio.move_on_after(0.001):
                await work()
                pytest.fail("started")

    anyio.run(main, backend=backend)
    assert 990.0 < limiter.reserve() < 1000.0


def test_slots_given_back_go_to_who_asks_next(clock: ManualRuntime) -> None:
    """The nearest first, also those in the middle, which others wait behind; what has passed is nobody's."""
    limiter = rate_limit(10.0)
    slots = [limiter._slot(most_in_a_second) for _ in range(8)]
    for number in (5, 2, 3):
        slot = slots[number]
        assert slot is not None
        limiter._give_back(slot)
    assert limiter.reserve() == pytest.approx(0.2)
    clock.advance(0.25)
    assert limiter.reserve() == pytest.approx(0.05)  # at 0.3
    clock.advance(0.36)  # the one at 0.5 has passed
    assert limiter.reserve() == pytest.approx(0.19)  # behind all others, at 0.8
    assert limiter._freed == []


def wait_for(limiter: RateLimiter) -> tuple[float, float]:
    """A call that has taken its slot and waits."""
    slot = limiter._slot(most_in_a_second)
    assert slot is not None
    return slot


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (4, 3, 1, 0, 2, 5)])
def test_when_all_have_gone_nothing_is_left_of_them(clock: ManualRuntime, order: tuple[int, ...]) -> None:
    """In whatever order they go."""
    limiter = rate_limit(10.0)
    limiter.reserve()
    slots = [wait_for(limiter) for _ in order]
    for number in order[:3]:
        limiter._give_back(slots[number])
    assert len(limiter._freed) <= 2
    for number in order[3:]:
        limiter._give_back(slots[number])
    assert limiter._freed == []
    assert limiter._next - clock.now == pytest.approx(0.1)


def test_only_so_many_slots_given_back_are_remembered(clock: ManualRuntime) -> None:
    """The nearest are forgotten: they pass first."""
    limiter = rate_limit(10.0)
    slots = [limiter._slot(most_in_a_second) for _ in range(1001)]
    for slot in slots[1:-1:2]:
        assert slot is not None
        limiter._give_back(slot)
    assert len(limiter._freed) == 256
    assert limiter.reserve() == pytest.approx(0.1 * (999 - 2 * 255))


def test_a_slot_of_a_higher_rate_is_too_short_now(clock: ManualRuntime) -> None:
    """Slowed down, calls keep the new distance."""
    limiter = rate_limit(10.0, decrease=0.5, recovery=1e-9)
    slots = [limiter._slot(most_in_a_second) for _ in range(4)]
    assert slots[2] is not None
    limiter._give_back(slots[2])
    limiter.slow_down()
    assert limiter.reserve() == pytest.approx(0.6)


def test_woken_late_it_takes_another_slot(mode: Mode, clock: ManualRuntime) -> None:
    """If its start would meet one of the slots that were reserved by hand, which may be used just now."""
    limiter = rate_limit(10.0)
    limiter.reserve()
    starts: list[float] = []
    guarded = limiter(mode.wrap(lambda: starts.append(clock.now)))

    def late(seconds: float) -> None:
        clock.on_sleep = None
        limiter.reserve_batch(20)  # until 2.2
        clock.advance(1.5)

    clock.on_sleep = late
    mode.call(guarded)
    assert [start - 1000.0 for start in starts] == pytest.approx([2.2])


def test_who_comes_right_after_a_late_start_waits(clock: ManualRuntime) -> None:
    """Its distance is from when that call has started, not from when it should have."""
    limiter = rate_limit(10.0)
    limiter.reserve()
    slot = wait_for(limiter)
    clock.advance(2.0)
    assert limiter._starts(slot)
    assert wait_for(limiter)[0] - clock.now == pytest.approx(0.1)


def test_nor_does_the_late_one_start_beside_who_just_came(clock: ManualRuntime) -> None:
    """It takes the slot after that."""
    limiter = rate_limit(10.0)
    limiter.reserve()
    slot = wait_for(limiter)
    clock.advance(2.0)
    assert limiter._slot(most_in_a_second) is None
    assert not limiter._starts(slot)


def test_a_slot_given_back_begins_no_earlier_than_a_late_start_allows(clock: ManualRuntime) -> None:
    """The first started late; the second has gone."""
    limiter = rate_limit(10.0)
    limiter.reserve()
    first, second = wait_for(limiter), wait_for(limiter)
    clock.advance(0.19)
    assert limiter._starts(first)
    limiter._give_back(second)
    assert wait_for(limiter)[0] - clock.now == pytest.approx(0.1)


def test_a_slot_that_begins_now_may_still_be_too_early(clock: ManualRuntime) -> None:
    """Given back by the one whose turn it was, beside one that has started late."""
    limiter = rate_limit(10.0, max_wait=10.0)
    limiter.reserve()
    first, second, _ = (wait_for(limiter) for _ in range(3))
    clock.advance(0.19)
    assert limiter._starts(first)
    limiter._give_back(second)
    clock.advance(0.01)
    assert not limiter._starts(wait_for(limiter))


def test_a_little_late_is_in_time(mode: Mode, clock: ManualRuntime) -> None:
    """Slots stay where they are: delays of a clock and a scheduler do not add up to a lower rate."""
    limiter = rate_limit(10.0)
    guarded = limiter(mode.wrap(lambda: None))
    clock.on_sleep = lambda _: clock.advance(0.04)
    for _ in range(11):
        mode.call(guarded)
    assert clock.now - 1000.0 == pytest.approx(1.04)


def test_calls_that_are_all_woken_late_do_not_start_together(resilience: None) -> None:
    """An event loop that stood still for half a second."""
    limiter = rate_limit(20.0)
    starts: list[float] = []

    @limiter
    async def work() -> None:
        starts.append(time.monotonic())

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(work)
            await anyio.sleep(0.02)
            time.sleep(0.5)  # noqa: ASYNC251  the loop stands still: the subject here

    anyio.run(main)
    assert len(starts) == 12
    distances = [second - first for first, second in itertools.pairwise(starts)]
    assert min(distances) > 0.005


def test_being_late_wastes_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """Where every wake-up is late, calls go on at the full rate: nobody else has started meanwhile."""
    limiter = rate_limit(100.0)
    guarded = limiter(mode.wrap(lambda: None))
    mode.call(guarded)
    clock.on_sleep = lambda _: clock.advance(0.5)
    mode.call(guarded)
    assert clock.slept == [pytest.approx(0.01)]


def test_another_slot_is_no_further_away_than_the_call_may_wait(mode: Mode, clock: ManualRuntime) -> None:
    """All in all."""
    limiter = rate_limit(10.0, max_wait=2.0)
    limiter.reserve()

    def late(seconds: float) -> None:
        limiter.reserve_batch(20)
        clock.advance(1.5)

    clock.on_sleep = late
    with pytest.raises(RateLimitedError):
        mode.run(limiter, script("unused"))


def test_after_the_deadline_nothing_starts(mode: Mode, clock: ManualRuntime) -> None:
    """A free slot makes no difference."""
    limiter = rate_limit(1.0)
    shared = RateLimiter(1.0, name="shared", store=MemoryLimiterStore())
    for one in (limiter, shared):
        scripted = script("unused")
        with deadline(5.0):
            guarded = one(mode.function(scripted))
            clock.advance(6.0)
            with pytest.raises(DeadlineExceededError, match="the deadline of 'scripted' has passed"):
                mode.call(guarded)
        assert scripted.count == 0
        assert one.reserve() == 0.0


# -- as a block ----------------------------------------------------------------------------------------------------


def test_a_sync_block_that_waits_in_a_loop_warns(clock: ManualRuntime) -> None:
    """As a sync guard does."""
    limiter = rate_limit(1.0)

    async def main() -> None:
        for _ in range(2):
            with limiter:
                pass

    with pytest.warns(ResilienceWarning, match=r"RF100 the sync guard of 'RateLimiter.enter'"):
        asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_as_a_block(clock: ManualRuntime, asynchronous: bool) -> None:
    """A block waits for its slot, and its throttling error is heard."""
    limiter = rate_limit(2.0, decrease=0.5, classify=heed)

    async def asynchronously() -> None:
        async with limiter:
            raise Throttled

    def plainly() -> None:
        with limiter:
            raise Throttled

    limiter.reserve()
    with pytest.raises(Throttled):
        asyncio.run(asynchronously()) if asynchronous else plainly()
    assert clock.slept == [0.5]
    assert limiter.rate == 1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "RateLimiter.rate must be more than 0 per second; got 0."),
        ({"rate": 1.0, "decrease": 1.0}, "0.7 keeps 70 % of the rate."),
        ({"rate": 1.0, "floor": 2.0}, "RateLimiter.floor must be more than 0 and 1 or less per second; got 2.0."),
        ({"rate": 1.0, "recovery": 0.0}, "RateLimiter.recovery"),
        ({"rate": 1.0, "max_wait": -1.0}, "RateLimiter.max_wait"),
        ({"rate": 1.0, "max_wiat": 1.0}, "Did you mean max_wait?"),
        ({"rate": 1.0, "name": 7}, "RateLimiter.name must be a name; got 7."),
        ({"rate": 1.0, "classify": "heed"}, "RateLimiter.classify must be callable; got 'heed'."),
    ],
)
def test_options_are_checked(resilience: None, options: dict[str, object], words: str) -> None:
    """Option, rule, value, cure."""
    with pytest.raises(OptionError) as caught:
        rate_limit(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)
