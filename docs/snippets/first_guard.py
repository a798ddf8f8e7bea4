"""The tutorial "Your first guard"; the tests run this file on a virtual clock."""

from __future__ import annotations

# --8<-- [start:service]
answers = iter([ConnectionResetError("reset"), TimeoutError("too slow"), "two faces"])


def detect(photo: str) -> str:
    """A service that fails twice before it answers."""
    answer = next(answers)
    if isinstance(answer, Exception):
        raise answer
    return answer


# --8<-- [end:service]

# --8<-- [start:retried]
from resilient_faces import retry

patient = retry(attempts=3, idempotent=True)(detect)
assert patient("photo.jpg") == "two faces"
# --8<-- [end:retried]

# --8<-- [start:permanent]
tried = []


@retry(attempts=3)
def broken(photo: str) -> str:
    tried.append(photo)
    raise ValueError("not a JPEG")


try:
    broken("photo.jpg")
except ValueError:
    assert len(tried) == 1  # nobody said that a ValueError passes by itself
# --8<-- [end:permanent]

# --8<-- [start:listen]
from resilient_faces import Event, listen

heard: list[Event] = []
stop_listening = listen(heard.append)
# --8<-- [end:listen]

# --8<-- [start:composed]
from resilient_faces import circuit_breaker, fallback, guard

careful = guard(fallback(value="nobody was looked for"), retry(attempts=2), circuit_breaker("detector"))


@careful
def detect_or_say_so(photo: str) -> str:
    raise ConnectionRefusedError("nobody is listening")


assert detect_or_say_so("photo.jpg") == "nobody was looked for"
print(careful.describe())
# --8<-- [end:composed]

# --8<-- [start:heard]
for event in heard:
    print(event.type, event.policy, event.attempt, event.code)
# --8<-- [end:heard]
assert [(event.type, event.policy, event.attempt) for event in heard] == [
    ("retry", "retry", 1),
    ("gave_up", "retry", 2),
    ("degraded", "fallback", None),
]

# --8<-- [start:opened]
from resilient_faces import circuits

detect_or_say_so("photo.jpg")  # failures 3 and 4
detect_or_say_so("photo.jpg")  # the fifth opens the circuit: there is no sixth
assert circuits["detector"].state == "open"

before = circuits["detector"].snapshot()
assert detect_or_say_so("photo.jpg") == "nobody was looked for"  # at once: the service is left alone
assert circuits["detector"].snapshot().failures == before.failures
# --8<-- [end:opened]
stop_listening()

# --8<-- [start:reported]
value, report = detect_or_say_so.call_with_report("photo.jpg")
assert report.degraded
assert report.source == "fallback"
# --8<-- [end:reported]

# --8<-- [start:asynchronous]
import asyncio

heights = iter([ConnectionResetError("reset"), 480])


@retry(attempts=3)
async def height(photo: str) -> int:
    answer = next(heights)
    if isinstance(answer, Exception):
        raise answer
    return answer


assert asyncio.run(height("photo.jpg")) == 480
# --8<-- [end:asynchronous]

# --8<-- [start:tested]
from resilient_faces.testing import ManualRuntime, script

with ManualRuntime().installed() as clock:
    camera = script(ConnectionResetError, ConnectionResetError, "a frame")
    assert retry(attempts=3).call(camera.function()) == "a frame"
    assert clock.slept == [0.05, 0.1]  # nothing waited: the clock was moved
# --8<-- [end:tested]
