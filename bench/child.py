"""One measuring process: reads what to measure from stdin, writes readings to stdout. Started by `running`."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import quiet

quiet.install()

from bench import ours, sampling  # noqa: E402  after the sleeps were replaced
from bench.scenarios import SCENARIOS, Contest, Count, Hall  # noqa: E402
from bench.table import TABLE, Row  # noqa: E402


@dataclass(slots=True)
class Reading:
    """What one process found for one row."""

    value: float = 0.0
    ns: float = 0.0
    baseline_ns: float = 0.0
    low: float = 0.0
    high: float = 0.0
    others: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str = ""


def _timed(row: Row, contest: Contest, wish: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Reading:
    rounds = max(3, round(wish["rounds"] * contest.share))
    readings = sampling.interleave(
        contest.sample,
        contest.baseline,
        contest.ours,
        contest.others,
        plain=contest.plain,
        loop=loop,
        rounds=rounds,
        every=max(1, rounds // contest.peer_rounds),
        budget_ns=wish["budget_ns"],
        fixed=contest.fixed,
    )
    mine = readings["ours"]
    if row.unit == "+x":
        values = [with_it - without for with_it, without in zip(mine.ratios, readings["plain"].ratios, strict=True)]
    elif row.unit == "us":
        values = [ns / 1000.0 for ns in mine.ns]
    else:
        values = mine.ratios
    low, high = sampling.quartiles(values)
    found = Reading(
        value=sampling.middle(values),
        ns=sampling.middle(mine.ns),
        baseline_ns=sampling.middle(readings["baseline"].ns),
        low=low,
        high=high,
    )
    for name in contest.others:
        ns = sampling.middle(readings[name].ns)
        value = ns / 1000.0 if row.unit == "us" else sampling.middle(readings[name].ratios)
        found.others[name] = {"value": value, "ns": ns}
    return found


def _counted(count: Count) -> Reading:
    return Reading(
        value=count.ours,
        low=count.ours,
        high=count.ours,
        others={name: {"value": value} for name, value in count.others.items()},
    )


def _read(row: Row, entry: Contest | Count, wish: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Reading:
    return _timed(row, entry, wish, loop) if isinstance(entry, Contest) else _counted(entry)


def _progress(key: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{key:40}\r", end="", file=sys.stderr, flush=True)


def measure(wish: dict[str, Any]) -> dict[str, Any]:
    """Measure the wished rows, one after the other."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    hall = Hall(loop, peers=wish["peers"])
    ours.quiet()
    gc.collect()
    gc.freeze()
    rows = {row.key: row for row in TABLE}
    found: dict[str, Any] = {}
    for key in wish["rows"]:
        _progress(key)
        try:
            reading = _read(rows[key], SCENARIOS[key](hall), wish, loop)
        except Exception as error:
            reading = Reading(error=f"{type(error).__name__}: {error}")
        found[key] = asdict(reading)
        gc.collect()
    _progress("")
    return {"rows": found, "absent": hall.absent, "faults": hall.faults}


def main() -> None:
    """Read a wish, measure, answer."""
    warnings.simplefilter("ignore")
    # A handler of its own keeps the peers' warnings off stderr; levels stay as they are, for they cost something.
    logging.getLogger().addHandler(logging.NullHandler())
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
