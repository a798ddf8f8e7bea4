"""Whose quotas a client's requests count against: what its credentials say without asking anybody, and told to nobody.

Quotas are an account's. Clients of one account share circuits and limiters by name; clients of several in one process
must not. An account's number is compared here and goes no further: a name shows a label of the caller's, or a few
digits of a hash that stand for many accounts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
import warnings
from typing import Any, Final

from resilient_faces._core.runtime import on_fork
from resilient_faces.breaker.registry import frame_of_caller
from resilient_faces.errors import ResilienceWarning

__all__ = ["accounts", "is_label"]

_LABEL: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,64}")
_KEY: Final = re.compile(r"A(?:KIA|SIA)([A-Z2-7]{16})")
_NUMBER: Final = 0x7FFFFFFFFF80  # of the first 48 bits behind the prefix of a key's id, those that hold the account
_SECRETS: Final = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}|[0-9]{12}")  # ids of keys, and of accounts


def is_label(text: object) -> bool:
    """Whether this may stand in names: a word or two, and neither a key nor the number of an account."""
    return isinstance(text, str) and _LABEL.fullmatch(text) is not None and _SECRETS.fullmatch(text) is None


def account_of(client: Any) -> str | None:
    """The account whose credentials sign this client's requests; None if that is not known before a request is made."""
    credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    role: str | None = getattr(credentials, "role_account", None)  # `FollowingCredentials` know where theirs come from
    if role is not None:
        return role
    credentials = getattr(credentials, "current", credentials)
    # By their members: to ask them for one may fetch new credentials.
    known = getattr(credentials, "__dict__", {})
    account = known.get("account_id") or known.get("_account_id")
    return str(account) if account else account_of_key(known.get("access_key") or known.get("_access_key"))


def account_of_key(key: object) -> str | None:
    """The account that an access key's id belongs to; None if it does not tell, as ids of before 2019 do not."""
    found = _KEY.fullmatch(key) if isinstance(key, str) else None
    if found is None or found[1][0] in "IJ":  # the older ones
        return None
    try:
        number = int.from_bytes(base64.b32decode(found[1])[:6], "big")
    except binascii.Error:
        return None
    return f"{(number & _NUMBER) >> 7:012d}"


class Accounts:
    """Which account has the short names of each place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[tuple[str, str], str] = {}
        on_fork(self)

    def label(self, client: Any, service: str, place: str) -> str:
        """What the names of this client's circuits and limiters say of its account: nothing, if it is the only one."""
        account = account_of(client)
        if account is None:
            return ""
        mark = hashlib.sha256(f"resilient-faces/{account}".encode()).hexdigest()[:6]
        with self._lock:
            first = self._first.setdefault((service, place), mark)
        if first == mark:
            return ""
        at = frame_of_caller()
        warnings.warn_explicit(
            f"RF102 clients of several AWS accounts call {service} in {place}, and quotas are an account's. "
            "They get circuits and limiters of their own, whose names depend on which account came first in this "
            "process. Give each adapter account='a label of yours'.",
            ResilienceWarning,
            at.f_code.co_filename,
            at.f_lineno,
            registry=at.f_globals.setdefault("__warningregistry__", {}),
        )
        return f"account-{mark}"

    def forget(self) -> None:
        """For tests: the next account is the first one."""
        with self._lock:
            self._first.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


accounts: Final = Accounts()
