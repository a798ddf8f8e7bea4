"""Classification: what kind of fault an error is, and what follows from the kind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import email.utils
import errno
import http.client
import socket
import ssl
import time
import urllib.error
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import (
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    Executed,
    Fault,
    Kind,
    RetryableError,
    classify,
    classify_response,
    first_match,
)
from resilient_faces.faults import classify_stdlib, http_fault, matcher, related, rule

NO, YES, MAYBE = Executed.no, Executed.yes, Executed.unknown


class Group(Exception):  # what the backport's groups look like on 3.10
    def __init__(self, message: str, exceptions: list[BaseException]) -> None:
        super().__init__(message)
        self.exceptions = tuple(exceptions)

    def derive(self, exceptions: list[BaseException]) -> Group:
        return Group("derived", exceptions)


def lookalike(name: str, module: str, base: type[Exception] = Exception) -> type[Exception]:
    """A class as a client library would define it, without importing that library."""
    return type(name, (base,), {"__module__": module})


# -- the table of kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "retried", "failure", "fallback", "needs_idempotence"),
    [
        (Kind.throttled, True, False, True, False),
        (Kind.transient, True, True, True, False),
        (Kind.timeout, True, True, True, True),
        (Kind.unavailable, True, True, True, False),
        (Kind.integrity, True, True, True, True),
        (Kind.conflict, True, False, False, False),
        (Kind.unknown, False, True, True, False),
        (Kind.exists, False, False, False, False),
        (Kind.not_found, False, False, False, False),
        (Kind.condition, False, False, False, False),
        (Kind.auth, False, False, False, False),
        (Kind.invalid, False, False, False, False),
        (Kind.quota, False, False, False, False),
        (Kind.rejected, False, False, True, False),
        (Kind.cancelled, False, False, False, False),
    ],
)
def test_what_follows_from_a_kind(
    kind: Kind, retried: bool, failure: bool, fallback: bool, needs_idempotence: bool
) -> None:
    """The table of the design, row by row."""
    row = rule(kind)
    assert (row.retried, row.failure, row.fallback, row.needs_idempotence) == (
        retried,
        failure,
        fallback,
        needs_idempotence,
    )


def test_every_kind_has_a_rule() -> None:
    """No kind is left without consequences."""
    assert all(rule(kind) is not None for kind in Kind)


# -- the standard library ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "executed"),
    [
        (ConnectionRefusedError(), Kind.unavailable, NO),
        (ConnectionResetError(), Kind.transient, MAYBE),
        (BrokenPipeError(), Kind.transient, MAYBE),
        (ConnectionAbortedError(), Kind.transient, MAYBE),
        (http.client.RemoteDisconnected(), Kind.transient, MAYBE),
        (http.client.IncompleteRead(b""), Kind.integrity, MAYBE),
        (http.client.InvalidURL(), Kind.invalid, NO),
        (http.client.CannotSendRequest(), Kind.integrity, MAYBE),
        (EOFError(), Kind.integrity, MAYBE),
        (asyncio.IncompleteReadError(b"", 4), Kind.integrity, MAYBE),
        (socket.gaierror(), Kind.unavailable, NO),
        (socket.herror(), Kind.unavailable, NO),
        (TimeoutError(), Kind.timeout, MAYBE),
        (asyncio.TimeoutError(), Kind.timeout, MAYBE),
        (concurrent.futures.TimeoutError(), Kind.timeout, MAYBE),
        (ssl.SSLCertVerificationError(), Kind.invalid, NO),
        (ssl.SSLEOFError(), Kind.transient, MAYBE),
        (ssl.SSLZeroReturnError(), Kind.transient, MAYBE),
        (FileNotFoundError(), Kind.not_found, NO),
        (FileExistsError(), Kind.exists, NO),
        (PermissionError(), Kind.auth, NO),
        (IsADirectoryError(), Kind.invalid, NO),
        (BlockingIOError(), Kind.transient, NO),
        (InterruptedError(), Kind.transient, NO),
        (KeyboardInterrupt(), Kind.cancelled, MAYBE),
        (SystemExit(), Kind.cancelled, MAYBE),
        (GeneratorExit(), Kind.cancelled, MAYBE),
        (asyncio.CancelledError(), Kind.cancelled, MAYBE),
        (concurrent.futures.CancelledError(), Kind.cancelled, MAYBE),
        (ValueError(), Kind.unknown, MAYBE),
        (OSError("no number"), Kind.unknown, MAYBE),
        (urllib.error.URLError("no route"), Kind.unavailable, NO),
        (RetryableError(), Kind.transient, MAYBE),
        (CallTimeoutError("f", 1.0), Kind.timeout, MAYBE),
        (CircuitOpenError("db", 1.0), Kind.rejected, NO),
        (DeadlineExceededError("f"), Kind.rejected, NO),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else str(getattr(one, "name", one)),
)
def test_errors_of_the_standard_library_and_our_own(error: BaseException, kind: Kind, executed: Executed) -> None:
    """Each has one kind, whether it was carried out, and its class name for a code."""
    fault = classify(error)
    assert (fault.kind, fault.executed, fault.code) == (kind, executed, type(error).__name__)


@pytest.mark.parametrize(
    ("number", "kind", "executed"),
    [
        (errno.EHOSTUNREACH, Kind.unavailable, NO),
        (errno.ENETDOWN, Kind.unavailable, NO),
        (errno.ENETRESET, Kind.transient, MAYBE),
        (errno.EBUSY, Kind.conflict, NO),
        (errno.EMFILE, Kind.throttled, NO),
        (errno.ENOSPC, Kind.quota, NO),
        (errno.EROFS, Kind.auth, NO),
        (errno.EINVAL, Kind.invalid, NO),
    ],
)
def test_an_oserror_is_told_by_its_number(number: int, kind: Kind, executed: Executed) -> None:
    """Where the class says nothing, `errno` does, and gives the code its name."""
    assert classify(OSError(number, "said the kernel")) == Fault(kind, errno.errorcode[number], executed)


def test_an_oserror_with_an_unknown_number_is_unknown() -> None:
    """A number that nobody has classified is not guessed at."""
    assert classify(OSError(9999, "what")).kind is Kind.unknown


def test_a_trio_timeout_is_a_timeout() -> None:
    """trio has an error of its own for this."""
    trio = pytest.importorskip("trio")
    assert classify(trio.TooSlowError()).kind is Kind.timeout


def test_a_url_error_is_what_its_reason_is() -> None:
    """urllib wraps the error of the socket."""
    assert classify(urllib.error.URLError(ConnectionResetError())).kind is Kind.transient
    assert classify(urllib.error.URLError(ssl.SSLCertVerificationError())).kind is Kind.invalid


# -- HTTP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "executed"),
    [
        (301, Kind.invalid, NO),
        (400, Kind.invalid, NO),
        (401, Kind.auth, NO),
        (402, Kind.quota, NO),
        (403, Kind.auth, NO),
        (404, Kind.not_found, NO),
        (408, Kind.timeout, NO),
        (409, Kind.conflict, NO),
        (410, Kind.not_found, NO),
        (412, Kind.condition, NO),
        (422, Kind.invalid, NO),
        (425, Kind.transient, NO),
        (429, Kind.throttled, NO),
        (500, Kind.transient, MAYBE),
        (501, Kind.invalid, NO),
        (502, Kind.transient, MAYBE),
        (503, Kind.transient, MAYBE),
        (507, Kind.quota, NO),
        (599, Kind.transient, MAYBE),
    ],
)
def test_http_statuses(status: int, kind: Kind, executed: Executed) -> None:
    """A status says what went wrong and whether the request was carried out."""
    assert http_fault(status) == Fault(kind, f"http.{status}", executed)


@given(st.integers(100, 299))
def test_a_good_status_is_no_fault(status: int) -> None:
    """Below 300 all is well."""
    assert http_fault(status) is None


class Response:
    def __init__(self, status: int, headers: dict[str, str] | None = None, name: str = "status_code") -> None:
        setattr(self, name, status)
        self.headers = headers or {}


@pytest.mark.parametrize("name", ["status_code", "status", "code"])
def test_a_response_is_read_by_its_shape(name: str) -> None:
    """httpx and requests say status_code, aiohttp status, urllib code."""
    fault = classify_response(Response(503, {"Retry-After": "7"}, name))
    assert fault == Fault(Kind.transient, "http.503", MAYBE, 7.0)


def test_a_good_or_strange_response_is_no_fault() -> None:
    """What has no status is not judged."""
    assert classify_response(Response(200)) is None
    assert classify_response(object()) is None
    assert classify_response(None) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("soon", None), ("", None), ("inf", None), ("nan", None)],
)
def test_retry_after_in_seconds(header: str, seconds: float | None) -> None:
    """Only a finite number is a hint, and none is below zero."""
    fault = classify_response(Response(429, {"retry-after": header}))
    assert fault is not None
    assert fault.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    """RFC 9110 allows a date as well."""
    fault = classify_response(Response(429, {"Retry-After": email.utils.formatdate(time.time() + 90, usegmt=True)}))
    assert fault is not None
    assert fault.retry_after == pytest.approx(90, abs=5)


def test_an_http_error_of_urllib_is_told_by_its_status() -> None:
    """The error is the response."""
    headers = Message()
    headers["Retry-After"] = "3"
    with urllib.error.HTTPError("http://x", 429, "slow down", headers, None) as error:
        assert classify(error) == Fault(Kind.throttled, "http.429", NO, 3.0)


@pytest.mark.parametrize("module", ["httpx", "requests.exceptions"])
def test_an_error_with_a_response_is_told_by_its_status(module: str) -> None:
    """httpx.HTTPStatusError and requests.HTTPError carry the response."""
    error = lookalike("HTTPStatusError", module)("no")
    error.response = Response(404)  # type: ignore[attr-defined]
    assert classify(error).kind is Kind.not_found


@pytest.mark.parametrize(
    ("name", "module", "kind", "executed"),
    [
        ("ConnectTimeout", "httpx", Kind.unavailable, NO),
        ("PoolTimeout", "httpx", Kind.throttled, NO),
        ("ReadTimeout", "httpx", Kind.unknown, MAYBE),
        ("DecodingError", "httpx", Kind.integrity, MAYBE),
        ("ConnectTimeout", "requests.exceptions", Kind.unavailable, NO),
        ("ChunkedEncodingError", "requests.exceptions", Kind.integrity, MAYBE),
        ("ServerTimeoutError", "aiohttp.client_exceptions", Kind.timeout, MAYBE),
        ("ClientPayloadError", "aiohttp.client_exceptions", Kind.integrity, MAYBE),
    ],
)
def test_http_clients_are_known_by_name(name: str, module: str, kind: Kind, executed: Executed) -> None:
    """Nothing is imported to know them; a name that is not in the table is told by its bases only."""
    fault = classify(lookalike(name, module)("x"))
    assert (fault.kind, fault.executed) == (kind, executed)


def test_a_subclass_of_a_known_client_error_is_told_by_its_base() -> None:
    """The nearest class of the MRO with a row decides."""
    base = lookalike("TimeoutException", "httpx")
    assert classify(lookalike("ReadTimeout", "httpx", base)()).kind is Kind.timeout


def test_requests_over_urllib3_was_not_executed_if_no_connection_was_made() -> None:
    """`requests.ConnectionError` is told by the reason of urllib3's error inside."""
    reason = lookalike("NewConnectionError", "urllib3.exceptions")()
    inner = lookalike("MaxRetryError", "urllib3.exceptions")()
    inner.reason = reason  # type: ignore[attr-defined]
    fault = classify(lookalike("ConnectionError", "requests.exceptions")(inner))
    assert (fault.kind, fault.executed) == (Kind.unavailable, NO)


# -- chains, causes, groups ----------------------------------------------------------------------------------------


def test_the_first_classifier_that_knows_decides() -> None:
    """A chain is asked in order, then comes what `classify` knows, and unknown is the last word."""
    mine = Fault(Kind.conflict, "mine")
    theirs = Fault(Kind.auth, "theirs")
    chain = first_match(
        lambda error: mine if isinstance(error, KeyError) else None,
        lambda error: theirs if isinstance(error, LookupError) else None,
    )
    assert chain(KeyError()) is mine
    assert chain(IndexError()) is theirs
    assert chain(ConnectionResetError()).kind is Kind.transient
    assert chain(ValueError()).kind is Kind.unknown


def test_a_classifier_that_looks_at_the_instance_is_asked_each_time() -> None:
    """Two errors of one class can be different faults for a user's classifier."""
    chain = first_match(lambda error: Fault(Kind.quota, "q") if str(error) == "quota" else None)
    assert [chain(ValueError(text)).kind for text in ("quota", "other", "quota")] == [
        Kind.quota,
        Kind.unknown,
        Kind.quota,
    ]


def test_what_an_unknown_error_was_raised_from_speaks_for_it() -> None:
    """`raise MyError from ConnectionResetError()` is a connection reset."""
    error = ValueError("wrapped")
    error.__cause__ = RuntimeError("wrapped again")
    error.__cause__.__cause__ = ConnectionResetError()
    assert classify(error).kind is Kind.transient
    assert classify(ValueError()).kind is Kind.unknown  # the class itself is not remembered as transient


def test_a_known_error_speaks_for_itself_whatever_its_cause() -> None:
    """A rejection caused by a reset is a rejection."""
    error = CircuitOpenError("db", 1.0)
    error.__cause__ = ConnectionResetError()
    assert classify(error).kind is Kind.rejected


def test_an_error_that_merely_happened_meanwhile_says_nothing() -> None:
    """`__context__` alone is a matter of its own."""
    error = ValueError()
    error.__context__ = ConnectionResetError()
    assert classify(error).kind is Kind.unknown


def test_a_cycle_of_causes_ends() -> None:
    """Errors that are each other's cause are looked at once."""
    one, other = ValueError(), RuntimeError()
    one.__cause__, other.__cause__ = other, one
    assert classify(one).kind is Kind.unknown
    assert list(related(one)) == [one, other]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([ConnectionResetError(), ConnectionRefusedError()], Kind.unavailable),
        ([ConnectionResetError(), ValueError()], Kind.unknown),
        ([ConnectionResetError(), PermissionError()], Kind.auth),
        ([CircuitOpenError("db"), ConnectionResetError()], Kind.rejected),
        ([asyncio.CancelledError(), ConnectionResetError()], Kind.cancelled),
    ],
)
def test_the_worst_member_speaks_for_a_group(members: list[BaseException], kind: Kind) -> None:
    """A group is what its member that allows least is."""
    assert classify(Group("several", members)).kind is kind
    assert classify(Group("nested", [Group("inside", members)])).kind is kind


def test_a_group_was_executed_if_any_member_was() -> None:
    """What one member knows to be done is done; a `no` beside a `perhaps` is a perhaps."""
    done = first_match(lambda error: Fault(Kind.transient, "done", YES) if isinstance(error, KeyError) else None)
    assert done(Group("g", [ConnectionRefusedError(), KeyError()])).executed is YES
    assert classify(Group("g", [ConnectionRefusedError(), ConnectionResetError()])).executed is MAYBE
    assert classify(Group("g", [ConnectionRefusedError(), ConnectionRefusedError()])).executed is NO


def test_the_longest_hint_of_a_group_counts() -> None:
    """Nobody is asked before all of them allow it."""
    hints = first_match(
        lambda error: Fault(Kind.throttled, "t", NO, float(str(error))) if isinstance(error, LookupError) else None
    )
    assert hints(Group("g", [LookupError("3"), LookupError("9"), LookupError("1")])).retry_after == 9.0


def test_a_group_whose_member_is_its_own_cause_ends() -> None:
    """Cycles through groups end too."""
    member = ValueError()
    group = Group("g", [member])
    member.__cause__ = group
    assert classify(group).kind is Kind.unknown
    assert list(related(group)) == [group, member]


def test_classify_stdlib_is_silent_about_what_it_does_not_know() -> None:
    """As a member of a chain it leaves the rest to the next one."""
    assert classify_stdlib(ValueError()) is None
    fault = classify_stdlib(ConnectionResetError())
    assert fault is not None
    assert fault.kind is Kind.transient


def test_many_classes_made_on_the_fly_are_not_all_remembered() -> None:
    """Some clients make their error classes anew with each session."""
    fresh = first_match()
    for number in range(3000):
        fresh(type(f"E{number}", (Exception,), {})())
    assert len(fresh.known) <= 1024
    assert len(fresh._unknown) <= 1024


# -- `on=` ---------------------------------------------------------------------------------------------------------


def test_a_match_is_by_class_kind_or_predicate() -> None:
    """And by several of these, nested or not."""
    error = ConnectionResetError()
    fault = classify(error)
    assert matcher(OSError)(error, fault)
    assert not matcher(KeyError)(error, fault)
    assert matcher(Kind.transient)(error, fault)
    assert not matcher(Kind.throttled)(error, fault)
    assert matcher(lambda one: isinstance(one, ConnectionError))(error, fault)
    assert matcher([KeyError, [Kind.throttled, OSError]])(error, fault)
    assert not matcher([])(error, fault)


def test_a_match_looks_at_causes_and_members() -> None:
    """A wrapped error is still that error."""
    wrapped = ValueError()
    wrapped.__cause__ = KeyError("x")
    assert matcher(KeyError)(wrapped, classify(wrapped))
    assert matcher(lambda one: isinstance(one, KeyError))(wrapped, classify(wrapped))
    group = Group("g", [KeyError("x")])
    assert matcher(KeyError)(group, classify(group))
    assert not matcher(IndexError)(group, classify(group))


@pytest.mark.parametrize("wrong", ["KeyError", 5, int, [KeyError, "x"], b"x"])
def test_what_matches_nothing_is_refused(wrong: object) -> None:
    """A string or a class that is no exception is a mistake."""
    with pytest.raises(TypeError):
        matcher(wrong)  # type: ignore[arg-type]


def test_an_unknown_class_is_asked_for_its_cause_every_time() -> None:
    """What was met without a cause may come with one the next time."""

    class Odd(Exception):
        pass

    judge = first_match()
    assert judge(Odd()).kind is Kind.unknown
    caused = Odd()
    caused.__cause__ = ConnectionResetError()
    assert judge(caused).kind is Kind.transient
    assert Odd not in judge.known
