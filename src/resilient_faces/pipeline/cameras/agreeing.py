"""Whom a camera's last frames agree on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from resilient_faces.pipeline.cameras.plans import Agreement

__all__ = ["Agreeing"]


class Agreeing:
    """What the last frames of one camera showed.

    Args:
        rule: How many of how many must agree.
    """

    def __init__(self, rule: Agreement) -> None:
        self._rule = rule
        self._shown: deque[Mapping[str, float]] = deque(maxlen=rule.of)
        self._connection = 0

    def note(self, connection: int, shown: Mapping[str, float]) -> dict[str, float]:
        """Take in one frame.

        Args:
            connection: Which it came over; what came over an earlier one counts no longer.
            shown: Who was seen in it, and how near each was: a cosine.

        Returns:
            Whoever is in this frame and in enough of those before, with the best cosine of them.
        """
        if connection != self._connection:
            self._connection = connection
            self._shown.clear()
        self._shown.append(shown)
        agreed: dict[str, float] = {}
        for person in shown:
            cosines = [one[person] for one in self._shown if person in one]
            if len(cosines) >= self._rule.frames:
                agreed[person] = max(cosines)
        return agreed
