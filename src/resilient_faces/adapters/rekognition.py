"""Amazon Rekognition: collections, indexing, searching, comparing, detecting, liveness sessions.

What can be known before a call is checked before it: sizes, formats, thresholds and patterns cost no request. What the
service finds out about a picture is a result, no error: no face, no match, faces that were not indexed, a liveness
check that failed. The sensitive part of an answer stays behind: of each face only its ids, its box, its confidence and
its quality come out, and identities are not shown by `repr`.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import logger_of
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AWS, NO_FACE, AsyncFace, AwsError, DamagedAnswerError, Requests, threaded
from resilient_faces.faults import Executed, Fault, Kind

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = [
    "MAX_IMAGE_BYTES",
    "MIN_SIDE",
    "MOST_INDEXED",
    "MOST_MATCHES",
    "AsyncRekognition",
    "Box",
    "Collection",
    "Compared",
    "Comparison",
    "Image",
    "Indexed",
    "IndexedFace",
    "Liveness",
    "LivenessStatus",
    "Match",
    "Rekognition",
    "S3Image",
    "Search",
    "SeenFace",
    "UnusableImageError",
    "check_image",
    "image_id",
    "size_of",
]

MAX_IMAGE_BYTES: Final = 5 * 1024 * 1024
MIN_SIDE: Final = 80  # px
MOST_MATCHES: Final = 4096
MOST_INDEXED: Final = 100

_COLLECTION: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")
_EXTERNAL: Final = re.compile(r"[a-zA-Z0-9_.\-:]{1,255}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9\-_]{1,64}")
_BUCKET: Final = re.compile(r"[0-9A-Za-z.\-_]{3,255}")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_QUALITY: Final = ("NONE", "AUTO", "LOW", "MEDIUM", "HIGH")

_log: Final = logger_of("rekognition")

Box: TypeAlias = "tuple[float, float, float, float]"
"""(left, top, width, height) as shares of the image, from 0 to 1; parts outside of the image go beyond."""


class UnusableImageError(AwsError, ValueError):
    """The service can never use the image; found out before it was sent and paid for."""

    fault: Fault = Fault(Kind.invalid, "rekognition.unusable_image", Executed.no)


# -- what goes in and comes out -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class S3Image:
    """An image that lies in S3, in the service's region: 15 MB at most. The service reads it by itself.

    Attributes:
        bucket: Name of the bucket.
        name: Key of the object.
        version: Of a versioned bucket; None for the newest.
    """

    bucket: str
    name: str = field(repr=False)
    version: str | None = None


Image: TypeAlias = "bytes | S3Image"
"""A JPEG or PNG of at most 5 MB, at least 80 pixels on each side; or where it lies."""


@dataclass(frozen=True, slots=True)
class IndexedFace:
    """One face that the service stored.

    Attributes:
        face_id: The service's id of the face.
        image_id: The service's id of the image that it was found in.
        box: Where in that image.
        confidence: That it is a face, 0 to 100.
        external_image_id: The id that was given with the image.
    """

    face_id: str | None
    image_id: str | None
    box: Box
    confidence: float
    external_image_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """The answer for one image: faces stored, and the reasons for faces that were seen and not stored."""

    faces: tuple[IndexedFace, ...]
    unindexed: tuple[tuple[str, ...], ...]
    model_version: str


@dataclass(frozen=True, slots=True)
class SeenFace:
    """One face in an image that was not stored.

    Attributes:
        box: Where in the image.
        confidence: That it is a face, 0 to 100.
        brightness: 0 to 100; None if it was not told.
        sharpness: 0 to 100; None if it was not told.
    """

    box: Box
    confidence: float
    brightness: float | None = None
    sharpness: float | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A stored face that is like the one searched for.

    Attributes:
        face: The stored face.
        similarity: 0 to 100.
    """

    face: IndexedFace
    similarity: float


@dataclass(frozen=True, slots=True)
class Search:
    """The answer to a search, best match first.

    Attributes:
        matches: Stored faces above the threshold; empty if none is.
        searched: The largest face of the image; None if the image shows none, or a stored face was searched for.
        model_version: Of the collection; empty if the image shows no face.
    """

    matches: tuple[Match, ...]
    searched: SeenFace | None = None
    model_version: str = ""

    @property
    def best(self) -> Match | None:
        """The most similar face; None without a match."""
        return self.matches[0] if self.matches else None


@dataclass(frozen=True, slots=True)
class Compared:
    """A face of the target image.

    Attributes:
        face: Where it is.
        similarity: With the largest face of the source image, 0 to 100.
    """

    face: SeenFace
    similarity: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer to a comparison, best match first.

    Attributes:
        source: The largest face of the source image; None if one of the images shows no face.
        matches: Faces of the target above the threshold.
        unmatched: Faces of the target below it.
    """

    source: SeenFace | None
    matches: tuple[Compared, ...]
    unmatched: tuple[SeenFace, ...]

    @property
    def similarity(self) -> float | None:
        """Of the most similar face, 0 to 100; None without a match."""
        return self.matches[0].similarity if self.matches else None


@dataclass(frozen=True, slots=True)
class Collection:
    """What is known of a collection.

    Attributes:
        faces: Number of faces stored.
        model_version: Of the face model, fixed when it was made.
    """

    faces: int
    model_version: str


class LivenessStatus(str, Enum):
    """How far a liveness session is."""

    created = "CREATED"
    in_progress = "IN_PROGRESS"
    succeeded = "SUCCEEDED"
    failed = "FAILED"
    expired = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Liveness:
    """How a liveness session stands. One that failed or expired is a result: only a new session can do better.

    Attributes:
        status: How far it is.
        confidence: That a live person was there, 0 to 100; None before it has succeeded.
        reference_image: The best frame, JPEG; None if there is none or it went to S3.
    """

    status: LivenessStatus
    confidence: float | None = None
    reference_image: bytes | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether asking again will change nothing."""
        return self.status not in (LivenessStatus.created, LivenessStatus.in_progress)


# -- the adapter --------------------------------------------------------------------------------------------------


class Rekognition:
    """Face recognition on a boto3 client, each call under its operation's guard (see `adapters.aws.Requests`).

    Args:
        client: A boto3 client for rekognition that tries once (`adapters.aws.connect`).
        most_faces: Faces of one image that are stored, 1 to 100; the others come back as unindexed.
        recreate: Whether indexing makes a lost collection anew, once a call. It is empty then: what it held must be
            indexed again. A search never does, because an empty collection would answer "nobody" instead of an error.
        before_send: Called in the calling thread when an IndexFaces request is signed and about to leave.
        guarding: Options of `Requests`: retry, breaker, limiter, rates, meter, account.

    Raises:
        OptionError: Options are wrong; from every method also for arguments that the service would refuse.
        UnusableImageError: From methods that take images: it is empty, larger than 5 MB, smaller than 80 pixels on a
            side, or neither JPEG nor PNG.
    """

    def __init__(
        self,
        client: Any,
        *,
        most_faces: int = MOST_INDEXED,
        recreate: bool = False,
        before_send: Callable[[], None] | None = None,
        **guarding: Unpack[Guarding],
    ) -> None:
        checks = Checks("Rekognition")
        check_client(checks, client, "rekognition")
        _whole(checks, "most_faces", most_faces, MOST_INDEXED)
        checks.that(isinstance(recreate, bool), "recreate", "True or False", recreate)
        if before_send is not None:
            checks.function("before_send", before_send)
        checks.done()
        self._requests = Requests(client, **guarding)
        self._most_faces = most_faces
        self._recreate = recreate
        if before_send is not None:
            client.meta.events.register("before-send.rekognition.IndexFaces", lambda **_: before_send())

    # -- collections -----------------------------------------------------------------------------------------------

    def create_collection(self, collection: str) -> str:
        """Make sure the collection is there; one that exists is a success. Returns its id, never its ARN."""
        _check(collection=collection)
        try:
            self._requests("CreateCollection", CollectionId=collection)
        except Exception as error:
            if AWS(error).kind is not Kind.exists:
                raise
        else:
            _log.info("collection made", extra={"event": "rekognition.collection.created"})
        return collection

    def delete_collection(self, collection: str) -> bool:
        """Delete a collection with everything in it; False if it was gone, also by an attempt whose answer was lost."""
        _check(collection=collection)
        try:
            self._requests("DeleteCollection", CollectionId=collection)
        except Exception as error:
            if AWS(error).kind is not Kind.not_found:
                raise
            return False
        return True

    def describe_collection(self, collection: str) -> Collection:
        """How many faces a collection holds. A missing one raises; its fault is `not_found`."""
        _check(collection=collection)
        answer = self._requests("DescribeCollection", CollectionId=collection)
        return Collection(int(answer.get("FaceCount", 0)), str(answer["FaceModelVersion"]))

    def list_collections(self) -> tuple[str, ...]:
        """Ids of all collections of the account in this region."""
        return tuple(str(one) for page in self._pages("ListCollections", None) for one in page["CollectionIds"])

    # -- faces -----------------------------------------------------------------------------------------------------

    def index_faces(
        self, collection: str, image: Image, external_image_id: str | None = None, *, quality: str | None = None
    ) -> Indexed:
        """Find the faces of one image and store them.

        The service stores no second face for the same image, collection and external id, so repeating the call is safe.

        Args:
            collection: Its id.
            image: The image.
            external_image_id: Your id of the image, of letters, digits and `_.-:`; None for one made from its bytes.
            quality: The least quality of a face that is stored: NONE, AUTO, LOW, MEDIUM or HIGH; AUTO if None.
        """
        _check(collection=collection, external_image_id=external_image_id, quality=quality)
        parameters = {
            "CollectionId": collection,
            "Image": _image(image),
            "ExternalImageId": external_image_id or image_id(image),
            "MaxFaces": self._most_faces,
            **_given(QualityFilter=quality),
        }
        try:
            answer = self._requests("IndexFaces", **parameters)
        except Exception as error:
            if not self._recreate or AWS(error).kind is not Kind.not_found:
                raise
            _log.warning("a collection was lost and is made anew, empty")
            self.create_collection(collection)
            answer = self._requests("IndexFaces", **parameters)  # gone again: somebody deletes it, and that comes out
        return Indexed(
            faces=tuple(_stored(record.get("Face") or {}) for record in answer["FaceRecords"]),
            unindexed=tuple(tuple(face.get("Reasons") or ()) for face in answer.get("UnindexedFaces") or ()),
            model_version=str(answer["FaceModelVersion"]),
        )

    def list_faces(self, collection: str, *, most: int | None = None) -> tuple[IndexedFace, ...]:
        """Stored faces, all or the first `most`; a collection may hold 20 million."""
        _check(collection=collection)
        checks = Checks("list_faces")
        if most is not None:
            checks.whole("most", _shown(most), 1)
        checks.done()
        found: list[IndexedFace] = []
        for page in self._pages("ListFaces", most, CollectionId=collection):
            found += [_stored(face) for face in page["Faces"]]
            if most is not None and len(found) >= most:
                break
        return tuple(found[:most])

    def delete_faces(self, collection: str, face_ids: Sequence[str]) -> tuple[str, ...]:
        """Delete faces, 1 to 4096 in one call. Returns the ids that were deleted now, without those gone before."""
        _check(collection=collection)
        checks = Checks("delete_faces")
        listed = isinstance(face_ids, Sequence) and not isinstance(face_ids, str)
        good = listed and 1 <= len(face_ids) <= MOST_MATCHES
        got = f"{len(face_ids)} of {type(face_ids).__name__}" if listed else type(face_ids).__name__
        if checks.that(good, "face_ids", f"1 to {MOST_MATCHES} ids", got):
            known = all(_fits(_ID, one) for one in face_ids)
            checks.that(known, "face_ids", "ids that the service gave", "another id")
        checks.done()
        answer = self._requests("DeleteFaces", CollectionId=collection, FaceIds=list(face_ids))
        return tuple(str(one) for one in answer["DeletedFaces"])

    def search_faces_by_image(
        self,
        collection: str,
        image: Image,
        *,
        threshold: float = 80.0,
        most: int = MOST_MATCHES,
        quality: str | None = None,
    ) -> Search:
        """Search for the largest face of an image. An image without a face is a result with `searched` None.

        Args:
            collection: Its id. A missing one raises; its fault is `not_found`.
            image: The image.
            threshold: The least similarity of a match, 0 to 100.
            most: Matches at most, 1 to 4096.
            quality: The least quality of the face that is searched for; NONE if None.
        """
        _check(collection=collection, threshold=threshold, most=most, quality=quality)
        try:
            answer = self._requests(
                "SearchFacesByImage",
                CollectionId=collection,
                Image=_image(image),
                FaceMatchThreshold=float(threshold),
                MaxFaces=most,
                **_given(QualityFilter=quality),
            )
        except Exception as error:
            if AWS(error).code != NO_FACE:
                raise
            return Search(())
        searched = {
            "BoundingBox": answer.get("SearchedFaceBoundingBox"),
            "Confidence": answer.get("SearchedFaceConfidence"),
        }
        return Search(_matches(answer), _seen(searched), str(answer["FaceModelVersion"]))

    def search_faces(
        self, collection: str, face_id: str, *, threshold: float = 80.0, most: int = MOST_MATCHES
    ) -> Search:
        """Search for faces like one that is stored."""
        _check(collection=collection, face_id=face_id, threshold=threshold, most=most)
        answer = self._requests(
            "SearchFaces", CollectionId=collection, FaceId=face_id, FaceMatchThreshold=float(threshold), MaxFaces=most
        )
        return Search(_matches(answer), None, str(answer["FaceModelVersion"]))

    def compare_faces(
        self, source: Image, target: Image, *, threshold: float = 80.0, quality: str | None = None
    ) -> Comparison:
        """Compare the largest face of the source with the faces of the target. No face is a result."""
        _check(threshold=threshold, quality=quality)
        try:
            answer = self._requests(
                "CompareFaces",
                SourceImage=_image(source),
                TargetImage=_image(target),
                SimilarityThreshold=float(threshold),
                **_given(QualityFilter=quality),
            )
        except Exception as error:
            if AWS(error).code != NO_FACE:
                raise
            return Comparison(None, (), ())
        matches = sorted(
            (
                Compared(_seen(one.get("Face") or {}), float(one.get("Similarity", 0.0)))
                for one in answer.get("FaceMatches") or ()
            ),
            key=lambda one: -one.similarity,
        )
        unmatched = tuple(_seen(one) for one in answer.get("UnmatchedFaces") or ())
        return Comparison(_seen(answer["SourceImageFace"]), tuple(matches), unmatched)

    def detect_faces(self, image: Image) -> tuple[SeenFace, ...]:
        """Find the faces of an image, largest first; empty if there are none."""
        answer = self._requests("DetectFaces", Image=_image(image), Attributes=["DEFAULT"])
        return tuple(_seen(one) for one in answer["FaceDetails"])

    # -- liveness --------------------------------------------------------------------------------------------------

    def create_liveness_session(self, *, token: str | None = None) -> str:
        """Begin a liveness check, good for one use within 3 minutes. Returns the session's id.

        Args:
            token: Calls with the same one give the same session; None for one that all attempts of this call share.
        """
        checks = Checks("create_liveness_session")
        if token is not None:
            checks.that(_fits(_TOKEN, token), "token", "1 to 64 of a-z A-Z 0-9 - _", _length(token))
        checks.done()
        answer = self._requests("CreateFaceLivenessSession", **_given(ClientRequestToken=token))
        return str(answer["SessionId"])

    def liveness_result(self, session_id: str) -> Liveness:
        """How a session stands. An id that is unknown, or over, raises; its fault is `not_found`."""
        _check(session_id=session_id)
        answer = self._requests("GetFaceLivenessSessionResults", SessionId=session_id)
        confidence = answer.get("Confidence")
        try:
            status = LivenessStatus(answer["Status"])
        except ValueError:  # neither a success nor an end that this version could vouch for
            name = "rekognition.GetFaceLivenessSessionResults"
            raise DamagedAnswerError(name, "its status is none that is known") from None
        return Liveness(
            status,
            None if confidence is None else float(confidence),
            (answer.get("ReferenceImage") or {}).get("Bytes"),
        )

    def _pages(self, operation: str, most: int | None, **parameters: Any) -> Any:
        """The answers of a listing, page by page."""
        after: str | None = None
        while True:
            page = self._requests(
                operation,
                MaxResults=1000 if most is None else min(1000, most),
                **parameters,
                **_given(NextToken=after),
            )
            yield page
            after = page.get("NextToken")
            if not after:
                return


class AsyncRekognition(AsyncFace[Rekognition]):
    """`Rekognition` for async code: `AsyncRekognition(Rekognition(client))`."""

    create_collection = threaded(Rekognition.create_collection)
    delete_collection = threaded(Rekognition.delete_collection)
    describe_collection = threaded(Rekognition.describe_collection)
    list_collections = threaded(Rekognition.list_collections)
    index_faces = threaded(Rekognition.index_faces)
    list_faces = threaded(Rekognition.list_faces)
    delete_faces = threaded(Rekognition.delete_faces)
    search_faces_by_image = threaded(Rekognition.search_faces_by_image)
    search_faces = threaded(Rekognition.search_faces)
    compare_faces = threaded(Rekognition.compare_faces)
    detect_faces = threaded(Rekognition.detect_faces)
    create_liveness_session = threaded(Rekognition.create_liveness_session)
    liveness_result = threaded(Rekognition.liveness_result)


# -- what is known before a call ----------------------------------------------------------------------------------


def _whole(checks: Checks, option: str, value: object, at_most: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= at_most
    checks.that(good, option, f"a whole number from 1 to {at_most}", _shown(value))


_ABSENT: Final[Any] = object()


def _check(
    *,
    collection: object = _ABSENT,
    external_image_id: object = None,
    face_id: object = _ABSENT,
    session_id: object = _ABSENT,
    threshold: object = _ABSENT,
    most: object = _ABSENT,
    quality: object = None,
) -> None:
    """Refuse what the service would refuse. Identities and sessions are not shown in the message."""
    checks = Checks("Rekognition")
    letters = "letters, digits and _ . -"
    if collection is not _ABSENT:
        checks.that(_fits(_COLLECTION, collection), "collection", f"an id of 1 to 255 {letters}", _shown(collection))
    if external_image_id is not None:
        checks.that(
            _fits(_EXTERNAL, external_image_id),
            "external_image_id",
            f"1 to 255 {letters} :",
            _length(external_image_id),
            "None makes one from the image's bytes.",
        )
    for option, value in (("face_id", face_id), ("session_id", session_id)):
        if value is not _ABSENT:
            checks.that(_fits(_ID, value), option, "an id that the service gave", _length(value))
    if threshold is not _ABSENT:
        checks.number("threshold", _shown(threshold), 0.0, 100.0)
    if most is not _ABSENT:
        _whole(checks, "most", most, MOST_MATCHES)
    if quality is not None:
        good = isinstance(quality, str) and quality in _QUALITY
        checks.that(good, "quality", f"one of {', '.join(_QUALITY)}", _shown(quality))
    checks.done()


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _shown(value: object) -> object:
    """A wrong value, unless it may be a picture that came to the wrong place."""
    return value if isinstance(value, (str, int, float)) or value is None else type(value).__name__


def _length(value: object) -> str:
    return f"{len(value)} characters" if isinstance(value, str) else type(value).__name__


def check_image(image: bytes) -> None:
    """Refuse what the service would refuse, before it is sent.

    Raises:
        UnusableImageError: The image is empty, larger than 5 MB, smaller than 80 pixels on a side, or neither JPEG nor
            PNG.
    """
    if not isinstance(image, (bytes, bytearray)):
        raise UnusableImageError(f"the image must be bytes or an S3Image; got {type(image).__name__}")
    if not image:
        raise UnusableImageError("the image is empty")
    if len(image) > MAX_IMAGE_BYTES:
        raise UnusableImageError(f"the image has {len(image)} bytes; Rekognition takes {MAX_IMAGE_BYTES}")
    if not image.startswith((_JPEG, _PNG)):
        raise UnusableImageError("the image is neither a JPEG nor a PNG")
    size = size_of(image)
    if size is not None and min(size) < MIN_SIDE:
        raise UnusableImageError(f"the image has {size[0]} x {size[1]} pixels; each side takes {MIN_SIDE} or more")


_JPEG: Final = b"\xff\xd8\xff"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF markers; the rest are tables


def size_of(image: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header of a JPEG or PNG; None if it has none that can be read."""
    if image.startswith(_PNG):
        return struct.unpack(">II", image[16:24]) if len(image) >= 24 and image[12:16] == b"IHDR" else None
    at = 2
    while at + 9 <= len(image):
        if image[at] != 0xFF:
            return None
        marker = image[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            return width, height
        if 0xD0 <= marker <= 0xD9 or marker == 0x01:  # these stand alone
            at += 2
            continue
        at += 2 + struct.unpack(">H", image[at + 2 : at + 4])[0]
    return None


def image_id(image: Image) -> str:
    """An external image id that is the same for the same image, for those who have no id of their own."""
    if isinstance(image, S3Image):
        name = "\0".join((image.bucket, image.name, image.version or "")).encode()
        return f"s3:{hashlib.sha256(name).hexdigest()}"
    return f"sha256:{hashlib.sha256(image).hexdigest()}"


def _image(image: Image) -> dict[str, Any]:
    if isinstance(image, S3Image):
        checks = Checks("S3Image")
        checks.that(_fits(_BUCKET, image.bucket), "bucket", "the name of a bucket", _shown(image.bucket))
        good = isinstance(image.name, str) and 1 <= len(image.name) <= 1024
        checks.that(good, "name", "a key of 1 to 1024 characters", _length(image.name))
        good = image.version is None or (isinstance(image.version, str) and 1 <= len(image.version) <= 1024)
        checks.that(good, "version", "1 to 1024 characters, or None", _length(image.version))
        checks.done()
        return {"S3Object": {"Bucket": image.bucket, "Name": image.name, **_given(Version=image.version)}}
    check_image(image)
    return {"Bytes": image}


def _given(**parameters: Any) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


# -- reading answers ----------------------------------------------------------------------------------------------


def _box(box: Mapping[str, Any] | None) -> Box:
    left, top, width, height = (float((box or {}).get(side, 0.0)) for side in ("Left", "Top", "Width", "Height"))
    return left, top, width, height


def _stored(face: Mapping[str, Any]) -> IndexedFace:
    return IndexedFace(
        face_id=face.get("FaceId"),
        image_id=face.get("ImageId"),
        box=_box(face.get("BoundingBox")),
        confidence=float(face.get("Confidence", 0.0)),
        external_image_id=face.get("ExternalImageId"),
    )


def _seen(face: Mapping[str, Any]) -> SeenFace:
    quality = face.get("Quality") or {}
    return SeenFace(
        _box(face.get("BoundingBox")),
        float(face.get("Confidence") or 0.0),
        quality.get("Brightness"),
        quality.get("Sharpness"),
    )


def _matches(answer: Mapping[str, Any]) -> tuple[Match, ...]:
    found = (Match(_stored(one.get("Face") or {}), float(one.get("Similarity", 0.0))) for one in answer["FaceMatches"])
    return tuple(sorted(found, key=lambda one: -one.similarity))
