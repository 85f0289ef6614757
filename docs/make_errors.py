"""Write ``docs/errors.md`` from the classes of `accentor.errors`: ``python docs/make_errors.py``."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from accentor.errors import AccentorError, JobError, RequestError, ServiceError
from accentor_api.problems import HTTP_CODES

TARGET = Path(__file__).parent / "errors.md"

HEAD = """\
# Errors

Every error of the HTTP API is a problem document (RFC 9457, `application/problem+json`) with a `code` that never
changes:

```json
{"type": "urn:accentor:problem:unknown-layer", "title": "The model has no layer of this name", "status": 422,
 "detail": "…", "code": "unknown-layer", "instance": "/v1/jobs", "request_id": "5f0c…",
 "errors": [{"pointer": "/feature", "code": "unknown-layer", "detail": "…"}]}
```

`errors` lists the faults of the request, each with the JSON `pointer` to its place. In Python each code is an exception
of `accentor.errors`, raised in process and by the client library alike, with the document's other members in
`error.extra`; the command line ends with 2 where your request is wrong, with 1 where a job failed, with 3 where we are
broken.

<!-- Made by docs/make_errors.py: change core/accentor/errors.py and run it again. -->
"""

SECTIONS: dict[type[AccentorError], str] = {
    RequestError: "Your request is wrong: nothing was done. Mend it and send it again.",
    ServiceError: "We are broken: the same request may work later; `Retry-After` says when to try it.",
    JobError: "A job failed: told as its `failure.code`. It may also be one of the above that could be seen only\n"
    "there, such as `invalid-image`.",
}

OF_HTTP = {
    "bad-request": "HTTP itself is wrong.",
    "forbidden": "A link that was tampered with or has expired, or a page elsewhere that may not change anything here.",
    "not-found": "There is no such address.",
    "method-not-allowed": "The address takes other methods; `Allow` names them.",
    "unsupported-media-type": "The body's content type is not the one that is expected.",
    "misdirected-request": "A service for its own machine, or for certain names, was asked for under another one.",
    "internal-error": "A fault of ours that nobody foresaw; the log has it under the `request_id`.",
}
"""What the codes mean that belong to no class."""


def render() -> str:
    """Return the page."""
    page = HEAD
    for base, text in SECTIONS.items():
        page += f"\n## {base.__name__}\n\n{text}\n\n| code | status | exception | what |\n| --- | --- | --- | --- |\n"
        for kind in classes(base):
            page += f"| `{kind.code}` | {shown_status(kind)} | `{kind.__name__}` | {meaning(kind)} |\n"
    page += "\n## Of HTTP itself\n\n| code | status | what |\n| --- | --- | --- |\n"
    return page + "".join(f"| `{code}` | {status} | {OF_HTTP[code]} |\n" for status, code in HTTP_CODES.items())


def classes(base: type[AccentorError]) -> Iterator[type[AccentorError]]:
    """Yield a class and all below it, in the order of their definition."""
    yield base
    for child in base.__subclasses__():
        if child.__module__ == base.__module__:
            yield from classes(child)


def meaning(kind: type[AccentorError]) -> str:
    """Return what a class says of itself, on one line."""
    return " ".join((inspect.getdoc(kind) or "").replace("``", "`").split()).replace("|", "&#124;")


def shown_status(kind: type[AccentorError]) -> str:
    """Return the HTTP status; a job's failure is told in an answer that is well."""
    return "" if issubclass(kind, JobError) else str(kind.status)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
