"""The public names: adding, renaming or removing one is a decision that shows here and in the changelog."""

from __future__ import annotations

import inspect
from typing import get_origin

import pytest

import resilient_faces

PUBLIC = {
    # composing
    *("guard", "Guard"),
    # retry
    *("retry", "Retry", "Retrier", "retries_off", "current_attempt"),
    # the breaker
    *("circuit_breaker", "Breaker", "circuits", "Switch"),
    # degrade
    *("fallback", "Fallback", "chain", "Chain", "Answer", "last_good", "LastGood", "last_outcome", "LastOutcome"),
    *("services", "Criticality", "Health"),
    # limits
    *("timeout", "Timeout", "deadline", "Deadline", "remaining", "bulkhead", "Bulkhead", "rate_limit", "RateLimiter"),
    # faults
    *("classify", "classify_response", "first_match", "Classification", "Classifier", "Executed", "Fault", "Kind"),
    # events and context
    *("listen", "Listener", "Event", "request", "report", "Report", "shutdown"),
    # errors
    *("ResilienceError", "ResilienceWarning", "RetryableError", "MissingExtraError"),
    *("Rejected", "CircuitOpenError", "BulkheadFullError", "RateLimitedError", "DeadlineExceededError"),
    *("CallTimeoutError", "AbandonedThreadsError"),
    *("OptionError", "UnknownOptionError", "DecorationError", "DuplicateNameError"),
    # the names of the zero-dependency preset
    *("retry_with_backoff", "retry_operation", "with_fallback", "GracefulDegradationManager"),
    *("handle_dynamodb_unavailable", "handle_cognito_unavailable"),
}


def test_the_public_names_are_those_listed() -> None:
    """`__all__` says what semantic versioning protects."""
    assert set(resilient_faces.__all__) == PUBLIC


def test_all_has_no_name_twice() -> None:
    """A name stands in `__all__` once."""
    assert len(resilient_faces.__all__) == len(set(resilient_faces.__all__))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_says_what_it_is_for(name: str) -> None:
    """Every public name exists and has a docstring of its own, or is a plain value."""
    thing = getattr(resilient_faces, name)
    is_alias = get_origin(thing) is not None
    if (inspect.isclass(thing) and not is_alias) or inspect.isroutine(thing):
        assert (thing.__doc__ or "").strip(), f"{name} has no docstring"


def test_nothing_public_is_unlisted() -> None:
    """Names without an underscore in the package's namespace are listed, or are modules."""
    loose = {
        name
        for name, thing in vars(resilient_faces).items()
        if not name.startswith("_") and not inspect.ismodule(thing) and name != "annotations"
    }
    assert loose <= set(resilient_faces.__all__)
