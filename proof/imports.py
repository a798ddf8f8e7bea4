"""`import resilient_faces` is light: nothing heavy comes with it, and it takes at most 1.3 times tenacity's import.

    python proof/imports.py            31 interpreters each
    python proof/imports.py --small    7 each

Builds a wheel of the project, installs it with the core's dependencies alone into an environment of its own, and asks
fresh interpreters there: which modules an import brings, and how long it takes beside `import tenacity`, by turns and
with warm bytecode, as medians of CPU time, so that a busy machine matters less. Judged is the import into an
interpreter that has imported nothing; also told is the one into a service that has asyncio, logging, typing and the
like already.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from _report import ROOT, Proof

MOST: Final = 1.3  # times tenacity's import
ABSENT: Final = ("tenacity", "wrapt", "anyio", "opentelemetry")
FLOORS: Final = ("adapters", "planning", "pipeline", "cli", "saga", "idempotency", "testing")  # 5 and up, and edges
COMMON: Final = "import asyncio, contextlib, dataclasses, functools, inspect, logging, random, threading, typing; "
TIMED: Final = "from time import process_time as clock; began = clock(); import {0}; print((clock() - began) * 1000.0)"
LOADED: Final = "import sys, json; import resilient_faces; print(json.dumps(sorted(sys.modules)))"

# Names that the modules of the extras go by, and of what only they bring.
EXTRAS: Final = (
    "av", "boto3", "botocore", "click", "cv2", "dbos", "fastapi", "httpx", "insightface", "multipart", "numpy",
    "onnxruntime", "PIL", "psycopg", "redis", "rich", "skimage", "starlette", "uvicorn",
)  # fmt: skip


def run(proof: Proof, command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; exits with 3 if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        proof.lacks(f"`{' '.join(command[1:5])} ...` failed:\n{said}")
    return done.stdout


def core_alone(proof: Proof, parent: Path) -> Path:
    """The Python of an environment with the wheel and the core's dependencies."""
    pins = ROOT / "constraints" / f"py{sys.version_info[0]}{sys.version_info[1]}.txt"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    proof.say("building the wheel ...")
    run(proof, [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(parent / "dist"), str(ROOT)])
    wheel = next((parent / "dist").glob("*.whl"))
    proof.say(f"installing {wheel.name} with the core's dependencies ...")
    run(proof, [sys.executable, "-m", "venv", str(parent / "core")])
    python = parent / "core" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    constrained = ["--constraint", str(pins)] if pins.exists() else []
    run(proof, [str(python), *pip[1:], "install", *constrained, str(wheel)])
    return python


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead Python elsewhere or keep it from writing bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def times(proof: Proof, python: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each import in fresh interpreters, by turns; the first of each warms bytecode and is left out."""
    codes = {
        f"{module}, {how}": before + TIMED.format(module)
        for how, before in (("alone", ""), ("in a service", COMMON))
        for module in ("resilient_faces", "tenacity")
    }
    found: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(rounds + 1):
        for name, code in codes.items():
            taken = float(run(proof, [str(python), "-c", code], clean_environment()).split()[-1])
            if number:
                found[name].append(taken)
    return found


def main() -> int:
    proof = Proof("imports", f"import brings nothing heavy and takes at most {MOST} times tenacity's", __doc__)
    proof.parser.add_argument("--rounds", type=int, metavar="N", help="interpreters for each import")
    options = proof.parse()
    if options.rounds is not None and options.rounds < 1:
        proof.parser.error(f"--rounds must be 1 or more; got {options.rounds}")
    rounds = options.rounds or (7 if options.small else 31)
    proof.need("pip", "hatchling")
    with tempfile.TemporaryDirectory(prefix="imports-") as parent:
        python = core_alone(proof, Path(parent))
        listed = run(proof, [str(python), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"])
        packages = {one["name"].lower(): one["version"] for one in json.loads(listed)}
        loaded = json.loads(run(proof, [str(python), "-c", LOADED], clean_environment()))
        where = run(proof, [str(python), "-c", "import resilient_faces as r; print(r.__file__)"], clean_environment())
        proof.check("site-packages" in where, "what is imported is not the wheel")
        found = times(proof, python, rounds)

    tops = {name.partition(".")[0] for name in loaded}
    ours = [name for name in loaded if name.partition(".")[0] == "resilient_faces"]
    heavy = sorted(tops.intersection((*ABSENT, *EXTRAS)))
    high = [name for name in ours if name.count(".") and name.split(".")[1] in FLOORS]
    strangers = sorted(one for one in tops if one not in (*sys.stdlib_module_names, "__main__", "resilient_faces"))
    proof.say(f"an import brings {len(loaded)} modules, {len(ours)} of them ours")
    proof.say(f"from neither us nor the standard library: {', '.join(strangers) or 'none'}")
    proof.check(not heavy, f"import resilient_faces brings {', '.join(heavy)}")
    proof.check(not high, f"import resilient_faces brings {', '.join(high)}")

    medians = {name: statistics.median(some) for name, some in found.items()}
    ratios = {}
    for how in ("alone", "in a service"):
        mine, theirs = medians[f"resilient_faces, {how}"], medians[f"tenacity, {how}"]
        ratios[how] = round(mine / theirs, 3)
        proof.say(f"{how}: {mine:.1f} ms beside {theirs:.1f} ms of tenacity, {ratios[how]:.2f} times")
    cold = ratios["alone"]
    proof.check(cold <= MOST, f"the import takes {cold:.2f} times tenacity's; at most {MOST} are allowed")
    core = {
        name: packages.get(name) for name in ("resilient-faces", *ABSENT[:3], "opentelemetry-api", "typing-extensions")
    }
    return proof.finish(
        parameters={"rounds": rounds, "most": MOST, "clock": "CPU time of the process"},
        figures={
            "ratios": ratios,
            "milliseconds": {
                name: {"median": round(medians[name], 2), "least": round(min(some), 2), "most": round(max(some), 2)}
                for name, some in found.items()
            },
            "modules": len(loaded),
            "modules_of_ours": ours,
            "modules_of_others": strangers,
            "heavy": heavy,
            "installed": packages,
        },
        versions_of={name: version for name, version in core.items() if version is not None},
    )


if __name__ == "__main__":
    sys.exit(main())
