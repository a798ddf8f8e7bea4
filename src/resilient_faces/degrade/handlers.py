"""Answers of a session service whose DynamoDB or Cognito is unavailable, under that document's names."""

from __future__ import annotations

import json
from typing import Final

from resilient_faces._core.options import Checks
from resilient_faces.degrade.services import Criticality, services

__all__ = ["handle_cognito_unavailable", "handle_dynamodb_unavailable"]

RETRY_AFTER: Final = 30  # seconds; the open time of that document's breaker


def _answer(status: int, members: dict[str, object]) -> dict[str, object]:
    headers = {"Content-Type": "application/json"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER)
    return {"statusCode": status, "headers": headers, "body": json.dumps(members)}


def handle_dynamodb_unavailable(error: BaseException | None = None) -> dict[str, object]:
    """503 Service Unavailable: DynamoDB is critical, there is no fallback. Marks the service as degraded.

    Args:
        error: What went wrong, for the register; nothing of it reaches the answer.

    Returns:
        An API Gateway proxy response: `statusCode`, `headers`, `body` (JSON text).
    """
    services.register("dynamodb", Criticality.critical)
    services.degrade("dynamodb", "unavailable" if error is None else error)
    return _answer(503, {"error": "SERVICE_UNAVAILABLE", "message": "Please try again later."})


def handle_cognito_unavailable(role: str, error: BaseException | None = None) -> dict[str, object]:
    """Speakers are refused, because nobody can tell who they are; listeners are let in anonymously.

    Args:
        role: `speaker` or `listener`.
        error: What went wrong, for the register; nothing of it reaches the answer.

    Returns:
        An API Gateway proxy response; the body of a 200 says `{"allowed": true, "anonymous": true}`.

    Raises:
        OptionError: The role is neither.
    """
    checks = Checks("handle_cognito_unavailable")
    checks.that(role in ("speaker", "listener"), "role", "'speaker' or 'listener'", role)
    checks.done()
    services.register("cognito", Criticality.important)
    services.degrade("cognito", "unavailable" if error is None else error)
    if role == "listener":
        return _answer(200, {"allowed": True, "anonymous": True})
    return _answer(
        503, {"allowed": False, "error": "AUTHENTICATION_UNAVAILABLE", "message": "Speakers cannot join right now."}
    )
