"""Run docs/notebooks/first-steps.ipynb anew and keep what it shows."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "notebooks" / "first-steps.ipynb"
CELL_LIMIT_S = 300


def run() -> nbformat.NotebookNode:
    """Return the notebook as it is after all its cells have run in a kernel of their own; the first error is raised."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=CELL_LIMIT_S, kernel_name="python3").execute()
    return notebook


def main() -> None:
    """Run it, and write it with its pictures as JPEG where there is a choice."""
    notebook = run()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "image/jpeg" in output.get("data", ()):
                del output.data["image/png"]
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
