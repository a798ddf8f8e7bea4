"""Amazon SNS: publish, with an id by which subscribers tell a repeated message from a new one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.context import REQUEST
from resilient_faces._core.options import Checks
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AsyncFace, Requests, threaded

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = ["AsyncSns", "Published", "Sns"]

MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """What was published.

    Attributes:
        id: Ours, the same in every copy of the message: attribute `id`.
        message_id: The topic's name for the copy that was answered.
    """

    id: str
    message_id: str


class Sns:
    """One topic, each request under its guard.

    A publish whose answer is lost is repeated, so a message can come twice: SNS offers a plain topic no way to avoid
    it. Both copies carry the same attribute `id`. A FIFO topic drops the second copy within five minutes.

    Args:
        client: A boto3 client for sns that tries once (`adapters.aws.connect`).
        topic: Its ARN.
        options: The guards, as `Requests` takes them.
    """

    def __init__(self, client: Any, topic: str, **options: Unpack[Guarding]) -> None:
        checks = Checks("Sns")
        check_client(checks, client, "sns")
        checks.that(isinstance(topic, str) and topic.startswith("arn:"), "topic", "the ARN of a topic", topic)
        checks.done()
        self._requests = Requests(client, **options)
        self._topic = topic

    def publish(
        self,
        message: str,
        *,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        id: str | None = None,
        group: str | None = None,
    ) -> Published:
        """Publish one message. It carries the id of the request in force, so keep identities out of that.

        Args:
            message: Its text; 256 KB at most.
            subject: Of e-mails: at most 100 printable ASCII characters.
            attributes: For filter policies.
            id: The same for every repetition of this message; by default one for all attempts of this call.
            group: Messages of a FIFO topic with the same group stay in order.

        Raises:
            OptionError: Message, subject or group are not what the topic takes.
        """
        fifo = self._topic.endswith(".fifo")
        checks = Checks("Sns.publish")
        if checks.that(isinstance(message, str), "message", "a string", type(message).__name__):
            size = len(message.encode())
            checks.that(0 < size <= MOST_BYTES, "message", "1 byte to 256 KB", size, "Put it into S3 and send its key.")
        if subject is not None:
            good = 0 < len(subject) <= 100 and subject.isascii() and subject.isprintable()
            checks.that(good, "subject", "1 to 100 printable ASCII characters", len(subject))
        checks.that(fifo is (group is not None), "group", "given for a FIFO topic and for no other", group)
        checks.done()
        mine = id or uuid.uuid4().hex
        told = {**(attributes or {}), "id": mine}
        if REQUEST.get().id:
            told["requestId"] = REQUEST.get().id
        extra: dict[str, Any] = {} if subject is None else {"Subject": subject}
        if group is not None:
            extra.update(MessageGroupId=group, MessageDeduplicationId=mine)
        parameters = {
            "TopicArn": self._topic,
            "Message": message,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in told.items() if value
            },
            **extra,
        }
        # May be repeated: by the id a subscriber tells the copies.
        answer = self._requests.call("Publish", parameters, dict, idempotent=True)
        return Published(mine, str(answer["MessageId"]))


class AsyncSns(AsyncFace[Sns]):
    """`Sns` for async code."""

    publish = threaded(Sns.publish)
