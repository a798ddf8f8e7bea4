"""Signed webhooks against real receivers on loopback: outcomes, limits, where they may go, what nobody may read."""

from __future__ import annotations

import base64
import functools
import gc
import hashlib
import hmac
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from resilient_faces import Breaker, circuits, deadline
from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters._webhook_network import Budget
from resilient_faces.adapters.webhook import (
    THREE_ATTEMPTS,
    Delivery,
    DeliveryError,
    Destinations,
    Patience,
    SigningKey,
    Webhook,
    receiver_of,
)
from resilient_faces.breaker import consecutive
from resilient_faces.errors import MissingExtraError, OptionError
from resilient_faces.faults import Fault, Kind
from resilient_faces.retry import Attempted, Retry, fixed, none
from resilient_faces.testing.modes import Mode
from resilient_faces.testing.webhook_receiver import Receiver, Reply

httpcore = pytest.importorskip("httpcore", reason="the extra `webhook` is not installed")

LOCAL = Destinations(schemes=("http", "https"), ports=None, allow=("127.0.0.0/8",))
BODY = {"slot": 7, "status": "STOPPED", "name": "Nguyễn"}


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.new()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def send(mode: Mode, webhook: Webhook, url: str, body: Any = BODY, **options: Any) -> Delivery:
    delivery = mode.call(functools.partial(webhook.asend if mode.is_async else webhook.send, url, body, **options))
    assert isinstance(delivery, Delivery)
    return delivery


def independently_signed(secret: str, headers: Any, body: bytes) -> str:
    """What the signature must be, by the words of the specification and nothing of ours."""
    raw = base64.b64decode(secret.split("_", 1)[1])
    message = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    return "v1," + base64.b64encode(hmac.new(raw, message, hashlib.sha256).digest()).decode()


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """POST with the JSON body, and a signature that an independent implementation finds to be the right one."""
    delivery = send(mode, Webhook(key, destinations=LOCAL), receiver.url + "?a=1", about="slot=7")
    (got,) = receiver.got
    assert (got.method, got.target) == ("POST", "/hook?a=1")
    assert json.loads(got.body) == BODY
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 5
    assert got.headers["webhook-signature"] == independently_signed(key.reveal(), got.headers, got.body)
    assert (bool(delivery), delivery.id, delivery.attempts, delivery.status, delivery.code) == (
        True,
        got.headers["webhook-id"],
        1,
        200,
        "",
    )


def test_any_mapping_is_a_body(receiver: Receiver, key: SigningKey) -> None:
    """Not only a dict."""
    assert Webhook(key, destinations=LOCAL).send(receiver.url, types.MappingProxyType(BODY))
    assert json.loads(receiver.got[0].body) == BODY


def test_two_keys_sign_during_a_rotation(receiver: Receiver, key: SigningKey) -> None:
    """One signature by each key, so that receivers may know either."""
    other = SigningKey.new()
    Webhook([key, other], destinations=LOCAL).send(receiver.url, b"raw \xff bytes")
    (got,) = receiver.got
    assert got.body == b"raw \xff bytes"
    assert got.headers["webhook-signature"].split(" ") == [
        independently_signed(one.reveal(), got.headers, got.body) for one in (key, other)
    ]


# -- repeating --------------------------------------------------------------------------------------------------------


def test_three_retries_after_1_2_and_4_seconds(
    mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    """The id stays the same, each attempt is signed anew with its time, and the end is a false value, no error."""
    receiver.answer(500)
    with caplog.at_level(logging.WARNING, logger="resilient_faces.webhook"):
        delivery = send(mode, Webhook(key, destinations=LOCAL), receiver.url, about="slot=7")
    assert not delivery
    assert (delivery.attempts, delivery.status, delivery.code) == (4, 500, "http.500")
    assert clock.slept == [1.0, 2.0, 4.0]
    assert {got.headers["webhook-id"] for got in receiver.got} == {delivery.id}
    times = [int(got.headers["webhook-timestamp"]) for got in receiver.got]
    assert [time - times[0] for time in times] == [0, 1, 3, 7]
    for got in receiver.got:
        assert got.headers["webhook-signature"] == independently_signed(key.reveal(), got.headers, got.body)
    levels = [record.levelname for record in caplog.records if record.name == "resilient_faces.webhook"]
    assert levels == ["WARNING"] * 4 + ["ERROR"]
    last = caplog.records[-1].getMessage()
    assert (
        last == f"WEBHOOK_FAILED | slot=7 receiver=127.0.0.1:{receiver.port} id={delivery.id} attempts=4 error=http.500"
    )


def test_each_attempt_has_10_seconds(receiver: Receiver, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all of it together; less if a deadline leaves less."""
    limits: list[float] = []

    class Noted(Budget):
        def __init__(self, seconds: float, most_bytes: int) -> None:
            limits.append(seconds)
            super().__init__(seconds, most_bytes)

    monkeypatch.setattr("resilient_faces.adapters.webhook.Budget", Noted)
    webhook = Webhook(key, destinations=LOCAL)
    assert webhook.send(receiver.url, BODY)
    assert deadline(4.0)(webhook.send)(receiver.url, BODY)
    assert limits == [10.0, pytest.approx(4.0, abs=1.0)]
    assert limits[1] <= 4.0


def test_a_preset_makes_three_attempts(mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey) -> None:
    """With 1 and 2 s between them."""
    receiver.answer(503)
    delivery = send(mode, Webhook(key, destinations=LOCAL, retry=THREE_ATTEMPTS), receiver.url)
    assert (delivery.attempts, clock.slept) == (3, [1.0, 2.0])


def test_the_first_success_ends_it(mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey) -> None:
    """After failures of all sorts; the caller's id is kept."""
    receiver.answer("reset", 404, 201)
    delivery = send(mode, Webhook(key, destinations=LOCAL), receiver.url, id="slot-7_stopped")
    assert (bool(delivery), delivery.attempts, delivery.status, delivery.fault) == (True, 3, 201, None)
    assert [got.headers["webhook-id"] for got in receiver.got] == ["slot-7_stopped"] * 3


STATUSES: dict[int, str] = {
    200: "",
    202: "",
    204: "",
    299: "",
    300: "http.300",
    301: "http.301",
    304: "http.304",
    400: "http.400",
    401: "http.401",
    404: "http.404",
    409: "http.409",
    410: "http.410",
    429: "http.429",
    500: "http.500",
    503: "http.503",
}


def test_2xx_is_success_and_all_else_is_repeated(
    mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey
) -> None:
    """No other status ends it, whatever it means elsewhere."""
    webhook = Webhook(key, destinations=LOCAL)
    for status, code in STATUSES.items():
        receiver.answer(status)
        receiver.got.clear()
        delivery = send(mode, webhook, receiver.url)
        assert (delivery.code, delivery.status) == (code, status)
        assert len(receiver.got) == delivery.attempts == (4 if code else 1)


@pytest.mark.parametrize(("said", "waited"), [("3", 3.0), ("0", 1.0), ("9999", 30.0), ("soon", 1.0)])
def test_retry_after_is_a_floor(
    said: str, waited: float, mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey
) -> None:
    """As long as the receiver asks for, up to the schedule's cap; never sooner than the schedule."""
    receiver.answer(Reply(429, {"Retry-After": said}), 200)
    assert send(mode, Webhook(key, destinations=LOCAL), receiver.url)
    assert clock.slept == [waited]


def test_a_redirect_is_not_followed(mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey) -> None:
    """Not even to where webhooks may go: the other receiver hears nothing."""
    with Receiver() as other:
        receiver.answer(*(Reply(status, {"location": other.url}) for status in (301, 302, 307, 308)))
        delivery = send(mode, Webhook(key, destinations=LOCAL), receiver.url)
        assert (delivery.attempts, delivery.code, other.got) == (4, "http.308", [])


def test_a_deadline_covers_all_attempts(mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey) -> None:
    """No wait begins that would end after it, and nothing is sent once it has passed."""
    receiver.answer(500)
    webhook = Webhook(key, destinations=LOCAL)

    def call() -> Delivery:
        clock.advance(late)
        return webhook.send(receiver.url, BODY)

    async def acall() -> Delivery:
        clock.advance(late)
        return await webhook.asend(receiver.url, BODY)

    late = 0.0
    delivery = mode.call(deadline(5.0)(acall if mode.is_async else call))
    assert isinstance(delivery, Delivery)
    assert (delivery.attempts, clock.slept) == (3, [1.0, 2.0])
    if not mode.is_async:  # async code is cut off by the deadline itself
        late = 6.0
        delivery = deadline(5.0)(call)()
        assert (delivery.attempts, delivery.code, delivery.refused) == (0, "DeadlineExceededError", True)


def test_a_circuit_for_each_receiver(mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey) -> None:
    """One that fails is left alone for a while; others are told; a refusal is no attempt."""
    receiver.answer(500)
    made = functools.partial(Breaker, trips=consecutive(2))
    webhook = Webhook(key, destinations=LOCAL, retry=None, breaker=made)
    assert [send(mode, webhook, receiver.url).code for _ in range(3)] == ["http.500", "http.500", "CircuitOpenError"]
    assert len(receiver.got) == 2
    assert send(mode, webhook, receiver.url).refused
    with Receiver() as other:
        assert send(mode, webhook, other.url)
    assert {one.key for one in circuits.snapshots() if one.name == "webhook"} >= {f"127.0.0.1:{receiver.port}"}
    assert made("webhook", key=receiver_of).circuit_of(f"127.0.0.1:{receiver.port}").state.value == "open"


# -- receivers that misbehave -----------------------------------------------------------------------------------------

MISBEHAVIOUR: dict[Any, tuple[str, float]] = {  # what comes of it, and the attempt's time limit, in seconds
    "hang": ("webhook.timeout", 1.5),
    "close": ("webhook.no_answer", 10.0),
    "reset": ("webhook.disconnected", 10.0),
    "drip": ("webhook.timeout", 1.5),
    "drip_body": ("", 10.0),
    "gigabyte": ("", 10.0),
    "gigabyte_of_headers": ("webhook.answer_too_long", 10.0),
    "informational": ("webhook.answer_too_long", 10.0),
    "garbage": ("webhook.no_answer", 10.0),
}


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOUR)
def test_a_receiver_that_misbehaves_is_cut(misbehaviour: Any, mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """No attempt takes longer than its limit or brings more than it may; a status that came is what counts."""
    receiver.answer(misbehaviour)
    code, limit = MISBEHAVIOUR[misbehaviour]
    webhook = Webhook(key, destinations=LOCAL, retry=None, timeout=limit)
    began = time.monotonic()
    delivery = send(mode, webhook, receiver.url)
    assert delivery.code == code
    assert bool(delivery) is (code == "")
    # A busy machine may be late; 30 s are what the receiver would take.
    assert time.monotonic() - began < limit + 15.0
    assert receiver.sent < 50_000_000  # what the system's buffers take; not 1 GB


def test_a_slow_body_behind_a_good_status_is_not_waited_for(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """A second, and not what the attempt has left: 20 s here."""
    receiver.answer("drip_body")
    began = time.monotonic()
    assert send(mode, Webhook(key, destinations=LOCAL, timeout=20.0), receiver.url)
    assert time.monotonic() - began < 15.0


def test_a_large_body_is_given_up_in_time(mode: Mode, key: SigningKey) -> None:
    """A receiver that reads nothing cannot hold the sender up while it writes."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        began = time.monotonic()
        delivery = send(mode, Webhook(key, destinations=LOCAL, retry=None, timeout=1.5), url, b"x" * 30_000_000)
        assert delivery.code == "webhook.timeout"
        assert time.monotonic() - began < 15.0


def test_nobody_there(mode: Mode, key: SigningKey) -> None:
    """A closed port, a name without an address, a resolver that hangs: each has its code."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    webhook = Webhook(key, destinations=LOCAL, retry=None)
    refused = send(mode, webhook, f"http://127.0.0.1:{port}/")
    assert (refused.code, refused.fault and refused.fault.kind) == ("webhook.connect", Kind.unavailable)

    def nothing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "no such name")

    def unfit(host: str, port: int) -> Sequence[str]:
        raise UnicodeError("label too long")

    over = threading.Event()

    def hanging(host: str, port: int) -> Sequence[str]:
        over.wait(20.0)
        return []

    for found, code in (
        (nothing, "webhook.unresolved"),
        (unfit, "webhook.unresolved"),
        (hanging, "webhook.resolve_timeout"),
        (_none, "webhook.unresolved"),
    ):
        webhook = Webhook(key, destinations=LOCAL, retry=None, timeout=0.2, resolve=found)
        assert send(mode, webhook, "http://hooks.example/").code == code
    over.set()


def _none(host: str, port: int) -> Sequence[str]:
    return []


def test_the_next_address_is_tried(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """A name with several addresses is reached by the one that works, within the same attempt."""
    webhook = Webhook(key, destinations=LOCAL, retry=None, resolve=lambda host, port: ["127.0.0.9", "127.0.0.1"])
    delivery = send(mode, webhook, f"http://hooks.example:{receiver.port}/")
    assert (bool(delivery), delivery.attempts) == (True, 1)
    assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"


def test_a_name_with_a_thousand_addresses(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """Whoever owns a name cannot have this machine dial a thousand others: all are judged, four are tried."""
    network = Watched(receiver.port, broken=True)
    many = [f"8.8.{number // 200}.{number % 200 + 1}" for number in range(1000)]
    webhook = Webhook(key, destinations=OPEN, network=network.pair, retry=None, resolve=lambda host, port: many)
    assert send(mode, webhook, "http://hooks.example/").code == "webhook.connect"
    assert network.dials == [(address, 80) for address in many[:4]]
    webhook = Webhook(
        key, destinations=OPEN, network=network.pair, retry=None, resolve=lambda host, port: [*many, "127.0.0.1"]
    )
    assert send(mode, webhook, "http://hooks.example/").code == "webhook.refused_address"
    assert len(network.dials) == 4


def test_cancelling_closes_the_connection(key: SigningKey) -> None:
    """A task that is cancelled leaves neither a socket nor a thread behind."""
    with Receiver("hang") as receiver:
        webhook = Webhook(key, destinations=LOCAL)

        async def main() -> None:
            with anyio.move_on_after(0.2) as scope:
                await webhook.asend(receiver.url, BODY)
            assert scope.cancelled_caught

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for backend in ("asyncio", "trio"):
                anyio.run(main, backend=backend)
            gc.collect()
        assert len(receiver.got) == 2


# -- where webhooks may go --------------------------------------------------------------------------------------------


class Watched:
    """Network backends that note each dial, and lead it to a receiver on loopback instead."""

    def __init__(self, port: int, broken: bool = False) -> None:
        self.dials: list[tuple[str, int]] = []
        self._port = port
        self._broken = broken
        self._sync, self._async = httpcore.SyncBackend(), httpcore.AnyIOBackend()

    @property
    def pair(self) -> tuple[Any, Any]:
        class Async:
            connect_tcp = self.aconnect

        class Sync:
            connect_tcp = self.connect

        return Sync, Async

    def connect(self, host: str, port: int, **options: Any) -> Any:
        self.dials.append((host, port))
        if self._broken:
            raise httpcore.ConnectError
        return self._sync.connect_tcp("127.0.0.1", self._port, **options)

    async def aconnect(self, host: str, port: int, **options: Any) -> Any:
        self.dials.append((host, port))
        if self._broken:
            raise httpcore.ConnectError
        return await self._async.connect_tcp("127.0.0.1", self._port, **options)


OPEN = Destinations(schemes=("http",), ports=None)

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.0.9": "loopback",
    "0.0.0.0": "this network",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "private",
    "169.254.169.254": "link-local",
    "168.63.129.16": "reserved",  # Azure's own
    "192.0.2.1": "reserved",
    "198.18.0.1": "reserved",
    "203.0.113.9": "reserved",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "this network",
    "::1": "loopback",
    "fe80::1": "link-local",
    "fe80::1%lo": "link-local",
    "fc00::1": "private",
    "fd12:3456::1": "private",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:a00:1": "private",
    "::127.0.0.1": "reserved",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b:1::8.8.8.8": "reserved",
    "2002:7f00:1::": "reserved",
    "::ffff:0:127.0.0.1": "reserved",
    "fd00:ec2::254": "private",
    "::1%25lo": "loopback",
    "127.0.0.1%x": "loopback",
    "0177.0.0.1": "unreadable",
    "2130706433": "unreadable",
    "8.8.8.8 ": "unreadable",
    "2001:0:1::1": "reserved",
    "2001:db8::1": "reserved",
    "100::1": "reserved",
    "what": "unreadable",
}
PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:2800:220:1::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("several", [False, True])
def test_an_address_that_is_not_public_is_not_dialled(
    several: bool, mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey
) -> None:
    """However it is wrapped, and also if it is one of several: no dial was tried, and nothing is tried again."""
    network = Watched(receiver.port)
    for address, sort in REFUSED.items():
        found = ["8.8.8.8", address] if several else [address]
        webhook = Webhook(key, destinations=OPEN, network=network.pair, resolve=lambda h, p, found=found: found)
        delivery = send(mode, webhook, "http://hooks.example/")
        assert (address, delivery.code, delivery.attempts) == (address, "webhook.refused_address", 1)
        assert (address, OPEN.refusal(address)) == (address, sort)
    assert network.dials == []
    assert receiver.got == []
    assert clock.slept == []


def test_a_public_address_is_dialled(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """The very address that was judged, and the name stays in Host."""
    network = Watched(receiver.port)
    for address in PUBLIC:
        webhook = Webhook(key, destinations=OPEN, network=network.pair, resolve=lambda h, p, found=address: [found])
        assert send(mode, webhook, "http://hooks.example/x")
    assert network.dials == [(address, 80) for address in PUBLIC]
    assert {got.headers["host"] for got in receiver.got} == {"hooks.example"}


def test_a_name_that_changes_its_mind_is_not_believed(
    mode: Mode, clock: ManualRuntime, receiver: Receiver, key: SigningKey
) -> None:
    """Each connection resolves once and dials what was judged; the next attempt judges anew."""
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    asked = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    network = Watched(receiver.port)
    receiver.answer(500)
    webhook = Webhook(key, destinations=OPEN, network=network.pair, resolve=rebinding)
    delivery = send(mode, webhook, "http://hooks.example/")
    assert (delivery.attempts, delivery.code) == (2, "webhook.refused_address")
    assert network.dials == [("8.8.8.8", 80)]
    assert len(asked) == 2


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "LOCALHOST.",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "ⓛocalhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:1]",
    ],
)
def test_loopback_in_disguise_is_not_dialled(host: str, mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """Ways to write 127.0.0.1 that the system's resolver understands; judged is what it makes of them."""
    network = Watched(receiver.port)
    webhook = Webhook(key, destinations=OPEN, network=network.pair, retry=None)
    assert send(mode, webhook, f"http://{host}/").code in ("webhook.refused_address", "webhook.unresolved")
    assert network.dials == []


def test_networks_can_be_allowed(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """That network and no other, wrapped or not."""
    rules = Destinations(schemes=("http",), ports=None, allow=("10.1.0.0/16", "fd00::/8"))
    network = Watched(receiver.port)
    for address, good in (("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd00::1", True), ("10.2.0.1", False)):
        webhook = Webhook(
            key, destinations=rules, network=network.pair, retry=None, resolve=lambda h, p, a=address: [a]
        )
        assert bool(send(mode, webhook, "http://inside.example/")) is good


URLS = {
    "http://hooks.example/": "scheme",
    "ftp://hooks.example/": "scheme",
    "file:///etc/passwd": "scheme",
    "hooks.example/": "scheme",
    "": "scheme",
    "https:///x": "url",
    "https://hooks.example:99999/": "url",
    "https://hooks.example:x/": "url",
    "https://[::1/": "url",
    "https://[::1]x/": "url",
    "https://[fe80::1%25eth0]/": "url",
    "https://[2606::1%eth0]/": "url",
    "https://[v1.abc]/": "url",
    "https:hooks.example": "url",
    "https:/hooks.example/x": "url",
    "https://hooks.example:443:80/": "url",
    "https://hooks.example:+443/": "url",
    "https://hooks.example:\uff14\uff14\uff13/": "url",
    "https://.hooks.example/": "url",
    "https://hooks..example/": "url",
    f"https://{'x' * 64}.example/": "url",
    f"https://{'x.' * 127}example/": "url",
    "https://%68ooks.example/": "url",
    'https://hooks.example"/': "url",
    "https://hooks.example,evil.example/": "url",
    "https://faß.example/": "url",  # fass.example or xn--fa-hia.example: libraries do not agree
    "https://hooks\u00ad.example/": "url",
    "https://hooks.example\uff0f@evil.example/": "url",
    "https://hooks.example/\x7f": "url",
    "//hooks.example/": "scheme",
    "https+http://hooks.example/": "scheme",
    "https://hooks.example/a b": "url",
    "https://hooks.example/\r\nx: y": "url",
    "https://hooks.example\\@evil.example/": "url",
    "https://hooks.example/é": "url",
    "https://user:geheim@hooks.example/": "credentials",
    "https://user@hooks.example/": "credentials",
    "https://@hooks.example/": "credentials",
    "https://hooks.example%2f@evil.example/": "credentials",
    "https://user:geheim@[::1/": "url",
    "https://hooks.example:22/": "port",
    "https://hooks.example:0/": "port",
    "https://hooks.example:6379/": "port",
}


@pytest.mark.parametrize("url", URLS)
def test_urls_that_are_refused(url: str, receiver: Receiver, key: SigningKey) -> None:
    """Before a name is resolved; the reason says what is wrong and does not repeat the URL."""
    network = Watched(receiver.port)
    webhook = Webhook(key, network=network.pair, resolve=lambda host, port: pytest.fail("resolved"))
    delivery = webhook.send(url, BODY)
    assert (delivery.code, delivery.attempts) == (f"webhook.refused_{URLS[url]}", 0)
    assert not delivery.refused  # by the rules, for good; not by a policy, for now
    assert network.dials == []
    with pytest.raises(ValueError, match=r"URL|Port") as caught:
        Destinations().check(url)
    assert "geheim" not in str(caught.value)


def test_a_good_url_in_parts() -> None:
    """Default port, path, query; the fragment goes, a name in another script is encoded, IPv6 keeps its brackets."""
    found = Destinations().check("https://Hooks.Example?x=1#frag")
    assert (found.host, found.port, found.target, found.receiver) == (
        "hooks.example",
        443,
        "/?x=1",
        "hooks.example:443",
    )
    assert Destinations().check("https://bücher.example/").host == "xn--bcher-kva.example"
    assert Destinations().check("HTTPS://HOOKS.example.:00443/?@x#@y").receiver == "hooks.example:443"
    assert Destinations().check("https://[2606::1]:8443/").receiver == "[2606::1]:8443"
    assert "x=1" not in repr(found)


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for hooks.example, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    made, secret = folder / "cert.pem", folder / "key.pem"
    command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hooks.example -addext".split()
    command += ["subjectAltName=DNS:hooks.example", "-keyout", str(secret), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made, secret


def test_the_name_is_kept_in_tls(mode: Mode, key: SigningKey, certificate: tuple[Path, Path]) -> None:
    """The dial goes to the judged address; the certificate is asked for and checked by the URL's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with Receiver(tls=context) as receiver:
        network = Watched(receiver.port)

        def to(host: str, tls: ssl.SSLContext | None) -> Delivery:
            webhook = Webhook(key, network=network.pair, resolve=lambda h, p: ["8.8.8.8"], tls=tls, retry=None)
            return send(mode, webhook, f"https://{host}/")

        assert to("hooks.example", trusting)
        assert receiver.got[0].server_name == "hooks.example"
        assert receiver.got[0].headers["host"] == "hooks.example"
        assert to("other.example", trusting).code == "webhook.certificate"
        assert to("hooks.example", None).code == "webhook.certificate"
        assert len(receiver.got) == 1
        assert network.dials == [("8.8.8.8", 443)] * 3


def test_no_tls_where_tls_was_wanted(mode: Mode, receiver: Receiver, key: SigningKey) -> None:
    """A receiver without TLS is not spoken to in the clear."""
    delivery = send(
        mode, Webhook(key, destinations=LOCAL, retry=None, timeout=1.0), receiver.url.replace("http:", "https:")
    )
    assert (delivery.code, receiver.got) in (("webhook.tls", []), ("webhook.connect_timeout", []))


# -- what nobody may read ---------------------------------------------------------------------------------------------

MARK = "GEHEIM"
ECHO = "ANTWORT"  # what the receiver says: httpcore's own DEBUG lines hold its headers, ours do not


def test_no_secret_is_told(
    mode: Mode, clock: ManualRuntime, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Body, key, path, query, credentials and what the receiver answered appear in no log, event, result or error."""
    secret = SigningKey((MARK * 8).encode())
    receiver.answer(
        Reply(500, {"x-echo": ECHO}, ECHO.encode()),
        Reply(302, {"location": f"http://{ECHO}.example/"}),
        "reset",
        "garbage",
    )
    body = {"who": MARK, MARK: 1}
    shown: list[object] = [secret, Destinations().check(f"https://h.example/{MARK}?t={MARK}")]
    hooks: list[object] = []
    events: list[object] = []
    RUNTIME.listen(events.append)
    with caplog.at_level(logging.DEBUG):
        retry = Retry(attempts=5, backoff=fixed(0.1), jitter=none(), on=DeliveryError, before_sleep=hooks.append)
        webhook = Webhook(secret, destinations=LOCAL, retry=retry)
        shown.append(webhook)
        urls = (f"{receiver.url}/{MARK}?t={MARK}", f"http://user:{MARK}@127.0.0.1/", f"http://127.0.0.1:1/{MARK}")
        shown += [send(mode, webhook, url, body) for url in urls]
        shown.append(send(mode, webhook, f"{receiver.url}?{MARK}", MARK.encode()))
        for bad in ({"x": {MARK}}, {"x": object()}, {"x": float("nan"), "y": MARK}):
            with pytest.raises(OptionError) as caught:
                webhook.send(receiver.url, bad)
            shown.append(caught.value)
            assert caught.value.__suppress_context__
    told = [f"{record.getMessage()} {record.exc_info} {record.args}" for record in caplog.records]
    ours = [text for record, text in zip(caplog.records, told, strict=True) if record.name.startswith("resilient")]
    assert min(len(ours), len(events), len(hooks)) > 5
    errors = [hook.error for hook in hooks if isinstance(hook, Attempted) and hook.error is not None]
    assert len(errors) == len(hooks)
    assert all(error.__cause__ is error.__context__ is None for error in errors)
    coded = base64.b64encode((MARK * 8).encode()).decode()[:12]
    for text in [*told, *map(repr, events), *map(repr, shown), *map(str, shown), *map(repr, hooks)]:
        assert MARK not in text
        assert coded not in text
    for text in [*ours, *map(repr, events), *map(repr, shown), *map(str, shown), *map(repr, hooks)]:
        assert ECHO not in text


def test_what_a_policy_sees_of_a_delivery_shows_no_secret(receiver: Receiver, key: SigningKey) -> None:
    """A circuit of one's own is asked for its key with the delivery; its text has neither body nor path."""
    seen: list[str] = []

    def made(name: str, key: Callable[[Any], str]) -> Any:
        def noted(sending: Any) -> str:
            seen.append(repr(sending))
            return key(sending)

        return Breaker(name, key=noted)

    webhook = Webhook(key, destinations=LOCAL, breaker=made)
    assert webhook.send(f"{receiver.url}/{MARK}?t={MARK}", {"who": MARK})
    assert seen
    assert MARK not in "".join(seen)


def test_an_error_of_an_injected_part_is_told_without_its_text(
    mode: Mode, caplog: pytest.LogCaptureFixture, key: SigningKey
) -> None:
    """Whatever breaks, `send` does not raise; the log says where it broke."""

    def broken(host: str, port: int) -> Sequence[str]:
        raise ZeroDivisionError(MARK)

    delivery = send(mode, Webhook(key, destinations=LOCAL, retry=None, resolve=broken), "http://hooks.example/")
    assert delivery.code == "ZeroDivisionError"
    assert MARK not in caplog.text


# -- clocks -----------------------------------------------------------------------------------------------------------


def ended(delivered: bool, attempts: int = 4, kind: Kind = Kind.transient) -> Delivery:
    return Delivery("msg", "h:443", delivered, attempts, None, None if delivered else Fault(kind, "x"), 0.0)


def test_ten_failures_in_a_row_are_too_many(clock: ManualRuntime) -> None:
    """A success sets the count to zero; each delivery counts once, however many attempts it took."""
    patience = Patience()
    for _ in range(9):
        patience.note(ended(False))
    patience.note(ended(True))
    for expected in range(1, 10):
        patience.note(ended(False))
        assert (patience.failures, patience.lost) == (expected, "")
    patience.note(ended(False))
    assert patience.lost == "failures"
    patience.note(ended(True))
    assert patience.lost == ""


def test_two_minutes_without_a_success_are_too_many(clock: ManualRuntime) -> None:
    """From the beginning if there was none yet; longer than a day is longer than two minutes, too."""
    patience = Patience()
    clock.advance(119.9)
    assert patience.lost == ""
    clock.advance(0.1)
    assert patience.lost == "silence"
    patience.note(ended(True))
    assert (patience.lost, patience.silent_for) == ("", 0.0)
    clock.advance(86_400.0 + 10.0)
    assert patience.lost == "silence"


def test_the_wall_clock_does_not_matter(clock: ManualRuntime) -> None:
    """A wall clock that is set changes nothing."""
    patience = Patience()
    clock.epoch += 3600.0
    assert patience.lost == ""


def test_a_refusal_of_ours_is_no_failure(clock: ManualRuntime) -> None:
    """Nobody was asked; but time goes on, and an attempt that was made counts."""
    patience = Patience(failures=1, seconds=60.0)
    patience.note(ended(False, attempts=0, kind=Kind.rejected))
    assert (patience.failures, patience.lost) == (0, "")
    clock.advance(60.0)
    assert patience.lost == "silence"
    patience.note(ended(False, attempts=1, kind=Kind.rejected))
    assert patience.lost == "failures"
    refused_by_rules = Patience(failures=1)
    refused_by_rules.note(ended(False, attempts=0, kind=Kind.invalid))
    assert refused_by_rules.lost == "failures"


# -- options ----------------------------------------------------------------------------------------------------------

WRONG: list[tuple[Callable[[SigningKey], object], str]] = [
    (lambda key: Webhook([]), r"Webhook\.keys must be a SigningKey, or two"),
    (lambda key: Webhook(MARK), r"Webhook\.keys must be.*got 'str'"),  # type: ignore[arg-type]
    (lambda key: Webhook(key, timeout=0), r"Webhook\.timeout must be more than 0 seconds; got 0"),
    (lambda key: Webhook(key, most_bytes=1), r"Webhook\.most_bytes must be 1024 or more"),
    (lambda key: Webhook(key, retry=3), r"Webhook\.retry must be a Retry"),  # type: ignore[arg-type]
    (lambda key: Webhook(key, breaker=Breaker("x")), r"Webhook\.breaker must be a function that makes a circuit"),
    (lambda key: Webhook(key, destinations="https"), r"Webhook\.destinations must be"),  # type: ignore[arg-type]
    (lambda key: Webhook(key, timeot=1), r"no option 'timeot'. Did you mean timeout\?"),  # type: ignore[call-arg]
    (lambda key: Destinations(schemes=("ftp",)), r"Destinations\.schemes must be a tuple of https and http"),
    (lambda key: Destinations(schemes="https"), r"Destinations\.schemes"),  # type: ignore[arg-type]
    (lambda key: Destinations(ports=(0,)), r"Destinations\.ports must be a tuple of numbers from 1 to 65535"),
    (lambda key: Destinations(allow="10.0.0.0/8"), r"Destinations\.allow must be a tuple.*Mind the comma"),  # type: ignore[arg-type]
    (lambda key: Destinations(allow=("10.0.0.1/8",)), r"Destinations\.allow.*ends in zeros"),
    (lambda key: Destinations(allowed=()), r"no option 'allowed'. Did you mean allow\?"),  # type: ignore[call-arg]
    (lambda key: Patience(failures=0), r"Patience\.failures must be 1 or more"),
    (lambda key: Patience(seconds=-1), r"Patience\.seconds must be more than 0"),
    (lambda key: Webhook(key).send("https://h.example/", [1]), r"Webhook\.send\.body must be a mapping or bytes"),  # type: ignore[arg-type]
    (lambda key: Webhook(key).send("https://h.example/", {}, id="a.b"), r"Webhook\.send\.id must be 1 to 128 letters"),
    (
        lambda key: Webhook(key).send("https://h.example/", {}, about=f"slot=7\nWEBHOOK {MARK}"),
        r"Webhook\.send\.about must be printable text",
    ),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_wrong_options_are_named(wrong: Callable[[SigningKey], object], said: str, key: SigningKey) -> None:
    """Class, option, rule, value and cure; never a secret that was put in the wrong place."""
    with pytest.raises(OptionError, match=said) as caught:
        wrong(key)
    assert MARK not in str(caught.value)


def test_without_the_extra_it_is_named(key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing installed: which extra to install."""
    monkeypatch.setitem(sys.modules, "httpcore", None)
    with pytest.raises(MissingExtraError, match=r"resilient-faces\[webhook\]"):
        Webhook(key)


def test_nothing_is_shared_between_deliveries(key: SigningKey) -> None:
    """One object serves several threads at once; each delivery has its own outcome."""
    with Receiver(200) as good, Receiver(500) as bad:
        webhook = Webhook(key, destinations=LOCAL, retry=None)
        outcomes: list[tuple[bool, bool]] = []

        def work(number: int) -> None:
            wanted = number % 2 == 0
            outcomes.append((bool(webhook.send((good if wanted else bad).url, {"n": number})), wanted))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)
        assert len(outcomes) == 16
        assert all(was is wanted for was, wanted in outcomes)
        assert len({got.headers["webhook-id"] for got in [*good.got, *bad.got]}) == 16
