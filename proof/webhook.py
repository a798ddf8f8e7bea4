"""What comes of webhooks to receivers that misbehave: `python proof/webhook.py [--small]`.

Each receiver is a real server on loopback. A delivery is made to it, by the synchronous face and by the asynchronous
one under asyncio and trio, with the schedule of 1, 2 and 4 s (`--small`: on a virtual clock, and 1 s for an attempt
instead of 10). Counted are the receiver's own requests and bytes. Every signature is made again from the
specification's words, by nothing of ours. Refused destinations are dialled by nobody: the dialler counts.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import sys
import time
from collections.abc import Iterator
from typing import Any

from _report import Proof

proof = Proof(
    "webhook",
    "Every misbehaviour of a receiver ends in its outcome, within time and size; no refused address is dialled",
    __doc__,
    "waits on a virtual clock, 1 s an attempt",
)
MODES = ("sync", "asyncio", "trio")
ATTEMPT = 10.0  # seconds
SMALL_ATTEMPT = 1.0

# receiver: expected code, attempts
CASES: dict[str, tuple[tuple[Any, ...], str, int]] = {
    "answers 200": ((200,), "", 1),
    "answers 204": ((204,), "", 1),
    "answers 500, then 200": ((500, 200), "", 2),
    "answers 500": ((500,), "http.500", 4),
    "answers 404": ((404,), "http.404", 4),
    "429, Retry-After: 3, then 200": (("retry-after",), "", 2),
    "redirects to a private address": (("redirect",), "http.302", 4),
    "redirects to another receiver": (("redirect-other",), "http.307", 4),
    "hangs": (("hang",), "webhook.timeout", 4),
    "closes": (("close",), "webhook.no_answer", 4),
    "resets": (("reset",), "webhook.disconnected", 4),
    "drips its headers": (("drip",), "webhook.timeout", 4),
    "drips its body": (("drip_body",), "", 1),
    "returns 1 GB": (("gigabyte",), "", 1),
    "returns 1 GB of headers": (("gigabyte_of_headers",), "webhook.answer_too_long", 4),
    "answers 103 for ever": (("informational",), "webhook.answer_too_long", 4),
    "is no HTTP server": (("garbage",), "webhook.no_answer", 4),
    "is not there": (("closed",), "webhook.connect", 4),
}
REFUSED = {
    "http://hooks.example/": "webhook.refused_scheme",
    "https://hooks.example:22/": "webhook.refused_port",
    "https://user:secret@hooks.example/": "webhook.refused_credentials",
    "https://127.0.0.1/": "webhook.refused_address",
    "https://2130706433/": "webhook.refused_address",
    "https://[::1]/": "webhook.refused_address",
    "https://[::ffff:169.254.169.254]/": "webhook.refused_address",
    "https://10.0.0.1/": "webhook.refused_address",
    "https://localhost/": "webhook.refused_address",
}


def signature(secret: str, headers: Any, body: bytes) -> str:
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(secret.split("_", 1)[1]), message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def deliver(mode: str, webhook: Any, url: str) -> Any:
    if mode == "sync":
        return webhook.send(url, {"slot": 7, "status": "STOPPED"})
    import anyio

    return anyio.run(functools.partial(webhook.asend, url, {"slot": 7, "status": "STOPPED"}), backend=mode)


@contextlib.contextmanager
def clocked(small: bool) -> Iterator[list[float] | None]:
    """The waits of the block, if the clock is a virtual one."""
    from resilient_faces.testing import ManualRuntime

    if not small:
        yield None
        return
    with ManualRuntime(epoch=time.time() - 1000.0).installed() as clock:
        yield clock.slept


def case(name: str, mode: str, small: bool) -> dict[str, Any]:
    import socket

    from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook
    from resilient_faces.testing.webhook_receiver import Receiver, Reply

    answers, code, attempts = CASES[name]
    limit = SMALL_ATTEMPT if small else ATTEMPT
    key = SigningKey.new()
    rules = Destinations(schemes=("http",), ports=None, allow=("127.0.0.1/32",))
    with Receiver(200) as other, Receiver() as receiver:
        said = {
            "retry-after": (Reply(429, {"retry-after": "3"}), 200),
            "redirect": (Reply(302, {"location": "http://10.0.0.1/"}),),
            "redirect-other": (Reply(307, {"location": other.url}),),
        }
        url = receiver.url
        if answers == ("closed",):
            with socket.create_server(("127.0.0.1", 0)) as closed:
                url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        else:
            receiver.answer(*said.get(answers[0], answers))
        webhook = Webhook(key, destinations=rules, timeout=limit)
        began = time.monotonic()
        with clocked(small) as slept:
            delivery = deliver(mode, webhook, url)
        took = time.monotonic() - began
        requests = 0 if answers == ("closed",) else attempts
        where = f"{name} ({mode})"
        proof.check(delivery.code == code, f"{where}: {delivery.code!r}, not {code!r}")
        proof.check(delivery.attempts == attempts, f"{where}: {delivery.attempts} attempts, not {attempts}")
        proof.check(len(receiver.got) == requests, f"{where}: the receiver had {len(receiver.got)} requests")
        proof.check(len({got.headers["webhook-id"] for got in receiver.got}) <= 1, f"{where}: the id changed")
        good = all(
            got.headers["webhook-signature"] == signature(key.reveal(), got.headers, got.body) for got in receiver.got
        )
        proof.check(good, f"{where}: a signature is another")
        proof.check(not other.got, f"{where}: a redirect was followed")
        waits = {1: 0.0, 2: 3.0 if "Retry-After" in name else 1.0, 4: 7.0}[attempts]
        most = attempts * limit + 1.0 + 5.0  # and what a busy machine takes
        if slept is None:
            proof.check(waits <= took <= waits + most, f"{where}: took {took:.1f} s")
        else:
            proof.check(sum(slept) == waits, f"{where}: waited {slept}")
            proof.check(took <= most, f"{where}: took {took:.1f} s")
        proof.check(receiver.sent < 100_000_000, f"{where}: {receiver.sent} bytes could be sent")
        return {
            "outcome": delivery.code or "delivered",
            "attempts": delivery.attempts,
            "status": delivery.status,
            "seconds": round(took, 2),
            "bytes_sent_by_receiver": receiver.sent,
        }


def refusals() -> dict[str, Any]:
    import httpcore

    from resilient_faces.adapters.webhook import SigningKey, Webhook

    dials: list[str] = []

    class Sync(httpcore.SyncBackend):
        def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
            dials.append(host)
            raise httpcore.ConnectError("no packet leaves this machine")

    class Async(httpcore.AnyIOBackend):
        async def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
            dials.append(host)
            raise httpcore.ConnectError("no packet leaves this machine")

    webhook = Webhook(SigningKey.new(), network=(Sync(), Async()))
    for mode in MODES:
        for url, code in REFUSED.items():
            delivery = deliver(mode, webhook, url)
            shown = url.replace("user:secret@", "USER@")
            proof.check(delivery.code == code, f"{shown} ({mode}): {delivery.code!r}, not {code!r}")
    proof.check(not dials, f"{len(dials)} dials to refused addresses")
    # The dialler would have noticed: an address that may be reached is dialled.
    control = Webhook(SigningKey.new(), network=(Sync(), Async()), retry=None, resolve=lambda host, port: ["8.8.8.8"])
    control.send("https://hooks.example/", {})
    proof.check(dials == ["8.8.8.8"], "the dialler that counts was not asked")
    return {"urls": len(REFUSED) * len(MODES), "dials": len(dials) - 1}


def main() -> int:
    options = proof.parse()
    proof.need("httpcore", "trio", cure="pip install 'resilient-faces[webhook]' trio")
    import logging

    logging.getLogger("resilient_faces").setLevel(logging.CRITICAL)
    figures: dict[str, Any] = {}
    for name in CASES:
        figures[name] = {mode: case(name, mode, options.small) for mode in MODES}
        one = figures[name]["sync"]
        proof.say(f"{name:34} {one['outcome']:26} {one['attempts']} attempts  {one['seconds']:6.2f} s")
    refused = refusals()
    proof.say(f"refused: {refused['urls']} deliveries, {refused['dials']} dials")
    return proof.finish(
        parameters={"attempt_seconds": SMALL_ATTEMPT if options.small else ATTEMPT, "modes": list(MODES)},
        figures={"receivers": figures, "refused": refused},
        packages=("httpcore", "h11", "anyio", "trio"),
    )


if __name__ == "__main__":
    sys.exit(main())
