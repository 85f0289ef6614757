"""Uploads of JSON Lines: checked line by line while they stream in, and enqueued only when all of them are there."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from accentor.errors import AccentorError, InvalidRequestError, TooLargeError
from accentor.spec import BatchHeader, BatchStatus, LineJobs, LinesBatch, ModelCard
from accentor.storage.keys import skipped_key
from accentor.storage.pinning import Pins
from accentor_api.blocks import BlockWriter
from accentor_api.bodies import JSON_LINES, loaded, located
from accentor_api.checks import missing_images, settled_recipe
from accentor_api.estimates import EXACT_JOBS, DryRun, count_cached, estimate
from accentor_api.faults import MAX_LISTED, Fault, error_of, faults_of_validation
from accentor_api.lines import Line, LineChecker, header_of, model_of
from accentor_api.seen import Seen
from accentor_api.services import Services
from accentor_api.submission import create, new_id
from accentor_api.unpacking import Unpacker

MAX_LINE_BYTES = 4 * 1024 * 1024
"""A direction of 65,536 values takes 1.4 MB."""

MAX_FAULTS = 1_000
"""Faults that are kept; of further wrong lines only the number."""

BOM = b"\xef\xbb\xbf"

OnInvalid = Literal["reject", "skip"]


@dataclass(frozen=True)
class UploadOptions:
    """What the request says beside its body; ``given`` are settings of the batch, above those of the first line."""

    given: dict[str, Any]
    encoding: str = ""
    on_invalid: OnInvalid = "reject"
    dry_run: bool = False


@dataclass(frozen=True)
class _Begun:
    """What the first line has settled."""

    header: BatchHeader
    model: str
    card: ModelCard
    checker: LineChecker


class LinesUpload:
    """One upload: ``feed`` it the body as it comes, then ``finish`` it, or ``abort`` it. Nothing here is async."""

    def __init__(self, services: Services, options: UploadOptions) -> None:
        self._services = services
        self._options = options
        self._unpacker = Unpacker(options.encoding, services.settings.max_lines_bytes)
        self._rest = b""
        self._number = 0
        self._begun: _Begun | None = None
        self._images = Seen()
        self._id = new_id()
        self._blocks = BlockWriter(services, self._id)
        self._sample = Sample(EXACT_JOBS)
        self._total = 0
        self._invalid = 0
        self._faults: list[Fault] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        for piece in self._unpacker.feed(data):
            lines = (self._rest + piece).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > MAX_LINE_BYTES:
                raise _too_long(self._number + 1, len(self._rest))
            self._take(lines)

    def finish(self) -> BatchStatus | DryRun:
        """Create the batch, or tell what it would be, or raise what is wrong with its lines."""
        self._unpacker.close()
        self._take([self._rest])
        if self._begun is None or self._total + self._invalid == 0:
            raise InvalidRequestError(f"the body has no jobs: {self._number} lines, all empty or the batch's own")
        if self._options.dry_run:
            return self._estimate(self._begun)
        if self._invalid and (self._options.on_invalid == "reject" or not self._total):
            raise self._error()
        return self._create(self._begun)

    def abort(self) -> None:
        """Remove what was stored."""
        self._blocks.abort()

    def _take(self, lines: Sequence[bytes]) -> None:
        good: list[Line] = []
        for line in lines:
            self._number += 1
            data = line.strip()
            if self._number == 1:
                data = data.removeprefix(BOM)
            if not data:
                continue
            if self._begun is None:
                self._begun, is_header = self._begin(data)
                if is_header:
                    continue
            checked = self._begun.checker.check(self._number, data)
            if isinstance(checked, Line):
                good.append(checked)
            else:
                self._refuse(checked)
        self._keep(good)
        limit = self._services.settings.max_lines
        if self._total + self._invalid > limit:
            raise TooLargeError(f"the body has more than {limit} jobs, at most {limit} are taken", limit=limit)

    def _begin(self, data: bytes) -> tuple[_Begun, bool]:
        """Settle what holds for the whole batch, and tell whether that is all the first line says."""
        if len(data) > MAX_LINE_BYTES:
            raise _too_long(self._number, len(data))
        try:
            found = header_of(data)
            first = found or BatchHeader()
            named = self._options.given.get("model") or first.model or model_of(data)
            header = BatchHeader.model_validate({**dict(first), **self._options.given, "model": named})
        except ValidationError as error:
            raise error_of(self._faults_of_header(error, data)) from error
        if header.model is None:
            raise InvalidRequestError(
                'the batch names no model: give ?model=NAME, a first line {"batch": {"model": NAME}}, or a model in '
                "the first job"
            )
        model = header.model
        card = self._services.jobs.model(model)
        pins = Pins(self._services.dictionaries, self._services.datasets, card)
        header = header.model_copy(update={"recipe": settled_recipe(card, pins, header.recipe)})
        checker = LineChecker(card, pins, model, header.recipe.steps * header.recipe.crops)
        return _Begun(header, model, card, checker), found is not None

    def _faults_of_header(self, error: ValidationError, data: bytes) -> list[Fault]:
        """Return what is wrong with the settings of the batch: those of the address, and those of the first line."""
        found, given = located(error), self._options.given.keys()
        asked = [{**fault, "loc": ("query", *fault["loc"][1:])} for fault in found if given & fault["loc"][1:2]]
        told = [fault for fault in found if not given & fault["loc"][1:2]]
        line = loaded(data)
        header = line.get("batch") if isinstance(line, dict) else None
        faults = [fault._replace(line=self._number) for fault in faults_of_validation(told, header)]
        return faults_of_validation(asked, None) + faults

    def _keep(self, lines: Sequence[Line]) -> None:
        """Take good lines whose images are here, and refuse the others."""
        new = {line.image for line in lines if line.image not in self._images}
        missing = set(missing_images(self._services, new)) if new else new
        is_wanted = not self._options.dry_run and (not self._invalid or self._options.on_invalid == "skip")
        for line in lines:
            if line.image in missing:
                detail = f"the image {line.image} is not here: upload it first"
                self._refuse([Fault("/image", detail, InvalidRequestError.code, line=line.number)])
                continue
            self._images.add(line.image, line.number)
            self._total += 1
            if self._options.dry_run:
                self._sample.add(line.data)
            elif is_wanted:
                self._blocks.add(line.data)

    def _refuse(self, faults: Sequence[Fault]) -> None:
        self._invalid += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults += faults

    def _create(self, begun: _Begun) -> BatchStatus:
        self._blocks.close()
        if self._invalid:
            lines = "".join(f"{json.dumps(fault.as_member())}\n" for fault in self._in_order())
            self._services.objects.put(skipped_key(self._id), lines.encode(), content_type=JSON_LINES)
        batch = LinesBatch.model_validate({**dict(begun.header), "total": self._total})
        self._services.archive.keep(self._id, batch, begun.card)
        create(self._services, self._id, batch, begun.card, self._total, skipped=self._invalid)
        self._blocks.keep()
        self._services.dispatch()
        return self._services.jobs.status(self._id)

    def _estimate(self, begun: _Begun) -> DryRun:
        lines = self._sample.lines
        size = max(1, len(lines))
        batch = LinesBatch.model_validate({**dict(begun.header), "total": size, "block_jobs": size})
        jobs = LineJobs(batch, lambda _: lines) if lines else ()
        is_accepted = bool(self._total) and (not self._invalid or self._options.on_invalid == "skip")
        return estimate(
            self._services,
            begun.model,
            total=self._total,
            checked=len(lines),
            found=count_cached(self._services, begun.card, jobs),
            work=begun.checker.work,
            images=len(self._images),
            refused=[fault.as_member() for fault in self._in_order()[:MAX_LISTED]],
            invalid_lines=self._invalid,
            is_accepted=is_accepted,
        )

    def _error(self) -> AccentorError:
        """Return the one error that stands for all wrong lines."""
        faults, lines = self._in_order(), self._total + self._invalid
        error = error_of(faults)
        detail = f"{self._invalid} of {lines} lines are wrong; line {faults[0].line}: {faults[0].detail}"
        return type(error)(detail, **{**error.extra, "invalid_lines": self._invalid, "lines": lines})

    def _in_order(self) -> list[Fault]:
        return sorted(self._faults, key=lambda fault: fault.line or 0)


class Sample:
    """A few of many lines, each kept with the same probability; the same lines, the same sample."""

    def __init__(self, size: int) -> None:
        self.lines: list[bytes] = []
        self._size = size
        self._seen = 0
        self._draw = random.Random(0)  # noqa: S311

    def add(self, line: bytes) -> None:
        """Look at one more line."""
        self._seen += 1
        if len(self.lines) < self._size:
            self.lines.append(line)
        elif (place := self._draw.randrange(self._seen)) < self._size:
            self.lines[place] = line


def _too_long(number: int, size: int) -> TooLargeError:
    return TooLargeError(
        f"line {number} has {size} bytes or more, at most {MAX_LINE_BYTES} are taken",
        bytes=size,
        limit=MAX_LINE_BYTES,
        line=number,
    )
