"""The laws hold in at least 1,000 examples each.

    python proof/laws.py            1,000 examples of each law
    python proof/laws.py --small    30 of each

The laws are property tests: the breaker's state machine against a plain model, direct path against flow with circuits
that change during a call, all modes against each other, and the bounds of backoff and jitter. Told are hypothesis' own
statistics: for each law the examples that passed and the seconds they took.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Final

from _report import ROOT, Proof

PLACES: Final = ("tests/laws", "tests/retry/test_backoff.py", "tests/limits/test_rate.py")
NAME: Final = re.compile(r"^(tests/\S+::.+):$")
PHASE: Final = re.compile(r"^\s*- during (\w+) phase \(([\d.]+) seconds\):")
COUNTS: Final = re.compile(r"(\d+) passing\D*, (\d+) failing\D*, (?:and )?(\d+) invalid")
STOPPED: Final = re.compile(r"^\s*- Stopped because (.+)$")


def read(text: str) -> dict[str, dict[str, object]]:
    """Hypothesis' statistics, by test."""
    found: dict[str, dict[str, object]] = {}
    law: dict[str, object] = {}
    for line in text.splitlines():
        if name := NAME.match(line):
            law = found.setdefault(name[1], {"passed": 0, "failed": 0, "invalid": 0, "seconds": 0.0, "stopped": ""})
        elif not law:
            continue
        elif phase := PHASE.match(line):
            law["seconds"] = round(float(str(law["seconds"])) + float(phase[2]), 2)
        elif counts := COUNTS.search(line):
            for key, value in zip(("passed", "failed", "invalid"), counts.groups(), strict=True):
                law[key] = int(str(law[key])) + int(value)
        elif stopped := STOPPED.match(line):
            law["stopped"] = stopped[1]
    return found


def main() -> int:
    proof = Proof("laws", "the laws hold in at least 1,000 examples each", __doc__, "30 examples of each law")
    proof.parser.add_argument("--seed", type=int, default=0, help="seed of hypothesis (0)")
    proof.parser.add_argument("--only", metavar="WORD", help="laws with this in their name, as pytest's -k")
    options = proof.parse()
    proof.need("pytest", "hypothesis", "trio")
    profile, least = ("default", 30) if options.small else ("laws", 1000)
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["HYPOTHESIS_PROFILE"] = profile
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=short"]
    command += ["-m", "hypothesis", "--hypothesis-show-statistics", f"--hypothesis-seed={options.seed}", *PLACES]
    command += ["-k", options.only] if options.only else []
    proof.say(f"{least} examples of each law ...")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    laws = read(done.stdout)
    for name, law in laws.items():
        # A law whose cases are fewer than that has been proved once all of them are through.
        enough = int(str(law["passed"])) >= least or "nothing left to do" in str(law["stopped"])
        proof.check(enough, f"{name}: {law['passed']} examples")
        proof.check(not law["failed"], f"{name}: does not hold")
        proof.say(f"  {law['passed']:>6} examples {law['seconds']:>7} s  {name.rpartition('/')[2]}")
    said = "\n".join(done.stdout.splitlines()[-30:])
    if not proof.check(done.returncode == 0, f"pytest exits with {done.returncode}"):
        proof.say(said)
    proof.check(len(laws) > 0, "no law was found")
    return proof.finish(
        parameters={"profile": profile, "least_examples": least, "seed": options.seed, "places": PLACES},
        figures={"laws": len(laws), "examples": sum(int(str(law["passed"])) for law in laws.values()), "each": laws},
        packages=("resilient-faces", "hypothesis", "pytest", "trio", "anyio"),
    )


if __name__ == "__main__":
    sys.exit(main())
