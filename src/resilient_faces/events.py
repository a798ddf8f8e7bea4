"""Frozen values for everything worth telling, and `Listener`, a function of one event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from resilient_faces._light import dataclass
from resilient_faces.faults import Fault

__all__ = ["SCHEMA", "Event", "EventType", "Listener"]

SCHEMA: Final = 1  # raised when a member changes its meaning or goes; a new member does not raise it

EventType: TypeAlias = Literal[
    "retry",  # a failed attempt will be repeated after `delay`
    "gave_up",  # a retried call failed for good
    "recovered",  # a call succeeded after retries, or a degraded service or a shared store works again
    "transition",  # a circuit changed its state: `status` is the new one
    "rejected",  # one of our own policies said no
    "degraded",  # a fallback answered, or a service was marked as degraded
    "throttled",  # a limiter slowed down after a throttling answer
    "abandoned",  # a worker thread outlived its time limit
    "store_failed",  # a shared store did not answer: the circuit or limiter goes on by itself
    "step",  # a stage of a pipeline began or ended
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. Names, counts, durations and fault kinds only: never arguments, frames or identities.

    Attributes:
        type: What happened.
        at: Wall-clock time, in seconds since the epoch.
        t: Monotonic time, in seconds; only differences mean something.
        request_id: Id given to `with request(...)`; empty outside of one.
        step: Step given to `with request(...)`, else the guarded function's name.
        status: How things stand now, for example `retrying`, `open`, `failed`.
        error_code: Code of the fault, empty if there is none.
        policy: Kind of policy that tells: `retry`, `breaker`, `fallback`, ...
        name: Name of the policy, for example of the circuit.
        key: Key of a keyed circuit; it is the caller's duty to keep secrets out of keys.
        operation: Name of the guarded function.
        attempt: Number of the attempt, from 1.
        parent: Number of the attempt of the guard further out, if one is retrying.
        delay: Seconds until the next attempt, or until a circuit admits a probe.
        elapsed: Seconds that the call took so far.
        kind: Kind of the fault.
        code: Code of the fault.
        executed: Whether the failed call was carried out: `no`, `yes` or `unknown`.
        outcome: `first_try`, `after_retry`, `degraded` or `failed`, once it is known.
        schema: Version of these members.
    """

    type: EventType
    at: float
    t: float
    request_id: str = ""
    step: str = ""
    status: str = ""
    error_code: str = ""
    policy: str = ""
    name: str = ""
    key: str = ""
    operation: str = ""
    attempt: int | None = None
    parent: int | None = None
    delay: float | None = None
    elapsed: float | None = None
    kind: str = ""
    code: str = ""
    executed: str = ""
    outcome: str = ""
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, object]:
        """The event as JSON members; `requestId`, `step`, `status` and `errorCode` are always there."""
        members: dict[str, object] = {
            "schema": self.schema,
            "type": self.type,
            "at": self.at,
            "t": self.t,
            "requestId": self.request_id,
            "step": self.step,
            "status": self.status,
            "errorCode": self.error_code,
        }
        for member in _OPTIONAL:
            value = getattr(self, member)
            if value is not None and value != "":
                members[member] = value
        return members


_OPTIONAL: Final = (
    "policy",
    "name",
    "key",
    "operation",
    "attempt",
    "parent",
    "delay",
    "elapsed",
    "kind",
    "code",
    "executed",
    "outcome",
)

Listener: TypeAlias = Callable[[Event], None]


def fault_members(fault: Fault) -> dict[str, str]:
    """The members of an event that describe a fault."""
    return {
        "kind": fault.kind.value,
        "code": fault.code,
        "executed": fault.executed.value,
        "error_code": fault.code,
    }
