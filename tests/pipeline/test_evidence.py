"""Each invariant breaks on the evidence that it is there for, and on that alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient_faces.adapters.local_rekognition import subject_of
from resilient_faces.pipeline.evidence import Evidence, Findings, StoredFace, examine
from resilient_faces.pipeline.photos import Photo
from resilient_faces.pipeline.records import PhotoRecord, PhotoStatus
from resilient_faces.testing.fault_proxy import SeenRequest

BOX = (0, 0, 80, 80)


def request(n: int, t: float, subject: str = "a", fault: str | None = None, **more: Any) -> SeenRequest:
    return SeenRequest(n, t, more.get("operation", "rekognition.IndexFaces"), subject, fault, more.get("after", False))


def call(subject: str, done: str = "indexed") -> dict[str, Any]:
    return {"op": "IndexFaces", "subject": subject_of(subject), "done": done}


def record(photo_id: str, faces: int | None, status: PhotoStatus = PhotoStatus.indexed) -> PhotoRecord:
    return PhotoRecord(photo_id, status, faces)


GOOD = Evidence(
    photos=(Photo("a", "one", b"", (BOX,)), Photo("b", "none", b"", ()), Photo("c", "gone", b"", (BOX,))),
    permanent={"c": "missing"},
    requests=(request(1, 0.0), request(2, 0.1, "b", "throttle"), request(3, 0.2, "b")),
    calls=(call("a"), call("b"), call("a", "repeated")),
    records={"a": record("a", 1), "b": record("b", 0), "c": record("c", None, PhotoStatus.failed)},
    faces=(StoredFace("a", "f1"),),
    dead_letters=("c",),
    collection_faces={"f1": "a"},
    rate=2.0,
)


def broken(findings: Findings) -> set[str]:
    return {one.name for one in findings.invariants if not one.holds}


def test_good_evidence_holds() -> None:
    """Everything is right, and the figures are those of the ledgers."""
    found = examine(GOOD)
    assert found.holds
    assert (found.photos, found.indexed, found.failed, found.faces) == (3, 2, 1, 1)
    assert (found.retries, found.requests_per_photo, found.max_in_any_second) == (1, 1.0, 3)
    assert (found.faults, found.right, found.judged, found.misses) == ({"throttle": 1}, 2, 2, ())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"calls": (*GOOD.calls, call("a"))}, {"every_photo_indexed_once"}),
        ({"calls": (call("a"),)}, {"every_photo_indexed_once"}),
        ({"calls": (*GOOD.calls, call("stranger"))}, {"every_photo_indexed_once"}),
        ({"permanent": {}}, {"every_photo_indexed_once", "failed_exactly_as_planned"}),
        ({"dead_letters": ("c", "a")}, {"failed_exactly_as_planned"}),
        (
            {"records": {**GOOD.records, "c": record("c", None, PhotoStatus.processing)}},
            {"failed_exactly_as_planned"},
        ),
        ({"faces": (*GOOD.faces, StoredFace("a", "f1"))}, {"no_duplicate_rows", "right_counts"}),
        ({"collection_faces": {"f1": "a", "f2": "a"}}, {"no_duplicate_rows"}),
        ({"records": {**GOOD.records, "a": record("a", 2)}}, {"no_duplicate_rows"}),
        ({"rate": 1.0}, {"rate_held"}),
        ({"left_in_queue": 1}, {"queue_settled"}),
        (
            {
                "faces": (*GOOD.faces, StoredFace("b", "f2")),
                "collection_faces": {"f1": "a", "f2": "b"},
                "records": {**GOOD.records, "b": record("b", 1)},
            },
            {"right_counts", "no_face_on_faceless"},
        ),
    ],
    ids=[
        "indexed twice",
        "never indexed",
        "stranger indexed",
        "unplanned failure",
        "unplanned dead letter",
        "unsettled",
        "row twice",
        "row missing",
        "wrong count",
        "too fast",
        "messages left",
        "face on a faceless photo",
    ],
)
def test_each_invariant_breaks_on_its_own_evidence(change: dict[str, Any], names: set[str]) -> None:
    """One thing wrong breaks what it must, and nothing else."""
    assert broken(examine(replace(GOOD, **change))) == names


def test_own_photos_are_counted_not_judged() -> None:
    """Where nobody noted the faces there is no right count."""
    photos = tuple(replace(photo, boxes=None) for photo in GOOD.photos)
    found = examine(replace(GOOD, photos=photos))
    assert (found.right, found.judged) == (None, 0)
    assert "right_counts" not in {one.name for one in found.invariants}


def test_faults_after_the_work_are_told_apart() -> None:
    """A lost answer is another thing than a refused request."""
    requests = (request(1, 0.0, fault="reset", after=True), request(2, 0.5, fault="reset"))
    assert examine(replace(GOOD, requests=requests)).faults == {"reset": 1, "reset after the work": 1}
