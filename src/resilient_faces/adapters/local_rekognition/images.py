"""From a request's image to faces: the service's limits, what is found, and how a face is described."""

from __future__ import annotations

import base64
import binascii
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from resilient_faces.adapters._faces import (
    Face,
    Image,
    Picture,
    Quality,
    Recogniser,
    TooManyPixelsError,
    UnreadableImageError,
    decode,
    load,
    quality,
)
from resilient_faces.adapters.local_rekognition.answers import Answer, ServiceError, invalid

MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024
MAX_OBJECT_BYTES: Final = 15 * 1024 * 1024
MIN_SIDE: Final = 80  # px
MOST_FACES: Final = 100  # of one image
SMALLEST_FACE: Final = 40  # px, in a picture of up to 1920 x 1080; in larger ones in proportion
_LARGE: Final = (1920, 1080)

Objects: TypeAlias = Callable[[str, str, "str | None"], bytes]
"""Gets an object: bucket, name, version. Any exception means that it cannot be had."""

_LANDMARKS: Final = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")


@dataclass(frozen=True, slots=True)
class Bar:
    """What a face must reach at one setting of QualityFilter. The service does not publish its own bars."""

    brightness: float  # percent
    sharpness: float  # percent
    confidence: float  # percent
    turn: float  # degrees that a head may be turned or tilted


BARS: Final[Mapping[str, Bar]] = {
    "NONE": Bar(0.0, 0.0, 0.0, 180.0),
    "LOW": Bar(12.0, 0.0, 50.0, 75.0),
    "MEDIUM": Bar(15.0, 5.0, 60.0, 60.0),
    "HIGH": Bar(20.0, 20.0, 70.0, 45.0),
}


@dataclass(frozen=True, slots=True)
class Pose:
    """How a head is held, in degrees, estimated from five landmarks; a hint, not a measurement."""

    roll: float
    yaw: float
    pitch: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One face of an image and what was measured on it."""

    face: Face
    box: Mapping[str, float]  # Left, Top, Width, Height as shares of the image
    quality: Quality
    pose: Pose | None
    landmarks: tuple[tuple[float, float], ...]  # as shares of the image

    @property
    def confidence(self) -> float:
        return self.face.score * 100

    def below(self, level: str) -> list[str]:
        """The service's reasons why this face does not reach a setting of QualityFilter."""
        bar = BARS["LOW" if level == "AUTO" else level]
        turned = self.pose is not None and max(abs(self.pose.yaw), abs(self.pose.pitch)) > bar.turn
        judged = {
            "LOW_BRIGHTNESS": self.quality.brightness < bar.brightness,
            "LOW_SHARPNESS": self.quality.sharpness < bar.sharpness,
            "LOW_CONFIDENCE": self.confidence < bar.confidence,
            "EXTREME_POSE": turned,
        }
        return [reason for reason, fails in judged.items() if fails]

    def described(self) -> Answer:
        """BoundingBox, Confidence, Quality and, if the engine finds landmarks, Landmarks and Pose."""
        answer: Answer = {
            "BoundingBox": dict(self.box),
            "Confidence": self.confidence,
            "Quality": {"Brightness": self.quality.brightness, "Sharpness": self.quality.sharpness},
        }
        if self.landmarks:
            answer["Landmarks"] = [
                {"Type": name, "X": x, "Y": y} for name, (x, y) in zip(_LANDMARKS, self.landmarks, strict=True)
            ]
        if self.pose is not None:
            answer["Pose"] = {"Roll": self.pose.roll, "Yaw": self.pose.yaw, "Pitch": self.pose.pitch}
        return answer


@dataclass(frozen=True, slots=True)
class Looked:
    """An image that was searched: its faces, the largest first, at most a hundred."""

    picture: Picture
    faces: tuple[Seen, ...]


class Looker:
    """Reads the images of requests and searches them, as many at once as there are processors."""

    def __init__(self, engine: Recogniser, *, at_once: int, objects: Objects | None = None) -> None:
        self._engine = engine
        self._objects = objects
        self._places = threading.BoundedSemaphore(at_once)

    def bytes_of(self, request: Answer, name: str = "Image") -> bytes:
        """The bytes of an image parameter, within the limits that are known before it is decoded.

        Raises:
            ServiceError: There are none, they are too many, or the object cannot be had.
        """
        image = request.get(name)
        if not isinstance(image, dict) or ("Bytes" in image) == ("S3Object" in image):
            raise invalid(f"{name} must have either Bytes or S3Object")
        data, most = (
            (_decoded(image["Bytes"], name), MAX_IMAGE_BYTES)
            if "Bytes" in image
            else (self._object(image["S3Object"], name), MAX_OBJECT_BYTES)
        )
        if not data:
            raise invalid(f"{name} must hold at least one byte")
        if len(data) > most:
            raise _too_large()
        return data

    def look(self, data: bytes) -> Looked:
        """Decode an image and search it.

        Raises:
            ServiceError: It is no whole JPEG or PNG, or too small.
        """
        with self._places:
            try:
                picture = decode(data)
            except TooManyPixelsError:
                raise _too_large() from None
            except UnreadableImageError:
                raise _wrong_format() from None
            if picture.width < MIN_SIDE or picture.height < MIN_SIDE:
                raise invalid(f"image dimensions must be at least {MIN_SIDE} x {MIN_SIDE} pixels")
            smallest = SMALLEST_FACE * max(
                1.0, max(picture.width, picture.height) / _LARGE[0], min(picture.width, picture.height) / _LARGE[1]
            )
            faces = [
                face
                for face in self._engine.detect(picture)
                if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) >= smallest
            ]
            faces.sort(key=lambda face: -face.area)
            return Looked(picture, tuple(_seen(picture, face) for face in faces[:MOST_FACES]))

    def warm_up(self) -> None:
        """Search a blank picture."""
        self._engine.detect(Picture(load("numpy").full((96, 96, 3), 128, "uint8"), "PNG"))

    def embed(self, looked: Looked, faces: tuple[Seen, ...]) -> Image:
        """Embeddings of faces of this image: a row each."""
        with self._places:
            return self._engine.embed(looked.picture, tuple(seen.face for seen in faces))

    def _object(self, asked: object, name: str) -> bytes:
        known = isinstance(asked, dict) and all(isinstance(asked.get(key), str) for key in ("Bucket", "Name"))
        if not known:
            raise invalid(f"{name}.S3Object must have Bucket and Name")
        assert isinstance(asked, dict)
        if self._objects is None:
            raise _no_object()
        try:
            return self._objects(asked["Bucket"], asked["Name"], asked.get("Version"))
        except ServiceError:
            raise
        except Exception:
            raise _no_object() from None  # an object store's own error may name what must stay inside


def _decoded(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise invalid(f"{name}.Bytes must be base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{name}.Bytes must be base64 text") from None


def _seen(picture: Picture, face: Face) -> Seen:
    left, top, right, bottom = face.box
    width, height = picture.width, picture.height
    return Seen(
        face=face,
        box={
            "Width": (right - left) / width,
            "Height": (bottom - top) / height,
            "Left": left / width,
            "Top": top / height,
        },
        quality=quality(picture, face),
        pose=_pose(face.landmarks) if len(face.landmarks) == len(_LANDMARKS) else None,
        landmarks=tuple((x / width, y / height) for x, y in face.landmarks),
    )


_YAW: Final = 0.019  # change a degree of (distance nose to one eye - to the other) over their sum, along the eye line
_FRONTAL: Final = 0.54  # share of the way from eyes to mouth at which the nose lies in a face seen from the front
_PITCH: Final = 0.0072  # change of that share a degree


def _pose(landmarks: tuple[tuple[float, float], ...]) -> Pose:
    left, right, nose, mouth_left, mouth_right = (complex(x, y) for x, y in landmarks)
    line = right - left
    if abs(line) < 1e-6:
        return Pose(0.0, 90.0, 0.0)  # both eyes in one place: seen from the side
    along = line / abs(line)
    middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    to_left, to_right = abs(((nose - left) / along).real), abs(((right - nose) / along).real)
    down, whole = ((nose - middle) / along).imag, ((mouth - middle) / along).imag
    return Pose(
        roll=math.degrees(math.atan2(line.imag, line.real)),
        yaw=_within((to_left - to_right) / max(1e-6, to_left + to_right) / _YAW),
        pitch=_within((_FRONTAL - down / whole) / _PITCH) if whole > 1e-6 else 0.0,
    )


def _within(degrees: float) -> float:
    return max(-90.0, min(90.0, degrees))


def _too_large() -> ServiceError:
    return ServiceError("ImageTooLargeException", "Image size is too large")


def _wrong_format() -> ServiceError:
    return ServiceError("InvalidImageFormatException", "Request has invalid image format")


def _no_object() -> ServiceError:
    return ServiceError(
        "InvalidS3ObjectException",
        "Unable to get object metadata from S3. Check object key, region and/or access permissions.",
    )
