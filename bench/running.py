"""Start the measuring processes, merge what they found, judge it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import imports, sampling
from bench.peers import PEERS
from bench.table import TABLE, Row

SCHEMA: Final = 1
ROOT: Final = Path(__file__).resolve().parent.parent
NOISE: Final = 0.08
COUNTED: Final = ("bytes", "objects")


@dataclass(frozen=True, slots=True)
class Parameters:
    """How much is measured.

    Attributes:
        processes: Measuring processes; a figure is the median of theirs.
        rounds: Rounds in each, of ours between two baselines.
        budget_ns: About how long one sample takes.
        import_rounds: Fresh interpreters for each import.
        again: How often rows that miss by less than the noise are measured again.
        peers: Whether the peers take part.
    """

    processes: int = 3
    rounds: int = 41
    budget_ns: float = 1_000_000.0
    import_rounds: int = 15
    again: int = 2
    peers: bool = True


@dataclass(slots=True)
class Pool:
    """What the processes found for one row."""

    values: list[float] = field(default_factory=list)
    ns: list[float] = field(default_factory=list)
    baseline_ns: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    others: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    error: str = ""
    again: int = 0

    def add(self, reading: Mapping[str, Any]) -> None:
        """Take in one process's reading."""
        if reading["error"]:
            self.error = reading["error"]
            return
        self.values.append(reading["value"])
        self.ns.append(reading["ns"])
        self.baseline_ns.append(reading["baseline_ns"])
        self.lows.append(reading["low"])
        self.highs.append(reading["high"])
        for name, other in reading["others"].items():
            self.others.setdefault(name, []).append(other)


def _child(rows: Sequence[str], parameters: Parameters) -> dict[str, Any]:
    wish = {
        "rows": list(rows),
        "rounds": parameters.rounds,
        "budget_ns": parameters.budget_ns,
        "peers": parameters.peers,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.child"],
        input=json.dumps(wish),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def verdict(row: Row, pool: Pool) -> str:
    """`ambitious`, `must`, `MISSED`, or `ERROR` if it could not be measured."""
    if pool.error or not pool.values:
        return "ERROR"
    value = sampling.middle(pool.values)
    if value <= row.ambitious:
        return "ambitious"
    return "must" if value <= row.must else "MISSED"


def _near(row: Row, pool: Pool) -> bool:
    return (
        row.unit not in COUNTED
        and verdict(row, pool) == "MISSED"
        and sampling.middle(pool.values) <= row.must * (1.0 + NOISE)
    )


def run(wanted: Sequence[Row], parameters: Parameters) -> dict[str, Any]:
    """Measure the wanted rows.

    Returns:
        The document that `--json` writes.
    """
    pools = {row.key: Pool() for row in wanted}
    timed = [row.key for row in wanted if row.group != "import" and row.unit not in COUNTED]
    counted = [row.key for row in wanted if row.unit in COUNTED]
    absent: dict[str, str] = {}
    faults: dict[str, dict[str, str]] = {}
    for turn in range(parameters.processes):
        rows = timed + counted if turn == 0 else timed
        if not rows:
            break
        print(f"process {turn + 1} of {parameters.processes}", file=sys.stderr)
        _merge(_child(rows, parameters), pools, absent, faults)
    if any(row.group == "import" for row in wanted):
        _imports(pools, parameters)
    for _ in range(parameters.again):
        near = [row.key for row in wanted if _near(row, pools[row.key])]
        if not near:
            break
        print(f"within noise of their limit, measured again: {', '.join(near)}", file=sys.stderr)
        for key in near:
            pools[key].again += 1
        if any(key.startswith("import-") for key in near):
            _imports({key: pools[key] for key in near if key.startswith("import-")}, parameters)
        rest = [key for key in near if not key.startswith("import-")]
        for _ in range(parameters.processes if rest else 0):
            _merge(_child(rest, parameters), pools, absent, faults)
    return _document(wanted, pools, absent, faults, parameters)


def _merge(
    answer: Mapping[str, Any], pools: Mapping[str, Pool], absent: dict[str, str], faults: dict[str, dict[str, str]]
) -> None:
    for key, reading in answer["rows"].items():
        pools[key].add(reading)
    absent.update(answer["absent"])
    for name, reasons in answer["faults"].items():
        faults.setdefault(name, {}).update(reasons)


def _imports(pools: Mapping[str, Pool], parameters: Parameters) -> None:
    readings = imports.measure(parameters.import_rounds, peers=parameters.peers)
    for key, pool in pools.items():
        if not key.startswith("import-"):
            continue
        how = {"import-cold": "cold", "import-cold-tenacity": "cold", "import-in-use": "in-use"}.get(key, "warm")
        mine = readings.get(("ours", how))
        if not mine:
            pool.error = "resilient_faces could not be imported so"
            continue
        if key == "import-cold-tenacity":
            theirs = readings.get(("tenacity", "cold"))
            if not theirs:
                pool.error = "tenacity is not installed"
                continue
            values = [ours / other for ours, other in zip(mine, theirs, strict=True)]
        else:
            values = list(mine)
            for (name, which), taken in readings.items():
                if name != "ours" and which == how and taken:
                    pool.others.setdefault(name, []).append({"value": sampling.middle(taken)})
        low, high = sampling.quartiles(values)
        pool.values.append(sampling.middle(values))
        pool.ns.append(sampling.middle(mine) * 1e6)
        pool.baseline_ns.append(0.0)
        pool.lows.append(low)
        pool.highs.append(high)


def _document(
    wanted: Sequence[Row],
    pools: Mapping[str, Pool],
    absent: Mapping[str, str],
    faults: Mapping[str, Mapping[str, str]],
    parameters: Parameters,
) -> dict[str, Any]:
    rows = [_row(row, pools[row.key]) for row in wanted]
    return {
        "schema": SCHEMA,
        "commit": _commit(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "versions": _versions(),
        "parameters": {
            "processes": parameters.processes,
            "rounds": parameters.rounds,
            "budget_ns": parameters.budget_ns,
            "import_rounds": parameters.import_rounds,
            "again": parameters.again,
        },
        "peers": {
            peer.name: {
                "status": "absent" if peer.name in absent else "measured",
                "failed": dict(faults.get(peer.name, {})),
            }
            for peer in (PEERS if parameters.peers else ())
        },
        "rows": rows,
        "missed": [row["key"] for row in rows if row["verdict"] in ("MISSED", "ERROR")],
    }


def _row(row: Row, pool: Pool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": row.key,
        "group": row.group,
        "title": row.title,
        "baseline": row.baseline,
        "unit": row.unit,
        "ambitious": row.ambitious,
        "must": row.must,
        "verdict": verdict(row, pool),
    }
    if pool.error or not pool.values:
        return {**found, "error": pool.error or "not measured"}
    value = sampling.middle(pool.values)
    others = {
        name: {member: round(sampling.middle([one[member] for one in taken]), 4) for member in taken[0]}
        for name, taken in pool.others.items()
    }
    return {
        **found,
        "value": round(value, 4),
        "processes": [round(one, 4) for one in pool.values],
        "quartiles": [round(sampling.middle(pool.lows), 4), round(sampling.middle(pool.highs), 4)],
        "ns": round(sampling.middle(pool.ns), 1),
        "baseline_ns": round(sampling.middle(pool.baseline_ns), 1),
        "again": pool.again,
        "peers": others,
        "aims": [
            {
                "peer": name,
                "aim": round(aim, 4),
                "value": round(value / others[name]["value"], 4),
                "met": value / others[name]["value"] <= aim,
            }
            for name, aim in row.aims.items()
            if name in others and others[name]["value"] > 0
        ],
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    names = {name for peer in PEERS for name in peer.distributions} | {"resilient-faces", "anyio"}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def choose(only: Sequence[str]) -> list[Row]:
    """The rows whose key or group was named; all if none was.

    Raises:
        KeyError: A name that is neither a row nor a group.
    """
    if not only:
        return list(TABLE)
    known = {row.key for row in TABLE} | {row.group for row in TABLE}
    for name in only:
        if name not in known:
            raise KeyError(name)
    return [row for row in TABLE if row.key in only or row.group in only]
