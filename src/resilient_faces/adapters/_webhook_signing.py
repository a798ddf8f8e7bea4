"""Signatures of webhooks: made by the sender, verified by the receiver. Nothing but the standard library.

The form is that of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, in the headers `webhook-id`,
`webhook-timestamp` and `webhook-signature`, so that receivers may verify with any library that knows it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import RUNTIME, on_fork
from resilient_faces.errors import OptionError, ResilienceError

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

# Without a dot: in `id.timestamp.body` one could pass for the other.
DELIVERY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_PREFIX: Final = "whsec_"
_SHORTEST: Final = 24  # bytes of a key
_MOST_SIGNATURES: Final = 16  # of one request; a rotation has two


class SignatureError(ResilienceError):
    """A request that the verifier does not accept. Answer it with 401, and do not say more.

    Attributes:
        reason: `missing` or `malformed` (its headers), `mismatch` (of the signature), `expired` or `future` (its time).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return _SAID[self.reason]


_SAID: Final = {
    "missing": f"The request lacks {ID}, {TIMESTAMP} or {SIGNATURE}.",
    "malformed": f"The request's {ID}, {TIMESTAMP} or {SIGNATURE} cannot be read.",
    "mismatch": "No signature of the request was made with a known key over this id, time and body.",
    "expired": "The request was signed longer ago than is tolerated.",
    "future": "The request was signed at a time that is further ahead than is tolerated.",
}


class SigningKey:
    """A secret that sender and receiver share. It shows in no text; `reveal` gives it to who has to store it.

    Args:
        secret: `whsec_` and base64, as `reveal` gives it, or 24 bytes or more.

    Raises:
        OptionError: It is neither, or too short.
    """

    __slots__ = ("_secret", "fingerprint")

    def __init__(self, secret: str | bytes) -> None:
        decoded = secret if isinstance(secret, bytes) else _decoded(secret)
        if decoded is None or len(decoded) < _SHORTEST:
            raise OptionError(
                f"SigningKey.secret must be {_PREFIX!r} and base64, or bytes, of {_SHORTEST} bytes or more; what was "
                "given is not, and is not shown. SigningKey.new() makes one."
            )
        self._secret = decoded
        self.fingerprint: Final = hashlib.sha256(b"resilient_faces.webhook\0" + decoded).hexdigest()[:8]

    @classmethod
    def new(cls) -> SigningKey:
        """A fresh key of 32 random bytes."""
        return cls(secrets.token_bytes(32))

    def reveal(self) -> str:
        """The secret as text, for the receiver's settings."""
        return _PREFIX + base64.b64encode(self._secret).decode()

    def sign(self, id: str, timestamp: int | str, body: bytes) -> str:
        """One signature, as it stands in the header."""
        digest = hmac.new(self._secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        return "v1," + base64.b64encode(digest).decode()

    def __repr__(self) -> str:
        return f"SigningKey(fingerprint={self.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A SigningKey is not pickled, so that no queue or file gets its secret. Pass it by reveal().")


def _decoded(text: object) -> bytes | None:
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None


def checked_keys(checks: Checks, keys: object) -> tuple[SigningKey, ...]:
    """The keys as a tuple; a broken rule is noted without showing what was given."""
    if isinstance(keys, SigningKey):
        return (keys,)
    given = tuple(keys) if isinstance(keys, Sequence) and not isinstance(keys, (str, bytes)) else ()
    good = bool(given) and all(isinstance(one, SigningKey) for one in given)
    checks.that(good, "keys", "a SigningKey, or two during a rotation", type(keys).__name__)
    return given


def signed(keys: Sequence[SigningKey], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of one attempt, with a signature by each key."""
    return {
        ID: id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: " ".join(key.sign(id, timestamp, body) for key in keys),
    }


@dataclass(frozen=True, slots=True)
class Received:
    """A request whose signature is good.

    Attributes:
        id: Id of the delivery, the same in all attempts.
        sent: When this attempt was signed, in seconds since the epoch.
        repeated: Whether this id was accepted before: answer 2xx, and do nothing again.
    """

    id: str
    sent: int
    repeated: bool


class Verifier:
    """Verifies what `Webhook` or any other sender of Standard Webhooks signed; for receivers. Thread-safe.

    Ids are remembered for as long as a copy of their request could still be accepted, in this process. The sender
    repeats a delivery whose answer was lost, so the same id again is no attack and no error: see `Received.repeated`.

    Args:
        keys: The key, or both during a rotation: any of them will do.
        tolerance: Seconds that a request's time may be off, to either side.
        most_ids: Ids remembered at most; the oldest are forgotten first.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
    """

    def __init__(
        self, keys: SigningKey | Sequence[SigningKey], *, tolerance: float = 300.0, most_ids: int = 100_000
    ) -> None:
        checks = Checks("Verifier")
        self._keys = checked_keys(checks, keys)
        checks.seconds("tolerance", tolerance)
        checks.whole("most_ids", most_ids, 1)
        checks.done()
        self._tolerance = tolerance
        self._most = most_ids
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, float] = OrderedDict()  # id: until when, oldest first
        on_fork(self)

    def verify(self, headers: Mapping[str, str], body: bytes) -> Received:
        """Accept a request, or raise.

        Args:
            headers: The request's headers, in any case.
            body: Its body exactly as it came: before JSON is parsed.

        Raises:
            SignatureError: It is not accepted; `reason` says why.
            OptionError: The body is no bytes.
        """
        if not isinstance(body, bytes):
            raise OptionError(
                f"Verifier.verify.body must be bytes, as they came; got {type(body).__name__}. "
                "What was decoded or parsed has another signature."
            )
        lower = {str(name).lower(): value for name, value in headers.items()}
        delivery, written, given = lower.get(ID), lower.get(TIMESTAMP), lower.get(SIGNATURE)
        if not delivery or not written or not given:
            raise SignatureError("missing")
        signatures = given.split(" ")
        if not DELIVERY_ID.fullmatch(delivery) or not _SECONDS.fullmatch(written) or len(signatures) > _MOST_SIGNATURES:
            raise SignatureError("malformed")
        good = False
        for key in self._keys:
            expected = key.sign(delivery, written, body).encode()
            for one in signatures:  # all of them, in constant time: how long it takes tells nothing
                good |= hmac.compare_digest(expected, one.encode("utf-8", "replace"))
        if not good:
            raise SignatureError("mismatch")
        sent, now = int(written), RUNTIME.wall()
        if sent < now - self._tolerance:
            raise SignatureError("expired")
        if sent > now + self._tolerance:
            raise SignatureError("future")
        return Received(delivery, sent, self._repeated(delivery, sent + self._tolerance, now))

    def forget(self, id: str) -> None:
        """Take an id back because handling it failed: the sender's next attempt is then no repetition."""
        with self._lock:
            self._seen.pop(id, None)

    def _repeated(self, id: str, until: float, now: float) -> bool:
        with self._lock:
            known = self._seen.pop(id, 0.0)
            repeated = known >= now
            self._seen[id] = max(known, until)
            while len(self._seen) > self._most or next(iter(self._seen.values())) < now:
                self._seen.popitem(last=False)
        return repeated

    def after_fork(self) -> None:
        self._lock = threading.Lock()


Verifier.__init__ = checked_call(Verifier.__init__)  # type: ignore[method-assign]
