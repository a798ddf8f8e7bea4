"""The page "Events and logs"; the tests run this file."""

from __future__ import annotations

from contextlib import ExitStack

from resilient_faces import guard
from resilient_faces.testing import ManualRuntime

rest = ExitStack()
rest.enter_context(ManualRuntime().installed())

# --8<-- [start:listen]
from resilient_faces import Event, listen, retry
from resilient_faces.testing import script

database = script(ConnectionResetError, "a row").function()  # stands for yours
heard: list[Event] = []
stop = listen(heard.append)

load = retry(attempts=3)(database)
assert load("k1") == "a row"
assert [event.type for event in heard] == ["retry", "recovered"]
assert heard[0].code == "ConnectionResetError"
assert heard[1].outcome == "after_retry"

stop()
# --8<-- [end:listen]
assert load("k1") == "a row"
assert len(heard) == 2

# --8<-- [start:json]
import io
import json
import logging

from resilient_faces import request
from resilient_faces.telemetry import JsonFormatter

stream = io.StringIO()  # here; leave it out, and lines go to stderr
handler = logging.StreamHandler(stream)
handler.setFormatter(JsonFormatter())
logger = logging.getLogger("resilient_faces")
logger.addHandler(handler)
logger.setLevel(logging.INFO)

with request("req-42", step="load-profile"):
    retry(attempts=2).call(script(ConnectionResetError, "a row").function())

line = json.loads(stream.getvalue().splitlines()[0])
assert (line["requestId"], line["step"]) == ("req-42", "load-profile")
assert (line["status"], line["errorCode"]) == ("retrying", "ConnectionResetError")
# --8<-- [end:json]
logger.removeHandler(handler)
logger.setLevel(logging.NOTSET)

# --8<-- [start:count]
from collections import Counter

counts: Counter[tuple[str, str, str]] = Counter()


def count(event: Event) -> None:
    counts[event.type, event.operation, event.kind] += 1


stop_counting = listen(count)
# --8<-- [end:count]
guard(retry(attempts=2)).call(script(ConnectionResetError, "a row").function())
assert sum(counts.values()) == 2
stop_counting()

# --8<-- [start:quiet]
logging.getLogger("resilient_faces.retry").setLevel(logging.WARNING)  # only what gave up
logging.getLogger("resilient_faces.breaker").setLevel(logging.WARNING)  # transitions, no refusals
# --8<-- [end:quiet]
for name in ("retry", "breaker"):
    logging.getLogger(f"resilient_faces.{name}").setLevel(logging.NOTSET)
# --8<-- [start:metrics]
from resilient_faces.telemetry.metrics import Metrics

metrics = Metrics()
stop_metrics = metrics.start()

retry(attempts=3).call(script(ConnectionResetError, ConnectionResetError, "a row").function())

read = {(one.name, one.labels): one.value for one in metrics.read()}
assert read["RetryAttempts", (("operation", "scripted"),)] == 2.0
assert read["DegradedServices", ()] == 0.0
# --8<-- [end:metrics]
stop_metrics()
rest.close()
