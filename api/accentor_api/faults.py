"""What is wrong with a request, fault by fault: where (a JSON pointer), why, and its stable code."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accentor.errors import AccentorError, InvalidRequestError, error_from_code, what_is_wrong

MAX_LISTED = 50
"""Faults that are told one by one; nobody need look for many more."""

MAX_SHOWN_INPUT = 80
PLACES = ("body", "path", "query", "header")


class Fault(NamedTuple):
    """One fault of a request."""

    pointer: str
    detail: str
    code: str
    place: str = "body"
    extra: Mapping[str, Any] = {}
    line: int | None = None

    def as_member(self) -> dict[str, Any]:
        """Return the fault as a member of a problem's ``errors``."""
        where = {} if self.line is None else {"line": self.line}
        return {**where, "pointer": self.pointer, "in": self.place, "detail": self.detail, "code": self.code}

    @classmethod
    def of(cls, pointer: str, error: AccentorError) -> "Fault":
        """Return the fault that an error of ours found at this place of the body."""
        return cls(pointer, error.detail, error.code, extra=error.extra)


def error_of(faults: Sequence[Fault]) -> AccentorError:
    """Return the one error that stands for the faults: of their own kind where they share one."""
    first = faults[0]
    shared = all(fault.code == first.code for fault in faults)
    least = "at least " if len(faults) > MAX_LISTED else ""
    more = f" (and {least}{len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = first.detail if first.code != InvalidRequestError.code else f"{_where(first)}{first.detail}"
    members = [fault.as_member() for fault in faults[:MAX_LISTED]]
    code = first.code if shared else InvalidRequestError.code
    extra = first.extra if len(faults) == 1 else {}
    return error_from_code(code, detail + more, **{**extra, "errors": members})


def faults_of_validation(errors: Iterable[Mapping[str, Any]], body: Any) -> list[Fault]:
    """Return the faults that pydantic found in a request, without the repetitions of its unions."""
    faults = [_fault(error, body) for error in errors]
    above = {(fault.place, outer) for fault in faults for outer in _above(fault.pointer)}
    return [fault for fault in faults if (fault.place, fault.pointer) not in above]


def _fault(error: Mapping[str, Any], body: Any) -> Fault:
    place, *path = error["loc"]
    if place not in PLACES:
        place, path = "body", list(error["loc"])
    if error["type"] == "json_invalid":
        return Fault("", f"no JSON: {error['ctx']['error']}", "invalid-request")
    pointer = _pointer(path, body, is_missing=error["type"] == "missing") if place == "body" else f"/{path[0]}"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, AccentorError):
        return Fault(pointer, cause.detail, cause.code, place, cause.extra)
    return Fault(pointer, _detail(error), InvalidRequestError.code, place)


def _detail(error: Mapping[str, Any]) -> str:
    message = what_is_wrong(error)
    message = message[:1].lower() + message[1:]
    given = error.get("input")
    if error["type"] == "missing" or isinstance(given, dict | list | tuple | None):
        return message
    shown = repr(given)
    return f"{message}; given {shown if len(shown) <= MAX_SHOWN_INPUT else f'{shown[:MAX_SHOWN_INPUT]}…'}"


def _pointer(path: Sequence[str | int], body: Any, *, is_missing: bool) -> str:
    """Follow the path through the body: pydantic names a union's branches in it too, the body has no such keys."""
    pointer = ""
    for step in path:
        if _has(body, step):
            body = body[step]
        elif not (is_missing and step == path[-1]):
            continue
        pointer += "/" + str(step).replace("~", "~0").replace("/", "~1")
    return pointer


def _has(body: Any, step: str | int) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, dict) and step in body


def _above(pointer: str) -> Iterator[str]:
    while pointer:
        pointer = pointer.rpartition("/")[0]
        yield pointer


def _where(fault: Fault) -> str:
    if fault.place == "body":
        return f"{fault.pointer.removeprefix('/')}: " if fault.pointer else ""
    return f"{fault.place} parameter {fault.pointer.removeprefix('/')}: "
