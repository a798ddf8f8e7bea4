"""`Deadline`: so many seconds for everything inside, waits and queues included."""

from __future__ import annotations

from contextvars import Token
from typing import ClassVar, NoReturn

from resilient_faces._core.context import DEADLINE
from resilient_faces._core.deadline import exceeded, under_deadline, until
from resilient_faces._core.effects import Target
from resilient_faces._core.options import Checks, checked_names
from resilient_faces._core.runtime import RUNTIME
from resilient_faces._light import dataclass
from resilient_faces.composing import Decorator
from resilient_faces.faults import Fault

__all__ = ["Deadline"]


@checked_names
@dataclass(frozen=True, slots=True)
class Deadline(Decorator[NoReturn]):
    """So many seconds for everything inside: attempts, waits, queues and whatever asks `remaining()`.

    The nearest deadline counts. Async code is cut off when it has passed. Blocking code cannot be cut off, but no retry
    starts a wait that would end after it, whatever has a time limit or waits for its turn is refused once it has
    passed, and `remaining()` gives the time limit for sockets and clients. It crosses `await`, nested guards and this
    library's worker threads.

    Args:
        seconds: From the start of the call or block.

    Raises:
        DeadlineExceededError: From the guarded function: the deadline has passed. No outer retry repeats that.
    """

    seconds: float

    answers: ClassVar[bool] = False
    quiet: ClassVar[bool] = True
    role: ClassVar[str] = "deadline"

    def __post_init__(self) -> None:
        checks = Checks("Deadline")
        checks.seconds("seconds", self.seconds)
        checks.done()

    def around(self, function: Target, asynchronous: bool) -> Target:
        """The function under this deadline."""
        return under_deadline(function, self.seconds, asynchronous)

    def enter(self) -> Token[float | None]:
        """Put the deadline around a block. The block is not cut off: it asks `remaining()`, as waits and clients do."""
        end = until(self.seconds)
        if end <= RUNTIME.monotonic():
            raise exceeded("block", end)
        return DEADLINE.set(end)

    async def aenter(self) -> Token[float | None]:
        """As `enter`; decorate a coroutine function to have it cut off."""
        return self.enter()

    def leave(self, entry: Token[float | None], error: BaseException | None, fault: Fault | None) -> None:
        """The block has ended."""
        try:
            DEADLINE.reset(entry)
        except ValueError:  # in another context than it began in: there it was never set
            pass
