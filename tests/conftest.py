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
    parser.addoption(
        "--without", metavar="EXTRA", action="append", default=[], help="in CI too: tests of this extra may be skipped"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_outcomes] = {}
    config.pluginmanager.register(_Keeper(config.stash[_outcomes]))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, name: str, config: pytest.Config) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    if any(f"the extra `{extra}` is not installed" in str(reason) for extra in config.getoption("--without")):
        return
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
        _refuse_skip(report, item.nodeid, item.config)
    return report


class _Keeper:
    """Keeps the worst outcome of each test; with several processes, in the one that collects them."""

    def __init__(self, outcomes: dict[str, str]) -> None:
        self._outcomes = outcomes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seen = {report.outcome, self._outcomes.get(report.nodeid, "passed")}
        self._outcomes[report.nodeid] = next(outcome for outcome in _WORST_FIRST if outcome in seen)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:
        _refuse_skip(report, collector.nodeid, collector.config)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--outcomes")
    if target and not hasattr(session.config, "workerinput"):  # a worker's outcomes are told to the one that collects
        kept = {"python": sys.version.split()[0], "outcomes": session.config.stash[_outcomes]}
        Path(str(target)).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
