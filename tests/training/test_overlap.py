"""Learning while environments step in workers, and what an environment that breaks leaves in the memory."""

import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from bayesrl.envs import make
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.train import main
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter
from support.environments import DyingEnv, Plain
from support.runs import TINY, checkpoint, metrics, resume, same


class Steps(gym.Env):
    """Shows 0, 1, 2, ... without end."""

    observation_space, action_space = gym.spaces.Box(0, np.inf, (1,), np.float32), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t], np.float32), float(self.t), False, False, {}


def started(env: type[gym.Env] = Steps, E: int = 2) -> VectorEnvAdapter:
    envs = VectorEnvAdapter(make(env, E, vectorization="async")[0])
    envs.reset(seed=0)
    return envs


def test_no_window_reaches_over_a_broken_episode() -> None:
    """Environment 1 of two dies in its third step; by hand, what each step says and each window of two steps weighs."""
    envs = started()
    replay = ReplayBuffer(envs.spec, torch.empty(1, 0), 12, n_step=2, discount=0.5)
    rows: dict[str, list] = {name: [] for name in ("obs", "reward", "valid", "start", "made")}
    for t in range(6):
        if t == 2:
            os.kill(envs.env.processes[1].pid, signal.SIGKILL)  # type: ignore[attr-defined]
        rows["start"].append(envs.start.int().tolist())
        step = envs.step(torch.zeros(2, dtype=torch.int64))
        replay.add(step, torch.empty(2, 0))
        rows["made"].append(envs.transitions)
        for name in ("obs", "reward", "valid"):
            rows[name].append(getattr(step, name).flatten().int().tolist())
        assert not (step.terminated | step.truncated).any() and envs.finished == []
    assert rows["obs"] == [[0, 0], [1, 1], [2, 2], [3, 0], [4, 1], [5, 2]]
    assert rows["reward"] == [[1, 1], [2, 2], [3, 0], [4, 1], [5, 2], [6, 3]]
    assert rows["valid"] == [[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 1]]
    assert rows["start"] == [[1, 1], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0]]
    assert rows["made"] == [2, 2, 1, 2, 2, 2]
    assert replay.gather(torch.arange(10)).weight.view(5, 2).T.tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 1, 1]]
    assert envs.lengths.tolist() == [6, 3] and len(envs.failures) == 1
    envs.env.close()


class Diary(torch.nn.Module):
    """Writes down in which order it is asked what."""

    replay = None

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def act(self, obs, start, mask=None):
        self.said += "a"
        return torch.zeros(len(obs), dtype=torch.int64)

    def observe(self, transition):
        self.said += "o"

    def ready(self):
        return True

    def learn(self):
        self.said += "l"
        return {}


@pytest.mark.parametrize(("overlap", "said"), [(False, "aollaollaoll"), (True, "aoalloallo")])
def test_updates_are_made_one_step_later(overlap: bool, said: str) -> None:
    """a: act, o: observe, l: one of two updates a step."""
    rollout = Rollout(Diary(), started(), replay_ratio=1.0, overlap=overlap)
    assert [rollout.step() for _ in range(3)] == [2, 2, 2]
    assert rollout.agent.said == said
    assert rollout.updates + rollout.owed == 6
    rollout.envs.env.close()


def test_only_workers_overlap_and_only_where_a_step_is_slower_than_an_update() -> None:
    sync = VectorEnvAdapter(make(Steps, 2, vectorization="sync")[0])
    sync.reset(seed=0)
    assert Rollout(Diary(), sync).overlap is False
    envs = started()
    for step, update, overlap in ((5e-3, 1e-3, True), (1e-3, 5e-3, False)):
        rollout = Rollout(Diary(), envs)
        for _ in range(Rollout.WARM):
            rollout._decide(1.0, 1.0)
        for _ in range(Rollout.TIMED):
            assert rollout.overlap is None
            rollout._decide(step, update)
        assert rollout.overlap is overlap
        again = Rollout(Diary(), envs)
        again.restore(rollout.state())
        assert again.overlap is overlap
    envs.env.close()


def test_a_run_chooses_by_itself() -> None:
    rollout = Rollout(Diary(), started())
    for _ in range(Rollout.WARM + Rollout.TIMED):
        assert rollout.overlap is None
        rollout.step()
    assert rollout.overlap is True  # an update of nothing is faster than a message
    rollout.envs.env.close()


def test_overlapped_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """600 transitions at once are 300 and 300 more, the updates owed at the boundary included."""
    words = [*TINY, "env.num_envs=2", "env.vectorization=async", "workers.overlap=true", "posterior.draws=3"]
    assert main([*words, "steps=600", f"run_dir={tmp_path / 'whole'}"]) == 0
    assert main([*words, "steps=300", f"run_dir={tmp_path / 'halves'}"]) == 0
    resume(tmp_path / "halves", "steps=600")
    a, b = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves")
    same(a, b)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    assert a["rollout"]["overlap"] is True and a["envs"]["env"] is not None


def test_training_goes_on_where_workers_die(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two environments that die at every 151st step, three times each."""
    words = [f"env.id={DyingEnv.__module__}:{DyingEnv.__name__}", "env.num_envs=2", "env.vectorization=async"]
    assert main([*TINY, *words, "eval.every=0", "steps=1000", f"run_dir={tmp_path / 'run'}"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "was killed by SIGKILL; it is replaced" in line]
    assert [line.partition("replaced, ")[2][0] for line in told] == ["1", "1", "2", "2", "3", "3"]
    assert [line.partition("environment ")[2][0] for line in told] == ["0", "1"] * 3


def test_overlap_needs_workers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [f"env.id={Plain.__module__}:{Plain.__name__}", "workers.overlap=true", "env.vectorization=sync"]
    assert main([*TINY, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "wanted environments in workers: set env.vectorization=async" in capsys.readouterr().err
