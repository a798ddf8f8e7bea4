"""What a circuit's gate answers and what is told of it, for the direct path and for the breaker's flow alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from resilient_faces._core.context import PROBES, event
from resilient_faces._core.outcome import Gate, Permit, Refused, Transition, name_of
from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces.events import Event
from resilient_faces.faults import Executed, Fault, Kind

__all__ = [
    "INFO",
    "LOG",
    "OPEN",
    "admission",
    "know_states",
    "left_probe",
    "rejection",
    "tell_news",
    "transition_event",
    "worst_state",
]

INFO: Final = logging.INFO
LOG: Final = logger_of("breaker")
"""Whoever refuses a call asks it, and the listeners, whether anybody would hear: most rejections need no event."""
OPEN: Final = Fault(Kind.rejected, "CircuitOpenError", Executed.no)
"""What a refused call comes to: nobody retries it, and no breaker counts it."""


def admission(circuit: Gate, now: float | None = None) -> Permit | Refused:
    """Leave to call while the circuit does not let everybody through, or a refusal.

    A call that comes to the same circuit again is part of its own probe. A place of its own it might never get, and
    then the probe would never end well.
    """
    within = PROBES.get()
    if within and circuit.probing(within):
        return _RIDES
    granted = circuit.acquire(now)
    if isinstance(granted, Permit) and granted.expires is not None:
        current = RUNTIME.monotonic()
        PROBES.set((*[one for one in within if one.expires is not None and one.expires > current], granted))
    return granted


def left_probe(permit: Permit) -> None:
    """This code runs within the probe no more."""
    within = PROBES.get()
    if permit in within:
        PROBES.set(tuple([one for one in within if one is not permit]))


_RIDES: Final = Permit()  # of no generation: what the call comes to is settled with the probe that it is part of


class _Known:
    """Where the states of named circuits are to be asked; `breaker/` says so when it is there."""

    state_of: Callable[[str], str | None] | None = None


def know_states(state_of: Callable[[str], str | None]) -> None:
    """Have `worst_state` answered by this function."""
    _Known.state_of = staticmethod(state_of)


def worst_state(name: str) -> str | None:
    """The worst state among the circuits of a name; None if there is no such circuit."""
    return None if _Known.state_of is None else _Known.state_of(name)


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
