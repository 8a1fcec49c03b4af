"""Training to 2N is training to N and resuming to 2N, bit for bit; looking changes nothing."""

import contextlib
import csv
import importlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from bayesrl.experiment.build import build
from bayesrl.experiment.run_directory import stored
from bayesrl.train import main
from support.runs import TINY, checkpoint, metrics, resume, same, train

ENVS = {
    "CartPole-v1": ["env.id=CartPole-v1"],
    "MountainCar-v0": ["env.id=MountainCar-v0", "env.num_envs=2", "env.vectorization=sync"],
    "DeepSea-v0": ["env=deep_sea", "env.kwargs.size=5", "env.num_envs=3"],
}
POSTERIORS = {"hypermodel": ["posterior.draws=3"], "ensemble": ["posterior.members=3"]}


def newest(run: Path) -> int:
    return max((int(path.stem) for path in (run / "checkpoints").glob("*.pt")), default=0)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("env", [pytest.param(e, marks=[pytest.mark.slow] * (e == "MountainCar-v0")) for e in ENVS])
def test_twice_as_long_is_resumed_once(env: str, posterior: str, tmp_path: Path) -> None:
    words = [*ENVS[env], f"posterior={posterior}", *POSTERIORS[posterior]]
    train(*words, "steps=600", f"run_dir={tmp_path / 'whole'}")
    train(*words, "steps=300", f"run_dir={tmp_path / 'halves'}")
    resume(tmp_path / "halves", "steps=600")
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")


def test_looking_changes_nothing(tmp_path: Path) -> None:
    train("steps=300", f"run_dir={tmp_path / 'a'}")
    train(
        "steps=300",
        f"run_dir={tmp_path / 'b'}",
        "log.every=7",
        "eval.every=31",
        "checkpoint.every=11",
        "eval.episodes=3",
    )
    a, b = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    for part in ("agent", "rollout", "envs", "rng"):
        same(a[part], b[part], part)


class Reckless(gym.Env):
    """Uses the global generators, as environments should not, and cannot be captured."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.opaque = 0, object()
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        obs = np.array([np.random.rand(), random.random()], np.float32)
        return obs, float(action) * random.random(), self.t == 9, False, {}


def test_global_generators_of_an_environment_are_left_alone_by_evaluation(tmp_path: Path) -> None:
    words = [f"env.id={__name__}:Reckless", "steps=200"]
    train(*words, f"run_dir={tmp_path / 'a'}", "eval.every=0")
    train(*words, f"run_dir={tmp_path / 'b'}", "eval.every=50")
    same(checkpoint(tmp_path / "a")["agent"], checkpoint(tmp_path / "b")["agent"])


def test_new_episodes_begin_where_the_state_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    train(f"env.id={__name__}:Reckless", "steps=202", f"run_dir={run}")
    for steps in (205, 220):
        resume(run, f"steps={steps}")
        assert "new episodes begin" in capsys.readouterr().out
    with contextlib.closing(build(stored(run), run, resuming=True)) as again:
        rebuilt = again.rollout.agent.replay
    assert rebuilt.columns["done"][[201, 204], 0].all()  # cut there, on both resumptions
    assert not rebuilt.columns["terminated"][[201, 204], 0].any()


@pytest.mark.parametrize(
    ("pays", "kept", "again"),
    [
        ((True, True), True, [(math.inf, math.inf)]),
        ((True, False), "update", [(math.inf, 0)]),
        ((False,) * 2, False, []),
    ],
)
def test_whether_it_is_captured_is_chosen_once(
    pays: tuple, kept: object, again: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what there is to be gained in the run; resumed, what was chosen holds, for the same numbers."""
    from bayesrl.agents.bayes_dqn import BayesDQN

    expected = []

    def capture(agent: BayesDQN, updates: float, acts: float, say: object) -> tuple[bool, bool]:
        expected.append((updates, acts))
        return pays

    monkeypatch.setattr(BayesDQN, "capture", capture)
    train("steps=100", f"run_dir={tmp_path / 'run'}")
    assert stored(tmp_path / "run").capture == kept
    resume(tmp_path / "run", "steps=120")
    assert expected == [(25, 100), *again]


def test_choices_made_by_measurement_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("env.id=MountainCar-v0", "env.num_envs=2", "steps=100", f"run_dir={tmp_path / 'run'}")
    assert stored(tmp_path / "run").env.vectorization == "sync"

    def measure(*arguments: object) -> str:
        raise AssertionError("measured again")

    monkeypatch.setattr(importlib.import_module("bayesrl.envs.vector.make"), "_sync_or_async", measure)
    resume(tmp_path / "run", "steps=120")


def test_a_run_can_be_killed_at_any_moment(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*TINY, "steps=1000000", "checkpoint.every=20", "log.every=10", "eval.every=0", "capture=false"]
    begin, reached = [*words, f"run_dir={run}"], 0
    for wait in (0.3, 0.7):
        child = subprocess.Popen([sys.executable, "-m", "bayesrl.train", *begin], stdout=-3, stderr=-3)
        while child.poll() is None and newest(run) <= reached + 20:
            time.sleep(0.02)
        time.sleep(wait)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        begin = [f"resume={run}"]
        assert newest(run) > reached
        reached = newest(run)
    resume(run, f"steps={reached + 50}")
    steps = [int(row["step"]) for row in metrics(run)]
    assert steps == sorted(set(steps)) and steps[:3] == [10, 20, 30] and steps[-1] == reached + 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_a_boundary(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bayesrl.training.rollout import Rollout

    step = Rollout.step

    def interrupted(self: Rollout) -> int:
        if self.transitions == 133:
            os.kill(os.getpid(), number)
        return step(self)

    monkeypatch.setattr(Rollout, "step", interrupted)
    assert main([*TINY, "steps=300", f"run_dir={tmp_path / 'a'}"]) == 128 + number
    assert checkpoint(tmp_path / "a")["step"] == 134
    assert '"eval_return_mean": null' in (tmp_path / "a" / "result.json").read_text()
    monkeypatch.setattr(Rollout, "step", step)
    resume(tmp_path / "a")
    train("steps=300", f"run_dir={tmp_path / 'b'}")
    same(checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b"))


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_an_evaluation_of_training(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """At the first, at 200 transitions: saved there, and evaluated by the resumption as if nothing had been."""
    from bayesrl.training import loop as module

    evaluate, seeds = module.evaluate, []

    def interrupted(agent, envs, episodes, seed, **named):
        seeds.append(seed)
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(agent, envs, episodes, seed, **named)

    monkeypatch.setattr(module, "evaluate", interrupted)
    code = 128 + signal.SIGTERM
    assert main([*TINY, "eval.episodes=3", "steps=500", f"run_dir={tmp_path / 'a'}"]) == code
    for _ in range(times - 1):
        assert main([f"resume={tmp_path / 'a'}"]) == code
    assert seeds == seeds[:1] * times and "saved at 200 transitions" in capsys.readouterr().out
    assert [row["step"] for row in metrics(tmp_path / "a")] == ["100"]
    monkeypatch.setattr(module, "evaluate", evaluate)
    resume(tmp_path / "a", "steps=200")
    assert checkpoint(tmp_path / "a")["run"]["pending"] == 0
    with (tmp_path / "a" / "metrics.csv").open(newline="") as file:
        assert [row["time/fps"] != "" for row in csv.DictReader(file)] == [True, False], "no step, and so no speed"
    resume(tmp_path / "a", "steps=500")
    train("eval.episodes=3", "steps=500", f"run_dir={tmp_path / 'b'}")
    same(checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b"))
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_last_evaluation(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Nothing is lost of the training before it, and a resumption evaluates."""
    from bayesrl.training import loop as module

    words, evaluate = [*TINY, "steps=150", "eval.every=0", "eval.final_episodes=3"], module.evaluate

    def interrupted(*given, **named):
        os.kill(os.getpid(), number)
        return evaluate(*given, **named)

    monkeypatch.setattr(module, "evaluate", interrupted)
    assert main([*words, f"run_dir={tmp_path / 'a'}"]) == 128 + number
    said = capsys.readouterr().out
    assert (
        "saved at 150 transitions\ntime: " in said and f"go on with: python -m bayesrl.train resume={tmp_path}" in said
    )
    monkeypatch.setattr(module, "evaluate", evaluate)
    resume(tmp_path / "a")
    assert main([*words, f"run_dir={tmp_path / 'b'}"]) == 0
    ended = [json.loads((tmp_path / name / "result.json").read_text()) | {"seconds": 0} for name in "ab"]
    low, high = ended[0]["eval_return_ci"]
    assert ended[0] == ended[1] and low <= ended[0]["eval_return_mean"] <= high
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b") and metrics(tmp_path / "a")[-1]["step"] == "150"


def test_what_is_wrapped_resumes_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    wrappers = (
        "env.wrappers=[{_target_: bayesrl.envs.FrameStack, frames: 3}, {_target_: bayesrl.envs.ScaleReward, factor: 2}]"
    )
    words = ["env.num_envs=2", wrappers, "seed=3"]
    train(*words, "steps=400", f"run_dir={tmp_path / 'whole'}")
    assert "CartPole-v1 has a vector version of its own, which env.wrappers keep out" in capsys.readouterr().err
    train(*words, "steps=200", f"run_dir={tmp_path / 'halves'}")
    resume(tmp_path / "halves", "steps=400")
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves"))
