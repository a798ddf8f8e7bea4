"""Shared circuit state: what a store must offer, and one in memory.

A breaker with a store decides locally first. The store is asked before a call at most every `refresh` seconds, and
told of transitions; whoever wins the conditional write probes for all. A store that fails or is slow is left out: the
circuit goes on by itself, and an event says so.
"""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable

from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass

__all__ = ["BreakerStore", "MemoryStore", "Shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """One circuit as all processes see it.

    Attributes:
        version: Number of this record; 1 or more.
        state: `closed`, `open` or `half_open`.
        until: Wall-clock time, by the store's clock, until which it is open, or until which the process that probes has
            the trial for itself; seconds since the epoch.
        reopenings: Failed trials since it was closed last.
        last: Code of the fault that opened it.
        schema: Version of these members.
    """

    version: int
    state: str
    until: float
    reopenings: int = 0
    last: str | None = None
    schema: int = 1


@runtime_checkable
class BreakerStore(Protocol):
    """Where processes share circuits. Methods are synchronous and may raise anything.

    Attributes:
        inline: The store answers from memory, so it may be asked without a worker thread.
    """

    inline: bool

    def now(self) -> float:
        """The store's wall clock, in seconds since the epoch."""

    def load(self, key: str) -> Shared | None:
        """The record of a circuit; None if there is none."""

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        """Write the record if the stored version is `expected` (0: if there is none); False if it is not."""


class MemoryStore:
    """Shared circuits of one process: for tests, and the reference for the store contract."""

    inline = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, Shared] = {}

    def now(self) -> float:
        return RUNTIME.wall()

    def load(self, key: str) -> Shared | None:
        with self._lock:
            return self._records.get(key)

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        with self._lock:
            found = self._records.get(key)
            if (0 if found is None else found.version) != expected:
                return False
            self._records[key] = shared
            return True
