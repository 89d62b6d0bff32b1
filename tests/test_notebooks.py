"""The notebooks run from top to bottom: the tour on the committed tables, the others on runs of seconds."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from lnexp import paths


def outputs(name: str, overrides: list[str] | None = None) -> list[dict]:
    """What a notebook shows; `overrides` take the place of its parameters."""
    notebook = nbformat.read(paths.ROOT / "notebooks" / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    if overrides is not None:
        (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        parameters.source = f"OVERRIDES = {overrides!r}"
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(paths.ROOT)}})
    client.execute()
    return [output.get("data", {}) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_the_tour_runs() -> None:
    assert any("image/png" in data for data in outputs("tour.ipynb"))


def test_sentences_find_their_neighbours(smoke_of: dict[str, list[str]], tmp_path: Path) -> None:
    given = [*smoke_of["skip_thoughts"], f"results_dir={tmp_path}"]
    shown = outputs("sentences.ipynb", given)[-1]["text/plain"]
    assert "by the encoder" in shown
    assert "by mean embeddings" in shown
