"""A fresh state for each test: what lives on is as it was made, and what a test makes is gone after it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from resilient_faces import (
    Breaker,
    Bulkhead,
    CircuitOpenError,
    Event,
    bulkhead,
    circuits,
    last_good,
    listen,
    rate_limit,
    services,
)
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.breaker import MemoryStore, State, consecutive
from resilient_faces.idempotency import MemoryIdempotencyStore
from resilient_faces.testing import ManualRuntime, fresh, script

STEPS = ["first", "second"]


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """What these tests make is no part of the process either."""
    with fresh():
        yield


@contextlib.contextmanager
def a_test() -> Iterator[ManualRuntime]:
    with fresh(), ManualRuntime().installed() as clock:
        yield clock


@pytest.mark.parametrize("name", ["db", None])
def test_circuits_of_before_are_closed_again(name: str | None) -> None:
    """Named or not, and whoever holds them: each test finds them as they were made."""
    breaker = Breaker(name, trips=consecutive(1))
    dead = breaker(script(ConnectionResetError()).function())
    for _ in STEPS:
        with a_test():
            with pytest.raises(ConnectionResetError):
                dead()
            with pytest.raises(CircuitOpenError):
                dead()
            if name is not None:
                assert circuits[name] is breaker.circuit
    assert (breaker.circuit.state, breaker.circuit.snapshot().failures) == (State.closed, 0)


def test_a_late_answer_from_before_changes_nothing() -> None:
    """It belongs to another generation."""
    breaker = Breaker("db", trips=consecutive(1))
    permit = breaker.circuit.acquire()
    with a_test():
        breaker.account(breaker.circuit, permit, ConnectionResetError(), classified(), False)  # type: ignore[arg-type]
        assert breaker.circuit.state is State.closed


def classified() -> object:
    from resilient_faces import classify

    return classify(ConnectionResetError())


def test_keys_of_before_are_gone() -> None:
    """A host that was down in the last test is not down in this one."""
    breaker = Breaker("host", trips=consecutive(1), key=lambda host: host)
    dead = breaker(script(ConnectionResetError()).function())
    for _ in STEPS:
        with a_test(), pytest.raises(ConnectionResetError):
            dead("a")


def test_names_inside_are_the_test_s_own() -> None:
    """They may be taken outside, with other options; afterwards they are what they were."""
    outer = Breaker("db", trips=consecutive(1))
    with a_test():
        inner = Breaker("db", trips=consecutive(9))
        other = Breaker("other")
        assert circuits["db"] is inner.circuit is not outer.circuit
        with a_test():
            assert Breaker("db", trips=consecutive(3)).circuit is not inner.circuit
        assert circuits["db"] is inner.circuit
    assert circuits["db"] is outer.circuit
    assert "other" not in circuits
    assert other.circuit.name == "other"


def test_a_limiter_of_before_waits_for_nobody() -> None:
    """Whatever clock it was made by, and whatever was reserved in the last test."""
    limiter = rate_limit(1.0)
    for _ in STEPS:
        with a_test() as clock:
            clock.advance(3600.0)
            limiter.reserve_batch(100)
            limiter.slow_down()
    with a_test() as clock:
        assert limiter.reserve() == 0.0
        assert limiter.rate == 1.0


def test_places_of_before_are_free() -> None:
    """A call of the last test that never ended keeps no place; that it ends after all gives none too many."""
    limit = bulkhead(1)
    with a_test():
        inside = limit.around(lambda: freed(limit), asynchronous=False)
        inside()
    assert limit.snapshot().running == 0


def freed(limit: Bulkhead) -> None:
    with a_test(), limit:
        assert limit.snapshot().running == 1


def test_answers_of_before_are_forgotten() -> None:
    """The last good one was another test's."""
    guarded = last_good(60.0)(script("from the first test", ConnectionResetError()).function())
    with a_test():
        guarded()
    with a_test(), pytest.raises(ConnectionResetError):
        guarded()


def test_records_in_memory_are_forgotten() -> None:
    """A store in memory that a module made is empty again."""
    store = MemoryStore()
    breaker = Breaker("shared", trips=consecutive(1), store=store)
    for _ in STEPS:
        with a_test(), pytest.raises(ConnectionResetError):
            breaker.call(script(ConnectionResetError()).function())


def test_operations_of_before_are_forgotten() -> None:
    """What the last test claimed is free."""
    store = MemoryIdempotencyStore()
    for owner in STEPS:
        with a_test():
            assert store.claim("order-1", owner, "fingerprint", 3600.0, 7200.0) is None


def test_services_are_healthy_and_follow() -> None:
    """What was registered outside stays registered; what a test registers goes with it. Listeners come back."""
    breaker = Breaker("db", trips=consecutive(1))
    services.register("database", "critical", circuits=("db",))
    told: list[Event] = []
    listen(told.append)
    for _ in STEPS:
        with a_test():
            services.register("inside")
            assert services.health().status == "healthy"
            breaker.circuit.force_open()
            assert services.health().status == "unhealthy"
    assert told == []
    assert [one.name for one in services.health().services] == ["database"]
    breaker.circuit.force_open()
    assert {one.type for one in told} == {"transition", "degraded"}
    assert len(RUNTIME.listeners) == 2


def test_lines_of_a_script_are_said_once() -> None:
    """Also to threads."""
    scripted = script(*range(20_001))
    function = scripted.function()
    said: list[object] = []
    threads = [threading.Thread(target=lambda: said.extend([function() for _ in range(5_000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == list(range(20_000))  # type: ignore[type-var]
