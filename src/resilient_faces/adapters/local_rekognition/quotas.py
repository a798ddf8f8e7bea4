"""Calls a second for each operation, as the service's defaults in a region, and the two errors that say: too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from resilient_faces.adapters._aws_operations import OPERATIONS
from resilient_faces.adapters.local_rekognition.answers import ServiceError

PROVISIONED: Final = "ProvisionedThroughputExceededException"
THROTTLING: Final = "ThrottlingException"
_MESSAGES: Final[Mapping[str, str]] = {
    PROVISIONED: "Provisioned rate exceeded.",
    THROTTLING: "Slow down; sudden increase in rate of requests.",
}


LIMITED: Final = tuple(sorted(name.partition(".")[2] for name in OPERATIONS if name.partition(".")[0] == "rekognition"))
"""The operations that the endpoint has."""


class Quota:
    """A token bucket: `rate` calls a second, and at most one second's worth at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = self._size
        self._clock = clock
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more call is within the quota."""
        now = self._clock()
        with self._lock:
            self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class Quotas:
    """One bucket an operation.

    Args:
        region: Whose defaults apply.
        rates: Calls a second that differ from them, by operation; infinite switches an operation's quota off.
        everywhere: Calls a second for all operations that `rates` does not name, in place of the defaults.
        error: Which of the service's two errors is given above a quota.
    """

    def __init__(
        self,
        region: str,
        *,
        rates: Mapping[str, float] | None = None,
        everywhere: float | None = None,
        error: str = PROVISIONED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if error not in _MESSAGES:
            raise ValueError(f"Quotas.error must be {PROVISIONED} or {THROTTLING}; got {error!r}.")
        wanted = dict(rates or {})
        if unknown := [operation for operation in wanted if operation not in LIMITED]:
            raise ValueError(
                f"Quotas.rates must name operations of the endpoint; got {', '.join(unknown)}. "
                f"It has: {', '.join(LIMITED)}."
            )
        given = {f"rates[{operation!r}]": rate for operation, rate in wanted.items()}
        for option, value in {**given, **({} if everywhere is None else {"everywhere": everywhere})}.items():
            if not value > 0:
                raise ValueError(f"Quotas.{option} must be more than 0 calls a second; got {value}.")
        self._error = error
        self._quotas: dict[str, Quota] = {}
        for operation in LIMITED:
            row = OPERATIONS[f"rekognition.{operation}"]
            rate = wanted.get(operation, everywhere)
            if rate is None and row.rate is not None:
                rate = row.rate.of(region)
            if rate is not None and rate != float("inf"):
                self._quotas[operation] = Quota(rate, clock)

    def take(self, operation: str) -> None:
        """Count one call.

        Raises:
            ServiceError: It is above the quota.
        """
        quota = self._quotas.get(operation)
        if quota is not None and not quota.take():
            raise ServiceError(self._error, _MESSAGES[self._error])
