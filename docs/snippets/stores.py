"""The page "Share state between processes"; the tests run this file, and give its functions real servers."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from unittest import mock

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
import time
from contextlib import closing

from resilient_faces.breaker import Shared


class SqliteStore:
    """Circuits that all processes of one machine share through a file. The machine's clock is the store's."""

    inline = False  # asked in a worker thread, and given up after Breaker.store_timeout

    def __init__(self, path: str) -> None:
        self.path = path
        with closing(self._open()) as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS circuits(key TEXT PRIMARY KEY, version INTEGER DEFAULT 0, "
                "state TEXT, until REAL, reopenings INTEGER, last TEXT, by TEXT, "
                "failures INTEGER DEFAULT 0, counted REAL DEFAULT 0)"
            )

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=0.1, isolation_level=None)

    def load(self, key: str) -> Shared | None:
        with closing(self._open()) as db:
            found = self._now(db, key)
        return found if found is not None and found.version else None

    def _now(self, db: sqlite3.Connection, key: str) -> Shared | None:
        columns = "version, state, until - :now, reopenings, last, by, iif(counted > :now, failures, 0)"
        row = db.execute(
            f"SELECT {columns} FROM circuits WHERE key = :key", {"key": key, "now": time.time()}
        ).fetchone()
        if row is None:
            return None
        return Shared(*row) if row[0] else Shared(0, "closed", 0.0, failures=row[6])

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        until = time.time() + shared.seconds
        values = (shared.version, shared.state, until, shared.reopenings, shared.last, shared.by, key, expected)
        with closing(self._open()) as db:
            if expected == 0:
                db.execute("INSERT OR IGNORE INTO circuits(key) VALUES (?)", (key,))
            changed = db.execute(
                "UPDATE circuits SET version = ?, state = ?, until = ?, reopenings = ?, last = ?, by = ?, "
                "failures = 0, counted = 0 WHERE key = ? AND version = ?",
                values,
            )
            return changed.rowcount == 1

    def count(self, key: str, version: int, within: float) -> Shared | None:
        now = time.time()
        with closing(self._open()) as db:
            if version == 0:
                db.execute("INSERT OR IGNORE INTO circuits(key) VALUES (?)", (key,))
            db.execute(
                "UPDATE circuits SET failures = iif(counted > :now, failures, 0) + 1, "
                "counted = iif(counted > :now, counted, :ends) WHERE key = :key AND version = :version",
                {"now": now, "ends": now + within, "key": key, "version": version},
            )
            return self._now(db, key)

    def clear(self, key: str, version: int) -> None:
        with closing(self._open()) as db:
            db.execute("UPDATE circuits SET failures = 0, counted = 0 WHERE key = ? AND version = ?", (key, version))


# --8<-- [end:own]
import tempfile
from pathlib import Path

from resilient_faces.breaker import BreakerStore

with tempfile.TemporaryDirectory() as directory:
    own: BreakerStore = SqliteStore(str(Path(directory) / "circuits.db"))
    assert isinstance(own, BreakerStore)
    assert own.load("db/") is None

# --8<-- [start:redis]
from resilient_faces import Breaker, RateLimiter, rate_limit
from resilient_faces.adapters.redis_store import RedisStore


def on_redis(url: str) -> tuple[Breaker, RateLimiter]:
    store = RedisStore.from_url(url, prefix="photos:")  # redis://user:password@host:6379/0
    return Breaker("rekognition", store=store), rate_limit(50.0, name="index-faces", store=store)


# --8<-- [end:redis]

# --8<-- [start:dynamodb]
from resilient_faces import Breaker, RateLimiter, rate_limit
from resilient_faces.adapters.aws import LocalEndpoint
from resilient_faces.adapters.dynamodb_store import DynamoDbStore


def on_dynamodb(region: str, endpoint: LocalEndpoint | None = None) -> tuple[Breaker, RateLimiter]:
    store = DynamoDbStore.connected(region=region, endpoint=endpoint, table="resilience", prefix="photos:")
    store.ensure_table()  # or make it yourself: the string key `id`, and `expires` as the time to live
    store.learn_clock()  # for limiters: else the first call begins it, and goes by its share meanwhile
    return Breaker("rekognition", store=store), rate_limit(50.0, name="index-faces", store=store)


# --8<-- [end:dynamodb]

# --8<-- [start:limiter]
from resilient_faces.limits import MemoryLimiterStore

slots = MemoryLimiterStore()
mine = rate_limit(50.0, name="index-faces", store=slots, processes=8)
theirs = rate_limit(50.0, name="index-faces", store=slots, processes=8)

mine.reserve_batch(10)
assert round(theirs.reserve_batch(1).delay, 3) == 0.2  # one queue: behind the other's batch
assert round(mine.share or 0.0, 2) == 5.71  # starts a second, while the store is away
# --8<-- [end:limiter]

sent: list[int] = []
send = sent.append
for name, hand in (("sleep", clock.sleep), ("monotonic", clock.monotonic)):
    rest.enter_context(mock.patch.object(time, name, hand))

# --8<-- [start:batch]
import time

batch = mine.reserve_batch(10)
for index in range(batch.count):
    time.sleep(max(0.0, batch.begins + index * batch.interval - time.monotonic()))
    if not batch.missed(index):  # woken too late: it would meet the others' starts
        send(index)
# --8<-- [end:batch]
assert sent == list(range(10))

# --8<-- [start:contract]
from resilient_faces.testing.store_contracts import BreakerStoreContract


class TestSqliteStore(BreakerStoreContract):
    """Give it a pytest fixture `store` that makes an empty one; the tests are inherited."""


# --8<-- [end:contract]
assert [name for name in dir(TestSqliteStore) if name.startswith("test_")]
rest.close()
