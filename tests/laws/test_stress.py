"""8 threads and 3 event loops on one guard, small enough for every run; `proof/stress.py` does it a million times.

RESILIENT_FACES_STRESS_CALLS sets the size.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PROOF = Path(__file__).resolve().parents[2] / "proof" / "stress.py"
CALLS = int(os.environ.get("RESILIENT_FACES_STRESS_CALLS", "20000"))


@pytest.fixture(scope="module")
def stress() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("proof_stress", PROOF)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROOF.parent)
        spec.loader.exec_module(module)
        yield module


def test_counters_are_exact(stress: ModuleType, resilience: None) -> None:
    """What the workers wrote down is what circuit and events say, to the last call."""
    found = stress.stress(CALLS)
    assert found["wrong"] == []
    workers = stress.THREADS + stress.LOOPS
    assert found["steady"]["calls"] == math.ceil(CALLS // 2 / workers) * workers * 2 >= CALLS


def test_the_proof_finds_a_lost_count(stress: ModuleType, resilience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that cannot fail proves nothing: one event too few is noticed."""
    heard: list[object] = []
    count = stress.Heard.__call__

    def forgets(self: object, event: object) -> None:
        heard.append(event)
        if len(heard) != 7:
            count(self, event)

    monkeypatch.setattr(stress.Heard, "__call__", forgets)
    assert stress.stress(4_000)["wrong"] != []


def test_the_command_writes_json(tmp_path: Path) -> None:
    """With commit, versions and parameters."""
    target = tmp_path / "stress.json"
    command = [sys.executable, str(PROOF), "--small", "--calls", "4000", "--out", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(target.read_text())
    assert report["ok"] is True
    assert report["parameters"]["calls"] == 4000
    assert set(report["versions"]) == {"python", "resilient-faces", "anyio"}
    assert report["commit"]
