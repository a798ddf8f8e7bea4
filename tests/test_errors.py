"""Exceptions: what they say, what they carry, and that they travel between processes."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from resilient_faces import errors
from resilient_faces.errors import (
    AbandonedThreadsError,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    DecorationError,
    DuplicateNameError,
    MissingExtraError,
    OptionError,
    RateLimitedError,
    Rejected,
    ResilienceError,
    ResilienceWarning,
    RetryableError,
    UnknownOptionError,
)

EXAMPLES = [
    ResilienceError("x"),
    ResilienceWarning("RF001 x"),
    RetryableError("x"),
    OptionError("x"),
    UnknownOptionError("x"),
    DecorationError("x"),
    DuplicateNameError("x"),
    MissingExtraError("aws", "boto3"),
    Rejected("db", 1.5),
    CircuitOpenError("db", 1.5, "ConnectionResetError"),
    CircuitOpenError("db", math.inf),
    BulkheadFullError("pool", None),
    RateLimitedError("rate", 0.25),
    DeadlineExceededError("load", None),
    AbandonedThreadsError("load"),
    CallTimeoutError("load", 2.5),
]


def test_every_public_error_has_an_example_here() -> None:
    """A new error must be tried below."""
    assert {type(one).__name__ for one in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_can_be_pickled(error: BaseException, protocol: int) -> None:
    """They cross process pools with class, facts and message."""
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda one: type(one).__name__)
def test_errors_can_be_copied(error: BaseException) -> None:
    """A copy says the same."""
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (OptionError, ValueError),
        (UnknownOptionError, TypeError),
        (UnknownOptionError, OptionError),
        (DecorationError, TypeError),
        (DuplicateNameError, OptionError),
        (MissingExtraError, ImportError),
        (CircuitOpenError, Rejected),
        (BulkheadFullError, Rejected),
        (RateLimitedError, Rejected),
        (AbandonedThreadsError, Rejected),
        (DeadlineExceededError, Rejected),
        (DeadlineExceededError, TimeoutError),
        (CallTimeoutError, TimeoutError),
        (Rejected, ResilienceError),
        (ResilienceWarning, UserWarning),
    ],
)
def test_errors_are_also_what_callers_expect(cls: type[BaseException], base: type[BaseException]) -> None:
    """Code that knows nothing of this library catches them by the built-in class."""
    assert issubclass(cls, base)


def test_a_timeout_of_the_call_is_no_rejection() -> None:
    """The function was called, so an outer policy may judge the outcome."""
    assert not issubclass(CallTimeoutError, Rejected)


def test_what_users_raise_is_not_ours() -> None:
    """`except ResilienceError` catches what this library raises on its own account only."""
    assert not issubclass(RetryableError, ResilienceError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CircuitOpenError("db", 1.5), "circuit 'db' is open; try again in 1.5 s"),
        (
            CircuitOpenError("db", 30.0, "ConnectionResetError"),
            "circuit 'db' is open (last failure: ConnectionResetError); try again in 30 s",
        ),
        (CircuitOpenError("db", math.inf), "circuit 'db' is open"),
        (BulkheadFullError("pool"), "bulkhead 'pool' is full"),
        (RateLimitedError("rate", 0.02), "limiter 'rate' has no slot soon enough; try again in 0.02 s"),
        (DeadlineExceededError("load"), "the deadline of 'load' has passed"),
        (AbandonedThreadsError("load"), "timeout 'load' has too many abandoned threads"),
        (CallTimeoutError("load", 2.5), "load took longer than 2.5 s"),
        (
            MissingExtraError("aws", "boto3"),
            "boto3 is not installed. Install it with: pip install 'resilient-faces[aws]'",
        ),
        (Rejected("mine", 2.0), "mine said no; try again in 2 s"),
    ],
)
def test_what_errors_say(error: BaseException, text: str) -> None:
    """Name, reason, and when to come back."""
    assert str(error) == text


def test_facts_are_attributes() -> None:
    """Nobody has to read messages."""
    error = CircuitOpenError("db", 1.5, "ConnectionResetError")
    assert (error.name, error.retry_after, error.last_failure) == ("db", 1.5, "ConnectionResetError")
    late = CallTimeoutError("load", 2.5)
    assert (late.name, late.seconds) == ("load", 2.5)
    missing = MissingExtraError("aws", "boto3")
    assert (missing.extra, missing.missing) == ("aws", "boto3")


def test_nobody_can_tell_when_a_held_circuit_opens_again() -> None:
    """An infinite wait is shown as None, which is JSON and needs no `isinf`."""
    error = CircuitOpenError("db", math.inf)
    assert error.retry_after is None
    assert error.last_failure is None
    assert CircuitOpenError("db").retry_after is None


def test_zero_seconds_are_a_time_to_come_back() -> None:
    """Zero is a value, None is absence."""
    assert Rejected("x", 0.0).retry_after == 0.0
    assert "try again in 0 s" in str(Rejected("x", 0.0))
