"""The plan of a run depends on photos, level and seed alone; what runs leave can be removed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="the extra `aws` is not installed")

from resilient_faces.pipeline import demo
from resilient_faces.pipeline.demo import Level, State, clean, damaged, make_plan
from resilient_faces.pipeline.indexing import Progress
from resilient_faces.pipeline.photos import Photo, readable
from resilient_faces.testing.fault_proxy import FaultKind

BATCH = tuple(Photo(f"p{number}", f"{number}", b"", ()) for number in range(200))


@pytest.mark.parametrize("level", list(Level))
def test_the_same_seed_makes_the_same_plan(level: Level) -> None:
    """Two runs of one seed see the same faults; other seeds see others, unless there are none."""
    plan = make_plan(BATCH, level, 7)
    assert plan == make_plan(BATCH, level, 7)
    assert plan.fingerprint == make_plan(BATCH, level, 7).fingerprint
    assert (make_plan(BATCH, level, 8).faults.faults == plan.faults.faults) is (level is Level.none)


def test_default_damages_every_service_in_every_way_and_fails_no_photo() -> None:
    """Each kind of fault occurs, lost answers after the work among them, and nothing is permanent."""
    plan = make_plan(BATCH, Level.default, 0)
    assert {fault.fault for fault in plan.faults.faults} == set(FaultKind) - {FaultKind.partial}  # no batches here
    assert {fault.operation.partition(".")[0] for fault in plan.faults.faults} == {
        "rekognition",
        "s3",
        "dynamodb",
        "sqs",
    }
    assert any(fault.after and fault.fault is FaultKind.reset for fault in plan.faults.faults)
    assert plan.permanent == {}


def test_heavy_makes_chosen_photos_fail() -> None:
    """Some are missing, some damaged, some refused for ever; no photo twice."""
    plan = make_plan(BATCH, Level.heavy, 0)
    assert (len(plan.missing), len(plan.corrupt), len(plan.refused)) == (2, 2, 1)
    assert len(plan.permanent) == 5
    assert [fault.subject for fault in plan.faults.faults if fault.subject] == list(plan.refused)


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_small_runs_have_plans_too(count: int) -> None:
    """No fault is planned for a request that never comes."""
    for level in Level:
        plan = make_plan(BATCH[:count], level, 3)
        assert all(fault.nth <= count for fault in plan.faults.faults if fault.operation != "sqs.ReceiveMessage")


def test_a_damaged_photo_cannot_be_read() -> None:
    """It begins as a JPEG does, so only decoding finds out."""
    pytest.importorskip("PIL", reason="the extra `demo` is not installed")
    data = damaged(b"\xff\xd8\xff\xe0" + b"1" * 100)
    assert data.startswith(b"\xff\xd8\xff")
    assert not readable(data)


def test_a_message_that_came_twice_is_shown_once() -> None:
    """The display counts photos, not messages."""
    state = State()
    for _ in range(2):
        state.note(Progress("indexed", "a", faces=2))
        state.note(Progress("failed", "b"))
    assert (state.indexed, state.faces, state.failed) == (1, 2, 1)


def test_clean_removes_what_runs_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run folders and the emulator's environment, and nothing of anybody else's."""
    monkeypatch.setenv("RESILIENT_FACES_CACHE", str(tmp_path))
    with demo._run_folder() as folder:
        (folder / "requests.jsonl").write_text("{}")
    (tmp_path / "emulator").mkdir()
    (tmp_path / "mine").write_text("keep")
    removed, kept = clean()
    assert (removed, kept) == ([folder, tmp_path / "emulator"], [])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert clean() == ([], [])


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs file locks")
def test_clean_keeps_a_run_that_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither its folder nor the emulator that it runs on is pulled away."""
    monkeypatch.setenv("RESILIENT_FACES_CACHE", str(tmp_path))
    (tmp_path / "emulator").mkdir()
    with demo._run_folder() as folder:
        assert clean() == ([], [folder])
        assert (tmp_path / "emulator").is_dir()


def test_only_the_last_runs_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ledgers do not pile up."""
    monkeypatch.setenv("RESILIENT_FACES_CACHE", str(tmp_path))
    for number in range(9):
        (tmp_path / "demo" / f"run-2020010{number}-000000-1").mkdir(parents=True)
    with demo._run_folder():
        assert len(list((tmp_path / "demo").iterdir())) == demo.KEPT_RUNS
