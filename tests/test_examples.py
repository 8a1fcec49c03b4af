"""Every example runs from its first line to its last, with a small budget."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = {
    "own_environment": ["--steps", "600", "--run-dir", "run"],
    "compare_posteriors": ["--steps", "150", "--seeds", "1"],
    "regression": ["--steps", "20"],
}
POSTERIORS = ("hypermodel", "linear_hypermodel", "mean_field", "ensemble", "point")
NOTEBOOKS = {"uncertainty_of_an_agent": "steps = 600", "supervised": "updates = 20"}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SCRIPTS.keys()
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == NOTEBOOKS.keys()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "regression")) for n in SCRIPTS])
def test_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """It prints what its docstring promises: a line for each posterior, or the return of the deployed policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *SCRIPTS[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    if name == "own_environment":
        assert "deployed: return" in out
    else:
        assert sum(line.split(" ")[0] in POSTERIORS for line in out.splitlines()) == 3


@pytest.mark.slow  # a kernel starts, and imports torch and matplotlib
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name: str, tmp_path: Path) -> None:
    """Every cell runs; the file itself holds no outputs."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = NOTEBOOKS[name]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("image/png" in out.get("data", {}) for cell in code for out in cell.outputs)
