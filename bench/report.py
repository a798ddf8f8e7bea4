"""Print what was found: a table for each group, then what was missed, then who could not take part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.table import GROUPS

SHOWN: Final = 4


def figure(value: float, unit: str) -> str:
    """A figure with its unit."""
    if unit in ("x", "+x"):
        text = f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
        return f"+{text}" if unit == "+x" and value >= 0 else text
    if unit in ("bytes", "objects"):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def nearest(row: Mapping[str, Any], count: int = SHOWN) -> str:
    """The best peers of a row."""
    peers = sorted(row.get("peers", {}).items(), key=lambda item: item[1]["value"])
    return ", ".join(f"{name} {figure(peer['value'], row['unit'])}" for name, peer in peers[:count])


def lines(document: Mapping[str, Any]) -> list[str]:
    """The whole report."""
    text = [f"Python {document['python']}, resilient-faces at {document['commit'][:12] or 'no commit'}"]
    for group, title in GROUPS.items():
        rows = [row for row in document["rows"] if row["group"] == group]
        if not rows:
            continue
        text += ["", title]
        text.append(
            f"  {'row':<28}{'ours':>9}{'figure':>9} {'spread':<15}{'ambitious':>10}{'must':>8}  {'verdict':<10}peers"
        )
        text += [_line(row) for row in rows]
    text += ["", *_aims(document), *_ends(document)]
    return text


def _line(row: Mapping[str, Any]) -> str:
    unit = row["unit"]
    limits = f"{figure(row['ambitious'], unit):>10}{figure(row['must'], unit):>8}  {row['verdict']:<10}"
    if "value" not in row:
        return f"  {row['key']:<28}{'':>9}{'':>9} {'':<15}{limits}{row['error']}"
    ns = _time(row["ns"]) if row["ns"] and unit in ("x", "+x") else ""
    low, high = row["quartiles"]
    spread = "" if unit in ("bytes", "objects") else f"{figure(low, unit)} .. {figure(high, unit)}"
    again = " (again)" if row["again"] else ""
    value = f"{figure(row['value'], unit)}{'' if unit in ('x', '+x') else ' ' + unit[:5]}"
    return f"  {row['key']:<28}{ns:>9}{value:>9} {spread:<15}{limits}{nearest(row)}{again}"


def _time(ns: float) -> str:
    return f"{ns:,.0f} ns" if ns < 1e6 else f"{ns / 1e6:,.1f} ms"


def _aims(document: Mapping[str, Any]) -> list[str]:
    aims = [(row["key"], aim) for row in document["rows"] for aim in row.get("aims", ())]
    if not aims:
        return []
    missed = [(key, aim) for key, aim in aims if not aim["met"]]
    text = [f"Beside the peers: {len(aims) - len(missed)} of {len(aims)} aims met."]
    text += [f"  {key}: {aim['value']:.3f} of {aim['peer']}, the aim is {aim['aim']:.3f}" for key, aim in missed]
    return text


def _ends(document: Mapping[str, Any]) -> list[str]:
    rows = document["rows"]
    count = {kind: sum(row["verdict"] == kind for row in rows) for kind in ("ambitious", "must", "MISSED", "ERROR")}
    summary = ", ".join(f"{number} {kind}" for kind, number in count.items())
    text = [f"{len(rows)} rows: {summary}."]
    for row in rows:
        if row["verdict"] == "MISSED":
            over = f" ({row['value'] / row['must'] - 1:+.0%})" if row["must"] else ""
            value, must = figure(row["value"], row["unit"]), figure(row["must"], row["unit"])
            text.append(f"  missed: {row['key']} {value}, must {must}{over}")
        elif row["verdict"] == "ERROR":
            text.append(f"  error: {row['key']}: {row['error']}")
    for name, peer in document["peers"].items():
        if peer["status"] == "absent":
            text.append(f"  absent: {name}")
        for feature, reason in peer["failed"].items():
            text.append(f"  {name}, {feature}: {reason}")
    return text
