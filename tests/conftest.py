"""For all tests: in CI a skip is a failure, hypothesis runs by profile, and outcomes can be kept in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# `default` is quick, `ci` tries harder, `laws` proves. What an example takes depends on the machine: no deadline.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("default", max_examples=30, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.register_profile("laws", max_examples=1_000, deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_WORST_FIRST = ("failed", "skipped", "passed")
_outcomes = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", metavar="FILE", help="write the outcome of each test to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_outcomes] = {}


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, name: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = (
        f"{name} was skipped ({reason}). In CI that is a failure: install what it needs, or mark it "
        f"@pytest.mark.other_platform if it belongs to another platform or Python."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("other_platform") is not None
    if IN_CI and report.skipped and not expected:
        _refuse_skip(report, item.nodeid)
    outcomes = item.config.stash[_outcomes]
    seen = {report.outcome, outcomes.get(item.nodeid, "passed")}
    outcomes[item.nodeid] = next(outcome for outcome in _WORST_FIRST if outcome in seen)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        _refuse_skip(report, collector.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if target := session.config.getoption("--outcomes"):
        kept = {"python": sys.version.split()[0], "outcomes": session.config.stash[_outcomes]}
        Path(str(target)).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
