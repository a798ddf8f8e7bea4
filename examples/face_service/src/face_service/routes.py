"""The addresses of the service: each asks one part, and says in the service's words what came of it."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, File, Form, Path, Request, Security, UploadFile
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader

from face_service.door import KEY_HEADER
from face_service.errors import ApiError, Code, InvalidRequestError
from face_service.models import (
    MOST,
    Box,
    CameraId,
    Counts,
    CountsAnswer,
    Embedding,
    EmbeddingAnswer,
    Enrolled,
    EnrolledAnswer,
    Forgotten,
    ForgottenAnswer,
    HealthBody,
    Live,
    Person,
    PersonAnswer,
    PersonId,
    Ready,
    SessionAnswer,
    SessionsAnswer,
    StartRequest,
    errors,
)
from face_service.watching import Parts, totals
from resilient_faces import OptionError, services
from resilient_faces import request as of_request
from resilient_faces.adapters.webhook import DestinationError
from resilient_faces.pipeline.cameras import (
    CameraPlan,
    Ending,
    SessionExistsError,
    SessionPlan,
    SessionsClosedError,
    SessionView,
)

if TYPE_CHECKING:
    pass

__all__ = ["health", "service"]

_KEY: Final = APIKeyHeader(name=KEY_HEADER, auto_error=False, description="Checked before anything else is read")
_EVERYWHERE: Final = (400, 401, 408, 413, 422, 500, 503)


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _named(request: Request) -> AsyncIterator[None]:
    """Log lines of a request carry its id, and the name of its route as their step."""
    with of_request(request.scope["face_service.request_id"], getattr(request.scope.get("route"), "name", "")):
        yield


async def _form(request: Request) -> None:
    """What is no form has no photo, and is not looked into."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, Code.unsupported_media_type, "The photo must come in a form (multipart/form-data)")


Asked = Annotated[Parts, Depends(_parts)]
Photo = Annotated[UploadFile, File(description="A JPEG or PNG file that shows one person")]
SlotId = Annotated[int, Path(ge=0, le=MOST)]

service: Final = APIRouter(
    dependencies=[Security(_KEY), Depends(_named)],
    responses=errors(*_EVERYWHERE),
)
health: Final = APIRouter(prefix="/health", tags=["health"])


# -- photos --------------------------------------------------------------------------------------------------------


@service.post(
    "/embeddings/generate",
    tags=["embeddings"],
    dependencies=[Depends(_form)],
    responses=errors(415),
)
async def generate_embedding(
    parts: Asked, photo: Photo, submissionId: Annotated[int, Form(ge=0, le=MOST)]
) -> EmbeddingAnswer:
    """Make the embedding of the one face in a photo."""
    found = await parts.photos.one_face(photo, parts.engine)
    left, top, width, height = found.box
    return EmbeddingAnswer(
        data=Embedding(
            submissionId=submissionId,
            embedding=[float(number) for number in found.embedding],
            space=found.space,
            quality=round(found.score, 4),
            box=Box(left=left, top=top, width=width, height=height),
        )
    )


# -- people --------------------------------------------------------------------------------------------------------


@service.post(
    "/people/{personId}/photos",
    tags=["people"],
    dependencies=[Depends(_form)],
    responses=errors(415),
)
async def enrol(parts: Asked, personId: PersonId, photo: Photo) -> EnrolledAnswer:
    """Enrol a person from a photo. A person may have several, and is as near as the nearest of them."""
    parts.people.ready()
    found = await parts.photos.one_face(photo, parts.engine)
    await parts.people.enrol(personId, found.embedding)
    return EnrolledAnswer(data=Enrolled(personId=personId, quality=round(found.score, 4)))


@service.get("/people", tags=["people"])
async def count_people(parts: Asked) -> CountsAnswer:
    """How many people are enrolled."""
    gallery = parts.people.ready()
    return CountsAnswer(data=Counts(people=len(gallery), embeddings=gallery.embeddings, space=gallery.space))


@service.get("/people/{personId}", tags=["people"], responses=errors(404))
async def find_person(parts: Asked, personId: PersonId) -> PersonAnswer:
    """Whether a person is enrolled."""
    if personId not in parts.people.ready():
        raise _nobody()
    return PersonAnswer(data=Person(personId=personId))


@service.delete("/people/{personId}", tags=["people"], responses=errors(404))
async def forget_person(parts: Asked, personId: PersonId) -> ForgottenAnswer:
    """Remove a person with all embeddings, from memory and disk."""
    removed = await parts.people.forget(personId)
    if not removed:
        raise _nobody()
    return ForgottenAnswer(data=Forgotten(personId=personId, embeddings=removed))


def _nobody() -> ApiError:
    return ApiError(404, Code.person_not_found, "This person is not enrolled")


# -- sessions ------------------------------------------------------------------------------------------------------


@service.post("/sessions", tags=["sessions"], responses=errors(409))
async def start_session(parts: Asked, asked: StartRequest) -> SessionAnswer:
    """Begin to watch the cameras of a slot. Answers while they are being opened."""
    plan = _plan(parts, asked)
    try:
        return _session(await parts.start(plan))
    except SessionExistsError as error:
        raise ApiError(409, Code.session_already_exists, str(error)) from None
    except SessionsClosedError:
        raise ApiError(503, Code.busy, "The service is shutting down", retry_after=30.0) from None


@service.post("/sessions/{slotId}/stop", tags=["sessions"], responses=errors(404))
async def stop_session(parts: Asked, slotId: SlotId) -> SessionAnswer:
    """End a session; answers when nothing of it is left."""
    try:
        view = await parts.sessions.stop(slotId)
    except Exception as error:
        raise parts.not_stopped(error) from None
    if view is None:
        raise ApiError(404, Code.session_not_found, f"There is no session for slot {slotId}")
    return _session(view)


@service.get("/sessions", tags=["sessions"])
async def list_sessions(parts: Asked) -> SessionsAnswer:
    """How all sessions stand."""
    return SessionsAnswer.model_validate({"data": [view.to_dict() for view in parts.sessions.active()]})


@service.get("/sessions/{slotId}", tags=["sessions"], responses=errors(404))
async def find_session(parts: Asked, slotId: SlotId) -> SessionAnswer:
    """How a session stands."""
    view = parts.sessions.get(slotId)
    if view is not None:
        return _session(view)
    ended = parts.endings.get(slotId)
    if ended is Ending.all_cameras_failed:
        raise ApiError(404, Code.all_cameras_failed, f"All cameras of slot {slotId} failed, and its session stopped")
    raise ApiError(
        404,
        Code.session_not_found,
        f"There is no session for slot {slotId}",
        reason="" if ended is None else ended.value,
    )


@service.get("/cameras/{cameraId}", tags=["sessions"], status_code=501, responses=errors(501))
async def find_camera(cameraId: CameraId) -> JSONResponse:
    """Not implemented: ask for the session of its slot."""
    raise ApiError(501, Code.not_implemented, "Cameras cannot be looked up by their id; ask for the session")


def _plan(parts: Parts, asked: StartRequest) -> SessionPlan:
    """The plan of a session.

    Raises:
        InvalidRequestError: It cannot be.
    """
    if len(asked.cameras) > parts.settings.cameras:
        raise InvalidRequestError(("body", "cameras"), f"must be {parts.settings.cameras} cameras at most")
    ids = [str(camera.id) for camera in asked.cameras]
    if len(set(ids)) < len(ids):
        raise InvalidRequestError(("body", "cameras"), "must have different ids")
    destinations = parts.webhook.destinations
    try:
        host = destinations.check(asked.callbackUrl).host
        if _is_address(host):  # a name's are judged when it is connected to
            destinations.judge([host], host)
    except DestinationError as error:
        refused = {
            "credentials": "must not hold a user or password",
            "scheme": f"must begin with {' or '.join(destinations.schemes)}",
            "port": "must use a port that callbacks may use",
            "address": "must not lead to an address that callbacks may not reach",
        }
        raise InvalidRequestError(
            ("body", "callbackUrl"), refused.get(error.reason, "must be a URL with a host")
        ) from None
    cameras = []
    for number, camera in enumerate(asked.cameras):
        try:
            cameras.append(CameraPlan(str(camera.id), camera.name, camera.rtspUrl))
        except OptionError:  # whose text is about our own classes
            raise InvalidRequestError(
                ("body", "cameras", number, "rtspUrl"),
                "must be a URL with a host; percent-encode what user and password have of :/?#[]@ and blanks",
            ) from None
    try:
        return SessionPlan(slot=asked.slotId, callback=asked.callbackUrl, cameras=cameras, mode=asked.mode)
    except OptionError:
        raise InvalidRequestError(("body",), "must be a session that can be") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _session(view: SessionView) -> SessionAnswer:
    return SessionAnswer.model_validate({"data": view.to_dict()})


# -- health --------------------------------------------------------------------------------------------------------


@health.get("", response_model=HealthBody, responses={503: {"model": HealthBody, "description": "Unhealthy"}})
async def whole(parts: Asked) -> JSONResponse:
    """How the whole stands, and each dependency."""
    parts.mark()
    found = services.health()
    ready = found.http_status == 200
    body = {**found.to_dict(), "live": True, "ready": ready, "sessions": totals(parts.sessions.active())}
    return JSONResponse(body, found.http_status)


@health.get("/live")
async def live() -> Live:
    """Whether the process runs. Whatever it depends on: a new process would not mend that."""
    return Live()


@health.get(
    "/ready", response_model=Ready, responses={503: {"model": Ready, "description": "A critical dependency is missing"}}
)
async def ready() -> JSONResponse:
    """Whether requests may be sent here."""
    good = services.health().http_status == 200
    return JSONResponse(Ready(status="ready" if good else "not_ready").model_dump(), 200 if good else 503)
