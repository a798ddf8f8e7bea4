"""What every local recogniser shares: pictures, faces, the protocol of an engine, and how good a face looks."""

from __future__ import annotations

import importlib
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from resilient_faces.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[Any]
else:
    Image = Any

__all__ = [
    "Face",
    "Image",
    "Picture",
    "Quality",
    "Recogniser",
    "TooManyPixelsError",
    "UnreadableImageError",
    "decode",
    "load",
    "quality",
]

MAX_PIXELS: Final = 60_000_000  # a picture that unpacks to more is refused before it is unpacked
MAX_SCANS: Final = 50  # of a progressive JPEG; encoders make a dozen, and each costs a pass over the whole picture


class UnreadableImageError(ValueError):
    """These bytes are no picture that the recogniser reads; `reason` says why, without a byte of the picture."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image cannot be read: {reason}. Send a whole JPEG or PNG file.")
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str]]:
        return (type(self), (self.reason,))


class TooManyPixelsError(UnreadableImageError):
    """The picture would take too much memory to unpack; told from its header."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in a picture.

    Attributes:
        box: Left, top, right, bottom in pixels of the picture.
        score: How sure the detector is, from 0 to 1; an engine that only says yes or no gives a constant, and says so
            in its own description.
        landmarks: x and y in pixels of the left eye, right eye, nose, left and right corner of the mouth, left as seen
            in the picture; empty if the engine finds none.
    """

    box: tuple[int, int, int, int]
    score: float
    landmarks: tuple[tuple[float, float], ...] = ()

    @property
    def area(self) -> int:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


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
    """What a local engine does. One object serves several threads."""

    @property
    def name(self) -> str: ...

    @property
    def names_people(self) -> bool:
        """Whether a likeness from this engine may be taken for an identity; otherwise it is a hint."""
        ...

    @property
    def space(self) -> str:
        """Which embeddings can be compared: those of the same space."""
        ...

    def detect(self, picture: Picture) -> tuple[Face, ...]:
        """Find the faces of one picture, best score first, then the largest; empty if there are none."""
        ...

    def embed(self, picture: Picture, faces: tuple[Face, ...]) -> Image:
        """Embeddings of faces found in this picture: float32 of shape (faces, length), each row of length 1."""
        ...

    def similarity(self, cosine: float) -> float:
        """Likeness in percent for the cosine of two embeddings; 80 and more means the same person."""
        ...


def decode(data: bytes, *, most_pixels: int | None = None, longest_side: int | None = None) -> Picture:
    """Unpack a JPEG or PNG file, turned upright by its EXIF orientation.

    Args:
        data: The file.
        most_pixels: Pictures of more are refused, from their header, before any of them is unpacked; None takes
            `MAX_PIXELS`.
        longest_side: Pictures are shrunk until no side is longer, a JPEG already while it is unpacked, which saves most
            of the memory; None leaves them as they are.

    Raises:
        TooManyPixelsError: The picture is too large to unpack.
        UnreadableImageError: The bytes are no whole JPEG or PNG.
        MissingExtraError: Pillow is not installed (extra `demo`).
    """
    pil = load("PIL.Image")
    numpy = load("numpy")
    limit = MAX_PIXELS if most_pixels is None else most_pixels
    try:
        with pil.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > limit:
                raise TooManyPixelsError(f"{opened.width} x {opened.height} pixels are more than {limit}")
            kind = str(opened.format)
            if kind != "PNG" and _scans(data) > MAX_SCANS:
                raise UnreadableImageError(f"it has more than {MAX_SCANS} scans")
            if longest_side is not None:
                opened.draft("RGB", (longest_side, longest_side))  # lets the decoder of JPEG do the rough part
                opened.thumbnail((longest_side, longest_side))
            upright = load("PIL.ImageOps").exif_transpose(opened)
            pixels = numpy.asarray(upright.convert("RGB"))
    except UnreadableImageError:
        raise
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:  # Pillow's own limit, met while opening
        raise TooManyPixelsError(f"more than {limit} pixels") from error
    except (
        Exception
    ) as error:  # Pillow raises a dozen classes, SyntaxError and struct.error among them, for damaged files
        raise UnreadableImageError(f"decoding stopped with {type(error).__name__}") from error
    return Picture(pixels=pixels, format=kind)


_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")  # within the data of a scan ff is followed by 00


def _scans(jpeg: bytes) -> int:
    """How many scans a JPEG has, up to its end or a few more than are allowed; what lies behind its end is no scan."""
    at, scans = 2, 0
    while scans <= MAX_SCANS and (found := _MARKER.search(jpeg, at)) is not None:
        at, code = found.end(), found[1][0]
        if code == 0xD9:  # the end
            break
        if not 0xD0 <= code <= 0xD8 and code != 0x01:  # these have no length
            scans += code == 0xDA
            at += int.from_bytes(jpeg[at : at + 2], "big")
    return scans


@dataclass(frozen=True, slots=True)
class Quality:
    """How a face looks to a camera person, both from 0 to 100.

    `sharpness` compares fine detail with contrast on the face scaled to 128 pixels: about 100 for a sharp photograph,
    under 60 when it is smeared by some ten pixels.
    """

    brightness: float
    sharpness: float


_CROP: Final = 128  # px, the side on which sharpness is measured
_SHARP: Final = 1.42e-2  # Laplacian variance over variance of a sharp face, measured on photographs


def quality(picture: Picture, face: Face) -> Quality:
    """Measure brightness and sharpness inside the face's box."""
    pil = load("PIL.Image")
    numpy = load("numpy")
    left, top, right, bottom = face.box
    crop = picture.pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if crop.size == 0:
        return Quality(0.0, 0.0)
    grey = pil.fromarray(numpy.ascontiguousarray(crop)).convert("L").resize((_CROP, _CROP), pil.Resampling.BILINEAR)
    shown = numpy.asarray(grey.filter(load("PIL.ImageFilter").GaussianBlur(1)), dtype=numpy.float64)
    centre = shown[1:-1, 1:-1]
    detail = shown[:-2, 1:-1] + shown[2:, 1:-1] + shown[1:-1, :-2] + shown[1:-1, 2:] - 4 * centre
    contrast = float(shown.var())
    ratio = float(detail.var()) / contrast if contrast > 1.0 else 0.0
    return Quality(
        brightness=float(numpy.asarray(grey).mean()) / 2.55,
        sharpness=min(100.0, 100.0 * ratio / _SHARP),
    )


def load(module: str, extra: str = "demo") -> Any:
    """Import a module of an extra.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra=extra, missing=module.partition(".")[0]) from error
