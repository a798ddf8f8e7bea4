"""A user's mistakes: each line must be an error for both checkers, else its ignore comment is unused and that is one.

These files are read by mypy and pyright, and imported by nobody.
"""

from __future__ import annotations

from resilient_faces import circuit_breaker, fallback, guard, retry


@retry(attempts=4)
def load(key: str, *, limit: int = 10) -> int:
    """A guarded function."""
    return len(key) + limit


load(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
load("a", limit="b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
load()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
load("a", size=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
number: str = load("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
load.call_with_report(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@retry(attempts=4)
async def aload(key: str) -> int:
    """A guarded coroutine function."""
    return len(key)


aload(1)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
not_awaited: int = aload("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@fallback(value=None)
def name_of(key: str) -> str:
    """Guarded by a fallback that may answer None."""
    return key


name_of("a").upper()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


class Repository:
    """Guarded methods."""

    @retry(attempts=2)
    def find(self, key: str) -> int:
        """A method."""
        return len(key)

    @classmethod
    @retry(attempts=2)
    def make(cls, key: str) -> int:
        """A class method."""
        return len(key)

    @staticmethod
    @retry(attempts=2)
    def parse(text: str) -> int:
        """A static method."""
        return len(text)


Repository().find(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Repository().find("a", "b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Repository.make(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Repository().parse(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

retry(atempts=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
retry(attempts="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
circuit_breaker(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
guard("retry")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
guard(retry(attempts=2)).call(load, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
