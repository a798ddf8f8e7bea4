"""Face-liveness sessions: made by the service's call, fed by hand, read by the service's call.

The service's own check runs over a stream between a browser and AWS, and cannot be played here. What this keeps is the
life of a session: CREATED, then IN_PROGRESS, then SUCCEEDED or FAILED, once; after three minutes without a result it
is EXPIRED, after a day it is unknown. The result, its confidence included, is whatever was fed: this endpoint judges
no liveness.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from resilient_faces.adapters.local_rekognition.answers import (
    Answer,
    ServiceError,
    invalid,
    no_face_to_search,
    no_session,
    percent,
    text,
    whole,
)
from resilient_faces.adapters.local_rekognition.images import Looker
from resilient_faces.adapters.local_rekognition.storage import Session, Storage

LIFETIME: Final = 180.0  # s from CREATED to EXPIRED
REMEMBERED: Final = 24 * 3600.0  # s that a session can be asked for
MAX_REFERENCE_BYTES: Final = 200 * 1024
_SESSION_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OPEN: Final = ("CREATED", "IN_PROGRESS")
_NEXT: Final = {"CREATED": ("IN_PROGRESS", "SUCCEEDED", "FAILED"), "IN_PROGRESS": ("SUCCEEDED", "FAILED")}


class Liveness:
    """The sessions of one endpoint."""

    def __init__(self, storage: Storage, looker: Looker, now: Callable[[], float]) -> None:
        self._storage = storage
        self._looker = looker
        self._now = now

    def create(self, request: Answer) -> Answer:
        """Make a session; the same ClientRequestToken with the same settings gives the same session."""
        token = text(request, "ClientRequestToken", _TOKEN, required=False)
        settings = request.get("Settings") or {}
        if not isinstance(settings, dict):
            raise invalid("Settings must be an object")
        whole(settings, "AuditImagesLimit", 0, low=0, high=4)
        if settings.get("OutputConfig") is not None:
            raise invalid("Settings.OutputConfig must be left out: this endpoint writes to no bucket")
        asked = json.dumps(settings, sort_keys=True)
        new = Session(str(uuid.uuid4()), self._now(), asked, "CREATED")
        session = self._storage.add_session(new, token, forget_before=self._now() - REMEMBERED)
        if session.asked != asked:
            raise invalid("ClientRequestToken was used with other settings")
        return {"SessionId": session.id}

    def results(self, request: Answer) -> Answer:
        """What became of a session. A session that was not finished in time has expired, which is no error."""
        session = self._found(request.get("SessionId"))
        answer: Answer = {"SessionId": session.id, "Status": session.status}
        if session.confidence is not None:
            answer["Confidence"] = session.confidence
        if session.image is not None:
            answer["ReferenceImage"] = {"Bytes": base64.b64encode(session.image).decode(), "BoundingBox": session.box}
            answer["AuditImages"] = []
        return answer

    def feed(self, session_id: str, request: Answer) -> Answer:
        """Move a session on by hand: `{"Status": ..., "Confidence": 0-100, "Image": {"Bytes": ...}}`.

        Confidence is needed for SUCCEEDED; the image is optional, must show a face, and becomes the reference image.

        Raises:
            ServiceError: There is no such session, it has its result, it has expired, or the parameters are wrong.
        """
        session = self._found(session_id)
        status = request.get("Status")
        if session.status not in _OPEN:
            raise invalid(f"the session is {session.status}; a session is used once")
        if status not in _NEXT[session.status]:
            raise invalid(f"Status must be one of {', '.join(_NEXT[session.status])}")
        if status == "SUCCEEDED" and request.get("Confidence") is None:
            raise invalid("Confidence must be given for SUCCEEDED: nothing here judges liveness")
        moved = replace(session, status=str(status))
        if request.get("Confidence") is not None:
            moved = replace(moved, confidence=percent(request, "Confidence", 0.0))
        if request.get("Image") is not None:
            data = self._looker.bytes_of(request)
            if len(data) > MAX_REFERENCE_BYTES:
                raise ServiceError(
                    "ImageTooLargeException", f"A reference image has at most {MAX_REFERENCE_BYTES} bytes"
                )
            faces = self._looker.look(data).faces
            if not faces:
                raise no_face_to_search()
            moved = replace(moved, image=data, box=faces[0].box)
        if not self._storage.move_session(moved, session.status):
            raise invalid("the session was moved on by somebody else; a session is used once")
        return {"SessionId": session.id, "Status": moved.status}

    def _found(self, session_id: object) -> Session:
        if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
            raise invalid(f"SessionId must match {_SESSION_ID.pattern}")
        session = self._storage.session(session_id)
        age = None if session is None else self._now() - session.created
        if session is None or age is None or age > REMEMBERED:
            raise no_session()
        if session.status in _OPEN and age > LIFETIME:
            return replace(session, status="EXPIRED")
        return session
