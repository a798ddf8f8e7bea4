"""The store that the page "Share state between processes" shows keeps the contract of all stores."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from resilient_faces.breaker import BreakerStore
from resilient_faces.testing import fresh
from resilient_faces.testing.store_contracts import BreakerStoreContract

SNIPPET = Path(__file__).resolve().parents[2] / "docs" / "snippets" / "stores.py"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    with fresh():
        return runpy.run_path(str(SNIPPET))


class TestSqliteStore(BreakerStoreContract):
    @pytest.fixture
    def store(self, page: dict[str, Any], tmp_path: Path) -> BreakerStore:
        made: BreakerStore = page["SqliteStore"](str(tmp_path / "circuits.db"))
        return made

    def test_many_count_at_once(self, store: BreakerStore) -> None:
        """SQLite makes writers wait, a tenth of a second here, which eight at once may exceed: one after another."""
        found = [store.count("db/", 0, 60.0) for _ in range(40)]
        assert [one.failures for one in found if one is not None] == list(range(1, 41))

    def test_one_of_many_wins(self, store: BreakerStore) -> None:
        """Likewise: of eight that have seen the same version the first wins."""
        saved = [store.save("db/", self.record(number + 1), 0) for number in range(8)]
        assert saved == [True] + [False] * 7
