"""The local recogniser finds the faces that people see, and nothing on pictures without one."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")

import numpy as np
import PIL.Image
import PIL.ImageFilter

from resilient_faces.adapters import _faces, recogniser
from resilient_faces.adapters.recogniser import (
    BasicEngine,
    Face,
    Picture,
    TooManyPixelsError,
    UnreadableImageError,
    decode,
    quality,
)
from resilient_faces.errors import MissingExtraError, OptionError

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


def test_the_same_photo_is_alike_and_others_are_not(engine: BasicEngine) -> None:
    """A hint: a photo is 100 percent like itself, over 80 like a slightly changed copy, and far from another face."""
    portrait = source("astronaut.png")
    changed = PIL.Image.open(io.BytesIO(encoded(portrait.rotate(2, PIL.Image.BICUBIC), quality=70)))
    faces = [engine.detect(picture(one)) for one in (portrait, changed.convert("RGB"))]
    (first,) = engine.embed(picture(portrait), faces[0])
    (second,) = engine.embed(picture(changed.convert("RGB")), (faces[0][0],))
    lfw = np.load(recogniser.skimage_data() / "lfw_subset.npy")[:20]
    others = [PIL.Image.fromarray((one * 255).astype(np.uint8)).resize((120, 120)).convert("RGB") for one in lfw]
    rows = np.concatenate([engine.embed(picture(one), (Face((0, 0, 120, 120), 0.9),)) for one in others])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1] * 20, abs=1e-5)
    assert engine.similarity(float(first @ first)) == pytest.approx(100, abs=0.01)
    assert engine.similarity(float(first @ second)) > 80
    assert max(engine.similarity(float(first @ row)) for row in rows) < 60
    assert engine.embed(picture(portrait), ()).shape == (0, rows.shape[1])


def test_likeness_rises_from_nothing_to_a_hundred(engine: BasicEngine) -> None:
    """Straight between its knees, never outside of 0 to 100."""
    assert [engine.similarity(cosine) for cosine in (0.0, 0.55, 0.8, 0.9, 1.0, 1.1)] == pytest.approx(
        [0, 0, 80, 90, 100, 100]
    )


def test_quality_is_brightness_and_sharpness(engine: BasicEngine) -> None:
    """Darker is less bright, blurred is less sharp, and a plain surface is not sharp at all."""
    portrait = source("astronaut.png")
    face = Face(ASTRONAUT, 0.9)
    good = quality(picture(portrait), face)
    dark = quality(picture(portrait.point(lambda value: value // 4)), face)
    blurred = quality(picture(portrait.filter(PIL.ImageFilter.GaussianBlur(3))), face)
    assert dark.brightness == pytest.approx(good.brightness / 4, abs=1)
    assert blurred.sharpness < 0.5 * good.sharpness
    assert blurred.brightness == pytest.approx(good.brightness, abs=2)
    plain = quality(picture(PIL.Image.new("RGB", (300, 300), (51, 51, 51))), face)
    assert (plain.brightness, plain.sharpness) == (pytest.approx(20, abs=0.1), 0.0)
    assert quality(picture(portrait), Face((500, 500, 500, 510), 0.9)).sharpness == 0.0


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
    monkeypatch.setattr(_faces, "MAX_PIXELS", 1000)
    with pytest.raises(TooManyPixelsError, match="100 x 100 pixels are more than 1000"):
        decode(encoded(PIL.Image.new("L", (100, 100)), "PNG"))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own limit comes first
    with pytest.raises(TooManyPixelsError):
        decode(encoded(PIL.Image.new("L", (100, 100)), "PNG"))


def test_the_error_can_be_pickled() -> None:
    """It crosses a process boundary with its reason."""
    assert pickle.loads(pickle.dumps(UnreadableImageError("because"))).reason == "because"


def test_a_missing_cascade_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without the file there is nothing to download: the error says what to install."""
    monkeypatch.setattr(recogniser, "skimage_data", lambda: tmp_path)
    with pytest.raises(MissingExtraError, match=r"resilient-faces\[demo\]"):
        BasicEngine()


def test_limits_of_the_callers_own() -> None:
    """Fewer pixels than the adapter allows are refused from the header; a longest side shrinks, and keeps the shape."""
    large = PIL.Image.new("RGB", (3000, 1500), (10, 200, 30))
    for kind in ("JPEG", "PNG"):
        with pytest.raises(TooManyPixelsError, match="3000 x 1500 pixels are more than 4000000"):
            decode(encoded(large, kind), most_pixels=4_000_000)
        small = decode(encoded(large, kind), longest_side=400)
        assert (small.width, small.height) == (400, 200)
        assert abs(small.pixels.astype(int) - (10, 200, 30)).max() < 8
        assert decode(encoded(large, kind), longest_side=5000).width == 3000, "nothing is made larger"


def test_a_shrunk_picture_is_upright_too() -> None:
    """The orientation is heeded whether or not the picture was shrunk."""
    lying = PIL.Image.new("RGB", (800, 400))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    shown = decode(encoded(lying, "JPEG", exif=exif), longest_side=200)
    assert (shown.width, shown.height) == (100, 200)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Each scan is a pass over the whole picture: a small file of many thousand would take minutes."""
    whole = encoded(PIL.Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    assert decode(whole[:-2] + scan * 30 + whole[-2:]).width == 2000
    with pytest.raises(UnreadableImageError, match="more than 50 scans"):
        decode(whole[:-2] + scan * 5000 + whole[-2:])


def test_what_lies_behind_a_jpeg_is_no_scan() -> None:
    """Phones put films behind their photographs, in which any bytes may be; so may an ordinary PNG."""
    film = b"\xff\xda\x00\x08" * 40_000
    assert decode(encoded(PIL.Image.new("RGB", (200, 100))) + film).width == 200
    noise = bytes(range(256)) * 300
    comment = encoded(PIL.Image.new("RGB", (200, 100)), "JPEG", comment=film[:60_000])
    assert decode(comment).width == 200
    image = PIL.Image.frombytes("RGB", (160, 160), noise)
    assert decode(encoded(image, "PNG", compress_level=0)).width == 160


def test_damaged_scans_are_counted_to_the_end() -> None:
    """Cut anywhere, the count ends."""
    whole = encoded(PIL.Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    assert _faces._scans(whole) == whole.count(b"\xff\xda")
    for end in range(2, len(whole)):
        assert _faces._scans(whole[:end]) <= whole.count(b"\xff\xda")


@pytest.mark.parametrize("smallest", [0, "60", 1.5])
def test_a_smallest_face_of_nothing_is_refused(smallest: Any) -> None:
    """The search would end somewhere inside the cascade."""
    with pytest.raises(OptionError, match=r"BasicEngine\.smallest must be 1 or more pixels; got"):
        BasicEngine(smallest=smallest)
