"""Many runs from one command: what is swept, that all problems are told before any begins, and that none is lost."""

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.multirun import checked, expand
from bayesrl.train import main
from support.runs import TINY

RUN = ["--multirun", "--jobs=2", *TINY, "steps=200"]


def names(*words: str) -> list[str]:
    return list(expand(words))


def test_every_combination_of_hydras_sweeps() -> None:
    assert names("steps=9", "posterior=point,ensemble", "seed=range(2)") == [
        "posterior=point,seed=0", "posterior=point,seed=1", "posterior=ensemble,seed=0", "posterior=ensemble,seed=1",
    ]  # fmt: skip
    assert expand(["steps=9", "seed=choice(3,5)"]) == {
        "seed=3": ["steps=9", "seed=3"],
        "seed=5": ["steps=9", "seed=5"],
    }
    assert names("posterior=glob(*ensemble*)") == ["posterior=ensemble"]
    assert names("posterior=glob([sg*,ps*],exclude=sgh*)") == ["posterior=psgld", "posterior=sgld"]
    assert names("network.hidden=[8],[8,8]") == ["network.hidden=[8]", "network.hidden=[8,8]"]
    assert names("env.id='a:B','a/b:C'", "seed=1,1") == ["env.id=a:B,seed=1", "env.id=a%2Fb:C,seed=1"]
    assert names("seed=3") == ["run"]


def test_what_has_no_end_or_no_member_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        expand(["prior_scale=interval(0,1)", "posterior=glob(nothing*)"])
    told = str(caught.value).splitlines()
    assert len(told) == 2 and all("wanted values to count" in line for line in told)


def test_all_problems_of_all_combinations_are_told_at_once(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["posterior=ensemble,ensembl", "posterior.members=0.5,4", "seed=-1,1", "steps=x", "env.id=CartPol-v1"]
    assert main([*RUN, *words]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert told == list(dict.fromkeys(told))
    assert any("got posterior=ensembl, wanted an option" in line and "(in 4 runs, such as" in line for line in told)
    assert any("got posterior.members=0.5, wanted an integer (in 2" in line for line in told)
    assert any(line == "error: got steps=x, wanted an integer" for line in told)
    assert os.listdir(tmp_path) == []


def test_seeds_are_checked_without_composing_them_anew() -> None:
    configs = checked(expand(["seed=range(100)", "posterior=point"]), ())
    assert [config.seed for config in configs.values()] == list(range(100))
    with pytest.raises(ConfigError, match=r"^got seed=-1, wanted at least 0 \(in 1 runs, such as seed=-1\)$"):
        checked(expand(["seed=-1,2"]), ())


@pytest.mark.parametrize("words", [["--jobs=0"], ["--cfg", "job"], ["resume=x"]])
def test_options(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*RUN, *words]) == 2
    assert "wanted" in capsys.readouterr().err


def test_a_run_that_fails_stops_no_other_and_finished_ones_are_skipped(tmp_path: Path, capsys) -> None:
    words = ["posterior.optimizer.lr=1e30,1e-3", "log.every=50", f"run_dir={tmp_path}"]
    assert main([*RUN, *words]) == 1
    told = capsys.readouterr().out
    assert "1 of 2 runs finished" in told
    assert "\nfailed: posterior.optimizer.lr=1e+30: got " in told and "lower learning rate" in told
    good = tmp_path / "posterior.optimizer.lr=0.001"
    assert json.loads((good / "result.json").read_text())["steps"] == 200
    assert json.loads((good / "run.json").read_text())["command"][0] == "bayesrl.train"
    before = {path: path.stat().st_mtime_ns for path in good.rglob("*")}
    assert main([*RUN, *words]) == 1
    assert {path: path.stat().st_mtime_ns for path in good.rglob("*")} == before

    assert main(["-m", *TINY, *words[1:], "posterior.optimizer.lr=choice(1e-3)", "replay_ratio=0.5"]) == 2
    assert "got replay_ratio=0.5, wanted 0.25, which" in capsys.readouterr().err
    assert main(["-m", *TINY, *words[1:], "posterior.optimizer.lr=choice(1e-3)", "steps=300"]) == 0
    assert json.loads((good / "result.json").read_text())["steps"] == 300


def when(paths: list[Path], act) -> None:
    """Act once the files are there and have a second line, without holding up the sweep."""

    def wait() -> None:
        while not all(path.exists() and path.read_text().count("\n") > 1 for path in paths):
            time.sleep(0.02)
        act()

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.slow
def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(tmp_path: Path, capsys) -> None:
    words = ["seed=0,1,2", "steps=100000", f"run_dir={tmp_path}"]
    logged = [tmp_path / f"seed={seed}" / "metrics.csv" for seed in (0, 1)]
    when(logged, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main([*RUN, *words]) == 128 + signal.SIGINT
    assert "stopped, every run saved" in capsys.readouterr().out
    saved = {}
    for seed in (0, 1):
        saved[seed] = json.loads((tmp_path / f"seed={seed}" / "result.json").read_text())["steps"]
        assert (tmp_path / f"seed={seed}" / "checkpoints" / f"{saved[seed]:012}.pt").exists()
    assert not (tmp_path / "seed=2").exists()
    steps = max(saved.values()) + 50
    assert main([*RUN, "seed=0,1", f"steps={steps}", f"run_dir={tmp_path}"]) == 0
    for seed in (0, 1):
        about = json.loads((tmp_path / f"seed={seed}" / "run.json").read_text())
        assert [start["step"] for start in about["resumed"]] == [saved[seed]]
        assert json.loads((tmp_path / f"seed={seed}" / "result.json").read_text())["steps"] == steps


def test_a_killed_run_is_told_by_its_signal(tmp_path: Path, capsys) -> None:
    def kill() -> None:
        multiprocessing.active_children()[0].kill()

    when([tmp_path / "seed=0" / "metrics.csv"], kill)
    assert main([*RUN, "seed=choice(0)", "steps=100000", f"run_dir={tmp_path}"]) == 1
    assert "failed: seed=0: killed by SIGKILL" in capsys.readouterr().out
