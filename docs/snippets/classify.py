"""The pages "Classify errors" and "Classification"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:ask]
from resilient_faces import Executed, Fault, Kind, classify

assert classify(ConnectionRefusedError()) == Fault(Kind.unavailable, "ConnectionRefusedError", Executed.no)
assert classify(TimeoutError()).kind is Kind.timeout
assert classify(OSError(28, "No space left on device")).kind is Kind.quota
assert classify(ValueError()).kind is Kind.unknown
# --8<-- [end:ask]

# --8<-- [start:raise]
from resilient_faces import RetryableError, retry
from resilient_faces.testing import script


class NotYet(RetryableError):
    """The row is not there yet."""


early = script(NotYet, "a row").function()
assert retry(attempts=2).call(early) == "a row"
# --8<-- [end:raise]


# --8<-- [start:own]
class CameraStalled(Exception):
    """No frame for a while."""


class Declined(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def camera(error: BaseException) -> Fault | None:
    if isinstance(error, CameraStalled):
        return Fault(Kind.timeout, "camera.stalled", Executed.no)
    return None  # not mine: the next classifier is asked


def payment(error: BaseException) -> Fault | None:
    if isinstance(error, Declined):
        return Fault(Kind.condition, f"declined.{error.reason}", Executed.yes)
    return None


# --8<-- [end:own]
# --8<-- [start:first_match]
from resilient_faces import circuit_breaker, first_match, guard

mine = first_match(camera, payment)  # asked in order; then what `classify` knows
assert mine(CameraStalled()).code == "camera.stalled"
assert mine(ConnectionResetError()).kind is Kind.transient

careful = guard(retry(attempts=3), circuit_breaker("payments", failures=None), classify=mine)
# --8<-- [end:first_match]
stalled = script(CameraStalled, "a frame").function()
assert careful.call(stalled) == "a frame"
declined = script(Declined("card"))
try:
    careful.call(declined.function())
except Declined:
    assert declined.count == 1

# --8<-- [start:causes]
from resilient_faces import Kind, classify


class StoreError(Exception):
    """What our own layer raises."""


try:
    try:
        raise ConnectionRefusedError("down")
    except OSError as error:
        raise StoreError("cannot load") from error
except StoreError as error:
    assert classify(error).kind is Kind.unavailable  # an unknown error stands for its cause

try:
    try:
        raise ConnectionRefusedError("down")
    except OSError:
        raise StoreError("bug in our handler")  # noqa: B904
except StoreError as error:
    assert classify(error).kind is Kind.unknown  # raised meanwhile, not from it
# --8<-- [end:causes]


class ExceptionGroup(Exception):
    """As the built-in of Python 3.11, so that this file runs on 3.10 too."""

    def __init__(self, message: str, exceptions: list[Exception]) -> None:
        super().__init__(message)
        self.exceptions = tuple(exceptions)

    def derive(self, exceptions: list[Exception]) -> ExceptionGroup:
        return ExceptionGroup(str(self), exceptions)


# --8<-- [start:groups]
both = ExceptionGroup("two of three failed", [ConnectionResetError(), TimeoutError()])
assert classify(both).kind is Kind.timeout  # the one that allows least speaks for all

mixed = ExceptionGroup("two of three failed", [ConnectionResetError(), PermissionError()])
assert classify(mixed).kind is Kind.auth
# --8<-- [end:groups]

# --8<-- [start:response]
from resilient_faces import classify_response


class Response:
    """As httpx, requests, aiohttp and urllib have it: a status and headers."""

    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        self.status_code, self.headers = status_code, headers


busy = classify_response(Response(503, {"Retry-After": "20"}))
assert busy == Fault(Kind.transient, "http.503", Executed.unknown, retry_after=20.0)
assert classify_response(Response(200, {})) is None
# --8<-- [end:response]

# --8<-- [start:one]
from resilient_faces import OptionError

try:
    guard(retry(classify=first_match(camera)), circuit_breaker("pay", classify=first_match(payment)))
except OptionError as error:
    assert "one classification for all policies" in str(error)
# --8<-- [end:one]
rest.close()
