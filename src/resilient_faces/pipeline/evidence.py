"""What really happened: from the ledgers of proxy and endpoint and the tables, never from the consumer's memory."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from resilient_faces.adapters.local_rekognition import subject_of
from resilient_faces.pipeline.photos import Photo
from resilient_faces.pipeline.records import PhotoRecord, PhotoStatus
from resilient_faces.testing.fault_proxy import SeenRequest, busiest_second

SCHEMA: Final = 1
INDEX: Final = "rekognition.IndexFaces"
# Operations whose requests name what they are about, so that a repetition can be told.
REPEATABLE: Final = (INDEX, "s3.GetObject", "s3.PutObject", "dynamodb.TransactWriteItems")
RIGHT_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A face row as the table has it."""

    photo_id: str
    face_id: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a verdict needs, read after the run.

    Attributes:
        photos: What was uploaded, with the right counts.
        permanent: Photos that the plan makes fail, with the reason.
        requests: The proxy's ledger.
        calls: The endpoint's ledger.
        records: The photo table.
        faces: The face table.
        dead_letters: Photo ids in the dead-letter queue.
        collection_faces: Face ids in the endpoint's collection, each with its external id.
        rate: The limit of IndexFaces requests a second.
        left_in_queue: Messages that were not settled.
    """

    photos: Sequence[Photo]
    permanent: Mapping[str, str]
    requests: Sequence[SeenRequest]
    calls: Sequence[Mapping[str, Any]]
    records: Mapping[str, PhotoRecord]
    faces: Sequence[StoredFace]
    dead_letters: Sequence[str]
    collection_faces: Mapping[str, str]
    rate: float
    left_in_queue: int = 0


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that must hold, whether it does, and what was found."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Findings:
    """The report of one run."""

    photos: int
    indexed: int
    failed: int
    faces: int
    faults: Mapping[str, int]
    retries: int
    requests: int
    requests_per_photo: float
    max_in_any_second: int
    right: int | None  # photos with the right count; None if nobody noted the faces
    judged: int
    misses: tuple[str, ...]
    invariants: tuple[Invariant, ...]
    by_status: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(invariant.holds for invariant in self.invariants)

    def to_json(self, **more: object) -> dict[str, object]:
        """The report as plain data, with a schema number."""
        return {
            "schema": SCHEMA,
            "ok": self.holds,
            "photos": self.photos,
            "indexed": self.indexed,
            "failed": self.failed,
            "faces": self.faces,
            "faults": dict(self.faults),
            "retries": self.retries,
            "index_requests": self.requests,
            "requests_per_photo": self.requests_per_photo,
            "max_in_any_second": self.max_in_any_second,
            "right_counts": self.right,
            "judged_counts": self.judged,
            "misses": list(self.misses),
            "invariants": {one.name: {"holds": one.holds, "found": one.found} for one in self.invariants},
            **more,
        }


def examine(evidence: Evidence) -> Findings:
    """Hold the evidence against what must be true."""
    index_requests = [request for request in evidence.requests if request.operation == INDEX]
    busiest = busiest_second(request.t for request in index_requests)
    indexed = {key for key, record in evidence.records.items() if record.status is PhotoStatus.indexed}
    failed = {key for key, record in evidence.records.items() if record.status is PhotoStatus.failed}
    counted = _counts(evidence, indexed)
    invariants = [
        _indexed_once(evidence, indexed),
        _failed_as_planned(evidence, indexed, failed),
        _no_duplicates(evidence, indexed),
        _rate_held(evidence, busiest),
        _queue_settled(evidence),
    ]
    if counted.judged:
        invariants += [_right_counts(counted), _faceless(counted)]
    return Findings(
        photos=len(evidence.photos),
        indexed=len(indexed),
        failed=len(failed),
        faces=len(evidence.faces),
        faults=_faults(evidence.requests),
        retries=_retries(evidence.requests),
        requests=len(index_requests),
        requests_per_photo=round(len(index_requests) / max(1, len(evidence.photos)), 3),
        max_in_any_second=busiest,
        right=counted.right if counted.judged else None,
        judged=counted.judged,
        misses=tuple(counted.misses),
        invariants=tuple(invariants),
    )


def _indexed_once(evidence: Evidence, indexed: set[str]) -> Invariant:
    """The endpoint searched and stored each photo's faces exactly once; repetitions found them there."""
    names = {subject_of(photo.id): photo.id for photo in evidence.photos}  # the ledger names photos by hashes
    stored: Counter[str] = Counter(
        names.get(str(call["subject"]), str(call["subject"]))
        for call in evidence.calls
        if call.get("op") == "IndexFaces" and call.get("done") == "indexed"
    )
    expected = {photo.id for photo in evidence.photos} - set(evidence.permanent)
    more = sorted(key for key, times in stored.items() if times > 1)
    never = sorted(key for key in expected if stored[key] == 0 or key not in indexed)
    stray = sorted(set(stored) - {photo.id for photo in evidence.photos})
    found = f"{sum(1 for times in stored.values() if times == 1)} of {len(expected)} photos indexed exactly once"
    for label, which in (("more than once", more), ("never", never), ("unknown", stray)):
        if which:
            found += f"; {label}: {_some(which)}"
    return Invariant("every_photo_indexed_once", not (more or never or stray), found)


def _failed_as_planned(evidence: Evidence, indexed: set[str], failed: set[str]) -> Invariant:
    planned = set(evidence.permanent)
    unplanned = sorted((failed | set(evidence.dead_letters)) - planned)
    spared = sorted(planned - failed)
    unsettled = sorted({photo.id for photo in evidence.photos} - indexed - failed)
    found = f"{len(failed)} failed, {len(planned)} planned"
    for label, which in (("unplanned", unplanned), ("planned but not failed", spared), ("unsettled", unsettled)):
        if which:
            found += f"; {label}: {_some(which)}"
    return Invariant("failed_exactly_as_planned", not (unplanned or spared or unsettled), found)


def _no_duplicates(evidence: Evidence, indexed: set[str]) -> Invariant:
    """Each face of the collection has one row, and each row its face; counts in the photo records agree."""
    ids = [face.face_id for face in evidence.faces]
    twice = sorted(str(face_id) for face_id, times in Counter(ids).items() if times > 1)
    without_row = sorted(set(evidence.collection_faces) - {str(face_id) for face_id in ids})
    without_face = sorted({str(face_id) for face_id in ids} - set(evidence.collection_faces))
    rows: dict[str, int] = defaultdict(int)
    for face in evidence.faces:
        rows[face.photo_id] += 1
    wrong = sorted(key for key in indexed if evidence.records[key].face_count != rows[key])
    wrong += sorted(key for key in rows if key not in indexed)
    found = f"{len(ids)} rows for {len(evidence.collection_faces)} faces in the collection"
    for label, which in (
        ("twice", twice),
        ("without a row", without_row),
        ("without a face", without_face),
        ("wrong count", wrong),
    ):
        if which:
            found += f"; {label}: {_some(which)}"
    return Invariant("no_duplicate_rows", not (twice or without_row or without_face or wrong), found)


def _rate_held(evidence: Evidence, busiest: int) -> Invariant:
    most = int(evidence.rate) + 1
    found = f"{busiest} IndexFaces requests in the busiest second, at most {most} allowed"
    return Invariant("rate_held", busiest <= most, found)


def _queue_settled(evidence: Evidence) -> Invariant:
    return Invariant("queue_settled", evidence.left_in_queue == 0, f"{evidence.left_in_queue} messages left")


@dataclass(slots=True)
class _Counted:
    judged: int = 0
    right: int = 0
    faceless: int = 0
    misses: list[str] = field(default_factory=list)
    false_faces: list[str] = field(default_factory=list)


def _counts(evidence: Evidence, indexed: set[str]) -> _Counted:
    rows: Counter[str] = Counter(face.photo_id for face in evidence.faces)
    counted = _Counted()
    for photo in evidence.photos:
        if photo.faces is None or photo.id in evidence.permanent or photo.id not in indexed:
            continue
        counted.judged += 1
        counted.faceless += photo.faces == 0
        if rows[photo.id] == photo.faces:
            counted.right += 1
            continue
        counted.misses.append(f"{photo.name}: {rows[photo.id]} found, {photo.faces} there")
        if photo.faces == 0:
            counted.false_faces.append(photo.name)
    return counted


def _right_counts(counted: _Counted) -> Invariant:
    share = counted.right / counted.judged
    found = f"{counted.right} of {counted.judged} photos have the right number of faces ({share:.1%})"
    return Invariant("right_counts", share >= RIGHT_SHARE, found)


def _faceless(counted: _Counted) -> Invariant:
    found = f"{counted.faceless - len(counted.false_faces)} of {counted.faceless} photos without a face have none"
    if counted.false_faces:
        found += f"; found one in: {_some(counted.false_faces)}"
    return Invariant("no_face_on_faceless", not counted.false_faces, found)


def _faults(requests: Iterable[SeenRequest]) -> dict[str, int]:
    """Faults that struck, by kind; those that came after the work was done apart from the others."""
    struck = Counter(
        f"{request.fault} after the work" if request.after else request.fault for request in requests if request.fault
    )
    return dict(sorted(struck.items()))


def _retries(requests: Iterable[SeenRequest]) -> int:
    """Requests beyond the first about the same photo, object or transaction."""
    seen: Counter[tuple[str, str]] = Counter(
        (request.operation, request.subject)
        for request in requests
        if request.operation in REPEATABLE and request.subject is not None
    )
    return sum(times - 1 for times in seen.values())


def read_calls(path: Path) -> list[Mapping[str, Any]]:
    """The lines of an endpoint's ledger."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
