"""Signatures: the published form, rotation, tolerance, repetitions; and everything that must not be accepted."""

from __future__ import annotations

import pickle
import threading
import time
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.adapters._webhook_signing import DELIVERY_ID, SignatureError, SigningKey, Verifier, signed
from resilient_faces.errors import OptionError

KEY = SigningKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'


@pytest.fixture
def clock(clock: ManualRuntime) -> ManualRuntime:
    """A wall clock that reads 1,700,000,000."""
    clock.epoch = 1_700_000_000.0 - clock.now
    return clock


def headers(key: SigningKey = KEY, id: str = "msg_1", sent: int = 1_700_000_000, body: bytes = BODY) -> dict[str, str]:
    return signed([key], id, sent, body)


def test_the_published_example() -> None:
    """What the documentation of Standard Webhooks signs with this key has the signature that it shows."""
    assert (
        KEY.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_good_request_is_accepted(clock: ManualRuntime) -> None:
    """Whatever the case of its headers."""
    received = Verifier(KEY).verify({name.title(): value for name, value in headers().items()}, BODY)
    assert (received.id, received.sent, received.repeated) == ("msg_1", 1_700_000_000, False)


def test_either_key_will_do_during_a_rotation(clock: ManualRuntime) -> None:
    """Sender with both and receiver with one, or the other way round; signatures of other versions are passed over."""
    new, foreign = SigningKey.new(), SigningKey.new()
    both = signed([KEY, new], "msg_2", 1_700_000_000, BODY)
    for verifier in (Verifier(KEY), Verifier(new), Verifier([foreign, new])):
        assert verifier.verify(both, BODY).id == "msg_2"
    for key in (KEY, new):
        assert Verifier([KEY, new]).verify(headers(key), BODY)
    later = {**both, "webhook-signature": f"v2,abc {both['webhook-signature']}"}
    assert Verifier(new).verify(later, BODY)
    with pytest.raises(SignatureError):
        Verifier(foreign).verify(both, BODY)


CHANGES: dict[str, tuple[dict[str, str], bytes, str]] = {
    "body": ({}, BODY + b" ", "mismatch"),
    "id": ({"webhook-id": "msg_2"}, BODY, "mismatch"),
    "time": ({"webhook-timestamp": "1700000001"}, BODY, "mismatch"),
    "time written otherwise": ({"webhook-timestamp": "01700000000"}, BODY, "mismatch"),
    "signature": ({"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, BODY, "mismatch"),
    "not ascii": ({"webhook-signature": "v1,é\ud800"}, BODY, "mismatch"),
    "no version": ({"webhook-signature": KEY.sign("msg_1", 1_700_000_000, BODY)[3:]}, BODY, "mismatch"),
    "many signatures": ({"webhook-signature": "v1,x " * 100}, BODY, "malformed"),
    "no id": ({"webhook-id": ""}, BODY, "missing"),
    "no time": ({"webhook-timestamp": ""}, BODY, "missing"),
    "no signature": ({"webhook-signature": ""}, BODY, "missing"),
    "a word for a time": ({"webhook-timestamp": "now"}, BODY, "malformed"),
    "a negative time": ({"webhook-timestamp": "-1"}, BODY, "malformed"),
    "foreign digits": ({"webhook-timestamp": "17000000\u0660\u0660"}, BODY, "malformed"),
    "a long id": ({"webhook-id": "x" * 129}, BODY, "malformed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_not_accepted(change: str, clock: ManualRuntime) -> None:
    """Each part of a request counts; the error says which sort of fault it is and nothing of the request."""
    changed, body, reason = CHANGES[change]
    with pytest.raises(SignatureError) as caught:
        Verifier(KEY).verify({**headers(), **changed}, body)
    assert caught.value.reason == reason
    assert "msg" not in str(caught.value)


@pytest.mark.parametrize("body", [BODY.decode(), {"test": 1}, None])
def test_a_body_that_was_decoded_is_refused(body: Any, clock: ManualRuntime) -> None:
    """It is the receiver's mistake, not the sender's: an error of options, with the cure and without the body."""
    with pytest.raises(OptionError, match=r"Verifier\.verify\.body must be bytes, as they came; got") as caught:
        Verifier(KEY).verify(headers(), body)
    assert "2432232314" not in str(caught.value)


def test_id_and_time_cannot_be_shifted(clock: ManualRuntime) -> None:
    """`a` . `1700000000.1700000000` and `a.1700000000` . `1700000000` sign the same bytes: ids have no dot."""
    body = b"1700000000.x"
    good = headers(id="a", body=body)
    shifted = {**good, "webhook-id": "a.1700000000"}
    assert KEY.sign("a", 1_700_000_000, body) == KEY.sign("a.1700000000", 1_700_000_000, b"x")
    with pytest.raises(SignatureError) as caught:
        Verifier(KEY).verify(shifted, b"x")
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize(("off", "reason"), [(-300, ""), (300, ""), (-301, "expired"), (301, "future")])
def test_times_are_tolerated_within_limits(off: int, reason: str, clock: ManualRuntime) -> None:
    """300 s to either side, the limit included."""
    request = headers(sent=1_700_000_000 + off)
    if not reason:
        assert Verifier(KEY).verify(request, BODY)
        return
    with pytest.raises(SignatureError) as caught:
        Verifier(KEY).verify(request, BODY)
    assert caught.value.reason == reason


def test_a_repetition_is_told(clock: ManualRuntime) -> None:
    """The sender's next attempt, or a recorded copy: accepted as known, for as long as it would be accepted at all."""
    verifier = Verifier(KEY)
    assert not verifier.verify(headers(sent=1_700_000_300), BODY).repeated
    assert verifier.verify(headers(sent=1_700_000_300), BODY).repeated
    assert verifier.verify(headers(sent=1_700_000_004), BODY).repeated
    clock.advance(600.0)
    assert verifier.verify(headers(sent=1_700_000_300), BODY).repeated  # the last moment
    clock.advance(1.0)
    with pytest.raises(SignatureError):
        verifier.verify(headers(sent=1_700_000_300), BODY)


def test_what_was_not_handled_is_no_repetition(clock: ManualRuntime) -> None:
    """A receiver whose work failed takes the id back; the sender's next attempt counts."""
    verifier = Verifier(KEY)
    verifier.forget("msg_1")
    assert not verifier.verify(headers(), BODY).repeated
    verifier.forget("msg_1")
    assert not verifier.verify(headers(), BODY).repeated


def test_a_bad_request_is_not_remembered(clock: ManualRuntime) -> None:
    """Nobody without the key can use an id up."""
    verifier = Verifier(KEY)
    with pytest.raises(SignatureError):
        verifier.verify(headers(SigningKey.new()), BODY)
    assert not verifier.verify(headers(), BODY).repeated


def test_memory_is_bounded(clock: ManualRuntime) -> None:
    """Ids go when their time is over, and the oldest when there are too many."""
    verifier = Verifier(KEY, most_ids=3)
    for number in range(5):
        verifier.verify(headers(id=f"m{number}"), BODY)
    assert list(verifier._seen) == ["m2", "m3", "m4"]
    assert verifier.verify(headers(id="m2"), BODY).repeated
    clock.advance(301.0)
    verifier.verify(headers(id="late", sent=1_700_000_301), BODY)
    assert list(verifier._seen) == ["late"]


def test_of_several_threads_one_is_the_first(clock: ManualRuntime) -> None:
    """The same request at the same moment is new to exactly one of them."""

    class Slow(OrderedDict[str, float]):
        def pop(self, *args: Any) -> Any:
            found = super().pop(*args)
            time.sleep(0.005)  # gives the others their turn between looking and noting
            return found

    verifier, found = Verifier(KEY), list[bool]()
    verifier._seen = Slow()
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait(10.0)
        found.append(verifier.verify(headers(), BODY).repeated)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert sorted(found) == [False] + [True] * 7


@given(body=st.binary(max_size=200), other=st.binary(max_size=200), id=st.from_regex(DELIVERY_ID, fullmatch=True))
def test_only_the_signed_body_is_accepted(body: bytes, other: bytes, id: str) -> None:
    """For any body and id; a signature never fits another body."""
    with ManualRuntime(epoch=1_699_999_000.0).installed():
        verifier = Verifier(KEY)
        assert verifier.verify(headers(id=id, body=body), body).id == id
        if other != body:
            with pytest.raises(SignatureError):
                verifier.verify(headers(id=id, body=body), other)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_shows_its_fingerprint_only() -> None:
    """The secret comes out by name, and in no other way."""
    key = SigningKey(b"GEHEIM" * 6)
    assert "GEHEIM" not in repr(key) + str(key)
    assert key.fingerprint in repr(key)
    assert SigningKey(key.reveal()).fingerprint == key.fingerprint
    assert key.fingerprint != SigningKey.new().fingerprint
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


@pytest.mark.parametrize(
    "secret",
    ["", "GEHEIM-password-that-is-long-enough", "whsec_", "whsec_GEHEIM!", "whsec_R0VIRUlN", b"GEHEIM", 5, None],
)
def test_a_weak_or_wrong_key_is_refused_without_showing_it(secret: object) -> None:
    """Too short, no base64, without its prefix, no text at all."""
    with pytest.raises(OptionError, match=r"SigningKey\.secret must be 'whsec_' and base64") as caught:
        SigningKey(secret)  # type: ignore[arg-type]
    assert "GEHEIM" not in str(caught.value)
    assert "R0VIRUlN" not in str(caught.value)


def test_wrong_options_are_named() -> None:
    """All of them in one message."""
    with pytest.raises(OptionError, match=r"(?s)Verifier\.keys.*Verifier\.tolerance.*Verifier\.most_ids"):
        Verifier([], tolerance=0, most_ids=0)
    with pytest.raises(OptionError, match="Did you mean tolerance"):
        Verifier(KEY, tolerence=1)  # type: ignore[call-arg]
