"""Enrolled people: a gallery that is there when its model is, and on the disk before anybody is told that it is.

Embeddings of two models cannot be compared, so a gallery cannot be opened before the model is known. A file that
cannot be used (damaged, newer, of another model) is left as it is: people are then neither recognised nor enrolled,
health says why, and nothing is overwritten.
"""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import numpy as np

from face_service.errors import ApiError, Code, log_failure
from resilient_faces import services
from resilient_faces.adapters.gallery import Gallery, GalleryError
from resilient_faces.adapters.recogniser import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resilient_faces.adapters.recogniser import Recogniser

__all__ = ["People"]

_log: Final = logging.getLogger("face_service.people")

SERVICE: Final = "gallery"
WAITS: Final = "gallery.waits_for_model"


class People:
    """The gallery and its file.

    Changes that come together are written together: whoever waits for the file is covered by the next writing of it.

    Args:
        file: Where the gallery is kept; its directory is made if it is absent, for this user alone.
        threshold: As of `Gallery`.
        margin: As of `Gallery`.
    """

    def __init__(self, file: Path, *, threshold: float, margin: float) -> None:
        self._file = file
        self._load = functools.partial(Gallery.load, threshold=threshold, margin=margin)
        self._make = functools.partial(Gallery, threshold=threshold, margin=margin)
        self._gallery: Gallery | None = None
        self._reason = WAITS
        self._unusable_file = (-1, -1)
        self._opening = threading.Lock()
        self._writing = anyio.Lock()
        self._changes = self._written = 0
        services.register(SERVICE, "important")

    @property
    def gallery(self) -> Gallery | None:
        """The gallery; None while there is none that can be used."""
        return self._gallery

    @property
    def reason(self) -> str:
        """Why there is none."""
        return "" if self._gallery is not None else self._reason

    def open(self, engine: Recogniser | None) -> bool:
        """Open the gallery of this engine, once; blocks. Returns whether there is one now."""
        with self._opening:
            if self._gallery is not None:
                return True
            if engine is None:
                services.degrade(SERVICE, WAITS)
                return False
            found = self._looks()
            if found == self._unusable_file:  # a large one takes seconds to read, and is as it was
                return False
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._file.exists():
                    self._gallery = self._load(self._file, space=engine.space)
                else:
                    # Of nobody there are no rows, but they have the right length.
                    nobody = engine.embed(Picture(np.zeros((16, 16, 3), np.uint8), "PNG"), ())
                    self._gallery = self._make(engine.space, length=nobody.shape[1])
            except GalleryError as error:
                self._unusable(error.fault.code, str(error), found)
                return False
            except OSError as error:
                self._unusable("gallery.unreadable", f"{type(error).__name__}: {error.strerror}", None)
                return False
            except Exception as error:  # of an engine, whose text may hold anything
                self._unusable("gallery.failed", type(error).__name__, None)
                return False
        services.recover(SERVICE)
        _log.info("Gallery opened: people=%d embeddings=%d", len(self._gallery), self._gallery.embeddings)
        return True

    def ready(self) -> Gallery:
        """The gallery.

        Raises:
            ApiError: There is none.
        """
        if self._gallery is None:
            raise ApiError(
                503,
                Code.gallery_unavailable,
                "The gallery of enrolled people cannot be used",
                retry_after=30.0,
                reason=self._reason,
            )
        return self._gallery

    async def enrol(self, person: str, embedding: NDArray[np.float32]) -> None:
        """Add an embedding of a person; when this returns it is on the disk.

        Raises:
            ApiError: It cannot be written. It counts until the service ends, and is written with the next change.
        """
        await anyio.to_thread.run_sync(self.ready().add, person, embedding)
        await self._keep()

    async def forget(self, person: str) -> int:
        """Remove a person, from memory and disk. Returns how many embeddings they had.

        Raises:
            ApiError: It cannot be written.
        """
        gallery = self.ready()
        removed = await anyio.to_thread.run_sync(gallery.remove, person)
        if removed:
            await anyio.to_thread.run_sync(gallery.compact)
            await self._keep()
        return removed

    async def _keep(self) -> None:
        """Write the file, unless somebody who came after this change has written it already."""
        self._changes += 1
        mine = self._changes
        async with self._writing:
            if self._written >= mine:
                return
            covered = self._changes
            gallery = self.ready()
            try:
                await anyio.to_thread.run_sync(gallery.save, self._file)
            except OSError as error:
                services.degrade(SERVICE, "gallery.not_saved")
                log_failure(_log, "The gallery could not be saved", error)
                raise ApiError(500, Code.internal_error, "The change could not be saved") from None
            self._written = covered
            services.recover(SERVICE)

    def _looks(self) -> tuple[int, int] | None:
        """What tells whether the file has changed; None if there is none."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def _unusable(self, reason: str, text: str, file: tuple[int, int] | None) -> None:
        self._unusable_file = file or (-1, -1)
        if reason != self._reason:
            _log.error("The gallery cannot be used: %s", text)
        self._reason = reason
        services.degrade(SERVICE, reason)
