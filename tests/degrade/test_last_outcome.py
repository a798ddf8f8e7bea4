"""`last_outcome()`: what a later call of the same context makes of an earlier degraded answer."""

from __future__ import annotations

import pytest

from resilient_faces import RetryableError, fallback, guard, last_outcome, retry, timeout
from resilient_faces.testing import ManualRuntime, script


def degrade() -> None:
    """Leave the mark of a degraded answer."""
    assert fallback(value="stale")(script(RetryableError()).function())() == "stale"
    found = last_outcome()
    assert found is not None
    assert found.degraded


def test_a_call_that_recovers_takes_it_away(clock: ManualRuntime) -> None:
    """A success after a retry is no degraded answer."""
    degrade()
    assert guard(fallback(value=0), retry())(script(RetryableError(), "ok").function())() == "ok"
    assert last_outcome() is None


def test_a_call_that_fails_takes_it_away(clock: ManualRuntime) -> None:
    """An error that no fallback answers for is no degraded answer either."""
    degrade()
    with pytest.raises(RetryableError):
        fallback(value=0, on=KeyError)(script(RetryableError()).function())()
    assert last_outcome() is None


def test_the_answer_after_the_last_attempt_is_the_last_outcome(clock: ManualRuntime) -> None:
    """Around a retry too, where no flow gives the answer: which policy, and what went wrong."""
    assert (
        guard(fallback(value=0, name="zero"), retry(attempts=2))(
            script(RetryableError(), RetryableError()).function()
        )()
        == 0
    )
    found = last_outcome()
    assert found is not None
    assert (found.source, found.degraded) == ("zero", True)
    assert found.fault is not None
    assert found.fault.code == "RetryableError"


def test_it_comes_out_of_a_worker_thread(clock: ManualRuntime) -> None:
    """A time limit around blocking code has a thread of its own; what happens in there is this call's outcome."""
    assert guard(timeout(5.0), fallback(value="stale"))(script(RetryableError()).function())() == "stale"
    found = last_outcome()
    assert found is not None
    assert (found.source, found.degraded) == ("fallback", True)
    with pytest.raises(RetryableError):
        guard(timeout(5.0), fallback(value=0, on=KeyError))(script(RetryableError()).function())()
    assert last_outcome() is None
