"""Circuits that processes share through a store. Two breakers of one name, made afresh, stand for two processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextvars import Context
from itertools import pairwise
from typing import Any

import anyio
import pytest

from resilient_faces import Breaker, CircuitOpenError, Event
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._core.stores import MOST_LATE
from resilient_faces.breaker import MemoryStore, Shared, State, consecutive, failure_rate, failures_within
from resilient_faces.limits import Deadline
from resilient_faces.testing import ManualRuntime, Mode, script


def process(store: Any, **options: Any) -> Breaker:
    """A breaker as another process would make it: the same name, a circuit of its own."""
    defaults = {"trips": consecutive(2), "recovery_timeout": 10.0, "growth": 2.0, "refresh": 1.0}
    return Breaker("db", store=store, replace=True, **{**defaults, **options})


def fail(mode: Mode, breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionResetError):
            mode.run(breaker, script(ConnectionResetError()))


def refused(mode: Mode, breaker: Breaker) -> CircuitOpenError:
    scripted = script("called")
    with pytest.raises(CircuitOpenError) as caught:
        mode.run(breaker, scripted)
    assert scripted.count == 0
    return caught.value


def test_what_one_opens_the_other_knows(mode: Mode, clock: ManualRuntime) -> None:
    """With the time that is left and the fault that opened it."""
    store = MemoryStore()
    here, there = process(store), process(store)
    fail(mode, here, 2)
    clock.advance(3.0)
    error = refused(mode, there)
    assert (error.retry_after, error.last_failure) == (7.0, "ConnectionResetError")
    assert there.circuit.state is State.open


def test_one_probes_for_all(mode: Mode, clock: ManualRuntime) -> None:
    """While one process has the trial, the other is refused, however often it asks."""
    store = MemoryStore()
    here, there = process(store), process(store)
    fail(mode, here, 2)
    refused(mode, there)
    clock.advance(10.0)
    outcomes: list[object] = []

    def probe() -> str:
        for _ in range(5):
            try:
                outcomes.append(there.call(lambda: "called"))
            except CircuitOpenError:
                outcomes.append("refused")
            clock.advance(2.0)
        return "fine"

    assert mode.call(here(mode.wrap(probe))) == "fine"
    assert outcomes == ["refused"] * 5


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("early", range(1, 16))
def test_no_probe_without_a_claim_as_the_open_time_ends(
    mode: Mode, clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch, early: int, looks: bool
) -> None:
    """Wherever it ends between two readings of the clock, which are a millisecond apart here."""
    store = MemoryStore()
    here, there = process(store), process(store)
    fail(mode, here, 2)
    refused(mode, there)
    clock.advance(9.5)
    if not looks:  # it has just looked, and the next look is due after the end
        refused(mode, there)
    clock.advance(0.5 - early / 1000.0)
    seen: list[str] = []

    def probe() -> None:
        record = store.load("db/")
        assert record is not None
        seen.append(record.state)

    def tick() -> float:
        clock.advance(0.001)
        return clock.now

    monkeypatch.setattr(RUNTIME, "monotonic", tick)
    with contextlib.suppress(CircuitOpenError):
        mode.call(there(mode.wrap(probe)))
    assert seen in ([], ["half_open"])


def test_what_one_closes_the_other_knows(mode: Mode, clock: ManualRuntime) -> None:
    """A recovery is shared as well, within `refresh` seconds."""
    store = MemoryStore()
    here, there = process(store), process(store)
    fail(mode, here, 2)
    refused(mode, there)
    clock.advance(10.0)
    assert mode.run(here, script("fine")) == "fine"
    clock.advance(1.0)
    assert mode.run(there, script("fine")) == "fine"
    assert here.circuit.state is there.circuit.state is State.closed


def test_a_failed_trial_is_shared(mode: Mode, clock: ManualRuntime) -> None:
    """The next open time is longer for everybody."""
    store = MemoryStore()
    here, there = process(store), process(store)
    fail(mode, here, 2)
    clock.advance(10.0)
    fail(mode, here)
    error = refused(mode, there)
    assert error.retry_after == 20.0
    assert there.circuit.reopenings == 1


def test_a_process_that_died_while_probing(mode: Mode, clock: ManualRuntime) -> None:
    """Its lease ends in the store too, and another takes the trial."""
    store = MemoryStore()
    there = process(store, probe_lease=30.0)
    store.save("db/", Shared(1, "half_open", 30.0, 0, "X", "somebody"), 0)
    refused(mode, there)
    clock.advance(31.0)
    assert mode.run(there, script("fine")) == "fine"


def test_the_store_is_asked_seldom(mode: Mode, clock: ManualRuntime) -> None:
    """At most once in `refresh` seconds while nothing happens."""
    asked: list[float] = []

    class Counting(MemoryStore):
        def load(self, key: str) -> Shared | None:
            asked.append(clock.now)
            return super().load(key)

    guarded = process(Counting(), refresh=5.0)(mode.function(script("fine")))
    for _ in range(20):
        mode.call(guarded)
        clock.advance(1.0)
    assert len(asked) == 4


def test_closed_circuits_write_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """Only failures and transitions are told: a healthy fleet costs reads."""
    written: list[object] = []

    class Counting(MemoryStore):
        def save(self, key: str, shared: Shared, expected: int) -> bool:
            written.append((shared.state, shared.last, shared.seconds, expected))
            return super().save(key, shared, expected)

        def count(self, key: str, version: int, within: float) -> Shared | None:
            written.append("failure")
            return super().count(key, version, within)

        def clear(self, key: str, version: int) -> None:
            written.append("clear")
            super().clear(key, version)

    breaker = process(Counting())
    mode.run(breaker, script("fine"))
    assert written == []
    fail(mode, breaker)
    mode.run(breaker, script("fine", "fine"))
    assert written == ["failure", "clear"]
    written.clear()
    fail(mode, breaker, 2)
    assert written == ["failure", ("open", "ConnectionResetError", 10.0, 0)]


def test_counters_stay_exact(mode: Mode, clock: ManualRuntime) -> None:
    """Asking the store is no rejection."""
    breaker = process(MemoryStore())
    fail(mode, breaker, 2)
    for _ in range(3):
        refused(mode, breaker)
    assert breaker.circuit.snapshot().rejected == 3


@pytest.mark.parametrize("broken", ["load", "save", "count"])
def test_a_store_that_fails_is_left_out(mode: Mode, clock: ManualRuntime, events: list[Event], broken: str) -> None:
    """The circuit goes on by itself: it opens, refuses, probes and closes; an event says so."""

    class Broken(MemoryStore):
        pass

    def raises(*_: object) -> None:
        raise OSError("store is down")

    setattr(Broken, broken, raises)
    breaker = process(Broken())
    assert mode.run(breaker, script("fine")) == "fine"
    fail(mode, breaker)
    clock.advance(2.0)  # long enough to ask again
    assert mode.run(breaker, script("fine")) == "fine"
    clock.advance(2.0)
    fail(mode, breaker, 2)
    refused(mode, breaker)
    clock.advance(10.0)
    assert mode.run(breaker, script("fine")) == "fine"
    assert breaker.circuit.state is State.closed
    told = [one for one in events if one.type == "store_failed"]
    assert told
    assert {(one.status, one.code, one.name) for one in told} == {("local", "OSError", "db")}


def test_a_success_that_could_not_be_told_is_told_by_the_next(mode: Mode, clock: ManualRuntime) -> None:
    """The call is not affected, and the failures counted before do not stay for ever."""
    broken = [True]

    class Broken(MemoryStore):
        def clear(self, key: str, version: int) -> None:
            if broken[0]:
                raise OSError("store is down")
            super().clear(key, version)

    breaker = process(Broken())
    fail(mode, breaker)
    assert mode.run(breaker, script("fine")) == "fine"
    broken[0] = False
    clock.advance(2.0)
    assert mode.run(breaker, script("fine")) == "fine"
    fail(mode, breaker)
    assert breaker.circuit.state is State.closed


def test_a_failure_whose_counting_was_not_answered_is_cleared_too(mode: Mode, clock: ManualRuntime) -> None:
    """It may have been counted: a success must end that row as well."""

    class Lossy(MemoryStore):
        def count(self, key: str, version: int, within: float) -> Shared | None:
            super().count(key, version, within)
            raise OSError("the answer was lost")

    store = Lossy()
    breaker = process(store)
    fail(mode, breaker)
    clock.advance(2.0)
    assert mode.run(breaker, script("fine")) == "fine"
    found = MemoryStore.count(store, "db/", 0, 60.0)
    assert found is not None
    assert found.failures == 1, "the row began anew"


def test_a_store_that_hangs_holds_up_nobody(mode: Mode, resilience: None, events: list[Event]) -> None:
    """It is given up after `store_timeout`, in a worker thread; the event loop runs on meanwhile."""
    release = threading.Event()

    class Hanging(MemoryStore):
        inline = False

        def load(self, key: str) -> Shared | None:
            release.wait(5.0)
            return None

    breaker = process(Hanging(), store_timeout=0.02)
    began = time.monotonic()
    try:
        assert mode.run(breaker, script("fine")) == "fine"
        assert time.monotonic() - began < 2.0
    finally:
        release.set()
    assert [one.code for one in events if one.type == "store_failed"] == ["LimitPassed"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_event_loop_runs_on_while_a_store_is_slow(resilience: None, backend: str) -> None:
    """Another task gets its turns while the store takes its time."""
    import anyio

    release = threading.Event()

    class Slow(MemoryStore):
        inline = False

        def load(self, key: str) -> Shared | None:
            release.wait(5.0)
            return None

    breaker = process(Slow(), store_timeout=4.0)

    @breaker
    async def call() -> str:
        return "fine"

    async def main() -> object:
        answers: list[object] = []

        async def calling() -> None:
            answers.append(await call())

        async with anyio.create_task_group() as group:
            group.start_soon(calling)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            release.set()  # only reached if the loop was not blocked
        return answers[0]

    assert anyio.run(main, backend=backend) == "fine"


def test_a_shared_circuit_needs_a_name(resilience: None) -> None:
    """Or nobody could find it."""
    with pytest.raises(Exception, match=r"Breaker\.name must be given if the circuit is shared"):
        Breaker(store=MemoryStore())


# -- counting together ---------------------------------------------------------------------------------------------


def fleet(store: Any, size: int, **options: Any) -> list[Breaker]:
    return [process(store, **options) for _ in range(size)]


def test_processes_count_failures_together(mode: Mode, clock: ManualRuntime) -> None:
    """Five processes with one failure each are five failures: the fifth opens it, the others learn it in time."""
    breakers = fleet(MemoryStore(), 8, trips=consecutive(5))
    for breaker in breakers[:5]:
        fail(mode, breaker)
    states = [breaker.circuit.state for breaker in breakers]
    assert states == [State.closed] * 4 + [State.open] + [State.closed] * 3
    clock.advance(0.5)  # less than `refresh`: they have not looked again
    fail(mode, breakers[0])  # a call that it made not knowing better, and that tells it
    assert breakers[0].circuit.state is State.open
    assert breakers[0].circuit.snapshot().retry_after == 9.5
    clock.advance(0.5)
    for breaker in breakers[1:]:
        refused(mode, breaker)


def test_at_most_one_call_too_many_for_each_process(mode: Mode, clock: ManualRuntime) -> None:
    """Whatever the order: the threshold, and one for each other process."""
    breakers = fleet(MemoryStore(), 8, trips=consecutive(5))
    called = 0

    def failing() -> None:
        nonlocal called
        called += 1
        raise ConnectionResetError

    for breaker in breakers:
        mode.run(breaker, script("fine"))  # they have just looked, and do so again after `refresh`
    for _ in range(20):
        for breaker in breakers:
            with pytest.raises((ConnectionResetError, CircuitOpenError)):
                mode.call(breaker(mode.wrap(failing)))
    assert called == 12


def test_a_success_ends_the_row(mode: Mode, clock: ManualRuntime) -> None:
    """Of the process that had failed: it clears what was counted."""
    here, there = fleet(MemoryStore(), 2, trips=consecutive(3))
    fail(mode, here)
    fail(mode, there)
    clock.advance(1.0)  # it looks before it calls
    mode.run(here, script("fine"))
    fail(mode, here, 2)
    assert here.circuit.state is there.circuit.state is State.closed
    fail(mode, there)
    assert there.circuit.state is State.open


def test_failures_that_are_far_apart_are_no_row(mode: Mode, clock: ManualRuntime) -> None:
    """Rarely calling processes with a failure each now and then must not open it between them."""
    breakers = fleet(MemoryStore(), 6, trips=consecutive(3))
    for breaker in breakers:
        fail(mode, breaker)
        clock.advance(31.0)
    assert {breaker.circuit.state for breaker in breakers} == {State.closed}


def test_failures_within_a_period_are_counted_together(mode: Mode, clock: ManualRuntime) -> None:
    """Within the rule's own period; a success changes nothing."""
    here, there = fleet(MemoryStore(), 2, trips=failures_within(4, seconds=10.0))
    fail(mode, here, 2)
    mode.run(here, script("fine"))
    fail(mode, there)
    clock.advance(10.0)  # the period is over
    fail(mode, here)
    assert here.circuit.state is State.closed
    fail(mode, there, 2)
    fail(mode, here)
    assert here.circuit.state is State.open


def test_rates_are_not_counted_together(mode: Mode, clock: ManualRuntime) -> None:
    """Each success would have to be written; each process goes by its own rate, and tells when it opens."""
    asked: list[str] = []

    class Watching(MemoryStore):
        def count(self, key: str, version: int, within: float) -> Shared | None:
            asked.append(key)
            return super().count(key, version, within)

    here, there = fleet(Watching(), 2, trips=failure_rate(0.5, calls=4, minimum=4))
    fail(mode, here, 4)
    assert asked == []
    clock.advance(1.0)
    refused(mode, there)


def test_what_was_counted_goes_with_the_generation(mode: Mode, clock: ManualRuntime) -> None:
    """After the circuit has closed again the count begins at nothing."""
    here, there = fleet(MemoryStore(), 2, trips=consecutive(2))
    fail(mode, here, 2)
    clock.advance(10.0)
    assert mode.run(here, script("fine")) == "fine"
    fail(mode, here)
    assert here.circuit.state is State.closed
    clock.advance(1.0)
    fail(mode, there)
    assert there.circuit.state is State.open


# -- who learns what, and when -------------------------------------------------------------------------------------


def test_who_was_away_while_it_was_open_does_not_probe_beside_the_prober(mode: Mode, clock: ManualRuntime) -> None:
    """A process that made no call meanwhile learns that the trial is another's, and that its own turn has come."""
    store = MemoryStore()
    here, there, fresh = fleet(store, 3)
    fail(mode, here, 2)
    clock.advance(10.5)
    outcomes: list[object] = []

    def probe() -> str:
        for one in (there, fresh):
            try:
                outcomes.append(one.call(lambda: "called"))
            except CircuitOpenError as error:
                outcomes.append(error.retry_after)
        return "fine"

    assert mode.call(here(mode.wrap(probe))) == "fine"
    assert outcomes == [1.0, 1.0]  # until the next look, long before the prober's lease is over


def test_a_store_that_is_asked_every_time_gives_one_trial_as_well(mode: Mode, clock: ManualRuntime) -> None:
    """With `refresh=0` a process that may not probe is refused, and asks again at once."""
    here, there = fleet(MemoryStore(), 2, refresh=0.0)
    fail(mode, here, 2)
    refused(mode, there)
    clock.advance(10.0)
    outcomes: list[object] = []

    def probe() -> str:
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                there.call(lambda: outcomes.append("called"))
        return "fine"

    assert mode.call(here(mode.wrap(probe))) == "fine"
    assert outcomes == []
    assert mode.run(there, script("fine")) == "fine"


def test_a_record_that_is_made_anew_is_news(mode: Mode, clock: ManualRuntime) -> None:
    """After the store has lost the old one, which had been written more often."""
    store = MemoryStore()
    here, there, third = fleet(store, 3)
    fail(mode, here, 2)
    clock.advance(10.0)
    assert mode.run(here, script("fine")) == "fine"
    mode.run(there, script("fine"))
    store._records.clear()
    clock.advance(0.5)
    fail(mode, third, 2)
    clock.advance(0.5)
    refused(mode, there)


def test_a_record_that_is_made_anew_may_have_a_lower_version(mode: Mode, clock: ManualRuntime) -> None:
    """Its maker's clock is behind. Who knew the lost one heeds it, probes under it and closes it."""
    store = MemoryStore()
    here = process(store)
    fail(mode, here, 2)
    clock.advance(10.0)
    assert mode.run(here, script("fine")) == "fine"
    known = store.load("db/")
    assert known is not None
    store._records.clear()
    assert store.save("db/", Shared(known.version - 5000, "open", 10.0, 0, "X", "other"), 0)
    clock.advance(1.0)
    assert refused(mode, here).last_failure == "X"
    clock.advance(10.0)
    assert mode.run(here, script("fine")) == "fine"
    record = store.load("db/")
    assert record is not None
    assert record.state == "closed"


def test_an_answer_that_was_overtaken_is_no_news(mode: Mode, clock: ManualRuntime) -> None:
    """It says closed, of a time before another call of this process learnt that the circuit is open."""

    class Slow(MemoryStore):
        def count(self, key: str, version: int, within: float) -> Shared | None:
            found = super().count(key, version, within)
            assert self.save(key, Shared(version + 1, "open", 100.0, 0, "X", "other"), version)
            clock.advance(2.0)
            with pytest.raises(CircuitOpenError):
                here.call(lambda: "called")
            return found

    store = Slow()
    store.save("db/", Shared(1, "closed", 0.0), 0)
    here = process(store)
    fail(mode, here)
    assert here.circuit.state is State.open


def test_the_open_time_may_be_shorter_than_refresh(mode: Mode, clock: ManualRuntime) -> None:
    """It is looked at often enough not to be missed."""
    store = MemoryStore()
    here, there = fleet(store, 2, refresh=30.0, recovery_timeout=3.0, probe_lease=50.0)
    mode.run(there, script("fine"))
    fail(mode, here, 2)
    clock.advance(3.5)
    outcomes: list[object] = []

    def probe() -> str:
        with pytest.raises(CircuitOpenError):
            there.call(lambda: outcomes.append("called"))
        return "fine"

    assert mode.call(here(mode.wrap(probe))) == "fine"
    assert outcomes == []


def test_a_reset_by_hand_reaches_the_others(mode: Mode, clock: ManualRuntime) -> None:
    """Also from a process that never called anything, and whoever had opened the circuit."""
    store = MemoryStore()
    here, there, by_hand = fleet(store, 3)
    fail(mode, here, 2)
    refused(mode, there)
    by_hand.reset()
    clock.advance(1.0)
    assert mode.run(here, script("fine")) == "fine"
    assert mode.run(there, script("fine")) == "fine"


def test_a_reset_by_hand_clears_what_was_counted(mode: Mode, clock: ManualRuntime) -> None:
    """Two failures before it and one after it are one."""
    here, by_hand = fleet(MemoryStore(), 2, trips=consecutive(3))
    fail(mode, here, 2)
    by_hand.reset()
    here.circuit.reset()
    clock.advance(1.0)
    fail(mode, here)
    assert here.circuit.state is State.closed


def test_a_circuit_that_is_reset_itself_tells_it_at_its_next_call(mode: Mode, clock: ManualRuntime) -> None:
    """`circuits["db"].reset()` knows nothing of stores; the next call does."""
    store = MemoryStore()
    here, there = fleet(store, 2)
    fail(mode, here, 2)
    refused(mode, there)
    here.circuit.reset()
    assert mode.run(here, script("fine")) == "fine"
    clock.advance(1.0)
    assert mode.run(there, script("fine")) == "fine"


def test_keys_are_shared_one_by_one(mode: Mode, clock: ManualRuntime) -> None:
    """One host's circuit opens for all processes, the other hosts' do not."""
    store = MemoryStore()
    here, there = fleet(store, 2, key=lambda host: host, max_keys=2)

    def call(breaker: Breaker, host: str, answer: object) -> object:
        return mode.call(breaker(mode.function(script(answer))), host)

    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            call(here, "a", ConnectionResetError())
    with pytest.raises(CircuitOpenError):
        call(there, "a", "called")
    for host in ("b", "c", "d"):  # more than are kept in mind
        assert call(there, host, "fine") == "fine"
    with pytest.raises(CircuitOpenError):
        call(there, "a", "called")
    assert len(there._sharing._views) <= 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("one", "other", "stored"),
    [(("a/b", "c"), ("a", "b/c"), "a%2Fb/c"), (("a%2Fb", ""), ("a/b", ""), "a%252Fb/")],
)
def test_names_and_keys_are_kept_apart(
    clock: ManualRuntime, one: tuple[str, str], other: tuple[str, str], stored: str
) -> None:
    """Wherever a slash or a percent sign stands, no two circuits have one record."""
    store = MemoryStore()

    def fails(key: str) -> None:
        raise ConnectionResetError

    for name, key in (one, other):
        guarded = Breaker(name, key=lambda key: key, trips=consecutive(1), store=store)(fails)
        with pytest.raises(ConnectionResetError):
            guarded(key)
    assert len(store._records) == 2
    assert stored in store._records


def test_an_opening_that_could_not_be_told_is_told_later(mode: Mode, clock: ManualRuntime) -> None:
    """The store was away when the circuit opened."""
    store = MemoryStore()
    down = [True]

    class Sometimes(MemoryStore):
        def load(self, key: str) -> Shared | None:
            return self.away() or store.load(key)

        def count(self, key: str, version: int, within: float) -> Shared | None:
            return self.away() or store.count(key, version, within)

        def save(self, key: str, shared: Shared, expected: int) -> bool:
            self.away()
            return store.save(key, shared, expected)

        def away(self) -> None:
            if down[0]:
                raise OSError("store is down")

    here, there = process(Sometimes()), process(store)
    fail(mode, here, 2)
    assert store.load("db/") is None
    down[0] = False
    clock.advance(2.0)
    refused(mode, here)
    assert refused(mode, there).retry_after == 8.0


def test_a_store_that_lost_its_records_is_told_again(mode: Mode, clock: ManualRuntime) -> None:
    """A server that restarts empty does not close a circuit, and its new records are believed."""
    store = MemoryStore()
    here, there = fleet(store, 2)
    fail(mode, here, 2)
    refused(mode, there)
    store._records.clear()
    clock.advance(1.0)
    refused(mode, there)
    record = store.load("db/")
    assert record is not None
    assert record.state == "open"
    clock.advance(1.0)
    refused(mode, here)


def test_a_claim_whose_answer_was_lost_is_recognised(mode: Mode, clock: ManualRuntime) -> None:
    """The trial is this process's own: it goes on probing instead of waiting for its own lease."""
    store = MemoryStore()

    class Lossy(MemoryStore):
        def load(self, key: str) -> Shared | None:
            return store.load(key)

        def count(self, key: str, version: int, within: float) -> Shared | None:
            return store.count(key, version, within)

        def save(self, key: str, shared: Shared, expected: int) -> bool:
            saved = store.save(key, shared, expected)
            if shared.state == "half_open":
                raise OSError("the answer was lost")
            return saved

    here = process(Lossy(), ignore=KeyError)
    fail(mode, here, 2)
    clock.advance(10.0)
    with pytest.raises(KeyError):  # a neutral answer: the trial goes on
        mode.run(here, script(KeyError()))
    clock.advance(2.0)
    assert mode.run(here, script("fine")) == "fine"
    record = store.load("db/")
    assert record is not None
    assert record.state == "closed"


def test_a_late_answer_of_an_old_generation_counts_nothing(mode: Mode, clock: ManualRuntime) -> None:
    """Its failure belongs to a circuit that has opened and closed meanwhile."""
    store = MemoryStore()
    here, there = fleet(store, 2, trips=consecutive(2))
    late = here.circuit.generation

    def meanwhile() -> None:
        fail(Mode("sync"), there, 2)
        clock.advance(10.0)
        assert there.call(lambda: "fine") == "fine"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        mode.call(here(mode.wrap(meanwhile)))
    assert late is here.circuit.generation
    record = store.load("db/")
    assert record is not None
    assert (record.state, record.failures) == ("closed", 0)


def test_a_store_that_failed_is_left_alone_for_a_moment(mode: Mode, clock: ManualRuntime) -> None:
    """Or each call would wait for it."""
    asked: list[float] = []

    class Broken(MemoryStore):
        def load(self, key: str) -> Shared | None:
            asked.append(clock.now)
            raise OSError("store is down")

    breaker = process(Broken(), refresh=0.0)
    for _ in range(20):
        mode.run(breaker, script("fine"))
        clock.advance(0.1)
    assert len(asked) == 2


def test_the_call_keeps_half_of_its_time(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """A store that hangs gets the other half; that the call was in a hurry is not the store's fault, and not told.

    While that answer is on its way, no other call waits for the store.
    """
    store = Hanging()
    breaker = process(store, store_timeout=10.0, refresh=0.0)
    try:
        for _ in range(5):
            with Deadline(0.04):
                assert mode.run(breaker, script("fine")) == "fine"
        assert store.asked == 1
    finally:
        store.release()
    until(lambda: not breaker._sharing._contact.doubted)  # type: ignore[union-attr]
    assert mode.run(breaker, script("fine")) == "fine"
    assert store.asked == 2
    assert [one.type for one in events if one.policy == "breaker"] == []


# -- a store that is always later than it may be -------------------------------------------------------------------


class Hanging(MemoryStore):
    """Answers once it is released: later than anybody waits, however slow the machine."""

    inline = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.under_way = 0
        self._released = threading.Event()
        self._count = threading.Lock()

    def release(self) -> None:
        self._released.set()

    def _hang(self) -> None:
        with self._count:
            self.asked += 1
            self.under_way += 1
        self._released.wait(60.0)
        with self._count:
            self.under_way -= 1

    def load(self, key: str) -> Shared | None:
        self._hang()
        return super().load(key)

    def count(self, key: str, version: int, within: float) -> Shared | None:
        self._hang()
        return super().count(key, version, within)

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        self._hang()
        return super().save(key, shared, expected)


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    ends = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.001)


def test_a_store_that_is_always_late_is_told_once_and_waited_for_once(
    mode: Mode, clock: ManualRuntime, events: list[Event]
) -> None:
    """All other calls go by the circuit alone, which opens, refuses, probes and closes as if there were no store."""
    store = Hanging()
    breaker = process(store, store_timeout=0.02)
    try:
        assert mode.run(breaker, script("fine")) == "fine"
        asked = store.asked
        fail(mode, breaker, 2)
        refused(mode, breaker)
        assert store.asked == asked <= 1  # none if its thread got no turn within the limit
        clock.advance(10.0)
        assert mode.run(breaker, script("fine")) == "fine"
        assert breaker.circuit.state is State.closed
        for _ in range(100):
            clock.advance(1.0)
            assert mode.run(breaker, script("fine")) == "fine"
    finally:
        store.release()
    told = [(one.type, one.status, one.name, one.code) for one in events if one.type in ("store_failed", "recovered")]
    assert told == [("store_failed", "local", "db", "LimitPassed")]


def test_threads_that_hang_do_not_pile_up(clock: ManualRuntime) -> None:
    """It is looked at again at intervals, longer ones the more looks have not come back, and not for ever."""
    store = Hanging()
    breaker = process(store, store_timeout=0.02)
    contact = breaker._sharing._contact  # type: ignore[union-attr]
    looks: list[float] = []
    try:
        for _ in range(1000):
            before = contact.late
            assert breaker.call(lambda: "fine") == "fine"
            if contact.late > before:
                looks.append(clock.now)
            clock.advance(1.0)
        pauses = [later - earlier for earlier, later in pairwise(looks)]
        assert pauses == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
        until(lambda: store.under_way == MOST_LATE)
        assert store.asked == MOST_LATE
    finally:
        store.release()


def test_many_calls_at_once_wait_for_a_late_store_once(clock: ManualRuntime, events: list[Event]) -> None:
    """Each waits for the store at most once, and then none of them does."""
    store = Hanging()
    breaker = process(store, store_timeout=0.02, key=lambda number: number)
    guarded = breaker(lambda number: number)
    results: list[int] = []

    def call(number: int) -> None:
        results.extend([guarded(number) for _ in range(20)])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(MOST_LATE)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 20 * MOST_LATE
        assert store.asked <= MOST_LATE
        assert [one.type for one in events] == ["store_failed"]
    finally:
        store.release()


def test_a_store_that_answers_in_time_again_is_asked_again(
    mode: Mode, clock: ManualRuntime, events: list[Event]
) -> None:
    """A look that nobody waits for finds it out; that the circuit is shared again is told once."""
    store = Hanging()
    here = process(store, store_timeout=5.0)
    here._sharing._contact.limit = 0.02  # type: ignore[union-attr]
    assert mode.run(here, script("fine")) == "fine"
    store.release()
    here._sharing._contact.limit = 5.0  # type: ignore[union-attr]
    there = process(store, store_timeout=5.0)
    fail(mode, there, 2)
    clock.advance(2.0)
    assert mode.run(here, script("fine")) == "fine"  # it has the store looked at
    until(lambda: here._sharing._again < 0.0)  # type: ignore[union-attr]
    refused(mode, here)
    told = [(one.type, one.status, one.name) for one in events if one.type in ("store_failed", "recovered")]
    assert told == [("store_failed", "local", "db"), ("recovered", "shared", "db")]


def test_a_look_that_is_late_as_well_changes_nothing(mode: Mode, clock: ManualRuntime, events: list[Event]) -> None:
    """An answer that took longer than a call would wait is none."""

    class Slow(MemoryStore):
        inline = False
        asked = 0

        def load(self, key: str) -> Shared | None:
            self.asked += 1
            clock.advance(0.3)  # later than 0.2, and it has been
            if self.asked == 1:
                raise OSError("first of all it is away")
            return super().load(key)

    store = Slow()
    breaker = process(store)
    for number in range(1, 6):
        assert mode.run(breaker, script("fine")) == "fine"
        until(lambda n=number: store.asked == n and breaker._sharing._contact.late == 0)  # type: ignore[misc, union-attr]
        clock.advance(1.0)
    assert [one.type for one in events] == ["store_failed"]


def test_breakers_of_one_name_are_one_process(mode: Mode, clock: ManualRuntime) -> None:
    """Two objects share the circuit, so they share its trial: none of them is another process to the store."""
    store = MemoryStore()
    options: dict[str, Any] = {"trips": consecutive(2), "recovery_timeout": 10.0, "store": store, "refresh": 0.0}
    one, other = Breaker("shared", **options), Breaker("shared", **options)
    fail(mode, one, 2)
    clock.advance(10.0)
    outcomes: list[object] = []

    def probe() -> str:
        with pytest.raises(CircuitOpenError):
            Context().run(other.call, lambda: outcomes.append("called"))  # somebody else's call, meanwhile
        return "fine"

    assert mode.call(one(mode.wrap(probe))) == "fine"
    assert outcomes == []
    assert one.circuit.state is State.closed
    assert mode.run(other, script("fine")) == "fine"


def test_a_child_after_a_fork_has_no_trial(clock: ManualRuntime) -> None:
    """The parent's trial stays the parent's: the child is another process to the store."""
    store = MemoryStore()
    here = process(store)
    fail(Mode("sync"), here, 2)
    clock.advance(10.0)
    outcomes: list[str] = []

    def probe() -> str:
        here.circuit.after_fork()
        here._sharing.after_fork()  # type: ignore[union-attr]
        with pytest.raises(CircuitOpenError):
            here.call(lambda: outcomes.append("called"))
        return "fine"

    here.call(probe)
    assert outcomes == []


# -- answers that are none -----------------------------------------------------------------------------------------

GARBAGE: list[Any] = [
    "garbage",
    {},
    5,
    Shared(1, "banana", 1.0),
    Shared("7", "open", 1.0),  # type: ignore[arg-type]
    Shared(1, "open", None),  # type: ignore[arg-type]
    Shared(1, "open", float("nan")),
    Shared(1, "open", 1e9),
    Shared(1, "half_open", float("inf")),
    Shared(-1, "open", 1.0),
    Shared(1, "closed", 0.0, reopenings="x"),  # type: ignore[arg-type]
    Shared(1, "open", 1.0, last=7),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("answer", GARBAGE, ids=repr)
@pytest.mark.parametrize("operation", ["load", "count", "save"])
def test_an_answer_that_cannot_be_read_is_none(
    mode: Mode, clock: ManualRuntime, events: list[Event], operation: str, answer: object
) -> None:
    """Calls go on by themselves, with their own results and errors, and one event says so."""

    class Garbled(MemoryStore):
        pass

    setattr(Garbled, operation, lambda self, *_: answer)
    breaker = process(Garbled(), refresh=0.0)
    assert mode.run(breaker, script("fine")) == "fine"
    fail(mode, breaker, 2)
    assert breaker.circuit.state is State.open
    refused(mode, breaker)
    assert [one.code for one in events if one.type == "store_failed"] == ["UnreadableAnswer"]


def test_a_store_in_memory_survives_a_fork(clock: ManualRuntime) -> None:
    """A child's lock is its own, whoever held the parent's."""
    store = MemoryStore()
    held = store._lock
    held.acquire()
    store.after_fork()
    assert store.load("db") is None
    held.release()


def test_a_busy_loop_does_not_keep_from_the_store(clock: ManualRuntime, events: list[Event]) -> None:
    """The threads that a loop lends to everybody may all be busy: asking a store takes none of them."""

    class Remote(MemoryStore):
        inline = False

    breaker = process(Remote(), store_timeout=5.0)
    free = threading.Event()

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        async with anyio.create_task_group() as tasks:
            for _ in range(int(limiter.total_tokens)):
                tasks.start_soon(anyio.to_thread.run_sync, free.wait)
            await anyio.wait_all_tasks_blocked()
            assert not limiter.available_tokens
            try:
                with anyio.fail_after(4.0):
                    assert await breaker.acall(script("fine").coroutine()) == "fine"
            finally:
                free.set()

    anyio.run(main)
    assert [one.type for one in events if one.type == "store_failed"] == []
