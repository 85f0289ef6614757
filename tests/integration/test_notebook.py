"""The example notebook, run as it stands, with the service that it starts."""

import re

import nbformat
import pytest
from docs.make_notebook import NOTEBOOK, run


def text_of(notebook: nbformat.NotebookNode) -> str:
    """Return what the cells print and show as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    return "\n".join(output.get("text") or output.data["text/plain"] for output in outputs if output.output_type)


def gains(text: str) -> list[tuple[float, float]]:
    """Return before and after of each accentuation that is told with an arrow."""
    return [(float(before), float(after)) for before, after in re.findall(r"(-?[\d.]+) → (-?[\d.]+)", text)]


def test_the_committed_notebook_was_run_from_top_to_bottom() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(gains(text_of(notebook))) == 7


@pytest.mark.service
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs() -> None:
    text = text_of(run())
    assert "succeeded: the logit went from" in text
    assert "6 jobs, 1 of them there already" in text
    assert "6 succeeded, 1 cached of 6" in text
    found = gains(text)
    assert len(found) == 7
    assert all(after > before for before, after in found)
    assert found[0] == pytest.approx(found[-1], abs=0.02), "the same job with and without the service"
