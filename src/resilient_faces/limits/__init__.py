"""Limits: the policies that stand around a call. Deadline, timeout, bulkhead, paced limiter."""

from resilient_faces.limits.bulkhead import Bulkhead, BulkheadSnapshot
from resilient_faces.limits.deadline import Deadline
from resilient_faces.limits.rate import RateLimiter, Reservation
from resilient_faces.limits.store import Granted, LimiterStore, MemoryLimiterStore, Pace
from resilient_faces.limits.timeout import Timeout

__all__ = [
    "Bulkhead",
    "BulkheadSnapshot",
    "Deadline",
    "Granted",
    "LimiterStore",
    "MemoryLimiterStore",
    "Pace",
    "RateLimiter",
    "Reservation",
    "Timeout",
]
