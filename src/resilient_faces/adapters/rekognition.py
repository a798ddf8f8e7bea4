"""Amazon Rekognition: collections and indexing, one request a call; guards are put around the methods.

The sensitive part of an answer stays behind: of each face only its ids, its box and its confidence come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resilient_faces.adapters.aws import classify_aws
from resilient_faces.faults import Kind

MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024


class UnusableImageError(ValueError):
    """The image can never be indexed; found out before it was sent and paid for."""


@dataclass(frozen=True, slots=True)
class IndexedFace:
    """One face that the service stored. `box` is (left, top, width, height) as shares of the image, from 0 to 1."""

    face_id: str | None
    image_id: str | None
    box: tuple[float, float, float, float]
    confidence: float


@dataclass(frozen=True, slots=True)
class Indexed:
    """The answer for one image: faces stored, and the reasons for faces that were seen and not stored."""

    faces: tuple[IndexedFace, ...]
    unindexed: tuple[tuple[str, ...], ...]
    model_version: str


class Rekognition:
    """The operations that indexing needs, on a boto3 client.

    Args:
        client: A boto3 client for rekognition that tries once (`adapters.aws.connect`).
        most_faces: Faces of one image that are stored; the others come back as unindexed.
        before_send: Called in the calling thread when an IndexFaces request is signed and about to leave.
    """

    def __init__(self, client: Any, *, most_faces: int = 100, before_send: Callable[[], None] | None = None) -> None:
        self._client = client
        self._most_faces = most_faces
        if before_send is not None:
            client.meta.events.register("before-send.rekognition.IndexFaces", lambda **_: before_send())

    def create_collection(self, collection: str) -> str:
        """Make sure the collection is there; one that exists is a success. Returns its id, never its ARN."""
        try:
            self._client.create_collection(CollectionId=collection)
        except Exception as error:
            fault = classify_aws(error)
            if fault is None or fault.kind is not Kind.exists:
                raise
        return collection

    def index_faces(self, collection: str, image: bytes, external_image_id: str) -> Indexed:
        """Find the faces of one image and store them.

        The service stores no second face for the same image, collection and external id: repeating the call is safe.

        Raises:
            UnusableImageError: The image is empty, larger than 5 MB, or neither JPEG nor PNG.
        """
        check_image(image)
        answer: Mapping[str, Any] = self._client.index_faces(
            CollectionId=collection,
            Image={"Bytes": image},
            ExternalImageId=external_image_id,
            MaxFaces=self._most_faces,
        )
        return Indexed(
            faces=tuple(_face(record.get("Face") or {}) for record in answer["FaceRecords"]),
            unindexed=tuple(tuple(face.get("Reasons") or ()) for face in answer.get("UnindexedFaces") or ()),
            model_version=str(answer["FaceModelVersion"]),
        )


def check_image(image: bytes) -> None:
    """Refuse what the service would refuse, before it is sent.

    Raises:
        UnusableImageError: The image is empty, larger than 5 MB, or neither JPEG nor PNG.
    """
    if not image:
        raise UnusableImageError("the image is empty")
    if len(image) > MAX_IMAGE_BYTES:
        raise UnusableImageError(f"the image has {len(image)} bytes; Rekognition takes {MAX_IMAGE_BYTES}")
    if not image.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise UnusableImageError("the image is neither a JPEG nor a PNG")


def _face(face: Mapping[str, Any]) -> IndexedFace:
    box = face.get("BoundingBox") or {}
    return IndexedFace(
        face_id=face.get("FaceId"),
        image_id=face.get("ImageId"),
        box=tuple(float(box.get(side, 0.0)) for side in ("Left", "Top", "Width", "Height")),  # type: ignore[arg-type]
        confidence=float(face.get("Confidence", 0.0)),
    )
