"""Every error Accentor raises on purpose.

Each class has a stable ``code`` (it never changes once released) and the HTTP ``status`` it is answered with::

    AccentorError
    ├── RequestError                your request is wrong: nothing was done, mend it and send it again
    │   ├── InvalidRequestError     invalid-request       422
    │   ├── InvalidFeatureError     invalid-feature       422
    │   ├── UnknownLayerError       unknown-layer         422
    │   ├── UnitOutOfRangeError     unit-out-of-range     422
    │   ├── InvalidRecipeError      invalid-recipe        422
    │   ├── InvalidImageError       invalid-image         422
    │   ├── InvalidWeightsError     invalid-weights       422
    │   ├── DigestMismatchError     digest-mismatch       422
    │   ├── UnknownModelError       unknown-model         422
    │   ├── UnknownDictionaryError  unknown-dictionary    422
    │   ├── UnknownDatasetError     unknown-dataset       422
    │   ├── DuplicateIdError        duplicate-custom-id   422
    │   ├── UnreadableBodyError     unreadable-body       400
    │   ├── NotFoundError           not-found             404
    │   ├── IllegalTransitionError  illegal-transition    409
    │   ├── TooLargeError           too-large             413
    │   ├── UnauthorizedError       unauthorized          401
    │   ├── MissingScopeError       missing-scope         403
    │   ├── RateLimitError          rate-limit            429
    │   ├── QueueLimitError         queue-limit           429
    │   ├── ReusedKeyError          idempotency-key-reused 422
    │   ├── UnderWayError           idempotency-under-way 409
    │   ├── InvalidWebhookError     invalid-webhook       422
    │   ├── InvalidSignatureError   invalid-signature     401
    │   └── WaitTimeoutError        wait-timeout          408
    ├── JobError                    the job failed: the request was well formed, its computation did not end well
    │   ├── NotFiniteError          not-finite            500
    │   ├── NotDifferentiableError  not-differentiable    500
    │   ├── OutOfMemoryError        out-of-memory         500
    │   ├── ModelChangedError       model-changed         500
    │   ├── WorkerLostError         worker-lost           500
    │   ├── TimeLimitError          time-limit            500
    │   ├── DeadlineError           deadline              500
    │   ├── CanceledError           canceled              500
    │   └── UnexpectedError         unexpected            500
    └── ServiceError                we are broken: the same request may work later
        ├── StorageUnavailableError storage-unavailable   503
        ├── StateUnavailableError   state-unavailable     503
        ├── ModelNotReadyError      model-not-ready       503
        └── MissingServerError      missing-server        503
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class AccentorError(Exception):
    """Base of all errors that Accentor raises on purpose.

    Parameters
    ----------
    detail
        What was given and what was expected, for a person.
    **extra
        Machine-readable members, sent beside ``detail`` in an RFC 9457 problem.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class RequestError(AccentorError, ValueError):
    """Your request is wrong: nothing was done."""

    code = "bad-request"
    status = 400


class InvalidRequestError(RequestError):
    """A field is missing, unknown, of the wrong type or out of its range."""

    code = "invalid-request"
    status = 422


class InvalidFeatureError(RequestError):
    """A feature cannot be parsed, or does not fit its layer."""

    code = "invalid-feature"
    status = 422


class UnknownLayerError(RequestError):
    """The model has no layer of this name.

    The nearest names that there are, are told.
    """

    code = "unknown-layer"
    status = 422


class UnitOutOfRangeError(RequestError):
    """The layer has fewer units, or positions, than asked for."""

    code = "unit-out-of-range"
    status = 422


class InvalidRecipeError(RequestError):
    """A preset is unknown, or a setting is out of its range."""

    code = "invalid-recipe"
    status = 422


class InvalidImageError(RequestError):
    """The bytes are no image that can be accentuated."""

    code = "invalid-image"
    status = 422


class InvalidWeightsError(RequestError):
    """The weights are no safetensors file, hold values that are not finite, or belong to another architecture."""

    code = "invalid-weights"
    status = 422


class DigestMismatchError(RequestError):
    """The bytes do not have the sha256 they were announced with."""

    code = "digest-mismatch"
    status = 422


class UnknownModelError(RequestError):
    """No model of this name can be loaded or is served."""

    code = "unknown-model"
    status = 422


class UnknownDictionaryError(RequestError):
    """There is no feature dictionary of this name."""

    code = "unknown-dictionary"
    status = 422


class UnknownDatasetError(RequestError):
    """There is no dataset of this name."""

    code = "unknown-dataset"
    status = 422


class DuplicateIdError(RequestError):
    """A custom_id was given twice in one batch."""

    code = "duplicate-custom-id"
    status = 422


class UnreadableBodyError(RequestError):
    """The body breaks off, or is not encoded as it was announced."""

    code = "unreadable-body"
    status = 400


class NotFoundError(RequestError):
    """There is no such image, job, batch, dictionary, dataset, webhook or object."""

    code = "not-found"
    status = 404


class IllegalTransitionError(RequestError):
    """The job, batch or webhook is in a state that does not allow this."""

    code = "illegal-transition"
    status = 409


class TooLargeError(RequestError):
    """The request is above a limit; both numbers are named."""

    code = "too-large"
    status = 413


class UnauthorizedError(RequestError):
    """The request has no API key, or none that counts."""

    code = "unauthorized"
    status = 401


class MissingScopeError(RequestError):
    """The API key does not allow this.

    ``needed`` names the scope it lacks, ``scopes`` those it has.
    """

    code = "missing-scope"
    status = 403


class RateLimitError(RequestError):
    """The API key has sent as many requests as it may for now.

    ``limit`` is that of a minute; ``Retry-After`` says when the next one is taken.
    """

    code = "rate-limit"
    status = 429


class QueueLimitError(RequestError):
    """The API key has as many queued jobs as it may; both numbers are named.

    They are ``jobs``, ``queued`` and ``limit``; ``Retry-After`` says when to try again.
    """

    code = "queue-limit"
    status = 429


class ReusedKeyError(RequestError):
    """The Idempotency-Key came before with another request."""

    code = "idempotency-key-reused"
    status = 422


class UnderWayError(RequestError):
    """The first request with this Idempotency-Key is not answered yet.

    ``Retry-After`` says when to send it again.
    """

    code = "idempotency-under-way"
    status = 409


class InvalidWebhookError(RequestError):
    """The webhook's address is none that events are sent to.

    It is no URL, not encrypted, not public, or its name cannot be looked up.
    """

    code = "invalid-webhook"
    status = 422


class InvalidSignatureError(RequestError):
    """What was received is not signed with the webhook's secret, or is too old.

    Told by the client library to whoever verifies a webhook.
    """

    code = "invalid-signature"
    status = 401


class WaitTimeoutError(RequestError, TimeoutError):
    """The job or batch did not end within the time one was willing to wait; it goes on.

    Told by the client library and the command line.
    """

    code = "wait-timeout"
    status = 408


class JobError(AccentorError):
    """The job failed."""

    code = "job-failed"


class NotFiniteError(JobError):
    """The optimisation met NaN or infinity."""

    code = "not-finite"


class NotDifferentiableError(JobError):
    """The feature has no gradient with respect to the image."""

    code = "not-differentiable"


class OutOfMemoryError(JobError):
    """A single pair does not fit the device's memory."""

    code = "out-of-memory"


class ModelChangedError(JobError):
    """The worker's weights are not those the job was submitted for."""

    code = "model-changed"


class WorkerLostError(JobError):
    """The worker died on this job as often as a job may be attempted."""

    code = "worker-lost"


class TimeLimitError(JobError):
    """The job took longer than a job may."""

    code = "time-limit"


class DeadlineError(JobError):
    """The batch's deadline came before the job had begun."""

    code = "deadline"


class CanceledError(JobError):
    """The job was cancelled while it ran."""

    code = "canceled"


class UnexpectedError(JobError):
    """The job raised an error that nobody foresaw."""

    code = "unexpected"


class ServiceError(AccentorError):
    """We are broken: the same request may work later."""

    code = "service-error"
    status = 503


class StorageUnavailableError(ServiceError):
    """The object store does not answer."""

    code = "storage-unavailable"


class StateUnavailableError(ServiceError):
    """Redis does not answer."""

    code = "state-unavailable"


class ModelNotReadyError(ServiceError):
    """No worker has announced this model yet."""

    code = "model-not-ready"


class MissingServerError(ServiceError):
    """A program that the embedded mode needs is not on this machine."""

    code = "missing-server"


def _subclasses(base: type[AccentorError]) -> dict[str, type[AccentorError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found.update(_subclasses(child))
    return found


def error_from_code(code: str, detail: str, **extra: Any) -> AccentorError:
    """Rebuild the error that was sent as (code, detail); an unknown code becomes a plain `AccentorError`."""
    return _subclasses(AccentorError).get(code, AccentorError)(detail, **extra)


def what_is_wrong(fault: Mapping[str, Any]) -> str:
    """Return what a fault that pydantic found says, for a person."""
    return str(fault["msg"]).removeprefix("Value error, ")
