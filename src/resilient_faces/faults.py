"""Error classification: what kind of fault an exception is, and what follows from the kind.

One classification serves retry, breaker, fallback and telemetry. An error that nobody knows is `unknown`, and unknown
is never retried.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, TypeVar

from resilient_faces._light import dataclass, field
from resilient_faces.errors import CallTimeoutError, Rejected, RetryableError

__all__ = [
    "Classification",
    "Classifier",
    "Executed",
    "Fault",
    "Kind",
    "Match",
    "Matcher",
    "Rule",
    "classify",
    "classify_response",
    "classify_stdlib",
    "first_match",
    "http_fault",
    "matcher",
    "related",
    "rule",
]


K = TypeVar("K")


class Kind(str, Enum):
    """What an error means for those who decide whether to call again."""

    throttled = "throttled"
    transient = "transient"
    timeout = "timeout"
    unavailable = "unavailable"
    integrity = "integrity"
    conflict = "conflict"
    unknown = "unknown"
    exists = "exists"
    not_found = "not_found"
    condition = "condition"
    auth = "auth"
    invalid = "invalid"
    quota = "quota"
    rejected = "rejected"
    cancelled = "cancelled"


class Executed(str, Enum):
    """Whether the failed call was carried out by the other side."""

    no = "no"
    yes = "yes"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from a kind of fault.

    Attributes:
        retried: May be called again.
        needs_idempotence: Only if the call is idempotent or was not executed.
        failure: Counts as a failure for a breaker; otherwise it is neutral.
        fallback: A fallback may answer instead.
    """

    retried: bool
    failure: bool
    fallback: bool
    needs_idempotence: bool = False


_RULES: Final[Mapping[Kind, Rule]] = MappingProxyType(
    {
        Kind.throttled: Rule(retried=True, failure=False, fallback=True),
        Kind.transient: Rule(retried=True, failure=True, fallback=True),
        Kind.timeout: Rule(retried=True, failure=True, fallback=True, needs_idempotence=True),
        Kind.unavailable: Rule(retried=True, failure=True, fallback=True),
        Kind.integrity: Rule(retried=True, failure=True, fallback=True, needs_idempotence=True),
        Kind.conflict: Rule(retried=True, failure=False, fallback=False),
        Kind.unknown: Rule(retried=False, failure=True, fallback=True),
        Kind.exists: Rule(retried=False, failure=False, fallback=False),
        Kind.not_found: Rule(retried=False, failure=False, fallback=False),
        Kind.condition: Rule(retried=False, failure=False, fallback=False),
        Kind.auth: Rule(retried=False, failure=False, fallback=False),
        Kind.invalid: Rule(retried=False, failure=False, fallback=False),
        Kind.quota: Rule(retried=False, failure=False, fallback=False),
        Kind.rejected: Rule(retried=False, failure=False, fallback=True),
        Kind.cancelled: Rule(retried=False, failure=False, fallback=False),
    }
)


def rule(kind: Kind) -> Rule:
    """What follows from this kind of fault."""
    return _RULES[kind]


@dataclass(frozen=True, slots=True)
class Fault:
    """One classified error.

    Attributes:
        kind: Decides over retry, breaker and fallback.
        code: Stable name for people and dashboards, such as `ThrottlingException` or `camera.stalled`.
        executed: Whether the call was carried out; a retry of `unknown` needs an idempotent call.
        retry_after: Seconds that the other side asked to wait, if it did.
        rule: What follows from the kind; looked up once, because hashing an enum member is slow.
        simple: It is repeated after the usual delay with no further question.
        final: It is never repeated, whatever a policy's options say.
    """

    kind: Kind
    code: str
    executed: Executed = Executed.unknown
    retry_after: float | None = None
    rule: Rule = field(init=False, repr=False, compare=False)
    simple: bool = field(init=False, repr=False, compare=False)
    final: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rule = _RULES[self.kind]
        object.__setattr__(self, "rule", rule)
        usual = rule.retried and not rule.needs_idempotence and self.kind is not Kind.throttled
        object.__setattr__(self, "simple", usual and self.retry_after is None)
        object.__setattr__(self, "final", self.kind is Kind.rejected or self.kind is Kind.cancelled)


class Classifier(Protocol):
    """Says what an error means, or None if it does not know it; the next classifier of the chain is asked then."""

    def __call__(self, error: BaseException, /) -> Fault | None: ...


# -- the standard library, and HTTP clients without importing them -------------------------------------------------

_NO, _YES, _MAYBE = Executed.no, Executed.yes, Executed.unknown

# By qualified name, so that nothing has to be imported to know it. The first class of the MRO with a row decides.
_BY_NAME: Final[Mapping[str, tuple[Kind, Executed]]] = MappingProxyType(
    {
        # cancellation and the way out of the program
        "builtins.BaseException": (Kind.cancelled, _MAYBE),
        "builtins.Exception": (Kind.unknown, _MAYBE),
        "concurrent.futures._base.CancelledError": (Kind.cancelled, _MAYBE),
        # connections
        "builtins.ConnectionRefusedError": (Kind.unavailable, _NO),
        "builtins.ConnectionError": (Kind.transient, _MAYBE),
        "http.client.RemoteDisconnected": (Kind.transient, _MAYBE),
        "http.client.HTTPException": (Kind.integrity, _MAYBE),
        "http.client.InvalidURL": (Kind.invalid, _NO),
        "http.client.NotConnected": (Kind.unavailable, _NO),
        "builtins.EOFError": (Kind.integrity, _MAYBE),
        "asyncio.exceptions.IncompleteReadError": (Kind.integrity, _MAYBE),
        "socket.gaierror": (Kind.unavailable, _NO),
        "socket.herror": (Kind.unavailable, _NO),
        "urllib.error.URLError": (Kind.unavailable, _NO),
        # time
        "builtins.TimeoutError": (Kind.timeout, _MAYBE),
        "asyncio.exceptions.TimeoutError": (Kind.timeout, _MAYBE),
        "concurrent.futures._base.TimeoutError": (Kind.timeout, _MAYBE),
        "trio.TooSlowError": (Kind.timeout, _MAYBE),
        # TLS: a bad certificate stays bad, a broken handshake may not
        "ssl.SSLCertVerificationError": (Kind.invalid, _NO),
        "ssl.SSLZeroReturnError": (Kind.transient, _MAYBE),
        "ssl.SSLEOFError": (Kind.transient, _MAYBE),
        "ssl.SSLSyscallError": (Kind.transient, _MAYBE),
        "ssl.SSLWantReadError": (Kind.transient, _MAYBE),
        "ssl.SSLWantWriteError": (Kind.transient, _MAYBE),
        "ssl.SSLError": (Kind.invalid, _NO),
        # files and processes
        "builtins.FileNotFoundError": (Kind.not_found, _NO),
        "builtins.ProcessLookupError": (Kind.not_found, _NO),
        "builtins.ChildProcessError": (Kind.not_found, _NO),
        "builtins.FileExistsError": (Kind.exists, _NO),
        "builtins.PermissionError": (Kind.auth, _NO),
        "builtins.IsADirectoryError": (Kind.invalid, _NO),
        "builtins.NotADirectoryError": (Kind.invalid, _NO),
        "builtins.BlockingIOError": (Kind.transient, _NO),
        "builtins.InterruptedError": (Kind.transient, _NO),
        # httpx
        "httpx.ConnectTimeout": (Kind.unavailable, _NO),
        "httpx.PoolTimeout": (Kind.throttled, _NO),  # our own pool is exhausted: no evidence about the other side
        "httpx.TimeoutException": (Kind.timeout, _MAYBE),
        "httpx.ConnectError": (Kind.unavailable, _NO),
        "httpx.ProxyError": (Kind.unavailable, _NO),
        "httpx.UnsupportedProtocol": (Kind.invalid, _NO),
        "httpx.TransportError": (Kind.transient, _MAYBE),
        "httpx.DecodingError": (Kind.integrity, _MAYBE),
        "httpx.TooManyRedirects": (Kind.invalid, _MAYBE),
        "httpx.InvalidURL": (Kind.invalid, _NO),
        # requests
        "requests.exceptions.ConnectTimeout": (Kind.unavailable, _NO),
        "requests.exceptions.Timeout": (Kind.timeout, _MAYBE),
        "requests.exceptions.ProxyError": (Kind.unavailable, _NO),
        "requests.exceptions.SSLError": (Kind.invalid, _NO),
        "requests.exceptions.ConnectionError": (Kind.transient, _MAYBE),
        "requests.exceptions.ChunkedEncodingError": (Kind.integrity, _MAYBE),
        "requests.exceptions.ContentDecodingError": (Kind.integrity, _MAYBE),
        "requests.exceptions.RequestException": (Kind.invalid, _MAYBE),
        # aiohttp
        "aiohttp.client_exceptions.ConnectionTimeoutError": (Kind.unavailable, _NO),
        "aiohttp.client_exceptions.ServerTimeoutError": (Kind.timeout, _MAYBE),
        "aiohttp.client_exceptions.ClientConnectorCertificateError": (Kind.invalid, _NO),
        "aiohttp.client_exceptions.ClientConnectorError": (Kind.unavailable, _NO),
        "aiohttp.client_exceptions.ClientPayloadError": (Kind.integrity, _MAYBE),
        "aiohttp.client_exceptions.InvalidURL": (Kind.invalid, _NO),
        "aiohttp.client_exceptions.ClientConnectionError": (Kind.transient, _MAYBE),
    }
)

# An OSError without a class of its own is told by its number.
_BY_ERRNO: Final[Mapping[int, tuple[Kind, Executed]]] = MappingProxyType(
    {
        errno.EHOSTUNREACH: (Kind.unavailable, _NO),
        errno.EHOSTDOWN: (Kind.unavailable, _NO),
        errno.ENETUNREACH: (Kind.unavailable, _NO),
        errno.ENETDOWN: (Kind.unavailable, _NO),
        errno.EADDRNOTAVAIL: (Kind.unavailable, _NO),
        errno.ENETRESET: (Kind.transient, _MAYBE),
        errno.EIO: (Kind.transient, _MAYBE),
        errno.ESTALE: (Kind.transient, _MAYBE),
        errno.EBUSY: (Kind.conflict, _NO),
        errno.EMFILE: (Kind.throttled, _NO),  # our own process is short of something: no evidence about the other side
        errno.ENFILE: (Kind.throttled, _NO),
        errno.ENOBUFS: (Kind.throttled, _NO),
        errno.ENOMEM: (Kind.throttled, _NO),
        errno.ENOSPC: (Kind.quota, _NO),
        errno.EDQUOT: (Kind.quota, _NO),
        errno.EROFS: (Kind.auth, _NO),
        errno.ENOTEMPTY: (Kind.condition, _NO),
        errno.EINVAL: (Kind.invalid, _NO),
        errno.ENAMETOOLONG: (Kind.invalid, _NO),
    }
)

_BY_STATUS: Final[Mapping[int, tuple[Kind, Executed]]] = MappingProxyType(
    {
        401: (Kind.auth, _NO),
        402: (Kind.quota, _NO),
        403: (Kind.auth, _NO),
        404: (Kind.not_found, _NO),
        407: (Kind.auth, _NO),
        408: (Kind.timeout, _NO),  # the server gave up waiting for the request: it did not carry it out
        409: (Kind.conflict, _NO),
        410: (Kind.not_found, _NO),
        412: (Kind.condition, _NO),
        425: (Kind.transient, _NO),
        428: (Kind.condition, _NO),
        429: (Kind.throttled, _NO),
        501: (Kind.invalid, _NO),
        505: (Kind.invalid, _NO),
        507: (Kind.quota, _NO),
        511: (Kind.auth, _NO),
    }
)


def http_fault(status: int, retry_after: float | None = None) -> Fault | None:
    """What an HTTP status means; None for those below 300.

    Args:
        status: The status code of the answer.
        retry_after: Seconds from the answer's Retry-After header, see `classify_response`.
    """
    if status < 300:
        return None
    row = _BY_STATUS.get(status)
    if row is None:
        row = (Kind.transient, _MAYBE) if status >= 500 else (Kind.invalid, _NO)
    return Fault(row[0], f"http.{status}", row[1], retry_after)


def classify_response(response: object) -> Fault | None:
    """The fault that a response of httpx, requests, aiohttp or urllib stands for; None if it is a good answer.

    Meant for `on_result`: `@retry(on_result=classify_response)` repeats a 503 that came back as a value.
    """
    for name in ("status_code", "status", "code"):
        status = getattr(response, name, None)
        if isinstance(status, int):
            return http_fault(status, _retry_after(getattr(response, "headers", None)))
    return None


def _retry_after(headers: object) -> float | None:
    """Seconds in a Retry-After header (RFC 9110, section 10.2.3: seconds or a date); None if absent or unreadable."""
    get = getattr(headers, "get", None)
    if get is None:
        return None
    value = get("Retry-After") or get("retry-after")
    if not isinstance(value, str):
        return None
    try:
        seconds = float(value)
    except ValueError:
        import email.utils  # slow to import, seldom needed

        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _by_instance(error: BaseException) -> Fault | None:
    """Facts that only the instance has: the status of an HTTP error, the number of an OSError."""
    if _from_http(type(error)):
        response = getattr(error, "response", None)
        found = classify_response(error if response is None else response)
        if found is not None:
            return found
        if isinstance(getattr(error, "status", None), int) and response is None:
            return Fault(Kind.integrity, type(error).__name__)  # a good status, yet not an answer: ContentTypeError
        reason = getattr(error.args[0] if error.args else None, "reason", None)  # requests over urllib3
        if type(reason).__name__ in ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError"):
            return Fault(Kind.unavailable, type(error).__name__, Executed.no)
        if isinstance(getattr(error, "reason", None), OSError):  # urllib.error.URLError
            inner = error.reason  # type: ignore[attr-defined]
            return _by_instance(inner) or _by_type(type(inner))
        return None
    if isinstance(error, OSError) and error.errno is not None:
        row = _BY_ERRNO.get(error.errno)
        return None if row is None else Fault(row[0], errno.errorcode.get(error.errno, type(error).__name__), row[1])
    return None


def _by_type(cls: type[BaseException]) -> Fault:
    if issubclass(cls, Rejected):
        return Fault(Kind.rejected, cls.__name__, Executed.no)
    if issubclass(cls, RetryableError):
        return Fault(Kind.transient, cls.__name__)
    if issubclass(cls, CallTimeoutError):
        return Fault(Kind.timeout, cls.__name__)
    for base in cls.__mro__:
        row = _BY_NAME.get(f"{base.__module__}.{base.__qualname__}")
        if row is not None:
            return Fault(row[0], cls.__name__, row[1])
    return Fault(Kind.unknown, cls.__name__)


_INSTANCE_MODULES: Final = frozenset({"httpx", "requests", "aiohttp", "urllib"})


def _from_http(cls: type[BaseException]) -> bool:
    """Whether the class is one of an HTTP client's, or built on one."""
    return any(base.__module__.partition(".")[0] in _INSTANCE_MODULES for base in cls.__mro__)


def _told_by_instance(cls: type[BaseException]) -> bool:
    """Whether the same class can mean different faults: a status or, where the class says nothing, an errno."""
    return _from_http(cls) or (issubclass(cls, OSError) and _by_type(cls).kind is Kind.unknown)


def classify_stdlib(error: BaseException) -> Fault | None:
    """What the standard library's errors and those of httpx, requests and aiohttp mean; None if unknown."""
    fault = (_by_instance(error) if _told_by_instance(type(error)) else None) or _by_type(type(error))
    return None if fault.kind is Kind.unknown else fault


# -- chains, causes, groups ----------------------------------------------------------------------------------------

# Which fault speaks for a group of errors: the one that allows least.
_SEVERITY: Final = (
    Kind.throttled,
    Kind.conflict,
    Kind.transient,
    Kind.unavailable,
    Kind.timeout,
    Kind.integrity,
    Kind.rejected,
    Kind.unknown,
    Kind.not_found,
    Kind.exists,
    Kind.condition,
    Kind.quota,
    Kind.invalid,
    Kind.auth,
    Kind.cancelled,
)
_MAX_TYPES: Final = 1024  # classes remembered at most: some clients make theirs anew with each session


def _leaves(error: BaseException) -> tuple[BaseException, ...] | None:
    """The errors in an exception group; None for any other error. By shape, so that 3.10's backport counts too."""
    inside = getattr(error, "exceptions", None)
    if isinstance(inside, tuple) and inside and hasattr(error, "derive"):
        return inside
    return None


def related(error: BaseException) -> Iterator[BaseException]:
    """The error itself, what it was raised from, and what groups among these hold; each once, cycles or not.

    An error that merely happened while another was handled (`__context__` alone) is a matter of its own.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting.extend(_leaves(current) or ())
        if current.__cause__ is not None:
            waiting.append(current.__cause__)


class Classification:
    """Classifiers in order of preference, made total: every error gets a fault, and unknown is the last word.

    Attributes:
        known: Faults of the classes that were met and always mean the same, for those who classify on a busy path:
            `known.get(type(error)) or classification(error)`. Unknown ones are not in it, as a cause may explain them.
    """

    __slots__ = ("_by_number", "_classifiers", "_unknown", "known")

    def __init__(self, *classifiers: Classifier) -> None:
        self._classifiers = classifiers
        self.known: dict[type[BaseException], Fault] = {}
        self._unknown: dict[type[BaseException], Fault] = {}
        self._by_number: dict[tuple[type[BaseException], int | None], Fault] = {}

    def __call__(self, error: BaseException) -> Fault:
        cls = type(error)
        fault = self.known.get(cls)
        if fault is None and error.__cause__ is None:
            fault = self._unknown.get(cls)
            if fault is None and isinstance(error, OSError):
                fault = self._by_number.get((cls, error.errno))
        return self._look(error) if fault is None else fault

    def _look(self, error: BaseException) -> Fault:
        try:
            fault = self._own(error)
            if fault.kind is not Kind.unknown:
                return fault
            return self._inherited(error) or fault
        except RecursionError:
            return Fault(Kind.unknown, type(error).__name__)

    def _inherited(self, error: BaseException) -> Fault | None:
        """The fault of what an unknown error stands for: the most severe leaf of a group, else its nearest cause."""
        seen = {id(error)}
        current: BaseException | None = error
        while current is not None:
            found = self._group(current, seen) or self._own(current)
            if found.kind is not Kind.unknown or _leaves(current) is not None:
                return found
            current = current.__cause__
            if current is not None:
                if id(current) in seen:
                    return None
                seen.add(id(current))
        return None

    def _group(self, error: BaseException, seen: set[int]) -> Fault | None:
        leaves = _leaves(error)
        if leaves is None:
            return None
        faults: list[Fault] = []
        for leaf in leaves:
            fault = self._own(leaf)
            if fault.kind is Kind.unknown and id(leaf) not in seen:
                seen.add(id(leaf))
                fault = self._inherited(leaf) or fault
            faults.append(fault)
        worst = max(faults, key=lambda fault: _SEVERITY.index(fault.kind))
        executed = _YES if any(f.executed is _YES for f in faults) else worst.executed
        if executed is _NO and any(f.executed is _MAYBE for f in faults):
            executed = _MAYBE
        hints = [f.retry_after for f in faults if f.retry_after is not None]
        return Fault(worst.kind, worst.code, executed, max(hints) if hints else None)

    def _own(self, error: BaseException) -> Fault:
        """What this very error means, causes aside."""
        for classifier in self._classifiers:
            found = classifier(error)
            if found is not None:
                return found
        cls = type(error)
        if _leaves(error) is not None:
            return Fault(Kind.unknown, cls.__name__)
        by_instance = _told_by_instance(cls)
        fault = (_by_instance(error) if by_instance else None) or _by_type(cls)
        if self._classifiers or _from_http(cls):
            return fault  # someone else's classifier, or we, may find another instance of the class to mean otherwise
        if by_instance and isinstance(error, OSError):
            _remember(self._by_number, (cls, error.errno), fault)
        else:
            _remember(self.known if fault.kind is not Kind.unknown else self._unknown, cls, fault)
        return fault


def _remember(faults: dict[K, Fault], key: K, fault: Fault) -> None:
    if len(faults) >= _MAX_TYPES:
        faults.clear()
    faults[key] = fault


classify: Final = Classification()
"""The classification that policies use unless told otherwise: standard library, httpx, requests, aiohttp."""


def first_match(*classifiers: Classifier) -> Classification:
    """A classification that asks these classifiers in order and then knows what `classify` knows."""
    return Classification(*classifiers)


# -- choosing errors by hand ---------------------------------------------------------------------------------------

Match: TypeAlias = "type[BaseException] | Kind | Callable[[BaseException], object] | Iterable[Match]"
"""What an `on=` option takes: exception classes, kinds of fault, predicates, or several of these."""


Matcher: TypeAlias = Callable[["BaseException | None", Fault], bool]
"""A test of an error and its fault; the error is None for a returned value that stands for a fault."""


def matcher(choice: Match) -> Matcher:
    """A test for what an `on=` option names. Classes and predicates are tried on causes and group members too."""
    classes: list[type[BaseException]] = []
    kinds: set[Kind] = set()
    predicates: list[Callable[[BaseException], object]] = []

    def sort(one: Match) -> None:
        if isinstance(one, Kind):
            kinds.add(one)
        elif isinstance(one, type):
            if not issubclass(one, BaseException):
                raise TypeError(f"{one.__name__} is no exception class")
            classes.append(one)
        elif callable(one):
            predicates.append(one)
        elif isinstance(one, Iterable) and not isinstance(one, (str, bytes, Iterator)):
            for member in one:
                sort(member)
        else:
            raise TypeError(f"{one!r} is neither an exception class, a Kind nor a callable")

    sort(choice)
    wanted = tuple(classes)

    def matches(error: BaseException | None, fault: Fault) -> bool:
        if isinstance(error, wanted) or fault.kind in kinds:
            return True
        if error is None:
            return False
        if not predicates and error.__cause__ is None and _leaves(error) is None:
            return False
        return any(isinstance(one, wanted) or any(p(one) for p in predicates) for one in related(error))

    return matches
