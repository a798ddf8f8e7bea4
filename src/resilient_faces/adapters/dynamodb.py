"""Amazon DynamoDB: items by key, conditional writes that know their own work again, transactions, batches.

Whether a condition held is an answer, not an error: conditional writes and transactions return what became of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from resilient_faces._core.options import Checks
from resilient_faces.adapters._aws_batches import UnfinishedBatchError, send_all
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AsyncFace, AwsError, Requests, cancellation_codes, classify_aws, threaded
from resilient_faces.faults import Executed, Fault, Kind

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = [
    "MOST_IN_TRANSACTION",
    "AsyncDynamoDb",
    "DifferentWritesError",
    "DynamoDb",
    "Item",
    "Parts",
    "Transacted",
    "UnfinishedBatchError",
    "Written",
]

Item: TypeAlias = "dict[str, Any]"  # in DynamoDB's own notation: {"id": {"S": "a"}}

MOST_IN_TRANSACTION: Final = 100
_MOST_BYTES: Final = 3_500_000  # of the 4 MB that a transaction takes: sizes here are of JSON, a little off
_MOST_WRITTEN: Final = 25
_MOST_READ: Final = 100
_LONGEST_TOKEN: Final = 36  # characters

_SET: Final = re.compile(r"(?<![#:.\w])SET\s", re.IGNORECASE)
# What counts on from the old value: carried out twice it counts twice. A place in a list is such a thing too (the next
# element moves up), and so is the value of another attribute, which the same expression may change.
_COUNTS_ON: Final = re.compile(
    r"(?<![#:.\w])ADD\s|(?<![#:.\w])list_append\s*\(|[+\-\[]"
    r"|=(?!\s*(?::|if_not_exists\b))|(?<![#.\w])([#.\w]+)\s*=\s*if_not_exists\s*\((?!\s*\1\s*,)",
    re.IGNORECASE,
)
_TOKENS: Final = uuid.UUID("5f3c6f0a-6a3e-4d4e-9d0e-0c1f4a7a2b11")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a conditional write.

    Attributes:
        applied: The item is written.
        repeated: An earlier attempt had written it already; its answer had been lost.
        found: The item that stands there instead, if the condition failed.
    """

    applied: bool
    repeated: bool = False
    found: Item | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Transacted:
    """What became of a transaction.

    Attributes:
        applied: All writes are carried out; otherwise none is.
        reasons: For a condition that failed: the reason of each write, in order; `None` as text where it was fine.
    """

    applied: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parts:
    """How far a write in parts has come.

    Attributes:
        done: Parts carried out, each as a whole.
        of: Parts in all.
        reasons: Why the next one was not, if a condition of its writes failed.
    """

    done: int
    of: int
    reasons: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all parts are carried out."""
        return self.done == self.of


class DifferentWritesError(AwsError):
    """An operation id was used before for other writes."""

    fault: Fault = Fault(Kind.invalid, "dynamodb.different_writes", Executed.no)

    def __str__(self) -> str:
        return "this operation id stands for other writes already. Make a new id for each logical write."


class DynamoDb:
    """Items in DynamoDB's own notation, each request under its guard.

    Args:
        client: A boto3 client for dynamodb that tries once (`adapters.aws.connect`).
        mark: Attribute of an item that keeps the id of the operation that wrote it under a condition.
        options: The guards, as `Requests` takes them.
    """

    def __init__(self, client: Any, *, mark: str = "operation_id", **options: Unpack[Guarding]) -> None:
        checks = Checks("DynamoDb")
        check_client(checks, client, "dynamodb")
        checks.that(isinstance(mark, str) and mark != "", "mark", "the name of an attribute", mark)
        checks.done()
        self._requests = Requests(client, **options)
        self._mark = mark

    def get(self, table: str, key: Item) -> Item | None:
        """The item as last written, or None."""
        answer = self._requests("GetItem", TableName=table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    def put(
        self,
        table: str,
        item: Item,
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        operation_id: str | None = None,
    ) -> Written:
        """Write one item; with a condition, only if it holds.

        With a condition the item carries the id of this call, by which a repetition after a lost answer knows its own
        write again. If somebody else has overwritten the item in between, it cannot: then `applied` is False.

        Args:
            table: Its name.
            item: The whole item.
            condition: A condition expression.
            names: Placeholders for names in it.
            values: Placeholders for values in it.
            operation_id: The same for every repetition of this write; by default one for all attempts of this call.
        """
        if condition is None:
            self._requests("PutItem", TableName=table, Item=item)
            return Written(True)
        mine = operation_id or uuid.uuid4().hex
        marked = {**item, self._mark: {"S": mine}}
        return self._if("PutItem", mine, TableName=table, Item=marked, **_expressions(condition, names, values))

    def update(
        self,
        table: str,
        key: Item,
        expression: str,
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        operation_id: str | None = None,
    ) -> Written:
        """Change members of one item; with a condition, only if it holds.

        An expression that counts on from the old value (ADD, list_append, + and -, places in lists, values of other
        attributes) would count twice if it were repeated after a lost answer. It is sent as a transaction of one write,
        whose token the service remembers for ten minutes; that takes twice the write units.

        Args:
            table: Its name.
            key: The item's key; the item is made unless it is there.
            expression: An update expression.
            condition: A condition expression.
            names: Placeholders for names in both.
            values: Placeholders for values in both.
            operation_id: The same for every repetition of this write; by default one for all attempts of this call.
        """
        mine = operation_id or uuid.uuid4().hex
        extra = _expressions(condition, names, values)
        if _COUNTS_ON.search(expression):
            update = {"TableName": table, "Key": key, "UpdateExpression": expression, **extra}
            if condition is not None:
                update["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
            token = mine if len(mine) <= _LONGEST_TOKEN else str(uuid.uuid5(_TOKENS, mine))
            failed = self._transact([{"Update": update}], token)
            reasons = getattr(failed, "response", {}).get("CancellationReasons", ())
            return Written(failed is None, found=reasons[0].get("Item") or None if reasons else None)
        if condition is None:
            self._again("UpdateItem", TableName=table, Key=key, UpdateExpression=expression, **extra)
            return Written(True)
        extra["ExpressionAttributeNames"] = {**extra.get("ExpressionAttributeNames", {}), "#resilient_mark": self._mark}
        mark = {":resilient_mark": {"S": mine}}
        extra["ExpressionAttributeValues"] = {**extra.get("ExpressionAttributeValues", {}), **mark}
        return self._if("UpdateItem", mine, TableName=table, Key=key, UpdateExpression=_marked(expression), **extra)

    def delete(self, table: str, key: Item) -> None:
        """Delete one item; one that is not there counts as deleted."""
        self._requests("DeleteItem", TableName=table, Key=key)

    def transact(self, writes: Sequence[Mapping[str, Any]], *, token: str | None = None) -> Transacted:
        """Carry out all writes or none.

        Args:
            writes: As `TransactWriteItems` takes them, 1 to 100.
            token: With the same one the same writes are carried out once in ten minutes. Give one that outlives this
                call if you repeat it yourself; by default one is made for all attempts of this call.

        Raises:
            OptionError: There are no writes, or more than 100: `write_in_parts` takes any number. Or the token is too
                long.
        """
        checks = Checks("DynamoDb.transact")
        cure = "Use write_in_parts(): it is atomic in each part, and a repetition goes on where it stopped."
        checks.that(0 < len(writes) <= MOST_IN_TRANSACTION, "writes", "1 to 100 writes", len(writes), cure)
        if token is not None:
            checks.that(0 < len(token) <= _LONGEST_TOKEN, "token", "1 to 36 characters", len(token), "A UUID fits.")
        checks.done()
        failed = self._transact(writes, token or uuid.uuid4().hex)
        return Transacted(True) if failed is None else Transacted(False, cancellation_codes(failed))

    def _transact(self, writes: Sequence[Mapping[str, Any]], token: str) -> Exception | None:
        """Carry them out; the error that has the reasons if a condition failed."""
        try:
            self._requests("TransactWriteItems", TransactItems=list(writes), ClientRequestToken=token)
        except Exception as error:
            fault = classify_aws(error)
            if fault is None or fault.kind is not Kind.condition or not cancellation_codes(error):
                raise
            return error
        return None

    def write_in_parts(
        self, writes: Sequence[Mapping[str, Any]], *, operation_id: str, progress: str, key: str = "id"
    ) -> Parts:
        """Carry out any number of writes as transactions, each of which notes the progress together with its writes.

        Each part is atomic; the whole is not: readers that need it whole look at the progress item first, whose members
        `done` and `parts` are equal once it is. A repetition with the same id goes on with the first part that is not
        done, whoever repeats it and whenever, and carries nothing out twice. Who deletes the progress item has
        the whole carried out anew.

        Args:
            writes: As `TransactWriteItems` takes them.
            operation_id: Names the logical write.
            progress: Table with one item for each logical write.
            key: Partition key of that table, a string.

        Raises:
            DifferentWritesError: The id stands for other writes.
        """
        parts = _split(writes)
        fingerprint = hashlib.sha256(_canonical(list(writes)).encode()).hexdigest()
        done = self._parts_done(progress, key, operation_id, fingerprint)
        while done < len(parts):
            note = _progress(progress, key, operation_id, fingerprint, done, len(parts))
            # With a token of this call's. The note's condition keeps others from repeating a part; a token of the
            # operation's would have the service say "done" for ten minutes, whatever was deleted meanwhile.
            result = self.transact([*parts[done], note])
            if result.applied:
                done += 1
                continue
            now = self._parts_done(progress, key, operation_id, fingerprint)
            if now == done:  # not the progress but a condition of the writes themselves
                return Parts(done, len(parts), result.reasons[:-1])
            done = now  # somebody else has gone on with it, or has deleted its progress
        return Parts(done, len(parts))

    def get_many(self, table: str, keys: Sequence[Item]) -> tuple[Item | None, ...]:
        """The items of these keys as last written, in their order; None for one that is not there.

        Raises:
            UnfinishedBatchError: The service keeps leaving keys unread; `left` has them, `results` what was read.
        """
        found: dict[str, Item] = {}
        once = {_canonical(key): key for key in keys}  # the service refuses a key that stands twice in one batch

        def send(batch: list[Item]) -> list[Item]:
            wanted = {table: {"Keys": batch, "ConsistentRead": True}}
            answer = self._requests("BatchGetItem", RequestItems=wanted)
            for item in answer["Responses"].get(table, ()):
                found[_canonical({name: item[name] for name in batch[0]})] = item
            rest: list[Item] = answer["UnprocessedKeys"].get(table, {}).get("Keys", [])
            return rest

        left = send_all(once.values(), send, most=_MOST_READ)
        if left:
            done = len(once) - len(left)
            read = tuple(found.values())
            raise UnfinishedBatchError("dynamodb.BatchGetItem", left, done, read, fault=left.fault) from left.error
        return tuple(found.get(_canonical(key)) for key in keys)

    def write_many(self, table: str, *, puts: Iterable[Item] = (), deletes: Iterable[Item] = ()) -> int:
        """Put and delete items, each by itself: nothing is atomic but the single item, and conditions are not possible.

        Args:
            table: Its name.
            puts: Whole items.
            deletes: Keys. No key may stand among them and the items' own, or twice.

        Returns:
            How many were written.

        Raises:
            UnfinishedBatchError: The service keeps leaving entries undone; `left` has them.
        """
        entries = [{"PutRequest": {"Item": item}} for item in puts]
        entries += [{"DeleteRequest": {"Key": key}} for key in deletes]

        def send(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
            answer = self._requests("BatchWriteItem", RequestItems={table: batch})
            rest: list[dict[str, Any]] = answer["UnprocessedItems"].get(table, [])
            return rest

        left = send_all(entries, send, most=_MOST_WRITTEN)
        if left:
            done = len(entries) - len(left)
            raise UnfinishedBatchError("dynamodb.BatchWriteItem", left, done, fault=left.fault) from left.error
        return len(entries)

    def scan(self, table: str) -> Iterator[Item]:
        """All items of a table, page by page; for reports."""
        start: Item | None = None
        while True:
            extra = {} if start is None else {"ExclusiveStartKey": start}
            page = self._requests("Scan", TableName=table, ConsistentRead=True, **extra)
            yield from page["Items"]
            start = page.get("LastEvaluatedKey")
            if not start:
                return

    def _again(self, operation: str, **parameters: Any) -> None:
        """A write that may be repeated here: it sets what it sets, and under a condition it carries its mark."""
        self._requests.call(operation, parameters, lambda answer: None, idempotent=True)

    def _if(self, operation: str, mine: str, **parameters: Any) -> Written:
        try:
            self._again(operation, ReturnValuesOnConditionCheckFailure="ALL_OLD", **parameters)
        except Exception as error:
            fault = classify_aws(error)
            if fault is None or fault.kind is not Kind.condition:
                raise
            found: Item | None = (getattr(error, "response", None) or {}).get("Item")
            if found is not None and found.get(self._mark) == {"S": mine}:
                return Written(True, repeated=True)
            return Written(False, found=found)
        return Written(True)

    def _parts_done(self, table: str, key: str, operation_id: str, fingerprint: str) -> int:
        item = self.get(table, {key: {"S": operation_id}})
        if item is None:
            return 0
        if item.get("fingerprint") != {"S": fingerprint}:
            raise DifferentWritesError
        return int(item["done"]["N"])


class AsyncDynamoDb(AsyncFace[DynamoDb]):
    """`DynamoDb` for async code; `scan` is the sync one's, in a thread of your own."""

    get = threaded(DynamoDb.get)
    put = threaded(DynamoDb.put)
    update = threaded(DynamoDb.update)
    delete = threaded(DynamoDb.delete)
    transact = threaded(DynamoDb.transact)
    write_in_parts = threaded(DynamoDb.write_in_parts)
    get_many = threaded(DynamoDb.get_many)
    write_many = threaded(DynamoDb.write_many)


def _expressions(
    condition: str | None, names: Mapping[str, str] | None, values: Mapping[str, Any] | None
) -> dict[str, Any]:
    extra: dict[str, Any] = {} if condition is None else {"ConditionExpression": condition}
    if names:
        extra["ExpressionAttributeNames"] = dict(names)
    if values:
        extra["ExpressionAttributeValues"] = dict(values)
    return extra


def _marked(expression: str) -> str:
    """The update expression, writing the mark as well."""
    assignment = "SET #resilient_mark = :resilient_mark"
    marked, found = _SET.subn(f"{assignment}, ", expression, count=1)
    return marked if found else f"{assignment} {expression}"


def _split(writes: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Parts that fit into one transaction each, with room for the progress. The same writes give the same parts."""
    parts: list[list[Mapping[str, Any]]] = []
    room = 0
    for write in writes:
        size = len(_canonical(write))
        if not parts or len(parts[-1]) >= MOST_IN_TRANSACTION - 1 or size > room:
            parts.append([])
            room = _MOST_BYTES
        parts[-1].append(write)
        room -= size
    return parts


def _progress(table: str, key: str, operation_id: str, fingerprint: str, done: int, parts: int) -> dict[str, Any]:
    """The write that notes part `done` (from 0) as carried out, if it is the next one."""
    if done == 0:
        item: Item = {
            key: {"S": operation_id},
            "done": {"N": "1"},
            "parts": {"N": str(parts)},
            "fingerprint": {"S": fingerprint},
            "v": {"N": "1"},
        }
        return {
            "Put": {
                "TableName": table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(#key)",
                "ExpressionAttributeNames": {"#key": key},
            }
        }
    return {
        "Update": {
            "TableName": table,
            "Key": {key: {"S": operation_id}},
            "UpdateExpression": "SET #done = :next",
            "ConditionExpression": "#done = :done",
            "ExpressionAttributeNames": {"#done": "done"},
            "ExpressionAttributeValues": {":done": {"N": str(done)}, ":next": {"N": str(done + 1)}},
        }
    }


def _canonical(value: object) -> str:
    """A text that is equal for equal items: members in order, numbers as DynamoDB compares them."""

    def tidy(one: object) -> object:
        if isinstance(one, Mapping):
            if len(one) == 1 and isinstance(one.get("N"), str):
                number = Decimal(one["N"])
                # All its digits: DynamoDB has 38, and the context of this thread may have fewer.
                return {"N": str(number.normalize(Context(prec=len(number.as_tuple().digits) or 1)) if number else 0)}
            return {name: tidy(member) for name, member in one.items()}
        if isinstance(one, (list, tuple)):
            return [tidy(member) for member in one]
        return one.hex() if isinstance(one, (bytes, bytearray)) else one

    return json.dumps(tidy(value), sort_keys=True, default=str)
