"""The page "Share circuits between processes"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from resilient_faces.testing import ManualRuntime, script

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())
dead = script(ConnectionRefusedError("down")).function()

# --8<-- [start:shared]
from resilient_faces import Breaker
from resilient_faces.breaker import MemoryStore

store = MemoryStore()
here = Breaker("db", store=store)
# --8<-- [end:shared]
for _ in range(5):
    with suppress(ConnectionRefusedError):
        here.call(dead)
record = store.load("db/")
assert record is not None
assert record.state == "open"

# What another process sees: the same store, its own circuit.
from resilient_faces import CircuitOpenError, circuits

circuits.forget()
there = Breaker("db", store=store)
try:
    there.call(lambda: "a row")
except CircuitOpenError as error:
    assert error.last_failure == "ConnectionRefusedError"
else:
    raise AssertionError
clock.advance(5.0)
assert there.call(lambda: "a row") == "a row"

# --8<-- [start:own]
import sqlite3
from contextlib import closing

from resilient_faces.breaker import Shared


class SqliteStore:
    """Circuits that all processes of one machine share through a file."""

    inline = False  # asked in a worker thread, and given up after Breaker.store_timeout

    def __init__(self, path: str) -> None:
        self.path = path
        with closing(self._open()) as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS circuits"
                "(key TEXT PRIMARY KEY, version INTEGER, state TEXT, until REAL, reopenings INTEGER, last TEXT)"
            )

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=0.1, isolation_level=None)

    def now(self) -> float:
        with closing(self._open()) as db:
            return float(db.execute("SELECT (julianday('now') - 2440587.5) * 86400.0").fetchone()[0])

    def load(self, key: str) -> Shared | None:
        with closing(self._open()) as db:
            columns = "version, state, until, reopenings, last"
            row = db.execute(f"SELECT {columns} FROM circuits WHERE key = ?", (key,)).fetchone()
        return None if row is None else Shared(*row)

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        values = (shared.version, shared.state, shared.until, shared.reopenings, shared.last, key)
        with closing(self._open()) as db:
            if expected == 0:
                statement = "INSERT OR IGNORE INTO circuits(version, state, until, reopenings, last, key)"
                return db.execute(f"{statement} VALUES (?, ?, ?, ?, ?, ?)", values).rowcount == 1
            statement = "UPDATE circuits SET version = ?, state = ?, until = ?, reopenings = ?, last = ?"
            return db.execute(f"{statement} WHERE key = ? AND version = ?", (*values, expected)).rowcount == 1


# --8<-- [end:own]
import tempfile
from pathlib import Path

from resilient_faces.breaker import BreakerStore

with tempfile.TemporaryDirectory() as directory:
    own = SqliteStore(str(Path(directory) / "circuits.db"))
    assert isinstance(own, BreakerStore)
    assert own.load("db/") is None
    opened = Shared(1, "open", own.now() + 5.0, 0, "TimeoutError")
    assert own.save("db/", opened, 0)
    assert not own.save("db/", opened, 0)
    assert own.load("db/") == opened
    assert own.save("db/", Shared(2, "closed", 0.0), 1)
    assert not own.save("db/", Shared(2, "closed", 0.0), 1)
rest.close()
