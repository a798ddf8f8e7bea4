"""The page "Retry"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:shortest]
from resilient_faces import retry
from resilient_faces.testing import script

read = script(ConnectionResetError, ConnectionResetError, "a photo").function()  # stands for your store


@retry()
def fetch(photo: str) -> str:
    return read(photo)


assert fetch("p1") == "a photo"  # at the third attempt
# --8<-- [end:shortest]

# --8<-- [start:delays]
from resilient_faces.retry import exponential, none
from resilient_faces.testing import ManualRuntime

stubborn = retry(attempts=5, backoff=exponential(0.5, factor=2.0, cap=3.0), jitter=none())
down = script(ConnectionRefusedError("down")).function()

with ManualRuntime().installed() as clock:  # its sleeps only move a clock
    try:
        stubborn.call(down)
    except ConnectionRefusedError:
        assert clock.slept == [0.5, 1.0, 2.0, 3.0]  # four waits between five attempts
# --8<-- [end:delays]
assert clock.slept == [0.5, 1.0, 2.0, 3.0]

# --8<-- [start:idempotent]
slow, slow_again = script(TimeoutError), script(TimeoutError, "charged")

charge = retry(attempts=3)(slow.function())
try:
    charge()
except TimeoutError:
    assert slow.count == 1  # the card may have been charged: nobody asks a second time

charge_with_token = retry(attempts=3, idempotent=True)(slow_again.function())
assert charge_with_token("token-1") == "charged"
# --8<-- [end:idempotent]

# --8<-- [start:http]
from resilient_faces import classify_response


class Response:
    """As httpx and requests have it."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code, self.headers, self.closed = status, headers, False

    def close(self) -> None:
        self.closed = True


busy = Response(429, {"Retry-After": "7"})
send = script(busy, Response(200, {})).function()  # a client that returns a 429 instead of raising it


@retry(attempts=3, on_result=classify_response)
def get(url: str) -> Response:
    return send(url)


with ManualRuntime().installed() as clock:
    assert get("/faces").status_code == 200
    assert clock.slept == [7.0]  # the server's Retry-After is a floor
    assert busy.closed  # what is thrown away is closed first
# --8<-- [end:http]

# --8<-- [start:poll]
from resilient_faces.retry import fixed

job = script("pending", "pending", "done").function()


@retry(attempts=30, backoff=fixed(2.0), jitter=none(), on_result=lambda state: state == "pending")
def state_of(job_id: str) -> str:
    return job(job_id)


with ManualRuntime().installed() as clock:
    assert state_of("j1") == "done"
    assert clock.slept == [2.0, 2.0]
# --8<-- [end:poll]

still = script("pending")
assert retry(attempts=2, on_result=lambda state: state == "pending").call(still.function()) == "pending"

# --8<-- [start:retriers]
from resilient_faces import Kind, Retrier

faces = retry(
    attempts=3,
    retriers=(
        Retrier(on=Kind.throttled, attempts=6, backoff=exponential(1.0, cap=20.0)),
        Retrier(on=Kind.conflict, attempts=10, backoff=exponential(0.01, cap=0.1)),
    ),
)
# --8<-- [end:retriers]
from resilient_faces import Fault, first_match


class Busy(Exception):
    """Throttled."""


class Clash(Exception):
    """A conflict."""


def own(error: BaseException) -> Fault | None:
    if isinstance(error, Busy):
        return Fault(Kind.throttled, "Busy")
    return Fault(Kind.conflict, "Clash") if isinstance(error, Clash) else None


from dataclasses import replace

mixed = script(Busy, Clash, Busy, "row")
with ManualRuntime().installed() as clock:
    assert replace(faces, classify=first_match(own)).call(mixed.function()) == "row"
assert clock.slept == [0.5, 0.005, 1.0]  # each retrier counts for itself; the manual clock draws 0.5

# --8<-- [start:choose]
picky = retry(on=(OSError, Kind.conflict), never=FileNotFoundError)
# --8<-- [end:choose]
gone = script(FileNotFoundError)
try:
    picky.call(gone.function())
except FileNotFoundError:
    assert gone.count == 1

# --8<-- [start:elapsed]
from resilient_faces import report

patient = retry(attempts=100, backoff=fixed(1.0), jitter=none(), max_elapsed=3.5)

with ManualRuntime().installed() as clock:
    try:
        patient.call(down)
    except ConnectionRefusedError as error:
        assert clock.slept == [1.0, 1.0, 1.0]  # a fourth wait would end after 3.5 s, so it does not begin
        assert report(error).stopped == "the wait would end after the deadline"
# --8<-- [end:elapsed]
assert len(clock.slept) == 3

# --8<-- [start:report]
load = retry(attempts=3)(script(ConnectionResetError, "row").function())

row, how = load.call_with_report("k1")
assert (how.attempts, how.outcome) == (2, "after_retry")
assert [fault.code for fault in how.faults] == ["ConnectionResetError"]
# --8<-- [end:report]

# --8<-- [start:hooks]
from resilient_faces.retry import Attempted

told: list[str] = []


def reconnect(what: Attempted) -> None:
    told.append(f"attempt {what.attempt} came to {what.fault.code}, next in {what.delay} s")


flaky = script(ConnectionResetError, "row").function()
assert retry(attempts=3, backoff=1.0, jitter=none(), before_sleep=reconnect).call(flaky) == "row"
assert told == ["attempt 1 came to ConnectionResetError, next in 1.0 s"]
# --8<-- [end:hooks]

# --8<-- [start:per_call]
find = retry(attempts=2)(script(*[ConnectionResetError] * 4, "late").function())
find_at_night = find.with_options(attempts=5)  # for one call or many; `find` stays as it is
assert find_at_night("k1") == "late"
# --8<-- [end:per_call]

# --8<-- [start:off]
from resilient_faces import retries_off

reset = script(ConnectionResetError("reset"))

with retries_off():
    try:
        retry(attempts=5).call(reset.function())
    except ConnectionResetError:
        assert reset.count == 1  # the first failure comes straight out
# --8<-- [end:off]
assert reset.count == 1

# --8<-- [start:asynchronous]
import asyncio

from resilient_faces import current_attempt

aread = script(ConnectionResetError, "a row").coroutine()


@retry(attempts=3)
async def aload(key: str) -> str:
    return f"{await aread(key)} at attempt {current_attempt()}"


assert asyncio.run(aload("k1")) == "a row at attempt 2"
# --8<-- [end:asynchronous]
rest.close()
