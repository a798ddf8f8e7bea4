"""InsightFace as the local recogniser: loads a model pack from a directory, finds faces, makes embeddings.

Nothing is ever downloaded. InsightFace itself fetches a pack that it does not find, without a time limit; so the pack
is looked at first, and InsightFace is only called with a directory that is there. The public packs (buffalo_l and its
kin) are licensed for non-commercial research only: which pack is used, and under which licence, is the user's choice.

A pack that is missing, damaged or incomplete is a `PackError` that says what to do. `load_or_degrade` gives instead a
recogniser that finds nobody and says why. `FrameRecogniser` is for services that must run without their model and
take it into use when it appears: it has a circuit around inference, and answers with a reason where it cannot see.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from resilient_faces._core.options import Checks
from resilient_faces._core.runtime import RUNTIME, logger_of, on_fork
from resilient_faces._core.workers import run_async
from resilient_faces.adapters._faces import MAX_PIXELS, Face, Image, Picture, Recogniser, decode, load
from resilient_faces.adapters.gallery import Gallery, Match
from resilient_faces.breaker import Breaker
from resilient_faces.composing import Decorator
from resilient_faces.degrade import Criticality, ServiceHealth, services
from resilient_faces.errors import CircuitOpenError, MissingExtraError, OptionError, ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

__all__ = [
    "FaceNotDetectedError",
    "FrameError",
    "FrameRecogniser",
    "InsightFaceEngine",
    "LowQualityError",
    "MissingLibraryError",
    "PackError",
    "Sighting",
    "Sightings",
    "WithoutModel",
    "classify_faces",
    "embedding_of_photo",
    "load_or_degrade",
    "picture_of",
]

_log: Final = logger_of("insightface")

SAME_PERSON: Final = 0.5  # cosine that counts as the same person unless told otherwise
SAME_PERSON_PERCENT: Final = 80.0  # and the likeness that it is shown as: Rekognition's own default threshold
GOOD_FACE: Final = 0.6  # detector's score that a photo to enrol from must reach unless told otherwise

_NO_LIBRARY: Final = re.compile(r"(lib[\w.+-]+): (?:cannot open shared object file|No such file)")  # glibc's, musl's
_NO_PATH: Final = (OSError, RuntimeError, ValueError)  # ~ without a home, as in some containers, is a RuntimeError
_SHORTEST_SIDE: Final = 16  # px
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
    """InsightFace is installed, but a library of the operating system that its OpenCV needs is not.

    Attributes:
        HEADLESS: The command that puts an OpenCV without windows in its place, which needs no such library. In this
            order, and by force: both packages write the same folder.
        LIBRARIES: The command that installs what OpenCV needs, on Debian and Ubuntu.
    """

    HEADLESS: ClassVar[str] = (
        "pip uninstall -y opencv-python && pip install --force-reinstall --no-deps opencv-python-headless"
    )
    LIBRARIES: ClassVar[str] = "apt-get install -y libgl1 libglib2.0-0"

    def __str__(self) -> str:
        return (
            f"{self.missing} is not on this system, and opencv-python needs it. Take the OpenCV without windows: "
            f"`{self.HEADLESS}`. Or install what it needs: `{self.LIBRARIES}`."
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


class FrameError(ResilienceError, ValueError):
    """What came from a camera is no frame; the message says which rule it breaks, and nothing of its pixels."""


def classify_faces(error: BaseException) -> Fault | None:
    """What an error of this module means; None for others. A photo without a face is an answer, not a failure."""
    if isinstance(error, PackError):
        return Fault(Kind.invalid, f"insightface.pack_{error.reason}", Executed.no)
    if isinstance(error, (FaceNotDetectedError, LowQualityError)):
        return Fault(Kind.condition, error.code, Executed.yes)
    if isinstance(error, FrameError):
        return Fault(Kind.invalid, "frame.invalid", Executed.no)
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
        if not getattr(loaded.det_model, "use_kps", False):  # found out now, not at the first face
            raise _incomplete(directory, "detector that gives landmarks, by which faces are aligned")
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


def embedding_of_photo(
    engine: Recogniser, photo: bytes | Picture, *, lowest_score: float = GOOD_FACE
) -> tuple[Image, Face]:
    """The embedding of the one face in a photo, to enrol a person from: float32 of shape (length,), of length 1.

    Args:
        engine: Who finds and knows faces.
        photo: A JPEG or PNG file, or a picture that was unpacked already, with limits of your own.
        lowest_score: The detector's score that the face must reach.

    Raises:
        UnreadableImageError: The photo is no whole JPEG or PNG.
        FaceNotDetectedError: It shows no face, or several.
        LowQualityError: Its face has a lower score than `lowest_score`.
    """
    picture = photo if isinstance(photo, Picture) else decode(photo)
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


def picture_of(frame: Image | None) -> Picture:
    """A camera's frame as a picture, without a copy.

    Args:
        frame: uint8 array of shape (height, width, 3), BGR, 16 pixels or more to each side, contiguous or not.

    Raises:
        FrameError: It is something else.
    """
    shape, kind = getattr(frame, "shape", None), str(getattr(frame, "dtype", ""))
    if frame is None or shape is None or len(shape) != 3 or shape[2] != 3 or kind != "uint8":
        form = type(frame).__name__ if shape is None else f"{kind} of shape {tuple(shape)}"
        raise FrameError(f"A frame must be a uint8 array of shape (height, width, 3), in BGR; got {form}.")
    if min(shape[:2]) < _SHORTEST_SIDE or shape[0] * shape[1] > MAX_PIXELS:
        raise FrameError(
            f"A frame must have sides of {_SHORTEST_SIDE} pixels or more and {MAX_PIXELS} pixels at most; "
            f"got {shape[1]} x {shape[0]}."
        )
    return Picture(frame[:, :, ::-1], "BGR")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One face in a frame, and whose it is."""

    face: Face
    match: Match


@dataclass(frozen=True, slots=True)
class Sightings:
    """What was seen in one frame.

    Attributes:
        found: The faces, best score first.
        reason: Why there may have been more to see: `insightface.pack_missing` (`_damaged`, `_incomplete`),
            `insightface.library_missing`, `insightface.load_failed`, `insightface.circuit_open`, `frame.invalid`,
            `frame.failed`, `gallery.space`; empty if all of the frame was looked at.
    """

    found: tuple[Sighting, ...] = ()
    reason: str = ""


class FrameRecogniser:
    """Recognise people in frames, in a service that also runs while it cannot.

    A model that is missing or damaged does not raise: the service is marked as degraded, each frame is answered with
    nobody and the reason, and the pack's directory is looked at every `look_every` seconds. When its files have
    changed the model is loaded, by whichever call comes next; the others are answered meanwhile. Inference is under
    the circuit `service`, which marks the service as degraded too. Nothing about a frame raises.

    One object serves all cameras. Inference uses several processors by itself: let no more frames in at a time than
    there are processor cores, with a `Bulkhead`.

    Args:
        pack: As of `InsightFaceEngine`.
        service: Name of circuit and service.
        criticality: How much the whole depends on it, for health.
        breaker: Makes the circuit from its name; `functools.partial(Breaker, recovery_timeout=10.0)` gives options.
        look_every: Seconds between two looks for a model that is not there.
        make: Makes the recogniser from pack and options.
        **options: Of the recogniser.

    Raises:
        OptionError: Options are wrong.
    """

    def __init__(
        self,
        pack: Path | str,
        *,
        service: str = "insightface",
        criticality: Criticality | str = Criticality.important,
        breaker: Callable[[str], Decorator[Any]] = Breaker,
        look_every: float = 10.0,
        make: Callable[..., Recogniser] = InsightFaceEngine,
        **options: Any,
    ) -> None:
        checks = Checks("FrameRecogniser")
        checks.seconds("look_every", look_every)
        for option, function in (("breaker", breaker), ("make", make)):
            checks.function(option, function)
        checks.done()
        self.service: Final = service
        self._pack = Path(pack)
        self._make = functools.partial(make, self._pack, **options)
        self._every = look_every
        self._loading = threading.Lock()
        self._engine: Recogniser | None = None
        self._reason = ""
        self._files: object = None  # of the pack, when it could not be loaded
        self._look_at = RUNTIME.monotonic()
        self._said: dict[str, float] = {}
        services.register(service, criticality, circuits=(service,))
        self._guarded = breaker(service)(self._see)
        on_fork(self)
        if not self.load():
            _log.warning("Service starting without model - recognition endpoints will fail")

    @property
    def engine(self) -> Recogniser | None:
        """The recogniser; None while there is none."""
        return self._engine

    @property
    def space(self) -> str | None:
        """The recogniser's space, for a `Gallery`; None while there is none."""
        return None if self._engine is None else self._engine.space

    def health(self) -> ServiceHealth:
        """How the service stands."""
        return services.health_of(self.service)

    def look(self) -> Recogniser | None:
        """The recogniser; while there is none, a look for its model first, unless the last one was just now.

        Frames bring such a look with them. A service that may have none for long asks here from time to time, outside
        of its event loop.
        """
        return self._engine or self._look_again()

    def load(self) -> bool:
        """Load the model now, or anew. If that fails, one that is in use stays in use."""
        with self._loading:
            return self._load()

    def recognise(self, frame: Image | None, gallery: Gallery) -> Sightings:
        """Find the faces of a frame and say whose they are. Never raises for a frame.

        Args:
            frame: uint8 array of shape (height, width, 3), BGR.
            gallery: Who may be seen.
        """
        engine = self.look()
        if engine is None:
            self._say("error", "Face model not initialized")
            return Sightings(reason=self._reason)
        try:
            picture = picture_of(frame)
        except FrameError:
            self._say("warning", "Invalid frame received")
            return Sightings(reason="frame.invalid")
        if gallery.space != engine.space:
            self._say("error", "The gallery holds embeddings of another recogniser")
            return Sightings(reason="gallery.space")
        found: list[Sighting] = []
        try:
            self._guarded(engine, picture, gallery, found)
        except CircuitOpenError:
            return Sightings(reason="insightface.circuit_open")
        except Exception as error:
            # Its text may hold anything, so the log has the trace and the type.
            trace = "".join(traceback.format_tb(error.__traceback__))
            _log.error("Error processing frame: %s\n%s", type(error).__name__, trace)
            return Sightings(tuple(found), "frame.failed")
        return Sightings(tuple(found))

    async def arecognise(self, frame: Image | None, gallery: Gallery) -> Sightings:
        """As `recognise`, in a worker thread; one that is cancelled ends with its frame."""
        return await run_async(functools.partial(self.recognise, frame, gallery), None, apart=True)

    @staticmethod
    def _see(engine: Recogniser, picture: Picture, gallery: Gallery, found: list[Sighting]) -> None:
        """Add each face when it is known, so that those before a failure are not lost."""
        for face in engine.detect(picture):
            (embedding,) = engine.embed(picture, (face,))
            found.append(Sighting(face, gallery.match(embedding)))

    def _load(self) -> bool:
        """The caller holds the lock."""
        files = _files_of(self._pack)
        self._look_at = RUNTIME.monotonic() + self._every
        try:
            engine = self._make()
        except OptionError:
            raise  # the caller's mistake, found before anything is loaded
        except Exception as error:
            reason, text = _not_loaded(error)
            _log.error("Failed to load InsightFace model: %s", text)
            self._files = files
            if self._engine is None:
                self._reason = reason
                services.degrade(self.service, reason)
            return False
        late = self._engine is None and self._reason != ""
        self._engine, self._reason = engine, ""
        if late:
            services.recover(self.service)
            _log.info("InsightFace model loaded")
        return True

    def _look_again(self) -> Recogniser | None:
        """Look for a model now and then, one call at a time; the others do not wait for it."""
        if RUNTIME.monotonic() < self._look_at or not self._loading.acquire(blocking=False):
            return self._engine
        try:
            self._look_at = RUNTIME.monotonic() + self._every
            if self._engine is None and _files_of(self._pack) != self._files:
                self._load()
            return self._engine
        finally:
            self._loading.release()

    def _say(self, level: str, text: str) -> None:
        """Write a line at most once a second: there are many frames."""
        now = RUNTIME.monotonic()
        if now - self._said.get(text, -math.inf) >= 1.0:
            self._said[text] = now
            getattr(_log, level)(text)

    def after_fork(self) -> None:
        self._loading = threading.Lock()


def _not_loaded(error: Exception) -> tuple[str, str]:
    """Code and words for a model that could not be loaded; of errors that are not ours the type alone."""
    if isinstance(error, PackError):
        return f"insightface.pack_{error.reason}", str(error)
    if isinstance(error, MissingExtraError):
        return "insightface.library_missing", str(error)
    return "insightface.load_failed", type(error).__name__


def _files_of(pack: Path) -> object:
    """What tells whether a pack has changed: names, sizes and times of its files."""
    try:
        found = [(file.name, file.stat()) for file in sorted(pack.expanduser().glob("*.onnx"))]
    except _NO_PATH:
        return None
    return [(name, now.st_size, now.st_mtime_ns) for name, now in found]


def checked_pack(directory: Path) -> Path:
    """Look at a pack before anything is loaded; returns it as an absolute path.

    Raises:
        PackError: It is not there, is empty, or has empty files.
    """
    try:
        directory = directory.expanduser().absolute()
        there = directory.is_dir()
    except _NO_PATH:
        there = False
    if not there:
        raise PackError(
            "missing",
            f"The model pack {directory} is not there, and nothing is downloaded. Name a directory with the pack's "
            ".onnx files.",
        )
    files = sorted(directory.glob("*.onnx"))
    if not files:
        deeper = sorted({file.parent for file in directory.glob("*/*.onnx")})
        hint = f" There are some one level deeper: use {deeper[0]}." if deeper else " Name one that has them."
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
        found = _NO_LIBRARY.search(str(error.__cause__))
        if module == "cv2" and found is not None:
            raise MissingLibraryError("insightface", found[1]) from error
        raise
