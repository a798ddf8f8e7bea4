"""The page "Degraded services and health"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:shortest]
from resilient_faces import Criticality, services

services.register("database", Criticality.critical)
services.register("recogniser", Criticality.important)
services.register("rate limits", Criticality.optional)

services.degrade("recogniser", ConnectionRefusedError("down"))
assert services.is_degraded("recogniser")
assert services.health().status == "degraded"

services.degrade("database", "maintenance")
assert services.health().status == "unhealthy"
assert services.health().http_status == 503

services.recover("database")
services.recover("recogniser")
assert services.health().status == "healthy"
assert services.health_of("recogniser").recoveries == 1
# --8<-- [end:shortest]

# --8<-- [start:circuits]
from contextlib import suppress

from resilient_faces import circuit_breaker
from resilient_faces.testing import ManualRuntime, script

services.register("database", "critical", circuits=("db",))
db = circuit_breaker("db")
query = script(*[ConnectionRefusedError("down")] * 5, "a row").function()

with ManualRuntime().installed() as clock:  # a clock that is moved by hand
    for _ in range(5):
        with suppress(ConnectionRefusedError):
            db.call(query)
    assert services.health().status == "unhealthy"  # the circuit opened

    clock.advance(30.0)
    db.call(query)
    assert services.health().status == "healthy"  # its probe succeeded
# --8<-- [end:circuits]


# --8<-- [start:endpoint]
import json


def readiness() -> tuple[int, str]:
    health = services.health()
    return health.http_status, health.to_json()


status, body = readiness()
assert status == 200
assert json.loads(body)["services"]["database"]["status"] == "healthy"
# --8<-- [end:endpoint]

# --8<-- [start:optional]
from resilient_faces import fallback

ask_limits = script(ConnectionResetError, ConnectionResetError, "no").function()  # stands for a service


def let_pass(user: str) -> bool:
    services.degrade("rate limits", "unavailable")  # told once, however often it is said
    return False


@fallback(function=let_pass)
def is_limited(user: str) -> bool:
    limited = ask_limits(user) == "yes"
    services.recover("rate limits")  # no news while it is not degraded
    return limited


assert is_limited("u1") is False
assert services.degraded() == ("rate limits",)
# --8<-- [end:optional]
assert is_limited("u1") is False
assert is_limited("u1") is False
assert services.degraded() == ()
services.clear()
rest.close()
