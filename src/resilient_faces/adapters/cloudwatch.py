"""Amazon CloudWatch: metrics by request, and metrics as lines of a log in the embedded metric format.

Prefer the lines where a log agent or Lambda reads them: they cost no request and survive a service that is away. A
request cannot be told from its repetition: PutMetricData has no token, and a value that arrives twice counts twice.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TextIO

from resilient_faces._core.context import event
from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME, OwnLock
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AWS, AsyncFace, Requests, threaded
from resilient_faces.errors import OptionError
from resilient_faces.faults import Kind
from resilient_faces.retry import Retry

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = ["UNITS", "AsyncCloudWatch", "CloudWatch", "EmfWriter", "Metric", "emf_lines"]

_SIZES: Final = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_BITS: Final = ("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits")
UNITS: Final = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"}
    | {*_SIZES, *_BITS}
    | {f"{one}/Second" for one in (*_SIZES, *_BITS)}
)
"""The units that CloudWatch knows."""

MOST_IN_REQUEST: Final = 1000
MOST_IN_LINE: Final = 100
MOST_DIMENSIONS: Final = 30
_MOST_VALUES: Final = 100  # of one metric in a line
_LONGEST: Final = 1024  # characters of a dimension's value
_NAME: Final = 255
_MOST_BYTES: Final = 1_000_000
_LARGEST: Final = 2.0**360
_DEEPEST: Final = 20  # properties within properties
_MOST_WHOLE: Final = 2**1024  # the largest numbers that readers of JSON take


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's values at one moment.

    Args:
        name: 1 to 255 printable ASCII characters.
        values: One number, or up to 100 of them; those of numpy and decimals are numbers too.
        unit: One of `UNITS`.
        dimensions: At most 30. A new combination of values is a new metric, and is billed as one: keep requests,
            people and photos out of it.
        resolution: 60, or 1 for metrics that are kept by the second.
        at: Seconds since 1970; None for now.

    Raises:
        OptionError: Something is not what CloudWatch takes; the message lists all of it.
    """

    name: str
    values: float | Sequence[float]
    unit: str = "None"
    dimensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resolution: int = 60
    at: float | None = None

    def __post_init__(self) -> None:
        checks = Checks("Metric")
        checks.that(_is_name(self.name), "name", f"1 to {_NAME} printable ASCII characters", self.name)
        try:
            values = self.numbers
        except (TypeError, ValueError, OverflowError):
            checks.that(False, "values", "a number or several", type(self.values).__name__)
            checks.done()
            raise
        cure = "Count, or sample, before you send."
        checks.that(0 < len(values) <= _MOST_VALUES, "values", f"1 to {_MOST_VALUES} numbers", len(values), cure)
        checks.that(all(_is_number(one) for one in values), "values", "finite numbers up to 2 to the 360th", values)
        checks.that(self.unit in UNITS, "unit", "one of CloudWatch's units", self.unit, "See UNITS.")
        _check_dimensions(checks, self.dimensions)
        checks.that(self.resolution in (1, 60), "resolution", "1 or 60 seconds", self.resolution)
        if self.at is not None:
            checks.seconds("at", self.at)
        checks.done()

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values, also if there is but one."""
        several: Any = (self.values,) if isinstance(self.values, (Real, Decimal)) else self.values
        return tuple(_plain(one) for one in several)


class CloudWatch:
    """Metrics of one namespace, each request under its guard.

    A request that was refused, such as by throttling, is made once more. One whose answer is lost is not: nothing tells
    a repetition from new values, and a gap in a graph is better than an alarm for errors that never were. What cannot
    be delivered is dropped, counted in `dropped` and told as an event; metrics never break the work that they are of.

    Args:
        client: A boto3 client for cloudwatch that tries once (`adapters.aws.connect`).
        namespace: Of all metrics.
        options: The guards, as `Requests` takes them; by default two attempts.

    Attributes:
        dropped: Values that may not have arrived.
    """

    def __init__(self, client: Any, namespace: str, **options: Unpack[Guarding]) -> None:
        checks = Checks("CloudWatch")
        check_client(checks, client, "cloudwatch")
        _check_namespace(checks, namespace)
        checks.done()
        options.setdefault("retry", Retry(attempts=2))
        self._requests = Requests(client, **options)
        self._namespace = namespace
        self._lock = OwnLock()
        self.dropped = 0

    def put(self, metrics: Iterable[Metric]) -> bool:
        """Send the metrics, up to 1,000 a request; False if any of them were dropped.

        Raises:
            botocore.exceptions.ClientError: A request is wrong in itself; the others were made all the same.
        """
        whole = True
        wrong: Exception | None = None
        for data in _requests([_datum(metric) for metric in metrics]):
            try:
                self._requests("PutMetricData", Namespace=self._namespace, MetricData=data)
            except Exception as error:
                fault = AWS(error)
                if fault.kind is Kind.unknown or fault.kind is Kind.invalid:
                    wrong = wrong or error
                    continue
                whole = False
                with self._lock:
                    self.dropped += sum(len(one["Values"]) for one in data)
                RUNTIME.tell(
                    event(
                        "gave_up",
                        policy="cloudwatch",
                        status="dropped",
                        name=self._namespace,
                        operation="PutMetricData",
                        fault=fault,
                    )
                )
        if wrong is not None:
            raise wrong
        return whole


class AsyncCloudWatch(AsyncFace[CloudWatch]):
    """`CloudWatch` for async code."""

    put = threaded(CloudWatch.put)


# -- the embedded metric format -----------------------------------------------------------------------------------


def emf_lines(
    namespace: str,
    metrics: Sequence[Metric],
    *,
    dimensions: Mapping[str, str] = MappingProxyType({}),
    properties: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[str]:
    """The metrics as lines of JSON from which CloudWatch Logs makes metrics; no line ends with a line break.

    Metrics of one moment and one set of dimensions share a line, 100 at most. A line is delivered at least once, so a
    value can count twice there as well; `properties` may carry an id by which a query of the log tells.

    Args:
        namespace: Of all metrics.
        metrics: What was measured.
        dimensions: Of all metrics, beside their own.
        properties: Members of the line that are no metrics, to search the log by. No person, no picture. Moments,
            UUIDs, paths and numbers of any kind are written as text or number, a number that is none or too large as
            null, and what JSON has no place for as the name of its class: it may be what nobody may see.

    Raises:
        OptionError: A name is used for two things, or a line would be longer than 1 MB. All other lines come first, and
            that one without its properties if that is what mends it: no measured value is lost.
    """
    checks = Checks("emf_lines")
    _check_dimensions(checks, dimensions)
    _check_namespace(checks, namespace)
    checks.done()
    groups: dict[tuple[object, ...], list[list[Metric]]] = {}
    for metric in metrics:
        key = (metric.at, *sorted({**dimensions, **metric.dimensions}.items()))
        lines = groups.setdefault(key, [[]])
        if len(lines[-1]) >= MOST_IN_LINE or any(one.name == metric.name for one in lines[-1]):
            lines.append([])
        lines[-1].append(metric)
    told = {str(name): _tellable(value) for name, value in properties.items()}
    wrong: dict[str, None] = {}  # each once, in order
    for line in itertools.chain.from_iterable(groups.values()):
        whole = {**dimensions, **line[0].dimensions}
        for tried in (told, {}):
            try:
                text = _line(namespace, line, whole, tried)
            except OptionError as error:
                wrong.setdefault(str(error))
            else:
                yield text
                break
    if wrong:
        raise OptionError("\n".join(wrong))


class EmfWriter:
    """Writes metrics as lines to a stream, such as a log file or standard output; from any thread.

    Args:
        stream: A text stream. Each line is written in one go and flushed.
        namespace: Of all metrics.
        dimensions: Of all metrics, beside their own.
    """

    def __init__(self, stream: TextIO, namespace: str, dimensions: Mapping[str, str] = MappingProxyType({})) -> None:
        checks = Checks("EmfWriter")
        _check_dimensions(checks, dimensions)
        _check_namespace(checks, namespace)
        checks.done()
        self._stream = stream
        self._namespace = namespace
        self._dimensions = dict(dimensions)
        self._lock = OwnLock()

    def write(self, *metrics: Metric, **properties: object) -> None:
        """Write the metrics; see `emf_lines`. What can be written is, whatever is wrong with the rest."""
        text = ""
        try:
            for line in emf_lines(self._namespace, metrics, dimensions=self._dimensions, properties=properties):
                text += f"{line}\n"
        finally:
            if text:
                with self._lock:
                    self._stream.write(text)
                    self._stream.flush()


def _line(
    namespace: str, metrics: Sequence[Metric], dimensions: Mapping[str, str], properties: Mapping[str, object]
) -> str:
    checks = Checks("emf_lines")
    checks.that(len(dimensions) <= MOST_DIMENSIONS, "dimensions", f"at most {MOST_DIMENSIONS}", len(dimensions))
    names = ["_aws", *dimensions, *properties, *(metric.name for metric in metrics)]
    twice = sorted({name for name in names if names.count(name) > 1})
    cure = "Each is a member of the same JSON object."
    checks.that(not twice, "names", "different for dimensions, properties and metrics", twice, cure)
    checks.done()
    at = metrics[0].at
    directive = {
        "Namespace": namespace,
        "Dimensions": [list(dimensions)],
        "Metrics": [
            {"Name": one.name, "Unit": one.unit, **({"StorageResolution": 1} if one.resolution == 1 else {})}
            for one in metrics
        ],
    }
    members = {
        "_aws": {"Timestamp": int((RUNTIME.wall() if at is None else at) * 1000), "CloudWatchMetrics": [directive]},
        **dimensions,
        **properties,
        **{one.name: one.numbers if len(one.numbers) > 1 else one.numbers[0] for one in metrics},
    }
    text = json.dumps(members, separators=(",", ":"), allow_nan=False)
    size = len(text.encode())
    checks.that(size <= _MOST_BYTES, "line", "1 MB or less", size, "Leave properties out, or split the values.")
    checks.done()
    return text


def _tellable(value: object, within: tuple[int, ...] = ()) -> object:
    """A value as JSON has it; what it has no place for as the name of its class, since nobody may see all values."""
    match value:
        case Enum():
            return _tellable(value.value, within)
        case None | bool() | str():
            return value
        case Integral():
            return int(value) if abs(int(value)) < _MOST_WHOLE else None
        case Decimal() | Real():
            try:
                number = float(value)
            except (ArithmeticError, ValueError):  # too large, or a NaN that signals
                return None
            return number if math.isfinite(number) else None
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case uuid.UUID() | PurePath():
            return str(value)
    inside = (*within, id(value))
    if len(within) < _DEEPEST and id(value) not in within:
        match value:
            case dict():
                return {str(_tellable(name, inside)): _tellable(one, inside) for name, one in value.items()}
            case list() | tuple() | set() | frozenset():
                return [_tellable(one, inside) for one in value]
    return f"<{type(value).__name__}>"


# -- parts --------------------------------------------------------------------------------------------------------


def _datum(metric: Metric) -> dict[str, Any]:
    return {
        "MetricName": metric.name,
        "Values": list(metric.numbers),
        "Unit": metric.unit,
        "Timestamp": RUNTIME.wall() if metric.at is None else metric.at,
        "StorageResolution": metric.resolution,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions.items()],
    }


def _requests(data: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many metrics a request as it takes: 1,000 of them, and 1 MB."""
    batch: list[dict[str, Any]] = []
    size = 0
    for one in data:
        weight = len(json.dumps(one)) * 2  # the query protocol writes names of members into each of them
        if batch and (len(batch) >= MOST_IN_REQUEST or size + weight > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += weight
    if batch:
        yield batch


def _check_dimensions(checks: Checks, dimensions: Mapping[str, str]) -> None:
    count = len(dimensions)
    checks.that(count <= MOST_DIMENSIONS, "dimensions", f"at most {MOST_DIMENSIONS}", count)
    for name, value in dimensions.items():
        good = _is_name(name) and not name.startswith(":")
        checks.that(good, "dimensions", f"named in 1 to {_NAME} printable ASCII characters, no colon first", name)
        good = isinstance(value, str) and value.strip() != "" and len(value) <= _LONGEST and value.isascii()
        # A value may be what must not be seen: only its name is told.
        checks.that(good, f"dimensions[{name!r}]", f"1 to {_LONGEST} ASCII characters", type(value).__name__)


def _check_namespace(checks: Checks, namespace: object) -> None:
    good = isinstance(namespace, str) and _is_name(namespace) and namespace[0] != ":" and namespace[:4] != "AWS/"
    checks.that(good, "namespace", f"1 to {_NAME} printable ASCII characters, without AWS/ or a colon first", namespace)


def _is_name(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= _NAME
        and text.isascii()
        and text.isprintable()
        and text.strip() != ""
    )


def _plain(value: Any) -> Any:
    """A number of numpy or a decimal as JSON and the SDK take it; everything else as it is."""
    if isinstance(value, (int, float)) or not isinstance(value, (Real, Decimal)):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _is_number(value: object) -> bool:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return good and abs(value) <= _LARGEST  # type: ignore[arg-type]  # what is no number is not less
