"""What paid calls cost: counted for each request that leaves, and stopped at a daily cap."""

from __future__ import annotations

import datetime as dt
import functools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, NoReturn

from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.breaker import Breaker
from resilient_faces.composing import Decorator
from resilient_faces.errors import CircuitOpenError

PRICES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "rekognition.IndexFaces": 0.001,
        "rekognition.SearchFacesByImage": 0.001,
        "rekognition.SearchFaces": 0.001,
        "rekognition.CompareFaces": 0.001,
        "rekognition.DetectFaces": 0.001,
        "rekognition.CreateFaceLivenessSession": 0.015,
    }
)
"""US dollars a call, first tier of the larger regions; yours depend on region, volume and contract."""

CAP_REACHED: Final = "cost.cap"


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent on one day.

    Attributes:
        day: The day, UTC, as `2026-01-31`.
        dollars: What the requests of that day cost so far.
        cap: The most that a day may cost; None without one.
        calls: Requests by operation, retries included.
        refused: Requests that the cap kept from leaving.
    """

    day: str
    dollars: float
    cap: float | None
    calls: Mapping[str, int]
    refused: int

    @property
    def left(self) -> float | None:
        """Dollars left of the cap; None without one."""
        return None if self.cap is None else max(0.0, self.cap - self.dollars)


class CostMeter:
    """Counts dollars for each request that leaves, retries included, and stops at a daily cap.

    A request that would pass the cap does not leave: the meter's circuit is forced open until the next day (UTC), which
    tells a `transition`, and paid calls get `CircuitOpenError` until then, which a fallback may answer. Free operations
    go on. It counts requests, not bills: a throttled request may be free of charge, so the bill is lower, never higher.
    Each process counts for itself: give each its share of the cap.

    Args:
        cap: Dollars a day at most; None only counts.
        prices: Dollars a call, by `service.Operation`; operations that are not named are free. None for `PRICES`.
        name: Name of the circuit, which meters of the same name share: another one for each account that has a cap.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    def __init__(
        self, cap: float | None = None, *, prices: Mapping[str, float] | None = None, name: str = "rekognition/cost"
    ) -> None:
        prices = PRICES if prices is None else prices
        checks = Checks("CostMeter")
        if cap is not None:
            checks.number("cap", cap, above=True, unit="dollars a day", cure="None only counts.")
        checks.that(isinstance(name, str) and name != "", "name", "a name", name)
        if checks.that(isinstance(prices, Mapping), "prices", "a mapping of service.Operation to dollars", prices):
            for operation, price in prices.items():
                named = isinstance(operation, str) and all(operation.partition("."))
                checks.that(named, "prices", "named by service.Operation", operation, "Others would be free of charge.")
                checks.number(f"prices[{operation!r}]", price, unit="dollars a call")
        checks.done()
        self._cap = cap
        self._prices = dict(prices)
        # Only the cap opens it: what the calls themselves come to is the business of their own circuits.
        self.breaker: Final = Breaker(name, failures=_nothing)
        self._lock = threading.Lock()
        self._day = ""
        self._calls: Counter[str] = Counter()
        self._dollars = 0.0
        self._refused = 0
        self._seen = 0  # refusals of the circuit before today
        on_fork(self)

    def priced(self, service: str) -> tuple[str, ...]:
        """The operations of this service that have a price."""
        named = (operation.partition(".") for operation in self._prices)
        return tuple(operation for name, _, operation in named if name == service)

    def policies(self, operation: str) -> tuple[Decorator[NoReturn], ...]:
        """What goes around each request of this operation, outermost first; nothing if it is free."""
        price = self._prices.get(operation, 0.0)
        return (self.breaker, _Charged(self, operation)) if price > 0.0 else ()

    def charge(self, operation: str) -> None:
        """Count one request that is about to leave.

        Raises:
            CircuitOpenError: It would pass the cap. Nothing was counted.
        """
        price = self._prices.get(operation, 0.0)
        now = dt.datetime.fromtimestamp(RUNTIME.wall(), dt.timezone.utc)
        with self._lock:
            self._turn(now)
            # A millionth of a cent of slack: ten times 0.1 is a little less than 1.
            good = self._cap is None or price == 0.0 or self._dollars + price <= self._cap + 1e-8
            if good:
                self._dollars += price
                self._calls[operation] += 1
            else:
                self._refused += 1
        if not good:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
            seconds = (midnight - now).total_seconds()
            self.breaker.circuit.force_open(seconds, by=self)
            raise CircuitOpenError(self.breaker.circuit.name, seconds, CAP_REACHED)

    def _turn(self, now: dt.datetime) -> None:
        """Begin a new day if it is one. Lock held."""
        day = now.date().isoformat()
        if day != self._day:
            self._day = day
            self._calls = Counter()
            self._dollars = 0.0
            self._refused = 0
            self._seen = self.breaker.circuit.snapshot().rejected

    def snapshot(self) -> Spending:
        """What was spent today."""
        now = dt.datetime.fromtimestamp(RUNTIME.wall(), dt.timezone.utc)
        with self._lock:
            self._turn(now)
            # The first one here, all others by the circuit that it forced open.
            refused = self._refused + self.breaker.circuit.snapshot().rejected - self._seen
            return Spending(self._day, self._dollars, self._cap, dict(self._calls), refused)

    def after_fork(self) -> None:
        self._lock = threading.Lock()


def _nothing(_: BaseException) -> bool:
    return False


class _Charged(Decorator[NoReturn]):
    """Counts each request as it leaves."""

    __slots__ = ("_meter", "_operation")

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "meter"

    def __init__(self, meter: CostMeter, operation: str) -> None:
        self._meter = meter
        self._operation = operation

    def around(self, function: Callable[..., object], asynchronous: bool) -> Callable[..., object]:
        assert not asynchronous, "requests are made in threads"

        @functools.wraps(function)
        def charged(*arguments: object, **parameters: object) -> object:
            self._meter.charge(self._operation)
            return function(*arguments, **parameters)

        return charged


CostMeter.__init__ = checked_call(CostMeter.__init__)  # type: ignore[method-assign]
