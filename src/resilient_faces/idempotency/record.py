"""The record of an operation that must take effect once: who works on it, or what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Record", "Status"]


class Status(str, Enum):
    """How far an operation has come."""

    in_progress = "in_progress"  # its owner works on it, for as long as the lease lasts
    completed = "completed"  # it has a result, which is given to whoever asks again
    failed = "failed"  # it failed for good; the failure is given to whoever asks again


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, as a store answered it. Seconds are what was left by the store's own clock at that moment.

    Attributes:
        status: How far it has come.
        owner: Token of who claimed it last. Only the owner may finish it, keep it or give it up: one whose lease is
            over and who wakes up late finds another token there, and changes nothing.
        lease: Seconds for which nobody else may claim it; 0 or less if the lease is over, or the operation is.
        kept: Seconds until the record is forgotten.
        fingerprint: Hash of what the operation was asked to do, so that the same key with another request is noticed.
        data: The result or the failure, in whatever form the owner wrote it. An empty result is a result: `status`
            says whether there is one.
        schema: Version of these members.
    """

    status: Status
    owner: str
    lease: float
    kept: float
    fingerprint: str = ""
    data: bytes = field(default=b"", repr=False)  # may be anything, and a record may be logged
    schema: int = 1
