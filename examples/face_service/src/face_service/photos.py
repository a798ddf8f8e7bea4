"""From an upload to a face: few at a time, within bounds of memory, off the event loop, without a file of its own.

The bytes were counted at the door. Here their format is told by their content, their pixels by their header, and only
then are they unpacked, shrunk while that goes on. Pictures of many pixels go one at a time: what the decoder of a
progressive JPEG needs is proportional to them, and several together would be the most that anybody can make us hold.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio.to_thread
from fastapi import UploadFile

from face_service.errors import ApiError, Code, log_failure
from resilient_faces import Bulkhead, BulkheadFullError
from resilient_faces.adapters.recogniser import Picture, TooManyPixelsError, UnreadableImageError, decode

if TYPE_CHECKING:
    from resilient_faces.adapters.recogniser import Recogniser

__all__ = ["Photos"]

_log: Final = logging.getLogger("face_service.photos")

LONGEST_SIDE: Final = 2048  # px; enough for a face that fills a fifth of the picture
LARGE: Final = 2_000_000  # pixels from which on a picture goes alone
MOST_WAIT: Final = 3.0  # seconds for a turn
MOST_WAITING: Final = 16
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_FORMATS: Final = "Only JPEG and PNG photos can be read, told by their content"

Found = TypeVar("Found")


class Photos:
    """Takes photos in.

    Args:
        most_pixels: Photos of more are refused.
        at_once: How many are unpacked and searched at a time.
    """

    def __init__(self, *, most_pixels: int, at_once: int) -> None:
        self._most_pixels = most_pixels
        self._large = threading.Lock()
        self._turn = Bulkhead(at_once, max_waiting=MOST_WAITING, max_wait=MOST_WAIT, name="photos")
        self._look = self._turn(self._read_and_look)

    async def look(self, photo: UploadFile, engine: Recogniser, what: Callable[[Recogniser, Picture], Found]) -> Found:
        """Read an upload and do something with its picture, in a worker thread.

        Args:
            photo: The part of the form.
            engine: Who looks.
            what: Is called with engine and picture.

        Raises:
            ApiError: There is no photo, it cannot be read, it is too large, or there is no turn for it.
        """
        if not photo.size:
            if photo.filename:
                raise ApiError(400, Code.photo_file_not_found, "The part `photo` names a file and has no bytes")
            raise ApiError(400, Code.photo_file_required, "The form needs a file in its part `photo`")
        try:
            found: Found = await self._look(photo, engine, what)
        except BulkheadFullError:
            raise ApiError(503, Code.busy, "Too many photos at the moment", retry_after=MOST_WAIT) from None
        return found

    async def _read_and_look(self, photo: UploadFile, engine: Any, what: Callable[[Any, Picture], Found]) -> Found:
        data = await photo.read()  # only now, so that no more are in memory than have their turn
        return await anyio.to_thread.run_sync(self._work, data, engine, what)

    def _work(self, data: bytes, engine: Any, what: Callable[[Any, Picture], Found]) -> Found:
        if not data.startswith(_MAGIC):
            raise ApiError(400, Code.invalid_file_format, _FORMATS)
        with self._large if _pixels(data) > LARGE else contextlib.nullcontext():
            try:
                picture = decode(data, most_pixels=self._most_pixels, longest_side=LONGEST_SIDE)
            except TooManyPixelsError:
                raise ApiError(
                    413, Code.photo_too_large, f"The photo must have {self._most_pixels} pixels at most"
                ) from None
            except UnreadableImageError as error:
                raise ApiError(400, Code.invalid_file_format, str(error)) from None
            return what(engine, picture)


def _pixels(data: bytes) -> int:
    """What the header says; 0 if it cannot be read, which `decode` then finds out with better words."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            return int(opened.width) * int(opened.height)
    except Exception:  # Pillow raises a dozen classes for damaged files
        return 0


def failed(error: Exception) -> ApiError:
    """What becomes of a photo that broke us: the log gets its error without its text, the caller does not."""
    log_failure(_log, "Failed to process photo", error)
    return ApiError(500, Code.image_processing_failed, "Failed to process photo")
