"""The generated pack goes through the real InsightFace: cards are found where they are, and known again."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="the extra `insightface` is not installed")
pytest.importorskip("insightface", reason="the extra `insightface` is not installed")

import numpy as np
import PIL.Image

from resilient_faces.errors import MissingExtraError
from resilient_faces.testing import card_pack
from resilient_faces.testing.card_pack import Placed, card, encoded, photo, scene, write_pack


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """InsightFace itself, with nothing of ours between it and the pack."""
    from insightface.app import FaceAnalysis

    made = FaceAnalysis(str(write_pack(tmp_path_factory.mktemp("pack"))), providers=["CPUExecutionProvider"])
    made.prepare(0, det_size=(640, 640))
    return made


def get(analysis: Any, image: Any) -> list[Any]:
    with warnings.catch_warnings():  # InsightFace calls scikit-image in a way that is to be removed
        warnings.simplefilter("ignore", FutureWarning)
        return sorted(analysis.get(np.ascontiguousarray(image)), key=lambda face: face.bbox[0])


def test_cards_are_found_where_they_are(analysis: Any) -> None:
    """Each box is the card's, to a tenth of its side; nothing else is found."""
    cards = [Placed(1, (30, 50), 240), Placed(2, (420, 300), 300), Placed(3, (900, 60), 400)]
    faces = get(analysis, scene(cards))
    assert len(faces) == 3
    for found, placed in zip(faces, cards, strict=True):
        assert found.bbox == pytest.approx(placed.box, abs=placed.side / 10)


def test_the_same_identity_is_found_and_another_is_not(analysis: Any) -> None:
    """Over thirty identities, three sizes, JPEG and noise: each is nearest to itself, and far from all others."""
    chance = np.random.default_rng(7)
    known, seen = [], []
    for identity in range(30):
        (enrolled,) = get(analysis, scene([Placed(identity, (60, 60), 280)], width=400, height=400))
        known.append(enrolled.normed_embedding)
        side = (150, 220, 300)[identity % 3]
        shown = scene([Placed(identity, (50, 50), side)], width=side + 100, height=side + 100)
        noisy = np.clip(shown + chance.normal(0, 6, shown.shape), 0, 255).astype(np.uint8)
        decoded = np.asarray(PIL.Image.open(io.BytesIO(encoded(noisy, quality=75))).convert("RGB"))[:, :, ::-1]
        (found,) = get(analysis, decoded)
        seen.append(found.normed_embedding)
    cosines = np.stack(seen) @ np.stack(known).T
    assert list(cosines.argmax(axis=1)) == list(range(30))
    assert cosines.diagonal().min() > 0.7
    assert cosines[~np.eye(30, dtype=bool)].max() < 0.5


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_no_card_no_face(analysis: Any, shade: int) -> None:
    """A plain ground has none."""
    assert get(analysis, scene([], shade=shade)) == []


def test_a_photograph_has_no_card(analysis: Any) -> None:
    """A person is no card."""
    from resilient_faces.adapters.recogniser import skimage_data

    portrait = np.asarray(PIL.Image.open(skimage_data() / "astronaut.png").convert("RGB"))[:, :, ::-1]
    assert get(analysis, portrait) == []


def test_the_pack_is_small_and_the_same_every_time(tmp_path: Path) -> None:
    """Two files of 100 KB together, byte for byte the same."""
    digests = []
    for name in ("a", "b"):
        files = sorted(write_pack(tmp_path / name).iterdir())
        assert [file.name for file in files] == [card_pack.DETECTOR, card_pack.RECOGNISER]
        assert sum(file.stat().st_size for file in files) < 120_000
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]


def test_cards_are_the_same_everywhere() -> None:
    """An identity is a hash: the same picture on every machine, another one for another identity."""
    assert card(1, 60).shape == (60, 60, 3)
    assert (card(1) == card(1)).all()
    assert (card(1) != card(2)).any()
    assert card(1, 100)[50, 50].tolist() == [255, 0, 255]
    assert card(1, 6)[0, :3].tolist() == [[191, 69, 70], [124, 155, 181], [128, 138, 189]]


def test_what_sticks_out_of_a_scene_is_cut_off() -> None:
    """A card may leave the picture at any side."""
    shown = scene([Placed(1, (-100, -100), 200), Placed(2, (250, 150), 200), Placed(3, (900, 900), 50)], width=300,
                  height=200)  # fmt: skip
    assert (shown[:100, :100] == card(1, 200)[100:, 100:]).all()
    assert (shown[150:, 250:] == card(2, 200)[:50, :50]).all()
    assert (shown[120, 120] == 128).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photos_are_files(kind: str) -> None:
    """A card with a margin, as a JPEG or PNG file in the right colours."""
    opened = PIL.Image.open(io.BytesIO(photo(4, side=120, kind=kind)))
    assert (opened.format, opened.size) == (kind, (200, 200))
    red, green, blue = opened.convert("RGB").getpixel((100, 100))
    assert (red > 200, green < 60, blue > 200) == (True, True, True)
    if kind == "PNG":
        assert (np.asarray(opened)[40:160, 40:160, ::-1] == card(4, 120)).all()


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the pack is made with comes with the extra `insightface`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"resilient-faces\[insightface\]"):
        write_pack(tmp_path)
