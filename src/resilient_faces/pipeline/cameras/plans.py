"""What a session is asked to do, and by which rules: values that are checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from resilient_faces._core.options import Checks
from resilient_faces.adapters.rtsp import Address

if TYPE_CHECKING:
    from resilient_faces.adapters.gallery import Gallery

__all__ = ["Agreement", "CameraPlan", "Rules", "SessionPlan"]

_WORD: Final = re.compile(r"\w[\w.:-]{0,63}\Z")
_WORDS: Final = "a letter or digit, then up to 63 of letters, digits and _ . : -"
_NAME: Final = 100  # characters


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera of a session.

    Args:
        id: Its id, for log lines, events and webhooks; keep secrets out of it.
        name: What people call it, for webhooks; the id if it is empty.
        address: Where it is, user and password included. It is never shown: `Address` says how. Text must be an RTSP
            URL, because plans come from outside and a path would be read from this machine; whoever means a device or
            a file gives an `Address`.

    Raises:
        OptionError: A value cannot be; the message lists all of them, and shows no address.
    """

    id: str
    name: str
    address: Address | str

    def __post_init__(self) -> None:
        checks = Checks("CameraPlan")
        checks.that(isinstance(self.id, str) and _WORD.match(self.id) is not None, "id", _WORDS, self.id)
        good = isinstance(self.name, str) and len(self.name) <= _NAME and self.name.isprintable()
        checks.that(good, "name", f"{_NAME} printable characters at most", self.name)
        good = isinstance(self.address, Address) or (
            isinstance(self.address, str) and self.address.lower().startswith(("rtsp://", "rtsps://"))
        )
        cure = "An Address(...) may be a device or a file."
        checks.that(good, "address", "a URL of rtsp or rtsps", "something that is not shown, for its password", cure)
        checks.done()
        if not self.name:
            object.__setattr__(self, "name", self.id)
        if not isinstance(self.address, Address):
            object.__setattr__(self, "address", Address(self.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """What one session does: which cameras it watches, and who is told.

    Args:
        slot: Its number. There is one session for a slot at a time.
        callback: URL of the webhook's receiver; not in the `repr`, since it may hold a token. Whether it may be
            reached is found out when it is first told something; `Webhook.destinations.check` says much of it earlier.
        cameras: One or more.
        mode: What the session is for, in one word of the caller's; every webhook carries it.
        gallery: Who may be seen in it; None for the gallery that `Sessions` was given.

    Raises:
        OptionError: A value cannot be; the message lists all of them, and shows no address.
    """

    slot: int
    callback: str = field(repr=False)
    cameras: Sequence[CameraPlan]
    mode: str = "ATTENDANCE"
    gallery: Gallery | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks = Checks("SessionPlan")
        checks.whole("slot", self.slot, 0)
        good = isinstance(self.callback, str) and self.callback.partition("://")[2] != ""
        checks.that(good, "callback", "a URL", "something that is not shown, for it may hold a token")
        cameras = () if isinstance(self.cameras, str) else tuple(self.cameras)
        good = bool(cameras) and all(isinstance(one, CameraPlan) for one in cameras)
        if checks.that(good, "cameras", "one CameraPlan or more", [type(one).__name__ for one in cameras]):
            ids = [one.id for one in cameras]
            checks.that(len(set(ids)) == len(ids), "cameras", "of different ids", ids)
        checks.that(isinstance(self.mode, str) and _WORD.match(self.mode) is not None, "mode", _WORDS, self.mode)
        checks.done()
        object.__setattr__(self, "cameras", cameras)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of a camera's last frames must show a person before they count.

    Damaged video is decoded without an error, into pictures that show what is not there; several frames are seldom
    wrong in the same way. Only frames that were looked at as a whole count, of one connection.

    Args:
        frames: Frames that must agree.
        of: Out of so many.

    Raises:
        OptionError: A value cannot be.
    """

    frames: int = 3
    of: int = 5

    def __post_init__(self) -> None:
        checks = Checks("Agreement")
        if checks.whole("frames", self.frames, 1) and checks.whole("of", self.of, 1):
            checks.that(self.of >= self.frames, "of", f"{self.frames} (frames) or more", self.of)
        checks.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How sessions are led. Seconds are of monotonic time.

    Args:
        agreement: When a person counts as recognised.
        pace: Seconds from one look at a camera's newest frame to the next.
        failures: Webhooks in a row that failed, after which the session stops.
        silence: Seconds without a webhook that was accepted, after which it stops; counted from its start.
        heartbeat: After so many seconds in which nothing was told the receiver gets a sign of life, so that a quiet
            session is not taken for one that nobody listens to. Less than half of `silence`.
        waiting: Recognitions that may wait to be told; beyond that the oldest is forgotten, and told when the person is
            seen again.
        grace: Seconds that a session which is stopped has for what waits to be told.
        look: Seconds between two looks at whether it was removed elsewhere.

    Raises:
        OptionError: A value cannot be; the message lists all of them.
    """

    agreement: Agreement = field(default_factory=Agreement)
    pace: float = 1.0
    failures: int = 10
    silence: float = 120.0
    heartbeat: float = 30.0
    waiting: int = 100
    grace: float = 5.0
    look: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("Rules")
        checks.that(isinstance(self.agreement, Agreement), "agreement", "an Agreement", self.agreement)
        for name in ("pace", "silence", "heartbeat", "look"):
            checks.seconds(name, getattr(self, name))
        checks.seconds("grace", self.grace, above=False)
        checks.whole("failures", self.failures, 1)
        checks.whole("waiting", self.waiting, 1)
        checks.done()
        good = self.heartbeat < self.silence / 2
        checks.that(good, "heartbeat", "less than half of silence", self.heartbeat, "Else one lost sign of life stops.")
        checks.done()
