"""`bayes_ac`: targets by hand, every posterior, one graph, exact resume."""

import json

import numpy as np
import pytest
import torch

from bayesrl import load
from bayesrl.agents.bayes_ac import BayesAC, critic
from bayesrl.networks import mlp
from bayesrl.posteriors import Dropout, Ensemble, FullRank, Hypermodel, LastLayer, MeanField, Point
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.train import main

SPEC = EnvSpec((3,), torch.float32, 2, 4, bounds=((-1, -1), (1, 1)))
POSTERIORS = [Dropout, Ensemble, FullRank, Hypermodel, LastLayer, MeanField, Point]


def made(posterior=Ensemble, spec=SPEC, **kwargs):
    torch.manual_seed(0)
    shape, outputs = critic(spec)
    network = mlp(shape, outputs, hidden=(16, 16), prior=(8,))
    return BayesAC(spec, posterior(network), batch_size=8, capacity=400, learning_starts=8, **kwargs)


def played(agent, steps=6):
    torch.manual_seed(1)
    E = agent.spec.num_envs
    for _ in range(steps):
        flags = torch.zeros(E, dtype=torch.bool)
        move = [torch.randn(E, 3), torch.rand(E, 2) * 2 - 1, torch.randn(E)]
        agent.observe(Transition(*move, flags, flags, torch.randn(E, 3), ~flags))
    return agent


def test_a_draws_target_is_its_own_critics_value_of_its_own_policy():
    """Noise 0, discount 1/2, one transition: y_k = r / c + f^-_k(s', pi^-_k(s')) / 2."""
    agent = played(made(noise=0.0, discount=0.5))
    taught = []
    agent.posterior.learn = lambda batch, z: taught.append(batch) or {}
    transition = agent.replay.gather(torch.tensor([5]))
    x = agent.normalizer.obs(transition.next_obs)
    values = [agent.target(z[None], torch.cat([x, agent.target_actors(x)[k]], 1))[0, 0] for k, z in enumerate(agent.z)]
    agent.update(torch.tensor([5] * 8), torch.zeros(len(agent.z), 8, 2))
    y = transition.reward / agent.normalizer.scale + 0.5 * torch.cat(values)
    torch.testing.assert_close(taught[0].y[..., 0], y[:, None].expand(-1, 8))


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_it_knows_no_posterior_by_name(posterior):
    agent = played(made(posterior, draws=3))
    before = agent.actors.psi.detach().clone()
    info = agent.learn()
    assert all(value.isfinite() for value in info.values()) and (agent.actors.psi != before).any(1).all()
    assert agent.greedy(torch.randn(7, 3)).shape == (7, 2)
    assert agent.forecast(torch.randn(7, 3), torch.Generator()).q.shape == (3, 7, 1)


def test_a_draw_judges_its_own_policys_action_as_it_forecasts():
    agent, obs = played(made(draws=3)), torch.randn(5, 3)
    q = agent.forecast(obs, torch.Generator()).q[..., 0]
    proposed, _ = agent.evaluate_actions(obs, torch.zeros(5, 2))
    assert proposed.shape == (3, 5, 2)
    for k, own in enumerate(proposed):
        torch.testing.assert_close(agent.evaluate_actions(obs, own)[1][k], q[k])


def test_an_environment_follows_one_policy_until_its_episode_ends():
    agent = played(made(noise=0.0))
    obs, start = torch.randn(4, 3), torch.ones(4, dtype=torch.bool)
    agent.act(obs, start)
    held = agent.index.clone()
    first = agent.act(obs, ~start)
    for _ in range(5):
        assert torch.equal(agent.act(obs, ~start), first) and torch.equal(agent.index, held)
    torch.testing.assert_close(first, agent.actors(agent.normalizer.obs(obs))[held, torch.arange(4)])
    drawn = {tuple(agent.act(obs, start).flatten().tolist()) for _ in range(20)}
    assert len(drawn) > 5


def test_the_greedy_action_is_the_proposal_that_the_mean_likes_best():
    agent, obs = played(made()), torch.randn(9, 3)
    agent.learn()
    x, chosen = agent.normalizer.obs(obs), agent.greedy(obs)
    proposed = agent.target_actors(x)
    worth = torch.stack([agent.target.expected(agent.z, torch.cat([x, a], 1)).mean(0)[:, 0] for a in proposed])
    own = agent.target.expected(agent.z, torch.cat([x, chosen], 1)).mean(0)[:, 0]
    torch.testing.assert_close(own, worth.amax(0))


@pytest.mark.slow
def test_captured_updates_are_the_eager_ones():
    """Ten updates of the ensemble with the same noise: parameters within 1e-4."""
    eager, captured = played(made()), played(made())
    assert captured.capture() == (True, False)
    for agent in (eager, captured):
        torch.manual_seed(3)
        for _ in range(10):
            agent.learn()
    for (name, a), b in zip(eager.named_parameters(), captured.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (EnvSpec((3,), torch.float32, 2), "got 2 discrete actions, wanted continuous ones"),
        (SPEC._replace(shape=(8, 8, 3), dtype=torch.uint8), "wanted a vector of numbers"),
    ],
)
def test_what_it_cannot_act_in_is_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        critic(spec)


WORDS = ["agent=bayes_ac", "env=pendulum", "agent.learning_starts=50", "network.hidden=[16]", "posterior.members=2"]
QUIET = ["eval.every=0", "eval.final_episodes=2", "log.every=50", "checkpoint.every=200", "agent.capacity=2000"]


@pytest.mark.slow
def test_it_trains_from_the_command_line_and_resumes_bit_for_bit(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*WORDS, *QUIET, "steps=400", f"run_dir={whole}"]) == 0
    assert main([*WORDS, *QUIET, "steps=200", f"run_dir={parts}"]) == 0
    assert main([f"resume={parts}", "steps=400"]) == 0
    assert len(load(parts)(np.zeros((5, 3), np.float32))[1]) == 5  # actions and how unsure of them
    results = [json.loads((run / "result.json").read_text()) for run in (whole, parts)]
    assert results[0]["eval_return_mean"] == results[1]["eval_return_mean"]


def test_discrete_actions_are_told(capsys, tmp_path):
    assert main(["agent=bayes_ac", f"run_dir={tmp_path / 'run'}"]) == 2
    assert "got 2 discrete actions, wanted continuous ones: choose agent=bayes_dqn" in capsys.readouterr().err
