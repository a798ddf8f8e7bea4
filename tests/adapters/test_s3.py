"""S3: whole bodies or none, and puts that know their own object again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_faces.adapters.aws import AWS, DamagedAnswerError
from resilient_faces.adapters.s3 import S3
from resilient_faces.errors import OptionError
from resilient_faces.faults import Kind
from resilient_faces.pipeline.presets import STORE

DATA = bytes(range(256)) * 64
TAG = '"5d41402abc4b2a76b9719d911017c592"'  # of b"hello"


@pytest.fixture
def bucket(services: Any) -> str:
    return str(services.bucket())


@pytest.fixture
def store(services: Any, bucket: str) -> S3:
    return S3(services.through("s3"), bucket)


@pytest.mark.parametrize("fault", ["truncated", "garbage", "503", "reset", "500", "throttle"])
def test_a_body_that_breaks_off_is_got_anew(services: Any, store: S3, fault: str) -> None:
    """Asking and reading are one attempt."""
    store.put("k", DATA)
    services.strike("s3.GetObject", fault)
    assert store.get("k") == DATA
    assert services.seen == ["PutObject", "GetObject", "GetObject"]


def test_a_body_that_always_breaks_off_is_an_integrity_fault(services: Any, store: S3) -> None:
    """Never half a picture, never an empty one."""
    store.put("k", DATA)
    services.strike("s3.GetObject", "truncated", 1, 2, 3)
    with pytest.raises(Exception, match=r"[Ii]ncomplete|bytes") as caught:
        store.get("k")
    assert AWS(caught.value).kind is Kind.integrity


def test_a_missing_object_is_permanent(services: Any, store: S3) -> None:
    """One request."""
    with pytest.raises(Exception, match="NoSuchKey") as caught:
        store.get("nothing")
    assert AWS(caught.value).kind is Kind.not_found
    assert services.seen == ["GetObject"]
    assert store.head("nothing") is None


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ETag": TAG, "Content-Length": "5"}, "checksum"),
        ({"Content-Length": "5"}, "ETag missing"),
        ({"ETag": TAG, "Content-Length": "9"}, "bytes|Incomplete"),
    ],
)
def test_a_body_that_does_not_fit_its_head_is_refused(
    local: Callable[..., Any], script: Callable[..., Any], headers: dict[str, str], reason: str
) -> None:
    """Changed on its way, without a head, or shorter than announced."""
    client = local("s3")
    script(client, (200, b"jello", headers))
    with pytest.raises(Exception, match=reason) as caught:
        S3(client, "b", retry=None).get("k")
    assert AWS(caught.value).kind is Kind.integrity


def test_a_tag_that_is_no_checksum_is_not_compared(local: Callable[..., Any], script: Callable[..., Any]) -> None:
    """With keys of KMS, or in several parts, the ETag is something else."""
    client = local("s3")
    encrypted = {"ETag": TAG, "x-amz-server-side-encryption": "aws:kms"}
    script(client, (200, b"jello", encrypted), (200, b"jello", {"ETag": '"abc-2"'}))
    assert [S3(client, "b").get("k") for _ in range(2)] == [b"jello", b"jello"]


def test_a_put_under_a_condition_knows_its_own_object(services: Any, store: S3) -> None:
    """The repetition is refused because the first one was carried out; the object says whose it is."""
    services.lose("s3.PutObject")
    done = store.put_if("k", DATA)
    assert (done.applied, done.repeated) == (True, True)
    assert services.seen == ["PutObject", "PutObject", "HeadObject"]
    assert store.get("k") == DATA


def test_a_replacement_knows_its_own_object(services: Any, store: S3) -> None:
    """Its own first attempt has changed the ETag that it asked for."""
    tag = store.put("k", b"old")
    services.lose("s3.PutObject")
    assert store.put_if("k", DATA, etag=tag).repeated
    stale = store.put_if("k", b"newer", etag=tag)
    assert (stale.applied, stale.etag) == (False, store.head("k").etag)  # type: ignore[union-attr]
    assert store.put_if("gone", b"x", etag=tag).applied is False


def test_somebody_elses_object_is_an_answer(services: Any, store: S3) -> None:
    """Even if it holds the same bytes."""
    store.put("k", DATA)
    assert not store.put_if("k", DATA).applied
    assert store.put_if("k", DATA, operation_id="op").applied is False


def test_a_bucket_that_is_not_there_is_no_failed_condition(services: Any) -> None:
    """It is raised."""
    with pytest.raises(Exception, match="NoSuchBucket"):
        S3(services.through("s3"), "not-a-bucket-of-mine").put_if("k", DATA, etag='"x"')


def test_a_copy_that_fails_after_its_200_is_judged_by_its_code(
    local: Callable[..., Any], script: Callable[..., Any], clock: Any
) -> None:
    """The SDK makes a 500 of it whatever the code: a refusal is not tried again, a request to slow down is."""
    client = local("s3")
    refused = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>m</Message></Error>"
    slow = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>m</Message></Error>"
    good = f"<?xml version='1.0'?><CopyObjectResult><ETag>{TAG}</ETag></CopyObjectResult>".encode()
    sent = script(client, (200, refused))
    with pytest.raises(Exception, match="AccessDenied") as caught:
        S3(client, "b").copy("a", "k")
    assert (AWS(caught.value).kind, len(sent.sent)) == (Kind.auth, 1)
    sent.replies[:] = [(200, slow), (200, good)]
    assert S3(client, "b").copy("a", "k") == TAG


@pytest.mark.parametrize("body", [b"", b"<CopyObjectResult></CopyObjectResult>"])
def test_an_empty_copy_is_no_copy(
    local: Callable[..., Any], script: Callable[..., Any], clock: Any, body: bytes
) -> None:
    """The SDK takes an empty 200 for a success, and one that says nothing of the copy."""
    client = local("s3")
    sent = script(client, (200, body))
    with pytest.raises(DamagedAnswerError, match="CopyObject"):
        S3(client, "b").copy("a", "k")
    assert len(sent.sent) == 3


def test_copies_and_deletions_may_be_repeated(services: Any, store: S3) -> None:
    """After a lost answer the outcome is the same; what is gone counts as deleted."""
    tag = store.put("a", DATA)
    services.lose("s3.CopyObject")
    assert store.copy("a", "b") == tag
    services.lose("s3.DeleteObject")
    store.delete("b")
    store.delete("b")
    assert store.head("b") is None
    info = store.head("a")
    assert info is not None
    assert (info.size, info.etag) == (len(DATA), tag)


def test_keys_and_bytes_stay_out_of_texts(services: Any, store: S3, caplog: pytest.LogCaptureFixture) -> None:
    """An error names the operation and the reason."""
    caplog.set_level("DEBUG", logger="resilient_faces")
    store.put("planted-key", b"planted-bytes")
    services.strike("s3.GetObject", "garbage", 1, 2, 3)
    with pytest.raises(DamagedAnswerError) as caught:
        store.get("planted-key")
    assert "planted" not in f"{caught.value!s}{caught.value!r}{caplog.text}"


def test_a_store_waits_as_long_as_it_is_told(local: Callable[..., Any], script: Callable[..., Any], clock: Any) -> None:
    """Two retries on throttling or a time-out, after 0.1 and 0.4 s: a factor of four; then the error comes out."""
    exceptions = pytest.importorskip("botocore.exceptions")
    client = local("s3")
    slow = (503, b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>m</Message></Error>")
    late = exceptions.ReadTimeoutError(endpoint_url="u")
    store = S3(client, "b", retry=STORE.retry)
    sent = script(client, slow, late, (200, b"", {"ETag": TAG}))
    assert store.put("k", b"hello") == TAG
    assert clock.slept == pytest.approx([0.1, 0.4])
    sent.replies[:] = [late]
    with pytest.raises(exceptions.ReadTimeoutError):
        store.put("k", b"hello")
    assert clock.slept == pytest.approx([0.1, 0.4, 0.1, 0.4])
    assert len(sent.sent) == 6


def test_the_bucket_is_checked() -> None:
    """Before anything is sent."""
    with pytest.raises(OptionError, match=r"S3\.bucket"):
        S3(object(), "")
