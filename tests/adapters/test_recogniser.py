"""The local recogniser finds the faces that people see, and nothing on pictures without one."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")

import numpy as np
import PIL.Image

from resilient_faces.adapters import recogniser
from resilient_faces.adapters.recogniser import BasicEngine, Picture, UnreadableImageError, decode
from resilient_faces.errors import MissingExtraError

ASTRONAUT = (178, 70, 272, 186)  # noted by hand


def source(name: str) -> PIL.Image.Image:
    return PIL.Image.open(recogniser.skimage_data() / name).convert("RGB")


def encoded(picture: PIL.Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def picture(image: PIL.Image.Image) -> Picture:
    return Picture(np.asarray(image), "PNG")


@pytest.fixture(scope="module")
def engine() -> BasicEngine:
    return BasicEngine()


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, across) * max(0, down)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_the_face_is_where_people_see_it(engine: BasicEngine) -> None:
    """One face on the astronaut's portrait, over the box that was noted by hand."""
    (face,) = engine.detect(picture(source("astronaut.png")))
    assert overlap(face.box, ASTRONAUT) > 0.5
    assert face.score == 0.9


def test_large_pictures_are_searched_small_and_boxes_scaled_back(engine: BasicEngine) -> None:
    """The box is in pixels of the picture that was given, whatever size was searched."""
    (face,) = engine.detect(picture(source("astronaut.png").resize((1536, 1536))))
    assert overlap(face.box, tuple(3 * side for side in ASTRONAUT)) > 0.5


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg", "brick.png"])
def test_pictures_without_a_face_have_none(engine: BasicEngine, name: str) -> None:
    """No face on a cup, a cat, a rocket and a wall."""
    assert engine.detect(picture(source(name).resize((320, 240)))) == ()


def test_smaller_than_the_smallest_face(engine: BasicEngine) -> None:
    """A picture that no face of the smallest size fits in has none."""
    assert engine.detect(picture(source("astronaut.png").resize((50, 50)))) == ()


def test_threads_share_an_engine(engine: BasicEngine) -> None:
    """Several threads at once find what one finds."""
    shown = picture(source("astronaut.png").resize((320, 320)))
    alone = engine.detect(shown)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: engine.detect(shown), range(8))) == {alone}


def test_the_engine_names_nobody(engine: BasicEngine) -> None:
    """A cascade has no identity, and the engine says so."""
    assert engine.names_people is False


def test_decode_turns_pictures_upright() -> None:
    """The orientation in EXIF is applied: boxes belong to the picture as people see it."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    decoded = decode(encoded(source("coffee.png"), exif=exif))
    assert (decoded.width, decoded.height, decoded.format) == (400, 600, "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        encoded(PIL.Image.new("RGB", (64, 64)), "GIF"),
        encoded(PIL.Image.new("RGB", (200, 200)))[:300],
        b"\xff\xd8\xff" + b"\0" * 100,
    ],
    ids=["empty", "text", "gif", "cut", "zeros"],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    """Only whole JPEG and PNG files are read."""
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        decode(data)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of too many pixels is refused from its header."""
    monkeypatch.setattr(recogniser, "MAX_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="pixels"):
        decode(encoded(PIL.Image.new("L", (100, 100)), "PNG"))


def test_the_error_can_be_pickled() -> None:
    """It crosses a process boundary with its reason."""
    assert pickle.loads(pickle.dumps(UnreadableImageError("because"))).reason == "because"


def test_a_missing_cascade_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without the file there is nothing to download: the error says what to install."""
    monkeypatch.setattr(recogniser, "skimage_data", lambda: tmp_path)
    with pytest.raises(MissingExtraError, match=r"resilient-faces\[demo\]"):
        BasicEngine()
