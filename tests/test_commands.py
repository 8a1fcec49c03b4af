"""The commands as a user starts them: from a directory of their own, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bayesrl import evaluate
from bayesrl.train import main
from support.runs import TINY

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
class MyEnv(CartPoleEnv):
    def __init__(self, length=1.0, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.length = length
gym.register("MyEnv-v0", entry_point=f"{__name__}:MyEnv", max_episode_steps=50)
"""


def python(*words: str, at: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *words], cwd=at, capture_output=True, text=True)


def test_a_module_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MODULE)
    done = python(
        "bayesrl.train", *TINY, "steps=100", "env.id=my_module:MyEnv-v0", "env.kwargs.length=0.7", at=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (
        f"run: runs/{run.name}" in done.stdout
        and "bottleneck" in done.stdout
        and "greedy return of 1 episode: " in done.stdout
    )
    assert "0/100" in done.stderr and done.stderr.count("steps/s") <= 3  # no terminal: a line in ten seconds
    done = python("bayesrl.evaluate", f"run=runs/{run.name}", "episodes=2", at=tmp_path)
    assert done.returncode == 0 and "greedy return of 2 episodes at 100 transitions" in done.stdout, done.stderr
    assert os.listdir(tmp_path / "runs") == [run.name]


def test_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_imports.py").write_text(MODULE.replace("MyEnv-v0", "MyOther-v0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["env.imports=[my_imports]", "env.id=MyOther-v0", "steps=60", f"run_dir={tmp_path / 'run'}"]
    assert main([*TINY, *words]) == 0


def test_help(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "Exit code" in told and "full_rank  hypermodel*  laplace" in told and "replay_ratio=1.0" in told


def test_the_configuration_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--cfg", "job", "steps=7", "env.kwargs={}"]) == 0
    assert "steps: 7\n" in capsys.readouterr().out
    assert os.listdir(tmp_path) == []


def test_evaluate_is_the_same_every_time_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    assert main([*TINY, "steps=100", f"run_dir={run}"]) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    told = []
    for _ in range(2):
        assert evaluate.main([f"run={run}", "episodes=3", "seed=1"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words", [["run=nowhere"], ["episodes=5"], ["run=.", "episodes=x"], ["run=.", "steps=3"], ["run"]]
)
def test_bad_words_to_evaluate(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert evaluate.main(words) == 2
    assert capsys.readouterr().err.startswith("error: got")
