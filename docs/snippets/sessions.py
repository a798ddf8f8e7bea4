"""The page "The session-service presets"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:retry]
from resilient_faces import RetryableError, retry_with_backoff
from resilient_faces.testing import ManualRuntime, script

throttled = RetryableError("throttled")
query = script(throttled, throttled, "a session").function()  # stands for the table


@retry_with_backoff(max_retries=3, base_delay=1.0)
def query_dynamodb(session: str) -> str:
    return query(session)


with ManualRuntime().installed() as clock:  # its sleeps only move a clock
    assert query_dynamodb("s1") == "a session"
    assert clock.slept == [1.05, 2.1]  # 1 s, 2 s, 4 s, each plus up to 10 %: here 5 %
# --8<-- [end:retry]

# --8<-- [start:operation]
from resilient_faces import retry_operation

query = script(throttled, "a session").function()
assert retry_operation(query, "s1", max_retries=3, base_delay=1.0) == "a session"
# --8<-- [end:operation]

# --8<-- [start:breaker]
from contextlib import suppress

from resilient_faces import CircuitOpenError, circuit_breaker


@circuit_breaker(name="dynamodb", failure_threshold=5, timeout=30)
def query_database(key: str) -> str:
    raise TimeoutError("slow")


for _ in range(5):
    with suppress(TimeoutError):
        query_database("k1")
try:
    query_database("k1")
except CircuitOpenError as error:
    assert round(error.retry_after) == 30
# --8<-- [end:breaker]

# --8<-- [start:fallback]
from resilient_faces import with_fallback


@with_fallback(fallback_value=False)
def check_rate_limit(user_id: str) -> bool:
    raise KeyError("RateLimits")


assert check_rate_limit("u1") is False  # requests pass while the table is away
# --8<-- [end:fallback]

# --8<-- [start:handlers]
import json

from resilient_faces import handle_cognito_unavailable, handle_dynamodb_unavailable

answer = handle_dynamodb_unavailable(TimeoutError("slow"))
assert (answer["statusCode"], answer["headers"]["Retry-After"]) == (503, "30")

assert handle_cognito_unavailable("speaker")["statusCode"] == 503
listener = handle_cognito_unavailable("listener")
assert json.loads(listener["body"]) == {"allowed": True, "anonymous": True}
# --8<-- [end:handlers]

# --8<-- [start:manager]
from resilient_faces import GracefulDegradationManager

manager = GracefulDegradationManager()
assert manager.get_degraded_services() == ["cognito", "dynamodb"]  # the handlers marked them
assert manager.get_system_health()["status"] == "unhealthy"  # DynamoDB is critical

manager.mark_recovered("dynamodb")
manager.mark_recovered("cognito")
assert manager.get_system_health()["status"] == "healthy"
# --8<-- [end:manager]
manager.reset()
rest.close()
