"""The local recogniser: find faces in a picture on this machine, without an account and without a model download.

`BasicEngine` runs the frontal-face cascade that scikit-image installs. It says where a face is, and nothing about
whose face it is: a cascade has no identity, so the engine carries `names_people = False`, and the likeness that it
measures on textures is a hint that must be shown as one. Engines that do know people fulfil the same protocol and set
`names_people = True`; `choose` picks one.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar, Final

from resilient_faces._core.options import Checks
from resilient_faces.adapters._faces import (
    Face,
    Image,
    Picture,
    Quality,
    Recogniser,
    TooManyPixelsError,
    UnreadableImageError,
    decode,
    load,
    quality,
)
from resilient_faces.errors import MissingExtraError, OptionError

__all__ = [
    "ENGINES",
    "BasicEngine",
    "Face",
    "Picture",
    "Quality",
    "Recogniser",
    "TooManyPixelsError",
    "UnreadableImageError",
    "cascade_file",
    "choose",
    "decode",
    "quality",
    "skimage_data",
]

CASCADE: Final = "lbpcascade_frontalface_opencv.xml"
LONGEST_SIDE: Final = 640  # px; larger pictures are shrunk for the search, the boxes are scaled back
ENGINES: Final = ("basic", "insightface")

_CROP: Final = 96  # px, the side that a face is scaled to before its texture is described
_CELL: Final = 12  # px
_PATTERNS: Final = 59  # uniform local binary patterns of eight neighbours


def choose(engine: str | None = None, *, pack: Path | str | None = None) -> Recogniser:
    """Make an engine by its name; None takes `insightface` if a pack is named, else `basic`.

    Raises:
        OptionError: There is no such engine, or name and pack contradict each other.
        PackError: The pack is missing, damaged or incomplete.
        MissingExtraError: What the engine needs is not installed.
    """
    name = engine or ("insightface" if pack is not None else "basic")
    if name not in ENGINES:
        raise OptionError(f"choose.engine must be one of {', '.join(ENGINES)}; got {name!r}.")
    if name == "basic":
        if pack is not None:
            raise OptionError("choose.pack must be left out for the engine basic, which has no model.")
        return BasicEngine()
    if pack is None:
        raise OptionError(
            "choose.pack must be a directory with a model pack for the engine insightface; got None. "
            "Nothing is downloaded."
        )
    from resilient_faces.adapters.insightface import InsightFaceEngine

    return InsightFaceEngine(pack)


class BasicEngine:
    """Find frontal faces with the LBP cascade of scikit-image.

    Faces of `smallest` pixels or more are looked for (after the picture was shrunk to `LONGEST_SIDE`), in steps of
    1.1, and ten windows must agree: with that it found 57 of 60 faces and none on 15 pictures without one. The
    cascade gives a yes and no degree, so every face has the score 0.9. Detection leaves the interpreter lock, so
    several threads search at once.

    Its embedding describes the texture of a face, cell by cell (histograms of local binary patterns). That finds the
    same photograph again after small changes: on a hundred faces, turned by up to 3 degrees and shifted by 2 pixels
    of 100, the lowest cosine was 0.85, and the highest of two different faces 0.72. It does not find a person again
    on another photograph: a likeness is a hint.
    """

    name: ClassVar[str] = "basic-lbp-cascade"
    names_people: ClassVar[bool] = False
    space: ClassVar[str] = "basic-lbp-texture-1"
    score: ClassVar[float] = 0.9

    def __init__(self, *, smallest: int = 60) -> None:
        checks = Checks("BasicEngine")
        checks.whole("smallest", smallest, 1, note=" pixels")
        checks.done()
        self._smallest = smallest
        self._local = threading.local()  # one cascade a thread: the object keeps scratch state while it searches
        self._file = cascade_file()
        load("skimage.feature")

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

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Image:
        """Textures of faces: float32 of shape (faces, length), each row of length 1. Alike is a hint, no identity."""
        numpy = load("numpy")
        rows = [self._texture(picture, face) for face in faces]
        found: Image = numpy.stack(rows) if rows else numpy.zeros((0, _PATTERNS * (_CROP // _CELL) ** 2), numpy.float32)
        return found

    def similarity(self, cosine: float) -> float:
        """Likeness in percent: 80 at a cosine of 0.8, above which only slightly changed copies of a photo came."""
        if cosine <= 0.8:
            return max(0.0, 80.0 * (cosine - 0.55) / 0.25)  # two faces that have nothing in common reach 0.55
        return 80.0 + 20.0 * (min(1.0, cosine) - 0.8) / 0.2

    def _texture(self, picture: Picture, face: Face) -> Image:
        numpy, pil = load("numpy"), load("PIL.Image")
        left, top, right, bottom = face.box
        crop = pil.fromarray(numpy.ascontiguousarray(picture.pixels[top:bottom, left:right])).convert("L")
        grey = numpy.asarray(crop.resize((_CROP, _CROP), pil.Resampling.BILINEAR))
        patterns = load("skimage.feature").local_binary_pattern(grey, 8, 2, "nri_uniform").astype(numpy.intp)
        starts = range(0, _CROP, _CELL)
        cells = [patterns[row : row + _CELL, column : column + _CELL].ravel() for row in starts for column in starts]
        counts = numpy.concatenate([numpy.bincount(cell, minlength=_PATTERNS)[:_PATTERNS] for cell in cells])
        texture: Image = numpy.sqrt(counts / (_CROP * _CROP)).astype(numpy.float32)
        return texture

    def _prepared(self, picture: Picture) -> tuple[Image, float]:
        pil = load("PIL.Image")
        numpy = load("numpy")
        grey = pil.fromarray(picture.pixels).convert("L")
        factor = max(grey.width, grey.height) / LONGEST_SIDE
        if factor <= 1:
            return numpy.asarray(grey), 1.0
        size = (max(1, round(grey.width / factor)), max(1, round(grey.height / factor)))
        return numpy.asarray(grey.resize(size, pil.Resampling.BILINEAR)), factor

    def _cascade(self) -> Any:
        cascade = getattr(self._local, "cascade", None)
        if cascade is None:
            cascade = self._local.cascade = load("skimage.feature").Cascade(str(self._file))
        return cascade


def skimage_data() -> Path:
    """The folder of files that the installed scikit-image carries; nothing in it was downloaded."""
    return Path(str(load("skimage").__file__)).parent / "data"


def cascade_file() -> Path:
    """The cascade inside the installed scikit-image: read in place, never fetched."""
    path = skimage_data() / CASCADE
    if not path.is_file():
        raise MissingExtraError(extra="demo", missing=f"scikit-image with its data file {CASCADE}")
    return path
