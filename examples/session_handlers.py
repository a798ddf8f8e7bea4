"""The session service's three handlers: retry for connect and disconnect, a breaker for the heartbeat's health check.

    python examples/session_handlers.py

shows them with scripted failures on a manual clock: it takes no time, needs no account, and ends with exit code 0 if
every answer is the one that is expected.

- `connect` and `disconnect` repeat what may pass (1, 2, 4 s) and answer 503 when DynamoDB stays away.
- `heartbeat` asks a health check through a circuit breaker, so that a service that is down is left alone.
- Rate limiting is optional: while its table is unavailable requests are allowed, and a warning is logged.
- Cognito is important: while it is unavailable listeners come in anonymously, and speakers are refused.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from resilient_faces import (
    CircuitOpenError,
    GracefulDegradationManager,
    RetryableError,
    circuit_breaker,
    handle_cognito_unavailable,
    handle_dynamodb_unavailable,
    retry_with_backoff,
    with_fallback,
)

log = logging.getLogger("session_service")

Event: TypeAlias = Mapping[str, str]  # what API Gateway hands over, as far as it is read here
Response: TypeAlias = dict[str, object]


class CognitoUnavailable(Exception):
    """Nobody can say who the caller is."""


class Backend(Protocol):
    """The services behind the handlers. They raise RetryableError for what may pass."""

    def put_session(self, session: str, user: str) -> None: ...
    def delete_session(self, session: str) -> None: ...
    def touch_session(self, session: str) -> None: ...
    def identify(self, token: str) -> str:
        """Name of the user.

        Raises:
            CognitoUnavailable: It cannot be asked.
        """

    def is_over_limit(self, user: str) -> bool: ...


def answer(status: int, **members: object) -> Response:
    """An API Gateway proxy response."""
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(members)}


class SessionHandlers:
    """The handlers around one backend."""

    def __init__(self, backend: Backend) -> None:
        self.degradation = GracefulDegradationManager()
        self.degradation.register_service("dynamodb", "critical")
        self.degradation.register_service("cognito", "important")
        self.degradation.register_service("rate-limits", "optional")
        self._identify = backend.identify

        retried = retry_with_backoff(max_retries=3, base_delay=1.0)
        self._put = retried(backend.put_session)
        self._delete = retried(backend.delete_session)
        # The health check is asked once a heartbeat. It is not retried: the next heartbeat is its retry.
        self._touch = circuit_breaker(name="session-table", failure_threshold=5, timeout=30)(backend.touch_session)

        # False means "is not over the limit": without its table the request is allowed.
        @with_fallback(fallback_function=self._limits_are_off)
        def is_limited(user: str) -> bool:
            over = backend.is_over_limit(user)
            self.degradation.mark_recovered("rate-limits")
            return over

        self._is_limited = is_limited

    def _limits_are_off(self, user: str) -> bool:
        self.degradation.mark_degraded("rate-limits", "table unavailable")
        log.warning("rate limiting is off while its table is unavailable; the request is allowed")
        return False

    def connect(self, event: Event) -> Response:
        """Open a session for a speaker or a listener."""
        try:
            user = self._identify(event.get("token", ""))
            self.degradation.mark_recovered("cognito")
        except CognitoUnavailable as error:
            let_in = handle_cognito_unavailable(event["role"], error)
            if let_in["statusCode"] != 200:
                return let_in
            user = "anonymous"
        if self._is_limited(user):
            return answer(429, error="RATE_LIMITED")
        try:
            self._put(event["session"], user)
        except RetryableError as error:
            return handle_dynamodb_unavailable(error)
        self.degradation.mark_recovered("dynamodb")
        return answer(200, session=event["session"], anonymous=user == "anonymous")

    def disconnect(self, event: Event) -> Response:
        """Clean up after a session."""
        try:
            self._delete(event["session"])
        except RetryableError as error:
            return handle_dynamodb_unavailable(error)
        self.degradation.mark_recovered("dynamodb")
        return answer(200)

    def heartbeat(self, event: Event) -> Response:
        """Keep a session alive, and say how the service stands."""
        try:
            self._touch(event["session"])
        except CircuitOpenError as error:  # the table was not asked
            response = handle_dynamodb_unavailable(error)
            headers = response["headers"]
            assert isinstance(headers, dict)
            headers["Retry-After"] = str(max(1, round(error.retry_after or 1.0)))
            return response
        except RetryableError as error:
            return handle_dynamodb_unavailable(error)
        self.degradation.mark_recovered("dynamodb")
        return answer(200, health=self.degradation.get_system_health()["status"])


# -- the show ------------------------------------------------------------------------------------------------------


class ScriptedBackend:
    """Each service does what its script says, call by call, and works again when the script is over."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[object]] = {}
        self.calls: list[str] = []

    def _next(self, service: str, otherwise: object) -> object:
        self.calls.append(service)
        script = self.scripts.get(service, [])
        what = script.pop(0) if script else otherwise
        if isinstance(what, Exception):
            raise what
        return what

    def put_session(self, session: str, user: str) -> None:
        self._next("put", None)

    def delete_session(self, session: str) -> None:
        self._next("delete", None)

    def touch_session(self, session: str) -> None:
        self._next("touch", None)

    def identify(self, token: str) -> str:
        return str(self._next("identify", "ada"))

    def is_over_limit(self, user: str) -> bool:
        return bool(self._next("limit", False))


def show(say: Callable[[str], None] = print) -> list[str]:
    """Play all scenes; what is wrong with them, empty if nothing is."""
    from resilient_faces.testing import ManualRuntime, fresh

    wrong: list[str] = []
    with fresh(), ManualRuntime().installed() as clock:
        backend = ScriptedBackend()
        handlers = SessionHandlers(backend)
        speaker = {"role": "speaker", "session": "s-1", "token": "t"}
        listener = {"role": "listener", "session": "s-2"}

        def scene(
            title: str,
            handler: Callable[[Event], Response],
            event: Event,
            status: int,
            script: dict[str, list[object]] | None = None,
            calls: int = 1,
        ) -> Response:
            backend.scripts = script or {}
            backend.calls.clear()
            slept, response = len(clock.slept), {}
            for _ in range(calls):
                response = handler(event)
            waited = [round(seconds, 2) for seconds in clock.slept[slept:]]
            say(f"{title}")
            say(f"    {response['statusCode']} {response['body']}")
            say(f"    asked: {', '.join(backend.calls) or 'nobody'}; waited: {waited or 'nothing'}")
            if response["statusCode"] != status:
                wrong.append(f"{title}: {response['statusCode']} instead of {status}")
            return response

        def expect(what: str, got: object, wanted: object) -> None:
            if got != wanted:
                wrong.append(f"{what}: {got!r} instead of {wanted!r}")

        down = RetryableError("throttled")
        scene("connect, all well", handlers.connect, speaker, 200)
        scene("connect, DynamoDB throttles twice", handlers.connect, speaker, 200, {"put": [down, down]})
        expect("waits before the repeats", len(clock.slept), 2)
        scene("connect, DynamoDB stays away", handlers.connect, speaker, 503, {"put": [down] * 4})
        expect("attempts", backend.calls.count("put"), 4)
        scene("disconnect, DynamoDB throttles once", handlers.disconnect, speaker, 200, {"delete": [down]})
        expect("health after it came back", handlers.degradation.get_system_health()["status"], "healthy")

        gone = CognitoUnavailable()
        scene("connect as a speaker, Cognito is unavailable", handlers.connect, speaker, 503, {"identify": [gone]})
        expect("calls after the refusal", backend.calls, ["identify"])
        scene("connect as a listener, Cognito is unavailable", handlers.connect, listener, 200, {"identify": [gone]})

        scene("connect, the rate limit table is unavailable", handlers.connect, speaker, 200, {"limit": [OSError()]})
        expect("degraded services", handlers.degradation.get_degraded_services(), ["rate-limits"])
        scene("connect, over the limit", handlers.connect, speaker, 429, {"limit": [True]})

        scene("heartbeat, all well", handlers.heartbeat, speaker, 200)
        scene("heartbeat, the table fails five times", handlers.heartbeat, speaker, 503, {"touch": [down] * 5}, calls=5)
        scene("heartbeat, the circuit is open", handlers.heartbeat, speaker, 503, {"touch": [down]}, calls=10)
        expect("calls while it is open", backend.calls, [])
        clock.advance(30.0)
        scene("heartbeat, 30 s later: one probe, and it is well again", handlers.heartbeat, speaker, 200)
        expect("health at the end", handlers.degradation.get_system_health()["status"], "healthy")
    return wrong


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="    %(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    wrong = show()
    for one in wrong:
        print(f"WRONG {one}")
    print("as expected" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
