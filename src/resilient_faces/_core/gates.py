"""What a circuit's gate answers and what is told of it, for the direct path and for the breaker's flow alike."""

from __future__ import annotations

import logging
from typing import Final

from resilient_faces._core.context import event
from resilient_faces._core.outcome import Gate, Transition, name_of
from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces.events import Event
from resilient_faces.faults import Executed, Fault, Kind

__all__ = ["INFO", "LOG", "OPEN", "rejection", "tell_news", "transition_event"]

INFO: Final = logging.INFO
LOG: Final = logger_of("breaker")
"""Whoever refuses a call asks it, and the listeners, whether anybody would hear: most rejections need no event."""
OPEN: Final = Fault(Kind.rejected, "CircuitOpenError", Executed.no)
"""What a refused call comes to: nobody retries it, and no breaker counts it."""


def rejection(circuit: Gate, retry_after: float, function: object) -> Event:
    """The event of a refused call."""
    return event(
        "rejected",
        policy="breaker",
        status="open",
        name=circuit.name,
        operation=name_of(function),
        fault=OPEN,
        delay=retry_after,
    )


def tell_news(circuit: Gate) -> None:
    """Tell the listeners what changed in a circuit."""
    if circuit.news:
        for transition in circuit.take_news():
            RUNTIME.tell(transition_event(transition))


def transition_event(transition: Transition) -> Event:
    """The event of a circuit's change of state."""
    return event(
        "transition",
        policy="breaker",
        status=transition.now,
        name=transition.name,
        key=transition.key,
        fault=transition.fault,
        delay=transition.delay,
    )
