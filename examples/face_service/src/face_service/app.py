"""The application: parts, addresses, errors and the door in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from face_service import routes
from face_service.door import Door
from face_service.errors import install
from face_service.watching import Parts, watching

if TYPE_CHECKING:
    from face_service.settings import Settings

__all__ = ["create_app"]

_ABOUT: Final = (
    "Watches cameras, recognises enrolled people, tells signed webhooks. Errors have their own status and the body "
    "`{status, message, code}`; a request that does not fit this document is answered with 422 and "
    "`{detail, message}`. Every answer carries `X-Request-ID`."
)


def create_app(settings: Settings, make: Callable[[], Parts] | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        settings: How it runs.
        make: Makes its parts; as `Parts(settings)` does if None.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with watching(make or (lambda: Parts(settings))) as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="Face service",
        version=metadata.version("face-service"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # both of these pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    install(app, [*routes.service.routes, *routes.health.routes])
    app.include_router(routes.service)
    app.include_router(routes.health)
    app.add_middleware(
        Door,
        keys=settings.api_key,
        most_photo_bytes=settings.photo_bytes,
        most_uploads=settings.uploads,
        body_seconds=settings.body_seconds,
    )
    return app
