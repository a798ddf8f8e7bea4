"""`python -m bench`: measure, print the tables, exit with 1 if a row misses its limit."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.compare import WITHIN, differences
from bench.report import lines
from bench.running import Parameters, choose, run
from bench.table import TABLE

QUICK = Parameters(processes=1, rounds=9, budget_ns=400_000.0, import_rounds=3, again=0)


def main() -> int:
    """Exit codes: 0 every row within `must`, 1 one is not, 2 usage, 3 a dependency is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="a row or a group; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one short process: a look, not a verdict to rely on")
    parser.add_argument("--list", action="store_true", help="list the rows and their limits")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds in each process")
    parser.add_argument("--processes", type=int, metavar="N", help="measuring processes")
    parser.add_argument("--no-peers", action="store_true", help="measure ours alone")
    parser.add_argument("--against", type=Path, metavar="FILE", help="also exit 1 if a row is 15 %% off an earlier run")
    options = parser.parse_args()
    if options.list:
        for row in TABLE:
            print(f"{row.key:<28}{row.group:<10}{row.unit:<8}{row.ambitious:>8g}{row.must:>8g}  {row.title}")
        return 0
    try:
        rows = choose(options.only)
    except KeyError as error:
        print(f"no row or group is called {error.args[0]!r}; `--list` shows them", file=sys.stderr)
        return 2
    try:
        from bench import ours

        ours.available()
    except ImportError as error:
        print(f"resilient_faces cannot be imported: {error}. Install it first: pip install -e .", file=sys.stderr)
        return 3
    parameters = replace(QUICK if options.quick else Parameters(), peers=not options.no_peers)
    if options.rounds:
        parameters = replace(parameters, rounds=options.rounds)
    if options.processes:
        parameters = replace(parameters, processes=options.processes)
    document = run(rows, parameters)
    print("\n".join(lines(document)))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    failed = bool(document["missed"])
    if options.against:
        found = differences(json.loads(options.against.read_text("utf-8")), document)
        print(f"{len(found)} rows differ from {options.against.name} by more than {WITHIN:.0%}", *found, sep="\n  ")
        failed = failed or bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
