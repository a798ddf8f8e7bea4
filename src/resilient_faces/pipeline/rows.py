"""Photo records, collections and face rows as DynamoDB items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from resilient_faces.adapters.dynamodb import DynamoDb, Item
from resilient_faces.pipeline.records import VERSION, FaceRow, PhotoRecord, PhotoStatus

MOST_ROWS: Final = 99  # one transaction takes 100 writes, and one of them is the photo's status


@dataclass(frozen=True, slots=True)
class Tables:
    """Names of the three tables and how they are keyed."""

    photos: str = "photos"
    faces: str = "faces"
    events: str = "events"

    def definitions(self) -> Iterator[Mapping[str, Any]]:
        """Arguments for CreateTable, one table each."""
        for name, keys in ((self.photos, ("id",)), (self.events, ("id",)), (self.faces, ("photo_id", "row_id"))):
            kinds = zip(keys, ("HASH", "RANGE"), strict=False)
            yield {
                "TableName": name,
                "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in kinds],
                "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
                "BillingMode": "PAY_PER_REQUEST",
            }


class DynamoFaceStore:
    """A `FaceStore` on three tables. A condition that fails says that there is nothing left to do: no error."""

    def __init__(self, dynamodb: DynamoDb, tables: Tables) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def add_photo(self, photo_id: str, event_id: str, key: str) -> None:
        """Note a photo that was uploaded; one that is known already keeps its status."""
        item: Item = {
            "id": {"S": photo_id},
            "event_id": {"S": event_id},
            "key": {"S": key},
            "status": {"S": PhotoStatus.processing.value},
            "v": {"N": str(VERSION)},
        }
        self._dynamodb.put(self._tables.photos, item, condition="attribute_not_exists(id)")

    def photo(self, photo_id: str) -> PhotoRecord | None:
        item = self._dynamodb.get(self._tables.photos, {"id": {"S": photo_id}})
        return None if item is None else photo_record(item)

    def collection(self, event_id: str) -> str | None:
        item = self._dynamodb.get(self._tables.events, {"id": {"S": event_id}})
        return None if item is None else str(item["collection_id"]["S"])

    def remember_collection(self, event_id: str, collection: str) -> None:
        item: Item = {"id": {"S": event_id}, "collection_id": {"S": collection}, "v": {"N": str(VERSION)}}
        # Whoever was first stored the same id: it is made from the event's.
        self._dynamodb.put(self._tables.events, item, condition="attribute_not_exists(id)")

    def commit(self, photo_id: str, rows: Sequence[FaceRow], token: str, at: float) -> None:
        now = number(at, 3)
        writes: list[Mapping[str, Any]] = [
            {"Put": {"TableName": self._tables.faces, "Item": face_item(row, now)}} for row in rows
        ]
        writes.append(
            {
                "Update": {
                    "TableName": self._tables.photos,
                    "Key": {"id": {"S": photo_id}},
                    "UpdateExpression": "SET #status = :indexed, face_count = :count, indexed_at = :now REMOVE reason",
                    "ConditionExpression": "#status <> :indexed",
                    "ExpressionAttributeNames": {"#status": "status"},
                    "ExpressionAttributeValues": {
                        ":indexed": {"S": PhotoStatus.indexed.value},
                        ":count": {"N": str(len(rows))},
                        ":now": {"N": now},
                    },
                }
            }
        )
        # Only the status has a condition. If it fails, somebody else has indexed the photo meanwhile: nothing is to do.
        self._dynamodb.transact(writes, token=token)

    def mark_failed(self, photo_id: str, reason: str) -> None:
        self._dynamodb.update(
            self._tables.photos,
            {"id": {"S": photo_id}},
            "SET #status = :failed, reason = :reason",
            condition="attribute_exists(id) AND #status <> :indexed",
            names={"#status": "status"},
            values={
                ":failed": {"S": PhotoStatus.failed.value},
                ":indexed": {"S": PhotoStatus.indexed.value},
                ":reason": {"S": reason},
            },
        )


def photo_record(item: Item) -> PhotoRecord:
    """A photo's item as a record."""
    return PhotoRecord(
        photo_id=str(item["id"]["S"]),
        status=PhotoStatus(item["status"]["S"]),
        face_count=int(item["face_count"]["N"]) if "face_count" in item else None,
        reason=str(item["reason"]["S"]) if "reason" in item else None,
    )


def face_item(row: FaceRow, now: str) -> Item:
    """A face row as an item. Landmarks, age, gender and emotions of an answer are not kept."""
    item: Item = {
        "photo_id": {"S": row.photo_id},
        "row_id": {"S": row.row_id},
        "box": {"L": [{"N": number(side, 6)} for side in row.box]},
        "confidence": {"N": number(row.confidence, 4)},
        "model_version": {"S": row.model_version},
        "indexed_at": {"N": now},
        "v": {"N": str(VERSION)},
    }
    if row.face_id is not None:
        item["face_id"] = {"S": row.face_id}
    if row.image_id is not None:
        item["image_id"] = {"S": row.image_id}
    return item


def number(value: float, places: int) -> str:
    """A number as DynamoDB itself writes it, without trailing zeros.

    Then a repeated transaction is the same text before and after the table has tidied it: the emulator compares the
    two.
    """
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text
