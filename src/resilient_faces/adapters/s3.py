"""Amazon S3: get with a check of the whole body, and put."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Final

from resilient_faces.adapters.aws import DamagedAnswerError

_MD5_TAG: Final = re.compile(r"[0-9a-f]{32}")


class S3:
    """Objects of one bucket, one request a call, on a boto3 client for s3 that tries once."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def get(self, key: str) -> bytes:
        """The whole object.

        A missing one raises the SDK's NoSuchKey, which is classified as not found.

        Raises:
            DamagedAnswerError: The body is shorter than announced or does not fit its checksum.
        """
        answer = self._client.get_object(Bucket=self._bucket, Key=key)
        with answer["Body"] as stream:
            data: bytes = stream.read()
        length = answer.get("ContentLength")
        if length is not None and int(length) != len(data):
            raise DamagedAnswerError("s3.GetObject", f"{len(data)} bytes instead of {length}")
        tag = str(answer.get("ETag", "")).strip('"')
        if not tag:
            raise DamagedAnswerError("s3.GetObject", "ETag missing")
        plain = "ServerSideEncryption" not in answer or answer["ServerSideEncryption"] == "AES256"
        if plain and _MD5_TAG.fullmatch(tag) and tag != _md5(data).hexdigest():
            raise DamagedAnswerError("s3.GetObject", "the checksum is wrong")
        return data

    def put(self, key: str, data: bytes, content_type: str = "image/jpeg") -> None:
        """Store the whole object; the store compares its checksum."""
        self._client.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=data,
            ContentType=content_type,
            ContentMD5=base64.b64encode(_md5(data).digest()).decode(),
        )


def _md5(data: bytes) -> Any:
    return hashlib.md5(
        data, usedforsecurity=False
    )  # the store's own choice; it guards against damage, not against people
