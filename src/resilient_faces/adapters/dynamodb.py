"""Amazon DynamoDB: items by key, conditional updates, and transactions whose token outlives a retry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Item: TypeAlias = "dict[str, Any]"  # in DynamoDB's own notation: {"id": {"S": "a"}}


class DynamoDb:
    """The operations in use, one request a call, on a boto3 client for dynamodb that tries once."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, table: str, key: Item) -> Item | None:
        """The item as last written, or None."""
        item: Item | None = self._client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        return item

    def put(
        self, table: str, item: Item, *, condition: str | None = None, names: Mapping[str, str] | None = None
    ) -> None:
        """Write one item; with a condition, only if it holds."""
        extra: dict[str, Any] = {} if condition is None else {"ConditionExpression": condition}
        if names:
            extra["ExpressionAttributeNames"] = dict(names)
        self._client.put_item(TableName=table, Item=item, **extra)

    def update(
        self,
        table: str,
        key: Item,
        expression: str,
        *,
        condition: str,
        names: Mapping[str, str],
        values: Mapping[str, Any],
    ) -> None:
        """Set members of one item if the condition holds. Only fixed values, so that a repetition changes nothing."""
        self._client.update_item(
            TableName=table,
            Key=key,
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeNames=dict(names),
            ExpressionAttributeValues=dict(values),
        )

    def transact(self, writes: Sequence[Mapping[str, Any]], *, token: str) -> None:
        """Carry out all writes or none.

        Args:
            writes: As `TransactWriteItems` takes them, at most 100.
            token: Made once, outside the retry loop: with the same token the writes are carried out once.
        """
        self._client.transact_write_items(TransactItems=list(writes), ClientRequestToken=token)

    def scan(self, table: str) -> Iterator[Item]:
        """All items of a table, page by page; for reports."""
        start: Item | None = None
        while True:
            extra = {} if start is None else {"ExclusiveStartKey": start}
            page = self._client.scan(TableName=table, ConsistentRead=True, **extra)
            yield from page["Items"]
            start = page.get("LastEvaluatedKey")
            if not start:
                return
