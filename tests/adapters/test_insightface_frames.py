"""Recognition of frames in a service that also runs without its model: answers, reasons, health, log at each moment."""

from __future__ import annotations

import functools
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from resilient_faces import Breaker, services
from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.adapters.gallery import Gallery
from resilient_faces.adapters.insightface import (
    FrameError,
    FrameRecogniser,
    PackError,
    Sightings,
    embedding_of_photo,
    picture_of,
)
from resilient_faces.adapters.recogniser import Face, Picture, decode
from resilient_faces.breaker import consecutive
from resilient_faces.errors import OptionError
from resilient_faces.testing.card_pack import DETECTOR, Placed, photo, scene, write_pack
from resilient_faces.testing.modes import Mode

np = pytest.importorskip("numpy", reason="the extra `insightface` is not installed")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("insightface", reason="the extra `insightface` is not installed")
    return write_pack(tmp_path_factory.mktemp("packs") / "cards")


@pytest.fixture(autouse=True)
def _fresh(resilience: None) -> None:
    """No circuit or service of another test."""


def frame(*cards: Placed, width: int = 1000, height: int = 500) -> Any:
    return scene(cards, width=width, height=height)


TWO = (Placed(1, (20, 60), 380), Placed(2, (560, 60), 380))


def enrolled(recogniser: FrameRecogniser) -> Gallery:
    """Persons 1 and 3, from one photograph each."""
    assert recogniser.engine is not None
    assert recogniser.space is not None
    gallery = Gallery(recogniser.space)
    for number in (1, 3):
        gallery.add(f"person-{number}", embedding_of_photo(recogniser.engine, photo(number, side=300, kind="PNG"))[0])
    return gallery


def see(mode: Mode, recogniser: FrameRecogniser, shown: Any, gallery: Gallery) -> Sightings:
    function = recogniser.arecognise if mode.is_async else recogniser.recognise
    sightings = mode.call(functools.partial(function, shown, gallery))
    assert isinstance(sightings, Sightings)
    return sightings


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    mine = [record for record in caplog.records if record.name == "resilient_faces.insightface"]
    return [(record.levelname, record.getMessage()) for record in mine]


class Stub:
    """A recogniser that finds so many faces, and fails as it is told."""

    name, names_people, space = "stub", True, "stub"

    def __init__(self, faces: int = 3, fails_at: int | None = None) -> None:
        self.faces, self.fails_at, self.frames = faces, fails_at, 0

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        self.frames += 1
        if self.fails_at == -1:
            raise RuntimeError("GEHEIM")
        return tuple(Face((number, 0, number + 1, 1), 0.9) for number in range(self.faces))

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Any:
        if faces[0].box[0] == self.fails_at:
            raise RuntimeError("GEHEIM")
        return np.ones((1, 4), np.float32)

    def similarity(self, cosine: float) -> float:
        return 0.0


def stubbed(stub: Stub, **options: Any) -> tuple[FrameRecogniser, Gallery]:
    gallery = Gallery("stub", length=4)
    gallery.add("somebody", np.ones(4))
    return FrameRecogniser("nowhere", make=lambda pack: stub, **options), gallery


GOOD = np.zeros((32, 32, 3), np.uint8)


def test_people_are_recognised(mode: Mode, pack: Path) -> None:
    """Each face of the frame with its match, who is not enrolled as nobody; nothing is degraded."""
    recogniser = FrameRecogniser(pack)
    sightings = see(mode, recogniser, frame(*TWO), enrolled(recogniser))
    assert sightings.reason == ""
    found = sorted(sightings.found, key=lambda one: one.face.box)
    assert [one.match.identity for one in found] == ["person-1", None]
    assert found[1].match.reason == "below_threshold"
    assert recogniser.health().status == "healthy"


def test_a_frame_is_read_as_bgr(pack: Path) -> None:
    """With its colours the other way round the same frame shows nobody."""
    recogniser = FrameRecogniser(pack)
    gallery = enrolled(recogniser)
    assert any(one.match for one in recogniser.recognise(frame(*TWO), gallery).found)
    assert not any(one.match for one in recogniser.recognise(frame(*TWO)[:, :, ::-1], gallery).found)


def test_frames_need_not_be_contiguous(pack: Path) -> None:
    """Parts and mirrored memory of a larger array are frames too."""
    recogniser = FrameRecogniser(pack)
    gallery = enrolled(recogniser)
    part = np.asfortranarray(np.pad(frame(*TWO), ((8, 8), (8, 8), (0, 0))))[8:-8, 8:-8]
    assert not part.flags.c_contiguous
    assert len([one for one in recogniser.recognise(part, gallery).found if one.match]) == 1


@pytest.mark.parametrize("kind", ["file", "device"])
def test_frames_of_a_file_and_of_a_device(kind: str, pack: Path, tmp_path: Path) -> None:
    """A recording and a device give frames through the same class as a stream: the person in them is known."""
    pytest.importorskip("av", reason="the extra `rtsp` is not installed")
    from resilient_faces.adapters.rtsp import Camera
    from resilient_faces.testing.rtsp_server import encode

    clip = encode([frame(*TWO)] * 10, rate=10.0)
    file = tmp_path / "clip.h264"
    file.write_bytes(b"".join(b"\0\0\0\1" + unit for units in clip.frames for unit in units))
    recogniser = FrameRecogniser(pack)
    gallery = enrolled(recogniser)
    camera = Camera(file) if kind == "file" else Camera(f"movie={file},realtime", format="lavfi")
    with camera:
        shown = [recogniser.recognise(camera.take(10.0).image, gallery) for _ in range(3)]
    for sightings in shown:
        assert sightings.reason == ""
        assert sorted(str(one.match.identity) for one in sightings.found) == ["None", "person-1"]


INVALID: dict[str, Any] = {
    "none": None,
    "empty": np.zeros((0, 0, 3), np.uint8),
    "grey": np.zeros((50, 50), np.uint8),
    "alpha": np.zeros((50, 50, 4), np.uint8),
    "floats": np.zeros((50, 50, 3)),
    "tiny": np.zeros((15, 50, 3), np.uint8),
    "huge": np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (10_000, 10_000, 3)),
    "bytes": b"GEHEIM",
    "list": [[[1, 2, 3]]],
}


@pytest.mark.parametrize("what", INVALID)
def test_what_is_no_frame_is_answered_with_nobody(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning in the words of the document, a reason, and the recogniser is not asked; no circuit counts it."""
    recogniser, gallery = stubbed(stub := Stub(), breaker=functools.partial(Breaker, trips=consecutive(1)))
    assert recogniser.recognise(INVALID[what], gallery) == Sightings((), "frame.invalid")
    assert lines(caplog) == [("WARNING", "Invalid frame received")]
    assert stub.frames == 0
    assert recogniser.recognise(GOOD, gallery).reason == ""
    with pytest.raises(FrameError, match=r"A frame must (be a uint8 array|have sides)") as caught:
        picture_of(INVALID[what])
    assert "GEHEIM" not in str(caught.value)


def test_a_missing_model_does_not_stop_the_service(
    mode: Mode, clock: ManualRuntime, pack: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Degraded from the start, answers with a reason, and the model is taken into use when it appears."""
    recogniser = FrameRecogniser(tmp_path / "later", criticality="critical")
    written = lines(caplog)
    assert [level for level, _ in written] == ["ERROR", "WARNING"]
    assert written[0][1].startswith("Failed to load InsightFace model: The model pack")
    assert written[1][1] == "Service starting without model - recognition endpoints will fail"
    assert (recogniser.engine, recogniser.space) == (None, None)
    assert (recogniser.health().status, recogniser.health().reason) == ("degraded", "insightface.pack_missing")
    assert services.health().status == "unhealthy"

    gallery = enrolled(FrameRecogniser(pack, service="other"))
    caplog.clear()
    for _ in range(5):
        assert see(mode, recogniser, frame(*TWO), gallery) == Sightings((), "insightface.pack_missing")
    assert lines(caplog) == [("ERROR", "Face model not initialized")]  # once a second, not once a frame

    shutil.copytree(pack, tmp_path / "later")
    assert see(mode, recogniser, frame(*TWO), gallery).reason == "insightface.pack_missing"  # not looked at yet
    clock.advance(10.0)
    sightings = see(mode, recogniser, frame(*TWO), gallery)
    assert (sightings.reason, len(sightings.found)) == ("", 2)
    assert (recogniser.health().status, recogniser.health().recoveries) == ("healthy", 1)
    assert services.health().status == "healthy"


def test_a_damaged_model_is_loaded_once_it_is_mended(clock: ManualRuntime, pack: Path, tmp_path: Path) -> None:
    """It is not loaded again and again: only when its files have changed, or by hand."""
    copy = shutil.copytree(pack, tmp_path / "pack")
    (copy / DETECTOR).write_bytes(b"<html>")
    made: list[Path] = []

    def make(where: Path, **options: Any) -> Any:
        from resilient_faces.adapters.insightface import InsightFaceEngine

        made.append(where)
        return InsightFaceEngine(where, **options)

    recogniser = FrameRecogniser(copy, make=make)
    gallery = Gallery("any")
    assert recogniser.recognise(frame(), gallery).reason == "insightface.pack_damaged"
    for _ in range(3):
        clock.advance(10.0)
        recogniser.recognise(frame(), gallery)
    assert len(made) == 1
    assert not recogniser.load()
    assert len(made) == 2
    shutil.copy(pack / DETECTOR, copy / DETECTOR)
    assert recogniser.load()
    assert recogniser.recognise(frame(*TWO), enrolled(recogniser)).reason == ""
    (copy / DETECTOR).write_bytes(b"<html>")
    assert not recogniser.load()  # what is in use stays in use
    assert recogniser.recognise(frame(*TWO), enrolled(recogniser)).reason == ""
    assert recogniser.health().status == "healthy"


def test_one_call_loads_and_the_others_go_on(clock: ManualRuntime, tmp_path: Path) -> None:
    """Loading takes a second: frames of other cameras are answered meanwhile, and nobody loads a second time."""
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(where: Path) -> Any:
        if not where.is_dir():
            raise PackError("missing", "not there")
        made.append(where)
        begun.set()
        assert go_on.wait(10.0)
        return Stub()

    recogniser = FrameRecogniser(tmp_path / "p", make=make)
    gallery = Gallery("stub", length=4)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.onnx").write_bytes(b"x")
    clock.advance(10.0)
    first: list[Sightings] = []
    thread = threading.Thread(target=lambda: first.append(recogniser.recognise(GOOD, gallery)))
    thread.start()
    assert begun.wait(10.0)
    clock.advance(60.0)
    assert recogniser.recognise(GOOD, gallery).reason == "insightface.pack_missing"
    go_on.set()
    thread.join(10.0)
    assert first[0].reason == ""
    assert len(made) == 1


def test_whatever_loading_raises_the_service_starts(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw is logged by its type, and is no reason not to start."""

    def make(where: Path) -> Any:
        raise ZeroDivisionError("GEHEIM")

    recogniser = FrameRecogniser("nowhere", make=make)
    assert recogniser.health().reason == "insightface.load_failed"
    assert lines(caplog)[0] == ("ERROR", "Failed to load InsightFace model: ZeroDivisionError")


def test_faces_before_a_failure_are_kept(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """The list so far is returned; the log has the traceback, and no word of the error's own."""
    recogniser, gallery = stubbed(Stub(faces=3, fails_at=2))
    sightings = see(mode, recogniser, GOOD, gallery)
    assert ([one.match.identity for one in sightings.found], sightings.reason) == (["somebody"] * 2, "frame.failed")
    ((level, text),) = lines(caplog)
    assert level == "ERROR"
    assert text.startswith("Error processing frame: RuntimeError\n")
    assert "in embed" in text
    assert "GEHEIM" not in text.replace('raise RuntimeError("GEHEIM")', "")  # the source line of this test


def test_a_circuit_guards_inference(mode: Mode, clock: ManualRuntime) -> None:
    """After failures in a row the model is left alone for a while; health says so, and says when it works again."""
    recogniser, gallery = stubbed(stub := Stub(fails_at=-1))
    reasons = [see(mode, recogniser, GOOD, gallery).reason for _ in range(7)]
    assert reasons == ["frame.failed"] * 5 + ["insightface.circuit_open"] * 2
    assert stub.frames == 5
    assert recogniser.health().status == "degraded"
    stub.fails_at = None
    clock.advance(5.0)
    assert see(mode, recogniser, GOOD, gallery).reason == ""
    assert recogniser.health().status == "healthy"


def test_a_gallery_of_another_recogniser_is_not_searched(caplog: pytest.LogCaptureFixture) -> None:
    """Its answers would be nonsense instead of an error."""
    recogniser, _ = stubbed(stub := Stub())
    assert recogniser.recognise(GOOD, Gallery("other", length=4)).reason == "gallery.space"
    assert stub.frames == 0
    assert lines(caplog)[0][0] == "ERROR"


def test_identities_stay_out_of_sight(caplog: pytest.LogCaptureFixture) -> None:
    """Not in the `repr` of what was seen, and in no log line."""
    recogniser, _ = stubbed(Stub())
    gallery = Gallery("stub", length=4)
    gallery.add("GEHEIM", np.ones(4))
    with caplog.at_level(logging.DEBUG):
        sightings = recogniser.recognise(GOOD, gallery)
    assert sightings.found[0].match.identity == "GEHEIM"
    assert "GEHEIM" not in repr(sightings) + caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"look_every": 0}, r"FrameRecogniser\.look_every must be more than 0"),
        ({"make": 3}, r"FrameRecogniser\.make must be callable"),
        ({"detection_size": 100}, r"InsightFaceEngine\.detection_size must be a multiple of 32"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    """Also those of the recogniser, whether its model is there or not."""
    with pytest.raises(OptionError, match=said):
        FrameRecogniser("nowhere", **options)


def test_a_service_without_frames_looks_by_itself(clock: ManualRuntime, tmp_path: Path) -> None:
    """`look` gives the recogniser, and looks for its model no more often than frames would."""
    loads: list[Path] = []
    there = Stub()

    def make(pack: Path) -> Stub:
        loads.append(pack)
        if not any(pack.glob("*.onnx")):
            raise PackError("missing", "not there")
        return there

    recogniser = FrameRecogniser(tmp_path, make=make, look_every=10.0)
    (tmp_path / "det.onnx").write_text("x")
    assert recogniser.look() is None, "the last look was just now"
    clock.advance(10.0)
    assert recogniser.look() is there
    assert recogniser.look() is there
    assert len(loads) == 2


def test_a_photo_may_come_as_a_picture(pack: Path) -> None:
    """One that was unpacked already gives the embedding that its file gives."""
    recogniser = FrameRecogniser(pack)
    assert recogniser.engine is not None
    file = photo(1, kind="PNG")
    unpacked, _ = embedding_of_photo(recogniser.engine, decode(file))
    packed, _ = embedding_of_photo(recogniser.engine, file)
    assert (unpacked == packed).all()
