"""Where a camera is; the one object that knows the whole address, and it does not tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from resilient_faces._core.options import Checks

__all__ = ["Address"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_HOST: Final = re.compile(r"(\[[\w:.%]+\]|[\w.-]+)(:\d{1,5})?\Z")
_MISSING: Final = "Percent-encode what user and password have of :/?#[]@ and blanks."


class Address:
    """The address of a camera: a URL, a device, a file.

    Its text shows scheme, host and port, of a file its name. User, password, path and query stay inside, since vendors
    put tokens and passwords into each of them.

    Args:
        source: A URL (`rtsp://`, `rtsps://`, ...), or a path.

    Raises:
        OptionError: It is empty, or a URL without a host.
    """

    __slots__ = ("_source", "is_rtsp", "is_url", "shown")

    def __init__(self, source: str | Path) -> None:
        text = str(source)
        scheme, separator, rest = text.partition("://")
        self.is_url: Final = bool(separator) and _SCHEME.match(scheme) is not None
        self.is_rtsp: Final = self.is_url and scheme.lower() in {"rtsp", "rtsps"}
        self._source: Final = text
        checks = Checks("Address")
        if self.is_url:
            # The last @ ends what may be secret. Looking beyond the first slash hides a password that has one in it.
            login, found, host = rest.rpartition("@")
            if not found:
                login, host = "", rest
            host = re.split(r"[/?#]", host, maxsplit=1)[0]
            good = _HOST.match(host) is not None
            checks.that(good, "source", "a URL with a host", "one that is not shown, for its password", _MISSING)
            self.shown: str = f"{scheme}://{'***@' if login else ''}{host}/..."
        else:
            checks.that(bool(text), "source", "a URL or a path", text)
            self.shown = Path(text).name
        checks.done()

    def revealed(self) -> str:
        """The whole address, for whoever opens it."""
        return self._source

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Address], tuple[str]]:
        return Address, (self._source,)
