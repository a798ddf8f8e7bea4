"""The page "Move from tenacity, pybreaker or circuitbreaker"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime, script

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())
down = script(ConnectionRefusedError("down"))

# --8<-- [start:tenacity]
from resilient_faces import retry
from resilient_faces.retry import exponential, none

# tenacity had: @retry(stop=stop_after_attempt(5), wait=wait_exponential(multiplier=1, max=10), reraise=True)
as_before = retry(attempts=5, on=Exception, backoff=exponential(1.0, cap=10.0), jitter=none())

better = retry(attempts=5, backoff=exponential(1.0, cap=10.0))  # what may pass, and spread out
# --8<-- [end:tenacity]
try:
    as_before.call(down.function())
except ConnectionRefusedError:
    assert clock.slept == [1.0, 2.0, 4.0, 8.0]

# --8<-- [start:breakers]
from resilient_faces import Breaker, circuit_breaker

# pybreaker had: CircuitBreaker(fail_max=5, reset_timeout=60, exclude=[KeyError], name="db")
db = circuit_breaker("db", failure_threshold=5, timeout=60, ignore=KeyError)

# circuitbreaker had: @circuit(failure_threshold=5, recovery_timeout=30, expected_exception=ConnectionError)
api = circuit_breaker("api", failure_threshold=5, timeout=30, failures=ConnectionError)

recommended = Breaker("store")  # goes by the classification, and stays open longer each time it fails again
# --8<-- [end:breakers]
for policy in (db, api, recommended):
    assert policy.circuit.state == "closed"
rest.close()
