"""What the README shows, runs: its files are written out, its commands run with a small budget or checked."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from bayesrl import launch
from bayesrl.config import load

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
FILES = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
SMALL = ["steps=300", "eval.final_episodes=2", "agent.learning_starts=250", "network.hidden=[8,8]", "env.num_envs=2"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def words(command: str) -> list[str]:
    return shlex.split(command.partition("bayesrl.train")[2])


def test_the_first_two_lines() -> None:
    assert COMMANDS[:2] == [
        "pip install -e . && python -m bayesrl.train agent=bayes_dqn",
        'pip install -e ".[test]" && pytest',
    ]


@pytest.mark.parametrize("name", ["Corridor", "noisy", "Cautious", "Tank"])
def test_plugging_in(name: str, files: Path) -> None:
    (command,) = [c for c in COMMANDS if name in c]
    budget = [word for word in words(command) if not word.startswith("steps=")]
    assert launch.command([*budget, *SMALL, "run_dir=run"], launch.train) == 0
    assert (files / "run" / "result.json").exists()


def test_the_posterior_obeys_the_contract(files: Path) -> None:
    from noisy import Noisy

    from bayesrl.testing import PosteriorContract

    class Mine(PosteriorContract):
        def make(self, network):
            return Noisy(network)

    for law in [law for law in dir(PosteriorContract) if law.startswith("test_")]:
        getattr(Mine(), law)()


def test_regression(files: Path) -> None:
    """Unsure where there are no data, by five times and more; noise of .058 and .26 is found within a factor of two."""
    scope: dict = {}
    exec(compile((files / "regression.py").read_text(), "regression.py", "exec"), scope)
    left, right, nowhere = scope["epistemic"][:, 0].sqrt().tolist()
    assert nowhere > 5 * max(left, right)
    low, high, _ = scope["aleatoric"][:, 0].sqrt().tolist()
    assert 0.03 < low < 0.12 and 0.13 < high < 0.52


@pytest.mark.parametrize("name", ["images", "sequences"])
def test_classification(name: str, files: Path, capsys: pytest.CaptureFixture) -> None:
    """At least 9 of 10 right, where chance is 5."""
    exec(compile((files / f"{name}.py").read_text(), name, "exec"), {})
    right = re.search(r"right: tensor\(([\d.]+)\)", capsys.readouterr().out)
    assert right is not None
    assert float(right[1]) > 0.9


def test_the_loop_in_python(files: Path, capsys: pytest.CaptureFixture) -> None:
    text = (files / "loop.py").read_text().replace("2000", "700")
    exec(compile(text, "loop.py", "exec"), {"__name__": "loop"})
    assert float(capsys.readouterr().out) > 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if "bayesrl.train" in c and "seeds.py" not in c])
def test_commands_are_valid(command: str, files: Path) -> None:
    dirs = [w for w in words(command) if w == "conf"]
    overrides = [w for w in words(command) if not w.startswith(("--", "conf", "resume="))]
    load(overrides, dirs)


def test_results_commands_are_valid() -> None:
    """Those of the results tables: every word after the script's two arguments is a setting that exists."""
    commands = re.findall(r"`(?:python tests/benchmarks/seeds.py \S+ \S+) ([^`]*)`", README)
    assert commands
    for command in commands:
        load(shlex.split(command))


def test_every_group_and_option_is_listed() -> None:
    """The table of groups names every option there is, and no other."""
    configs = Path(sys.modules["bayesrl"].__file__ or "").parent.parent / "configs"
    table = README.split("| group | options |")[1].split("\n\n")[0]
    for folder in sorted(p for p in configs.iterdir() if p.is_dir() and p.name != "__pycache__"):
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{folder.name}` |")]
        for option in folder.glob("*.yaml"):
            assert f"`{option.stem}`" in row, f"{folder.name}={option.stem} is not in the README"
