"""Ending jobs: artefacts first, then result.json, then the job's state."""

import mimetypes
from collections.abc import Sequence

from accentor.errors import AccentorError
from accentor.spec import Failure, JobState
from accentor.state import Shard
from accentor.storage.keys import artefact_key, result_key
from accentor_worker.plan import Item
from accentor_worker.services import Ending, Services

FALLBACK_TYPE = "application/octet-stream"


class Ledger:
    """Ends jobs in the object store and in the job store; what is ended twice ends once."""

    def __init__(self, services: Services) -> None:
        self._jobs = services.jobs
        self._objects = services.objects

    def succeed(self, item: Item, ending: Ending) -> None:
        """Store what was computed, and end the job."""
        for name, data in ending.files(item.key).items():
            content_type = mimetypes.guess_type(name)[0] or FALLBACK_TYPE
            self._objects.put(artefact_key(item.key, name), data, content_type=content_type)
        anonymous = item.spec.model_copy(update={"custom_id": None, "metadata": {}})
        result = ending.to_result(anonymous, item.key).model_dump_json().encode()
        self._objects.put(result_key(item.key), result, content_type="application/json")
        self._jobs.finish_job(item.shard.batch, item.index, JobState.SUCCEEDED)

    def succeed_cached(self, item: Item) -> bool:
        """End the job if its result is there, and tell whether it is."""
        if not self._objects.exists(result_key(item.key)):
            return False
        self._jobs.finish_job(item.shard.batch, item.index, JobState.SUCCEEDED, cached=True)
        return True

    def end_twin(self, twin: Item, first: Item) -> None:
        """End a job as the one that asks for the same has ended; without an end it is left to the next worker."""
        if not self.succeed_cached(twin) and (failure := self._jobs.failure(first.shard.batch, first.index)):
            self._jobs.finish_job(twin.shard.batch, twin.index, JobState.FAILED, failure=failure)

    def fail(self, shard: Shard, indices: Sequence[int], error: AccentorError) -> None:
        """Fail jobs of a shard for a reason."""
        failure = Failure(code=error.code, detail=error.detail, attempts=shard.attempts + 1)
        for index in indices:
            self._jobs.finish_job(shard.batch, index, JobState.FAILED, failure=failure)
