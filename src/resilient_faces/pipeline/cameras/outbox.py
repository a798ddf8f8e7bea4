"""What a session has to tell, in order, and what of it still matters when the receiver is slow or away."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Message", "Outbox"]

ROUNDS: Final = 3  # deliveries of one message, each with its own repetitions


@dataclass(slots=True, eq=False)
class Message:
    """One webhook.

    Attributes:
        id: Id of the delivery, the same in every round, so that a receiver which had it after all can tell.
        about: What it is about; a newer one about the same takes its place.
        body: What is sent.
        person: Whose recognition it is; None for a status.
        rounds: How often it was delivered in vain.
    """

    id: str
    about: Hashable = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    person: str | None = field(default=None, repr=False)
    rounds: int = 0


class Outbox:
    """Messages that wait, oldest first.

    What failed is kept aside until the receiver accepts something again: a receiver that is away then gets everything
    when it is back, and costs the session one message at a time meanwhile. After `ROUNDS` such failures a message is
    given up, for it may be what the receiver cannot take.

    Of statuses about the same camera only the newest waits. Recognitions are bounded, and the oldest goes.

    Args:
        most: Recognitions that may wait.

    Attributes:
        under_way: The message that is being delivered.
        lost: Messages that were given up.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Hashable, Message] = {}
        self._aside: dict[Hashable, Message] = {}
        self.under_way: Message | None = None
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._aside) + (self.under_way is not None)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nothing but what is kept aside waits."""
        return not self._waiting and self.under_way is None

    def put(self, message: Message) -> Message | None:
        """Have a message delivered; the answer is the one that had to go for it."""
        for kept in (self._waiting, self._aside):
            kept.pop(message.about, None)
        self._waiting[message.about] = message
        people = [one for one in (*self._aside.values(), *self._waiting.values()) if one.person is not None]
        if message.person is None or len(people) <= self._most:
            return None
        self._waiting.pop(people[0].about, None)
        self._aside.pop(people[0].about, None)
        self.lost += 1
        return people[0]

    def take(self) -> Message | None:
        """The next message, which is under way from now on."""
        if self._waiting:
            self.under_way = self._waiting.pop(next(iter(self._waiting)))
        return self.under_way

    def settle(self, *, accepted: bool, asked: bool = True, ending: bool = False) -> None:
        """The message under way came to its end.

        Args:
            accepted: The receiver took it.
            asked: The receiver was asked; not if a policy of our own refused.
            ending: The session is at its end: what failed is not kept.
        """
        message, self.under_way = self.under_way, None
        assert message is not None
        if accepted:
            self.hasten()
            return
        message.rounds += asked
        if message.about in self._waiting:
            return  # it is out of date: a newer one waits
        if ending or message.rounds >= ROUNDS:
            self.lost += 1
        else:
            self._aside[message.about] = message

    def hasten(self) -> None:
        """Let what was kept aside go first."""
        self._waiting = {**self._aside, **self._waiting}
        self._aside = {}

    def abandon(self) -> None:
        """Give up what is left."""
        self.lost += len(self)
        self._waiting, self._aside, self.under_way = {}, {}, None
