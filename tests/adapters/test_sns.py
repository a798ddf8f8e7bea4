"""SNS: what subscribers see of a message, its repetition included."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces import request
from resilient_faces.adapters.sns import Sns
from resilient_faces.errors import OptionError

ARN = "arn:aws:sns:us-west-2:000000000000:t"


def inbox(services: Any) -> tuple[str, str]:
    """A topic, and the URL of a queue that subscribes to it."""
    url = services.queue()
    topic = services.direct("sns").create_topic(Name=url.rpartition("/")[2])["TopicArn"]
    answer = services.direct("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    services.direct("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=answer["Attributes"]["QueueArn"])
    return topic, url


def arrived(services: Any, url: str) -> list[dict[str, Any]]:
    found = services.direct("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    return [json.loads(message["Body"]) for message in found.get("Messages", ())]


def test_both_copies_of_a_message_carry_one_id(services: Any) -> None:
    """The answer is lost, the publish is repeated; request and own attributes travel with it."""
    topic, url = inbox(services)
    services.lose("sns.Publish")
    with request("request-1"):
        done = Sns(services.through("sns"), topic).publish("alarm", subject="s", attributes={"severity": "high"})
    notices = arrived(services, url)
    told = [{name: value["Value"] for name, value in one["MessageAttributes"].items()} for one in notices]
    assert told == [{"severity": "high", "id": done.id, "requestId": "request-1"}] * 2
    assert {one["MessageId"] for one in notices} >= {done.message_id}


def test_a_fifo_topic_gets_our_id_for_its_own(local: Callable[..., Any], script: Callable[..., Any]) -> None:
    """So it drops the second copy."""
    client = local("sns")
    answer = b"<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>"
    sent = script(client, (200, answer))
    done = Sns(client, f"{ARN}.fifo").publish("x", group="g", id="mine")
    body = sent.sent[0].body
    text = body.decode() if isinstance(body, bytes) else str(body)
    assert "MessageDeduplicationId=mine" in text.replace("': '", "=")
    assert (done.id, done.message_id) == ("mine", "m")


@pytest.mark.parametrize(
    ("topic", "options", "named"),
    [
        (ARN, {"message": ""}, "message"),
        (ARN, {"message": "x" * 262_145}, "S3"),
        (ARN, {"message": "x", "subject": "a\nb"}, "subject"),
        (ARN, {"message": "x", "subject": "\u00e9"}, "subject"),
        (ARN, {"message": "x", "group": "g"}, "group"),
        (f"{ARN}.fifo", {"message": "x"}, "group"),
        ("alarms", {"message": "x"}, "ARN"),
    ],
)
def test_what_the_topic_would_refuse_is_not_sent(topic: str, options: dict[str, str], named: str) -> None:
    """Found out before, with a message that names the option."""
    with pytest.raises(OptionError, match=named):
        Sns(object(), topic).publish(**options)  # type: ignore[arg-type]
