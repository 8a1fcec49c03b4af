"""An agent with a history sees the same windows when it acts, learns, is evaluated, watched, and resumed."""

import copy
import math
from pathlib import Path

import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.agents.uniform import Uniform
from bayesrl.envs.tasks.memory import Memory
from bayesrl.networks import mlp, recurrent
from bayesrl.networks.layers import GRU, MinGRU
from bayesrl.posteriors import Hypermodel, Point
from bayesrl.rl.observation_windows import append, window
from bayesrl.rl.types import Forecast
from bayesrl.training.evaluation import evaluate
from bayesrl.training.monitor import Monitor
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter
from support.agents import Idle
from support.environments import Numbered
from support.runs import checkpoint, metrics, resume, same, train

W = 4


def started(*envs, mode=AutoresetMode.SAME_STEP) -> VectorEnvAdapter:
    out = VectorEnvAdapter(SyncVectorEnv([*envs], autoreset_mode=mode))
    out.reset(seed=0)
    return out


def agent(envs: VectorEnvAdapter, make=Hypermodel, capacity: int = 300, cell=GRU) -> BayesDQN:
    torch.manual_seed(0)
    network = recurrent(envs.spec.shape, envs.spec.actions, history=W, units=8, hidden=[8], prior=[4], cell=cell)
    return BayesDQN(envs.spec, make(network), batch_size=16, capacity=capacity, learning_starts=32)


def test_windows_by_hand() -> None:
    obs, real = torch.tensor([[[5.0, 6], [7, 8]]]), torch.tensor([[False, True]])
    assert window(obs, real).tolist() == [[[0, 0, 0], [1, 7, 8]]]
    no, yes = torch.tensor([False]), torch.tensor([True])
    first = append(None, obs[:, 0], no, 2)  # whatever comes first begins
    second = append(first, obs[:, 1], no, 2)
    third = append(second, obs[:, 0], no, 2)
    assert first.tolist() == [[[0, 0, 0], [1, 5, 6]]]
    assert second.tolist() == [[[1, 5, 6], [1, 7, 8]]]
    assert third.tolist() == [[[1, 7, 8], [1, 5, 6]]]
    assert append(third, obs[:, 1], yes, 2).tolist() == [[[0, 0, 0], [1, 7, 8]]]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_what_was_acted_on_is_what_is_learned_from(mode: AutoresetMode) -> None:
    """For every transition in memory, also after it has gone round: window and values, bit for bit."""
    envs = started(Numbered, Numbered, Numbered, mode=mode)
    learner = agent(envs, capacity=90)
    acted = []
    for _ in range(70):
        action = learner.act(envs.obs, envs.start)
        acted.append(learner.window.clone())
        learner.observe(envs.step(action))
    replay = learner.replay
    rows = torch.arange(replay.oldest, 69)
    sample = replay.gather(((rows[:, None] % 30) * 3 + torch.arange(3)).flatten())
    seen, valid = torch.stack([acted[row] for row in rows]).flatten(0, 1), sample.weight > 0
    assert valid.float().mean() > 0.7
    assert torch.equal(sample.obs[valid], seen[valid])
    z = learner.posterior.index(5)
    x, again = (learner.normalizer.obs(w[valid]) for w in (seen, sample.obs))
    assert torch.equal(learner.posterior(z, x), learner.posterior(z, again))


def test_a_new_episode_forgets_the_last_one() -> None:
    """Two environments that showed different things show the same: the same values."""
    learner = agent(started(Numbered, Numbered), Point)
    no = torch.tensor([False, False])
    for value in range(3):
        learner.act(torch.tensor([[value], [-3.0 * value]]), no)
    one = torch.ones(2, 1)
    on = learner.posterior.mean(learner.inputs(one, learner.window, no))
    anew = learner.posterior.mean(learner.inputs(one, learner.window, ~no))
    assert torch.equal(anew[0], anew[1]) and not torch.allclose(on[0], on[1], atol=1e-4)


def test_looking_leaves_the_acting_window_alone() -> None:
    envs = started(Numbered, Numbered)
    learner = agent(envs)
    learner.act(envs.obs, envs.start)
    before = learner.window.clone()
    learner.predict(torch.randn(5, 1))
    learner.forecast(learner.inputs(torch.randn(5, 1)), torch.Generator().manual_seed(0))
    assert torch.equal(learner.window, before)


def test_one_observation_is_no_window() -> None:
    envs = started(Numbered)
    for each in (BayesDQN(envs.spec, Point(mlp((1,), 2, hidden=[8]))), Uniform(envs.spec)):
        each.act(envs.obs, envs.start)
        assert each.inputs(envs.obs, None, envs.start) is envs.obs
        assert each.predict(envs.obs)[1] is None and "window" not in each.state_dict()


@pytest.mark.parametrize("cell", [GRU, MinGRU])
def test_an_update_on_windows_is_one_graph(cell) -> None:
    """Traced on one batch, the agent's update does the same as eager on two others: parameters within 1e-6."""
    envs = started(Numbered)
    eager = agent(envs, cell=cell)
    for _ in range(60):
        eager.observe(envs.step(eager.act(envs.obs, envs.start)))
    batches = [(eager.replay.index(16), eager.posterior.index(3)) for _ in range(3)]
    traced = copy.deepcopy(eager)
    graph = make_fx(lambda *batch: traced.update(*batch))(*batches[0])
    eager.update(*batches[0])
    for batch in batches[1:]:
        eager.update(*batch)
        with torch.no_grad():
            graph(*batch)
    for (name, p), q in zip(eager.named_parameters(), traced.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name


# --- evaluated and watched -----------------------------------------------------------------------------------------


class Rememberer(Idle):
    """Acts on the cue where the window reaches back to it, and 0 where it does not."""

    def __init__(self, history: int) -> None:
        super().__init__()
        self.history, self.asked = history, []

    def greedy(self, x, mask=None):
        return (x[..., 1].sum(1) > 0).long()  # the cue is +1 or -1 at the first step, and 0 after it

    def forecast(self, x, generator):
        self.asked.append(x)
        return Forecast(torch.zeros(2, len(x), 2), torch.tensor(math.nan))


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_evaluation_remembers(mode: AutoresetMode) -> None:
    """Memory of 3 blank steps is asked 4 steps after the cue: 5 observations are enough, 4 a coin.

    64 episodes of a fair coin average less than 0.5 but once in 30,000 seeds.
    """
    envs = started(*[lambda: Memory(3)] * 2, mode=mode)
    assert evaluate(Rememberer(5), envs, 64, seed=0).mean == 1
    assert abs(evaluate(Rememberer(4), envs, 64, seed=0).mean) < 0.5


def test_the_tracker_asks_about_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """At an episode's start of its first observation alone, else of all; and goes on where it was saved."""
    monkeypatch.setattr(Monitor, "GAP", 1)
    watcher, envs = Rememberer(3), started(Numbered, Numbered)
    rollout, monitor, acted = Rollout(watcher, envs), Monitor(2, seed=0, probes=8), None

    def step(monitor: Monitor, acted: Tensor | None) -> Tensor:
        acted = watcher.inputs(envs.obs, acted, envs.start)
        monitor.before(watcher, envs)
        assert torch.equal(monitor.recent[-1], acted)
        if envs.start.any():
            assert watcher.asked[-1][..., 0].tolist() == [[0, 0, 1]] * int(envs.start.sum())
            assert torch.equal(watcher.asked[-1][:, -1, 1:], envs.obs[envs.start])
        rollout.step()
        monitor.after(envs)
        return acted

    for _ in range(20):
        acted = step(monitor, acted)
    monitor.metrics(watcher, rollout)
    assert watcher.asked[-1].shape == (8, 3, 2)
    other = Monitor(2, seed=5, probes=8)
    other.restore(monitor.state())
    for _ in range(20):
        acted = step(other, acted)


@pytest.mark.parametrize("env", [["env=memory", "env.kwargs.length=3"], ["env=deep_sea", "env.kwargs.size=5"]])
def test_resuming_a_recurrent_run_goes_on_bit_for_bit(env: list[str], tmp_path: Path) -> None:
    words = [
        *env, "env.num_envs=2", "network=recurrent", "network.history=4", "network.units=8", "posterior.draws=3",
        "agent.capacity=140", "replay_ratio=0.1",
    ]  # fmt: skip
    train(*words, "steps=400", f"run_dir={tmp_path / 'whole'}")
    train(*words, "steps=200", f"run_dir={tmp_path / 'halves'}")
    resume(tmp_path / "halves", "steps=400")
    whole = checkpoint(tmp_path / "whole")
    same(whole, checkpoint(tmp_path / "halves"))
    assert whole["agent"]["window"].shape[1] == 4
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
