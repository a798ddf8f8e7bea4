"""Stores on DynamoDB: the contracts on the emulator, the clock that is learnt from dates, and the table."""

from __future__ import annotations

import itertools
import math
import runpy
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces import DecorationError, OptionError
from resilient_faces._core.runtime import RUNTIME, _forkables
from resilient_faces.adapters._server_clock import ServerClock
from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.adapters.dynamodb_store import ClockUnknownError, DynamoDbStore, _second
from resilient_faces.breaker import Shared
from resilient_faces.limits import Pace
from resilient_faces.testing import ManualRuntime
from resilient_faces.testing.emulator import REGION, Emulator, EmulatorUnavailable
from resilient_faces.testing.store_contracts import (
    BreakerStoreContract,
    IdempotencyStoreContract,
    LimiterStoreContract,
)

pytest.importorskip("boto3", reason="boto3 is not installed: pip install 'resilient-faces[aws]'")

SNIPPET: Final = Path(__file__).resolve().parents[2] / "docs" / "snippets" / "stores.py"
TABLE: Final = "shared-state"
_prefixes: Final = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        emulator = Emulator(tmp_path_factory.mktemp("emulator"))
    except EmulatorUnavailable as error:
        pytest.skip(str(error))
    with emulator:
        yield connect("dynamodb", region=REGION, endpoint=LocalEndpoint(emulator.url))


@pytest.fixture(scope="module")
def table(client: Any) -> DynamoDbStore:
    """One store for all, so that the table is made and the clock is learnt once."""
    made = DynamoDbStore(client, table=TABLE)
    made.ensure_table()
    made.learn_clock()
    return made


@pytest.fixture
def store(table: DynamoDbStore) -> DynamoDbStore:
    """An empty one."""
    made = DynamoDbStore(table._client, table=TABLE, prefix=f"test-{next(_prefixes)}:")
    made.clock, made._learnt = table.clock, table._learnt
    return made


class TestBreakerStore(BreakerStoreContract):
    precision = 0.1


class TestLimiterStore(LimiterStoreContract):
    precision = 0.1


class TestIdempotencyStore(IdempotencyStoreContract):
    precision = 0.1


def test_what_the_page_shows_works(client: Any, resilience: None) -> None:
    """The functions of "Share state between processes"."""
    endpoint = LocalEndpoint(client.meta.endpoint_url)
    breaker, limiter = runpy.run_path(str(SNIPPET))["on_dynamodb"](REGION, endpoint)
    assert breaker.call(lambda: "fine") == "fine"
    assert limiter.call(lambda: "fine") == "fine"
    assert limiter.share == 50.0  # one process, which the store knows of


# -- the clock -----------------------------------------------------------------------------------------------------


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.001)


def date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def hear(clock: ServerClock, date: str, sent: float, received: float) -> None:
    """One answer with this date."""
    second = _second(date)
    assert second is not None
    clock.hear(second, second + 1.0, sent, received)


@given(
    off=st.floats(-1e5, 1e5),
    answers=st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0.0, 0.3), st.floats(0.0, 0.3)), min_size=1),
)
def test_the_clock_is_never_further_off_than_it_says(off: float, answers: list[tuple[float, float, float]]) -> None:
    """Whatever the offset, and however long requests and answers take."""
    with ManualRuntime().installed() as runtime:
        clock = ServerClock()
        for pause, there, back in answers:
            runtime.advance(pause)
            sent = runtime.wall()
            runtime.advance(there)
            written = date(runtime.wall() + off)
            runtime.advance(back)
            hear(clock, written, sent, runtime.wall())
            assert abs(clock.at(runtime.wall()) - (runtime.wall() + off)) <= clock.width / 2.0 + 1e-5


def test_a_few_answers_tell_the_time_well(clock: ManualRuntime) -> None:
    """Each that comes near the server's next second halves what is not known."""
    server = ServerClock()
    for _ in range(8):
        sent = clock.wall()
        clock.advance(0.002)
        hear(server, date(clock.wall() + 5.25), sent, clock.wall())
        clock.advance(server.until_second(clock.wall()))
    assert server.width < 0.02
    assert server.at(clock.wall()) == pytest.approx(clock.wall() + 5.25, abs=0.01)


def test_a_clock_that_was_set_is_learnt_anew(clock: ManualRuntime) -> None:
    """An answer that contradicts all earlier ones counts alone: the machine slept, or its clock was put right."""
    server = ServerClock()
    hear(server, date(clock.wall()), clock.wall(), clock.wall())
    clock.epoch += 3600.0
    hear(server, date(clock.wall() - 3600.0), clock.wall(), clock.wall())
    assert server.at(clock.wall()) == pytest.approx(clock.wall() - 3600.0, abs=1.0)
    assert server.width <= 1.0
    assert _second("nonsense") is None


def test_what_was_known_fades(clock: ManualRuntime) -> None:
    """Two clocks drift apart: after a day of silence old bounds are not believed to the millisecond."""
    server = ServerClock()
    for fraction in (0.99, 0.01):
        at = float(int(clock.wall()) + 1) + fraction
        clock.now = at - clock.epoch
        hear(server, date(at), at, at)
    narrow = server.width
    clock.advance(86_400.0 - clock.wall() % 1.0 + 0.5)
    hear(server, date(clock.wall()), clock.wall(), clock.wall())
    assert narrow < 0.1
    assert server.width > 0.5


def test_a_machine_whose_clock_is_off_agrees_with_the_others(
    table: DynamoDbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seconds fast: what it writes and reads means the same moments."""
    table.save("clocks/", Shared(1, "open", 100.0), 0)
    wall = RUNTIME.wall
    monkeypatch.setattr(RUNTIME, "wall", lambda: wall() + 5.0)
    fast = DynamoDbStore(table._client, table=TABLE)
    seen = fast.load("clocks/")
    assert seen is not None
    assert 95.0 < seen.seconds <= 100.6  # one answer tells the time to half a second
    fast.learn_clock()
    pace = Pace(10.0, 0.5, 1.0, 0.1)
    fast.reserve("clocks", 10, pace, None, 0.0)
    monkeypatch.setattr(RUNTIME, "wall", wall)
    assert 0.3 < table.reserve("clocks", 1, pace, None, 0.0).delay <= 1.1


def test_only_one_thread_learns_the_clock(clock: ManualRuntime) -> None:
    """The others are told so at once, and go by their share meanwhile."""

    class Client:
        def update_item(self, **_: Any) -> None: ...

    made = DynamoDbStore(Client())
    assert made._learning.acquire(blocking=False)
    with pytest.raises(ClockUnknownError):
        made.reserve("x", 1, Pace(10.0, 0.5, 1.0, 0.1), None, 0.0)


def test_a_slow_line_s_clock_is_learnt_once(clock: ManualRuntime) -> None:
    """As well as the line allows; to learn it again and again would keep everybody waiting for nothing."""
    asked: list[str] = []

    class Client:
        def answer(self, operation: str) -> dict[str, Any]:
            asked.append(operation)
            clock.advance(0.03)
            told = {"ResponseMetadata": {"HTTPHeaders": {"date": date(clock.wall())}}}
            clock.advance(0.03)
            return {**told, "Attributes": {"next": {"N": "1"}}}

        def get_item(self, **_: Any) -> dict[str, Any]:
            return self.answer("get_item")

        def update_item(self, **_: Any) -> dict[str, Any]:
            return self.answer("update_item")

    made = DynamoDbStore(Client())
    pace = Pace(10.0, 0.5, 1.0, 0.1)
    made.reserve("far", 1, pace, None, 0.0)
    assert asked.count("get_item") > 5
    assert 0.02 < made.clock.width < 0.2
    asked.clear()
    for _ in range(30):
        clock.advance(60.0)
        made.reserve("far", 1, pace, None, 0.0)
    assert asked == ["update_item"] * 30


class Dated:
    """A client whose every answer takes 2 ms and has a date."""

    def __init__(self, clock: ManualRuntime) -> None:
        self.clock = clock
        self.asked: list[str] = []

    def _answer(self, operation: str) -> dict[str, Any]:
        self.asked.append(operation)
        self.clock.advance(0.002)
        told = {"ResponseMetadata": {"HTTPHeaders": {"date": date(self.clock.wall())}}}
        return {**told, "Attributes": {"next": {"N": "1"}}}

    def get_item(self, **_: Any) -> dict[str, Any]:
        return self._answer("get_item")

    def update_item(self, **_: Any) -> dict[str, Any]:
        return self._answer("update_item")


@pytest.mark.parametrize(
    ("idle", "asks", "most"), [(600.0, ["update_item"], 0.08), (86_400.0, ["get_item", "update_item"], 1.1)]
)
def test_after_a_long_pause_no_call_waits_for_the_clock(
    clock: ManualRuntime, monkeypatch: pytest.MonkeyPatch, idle: float, asks: list[str], most: float
) -> None:
    """Clocks have drifted apart: it is learnt anew beside the calls, whose slots make room for that meanwhile."""
    client = Dated(clock)
    made = DynamoDbStore(client)
    pace = Pace(50.0, 0.5, 1.0, 0.1)
    usual = made.reserve("x", 1, pace, None, 0.0).interval
    began: list[threading.Lock] = []
    monkeypatch.setattr(made, "_learn_quietly", began.append)
    clock.advance(idle)
    client.asked.clear()
    for _ in range(2):
        granted = made.reserve("x", 1, pace, None, 0.0)
        assert usual + 0.0004 < granted.interval < usual + most / 51.0
    assert client.asked == [*asks, "update_item"]
    until(lambda: bool(began))
    assert began == [made._learning]
    monkeypatch.undo()
    made._learn_quietly(made._learning)
    assert not made._learning.locked()
    assert made.reserve("x", 1, pace, None, 0.0).interval == pytest.approx(usual, abs=1e-4)


def test_a_clock_that_could_not_be_learnt_anew_is_tried_again(clock: ManualRuntime) -> None:
    """The thread that failed leaves the way free."""
    made = DynamoDbStore(Dated(clock))
    made.reserve("x", 1, Pace(50.0, 0.5, 1.0, 0.1), None, 0.0)
    made._client = None
    assert made._learning.acquire(blocking=False)
    made._learn_quietly(made._learning)
    assert not made._learning.locked()


def test_a_child_after_a_fork_waits_for_no_thread_of_its_parent() -> None:
    """What its parent's threads held when it was born is let go of."""
    made = DynamoDbStore(Dated(ManualRuntime()))
    held = (made._learning, made.clock._lock)
    for one in held:
        one.acquire()
    made.after_fork()
    made.clock.after_fork()
    assert not made._learning.locked()
    assert math.isinf(made.clock.width)
    assert {made, made.clock} <= set(_forkables)


# -- the table -----------------------------------------------------------------------------------------------------


def test_the_table_is_made_once(client: Any) -> None:
    """With its key, and deletion of what has expired; asked for again it is left as it is."""
    made = DynamoDbStore(client, table="made-once")
    made.ensure_table()
    made.save("db/", Shared(1, "open", 10.0), 0)
    made.ensure_table()
    assert made.load("db/") is not None
    described = client.describe_table(TableName="made-once")["Table"]
    assert described["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    found = client.describe_time_to_live(TableName="made-once")["TimeToLiveDescription"]
    assert (found["TimeToLiveStatus"], found["AttributeName"]) == ("ENABLED", "expires")


def test_records_expire(table: DynamoDbStore) -> None:
    """Each says when it may be deleted; an open circuit's not before it may close."""
    store = DynamoDbStore(table._client, table=TABLE, prefix="expire:", keep=100.0)
    store.clock = table.clock
    now = store._now() / 1e6
    store.save("open/", Shared(1, "open", 1000.0), 0)
    store.count("counted/", 0, 60.0)
    store.reserve("paced", 50, Pace(1.0, 0.5, 1.0, 0.1), None, 0.0)
    store.join("paced", "me", 60.0)
    store.claim("operation", "me", "f", 1.0, 30.0)
    found = {}
    for kind, key in (
        ("circuit", "open/"),
        ("circuit", "counted/"),
        ("limiter", "paced"),
        ("members", "paced"),
        ("operation", "operation"),
    ):
        item = store._load(kind, key)
        assert item is not None
        found[f"{kind}:{key}"] = item["expires"] - now
        assert kind == "members" or item.get("schema", 1) == 1
    assert found == {
        "circuit:open/": pytest.approx(1100.0, abs=5.0),
        "circuit:counted/": pytest.approx(160.0, abs=5.0),
        "limiter:paced": pytest.approx(150.0, abs=5.0),
        "members:paced": pytest.approx(100.0, abs=5.0),
        "operation:operation": pytest.approx(30.0, abs=5.0),
    }


def test_prefixes_are_apart(table: DynamoDbStore) -> None:
    """One table can serve several systems."""
    here = DynamoDbStore(table._client, table=TABLE, prefix="here:")
    there = DynamoDbStore(table._client, table=TABLE, prefix="there:")
    here.save("db/", Shared(1, "open", 10.0), 0)
    assert there.load("db/") is None


def test_members_that_left_are_removed(store: DynamoDbStore) -> None:
    """The record does not grow with every process that ever was."""
    for number in range(5):
        store.join("members", str(number), 60.0)
    assert store.join("members", "last", 0.0001) == 1
    found = store._load("members", "members")
    assert found is not None
    assert len([name for name in found if name.startswith("m_")]) == 1


def test_an_answer_that_is_none_is_no_answer(clock: ManualRuntime) -> None:
    """botocore makes an empty result of a damaged body: that must not look like a count of nothing."""

    class Client:
        def update_item(self, **_: Any) -> dict[str, Any]:
            return {"ResponseMetadata": {"HTTPHeaders": {"date": date(clock.wall())}}}

        get_item = update_item

    with pytest.raises(KeyError):
        DynamoDbStore(Client()).count("db/", 0, 60.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client": "dynamodb"}, r"DynamoDbStore\.client must be a boto3 client of dynamodb"),
        ({"table": "ab"}, r"DynamoDbStore\.table must be a name of 3 characters or more"),
        ({"prefix": None}, r"DynamoDbStore\.prefix must be a string"),
        ({"keep": 0.0}, r"DynamoDbStore\.keep must be more than 0 seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, client: Any) -> None:
    """At construction, not at the first failure."""
    with pytest.raises(OptionError, match=message):
        DynamoDbStore(**{"client": client, **options})


def test_a_client_of_coroutines_is_refused() -> None:
    """A store is asked in a thread, and would take a coroutine for its answer."""

    class Client:
        meta = SimpleNamespace(method_to_api_mapping={"get_item": "GetItem"})

        async def get_item(self, **_: Any) -> None: ...

        update_item = get_item

    with pytest.raises(DecorationError, match="coroutines"):
        DynamoDbStore(Client())


def test_credentials_stay_private() -> None:
    """Neither the store's text nor its error shows them."""
    endpoint = LocalEndpoint("http://127.0.0.1:1", access_key="planted-id", secret_key="planted-key")
    made = DynamoDbStore.connected(region=REGION, endpoint=endpoint, timeout=0.2)
    assert "planted" not in repr(made)
    with pytest.raises(Exception, match="connect") as caught:
        made.load("db/")
    assert "planted" not in f"{caught.value!r} {caught.value}"
