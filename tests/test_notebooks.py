"""The notebooks run, in order, and are committed with outputs that are small and whole."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlic.cli

# in the text of the JSON files
SMALLER = {
    'data.num_images=600\\"': 'data.num_images=120\\", \\"data.split.on_missing=warn\\"',
    'data=demo\\", ': 'data=demo\\", \\"data.num_images=120\\", \\"data.split.on_missing=warn\\", ',
    "trainer.max_epochs=20": "trainer.max_epochs=2",
    "resamples=500": "resamples=20",
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_committed_outputs_are_small_and_without_errors():
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        assert path.stat().st_size < 250_000
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        counts = [cell["execution_count"] for cell in code]
        assert counts == list(range(1, len(code) + 1)), "run by make notebooks"
        outputs = [output for cell in code for output in cell["outputs"]]
        assert len(outputs) >= 5
        bad = [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
        assert bad == []
        texts = [str(output.get("text", output.get("data", {}).get("text/plain"))) for output in outputs]
        assert not re.search(r"/(home|root|work|tmp|Users)/", " ".join(texts))


def imports_of(notebook: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of all imports of mlic."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = [
        line for cell in cells for line in "".join(cell["source"]).splitlines() if not line.startswith("%")
    ]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "mlic")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlic":
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem[:1])
def test_notebooks_import_the_public_api_alone(notebook: Path):
    """The names that `mlic` and its folders export, and the function of a command; see docs/architecture.md."""
    found = set(imports_of(notebook))
    assert ("mlic", "") in found
    for module, name in found - {("mlic", "")}:
        folder, _, command = module.rpartition(".")
        is_command = folder == "mlic" and command == name and command in mlic.cli.COMMANDS
        assert is_command or name in getattr(importlib.import_module(module), "__all__", ()), (module, name)


@pytest.mark.long
@pytest.mark.slow
def test_notebooks_run_on_the_demo(tmp_path: Path):
    """In one kernel, each with no name left from the one before, on fewer images than a reader has."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    together = nbformat.v4.new_notebook()
    for path in NOTEBOOKS:
        text = path.read_text()
        for written, smaller in SMALLER.items():
            text = text.replace(written, smaller)
        cells = nbformat.reads(text, as_version=4).cells
        together.cells += [*cells, nbformat.v4.new_code_cell("%reset -f")]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(together, timeout=900, kernel_name="python3", resources=place).execute()
    runs = tmp_path / "outputs" / "notebooks"
    described = [json.loads(path.read_text()) for path in runs.glob("runs/*/dataset.json")]
    assert [sum(own["images"].values()) < 200 for own in described] == [True] * 3
    for page in ("compare", "report_page"):
        assert (runs / page / "index.html").stat().st_size > 100_000
