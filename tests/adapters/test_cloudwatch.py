"""CloudWatch: metrics never count twice and never break the work; lines of the embedded format are valid ones."""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters.cloudwatch import UNITS, CloudWatch, EmfWriter, Metric, _requests, emf_lines
from resilient_faces.errors import OptionError
from resilient_faces.events import Event

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40).filter(
    lambda name: not name.startswith(":")
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def problems(line: str) -> list[str]:
    """What is wrong with a line, by the format's own rules."""
    found = []
    if "\n" in line or len(line.encode()) > 1_000_000:
        found.append("not one line of at most 1 MB")
    root = json.loads(line, parse_constant=lambda name: found.append(f"{name} is no JSON"))
    meta = root["_aws"]
    if not isinstance(meta["Timestamp"], int):
        found.append("the timestamp is no whole number of milliseconds")
    for directive in meta["CloudWatchMetrics"]:
        if not 0 < len(directive["Metrics"]) <= 100:
            found.append("1 to 100 metrics")
        for keys in directive["Dimensions"]:
            if len(keys) > 30:
                found.append("at most 30 dimensions")
            for key in keys:
                value = root.get(key)
                if not isinstance(value, str) or not 0 < len(value) <= 1024:
                    found.append(f"{key} is no dimension's value")
        for metric in directive["Metrics"]:
            value = root.get(metric["Name"])
            values = value if isinstance(value, list) else [value]
            if not 0 < len(values) <= 100 or not all(isinstance(one, (int, float)) for one in values):
                found.append(f"{metric['Name']} is no metric's value")
            if metric["Unit"] not in UNITS or metric.get("StorageResolution", 60) not in (1, 60):
                found.append(f"{metric['Name']} has no such unit or resolution")
    return found


@pytest.fixture
def metrics(services: Any, request: pytest.FixtureRequest) -> CloudWatch:
    return CloudWatch(services.through("cloudwatch"), "tests")


def total(services: Any, name: str) -> float:
    now = time.time()
    points = services.direct("cloudwatch").get_metric_statistics(
        Namespace="tests", MetricName=name, StartTime=now - 600, EndTime=now + 600, Period=60, Statistics=["Sum"]
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))


def test_a_refused_request_is_made_once_more(services: Any, metrics: CloudWatch) -> None:
    """A throttle was not carried out, so a repetition counts once."""
    services.strike("cloudwatch.PutMetricData", "throttle")
    assert metrics.put([Metric("Refused", 2.0, at=time.time())])
    assert services.seen == ["PutMetricData"] * 2
    assert total(services, "Refused") == 2.0
    services.strike("cloudwatch.PutMetricData", "throttle", 1, 2, 3)
    assert not metrics.put([Metric("Refused", 2.0, at=time.time())])
    assert services.seen == ["PutMetricData"] * 4


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_a_lost_answer_is_a_drop_and_no_second_count(services: Any, metrics: CloudWatch, fault: str) -> None:
    """Nothing could tell the repetition: it is counted and told, without a value."""
    heard: list[Event] = []
    RUNTIME.listen(heard.append)
    services.strike("cloudwatch.PutMetricData", fault, after=True)
    assert not metrics.put([Metric(f"Lost{fault}", (1.0, 2.0), at=time.time())])
    assert services.seen == ["PutMetricData"]
    assert total(services, f"Lost{fault}") == 3.0
    assert metrics.dropped == 2
    assert [(one.type, one.status) for one in heard if one.policy == "cloudwatch"] == [("gave_up", "dropped")]


def test_a_thousand_metrics_a_request(services: Any, metrics: CloudWatch) -> None:
    """And 1 MB."""
    assert metrics.put([Metric("Many", 1.0, dimensions={"site": "x"}) for _ in range(1001)])
    assert len(services.seen) == 2  # an older SDK compresses large ones, and the proxy cannot read their names
    heavy = [{"MetricName": "m", "Values": [0.123456789] * 100} for _ in range(1000)]
    assert len(list(_requests(heavy))) > 1


def test_what_is_wrong_is_raised(local: Any, script: Any) -> None:
    """A request that the service calls wrong will never work: that must not pass in silence."""
    client = local("cloudwatch")
    answer: object = {"__type": "InvalidParameterValueException", "message": "m"}
    if client.meta.service_model.resolved_protocol == "query":  # an older SDK
        answer = b"<ErrorResponse><Error><Code>InvalidParameterValue</Code></Error></ErrorResponse>"
    script(client, (400, answer))
    with pytest.raises(Exception, match="InvalidParameterValue"):
        CloudWatch(client, "tests").put([Metric("m", 1.0)])


def test_a_wrong_request_keeps_no_other_back(local: Any, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is sent first."""
    monkeypatch.setattr("resilient_faces.adapters.cloudwatch.MOST_IN_REQUEST", 1)
    client = local("cloudwatch")
    seen = script(client, ValueError("wrong"), (200, b""))
    with pytest.raises(ValueError, match="wrong"):
        CloudWatch(client, "tests", retry=None).put([Metric("m", 1.0)] * 3)
    assert len(seen.sent) == 3


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"name": ""}, "name"),
        ({"name": "\u00e9"}, "ASCII"),
        ({"values": ()}, "values"),
        ({"values": [1.0] * 101}, "Count, or sample"),
        ({"values": float("nan")}, "finite"),
        ({"values": 2.0**361}, "finite"),
        ({"values": True}, "finite"),
        ({"values": 10**400}, "finite"),
        ({"values": Decimal("NaN")}, "finite"),
        ({"values": Decimal("sNaN")}, "a number or several; got 'Decimal'"),
        ({"values": Fraction(10**400)}, "a number or several; got 'Fraction'"),
        ({"values": "3"}, "finite"),
        ({"values": None}, "a number or several; got 'NoneType'"),
        ({"values": object()}, "a number or several; got 'object'"),
        ({"unit": "seconds"}, "UNITS"),
        ({"dimensions": {f"d{n}": "x" for n in range(31)}}, "at most 30"),
        ({"dimensions": {":d": "x"}}, "colon"),
        ({"dimensions": {"d": " "}}, r"dimensions\['d'\]"),
        ({"resolution": 5}, "1 or 60"),
        ({"at": -1.0}, "at"),
    ],
)
def test_a_metric_that_would_be_refused_is_not_made(options: dict[str, Any], rule: str) -> None:
    """CloudWatch drops wrong lines without a word; here they are errors that name the rule."""
    with pytest.raises(OptionError, match=rule):
        Metric(**{"name": "m", "values": 1.0, **options})


def test_an_error_shows_no_dimensions_value() -> None:
    """It may be what must not be seen."""
    with pytest.raises(OptionError) as caught:
        Metric("m", 1.0, dimensions={"d": "planted\u00e9"})
    assert "planted" not in str(caught.value)


@given(
    st.lists(
        st.builds(
            Metric,
            NAMES.map(lambda name: f"m{name}"),
            st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=5)),
            unit=st.sampled_from(sorted(UNITS)),
            dimensions=st.dictionaries(NAMES.map(lambda name: f"d{name}"), NAMES, max_size=4),
            resolution=st.sampled_from([1, 60]),
            at=st.one_of(st.none(), st.floats(1.0, 2e9)),
        ),
        max_size=130,
    ),
    st.dictionaries(NAMES.map(lambda name: f"p{name}"), st.text(), max_size=3),
)
def test_every_line_is_valid_and_nothing_is_left_out(metrics: list[Metric], properties: dict[str, str]) -> None:
    """Whatever the metrics: lines keep to the limits, and hold all values with their dimensions and times."""
    lines = list(emf_lines("ns", metrics, dimensions={"service": "s"}, properties=properties))
    assert [problem for line in lines for problem in problems(line)] == []
    found = []
    for line in lines:
        root = json.loads(line)
        (directive,) = root["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]:
            value = root[metric["Name"]]
            numbers = tuple(value) if isinstance(value, list) else (value,)
            keys = {key: root[key] for key in directive["Dimensions"][0] if key != "service"}
            found.append((metric["Name"], numbers, metric["Unit"], tuple(sorted(keys.items()))))
        assert {name: root[name] for name in properties} == properties
    wanted = [(one.name, one.numbers, one.unit, tuple(sorted(one.dimensions.items()))) for one in metrics]
    assert sorted(found) == sorted(wanted)


def test_a_line_holds_a_hundred_metrics() -> None:
    """More go into further lines; so does a name that comes twice."""
    metrics = [Metric(f"m{number}", 1.0) for number in range(250)]
    lines = [json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"] for line in emf_lines("ns", metrics)]
    assert [len(line) for line in lines] == [100, 100, 50]
    assert len(list(emf_lines("ns", [Metric("m", 1.0), Metric("m", 2.0)]))) == 2


def test_a_line_is_at_the_moment_of_its_metrics(clock: ManualRuntime) -> None:
    """In milliseconds; now, if they do not say when."""
    (now,) = emf_lines("ns", [Metric("m", 1.0)])
    (then,) = emf_lines("ns", [Metric("m", 1.0, at=12.345)])
    assert [json.loads(line)["_aws"]["Timestamp"] for line in (now, then)] == [int(clock.wall() * 1000), 12345]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"properties": {"m": "x"}}, r"\['m'\]"),
        ({"dimensions": {"_aws": "x"}}, "_aws"),
        ({"dimensions": {f"d{n}": "x" for n in range(31)}}, "at most 30"),
        ({"properties": {"p": "x" * 1_000_001}}, "1 MB"),
        ({"namespace": "AWS/Mine"}, "AWS/"),
    ],
)
def test_a_line_that_would_be_dropped_is_not_made(options: dict[str, Any], rule: str) -> None:
    """One JSON object has one member of each name, and a line has an end."""
    with pytest.raises(OptionError, match=rule):
        list(emf_lines(**{"namespace": "ns", "metrics": [Metric("m", 1.0)], **options}))


class Embedding:
    """What must not be seen, however it is asked."""

    def __repr__(self) -> str:
        return "planted"

    __str__ = __repr__

    def __iter__(self) -> Iterator[str]:
        return iter(["planted"])


class Status(Enum):
    done = "done"


def test_a_property_that_json_has_no_place_for_loses_no_line() -> None:
    """It is told as text or number, or by the name of its class: its values stay unseen, and the metric arrives."""
    circle: list[object] = []
    circle.append(circle)
    given = {
        "moment": dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc),
        "day": dt.date(2026, 1, 31),
        "span": dt.timedelta(seconds=1.5),
        "id": uuid.UUID(int=7),
        "path": PurePosixPath("a/b"),
        "price": Decimal("0.001"),
        "count": Decimal(3),
        "huge": Decimal("1e400"),
        "signal": Decimal("sNaN"),
        "whole": 10**400,
        "third": Fraction(1, 4),
        "status": Status.done,
        "nothing": float("nan"),
        "endless": float("inf"),
        "bytes": b"planted",
        "embedding": Embedding(),
        "inside": {"a": Embedding(), 7: {"b": (1, Embedding())}},
        "circle": circle,
        "set": {1},
        "class": Embedding,
    }
    (line,) = emf_lines("ns", [Metric("m", 1.0)], properties=given)
    assert problems(line) == []
    assert "planted" not in line
    told = json.loads(line)
    assert {name: told[name] for name in given} == {
        "moment": "2026-01-31T12:00:00+00:00",
        "day": "2026-01-31",
        "span": 1.5,
        "id": "00000000-0000-0000-0000-000000000007",
        "path": "a/b",
        "price": 0.001,
        "count": 3.0,
        "huge": None,
        "signal": None,
        "whole": None,
        "third": 0.25,
        "status": "done",
        "nothing": None,
        "endless": None,
        "bytes": "<bytes>",
        "embedding": "<Embedding>",
        "inside": {"a": "<Embedding>", "7": {"b": [1, "<Embedding>"]}},
        "circle": ["<list>"],
        "set": [1],
        "class": "<type>",
    }


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(),
            st.binary(),
            st.uuids(),
            st.decimals(),
            st.datetimes(),
            st.complex_numbers(),
            st.just(object()),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(
                st.one_of(st.text(), st.integers(), st.none(), st.floats(), st.binary()), inner, max_size=3
            ),
        ),
    )
)
def test_no_property_whatever_it_is_costs_a_line(value: object) -> None:
    """And what is written is JSON."""
    (line,) = emf_lines("ns", [Metric("m", 1.0)], properties={"p": value})
    assert problems(line) == []
    assert json.loads(line)["m"] == 1.0


def test_numbers_of_others_are_values() -> None:
    """One or several of them, in a line and in a request."""
    numpy = pytest.importorskip("numpy", reason="the extra `demo` is not installed")
    one = Metric("a", Decimal("1.5"))  # type: ignore[arg-type]
    several = Metric("b", numpy.array([0.5, 2.0], numpy.float32))
    whole = Metric("c", numpy.int64(3))
    (line,) = emf_lines("ns", [one, several, whole, Metric("d", numpy.float32(0.25))])
    told = json.loads(line)
    assert [told[name] for name in "abcd"] == [1.5, [0.5, 2.0], 3, 0.25]
    assert {type(number) for metric in (one, several) for number in metric.numbers} == {float}
    with pytest.raises(OptionError, match=r"Metric\.values"):
        Metric("m", numpy.float32("nan"))


def test_arrays_and_their_numbers() -> None:
    """A number of numpy is a number; an array, which may be an embedding, stays unseen."""
    numpy = pytest.importorskip("numpy", reason="the extra `demo` is not installed")
    given = {"one": numpy.float32(0.5), "count": numpy.int64(3), "many": numpy.array([0.25, 0.75])}
    (line,) = emf_lines("ns", [Metric("m", 1.0)], properties=given)
    told = json.loads(line)
    assert (told["one"], told["count"], told["many"]) == (0.5, 3, "<ndarray>")


@pytest.mark.parametrize("properties", [{"b": "x"}, {"p": "x" * 1_000_001}], ids=["name twice", "too long"])
def test_what_is_wrong_with_one_line_costs_no_value(properties: dict[str, object]) -> None:
    """It is said at the end; the other lines are whole, and that one goes without its properties."""
    metrics = [Metric("a", 1.0, at=1.0), Metric("b", 2.0, at=2.0), Metric("c", 3.0, at=3.0)]
    stream = io.StringIO()
    with pytest.raises(OptionError):
        EmfWriter(stream, "ns").write(*metrics, **properties)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line[name] for line, name in zip(lines, "abc", strict=True)] == [1.0, 2.0, 3.0]
    if "b" in properties:
        assert (lines[0]["b"], lines[2]["b"]) == ("x", "x")


def test_dimensions_of_all_lines_are_checked() -> None:
    """CloudWatch would drop every line without a word."""
    with pytest.raises(OptionError, match=r"EmfWriter\.dimensions\['service'\]"):
        EmfWriter(io.StringIO(), "ns", {"service": 5})  # type: ignore[dict-item]
    with pytest.raises(OptionError, match=r"emf_lines\.dimensions\['service'\]"):
        list(emf_lines("ns", [Metric("m", 1.0)], dimensions={"service": ""}))


def test_lines_of_threads_do_not_mix(clock: ManualRuntime) -> None:
    """Each is written in one go."""

    class Torn(io.StringIO):
        """A stream that lets others in between two characters, unless it is given whole lines under a lock."""

        def write(self, text: str) -> int:
            for piece in text.splitlines(keepends=True):
                super().write(piece[:10])
                threading.Event().wait(0.0001)
                super().write(piece[10:])
            return len(text)

    stream = Torn()
    writer = EmfWriter(stream, "ns", {"service": "s"})
    threads = [
        threading.Thread(target=lambda n=n: [writer.write(Metric(f"m{n}", k), requestId="r") for k in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 80
    assert [problem for line in lines for problem in problems(line)] == []
