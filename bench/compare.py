"""Is a second run like the first? `python -m bench.compare FIRST SECOND` exits with 1 if a row differs too much."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

WITHIN: Final = 0.15


def differences(first: Mapping[str, Any], second: Mapping[str, Any], within: float = WITHIN) -> list[str]:
    """The rows of both runs whose figures are further apart than allowed.

    What something adds (`+x`) is the difference of two ratios, so it may differ by that share of the baseline.
    """
    before = {row["key"]: row for row in first["rows"] if "value" in row}
    found: list[str] = []
    for row in second["rows"]:
        other = before.get(row["key"])
        if other is None or "value" not in row:
            continue
        was, now = other["value"], row["value"]
        allowed = within if row["unit"] == "+x" else within * max(abs(was), abs(now))
        if abs(now - was) > allowed:
            found.append(f"{row['key']}: {was:g}, then {now:g}")
    return found


def main() -> int:
    """Compare two JSON files."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--within", type=float, default=WITHIN, help="allowed share, 0.15 unless told")
    options = parser.parse_args()
    first, second = (json.loads(path.read_text("utf-8")) for path in (options.first, options.second))
    if first["python"] != second["python"]:
        print(f"different Pythons: {first['python']} and {second['python']}")
        return 2
    found = differences(first, second, options.within)
    for line in found:
        print(line)
    print(f"{len(found)} of {len(second['rows'])} rows differ by more than {options.within:.0%}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
