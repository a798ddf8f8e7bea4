"""Log lines whose words are fixed elsewhere, such as in a document: written beside the event that they are about."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_faces._core.runtime import RUNTIME, logger_of
from resilient_faces.events import Event

__all__ = ["Line", "place_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line, in words of its own.

    Attributes:
        status: Its word, which is the event's `status` too.
        level: Its level.
        form: The whole line, with places for `slot` (the event's key), `camera` (its name), `code` and `attempt`, and
            for what else `tell` is given.
    """

    status: str
    level: int
    form: str

    def tell(self, event: Event, **more: object) -> None:
        """Write the line, with the event for `JsonFormatter`, and hand the event to all listeners but the default one.

        Unlike that one's sentences such a line is never left out, however often it comes: somebody counts them.
        """
        logger = logger_of(event.policy)
        if logger.isEnabledFor(self.level):
            text = self.form.format(slot=event.key, camera=event.name, code=event.code, attempt=event.attempt, **more)
            logger.log(self.level, "%s", text, extra={"event": event.to_dict()})
        RUNTIME.tell(event, logged=True)


def place_of(error: BaseException) -> str:
    """Where an error was raised, as module and line: what may be written of one whose text may hold anything."""
    tail = error.__traceback__
    while tail is not None and tail.tb_next is not None:
        tail = tail.tb_next
    return "" if tail is None else f"{tail.tb_frame.f_globals.get('__name__', '')}:{tail.tb_lineno}"
