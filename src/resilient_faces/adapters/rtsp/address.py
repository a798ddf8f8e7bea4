"""Where a camera is; the one object that knows the whole address, and it does not tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from resilient_faces._core.options import Checks

__all__ = ["Address"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters or more: C: is a drive
_HOST: Final = re.compile(r"(\[[\w:.%]+\]|[\w.-]+)(:\d{1,5})?\Z")
_NETWORK: Final = frozenset({"http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
_HIDDEN: Final = "one that is not shown, for its password"
_MISSING: Final = "Percent-encode what user and password have of :/?#[]@ and blanks."


class Address:
    """The address of a camera: a URL, a device, a file.

    Its text shows scheme, host and port, of a file its name. User, password, path and query stay inside, since vendors
    put tokens and passwords into each of them.

    Args:
        source: A URL (`rtsp://`, `rtsps://`, ...), or a path.

    Raises:
        OptionError: It is empty, a URL without a host, or one with blanks or control characters.
    """

    __slots__ = ("_source", "is_rtsp", "is_url", "shown")

    def __init__(self, source: str | Path) -> None:
        text = str(source)
        checks = Checks("Address")
        found = _SCHEME.match(text)
        scheme = found[1].lower() if found else ""
        rest = text[len(scheme) + 1 :] if found else text
        self.is_url: Final = rest.startswith("//") if found else "://" in text
        self.is_rtsp: Final = self.is_url and scheme in {"rtsp", "rtsps"}
        if self.is_url or scheme in _NETWORK:
            good, shown = _shown(scheme, rest[2:]) if rest.startswith("//") else (False, "")
            # FFmpeg would write a line break into its request, and what follows as a header.
            good = good and bool(found) and text.isprintable() and " " not in text
            checks.that(good, "source", "a URL with a host", _HIDDEN, _MISSING)
            text = f"{scheme}:{rest}"  # FFmpeg knows schemes in small letters only
        elif found and scheme != "file":
            shown = f"{scheme}:..."  # a protocol of FFmpeg's own, such as concat: what follows may be URLs
        else:
            checks.that(bool(text), "source", "a URL or a path", text)
            shown = Path(text).name
        checks.done()
        self.shown: Final = shown
        self._source: Final = text

    def revealed(self) -> str:
        """The whole address, for whoever opens it."""
        return self._source

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Address], tuple[str]]:
        return Address, (self._source,)


def _shown(scheme: str, rest: str) -> tuple[bool, str]:
    """Whether what follows the scheme names a host, and what of it may be shown.

    Host and port end at the first slash. If there is an @ behind it, a password may have that slash in it, and what
    looks like host and port may be user and password.
    """
    place, *behind = re.split(r"[/?#]", rest, maxsplit=1)
    login, _, host = place.rpartition("@")
    good = _HOST.match(host) is not None
    if "@" in "".join(behind):
        return good, f"{scheme}://***"
    return good, f"{scheme}://{'***@' if login else ''}{host}/..."
