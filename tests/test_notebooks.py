"""The notebooks run, in order, and are committed with outputs that are small and whole."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_small_and_without_errors(path: Path):
    assert path.stat().st_size < 200_000
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), (
        "run by make notebooks"
    )
    outputs = [output for cell in code for output in cell["outputs"]]
    assert len(outputs) >= 5
    assert not [
        output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    texts = [str(output.get("text", output.get("data", {}).get("text/plain"))) for output in outputs]
    assert not re.search(r"/(home|root|work|tmp|Users)/", " ".join(texts))


@pytest.mark.long
@pytest.mark.slow
def test_notebooks_run_on_the_demo(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
    assert len(NOTEBOOKS) == 3
    runs = tmp_path / "outputs" / "notebooks"
    assert len(list(runs.glob("runs/*/metrics.json"))) == 3
    assert (runs / "compare" / "index.html").stat().st_size > 100_000
