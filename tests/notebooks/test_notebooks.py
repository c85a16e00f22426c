"""The notebooks run from beginning to end, as a reader would run them, and say nothing that would worry one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"

# at least so many pictures, and players
SHOWN = {
    "1-from-a-catalogue-to-a-corpus": (7, 7),
    "2-what-the-mixtures-sound-and-look-like": (6, 9),
    "3-an-augmentation-ablation": (5, 2),
    "4-cleaning-stems": (4, 3),
    "5-train-your-own-way": (2, 3),
}


def test_all_notebooks_are_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_runs_quietly_and_shows_something(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("5"):
        pytest.importorskip("lightning")
    before = _names()
    cells = _run(FOLDER / f"{name}.py", tmp_path, monkeypatch)

    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    complaints = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not complaints
    data = [output["data"] for output in outputs if "data" in output]
    pictures = sum("image/png" in shown for shown in data)
    players = sum("<audio" in shown.get("text/html", "") for shown in data)
    assert (pictures >= SHOWN[name][0], players >= SHOWN[name][1]) == (True, True), (pictures, players)
    assert _names() == before, "the notebook wrote into the repository"


@pytest.mark.parametrize("name", SHOWN)
def test_ends_with_what_next_and_links_lead_somewhere(name: str) -> None:
    cells = jupytext.read(FOLDER / f"{name}.py")["cells"]
    assert cells[0]["source"].startswith("# ")
    assert cells[-1]["source"].startswith("## What next") or "\n## What next" in cells[-1]["source"]
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    for link in _links(text):
        assert (FOLDER / link.partition("#")[0]).exists(), link


def _run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Execute a notebook in a folder of its own; its cells, with outputs."""
    for variable, place in (("IPYTHONDIR", "ipython"), ("JUPYTER_RUNTIME_DIR", "runtime")):
        (folder / place).mkdir()
        monkeypatch.setenv(variable, str(folder / place))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    # a shell's OMP_NUM_THREADS=1 holds here too: notebooks run side by side
    client = nbclient.NotebookClient(
        jupytext.read(path), timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with tempfile.TemporaryDirectory(prefix="n") as short:  # sockets lie there, and their paths must be short
        monkeypatch.setenv("TMPDIR", short)
        return list(client.execute()["cells"])


def _names() -> set[Path]:
    """What lies at the root of the repository and in its folder of notebooks, but for caches."""
    found = [*ROOT.iterdir(), *FOLDER.rglob("*")]
    return {path for path in found if not path.name.startswith(".") and "__pycache__" not in path.parts}


def _links(text: str) -> Iterator[str]:
    """Targets of links to files."""
    for part in text.split("](")[1:]:
        target = part.partition(")")[0]
        if not target.startswith("http"):
            yield target
