"""The page "Keyed circuits and control by hand"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces import CircuitOpenError
from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:keyed]
from contextlib import suppress

from resilient_faces import circuit_breaker, circuits


def read(name: str) -> str:
    """Stands for a camera; that of the yard is away."""
    if name == "yard":
        raise ConnectionResetError("lost")
    return "a frame"


@circuit_breaker("camera", failure_threshold=3, key=lambda name: name)
def frame(name: str) -> str:
    return read(name)


for _ in range(3):
    with suppress(ConnectionResetError):
        frame("yard")

assert circuits.of("camera", "yard").state == "open"
assert frame("door") == "a frame"  # the other camera has a circuit of its own
# --8<-- [end:keyed]
try:
    frame("yard")
except CircuitOpenError:
    pass


# --8<-- [start:instances]
class Capture:
    def __init__(self, name: str) -> None:
        self.name = name

    @circuit_breaker(failure_threshold=3)  # no name, no key: one circuit an instance, gone when the instance is
    def read(self) -> str:
        return read(self.name)


yard, door = Capture("yard"), Capture("door")
for _ in range(3):
    with suppress(ConnectionResetError):
        yard.read()

assert door.read() == "a frame"
# --8<-- [end:instances]
try:
    yard.read()
except CircuitOpenError:
    pass
else:
    raise AssertionError

# --8<-- [start:shared]
writer = circuit_breaker("db")
reader = circuit_breaker("db")
assert writer.circuit is reader.circuit  # the same name is the same circuit
# --8<-- [end:shared]

# --8<-- [start:taken]
from resilient_faces import DuplicateNameError

try:
    circuit_breaker("db", failure_threshold=2)
except DuplicateNameError as error:
    assert "exists with other options" in str(error)

fresh = circuit_breaker("db", failure_threshold=2, replace=True)
# --8<-- [end:taken]
assert circuits["db"] is fresh.circuit

# --8<-- [start:controls]
from resilient_faces.testing import ManualRuntime

db = circuits["db"]

db.force_open()  # refuse all calls until released
db.release()  # a probe decides: released does not mean healthy
assert db.state == "half_open"

with ManualRuntime().installed() as clock:  # so that the minute is over at once
    db.force_open(60.0)  # or for a minute
    clock.advance(60.0)
    assert fresh.call(lambda: "a row") == "a row"  # this was the probe

db.disable()  # let everything pass, count nothing
db.metrics_only()  # let everything pass, count, and tell when it would have opened
db.release()
db.reset()  # close, and forget failures, probes and holds
assert db.state == "closed"
# --8<-- [end:controls]

# --8<-- [start:switch]
from resilient_faces import Switch

with Switch("db", "camera"):  # maintenance: all circuits of these names are held open
    assert db.state == "forced_open"
    assert circuits.of("camera", "door").state == "forced_open"

assert db.state == "half_open"
# --8<-- [end:switch]

# --8<-- [start:look]
for snapshot in circuits.snapshots():
    print(snapshot.name, snapshot.key, snapshot.state.value, snapshot.retry_after, snapshot.rejected)
# --8<-- [end:look]
assert {one.name for one in circuits.snapshots()} >= {"db", "camera"}

# --8<-- [start:initial]
from resilient_faces import Breaker

shadow = Breaker("new-service", initial="metrics_only")  # watch first, let it open later
# --8<-- [end:initial]
assert shadow.circuit.state == "metrics_only"
rest.close()
