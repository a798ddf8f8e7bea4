"""Where sessions are entered, in this process's memory."""

from __future__ import annotations

__all__ = ["MemoryRegister"]


class MemoryRegister:
    """A `Register` of one process. What `drop` takes out of it ends, as if somebody had removed it elsewhere."""

    def __init__(self) -> None:
        self._sessions: dict[int, str] = {}

    async def add(self, slot: int, session: str) -> bool:
        return self._sessions.setdefault(slot, session) == session

    async def holds(self, slot: int, session: str) -> bool:
        return self._sessions.get(slot) == session

    async def remove(self, slot: int, session: str) -> None:
        if self._sessions.get(slot) == session:
            del self._sessions[slot]

    def drop(self, slot: int) -> bool:
        """Take a session out by its slot; whether there was one."""
        return self._sessions.pop(slot, None) is not None
