"""What every AWS adapter shares: clients that try once, errors classified as data, requests under their guards.

    client = connect("rekognition", region="us-west-2")
    protect(boto3.client("s3", config=...), guard(retry(), circuit_breaker("s3")))

`classify_aws` and the tables need no botocore.
"""

from __future__ import annotations

from typing import Protocol

from resilient_faces._core.options import Checks
from resilient_faces.adapters._aws_clients import (
    IDLE,
    LocalEndpoint,
    UnrepeatableBodyError,
    connect,
    inner_attempts,
    protect,
    refuse_damaged,
    unprotect,
)
from resilient_faces.adapters._aws_costs import CAP_REACHED, PRICES, CostMeter, Spending
from resilient_faces.adapters._aws_errors import (
    AWS,
    BY_SERVICE,
    BY_STATUS,
    NO_FACE,
    NOT_THERE,
    REFRESHABLE,
    SHARED,
    TRANSACTION_REASONS,
    TRANSPORT,
    AwsError,
    DamagedAnswerError,
    Row,
    cancellation_codes,
    classify_aws,
)
from resilient_faces.adapters._aws_operations import OPERATIONS, Operation, Rate, operation_of
from resilient_faces.adapters._aws_requests import UNGUARDED, AsyncFace, Requests, threaded
from resilient_faces.errors import DeadlineExceededError
from resilient_faces.limits import Deadline

__all__ = [
    "AWS",
    "BY_SERVICE",
    "BY_STATUS",
    "CAP_REACHED",
    "IDLE",
    "NOT_THERE",
    "NO_FACE",
    "OPERATIONS",
    "PRICES",
    "REFRESHABLE",
    "SHARED",
    "TRANSACTION_REASONS",
    "TRANSPORT",
    "UNGUARDED",
    "AsyncFace",
    "AwsError",
    "CostMeter",
    "DamagedAnswerError",
    "LocalEndpoint",
    "Operation",
    "Rate",
    "Requests",
    "Row",
    "Spending",
    "UnrepeatableBodyError",
    "cancellation_codes",
    "classify_aws",
    "connect",
    "inner_attempts",
    "lambda_deadline",
    "operation_of",
    "protect",
    "refuse_damaged",
    "threaded",
    "unprotect",
]


class LambdaContext(Protocol):
    """As much of Lambda's context as is needed here."""

    def get_remaining_time_in_millis(self) -> int: ...


def lambda_deadline(context: LambdaContext, *, margin: float = 0.5) -> Deadline:
    """The deadline of a Lambda invocation, for a `with` block around the handler's work.

    Args:
        context: Lambda's second argument to the handler.
        margin: Seconds kept back, to answer and to log before Lambda kills the invocation.

    Raises:
        DeadlineExceededError: No more than the margin is left.
        OptionError: The margin is no number of seconds.
    """
    checks = Checks("lambda_deadline")
    checks.seconds("margin", margin, above=False)
    checks.done()
    left = context.get_remaining_time_in_millis() / 1000.0 - margin
    if left <= 0.0:
        raise DeadlineExceededError("lambda", None)
    return Deadline(left)
