"""Cameras: frames of an RTSP stream, a device or a file, over freezes, lost connections and power cuts.

    with Camera(url, name="door") as camera:
        for frame in camera:
            faces = detect(frame.image)

The newest frame is handed out, never an old one. What is wrong is told apart (`State`), what is done about it is
`Reconnect`, how long anything may take is `Limits`. Needs the extra `rtsp`.
"""

from resilient_faces.adapters.rtsp.address import Address
from resilient_faces.adapters.rtsp.camera import Camera
from resilient_faces.adapters.rtsp.capture import Capture, Picture, Read
from resilient_faces.adapters.rtsp.limits import CLASSROOM, Limits, Openings, Reconnect
from resilient_faces.adapters.rtsp.reading import Health
from resilient_faces.adapters.rtsp.slot import Frame
from resilient_faces.adapters.rtsp.states import CameraDeadError, CameraError, State, classify_camera

__all__ = [
    "CLASSROOM",
    "Address",
    "Camera",
    "CameraDeadError",
    "CameraError",
    "Capture",
    "Frame",
    "Health",
    "Limits",
    "Openings",
    "Picture",
    "Read",
    "Reconnect",
    "State",
    "classify_camera",
]
