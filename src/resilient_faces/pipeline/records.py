"""The values that travel through the pipeline: jobs, verdicts, photo records and face rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

VERSION: Final = 1  # of the message body and of stored records


class PhotoStatus(str, Enum):
    """How far a photo has come."""

    processing = "processing"
    indexed = "indexed"
    failed = "failed"


class MalformedJobError(ValueError):
    """The message body is no job; it can never be handled."""


@dataclass(frozen=True, slots=True)
class Job:
    """The body of a message: keys only, never an image or a person's data."""

    photo_id: str
    event_id: str
    key: str

    def to_json(self) -> str:
        return json.dumps({"v": VERSION, "photo_id": self.photo_id, "event_id": self.event_id, "key": self.key})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read a body.

        Raises:
            MalformedJobError: It is no job of a version that is known.
        """
        try:
            data = json.loads(text)
        except ValueError:
            raise MalformedJobError("the body is not JSON") from None
        if not isinstance(data, dict) or data.get("v") != VERSION:
            raise MalformedJobError(f"the body is no job of version {VERSION}")
        values = [
            value for name in ("photo_id", "event_id", "key") if isinstance(value := data.get(name), str) and value
        ]
        if len(values) != 3:
            raise MalformedJobError("photo_id, event_id and key must be texts that are not empty")
        return cls(*values)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """What the store knows of a photo."""

    photo_id: str
    status: PhotoStatus
    face_count: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FaceRow:
    """One stored face. `box` is (left, top, width, height) as shares of the image."""

    photo_id: str
    number: int  # in the answer, from 0; names the row if the service gave no id
    face_id: str | None
    image_id: str | None
    box: tuple[float, float, float, float]
    confidence: float
    model_version: str

    @property
    def row_id(self) -> str:
        """The same for a repetition of the same answer, so that writing it again adds nothing."""
        return self.face_id or f"unnamed-{self.number}"


@dataclass(frozen=True, slots=True)
class Ack:
    """Done: the message may go. `photo` says how the photo stands now."""

    photo: PhotoStatus
    note: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: hand the message out again after `delay` seconds."""

    delay: float
    code: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Never: the message goes to the dead letters, with the reason."""

    reason: str


Verdict: TypeAlias = "Ack | Retry | Dead"
