"""One test, every mode: the same guarded script as plain code, under asyncio and under trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from resilient_faces.testing.script import Scripted

__all__ = ["MODES", "Mode"]

MODES: Final = ("sync", "asyncio", "trio")


class Mode:
    """Runs functions in one of the modes.

    Attributes:
        name: `sync`, `asyncio` or `trio`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_async(self) -> bool:
        """Whether functions of this mode are coroutine functions."""
        return self.name != "sync"

    def function(self, scripted: Scripted) -> Callable[..., object]:
        """The script as a function of this mode."""
        return scripted.coroutine() if self.is_async else scripted.function()

    def wrap(self, function: Callable[..., object]) -> Callable[..., object]:
        """A plain function as one of this mode."""
        if not self.is_async:
            return function

        async def wrapped(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return wrapped

    def call(self, function: Callable[..., object], *args: object, **kwargs: object) -> object:
        """Call a function of this mode, in an event loop of its own if it needs one."""
        if not self.is_async:
            return function(*args, **kwargs)
        import anyio

        async def main() -> object:
            result = function(*args, **kwargs)
            assert isinstance(result, Awaitable)
            return await result

        return anyio.run(main, backend=self.name)

    def run(self, policy: Callable[..., Callable[..., object]], scripted: Scripted, *args: object) -> object:
        """Put a policy around the script and call it once."""
        return self.call(policy(self.function(scripted)), *args)

    def __repr__(self) -> str:
        return f"Mode({self.name!r})"
