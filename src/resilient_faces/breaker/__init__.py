"""Circuit breakers: the policy, its trip rules as values, the registry, and the store that processes share."""

from resilient_faces.breaker.circuit import Circuit, Opening, Snapshot
from resilient_faces.breaker.machine import State, diagram
from resilient_faces.breaker.policy import Breaker, circuit_breaker
from resilient_faces.breaker.registry import Circuits, Switch, circuits
from resilient_faces.breaker.store import BreakerStore, MemoryStore, Shared
from resilient_faces.breaker.window import TripRule, consecutive, failure_rate, failures_within, slow_rate

__all__ = [
    "Breaker",
    "BreakerStore",
    "Circuit",
    "Circuits",
    "MemoryStore",
    "Opening",
    "Shared",
    "Snapshot",
    "State",
    "Switch",
    "TripRule",
    "circuit_breaker",
    "circuits",
    "consecutive",
    "diagram",
    "failure_rate",
    "failures_within",
    "slow_rate",
]
