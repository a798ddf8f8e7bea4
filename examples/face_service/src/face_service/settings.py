"""Settings of the service: defaults, variables with the prefix FACE_SERVICE_, mistyped names refused.

Two have no default, because a default would be a hole: the key that callers must send, and the key that webhooks are
signed with. `face-service keys` makes both. No message, log or `repr` shows either.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from resilient_faces.adapters.webhook import Destinations, SigningKey
from resilient_faces.errors import OptionError

__all__ = ["PREFIX", "SCHEDULES", "Settings"]

PREFIX: Final = "FACE_SERVICE_"
SCHEDULES: Final = ("classroom", "spread")
SHORTEST_KEY: Final = 20  # characters
ANY: Final = "any"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("a variable that is not set names no directory")
    return Path(text)


def _ports(text: str) -> tuple[int, ...] | None:
    return None if text.strip() == ANY else tuple(int(word) for word in _words(text))


_KINDS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "api_key": (_words, "keys"),
    "webhook_key": (_words, "keys"),
    "host": (str, "an address"),
    "port": (int, "a whole number"),
    "data": (_path, "a directory"),
    "pack": (_path, "a directory"),
    "model": (str, "a word"),
    "detection_size": (int, "a whole number"),
    "look_every": (float, "a number"),
    "lowest_score": (float, "a number"),
    "threshold": (float, "a number"),
    "margin": (float, "a number"),
    "photo_bytes": (int, "a whole number"),
    "photo_pixels": (int, "a whole number"),
    "decodings": (int, "a whole number"),
    "uploads": (int, "a whole number"),
    "body_seconds": (float, "a number"),
    "callback_schemes": (_words, "words parted by commas"),
    "callback_ports": (_ports, "whole numbers parted by commas, or any"),
    "callback_allow": (_words, "networks parted by commas"),
    "sessions": (int, "a whole number"),
    "cameras": (int, "a whole number"),
    "camera_schedule": (str, "a word"),
    "camera_open": (float, "a number"),
    "camera_stall": (float, "a number"),
    "camera_lost": (float, "a number"),
    "camera_slow": (float, "a number"),
    "pace": (float, "a number"),
    "agree": (int, "a whole number"),
    "agree_of": (int, "a whole number"),
    "failures": (int, "a whole number"),
    "silence": (float, "a number"),
    "heartbeat": (float, "a number"),
    "grace": (float, "a number"),
    "log": (str, "a word"),
}
_LIMITS: Final[Mapping[str, tuple[float, float, str]]] = {
    "port": (0, 65_535, "0 takes a free one"),
    "detection_size": (32, 4096, "pixels, a multiple of 32"),
    "look_every": (0.1, 3600, "seconds"),
    "lowest_score": (0, 1, "score of the detector"),
    "threshold": (-1, 1, "cosine"),
    "margin": (0, 2, "difference of cosines"),
    "photo_bytes": (1024, 100_000_000, "bytes"),
    "photo_pixels": (10_000, 100_000_000, "pixels"),
    "decodings": (1, 64, "photos at a time"),
    "uploads": (1, 1000, "uploads at a time"),
    "body_seconds": (1, 600, "seconds"),
    "sessions": (1, 10_000, "sessions at a time"),
    "cameras": (1, 1000, "cameras of one session"),
    "camera_open": (0.1, 60, "seconds"),
    "camera_stall": (0.5, 600, "seconds"),
    "camera_lost": (0.5, 3600, "seconds"),
    "camera_slow": (0.1, 600, "seconds"),
    "pace": (0.05, 60, "seconds"),
    "agree": (1, 100, "frames"),
    "agree_of": (1, 100, "frames"),
    "failures": (1, 1000, "webhooks in a row"),
    "silence": (1, 86_400, "seconds"),
    "heartbeat": (0.5, 43_200, "seconds"),
    "grace": (0, 600, "seconds"),
}
_WHOLE: Final = frozenset(name for name, (kind, _) in _KINDS.items() if kind is int)
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("critical", "important", "optional"),
    "camera_schedule": SCHEDULES,
    "log": ("json", "text"),
}
_CALLBACKS: Final[Mapping[str, str]] = {
    "schemes": "https, or https and http; got {got}.",
    "ports": "numbers from 1 to 65535, or any; got {got}.",
    "allow": "networks such as 10.1.0.0/16; got {got}. The address of a network ends in zeros; one machine is /32 or "
    "/128.",
}
_SECRET: Final = frozenset({"api_key", "webhook_key"})
_KEYS_CURE: Final = "`face-service keys` makes both keys."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service runs.

    Attributes:
        api_key: What callers send in X-API-Key; two during a rotation.
        webhook_key: What webhooks are signed with, as `SigningKey.reveal` gives it; two during a rotation.
        host: Address to listen on.
        port: Port to listen on.
        data: Directory for the gallery of enrolled people, made if it is absent, for this user alone.
        pack: Directory with the model pack; `pack` in `data` if None. Nothing is downloaded.
        model: How much the whole depends on the model: without it a `critical` one makes the service not ready.
        detection_size: Side of the square that pictures are fitted into for the search.
        look_every: Seconds between two looks for a model that is not there.
        lowest_score: The detector's score that the face of a photo must reach.
        threshold: Cosine from which on a face is somebody's.
        margin: How much nearer the nearest person must be than the next.
        photo_bytes: Bytes of a photo at most.
        photo_pixels: Pixels of a photo at most.
        decodings: Photos that are unpacked and searched at a time; half the processors if None, since one search uses
            several.
        uploads: Photos that are being received at a time.
        body_seconds: Seconds in which the body of a request must have come.
        callback_schemes: Schemes of callback URLs.
        callback_ports: Their ports; `any` for all.
        callback_allow: Networks that callbacks may reach although they are not public.
        sessions: Sessions at a time.
        cameras: Cameras of one session.
        camera_schedule: `classroom` tries a lost camera three times, exactly 2 s apart; `spread` grows and spreads the
            pauses, for many cameras.
        camera_open: Seconds in which a camera must have been connected to.
        camera_stall: Seconds without a frame after which a camera is stalled.
        camera_lost: Seconds after which it is given up, at least twice `camera_stall`.
        camera_slow: Seconds before the first slow try of a dead camera, at most; they double, up to six times that.
        pace: Seconds from one look at a camera's newest frame to the next.
        agree: Frames that must show a person before they count.
        agree_of: Out of so many.
        failures: Webhooks in a row that fail before the session stops.
        silence: Seconds without an accepted webhook before it stops.
        heartbeat: Seconds without news after which the receiver gets a sign of life.
        grace: Seconds that a shutdown gives to requests, and then to sessions.
        log: `json`, a line an object, or `text`.
    """

    api_key: tuple[str, ...] = field(repr=False)
    webhook_key: tuple[str, ...] = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = Path("face-service-data")
    pack: Path | None = None
    model: str = "important"
    detection_size: int = 640
    look_every: float = 5.0
    lowest_score: float = 0.6
    threshold: float = 0.5
    margin: float = 0.05
    photo_bytes: int = 10_000_000
    photo_pixels: int = 20_000_000
    decodings: int | None = None
    uploads: int = 16
    body_seconds: float = 30.0
    callback_schemes: tuple[str, ...] = ("https",)
    callback_ports: tuple[int, ...] | None = (443, 8443)
    callback_allow: tuple[str, ...] = ()
    sessions: int = 100
    cameras: int = 32
    camera_schedule: str = "classroom"
    camera_open: float = 5.0
    camera_stall: float = 3.0
    camera_lost: float = 10.0
    camera_slow: float = 10.0
    pace: float = 1.0
    agree: int = 3
    agree_of: int = 5
    failures: int = 10
    silence: float = 120.0
    heartbeat: float = 30.0
    grace: float = 10.0
    log: str = "json"

    def __post_init__(self) -> None:
        _refuse({one.name: getattr(self, one.name) for one in fields(self)}, lambda name: f"Settings.{name}")

    def signing_keys(self) -> tuple[SigningKey, ...]:
        """What webhooks are signed with."""
        return _signing_keys(self.webhook_key)

    def destinations(self) -> Destinations:
        """Where callbacks may go."""
        return Destinations(schemes=self.callback_schemes, ports=self.callback_ports, allow=self.callback_allow)

    @property
    def pack_directory(self) -> Path:
        """Where the model pack is, or will be."""
        return self.data / "pack" if self.pack is None else self.pack

    @property
    def gallery_file(self) -> Path:
        """Where enrolled people are kept."""
        return self.data / "people.gallery"

    @property
    def at_once(self) -> int:
        """Photos that are unpacked and searched at a time."""
        return self.decodings or max(1, (os.cpu_count() or 2) // 2)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from variables such as FACE_SERVICE_API_KEY; what is given by name wins, unless it is None.

        Args:
            environment: The variables; None for those of this process.
            given: From the command line.

        Raises:
            OptionError: A name is mistyped, a value is none, or a key is missing; the message lists all of them.
        """
        variables = os.environ if environment is None else environment
        wrong: list[str] = []
        found: dict[str, Any] = {}
        for variable in sorted(name for name in variables if name.startswith(PREFIX)):
            name = variable[len(PREFIX) :].lower()
            if name not in _KINDS:
                close = difflib.get_close_matches(name, _KINDS, n=1)
                hint = f" Did you mean {PREFIX}{close[0].upper()}?" if close else ""
                wrong.append(f"{variable} is no setting.{hint}")
                continue
            kind, said = _KINDS[name]
            try:
                found[name] = kind(variables[variable])
            except ValueError:
                shown = "" if name in _SECRET else f"; got {variables[variable]!r}"
                wrong.append(f"{variable} must be {said}{shown}.")
        options = {name: value for name, value in given.items() if value is not None}
        found.update(options)
        wrong += [f"{PREFIX}{name.upper()} must be set. {_KEYS_CURE}" for name in sorted(_SECRET - found.keys())]
        if wrong:
            raise OptionError("\n".join(wrong))
        values = {one.name: one.default for one in fields(cls)} | found
        _refuse(values, lambda name: f"--{name}" if name in options else f"{PREFIX}{name.upper()}")
        return cls(**found)


def _refuse(values: Mapping[str, Any], called: Callable[[str], str]) -> None:
    """Look at all settings, which are called as whoever gave them knows them.

    Raises:
        OptionError: Something is wrong; the message lists all of it, and shows no key.
    """
    wrong: list[str] = []
    for name, (low, high, unit) in _LIMITS.items():
        value = values[name]
        if value is None and name == "decodings":
            continue
        good = isinstance(value, int if name in _WHOLE else (int, float)) and not isinstance(value, bool)
        if not good or not low <= value <= high:
            whole = "a whole number " if name in _WHOLE else ""
            wrong.append(f"{called(name)} must be {whole}from {low:g} to {high:g} ({unit}); got {value!r}.")
    for name, words in _CHOICES.items():
        if values[name] not in words:
            wrong.append(f"{called(name)} must be one of {', '.join(words)}; got {values[name]!r}.")
    size, host = values["detection_size"], values["host"]
    if isinstance(size, int) and size % 32:
        wrong.append(f"{called('detection_size')} must be a multiple of 32; got {size}.")
    if not isinstance(host, str) or not host.strip():
        wrong.append(f"{called('host')} must be an address, such as 127.0.0.1; got {host!r}.")
    if not wrong:
        wrong += _wrong_together(values, called)
    wrong += _wrong_keys(values, called)
    for name, rule in _CALLBACKS.items():
        value = values[f"callback_{name}"]
        try:
            Destinations(**{name: value})
        except OptionError:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            wrong.append(f"{called(f'callback_{name}')} must be {rule.format(got=f'{shown!r}')}")
    if wrong:
        raise OptionError("\n".join(wrong))


def _wrong_together(values: Mapping[str, Any], called: Callable[[str], str]) -> Iterator[str]:
    """Of settings that are good each by itself."""
    agree, stall, silence = values["agree"], values["camera_stall"], values["silence"]
    if agree > values["agree_of"]:
        yield f"{called('agree_of')} must be {agree} ({called('agree')}) or more; got {values['agree_of']}."
    if values["camera_lost"] < 2 * stall:
        yield (
            f"{called('camera_lost')} must be at least twice {called('camera_stall')} ({stall:g} s); "
            f"got {values['camera_lost']:g}."
        )
    if values["heartbeat"] >= silence / 2:
        yield (
            f"{called('heartbeat')} must be less than half of {called('silence')} ({silence:g} s), or one lost sign of "
            f"life stops a session; got {values['heartbeat']:g}."
        )


def _wrong_keys(values: Mapping[str, Any], called: Callable[[str], str]) -> Iterator[str]:
    """What is wrong with the keys, without showing one."""
    keys = values["api_key"]
    good = isinstance(keys, tuple) and bool(keys)
    if not good or not all(isinstance(one, str) and one.isascii() and one.isprintable() for one in keys):
        yield f"{called('api_key')} must be one key, or two parted by a comma. {_KEYS_CURE}"
    elif min(len(one) for one in keys) < SHORTEST_KEY:
        yield f"{called('api_key')} must have {SHORTEST_KEY} characters or more. {_KEYS_CURE}"
    try:
        _signing_keys(values["webhook_key"])
    except OptionError:
        yield f"{called('webhook_key')} must be `whsec_` and base64, or two parted by a comma. {_KEYS_CURE}"


def _signing_keys(texts: tuple[str, ...]) -> tuple[SigningKey, ...]:
    if not isinstance(texts, tuple) or not texts:
        raise OptionError("There is no key to sign webhooks with.")
    return tuple(SigningKey(one) for one in texts)
