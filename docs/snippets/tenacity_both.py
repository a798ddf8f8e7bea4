"""The page "tenacity both ways"; the tests run this file."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:theirs_in_ours]
import tenacity

from resilient_faces import retry
from resilient_faces.testing import ManualRuntime, script

flaky = script(ConnectionResetError, ConnectionResetError, "a row").function()  # stands for your database


@retry(
    stop=tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(60),
    backoff=tenacity.wait_exponential(multiplier=0.5, max=8) + tenacity.wait_fixed(1),
    on=tenacity.retry_if_exception_type(ConnectionError),
)
def load(key: str) -> str:
    return flaky(key)


with ManualRuntime().installed() as clock:  # its sleeps only move a clock
    assert load("k1") == "a row"
    assert clock.slept == [1.5, 2.0]  # their wait brings its own jitter; ours is not added
# --8<-- [end:theirs_in_ours]

# --8<-- [start:result]
empty = script(None, None, "a row").function()
assert retry(on=tenacity.retry_if_result(lambda row: row is None), attempts=3).call(empty) == "a row"
# --8<-- [end:result]

# --8<-- [start:ours_in_theirs]
from resilient_faces.retry import exponential, retryable, stop_after

waited: list[float] = []
retrying = tenacity.Retrying(
    wait=exponential(0.1, cap=10.0),
    stop=stop_after(attempts=5, seconds=60.0),
    retry=retryable(),  # our classification; retryable(policy) takes that policy's rules
    sleep=waited.append,
    reraise=True,
)

assert retrying(script(ConnectionResetError, "a row").function(), "k1") == "a row"
assert waited == [0.1]
# --8<-- [end:ours_in_theirs]

invalid = script(ValueError("no"))
try:
    retrying(invalid.function())
except ValueError:
    assert invalid.count == 1
assert "tenacity" in sys.modules
rest.close()
