"""Atlases in Redis: where each of them is, from its creation to its end. Every transition is one server-side script."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import redis

from accentor.errors import NotFoundError
from accentor.spec import BatchState, Failure
from accentor.spec.atlases import AtlasSite, AtlasSpec, AtlasStep, AtlasStepName
from accentor.state.client import Scripts, guarded
from accentor.state.decoding import moment, text
from accentor.state.keys import ATLASES, DELETED_ATLASES, OPEN_ATLASES, atlas_key

FIRST = next(iter(AtlasStepName))


@dataclass(frozen=True, slots=True)
class NewAtlas:
    """An atlas as it is created.

    Attributes
    ----------
    digest
        Of the model that it was submitted for.
    secret
        Part of its site's address: who knows it may look.
    owner
        The caller whose webhooks are told what becomes of its pictures; none: none are.
    """

    id: str
    spec: AtlasSpec
    digest: str
    secret: str
    created_at: datetime
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class AtlasRecord(NewAtlas):
    """An atlas as it stands, but for what its present step's batch says.

    Attributes
    ----------
    batch
        Of the present step; none: it is still to be made.
    ended
        The steps behind it, as they ended.
    """

    state: BatchState = BatchState.QUEUED
    revision: int = 0
    step: AtlasStepName = FIRST
    batch: str | None = None
    ended: Sequence[AtlasStep] = field(default=())
    failure: Failure | None = None
    site: AtlasSite | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None


class AtlasStore:
    """The atlases of a service.

    Every method raises `StateUnavailableError` when Redis does not answer, and `NotFoundError` for an atlas that there
    is not. `begin`, `move` and `end` say where they believe an atlas to be, and are false if it is not there any more:
    of several who look after it, one moves it.
    """

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._run = Scripts(client)

    @guarded
    def create(self, atlas: NewAtlas) -> None:
        """Create an atlas before its first step; a second time changes nothing."""
        fixed = {
            "spec": atlas.spec.model_dump_json(),
            "digest": atlas.digest,
            "secret": atlas.secret,
            "step": FIRST,
            **({} if atlas.owner is None else {"owner": atlas.owner}),
        }
        keys = [atlas_key(atlas.id), ATLASES, OPEN_ATLASES]
        self._run("create_atlas", keys, atlas.id, atlas.created_at.timestamp(), *_flat(fixed))

    @guarded
    def get(self, atlas_id: str) -> AtlasRecord:
        """Return an atlas as it stands."""
        record = self._client.hgetall(atlas_key(atlas_id))
        if not record:
            raise NotFoundError(f"there is no atlas {atlas_id[:80]!r}")
        return _record(record)

    @guarded
    def recent(self, limit: int, cursor: str | None = None) -> list[AtlasRecord]:
        """Return up to ``limit`` atlases, newest first, after the one whose id is ``cursor``."""
        start = 0
        if cursor is not None:
            rank = self._client.zrevrank(ATLASES, cursor)
            if rank is None:
                raise NotFoundError(f"there is no atlas {cursor[:80]!r}")
            start = rank + 1
        pipeline = self._client.pipeline(transaction=False)
        for name in self._client.zrevrange(ATLASES, start, start + limit - 1):
            pipeline.hgetall(atlas_key(text(name)))
        return [_record(record) for record in pipeline.execute() if record]

    @guarded
    def unfinished(self) -> list[str]:
        """Return the ids of the atlases that have not ended."""
        return sorted(text(name) for name in self._client.smembers(OPEN_ATLASES))

    def begin(self, atlas: AtlasRecord, batch: str) -> bool:
        """Say which batch an atlas' present step is, before which it had none."""
        return self._move(atlas, BatchState.RUNNING, {"batch": batch})

    def move(self, atlas: AtlasRecord, ended: AtlasStep, to: AtlasStepName) -> bool:
        """Go on to another step, which has no batch yet."""
        return self._move(atlas, BatchState.RUNNING, {**_behind(atlas, ended), "step": to, "batch": ""})

    def end(
        self,
        atlas: AtlasRecord,
        state: BatchState,
        ended: AtlasStep,
        *,
        failure: Failure | None = None,
        site: AtlasSite | None = None,
    ) -> bool:
        """End an atlas with its present step, for a reason or with a site."""
        said = {"failure": failure, "site": site}
        told = {name: value.model_dump_json() for name, value in said.items() if value is not None}
        return self._move(atlas, state, _behind(atlas, ended) | told)

    @guarded
    def cancel(self, atlas_id: str) -> None:
        """Ask for an atlas' end; again changes nothing.

        Raises
        ------
        IllegalTransitionError
            If it has ended otherwise.
        """
        self._run("cancel_atlas", [atlas_key(atlas_id)], atlas_id)

    @guarded
    def delete(self, atlas_id: str) -> None:
        """Let nobody see an atlas any more that has ended; it is among `deleted` until its objects are removed.

        Raises
        ------
        IllegalTransitionError
            If it has not ended.
        """
        self._run("delete_atlas", [atlas_key(atlas_id), ATLASES, DELETED_ATLASES], atlas_id)

    @guarded
    def deleted(self) -> list[str]:
        """Return the ids of deleted atlases whose objects are still there."""
        return sorted(text(name) for name in self._client.smembers(DELETED_ATLASES))

    @guarded
    def forget(self, atlas_id: str) -> None:
        """Say that nothing is left of a deleted atlas."""
        self._client.srem(DELETED_ATLASES, atlas_id)

    @guarded
    def _move(self, atlas: AtlasRecord, state: BatchState, changes: Mapping[str, str]) -> bool:
        keys = [atlas_key(atlas.id), OPEN_ATLASES]
        moved = self._run("move_atlas", keys, atlas.id, atlas.step, atlas.batch or "", state, *_flat(changes))
        return bool(moved)


def _behind(atlas: AtlasRecord, ended: AtlasStep) -> dict[str, str]:
    steps = [*atlas.ended, ended]
    return {"ended": json.dumps([step.model_dump(mode="json") for step in steps])}


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _record(record: Mapping[bytes, bytes]) -> AtlasRecord:
    failure, site, owner = (record.get(name) for name in (b"failure", b"site", b"owner"))
    return AtlasRecord(
        id=text(record[b"id"]),
        spec=AtlasSpec.model_validate_json(record[b"spec"]),
        digest=text(record[b"digest"]),
        secret=text(record[b"secret"]),
        created_at=cast("datetime", moment(record[b"created_at"])),
        owner=None if owner is None else text(owner),
        state=BatchState(text(record[b"state"])),
        revision=int(record[b"revision"]),
        step=AtlasStepName(text(record[b"step"])),
        batch=text(record.get(b"batch", b"")) or None,
        ended=[AtlasStep.model_validate(step) for step in json.loads(record.get(b"ended", b"[]"))],
        failure=None if failure is None else Failure.model_validate_json(failure),
        site=None if site is None else AtlasSite.model_validate_json(site),
        finished_at=moment(record.get(b"finished_at")),
        cancel_requested_at=moment(record.get(b"cancel_requested_at")),
    )
