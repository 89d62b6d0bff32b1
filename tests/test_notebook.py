"""The tour runs from top to bottom on the committed tables."""

import nbformat
from nbclient import NotebookClient

from lnexp import paths


def test_the_tour_runs() -> None:
    notebook = nbformat.read(paths.ROOT / "notebooks" / "tour.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(paths.ROOT)}})
    client.execute()
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("image/png" in o.get("data", {}) for o in shown)
