"""Sessions of cameras: watch the cameras of a slot, recognise people, tell a webhook's receiver.

    async with Sessions(recogniser, gallery, webhook) as sessions:
        await sessions.start(SessionPlan(slot=7, callback=url, cameras=[CameraPlan("c1", "Front", "rtsp://...")]))
        sessions.get(7)            # a SessionView: cameras, recognised, delivered, failures
        await sessions.stop(7)     # its last SessionView; None for a slot without a session

What the receiver gets is JSON, signed, with a delivery id that stays the same over repetitions:

    {"callbackType": "RECOGNITION", "slotId": 7, "mode": "ATTENDANCE",
     "recognition": {"personId": ..., "cameraId": ..., "cameraName": ..., "cosine": ..., "seenAt": ...}}
    {"callbackType": "SESSION_STATUS", "slotId": 7, "mode": "ATTENDANCE", "status": ..., "reason": ..., "at": ...}

Status and reason: `CAMERA_DISCONNECTED`, `CAMERA_FAILURE` and `CAMERA_RECONNECTED`, `CAMERA_REVIVED`, both with
`cameraId` and `cameraName`; `STOPPED`, `ALL_CAMERAS_FAILED`; `RUNNING`, `HEARTBEAT` with the state of each camera.
"""

from resilient_faces.pipeline.cameras.parts import (
    Recogniser,
    Register,
    Sender,
    Source,
    TakenFrame,
    Watch,
    rtsp_cameras,
)
from resilient_faces.pipeline.cameras.plans import Agreement, CameraPlan, Rules, SessionPlan
from resilient_faces.pipeline.cameras.register import MemoryRegister
from resilient_faces.pipeline.cameras.sessions import Sessions
from resilient_faces.pipeline.cameras.views import (
    CameraView,
    Cleanup,
    Ending,
    SessionExistsError,
    SessionsClosedError,
    SessionView,
)

__all__ = [
    "Agreement",
    "CameraPlan",
    "CameraView",
    "Cleanup",
    "Ending",
    "MemoryRegister",
    "Recogniser",
    "Register",
    "Rules",
    "Sender",
    "SessionExistsError",
    "SessionPlan",
    "SessionView",
    "Sessions",
    "SessionsClosedError",
    "Source",
    "TakenFrame",
    "Watch",
    "rtsp_cameras",
]
