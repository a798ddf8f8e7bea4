"""The policy table of identity verification."""

from __future__ import annotations

import pytest

from resilient_faces.pipeline.presets import PRESETS
from resilient_faces.testing import ManualRuntime, script


@pytest.mark.parametrize(
    ("name", "waits", "then"),
    [
        ("upload", [1.0, 1.0], ("surface",)),
        ("store", [0.1, 0.4], ("dead_letter",)),
        ("compare", [0.1, 0.5, 1.0], ("audit", "surface")),
        ("audit", [0.1, 0.2], ("secondary_queue", "alarm")),
    ],
)
def test_the_table(clock: ManualRuntime, name: str, waits: list[float], then: tuple[str, ...]) -> None:
    """Attempts, waits and what comes after, row by row."""
    lines = script(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        PRESETS[name].retry(lines.function())()
    assert clock.slept == pytest.approx(waits)
    assert lines.count == len(waits) + 1
    assert PRESETS[name].then == then


def test_there_are_four() -> None:
    """No step has been forgotten, and none has two rows."""
    assert sorted(PRESETS) == ["audit", "compare", "store", "upload"]
