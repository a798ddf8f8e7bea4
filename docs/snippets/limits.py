"""The pages of deadline, timeout, bulkhead and rate limiter; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:deadline]
from resilient_faces import deadline, guard, remaining, retry
from resilient_faces.retry import fixed, none
from resilient_faces.testing import Hang, ManualRuntime, script

slow_query = script(Hang(3.0, ConnectionResetError("reset"))).function()  # takes 3 s, then fails
budgeted = guard(deadline(10.0), retry(attempts=100, backoff=fixed(2.0), jitter=none()))
left: list[float | None] = []


@budgeted
def load(key: str) -> str:
    left.append(remaining())  # what is left for this attempt: hand it to the socket
    return slow_query(key)


with ManualRuntime().installed():  # a clock that only moves: nothing waits
    try:
        load("k1")
    except ConnectionResetError:
        assert left == [10.0, 5.0]  # each attempt takes 3 s, then 2 s of waiting; a third could not begin in time
# --8<-- [end:deadline]
assert left == [10.0, 5.0]

# --8<-- [start:deadline_block]
with deadline(5.0):
    assert 4.0 < remaining() <= 5.0
    with deadline(60.0):
        assert remaining() <= 5.0  # the nearer one counts

assert remaining() is None
# --8<-- [end:deadline_block]

# --8<-- [start:deadline_passed]
from resilient_faces import DeadlineExceededError

with ManualRuntime().installed() as clock, deadline(5.0):
    clock.advance(6.0)
    try:
        budgeted.call(slow_query)
    except DeadlineExceededError:
        pass  # nothing begins after the end
    else:
        raise AssertionError
# --8<-- [end:deadline_passed]

# --8<-- [start:timeout]
import asyncio

from resilient_faces import CallTimeoutError, timeout


@timeout(0.01)
async def answer() -> str:
    await asyncio.sleep(60.0)
    return "late"


try:
    asyncio.run(answer())
except CallTimeoutError as error:
    assert error.seconds == 0.01
# --8<-- [end:timeout]

# --8<-- [start:timeout_blocking]
import threading

released = threading.Event()
limit = timeout(0.01, max_abandoned=4)

try:
    limit.call(released.wait)  # in a worker thread; Python cannot stop it
except CallTimeoutError:
    assert limit.abandoned == 1  # it is counted until it ends
released.set()
# --8<-- [end:timeout_blocking]

# --8<-- [start:timeout_bounded]
from resilient_faces import bulkhead, guard

bounded = guard(timeout(2.0), bulkhead(20))  # never more than 20 threads are in the function, stuck ones included
# --8<-- [end:timeout_bounded]

# --8<-- [start:timeout_orders]
from resilient_faces import guard, retry

each = guard(retry(attempts=3), timeout(2.0))  # 2 s for each attempt
whole = guard(timeout(5.0), retry(attempts=3))  # 5 s for all attempts and waits together
# --8<-- [end:timeout_orders]

# --8<-- [start:timeout_computed]
by_size = timeout(lambda photo: 0.5 + len(photo) / 1_000_000)
# --8<-- [end:timeout_computed]
assert by_size.call(len, b"JPEG") == 4

# --8<-- [start:bulkhead]
from resilient_faces import BulkheadFullError, bulkhead

engine = bulkhead(2, name="engine")


@engine
def recognise(photo: str) -> str:
    return f"somebody on {photo}"


with engine, engine:  # both places are taken
    try:
        recognise("p1")
    except BulkheadFullError as error:
        assert error.name == "engine"

assert recognise("p1") == "somebody on p1"
# --8<-- [end:bulkhead]

# --8<-- [start:bulkhead_wait]
queue = bulkhead(8, max_waiting=16, max_wait=2.0, name="engine")
now = queue.snapshot()
assert (now.running, now.waiting, now.limit) == (0, 0, 8)
# --8<-- [end:bulkhead_wait]

clock = rest.enter_context(ManualRuntime().installed())
# --8<-- [start:rate]
from resilient_faces import rate_limit


@rate_limit(50.0, name="index-faces")
def index(photo: str) -> str:
    return f"indexed {photo}"


for photo in ("p1", "p2", "p3"):
    index(photo)  # the first starts at once, and one every 20 ms after it
# --8<-- [end:rate]
assert [round(seconds, 3) for seconds in clock.slept] == [0.02, 0.02]

# --8<-- [start:reserve]
from resilient_faces.testing import ManualRuntime

with ManualRuntime().installed():  # a clock that stands still meanwhile
    limiter = rate_limit(50.0, name="consumer")
    batch = limiter.reserve_batch(10)
    assert (batch.delay, batch.interval) == (0.0, 0.02)
    assert batch.start_of(9) == 0.18  # seconds from now, for message 9

    assert round(limiter.reserve_batch(1).delay, 3) == 0.2  # whoever comes next stands behind the batch
# --8<-- [end:reserve]

# --8<-- [start:throttled]
from resilient_faces import Fault, Kind, RetryableError, first_match, guard, retry
from resilient_faces.testing import script


def throttling(error: BaseException) -> Fault | None:
    return Fault(Kind.throttled, "SlowDown") if "slow down" in str(error) else None


send = script(RetryableError("please slow down"), "ok").function()

with ManualRuntime().installed() as clock:
    paced = rate_limit(50.0, classify=first_match(throttling))  # the whole guard reads errors like this
    assert guard(retry(attempts=2), paced).call(send) == "ok"
    assert paced.rate < 50.0
    clock.advance(5.0)
    assert paced.rate == 50.0  # 5 starts per second come back each second
# --8<-- [end:throttled]

# --8<-- [start:rate_wait]
from resilient_faces import RateLimitedError

impatient = rate_limit(1.0, max_wait=0.5)
impatient.call(len, "first")
try:
    impatient.call(len, "second")
except RateLimitedError as error:
    assert error.retry_after is not None
    assert 0.5 < error.retry_after <= 1.0
# --8<-- [end:rate_wait]
rest.close()
