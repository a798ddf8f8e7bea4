"""Requests under their guards: what is repeated, what is shared, what it costs, and the same from async code."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_faces import circuits, remaining
from resilient_faces._core.runtime import RUNTIME, ManualRuntime
from resilient_faces.adapters._aws_accounts import account_of_key
from resilient_faces.adapters._aws_requests import limiters
from resilient_faces.adapters.aws import (
    CAP_REACHED,
    UNGUARDED,
    AsyncFace,
    CostMeter,
    DamagedAnswerError,
    Operation,
    Rate,
    Requests,
    operation_of,
    threaded,
)
from resilient_faces.adapters.cloudwatch import CloudWatch
from resilient_faces.adapters.dynamodb import DynamoDb
from resilient_faces.adapters.dynamodb_store import DynamoDbStore
from resilient_faces.adapters.rekognition import AsyncRekognition, Rekognition
from resilient_faces.adapters.s3 import S3
from resilient_faces.adapters.sns import Sns
from resilient_faces.adapters.sqs import Sqs
from resilient_faces.breaker import Breaker
from resilient_faces.errors import (
    CircuitOpenError,
    DuplicateNameError,
    OptionError,
    ResilienceWarning,
    UnknownOptionError,
)
from resilient_faces.limits import Deadline, RateLimiter
from resilient_faces.retry import Retry
from resilient_faces.testing.runtime import fresh

FACES = {"Faces": []}


def test_a_read_is_repeated_when_nobody_knows_what_became_of_it(
    local: Any, script: Any, failed: Any, clock: Any
) -> None:
    """A 500 of an idempotent operation is asked again."""
    client = local()
    seen = script(client, failed("InternalServerError", 500), (200, FACES))
    assert Requests(client)("ListFaces", CollectionId="c")["Faces"] == []
    assert len(seen.sent) == 2


@pytest.mark.parametrize("reply", ["500", "reset", "time-out", "damaged"])
def test_an_unknown_outcome_of_what_may_not_be_repeated_comes_out(
    local: Any, script: Any, failed: Any, clock: Any, reply: str
) -> None:
    """Nobody knows whether it was carried out, so one request is all."""
    from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

    client = local()
    what, raised = {
        "500": (failed("InternalServerError", 500), ClientError),
        "reset": (ConnectionClosedError(endpoint_url="u"), ConnectionClosedError),
        "time-out": (ReadTimeoutError(endpoint_url="u"), ReadTimeoutError),
        "damaged": ((200, b"<html>"), DamagedAnswerError),
    }[reply]
    seen = script(client, what)
    with pytest.raises(raised):
        Requests(client)("CreateUser", CollectionId="c", UserId="u", ClientRequestToken="t")
    assert len(seen.sent) == 1


@pytest.mark.parametrize("reply", ["throttled", "refused"])
def test_what_was_not_carried_out_is_repeated_whatever_it_does(
    local: Any, script: Any, failed: Any, clock: Any, reply: str
) -> None:
    """A throttled call and one that never connected did nothing."""
    from botocore.exceptions import EndpointConnectionError

    client = local()
    what = failed("ThrottlingException") if reply == "throttled" else EndpointConnectionError(endpoint_url="u")
    seen = script(client, what, (200, {}))
    Requests(client)("CreateUser", CollectionId="c", UserId="u", ClientRequestToken="t")
    assert len(seen.sent) == 2


def test_a_single_call_may_be_declared_safe(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """And another one of the same operation still may not."""
    client = local()
    requests = Requests(client)
    seen = script(client, failed("InternalServerError", 500), (200, {}), failed("InternalServerError", 500))
    given = {"CollectionId": "c", "UserId": "u", "ClientRequestToken": "t"}
    assert requests.call("CreateUser", given, lambda answer: "made", idempotent=True) == "made"
    assert len(seen.sent) == 2
    with pytest.raises(Exception, match="InternalServerError"):
        requests("CreateUser", **given)
    assert len(seen.sent) == 3


def test_an_answer_that_proves_damaged_while_it_is_read_is_a_failed_attempt(
    local: Any, script: Any, clock: Any
) -> None:
    """`finish` runs inside of the attempt."""
    client = local()
    seen = script(client, (200, FACES))
    read: list[int] = []

    def finish(answer: Any) -> int:
        read.append(1)
        if len(read) < 3:
            raise DamagedAnswerError("rekognition.ListFaces", "cut")
        return len(answer["Faces"])

    assert Requests(client).call("ListFaces", {"CollectionId": "c"}, finish) == 0
    assert len(seen.sent) == 3


def test_all_attempts_carry_one_token_and_the_next_call_another(
    local: Any, script: Any, failed: Any, clock: Any
) -> None:
    """The token is made before the first attempt."""
    client = local()
    answer = (200, {"SessionId": "s"})
    seen = script(client, failed("InternalServerError", 500), answer)
    requests = Requests(client)
    requests("CreateFaceLivenessSession")
    requests("CreateFaceLivenessSession")
    tokens = [one.body["ClientRequestToken"] for one in seen.sent]
    assert tokens[0] == tokens[1] != tokens[2]
    requests("CreateFaceLivenessSession", ClientRequestToken="mine")
    assert seen.sent[-1].body["ClientRequestToken"] == "mine"


def test_without_a_retry_there_is_one_attempt(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """Callers with guards of their own get nothing on top of them."""
    client = local()
    seen = script(client, failed("InternalServerError", 500))
    requests = Requests(client, **UNGUARDED)
    for _ in range(20):
        with pytest.raises(Exception, match="InternalServerError"):
            requests("ListFaces", CollectionId="c")
    assert len(seen.sent) == 20, "no circuit opened, no limiter waited"
    assert clock.slept == []


def test_each_operation_has_its_own_circuit(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """IndexFaces being down says nothing of ListFaces; the same operation of another client shares the circuit."""
    client = local()
    script(client, failed("InternalServerError", 500))
    requests = Requests(client, retry=None)
    for _ in range(5):
        with pytest.raises(Exception, match="InternalServerError"):
            requests("ListFaces", CollectionId="c")
    with pytest.raises(CircuitOpenError) as refused:
        Requests(local(), retry=None)("ListFaces", CollectionId="c")
    assert refused.value.name == requests.name_of("ListFaces") == "rekognition/127.0.0.1:9/ListFaces"
    with pytest.raises(Exception, match="InternalServerError"):
        requests("DetectFaces", Image={"Bytes": b"x"})


def test_a_throttle_opens_no_circuit_and_slows_the_limiter_of_all(
    local: Any, script: Any, failed: Any, clock: ManualRuntime
) -> None:
    """The quota belongs to region and operation: every client of the process slows down."""
    one, other = local(), local()
    script(one, failed("ProvisionedThroughputExceededException"), (200, FACES))
    script(other, (200, FACES))
    requests = Requests(other)
    requests("ListFaces", CollectionId="c")
    Requests(one)("ListFaces", CollectionId="c")
    before = len(clock.slept)
    for _ in range(3):
        requests("ListFaces", CollectionId="c")
    assert max(clock.slept[before:]) > 1 / 50
    assert circuits["rekognition/127.0.0.1:9/ListFaces"].state.value == "closed"


def test_the_default_rate_is_the_quota_of_the_region(local: Any, script: Any, clock: ManualRuntime) -> None:
    """50 a second in the large regions, and so 0.02 s between two calls; yours if you say so."""
    client = local()
    script(client, (200, FACES))
    requests = Requests(client)
    for _ in range(3):
        requests("ListFaces", CollectionId="c")
    assert clock.slept == pytest.approx([0.02, 0.02])
    with fresh():
        own = Requests(client, rates={"ListFaces": 2.0})
        own("ListFaces", CollectionId="c")
        own("ListFaces", CollectionId="c")
    assert clock.slept[2:] == pytest.approx([0.5])
    assert Rate(50.0, 5.0).of("eu-central-1") == 5.0
    liveness = operation_of("rekognition", "CreateFaceLivenessSession").rate
    assert liveness is not None
    assert (liveness.of("us-west-2"), liveness.of("eu-west-1")) == (25.0, 5.0)


# -- whose quota it is ---------------------------------------------------------------------------------------------

ONE = "AKIAQNZGKIQY56JQ7WML"
PLANTED = "AKIAQPLANTEDKEYIDXYZ"


@pytest.fixture
def of_account(resilience: None) -> Callable[[str], Any]:
    """Make a client whose requests are signed with this key."""
    pytest.importorskip("boto3", reason="the extra `aws` is not installed")
    from resilient_faces.adapters.aws import LocalEndpoint, connect

    def made(key: str) -> Any:
        return connect("rekognition", region="us-west-2", endpoint=LocalEndpoint("http://127.0.0.1:9", key, "secret"))

    return made


def paced(requests: Requests, clock: ManualRuntime, times: int) -> list[float]:
    """Seconds waited for the slots of so many calls."""
    clock.slept.clear()
    for _ in range(times):
        requests("ListFaces", CollectionId="c")
    return clock.slept


def test_a_key_tells_its_account() -> None:
    """All keys of an account tell the same; of others none."""
    assert account_of_key("ASIAQNZGKIQY56JQ7WML") == "029608264753"
    assert account_of_key("AKIAQNZGKIQYZZZZZZZZ") == "029608264753"
    for none in (
        "local",
        "AKIAIOSFODNN7EXAMPLE",
        "AROAQNZGKIQY56JQ7WML",
        "AKIAQNZGKIQY56JQ7WM",
        "AKIAQNZGKIQY56JQ7WM0",
        None,
    ):
        assert account_of_key(none) is None


def test_clients_of_several_accounts_share_nothing(of_account: Any, script: Any, clock: ManualRuntime) -> None:
    """Quotas are an account's: neither limiter nor circuit of one is any matter of the other."""
    one, two = of_account(ONE), of_account(PLANTED)
    for client in (one, two):
        script(client, (200, FACES))
    first = Requests(one, retry=None)
    with pytest.warns(ResilienceWarning, match="RF102 clients of several AWS accounts call rekognition") as warned:
        second = Requests(two, retry=None)
    assert warned[0].filename == __file__
    assert first.name_of("ListFaces") == "rekognition/127.0.0.1:9/ListFaces"
    assert re.fullmatch(r"rekognition/account-[0-9a-f]{6}/127\.0\.0\.1:9/ListFaces", second.name_of("ListFaces"))
    assert paced(first, clock, 3) == pytest.approx([0.02, 0.02])
    assert paced(second, clock, 3) == pytest.approx([0.02, 0.02]), "it stands in a queue of its own"
    circuits["rekognition/127.0.0.1:9/ListFaces"].force_open()
    assert second("ListFaces", CollectionId="c") is not None
    again = Requests(of_account("AKIAQNZGKIQYZZZZZZZZ"))
    assert again.name_of("ListFaces") == first.name_of("ListFaces"), "another key of the same account"


def test_an_account_s_label_is_in_the_names(of_account: Any, script: Any, clock: ManualRuntime) -> None:
    """Whatever the credentials; equal labels share."""
    one, two = of_account(ONE), of_account(PLANTED)
    for client in (one, two):
        script(client, (200, FACES))
    named = [Requests(one, account="school"), Requests(two, account="school"), Requests(two, account="club")]
    assert [each.name_of("ListFaces") for each in named] == [
        "rekognition/school/127.0.0.1:9/ListFaces",
        "rekognition/school/127.0.0.1:9/ListFaces",
        "rekognition/club/127.0.0.1:9/ListFaces",
    ]
    assert paced(named[0], clock, 2) == pytest.approx([0.02])
    assert paced(named[1], clock, 1) == pytest.approx([0.02])
    assert paced(named[2], clock, 1) == []


@pytest.mark.parametrize("label", ["", "a/b", "x" * 65, ONE, "123456789012", 5])
def test_a_label_is_neither_a_key_nor_a_number(local: Any, label: Any) -> None:
    """It is shown in names; a wrong one is not shown."""
    with pytest.raises(OptionError, match=r"Requests\.account must be a label") as wrong:
        Requests(local(), account=label)
    assert label in ("", 5) or str(label) not in str(wrong.value)


def test_neither_key_nor_account_is_in_any_text(
    of_account: Any, script: Any, failed: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Names, events, logs, warnings and errors; in full or in part."""
    caplog.set_level("DEBUG", "resilient_faces")
    told: list[Any] = []
    RUNTIME.listen(told.append)
    Requests(of_account(ONE))
    client = of_account(PLANTED)
    script(client, failed("ThrottlingException"), failed("InternalServerError", 500))
    with pytest.warns(ResilienceWarning) as warned:
        requests = Requests(client)
    for _ in range(4):
        with pytest.raises(Exception, match=r".") as raised:
            requests("ListFaces", CollectionId="c")
        told.append(raised.value)
    text = f"{told} {caplog.text} {[str(one.message) for one in warned]} {list(circuits)} {requests.name_of('X')}"
    number = account_of_key(PLANTED)
    assert number is not None
    assert "account-" in text
    for secret in ("QPLANTED", "PLANTEDKEY", number, str(int(number))):
        assert secret not in text


def test_the_account_of_a_role_is_known_from_its_arn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resilience: None
) -> None:
    """Nobody is asked: credentials of a role are fetched at the first request."""
    pytest.importorskip("boto3", reason="the extra `aws` is not installed")
    from resilient_faces.adapters.aws import connect

    config = tmp_path / "config"
    config.write_text(
        "".join(
            f"[profile {name}]\nrole_arn = arn:aws:iam::{number}:role/r\nsource_profile = base\n"
            for name, number in (("a", "111111111111"), ("b", "222222222222"))
        )
        + "[profile base]\naws_access_key_id = AKIAQNZGKIQY56JQ7WML\naws_secret_access_key = s\n"
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    a, base, b = (connect("rekognition", region="us-west-2", profile=name) for name in ("a", "base", "b"))
    assert Requests(a).name_of("X") == "rekognition/us-west-2/X"
    with pytest.warns(ResilienceWarning, match="RF102"):
        others = {Requests(one).name_of("X") for one in (base, b)}
    assert len(others) == 2


def test_one_quota_has_one_limiter_whoever_makes_it(local: Any, script: Any, clock: ManualRuntime) -> None:
    """Equal options share, though each adapter brings a factory of its own."""
    both = [Requests(local(), limiter=functools.partial(RateLimiter, max_wait=5.0)) for _ in range(2)]
    for requests in both:
        script(requests.client, (200, FACES))
    assert paced(both[0], clock, 2) == pytest.approx([0.02])
    assert paced(both[1], clock, 1) == pytest.approx([0.02])


@pytest.mark.parametrize(
    "other", [{"limiter": functools.partial(RateLimiter, max_wait=5.0)}, {"rates": {"ListFaces": 20.0}}]
)
def test_another_limiter_for_the_same_quota_is_refused(
    local: Any, script: Any, clock: ManualRuntime, other: dict[str, Any]
) -> None:
    """Two limiters would be twice the quota; the error names both places."""
    client = local()
    script(client, (200, FACES))
    one = Requests(client)
    one("ListFaces", CollectionId="c")
    two = Requests(client, **other)
    with pytest.raises(DuplicateNameError, match=r"first given in .*test_aws_requests\.py:\d+, now in .*test_aws"):
        two("ListFaces", CollectionId="c")
    labelled = Requests(client, account="other", **other)
    labelled("ListFaces", CollectionId="c")
    del one
    gc.collect()
    clock.advance(1.0)
    Requests(client, **other)("ListFaces", CollectionId="c")  # nobody uses the first one any more


def test_policies_are_given_the_parameters(local: Any, script: Any, failed: Any, clock: ManualRuntime) -> None:
    """So a circuit may be chosen by them, for example one for each collection."""
    client = local()
    script(client, failed("InternalServerError", 500))
    from resilient_faces.breaker import consecutive

    made: list[Breaker] = []

    def breaker(name: str) -> Breaker:
        made.append(Breaker(name, trips=consecutive(1), key=lambda **given: given["CollectionId"]))
        return made[-1]

    requests = Requests(client, retry=None, breaker=breaker)
    with pytest.raises(Exception, match="InternalServerError"):
        requests("ListFaces", CollectionId="one")
    with pytest.raises(CircuitOpenError):
        requests("ListFaces", CollectionId="one")
    with pytest.raises(Exception, match="InternalServerError"):
        requests("ListFaces", CollectionId="two")


def test_a_limiter_with_a_name_of_its_own_is_used_as_it_is(local: Any, script: Any, clock: ManualRuntime) -> None:
    """So two jobs can have a part of the quota each."""
    client = local()
    script(client, (200, FACES))
    jobs = [
        Requests(client, limiter=lambda rate, job=job, **options: RateLimiter(rate / 2.0, **{**options, "name": job}))
        for job in ("index", "search")
    ]
    assert paced(jobs[0], clock, 2) == pytest.approx([0.04])
    assert paced(jobs[1], clock, 2) == pytest.approx([0.04])


def test_an_adapter_for_each_call_keeps_to_the_rate(local: Any, script: Any, clock: ManualRuntime) -> None:
    """What is reserved is remembered for longer than the adapter lives."""
    client = local()
    script(client, (200, FACES))
    for _ in range(5):
        Requests(client)("ListFaces", CollectionId="c")
        gc.collect()
    assert clock.slept == pytest.approx([0.02] * 4)


def test_limiters_that_nobody_needs_go(local: Any, script: Any, clock: ManualRuntime) -> None:
    """A process that calls many servers does not collect them."""
    client = local()
    script(client, (200, FACES))
    for number in range(20):
        Requests(client, account=f"a{number}")("ListFaces", CollectionId="c")
        clock.advance(60.0)
        gc.collect()
    assert len(limiters._live) == 1


def test_a_fresh_start_has_fresh_limiters(local: Any, script: Any, clock: ManualRuntime) -> None:
    """What slowed down in one test is no matter of the next, even if somebody still holds the limiter."""
    client = local()
    script(client, (200, FACES))
    kept = Requests(client)
    for _ in range(3):
        kept("ListFaces", CollectionId="c")
    clock.slept.clear()
    with fresh():
        Requests(client)("ListFaces", CollectionId="c")
    kept("ListFaces", CollectionId="c")
    assert clock.slept == []
    kept("ListFaces", CollectionId="c")
    assert clock.slept != []


def test_an_open_circuit_refuses_without_a_place_in_the_queue(local: Any, script: Any, clock: ManualRuntime) -> None:
    """The limiter is within the circuit: who is refused waits for no slot."""
    client = local()
    script(client, (200, FACES))
    requests = Requests(client, rates={"ListFaces": 0.1})
    requests("ListFaces", CollectionId="c")
    circuits["rekognition/127.0.0.1:9/ListFaces"].force_open()
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            requests("ListFaces", CollectionId="c")
    assert clock.slept == []


def test_circuits_and_limiters_are_made_as_told(local: Any, script: Any, failed: Any, clock: Any) -> None:
    """Any function that makes one will do."""
    client = local()
    script(client, failed("InternalServerError", 500))
    made: list[str] = []

    def limiter(rate: float, *, name: str, classify: Any) -> RateLimiter:
        made.append(f"{name} at {rate:g}")
        return RateLimiter(rate, name=name, classify=classify)

    from resilient_faces.breaker import consecutive

    requests = Requests(client, retry=None, breaker=functools.partial(Breaker, trips=consecutive(1)), limiter=limiter)
    with pytest.raises(Exception, match="InternalServerError"):
        requests("ListFaces", CollectionId="c")
    with pytest.raises(CircuitOpenError):
        requests("ListFaces", CollectionId="c")
    assert made == ["rekognition/127.0.0.1:9/ListFaces at 50"]


def test_what_the_sdk_refuses_is_told_without_its_values(local: Any, script: Any, clock: Any) -> None:
    """botocore's text shows the whole value, which may be a picture or an identity."""
    client = local()
    seen = script(client, (200, FACES))
    for parameters, told in (
        (
            {"CollectionId": ["planted"], "MaxResults": "planted\ntype: x"},
            "Invalid type for parameter CollectionId; Inv",
        ),
        ({}, r"rekognition.ListFaces: Missing required parameter in input: \"CollectionId\"\."),
        ({"CollectionId": "c", "planted value": 1}, "wrong parameters"),
        ({"CollectionId": "c", "FaceId": 1}, 'Unknown parameter in input: "FaceId"'),
    ):
        with pytest.raises(OptionError, match=told) as refused:
            Requests(client)("ListFaces", **parameters)
        assert "planted" not in f"{refused.value} {refused.value.__cause__}"
        assert refused.value.__suppress_context__, "a traceback would show it"
    assert seen.sent == []


def test_wrong_options_are_named_all_at_once(local: Any) -> None:
    """Class, option, rule, value."""
    with pytest.raises(OptionError) as wrong:
        Requests(local(), retry=3, breaker="b", rates={"ListFaces": 0})  # type: ignore[arg-type]
    assert [line.split(" must")[0] for line in str(wrong.value).splitlines()] == [
        "Requests.retry",
        "Requests.breaker",
        "Requests.rates['ListFaces']",
    ]
    with pytest.raises(UnknownOptionError, match="Did you mean retry"):
        Requests(local(), retri=None)  # type: ignore[call-arg]


def test_a_mistyped_operation_has_no_rate(local: Any) -> None:
    """It would be ignored, and the quota's default hold; the operation that was meant is named."""
    with pytest.raises(
        OptionError, match=r"Requests\.rates must be named by operations of rekognition; got 'ListFace'\. Did you mean"
    ) as on:
        Requests(local(), rates={"ListFace": 3.0, "list_faces": 3.0, "GetItem": 3.0, "IndexFaces": 20.0})
    assert "Did you mean ListFaces?" in str(on.value)
    assert str(on.value).count("\n") == 2
    with pytest.raises(
        OptionError, match=r"Requests\.rates must be a mapping of operation to calls a second; got 3\.0"
    ):
        Requests(local(), rates=3.0)  # type: ignore[arg-type]


def test_a_mistyped_operation_is_not_called(local: Any) -> None:
    """With the one that was meant; the name of boto3's method would go around limiter and circuit of the operation."""
    for wrong in ("ListFace", "list_faces"):
        with pytest.raises(OptionError, match=rf"rekognition has no operation '{wrong}'\. Did you mean ListFaces\?"):
            Requests(local())(wrong, CollectionId="c")


def test_a_mistyped_operation_is_not_free_of_charge(local: Any) -> None:
    """A price that nobody pays would leave a cap without effect; those of other services are not this client's."""
    with pytest.raises(OptionError, match=r"CostMeter\.prices must be named by service\.Operation; got 'IndexFaces'"):
        CostMeter(prices={"IndexFaces": 0.001})
    meter = CostMeter(1.0, prices={"rekognition.IndexFces": 0.001, "textract.AnalyzeDocument": 0.05})
    with pytest.raises(
        OptionError, match=r"meter\.prices must be named by operations of rekognition; got 'IndexFces'\. Did you mean"
    ):
        Requests(local(), meter=meter)
    Requests(local("s3"), meter=meter)


def test_what_is_no_client_is_refused(local: Any) -> None:
    """At once, and not at the first request; a resource is one with a client inside."""
    import boto3

    for wrong in (None, "rekognition", boto3):
        with pytest.raises(OptionError, match=r"Requests\.client must be a boto3 client; got .* Make one with connect"):
            Requests(wrong)
    table = boto3.resource("dynamodb", region_name="us-west-2").Table("photos")
    with pytest.raises(
        OptionError, match=r"Requests\.client must be a boto3 client; .* Of a resource, it is meta\.client"
    ):
        Requests(table)


ADAPTERS: dict[str, Callable[[Any], object]] = {
    "rekognition": Rekognition,
    "dynamodb": DynamoDb,
    "s3": lambda client: S3(client, "bucket"),
    "sqs": lambda client: Sqs(client, "https://queue"),
    "sns": lambda client: Sns(client, "arn:aws:sns:us-west-2:1:t"),
    "cloudwatch": lambda client: CloudWatch(client, "Faces"),
}


@pytest.mark.parametrize("service", [*ADAPTERS, "store"])
def test_a_client_of_another_service_is_refused(service: str, local: Any) -> None:
    """By name, with how to make the right one; so is what has no operation of the service at all."""
    import boto3

    make = ADAPTERS.get(service, DynamoDbStore)
    right = service if service in ADAPTERS else "dynamodb"
    make(local(right))
    other = "s3" if service == "sqs" else "sqs"
    with pytest.raises(OptionError, match=rf"\.client must be a boto3 client of {right}; got 'one of {other}'"):
        make(local(other))
    for wrong in (None, "client", boto3.Session()):
        with pytest.raises(OptionError, match=rf"client of {right}; got '\w+'\. Make one with connect\('{right}'"):
            make(wrong)
    if service in ("dynamodb", "store"):
        with pytest.raises(OptionError, match="client of dynamodb"):
            make(boto3.resource("dynamodb", region_name="us-west-2").Table("photos"))


@pytest.mark.parametrize("service", ADAPTERS)
def test_a_stand_in_is_a_client(service: str) -> None:
    """Who tests with an object that has one method, or none, is let."""
    ADAPTERS[service](SimpleNamespace(receive_message=print))
    ADAPTERS[service](object())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda one: Requests(one("sqs"), breaker=Breaker("mine")), r"Requests\.breaker must be a function"),
        (lambda one: Requests(one("sqs"), limiter=RateLimiter(1.0, name="mine")), r"Requests\.limiter must be a"),
        (lambda one: Sqs(one("sqs"), "https://q", ""), r"Sqs\.dead_letter_url must be the URL of .*; got ''"),
        (lambda one: Sqs(one("sqs"), "https://q", 3), r"Sqs\.dead_letter_url must be the URL of .*; got 3"),
        (lambda one: Rekognition(one("rekognition"), before_send=3), r"\.before_send must be callable; got 3"),
        (
            lambda one: AsyncRekognition(one("rekognition")),
            r"\.sync must be an adapter; got 'a boto3 client'\. Put it into one: .*Rekognition\(client\)",
        ),
        (
            lambda one: DynamoDbStore.connected(region="us-west-2", timeout=0),
            r"\ADynamoDbStore\.connected\.timeout must be more than 0 seconds; got 0\.\Z",
        ),
        (lambda one: one("dynamobd"), r"connect\.service must be .*; got 'dynamobd'\. Did you mean dynamodb\?\Z"),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused_at_once(make: Callable[[Any], object], said: str, local: Any) -> None:
    """By the option that was given, and not by what it led to."""
    with pytest.raises(OptionError, match=said):
        make(local)


def test_a_client_that_retries_inside_is_told_of(foreign: Any) -> None:
    """Three attempts outside and four inside would be twelve requests."""
    with pytest.warns(ResilienceWarning, match="RF101 .* 3 attempts of the policy x 4 inside are up to 12 requests"):
        Requests(foreign(retries={"total_max_attempts": 4}))
    Requests(foreign(retries={"total_max_attempts": 1}))
    Requests(foreign(), **UNGUARDED)


def test_the_deadline_of_the_context_ends_the_retries(
    local: Any, script: Any, failed: Any, clock: ManualRuntime
) -> None:
    """No wait starts that would end after it, and nothing is sent once it has passed."""
    client = local()
    seen = script(client, failed("InternalServerError", 500))
    clock.chance = 0.999
    with Deadline(0.05), pytest.raises(Exception, match="InternalServerError"):
        Requests(client)("ListFaces", CollectionId="c")
    assert len(seen.sent) == 1
    with Deadline(0.05):
        clock.advance(1.0)
        with pytest.raises(Exception, match="deadline"):
            Requests(client, **UNGUARDED)("ListFaces", CollectionId="c")
    assert len(seen.sent) == 1


# -- what it costs -------------------------------------------------------------------------------------------------


def test_every_attempt_is_counted(local: Any, script: Any, failed: Any, clock: ManualRuntime) -> None:
    """Three attempts can be three charges; free operations are not counted."""
    meter = CostMeter()
    client = local()
    indexed = (200, {"FaceRecords": [], "FaceModelVersion": "7.0"})
    script(client, failed("InternalServerError", 500), failed("InternalServerError", 500), indexed)
    requests = Requests(client, meter=meter)
    requests("IndexFaces", CollectionId="c", Image={"Bytes": b"x"}, ExternalImageId="e")
    spent = meter.snapshot()
    assert spent.dollars == pytest.approx(0.003), "0.001 dollars an image"
    assert spent.calls == {"rekognition.IndexFaces": 3}
    assert spent.left is None


def test_the_cap_is_never_passed_and_holds_until_the_next_day(local: Any, script: Any, clock: ManualRuntime) -> None:
    """The request that would pass it does not leave, a circuit is forced open, and midnight (UTC) opens the way."""
    clock.epoch = 1_700_000_000.0 - 1_700_000_000.0 % 86_400 - clock.now + 86_400 - 3600  # 23:00 UTC
    told: list[Any] = []
    RUNTIME.listen(told.append)
    meter = CostMeter(0.0025)
    client = local()
    seen = script(client, (200, {"FaceDetails": []}))
    requests = Requests(client, meter=meter, retry=None)
    for _ in range(2):
        requests("DetectFaces", Image={"Bytes": b"x"})
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as refused:
            requests("DetectFaces", Image={"Bytes": b"x"})
        assert refused.value.retry_after == pytest.approx(3600, abs=1.0)
    assert len(seen.sent) == 2
    spent = meter.snapshot()
    assert (spent.dollars, spent.refused) == (pytest.approx(0.002), 3)
    assert [(one.status, one.name) for one in told if one.type == "transition"] == [("forced_open", "rekognition/cost")]
    seen.replies = [(200, FACES)]
    assert requests("ListFaces", CollectionId="c")["Faces"] == [], "what is free goes on"
    clock.advance(3601.0)
    seen.replies = [(200, {"FaceDetails": []})]
    requests("DetectFaces", Image={"Bytes": b"x"})
    assert meter.snapshot().dollars == pytest.approx(0.001)


def test_the_first_refusal_says_that_it_is_the_cap(local: Any, clock: ManualRuntime) -> None:
    """So that nobody looks for a fault of the service."""
    meter = CostMeter(0.0005, name="rekognition/cost/small")
    with pytest.raises(CircuitOpenError) as refused:
        meter.charge("rekognition.IndexFaces")
    assert refused.value.last_failure == CAP_REACHED


def test_prices_are_yours_to_say(clock: ManualRuntime) -> None:
    """By region, volume and contract."""
    meter = CostMeter(1.0, prices={"rekognition.IndexFaces": 0.1}, name="rekognition/cost/other")
    for _ in range(10):
        meter.charge("rekognition.IndexFaces")
    assert meter.snapshot().left == pytest.approx(0.0)
    with pytest.raises(CircuitOpenError):
        meter.charge("rekognition.IndexFaces")
    with pytest.raises(OptionError, match=r"CostMeter\.cap must be more than 0 dollars a day; got -1"):
        CostMeter(-1)


# -- async ---------------------------------------------------------------------------------------------------------


class Counter:
    def __init__(self) -> None:
        self.left: list[float | None] = []

    def ask(self, number: int, *, twice: bool = False) -> int:
        self.left.append(remaining())
        return number * 2 if twice else number


class AsyncCounter(AsyncFace[Counter]):
    ask = threaded(Counter.ask)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_requests_that_wait_take_no_thread_of_the_programs(backend: str) -> None:
    """As many long polls as there are: what else the program does in threads goes on."""
    import threading

    import anyio

    pytest.importorskip(backend, reason=f"{backend} is not installed")
    over = threading.Event()
    full = threading.Event()
    most: list[int] = []
    inside: set[int] = set()

    class Polling:
        def poll(self) -> None:
            inside.add(threading.get_ident())
            most.append(len(inside))
            if len(inside) == 50:
                full.set()
            over.wait(60.0)
            inside.discard(threading.get_ident())

    class AsyncPolling(AsyncFace[Polling]):
        poll = threaded(Polling.poll)

    async def main() -> str:
        face = AsyncPolling(Polling(), threads=50)
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(face.poll)
            await anyio.to_thread.run_sync(full.wait, 30.0)
            with anyio.fail_after(30):
                answer = await anyio.to_thread.run_sync(lambda: "done")
            over.set()
        return answer

    assert anyio.run(main, backend=backend) == "done"
    assert max(most) == 50
    with pytest.raises(OptionError, match=r"AsyncPolling\.threads must be 1 or more"):
        AsyncPolling(Polling(), threads=0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_face_runs_in_a_thread_with_the_callers_context(backend: str) -> None:
    """The deadline of the caller is the deadline of the request."""
    import threading

    import anyio

    pytest.importorskip(backend, reason=f"{backend} is not installed")
    sync = Counter()
    threads: list[int] = []

    class Noting(Counter):
        def ask(self, number: int, *, twice: bool = False) -> int:
            threads.append(threading.get_ident())
            return sync.ask(number, twice=twice)

    async def main() -> int:
        async with Deadline(5.0):
            face: AsyncFace[Counter] = AsyncFace(Noting())
            return await threaded(Noting.ask)(face, 21, twice=True)  # type: ignore[arg-type]

    assert anyio.run(main, backend=backend) == 42
    assert sync.left[0] is not None
    assert 0 < sync.left[0] <= 5.0
    assert threads != [threading.get_ident()]
    assert inspect.iscoroutinefunction(AsyncCounter.ask)
    assert anyio.run(AsyncCounter(Counter()).ask, 3, backend=backend) == 3


def test_an_operation_without_a_row_is_judged_by_its_name() -> None:
    """Reading may be repeated, everything else may not."""
    assert operation_of("rekognition", "ListUsers").idempotent
    assert not operation_of("rekognition", "CreateUser").idempotent
    assert not operation_of("cloudformation", "DetectStackDrift").idempotent, "it begins work"
    assert not operation_of("cloudformation", "DetectStackSetDrift").idempotent
    assert operation_of("cloudformation", "DescribeStackDriftDetectionStatus").idempotent
    assert operation_of("comprehend", "DetectEntities").idempotent
    assert operation_of("rekognition", "IndexFaces") is not operation_of("rekognition", "ListFaces")
    assert isinstance(operation_of("lambda", "Invoke"), Operation)


def test_retry_is_checked_by_type_only() -> None:
    """A Retry with options of its own is fitted to each operation, not replaced."""
    from resilient_faces.adapters._aws_clients import fitted

    whole = fitted(Retry(attempts=7), operation_of("rekognition", "IndexFaces"))
    (retry,) = whole.policies
    assert isinstance(retry, Retry)
    assert (retry.attempts, retry.idempotent) == (7, True)
