"""The training command: what a run leaves behind, and bad input in one sentence with exit code 2 and nothing lost."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from bayesrl.train import main
from support.runs import TINY


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("train") / "run"
    assert main([*TINY, "steps=400", "seed=5", f"run_dir={run}"]) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """Run the command, which must exit with 2; its complaint."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))

    def call(*words: str, tiny: bool = True) -> str:
        capsys.readouterr()
        assert main([*(TINY if tiny else []), *words]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told.partition("error: ")[0]
        return told[told.index("error: ") :]

    return call


def test_what_a_run_leaves_behind(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert list(result) == ["steps", "episodes", "eval_return_mean", "eval_return_ci", "seconds"]
    assert result["steps"] == 400 and result["episodes"] > 0 and result["eval_return_mean"] > 0
    assert result["eval_return_ci"] is None, "of one episode"
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert (config["steps"], config["seed"], config["env"]["vectorization"]) == (400, 5, "native")
    assert config["resume"] is None and config["network"]["hidden"] == [8]
    about = json.loads((finished / "run.json").read_text())
    assert {"python", "torch", "pyro-ppl", "gymnasium", "numpy"} <= set(about["versions"])
    assert {"commit", "command", "time", "environment", "resumed"} <= set(about)
    assert not list(finished.rglob("*.part"))


def test_a_solved_task_says_when(tmp_path: Path) -> None:
    solve = "solve={every: 20, episodes: 2, threshold: -1, max_episodes: 50}"
    words = ["capture=false", "env=deep_sea", "env.kwargs.size=2", solve]
    assert main([*TINY, *words, "steps=1", f"run_dir={tmp_path / 'solved'}"]) == 0
    assert json.loads((tmp_path / "solved" / "result.json").read_text())["episodes_to_solve"] == 10
    words[-1] = "solve={every: 20, episodes: 2, threshold: 5, max_episodes: 50}"
    assert main([*TINY, *words, "steps=1", f"run_dir={tmp_path / 'failed'}"]) == 0
    result = json.loads((tmp_path / "failed" / "result.json").read_text())
    assert result["episodes_to_solve"] is None and result["episodes"] == 50


def test_resuming_is_recorded_and_kept(run: Path) -> None:
    assert main([f"resume={run}", "steps=450", "log.every=25"]) == 0
    config, about = yaml.safe_load((run / "config.yaml").read_text()), json.loads((run / "run.json").read_text())
    assert (config["steps"], config["log"]["every"]) == (450, 25)
    assert [start["step"] for start in about["resumed"]] == [400]
    assert json.loads((run / "result.json").read_text())["steps"] == 450


def test_reasons_to_stop(tmp_path: Path) -> None:
    words = ["capture=false", "env.id=support.environments:Plain", "steps=100000"]
    assert main([*TINY, *words, "stop.return=8", f"run_dir={tmp_path / 'a'}"]) == 0
    assert json.loads((tmp_path / "a" / "result.json").read_text())["episodes"] == 100
    assert main([*TINY, *words, "stop.seconds=0", f"run_dir={tmp_path / 'b'}"]) == 0
    assert json.loads((tmp_path / "b" / "result.json").read_text())["steps"] == 0


def test_no_steps_left_completes_the_result(run: Path) -> None:
    (run / "result.json").unlink()  # killed during the last evaluation
    assert main([f"resume={run}"]) == 0
    assert json.loads((run / "result.json").read_text())["steps"] == 400


def test_a_run_killed_before_its_first_checkpoint_begins_anew(run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "replay")
    assert main([f"resume={run}", "steps=100"]) == 0
    assert "has no checkpoint yet: beginning anew" in capsys.readouterr().err
    assert [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()] == ["step", "100"]


# --- bad input -----------------------------------------------------------------------------------------------------


def test_names_devices_and_environments_are_told_together(fails) -> None:
    told = fails("device=banana", "env.id=CartPol-v1")
    assert "wanted auto or one of those found here: cpu" in told and "did you mean CartPole-v1" in told
    told = fails("agent=foo", "steps=abc", "env.kwargs.x=1", "--cfg", "job")
    assert told.count("error: got") == 2


def test_a_gpu_that_is_not_there(fails, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "got device=cuda, wanted auto or one of those found here: cpu" in fails("device=cuda")


def test_continuous_actions(fails) -> None:
    assert "got continuous actions of 1 numbers, wanted discrete ones" in fails("env.id=Pendulum-v1")


@pytest.mark.parametrize("option", ["--info", "--cfg=all", "--config-dir=nowhere", "--config-dir"])
def test_options(option: str, fails) -> None:
    assert "wanted" in fails(option)


def test_a_directory_that_holds_a_run(run: Path, fails) -> None:
    assert f"or go on with resume={run}" in fails(f"run_dir={run}")


def test_a_directory_in_use(run: Path, fails) -> None:
    from bayesrl.experiment.run_directory import locked

    with locked(run, new=False):
        assert "another process is training" in fails(f"resume={run}", tiny=False)


def test_a_directory_that_cannot_be_written(tmp_path: Path, fails) -> None:
    (tmp_path / "file").write_text("")
    assert "wanted a directory that can be written" in fails(f"run_dir={tmp_path / 'file' / 'run'}")
    assert "wanted a directory that can be written" in fails("run_dir=/proc/run")


def test_what_never_began_leaves_nothing(tmp_path: Path, fails) -> None:
    told = fails("agent.capacity=1000000000000", f"run_dir={tmp_path / 'run'}")
    assert "GiB" in told and "lower agent.capacity" in told
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "empty or cut short"), ("a: [", "no YAML"), ("agent: {_target_: x}\n", "empty or cut short")],
)
def test_a_broken_configuration(content: str, said: str, run: Path, fails) -> None:
    (run / "config.yaml").write_text(content)
    assert said in fails(f"resume={run}", tiny=False)


def test_resuming_what_is_no_run(tmp_path: Path, fails) -> None:
    assert "no config.yaml" in fails(f"resume={tmp_path}", tiny=False)


def test_only_a_few_settings_change_at_a_resumption(run: Path, fails) -> None:
    told = fails(f"resume={run}", "seed=1", "agent.discount=0.5", "checkpoint.every=3", f"run_dir={run}", tiny=False)
    assert told.count("error: got") == 4 and "got agent.discount=0.5 with resume" in told


def test_fewer_steps_than_there_are(run: Path, fails) -> None:
    assert "steps is the total" in fails(f"resume={run}", "steps=300", tiny=False)


def test_all_checkpoints_broken(run: Path, fails) -> None:
    for path in (run / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:999])
    before = sorted(path.name for path in run.rglob("*"))
    assert "cut short" in fails(f"resume={run}", "steps=500", tiny=False)
    assert sorted(path.name for path in run.rglob("*")) == before


@pytest.mark.parametrize(
    ("env", "said"), [("BlindEnv", "the observation nan at index [0]"), ("RichEnv", "the reward inf")]
)
def test_numbers_that_are_not_finite(env: str, said: str, tmp_path: Path, fails) -> None:
    told = fails(f"env.id=support.environments:{env}", "steps=500", f"run_dir={tmp_path / 'run'}")
    assert f"{said} from environment 0 at step 151" in told and "saved at 150 transitions" in told
    assert (tmp_path / "run" / "checkpoints" / "000000000150.pt").exists()


@pytest.mark.parametrize(
    ("env", "said"), [("RaisingEnv", "KeyError: '100% broken'"), ("DyingEnv", "was killed by SIGKILL")]
)
def test_workers_that_fail(env: str, said: str, tmp_path: Path, fails) -> None:
    words = [f"env.id=support.environments:{env}", "env.vectorization=async", "env.num_envs=2", "workers.restarts=0"]
    told = fails(*words, "steps=1000", f"run_dir={tmp_path / 'run'}")
    assert said in told and "environment 0" in told and env in told and "saved at 300 transitions" in told


def test_a_loss_that_is_no_number_stops_at_the_last_good_checkpoint(tmp_path: Path, fails) -> None:
    run = tmp_path / "run"
    words = ["posterior.optimizer.lr=1e30", "agent.learning_starts=250", "steps=1000", f"run_dir={run}"]
    told = fails(*words)
    assert "learning rate" in told and f"resume={run} begins at 200 transitions" in told
    assert os.listdir(run / "checkpoints") == ["000000000200.pt"]


def test_a_part_that_cannot_be_built(fails) -> None:
    assert "wanted" in fails("network.hidden=[-3]")
    assert "wanted" in fails("posterior=ensemble", "posterior.mask=7")
