"""`tabular_psrl` against posteriors and values written out by hand."""

import copy

import pytest
import torch

from bayesrl.agents.tabular_psrl import TabularPSRL, value_iteration
from bayesrl.envs import make
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter

SPEC = EnvSpec((1,), torch.int64, 2, num_envs=2, categories=3)


def agent(**options) -> TabularPSRL:
    torch.manual_seed(0)
    return TabularPSRL(SPEC, **options)


def step(agent: TabularPSRL, s: list, a: list, r: list, after: list, ended=(False, False), valid=(True, True)) -> None:
    column = lambda values: torch.tensor(values)[:, None]  # noqa: E731
    ended, no = torch.tensor(ended), torch.tensor([False, False])
    agent.observe(
        Transition(column(s), torch.tensor(a), torch.tensor(r), ended, no, column(after), torch.tensor(valid))
    )


def test_counts_and_rewards_are_what_happened() -> None:
    """One step twice, an end, and a step that was only a reset, which is none."""
    made = agent(concentration=4.0)
    step(made, [0, 0], [1, 1], [1.0, 3.0], [2, 2])
    step(made, [1, 2], [0, 0], [5.0, 7.0], [0, 0], ended=(True, False), valid=(True, False))
    assert made.alpha()[0, 1].tolist() == [1, 1, 3, 1]
    assert made.alpha()[1, 0].tolist() == [1, 1, 1, 2], "where an episode ends there is no next state"
    assert made.rewards[:, 0, 1].tolist() == [2, 4, 10] and made.rewards[:, 2, 0].tolist() == [0, 0, 0]


def test_rewards_posterior_is_conjugate() -> None:
    """Prior m = 1, k = 2, a = 3, b = 4 and rewards 1, 3: m = 1.5, k = 4, a = 4, b = 4 + 1 + 0.5."""
    made = agent(reward_mean=1.0, reward_count=2.0, shape=3.0, rate=4.0)
    step(made, [0, 0], [1, 1], [1.0, 3.0], [2, 2])
    assert [float(part[0, 1]) for part in made.normal_gamma()] == pytest.approx([1.5, 4.0, 4.0, 5.5])
    assert [float(part[1, 1]) for part in made.normal_gamma()] == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_values_solve_the_bellman_equation() -> None:
    """Left pays 1 and ends; right pays nothing and stays with probability 0.5, else goes where 3 is paid at the end.

    gamma = 0.8: the other state is worth 3, right v = 0.8 (0.5 v + 0.5 * 3) = 2 where it is repeated.
    """
    P = torch.zeros(2, 2, 3, dtype=torch.float64)
    P[0, 0, 2] = P[1, :, 2] = 1
    P[0, 1] = torch.tensor([0.5, 0.5, 0])
    reward = torch.tensor([[1.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    q = value_iteration(P, reward, 0.8, tolerance=1e-12)
    assert torch.allclose(q, torch.tensor([[1.0, 2.0], [3.0, 3.0]], dtype=torch.float64))
    both = value_iteration(torch.stack([P, P]), torch.stack([reward, 2 * reward]), 0.8, tolerance=1e-12)
    assert torch.allclose(both, torch.stack([q, 2 * q]))


def test_values_of_draws_are_distributed_as_by_hand() -> None:
    """p ~ Beta(3, 2), V = p / (1 - 0.9 (1 - p)): mean 0.917999, sd 0.077064, P(V > 0.9) = 0.7259, of 20,000 draws."""
    spec = EnvSpec((1,), torch.int64, 1, categories=1)
    torch.manual_seed(0)
    made = TabularPSRL(spec, discount=0.9, concentration=2.0)
    made.visits[0, 0] = torch.tensor([1.0, 2.0])  # stays once, ends twice, beside a count of 1 each
    P = torch._standard_gamma(made.alpha().expand(20_000, 1, 1, 2))
    P = P / P.sum(-1, True)
    value = value_iteration(P, P[..., 1], 0.9)[:, 0, 0]
    assert float(value.mean()) == pytest.approx(0.917999, abs=0.002)
    assert float(value.std()) == pytest.approx(0.077064, abs=0.002)
    assert float((value > 0.9).double().mean()) == pytest.approx(0.7259, abs=0.012)


def test_a_draw_is_kept_for_an_episode_and_greedy_is_the_mean() -> None:
    made = agent()
    obs, no = torch.tensor([[0], [1]]), torch.tensor([False, False])
    made.act(obs, ~no)
    q = made.q.clone()
    made.act(obs, no)
    assert torch.equal(made.q, q)
    made.act(obs, torch.tensor([False, True]))
    assert torch.equal(made.q[0], q[0]) and not torch.equal(made.q[1], q[1])
    before = torch.get_rng_state()
    for _ in range(20):
        step(made, [0, 1], [1, 0], [1.0, 1.0], [0, 0], ended=(True, True))
    assert made.greedy(obs).tolist() == [1, 0]
    forecast = made.forecast(obs, torch.Generator().manual_seed(0))
    assert forecast.q.shape == (20, 2, 2)
    assert torch.equal(before, torch.get_rng_state())
    other = agent()
    other.greedy(obs)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    assert other.greedy(obs).tolist() == [1, 0]


def test_solves_deep_sea() -> None:
    """DeepSea 5, optimum 0.99: random actions find the goal in 1 of 32 episodes; exact PSRL in 20 of 30."""
    envs = VectorEnvAdapter(make("bayesrl/DeepSea-v0", 1, {"size": 5, "seed": 0})[0])
    envs.reset(seed=0)
    torch.manual_seed(0)
    rollout = Rollout(TabularPSRL(envs.spec, concentration=0.3), envs)
    found = []
    while rollout.episodes < 60:
        rollout.step()
        found += [episode.ret > 0.9 for episode in envs.finished]
    assert sum(found[30:]) >= 20


def test_refuses_vectors_and_impossible_priors() -> None:
    with pytest.raises(ValueError, match=r"got observations \[3\] of torch.float32.*agent=psrl"):
        TabularPSRL(EnvSpec((3,), torch.float32, 2))
    with pytest.raises(ValueError, match="concentration=0"):
        agent(concentration=0.0)
