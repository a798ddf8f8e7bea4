"""Where records of operations are kept: what a store must offer, and a store in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.idempotency.record import Record, Status

__all__ = ["IdempotencyStore", "MemoryIdempotencyStore"]


@runtime_checkable
class IdempotencyStore(Protocol):
    """Where processes share records. Methods are synchronous, each is one step, and may raise anything.

    Attributes:
        inline: The store answers from memory, so it may be asked without a worker thread.
    """

    inline: bool

    def claim(self, key: str, owner: str, fingerprint: str, lease: float, keep: float) -> Record | None:
        """Claim an operation, if there is no record of it, or a forgotten one, or one whose lease is over.

        Claimed again by the same owner it stays claimed: the answer to the first request may have been lost.

        Args:
            key: The operation.
            owner: Token of this claim; made afresh for each.
            fingerprint: Hash of what is asked for.
            lease: Seconds for which nobody else may claim it.
            keep: Seconds after which the record is forgotten, unless it is finished; at least as long as the lease.

        Returns:
            None if it was claimed, else the record that is in the way.
        """

    def finish(self, key: str, owner: str, status: Status, data: bytes, keep: float) -> bool:
        """Write what it came to and keep that for `keep` seconds; False if this owner has it no more."""

    def extend(self, key: str, owner: str, lease: float) -> bool:
        """Begin the lease anew, while the work goes on; False if this owner has it no more.

        The record is not forgotten before the lease is over.
        """

    def release(self, key: str, owner: str) -> bool:
        """Give it up, so that anybody may claim it at once; False if this owner has it no more."""

    def find(self, key: str) -> Record | None:
        """The record of an operation; None if there is none, or it is forgotten."""


@dataclass(slots=True)
class _Kept:
    status: Status
    owner: str
    fingerprint: str
    lease_until: float
    kept_until: float
    data: bytes = b""


class MemoryIdempotencyStore:
    """Records of one process: for tests, and the reference for the store contract."""

    inline = True

    def __init__(self) -> None:
        self._records: dict[str, _Kept] = {}
        self._crowded = 64
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def begin_anew(self) -> None:
        self._records.clear()

    def claim(self, key: str, owner: str, fingerprint: str, lease: float, keep: float) -> Record | None:
        with self._lock:
            now = RUNTIME.monotonic()
            self._sweep(now)
            found = self._records.get(key)
            if found is not None and found.kept_until > now:
                working = found.status is Status.in_progress
                if not working or (found.lease_until > now and found.owner != owner):
                    return _seen(found, now)
            self._records[key] = _Kept(Status.in_progress, owner, fingerprint, now + lease, now + max(lease, keep))
            return None

    def finish(self, key: str, owner: str, status: Status, data: bytes, keep: float) -> bool:
        with self._lock:
            now = RUNTIME.monotonic()
            found = self._owned(key, owner, now)
            if found is None:
                return self._same(key, owner, status, data, now)
            self._records[key] = _Kept(status, owner, found.fingerprint, now, now + keep, data)
            return True

    def _same(self, key: str, owner: str, status: Status, data: bytes, now: float) -> bool:
        """Whether it is finished already, by this owner and with this: the first answer was lost."""
        found = self._records.get(key)
        return (
            found is not None
            and found.kept_until > now
            and (found.owner, found.status, found.data) == (owner, status, data)
        )

    def extend(self, key: str, owner: str, lease: float) -> bool:
        with self._lock:
            now = RUNTIME.monotonic()
            found = self._owned(key, owner, now)
            if found is not None:
                found.lease_until = now + lease
                found.kept_until = max(found.kept_until, found.lease_until)
            return found is not None

    def release(self, key: str, owner: str) -> bool:
        with self._lock:
            found = self._owned(key, owner, RUNTIME.monotonic())
            if found is not None:
                del self._records[key]
            return found is not None

    def find(self, key: str) -> Record | None:
        with self._lock:
            now = RUNTIME.monotonic()
            found = self._records.get(key)
            return None if found is None or found.kept_until <= now else _seen(found, now)

    def _owned(self, key: str, owner: str, now: float) -> _Kept | None:
        """The record, while this owner works on it: also after its lease, if nobody else has claimed it since."""
        found = self._records.get(key)
        if found is None or found.kept_until <= now or found.owner != owner:
            return None
        return found if found.status is Status.in_progress else None

    def _sweep(self, now: float) -> None:
        """Drop what is forgotten whenever the records have become twice as many."""
        if len(self._records) >= self._crowded:
            self._records = {key: found for key, found in self._records.items() if found.kept_until > now}
            self._crowded = 2 * len(self._records) + 64


def _seen(found: _Kept, now: float) -> Record:
    lease = found.lease_until - now if found.status is Status.in_progress else 0.0
    return Record(found.status, found.owner, lease, found.kept_until - now, found.fingerprint, found.data)
