"""Requests and answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from face_service.errors import Code

MOST: Final = 2**53 - 1  # the largest number that every reader of JSON holds exactly
PERSON: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"
WORD: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$"

Number = Annotated[int, Field(ge=0, le=MOST)]
PersonId = Annotated[str, StringConstraints(pattern=PERSON)]
CameraId = Annotated[str, StringConstraints(pattern=WORD)]


class Answer(BaseModel):
    """What every successful answer has."""

    status: Literal[200] = 200


class ErrorBody(BaseModel):
    """Why a request was refused."""

    status: int = Field(description="The HTTP status, again")
    message: str
    code: Code
    reason: str | None = Field(default=None, description="A dependency's own code, such as `insightface.pack_missing`")


class Detail(BaseModel):
    """One place of a request that does not fit, and the rule that it breaks."""

    type: str
    loc: list[str | int]
    msg: str


class InvalidBody(BaseModel):
    """Why a request does not fit its description. It repeats nothing of what was sent."""

    detail: list[Detail]
    message: Literal["Request validation failed"]


class Box(BaseModel):
    """Where a face is, as shares of the upright photo."""

    left: float
    top: float
    width: float
    height: float


class Embedding(BaseModel):
    """The one face of a photo, as numbers."""

    submissionId: int
    embedding: list[float] = Field(description="Of length 1; the cosine of two is how alike they are")
    space: str = Field(description="Embeddings can be compared with those of the same space, and with no others")
    quality: float = Field(description="The detector's score, from 0 to 1")
    box: Box


class EmbeddingAnswer(Answer):
    """An embedding that was generated."""

    data: Embedding


class Enrolled(BaseModel):
    """How a person stands after an enrolment."""

    personId: str
    quality: float


class EnrolledAnswer(Answer):
    """A person was enrolled, and it is on the disk."""

    data: Enrolled


class Counts(BaseModel):
    """How many are enrolled."""

    people: int
    embeddings: int
    space: str


class CountsAnswer(Answer):
    """How many are enrolled."""

    data: Counts


class Person(BaseModel):
    """One enrolled person."""

    personId: str


class PersonAnswer(Answer):
    """A person is enrolled."""

    data: Person


class Forgotten(BaseModel):
    """A person who was removed."""

    personId: str
    embeddings: int = Field(description="How many embeddings they had")


class ForgottenAnswer(Answer):
    """A person was removed, from memory and disk."""

    data: Forgotten


class CameraRequest(BaseModel):
    """One camera of a session."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, StringConstraints(pattern=WORD)] | Number
    name: Annotated[str, StringConstraints(max_length=100)] = ""
    rtspUrl: Annotated[str, StringConstraints(pattern=r"^[Rr][Tt][Ss][Pp][Ss]?://[^\s/]+", max_length=2048)] = Field(
        description="With user and password if needed, percent-encoded. It appears in no answer and no log."
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be printable")
        return value


class StartRequest(BaseModel):
    """What a session is to watch, and who is told."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    slotId: Number
    callbackUrl: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=2048)] = Field(
        description="Receives signed webhooks; must be one of the destinations that the service allows"
    )
    cameras: Annotated[list[CameraRequest], Field(min_length=1)]
    mode: Annotated[str, StringConstraints(pattern=WORD)] = "ATTENDANCE"


class CameraStatus(BaseModel):
    """How one camera stands."""

    id: str
    name: str
    state: str
    dead: bool = Field(description="Its quick tries are used up; it is tried on, slowly")
    age: float | None = Field(description="Seconds since its newest frame arrived")
    looked: int = Field(description="Frames in which people were looked for")
    reason: str = Field(description="Why the last of these may have shown more than was seen")


class SessionStatus(BaseModel):
    """How a session stands, or stood when it ended."""

    slotId: int
    mode: str
    age: float
    cameras: list[CameraStatus]
    recognised: int
    delivered: int
    undelivered: int
    waiting: int
    failures: int
    silentFor: float
    ended: str | None


class SessionAnswer(Answer):
    """A session."""

    data: SessionStatus


class SessionsAnswer(Answer):
    """All sessions."""

    data: list[SessionStatus]


class ServiceState(BaseModel):
    """How one dependency stands."""

    name: str
    status: Literal["healthy", "degraded"]
    criticality: Literal["critical", "important", "optional"]
    reason: str
    since: float | None
    recoveries: int


class SessionTotals(BaseModel):
    """Sessions and cameras, counted."""

    active: int
    cameras: int
    camerasDead: int
    receiversFailing: int


class HealthBody(BaseModel):
    """How the whole stands, and each dependency."""

    schema_: int = Field(alias="schema")
    status: Literal["healthy", "degraded", "unhealthy"]
    live: Literal[True]
    ready: bool
    services: dict[str, ServiceState]
    sessions: SessionTotals


class Live(BaseModel):
    """The process runs."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether requests may be sent here."""

    status: Literal["ready", "not_ready"]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Descriptions of these error answers."""
    said = {
        400: "It cannot be read, or the photo does not show one good face",
        401: "The key is missing or wrong",
        404: "There is none",
        408: "The body came too slowly",
        409: "There is one already",
        413: "Too many bytes or pixels",
        415: "The body is no form",
        422: "It does not fit this description",
        500: "An error of the service",
        501: "Not implemented",
        503: "Not now: too busy, no model, or no gallery",
    }
    return {
        status: {"model": InvalidBody if status == 422 else ErrorBody, "description": said[status]}
        for status in statuses
    }
