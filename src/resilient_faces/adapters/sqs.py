"""Amazon SQS: receive, acknowledge, give back for later, and set aside as dead.

A dead letter is sent before its message is deleted: a crash between the two leaves a message twice, never none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from resilient_faces.adapters.aws import DamagedAnswerError, classify_aws

MAX_VISIBILITY: Final = 43_200  # s


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it was handed out.

    Attributes:
        body: Its text; holds keys, never data.
        receipt: What acknowledges this delivery.
        count: How often the message was handed out, this time included.
        message_id: The queue's name for it.
    """

    body: str
    receipt: str
    count: int
    message_id: str


class Sqs:
    """One queue and its dead-letter queue, one request a call, on a boto3 client for sqs that tries once."""

    def __init__(self, client: Any, queue_url: str, dead_letter_url: str) -> None:
        self._client = client
        self._queue = queue_url
        self._dead_letters = dead_letter_url

    def send(self, body: str) -> None:
        """Put a message in. Repeated after a lost answer it is there twice: readers must be idempotent."""
        self._send(self._queue, body, {})

    def receive(self, most: int, *, wait: int, visibility: int) -> tuple[Delivery, ...]:
        """Take up to `most` messages, 10 at most; wait so many seconds for the first, hide them for `visibility`."""
        answer = self._client.receive_message(
            QueueUrl=self._queue,
            MaxNumberOfMessages=max(1, min(10, most)),
            WaitTimeSeconds=wait,
            VisibilityTimeout=visibility,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return tuple(
            Delivery(
                body=str(message["Body"]),
                receipt=str(message["ReceiptHandle"]),
                count=int((message.get("Attributes") or {}).get("ApproximateReceiveCount", 1)),
                message_id=str(message["MessageId"]),
            )
            for message in answer.get("Messages") or ()
        )

    def ack(self, delivery: Delivery) -> None:
        """The work is done: delete the message. One that is gone, or was handed to somebody else, is let go."""
        try:
            self._client.delete_message(QueueUrl=self._queue, ReceiptHandle=delivery.receipt)
        except Exception as error:
            if not _lost(error):
                raise

    def retry(self, delivery: Delivery, delay: float) -> None:
        """Hand the message out again after `delay` seconds; one that somebody else has by now is theirs."""
        seconds = max(0, min(MAX_VISIBILITY, round(delay)))
        try:
            self._client.change_message_visibility(
                QueueUrl=self._queue, ReceiptHandle=delivery.receipt, VisibilityTimeout=seconds
            )
        except Exception as error:
            if not _lost(error):
                raise

    def send_dead(self, delivery: Delivery, reason: str) -> None:
        """Put a copy into the dead-letter queue, with the reason; `ack` comes after it."""
        attributes = {"Reason": {"DataType": "String", "StringValue": reason[:250]}}
        self._send(self._dead_letters, delivery.body, attributes)

    def _send(self, url: str, body: str, attributes: dict[str, Any]) -> None:
        extra = {"MessageAttributes": attributes} if attributes else {}
        answer = self._client.send_message(QueueUrl=url, MessageBody=body, **extra)
        if answer["MD5OfMessageBody"] != hashlib.md5(body.encode(), usedforsecurity=False).hexdigest():
            raise DamagedAnswerError("sqs.SendMessage", "the queue stored something else")


def _lost(error: BaseException) -> bool:
    """Whether the receipt is no longer good: the message was deleted, or handed out again when its time was over."""
    fault = classify_aws(error)
    return fault is not None and fault.code in ("ReceiptHandleIsInvalid", "MessageNotInflight")
