"""Resilience for Python: retry, circuit breaker, graceful degradation and limits, as composable decorators.

```python
from resilient_faces import circuit_breaker, fallback, guard, retry

@fallback(value=None)
@retry(attempts=4)
@circuit_breaker("db")
def load(user_id: int) -> str: ...
```
"""

from collections.abc import Callable as _Callable

from resilient_faces import telemetry as _telemetry  # sets the default listener
from resilient_faces._core.context import (
    LastOutcome,
    Report,
    current_attempt,
    last_outcome,
    remaining,
    report,
    request,
)
from resilient_faces._core.runtime import RUNTIME as _RUNTIME
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
from resilient_faces.limits import Bulkhead, Deadline, RateLimiter, Timeout
from resilient_faces.retry import Retrier, Retry, retries_off, retry_operation, retry_with_backoff


# The decorators go by their policies' names in lower case. `retry` is bound after the package `retry` was imported, so
# that the name means the decorator here and the package in `from resilient_faces.retry import exponential`.
retry = Retry
fallback = Fallback
last_good = LastGood
deadline = Deadline
timeout = Timeout
bulkhead = Bulkhead
rate_limit = RateLimiter


def listen(listener: Listener) -> _Callable[[], None]:
    """Have every event handed to `listener`, a function of one `Event`. Call the answer to end that.

    What a listener raises stays with it. It runs inside the call that tells, so it should be quick.
    """
    return _RUNTIME.listen(listener)


def shutdown() -> None:
    """Take part in a graceful shutdown: waits of retries and limiters end at once, and nothing is tried again.

    Each waiting call ends with the error that it was about to retry. Call it from a SIGTERM handler.
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
