"""What `bayesrl.new` writes is linted, tested and trained as it is, under any name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bayesrl.experiment import cli, single_run
from bayesrl.new import main
from support.runs import TINY

PARTS = [("env", "long_walk", "LongWalk"), ("agent", "careful", "Careful"), ("posterior", "blob2", "Blob2")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def everything(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


def test_the_generated_tests_pass_and_the_files_are_clean(here: Path, capsys: pytest.CaptureFixture) -> None:
    for kind, name, title in PARTS:
        assert main([kind, name]) == 0
        assert f"class {title}" in (here / f"{name}.py").read_text()
    assert "--config-dir conf posterior=blob2 steps=3000" in capsys.readouterr().out
    text = "".join(everything(here).values()).lower()
    assert not any(word in text for kind, _, _ in PARTS for word in (f"my_{kind}", f"my{kind}"))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    if ruff := shutil.which("ruff"):
        rules = ["--isolated", "--line-length", "120"]
        for words in (["check", "--select", "E,F,I,B,UP,SIM,RUF"], ["format", "--check"]):
            done = subprocess.run([ruff, *words, *rules, "."], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("kind", "name"), [part[:2] for part in PARTS])
def test_training_runs_at_once(kind: str, name: str, here: Path) -> None:
    assert main([kind, name]) == 0
    words = ["--config-dir", "conf", f"{kind}={name}", *TINY, "steps=150", "run_dir=run"]
    assert cli.command(words, single_run.train) == 0
    assert json.loads((here / "run" / "result.json").read_text())["steps"] == 150


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "__doc__"),
        (["env"], "got env, wanted one of env NAME, agent NAME, posterior NAME"),
        (["envs", "x"], "got envs x, wanted one of env NAME"),
        (["env", "a", "b"], "got env a b, wanted one of"),
        *((["env", bad], f"got the name {bad}, wanted a free name of small letters, digits") for bad in
          ("My-Env", "MyEnv", "2d", "a__b", "../up", "", "class", "a_", "_a", "é")),
        (["env", "cartpole"], "got the name cartpole, which is an option of env already"),
        (["agent", "bayes_dqn"], "which is an option of agent already"),
        (["env", "torch"], "got the name torch, which is a module already"),
        (["env", "json"], "got the name json, which is a module already"),
    ],
)  # fmt: skip
def test_bad_words_get_one_sentence_and_write_nothing(words, told, here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert told in err or (told == "__doc__" and "bayesrl.new env my_env" in out)
    assert len(err.splitlines()) == (told != "__doc__")
    assert everything(here) == {}


@pytest.mark.parametrize("taken", ["lagoon.py", "test_lagoon.py", "conf/env/lagoon.yaml"])
def test_nothing_is_overwritten(taken: str, here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / taken).parent.mkdir(parents=True, exist_ok=True)
    (here / taken).write_text("mine")
    assert main(["env", "lagoon"]) == 2
    assert f"got {taken}, which is there already, wanted a free name" in capsys.readouterr().err
    assert everything(here) == {taken: "mine"}
