"""Planners find what is best, forget what is over, and are never led by a rollout that broke."""

import pytest
import torch
from torch import Tensor

from bayesrl.world_models.planners import CEM, MPPI, ImprovedCEM, Plan, Planner, RandomShooting, color_filter, top

TARGET = torch.tensor([[0.4, -0.3], [-0.8, 0.7]])  # [E, A]
PLANNERS = {
    "cem": CEM(horizon=4, candidates=64, iterations=10),
    "icem": ImprovedCEM(horizon=4, candidates=64, iterations=10),
    "mppi": MPPI(horizon=4, candidates=64, iterations=10, temperature=0.1, std=0.3),
    "shooting": RandomShooting(horizon=4, candidates=4096),
}


def near(x: Tensor) -> Tensor:
    """Best, 0, at TARGET at every step: [E, C, H, A] -> [E, C]."""
    return -(x - TARGET[: len(x), None, None]).square().sum((2, 3))


def searched(planner: Planner, score, plan: Plan | None = None, E: int = 2, seed: int = 0) -> Plan:
    like = torch.zeros(1)
    plan = planner.initial(E, 2, like) if plan is None else plan
    for eps in planner.noise(E, 2, like, torch.Generator().manual_seed(seed)):
        plan = planner.improve(score, plan, eps)
    return plan


@pytest.mark.parametrize("name", PLANNERS)
def test_finds_the_best_sequence(name: str) -> None:
    """Squared distance over 8 numbers: at most 0.15, 0.9 for shooting, where a random sequence has 5 or so."""
    value = near(searched(PLANNERS[name], near).best[:, None])
    assert (value > (-0.9 if name == "shooting" else -0.15)).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_candidates_are_actions(name: str) -> None:
    seen = []
    searched(PLANNERS[name], lambda x: seen.append(x) or near(x))
    assert all((x.abs() <= 1).all() and x.shape == (2, PLANNERS[name].candidates, 4, 2) for x in seen)


@pytest.mark.parametrize("name", PLANNERS)
def test_environments_are_apart(name: str) -> None:
    planner, like = PLANNERS[name], torch.zeros(1)
    both, alone = planner.initial(2, 2, like), planner.initial(1, 2, like)
    for eps in planner.noise(2, 2, like, torch.Generator().manual_seed(0)):
        both, alone = planner.improve(near, both, eps), planner.improve(near, alone, eps[:1])
    assert torch.allclose(both.best[:1], alone.best, atol=1e-6)


@pytest.mark.parametrize("name", PLANNERS)
def test_what_broke_is_counted_and_not_followed(name: str) -> None:
    """Everything on the better side of the first number breaks: the plan ends on the other one."""

    def score(x: Tensor) -> Tensor:
        return torch.where(x[:, :, 0, 0] > 0, -torch.inf, x[:, :, 0, 0])

    plan = searched(PLANNERS[name], score, E=1)
    assert plan.best[0, 0, 0] <= 0.05
    assert plan.nonfinite[0] > 0


@pytest.mark.parametrize("name", PLANNERS)
def test_where_everything_breaks_the_plan_is_finite(name: str) -> None:
    planner = PLANNERS[name]
    plan = searched(planner, lambda x: torch.full(x.shape[:2], -torch.inf))
    assert all(part.isfinite().all() for part in plan)
    assert plan.nonfinite.tolist() == [planner.iterations * planner.candidates] * 2


@pytest.mark.parametrize("name", PLANNERS)
def test_a_plan_moves_on_and_ends_with_its_episode(name: str) -> None:
    planner = PLANNERS[name]
    plan = planner.initial(2, 2, torch.zeros(1))
    steps = torch.arange(1.0, 5.0)[:, None].expand(2, 4, 2)
    kept = steps[:, None].expand(2, planner.reused, 4, 2)
    later = planner.warm_start(plan._replace(mean=steps, elites=kept), torch.tensor([False, True]))
    assert later.mean[0, :, 0].tolist() == [2, 3, 4, 4]
    assert not later.mean[1].any() and not later.elites[1].any()
    assert all(k[:, 0].tolist() == [2, 3, 4, 4] for k in later.elites[0])
    assert torch.equal(later.std, plan.std)


def test_kept_elites_are_tried_again() -> None:
    """The best candidate of one iteration is among the next one's, so that the best value never falls."""
    planner, like = ImprovedCEM(horizon=4, candidates=16, elites=4), torch.zeros(1)
    plan, best = planner.initial(2, 2, like), torch.full((2,), -torch.inf)
    for eps in planner.noise(2, 2, like, torch.Generator().manual_seed(3)):
        plan = planner.improve(near, plan, eps)
        value = near(plan.best[:, None])[:, 0]
        assert (value >= best).all()
        best = value


def test_top_are_the_best_in_order() -> None:
    x = torch.arange(5.0).view(1, 5, 1, 1)
    value = torch.tensor([[2.0, -torch.inf, 9.0, 4.0, -torch.inf]])
    assert top(x, value, 3).flatten().tolist() == [2, 3, 0]
    assert top(x, value, 5).flatten().tolist() == [2, 3, 0, 2, 2]


@pytest.mark.parametrize("color", [0.0, 1.0, 2.0])
def test_noise_has_its_color(color: float) -> None:
    """Variance 1 at every step, and power that falls as 1 / f^color: exactly, by the matrix that makes it."""
    H = 16
    matrix = color_filter(H, color)
    assert torch.allclose(matrix.square().sum(0), torch.ones(H, dtype=torch.float64))
    power = torch.fft.rfft(matrix[0]).abs().square()[1:]
    f = torch.fft.rfftfreq(H, dtype=torch.float64)[1:]
    assert torch.allclose(power * f**color, (power * f**color)[0])


@pytest.mark.parametrize("make", [CEM, ImprovedCEM])
def test_more_elites_than_candidates_are_refused(make) -> None:
    with pytest.raises(ValueError, match="got elites=11 of candidates=10"):
        make(candidates=10, elites=11)
    with pytest.raises(ValueError, match="horizon=0"):
        make(horizon=0)
