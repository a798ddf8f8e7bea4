"""Stores on Redis: the contracts on a real server, what happens when it goes away, and what stays private."""

from __future__ import annotations

import itertools
import json
import logging
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from resilient_faces import Breaker, OptionError
from resilient_faces.breaker import Shared
from resilient_faces.idempotency import Status
from resilient_faces.limits import Pace
from resilient_faces.testing import ManualRuntime
from resilient_faces.testing.redis_server import RedisServer, RedisUnavailable
from resilient_faces.testing.store_contracts import (
    BreakerStoreContract,
    IdempotencyStoreContract,
    LimiterStoreContract,
)

redis: Any = pytest.importorskip("redis", reason="redis is not installed: pip install 'resilient-faces[redis]'")

from resilient_faces.adapters.redis_store import RedisStore  # noqa: E402

SNIPPET: Final = Path(__file__).resolve().parents[2] / "docs" / "snippets" / "stores.py"
SECRET: Final = "planted-pass#word"
_prefixes: Final = itertools.count()


def start(folder: Path, **options: Any) -> RedisServer:
    try:
        return RedisServer(folder, **options)
    except RedisUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with start(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def store(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[RedisStore]:
    """An empty one, whether the client gives bytes or text."""
    client = redis.Redis.from_url(server.url, decode_responses=request.param)
    yield RedisStore(client, prefix=f"test-{next(_prefixes)}:")
    client.close()


class TestBreakerStore(BreakerStoreContract):
    pass


class TestLimiterStore(LimiterStoreContract):
    pass


class TestIdempotencyStore(IdempotencyStoreContract):
    pass


def test_what_the_page_shows_works(server: RedisServer, resilience: None) -> None:
    """The functions of "Share state between processes"."""
    breaker, limiter = runpy.run_path(str(SNIPPET))["on_redis"](server.url)
    assert breaker.call(lambda: "fine") == "fine"
    assert limiter.call(lambda: "fine") == "fine"
    assert limiter.share == 50.0  # one process, which the store knows of


class Link:
    """A client whose scripts are run by a server with a clock of its own, at the far end of a slow line."""

    def __init__(self, clock: ManualRuntime, off: float) -> None:
        self.clock = clock
        self.off = off
        self.there = self.back = 0.0  # seconds that a request, and an answer, is on its way
        self.hold_ups: list[float] = []  # beside that, of the next requests
        self.next = 0

    def server(self) -> int:
        return round((self.clock.monotonic() + self.off) * 1e6)

    def register_script(self, text: str) -> Callable[..., object]:
        def run(keys: list[str], args: tuple[Any, ...]) -> object:
            self.clock.advance(self.there + (self.hold_ups.pop(0) if self.hold_ups else 0.0))
            now = self.server()
            answer: object = now
            if "count, rate" in text:  # the one that reserves
                begins = max(self.next, now + args[4])
                self.next = begins + args[0] * 20_000
                answer = [begins - now, 20_000, 1, now]
            self.clock.advance(self.back)
            return answer

        return run


PACE: Final = Pace(50.0, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("off", [1.7e9, -3600.0])
def test_an_answer_that_was_long_on_its_way_changes_no_slot(clock: ManualRuntime, off: float) -> None:
    """A slot begins when the server said so, however long this answer took, and connecting before the first one."""
    link = Link(clock, off)
    link.hold_ups = [0.08, 0.03]  # connecting, and then a busy machine
    store = RedisStore(link)
    for there, back in ((0.0002, 0.0002), (0.0, 0.05), (0.05, 0.0), (0.0002, 0.0002), (0.0, 0.3)):
        link.there, link.back = there, back
        granted = store.reserve("age", 5, PACE, None, 0.0)
        assert granted.since is not None
        begins = (link.next - 5 * 20_000) / 1e6
        assert granted.since + granted.delay + off == pytest.approx(begins, abs=0.0005)
        clock.advance(0.7)


def test_a_line_that_is_always_slow_loses_no_slot(clock: ManualRuntime) -> None:
    """Slots make room for the way that answers have: none has begun before its answer is there."""
    link = Link(clock, 1.7e9)
    link.there = link.back = 0.03
    store = RedisStore(link)
    for _ in range(5):
        granted = store.reserve("far", 1, PACE, 0.0, 0.0)
        assert granted.since is not None
        assert granted.since + granted.delay >= clock.monotonic() - 0.001
        clock.advance(1.0)


def test_another_server_s_clock_is_learnt_anew(clock: ManualRuntime) -> None:
    """After a fail-over, or when the server's clock was set."""
    link = Link(clock, 1.7e9)
    link.there = link.back = 0.0002
    store = RedisStore(link)
    store.reserve("moved", 1, PACE, None, 0.0)
    link.off += 5.0
    link.next = 0
    granted = store.reserve("moved", 1, PACE, None, 0.0)
    assert granted.since == pytest.approx(clock.monotonic(), abs=0.001)


def test_prefixes_are_apart(server: RedisServer) -> None:
    """One server can serve several systems."""
    here, there = RedisStore.from_url(server.url, prefix="here:"), RedisStore.from_url(server.url, prefix="there:")
    here.save("db/", Shared(1, "open", 10.0), 0)
    assert there.load("db/") is None


def test_records_expire(server: RedisServer) -> None:
    """Whatever nobody touches goes by itself; an open circuit's record not before it may close."""
    client = redis.Redis.from_url(server.url, decode_responses=True)
    store = RedisStore(client, prefix="expire:", keep=100.0)
    store.save("open/", Shared(1, "open", 1000.0), 0)
    store.count("counted/", 0, 60.0)
    store.reserve("paced", 50, Pace(1.0, 0.5, 1.0, 0.1), None, 0.0)
    store.slow_down("slowed", Pace(1.0, 0.5, 1.0, 0.1))
    store.join("paced", "me", 60.0)
    store.claim("operation", "me", "f", 1.0, 30.0)
    left = {key.removeprefix("expire:"): client.pttl(key) / 1000.0 for key in client.keys("expire:*")}
    assert left == {
        "circuit:open/": pytest.approx(1100.0, abs=5.0),
        "circuit:counted/": pytest.approx(100.0, abs=5.0),
        "limiter:paced": pytest.approx(150.0, abs=5.0),
        "limiter:slowed": pytest.approx(102.0, abs=5.0),
        "members:paced": pytest.approx(60.0, abs=5.0),
        "operation:operation": pytest.approx(30.0, abs=5.0),
    }
    client.close()


def test_records_say_their_schema(server: RedisServer) -> None:
    """So that a later version knows what it reads."""
    client = redis.Redis.from_url(server.url, decode_responses=True)
    store = RedisStore(client, prefix="schema:")
    store.save("db/", Shared(1, "open", 10.0), 0)
    store.reserve("paced", 1, Pace(1.0, 0.5, 1.0, 0.1), None, 0.0)
    store.claim("operation", "me", "f", 1.0, 30.0)
    for key in ("circuit:db/", "limiter:paced", "operation:operation"):
        assert client.hget(f"schema:{key}", "schema") == "1"
    client.close()


def test_scripts_are_loaded_again(server: RedisServer) -> None:
    """A server that has restarted knows none of them."""
    store = RedisStore.from_url(server.url, prefix="reload:")
    assert store.load("db/") is None
    client = redis.Redis.from_url(server.url)
    client.script_flush()
    client.close()
    assert store.load("db/") is None


def test_its_own_client_tries_once_and_not_for_long(tmp_path: Path) -> None:
    """Retries inside the client would multiply with those around the call."""
    with start(tmp_path) as server:
        store = RedisStore.from_url(server.url, timeout=0.2)
        store.load("db/")
        server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(redis.exceptions.TimeoutError):
                store.load("db/")
            assert time.monotonic() - began < 1.0
        finally:
            server.thaw()
        server.kill()
        began = time.monotonic()
        with pytest.raises(redis.exceptions.ConnectionError):
            store.load("db/")
        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@127.0.0.1:6379/0",  # the # ends the address: the rest of the password is a port
        f"redis://:{SECRET}@127.0.0.1:x/0",
        f"http://:{SECRET}@127.0.0.1",
        "redis://:secret?planted=1@127.0.0.1:6379/0",
    ],
)
def test_a_wrong_url_is_not_shown(url: str) -> None:
    """Not even in the chain of errors: it may hold a password."""
    with pytest.raises(OptionError) as caught:
        RedisStore.from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in repr(error)
        error = error.__cause__ or error.__context__
    assert "Percent-encode" in str(caught.value)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("nosuch=planted", "nosuch"),
        ("client_name=planted&nosuch=planted&other=1", "nosuch, other"),
        ("socket_timeout=planted", "socket_timeout"),
        ("db=planted", "db"),
        ("protocol=9", "protocol"),
        ("encoding=planted", "encoding"),
    ],
)
def test_wrong_options_in_a_url_are_named(query: str, named: str) -> None:
    """Those alone, by name: a value may be the password, and so may the rest of the URL."""
    with pytest.raises(OptionError) as caught:
        RedisStore.from_url(f"redis://user:planted@127.0.0.1:1/0?{query}")
    said = "RedisStore.from_url.url has options that redis.Redis.from_url does not take, or not with that value: "
    assert str(caught.value).startswith(f"{said}{named}.")
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "query", ["password=a&planted=1", "nosuch=planted1@host", "db=0&password=a&b=1&planted=2", "x=a@b&planted=1"]
)
def test_what_may_be_a_password_is_no_name(query: str) -> None:
    """Behind a password with & or @ in it, which ought to be encoded."""
    with pytest.raises(OptionError, match="Percent-encode") as caught:
        RedisStore.from_url(f"redis://127.0.0.1:1/0?{query}")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("path", ["x", "1x", "0/1"])
def test_a_database_that_is_no_number_is_refused(path: str) -> None:
    """The client would take the first one instead, and share it with whoever is there."""
    with pytest.raises(OptionError, match="must name its database by a number, as in redis://host:6379/0"):
        RedisStore.from_url(f"redis://:planted@127.0.0.1:1/{path}")


@pytest.mark.parametrize(
    "url", ["redis://", "redis://h", "redis://h/", "redis://h/3?health_check_interval=5", "unix:///tmp/x.sock?db=2"]
)
def test_good_urls_are_taken(url: str) -> None:
    """Nobody is asked."""
    RedisStore.from_url(url)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeot": 3, "password": "planted"}, r"got timeot\. Did you mean timeout\?"),
        ({"nosuch": 3, "client_name": "planted"}, r"got nosuch\. It is misspelt"),
        ({"timeout": -3.0}, "timeout"),
        ({"encoding": "planted"}, "got encoding"),
    ],
)
def test_wrong_options_of_the_client_are_refused(options: dict[str, Any], named: str) -> None:
    """And not first met as a store that is away; their values may be secrets."""
    with pytest.raises(OptionError, match=named) as caught:
        RedisStore.from_url("redis://127.0.0.1:1/0", **options)
    assert "planted" not in str(caught.value)


def test_the_password_stays_private(tmp_path: Path, resilience: None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr, nor errors, nor events, nor logs have it, right or wrong."""
    caplog.set_level(logging.DEBUG)
    with start(tmp_path, password="planted-right") as server:
        right = RedisStore.from_url(server.url)
        assert right.load("db/") is None
        wrong = RedisStore.from_url(server.url.replace("planted-right", "planted-wrong"))
        with pytest.raises(redis.exceptions.RedisError) as caught:
            wrong.load("db/")
        assert "planted" not in str(caught.value)
        for number, one in enumerate((right, wrong)):
            assert "planted" not in repr(one)
            breaker = Breaker(f"private-{number}", store=one)
            assert "planted" not in repr(breaker)
            assert breaker.call(lambda: "fine") == "fine"
    assert "store_failed" in caplog.text or "AuthenticationError" in caplog.text
    assert "planted" not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client": "redis://localhost"}, r"RedisStore\.client must be callable"),
        ({"client": redis.asyncio.Redis(password="planted")}, r"no coroutines; got 'redis\.asyncio\.client\.Redis'"),
        ({"prefix": None}, r"RedisStore\.prefix must be a string"),
        ({"keep": 0.0}, r"RedisStore\.keep must be more than 0 seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """At construction, not at the first failure."""
    with pytest.raises(OptionError, match=message):
        RedisStore(**{"client": redis.Redis(), **options})


def test_data_are_not_in_the_record_s_text(store: RedisStore) -> None:
    """A record may be logged; what the operation came to is nobody's business."""
    store.claim("operation", "me", "f", 1.0, 30.0)
    store.finish("operation", "me", Status.completed, b"planted", 30.0)
    found = store.find("operation")
    assert found is not None
    assert found.data == b"planted"
    assert "planted" not in repr(found)


CONSUMER: Final = """
import sys, json
from resilient_faces import rate_limit
from resilient_faces.adapters.redis_store import RedisStore
limiter = rate_limit(50.0, name="global", store=RedisStore.from_url(sys.argv[1], prefix="consumers:", timeout=10.0),
                     store_timeout=10.0)
batches = [limiter.reserve_batch(10) for _ in range(3)]
print(json.dumps([batch.begins + index * batch.interval for batch in batches for index in range(batch.count)]))
"""


def test_consumers_share_one_limiter(server: RedisServer) -> None:
    """Processes of their own, which call it by its name `global` at the server: no slot is given twice."""
    consumers = [
        subprocess.Popen([sys.executable, "-c", CONSUMER, server.url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    starts = sorted(start for one in consumers for start in json.loads(one.communicate(timeout=60)[0]))
    assert len(starts) == 90  # the monotonic clock is the same in all processes of a machine
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert min(gaps) > 0.005  # 20 ms, but for the time that answers took
    assert sum(gaps) >= 89 * 0.02 - 0.1
