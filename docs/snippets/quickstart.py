"""The short examples of README and index; the tests run this file on a virtual clock."""

from __future__ import annotations

import asyncio


class Flaky:
    """A dependency that fails a few times, then answers."""

    def __init__(self, failures: int, answer: str) -> None:
        self.failures, self.answer, self.calls = failures, answer, 0

    def read(self, key: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"{key}: connection reset")
        return self.answer

    async def aread(self, key: str) -> str:
        await asyncio.sleep(0)
        return self.read(key)


store = Flaky(2, "a photo")

# --8<-- [start:retry]
from resilient_faces import retry
from resilient_faces.retry import exponential


@retry(attempts=4, backoff=exponential(0.1, factor=2.0, cap=10.0))
def fetch(photo: str) -> str:
    return store.read(photo)


# --8<-- [end:retry]
assert fetch("p1") == "a photo"
assert store.calls == 3

service = Flaky(100, "never")

# --8<-- [start:circuit_breaker]
from resilient_faces import CircuitOpenError, circuit_breaker


@circuit_breaker("recogniser", failure_threshold=5, timeout=30)
def recognise(photo: str) -> str:
    return service.read(photo)


# --8<-- [end:circuit_breaker]
for _ in range(5):
    try:
        recognise("p1")
    except ConnectionError:
        pass
# --8<-- [start:circuit_open]
try:
    recognise("p1")
except CircuitOpenError as error:
    print(f"left alone for {error.retry_after:.0f} s")
# --8<-- [end:circuit_open]
assert service.calls == 5

names = Flaky(100, "never")

# --8<-- [start:fallback]
from resilient_faces import fallback, last_outcome


@fallback(value="somebody")
def name_of(face: str) -> str:
    return names.read(face)


# --8<-- [end:fallback]
assert name_of("f1") == "somebody"
assert last_outcome() is not None

database = Flaky(2, "a row")

# --8<-- [start:guard]
from resilient_faces import circuit_breaker, fallback, guard, retry

db = guard(fallback(value=None), retry(attempts=4), circuit_breaker("db"))


@db
def load(key: str) -> str:
    return database.read(key)


@db
async def aload(key: str) -> str:
    return await database.aread(key)


# --8<-- [end:guard]
assert load("k") == "a row"
database.calls = 0
assert asyncio.run(aload("k")) == "a row"
assert database.calls == 3

database.calls = 0
# --8<-- [start:report]
row, report = load.call_with_report("k")
print(f"{report.attempts} attempts in {report.elapsed:.2f} s")
# --8<-- [end:report]
assert (row, report.attempts) == ("a row", 3)
