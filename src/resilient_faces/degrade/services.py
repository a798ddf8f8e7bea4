"""Degraded services, process-wide: how much each matters, since when it is degraded, and health for one and for all."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

from resilient_faces._core.context import event
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass
from resilient_faces.events import Event
from resilient_faces.faults import Fault, classify

__all__ = ["Criticality", "GracefulDegradationManager", "Health", "ServiceHealth", "Services", "services"]

SCHEMA: Final = 1


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
    __slots__ = ("criticality", "name", "reason", "recoveries", "since")

    def __init__(self, name: str, criticality: Criticality) -> None:
        self.name = name
        self.criticality = criticality
        self.reason = ""
        self.since: float | None = None
        self.recoveries = 0

    def health(self) -> ServiceHealth:
        status = "healthy" if self.since is None else "degraded"
        return ServiceHealth(self.name, status, self.criticality, self.reason, self.since, self.recoveries)


class Services:
    """A register of services that may be degraded. `services` is the process's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: dict[str, _Service] = {}
        self._circuits: dict[str, str] = {}
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
            circuits: Names of circuits: when one opens the service is degraded, when it closes it has recovered.
        """
        level = Criticality(criticality)
        with self._lock:
            self._services.setdefault(name, _Service(name, level)).criticality = level
            for circuit in circuits:
                self._circuits[circuit] = name
            follow = bool(circuits) and self._stop is None
        if follow:
            self._stop = RUNTIME.listen(self._heard)

    def _heard(self, told: Event) -> None:
        if told.type != "transition" or told.name not in self._circuits:
            return
        service = self._circuits[told.name]
        if told.status in ("open", "forced_open"):
            self.degrade(service, told.code or told.status)
        elif told.status == "closed":
            self.recover(service)

    def degrade(self, name: str, reason: str | BaseException = "") -> None:
        """Mark a service as degraded; of an exception only the fault's code is kept."""
        fault: Fault | None = None
        if isinstance(reason, BaseException):
            fault = classify(reason)
            reason = fault.code
        with self._lock:
            service = self._services.setdefault(name, _Service(name, Criticality.important))
            new = service.since is None
            if new:
                service.since = RUNTIME.wall()
            service.reason = reason
        if new and RUNTIME.heard(logging.WARNING, "services"):
            RUNTIME.tell(event("degraded", policy="services", status="degraded", name=name, fault=fault))

    def recover(self, name: str) -> bool:
        """Mark a service as recovered; False if it was not degraded."""
        with self._lock:
            service = self._services.get(name)
            if service is None or service.since is None:
                return False
            elapsed = RUNTIME.wall() - service.since
            service.since = None
            service.reason = ""
            service.recoveries += 1
        if RUNTIME.heard(logging.INFO, "services"):
            RUNTIME.tell(event("recovered", policy="services", status="healthy", name=name, elapsed=elapsed))
        return True

    def is_degraded(self, name: str) -> bool:
        """Whether this service is degraded now."""
        with self._lock:
            service = self._services.get(name)
            return service is not None and service.since is not None

    def degraded(self) -> tuple[str, ...]:
        """Names of the services that are degraded now."""
        with self._lock:
            return tuple(sorted(name for name, one in self._services.items() if one.since is not None))

    def health_of(self, name: str) -> ServiceHealth:
        """How one service stands; one that nobody registered is healthy and important."""
        with self._lock:
            service = self._services.get(name)
            return _Service(name, Criticality.important).health() if service is None else service.health()

    def health(self) -> Health:
        """How the whole stands."""
        with self._lock:
            known = tuple(self._services[name].health() for name in sorted(self._services))
        bad = [one for one in known if one.status == "degraded"]
        if any(one.criticality is Criticality.critical for one in bad):
            status = "unhealthy"
        else:
            status = "degraded" if bad else "healthy"
        return Health(status, known)

    def clear(self) -> None:
        """Forget all services."""
        with self._lock:
            self._services.clear()
            self._circuits.clear()
            stop, self._stop = self._stop, None
        if stop is not None:
            stop()

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
