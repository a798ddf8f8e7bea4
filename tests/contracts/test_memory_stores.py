"""The stores in memory keep the contract that all stores keep; here time is a manual clock."""

from __future__ import annotations

import pytest

from resilient_faces.breaker import BreakerStore, MemoryStore
from resilient_faces.idempotency import IdempotencyStore, MemoryIdempotencyStore
from resilient_faces.limits import LimiterStore, MemoryLimiterStore
from resilient_faces.testing import ManualRuntime
from resilient_faces.testing.store_contracts import (
    BreakerStoreContract,
    IdempotencyStoreContract,
    LimiterStoreContract,
)


class TestMemoryStore(BreakerStoreContract):
    @pytest.fixture
    def store(self, clock: ManualRuntime) -> BreakerStore:
        return MemoryStore()


class TestMemoryLimiterStore(LimiterStoreContract):
    @pytest.fixture
    def store(self, clock: ManualRuntime) -> LimiterStore:
        return MemoryLimiterStore()


class TestMemoryIdempotencyStore(IdempotencyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualRuntime) -> IdempotencyStore:
        return MemoryIdempotencyStore()

    def test_forgotten_records_do_not_pile_up(self, clock: ManualRuntime) -> None:
        """They go as new ones come."""
        store = MemoryIdempotencyStore()
        for number in range(10_000):
            store.claim(str(number), "a", "", 1.0, 1.0)
            clock.advance(0.1)
        assert len(store._records) < 200
