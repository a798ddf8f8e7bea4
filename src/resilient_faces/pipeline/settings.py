"""Settings of the pipeline: defaults, variables with the prefix RESILIENT_FACES_, mistyped names refused."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from resilient_faces.adapters._aws_clients import is_region
from resilient_faces.errors import OptionError

PREFIX: Final = "RESILIENT_FACES_"
ELSEWHERE: Final = frozenset({"CACHE"})  # names with the prefix that belong to other parts

_KINDS: Final[Mapping[str, Callable[[str], str | int | float]]] = {
    "region": str,
    "batch": int,
    "workers": int,
    "visibility": int,
    "max_deliveries": int,
    "attempts": int,
    "rate": float,
    "handling": float,
    "connect_timeout": float,
    "read_timeout": float,
    "index_timeout": float,
}
_LIMITS: Final[Mapping[str, tuple[float, float, str]]] = {
    "rate": (0.1, 1000.0, "IndexFaces requests a second"),
    "batch": (1, 50, "messages a reservation"),
    "workers": (1, 256, "threads"),
    "visibility": (5, 43_200, "seconds"),
    "handling": (1, 43_000, "seconds, less than visibility"),
    "max_deliveries": (1, 1000, "deliveries of one message, the first included"),
    "attempts": (1, 20, "calls of one operation, the first included"),
    "connect_timeout": (0.05, 60, "seconds"),
    "read_timeout": (0.05, 300, "seconds"),
    "index_timeout": (0.05, 300, "seconds"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How photos are indexed.

    Attributes:
        region: AWS region; limits and circuits are kept by it.
        rate: IndexFaces requests a second, retries included; the service's quota is 50 in us-west-2.
        batch: Messages for which slots are reserved at once.
        workers: Threads that handle messages.
        visibility: Seconds that a received message stays hidden.
        handling: Seconds that one handling may take; nothing starts that would end later.
        max_deliveries: After so many failed deliveries a message is dead: 4 is three retries.
        attempts: Calls of one operation inside one handling.
        connect_timeout: Seconds to connect in.
        read_timeout: Seconds without a byte, for the store, the queue and the tables.
        index_timeout: The same for IndexFaces, which searches an image.
    """

    region: str = "us-west-2"
    rate: float = 50.0
    batch: int = 10
    workers: int = 24
    visibility: int = 30
    handling: float = 25.0
    max_deliveries: int = 4
    attempts: int = 6
    connect_timeout: float = 2.0
    read_timeout: float = 5.0
    index_timeout: float = 8.0

    def __post_init__(self) -> None:
        _refuse({one.name: getattr(self, one.name) for one in fields(self)}, lambda name: f"Settings.{name}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from variables such as RESILIENT_FACES_RATE; what is given by name wins.

        Raises:
            OptionError: A name is mistyped or a value is none; the message lists all of them.
        """
        variables = os.environ if environment is None else environment
        wrong: list[str] = []
        found: dict[str, Any] = {}
        for variable in sorted(name for name in variables if name.startswith(PREFIX)):
            name = variable[len(PREFIX) :].lower()
            if name.upper() in ELSEWHERE:
                continue
            if name not in _KINDS:
                close = difflib.get_close_matches(name, _KINDS, n=1)
                hint = f" Did you mean {PREFIX}{close[0].upper()}?" if close else ""
                wrong.append(f"{variable} is no setting.{hint}")
                continue
            text = variables[variable]
            kind = _KINDS[name]
            try:
                found[name] = kind(text)
            except ValueError:
                wrong.append(f"{variable} must be a {'whole ' if _KINDS[name] is int else ''}number; got {text!r}.")
        if wrong:
            raise OptionError(" ".join(wrong))
        values = {one.name: one.default for one in fields(cls)} | found | given
        _refuse(values, lambda name: f"Settings.{name}" if name in given else f"{PREFIX}{name.upper()}")
        return cls(**{**found, **given})


def _refuse(values: Mapping[str, Any], called: Callable[[str], str]) -> None:
    """Look at all settings, which are called as whoever gave them knows them.

    Raises:
        OptionError: Something is wrong; the message lists all of it.
    """
    wrong: list[str] = []
    for name, (low, high, unit) in _LIMITS.items():
        value = values[name]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            wrong.append(f"{called(name)} must be from {low:g} to {high:g} ({unit}); got {value!r}.")
    if not is_region(values["region"]):
        wrong.append(f"{called('region')} must be a region such as us-west-2; got {values['region']!r}.")
    if not wrong and values["handling"] >= values["visibility"]:
        longer, got = called("visibility"), values["handling"]
        wrong.append(
            f"{called('handling')} must be less than {longer} ({values['visibility']} s), or a message is handed out "
            f"again while it is handled; got {got:g}. Raise {longer}."
        )
    if wrong:
        raise OptionError(" ".join(wrong))
