"""A fresh process state for one test, and retries that do not wait."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from resilient_faces._core import loops
from resilient_faces._core.context import LAST
from resilient_faces._core.runtime import RUNTIME, begin_anew
from resilient_faces.breaker.registry import circuits
from resilient_faces.degrade.services import services
from resilient_faces.telemetry.logs import repeats

__all__ = ["fresh", "quick_retries"]


@contextmanager
def fresh() -> Iterator[None]:
    """Begin with circuits, limiters, last answers and services as they were made, without listeners and switches.

    What is made inside the block is forgotten after it, and what was there before has its names back. A name that is
    taken outside may be given again inside, with whatever options.
    """
    listeners, names, registered = RUNTIME.listeners, circuits.set_aside(), services.set_aside()
    _begin_anew()
    try:
        yield
    finally:
        circuits.put_back(names)
        services.put_back(registered)
        _begin_anew()
        RUNTIME.listeners = listeners


def _begin_anew() -> None:
    aws = sys.modules.get("resilient_faces.adapters._aws_requests")
    if aws is not None:  # tests without AWS need not load it
        aws.limiters.forget()
        aws.accounts.forget()
    repeats.clear()
    loops.forget_warnings()
    LAST.set(None)
    RUNTIME.listeners = ()
    RUNTIME.stop(False)
    RUNTIME.retrying = None
    begin_anew()


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
