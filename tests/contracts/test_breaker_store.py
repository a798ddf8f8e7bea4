"""The contract of breaker stores: every store that processes share circuits through must pass this file.

A later store adds one line to `STORES`: its name, and a context manager that gives an empty store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import pytest

from resilient_faces.breaker import BreakerStore, MemoryStore, Shared

KEY: Final = "db/eu-central-1"


@contextmanager
def memory() -> Iterator[BreakerStore]:
    yield MemoryStore()


STORES: Final[dict[str, Callable[[], AbstractContextManager[BreakerStore]]]] = {"memory": memory}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, resilience: None) -> Iterator[BreakerStore]:
    with STORES[request.param]() as made:
        yield made


def record(version: int, state: str = "open", until: float = 1e9) -> Shared:
    return Shared(version, state, until, 2, "ConnectionResetError")


def test_it_has_the_protocol(store: BreakerStore) -> None:
    """What `Breaker(store=...)` checks."""
    assert isinstance(store, BreakerStore)
    assert isinstance(store.inline, bool)


def test_an_unknown_circuit_has_no_record(store: BreakerStore) -> None:
    """None, not an error: every circuit is new once."""
    assert store.load(KEY) is None


@pytest.mark.parametrize("key", [KEY, "/", "camera/rtsp 1", "name/ключ", "a" * 500])
def test_what_is_saved_is_loaded(store: BreakerStore, key: str) -> None:
    """Every member, bit by bit, under any key."""
    saved = Shared(1, "half_open", 1_700_000_000.123456, 7, "camera.stalled")
    assert store.save(key, saved, 0) is True
    assert store.load(key) == saved


def test_absent_members_stay_absent(store: BreakerStore) -> None:
    """None is not the empty string."""
    store.save(KEY, Shared(1, "closed", 0.0), 0)
    assert store.load(KEY) == Shared(1, "closed", 0.0, 0, None)


def test_the_first_save_expects_nothing(store: BreakerStore) -> None:
    """Version 0 means that there is no record; the second to come is told no."""
    assert store.save(KEY, record(1, "open"), 0) is True
    assert store.save(KEY, record(1, "closed"), 0) is False
    assert store.load(KEY) == record(1, "open")


def test_a_save_goes_by_the_version(store: BreakerStore) -> None:
    """Who has not seen the last record changes nothing."""
    store.save(KEY, record(1), 0)
    assert store.save(KEY, record(2, "half_open"), 1) is True
    assert store.save(KEY, record(2, "closed"), 1) is False
    assert store.save(KEY, record(9, "closed"), 8) is False
    assert store.load(KEY) == record(2, "half_open")
    assert store.save(KEY, record(3, "closed"), 2) is True


def test_keys_are_apart(store: BreakerStore) -> None:
    """One circuit's record is no other's."""
    store.save("a/", record(1, "open"), 0)
    assert store.load("a") is None
    assert store.load("b/") is None
    assert store.save("b/", record(1, "closed"), 0) is True
    assert store.load("a/") == record(1, "open")


def test_its_clock_moves_forward(store: BreakerStore) -> None:
    """Seconds since the epoch, by the store's own clock: the machines' clocks may differ."""
    first = store.now()
    assert first > 1_600_000_000.0
    assert store.now() >= first


def test_one_of_many_wins(store: BreakerStore) -> None:
    """Eight that see the same version: one save goes through, as often as they try."""
    for version in range(1, 6):
        together = threading.Barrier(8)
        won: list[int] = []

        def save(
            number: int, together: threading.Barrier = together, won: list[int] = won, version: int = version
        ) -> None:
            together.wait()
            if store.save(KEY, Shared(version, "half_open", float(number)), version - 1):
                won.append(number)

        threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.load(KEY) == Shared(version, "half_open", float(won[0]))
