"""Idempotency: the record of an operation that must take effect once, and where such records are kept."""

from resilient_faces.idempotency.record import Record, Status
from resilient_faces.idempotency.store import IdempotencyStore, MemoryIdempotencyStore

__all__ = ["IdempotencyStore", "MemoryIdempotencyStore", "Record", "Status"]
