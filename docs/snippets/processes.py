"""The page "Processes, forks and shutdown"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:pickle]
import pickle

from resilient_faces import circuit_breaker, guard, retry

db = guard(retry(attempts=4), circuit_breaker("db"))
there = pickle.loads(pickle.dumps(db))  # in another process: the same options, a circuit of its own
assert there.describe() == db.describe()
# --8<-- [end:pickle]

# --8<-- [start:signal]
import signal
from types import FrameType

from resilient_faces import shutdown


def stop(number: int, frame: FrameType | None) -> None:
    shutdown()  # waits end, nothing is tried again; then whatever else ends your program


def install() -> None:
    signal.signal(signal.SIGTERM, stop)


# --8<-- [end:signal]
# --8<-- [start:shutdown]
from resilient_faces import report
from resilient_faces.testing import fresh, script

always_down = script(ConnectionResetError("reset"))

with fresh():  # as in a test: what `shutdown` said is taken back at the end
    shutdown()
    try:
        retry(attempts=100).call(always_down.function())
    except ConnectionResetError as error:
        assert always_down.count == 1
        assert report(error).stopped == "the process is shutting down"
# --8<-- [end:shutdown]
assert always_down.count == 1

# --8<-- [start:blocking]
import asyncio
import warnings

blocking = retry(attempts=2)(script(ConnectionResetError, "a row").function())


async def handler() -> object:
    return blocking()  # waits between attempts, and everything in this loop with it


with warnings.catch_warnings(record=True) as given:
    warnings.simplefilter("always")
    asyncio.run(handler())

assert str(given[0].message).startswith("RF100 the sync guard")
# --8<-- [end:blocking]

# --8<-- [start:thread]
import contextvars
import threading

from resilient_faces import deadline, remaining

seen: list[float | None] = []

with deadline(5.0):
    carried = contextvars.copy_context()  # deadline, request id and chain of attempts travel by context
    thread = threading.Thread(target=lambda: carried.run(lambda: seen.append(remaining())))
    thread.start()
    thread.join()

assert seen[0] is not None  # what is left of the five seconds
# --8<-- [end:thread]
rest.close()
