"""What processes share of a circuit: the record, what a store must offer, and a store in memory.

`breaker/sharing` says when a store is asked. Times in a record are seconds that are left, reckoned by the store's own
clock when it answers: machines whose clocks differ agree, and nobody else needs to know the time.
"""

from __future__ import annotations

import math
import threading
from typing import Final, Protocol, runtime_checkable

from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces._light import dataclass

__all__ = ["BreakerStore", "MemoryStore", "Shared"]

MOST_SECONDS: Final = 86_400.0 * 366.0  # that a record may say are left: what is longer is a mistake of somebody's


@dataclass(frozen=True, slots=True)
class Shared:
    """One circuit as all processes see it.

    Attributes:
        version: Number of this record: each that is written has a higher one. 0 if only failures were counted so far.
        state: `closed`, `open` or `half_open`.
        seconds: Seconds left, by the store's clock: of the open time, or of the trial that the writer has for itself;
            0 or less if they are over.
        reopenings: Failed trials since it was closed last.
        last: Code of the fault that opened it.
        by: Token of the process that wrote it, so that it knows its own trial again.
        failures: Failures that all processes have counted since the record was written or `clear` was called.
        schema: Version of these members.
    """

    version: int
    state: str
    seconds: float
    reopenings: int = 0
    last: str | None = None
    by: str = ""
    failures: int = 0
    schema: int = 1

    @property
    def sound(self) -> bool:
        """Whether these can be the members of a record; a store may hold what somebody else wrote."""
        whole = all(isinstance(one, int) and one >= 0 for one in (self.version, self.reopenings, self.failures))
        seconds = isinstance(self.seconds, (int, float)) and -math.inf < self.seconds <= MOST_SECONDS
        texts = isinstance(self.by, str) and (self.last is None or isinstance(self.last, str))
        return whole and seconds and texts and self.state in ("closed", "open", "half_open")


@runtime_checkable
class BreakerStore(Protocol):
    """Where processes share circuits. Methods are synchronous, each is one step, and may raise anything.

    Attributes:
        inline: The store answers from memory, so it may be asked without a worker thread.
    """

    inline: bool

    def load(self, key: str) -> Shared | None:
        """The record of a circuit; None if none was ever saved."""

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        """Write the record if the stored version is `expected` (0: if none was saved); False if it is not.

        The failures that were counted under the old record go with it.
        """

    def count(self, key: str, version: int, within: float) -> Shared | None:
        """Count one failure if the stored version is `version` (0: if none was saved), and answer what is stored now.

        A count that began more than `within` seconds ago begins again. None if there is no such record any more.
        """

    def clear(self, key: str, version: int) -> None:
        """Forget the failures counted under this version."""


class MemoryStore:
    """Shared circuits of one process: for tests, and the reference for the store contract."""

    inline = True

    def __init__(self) -> None:
        self._records: dict[str, tuple[Shared, float]] = {}  # with the wall-clock time at which its seconds are over
        self._counted: dict[str, tuple[int, float]] = {}  # failures, and the time from which on they count no more
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        self._records.clear()
        self._counted.clear()

    def load(self, key: str) -> Shared | None:
        with self._lock:
            return self._now(key)

    def _now(self, key: str) -> Shared | None:
        """The record with what is left of its seconds. Lock held."""
        found = self._records.get(key)
        if found is None:
            return None
        shared, until = found
        failures, ends = self._counted.get(key, (0, 0.0))
        now = RUNTIME.wall()
        return Shared(
            shared.version,
            shared.state,
            until - now,
            shared.reopenings,
            shared.last,
            shared.by,
            failures if now < ends else 0,
            shared.schema,
        )

    def save(self, key: str, shared: Shared, expected: int) -> bool:
        with self._lock:
            found = self._records.get(key)
            if (0 if found is None else found[0].version) != expected:
                return False
            self._records[key] = (shared, RUNTIME.wall() + shared.seconds)
            self._counted.pop(key, None)
            return True

    def count(self, key: str, version: int, within: float) -> Shared | None:
        with self._lock:
            found = self._records.get(key)
            if (0 if found is None else found[0].version) == version:
                failures, ends = self._counted.get(key, (0, 0.0))
                now = RUNTIME.wall()
                self._counted[key] = (failures + 1, ends) if now < ends else (1, now + within)
            if found is not None:
                return self._now(key)
            return Shared(0, "closed", 0.0, failures=self._counted[key][0]) if version == 0 else None

    def clear(self, key: str, version: int) -> None:
        with self._lock:
            found = self._records.get(key)
            if (0 if found is None else found[0].version) == version:
                self._counted.pop(key, None)
