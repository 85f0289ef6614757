"""Ending jobs: artefacts first, then result.json, then the job's state."""

import mimetypes
import time
from collections import defaultdict
from collections.abc import Sequence

from accentor.errors import AccentorError
from accentor.spec import Failure, JobState
from accentor.state import Shard
from accentor.storage.keys import artefact_key, result_key
from accentor_worker.plan import Item
from accentor_worker.services import Ending, Services

FALLBACK_TYPE = "application/octet-stream"

TOGETHER = 64
"""Jobs whose end is told in one go at most."""

TELL_S = 0.25
"""Seconds after which an end is told with the next one at the latest."""


class Ledger:
    """Ends jobs in the object store and in the job store; what is ended twice ends once.

    Ends are told to the job store a few at a time: call `tell` before anything that takes long. Of a worker that dies
    before it has told, the results are there, and the next one finds them.
    """

    def __init__(self, services: Services) -> None:
        self._jobs = services.jobs
        self._objects = services.objects
        self._untold: dict[tuple[str, bool], list[int]] = defaultdict(list)
        self._count = 0
        self._tell_at = 0.0

    def succeed(self, item: Item, ending: Ending) -> None:
        """Store what was computed, and end the job."""
        for name, data in ending.files(item.key).items():
            content_type = mimetypes.guess_type(name)[0] or FALLBACK_TYPE
            self._objects.put(artefact_key(item.key, name), data, content_type=content_type)
        anonymous = item.spec
        if anonymous.custom_id is not None or anonymous.metadata:
            anonymous = anonymous.model_copy(update={"custom_id": None, "metadata": {}})
        result = ending.to_result(anonymous, item.key).model_dump_json().encode()
        self._objects.put(result_key(item.key), result, content_type="application/json")
        self._note(item, cached=False)

    def succeed_cached(self, item: Item) -> bool:
        """End the job if its result is there, and tell whether it is."""
        if not self._objects.exists(result_key(item.key)):
            return False
        self._note(item, cached=True)
        return True

    def end_twin(self, twin: Item, first: Item) -> None:
        """End a job as the one that asks for the same has ended; without an end it is left to the next worker."""
        if not self.succeed_cached(twin) and (failure := self._jobs.failure(first.shard.batch, first.index)):
            self._jobs.finish_job(twin.shard.batch, twin.index, JobState.FAILED, failure=failure)

    def fail(self, shard: Shard, indices: Sequence[int], error: AccentorError) -> None:
        """Fail jobs of a shard for a reason."""
        self.tell()
        failure = Failure(code=error.code, detail=error.detail, attempts=shard.attempts + 1)
        self._jobs.finish_jobs(shard.batch, indices, JobState.FAILED, failure=failure)

    def tell(self) -> None:
        """Tell the job store every end that it does not know yet."""
        while self._untold:
            (batch, cached), indices = next(iter(self._untold.items()))
            self._jobs.finish_jobs(batch, indices, JobState.SUCCEEDED, cached=cached)
            del self._untold[batch, cached]
        self._count = 0

    def _note(self, item: Item, *, cached: bool) -> None:
        now = time.monotonic()
        if not self._count:
            self._tell_at = now + TELL_S
        self._untold[item.shard.batch, cached].append(item.index)
        self._count += 1
        if self._count >= TOGETHER or now >= self._tell_at:
            self.tell()
