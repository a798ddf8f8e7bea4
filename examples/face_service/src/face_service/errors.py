"""What the service says when it says no: codes, the form of an error, and how exceptions become answers.

Every error has its own HTTP status and the body `{"status": ..., "message": ..., "code": ...}`, but for a request that
does not fit its description: 422 and `{"detail": [...], "message": "Request validation failed"}`, where the detail
names places and rules, and nothing of what was sent.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

__all__ = ["ApiError", "Code", "InvalidRequestError", "answer", "install", "log_failure", "template_of"]

_log: Final = logging.getLogger("face_service.errors")

INVALID: Final = "Request validation failed"
_LONGEST: Final = 64  # characters of a name that somebody else chose


class Code(str, Enum):
    """Codes of errors. The first twelve are the document's, the rest say what it has no word for."""

    photo_file_required = "PHOTO_FILE_REQUIRED"  # there is no part `photo`, or it is no file
    invalid_file_format = "INVALID_FILE_FORMAT"  # its content is no whole JPEG or PNG
    photo_file_not_found = "PHOTO_FILE_NOT_FOUND"  # the part names a file and has no bytes
    no_face_in_photo = "NO_FACE_IN_PHOTO"
    multiple_faces_detected = "MULTIPLE_FACES_DETECTED"
    low_quality_face = "LOW_QUALITY_FACE"
    image_processing_failed = "IMAGE_PROCESSING_FAILED"
    session_already_exists = "SESSION_ALREADY_EXISTS"
    all_cameras_failed = "ALL_CAMERAS_FAILED"
    session_not_found = "SESSION_NOT_FOUND"
    stop_session_failed = "STOP_SESSION_FAILED"
    internal_error = "INTERNAL_ERROR"

    bad_request = "BAD_REQUEST"
    unauthorized = "UNAUTHORIZED"
    not_found = "NOT_FOUND"
    person_not_found = "PERSON_NOT_FOUND"
    method_not_allowed = "METHOD_NOT_ALLOWED"
    request_timeout = "REQUEST_TIMEOUT"
    photo_too_large = "PHOTO_TOO_LARGE"
    request_too_large = "REQUEST_TOO_LARGE"
    unsupported_media_type = "UNSUPPORTED_MEDIA_TYPE"
    validation_failed = "VALIDATION_FAILED"  # in the log alone
    not_implemented = "NOT_IMPLEMENTED"
    busy = "SERVICE_BUSY"
    model_not_available = "MODEL_NOT_AVAILABLE"
    gallery_unavailable = "GALLERY_UNAVAILABLE"


class ApiError(HTTPException):
    """Ends a request with an error of the service's form.

    Args:
        status: The HTTP status.
        code: What went wrong, for programs.
        message: The same for people, without anything that was sent.
        retry_after: Seconds after which asking again may help.
        reason: A dependency's own code, such as `insightface.pack_missing`.
    """

    def __init__(
        self, status: int, code: Code, message: str, *, retry_after: float | None = None, reason: str = ""
    ) -> None:
        headers = None if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
        super().__init__(status, detail=message, headers=headers)
        self.code = code
        self.reason = reason

    def response(self) -> JSONResponse:
        """The answer."""
        return answer(self.status_code, self.code, self.detail, reason=self.reason, headers=self.headers)


class InvalidRequestError(Exception):
    """A request fits its description and still cannot be: answered as one that does not fit.

    Args:
        place: Where, for example `("body", "callbackUrl")`.
        message: Which rule, without the value.
    """

    def __init__(self, place: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.place = tuple(place)
        self.message = message


def answer(
    status: int, code: Code, message: str, *, reason: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error in the service's form."""
    body: dict[str, Any] = {"status": status, "message": message, "code": code.value}
    if reason:
        body["reason"] = reason
    return JSONResponse(body, status, headers=None if headers is None else dict(headers))


_BY_STATUS: Final[Mapping[int, tuple[Code, str]]] = {
    400: (Code.bad_request, "The request cannot be read"),
    404: (Code.not_found, "There is nothing at this address"),
    405: (Code.method_not_allowed, "This address does not take this method"),
    413: (Code.request_too_large, "The request is too large"),
    415: (Code.unsupported_media_type, "The request's content type is not supported"),
}


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have the application, which has these routes, answer errors in the service's form."""

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error, ApiError):
            note(request, error.code)
            return error.response()
        # Raised by the framework, whose words are not ours and may repeat what was sent.
        code, message = _BY_STATUS.get(error.status_code, (Code.bad_request, "The request cannot be answered"))
        note(request, code)
        headers = {"Allow": _methods(request, routes)} if error.status_code == 405 else error.headers
        return answer(error.status_code, code, message, headers=headers)

    async def does_not_fit(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        details = [_detail(one) for one in error.errors()]
        places = {tuple(one["loc"]) for one in details}
        if places == {("body", "photo")}:
            note(request, Code.photo_file_required)
            return answer(400, Code.photo_file_required, "The form needs a file in its part `photo`")
        return _invalid(request, details)

    async def cannot_be(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InvalidRequestError)
        return _invalid(request, [{"type": "value_error", "loc": list(error.place), "msg": error.message}])

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, does_not_fit)
    app.add_exception_handler(InvalidRequestError, cannot_be)


def note(request: Request, code: Code) -> None:
    """Keep the code for the request's line in the log."""
    request.scope["face_service.code"] = code.value


def _methods(request: Request, routes: Sequence[BaseRoute]) -> str:
    """What the address takes, of all its routes: the framework names the first one's alone."""
    fitting = [one for one in routes if isinstance(one, Route) and one.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for one in fitting for method in one.methods or ()}))


def _invalid(request: Request, details: list[dict[str, Any]]) -> JSONResponse:
    note(request, Code.validation_failed)
    _log.error(
        "REQUEST VALIDATION ERROR | method=%s url=%s errors=%s",
        request.method,
        url_of(request.scope),
        [{"type": one["type"], "loc": _place(one)} for one in details],
    )
    return JSONResponse({"detail": details, "message": INVALID}, 422)


def _detail(error: Mapping[str, Any]) -> dict[str, Any]:
    """Rule and place of one error: neither the input nor values of its context."""
    place = [part if isinstance(part, int) else str(part)[:_LONGEST] for part in error["loc"]]
    return {"type": str(error["type"]), "loc": place, "msg": str(error["msg"])}


def _place(detail: Mapping[str, Any]) -> str:
    """Where, for the log: the name of a member that nobody expected is the sender's word, and stays out."""
    parts = [str(part) for part in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        parts[-1] = "?"
    return ".".join(part if re.fullmatch(r"\w+|\?", part, re.ASCII) else "?" for part in parts)


def template_of(scope: Mapping[str, Any]) -> str:
    """The path as the route has it, without what was put in: paths hold people's ids. Empty if no route was found."""
    found = getattr(scope.get("route"), "path", "")
    return str(found)


def url_of(scope: Mapping[str, Any]) -> str:
    """The URL, redacted: the route's path, and of a query that it is there."""
    return template_of(scope) + ("?..." if scope.get("query_string") else "")


def log_failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Write an error to the log: where and of which class. Its text may hold anything, and stays out."""
    log.error("%s: %s\n%s", what, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
