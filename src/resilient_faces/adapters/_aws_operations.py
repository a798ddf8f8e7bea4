"""What is known of each operation that the adapters use, as data: whether it may be repeated, and what it must answer.

An operation that is not here is taken as idempotent if its name says that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Rate:
    """The service's own default quota of one operation, an account and region.

    Attributes:
        large: Calls a second in the regions named in `regions`.
        elsewhere: Calls a second in all others.
        regions: The regions with the larger quota.
    """

    large: float
    elsewhere: float
    regions: frozenset[str] = frozenset({"us-east-1", "us-west-2", "eu-west-1"})

    def of(self, region: str) -> float:
        """Calls a second in this region."""
        return self.large if region in self.regions else self.elsewhere


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of one operation.

    Attributes:
        idempotent: A repetition changes nothing, so a retry of an unknown outcome is safe.
        mandatory: Members without which a 200 is no answer; `Outer.Inner` for one inside of another.
        token: Parameter that makes a repetition safe. It is made once, before the first attempt.
        rate: The service's default quota; None if there is none worth keeping to.
        read_timeout: Seconds between two bytes of the answer at most.
        known: Whether the operation has a row; without one its name decides, and a policy may claim more.
        only_with: Parameters without which a repetition does change something.
        never_with: Parameters with which it does, or is answered as if somebody else had been first. Where an adapter
            knows its own work again, it says so itself.
    """

    idempotent: bool
    mandatory: tuple[str, ...] = ()
    token: str | None = None
    rate: Rate | None = None
    read_timeout: float = 10.0
    known: bool = True
    only_with: tuple[str, ...] = ()
    never_with: tuple[str, ...] = ()

    def may_repeat(self, parameters: Mapping[str, object]) -> bool:
        """Whether a call with these parameters may be made twice; a token, where there is one, comes on top."""
        return (
            self.idempotent
            and all(parameters.get(name) is not None for name in self.only_with)
            and all(parameters.get(name) is None for name in self.never_with)
        )


_CONDITIONS: Final = ("ConditionExpression", "Expected")
_MATCHES: Final = ("IfNoneMatch", "IfMatch")
_COPY_ID: Final = ("MessageDeduplicationId",)  # of FIFO queues and topics
_TOKEN: Final = "ClientRequestToken"  # noqa: S105  # a name, and no secret
_IMAGES: Final = Rate(100.0, 25.0)
_COLLECTION: Final = Rate(50.0, 5.0)
_FEW: Final = Rate(5.0, 5.0)
_LIVENESS: Final = Rate(25.0, 5.0, frozenset({"us-east-1", "us-west-2"}))

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        # An existing collection counts as made, a missing one as deleted.
        "rekognition.CreateCollection": Operation(idempotent=True, mandatory=("CollectionArn",), rate=_FEW),
        "rekognition.DeleteCollection": Operation(idempotent=True, mandatory=("StatusCode",), rate=_FEW),
        "rekognition.DescribeCollection": Operation(idempotent=True, mandatory=("FaceModelVersion",), rate=_FEW),
        "rekognition.ListCollections": Operation(idempotent=True, mandatory=("CollectionIds",), rate=_FEW),
        # No second face for the same image, collection and ExternalImageId, which the adapter always sends.
        "rekognition.IndexFaces": Operation(
            idempotent=True,
            mandatory=("FaceRecords", "FaceModelVersion"),
            rate=_COLLECTION,
            only_with=("ExternalImageId",),
        ),
        "rekognition.ListFaces": Operation(idempotent=True, mandatory=("Faces",), rate=_COLLECTION),
        "rekognition.DeleteFaces": Operation(idempotent=True, mandatory=("DeletedFaces",), rate=_FEW),
        "rekognition.SearchFacesByImage": Operation(
            idempotent=True, mandatory=("FaceMatches", "FaceModelVersion"), rate=_COLLECTION
        ),
        "rekognition.SearchFaces": Operation(
            idempotent=True, mandatory=("FaceMatches", "FaceModelVersion"), rate=_COLLECTION
        ),
        "rekognition.CompareFaces": Operation(idempotent=True, mandatory=("SourceImageFace",), rate=_IMAGES),
        "rekognition.DetectFaces": Operation(idempotent=True, mandatory=("FaceDetails",), rate=_IMAGES),
        "rekognition.CreateFaceLivenessSession": Operation(
            idempotent=True, mandatory=("SessionId",), token=_TOKEN, rate=_LIVENESS
        ),
        "rekognition.GetFaceLivenessSessionResults": Operation(
            idempotent=True, mandatory=("SessionId", "Status"), rate=_LIVENESS
        ),
        "dynamodb.GetItem": Operation(idempotent=True),
        "dynamodb.PutItem": Operation(idempotent=True, never_with=_CONDITIONS),
        "dynamodb.UpdateItem": Operation(idempotent=False),  # what it changes may count on from the old value
        "dynamodb.DeleteItem": Operation(idempotent=True, never_with=_CONDITIONS),
        "dynamodb.TransactWriteItems": Operation(idempotent=True, token=_TOKEN),
        "dynamodb.BatchGetItem": Operation(idempotent=True, mandatory=("Responses", "UnprocessedKeys")),
        "dynamodb.BatchWriteItem": Operation(idempotent=True, mandatory=("UnprocessedItems",)),
        "dynamodb.Scan": Operation(idempotent=True, mandatory=("Items", "Count")),
        "s3.GetObject": Operation(idempotent=True, mandatory=("ETag",)),
        "s3.HeadObject": Operation(idempotent=True, mandatory=("ETag", "ContentLength")),
        "s3.PutObject": Operation(idempotent=True, mandatory=("ETag",), never_with=(*_MATCHES, "WriteOffsetBytes")),
        "s3.CopyObject": Operation(
            idempotent=True, mandatory=("CopyObjectResult.ETag",), read_timeout=60.0, never_with=_MATCHES
        ),
        "s3.DeleteObject": Operation(idempotent=True, never_with=_MATCHES),
        "s3.DeleteObjects": Operation(idempotent=True),
        # A part takes the place of the one with its number. A second upload would stay behind, and be paid for.
        "s3.CreateMultipartUpload": Operation(idempotent=False, mandatory=("UploadId",)),
        "s3.UploadPart": Operation(idempotent=True, mandatory=("ETag",)),
        "s3.UploadPartCopy": Operation(idempotent=True, mandatory=("CopyPartResult.ETag",), read_timeout=60.0),
        # A second one changes nothing. If the answer to the first was lost, NoSuchUpload says to look for the object.
        "s3.CompleteMultipartUpload": Operation(
            idempotent=True, mandatory=("ETag",), read_timeout=60.0, never_with=_MATCHES
        ),
        "s3.AbortMultipartUpload": Operation(idempotent=True),
        # A repeated send can be there twice. The adapters repeat it, because theirs carry an id that stays the same, by
        # which readers tell: a message twice is better than one that is lost.
        "sqs.SendMessage": Operation(idempotent=True, mandatory=("MessageId", "MD5OfMessageBody"), only_with=_COPY_ID),
        "sqs.SendMessageBatch": Operation(idempotent=False),
        # A lost answer hides its messages until their time is over: asking again at once would hide more.
        "sqs.ReceiveMessage": Operation(idempotent=False, read_timeout=25.0),
        "sqs.DeleteMessage": Operation(idempotent=True),
        "sqs.DeleteMessageBatch": Operation(idempotent=True),
        "sqs.ChangeMessageVisibility": Operation(idempotent=True),
        "sqs.GetQueueAttributes": Operation(idempotent=True, mandatory=("Attributes",)),
        "sns.Publish": Operation(idempotent=True, mandatory=("MessageId",), only_with=_COPY_ID),
        # It hands a task out, as a queue does, and may wait a minute for one.
        "stepfunctions.GetActivityTask": Operation(idempotent=False, read_timeout=65.0),
        # Nothing tells a repeated value from a second one: a gap is better than a false alarm.
        "cloudwatch.PutMetricData": Operation(idempotent=False),
    }
)
"""One row an operation, as `service.Operation`."""

SERVICE_OF: Final[Mapping[str, str]] = MappingProxyType(
    {name.partition(".")[2]: name.partition(".")[0] for name in OPERATIONS}
)
"""The service of an operation: botocore's errors name only the operation."""

_READS: Final = ("Get", "List", "Describe", "Head", "Search", "Detect", "Compare", "Scan", "Query", "BatchGet")
_STARTS: Final = ("DetectStack",)
"""Names that begin as those of reads do, and begin work: CloudFormation's search for drift."""


def operation_of(service: str, operation: str) -> Operation:
    """The row of an operation, or what its name tells: reading may be repeated, everything else may not."""
    found = OPERATIONS.get(f"{service}.{operation}")
    if found is not None:
        return found
    return Operation(idempotent=operation.startswith(_READS) and not operation.startswith(_STARTS), known=False)
