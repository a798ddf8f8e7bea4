"""Time imports in fresh interpreters, ours and the peers' by turns; CPU time, so that a busy machine matters less."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Final

WARM: Final = "import asyncio, contextlib, dataclasses, functools, inspect, logging, random, threading, typing"

_CLOCK: Final = "from time import process_time as clock; began = clock()"
_PRINT: Final = "print((clock() - began) * 1000.0)"

IN_USE: Final = """
import resilient_faces
from tenacity import stop_after_attempt, wait_none
@resilient_faces.retry(stop=stop_after_attempt(3), backoff=wait_none())
def load(x): return x
load(1)
"""

OURS: Final[Mapping[str, str]] = {
    "import-cold": f"{_CLOCK}; import resilient_faces; {_PRINT}",
    "import-warm": f"{WARM}; {_CLOCK}; import resilient_faces; {_PRINT}",
    "import-in-use": f"{WARM}; {_CLOCK}\n{IN_USE}\n{_PRINT}",
}

MODULES: Final[Mapping[str, str]] = {
    "tenacity": "tenacity",
    "stamina": "stamina",
    "opnieuw": "opnieuw",
    "pybreaker": "pybreaker",
    "circuitbreaker": "circuitbreaker",
    "pyfailsafe": "failsafe",
    "hyx": "hyx.retry, hyx.circuitbreaker, hyx.fallback, hyx.timeout",
    "pyresilience": "pyresilience",
    "interlock-cb": "interlock, interlock.pipeline",
}


def milliseconds(code: str, environment: Mapping[str, str]) -> float | None:
    """Run code that prints a duration in a fresh interpreter; None if it fails, for example for an absent peer."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        return None
    return float(done.stdout.split()[-1])


def codes(*, peers: bool) -> dict[tuple[str, str], str]:
    """Every import that is timed, by (who, `cold`, `warm` or `in-use`)."""
    found = {("ours", key.removeprefix("import-")): code for key, code in OURS.items()}
    for name, modules in MODULES.items():
        if not peers and name != "tenacity":
            continue
        found[(name, "cold")] = f"{_CLOCK}; import {modules}; {_PRINT}"
        found[(name, "warm")] = f"{WARM}; {_CLOCK}; import {modules}; {_PRINT}"
    return found


def measure(rounds: int, *, peers: bool) -> dict[tuple[str, str], list[float]]:
    """Readings in ms, taken by turns; who cannot be imported is left out.

    All of them read byte code from a cache of this run's own, as an installed package would; the first reading of each
    fills that cache and is thrown away.
    """
    wanted = codes(peers=peers)
    readings: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for key, code in wanted.items():
            if milliseconds(code, environment) is not None:
                readings[key] = []
        for _ in range(rounds):
            for key, taken in readings.items():
                value = milliseconds(wanted[key], environment)
                if value is not None:
                    taken.append(value)
    return readings
