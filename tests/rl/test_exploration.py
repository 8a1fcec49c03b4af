"""Freshness of indices per environment, and the schedule of epsilon."""

from typing import NamedTuple

import pytest
import torch

from bayesrl.likelihoods import Gaussian
from bayesrl.posteriors import Posterior
from bayesrl.rl.exploration import EpsilonGreedy, OptimisticIndexSampling, Thompson


class Lines(Posterior):
    """f_z(x) = [z, -z]; indices are 1, 2, 3, ... so that freshness can be seen."""

    drawn = 0

    def __init__(self):
        super().__init__()
        self.likelihood = Gaussian()

    def index(self, n, generator=None):
        z = torch.arange(self.drawn + 1.0, self.drawn + n + 1)[:, None]
        self.drawn += n
        return z

    def paired(self, z, x):
        return torch.cat([z, -z], 1)

    def mean(self, x):
        return torch.tensor([0.0, 1.0]).expand(len(x), 2)


def starts(*rows):
    return [torch.tensor(row, dtype=torch.bool) for row in rows]


def test_thompson_draws_anew_only_where_an_episode_begins():
    explore, posterior, held = Thompson(), Lines(), []
    for start in starts([1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1]):
        explore(posterior, torch.zeros(3, 1), start)
        held.append(explore.z.flatten().tolist())
    assert held == [[1, 2, 3], [1, 2, 3], [1, 4, 3], [5, 4, 6]]


def test_optimistic_indices_are_drawn_k_for_each_environment():
    explore, posterior, held = OptimisticIndexSampling(2), Lines(), []
    for start in starts([1, 1], [0, 1], [1, 0]):
        explore(posterior, torch.zeros(2, 1), start)
        held.append(explore.z.flatten().tolist())
    assert held == [[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 5, 6]]


def test_resample_is_a_probability_of_a_step():
    explore, posterior = Thompson(resample=1.0), Lines()
    for start in starts([1, 1], [0, 0]):
        explore(posterior, torch.zeros(2, 1), start)
    assert explore.z.flatten().tolist() == [3, 4]


def test_held_indices_go_round_with_the_state():
    explore, other = Thompson(), Thompson()
    explore(Lines(), torch.zeros(2, 1), *starts([1, 1]))
    other.load_state_dict(explore.state_dict())
    assert torch.equal(other.z, explore.z)


class Steps(NamedTuple):
    """The one thing of a transition that the schedule looks at: 100 of 200 steps were only resets."""

    valid: torch.Tensor


def test_epsilon_falls_with_transitions_of_all_environments():
    explore, posterior = EpsilonGreedy(1.0, 0.0, 400), Lines()
    torch.manual_seed(0)
    none = torch.zeros(100, dtype=torch.bool)
    share = []
    for _ in range(6):
        share.append(1 - explore(posterior, torch.zeros(100, 1), none).float().mean().item())
        explore.observe(Steps(torch.arange(200) < 100))
    # Half of the explored actions are the greedy one: epsilon / 2 at 0, 100, 200, 300, 400 and 500 transitions.
    torch.testing.assert_close(torch.tensor(share), torch.tensor([0.5, 0.375, 0.25, 0.125, 0, 0]), atol=0.15, rtol=0)
    assert share[4:] == [0, 0] and explore.count == 600


@pytest.mark.parametrize("make", [Thompson, OptimisticIndexSampling, EpsilonGreedy])
def test_only_allowed_actions(make):
    mask = torch.tensor([[True, False], [False, True]]).repeat(50, 1)
    action = make()(Lines(), torch.zeros(100, 1), torch.ones(100, dtype=torch.bool), mask)
    assert action.tolist() == [0, 1] * 50


@pytest.mark.parametrize(
    "make", [lambda: Thompson(2.0), lambda: OptimisticIndexSampling(0), lambda: EpsilonGreedy(0.1, 0.5)]
)
def test_nonsense_is_refused(make):
    with pytest.raises(ValueError, match=r"got .*, wanted"):
        make()
