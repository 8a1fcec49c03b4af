"""The checkout's symbolic links: every file is visited once, and where links are missing the remedy is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKS = ("agents", "envs", "configs")
pytestmark = pytest.mark.skipif(not (ROOT / "bayesrl/agents").is_symlink(), reason="an installed package has no links")


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def without_links(tmp_path: Path) -> Path:
    """A checkout as git writes it where symbolic links are switched off: text files that hold their targets."""
    tree = tmp_path / "tree"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bayesrl", tree / "bayesrl", symlinks=True, ignore=skipped)
    for name in LINKS:
        shutil.copytree(ROOT / name, tree / name, ignore=skipped)
        (tree / "bayesrl" / name).unlink()
        (tree / "bayesrl" / name).write_text(f"../{name}")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    return tree


def test_links_are_relative_and_lead_to_the_folders_beside_the_package():
    for name in LINKS:
        assert (ROOT / "bayesrl" / name).readlink() == Path("..") / name
        assert (ROOT / "bayesrl" / name).resolve() == ROOT / name


def test_an_import_without_links_says_the_remedy_in_one_sentence(without_links):
    done = run("-c", "import bayesrl", cwd=without_links)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: got a text file at {without_links / 'bayesrl/agents'}, wanted a symbolic link to the folder "
        "../agents: clone again with `git clone -c core.symlinks=true`, the default on Linux and macOS, "
        "and in developer mode on Windows, or install a wheel"
    )
    (without_links / "bayesrl/agents").unlink()
    assert "ImportError: got nothing at " in run("-c", "import bayesrl", cwd=without_links).stderr


def test_a_build_without_links_says_the_same(without_links):
    pytest.importorskip("setuptools")
    done = run(
        "-c", "from setuptools.build_meta import prepare_metadata_for_build_wheel as f; f('.')", cwd=without_links
    )
    assert done.returncode == 1
    assert "ImportError: got a text file at " in done.stderr and "core.symlinks=true" in done.stderr


def test_ruff_visits_every_file_once():
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    done = subprocess.run([ruff, "check", "--show-files", "."], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(line) for line in done.stdout.split()]
    assert len(files) > 200 and len({file.resolve() for file in files}) == len(files)
