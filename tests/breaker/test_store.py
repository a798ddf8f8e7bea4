"""Circuits that processes share through a store. Two breakers of one name, made afresh, stand for two processes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from resilient_faces import Breaker, CircuitOpenError, Event
from resilient_faces.breaker import MemoryStore, Shared, State, consecutive
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
    store.save("db/", Shared(1, "half_open", store.now() + 30.0, 0, "X"), 0)
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
    """Only transitions are told: a healthy fleet costs reads."""
    saved: list[Shared] = []

    class Counting(MemoryStore):
        def save(self, key: str, shared: Shared, expected: int) -> bool:
            saved.append(shared)
            return super().save(key, shared, expected)

    breaker = process(Counting())
    mode.run(breaker, script("fine"))
    fail(mode, breaker)
    assert saved == []
    fail(mode, breaker)
    assert [(one.version, one.state, one.last) for one in saved] == [(1, "open", "ConnectionResetError")]


def test_counters_stay_exact(mode: Mode, clock: ManualRuntime) -> None:
    """Asking the store is no rejection."""
    breaker = process(MemoryStore())
    fail(mode, breaker, 2)
    for _ in range(3):
        refused(mode, breaker)
    assert breaker.circuit.snapshot().rejected == 3


@pytest.mark.parametrize("broken", ["now", "load", "save"])
def test_a_store_that_fails_is_left_out(mode: Mode, clock: ManualRuntime, events: list[Event], broken: str) -> None:
    """The circuit goes on by itself: it opens, refuses, probes and closes; an event says so."""

    class Broken(MemoryStore):
        pass

    def raises(*_: object) -> None:
        raise OSError("store is down")

    setattr(Broken, broken, raises)
    breaker = process(Broken())
    assert mode.run(breaker, script("fine")) == "fine"
    fail(mode, breaker, 2)
    refused(mode, breaker)
    clock.advance(10.0)
    assert mode.run(breaker, script("fine")) == "fine"
    assert breaker.circuit.state is State.closed
    told = [one for one in events if one.type == "store_failed"]
    assert told
    assert {(one.status, one.code, one.name) for one in told} == {("local", "OSError", "db")}


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
