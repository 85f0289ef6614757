"""Where atlases are, on a real Redis server: each transition once, whoever asks."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from accentor.errors import IllegalTransitionError, NotFoundError
from accentor.spec import BatchState, Failure
from accentor.spec.atlases import AtlasSite, AtlasSpec, AtlasStep, AtlasStepName
from accentor.state import AtlasStore, NewAtlas

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
TITLE = "<script>alert(1)</script>"
SPEC = AtlasSpec(model="toy", layer="layer1", dataset="d@0123456789abcdef", title=TITLE)
SCANNED = AtlasStep(name=AtlasStepName.SCAN, state=BatchState.SUCCEEDED, batch="s", total=3, done=3)
SITE = AtlasSite(prefix="atlases/a/site/", features=2, images=3, pictures=9, files=4, bytes=5, made_at=CREATED)


@pytest.fixture
def atlases(redis_client: redis.Redis) -> AtlasStore:
    return AtlasStore(redis_client)


def create(atlases: AtlasStore, name: str = "a", minutes: int = 0) -> None:
    atlases.create(NewAtlas(name, SPEC, "d" * 64, "secret", CREATED + timedelta(minutes=minutes), "me"))


def test_an_atlas_goes_from_step_to_step(atlases: AtlasStore) -> None:
    create(atlases)
    first = atlases.get("a")
    assert (first.state, first.step, first.batch, first.revision) == (BatchState.QUEUED, AtlasStepName.SCAN, None, 0)
    assert (first.spec, first.digest, first.secret, first.owner) == (SPEC, "d" * 64, "secret", "me")
    assert first.created_at == CREATED
    assert atlases.begin(first, "s")
    begun = atlases.get("a")
    assert (begun.state, begun.batch, begun.revision) == (BatchState.RUNNING, "s", 1)
    assert atlases.move(begun, SCANNED, AtlasStepName.SELECT)
    moved = atlases.get("a")
    assert (moved.step, moved.batch, moved.ended) == (AtlasStepName.SELECT, None, [SCANNED])
    assert atlases.unfinished() == ["a"]
    selected = AtlasStep(name=AtlasStepName.SELECT)
    assert atlases.end(moved, BatchState.SUCCEEDED, selected, site=SITE)
    ended = atlases.get("a")
    assert (ended.state, ended.site, ended.failure) == (BatchState.SUCCEEDED, SITE, None)
    assert ended.ended == [SCANNED, selected]
    assert ended.finished_at is not None
    assert atlases.unfinished() == []


def test_a_second_creation_changes_nothing(atlases: AtlasStore) -> None:
    create(atlases)
    atlases.begin(atlases.get("a"), "s")
    create(atlases, minutes=1)
    assert (atlases.get("a").batch, atlases.get("a").created_at) == ("s", CREATED)


def test_who_is_late_moves_nothing(atlases: AtlasStore) -> None:
    create(atlases)
    late = atlases.get("a")
    assert atlases.begin(late, "s")
    assert not atlases.begin(late, "other")
    begun = atlases.get("a")
    assert not atlases.move(replace(begun, batch="other"), SCANNED, AtlasStepName.SELECT)
    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(lambda _: atlases.move(begun, SCANNED, AtlasStepName.SELECT), range(16)))
    assert moved.count(True) == 1
    assert atlases.get("a").ended == [SCANNED]


def test_what_is_canceled_only_ends(atlases: AtlasStore) -> None:
    create(atlases)
    atlases.begin(atlases.get("a"), "s")
    atlases.cancel("a")
    atlases.cancel("a")
    asked = atlases.get("a")
    assert asked.state is BatchState.CANCELING
    assert asked.cancel_requested_at is not None
    assert not atlases.move(asked, SCANNED, AtlasStepName.SELECT)
    assert atlases.end(asked, BatchState.CANCELED, SCANNED)
    atlases.cancel("a")
    assert not atlases.begin(atlases.get("a"), "s")
    assert atlases.get("a").state is BatchState.CANCELED


def test_an_end_is_for_ever(atlases: AtlasStore) -> None:
    create(atlases)
    failure = Failure(code="invalid-request", detail="no")
    assert atlases.end(atlases.get("a"), BatchState.FAILED, SCANNED, failure=failure)
    assert atlases.get("a").failure == failure
    assert not atlases.end(atlases.get("a"), BatchState.SUCCEEDED, SCANNED, site=SITE)
    with pytest.raises(IllegalTransitionError, match="it is failed"):
        atlases.cancel("a")


def test_a_deleted_atlas_is_gone_but_for_its_objects(atlases: AtlasStore) -> None:
    create(atlases)
    with pytest.raises(IllegalTransitionError, match="cancel it before"):
        atlases.delete("a")
    atlases.end(atlases.get("a"), BatchState.CANCELED, SCANNED)
    atlases.delete("a")
    with pytest.raises(NotFoundError):
        atlases.get("a")
    assert atlases.recent(9) == []
    assert atlases.deleted() == ["a"]
    atlases.forget("a")
    assert atlases.deleted() == []
    for call in (atlases.get, atlases.cancel, atlases.delete):
        with pytest.raises(NotFoundError, match="no atlas a|no atlas 'a'"):
            call("a")


def test_the_newest_come_first(atlases: AtlasStore) -> None:
    for minutes, name in enumerate("cab"):
        create(atlases, name, minutes)
    assert [atlas.id for atlas in atlases.recent(2)] == ["b", "a"]
    assert [atlas.id for atlas in atlases.recent(9, "a")] == ["c"]
    with pytest.raises(NotFoundError):
        atlases.recent(9, "none")
