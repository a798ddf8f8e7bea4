"""Resilience for Python: retry, circuit breaker, graceful degradation and limits, as composable decorators.

```python
from resilient_faces import circuit_breaker, fallback, guard, retry

@fallback(value=None)
@retry(attempts=4)
@circuit_breaker("db")
def load(user_id: int) -> str: ...
```
"""

import sys as _sys
import types as _types
import typing
from collections.abc import Callable as _Callable
from importlib import import_module as _import_module

from resilient_faces._core.runtime import RUNTIME as _RUNTIME
from resilient_faces.errors import (
    AbandonedThreadsError,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    DecorationError,
    DuplicateNameError,
    MissingExtraError,
    OptionError,
    RateLimitedError,
    Rejected,
    ResilienceError,
    ResilienceWarning,
    RetryableError,
    UnknownOptionError,
)
from resilient_faces.events import Event, Listener
from resilient_faces.faults import (
    Classification,
    Classifier,
    Executed,
    Fault,
    Kind,
    classify,
    classify_response,
    first_match,
)

if typing.TYPE_CHECKING:
    from resilient_faces._core.context import (
        LastOutcome,
        Report,
        current_attempt,
        last_outcome,
        remaining,
        report,
        request,
    )
    from resilient_faces.breaker import Breaker, Switch, circuit_breaker, circuits
    from resilient_faces.composing import Guard, guard
    from resilient_faces.degrade import (
        Answer,
        Chain,
        Criticality,
        Fallback,
        GracefulDegradationManager,
        Health,
        LastGood,
        chain,
        handle_cognito_unavailable,
        handle_dynamodb_unavailable,
        services,
        with_fallback,
    )
    from resilient_faces.limits import Bulkhead, Deadline, RateLimiter, Timeout
    from resilient_faces.retry import Retrier, Retry, retries_off, retry_operation, retry_with_backoff

    retry = Retry
    fallback = Fallback
    last_good = LastGood
    deadline = Deadline
    timeout = Timeout
    bulkhead = Bulkhead
    rate_limit = RateLimiter


# Words (errors, faults, events) are here at once. What comes with a module is imported when one of its names is first
# asked for: module, then name there. The decorators go by their policies' names in lower case.
_LATER = {
    **dict.fromkeys(("LastOutcome", "Report", "current_attempt", "last_outcome"), ("_core.context", None)),
    **dict.fromkeys(("remaining", "report", "request"), ("_core.context", None)),
    **dict.fromkeys(("Guard", "guard"), ("composing", None)),
    **dict.fromkeys(("Retrier", "Retry", "retries_off"), ("retry", None)),
    **dict.fromkeys(("Breaker", "Switch", "circuit_breaker", "circuits"), ("breaker", None)),
    **dict.fromkeys(("Answer", "Chain", "Criticality", "Fallback", "GracefulDegradationManager"), ("degrade", None)),
    **dict.fromkeys(("Health", "LastGood", "chain", "services", "with_fallback"), ("degrade", None)),
    **dict.fromkeys(("handle_cognito_unavailable", "handle_dynamodb_unavailable"), ("degrade", None)),
    **dict.fromkeys(("Bulkhead", "Deadline", "RateLimiter", "Timeout"), ("limits", None)),
    **dict.fromkeys(("retry_operation", "retry_with_backoff"), ("retry.preset", None)),
    "fallback": ("degrade", "Fallback"),
    "last_good": ("degrade", "LastGood"),
    "deadline": ("limits", "Deadline"),
    "timeout": ("limits", "Timeout"),
    "bulkhead": ("limits", "Bulkhead"),
    "rate_limit": ("limits", "RateLimiter"),
}


def __getattr__(name: str) -> object:
    """A public name of a package that nobody has needed so far."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    package, there = _LATER[name]
    found: object = getattr(_import_module(f"{__name__}.{package}"), there or name)
    globals()[name] = found
    return found


class _Package(_types.ModuleType):
    """This package. Its `retry` is the decorator; `from resilient_faces.retry import ...` means the package."""

    @property
    def retry(self) -> object:
        return self.Retry

    @retry.setter
    def retry(self, package: object) -> None:
        """The import system would put the package of that name here."""


_sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _log(event: Event) -> None:
    """The default listener, loaded when there is something to write; it takes this place then."""
    from resilient_faces.telemetry.logs import log_event

    log_event(event)


_RUNTIME.log = _log


def listen(listener: Listener) -> _Callable[[], None]:
    """Have every event handed to `listener`, a function of one `Event`. Call the answer to end that.

    What a listener raises stays with it. It runs inside the call that tells, so it should be quick.
    """
    return _RUNTIME.listen(listener)


def shutdown() -> None:
    """Take part in a graceful shutdown: waits of retries, limiters and bulkheads end, and nothing is tried again.

    A call that waits ends with the error that it was about to retry, or is refused if it was not begun. Call it from a
    SIGTERM handler.
    """
    _RUNTIME.stop()


__version__ = "0.1.0"

__all__ = [
    "AbandonedThreadsError",
    "Answer",
    "Breaker",
    "Bulkhead",
    "BulkheadFullError",
    "CallTimeoutError",
    "Chain",
    "CircuitOpenError",
    "Classification",
    "Classifier",
    "Criticality",
    "Deadline",
    "DeadlineExceededError",
    "DecorationError",
    "DuplicateNameError",
    "Event",
    "Executed",
    "Fallback",
    "Fault",
    "GracefulDegradationManager",
    "Guard",
    "Health",
    "Kind",
    "LastGood",
    "LastOutcome",
    "Listener",
    "MissingExtraError",
    "OptionError",
    "RateLimitedError",
    "RateLimiter",
    "Rejected",
    "Report",
    "ResilienceError",
    "ResilienceWarning",
    "Retrier",
    "Retry",
    "RetryableError",
    "Switch",
    "Timeout",
    "UnknownOptionError",
    "bulkhead",
    "chain",
    "circuit_breaker",
    "circuits",
    "classify",
    "classify_response",
    "current_attempt",
    "deadline",
    "fallback",
    "first_match",
    "guard",
    "handle_cognito_unavailable",
    "handle_dynamodb_unavailable",
    "last_good",
    "last_outcome",
    "listen",
    "rate_limit",
    "remaining",
    "report",
    "request",
    "retries_off",
    "retry",
    "retry_operation",
    "retry_with_backoff",
    "services",
    "shutdown",
    "timeout",
    "with_fallback",
]
