"""Signed webhooks: POST to addresses that strangers gave, without being led into one's own network or held up.

`Webhook.send` signs, sends, repeats, and says in a `Delivery` how it went; it does not raise for a receiver's faults.
`Destinations` says where webhooks may go. `Verifier` is for receivers. `Patience` tells when a receiver must be
given up. Every attempt has a connection of its own, to an address that was judged after the name was resolved.
"""

from __future__ import annotations

import importlib
import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, logger_of, on_fork
from resilient_faces.adapters._webhook_network import (
    AsyncDialler,
    Budget,
    Content,
    DeliveryError,
    Destination,
    DestinationError,
    Destinations,
    Dialler,
    Resolve,
    fault_of,
    resolve,
)
from resilient_faces.adapters._webhook_signing import (
    DELIVERY_ID,
    Received,
    SignatureError,
    SigningKey,
    Verifier,
    checked_keys,
    signed,
)
from resilient_faces.breaker import Breaker
from resilient_faces.composing import Decorator, Guard
from resilient_faces.errors import DeadlineExceededError, MissingExtraError, OptionError
from resilient_faces.faults import Classification, Fault, Kind, classify_response, first_match
from resilient_faces.retry import Retry, exponential, none

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = [
    "SCHEDULE",
    "THREE_ATTEMPTS",
    "WEBHOOK",
    "Delivery",
    "DeliveryError",
    "Destination",
    "DestinationError",
    "Destinations",
    "Patience",
    "Received",
    "SignatureError",
    "SigningKey",
    "Verifier",
    "Webhook",
    "classify_webhook",
    "receiver_of",
]

_log: Final = logger_of("webhook")

_POLITE: Final = 1.0  # seconds for the body behind a good status, so that the receiver is not cut off in it

SCHEDULE: Final = Retry(attempts=4, backoff=exponential(1.0), jitter=none(), on=DeliveryError)
"""Three retries, after 1, 2 and 4 s, whatever the receiver answered unless it was 2xx."""

THREE_ATTEMPTS: Final = Retry(attempts=3, backoff=exponential(1.0), jitter=none(), on=DeliveryError)
"""Three attempts, with 1 and 2 s between them."""


def classify_webhook(error: BaseException) -> Fault | None:
    """What an error of this module means; None for others."""
    return error.fault if isinstance(error, (DeliveryError, DestinationError)) else None


WEBHOOK: Final[Classification] = first_match(classify_webhook)
"""The classification of webhooks: this module's errors first, then everything that `classify` knows."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the delivery of one webhook went; true if the receiver answered 2xx.

    Attributes:
        id: Its id, the same in every attempt.
        receiver: Host and port; empty if the URL could not be read.
        delivered: Whether the receiver answered 2xx.
        attempts: Requests that were begun.
        status: Status of the last answer; None if there was none.
        fault: What went wrong last; None if it was delivered.
        elapsed: Seconds that all of it took.
    """

    id: str
    receiver: str
    delivered: bool
    attempts: int
    status: int | None
    fault: Fault | None
    elapsed: float

    def __bool__(self) -> bool:
        return self.delivered

    @property
    def code(self) -> str:
        """Code of the fault, such as `http.503` or `webhook.timeout`; empty if it was delivered."""
        return "" if self.fault is None else self.fault.code

    @property
    def refused(self) -> bool:
        """Whether one of our own policies refused it, so that the receiver was never asked."""
        return self.attempts == 0 and self.fault is not None and self.fault.kind is Kind.rejected


@dataclass(slots=True, eq=False)
class _Sending:
    """One delivery under way."""

    id: str
    about: str
    body: bytes = field(repr=False)
    headers: dict[str, str]
    began: float
    destination: Destination | None = None
    attempts: int = 0
    status: int | None = None


def receiver_of(sending: _Sending) -> str:
    """The `key` of a circuit for each receiver: host and port."""
    return "" if sending.destination is None else sending.destination.receiver


@dataclass(frozen=True, slots=True)
class _Answer:
    """As much of an answer as `classify_response` looks at."""

    status: int
    headers: Mapping[str, str]


class Webhook:
    """Send signed webhooks. One object serves all receivers, threads and event loops; it holds no connection.

    A delivery succeeds with any status 2xx. Everything else is tried again: other statuses (redirects are not
    followed), time-outs, connections that fail. A destination that is refused is not. The body of a 2xx is read and
    dropped, up to `most_bytes` and for a second; what comes behind the status does not change the outcome.

    Args:
        keys: What to sign with; two during a rotation, while receivers change from one to the other.
        destinations: Where webhooks may go.
        retry: How failed attempts are repeated; `SCHEDULE` unless told otherwise, None for a single attempt.
        breaker: Makes a circuit for each receiver, such as the class `Breaker`; None for none, since a circuit also
            refuses deliveries that a receiver which just came back would have taken.
        timeout: Seconds for one attempt: name, connection, TLS, request and answer together.
        most_bytes: Bytes of an answer at most, headers included.
        tls: Which certificates are trusted; those of the system and of certifi if None.
        resolve: Gives the addresses of a name; the system's way if None.
        network: A pair of network backends of httpcore, sync and async, that connect to addresses; its own if None.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        MissingExtraError: The extra `webhook` is not installed.
    """

    def __init__(
        self,
        keys: SigningKey | Sequence[SigningKey],
        *,
        destinations: Destinations | None = None,
        retry: Retry | None = SCHEDULE,
        breaker: Callable[..., Decorator[Any]] | None = None,
        timeout: float = 10.0,
        most_bytes: int = 65_536,
        tls: SSLContext | None = None,
        resolve: Resolve = resolve,
        network: tuple[Any, Any] | None = None,
    ) -> None:
        checks = Checks("Webhook")
        self._keys = checked_keys(checks, keys)
        rules = Destinations() if destinations is None else destinations
        checks.that(isinstance(rules, Destinations), "destinations", "Destinations(...) or None", destinations)
        checks.that(retry is None or isinstance(retry, Retry), "retry", "a Retry(...) or None", retry)
        if breaker is not None:
            cure = "functools.partial(Breaker, recovery_timeout=10.0) gives options."
            good = callable(breaker) and not isinstance(breaker, Breaker)
            checks.that(good, "breaker", "a function that makes a circuit, such as the class", breaker, cure)
        checks.seconds("timeout", timeout)
        checks.whole("most_bytes", most_bytes, 1024)
        checks.function("resolve", resolve)
        checks.done()
        self.destinations: Final = rules
        self._timeout = timeout
        self._most_bytes = most_bytes
        self._resolve = resolve
        self._httpcore = _library("httpcore")
        self._tls = tls
        self._network = (self._httpcore.SyncBackend(), self._httpcore.AnyIOBackend()) if network is None else network
        policies: list[Any] = [] if retry is None else [retry]
        if breaker is not None:
            policies.append(breaker("webhook", key=receiver_of))
        guard: Guard[Any] = Guard(policies, WEBHOOK)

        def deliver(sending: _Sending) -> None:
            self._attempt(sending)

        async def adeliver(sending: _Sending) -> None:
            await self._aattempt(sending)

        for function in (deliver, adeliver):
            function.__name__ = function.__qualname__ = "webhook.deliver"  # what events call it
        self._deliver = guard(deliver) if policies else deliver
        self._adeliver = guard(adeliver) if policies else adeliver

    def send(self, url: str, body: Mapping[str, Any] | bytes, *, id: str | None = None, about: str = "") -> Delivery:
        """Deliver one webhook, in this thread.

        Args:
            url: The receiver's URL. It appears in no log, event or result; host and port do.
            body: A mapping, sent as JSON; or bytes, sent as they are.
            id: Id of the delivery, letters, digits, `-` and `_`: give the same to repeat it in another process. A new
                one if None.
            about: What it is about, such as `slot=7`, for the log lines of failures.

        Raises:
            OptionError: Body or id cannot be sent.
        """
        sending = self._begin(body, id, about)
        try:
            sending.destination = self.destinations.check(url)
            self._deliver(sending)
        except Exception as error:
            return self._ended(sending, error)
        return self._ended(sending, None)

    async def asend(
        self, url: str, body: Mapping[str, Any] | bytes, *, id: str | None = None, about: str = ""
    ) -> Delivery:
        """As `send`, without blocking the event loop; cancelling it closes the connection."""
        sending = self._begin(body, id, about)
        try:
            sending.destination = self.destinations.check(url)
            await self._adeliver(sending)
        except Exception as error:
            return self._ended(sending, error)
        return self._ended(sending, None)

    def _begin(self, body: Mapping[str, Any] | bytes, id: str | None, about: str) -> _Sending:
        checks = Checks("Webhook.send")
        if id is not None:
            good = isinstance(id, str) and DELIVERY_ID.fullmatch(id) is not None
            checks.that(good, "id", "1 to 128 letters, digits, - and _", id)
        checks.that(isinstance(body, (bytes, Mapping)), "body", "a mapping or bytes", type(body).__name__)
        good = isinstance(about, str) and about.isprintable()  # it goes into log lines, and a line break would make two
        checks.that(good, "about", "printable text", "one that is not")
        checks.done()
        headers = {"content-type": "application/octet-stream", "user-agent": "resilient-faces"}
        if isinstance(body, bytes):
            content = body
        else:
            headers["content-type"] = "application/json"
            try:
                text = json.dumps(dict(body), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                content = text.encode()
            except (TypeError, ValueError, RecursionError) as error:  # whose text may hold what is in the body
                raise OptionError(
                    f"Webhook.send.body must be what JSON can hold; {type(error).__name__} says that this is not."
                ) from None
        return _Sending(id or f"msg_{uuid.uuid4().hex}", about, content, headers, RUNTIME.monotonic())

    def _ended(self, sending: _Sending, error: Exception | None) -> Delivery:
        fault = None if error is None else WEBHOOK(error)
        receiver = receiver_of(sending)
        if fault is not None:
            _log.error(
                "WEBHOOK_FAILED | %sreceiver=%s id=%s attempts=%d error=%s",
                f"{sending.about} " if sending.about else "",
                receiver,
                sending.id,
                sending.attempts,
                fault.code,
            )
            if fault.kind is Kind.unknown:  # a mistake of ours, or of an injected resolver or network
                _log.error("WEBHOOK_ERROR | raised by %s", _place(error))
        return Delivery(
            sending.id,
            receiver,
            fault is None,
            sending.attempts,
            sending.status,
            fault,
            RUNTIME.monotonic() - sending.began,
        )

    # -- one attempt -----------------------------------------------------------------------------------------------

    def _attempt(self, sending: _Sending) -> None:
        budget, request = self._prepare(sending)
        failed: Exception | None = None
        connect = self._httpcore.HTTPConnection
        dialler = Dialler(self.destinations, self._resolve, self._network[0], budget)
        try:
            with (
                connect(request["url"].origin, ssl_context=self._tls, network_backend=dialler) as connection,
                connection.stream("POST", **request) as response,
            ):
                self._judge(sending, response)
                budget.hurry(_POLITE)
                for _ in response.iter_stream():
                    pass
        except Exception as error:
            failed = self._failure(sending, error)
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # else: error -> traceback -> this frame -> error

    async def _aattempt(self, sending: _Sending) -> None:
        budget, request = self._prepare(sending)
        failed: Exception | None = None
        request["content"] = Content(sending.body)
        connect = self._httpcore.AsyncHTTPConnection
        dialler = AsyncDialler(self.destinations, self._resolve, self._network[1], budget)
        try:
            async with (
                connect(request["url"].origin, ssl_context=self._tls, network_backend=dialler) as connection,
                connection.stream("POST", **request) as response,
            ):
                self._judge(sending, response)
                budget.hurry(_POLITE)
                async for _ in response.aiter_stream():
                    pass
        except Exception as error:
            failed = self._failure(sending, error)
        if failed is not None:
            try:
                raise failed
            finally:
                del failed

    def _prepare(self, sending: _Sending) -> tuple[Budget, dict[str, Any]]:
        """The attempt's budget, and its request, signed with the time of this attempt."""
        seconds = self._timeout
        end = DEADLINE.get()
        if end is not None:
            seconds = min(seconds, end - RUNTIME.monotonic())
            if seconds <= 0.0:
                raise DeadlineExceededError("webhook.deliver", None)
        sending.attempts += 1
        sending.status = None
        where = sending.destination
        assert where is not None
        host = f"[{where.host}]" if ":" in where.host else where.host
        headers = {
            "host": host if where.port == {"https": 443, "http": 80}[where.scheme] else f"{host}:{where.port}",
            "connection": "close",
            "content-length": str(len(sending.body)),
            **sending.headers,
            **signed(self._keys, sending.id, int(RUNTIME.wall()), sending.body),
        }
        if self._tls is None and where.scheme == "https":
            self._tls = self._httpcore.default_ssl_context()  # reads a hundred certificates: once, and only for https
        url = self._httpcore.URL(scheme=where.scheme, host=where.host, port=where.port, target=where.target)
        return Budget(seconds, self._most_bytes), {"url": url, "headers": headers, "content": sending.body}

    @staticmethod
    def _judge(sending: _Sending, response: Any) -> None:
        """Take the status. What comes behind it is read for politeness only."""
        sending.status = response.status
        if not 200 <= response.status < 300:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            fault = classify_response(_Answer(response.status, headers))
            raise DeliveryError(fault or Fault(Kind.integrity, f"http.{response.status}"), response.status)

    @staticmethod
    def _failure(sending: _Sending, error: Exception) -> Exception | None:
        """What an attempt came to, without the network's own errors; None if the status was known and good."""
        if sending.status is not None and 200 <= sending.status < 300:
            return None
        if isinstance(error, DestinationError):
            return error
        failed = error if isinstance(error, DeliveryError) else DeliveryError(fault_of(error), sending.status)
        _log.warning(
            "WEBHOOK_ATTEMPT_FAILED | %sreceiver=%s id=%s attempt=%d error=%s",
            f"{sending.about} " if sending.about else "",
            receiver_of(sending),
            sending.id,
            sending.attempts,
            failed.fault.code,
        )
        return failed


Webhook.__init__ = checked_call(Webhook.__init__)  # type: ignore[method-assign]


def _place(error: BaseException | None) -> str:
    """Type and place of an error, without its text."""
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = None if trace is None else trace.tb_frame.f_code
    return f"{type(error).__name__}" + ("" if code is None else f" in {code.co_name}")


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("webhook", module) from error


class Patience:
    """When a receiver must be given up: so many failures in a row, or so many seconds without a success.

    Time is monotonic, and begins when this object is made: for a session, when the session begins. A success sets both
    clocks back. A delivery that one of our own policies refused is no failure, since nobody was asked; the second clock
    goes on meanwhile. It also goes on while there is nothing to tell, so let a session that may be quiet for long send
    a sign of life from time to time.

    Args:
        failures: Failures in a row that are too many.
        seconds: Seconds without a success that are too many.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    def __init__(self, *, failures: int = 10, seconds: float = 120.0) -> None:
        checks = Checks("Patience")
        checks.whole("failures", failures, 1)
        checks.seconds("seconds", seconds)
        checks.done()
        self._most = failures
        self._longest = seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._since = RUNTIME.monotonic()
        on_fork(self)

    def note(self, delivery: Delivery) -> None:
        """Count how a delivery went."""
        with self._lock:
            if delivery:
                self._failures = 0
                self._since = RUNTIME.monotonic()
            elif not delivery.refused:
                self._failures += 1

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    @property
    def silent_for(self) -> float:
        """Seconds since the last success, or since the beginning."""
        return RUNTIME.monotonic() - self._since

    @property
    def lost(self) -> str:
        """Why the receiver must be given up: `failures` or `silence`; empty as long as it need not be."""
        if self._failures >= self._most:
            return "failures"
        return "silence" if self.silent_for >= self._longest else ""

    def after_fork(self) -> None:
        self._lock = threading.Lock()


Patience.__init__ = checked_call(Patience.__init__)  # type: ignore[method-assign]
