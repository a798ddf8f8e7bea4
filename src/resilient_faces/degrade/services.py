"""Degraded services, process-wide: how much each matters, since when it is degraded, and health for one and for all."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

from resilient_faces._core.context import event
from resilient_faces._core.gates import worst_state
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass
from resilient_faces.events import Event
from resilient_faces.faults import Fault, classify

__all__ = ["Criticality", "GracefulDegradationManager", "Health", "ServiceHealth", "Services", "services"]

SCHEMA: Final = 1
_BAD: Final = ("forced_open", "open")
_GOOD: Final = ("closed", "disabled", "metrics_only")  # with calls passing; half-open is neither


class Criticality(str, Enum):
    """How much the whole depends on a service."""

    critical = "critical"  # without it nothing works: 503, no fallback
    important = "important"  # without it a part works
    optional = "optional"  # without it everybody is served all the same


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How one service stands.

    Attributes:
        name: The service.
        status: `healthy` or `degraded`.
        criticality: How much the whole depends on it.
        reason: Why it is degraded: a fault's code or the words given; empty if it is not.
        since: Wall-clock time since when, in seconds since the epoch; None if it is healthy.
        recoveries: How often it came back so far.
    """

    name: str
    status: str
    criticality: Criticality
    reason: str = ""
    since: float | None = None
    recoveries: int = 0

    def to_dict(self) -> dict[str, object]:
        """As JSON members."""
        return {
            "name": self.name,
            "status": self.status,
            "criticality": self.criticality.value,
            "reason": self.reason,
            "since": self.since,
            "recoveries": self.recoveries,
        }


@dataclass(frozen=True, slots=True)
class Health:
    """How the whole stands: `unhealthy` if a critical service is degraded, `degraded` if any other is, else `healthy`.

    Attributes:
        status: The worst that any service brings about.
        services: Each service that is known, by name.
    """

    status: str
    services: tuple[ServiceHealth, ...]

    @property
    def http_status(self) -> int:
        """200, or 503 if a critical service is degraded: for a readiness endpoint, not for liveness."""
        return 503 if self.status == "unhealthy" else 200

    def to_dict(self) -> dict[str, object]:
        """As JSON members."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "services": {one.name: one.to_dict() for one in self.services},
        }

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(self.to_dict())


class _Service:
    __slots__ = ("by_circuit", "circuits", "criticality", "name", "reason", "recoveries", "since")

    def __init__(self, name: str, criticality: Criticality) -> None:
        self.name = name
        self.circuits: set[str] = set()
        self.by_circuit = False  # a circuit degraded it, and not somebody by hand
        self.criticality = criticality
        self.reason = ""
        self.since: float | None = None
        self.recoveries = 0

    def state(self) -> str | None:
        """The worst state among its circuits; None if none of them is known by name."""
        states = [state for name in self.circuits if (state := worst_state(name)) is not None]
        for bad in (*_BAD, "half_open"):
            if bad in states:
                return bad
        return states[0] if states else None

    def health(self) -> ServiceHealth:
        status = "healthy" if self.since is None else "degraded"
        return ServiceHealth(self.name, status, self.criticality, self.reason, self.since, self.recoveries)


class Services:
    """A register of services that may be degraded. `services` is the process's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: dict[str, _Service] = {}
        self._circuits: dict[str, str] = {}
        self._listener = self._heard  # one object, to be known again by
        self._stop: Callable[[], None] | None = None
        on_fork(self)

    def register(
        self,
        name: str,
        criticality: Criticality | str = Criticality.important,
        *,
        circuits: tuple[str, ...] = (),
    ) -> None:
        """Say how much a service matters, and which circuits tell when it is degraded.

        Args:
            name: The service.
            criticality: critical, important or optional.
            circuits: Names of circuits: the service is degraded while one of them is open, whichever key it has.
        """
        level = Criticality(criticality)
        with self._lock:
            service = self._services.setdefault(name, _Service(name, level))
            service.criticality = level
            service.circuits.update(circuits)
            for circuit in circuits:
                self._circuits[circuit] = name
            follow = bool(circuits) and self._stop is None
        if follow:
            self._stop = RUNTIME.listen(self._listener)
        self._look(name)

    # What an event says may be over when it is heard: events of several threads come in any order. So it is a hint to
    # look at the circuits, and only of those that have no name to be found by is it all there is.

    def _heard(self, told: Event) -> None:
        if told.type != "transition" or told.name not in self._circuits:
            return
        self._look(self._circuits[told.name], told)

    def _look(self, name: str, told: Event | None = None) -> None:
        """Have a service stand as its circuits do."""
        with self._lock:  # also around the look, or an older one might have the last word
            service = self._services.get(name)
            if service is None:
                return
            state = service.state()
            if state is None and told is not None:
                state = told.status
            if state in _BAD:
                reason = told.code if told is not None and told.status in _BAD and told.code else state
                new = self._mark(service, reason) if service.since is None else False
                service.by_circuit = service.by_circuit or new
                elapsed = None
            elif state in _GOOD and service.since is not None and (service.by_circuit or told is not None):
                new, elapsed = False, self._unmark(service)
            else:
                return
        if new:
            self._tell_degraded(name, None)
        elif elapsed is not None:
            self._tell_recovered(name, elapsed)

    def _mark(self, service: _Service, reason: str) -> bool:
        """Lock held; True if it was not degraded."""
        new = service.since is None
        if new:
            service.since = RUNTIME.wall()
            service.by_circuit = False
        service.reason = reason
        return new

    def _unmark(self, service: _Service) -> float:
        """Seconds that it was degraded. Lock held."""
        assert service.since is not None
        elapsed = RUNTIME.wall() - service.since
        service.since = None
        service.reason = ""
        service.recoveries += 1
        return elapsed

    def _tell_degraded(self, name: str, fault: Fault | None) -> None:
        if RUNTIME.heard(logging.WARNING, "services"):
            RUNTIME.tell(event("degraded", policy="services", status="degraded", name=name, fault=fault))

    def _tell_recovered(self, name: str, elapsed: float) -> None:
        if RUNTIME.heard(logging.INFO, "services"):
            RUNTIME.tell(event("recovered", policy="services", status="healthy", name=name, elapsed=elapsed))

    def degrade(self, name: str, reason: str | BaseException = "") -> None:
        """Mark a service as degraded; of an exception only the fault's code is kept."""
        fault: Fault | None = None
        if isinstance(reason, BaseException):
            fault = classify(reason)
            reason = fault.code
        with self._lock:
            service = self._services.setdefault(name, _Service(name, Criticality.important))
            new = self._mark(service, reason)
            service.by_circuit = False
        if new:
            self._tell_degraded(name, fault)

    def recover(self, name: str) -> bool:
        """Mark a service as recovered; False if it was not degraded."""
        with self._lock:
            service = self._services.get(name)
            if service is None or service.since is None:
                return False
            elapsed = self._unmark(service)
        self._tell_recovered(name, elapsed)
        return True

    def is_degraded(self, name: str) -> bool:
        """Whether this service is degraded now."""
        self._look(name)
        with self._lock:
            service = self._services.get(name)
            return service is not None and service.since is not None

    def degraded(self) -> tuple[str, ...]:
        """Names of the services that are degraded now."""
        self._look_at_all()
        with self._lock:
            return tuple(sorted(name for name, one in self._services.items() if one.since is not None))

    def health_of(self, name: str) -> ServiceHealth:
        """How one service stands; one that nobody registered is healthy and important."""
        self._look(name)
        with self._lock:
            service = self._services.get(name)
            return _Service(name, Criticality.important).health() if service is None else service.health()

    def health(self) -> Health:
        """How the whole stands."""
        self._look_at_all()
        with self._lock:
            known = tuple(self._services[name].health() for name in sorted(self._services))
        bad = [one for one in known if one.status == "degraded"]
        if any(one.criticality is Criticality.critical for one in bad):
            status = "unhealthy"
        else:
            status = "degraded" if bad else "healthy"
        return Health(status, known)

    def _look_at_all(self) -> None:
        for name in list(self._services):
            self._look(name)

    def clear(self) -> None:
        """Forget all services."""
        with self._lock:
            self._services.clear()
            self._circuits.clear()
            stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def set_aside(self) -> dict[str, tuple[Criticality, tuple[str, ...]]]:
        """For tests: what is registered, for `put_back`."""
        with self._lock:
            return {name: (one.criticality, tuple(one.circuits)) for name, one in self._services.items()}

    def put_back(self, registered: dict[str, tuple[Criticality, tuple[str, ...]]]) -> None:
        """For tests: only these services again, all of them healthy."""
        self.clear()
        for name, (criticality, names) in registered.items():
            self.register(name, criticality, circuits=names)

    def begin_anew(self) -> None:
        """For tests: all services are healthy and never were anything else; they listen to their circuits."""
        self.after_fork()
        with self._lock:
            for service in self._services.values():
                service.since, service.reason, service.recoveries, service.by_circuit = None, "", 0, False
            follow = bool(self._circuits)
        if follow and self._listener not in RUNTIME.listeners:
            self._stop = RUNTIME.listen(self._listener)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


services: Final = Services()


class GracefulDegradationManager:
    """The process's degraded services under the names of the session-management document. All instances share them."""

    def __init__(self, register: Services | None = None) -> None:
        self._register = services if register is None else register

    def register_service(self, service: str, priority: Criticality | str = Criticality.important) -> None:
        """Say how much a service matters: critical, important or optional."""
        self._register.register(service, priority)

    def mark_degraded(self, service: str, reason: str | BaseException = "") -> None:
        """Mark a service as degraded."""
        self._register.degrade(service, reason)

    def mark_recovered(self, service: str) -> None:
        """Mark a service as recovered; the recovery is recorded."""
        self._register.recover(service)

    def is_degraded(self, service: str) -> bool:
        """Whether this service is degraded now."""
        return self._register.is_degraded(service)

    def get_degraded_services(self) -> list[str]:
        """Names of the services that are degraded now."""
        return list(self._register.degraded())

    def get_service_health(self, service: str) -> dict[str, object]:
        """How one service stands, as JSON members."""
        return self._register.health_of(service).to_dict()

    def get_system_health(self) -> dict[str, object]:
        """How the whole stands, as JSON members."""
        return self._register.health().to_dict()

    def reset(self) -> None:
        """Forget all services."""
        self._register.clear()
