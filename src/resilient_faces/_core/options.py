"""Checks that collect every wrong option into one message, and refuse option names that do not exist."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Final, ParamSpec, TypeVar

from resilient_faces._light import plan_of
from resilient_faces.errors import OptionError, UnknownOptionError
from resilient_faces.faults import Match, Matcher, matcher

__all__ = ["Checks", "checked_call", "checked_names"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


INFINITE: Final = float("inf")


class Checks:
    """Collects what is wrong with the options of one object; `done` raises if anything is.

    Each message names class, option, rule, value and cure, and is put together only once the rule is broken.
    """

    __slots__ = ("_owner", "_wrong")

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._wrong: tuple[str, ...] = ()

    def that(self, good: bool, option: str, rule: str, value: object, cure: str = "") -> bool:
        """Note a broken rule unless `good`."""
        if not good:
            shown = repr(value)
            if len(shown) > 80:
                shown = f"{shown[:77]}..."
            message = f"{self._owner}.{option} must be {rule}; got {shown}." + (f" {cure}" if cure else "")
            self._wrong = (*self._wrong, message)
        return good

    def whole(self, option: str, value: object, at_least: int, cure: str = "", *, note: str = "") -> bool:
        """A whole number of at least `at_least`; True is not a number here."""
        if isinstance(value, int) and value is not True and value is not False and value >= at_least:
            return True
        return self.that(False, option, f"{at_least} or more{note}", value, cure)

    def number(
        self,
        option: str,
        value: object,
        at_least: float = 0.0,
        at_most: float = INFINITE,
        *,
        above: bool = False,
        unit: str = "",
        cure: str = "",
        infinite: bool = False,
    ) -> bool:
        """A number from `at_least` (not included if `above`) to `at_most`."""
        if isinstance(value, (int, float)) and value is not True and value is not False:
            enough = value > at_least if above else value >= at_least  # not a number is never enough
            if enough and value <= at_most and (value != INFINITE or infinite):
                return True
        lower = f"more than {at_least:g}" if above else f"{at_least:g} or more"
        upper = "" if at_most == INFINITE else f" and {at_most:g} or less"
        return self.that(False, option, f"{lower}{upper}{f' {unit}' if unit else ''}", value, cure)

    def seconds(
        self, option: str, value: object, *, above: bool = True, cure: str = "", infinite: bool = False
    ) -> bool:
        """A number of seconds; more than zero unless `above` is false."""
        return self.number(option, value, above=above, unit="seconds", cure=cure, infinite=infinite)

    def function(self, option: str, value: object, cure: str = "") -> bool:
        """Something that can be called."""
        return self.that(callable(value), option, "callable", value, cure)

    def match(self, option: str, value: Match | None) -> Matcher | None:
        """What an `on=` option names, as a test; None if it names nothing, or something wrong."""
        if value is None:
            return None
        try:
            return matcher(value)
        except TypeError:
            cure = "An iterator can be read once only: give a tuple." if isinstance(value, Iterator) else ""
            self.that(False, option, "exception classes, kinds of fault or predicates", value, cure)
            return None

    def name(self, option: str, value: object) -> bool:
        """A text that is not empty."""
        return self.that(isinstance(value, str) and value != "", option, "a name", value)

    def done(self) -> None:
        """Raise if anything was wrong.

        Raises:
            OptionError: All broken rules, a line each.
        """
        if self._wrong:
            raise OptionError("\n".join(self._wrong))


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

    A good construction costs nothing: the message is made where it fails.
    """
    cls.__better__ = _say  # type: ignore[attr-defined]
    return cls


def _say(self: object, args: tuple[object, ...], unknown: list[str]) -> None:
    plan = plan_of(type(self))
    label = type(self).__name__
    if unknown and plan is not None:
        raise _refuse(label, unknown, list(plan.defaults)) from None
    if args and isinstance(args[0], FunctionType):
        raise OptionError(
            f"{label} takes options, not a function; got {args[0].__qualname__!r}. "
            f"Write @{label.lower()}(), with brackets, above the function."
        ) from None


def checked_call(function: Callable[P, R]) -> Callable[P, R]:
    """As `checked_names`, for a function that takes options by keyword."""
    assert isinstance(function, FunctionType)
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    label = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                wrong = [name for name in kwargs if name not in names]
                raise _refuse(label, wrong, [name for name in names if name != "self"])
        return function(*args, **kwargs)  # type: ignore[no-any-return]

    return checked
