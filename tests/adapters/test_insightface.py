"""InsightFace as the local recogniser: real sessions on the generated pack, and every way a pack can be unusable."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("insightface", reason="the extra `insightface` is not installed")

import numpy as np
import PIL.Image

from resilient_faces.adapters.insightface import (
    FaceNotDetectedError,
    FrameRecogniser,
    InsightFaceEngine,
    LowQualityError,
    MissingLibraryError,
    PackError,
    WithoutModel,
    classify_faces,
    embedding_of_photo,
    load_or_degrade,
)
from resilient_faces.adapters.recogniser import Face, Picture, UnreadableImageError, choose, decode
from resilient_faces.errors import MissingExtraError, OptionError
from resilient_faces.faults import Kind, rule
from resilient_faces.testing import card_pack
from resilient_faces.testing.card_pack import Placed, encoded, photo, scene, write_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "cards")


@pytest.fixture(scope="module")
def engine(pack: Path) -> InsightFaceEngine:
    return InsightFaceEngine(pack)


def picture(*cards: Placed, width: int = 1000, height: int = 500) -> Picture:
    return Picture(scene(cards, width=width, height=height)[:, :, ::-1], "PNG")


def test_faces_are_found_best_first(engine: InsightFaceEngine) -> None:
    """Boxes are whole pixels inside the picture, with five landmarks in them; the clearest comes first."""
    shown = picture(Placed(1, (20, 20), 200), Placed(2, (500, 60), 400))
    faces = engine.detect(shown)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert faces[0].box == pytest.approx((500, 60, 900, 460), abs=20)
    for face in faces:
        assert len(face.landmarks) == 5
        assert all(face.box[0] < x < face.box[2] and face.box[1] < y < face.box[3] for x, y in face.landmarks)


def test_boxes_stay_inside_the_picture(engine: InsightFaceEngine) -> None:
    """A face at the edge has a box that ends there."""
    (face,) = engine.detect(picture(Placed(1, (-60, -40), 300), width=600, height=400))
    assert face.box[:2] == (0, 0)
    assert face.box[2:] == pytest.approx((240, 260), abs=15)


def test_embeddings_are_insightfaces_own(engine: InsightFaceEngine) -> None:
    """Aligned in our way, which takes part of the time, a face has the embedding that FaceAnalysis.get gives it."""
    shown = picture(Placed(5, (40, 50), 300), Placed(6, (560, 100), 340))
    faces = engine.detect(shown)
    ours = engine.embed(shown, faces)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = engine._analysis.get(np.ascontiguousarray(shown.pixels[:, :, ::-1]))
    for face, row in zip(faces, ours, strict=True):
        mine = min(theirs, key=lambda one: abs(one.bbox[0] - face.box[0]))
        assert float(row @ mine.normed_embedding) > 0.9999


def test_a_turned_face_is_known(engine: InsightFaceEngine) -> None:
    """Landmarks that are turned by 30 degrees are turned back before the embedding."""
    straight = picture(Placed(5, (100, 100), 300), width=500, height=500)
    (face,) = engine.detect(straight)
    turned = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(straight.pixels)).rotate(30, PIL.Image.BICUBIC))
    angle = np.deg2rad(-30)
    away = np.array(face.landmarks) - 250
    back = away @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 250
    marks = tuple((float(x), float(y)) for x, y in back)
    (one,) = engine.embed(straight, (face,))
    (other,) = engine.embed(Picture(turned, "PNG"), (Face(face.box, face.score, marks),))
    assert float(one @ other) > 0.95


def test_rows_have_length_one_and_no_face_has_none(engine: InsightFaceEngine) -> None:
    """Shapes and lengths of embeddings."""
    shown = picture(Placed(1, (20, 20), 300), Placed(2, (560, 60), 300))
    rows = engine.embed(shown, engine.detect(shown))
    assert (rows.shape, rows.dtype) == ((2, 512), np.float32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert engine.embed(shown, ()).shape == (0, 512)
    assert engine.detect(picture()) == ()


def test_threads_share_an_engine(engine: InsightFaceEngine) -> None:
    """Several threads at once get, bit for bit, what one gets."""
    shown = [picture(Placed(number, (50, 50), 300), width=400, height=400) for number in range(4)]

    def look(one: Picture) -> bytes:
        return bytes(engine.embed(one, engine.detect(one)).tobytes())

    alone = [look(one) for one in shown]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, shown * 4)) == alone * 4


def test_similarity_has_its_knee_at_the_same_person(engine: InsightFaceEngine, pack: Path) -> None:
    """80 percent at the cosine that counts as the same person, straight to 0 and 100 on both sides."""
    cosines = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.001)
    assert [engine.similarity(cosine) for cosine in cosines] == [0, 0, 40, 80, 90, 100, 100]
    strict = InsightFaceEngine(pack, same_person=0.8)
    assert [strict.similarity(cosine) for cosine in (0.4, 0.8, 0.9)] == pytest.approx([40, 80, 90])


def test_the_space_is_the_recognisers_file(engine: InsightFaceEngine, pack: Path, tmp_path: Path) -> None:
    """The same pack elsewhere has the same space, another recogniser another."""
    copy = shutil.copytree(pack, tmp_path / "elsewhere")
    assert InsightFaceEngine(copy).space == engine.space
    recogniser = copy / card_pack.RECOGNISER
    recogniser.write_bytes(recogniser.read_bytes().replace(b"resilient-faces", b"resilient-facet"))
    assert InsightFaceEngine(copy).space != engine.space


# -- packs that cannot be used --------------------------------------------------------------------------------------


def _absent(pack: Path) -> None:
    shutil.rmtree(pack)


def _empty(pack: Path) -> None:
    for file in pack.iterdir():
        file.unlink()


def _too_deep(pack: Path) -> None:
    (pack / "buffalo").mkdir()
    for file in pack.glob("*.onnx"):
        file.rename(pack / "buffalo" / file.name)


def _file_is_empty(pack: Path) -> None:
    (pack / card_pack.RECOGNISER).write_bytes(b"")


def _cut(pack: Path) -> None:
    file = pack / card_pack.RECOGNISER
    file.write_bytes(file.read_bytes()[:5000])


def _garbage(pack: Path) -> None:
    (pack / card_pack.DETECTOR).write_bytes(b"<html>not found</html>" * 100)


def _no_recogniser(pack: Path) -> None:
    (pack / card_pack.RECOGNISER).unlink()


def _no_landmarks(pack: Path) -> None:
    import onnx

    model = onnx.load(pack / card_pack.DETECTOR)
    del model.graph.output[6:]
    onnx.save(model, pack / card_pack.DETECTOR)


def _does_not_run(pack: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load(pack / card_pack.RECOGNISER)
    last = model.graph.output[0].name
    model.graph.initializer.append(helper.make_tensor("beyond", onnx.TensorProto.INT64, [512], [9999] * 512))
    model.graph.node.append(helper.make_node("Gather", [last, "beyond"], ["picked"], axis=1))
    model.graph.output[0].name = "picked"
    onnx.save(model, pack / card_pack.RECOGNISER)


def _no_detector(pack: Path) -> None:
    (pack / card_pack.DETECTOR).unlink()


BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "absent": (_absent, "missing", "is not there, and nothing is downloaded"),
    "empty": (_empty, "missing", "has no .onnx files"),
    "too deep": (_too_deep, "missing", "one level deeper: use .*buffalo"),
    "empty file": (_file_is_empty, "damaged", "w_cards.onnx is empty"),
    "cut": (_cut, "damaged", "cannot be loaded"),
    "garbage": (_garbage, "damaged", "cannot be loaded"),
    "does not run": (_does_not_run, "damaged", "loads and does not run"),
    "no recogniser": (_no_recogniser, "incomplete", "has no recogniser"),
    "no detector": (_no_detector, "incomplete", "has no detector"),
    "no landmarks": (_no_landmarks, "incomplete", "has no detector that gives landmarks"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_unusable_pack_is_a_clear_error(
    how: str, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told which it is and what to do; nothing is downloaded; a service that degrades finds nobody and says why."""
    import insightface.utils.storage as download

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(download, "download_file", refuse)
    breaks, reason, said = BROKEN[how]
    copy = shutil.copytree(pack, tmp_path / "pack")
    breaks(copy)
    with pytest.raises(PackError, match=said) as caught:
        InsightFaceEngine(copy)
    assert caught.value.reason == reason
    fault = classify_faces(caught.value)
    assert fault is not None
    assert (fault.code, fault.rule.retried) == (f"insightface.pack_{reason}", False)

    degraded = load_or_degrade(copy)
    assert isinstance(degraded, WithoutModel)
    assert degraded.reason == reason
    assert degraded.message == str(caught.value)
    shown = picture(Placed(1, (20, 20), 300))
    assert degraded.detect(shown) == ()
    assert len(degraded.embed(shown, ())) == 0
    with pytest.raises(PackError):
        degraded.embed(shown, (Face((0, 0, 9, 9), 1.0),))

    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(pack, copy)  # the model appears later
    assert isinstance(load_or_degrade(copy), InsightFaceEngine)


@pytest.mark.parametrize("name", ["buffalo_l", "~nobody-of-this-name/pack", "x" * 5000, "a\0b"])
def test_a_name_is_no_pack(name: str, resilience: None) -> None:
    """`buffalo_l` is what InsightFace would download: here it is a directory that is not there. So is what can be no
    path at all, as `~` is where there is no home."""
    with pytest.raises(PackError, match="nothing is downloaded"):
        InsightFaceEngine(name)
    assert FrameRecogniser(name).health().reason == "insightface.pack_missing"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"detection_size": 100}, "detection_size must be a multiple of 32; got 100"),
        ({"lowest_score": 1.5}, "lowest_score must be"),
        ({"same_person": 1.0}, "same_person must be"),
        ({"threads": 0}, "threads must be 1 or more"),
        ({"providers": "CPUExecutionProvider"}, "providers must be a sequence"),
        ({"lowest_score": -1, "threads": -1}, "(?s)lowest_score.*threads"),
    ],
)
def test_wrong_options_are_named(pack: Path, options: dict[str, object], said: str) -> None:
    """All of them in one message, before anything is loaded."""
    with pytest.raises(OptionError, match=said):
        InsightFaceEngine(pack, **options)  # type: ignore[arg-type]


def test_an_unknown_provider_is_no_other_provider(pack: Path) -> None:
    """ONNX Runtime would warn and take another one."""
    with pytest.raises(PackError, match=r"names NoSuchProvider; this ONNX Runtime has .*CPUExecutionProvider"):
        InsightFaceEngine(pack, providers=["NoSuchProvider", "CPUExecutionProvider"])


def test_threads_of_an_inference_are_what_was_asked_for(pack: Path) -> None:
    """Also in the sessions that InsightFace derives for the detection size."""
    engine = InsightFaceEngine(pack, threads=3, detection_size=320)
    detector = engine._analysis.det_model
    derived = list(detector.resolution_sessions.values())
    assert derived
    for session in (*derived, engine._recognition.session):
        assert session.get_session_options().intra_op_num_threads == 3


# -- photos to enrol from -------------------------------------------------------------------------------------------


def test_one_clear_face_is_embedded(engine: InsightFaceEngine) -> None:
    """The embedding of a photo is near to another photo of the same identity, and far from another's."""
    one, face = embedding_of_photo(engine, photo(3))
    assert face.score > 0.9
    assert float(one @ embedding_of_photo(engine, photo(3, side=320, kind="PNG"))[0]) > 0.9
    assert float(one @ embedding_of_photo(engine, photo(4))[0]) < 0.5


def test_no_face_and_several_are_told(engine: InsightFaceEngine) -> None:
    """Answers, not failures: no circuit opens for them."""
    several = encoded(scene([Placed(1, (20, 20), 300), Placed(2, (560, 60), 300)], width=1000, height=500))
    for data, code in ((encoded(scene([])), "NO_FACE_IN_PHOTO"), (several, "MULTIPLE_FACES_DETECTED")):
        with pytest.raises(FaceNotDetectedError) as caught:
            embedding_of_photo(engine, data)
        assert caught.value.code == code
        fault = classify_faces(caught.value)
        assert fault is not None
        assert (fault.kind, rule(fault.kind).failure) == (Kind.condition, False)


def test_an_unclear_face_is_told_with_its_score(engine: InsightFaceEngine) -> None:
    """The score to two decimals, in the words of the document."""
    with pytest.raises(LowQualityError) as caught:
        embedding_of_photo(engine, photo(3), lowest_score=0.995)
    assert str(caught.value) == "Face quality too low (score: 0.99)"
    assert caught.value.code == "LOW_QUALITY_FACE"
    assert str(LowQualityError(0.1)) == "Face quality too low (score: 0.10)"


def test_no_picture_at_all(engine: InsightFaceEngine) -> None:
    """Unreadable bytes are the decoder's own error."""
    with pytest.raises(UnreadableImageError):
        embedding_of_photo(engine, b"no picture")


# -- choosing, and what is not installed ------------------------------------------------------------------------------


def test_a_named_pack_chooses_the_engine(pack: Path) -> None:
    """With a pack InsightFace, without the basic engine; a contradiction is refused."""
    assert choose(pack=pack).names_people
    assert not choose().names_people
    for engine, given in (("basic", pack), ("insightface", None), ("other", None)):
        with pytest.raises(OptionError, match=r"choose\.(pack|engine) must be"):
            choose(engine, pack=given)


class Unloadable:
    """Makes the import of cv2 fail with these words."""

    def __init__(self, said: str) -> None:
        self.said = said

    def find_spec(self, name: str, *_: object) -> None:
        if name == "cv2":
            raise ImportError(self.said)


@pytest.mark.parametrize(
    "said",
    [
        "libGL.so.1: cannot open shared object file: No such file or directory",
        "Error loading shared library libGL.so.1: No such file or directory (needed by /x/cv2/cv2.abi3.so)",
    ],
)
def test_a_missing_library_of_the_system_names_the_cure(said: str, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim images lack libGL; OpenCV's own error, glibc's words or musl's, says only that a file is missing."""
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Unloadable(said), *sys.meta_path])
    with pytest.raises(MissingLibraryError, match=r"^libGL\.so\.1 is not on this system, and opencv-python") as caught:
        InsightFaceEngine(pack)
    for command in (MissingLibraryError.HEADLESS, MissingLibraryError.LIBRARIES):
        assert f"`{command}`" in str(caught.value)


def test_a_broken_opencv_is_no_missing_library(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system lacks nothing, so to install something there is no cure."""
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    broken = Unloadable("/x/cv2/libopenblas.so.0: undefined symbol: other")
    monkeypatch.setattr(sys, "meta_path", [broken, *sys.meta_path])
    with pytest.raises(MissingExtraError) as caught:
        InsightFaceEngine(pack)
    assert type(caught.value) is MissingExtraError
    assert "undefined symbol" in str(caught.value.__cause__)


def test_without_the_extra_it_is_named(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing installed: which extra to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"resilient-faces\[insightface\]"):
        InsightFaceEngine(pack)


def test_frames_come_in_rgb(engine: InsightFaceEngine) -> None:
    """A decoded photo and the array that it was made from give the same embedding: no colour is swapped on the way."""
    (one,) = engine.embed(shown := picture(Placed(7, (90, 90), 300), width=480, height=480), engine.detect(shown))
    data = encoded(scene([Placed(7, (90, 90), 300)], width=480, height=480), "PNG")
    other, _ = embedding_of_photo(engine, data)
    assert decode(data).format == "PNG"
    assert float(one @ other) == pytest.approx(1, abs=1e-6)
