"""Limiters that processes share through a store. Two limiters of one name stand for two processes."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any, ClassVar

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
    deadline,
    first_match,
    guard,
    listen,
    rate_limit,
    retry,
)
from resilient_faces._core.effects import Ask, Flow, Unanswered
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.limits import Deadline, Granted, MemoryLimiterStore, Pace
from resilient_faces.limits.sharing import Slots, share_of
from resilient_faces.retry import none
from resilient_faces.testing import ManualRuntime, Mode, fresh, script


class Throttled(Exception):
    pass


heed = first_match(lambda error: Fault(Kind.throttled, "Throttled") if isinstance(error, Throttled) else None)


class Switched(MemoryLimiterStore):
    """A store that can go away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise OSError("store is down")

    def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
        self._check()
        return super().reserve(key, count, pace, longest, lead)

    def slow_down(self, key: str, pace: Pace) -> float:
        self._check()
        return super().slow_down(key, pace)

    def join(self, key: str, member: str, within: float) -> int:
        self._check()
        return super().join(key, member, within)


def process(store: Any, rate: float = 50.0, **options: Any) -> RateLimiter:
    return RateLimiter(rate, name="index-faces", store=store, **options)


def most_in_a_second(starts: list[float]) -> int:
    """The largest number of starts in any half-open second."""
    starts = sorted(starts)
    most, first = 0, 0
    for last, start in enumerate(starts):
        while start - starts[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.fixture
def events(resilience: None) -> list[Event]:
    heard: list[Event] = []
    listen(heard.append)
    return heard


# -- one queue -----------------------------------------------------------------------------------------------------


def test_all_stand_in_one_queue(clock: ManualRuntime) -> None:
    """What one reserves the other stands behind."""
    store = MemoryLimiterStore()
    here, there = process(store), process(store)
    assert here.reserve_batch(10).delay == 0.0
    batch = there.reserve_batch(10)
    assert (round(batch.delay, 6), batch.interval) == (0.2, 0.02)
    assert round(here.reserve(), 6) == 0.4


def test_calls_wait_for_their_slots(mode: Mode, clock: ManualRuntime) -> None:
    """Decorated, in every mode."""
    store = MemoryLimiterStore()
    starts: list[float] = []
    guarded = [process(store)(mode.wrap(lambda: starts.append(clock.now))) for _ in range(3)]
    for _ in range(4):
        for one in guarded:
            mode.call(one)
    assert [round(start - starts[0], 6) for start in starts] == [round(0.02 * n, 6) for n in range(12)]


def test_blocks_wait_for_their_slots(clock: ManualRuntime) -> None:
    """`with` and `async with`."""
    import anyio

    limiter = process(MemoryLimiterStore())
    for _ in range(3):
        with limiter:
            pass

    async def main() -> None:
        async with limiter:
            pass

    anyio.run(main)
    assert [round(seconds, 6) for seconds in clock.slept] == [0.02, 0.02, 0.02]


def test_a_batch_can_be_awaited(clock: ManualRuntime) -> None:
    """With a store and without one."""
    import anyio

    for limiter in (process(MemoryLimiterStore()), RateLimiter(50.0)):
        limiter.reserve_batch(10)
        assert round(anyio.run(limiter.areserve_batch, 5).delay, 6) == 0.2


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["one", "batch", "slow", "pause"]), st.integers(1, 60)), max_size=40
)


@given(rate=st.sampled_from([1.0, 8.0, 50.0]), steps=STEPS)
def test_no_second_holds_more_than_the_rate_and_one(rate: float, steps: list[tuple[int, str, int]]) -> None:
    """Whichever process reserves, singly or in batches, with throttling and pauses in between."""
    with fresh(), ManualRuntime().installed() as clock:
        store = MemoryLimiterStore()
        limiters = [process(store, rate) for _ in range(3)]
        starts: list[float] = []
        for who, what, number in steps:
            if what == "pause":
                clock.advance(number / 50.0)
            elif what == "slow":
                limiters[who].slow_down()
            else:
                batch = limiters[who].reserve_batch(number if what == "batch" else 1)
                starts += [clock.now + batch.start_of(index) for index in range(batch.count)]
        assert starts == sorted(starts)
        assert most_in_a_second(starts) <= rate + 1


def test_nothing_is_taken_that_is_too_far_away(mode: Mode, clock: ManualRuntime) -> None:
    """Neither beyond `max_wait` nor beyond the deadline; the next one gets the slot."""
    store = MemoryLimiterStore()
    here, patient = process(store, 1.0, max_wait=0.5), process(store, 1.0)
    mode.run(patient, script("ok"))
    with pytest.raises(RateLimitedError) as caught:
        mode.run(here, script("ok"))
    assert caught.value.retry_after == 1.0
    with pytest.raises(RateLimitedError):
        mode.run(guard(deadline(0.5), patient), script("ok"))
    mode.run(patient, script("ok"))
    assert clock.slept == [1.0]


def test_throttling_slows_all_down(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """One process hears it, and the next slot of another is further away; it comes back for all."""
    store = MemoryLimiterStore()
    here, there = process(store, classify=heed), process(store, classify=heed)
    with suppress(Throttled):
        mode.run(here, script(Throttled()))
    assert here.rate == 35.0
    batch = there.reserve_batch(2)
    assert batch.interval == pytest.approx(1.0 / 35.0)
    assert there.rate == pytest.approx(35.0)
    clock.advance(4.0)
    there.reserve()
    assert there.rate == 50.0
    assert [(one.policy, one.status, one.name) for one in events if one.type == "throttled"] == [
        ("limiter", "35/s", "index-faces")
    ]


def test_a_block_that_is_throttled_slows_down_as_well(clock: ManualRuntime) -> None:
    """Also at the end of an `async with`, where nobody can wait for the store."""
    import anyio

    limiter = process(MemoryLimiterStore(), classify=heed)
    with suppress(Throttled), limiter:
        raise Throttled
    assert limiter.rate == 35.0
    clock.advance(1.0)

    async def main() -> None:
        with suppress(Throttled):
            async with limiter:
                raise Throttled

    anyio.run(main)
    ends = time.monotonic() + 5.0
    while limiter.rate > 30.0 and time.monotonic() < ends:
        time.sleep(0.001)
    assert limiter.rate == pytest.approx(0.7 * 40.0)


def test_retries_are_paced_too(mode: Mode, clock: ManualRuntime) -> None:
    """Inside a retry each attempt takes a slot."""
    limiter = process(MemoryLimiterStore(), 1.0)
    stack = guard(retry(attempts=3, jitter=none()), limiter)
    assert mode.run(stack, script(ConnectionResetError(), ConnectionResetError(), "ok")) == "ok"
    assert clock.now >= 1002.0


# -- too late for a slot -------------------------------------------------------------------------------------------


def test_who_wakes_up_too_late_takes_another_slot(mode: Mode, clock: ManualRuntime) -> None:
    """Started now, the call would meet those that have the slots after its own."""
    store = MemoryLimiterStore()
    limiter = process(store)
    limiter.reserve_batch(10)
    overslept = [0.3, 0.005]
    clock.on_sleep = lambda _: clock.advance(overslept.pop(0)) if overslept else None
    starts: list[float] = []
    mode.call(limiter(mode.wrap(lambda: starts.append(clock.now))))
    # Its slot was at 0.2 s and it woke at 0.5 s; the next free one begins at once.
    assert [round(start - 1000.0, 6) for start in starts] == [0.5]
    assert round(limiter.reserve(), 6) == 0.02  # that one was taken, too


def test_an_answer_that_was_long_on_its_way_is_old(clock: ManualRuntime) -> None:
    """The slot began when the store said so, not when the answer came."""

    class Slow(MemoryLimiterStore):
        ways: ClassVar = [0.001, 0.03, 0.001]

        def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
            granted = super().reserve(key, count, pace, longest, lead)
            since = clock.now
            clock.advance(self.ways.pop(0))
            return Granted(granted.delay, granted.interval, granted.taken, since)

    store = Slow()
    limiter = process(store, processes=1)
    for _ in range(2):
        with limiter:
            clock.advance(1.0)
    assert store.ways == []  # the second asked twice


def test_a_batch_tells_which_of_its_slots_are_missed(clock: ManualRuntime) -> None:
    """With a store and without one."""
    for limiter in (process(MemoryLimiterStore()), RateLimiter(50.0)):
        batch = limiter.reserve_batch(10)
        clock.advance(0.105)
        assert [batch.missed(index) for index in range(10)] == [True] * 5 + [False] * 5
        clock.advance(10.0)


# -- without the store ---------------------------------------------------------------------------------------------


def test_the_share_keeps_all_together_within_the_rate() -> None:
    """However many processes, wherever their seconds begin, and with starts up to 50 ms late."""
    for rate in (5.0, 25.0, 50.0, 100.0):
        assert share_of(rate, 1) == rate
        for processes in range(2, int(rate) + 1):
            share = share_of(rate, processes)
            assert 0.0 < share <= rate / processes
            # So many starts of one process fit into a second that is 50 ms longer.
            starts = int(1.05 * share - 1e-9) + 1
            assert starts * processes <= rate + 1
    assert share_of(50.0, 8) == pytest.approx(6 / 1.05)
    assert share_of(1.0, 8) == 0.125


def test_a_store_that_is_away_leaves_each_its_share(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """Learnt from the store while it was there: neither closed nor fully open."""
    store = Switched()
    limiters = [process(store) for _ in range(8)]
    for _ in range(3):
        for one in limiters:
            mode.run(one, script("ok"))
        clock.advance(1.0)
    assert {round(one.share or 0.0, 3) for one in limiters} == {5.714}
    store.away = True
    starts: list[float] = []
    lasting = limiters[0](mode.wrap(lambda: starts.append(clock.now)))
    for _ in range(20):
        mode.call(lasting)
    gaps = {round(later - earlier, 4) for earlier, later in pairwise(starts)}
    assert gaps == {0.175}
    assert starts[0] - 1000.0 < 6.0  # it was sure after a second
    told = [one for one in events if one.type == "store_failed"]
    assert {(one.policy, one.status, one.code, one.name) for one in told} == {
        ("limiter", "5.71/s", "OSError", "index-faces")
    }


def test_the_number_of_processes_can_be_said(clock: ManualRuntime) -> None:
    """Then nothing has to be learnt, and the store is not asked for it."""
    store = Switched()
    limiter = process(store, processes=10)
    assert limiter.share == pytest.approx(5 / 1.05)
    limiter.reserve()
    assert store.asked == 1
    assert RateLimiter(50.0).share is None


def test_who_never_heard_of_the_others_goes_slowly(clock: ManualRuntime) -> None:
    """The store was away from the start, and nobody said how many there are."""
    store = Switched()
    store.away = True
    limiter = process(store)
    limiter.reserve()
    assert limiter.reserve_batch(2).interval == 2.0  # the floor: a hundredth of the rate


def test_one_answer_that_does_not_come_changes_nothing(clock: ManualRuntime) -> None:
    """The others would go on at the full rate; so the call waits and asks again."""
    store = Switched()
    limiter = process(store, processes=8)
    limiter.reserve_batch(10)
    store.away = True
    clock.on_sleep = lambda _: setattr(store, "away", False)
    assert round(limiter.reserve_batch(1).delay, 6) == 0.1
    assert clock.slept == [0.1]
    assert limiter.rate == pytest.approx(50.0)


def test_being_sure_takes_no_longer_than_a_call_may_wait(clock: ManualRuntime) -> None:
    """Who may wait half a second is refused, and told when to come back."""
    store = Switched()
    store.away = True
    with pytest.raises(RateLimitedError) as caught:
        process(store, processes=8).reserve(max_wait=0.5)
    assert caught.value.retry_after == 1.0


def step(flow: Flow[Slots]) -> float | Slots:
    """Run a flow until it would sleep, for so many seconds, or is at its end."""
    answer: object = None
    try:
        while True:
            wanted = flow.send(answer)
            answer = None
            if isinstance(wanted, Ask):
                try:
                    answer = wanted.operation(*wanted.args)
                except OSError as error:
                    answer = Unanswered(type(error).__name__)
            elif isinstance(wanted, float):
                return wanted
    except StopIteration as stop:
        slots: Slots = stop.value
        return slots


def simulate(
    clock: ManualRuntime, limiters: list[RateLimiter], batches: list[int], seconds: float, at: Callable[[float], None]
) -> list[float]:
    """When processes start that have so many callers each, one for each batch, who reserve again when it is used."""
    began = clock.now
    numbers = itertools.count()
    callers = [(limiter._sharing, batch) for limiter in limiters for batch in batches]
    waiting: list[tuple[float, int, int, Flow[Slots] | None]] = []
    for who in range(len(callers)):
        heapq.heappush(waiting, (began, next(numbers), who, None))
    starts: list[float] = []
    while waiting[0][0] < began + seconds:
        clock.now, _, who, flow = heapq.heappop(waiting)
        at(clock.now - began)
        sharing, batch = callers[who]
        assert sharing is not None
        flow = sharing.reserve(batch, None) if flow is None else flow
        came = step(flow)
        if isinstance(came, Slots):
            mine = [came.begins + index * came.interval for index in range(batch)]
            starts += mine
            heapq.heappush(waiting, (max(clock.now, mine[-1]) + 1e-6, next(numbers), who, None))
        else:
            heapq.heappush(waiting, (clock.now + came, next(numbers), who, flow))
    return [one for one in starts if one < began + seconds]


@pytest.mark.parametrize("away", [0.5, 1.5, 2.5, 4.0, 8.0, 40.0])
@pytest.mark.parametrize("batches", [[1], [10], [50], [1] * 5, [10] * 5, [50] * 2, [1] * 20], ids=str)
def test_going_away_and_coming_back_keep_to_the_rate(clock: ManualRuntime, batches: list[int], away: float) -> None:
    """For a moment or for long, with one caller a process or many.

    What others still hold passes first, and when the store is back the others get the time to notice.
    """
    store = Switched()
    limiters = [process(store, processes=8) for _ in range(8)]

    def at(seconds: float) -> None:
        store.away = 20.0 <= seconds < 20.0 + away

    starts = simulate(clock, limiters, batches, 100.0, at)
    assert most_in_a_second(starts) <= 51
    after = [one for one in starts if 1080.0 <= one < 1100.0]
    assert len(after) / 20.0 == pytest.approx(50.0, rel=0.05)
    alone = [one for one in starts if 1045.0 <= one < 1060.0]
    if away == 40.0 and len(batches) * batches[0] <= 50:  # else what they hold from the store lasts so long
        assert 8 * 5.714 * 0.9 <= len(alone) / 15.0 <= 50.0


def test_a_store_that_is_back_soon_finds_nobody_gone(clock: ManualRuntime) -> None:
    """Who holds nothing waits, and asks on, for as long as others may hold slots."""
    store = Switched()
    here, there = process(store, processes=8), process(store, processes=8)
    here.reserve()
    there.reserve_batch(200)  # four seconds
    here.reserve()
    store.away = True
    clock.on_sleep = lambda _: setattr(store, "away", clock.now < 1003.0)
    assert here.reserve_batch(1).begins > 1004.0, "a slot from the store, behind the others"
    assert here._sharing is not None
    assert here._sharing._own._records == {}, "and none alone"


def test_one_call_at_a_time_asks_a_store_that_failed(clock: ManualRuntime) -> None:
    """What it hears holds for all calls of the process."""
    store = Switched()
    limiter = process(store, processes=8)
    limiter.reserve()
    store.away = True
    sharing = limiter._sharing
    assert sharing is not None
    flows = [sharing.reserve(1, None) for _ in range(20)]
    for flow in flows:  # the first one fails
        assert step(flow) == pytest.approx(0.1)
    asked = store.asked
    asking = flows[0]
    clock.advance(0.1)
    assert isinstance(asking.send(None), Ask)
    for flow in flows[1:]:
        assert step(flow) == pytest.approx(0.1)
    assert store.asked == asked
    asking.close()  # cancelled: the next one may
    step(flows[1])
    assert store.asked == asked + 1


def test_that_it_goes_and_comes_back_is_told_once(clock: ManualRuntime, events: list[Event]) -> None:
    """However many answers do not come."""
    store = Switched()
    limiter = process(store, processes=8)
    limiter.reserve()
    store.away = True
    for _ in range(100):
        clock.advance(max(0.0, limiter.reserve()))
    store.away = False
    clock.advance(2.0)
    limiter.reserve()
    limiter.reserve()
    assert [(one.type, one.status, one.code) for one in events] == [
        ("store_failed", "5.71/s", "OSError"),
        ("recovered", "shared", ""),
    ]


def test_a_call_in_a_hurry_is_refused_and_blames_nobody(clock: ManualRuntime, events: list[Event]) -> None:
    """A store that does not answer within half of what is left of its deadline may be well for others."""
    sharing = process(Switched(), processes=8, store_timeout=10.0)._sharing
    assert sharing is not None

    def drive() -> None:
        flow = sharing.reserve(1, 0.15)
        answer: object = None
        while True:
            wanted = flow.send(answer)
            late = isinstance(wanted, Ask)
            clock.advance(wanted.limit if isinstance(wanted, Ask) else wanted)  # type: ignore[arg-type]
            answer = Unanswered("LimitPassed") if late else None

    with Deadline(0.15), pytest.raises(RateLimitedError) as caught:
        drive()
    assert caught.value.retry_after == pytest.approx(0.1)
    assert events == []
    assert not sharing._away


def test_a_process_that_shuts_down_does_not_wait_for_a_store(clock: ManualRuntime) -> None:
    """Its sleeps end at once, so it would ask without pause."""
    store = Switched()
    store.away = True
    limiter = process(store, processes=8)
    RUNTIME.stop()
    with pytest.raises(RateLimitedError):
        limiter.reserve()
    assert store.asked == 1


def test_the_call_keeps_half_of_its_time(clock: ManualRuntime) -> None:
    """A store that hangs may take the other half."""
    sharing = process(Switched(), processes=8, store_timeout=10.0)._sharing
    assert sharing is not None
    with Deadline(3.0):
        wanted = sharing.reserve(1, None).send(None)
    assert isinstance(wanted, Ask)
    assert wanted.limit == 1.5


def test_a_store_that_lost_its_records_does_not_give_slots_twice(clock: ManualRuntime) -> None:
    """Who holds slots tells it until when."""
    store = MemoryLimiterStore()
    here, there = process(store), process(store)
    here.reserve_batch(100)
    there.reserve_batch(50)
    store._records.clear()
    assert round(there.reserve_batch(1).delay, 6) == 3.0


def test_a_store_that_hangs_holds_nobody_up_for_long(mode: Mode, resilience: None) -> None:
    """It is given up after `store_timeout`; other tasks go on meanwhile."""
    release = threading.Event()

    class Hanging(MemoryLimiterStore):
        inline = False

        def reserve(self, key: str, count: int, pace: Pace, longest: float | None, lead: float) -> Granted:
            release.wait(10.0)
            raise OSError

    limiter = RateLimiter(1000.0, name="hanging", store=Hanging(), processes=2, store_timeout=0.02)
    guarded = limiter(mode.function(script(*["ok"] * 5)))
    began = time.monotonic()
    try:
        assert [mode.call(guarded) for _ in range(5)] == ["ok"] * 5
        assert time.monotonic() - began < 3.0
    finally:
        release.set()


def test_a_child_after_a_fork_is_another_process(clock: ManualRuntime) -> None:
    """It joins for itself."""
    store = MemoryLimiterStore()
    limiter = process(store)
    limiter.reserve()
    limiter._sharing.after_fork()  # type: ignore[union-attr]
    limiter.reserve()
    assert limiter.share == share_of(50.0, 2)


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": object(), "name": "x"}, r"RateLimiter\.store must be a LimiterStore"),
        ({"store": MemoryLimiterStore()}, r"RateLimiter\.name must be given if the limiter is shared"),
        ({"store": MemoryLimiterStore(), "name": "x", "processes": 0}, r"RateLimiter\.processes must be 1 or more"),
        ({"processes": 8}, r"RateLimiter\.processes must be left out without a store"),
        ({"store_timeout": 0.0}, r"RateLimiter\.store_timeout must be more than 0 seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """At construction."""
    with pytest.raises(OptionError, match=message):
        rate_limit(50.0, **options)


# -- answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "x",
        None,
        Granted(0.0, 0.0),
        Granted(0.0, -1.0),
        Granted(float("nan"), 0.1),
        Granted(0.0, float("inf")),
        Granted("0", 0.1),  # type: ignore[arg-type]
        Granted(0.0, 0.1, since=float("nan")),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_read_is_none(mode: Mode, clock: ManualRuntime, answer: object) -> None:
    """The limiter goes by its share, and says so once."""

    class Garbled(MemoryLimiterStore):
        def reserve(self, *_: object) -> Any:
            return answer

        def slow_down(self, *_: object) -> Any:
            return answer

        def join(self, *_: object) -> Any:
            return answer

    heard: list[Event] = []
    listen(heard.append)
    limiter = rate_limit(10.0, name="garbled", store=Garbled(), classify=heed)
    assert mode.run(limiter, script("fine")) == "fine"
    with pytest.raises(Throttled):
        mode.run(limiter, script(Throttled()))
    assert [one.type for one in heard if one.type == "store_failed"] == ["store_failed"]
