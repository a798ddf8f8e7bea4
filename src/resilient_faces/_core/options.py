"""Checks that collect every wrong option into one message, and refuse option names that do not exist."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import ParamSpec, TypeVar

from resilient_faces.errors import OptionError, UnknownOptionError

__all__ = ["Checks", "checked_names", "known_options"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


class Checks:
    """Collects what is wrong with the options of one object; `done` raises if anything is.

    Each message names class, option, rule, value and cure.
    """

    __slots__ = ("_owner", "_wrong")

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._wrong: list[str] = []

    def that(self, good: bool, option: str, rule: str, value: object, cure: str = "") -> bool:
        """Note a broken rule unless `good`."""
        if not good:
            shown = repr(value)
            if len(shown) > 80:
                shown = f"{shown[:77]}..."
            self._wrong.append(f"{self._owner}.{option} must be {rule}; got {shown}." + (f" {cure}" if cure else ""))
        return good

    def whole(self, option: str, value: object, at_least: int, cure: str = "", *, note: str = "") -> bool:
        """A whole number of at least `at_least`; True is not a number here."""
        good = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
        return self.that(good, option, f"{at_least} or more{note}", value, cure)

    def number(
        self,
        option: str,
        value: object,
        at_least: float = 0.0,
        at_most: float = math.inf,
        *,
        above: bool = False,
        unit: str = "",
        cure: str = "",
        infinite: bool = False,
    ) -> bool:
        """A number from `at_least` (not included if `above`) to `at_most`."""
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
        if good and isinstance(value, (int, float)):
            good = (value > at_least if above else value >= at_least) and value <= at_most
            good = good and (infinite or not math.isinf(value))
        lower = f"more than {at_least:g}" if above else f"{at_least:g} or more"
        upper = "" if math.isinf(at_most) else f" and {at_most:g} or less"
        return self.that(good, option, f"{lower}{upper}{f' {unit}' if unit else ''}", value, cure)

    def seconds(self, option: str, value: object, *, above: bool = True, cure: str = "", infinite: bool = False) -> bool:
        """A number of seconds; more than zero unless `above` is false."""
        return self.number(option, value, above=above, unit="seconds", cure=cure, infinite=infinite)

    def function(self, option: str, value: object, cure: str = "") -> bool:
        """Something that can be called."""
        return self.that(callable(value), option, "callable", value, cure)

    def done(self) -> None:
        """Raise if anything was wrong.

        Raises:
            OptionError: All broken rules, a line each.
        """
        if self._wrong:
            raise OptionError("\n".join(self._wrong))


def known_options(cls: type) -> list[str]:
    """Names that the options of this policy go by."""
    return [field.name for field in fields(cls) if field.init] if is_dataclass(cls) else []


def _refuse(owner: str, wrong: list[str], known: list[str]) -> UnknownOptionError:
    import difflib  # slow to import, seldom needed

    lines = []
    for name in wrong:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        lines.append(f"{owner} has no option {name!r}.{meant} It takes: {', '.join(known)}.")
    return UnknownOptionError("\n".join(lines))


def checked_names(cls: C) -> C:
    """Class decorator: say what is wrong when an option name is mistyped or a decorator's brackets are missing.

    Works on the failing path only; a good construction costs one `try`.
    """
    plain = cls.__init__  # type: ignore[misc]
    label = cls.__name__

    @functools.wraps(plain)
    def __init__(self: object, *args: object, **kwargs: object) -> None:
        try:
            plain(self, *args, **kwargs)
        except TypeError as error:
            if isinstance(error, OptionError):
                raise
            known = known_options(cls)
            wrong = [name for name in kwargs if name not in known]
            if wrong:
                raise _refuse(label, wrong, known) from None
            if args and inspect.isfunction(args[0]):
                raise OptionError(
                    f"{label} takes options, not a function; got {args[0].__qualname__!r}. "
                    f"Write @{label.lower()}(), with brackets, above the function."
                ) from None
            raise

    cls.__init__ = __init__  # type: ignore[misc]
    return cls


def checked_call(function: Callable[P, R]) -> Callable[P, R]:
    """As `checked_names`, for a function that takes options by keyword."""
    names = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]

    label = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        wrong = [name for name in kwargs if name not in names]
        if wrong:
            raise _refuse(label, wrong, [name for name in names if name != "self"])
        return function(*args, **kwargs)

    return checked
