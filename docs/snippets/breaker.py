"""The page "Circuit breaker"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import Hang, ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:shortest]
from contextlib import suppress

from resilient_faces import CircuitOpenError, circuit_breaker
from resilient_faces.testing import ManualRuntime, script

query = script(*[ConnectionRefusedError("down")] * 5, "a row").function()  # stands for your database


@circuit_breaker("db")
def load(key: str) -> str:
    return query(key)


with ManualRuntime().installed() as clock:  # a clock that is moved by hand
    for _ in range(5):
        with suppress(ConnectionRefusedError):
            load("k1")

    try:
        load("k1")
    except CircuitOpenError as error:
        assert (error.name, error.retry_after, error.last_failure) == ("db", 30.0, "ConnectionRefusedError")

    clock.advance(30.0)
    assert load("k1") == "a row"  # the probe; its success closes the circuit
# --8<-- [end:shortest]

# --8<-- [start:all_options]
from resilient_faces import Breaker
from resilient_faces.breaker import failure_rate, slow_rate

recogniser = Breaker(
    "recogniser",
    trips=(failure_rate(0.5, seconds=60.0, minimum=20), slow_rate(0.8, slower_than=2.0, calls=50)),
    recovery_timeout=5.0,  # then 10, 20, 40, ... for each trial that fails
    max_recovery_timeout=120.0,
    probes=3,
    successes=2,
)
# --8<-- [end:all_options]
assert recogniser.circuit.state == "closed"

lazy = script(Hang(3.0, "late"), Hang(3.0, "late"), Hang(3.0, "late"))
slow_calls = Breaker("slow", trips=slow_rate(0.5, slower_than=2.0, calls=10, minimum=3))
for _ in range(3):
    slow_calls.call(lazy.function())
assert slow_calls.circuit.state == "open"

# --8<-- [start:growth]
dead = script(ConnectionRefusedError("down")).function()
camera = Breaker("camera", recovery_timeout=2.0, growth=2.0, max_recovery_timeout=6.0)
open_times = []

with ManualRuntime().installed() as clock:
    for _ in range(8):
        with suppress(ConnectionRefusedError):
            camera.call(dead)
        if (seconds := camera.circuit.snapshot().retry_after) is not None:
            open_times.append(seconds)
            clock.advance(seconds)  # the next call is the probe, and fails again

assert open_times == [2.0, 4.0, 6.0, 6.0]
# --8<-- [end:growth]

# --8<-- [start:open_for]
from resilient_faces.breaker import Opening


def as_told(opening: Opening) -> float:
    """As long as the failing answer asked for, if it did."""
    asked = None if opening.fault is None else opening.fault.retry_after
    return opening.default if asked is None else asked


polite = Breaker("polite", open_for=as_told)
# --8<-- [end:open_for]
from resilient_faces import Fault, Kind, first_match


def told(error: BaseException) -> Fault | None:
    return Fault(Kind.unavailable, "Closed", retry_after=90.0)


polite_too = Breaker("polite", open_for=as_told, classify=first_match(told), replace=True)
for _ in range(5):
    with suppress(ConnectionRefusedError):
        polite_too.call(dead)
assert polite_too.circuit.snapshot().retry_after == 90.0

# --8<-- [start:trip_on]
fussy = Breaker("fussy", trip_on=PermissionError)  # one answer is enough
# --8<-- [end:trip_on]
with suppress(PermissionError):
    fussy.call(script(PermissionError("no")).function())
assert fussy.circuit.state == "open"

# --8<-- [start:results]
judging = Breaker("api", on_result=lambda answer: answer == "try later")
for _ in range(5):
    assert judging.call(lambda: "try later") == "try later"  # the caller gets the value all the same

assert judging.circuit.state == "open"
# --8<-- [end:results]

# --8<-- [start:neutral]
reader = Breaker("reader")
for _ in range(100):
    with suppress(FileNotFoundError):
        reader.call(script(FileNotFoundError("no such photo")).function())

assert reader.circuit.state == "closed"  # that the photo is missing says nothing bad about the store
# --8<-- [end:neutral]

# --8<-- [start:failures]
strict = circuit_breaker("strict", failures=(ConnectionError, TimeoutError))  # other errors are neutral
lenient = circuit_breaker("lenient", failures=None)  # goes by the classification, as Breaker does
# --8<-- [end:failures]
for _ in range(5):
    with suppress(ValueError):
        strict.call(script(ValueError).function())
assert strict.circuit.state == "closed"

# --8<-- [start:snapshot]
now = recogniser.circuit.snapshot()
assert now.state == "closed"
assert now.figures == {"failure_rate": 0.0, "failure_rate_calls": 0, "slow_rate": 0.0, "slow_rate_calls": 0}
# --8<-- [end:snapshot]

# --8<-- [start:block]
with circuit_breaker("ftp"):
    transferred = True  # the block is the call: an exception that leaves it is judged
# --8<-- [end:block]
assert transferred
rest.close()
