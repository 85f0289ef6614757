"""Who may ask: API keys, their scopes, and how many requests they may send."""

from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from accentor import state
from accentor.errors import (
    AccentorError,
    InvalidRequestError,
    MissingScopeError,
    StateUnavailableError,
    UnauthorizedError,
)
from accentor.settings import Settings
from accentor.state import AccessStore, ApiKey
from accentor_api.callers import current_key
from accentor_api.middleware import LOOPBACK
from accentor_api.problems import problem_of_error

READING = frozenset({"GET", "HEAD"})
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
OPEN_FOLDERS = ("/static/", "/v1/objects/")
"""The page's own files, which say nothing about anybody's jobs, and artefacts, whose links are signed."""

ATLASES = "/v1/atlases/"
"""Below it lie sites, whose addresses have a secret."""

WEBHOOKS = "/v1/webhooks"
HOW_TO_SEND = "send one as `Authorization: Bearer KEY`; whoever runs the service makes it with `accentor keys create`"


class Access:
    """Lets nobody in who has no right to; everything that is not open by name is closed."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._is_closed = needs_keys(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or say why not."""
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            key = await self._key_of(scope)
        except AccentorError as error:
            await problem_of_error(scope, error)(scope, receive, send)
            return
        token = current_key.set(key)
        try:
            await self._app(scope, receive, send)
        finally:
            current_key.reset(token)

    async def _key_of(self, scope: Scope) -> ApiKey | None:
        """Return the key that the request shows, or none if it needs none."""
        shown = bearer(Headers(scope=scope).get("authorization", ""))
        if shown is None:
            if self._is_closed:
                raise UnauthorizedError(f"this service asks for an API key: {HOW_TO_SEND}")
            return None
        return await run_in_threadpool(
            _checked, scope["app"].state.services.access, shown, needed_scope(scope["method"], scope["path"])
        )


def _checked(store: AccessStore, token: str, needed: state.Scope) -> ApiKey:
    """Return the key with this text if it counts, has a request left, and has the scope."""
    key = store.find(token)
    if key is None:
        raise UnauthorizedError(f"the API key is unknown or was revoked: {HOW_TO_SEND}")
    if key.expires_at is not None and key.expired(datetime.now(UTC)):
        end = key.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise UnauthorizedError(f"the API key {key.name!r} expired at {end}: {HOW_TO_SEND}")
    store.take_request(key)
    if not key.allows(needed):
        scopes = sorted(key.scopes)
        raise MissingScopeError(
            f"this needs the scope {needed}, the API key {key.name!r} has {', '.join(scopes)}: use one that has it",
            needed=str(needed),
            scopes=scopes,
        )
    return key


def needed_scope(method: str, path: str) -> state.Scope:
    """Return the scope that a request needs: webhooks, whose addresses may be secrets, are read by who makes them."""
    is_reading = method in READING and not path.startswith(WEBHOOKS)
    return state.Scope.READ if is_reading else state.Scope.SUBMIT


def bearer(authorization: str) -> str | None:
    """Return the text of the key in an Authorization header, or none if it carries none."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_open(method: str, path: str) -> bool:
    """Tell whether everybody may ask for this."""
    return method in READING and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS) or is_of_site(path))


def is_of_site(path: str) -> bool:
    """Tell whether a path is of an atlas' site: ``/v1/atlases/ID/site/SECRET/…``."""
    return path.startswith(ATLASES) and path.removeprefix(ATLASES).partition("/")[2].startswith("site/")


def needs_keys(settings: Settings) -> bool:
    """Tell whether requests need an API key: unless said otherwise, where others than this machine can send them."""
    if settings.allow_anonymous is None:
        return settings.host not in LOOPBACK
    return not settings.allow_anonymous


def check_access(settings: Settings) -> None:
    """Refuse to start a service that needs keys and has none; without Redis nobody is let in, so that it may start.

    Raises
    ------
    InvalidRequestError
        If there is no key; it says what to do.
    """
    if not needs_keys(settings):
        return
    with state.connect(settings) as client:
        try:
            is_empty = AccessStore(client).is_empty()
        except StateUnavailableError:
            return
    if is_empty:
        raise InvalidRequestError(
            f"the API would listen on {settings.host} and there is no API key: make one with `accentor keys create "
            "--name NAME`, or set ACCENTOR_ALLOW_ANONYMOUS=true to let everybody in who reaches it"
        )
