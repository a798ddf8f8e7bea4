"""The main job holds its invariants at every level of faults: `python proof/demo_indexing.py [--small] [--out FILE]`.

Runs `resilient-faces demo indexing` for each level of faults with two seeds, once more with the first seed to show
that the plan is the same, and once at a rate low enough to bind on any machine. Writes JSON with commit, versions,
parameters and figures; exits 1 if an invariant is broken or a plan differs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("resilient-faces", "boto3", "botocore", "click", "numpy", "pillow", "rich", "scikit-image")
FIGURES = (
    "ok", "photos", "indexed", "failed", "faces", "faults", "retries", "index_requests", "requests_per_photo",
    "max_in_any_second", "right_counts", "judged_counts", "misses", "planned_failures", "plan", "seconds",
    "seconds_to_start", "invariants",
)  # fmt: skip


def demo(count: int, level: str, seed: int, rate: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "resilient_faces", "demo", "indexing", "--json"]
    command += ["--count", str(count), "--faults", level, "--seed", str(seed), "--rate", f"{rate:g}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    report = json.loads(done.stdout)
    share = report["right_counts"] / report["judged_counts"] if report["judged_counts"] else None
    return {
        "parameters": {"count": count, "faults": level, "seed": seed, "rate": rate},
        "exit_code": done.returncode,
        "right_share": None if share is None else round(share, 4),
        **{name: report[name] for name in FIGURES},
    }


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="20 photos, one seed a level")
    parser.add_argument("--out", type=Path, help="file for the JSON; standard output if absent")
    options = parser.parse_args()
    count = 20 if options.small else 200
    seeds = (1,) if options.small else (0, 1)
    runs = [demo(count, level, seed, 50.0) for level in ("none", "default", "heavy") for seed in seeds]
    again = demo(count, "default", seeds[0], 50.0)
    paced = demo(20 if options.small else 60, "none", seeds[0], 5.0)
    first = next(one for one in runs if one["parameters"] == again["parameters"])
    same_plan = again["plan"] == first["plan"]
    holds = all(one["exit_code"] == 0 for one in (*runs, again, paced)) and same_plan
    result = {
        "schema": 1,
        "proof": "demo_indexing",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "machine": {"system": platform.system(), "processors": os.cpu_count()},
        "small": options.small,
        "same_seed_same_plan": same_plan,
        "holds": holds,
        "runs": [*runs, again, paced],
    }
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    for one in result["runs"]:
        p = one["parameters"]
        print(
            f"{p['faults']:>8} seed {p['seed']} rate {p['rate']:g}: {one['indexed']}/{one['photos']} indexed, "
            f"{one['failed']} failed, {one['requests_per_photo']} requests a photo, {one['max_in_any_second']} at most "
            f"in a second, right {one['right_share']}, {one['seconds']} s: {'ok' if one['ok'] else 'BROKEN'}",
            file=sys.stderr,
        )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
