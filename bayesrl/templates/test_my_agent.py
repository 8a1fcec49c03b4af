"""MyAgent decides as it says, and learns."""

import pytest
import torch
from bayesrl.envs import make
from bayesrl.networks import mlp
from bayesrl.posteriors import Hypermodel
from bayesrl.rl.types import EnvSpec
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter

from my_agent import MyAgent


def agent(spec, **settings):
    torch.manual_seed(0)
    return MyAgent(spec, Hypermodel(mlp(spec.shape, spec.actions, hidden=[16], prior=[16])), **settings)


def test_it_decides_by_the_quantile_of_its_draws():
    mine, obs = agent(EnvSpec((4,), torch.float32, 3), quantile=0.0), torch.randn(50, 4)
    worst = mine.target.sample(obs).amin(0)
    assert torch.equal(mine.greedy(obs), worst.argmax(1))
    allowed = torch.tensor([[True, False, False]]).expand(50, 3)
    assert mine.greedy(obs, allowed).tolist() == [0] * 50


def test_it_learns_on_cartpole():
    envs = VectorEnvAdapter(make("CartPole-v1", 2)[0], discount=0.99)
    envs.reset(seed=0)
    rollout = Rollout(agent(envs.spec, learning_starts=100), envs, replay_ratio=0.5)
    obs = envs.obs
    before = rollout.agent.posterior.mean(obs)
    while rollout.transitions < 200:
        rollout.step()
    assert rollout.updates > 40
    assert torch.isfinite(rollout.info["loss"])
    assert not torch.equal(rollout.agent.posterior.mean(obs), before)


def test_a_quantile_out_of_range_is_refused():
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        agent(EnvSpec((4,), torch.float32, 3), quantile=2)
