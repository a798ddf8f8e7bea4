"""A model pack of 100 KB whose people are cards: real ONNX files for the real InsightFace, made without a download.

A *card* is a square of coloured cells with a magenta square in its middle. The detector of the pack finds the magenta
squares by arithmetic (no weights were trained), the recogniser tells cards apart by their colours. Both pass through
InsightFace's own loading, decoding and normalisation, so that what is tested is that code and not a stand-in.
They say nothing about how well a trained pack knows people.

    pack = write_pack(directory)                     # det_cards.onnx, w_cards.onnx
    shown = scene([Placed(1, (40, 40), 240), Placed(2, (400, 60), 240)], width=720, height=360)
    jpeg = encoded(shown)

Everything is derived from hashes: the same identity is the same card, and the same pack the same bytes, everywhere.
A card is found if its side is 160 to 560 pixels after the detector's own scaling, which fits the longer side of the
picture to the detector's size; cards need a distance of half a side between them.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[Any]
else:
    Image = Any

__all__ = ["DETECTOR", "RECOGNISER", "Placed", "card", "encoded", "photo", "scene", "write_pack"]

DETECTOR: Final = "det_cards.onnx"
RECOGNISER: Final = "w_cards.onnx"

_CELLS: Final = 6
_MAGENTA: Final = (255, 0, 255)  # BGR and RGB alike
_MARKER: Final = 0.1  # side of the magenta square, in sides of the card
_GROUND: Final = 128  # grey around cards; anything but magenta will do

_CROP: Final = 112  # px, what InsightFace aligns a face to
_POOL: Final = 14  # px of the crop that become one cell of the recogniser: 8 x 8 cells of 3 colours
_LENGTH: Final = 512
_TEMPLATE: Final = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where InsightFace wants eyes, nose and corners of the mouth in the crop: pointing there makes the crop the card."""

_STRIDE: Final = 8
_WINDOW: Final = 9  # cells: a marker must fit into 72 px
_OPSET: Final = 17
_IR: Final = 8


# -- pictures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """A card in a scene: whose, where its upper left corner is, and its side, all in pixels."""

    identity: int
    corner: tuple[int, int]
    side: int = 240

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The true box: left, top, right, bottom."""
        left, top = self.corner
        return (left, top, left + self.side, top + self.side)


def card(identity: int, side: int = 240) -> Image:
    """Draw one card: uint8 array of shape (side, side, 3), BGR."""
    numpy, pil = _load("numpy"), _load("PIL.Image")
    noise = hashlib.shake_256(f"card/{identity}".encode()).digest(_CELLS * _CELLS * 3)
    cells = 60 + numpy.frombuffer(noise, numpy.uint8).reshape(_CELLS, _CELLS, 3).astype(numpy.uint16) * 139 // 255
    drawn = pil.fromarray(cells.astype(numpy.uint8)).resize((side, side), pil.Resampling.BICUBIC)
    pixels: Image = numpy.array(drawn)
    marker = max(1, round(side * _MARKER))
    start = (side - marker) // 2
    pixels[start : start + marker, start : start + marker] = _MAGENTA
    return pixels


def scene(cards: Iterable[Placed], *, width: int = 1280, height: int = 720, shade: int = _GROUND) -> Image:
    """Draw cards on a plain ground: uint8 array of shape (height, width, 3), BGR. What sticks out is cut off."""
    numpy = _load("numpy")
    ground: Image = numpy.full((height, width, 3), shade, numpy.uint8)
    for placed in cards:
        left, top, right, bottom = placed.box
        inside = (max(0, left), max(0, top), min(width, right), min(height, bottom))
        if inside[0] < inside[2] and inside[1] < inside[3]:
            drawn = card(placed.identity, placed.side)
            part = drawn[inside[1] - top : inside[3] - top, inside[0] - left : inside[2] - left]
            ground[inside[1] : inside[3], inside[0] : inside[2]] = part
    return ground


def photo(identity: int, *, side: int = 240, kind: str = "JPEG") -> bytes:
    """A picture file of one card on a plain ground, with a margin of a third of its side."""
    margin = side // 3
    whole = side + 2 * margin
    return encoded(scene([Placed(identity, (margin, margin), side)], width=whole, height=whole), kind)


def encoded(image: Image, kind: str = "JPEG", *, quality: int = 90) -> bytes:
    """A BGR array as the bytes of a JPEG or PNG file."""
    numpy, pil = _load("numpy"), _load("PIL.Image")
    sink = io.BytesIO()
    options = {"quality": quality} if kind == "JPEG" else {}
    pil.fromarray(numpy.ascontiguousarray(image[:, :, ::-1])).save(sink, kind, **options)
    return sink.getvalue()


# -- the pack -----------------------------------------------------------------------------------------------------


def write_pack(directory: Path) -> Path:
    """Write the pack's two files and return the directory, which is made if it is absent.

    Raises:
        MissingExtraError: onnx is not installed (it comes with the extra `insightface`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, graph in ((DETECTOR, _detector()), (RECOGNISER, _recogniser())):
        half = directory / f".{name}.half"
        half.write_bytes(graph.SerializeToString(deterministic=True))
        half.replace(directory / name)
    return directory


class _Graph:
    """Collects nodes and constants. Every value is named once; a node's name is its output's."""

    def __init__(self) -> None:
        self._helper = _load("onnx.helper")
        self._numpy_helper = _load("onnx.numpy_helper")
        self._types = _load("onnx").TensorProto
        self._numpy = _load("numpy")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def const(self, values: object, kind: str = "float32") -> str:
        array = self._numpy.array(values, dtype=kind)
        name = f"k{len(self._constants)}"
        self._constants[name] = self._numpy_helper.from_array(array, name)
        return name

    def as_float(self, value: str) -> str:
        return self.node("Cast", value, to=self._types.FLOAT)

    def node(self, operator: str, *inputs: str, named: str = "", **attributes: object) -> str:
        # InsightFace guesses a model's normalisation from names that begin with Sub, Mul, _minus or _mul.
        name = named or f"n{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, list(inputs), [name], name=f"at_{name}", **attributes))
        return name

    def model(self, title: str, shape: list[object], outputs: dict[str, list[object]]) -> Any:
        make = self._helper.make_tensor_value_info
        graph = self._helper.make_graph(
            self._nodes,
            title,
            [make("input.1", self._types.FLOAT, shape)],
            [make(name, self._types.FLOAT, dims) for name, dims in outputs.items()],
            list(self._constants.values()),
        )
        model = self._helper.make_model(
            graph, opset_imports=[self._helper.make_opsetid("", _OPSET)], producer_name="resilient-faces"
        )
        model.ir_version = _IR
        _load("onnx.checker").check_model(model, full_check=True)
        return model


def _detector() -> Any:
    """Find magenta squares: centroid and area come from pooled sums of the mask and of mask times coordinate."""
    g = _Graph()
    # InsightFace feeds RGB as (x - 127.5) / 128: pure magenta gives 2.4 here, colours of cards and skin less than 0.
    weights, bias = g.const([[[[2.0]], [[-2.0]], [[2.0]]]]), g.const([-3.6])
    mask = g.node("Clip", g.node("Conv", "input.1", weights, bias, kernel_shape=[1, 1]), g.const(0.0), g.const(1.0))

    first: dict[str, Any] = {"kernel_shape": [_STRIDE, _STRIDE], "strides": [_STRIDE, _STRIDE]}
    around: dict[str, Any] = {
        "kernel_shape": [_WINDOW, _WINDOW], "strides": [1, 1], "pads": [_WINDOW // 2] * 4, "count_include_pad": 1,
    }  # fmt: skip

    def positions(of: str, axis: int, step: float, offset: float) -> str:
        size = g.node("Gather", g.node("Shape", of), g.const(axis, "int64"))
        numbers = g.node("Range", g.const(0, "int64"), size, g.const(1, "int64"))
        scaled = g.node("Mul", g.as_float(numbers), g.const(step))
        placed = g.node("Add", scaled, g.const(offset))
        return g.node("Reshape", placed, g.const([1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1], "int64"))

    pooled = g.node("AveragePool", mask, **first)
    mass = g.node("AveragePool", pooled, **around)
    side = g.node("Sqrt", g.node("Mul", mass, g.const(float((_STRIDE * _WINDOW) ** 2))))
    half = g.node("Mul", side, g.const(0.5 / _MARKER))
    divisor = g.node("Add", mass, g.const(1e-6))
    away = {}
    for name, axis in (("x", 3), ("y", 2)):
        weighted = g.node("Mul", mask, positions(mask, axis, 1.0, 0.5))
        moment = g.node("AveragePool", g.node("AveragePool", weighted, **first), **around)
        centre = g.node("Div", moment, divisor)
        away[name] = g.node("Sub", centre, positions(pooled, axis, float(_STRIDE), 0.0))
    scale = g.const(1.0 / _STRIDE)

    def scaled(value: str) -> str:
        return g.node("Mul", value, scale)

    box = [scaled(g.node(operator, half, away[name])) for operator, name in
           (("Sub", "x"), ("Sub", "y"), ("Add", "x"), ("Add", "y"))]  # fmt: skip
    points = [
        scaled(g.node("Add", away[name], g.node("Mul", half, g.const((value - _CROP / 2) / (_CROP / 2)))))
        for point in _TEMPLATE
        for name, value in zip("xy", point, strict=True)
    ]
    score = g.node("Clip", g.node("Mul", pooled, g.const(1.25)), g.const(0.0), g.const(0.99))
    nothing = g.node("Mul", pooled, g.const(0.0))
    maps = {"score": [score, nothing], "box": box * 2, "points": points * 2}  # two anchors a cell, the second idle

    outputs: dict[str, list[object]] = {}
    rows = {"score": 1, "box": 4, "points": 10}
    for kind, length in rows.items():
        for stride in (8, 16, 32):
            if stride == _STRIDE:
                channels = g.node("Concat", *maps[kind], axis=1)
            else:
                ratio = stride // _STRIDE
                small = g.node("AveragePool", nothing, kernel_shape=[ratio, ratio], strides=[ratio, ratio])
                channels = g.node("Concat", *[small] * (2 * length), axis=1)
            last = g.node("Transpose", channels, perm=[0, 2, 3, 1])
            name = f"{kind}_{stride}"
            g.node("Reshape", last, g.const([-1, length], "int64"), named=name)
            outputs[name] = [f"cells_{stride}", length]
    return g.model("cards_detector", [1, 3, "height", "width"], outputs)


def _recogniser() -> Any:
    """Tell cards apart: mean colours of 8 x 8 cells, less their mean, turned by a fixed matrix of signs."""
    g = _Graph()
    cells = (_CROP // _POOL) ** 2 * 3
    bits = hashlib.shake_256(b"cards/recogniser").digest(cells * _LENGTH // 8)
    numpy = _load("numpy")
    signs = numpy.unpackbits(numpy.frombuffer(bits, numpy.uint8)).reshape(cells, _LENGTH).astype(numpy.int8) * 2 - 1
    pooled = g.node("AveragePool", "input.1", kernel_shape=[_POOL, _POOL], strides=[_POOL, _POOL])
    flat = g.node("Flatten", pooled, axis=1)
    mean = g.node("ReduceMean", flat, axes=[1], keepdims=1)
    matrix = g.as_float(g.const(signs, "int8"))
    g.node("MatMul", g.node("Sub", flat, mean), matrix, named="embedding")
    return g.model("cards_recogniser", ["batch", 3, _CROP, _CROP], {"embedding": ["batch", _LENGTH]})


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra="insightface", missing=module.partition(".")[0]) from error
