"""Metrics with bounded labels, counted from events and read when a collector asks.

`RetryAttempts` by operation, `CircuitBreakerState` by circuit, `DegradedServices` and `ServiceRecovery`: the names that
the session-management document recommends. Counting costs a call that succeeds nothing, since it tells nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.breaker.machine import State
from resilient_faces.breaker.registry import Circuits, circuits
from resilient_faces.degrade.services import Services, services
from resilient_faces.events import Event

__all__ = ["Metric", "Metrics"]

MOST_OPERATIONS: Final = 200  # labels at most; further operations are counted together under `other`
OTHER: Final = "other"

_STATES: Final = {State.closed: 0.0, State.half_open: 1.0, State.open: 2.0, State.forced_open: 2.0}


@dataclass(frozen=True, slots=True)
class Metric:
    """One number.

    Attributes:
        name: Name of the metric.
        labels: Label names and values.
        value: The number: a count since the start, or a gauge of this moment.
        unit: `Count` or `None`, as CloudWatch calls them.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    unit: str = "Count"


class Metrics:
    """Counts retries and recoveries from events, and reads circuits and services when asked.

    Use it with `stop = metrics.start()`, and call `read()` as often as the collector wants.

    Args:
        registry: Circuits to read; the process's own if None.
        register: Services to read; the process's own if None.
    """

    def __init__(self, registry: Circuits | None = None, register: Services | None = None) -> None:
        self._circuits = circuits if registry is None else registry
        self._services = services if register is None else register
        self._lock = threading.Lock()
        self._retries: Counter[str] = Counter()
        self._recoveries: Counter[str] = Counter()
        on_fork(self)

    def start(self) -> Callable[[], None]:
        """Begin to count; call the answer to end it."""
        return RUNTIME.listen(self)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if event.type == "retry":
            self._count(self._retries, event.operation)
        elif event.type == "recovered" and event.policy == "services":
            self._count(self._recoveries, event.name)

    def _count(self, counter: Counter[str], label: str) -> None:
        with self._lock:
            known = label in counter or len(counter) < MOST_OPERATIONS
            counter[label if known else OTHER] += 1

    def read(self) -> tuple[Metric, ...]:
        """All metrics now. `CircuitBreakerState` is 0 closed, 1 half-open, 2 open, -1 switched off by hand."""
        degraded = len(self._services.degraded())  # first: looking may find that some have recovered
        with self._lock:
            retries, recoveries = dict(self._retries), dict(self._recoveries)
        states: dict[str, float] = {}
        for circuit in self._circuits:  # keys stay out of the labels: of a keyed circuit the worst state counts
            states[circuit.name] = max(states.get(circuit.name, -1.0), _STATES.get(circuit.state, -1.0))
        return (
            *(Metric("RetryAttempts", (("operation", name),), float(n)) for name, n in sorted(retries.items())),
            *(Metric("CircuitBreakerState", (("name", name),), s, "None") for name, s in sorted(states.items())),
            Metric("DegradedServices", (), float(degraded), "None"),
            *(Metric("ServiceRecovery", (("service", name),), float(n)) for name, n in sorted(recoveries.items())),
        )

    def after_fork(self) -> None:
        """In a forked child: a fresh lock, and counts of its own."""
        self._lock = threading.Lock()
        self._retries.clear()
        self._recoveries.clear()
