"""A ledger: what a server did, one JSON line a call, for whoever checks it from outside."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TextIO

from resilient_faces._core.runtime import on_fork

__all__ = ["Ledger"]


class Ledger:
    """One JSON line a call, written before the answer leaves, so that a lost answer is still on record.

    Args:
        path: The file that lines are added to; None keeps no ledger.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def write(self, **facts: object) -> None:
        """Add a line."""
        if self._file is None:
            return
        line = json.dumps(facts, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.write(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
