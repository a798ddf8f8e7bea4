"""`proof/prefork.py`: the small run passes, and the judge notices what it is there for."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROOF = Path(__file__).resolve().parents[2] / "proof" / "prefork.py"


@pytest.fixture(scope="module")
def prefork() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("proof_prefork", PROOF)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROOF.parent)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.other_platform
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_four_workers(tmp_path: Path) -> None:
    """Different jitter in each, no shared permits."""
    if importlib.util.find_spec("gunicorn") is None:
        pytest.skip("gunicorn is not installed; it is in the dependency group `test`")
    target = tmp_path / "prefork.json"
    command = [sys.executable, str(PROOF), "--small", "--out", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(target.read_text())
    assert report["ok"] is True
    assert report["figures"]["workers"] == 4
    assert len({tuple(one) for one in report["figures"]["first_delays"]}) == 4


def _answer(pid: int, **changed: Any) -> dict[str, Any]:
    good = {"pid": pid, "master": 1, "state_at_first": "half_open", "probes_at_first": 0}
    return {**good, "probed": ["probe", "refused"], "delays": [0.1 * pid] * 5, **changed}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"delays": [0.1 * 2] * 5}, "the same delays"),
        ({"delays": []}, "5 delays"),
        ({"probes_at_first": 1}, "with 1 probes"),
        ({"probed": ["none"]}, "one probe of its own"),
        ({"probed": ["probe", "second"]}, "one probe of its own"),
        ({"pid": 2}, "3 workers answered"),
        ({"master": 5}, "the master answered"),
    ],
)
def test_the_judge(prefork: ModuleType, changed: dict[str, Any], words: str | None) -> None:
    """Each way to be wrong is told."""
    wrong = prefork.judge([_answer(2), _answer(3), _answer(4), _answer(**{"pid": 5, **changed})], 1)
    assert wrong == [] if words is None else any(words in one for one in wrong)
