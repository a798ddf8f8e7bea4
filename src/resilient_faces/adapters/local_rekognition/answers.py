"""The words of the protocol: errors as the service gives them, and parameters read from a request with their rules."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

Answer: TypeAlias = "dict[str, Any]"

COLLECTION_ID: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
EXTERNAL_ID: Final = re.compile(r"[a-zA-Z0-9_.\-:]{1,255}")
FACE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
QUALITY_FILTERS: Final = frozenset({"NONE", "AUTO", "LOW", "MEDIUM", "HIGH"})
MOST_RESULTS: Final = 4096


class ServiceError(Exception):
    """An error answer as the service gives it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> ServiceError:
    """A parameter that breaks its rule. The message names parameter and rule, never the value."""
    return ServiceError("InvalidParameterException", f"Request has invalid parameters: {message}")


def no_face_to_search() -> ServiceError:
    """No face in an image that is searched by: told by this text, in the service as here."""
    return ServiceError("InvalidParameterException", "There are no faces in the image. Should be at least 1.")


def no_face_to_compare() -> ServiceError:
    """No face in source or target: the service gives no reason."""
    return ServiceError("InvalidParameterException", "Request has invalid parameters")


def no_collection(name: str) -> ServiceError:
    """The collection is not there."""
    return ServiceError("ResourceNotFoundException", f"Collection: {name} does not exist in this account")


def no_session() -> ServiceError:
    """The liveness session is not there, or no longer."""
    return ServiceError("SessionNotFoundException", "Session not found")


def text(request: Answer, name: str, pattern: re.Pattern[str], *, required: bool = True) -> str | None:
    """A text parameter that matches its pattern; None if it may be absent and is."""
    value = request.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise invalid(f"{name} must match {pattern.pattern}")
    return value


def collection_id(request: Answer) -> str:
    """CollectionId, which every operation on collections needs."""
    value = text(request, "CollectionId", COLLECTION_ID)
    assert value is not None
    return value


def whole(request: Answer, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number within its bounds."""
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(f"{name} must be a whole number from {low} to {high}")
    return value


def percent(request: Answer, name: str, default: float) -> float:
    """A number from 0 to 100."""
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 100:
        raise invalid(f"{name} must be a number from 0 to 100")
    return float(value)


def quality_filter(request: Answer, default: str) -> str:
    """How good a face must be."""
    value = request.get("QualityFilter")
    if value is None:
        return default
    if not isinstance(value, str) or value not in QUALITY_FILTERS:
        raise invalid("QualityFilter must be NONE, AUTO, LOW, MEDIUM or HIGH")
    return value


def face_ids(request: Answer, *, required: bool) -> list[str] | None:
    """A list of 1 to 4096 face ids."""
    value = request.get("FaceIds")
    if value is None and not required:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_RESULTS:
        raise invalid(f"FaceIds must be a list of 1 to {MOST_RESULTS} face ids")
    if not all(isinstance(one, str) and FACE_ID.fullmatch(one) for one in value):
        raise invalid(f"FaceIds must each match {FACE_ID.pattern}")
    return value
