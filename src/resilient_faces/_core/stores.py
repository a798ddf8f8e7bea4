"""Asking a store that processes share, so that no call is held up by it, whatever the store does.

A call waits for an answer for so long and no longer. The thread that asks goes on waiting, though, and a policy that
asked a hanging store again and again would collect such threads. So they are counted, and there is an end to them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from resilient_faces._core import workers
from resilient_faces._core.context import event, remaining
from resilient_faces._core.effects import Flow, Tell, Unanswered, ask
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.faults import Fault, Kind

__all__ = ["HURRIED", "MOST_LATE", "Contact", "UnreadableAnswer", "checked"]

T = TypeVar("T")

MOST_LATE: Final = 8  # asks that nobody waits for any more and that are still under way
HURRIED: Final = Unanswered("hurried")
"""The call had too little time left for an answer, which says nothing of the store."""

_CROWDED: Final = Unanswered("crowded")
_LIMIT_PASSED: Final = workers.LimitPassed.__name__


class UnreadableAnswer(Exception):
    """The store answered something that is no answer: to the policies that is as good as none."""


def checked(good: bool, answer: T) -> T:
    """The answer of a store, if it is good.

    Raises:
        UnreadableAnswer: It is not.
    """
    if not good:
        raise UnreadableAnswer
    return answer


class Contact:
    """One policy's contact with its store. Tells once that it is lost, and once that it is there again.

    Args:
        policy: Kind of policy, for events.
        inline: The store answers from memory: no thread is needed.
        limit: Seconds that an answer may take.

    Attributes:
        limit: As above.
        lost: The store failed to answer in time, and has not answered since.
        doubted: An ask was given up, and neither has it come back nor was another answered since.
        late: Asks that nobody waits for any more and that are still under way.
    """

    def __init__(self, policy: str, inline: bool, limit: float) -> None:
        self._policy = policy
        self._inline = inline
        self.limit = limit
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """A child has none of its parent's threads."""
        self._lock = threading.Lock()
        self.lost = self.doubted = False
        self.late = 0

    def begin_anew(self) -> None:
        """For tests."""
        self.after_fork()

    def ask(
        self, operation: Callable[..., T], *args: object, name: str, status: Callable[[], str], proves: bool = True
    ) -> Flow[T | Unanswered]:
        """Ask, within the limit and within half of what is left of the deadline: the rest is for the call itself.

        Args:
            operation: Of the store.
            args: Its arguments.
            name: The policy's name, for events.
            status: How the policy goes on without the store, for the event that says so.
            proves: An answer shows that the contact is there.
        """
        if self.late >= MOST_LATE:
            return _CROWDED
        left = remaining()
        limit = self.limit if left is None else min(self.limit, left / 2.0)
        if limit <= 0.0:
            return HURRIED
        asked = _Watched(self, operation)
        try:
            answer = yield from ask(asked, *args, inline=self._inline, limit=limit)
        except BaseException:  # the task was cancelled
            asked.give_up()
            raise
        if not isinstance(answer, Unanswered):
            self.doubted = False
            if proves and self._turn(lost=False):
                yield Tell(event("recovered", policy=self._policy, status="shared", name=name))
            return answer
        asked.give_up()
        if limit < self.limit and answer.code == _LIMIT_PASSED:
            return HURRIED
        if self._turn(lost=True):
            fault = Fault(Kind.unavailable, answer.code)
            yield Tell(event("store_failed", policy=self._policy, status=status(), name=name, fault=fault))
        return answer

    def look(self, operation: Callable[..., object], *args: object, answered: Callable[[], None]) -> None:
        """Ask in a thread that nobody waits for; `answered` is called in it if the answer comes within the limit."""
        begun = threading.Event()

        def work() -> None:
            begun.set()
            began = RUNTIME.monotonic()
            try:
                operation(*args)
            finally:
                self.one_back()
            if RUNTIME.monotonic() - began <= self.limit:
                answered()

        self.one_late()
        try:
            workers.run(work, 0.0)
        except workers.LimitPassed:
            pass  # as it should be
        except Exception:  # the store raised at once, or no thread could be started: no answer in either case
            if not begun.is_set():
                self.one_back()

    def _turn(self, *, lost: bool) -> bool:
        """Whether this is news."""
        with self._lock:
            news = self.lost is not lost
            self.lost = lost
        return news

    def one_late(self) -> None:
        """Nobody waits any more for an ask that is under way."""
        with self._lock:
            self.late += 1
            self.doubted = True

    def one_back(self) -> None:
        """One of those has ended."""
        with self._lock:
            self.late -= 1
            if self.late <= 0:
                self.doubted = False


class _Watched(Generic[T]):
    """One ask in a thread. It is late from when nobody waits for it any more until it ends."""

    __slots__ = ("_begun", "_contact", "_given_up", "_lock", "_operation", "_over")

    def __init__(self, contact: Contact, operation: Callable[..., T]) -> None:
        self._contact = contact
        self._operation = operation
        self._lock = threading.Lock()
        self._begun = self._given_up = self._over = False

    def __call__(self, *args: object) -> T:
        with self._lock:
            if self._given_up:  # before its thread got its turn
                raise workers.LimitPassed
            self._begun = True
        try:
            return self._operation(*args)
        finally:
            with self._lock:
                self._over = True
                late = self._given_up
            if late:
                self._contact.one_back()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._given_up = True
            late = self._begun and not self._over
        if late:
            self._contact.one_late()
