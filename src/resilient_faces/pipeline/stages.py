"""What the pipeline asks of its surroundings: `build` fulfils these with adapters, tests with plain objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from resilient_faces.pipeline.records import FaceRow, PhotoRecord


class Message(Protocol):
    """One delivery of a queued message."""

    @property
    def body(self) -> str: ...

    @property
    def count(self) -> int:
        """How often the message was handed out, this time included."""
        ...


Delivered = TypeVar("Delivered", bound=Message)


class FoundFace(Protocol):
    """A face that the index stored."""

    @property
    def face_id(self) -> str | None: ...

    @property
    def image_id(self) -> str | None: ...

    @property
    def box(self) -> tuple[float, float, float, float]: ...

    @property
    def confidence(self) -> float: ...


class IndexAnswer(Protocol):
    """What indexing one image gave."""

    @property
    def faces(self) -> Sequence[FoundFace]: ...

    @property
    def unindexed(self) -> Sequence[Sequence[str]]: ...

    @property
    def model_version(self) -> str: ...


class ObjectStore(Protocol):
    """Where photos lie."""

    def get(self, key: str) -> bytes: ...


class FaceIndex(Protocol):
    """The recognition service. Indexing the same image with the same external id again stores nothing new."""

    def create_collection(self, collection: str) -> str: ...

    def index_faces(self, collection: str, image: bytes, external_image_id: str) -> IndexAnswer: ...


class FaceStore(Protocol):
    """Where photo records and face rows lie."""

    def photo(self, photo_id: str) -> PhotoRecord | None: ...

    def collection(self, event_id: str) -> str | None: ...

    def remember_collection(self, event_id: str, collection: str) -> None:
        """Store the id; storing the same one again is fine."""
        ...

    def commit(self, photo_id: str, rows: Sequence[FaceRow], token: str, at: float) -> None:
        """Write the rows and the status `indexed` in one transaction, unless the photo is indexed already.

        All attempts of one commit carry the same token and the same time `at` (seconds since 1970), and count as one.
        """
        ...

    def mark_failed(self, photo_id: str, reason: str) -> None:
        """Set the status `failed` with its reason, unless the photo is indexed."""
        ...


class Queue(Protocol[Delivered]):
    """Where jobs wait. Each delivery is settled with the very object that was received."""

    def receive(self, most: int, *, wait: int, visibility: int) -> Sequence[Delivered]: ...

    def ack(self, delivery: Delivered) -> None: ...

    def retry(self, delivery: Delivered, delay: float) -> None: ...

    def send_dead(self, delivery: Delivered, reason: str) -> None: ...
