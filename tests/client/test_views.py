"""What handles show: in a shell, in a notebook, as a table of pandas."""

import asyncio
import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.api.service import Service, digest, picture

from accentor.spec import Failure, JobState
from accentor_client import AsyncClient, Batch, Client
from accentor_client._following import Patience
from accentor_client._frames import COLUMNS

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def batch(service: Service, client: Client) -> Batch:
    batch = client.batches.create(
        model="toy",
        features=["logit:0", "logit:1", "logit:2", "logit:3"],
        images=[picture()],
        metadata={EVIL: EVIL},
        custom_id="{feature}",
    )
    service.run(batch.id, 0)
    service.fail(batch.id, 2, Failure(code="not-finite", detail=EVIL))
    return batch.refresh()


def test_a_shell_shows_handles(batch: Batch) -> None:
    assert repr(batch) == f"<Batch {batch.id} running: 2 queued, 1 succeeded, 1 failed of 4>"
    job = next(batch.jobs())
    assert repr(job) == f"<Job {batch.id}-0 succeeded: logit:0>"
    assert repr(job.result) == f"<JobResult {batch.id}-0 succeeded: logit:0>"


def test_a_notebook_shows_text_as_text(batch: Batch) -> None:
    failed = next(batch.errors())
    for html in (batch._repr_html_(), failed._repr_html_()):
        assert "<script" not in html
        assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert "4: 2 queued, 1 succeeded, 1 failed" in batch._repr_html_()
    assert re.findall(r"width:([\d.]+)%", batch._repr_html_()) == ["25.00", "25.00", "0.00", "0.00", "50.00"]


def test_a_notebook_shows_the_picture(batch: Batch) -> None:
    html = next(batch.jobs()).result._repr_html_()
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as shown:
        assert shown.getpixel((0, 0)) == (1, 90, 200)
    assert "0.5 → 2" in html


def test_a_table_of_pandas(batch: Batch) -> None:
    table = batch.to_pandas()
    assert list(table.index) == [0, 1, 2, 3]
    assert tuple(table.columns) == COLUMNS
    assert list(table["state"]) == ["succeeded", "queued", "failed", "queued"]
    assert list(table["feature"]) == ["logit:0", "logit:1", "logit:2", "logit:3"]
    assert (table.loc[0, "before"], table.loc[0, "after"]) == (0.5, 2.0)
    assert (table.loc[2, "failure_code"], table.loc[2, "failure_detail"]) == ("not-finite", EVIL)
    assert table.loc[0, "image"] == digest(picture())
    assert table.loc[3, "metadata"] == {EVIL: EVIL}
    assert list(batch.to_pandas(JobState.FAILED).index) == [2]
    assert len(batch.to_pandas(JobState.CANCELED)) == 0


def test_both_clients_make_the_same_table(batch: Batch, service: Service) -> None:
    async def ask() -> Any:
        async with AsyncClient(service.url) as client:
            return await (await client.batches.get(batch.id)).to_pandas(JobState.SUCCEEDED, JobState.FAILED)

    table = asyncio.run(ask())
    assert table.equals(batch.to_pandas(JobState.SUCCEEDED, JobState.FAILED))
    assert list(table.index) == [0, 2]
    assert table["after"].sum() == 2.0


def test_pandas_that_is_not_there_is_told(batch: Batch, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'accentor\[pandas\]'"):
        batch.to_pandas()

    async def ask() -> None:
        async with AsyncClient(service.url) as client:
            await (await client.batches.get(batch.id)).to_pandas()

    with pytest.raises(ImportError, match=r"pip install 'accentor\[pandas\]'"):
        asyncio.run(ask())


def test_looks_come_less_often_and_as_the_service_wants() -> None:
    patience = Patience(None, "it")
    pauses = [patience.pause(wanted).seconds for wanted in [0.0] * 14 + [9.0] * 14]
    assert pauses[:3] == pytest.approx([0.1, 0.14, 0.196])
    assert pauses[13] == 2.0
    assert pauses[-1] == 9.0
    assert 0.0 < Patience(0.05, "it").pause(9.0).seconds <= 0.05


def test_a_result_that_came_damaged_is_refused(batch: Batch, service: Service, tmp_path: Path) -> None:
    """The API answers with the digest of what it read: here the reading end gets something else."""
    from accentor.errors import ServiceError
    from accentor_client import _calls

    url = next(batch.jobs()).result.job.urls["overlay.png"]
    answer = service.http.get(url)
    assert _calls.fetch(url).read(answer) == answer.content
    answer._content = answer.content[:-1]
    with pytest.raises(ServiceError, match="came damaged"):
        _calls.fetch(url).read(answer)
