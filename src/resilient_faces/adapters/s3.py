"""Amazon S3: get with a check of the whole body, put, put under a condition, copy.

A get is one thing with the reading of its body: a body that breaks off is got anew. Whether a condition held is an
answer, not an error.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resilient_faces._core.options import Checks
from resilient_faces.adapters._aws_requests import check_client
from resilient_faces.adapters.aws import AsyncFace, DamagedAnswerError, Requests, classify_aws, threaded
from resilient_faces.faults import Kind

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from resilient_faces.adapters._aws_requests import Guarding

__all__ = ["S3", "AsyncS3", "ObjectInfo", "Stored"]

_MD5_TAG: Final = re.compile(r"[0-9a-f]{32}")
_MARK: Final = "operation-id"  # in the object's own metadata


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without its body. `size` is in bytes."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a put under a condition.

    Attributes:
        applied: The object is stored.
        repeated: An earlier attempt had stored it already; its answer had been lost.
        etag: Of the object that is there now; None if the condition failed and there is none.
    """

    applied: bool
    repeated: bool = False
    etag: str | None = None


class S3:
    """Objects of one bucket, each request under its guard.

    Args:
        client: A boto3 client for s3 that tries once (`adapters.aws.connect`).
        bucket: Its name.
        options: The guards, as `Requests` takes them.
    """

    def __init__(self, client: Any, bucket: str, **options: Unpack[Guarding]) -> None:
        checks = Checks("S3")
        check_client(checks, client, "s3")
        checks.that(isinstance(bucket, str) and bucket != "", "bucket", "the name of a bucket", bucket)
        checks.done()
        self._requests = Requests(client, **options)
        self._bucket = bucket

    def get(self, key: str) -> bytes:
        """The whole object.

        A missing one raises the SDK's NoSuchKey, which is classified as not found and never repeated.

        Raises:
            DamagedAnswerError: The body is shorter than announced or does not fit its checksum, in every attempt.
        """
        return self._requests.call("GetObject", {"Bucket": self._bucket, "Key": key}, _whole)

    def head(self, key: str) -> ObjectInfo | None:
        """Size and ETag of an object; None if it is not there."""
        answer = self._head(key)
        return None if answer is None else ObjectInfo(int(answer["ContentLength"]), _tag(answer))

    def put(self, key: str, data: bytes, content_type: str = "image/jpeg") -> str:
        """Store the whole object; the store compares its checksum. Returns the ETag.

        In a versioned bucket a put that is repeated after a lost answer leaves one version more.
        """
        answer = self._requests("PutObject", **self._object(key, data, content_type))
        return _tag(answer)

    def put_if(
        self,
        key: str,
        data: bytes,
        *,
        etag: str | None = None,
        content_type: str = "image/jpeg",
        operation_id: str | None = None,
    ) -> Stored:
        """Store the object if there is none of that key, or only the one with this ETag.

        The object's metadata carry the id of this call, by which a repetition after a lost answer knows its own object
        again.

        Args:
            key: Of the object.
            data: The whole object.
            etag: Replace this one; None to store only where nothing is.
            content_type: Of the object.
            operation_id: The same for every repetition of this put; by default one for all attempts of this call.
        """
        mine = operation_id or uuid.uuid4().hex
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        parameters = {**self._object(key, data, content_type), **condition, "Metadata": {_MARK: mine}}
        try:
            # May be repeated, whatever the condition: what is there then tells whose it is.
            etag = self._requests.call("PutObject", parameters, _tag, idempotent=True)
        except Exception as error:
            fault = classify_aws(error)
            # With IfMatch an object that is not there is no error of ours either.
            if fault is None or fault.kind not in (Kind.condition, Kind.not_found) or fault.code == "NoSuchBucket":
                raise
        else:
            return Stored(True, etag=etag)
        there = self._head(key)
        if there is None:
            return Stored(False)
        own = (there.get("Metadata") or {}).get(_MARK) == mine
        return Stored(own, repeated=own, etag=_tag(there))

    def copy(self, source: str, key: str, *, bucket: str | None = None) -> str:
        """Copy an object of this bucket, or of another one, to `key`. Returns the copy's ETag.

        A copy can fail after it has answered 200: the error is in the body then, and is raised like any other.

        Raises:
            DamagedAnswerError: The answer does not say that there is a copy, in every attempt.
        """
        parameters = {
            "Bucket": self._bucket,
            "Key": key,
            "CopySource": {"Bucket": bucket or self._bucket, "Key": source},
        }
        return self._requests.call("CopyObject", parameters, _copied)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there counts as deleted."""
        self._requests("DeleteObject", Bucket=self._bucket, Key=key)

    def _object(self, key: str, data: bytes, content_type: str) -> dict[str, Any]:
        checks = Checks("S3.put")
        checks.that(isinstance(data, (bytes, bytearray)), "data", "bytes", type(data).__name__)
        checks.done()
        return {
            "Bucket": self._bucket,
            "Key": key,
            "Body": data,
            "ContentType": content_type,
            "ContentMD5": base64.b64encode(_md5(data).digest()).decode(),
        }

    def _head(self, key: str) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = self._requests("HeadObject", Bucket=self._bucket, Key=key)
        except Exception as error:
            fault = classify_aws(error)
            if fault is None or fault.kind is not Kind.not_found:
                raise
            return None
        return answer


class AsyncS3(AsyncFace[S3]):
    """`S3` for async code."""

    get = threaded(S3.get)
    head = threaded(S3.head)
    put = threaded(S3.put)
    put_if = threaded(S3.put_if)
    copy = threaded(S3.copy)
    delete = threaded(S3.delete)


def _whole(answer: Mapping[str, Any]) -> bytes:
    """The body, if it is the one that was announced."""
    with answer["Body"] as stream:
        data: bytes = stream.read()
    length = answer.get("ContentLength")
    if length is not None and int(length) != len(data):
        raise DamagedAnswerError("s3.GetObject", f"{len(data)} bytes instead of {length}")
    tag = _tag(answer).strip('"')
    if not tag:
        raise DamagedAnswerError("s3.GetObject", "ETag missing")
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256"  # with keys of KMS the tag is no checksum
    if plain and _MD5_TAG.fullmatch(tag) and tag != _md5(data).hexdigest():
        raise DamagedAnswerError("s3.GetObject", "the checksum is wrong")
    return data


def _copied(answer: Mapping[str, Any]) -> str:
    tag = _tag(answer["CopyObjectResult"])
    if not tag:
        raise DamagedAnswerError("s3.CopyObject", "ETag missing")
    return tag


def _tag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag") or "")


def _md5(data: bytes) -> Any:
    # The store's own choice; it guards against damage, not against people.
    return hashlib.md5(data, usedforsecurity=False)
