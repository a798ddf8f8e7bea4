"""Retry with jittered backoff: the policy, and its delays, jitters and stops as values."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    """The zero-dependency preset, which most programs do without, when one of its names is first asked for."""
    if name not in ("retry_operation", "retry_with_backoff"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resilient_faces.retry import preset

    return getattr(preset, name)
