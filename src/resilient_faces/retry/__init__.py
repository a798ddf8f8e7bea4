"""Retry with jittered backoff: the policy, and its delays, jitters and stops as values."""

from resilient_faces.retry.backoff import (
    Backoff,
    Jitter,
    additive,
    decorrelated,
    equal,
    exponential,
    fibonacci,
    fixed,
    full,
    linear,
    none,
    proportional,
    sequence,
    upward,
)
from resilient_faces.retry.policy import Attempted, Retrier, Retry, Stop, retries_off, retryable, stop_after
from resilient_faces.retry.preset import retry_operation, retry_with_backoff

__all__ = [
    "Attempted",
    "Backoff",
    "Jitter",
    "Retrier",
    "Retry",
    "Stop",
    "additive",
    "decorrelated",
    "equal",
    "exponential",
    "fibonacci",
    "fixed",
    "full",
    "linear",
    "none",
    "proportional",
    "retries_off",
    "retry_operation",
    "retry_with_backoff",
    "retryable",
    "sequence",
    "stop_after",
    "upward",
]
