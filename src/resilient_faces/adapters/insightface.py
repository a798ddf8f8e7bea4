"""InsightFace as the local recogniser: loads a model pack from a directory, finds faces, makes embeddings.

Nothing is ever downloaded. InsightFace itself fetches a pack that it does not find, without a time limit; so the pack
is looked at first, and InsightFace is only called with a directory that is there. The public packs (buffalo_l and its
kin) are licensed for non-commercial research only: which pack is used, and under which licence, is the user's choice.

A pack that is missing, damaged or incomplete is a `PackError` that says what to do. `load_or_degrade` gives instead a
recogniser that finds nobody and says why, for services that must run without their model.

Inference is not guarded here: a circuit, a time limit and a bulkhead belong to the caller.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from resilient_faces._core.options import Checks
from resilient_faces.adapters._faces import Face, Image, Picture, Recogniser, decode, load
from resilient_faces.errors import MissingExtraError, ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

__all__ = [
    "FaceNotDetectedError",
    "InsightFaceEngine",
    "LowQualityError",
    "MissingLibraryError",
    "PackError",
    "WithoutModel",
    "classify_faces",
    "embedding_of_photo",
    "load_or_degrade",
]

SAME_PERSON: Final = 0.5  # cosine that counts as the same person unless told otherwise
SAME_PERSON_PERCENT: Final = 80.0  # and the likeness that it is shown as: Rekognition's own default threshold
GOOD_FACE: Final = 0.6  # detector's score that a photo to enrol from must reach unless told otherwise

_CROP: Final = 112  # px
_TEMPLATE: Final = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Eyes, nose and corners of the mouth in the crop of 112 px that recognisers of this family were trained on."""


class PackError(ResilienceError):
    """The model pack cannot be used; trying again does not help until somebody mends it.

    Attributes:
        reason: `missing`, `damaged` or `incomplete`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


class MissingLibraryError(MissingExtraError):
    """InsightFace is installed, but a library of the operating system that its OpenCV needs is not."""

    def __str__(self) -> str:
        return (
            f"{self.missing} is not on this system, and opencv-python needs it. Install it with: "
            "apt-get install libgl1 libglib2.0-0. Where nothing can be installed: "
            "pip uninstall -y opencv-python, then pip install --force-reinstall --no-deps opencv-python-headless."
        )


class FaceNotDetectedError(ResilienceError):
    """A photo that must show one face shows none, or several.

    Attributes:
        code: `NO_FACE_IN_PHOTO` or `MULTIPLE_FACES_DETECTED`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class LowQualityError(ResilienceError):
    """The face of a photo is too unclear to enrol from.

    Attributes:
        code: `LOW_QUALITY_FACE`.
        quality: The detector's score, from 0 to 1.
    """

    code: ClassVar[str] = "LOW_QUALITY_FACE"

    def __init__(self, quality: float) -> None:
        super().__init__(quality)
        self.quality = quality

    def __str__(self) -> str:
        return f"Face quality too low (score: {self.quality:.2f})"


def classify_faces(error: BaseException) -> Fault | None:
    """What an error of this module means; None for others. A photo without a face is an answer, not a failure."""
    if isinstance(error, PackError):
        return Fault(Kind.invalid, f"insightface.pack_{error.reason}", Executed.no)
    if isinstance(error, (FaceNotDetectedError, LowQualityError)):
        return Fault(Kind.condition, error.code, Executed.yes)
    return None


class InsightFaceEngine:
    """Find and know faces with a model pack of InsightFace.

    Args:
        pack: Directory with the pack's .onnx files (detector and recogniser; others are left unused).
        detection_size: Side in pixels of the square that pictures are fitted into for the search; a multiple of 32.
        lowest_score: Faces with a lower score of the detector are not faces.
        same_person: Cosine of two embeddings from which on they count as the same person. Depends on the pack and on
            what a mistake costs; it was not measured on any public pack.
        threads: Threads of one inference; None for half the processors, since two often share one core.
        providers: Execution providers of ONNX Runtime, in order of preference.

    Raises:
        OptionError: An option has a value that cannot be.
        PackError: The pack is missing, damaged or incomplete.
        MissingExtraError: The extra `insightface` is not installed, or a library that OpenCV needs.
    """

    name: ClassVar[str] = "insightface"
    names_people: ClassVar[bool] = True

    def __init__(
        self,
        pack: Path | str,
        *,
        detection_size: int = 640,
        lowest_score: float = 0.5,
        same_person: float = SAME_PERSON,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        checks = Checks("InsightFaceEngine")
        if checks.whole("detection_size", detection_size, 32):
            checks.that(detection_size % 32 == 0, "detection_size", "a multiple of 32", detection_size)
        checks.number("lowest_score", lowest_score, 0.0, 1.0)
        checks.number("same_person", same_person, 0.0, 0.99, above=True)
        if threads is not None:
            checks.whole("threads", threads, 1, "None leaves the choice to the engine.")
        checks.that(bool(providers) and not isinstance(providers, str), "providers", "a sequence of names", providers)
        checks.done()
        directory = checked_pack(Path(pack))
        self._cv2 = _library("cv2")
        self._numpy = load("numpy", "insightface")
        self._same_person = float(same_person)
        self._analysis = self._load(directory, threads or max(1, (os.cpu_count() or 2) // 2), list(providers))
        self._analysis.prepare(0, det_thresh=lowest_score, det_size=(detection_size, detection_size))
        self._recognition = self._analysis.models["recognition"]
        self.space = f"insightface-{_fingerprint(Path(self._recognition.model_file))}"
        self._warm_up(directory)

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        """Find the faces of one picture, best score first, then the largest; empty if there are none."""
        boxes, points = self._analysis.det_model.detect(self._bgr(picture))
        if len(boxes) and points is None:
            raise PackError("incomplete", "The pack's detector gives no landmarks, so no face can be aligned.")
        faces = [
            Face(
                box=(
                    max(0, round(float(left))),
                    max(0, round(float(top))),
                    min(picture.width, round(float(right))),
                    min(picture.height, round(float(bottom))),
                ),
                score=float(score),
                landmarks=tuple((float(x), float(y)) for x, y in marks),
            )
            for (left, top, right, bottom, score), marks in zip(boxes, points if len(boxes) else (), strict=True)
        ]
        return tuple(sorted((face for face in faces if face.area > 0), key=lambda face: (-face.score, -face.area)))

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Image:
        """Embeddings of faces found in this picture: float32 of shape (faces, length), each row of length 1."""
        if not faces:
            nobody: Image = self._numpy.zeros((0, self._length), self._numpy.float32)
            return nobody
        pixels = self._bgr(picture)
        return self._normed(self._recognition.get_feat([self._aligned(pixels, face) for face in faces]))

    def similarity(self, cosine: float) -> float:
        """Likeness in percent: 0 for a cosine of 0 and less, 80 at `same_person`, 100 at 1, straight in between."""
        if cosine <= self._same_person:
            return max(0.0, SAME_PERSON_PERCENT * cosine / self._same_person)
        beyond = (min(1.0, cosine) - self._same_person) / (1.0 - self._same_person)
        return SAME_PERSON_PERCENT + (100.0 - SAME_PERSON_PERCENT) * beyond

    def _load(self, directory: Path, threads: int, providers: list[str]) -> Any:
        analysis = _library("insightface.app").FaceAnalysis
        runtime = _library("onnxruntime")
        known = runtime.get_available_providers()
        if unknown := [name for name in providers if name not in known]:  # ONNX Runtime only warns, and takes another
            raise PackError(
                "incomplete",
                f"InsightFaceEngine.providers names {', '.join(unknown)}; this ONNX Runtime has {', '.join(known)}.",
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            loaded = analysis(
                str(directory),
                allowed_modules=["detection", "recognition"],
                providers=providers,
                sess_options=options,
            )
        except AssertionError as error:  # bare, without a word
            raise _incomplete(directory, "detector") from error
        except Exception as error:  # ONNX Runtime, onnx and InsightFace each raise classes of their own
            raise PackError(
                "damaged",
                f"The model pack in {directory} cannot be loaded ({type(error).__name__}: {str(error)[:200]}). "
                "Unpack it again.",
            ) from error
        if "recognition" not in loaded.models:  # an interrupted unpacking: faces would be found and have no embedding
            raise _incomplete(directory, "recogniser")
        return loaded

    def _warm_up(self, directory: Path) -> None:
        """One search and one embedding: what the first picture would find out, found out now."""
        blank = self._numpy.full((_CROP, _CROP, 3), 127, self._numpy.uint8)
        blank[::2] = 90
        try:
            self._analysis.det_model.detect(blank)
            vector = self._recognition.get_feat([blank])
        except Exception as error:
            raise PackError(
                "damaged",
                f"The model pack in {directory} loads and does not run ({type(error).__name__}: {str(error)[:200]}).",
            ) from error
        self._length = int(vector.shape[-1])

    def _bgr(self, picture: Picture) -> Image:
        pixels: Image = self._numpy.ascontiguousarray(picture.pixels[:, :, ::-1])
        return pixels

    def _aligned(self, pixels: Image, face: Face) -> Image:
        """Turn, scale and shift the face so that its landmarks lie where the recogniser knows them.

        The least-squares similarity from landmarks to template, written as one complex number for turn and scale.
        """
        numpy = self._numpy
        seen = numpy.array([complex(x, y) for x, y in face.landmarks])
        wanted = numpy.array([complex(x, y) for x, y in _TEMPLATE])
        from_centre = seen - seen.mean()
        turn = numpy.vdot(from_centre, wanted - wanted.mean()) / max(1e-9, numpy.vdot(from_centre, from_centre).real)
        shift = wanted.mean() - turn * seen.mean()
        matrix = numpy.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
        crop: Image = self._cv2.warpAffine(pixels, matrix, (_CROP, _CROP), borderValue=0.0)
        return crop

    def _normed(self, vectors: Image) -> Image:
        lengths = self._numpy.linalg.norm(vectors, axis=1, keepdims=True)
        normed: Image = (vectors / self._numpy.maximum(lengths, 1e-9)).astype(self._numpy.float32)
        return normed


@dataclass(frozen=True, slots=True)
class WithoutModel:
    """A recogniser whose model is not there: it finds nobody, and says why.

    Attributes:
        reason: As of `PackError`.
        message: What is wrong and what to do, for health and log.
    """

    reason: str
    message: str
    name: ClassVar[str] = "without-model"
    space: ClassVar[str] = "none"
    names_people: ClassVar[bool] = False

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        """Nobody."""
        return ()

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Image:
        """No rows; faces of another engine cannot be embedded here."""
        if faces:
            raise PackError(self.reason, self.message)
        nobody: Image = load("numpy", "insightface").zeros((0, 0), "float32")
        return nobody

    def similarity(self, cosine: float) -> float:
        """Nothing is alike."""
        return 0.0


def load_or_degrade(pack: Path | str, **options: Any) -> InsightFaceEngine | WithoutModel:
    """Load a pack; if it is missing, damaged or incomplete, give a recogniser that finds nobody and says why.

    Called again it looks anew, so a model that appears later can be taken into use without a restart.
    """
    try:
        return InsightFaceEngine(pack, **options)
    except PackError as error:
        return WithoutModel(error.reason, str(error))


def embedding_of_photo(engine: Recogniser, photo: bytes, *, lowest_score: float = GOOD_FACE) -> tuple[Image, Face]:
    """The embedding of the one face in a photo, to enrol a person from: float32 of shape (length,), of length 1.

    Raises:
        UnreadableImageError: The photo is no whole JPEG or PNG.
        FaceNotDetectedError: It shows no face, or several.
        LowQualityError: Its face has a lower score than `lowest_score`.
    """
    picture = decode(photo)
    faces = engine.detect(picture)
    if not faces:
        raise FaceNotDetectedError("No face detected in the photo", "NO_FACE_IN_PHOTO")
    if len(faces) > 1:
        raise FaceNotDetectedError(
            f"{len(faces)} faces detected in the photo; it must show one person", "MULTIPLE_FACES_DETECTED"
        )
    if faces[0].score < lowest_score:
        raise LowQualityError(faces[0].score)
    return engine.embed(picture, faces)[0], faces[0]


def checked_pack(directory: Path) -> Path:
    """Look at a pack before anything is loaded; returns it as an absolute path.

    Raises:
        PackError: It is not there, is empty, or has empty files.
    """
    directory = directory.expanduser().absolute()
    if not directory.is_dir():
        raise PackError(
            "missing",
            f"The model pack {directory} is not there, and nothing is downloaded. Name a directory with the pack's "
            ".onnx files.",
        )
    files = sorted(directory.glob("*.onnx"))
    if not files:
        deeper = sorted({file.parent for file in directory.glob("*/*.onnx")})
        hint = f" There are some one level deeper: use {deeper[0]}." if deeper else ""
        raise PackError("missing", f"The directory {directory} has no .onnx files.{hint}")
    for file in files:
        if not file.is_file() or file.stat().st_size == 0:
            raise PackError("damaged", f"The model file {file} is empty. Unpack the pack again.")
    return directory


def _incomplete(directory: Path, part: str) -> PackError:
    return PackError(
        "incomplete", f"The model pack in {directory} has no {part}. A pack needs a detector and a recogniser."
    )


def _fingerprint(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def _library(module: str) -> Any:
    try:
        return load(module, "insightface")
    except MissingExtraError as error:
        cause = str(error.__cause__)
        if ".so" in cause:  # such as: libGL.so.1: cannot open shared object file
            raise MissingLibraryError("insightface", cause.partition(":")[0]) from error
        raise
