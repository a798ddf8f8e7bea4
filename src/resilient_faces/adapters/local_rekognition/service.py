"""The operations, free of HTTP: `call(operation, request, request_id)` gives the answer or raises `ServiceError`."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from resilient_faces.adapters._faces import Image, Recogniser
from resilient_faces.adapters.local_rekognition.answers import (
    EXTERNAL_ID,
    FACE_ID,
    MOST_RESULTS,
    Answer,
    ServiceError,
    collection_id,
    face_ids,
    invalid,
    no_collection,
    no_face_to_compare,
    no_face_to_search,
    percent,
    quality_filter,
    text,
    whole,
)
from resilient_faces.adapters.local_rekognition.images import MOST_FACES, Looked, Looker, Objects, Seen
from resilient_faces.adapters.local_rekognition.liveness import Liveness
from resilient_faces.adapters.local_rekognition.quotas import Quotas
from resilient_faces.adapters.local_rekognition.storage import Collection, NewFace, Storage
from resilient_faces.telemetry.ledger import Ledger

MODEL_VERSION: Final = "7.0"
ACCOUNT: Final = "000000000000"
THRESHOLD: Final = 80.0  # percent

Facts = dict[str, object]  # what the ledger notes of a call


def subject_of(external_id: str) -> str:
    """What the ledger calls an external id, which may be a person's name: a hash."""
    return hashlib.sha256(external_id.encode(errors="surrogatepass")).hexdigest()[:16]


class RekognitionService:
    """The service's operations on a local engine.

    Args:
        engine: Finds faces and makes embeddings. If it names nobody, similarities are hints.
        storage: Where collections, faces and sessions are kept; in memory if None.
        region: For ARNs and the default quotas.
        quotas: Calls a second; the region's defaults if None.
        ledger: Gets a line a call.
        searches_at_once: Images searched at the same time; one a processor if None.
        objects: Gets the objects that S3Object names; None refuses them.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        engine: Recogniser,
        *,
        storage: Storage | None = None,
        region: str = "us-west-2",
        quotas: Quotas | None = None,
        ledger: Ledger | None = None,
        searches_at_once: int | None = None,
        objects: Objects | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self._storage = storage or Storage(None, space=engine.space, version=MODEL_VERSION)
        self._region = region
        self._quotas = quotas or Quotas(region)
        self._ledger = ledger or Ledger(None)
        self._now = now
        self._looker = Looker(engine, at_once=searches_at_once or max(1, os.cpu_count() or 1), objects=objects)
        self._liveness = Liveness(self._storage, self._looker, now)
        self._under_way: dict[tuple[int, str, str, str], threading.Event] = {}
        self._lock = threading.Lock()
        self._operations: Mapping[str, Callable[[Answer, Facts], Answer]] = {
            "CreateCollection": self._create_collection,
            "DeleteCollection": self._delete_collection,
            "ListCollections": self._list_collections,
            "DescribeCollection": self._describe_collection,
            "IndexFaces": self._index_faces,
            "ListFaces": self._list_faces,
            "DeleteFaces": self._delete_faces,
            "SearchFacesByImage": self._search_faces_by_image,
            "SearchFaces": self._search_faces,
            "CompareFaces": self._compare_faces,
            "DetectFaces": self._detect_faces,
            "CreateFaceLivenessSession": lambda request, _: self._liveness.create(request),
            "GetFaceLivenessSessionResults": lambda request, _: self._liveness.results(request),
        }

    @property
    def operations(self) -> frozenset[str]:
        """Names of all operations."""
        return frozenset(self._operations)

    def call(self, operation: str, request: Answer, request_id: str) -> Answer:
        """Carry one operation out and leave a line in the ledger.

        Raises:
            ServiceError: The answer is an error of the service.
        """
        run = self._operations.get(operation)

        def carry_out(facts: Facts) -> Answer:
            if run is None:
                raise ServiceError("UnknownOperationException", "This endpoint does not have the operation.")
            self._quotas.take(operation)
            return run(request, facts)

        return self._noted(operation if run else "unknown", request, request_id, carry_out)

    def feed_liveness(self, session_id: str, request: Answer, request_id: str) -> Answer:
        """Move a liveness session on by hand; not an operation of the service. See `liveness`."""
        return self._noted("local.FeedLiveness", {}, request_id, lambda _: self._liveness.feed(session_id, request))

    def warm_up(self) -> None:
        """Load what the first search needs, before somebody waits for it."""
        self._looker.warm_up()

    def close(self) -> None:
        """Give the data directory back."""
        self._storage.close()

    def _noted(self, operation: str, request: Answer, request_id: str, carry_out: Callable[[Facts], Answer]) -> Answer:
        arrived, facts, outcome = time.time(), Facts(), "ok"
        try:
            return carry_out(facts)
        except ServiceError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "InternalServerError"
            raise
        finally:
            collection, external = request.get("CollectionId"), request.get("ExternalImageId")
            self._ledger.write(
                t=round(arrived, 4),
                took=round(time.time() - arrived, 4),
                op=operation,
                request_id=request_id,
                outcome=outcome,
                collection=collection[:255] if isinstance(collection, str) else None,
                subject=subject_of(external) if isinstance(external, str) else None,
                **facts,
            )

    # -- collections ---------------------------------------------------------------------------------------------

    def _create_collection(self, request: Answer, facts: Facts) -> Answer:
        name = collection_id(request)
        if not self._storage.create_collection(name, self._now()):
            raise ServiceError("ResourceAlreadyExistsException", f"The collection id: {name} already exists")
        facts["done"] = "created"
        return {"StatusCode": 200, "CollectionArn": self._arn(name), "FaceModelVersion": MODEL_VERSION}

    def _delete_collection(self, request: Answer, facts: Facts) -> Answer:
        name = collection_id(request)
        if not self._storage.delete_collection(name):
            raise no_collection(name)
        facts["done"] = "deleted"
        return {"StatusCode": 200}

    def _list_collections(self, request: Answer, facts: Facts) -> Answer:
        most = whole(request, "MaxResults", MOST_RESULTS, low=0, high=MOST_RESULTS) or MOST_RESULTS
        found = self._storage.collections(_behind(request, "collections"), most + 1)
        shown = found[:most]
        answer: Answer = {
            "CollectionIds": [one.name for one in shown],
            "FaceModelVersions": [MODEL_VERSION] * len(shown),
        }
        if len(found) > most:
            answer["NextToken"] = _token("collections", shown[-1].number)
        return answer

    def _describe_collection(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        return {
            "FaceCount": self._storage.count(collection),
            "FaceModelVersion": MODEL_VERSION,
            "CollectionARN": self._arn(collection.name),
            "CreationTimestamp": round(collection.created, 3),
            "UserCount": 0,
        }

    # -- stored faces --------------------------------------------------------------------------------------------

    def _index_faces(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        external = text(request, "ExternalImageId", EXTERNAL_ID, required=False)
        level = quality_filter(request, "AUTO")
        most = whole(request, "MaxFaces", MOST_FACES, low=1, high=MOST_FACES)
        data = self._looker.bytes_of(request)
        image = hashlib.sha256(data).hexdigest()
        facts["image"] = image[:16]
        asked = f"{most}/{level}"
        if external is None:  # without an external id the service has nothing to tell a repetition by
            return self._index(collection, data, image, None, asked, most, level, facts)
        key = (collection.number, image, external, asked)
        while True:
            with self._lock:
                busy = self._under_way.get(key)
                if busy is None:
                    mine = self._under_way[key] = threading.Event()
            if busy is not None:  # the same image is being searched for another request: one search, one set of faces
                busy.wait()
                continue
            try:
                known = self._storage.indexed(collection, image, external, asked)
                if known is not None:
                    facts.update(done="repeated", faces=len(known["FaceRecords"]), stored=0)
                    return known
                return self._index(collection, data, image, external, asked, most, level, facts)
            finally:
                with self._lock:
                    del self._under_way[key]
                mine.set()

    def _index(
        self,
        collection: Collection,
        data: bytes,
        image: str,
        external: str | None,
        asked: str,
        most: int,
        level: str,
        facts: Facts,
    ) -> Answer:
        looked = self._looker.look(data)
        wanted: list[Seen] = []
        unindexed: list[Answer] = []
        for seen in looked.faces:
            reasons = seen.below(level) or (["EXCEEDS_MAX_FACES"] if len(wanted) >= most else [])
            if reasons:
                unindexed.append({"Reasons": reasons, "FaceDetail": seen.described()})
            else:
                wanted.append(seen)
        embeddings = self._looker.embed(looked, tuple(wanted))

        def answer(stored: list[Answer]) -> Answer:
            records = [
                {"Face": face, "FaceDetail": seen.described()} for face, seen in zip(stored, wanted, strict=True)
            ]
            return {"FaceRecords": records, "UnindexedFaces": unindexed, "FaceModelVersion": MODEL_VERSION}

        faces = [NewFace(seen.box, seen.confidence, row) for seen, row in zip(wanted, embeddings, strict=True)]
        try:
            said, new = self._storage.add_faces(collection, image, external, faces, asked=asked, answer=answer)
        except KeyError:
            raise no_collection(collection.name) from None
        facts.update(done="indexed", faces=len(faces), stored=new)
        return said

    def _list_faces(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        most = whole(request, "MaxResults", MOST_RESULTS, low=0, high=MOST_RESULTS) or MOST_RESULTS
        kind = f"faces/{collection.number}"
        ids = face_ids(request, required=False)
        found = self._storage.faces(collection, _behind(request, kind), most + 1, ids)
        answer: Answer = {"Faces": [face for _, face in found[:most]], "FaceModelVersion": MODEL_VERSION}
        if len(found) > most:
            answer["NextToken"] = _token(kind, found[most - 1][0])
        return answer

    def _delete_faces(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        ids = face_ids(request, required=True)
        assert ids is not None
        deleted = self._storage.delete_faces(collection, ids)
        facts.update(done="deleted", faces=len(deleted))
        asked = dict.fromkeys(ids)
        return {
            "DeletedFaces": [one for one in asked if one in deleted],
            "UnsuccessfulFaceDeletions": [
                {"FaceId": one, "Reasons": ["FACE_NOT_FOUND"]} for one in asked if one not in deleted
            ],
        }

    # -- likeness ------------------------------------------------------------------------------------------------

    def _search_faces_by_image(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        level = quality_filter(request, "NONE")
        most, threshold = _how_many(request), percent(request, "FaceMatchThreshold", THRESHOLD)
        looked, (largest, *_) = self._faces_of(request, "Image", level, no_face_to_search())
        (query,) = self._looker.embed(looked, (largest,))
        return {
            "SearchedFaceBoundingBox": dict(largest.box),
            "SearchedFaceConfidence": largest.confidence,
            "FaceMatches": self._matches(collection, query, most, threshold, facts),
            "FaceModelVersion": MODEL_VERSION,
        }

    def _search_faces(self, request: Answer, facts: Facts) -> Answer:
        collection = self._collection(request)
        face_id = text(request, "FaceId", FACE_ID)
        assert face_id is not None
        most, threshold = _how_many(request), percent(request, "FaceMatchThreshold", THRESHOLD)
        query = self._storage.embedding(collection, face_id)
        if query is None:
            raise ServiceError("InvalidParameterException", "faceId was not found in the collection")
        return {
            "SearchedFaceId": face_id,
            "FaceMatches": self._matches(collection, query, most, threshold, facts, but=face_id),
            "FaceModelVersion": MODEL_VERSION,
        }

    def _compare_faces(self, request: Answer, facts: Facts) -> Answer:
        threshold = percent(request, "SimilarityThreshold", THRESHOLD)
        level = quality_filter(request, "NONE")
        source, (largest, *_) = self._faces_of(request, "SourceImage", level, no_face_to_compare())
        target, faces = self._faces_of(request, "TargetImage", level, no_face_to_compare())
        (query,) = self._looker.embed(source, (largest,))
        cosines = self._looker.embed(target, faces) @ query
        judged = [(self.engine.similarity(float(cosine)), seen) for cosine, seen in zip(cosines, faces, strict=True)]
        judged.sort(key=lambda one: -one[0])
        matches = [
            {"Similarity": likeness, "Face": seen.described()} for likeness, seen in judged if likeness >= threshold
        ]
        facts.update(done="compared", faces=len(matches))
        return {
            "SourceImageFace": {"BoundingBox": dict(largest.box), "Confidence": largest.confidence},
            "FaceMatches": matches,
            "UnmatchedFaces": [seen.described() for likeness, seen in judged if likeness < threshold],
            "SourceImageOrientationCorrection": "ROTATE_0",  # images are turned upright before they are searched
            "TargetImageOrientationCorrection": "ROTATE_0",
        }

    def _detect_faces(self, request: Answer, facts: Facts) -> Answer:
        wanted = request.get("Attributes")
        if wanted is not None and not (isinstance(wanted, list) and all(isinstance(one, str) for one in wanted)):
            raise invalid("Attributes must be a list of names")
        looked = self._looker.look(self._looker.bytes_of(request))
        facts.update(done="detected", faces=len(looked.faces))
        return {"FaceDetails": [seen.described() for seen in looked.faces], "OrientationCorrection": "ROTATE_0"}

    # -- shared --------------------------------------------------------------------------------------------------

    def _faces_of(
        self, request: Answer, name: str, level: str, otherwise: ServiceError
    ) -> tuple[Looked, tuple[Seen, ...]]:
        looked = self._looker.look(self._looker.bytes_of(request, name))
        good = tuple(seen for seen in looked.faces if not seen.below(level))
        if not good:
            raise otherwise
        return looked, good

    def _matches(
        self,
        collection: Collection,
        query: Image,
        most: int,
        threshold: float,
        facts: Facts,
        but: str | None = None,
    ) -> list[Answer]:
        similarity = self.engine.similarity
        found = self._storage.search(
            collection, query, most=most, alike=lambda cosine: similarity(cosine) >= threshold, but=but
        )
        facts.update(done="searched", faces=len(found))
        return [{"Similarity": similarity(cosine), "Face": face} for cosine, face in found]

    def _collection(self, request: Answer) -> Collection:
        name = collection_id(request)
        found = self._storage.collection(name)
        if found is None:
            raise no_collection(name)
        return found

    def _arn(self, name: str) -> str:
        return f"aws:rekognition:{self._region}:{ACCOUNT}:collection/{name}"


def _how_many(request: Answer) -> int:
    return whole(request, "MaxFaces", MOST_RESULTS, low=1, high=MOST_RESULTS)


def _token(kind: str, behind: int) -> str:
    return base64.urlsafe_b64encode(f"1/{kind}/{behind}".encode()).decode()


def _behind(request: Answer, kind: str) -> int:
    """Where the page before ended; pages stay right while entries come and go, since entries are numbered."""
    token = request.get("NextToken")
    if token is None:
        return 0
    try:
        head, _, number = base64.urlsafe_b64decode(token).decode().rpartition("/")
        behind = int(number)
        if head != f"1/{kind}" or not 0 <= behind < 1 << 63:
            raise ValueError("a token of another listing, or of nobody")
        return behind
    except (TypeError, ValueError):
        raise ServiceError("InvalidPaginationTokenException", "The pagination token is not valid.") from None
