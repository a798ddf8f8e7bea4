"""Photos for the demonstration, with the right number of faces known without asking a detector.

They are cut from photographs that scikit-image carries in its package. The true face boxes were noted by hand on the
source photographs (the tables below) and are carried through cut, scale and mirror, so each photo knows how many
faces it shows. A cut that would go through a face is not made. The same seed makes the same photos, byte for byte.

What is used: the portrait of an astronaut; the face half of a subset of Labelled Faces in the Wild, whose pictures
are 25 x 25 pixels and are therefore enlarged on a plain ground, one or two a photo; and photographs without a human
face. Left out are pictures where people may differ on the answer (a man in profile, coins with heads) and those that
are no photographs.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resilient_faces.adapters.recogniser import skimage_data
from resilient_faces.errors import MissingExtraError

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True, slots=True)
class Source:
    """A photograph in scikit-image's package, with its faces noted by hand.

    `region` is the part that is used, `faces` the boxes inside it in pixels of the whole file: forehead to chin, ear
    to ear.
    """

    file: str
    region: Box
    faces: tuple[Box, ...] = ()


ASTRONAUT: Final = Source("astronaut.png", region=(0, 0, 512, 512), faces=((178, 70, 272, 186),))

FACELESS: Final = (
    Source("astronaut.png", region=(0, 200, 512, 512)),  # the suit below the face, with badges and a shining helmet
    Source("brick.png", region=(0, 0, 512, 512)),
    Source("chelsea.png", region=(0, 0, 451, 300)),  # the face of a cat, which is no human face
    Source("coffee.png", region=(0, 0, 600, 400)),
    Source("grass.png", region=(0, 0, 512, 512)),
    Source("gravel.png", region=(0, 0, 512, 512)),
    Source("hubble_deep_field.jpg", region=(0, 0, 1000, 872)),
    Source("moon.png", region=(0, 0, 512, 512)),
    Source("motorcycle_left.png", region=(0, 0, 741, 500)),
    Source("retina.jpg", region=(0, 0, 1411, 1411)),
    Source("rocket.jpg", region=(0, 0, 640, 427)),
)

LFW_FILE: Final = "lfw_subset.npy"
LFW_FACES: Final = (
    100  # the first hundred pictures; each was looked at and is one face from brow to chin, filling the picture
)

SIZES: Final = ((320, 240), (240, 320), (320, 256), (288, 288))  # width, height of a photo: small, so two cores keep up
_FACE_HEIGHT: Final = (90.0, 150.0)  # px in the photo
_LFW_SIDE: Final = (92, 140)  # px in the photo
_MARGIN: Final = 16  # px of the source that stay visible around a face: a cascade knows a face by its surroundings too
_SHARES: Final = (("portrait", 0.48), ("single", 0.20), ("pair", 0.05), ("faceless", 0.27))


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a run.

    Attributes:
        id: Key, external image id and row key. Made of a number and a hash, so no file name travels.
        name: What a report calls it: the source it was cut from, or the file of one's own.
        data: The bytes of the file, mostly a JPEG.
        boxes: Where its faces are; None for photos of one's own, of which nobody noted the faces.
    """

    id: str
    name: str
    data: bytes
    boxes: tuple[Box, ...] | None

    @property
    def faces(self) -> int | None:
        """The right count, if it is known."""
        return None if self.boxes is None else len(self.boxes)

    @property
    def key(self) -> str:
        """Where it lies in the object store."""
        return f"photos/{self.id}.jpg"


def burst(count: int = 200, *, seed: int = 0) -> tuple[Photo, ...]:
    """Make the photos of one burst, in the order of upload.

    Raises:
        MissingExtraError: scikit-image, or a photograph in its package, is missing (extra `demo`).
    """
    chance = random.Random(f"photos/{seed}")
    kinds = _kinds(count)
    chance.shuffle(kinds)
    album = _Album()
    return tuple(_photo(number, kind, album, chance) for number, kind in enumerate(kinds, start=1))


def from_folder(folder: Path) -> tuple[Photo, ...]:
    """Read one's own JPEGs from a folder, in the order of their names; large ones are made smaller, as on upload.

    Raises:
        ValueError: There is no JPEG in the folder.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file())
    if not files:
        raise ValueError(f"--photos must name a folder with .jpg or .jpeg files; {folder} has none.")
    return tuple(
        Photo(id=_id(number, data), name=path.name, data=data, boxes=None)
        for number, (path, data) in enumerate(((path, normalised(path.read_bytes())) for path in files), start=1)
    )


def normalised(data: bytes, *, longest_side: int = 1280) -> bytes:
    """A JPEG no longer than that on a side. What cannot be decoded stays as it is: the pipeline has to cope with it."""
    pil = _pillow()
    ops = importlib.import_module("PIL.ImageOps")
    try:
        with pil.open(io.BytesIO(data)) as opened:
            if opened.format == "JPEG" and max(opened.size) <= longest_side:
                opened.load()
                return data
            picture = ops.exif_transpose(opened)
            picture.thumbnail((longest_side, longest_side))
            return _jpeg(picture)
    except Exception:  # Pillow has a dozen classes for a damaged file
        return data


def readable(data: bytes) -> bool:
    """Whether the bytes are a picture that Pillow decodes to the end and that is large enough to be indexed."""
    try:
        with _pillow().open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            opened.load()
            return bool(min(opened.size) >= 80)
    except MissingExtraError:
        raise
    except Exception:
        return False


def carried(boxes: Sequence[Box], cut: Box, size: tuple[int, int], *, mirrored: bool) -> tuple[Box, ...] | None:
    """The boxes that lie wholly inside a cut, in pixels of the photo; None if the cut goes through one.

    Args:
        boxes: Face boxes in pixels of the source.
        cut: The part of the source that is shown.
        size: Width and height of the photo that the cut is scaled to.
        mirrored: Left and right are swapped after scaling.
    """
    left, top, right, bottom = cut
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    kept: list[Box] = []
    for box in boxes:
        if box[2] <= left or box[0] >= right or box[3] <= top or box[1] >= bottom:
            continue
        if box[0] < left or box[1] < top or box[2] > right or box[3] > bottom:
            return None
        moved = [round((box[0] - left) * across), round((box[2] - left) * across)]
        if mirrored:
            moved = [size[0] - moved[1], size[0] - moved[0]]
        kept.append((moved[0], round((box[1] - top) * down), moved[1], round((box[3] - top) * down)))
    return tuple(kept)


def _kinds(count: int) -> list[str]:
    wanted = [kind for kind, share in _SHARES for _ in range(round(count * share))][:count]
    return wanted + ["portrait"] * (count - len(wanted))


def _photo(number: int, kind: str, album: _Album, chance: random.Random) -> Photo:
    if kind == "portrait":
        name, picture, boxes = _portrait(album, chance)
    elif kind == "faceless":
        name, picture, boxes = _faceless(album, chance)
    else:
        name, picture, boxes = _montage(album, chance, faces=1 if kind == "single" else 2)
    data = _jpeg(picture)
    return Photo(id=_id(number, data), name=f"{number:03d} {name}", data=data, boxes=boxes)


def _portrait(album: _Album, chance: random.Random) -> tuple[str, Any, tuple[Box, ...]]:
    source = ASTRONAUT
    face = source.faces[0]
    while True:
        size = chance.choice(SIZES)
        scale = chance.uniform(*_FACE_HEIGHT) / (face[3] - face[1])
        width, height = round(size[0] / scale), round(size[1] / scale)
        left = chance.randint(max(0, face[2] + _MARGIN - width), min(source.region[2] - width, face[0] - _MARGIN))
        top = chance.randint(max(0, face[3] + _MARGIN - height), min(source.region[3] - height, face[1] - _MARGIN))
        cut = (left, top, left + width, top + height)
        mirrored = chance.random() < 0.5
        boxes = carried(source.faces, cut, size, mirrored=mirrored)
        if boxes:
            return source.file, album.cut(source, cut, size, mirrored, chance.uniform(0.8, 1.2)), boxes


def _faceless(album: _Album, chance: random.Random) -> tuple[str, Any, tuple[Box, ...]]:
    source = chance.choice(FACELESS)
    left, top, right, bottom = source.region
    size = chance.choice(SIZES)
    most = min((right - left) / size[0], (bottom - top) / size[1])  # source pixels a photo pixel
    scale = chance.uniform(min(0.6, most), most)
    width, height = int(size[0] * scale), int(size[1] * scale)
    x, y = chance.randint(left, right - width), chance.randint(top, bottom - height)
    mirrored = chance.random() < 0.5
    picture = album.cut(source, (x, y, x + width, y + height), size, mirrored, chance.uniform(0.8, 1.2))
    return f"{source.file} (no face)", picture, ()


def _montage(album: _Album, chance: random.Random, *, faces: int) -> tuple[str, Any, tuple[Box, ...]]:
    size = SIZES[0] if faces == 2 else chance.choice(SIZES)
    numbers = chance.sample(range(LFW_FACES), faces)
    picture = _pillow().new("L", size, chance.randint(60, 200))
    boxes: list[Box] = []
    room = size[0] // faces
    for place, number in enumerate(numbers):
        side = chance.randint(_LFW_SIDE[0], min(_LFW_SIDE[1], room - 8))
        left = place * room + chance.randint(4, room - side - 4)
        top = chance.randint(4, size[1] - side - 4)
        picture.paste(album.lfw(number, side, mirrored=chance.random() < 0.5), (left, top))
        boxes.append((left, top, left + side, top + side))
    return "lfw " + " + ".join(str(number) for number in numbers), picture, tuple(boxes)


class _Album:
    """The source photographs, each read once."""

    def __init__(self) -> None:
        self._pictures: dict[str, Any] = {}
        self._lfw: Any = None

    def cut(self, source: Source, cut: Box, size: tuple[int, int], mirrored: bool, brightness: float) -> Any:
        pil = _pillow()
        picture = self._whole(source.file).resize(size, pil.Resampling.LANCZOS, box=cut)
        if mirrored:
            picture = picture.transpose(pil.Transpose.FLIP_LEFT_RIGHT)
        return importlib.import_module("PIL.ImageEnhance").Brightness(picture).enhance(brightness)

    def lfw(self, number: int, side: int, *, mirrored: bool) -> Any:
        pil = _pillow()
        if self._lfw is None:
            self._lfw = importlib.import_module("numpy").load(_data_file(LFW_FILE), allow_pickle=False)
        picture = pil.fromarray((self._lfw[number] * 255).astype("uint8")).resize((side, side), pil.Resampling.BICUBIC)
        return picture.transpose(pil.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture

    def _whole(self, file: str) -> Any:
        if file not in self._pictures:
            with _pillow().open(_data_file(file)) as opened:
                self._pictures[file] = opened.convert("RGB")
        return self._pictures[file]


def sources() -> Iterator[Path]:
    """The files that a burst is cut from."""
    for file in sorted({source.file for source in (ASTRONAUT, *FACELESS)} | {LFW_FILE}):
        yield _data_file(file)


def _data_file(name: str) -> Path:
    path = skimage_data() / name
    if not path.is_file():
        raise MissingExtraError(extra="demo", missing=f"scikit-image with its photograph {name}")
    return path


def _jpeg(picture: Any) -> bytes:
    sink = io.BytesIO()
    picture.convert("RGB").save(sink, "JPEG", quality=88)
    return sink.getvalue()


def _id(number: int, data: bytes) -> str:
    return f"p{number:05d}-{hashlib.sha256(data).hexdigest()[:10]}"


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtraError(extra="demo", missing="PIL") from error
