"""Credentials that follow what they are made from: a shared file that is rewritten, a token that has run out.

botocore looks for credentials once a session. It renews those that it knows to expire, ahead of time, and neither reads
a changed file nor reacts to an `ExpiredToken`. Here they are looked up afresh, by a new session, when the file has
changed or the service says that they are out of date.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from resilient_faces._core.runtime import RUNTIME, on_fork

_AGAIN: Final = 1.0  # seconds within which several refusals count as one: threads meet the same old token

Stamp = tuple[tuple[int, int, int], ...]


class FollowingCredentials:
    """Looks like botocore's credentials: `get_frozen_credentials` is asked before each request is signed.

    Args:
        look_up: Finds credentials afresh; None if there are none.
        files: Files that they may come from; a change in one of them is a reason to look again.
        role: ARN of the role that they are for, if they come from assuming one.
    """

    method = "resilient-faces"

    def __init__(self, look_up: Callable[[], Any], files: tuple[Path, ...], role: str | None = None) -> None:
        self._look_up = look_up
        self._files = files
        self._role = role
        self._lock = threading.Lock()
        self._stamp = self._stamps()
        self._found = look_up()
        self._refreshed = float("-inf")
        on_fork(self)

    @property
    def found(self) -> bool:
        """Whether there are any credentials."""
        return self._found is not None

    @property
    def current(self) -> Any:
        """The credentials as they are, without looking again."""
        return self._found

    @property
    def role_account(self) -> str | None:
        """The account of the role that is assumed; None if none is."""
        assumed = str(getattr(self._found, "method", "")).startswith("assume-role")
        parts = (self._role or "").split(":")
        return parts[4] if assumed and len(parts) > 5 else None

    def _stamps(self) -> Stamp:
        stamps = []
        for file in self._files:
            try:
                about = file.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(stamps)

    def _renew(self) -> None:
        """Look again. A file that is just being written keeps the old ones in force. Lock held."""
        try:
            found = self._look_up()
        except Exception:  # whatever is wrong with the file now, the service says what it thinks of the old ones
            return
        if found is not None:
            self._found = found

    def refresh(self) -> None:
        """The service says that they are out of date."""
        with self._lock:
            now = RUNTIME.monotonic()
            if now - self._refreshed >= _AGAIN:
                self._refreshed = now
                self._renew()

    def get_frozen_credentials(self) -> Any:
        """Key, secret and token that belong together."""
        stamp = self._stamps()
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._renew()
        return self._found.get_frozen_credentials()

    @property
    def access_key(self) -> str:
        key: str = self.get_frozen_credentials().access_key
        return key

    @property
    def secret_key(self) -> str:
        key: str = self.get_frozen_credentials().secret_key
        return key

    @property
    def token(self) -> str | None:
        token: str | None = self.get_frozen_credentials().token
        return token

    @property
    def account_id(self) -> str | None:
        account: str | None = getattr(self.get_frozen_credentials(), "account_id", None)
        return account

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """What newer versions of botocore ask for: a member that is read when it is needed."""
        return lambda: getattr(self, name, None)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "FollowingCredentials(...)"  # neither keys nor where they come from
