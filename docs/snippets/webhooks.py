"""The page "Send signed webhooks": sender and receiver in one program, on a virtual clock and on loopback."""

import importlib.util

if importlib.util.find_spec("httpcore") is None:
    import pytest

    pytest.skip("the extra `webhook` is not installed")

from resilient_faces.adapters.webhook import SigningKey
from resilient_faces.testing.webhook_receiver import Receiver, Reply

receiver = Receiver(200)
receiver.__enter__()
url = receiver.url
secret = SigningKey.new().reveal()
done: list[str] = []
mended: list[str] = []

# --8<-- [start:send]
from resilient_faces.adapters.webhook import Destinations, SigningKey, Webhook

key = SigningKey(secret)  # "whsec_...", made once by SigningKey.new().reveal()
inside = Destinations(schemes=("https", "http"), ports=None, allow=("127.0.0.0/8",))
webhook = Webhook(key, destinations=inside)

delivery = webhook.send(url, {"slotId": 7, "status": "STOPPED"}, about="slot=7")
if not delivery:
    print(f"{delivery.receiver} was not told: {delivery.code} after {delivery.attempts} attempts")
# --8<-- [end:send]
assert delivery
assert delivery.attempts == 1

# --8<-- [start:asend]
import anyio


async def tell() -> None:
    assert await webhook.asend(url, {"slotId": 7, "status": "STOPPED"})


anyio.run(tell)
# --8<-- [end:asend]

# --8<-- [start:rotate]
old, new = SigningKey(secret), SigningKey.new()
rotating = Webhook([old, new], destinations=inside)  # until every receiver has the new key
# --8<-- [end:rotate]
assert rotating.send(url, {})
assert len(receiver.got[-1].headers["webhook-signature"].split(" ")) == 2

# --8<-- [start:options]
from functools import partial

from resilient_faces import Breaker
from resilient_faces.adapters.webhook import THREE_ATTEMPTS

three = Webhook(key, destinations=inside, retry=THREE_ATTEMPTS)  # 1 and 2 s between them
spared = Webhook(key, destinations=inside, breaker=partial(Breaker, recovery_timeout=10.0))
# --8<-- [end:options]
receiver.answer(500)
assert three.send(url, {}).attempts == 3
assert spared.send(url, {}).attempts == 4

# --8<-- [start:refused]
refused = Webhook(key).send("https://localhost/hook", {})
assert refused.code == "webhook.refused_address"
# --8<-- [end:refused]

# --8<-- [start:patience]
from resilient_faces.adapters.webhook import Patience

patience = Patience(failures=10, seconds=120.0)  # the clock starts here, with the session
patience.note(webhook.send(url, {"slotId": 7}))
if patience.lost:  # "failures" or "silence"
    print("the backend does not answer: the session ends")
# --8<-- [end:patience]
assert patience.failures == 1
assert not patience.lost

# --8<-- [start:verify]
from resilient_faces.adapters.webhook import SignatureError, Verifier

verifier = Verifier([old, new], tolerance=300.0)


def handle(headers: dict[str, str], body: bytes) -> int:
    """Answer a request with a status."""
    try:
        received = verifier.verify(headers, body)  # the body as it came, before JSON is parsed
    except SignatureError:
        return 401
    if received.repeated:
        return 200  # it was handled; its answer was lost
    try:
        work(body)
    except Exception:
        verifier.forget(received.id)  # so that the sender's next attempt is handled
        return 500
    return 200


# --8<-- [end:verify]


def work(body: bytes) -> None:
    if not mended:
        mended.append("now")
        raise OSError
    done.append(body.decode())


receiver.answer(200)
assert rotating.send(url, {"slotId": 7})
request = receiver.got[-1]
assert handle({**request.headers, "webhook-id": "other"}, request.body) == 401
assert [handle(dict(request.headers), request.body) for _ in range(3)] == [500, 200, 200]
assert done == ['{"slotId":7}']
receiver.answer(Reply(429, {"Retry-After": "3"}), 200)
assert webhook.send(url, {}).attempts == 2
receiver.__exit__(None, None, None)
