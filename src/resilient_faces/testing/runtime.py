"""A fresh process state for one test, and retries that do not wait."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from resilient_faces._core import loops
from resilient_faces._core.context import LAST
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.breaker.registry import circuits
from resilient_faces.degrade.services import services
from resilient_faces.telemetry.logs import repeats

__all__ = ["fresh", "quick_retries"]


@contextmanager
def fresh() -> Iterator[None]:
    """Forget circuits, degraded services, listeners and switches before the block and after it."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    circuits.forget()
    aws = sys.modules.get("resilient_faces.adapters._aws_requests")
    if aws is not None:  # tests without AWS need not load it
        aws.limiters.forget()
        aws.accounts.forget()
    services.clear()
    repeats.clear()
    loops.forget_warnings()
    LAST.set(None)
    RUNTIME.listeners = ()
    RUNTIME.stop(False)
    RUNTIME.retrying = None


@contextmanager
def quick_retries(attempts: int | None = None, delay: float = 0.0) -> Iterator[None]:
    """Test mode: no retry waits longer than `delay` seconds or makes more than `attempts` attempts.

    Args:
        attempts: Attempts at most, the first included; None leaves each retry its own.
        delay: Longest wait, in seconds.
    """
    before = RUNTIME.retrying
    RUNTIME.switch(attempts_cap=math.inf if attempts is None else attempts, delay_cap=delay)
    try:
        yield
    finally:
        RUNTIME.retrying = before
