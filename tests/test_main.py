"""`bayesrl COMMAND ...` is `python -m bayesrl.COMMAND ...`."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bayesrl import __main__ as command
from bayesrl import __version__, train

ROOT = Path(__file__).resolve().parent.parent


def test_the_console_command_is_the_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"bayesrl": "bayesrl.__main__:main"}


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_lists_every_command_with_what_it_does(words: list[str], capsys) -> None:
    assert command.main(words) == (0 if words else 2)
    lines = capsys.readouterr().out.splitlines()
    for name in command.COMMANDS:
        assert any(line.startswith(f"    {name} ") and len(line.split()) > 2 for line in lines), name


def test_help_imports_no_torch() -> None:
    code = "import sys; from bayesrl.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).returncode == 0


def test_python_m_bayesrl() -> None:
    out = subprocess.run([sys.executable, "-m", "bayesrl", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (out.returncode, out.stdout) == (0, f"bayesrl {__version__}\n")


def test_an_unknown_command_is_told_with_the_nearest(capsys) -> None:
    assert command.main(["trian", "steps=10"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: got trian, wanted a command: did you mean train? there are train, evaluate")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["seed=3", "--cfg", "job"], ["steps=0"]])
def test_the_same_as_the_module(words: list[str], capsys) -> None:
    there = train.main(words), capsys.readouterr()
    assert (command.main(["train", *words]), capsys.readouterr()) == there


def test_a_module_of_the_current_directory_is_found(tmp_path: Path) -> None:
    """The console script begins without the current directory on the path, as `python -P` does."""
    (tmp_path / "here.py").write_text(
        "from gymnasium.envs.classic_control import CartPoleEnv\n\nclass Here(CartPoleEnv): pass\n"
    )
    words = [sys.executable, "-P", "-m", "bayesrl", "check", "here:Here"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert out.returncode == 0, out.stderr
