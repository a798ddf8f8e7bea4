"""From an upload to a face: few at a time, within bounds of memory, off the event loop, without a file of its own.

The bytes were counted at the door. Here their format is told by their content, their pixels by their header, and only
then are they unpacked, shrunk while that goes on. Pictures of many pixels go one at a time: what the decoder of a
progressive JPEG needs is proportional to them, and several together would be the most that anybody can make us hold.

What is wrong with a photo leaves the worker thread as a value, not as an exception: an exception keeps the frames that
it came through, with the picture in them, for as long as somebody keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from fastapi import UploadFile

from face_service.errors import ApiError, Code, log_failure
from resilient_faces import Bulkhead, BulkheadFullError, CircuitOpenError
from resilient_faces.adapters.insightface import FaceNotDetectedError, LowQualityError, embedding_of_photo
from resilient_faces.adapters.recogniser import TooManyPixelsError, UnreadableImageError, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resilient_faces.adapters.recogniser import Recogniser

__all__ = ["OneFace", "Photos", "not_available"]

_log: Final = logging.getLogger("face_service.photos")

LONGEST_SIDE: Final = 2048  # px; enough for a face that fills a fifth of the picture
LARGE: Final = 2_000_000  # pixels from which on a picture goes alone
MOST_WAIT: Final = 2.0  # seconds for a turn
MOST_WAITING: Final = 16


@dataclass(frozen=True, slots=True)
class OneFace:
    """The one good face of a photo.

    Attributes:
        embedding: Of length 1.
        space: Which embeddings it can be compared with.
        score: The detector's.
        box: Left, top, width and height, as shares of the upright photo.
    """

    embedding: NDArray[np.float32]
    space: str
    score: float
    box: tuple[float, float, float, float]


class Photos:
    """Takes photos in.

    Args:
        most_pixels: Photos of more are refused.
        lowest_score: Faces with a lower score of the detector are too unclear.
        at_once: How many are unpacked and searched at a time.
    """

    def __init__(self, *, most_pixels: int, lowest_score: float, at_once: int) -> None:
        self._most_pixels = most_pixels
        self._lowest_score = lowest_score
        self._large = threading.Lock()
        turn = Bulkhead(at_once, max_waiting=MOST_WAITING, max_wait=MOST_WAIT, name="photos")
        self._in_turn = turn(self._read_and_look)

    async def one_face(self, photo: UploadFile, engine: Recogniser) -> OneFace:
        """The one good face of an upload.

        Args:
            photo: The part of the form.
            engine: Who looks.

        Raises:
            ApiError: There is no photo, it cannot be read, is too large, does not show one good face, or has no turn.
        """
        if not photo.size:
            if photo.filename:
                raise ApiError(400, Code.photo_file_not_found, "The part `photo` names a file and has no bytes")
            raise ApiError(400, Code.photo_file_required, "The form needs a file in its part `photo`")
        try:
            found: OneFace | ApiError = await self._in_turn(photo, engine)
        except BulkheadFullError:
            raise ApiError(503, Code.busy, "Too many photos at the moment", retry_after=MOST_WAIT) from None
        if isinstance(found, ApiError):
            raise found
        return found

    async def _read_and_look(self, photo: UploadFile, engine: Recogniser) -> OneFace | ApiError:
        data = await photo.read()  # only now, so that no more are in memory than have their turn
        return await anyio.to_thread.run_sync(self._look, data, engine)

    def _look(self, data: bytes, engine: Recogniser) -> OneFace | ApiError:
        """What is in these bytes; never raises."""
        try:
            if _pixels(data) <= LARGE:
                return self._found(data, engine)
            with self._large:
                try:
                    return self._found(data, engine)
                finally:
                    _give_back()
        except TooManyPixelsError:
            return ApiError(413, Code.photo_too_large, f"The photo must have {self._most_pixels} pixels at most")
        except UnreadableImageError as error:
            return ApiError(400, Code.invalid_file_format, str(error))
        except (FaceNotDetectedError, LowQualityError) as error:
            return ApiError(400, Code(error.code), str(error))
        except CircuitOpenError as error:
            return not_available("insightface.circuit_open", error.retry_after)
        except Exception as error:
            log_failure(_log, "Failed to process photo", error)
            return ApiError(500, Code.image_processing_failed, "Failed to process photo")

    def _found(self, data: bytes, engine: Recogniser) -> OneFace:
        picture = decode(data, most_pixels=self._most_pixels, longest_side=LONGEST_SIDE)
        embedding, face = embedding_of_photo(engine, picture, lowest_score=self._lowest_score)
        left, top, right, bottom = face.box
        wide, high = picture.width, picture.height
        box = (left / wide, top / high, (right - left) / wide, (bottom - top) / high)
        return OneFace(embedding, engine.space, face.score, box)


def not_available(reason: str, retry_after: float | None) -> ApiError:
    """What becomes of a photo that nobody can look at, for this reason."""
    words = "Face model not initialized" if reason.startswith("insightface.pack") else "Face model not available"
    return ApiError(503, Code.model_not_available, words, retry_after=retry_after, reason=reason)


def _pixels(data: bytes) -> int:
    """What the header says; 0 if it cannot be read, which `decode` then finds out with better words."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            return int(opened.width) * int(opened.height)
    except Exception:  # Pillow raises a dozen classes for damaged files
        return 0


def _give_back() -> None:
    """Have free memory given back: the C library would keep what a large picture took, and add the next one's to it."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc has such a function
        ctypes.CDLL(None).malloc_trim(0)
