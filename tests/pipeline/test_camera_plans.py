"""What a session may be asked: plans and rules refuse what cannot be, and show no address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_faces import OptionError
from resilient_faces.adapters.rtsp import Address
from resilient_faces.pipeline.cameras import Agreement, CameraPlan, Rules, SessionPlan, Sessions, rtsp_cameras

SECRET = "pl4nted-s3cret"
CAMERA = CameraPlan("c1", "Front", f"rtsp://admin:{SECRET}@cam.example/live")
URL = f"https://school.example/hook?token={SECRET}"


def plan(**changes: Any) -> SessionPlan:
    return SessionPlan(**{"slot": 7, "callback": URL, "cameras": [CAMERA], **changes})


def test_a_plan_keeps_its_secrets() -> None:
    """Neither a camera's password nor the token of a callback is in its text."""
    text = f"{plan()!r} {plan()} {CAMERA!r}"
    assert SECRET not in text
    assert "cam.example" in text
    assert plan().cameras[0].address.revealed().count(SECRET) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: plan(slot=-1), "SessionPlan.slot must be 0 or more; got -1"),
        (lambda: plan(slot=True), "SessionPlan.slot must be 0 or more; got True"),
        (lambda: plan(callback=SECRET), "SessionPlan.callback must be a URL"),
        (lambda: plan(cameras=[]), "SessionPlan.cameras must be one CameraPlan or more; got []"),
        (lambda: plan(cameras=["rtsp://x:y@z"]), "SessionPlan.cameras must be one CameraPlan or more; got ['str']"),
        (lambda: plan(cameras=[CAMERA, CAMERA]), "SessionPlan.cameras must be of different ids; got ['c1', 'c1']"),
        (lambda: plan(mode="a b"), "SessionPlan.mode must be a letter or digit"),
        (lambda: CameraPlan("a\nERROR", "x", "rtsp://h/x"), "CameraPlan.id must be a letter or digit"),
        (lambda: CameraPlan("rtsp://x", "x", "rtsp://h/x"), "CameraPlan.id must be a letter or digit"),
        (lambda: CameraPlan("a", "x\x1b[2J", "rtsp://h/x"), "CameraPlan.name must be 100 printable characters"),
        (lambda: CameraPlan("a", "x", f"rtsp://u:{SECRET}@"), "Address.source must be a URL with a host"),
        (lambda: CameraPlan("a", "x", f"/etc/{SECRET}"), "CameraPlan.address must be a URL of rtsp or rtsps"),
        (lambda: CameraPlan("a", "x", f"concat:{SECRET}"), "An Address(...) may be a device or a file"),
        (lambda: CameraPlan("a", "x", f"http://h/{SECRET}"), "CameraPlan.address must be a URL of rtsp or rtsps"),
        (lambda: Agreement(0, 3), "Agreement.frames must be 1 or more; got 0"),
        (lambda: Agreement(4, 3), "Agreement.of must be 4 (frames) or more; got 3"),
        (lambda: Rules(agreement=3), "Rules.agreement must be an Agreement; got 3"),
        (lambda: Rules(heartbeat=60.0), "Rules.heartbeat must be less than half of silence; got 60.0"),
        (lambda: Rules(pace=0.0), "Rules.pace must be more than 0"),
        (lambda: Rules(grace=-1.0), "Rules.grace must be 0 or more"),
        (lambda: Rules(failures=0), "Rules.failures must be 1 or more"),
        (lambda: Rules(waiting=0), "Rules.waiting must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], said: str) -> None:
    """The message names class, option and rule, and no secret."""
    with pytest.raises(OptionError) as caught:
        make()
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Whoever starts a session mends it in one go."""
    with pytest.raises(OptionError) as caught:
        SessionPlan(slot=-1, callback="", cameras=[], mode="")
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "SessionPlan.slot",
        "SessionPlan.callback",
        "SessionPlan.cameras",
        "SessionPlan.mode",
    ]


def test_a_device_or_file_is_meant_on_purpose() -> None:
    """Text that comes from outside is a URL of a camera; a path is an `Address` that a programmer made."""
    assert CameraPlan("a", "", Address(Path("clip.mp4"))).name == "a"


def test_wrong_parts_are_refused() -> None:
    """So is a mistyped option."""
    with pytest.raises(OptionError) as caught:
        Sessions(object(), None, object(), rules=3, cameras=4, register=5, at_once=0)  # type: ignore[arg-type]
    said = str(caught.value)
    for line in (
        "Sessions.recogniser must be an object with arecognise; got 'object'",
        "Sessions.webhook must be an object with asend; got 'object'",
        "Sessions.register must be an object with add, holds, remove; got 'int'",
        "Sessions.rules must be a Rules or None; got 3",
        "Sessions.cameras must be callable; got 4. rtsp_cameras(...) makes it.",
        "Sessions.at_once must be 1 or more; got 0",
    ):
        assert line in said
    with pytest.raises(TypeError, match="Did you mean at_once"):
        Sessions(object(), None, object(), atonce=1)  # type: ignore[arg-type,call-arg]


def test_cameras_of_a_plan_are_named_for_the_log() -> None:
    """Id and slot are what the lines of the adapter say."""
    pytest.importorskip("av", reason="the extra `rtsp` is not installed: pip install 'resilient-faces[rtsp]'")
    camera: Any = rtsp_cameras(transport="tcp")(CAMERA, 7)
    assert (camera.name, camera.slot) == ("c1", "7")
    assert SECRET not in repr(camera)
