"""A server's clock, told from a local one by what answers say: each bounds how far the two are apart."""

from __future__ import annotations

import math
import threading
from typing import Final

from resilient_faces._core.runtime import on_fork

__all__ = ["ServerClock"]

DRIFT: Final = 5e-5  # seconds a second that two clocks may drift apart


class ServerClock:
    """The server's clock, from a local one and from the times in answers.

    An answer that says 12:00:07 was written at that time of the server's, and between the sending of the request and
    the coming of the answer. That bounds the offset of the local clock. Each answer can narrow the bounds, and one that
    was long on its way does no harm.

    Attributes:
        trip: Seconds from a request to its answer at best.
    """

    def __init__(self) -> None:
        self.after_fork()
        on_fork(self)
        self._low = -math.inf
        self._high = math.inf
        self._heard_at = 0.0
        self.trip = math.inf

    def after_fork(self) -> None:
        """The lock may have been held by a thread that the child does not have."""
        self._lock = threading.Lock()

    def hear(self, earliest: float, latest: float, sent: float, received: float) -> None:
        """Learn from one answer.

        Args:
            earliest: Server's time at which it was written, at the earliest.
            latest: At the latest.
            sent: Local time at which the request was sent.
            received: Local time at which the answer was there.
        """
        with self._lock:
            drift = abs(received - self._heard_at) * DRIFT
            low, high = earliest - received, latest - sent
            self._low = max(low, self._low - drift)
            self._high = min(high, self._high + drift)
            if self._low > self._high:  # a clock was set, the machine slept, another server answers: begin anew
                self._low, self._high = low, high
            self._heard_at = received
            self.trip = min(received - sent, self.trip * 1.1)  # a connection may become slower for good

    @property
    def width(self) -> float:
        """Seconds that the offset may have been off by when an answer came last; infinite if none has come."""
        with self._lock:
            return self._high - self._low

    def width_at(self, local: float) -> float:
        """Seconds that the offset may be off by at a local time, from one end to the other: clocks drift apart."""
        with self._lock:
            return self._high - self._low + 2.0 * abs(local - self._heard_at) * DRIFT

    @property
    def offset(self) -> float:
        """Seconds that the server's clock is ahead of the local one, as well as that is known."""
        with self._lock:
            return (self._low + self._high) / 2.0

    def at(self, local: float) -> float:
        """The server's time at a local one."""
        return local + self.offset

    def until_second(self, local: float) -> float:
        """Seconds until the server's next second begins, as well as that is known."""
        now = self.at(local)
        return math.floor(now) + 1.0 - now
