"""What plans are worth, in worlds whose every number is written by hand."""

import pytest
import torch
from torch import Tensor

from bayesrl.world_models.dynamics import WorldStep
from bayesrl.world_models.propagation import TS1, Expectation, Hallucinated, TSinf, returns


class Drift:
    """World s moves by the action and its own drift; the reward is where it gets to."""

    def __init__(self, drift: list[float], ends: float = 0.0) -> None:
        self.drift, self.count, self.ends = torch.tensor(drift), len(drift), ends

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
        after = obs + action[..., :1] + self.drift[:, None, None]
        if noise is not None:
            after = after + noise[..., :1]
        return WorldStep(after, after[..., 0], torch.full(after.shape[:-1], self.ends))


def plan(*actions: float) -> Tensor:
    return torch.tensor(actions).view(1, 1, -1, 1)


ZERO = torch.zeros(3, 1, dtype=torch.int64)


def test_each_particle_stays_in_its_world() -> None:
    """From 1 with drifts 0 and 2 and actions 1, 0, -1: 2 + 2 + 1 and 4 + 6 + 7, on average 11."""
    value = returns(Drift([0.0, 2.0]), TSinf(), torch.ones(1, 1), plan(1, 0, -1), None, ZERO)
    assert value.tolist() == [[11.0]]


def test_rewards_count_by_the_probability_of_being_alive() -> None:
    """Ends with probability 1/2 after each of three steps that pay 1: 1 + 1/2 + 1/4."""
    value = returns(Drift([0.0], ends=0.5), TSinf(), torch.ones(1, 1), plan(0, 0, 0), None, ZERO)
    assert value.tolist() == [[1.75]]


class Square(Drift):
    """The reward is the square of where it gets to."""

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
        made = super().step(obs, action, noise)
        return made._replace(reward=made.reward.square())


def test_particles_of_ts1_move_on_by_the_shift() -> None:
    """Drifts 0 and 2 from 0, worlds exchanged before the second of three steps: 0 + 4 and 4 + 4 and 4 + 16, halved.

    Staying, the particles make 0 and 4 + 16 + 36.
    """
    worlds, shift = Square([0.0, 2.0]), torch.tensor([[0], [1], [0]])
    assert returns(worlds, TS1(), torch.zeros(1, 1), plan(0, 0, 0), None, shift).tolist() == [[16.0]]
    assert returns(worlds, TSinf(), torch.zeros(1, 1), plan(0, 0, 0), None, shift).tolist() == [[28.0]]


def test_the_dead_stay_dead_when_they_move_on() -> None:
    """World 0 ends every episode: after two exchanges nothing of either particle is left to be paid."""

    class Deadly(Drift):
        def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
            made = super().step(obs, action, noise)
            ends = torch.tensor([1.0, 0.0])[:, None].expand_as(made.reward)
            return made._replace(terminated=ends, reward=torch.ones_like(made.reward))

    shift = torch.tensor([[0], [1], [1]])
    assert returns(Deadly([0.0, 0.0]), TS1(), torch.zeros(1, 1), plan(0, 0, 0), None, shift).tolist() == [[1.5]]


def test_hallucinated_moves_by_deviations_of_the_worlds() -> None:
    """Drifts 0 and 2: mean 1 and deviation 1. From 0 with action 1, beta 2 and eta 1/2, -1: 3, then 3 + 2 - 2."""
    chosen = torch.tensor([[1.0, 0.5], [1.0, -1.0]]).view(1, 1, 2, 2)
    value = returns(Drift([0.0, 2.0]), Hallucinated(2.0), torch.zeros(1, 1), chosen, None, ZERO)
    # The reward is the worlds' own mean: 2 at the first step, 3 + 2 at the second.
    assert value.tolist() == [[7.0]]


def test_expectation_moves_by_the_mean_of_the_worlds_and_feels_no_noise() -> None:
    """Drifts 0 and 2 from 0, standing still: to 1, 2, 3; paid (0 + 4) / 2, (1 + 9) / 2 and (4 + 16) / 2."""
    noise = torch.ones(3, 1, 2, 2)
    value = returns(Square([0.0, 2.0]), Expectation(), torch.zeros(1, 1), plan(0, 0, 0), noise, ZERO)
    assert value.tolist() == [[17.0]]


def test_environments_are_apart() -> None:
    """Two environments with two worlds each score as each alone."""
    obs, both = torch.tensor([[0.0], [5.0]]), plan(1, 0, 2).expand(2, 3, 3, 1) * torch.arange(3.0).view(1, 3, 1, 1)
    noise, shift = torch.randn(3, 2, 2, 2), torch.tensor([[0, 1], [1, 1], [0, 1]])
    for way in (TSinf(), TS1(), Expectation()):
        together = returns(Drift([0.0, 1.0, 2.0, 3.0]), way, obs, both, noise, shift)
        one = returns(Drift([0.0, 1.0]), way, obs[:1], both[:1], noise[:, :1], shift[:, :1])
        other = returns(Drift([2.0, 3.0]), way, obs[1:], both[1:], noise[:, 1:], shift[:, 1:])
        assert torch.allclose(together, torch.cat([one, other]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_rollout_that_is_not_finite_is_worth_nothing(bad: float) -> None:
    candidates = torch.cat([plan(1, 1, 1), plan(0, bad, 0)], 1)
    value = returns(Drift([0.0, 1.0]), TSinf(), torch.zeros(1, 1), candidates, None, ZERO)
    assert value[0, 0].isfinite() and value[0, 1] == -torch.inf


def test_beta_is_no_negative_number() -> None:
    with pytest.raises(ValueError, match="got beta=-1"):
        Hallucinated(-1.0)
