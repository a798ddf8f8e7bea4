"""After fork: fresh locks, fresh chance, and the probes stay the parent's."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_faces import Breaker, bulkhead, rate_limit, timeout
from resilient_faces._core.outcome import Permit
from resilient_faces._core.runtime import RUNTIME, OwnLock
from resilient_faces.breaker import MemoryStore, Shared, State, consecutive
from resilient_faces.limits import MemoryLimiterStore
from resilient_faces.telemetry.ledger import Ledger

pytestmark = [
    pytest.mark.other_platform,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
    # 3.12 and newer warn of forking with threads, which is just what is tested
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def in_child(ask: Callable[[], object]) -> Any:
    """The answer to this question in a forked child, which ends at once."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            os.write(write, json.dumps(ask()).encode())
            code = 0
        except BaseException as error:
            os.write(write, json.dumps(repr(error)).encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, answer
    return json.loads(answer)


def _half_open() -> Breaker:
    breaker = Breaker("db", trips=consecutive(1), recovery_timeout=5.0)
    with pytest.raises(ConnectionResetError):
        breaker.call(_reset)
    return breaker


def _reset() -> None:
    raise ConnectionResetError


def test_a_child_waits_for_no_thread_of_its_parent_at_a_store(clock: Any) -> None:
    """A thread of the parent may be at the store as it forks, and is not in the child."""
    store = MemoryStore()
    store.save("db/", Shared(1, "open", 5.0), 0)
    with store._lock:
        assert in_child(lambda: not store._lock.locked() and store.load("db/").version) == 1  # type: ignore[union-attr]


def test_a_child_has_no_probe(clock: Any) -> None:
    """The parent's probe is the parent's: the child may send its own, and the parent's result is not the child's."""
    breaker = _half_open()
    clock.advance(5.0)
    probe = breaker.circuit.acquire()
    assert isinstance(probe, Permit)

    def ask() -> object:
        snapshot = breaker.circuit.snapshot()
        return [snapshot.state.value, snapshot.probes, isinstance(breaker.circuit.acquire(), Permit)]

    assert in_child(ask) == ["half_open", 0, True]
    assert breaker.circuit.snapshot().probes == 1


def test_a_child_keeps_the_state(clock: Any) -> None:
    """An open circuit is open in the child as well."""
    breaker = _half_open()
    assert in_child(lambda: breaker.circuit.state.value) == "open"
    assert breaker.circuit.state is State.open


@pytest.mark.parametrize("what", ["circuit", "named family", "unnamed family", "registry"])
def test_a_lock_that_was_held_while_forking_is_free_in_the_child(clock: Any, what: str) -> None:
    """Another thread of the parent was inside; it does not exist in the child."""
    from resilient_faces import circuits

    named, unnamed = Breaker("db", key=str), Breaker(key=str)
    owner: Any = {
        "circuit": named.circuit_of("a"),
        "named family": named._family,
        "unnamed family": unnamed._family,
        "registry": circuits,
    }[what]

    def ask() -> object:
        done = threading.Event()

        def use() -> None:
            named.circuit_of("a").snapshot()
            named.circuit_of("b").force_open()
            unnamed.circuit_of("c").force_open()
            Breaker("other")
            done.set()

        threading.Thread(target=use, daemon=True).start()
        return done.wait(5.0)

    with owner._lock or owner._new_lock():
        assert in_child(ask) is True


def test_chance_differs(resilience: None) -> None:
    """Children of one parent must not draw the same jitter."""
    draws = [in_child(lambda: [RUNTIME.random() for _ in range(3)]) for _ in range(4)]
    assert len({tuple(one) for one in draws}) == 4


def test_places_of_a_bulkhead_are_the_childs_own(resilience: None) -> None:
    """The calls inside are the parent's."""
    limit = bulkhead(1)

    def ask() -> object:
        with limit:
            return limit.snapshot().running

    with limit:
        assert in_child(ask) == 1


def test_abandoned_threads_are_the_parents(resilience: None) -> None:
    """A child has none of them, so they do not count there."""
    release = threading.Event()
    limit = timeout(0.01, max_abandoned=1)
    hang = limit(lambda: release.wait(10.0))
    with pytest.raises(TimeoutError):
        hang()
    try:
        assert limit.abandoned == 1
        assert in_child(lambda: [limit.abandoned, limit.call(lambda: "fine")]) == [0, "fine"]
    finally:
        release.set()


def test_a_limiter_works_on(resilience: None) -> None:
    """Its lock is renewed."""
    limiter = rate_limit(1000.0)
    with limiter._lock:
        assert in_child(lambda: limiter.reserve() >= 0.0) is True


def test_stores_in_memory_work_on(clock: Any) -> None:
    """Their locks are renewed."""
    circuits, slots = MemoryStore(), MemoryLimiterStore()
    breaker = Breaker("db", store=circuits, refresh=0.0)
    breaker.call(lambda: "fine")

    def ask() -> object:
        done: list[object] = []

        def use() -> None:
            done.append(breaker.call(lambda: "fine"))
            done.append(slots.join("limiter", "child", 1.0))

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(5.0)
        return done

    with circuits._lock, slots._lock:
        assert in_child(ask) == ["fine", 1]


def test_a_ledger_works_on(tmp_path: Path) -> None:
    """Likewise."""
    ledger = Ledger(tmp_path / "ledger")

    def ask() -> object:
        thread = threading.Thread(target=lambda: ledger.write(by="child"), daemon=True)
        thread.start()
        thread.join(5.0)
        return (tmp_path / "ledger").read_text()

    with ledger._lock:
        assert in_child(ask) == '{"by":"child"}\n'
    ledger.close()


def test_a_lock_of_its_own(clock: Any) -> None:
    """For whatever has nothing else to renew."""
    lock = OwnLock()

    def ask() -> object:
        done: list[str] = []

        def use() -> None:
            with lock:
                done.append("fine")

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(5.0)
        return done

    with lock:
        assert in_child(ask) == ["fine"]
