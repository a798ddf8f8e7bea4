"""The page "Processes, forks and shutdown"; the tests run this file."""

from __future__ import annotations

import asyncio
import pickle
import warnings
from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime, fresh, script

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())

never = script(ConnectionResetError("reset"))
always_down = never.function()
# --8<-- [start:signal]
import signal
from types import FrameType

from resilient_faces import shutdown


def stop(number: int, frame: FrameType | None) -> None:
    shutdown()  # waits end, nothing is tried again; then whatever else ends your program


def install() -> None:
    signal.signal(signal.SIGTERM, stop)


# --8<-- [end:signal]
from resilient_faces import retry

# --8<-- [start:shutdown]
from resilient_faces import report

with fresh():  # as in a test: what `shutdown` said is taken back at the end
    shutdown()
    try:
        retry(attempts=100).call(always_down)
    except ConnectionResetError as error:
        assert report(error).stopped == "the process is shutting down"
# --8<-- [end:shutdown]
assert never.count == 1

# --8<-- [start:pickle]
from resilient_faces import circuit_breaker, guard

db = guard(retry(attempts=4), circuit_breaker("db"))
there = pickle.loads(pickle.dumps(db))  # in another process: the same options, a circuit of its own
assert there.describe() == db.describe()
# --8<-- [end:pickle]

blocking = retry(attempts=2)(script(ConnectionResetError, "a row").function())


async def handler() -> object:
    return blocking()


# --8<-- [start:blocking]
with warnings.catch_warnings(record=True) as given:
    warnings.simplefilter("always")
    asyncio.run(handler())  # `handler` calls a guarded plain function that waits between attempts

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

assert seen == [5.0]
# --8<-- [end:thread]
rest.close()
