"""Eight processes share a limiter of 50 a second: `python proof/shared_limiter.py [--small] [--store redis|dynamodb]`.

They reserve slots one by one, in tens and in fifties, as fast as they get them, and send a datagram at each. The ledger
that receives them counts what came in any half-open second: at most 51, with the store alive and with the store killed
midway. One of the eight has a clock that is 5 s fast.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import _shared
from _report import Proof

RATE = 50.0
PROCESSES = 8
MOST = 51
STARVED = 0.01  # share of the time that a process, which mostly sleeps, had no processor: then only the law is checked


def prepare(task: dict[str, Any]) -> dict[str, Any]:
    _shared.shift_clock(task["clock_off"])
    from resilient_faces import rate_limit

    store = _shared.open_store(task["spec"], task["prefix"])
    if task["spec"]["kind"] == "dynamodb":
        store.learn_clock()
    else:
        store.load("nothing")  # connected
    limiter = rate_limit(RATE, name="index-faces", store=store, store_timeout=1.0)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", task["port"]))
    return {**task, "limiter": limiter, "socket": sender}


def work(task: dict[str, Any], ended: threading.Event) -> dict[str, Any]:
    limiter, batch, me = task["limiter"], task["batch"], str(task["number"]).encode()

    def send() -> None:
        task["socket"].send(me)

    paced = limiter(send)
    began, waited = time.monotonic(), _shared.denied()
    while not ended.is_set():
        if batch == 1:
            paced()
            continue
        reserved = limiter.reserve_batch(batch)
        for index in range(batch):
            if ended.wait(max(0.0, reserved.begins + index * reserved.interval - time.monotonic())):
                break
            if not reserved.missed(index):
                send()
    return {"share": limiter.share, "denied": (_shared.denied() - waited) / (time.monotonic() - began)}


def run(spec: dict[str, Any], batch: int, seconds: float, killed: Any = None) -> dict[str, Any]:
    """One run; with `killed`, the store's server is killed midway."""
    ledger = _shared.Ledger()
    prefix = f"{batch}-{time.time_ns()}:"
    tasks = [
        {
            "spec": spec,
            "prefix": prefix,
            "port": ledger.port,
            "batch": batch,
            "number": number,
            "clock_off": 5.0 if number == 0 else 0.0,
        }
        for number in range(PROCESSES)
    ]
    with _shared.Children(__file__, tasks) as children:
        children.begin()
        killed_at = None
        if killed is None:
            time.sleep(seconds)
        else:
            time.sleep(seconds / 2.0)
            killed_at = time.time()
            killed()
            time.sleep(seconds / 2.0)
        said = children.end(60.0)
    ledger.close()
    times = sorted(at for at, _ in ledger.seen)
    figures: dict[str, Any] = {
        "batch": batch,
        "seen": len(times),
        "most_in_any_second": _shared.most_in_a_second(times),
        "by_process": {name: sum(1 for _, one in ledger.seen if one == name) for name in map(str, range(PROCESSES))},
    }
    figures["denied"] = round(max(one["denied"] for one in said), 3)  # share of the time without a processor
    if killed_at is None:
        figures["a_second"] = round((len(times) - 1) / (times[-1] - times[0]), 2)
    else:
        figures["most_began"] = round(_shared.busiest_second(times) - killed_at, 2)  # seconds after it was killed
        after = [at for at in times if at > killed_at + seconds / 4.0]
        figures["a_second_alone"] = round(len(after) / (times[-1] - killed_at - seconds / 4.0), 2)
        figures["shares"] = [round(one["share"], 3) for one in said]
    return figures


def main() -> int:
    proof = Proof(
        "shared_limiter",
        "8 processes that share a limiter of 50 a second start at most 51 in any half-open second, whatever they "
        "reserve at a time, with the store alive and with the store killed midway",
        __doc__,
        small="shorter runs",
    )
    proof.parser.add_argument("--store", choices=_shared.STORES, action="append", help="one of them only")
    options = proof.parse()
    proof.need("boto3", "redis", cure="pip install 'resilient-faces[aws,redis]'")
    found: dict[str, Any] = {}
    for kind in options.store or _shared.STORES:
        found[kind] = []
        with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
            for batch in (1, 10, 50):
                one = run(server.spec, batch, 6.0 if options.small else 20.0)
                found[kind].append(one)
                proof.say(f"{kind}: {one}")
                proof.check(one["most_in_any_second"] <= MOST, f"{kind}, batches of {batch}: {one}")
                # Processes that do not get their turn are too late for their slots, and let them pass.
                held = one["a_second"] >= 0.9 * RATE or one["denied"] > STARVED
                proof.check(held, f"{kind}, batches of {batch}, is too slow: {one}")
        for batch in (1, 10):
            with tempfile.TemporaryDirectory() as folder, _shared.running(kind, Path(folder)) as server:
                one = {"killed": True, **run(server.spec, batch, 10.0 if options.small else 30.0, server.kill)}
                found[kind].append(one)
                proof.say(f"{kind}: {one}")
                proof.check(one["most_in_any_second"] <= MOST, f"{kind} killed, batches of {batch}: {one}")
                fair = all(5.0 <= share <= RATE / PROCESSES for share in one["shares"])
                fair = fair and one["a_second_alone"] >= 0.5 * RATE
                proof.check(fair or one["denied"] > STARVED, f"{kind} killed, batches of {batch}: {one}")
    return proof.finish(
        parameters={"processes": PROCESSES, "rate": RATE, "clock_off": 5.0},
        figures=found,
        packages=("resilient-faces", "redis", "boto3", "botocore"),
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        _shared.as_child(work, prepare)
    else:
        sys.exit(main())
