"""Where webhooks may go, and connections that go nowhere else and never last longer or bring more than they may.

A name is resolved once for each connection, all its addresses are judged, and the connection is made to one of those
addresses: a name that means another machine a moment later changes nothing. TLS and Host keep the name.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from resilient_faces._core import workers
from resilient_faces._core.options import Checks, checked_call
from resilient_faces.errors import ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Address: TypeAlias = IPv4Address | IPv6Address
    Network: TypeAlias = IPv4Network | IPv6Network

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a name, as text; raises OSError if there are none."""

_SLICE: Final = 16_384  # bytes of one write
_MOST_ADDRESSES: Final = 4  # dialled in one attempt: whoever owns a name may give it a thousand
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?!.{{254}})(?:{_LABEL}\.)*{_LABEL}")
_UNREAD: Final = "The URL is not one: its host or port cannot be read. Write a name in letters, digits, - and _."
_TWO_NAMES: Final = frozenset("ßς")  # become another host in Python's IDNA than in a browser's

# By hand and not by `is_global`, which means different things in different versions of Python.
_SPECIAL: Final[tuple[tuple[str, str], ...]] = (
    ("127.0.0.0/8", "loopback"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "private"),  # shared by a provider's customers
    ("169.254.0.0/16", "link-local"),  # the metadata services of clouds are here
    ("0.0.0.0/8", "this network"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("168.63.129.16/32", "reserved"),  # looks public: in Azure it is the host of the virtual machine
    ("198.18.0.0/15", "reserved"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::1/128", "loopback"),
    ("::/128", "this network"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
    ("2001::/23", "reserved"),  # Teredo and others
    ("2001:db8::/32", "reserved"),
    ("2002::/16", "reserved"),  # 6to4: an IPv4 address, of whatever sort, lies in it
    ("3fff::/20", "reserved"),
)
_REFUSED: Final = tuple((ipaddress.ip_network(text), sort) for text, sort in _SPECIAL)
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")  # all that is given out to anybody
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")  # how IPv4 looks from a network that has IPv6 alone


class DestinationError(ResilienceError, ValueError):
    """A webhook must not go there. Nothing was sent, and trying again does not help.

    Attributes:
        reason: `url`, `credentials`, `scheme`, `port` or `address`: what is wrong with it.
        fault: What it means to the policies.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.fault: Final = Fault(Kind.invalid, f"webhook.refused_{reason}", Executed.no)

    def __str__(self) -> str:
        return str(self.args[1])


class DeliveryError(ResilienceError):
    """One attempt failed. Hooks of a retry see it; `Webhook.send` itself does not raise it.

    Attributes:
        fault: What went wrong.
        status: Status of the answer; None if there was none.
    """

    def __init__(self, fault: Fault, status: int | None = None) -> None:
        super().__init__(fault, status)
        self.fault = fault
        self.status = status

    def __str__(self) -> str:
        return f"The delivery failed: {self.fault.code}"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one webhook goes; its text leaves path and query out, since they may hold secrets."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)  # path and query

    @property
    def receiver(self) -> str:
        """Host and port, for events and logs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Rules for where webhooks may go. As they are: https on ports 443 and 8443, to addresses of the public internet.

    An address is judged after the name was resolved, in whatever way it was written, and IPv4 that is wrapped in IPv6
    as what it is. One bad address among several refuses the name.

    Args:
        schemes: `https`, and `http` where you trust the network; give `ports` too then.
        ports: Ports that may be used; None for all of them.
        allow: Networks that may be reached although they are not public, such as `10.1.0.0/16` or `127.0.0.1/32`.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] | None = (443, 8443)
    allow: tuple[str, ...] = ()
    _allowed: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks = Checks("Destinations")
        good = not isinstance(self.schemes, str) and bool(self.schemes) and {*self.schemes} <= {"https", "http"}
        checks.that(good, "schemes", "a tuple of https and http", self.schemes)
        if self.ports is not None:
            good = isinstance(self.ports, Sequence) and all(type(one) is int and 0 < one < 65536 for one in self.ports)
            checks.that(good, "ports", "a tuple of numbers from 1 to 65535, or None", self.ports)
        allowed: list[Network] = []
        if checks.that(not isinstance(self.allow, str), "allow", "a tuple of networks", self.allow, "Mind the comma."):
            for text in self.allow:
                try:
                    allowed.append(ipaddress.ip_network(text))
                except ValueError:
                    cure = "The address of a network ends in zeros; one machine is /32 or /128."
                    checks.that(False, "allow", "networks such as 10.1.0.0/16", text, cure)
        checks.done()
        object.__setattr__(self, "_allowed", tuple(allowed))

    def check(self, url: str) -> Destination:
        """Read a URL and judge all of it but its addresses, which are judged when a connection is made.

        Raises:
            DestinationError: It must not be used. The message does not repeat it.
        """
        if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url:
            raise DestinationError("url", "The URL is not one: it has spaces, control characters or backslashes.")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise DestinationError("url", _UNREAD) from None
        if parts.scheme not in self.schemes:
            allowed = " and ".join(self.schemes)
            raise DestinationError("scheme", f"The URL must begin with {allowed}: Destinations.schemes says so.")
        if parts.username is not None or parts.password is not None:
            raise DestinationError("credentials", "The URL holds a user name or password; webhooks are signed instead.")
        try:
            host, port = _host(parts), parts.port
        except ValueError:  # UnicodeError among them
            raise DestinationError("url", _UNREAD) from None
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        if not target.isascii():
            raise DestinationError("url", "The URL has characters that must be percent-encoded.")
        if port is None:
            port = 443 if parts.scheme == "https" else 80
        if port == 0 or (self.ports is not None and port not in self.ports):
            raise DestinationError("port", f"Port {port} is not one of Destinations.ports.")
        return Destination(parts.scheme, host, port, target if target.startswith("/") else f"/{target}")

    def refusal(self, address: str) -> str:
        """Why this address must not be reached: `loopback`, `private`, `link-local`, ...; empty if it may."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "unreadable"
        if any(found in network for network in self._allowed):
            return ""
        inner = _within(found)
        if inner is not found and any(inner in network for network in self._allowed):
            return ""
        for network, sort in _REFUSED:
            if inner in network:
                return sort
        return "reserved" if inner.version == 6 and inner not in _GLOBAL else ""

    def judge(self, addresses: Sequence[str], host: str) -> Sequence[str]:
        """The addresses, if all of them may be reached.

        Raises:
            DestinationError: One of them must not.
        """
        for address in addresses:
            if sort := self.refusal(address):
                raise DestinationError(
                    "address",
                    f"{host} has an address that is not public ({sort}). Destinations.allow can name its network.",
                )
        return addresses


Destinations.__init__ = checked_call(Destinations.__init__)  # type: ignore[method-assign]


def _host(parts: SplitResult) -> str:
    """The host of a URL: a name in ASCII, without the dot at its end that certificates do not have, or an address.

    Raises:
        ValueError: There is none, or one that cannot be.
    """
    host = parts.hostname or ""
    if "[" in parts.netloc:
        behind = parts.netloc.rpartition("]")[2]
        if "%" in host or behind.partition(":")[0]:  # a zone is of this machine and no business of a stranger's
            raise ValueError
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        if not _TWO_NAMES.isdisjoint(host):
            raise ValueError
        host = host.encode("idna").decode()
    host = host.removesuffix(".")
    if not _NAME.fullmatch(host):
        raise ValueError
    return host


def _within(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if address.version == 6:
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system finds them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class TooMuchError(Exception):
    """The answer is longer than it may be."""


class Budget:
    """What one attempt may take: seconds for all of it, and bytes of its answer.

    Real time, whatever clock a test has installed: sockets know no other.
    """

    __slots__ = ("_bytes", "_end")

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._end = time.monotonic() + seconds
        self._bytes = most_bytes

    def left(self) -> float:
        """Seconds that are left; never zero, which would mean a socket that does not wait at all.

        Raises:
            TimeoutError: There are none.
        """
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        return left

    def hurry(self, seconds: float) -> None:
        """Have no more than so many seconds from now on."""
        self._end = min(self._end, time.monotonic() + seconds)

    def take(self, data: bytes) -> bytes:
        """Count bytes of the answer.

        Raises:
            TooMuchError: They are more than there may be.
        """
        self._bytes -= len(data)
        if self._bytes < 0:
            raise TooMuchError
        return data


class Dialler:
    """A network backend for httpcore that dials judged addresses only and keeps streams within the attempt's budget."""

    def __init__(self, rules: Destinations, find: Resolve, network: Any, budget: Budget) -> None:
        self._rules = rules
        self._resolve = find
        self._network = network
        self._budget = budget

    def connect_tcp(self, host: str, port: int, **options: Any) -> Stream:
        budget = self._budget
        try:
            addresses = workers.run(lambda: self._resolve(host, port), budget.left())
        except workers.LimitPassed:
            raise _unresolved("webhook.resolve_timeout") from None
        except (OSError, UnicodeError):
            raise _unresolved("webhook.unresolved") from None
        for last, address in _candidates(self._rules.judge(addresses, host)):
            try:
                return Stream(self._network.connect_tcp(address, port, **_within_time(options, budget, last)), budget)
            except Exception:
                if last == 1:
                    raise
        raise _unresolved("webhook.unresolved")


class Stream:
    """A connection under a budget."""

    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._budget.take(self._stream.read(max_bytes, timeout=self._budget.left()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _SLICE):  # each slice has the time that is left, not the whole time again
            self._stream.write(buffer[start : start + _SLICE], timeout=self._budget.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Stream:
        return Stream(self._stream.start_tls(ssl_context, server_hostname, self._budget.left()), self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class AsyncDialler(Dialler):
    """As `Dialler`, for httpcore's asynchronous half."""

    async def connect_tcp(self, host: str, port: int, **options: Any) -> AsyncStream:  # type: ignore[override]
        budget = self._budget
        try:
            addresses = await workers.run_async(lambda: self._resolve(host, port), budget.left())
        except workers.LimitPassed:
            raise _unresolved("webhook.resolve_timeout") from None
        except (OSError, UnicodeError):
            raise _unresolved("webhook.unresolved") from None
        for last, address in _candidates(self._rules.judge(addresses, host)):
            try:
                connecting = self._network.connect_tcp(address, port, **_within_time(options, budget, last))
                return AsyncStream(await connecting, budget)
            except Exception:
                if last == 1:
                    raise
        raise _unresolved("webhook.unresolved")


class AsyncStream:
    """As `Stream`, for httpcore's asynchronous half."""

    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._budget.take(await self._stream.read(max_bytes, timeout=self._budget.left()))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout=self._budget.left())

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncStream:
        secured = await self._stream.start_tls(ssl_context, server_hostname, self._budget.left())
        return AsyncStream(secured, self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Content:
    """A body for httpcore's asynchronous half, which makes a generator of bytes and leaves it unfinished at times."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> Content:
        return Content(self._data)

    async def __anext__(self) -> bytes:
        data, self._data = self._data, b""
        if not data:
            raise StopAsyncIteration
        return data


def _candidates(addresses: Sequence[str]) -> list[tuple[int, str]]:
    """Each address that is tried with how many are left, itself included."""
    tried = addresses[:_MOST_ADDRESSES]
    return [(len(tried) - place, address) for place, address in enumerate(tried)]


def _within_time(options: dict[str, Any], budget: Budget, left: int) -> dict[str, Any]:
    """Options of a connection attempt that leaves time for the addresses after it."""
    return {**options, "timeout": budget.left() / left}


def _unresolved(code: str) -> DeliveryError:
    return DeliveryError(Fault(Kind.unavailable, code, Executed.no))


def fault_of(error: BaseException) -> Fault:
    """What an error of the network means, httpcore's or the budget's."""
    import ssl

    import httpcore

    if isinstance(error, TooMuchError):
        return Fault(Kind.integrity, "webhook.answer_too_long")
    if isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout)):
        inner: BaseException | None = error
        while inner is not None:
            if isinstance(inner, ssl.SSLCertVerificationError):
                return Fault(Kind.invalid, "webhook.certificate", Executed.no)
            if isinstance(inner, ssl.SSLError):
                return Fault(Kind.unavailable, "webhook.tls", Executed.no)
            inner = inner.__cause__ or inner.__context__
        late = isinstance(error, httpcore.ConnectTimeout)
        return Fault(Kind.unavailable, "webhook.connect_timeout" if late else "webhook.connect", Executed.no)
    if isinstance(error, (httpcore.TimeoutException, TimeoutError)):
        return Fault(Kind.timeout, "webhook.timeout")
    if isinstance(error, httpcore.NetworkError):
        return Fault(Kind.transient, "webhook.disconnected")
    if isinstance(error, httpcore.ProtocolError):
        return Fault(Kind.integrity, "webhook.no_answer")
    return Fault(Kind.unknown, type(error).__name__)
