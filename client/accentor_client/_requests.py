"""Requests and answers without input or output: what is sent, what is read from the answer, what is tried again.

`Client` and `AsyncClient` share all of it; each adds only the sending.
"""

import json
import random
import uuid
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from accentor.errors import AccentorError, RequestError, ServiceError, error_from_code

API_ROOT = "/v1"
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
UNDER_WAY = 409
"""With a Retry-After: the first try of the same submission is not answered yet."""

ONCE = "Idempotency-Key"
RETRIES = 3
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
PROBLEM_MEMBERS = frozenset({"type", "title", "status", "detail", "code"})
MAX_SHOWN = 200

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Outcome = httpx.Response | httpx.RequestError
Body = bytes | Callable[[], Iterable[bytes] | AsyncIterable[bytes]]
"""Bytes, or what begins to make them, piece by piece, each time that they are sent."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Parameters
    ----------
    target
        A path below the service's address, or a whole address, such as a link into the object store.
    repeatable
        Whether sending it twice does what sending it once does; only then is it tried again.
    patience_s
        Seconds that the service was asked to take its time.
    """

    method: str
    target: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    content: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    patience_s: float = 0.0

    @property
    def is_ours(self) -> bool:
        """Whether it goes to the service itself: only then does it carry the key."""
        return not self.target.startswith(("http://", "https://"))

    def url(self, base_url: str) -> str:
        """Return the whole address."""
        return f"{base_url}{self.target}" if self.is_ours else self.target


def get(path: str, read: Callable[[httpx.Response], T], **params: Any) -> Call[T]:
    """Return a call that reads below the API's root."""
    return Call("GET", API_ROOT + path, read, given(params))


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that have a value."""
    return {name: value for name, value in params.items() if value is not None}


def once(call: Call[T]) -> Call[T]:
    """Return the submission under a key of its own: sent twice it is done once, so that it may be tried again."""
    return replace(call, headers={**call.headers, ONCE: str(uuid.uuid4())}, repeatable=True)


def post(
    path: str,
    read: Callable[[httpx.Response], T],
    body: BaseModel | None = None,
    *,
    repeatable: bool = False,
    **params: Any,
) -> Call[T]:
    """Return a call that sends JSON below the API's root."""
    if body is None:
        return Call("POST", API_ROOT + path, read, params, repeatable=repeatable)
    content = body.model_dump_json(exclude_none=True).encode()
    headers = {"Content-Type": "application/json"}
    return Call("POST", API_ROOT + path, read, given(params), content, headers, repeatable=repeatable)


def segment(name: str) -> str:
    """Return a name as one segment of a path, whatever it contains."""
    return quote(name, safe="")


def model_reader(kind: type[M]) -> Callable[[httpx.Response], M]:
    """Return what reads a good answer as this model and raises the error of any other."""

    def read(response: httpx.Response) -> M:
        check(response)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise _not_understood(response, kind.__name__) from error

    return read


def read_json(response: httpx.Response) -> Any:
    """Read a good answer as JSON."""
    check(response)
    try:
        return response.json()
    except ValueError as error:
        raise _not_understood(response, "JSON") from error


def read_bytes(response: httpx.Response) -> bytes:
    """Read a good answer as it is."""
    check(response)
    return response.content


def read_nothing(response: httpx.Response) -> None:
    """Read a good answer that says no more than that."""
    check(response)


def read_presence(response: httpx.Response) -> bool:
    """Tell whether what was asked for is there."""
    if response.status_code == httpx.codes.NOT_FOUND:
        return False
    check(response)
    return True


def check(response: httpx.Response) -> None:
    """Raise the error that the answer tells of, if it does."""
    if not response.is_success:
        raise error_of(response)


def error_of(response: httpx.Response) -> AccentorError:
    """Rebuild the error that a problem document tells of; any other bad answer becomes an error by its status."""
    problem = _problem(response)
    code, detail = str(problem.get("code", "")), str(problem.get("detail", ""))
    extra = {name: value for name, value in problem.items() if name not in PROBLEM_MEMBERS}
    error = error_from_code(code, detail, **extra)
    if type(error) is not AccentorError:
        return error
    base = RequestError if response.is_client_error else ServiceError
    where = f"{response.request.method} {response.request.url}"
    said = detail or response.text[:MAX_SHOWN]
    return base(f"{where} was answered {response.status_code}: {said}", status_code=response.status_code, **extra)


def retry_pause(call: Call[Any], attempt: int, outcome: Outcome) -> float | None:
    """Return the seconds to wait before the call is tried again, or none if its outcome stands.

    ``attempt`` counts from 0. The pauses grow twofold and are drawn at random, so that many clients do not come back
    at once; a Retry-After is obeyed up to half a minute.
    """
    if not call.repeatable or attempt >= RETRIES or not _may_pass(outcome):
        return None
    pause = FIRST_PAUSE_S * 2.0**attempt * random.uniform(0.5, 1.5)  # noqa: S311
    wanted = 0.0 if isinstance(outcome, httpx.RequestError) else retry_after(outcome)
    return min(max(pause, wanted), LONGEST_PAUSE_S)


def conclude(call: Call[T], outcome: Outcome, base_url: str) -> T:
    """Return what the answer says, or raise what went wrong."""
    if isinstance(outcome, httpx.RequestError):
        raise unreachable(call.url(base_url), outcome) from outcome
    return call.read(outcome)


def unreachable(url: str, error: Exception) -> ServiceError:
    """Return the error for a service that did not answer."""
    return ServiceError(f"{url} does not answer: {str(error) or type(error).__name__}", url=url)


def states_param(states: Collection[str]) -> list[str] | None:
    """Return states as a query's repeated parameter."""
    return sorted(states) or None


def retry_after(response: httpx.Response) -> float:
    """Return the seconds after which the service wants to be asked again; 0 if it does not say."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _may_pass(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.RequestError):
        return True
    is_under_way = outcome.status_code == UNDER_WAY and "Retry-After" in outcome.headers
    return is_under_way or outcome.status_code in RETRIED_STATUSES


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = json.loads(response.content)
    except (ValueError, httpx.StreamError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _not_understood(response: httpx.Response, expected: str) -> ServiceError:
    return ServiceError(f"{response.request.url} did not answer with {expected}: {response.text[:MAX_SHOWN]!r}")
