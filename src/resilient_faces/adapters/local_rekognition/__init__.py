"""A Rekognition-compatible HTTP endpoint on the local recogniser, for machines without an account.

It speaks JSON 1.1 as the service does, so boto3, the AWS CLI and the JavaScript SDK work against it. Every image is
really decoded and really searched for faces; limits, quotas and error shapes are the service's own. What it answered
is on disk, if it was given a directory.

    resilient-faces rekognition --port 8091 --data DIR

Parts, from the ground up: `answers` (errors and parameters), `quotas`, `storage`, `images` (limits, faces, quality),
`liveness`, `service` (the operations), `server` (HTTP).
"""

from resilient_faces.adapters.local_rekognition.answers import ServiceError
from resilient_faces.adapters.local_rekognition.images import MAX_IMAGE_BYTES, MAX_OBJECT_BYTES, Objects
from resilient_faces.adapters.local_rekognition.quotas import Quota, Quotas
from resilient_faces.adapters.local_rekognition.server import RekognitionServer
from resilient_faces.adapters.local_rekognition.service import MODEL_VERSION, RekognitionService, subject_of
from resilient_faces.adapters.local_rekognition.storage import DataDirectoryError, Storage
from resilient_faces.telemetry.ledger import Ledger

__all__ = [
    "MAX_IMAGE_BYTES",
    "MAX_OBJECT_BYTES",
    "MODEL_VERSION",
    "DataDirectoryError",
    "Ledger",
    "Objects",
    "Quota",
    "Quotas",
    "RekognitionServer",
    "RekognitionService",
    "ServiceError",
    "Storage",
    "subject_of",
]
