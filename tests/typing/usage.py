"""A user's right uses: both checkers, in strict mode, must agree with every `assert_type` and find nothing wrong.

These files are read by mypy and pyright, and imported by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from typing_extensions import assert_type

from resilient_faces import Report, circuit_breaker, fallback, guard, retry, timeout
from resilient_faces.retry import exponential, full


class Row:
    """What the examples load."""


@retry(attempts=4, backoff=exponential(0.1, factor=2.0, cap=10.0), jitter=full())
def load(key: str, *, limit: int = 10) -> Row:
    """A function: parameters, keywords and result stay."""
    return Row()


assert_type(load("a"), Row)
assert_type(load("a", limit=3), Row)
load_as_callback: Callable[[str], Row] = load


@retry(attempts=4)
async def aload(key: str) -> Row:
    """A coroutine function stays one."""
    return Row()


async def use_aload() -> None:
    """Awaiting gives the result."""
    assert_type(await aload("a"), Row)
    coroutine: Coroutine[Any, Any, Row] = aload("a")
    assert_type(await coroutine, Row)


@fallback(value=None)
def name_of(key: str) -> str:
    """A fallback value widens the result."""
    return key


assert_type(name_of("a"), "str | None")


@fallback(value=None)
async def aname_of(key: str) -> str:
    """Of a coroutine function as well."""
    return key


async def use_aname_of() -> None:
    """The awaited result is widened, not the coroutine."""
    assert_type(await aname_of("a"), "str | None")


@fallback(value="nobody")
def same_type(key: str) -> str:
    """A fallback of the same type leaves the result as it is."""
    return key


assert_type(same_type("a"), str)


def from_cache(key: str) -> int:
    """An alternative with another result."""
    return len(key)


@fallback(function=from_cache)
def by_function(key: str) -> str:
    """A fallback function widens by what it returns."""
    return key


assert_type(by_function("a"), "str | int")


@circuit_breaker("db")
def through_breaker(key: str) -> Row:
    """The preset of a breaker, name first."""
    return Row()


assert_type(through_breaker("a"), Row)


@circuit_breaker("db", failure_threshold=3, timeout=10)
async def athrough_breaker(key: str) -> Row:
    """The same for coroutine functions."""
    return Row()


class Repository:
    """Methods of each kind keep their signature."""

    @retry(attempts=2)
    def find(self, key: str) -> Row:
        """A method."""
        return Row()

    @retry(attempts=2)
    async def afind(self, key: str) -> Row:
        """An async method."""
        return Row()

    @classmethod
    @retry(attempts=2)
    def make(cls, key: str) -> Repository:
        """A class method, guarded inside."""
        return cls()

    @retry(attempts=2)
    @classmethod
    async def amake(cls, key: str) -> Repository:
        """A class method, guarded outside."""
        return cls()

    @staticmethod
    @retry(attempts=2)
    def parse(text: str) -> int:
        """A static method, guarded inside."""
        return int(text)

    @retry(attempts=2)
    @staticmethod
    async def aparse(text: str) -> int:
        """A static method, guarded outside."""
        return int(text)

    @staticmethod
    @retry(attempts=2)
    def count() -> int:
        """A static method without parameters."""
        return 0


class Special(Repository):
    """Guarded methods are inherited."""


repository = Repository()
assert_type(repository.find("a"), Row)
assert_type(Special().find("a"), Row)
assert_type(Repository.find(repository, "a"), Row)
assert_type(Repository.make("a"), Repository)
assert_type(Special.make("a"), Repository)
assert_type(repository.make("a"), Repository)
assert_type(Repository.parse("1"), int)
assert_type(repository.parse("1"), int)
assert_type(Repository.count(), int)
assert_type(repository.count(), int)


async def use_repository() -> None:
    """Async methods are bound like others."""
    assert_type(await repository.afind("a"), Row)
    assert_type(await Special.amake("a"), Repository)
    assert_type(await repository.amake("a"), Repository)
    assert_type(await Repository.aparse("1"), int)
    assert_type(await repository.aparse("1"), int)


db = guard(retry(attempts=4), circuit_breaker("db"), timeout(2.0))


@db
def guarded(key: str) -> Row:
    """A guard is a decorator."""
    return Row()


@db
async def aguarded(key: str) -> Row:
    """For both colours."""
    return Row()


assert_type(guarded("a"), Row)
assert_type(db.call(load, "a", limit=1), Row)


async def use_guard() -> None:
    """And a call, sync or async."""
    assert_type(await aguarded("a"), Row)
    assert_type(await db.acall(aload, "a"), Row)


@retry(attempts=2)
@fallback(value=None)
def stacked(key: str) -> str:
    """Stacked decorators pass the widened type on."""
    return key


assert_type(stacked("a"), "str | None")

value, told = load.call_with_report("a", limit=2)
assert_type(value, Row)
assert_type(told, Report)


async def use_report() -> None:
    """The report of an async call comes with the awaited value."""
    avalue, atold = await aload.call_with_report("a")
    assert_type(avalue, Row)
    assert_type(atold, Report)


with circuit_breaker("db"):
    pass


async def use_admission() -> None:
    """Admissions are async context managers as well."""
    async with circuit_breaker("db"):
        pass
