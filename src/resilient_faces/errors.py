"""Exceptions that a caller may catch, with their facts as attributes."""

from __future__ import annotations

import math

__all__ = [
    "AbandonedThreadsError",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "DecorationError",
    "DuplicateNameError",
    "MissingExtraError",
    "OptionError",
    "RateLimitedError",
    "Rejected",
    "ResilienceError",
    "ResilienceWarning",
    "RetryableError",
    "UnknownOptionError",
]


class ResilienceError(Exception):
    """Base of every exception that this library raises on its own account."""


class ResilienceWarning(UserWarning):
    """Base of every warning that this library gives; the message starts with a stable rule id such as `RF001`."""


class RetryableError(Exception):
    """Raise this, or a subclass, to say that the same call may succeed if it is made again (kind `transient`)."""


class OptionError(ResilienceError, ValueError):
    """One or more options have a value that their policy does not take; the message lists all of them."""


class UnknownOptionError(OptionError, TypeError):
    """An option name that the policy does not have, most likely mistyped."""


class DecorationError(ResilienceError, TypeError):
    """The object cannot be guarded in this way; the message says what to do instead."""


class DuplicateNameError(OptionError):
    """A name that is taken by a circuit or limiter with other options; the message names both places."""


class MissingExtraError(ResilienceError, ImportError):
    """A part of the library was used whose optional dependencies are not installed.

    Attributes:
        extra: The extra to install, as in `pip install 'resilient-faces[aws]'`.
        missing: The module that could not be imported.
    """

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(extra, missing)
        self.extra = extra
        self.missing = missing

    def __str__(self) -> str:
        return f"{self.missing} is not installed. Install it with: pip install 'resilient-faces[{self.extra}]'"


class Rejected(ResilienceError):
    """One of our own policies said no: the guarded function was not called.

    Never retried by an outer retry and never counted by an outer breaker.
    The facts travel in `args`, so that raising costs no more than a plain exception and pickling works.
    """

    @property
    def name(self) -> str:
        """Name of the policy that said no."""
        return str(self.args[0])

    @property
    def retry_after(self) -> float | None:
        """Seconds after which asking again may help; None if nobody can tell."""
        seconds: float | None = self.args[1] if len(self.args) > 1 else None
        return None if seconds == math.inf else seconds

    def __str__(self) -> str:
        after = self.retry_after
        return f"{self._said()}" + ("" if after is None else f"; try again in {after:.3g} s")

    def _said(self) -> str:
        return f"{self.name} said no"


class CircuitOpenError(Rejected):
    """The circuit is open (or half-open with all its probes under way), so the dependency was left alone."""

    @property
    def last_failure(self) -> str | None:
        """Code of the fault that opened the circuit, for example `ConnectionResetError`; None if opened by hand."""
        code: str | None = self.args[2] if len(self.args) > 2 else None
        return code

    def _said(self) -> str:
        last = self.last_failure
        return f"circuit {self.name!r} is open" + ("" if last is None else f" (last failure: {last})")


class BulkheadFullError(Rejected):
    """All places of the bulkhead are taken, and the queue in front of it is full or the wait took too long."""

    def _said(self) -> str:
        return f"bulkhead {self.name!r} is full"


class RateLimitedError(Rejected):
    """The next free slot of the limiter is further away than the caller may wait."""

    def _said(self) -> str:
        return f"limiter {self.name!r} has no slot soon enough"


class DeadlineExceededError(Rejected, TimeoutError):
    """The deadline that covers this call has passed, before or while the function ran."""

    def _said(self) -> str:
        return f"the deadline of {self.name!r} has passed"


class AbandonedThreadsError(Rejected):
    """Too many worker threads are still stuck in calls that timed out; no further one is started."""

    def _said(self) -> str:
        return f"timeout {self.name!r} has too many abandoned threads"


class CallTimeoutError(ResilienceError, TimeoutError):
    """The call took longer than its own time limit; whether it was carried out is unknown.

    Attributes:
        name: Name of the guarded function.
        seconds: The limit, in seconds.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, seconds)
        self.name = name
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.name} took longer than {self.seconds:.3g} s"
