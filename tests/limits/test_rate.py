"""The paced limiter: how many starts a second holds, what a reservation says, slowing down and recovering."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import (
    Event,
    Fault,
    Kind,
    OptionError,
    RateLimitedError,
    RateLimiter,
    ResilienceWarning,
    first_match,
    guard,
    listen,
    rate_limit,
    retry,
)
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
    """Whoever reserves, singly or in batches, with throttling and pauses in between."""
    with fresh(), ManualRuntime().installed() as clock:
        limiter = RateLimiter(rate)
        starts: list[float] = []
        for what, number in steps:
            if what == "pause":
                clock.advance(number)
            elif what == "slow":
                limiter.slow_down()
            elif what == "one":
                starts.append(clock.now + limiter.reserve())
            else:
                batch = limiter.reserve_batch(int(number))
                assert batch.count == number
                starts += [clock.now + batch.start_of(index) for index in range(batch.count)]
        assert starts == sorted(starts)  # first come, first served
        assert most_in_a_second(starts) <= rate + 1


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
