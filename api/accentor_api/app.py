"""The application and the server that runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware

import accentor
from accentor.logs import log_config
from accentor.settings import Settings
from accentor.state import Measures
from accentor_api import openapi, problems, studio
from accentor_api.access import Access, check_access
from accentor_api.backlog import Load
from accentor_api.links import check_secret
from accentor_api.metrics import Metrics
from accentor_api.middleware import OURS, RequestContext
from accentor_api.once import DoneOnce
from accentor_api.routers import (
    atlases,
    batches,
    datasets,
    dictionaries,
    health,
    images,
    jobs,
    models,
    objects,
    webhooks,
)
from accentor_api.sender import Sender
from accentor_api.services import Services

GRACE_S = 5
"""Seconds that answers under way have to end when the server is stopped."""

EXIT_NOT_STARTED = 3
GZIP_LEVEL = 5
EXPOSED = [
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
]
"""Headers that pages elsewhere may read."""


def create_app(settings: Settings, *, closing: Callable[[], bool] = lambda: False) -> FastAPI:
    """Return the application; it opens its connections when it is started and closes them when it ends.

    ``closing`` tells whether the server has been told to stop: event streams then end.

    Raises
    ------
    InvalidRequestError
        If the store is a folder and there is no secret to sign links to it.
    """
    check_secret(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services = Services.open(settings, closing)
        sender = Sender(services.webhooks, settings)
        sending = asyncio.create_task(sender.run())
        try:
            yield
        finally:
            await sender.stop()
            await sending
            services.close()

    def loads() -> Iterable[Load]:
        services: Services = app.state.services
        return services.backlog.read()

    def measures() -> Measures:
        services: Services = app.state.services
        return services.jobs.measures.read()

    app = FastAPI(
        title="Accentor",
        version=accentor.__version__,
        summary="What does this feature see in this image? One at a time or by the million.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    app.state.metrics = Metrics(loads, measures)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(DoneOnce)
    app.add_middleware(Access, settings=settings)
    if settings.gzip_min_bytes:
        app.add_middleware(GZipMiddleware, minimum_size=settings.gzip_min_bytes, compresslevel=GZIP_LEVEL)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(RequestContext, settings=settings, metrics=app.state.metrics)
    for module in (images, jobs, batches, datasets, dictionaries, atlases, webhooks, models, objects, health):
        app.include_router(module.router)
    studio.install(app)
    return app


def create_server(settings: Settings) -> uvicorn.Server:
    """Return the server, not yet running; set its ``should_exit`` to stop it."""
    app = create_app(settings, closing=lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            log_config=_logging(settings),
            ws="none",
        )
    )
    return server


def serve(settings: Settings) -> None:
    """Answer requests until the process is told to stop; end it with an error if the server does not start.

    Raises
    ------
    InvalidRequestError
        If it would listen on another address than this machine's own, and nobody has said who may ask.
    """
    check_access(settings)
    server = create_server(settings)
    server.run()
    if not server.started:
        sys.exit(EXIT_NOT_STARTED)


def _logging(settings: Settings) -> dict[str, Any]:
    """Return the logging of the server: its own messages and ours, without a second line for every request."""
    config = log_config(settings.log_format, settings.log_level, OURS)
    config["loggers"]["uvicorn.access"] = {"level": "WARNING", "propagate": False}
    return config
