"""The page "The session-service presets"; the tests run this file."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress

from resilient_faces import RetryableError
from resilient_faces.testing import ManualRuntime, script

rest = ExitStack()
clock = rest.enter_context(ManualRuntime().installed())
query = script(RetryableError("throttled"), RetryableError("throttled"), "a session").function()

# --8<-- [start:retry]
from resilient_faces import retry_operation, retry_with_backoff


@retry_with_backoff(max_retries=3, base_delay=1.0)
def query_dynamodb(session: str) -> str:
    return query(session)


assert query_dynamodb("s1") == "a session"
assert clock.slept == [1.05, 2.1]  # 1 s, 2 s, 4 s, each plus up to 10 %: here 5 %
# --8<-- [end:retry]

query = script(RetryableError("throttled"), "a session").function()
# --8<-- [start:operation]
assert retry_operation(query, "s1", max_retries=3, base_delay=1.0) == "a session"
# --8<-- [end:operation]

down = script(*[TimeoutError("slow")] * 5, "a row").function()
# --8<-- [start:breaker]
from resilient_faces import CircuitOpenError, circuit_breaker


@circuit_breaker(name="dynamodb", failure_threshold=5, timeout=30)
def query_database(key: str) -> str:
    return down(key)


for _ in range(5):
    with suppress(TimeoutError):
        query_database("k1")
try:
    query_database("k1")
except CircuitOpenError as error:
    assert round(error.retry_after) == 30
# --8<-- [end:breaker]

check = script(KeyError("RateLimits")).function()
# --8<-- [start:fallback]
from resilient_faces import with_fallback


@with_fallback(fallback_value=False)
def check_rate_limit(user_id: str) -> bool:
    return check(user_id)


assert check_rate_limit("u1") is False  # requests pass while the table is away
# --8<-- [end:fallback]

# --8<-- [start:handlers]
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
