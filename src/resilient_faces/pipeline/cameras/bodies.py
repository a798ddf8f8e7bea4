"""What the receiver of webhooks gets: JSON members, in the words of the classroom document."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from resilient_faces._core.runtime import RUNTIME

if TYPE_CHECKING:
    from resilient_faces.pipeline.cameras.plans import CameraPlan, SessionPlan

__all__ = ["recognition", "status"]


def _time(monotonic: float) -> str:
    """A moment of the monotonic clock as time of the world, in UTC, to the millisecond."""
    at = RUNTIME.wall() - (RUNTIME.monotonic() - monotonic)
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def recognition(plan: SessionPlan, camera: CameraPlan, person: str, cosine: float, seen: float) -> dict[str, Any]:
    """Somebody was recognised.

    Args:
        plan: Of the session.
        camera: Which saw them.
        person: Who.
        cosine: With their nearest enrolled embedding.
        seen: Monotonic time of the frame that settled it.
    """
    return {
        "callbackType": "RECOGNITION",
        "slotId": plan.slot,
        "mode": plan.mode,
        "recognition": {
            "personId": person,
            "cameraId": camera.id,
            "cameraName": camera.name,
            "cosine": round(cosine, 4),
            "seenAt": _time(seen),
        },
    }


def status(
    plan: SessionPlan, status: str, reason: str, *, camera: CameraPlan | None = None, **more: Any
) -> dict[str, Any]:
    """How session or camera stands from now on."""
    about = {} if camera is None else {"cameraId": camera.id, "cameraName": camera.name}
    return {
        "callbackType": "SESSION_STATUS",
        "slotId": plan.slot,
        "mode": plan.mode,
        "status": status,
        "reason": reason,
        **about,
        **more,
        "at": _time(RUNTIME.monotonic()),
    }
