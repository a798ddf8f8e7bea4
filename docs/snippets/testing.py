"""The page "Test code that is guarded"; the tests run this file."""

from __future__ import annotations

# --8<-- [start:subject]
from resilient_faces import retry

fetch_policy = retry(attempts=3)
# --8<-- [end:subject]

# --8<-- [start:script]
from resilient_faces.testing import ManualRuntime, script


def test_fetch_survives_two_resets(clock: ManualRuntime) -> None:
    """Two resets cost two short waits."""
    store = script(ConnectionResetError, ConnectionResetError, "a photo")

    assert fetch_policy.call(store.function(), "p1") == "a photo"
    assert store.count == 3
    assert store.calls[0] == (("p1",), {})
    assert clock.slept == [0.05, 0.1]  # full jitter with the chance at its 0.5


# --8<-- [end:script]


# --8<-- [start:time]
from resilient_faces import CircuitOpenError, circuit_breaker


def test_the_circuit_opens_for_half_a_minute(clock: ManualRuntime) -> None:
    """While it is open the service is left alone."""
    service = script(ConnectionRefusedError, ConnectionRefusedError, "an answer")
    ask = circuit_breaker("service", failure_threshold=2, timeout=30.0)(service.function())
    for _ in range(2):
        try:
            ask()
        except ConnectionRefusedError:
            pass

    clock.advance(29.9)
    try:
        ask()
    except CircuitOpenError:
        assert service.count == 2

    clock.advance(0.1)
    assert ask() == "an answer"


# --8<-- [end:time]


# --8<-- [start:mode]
from resilient_faces.testing import Mode


def test_in_every_mode(mode: Mode, clock: ManualRuntime) -> None:
    """Runs three times: as plain code, under asyncio and under trio."""
    store = script(ConnectionResetError, "a photo")
    assert mode.run(fetch_policy, store) == "a photo"
    assert store.count == 2


# --8<-- [end:mode]


# --8<-- [start:hang]
from resilient_faces import deadline, guard, report
from resilient_faces.testing import Hang


def test_slow_calls_use_up_the_deadline(clock: ManualRuntime) -> None:
    """The second attempt is too slow for a third one."""
    slow = script(Hang(4.0, ConnectionResetError("reset")))
    try:
        guard(deadline(8.0), retry(attempts=9)).call(slow.function())
    except ConnectionResetError as error:
        assert slow.times == [clock.now - 8.05, clock.now - 4.0]
        assert report(error).attempts == 2


# --8<-- [end:hang]

# --8<-- [start:by_hand]
from resilient_faces.testing import fresh

with fresh(), ManualRuntime(chance=0.999).installed() as clock:
    store = script(ConnectionResetError, "a photo")
    assert fetch_policy.call(store.function()) == "a photo"
    assert clock.slept == [0.0999]
# --8<-- [end:by_hand]

for test in (test_fetch_survives_two_resets, test_the_circuit_opens_for_half_a_minute):
    with fresh(), ManualRuntime().installed() as runtime:
        test(runtime)
with fresh(), ManualRuntime().installed() as runtime:
    test_slow_calls_use_up_the_deadline(runtime)
for name in ("sync", "asyncio"):
    with fresh(), ManualRuntime().installed() as runtime:
        test_in_every_mode(Mode(name), runtime)

# --8<-- [start:quick]
from resilient_faces.testing import quick_retries

never = script(ConnectionResetError)

with quick_retries(attempts=2):  # nothing waits, and nothing is tried more than twice
    try:
        fetch_policy.call(never.function())
    except ConnectionResetError:
        assert never.count == 2
# --8<-- [end:quick]
