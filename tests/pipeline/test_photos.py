"""Photos whose right number of faces is known from the boxes noted by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

pytest.importorskip("skimage", reason="the extra `demo` is not installed")

import PIL.Image

from resilient_faces.adapters.recogniser import BasicEngine, decode
from resilient_faces.pipeline import photos
from resilient_faces.pipeline.photos import burst, carried, from_folder, normalised, readable


def test_a_seed_makes_the_same_photos() -> None:
    """Byte for byte; another seed makes others."""
    assert burst(12, seed=5) == burst(12, seed=5)
    assert {photo.data for photo in burst(12, seed=5)}.isdisjoint(photo.data for photo in burst(12, seed=6))


def test_a_burst_is_mixed_and_small() -> None:
    """Portraits, enlarged small pictures and faceless ones, each a JPEG with an id that is its own."""
    batch = burst(60, seed=1)
    assert len({photo.id for photo in batch}) == len({photo.data for photo in batch}) == 60
    assert {photo.faces for photo in batch} == {0, 1, 2}
    for photo in batch:
        picture = decode(photo.data)
        assert picture.format == "JPEG"
        assert max(picture.width, picture.height) <= 320
        assert photo.boxes is not None
        assert all(0 <= b[0] < b[2] <= picture.width and 0 <= b[1] < b[3] <= picture.height for b in photo.boxes)
        assert all(b[2] - b[0] >= 60 or b[3] - b[1] >= 60 for b in photo.boxes)


def test_boxes_are_carried_through_cut_scale_and_mirror() -> None:
    """Twice as large, left becomes right."""
    box = (30, 40, 50, 70)
    assert carried([box], (20, 30, 120, 130), (200, 200), mirrored=False) == ((20, 20, 60, 80),)
    assert carried([box], (20, 30, 120, 130), (200, 200), mirrored=True) == ((140, 20, 180, 80),)


@pytest.mark.parametrize("cut", [(35, 0, 135, 100), (0, 50, 100, 150), (0, 0, 45, 100), (0, 0, 100, 60)])
def test_a_cut_through_a_face_is_not_made(cut: photos.Box) -> None:
    """On any side."""
    assert carried([(30, 40, 50, 70)], cut, (100, 100), mirrored=False) is None


@pytest.mark.parametrize("cut", [(50, 0, 100, 100), (0, 70, 100, 100), (0, 0, 30, 100), (0, 0, 100, 40)])
def test_a_face_outside_is_no_face(cut: photos.Box) -> None:
    """A face that the cut leaves out wholly is not counted."""
    assert carried([(30, 40, 50, 70)], cut, (100, 100), mirrored=False) == ()


def test_sources_are_in_the_package() -> None:
    """Nothing is downloaded: every source is a file of the installed scikit-image."""
    assert all(path.is_file() for path in photos.sources())


def test_noted_boxes_lie_in_their_pictures() -> None:
    """The tables fit the files, and no faceless region touches a face that was noted."""
    for source in (photos.ASTRONAUT, *photos.FACELESS):
        with PIL.Image.open(photos.skimage_data() / source.file) as picture:
            assert source.region[2] <= picture.width
            assert source.region[3] <= picture.height
    for source in photos.FACELESS:
        if source.file == photos.ASTRONAUT.file:
            assert carried(photos.ASTRONAUT.faces, source.region, (10, 10), mirrored=False) == ()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_engine_agrees_with_the_noted_faces(seed: int) -> None:
    """Right on at least 90 % of photos, and no face on a photo without one."""
    engine = BasicEngine()
    batch = burst(60, seed=seed)
    found = [len(engine.detect(decode(photo.data))) for photo in batch]
    assert sum(count == photo.faces for count, photo in zip(found, batch, strict=True)) >= 54
    assert not [photo.name for count, photo in zip(found, batch, strict=True) if photo.faces == 0 and count]


def jpeg(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (9, 99, 9)).save(sink, "JPEG")
    return sink.getvalue()


def test_own_photos(tmp_path: Path) -> None:
    """JPEGs in the order of their names, large ones made smaller, damaged ones as they are; no name in the id."""
    (tmp_path / "b.JPG").write_bytes(jpeg(100, 90))
    (tmp_path / "a.jpeg").write_bytes(jpeg(3000, 1500))
    (tmp_path / "anna.jpg").write_bytes(b"damaged")
    (tmp_path / "notes.txt").write_text("no photo")
    large, damaged, small = from_folder(tmp_path)
    assert [photo.name for photo in (large, damaged, small)] == ["a.jpeg", "anna.jpg", "b.JPG"]
    assert decode(large.data).width == 1280
    assert small.data == jpeg(100, 90)
    assert (damaged.faces, readable(damaged.data), readable(small.data)) == (None, False, True)
    assert "anna" not in damaged.id + damaged.key


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """The message names the folder and what it should hold."""
    with pytest.raises(ValueError, match=r"\.jpg"):
        from_folder(tmp_path)


def test_what_is_normalised_stays_so() -> None:
    """A JPEG of a good size is not encoded again."""
    data = jpeg(640, 480)
    assert normalised(data) is data
