"""Every draw's policy climbs its own values and nobody else's."""

import pytest
import torch

from bayesrl.rl.policies import Actors

torch.manual_seed(0)


def made(K=3, A=2):
    torch.manual_seed(1)
    return Actors((4,), A, K, hidden=(16,))


def test_actions_are_in_the_box_and_paired_agrees():
    policies, x = made(), 100 * torch.randn(5, 4)
    out = policies(x)
    assert out.shape == (3, 5, 2) and out.abs().max() <= 1
    k = torch.tensor([2, 0, 1, 1, 2])
    torch.testing.assert_close(policies.paired(k, x), out[k, torch.arange(5)])


def test_each_policy_finds_the_best_action_of_its_own_value():
    """Values -(a - c_k)^2 with c = -0.5, 0, 0.5: within 0.05 after 400 steps of rate 1e-2, at inputs seen or not."""
    torch.manual_seed(2)
    policies = Actors((4,), 1, 3, hidden=(16,))
    for group in policies.optimizer.param_groups:
        group["lr"] = 1e-2
    best = torch.tensor([-0.5, 0.0, 0.5])[:, None]
    worth = [policies.ascend(lambda a: -(a[..., 0] - best).square(), torch.randn(32, 4)) for _ in range(400)]
    assert worth[0] < -0.05 and worth[-1] > -1e-3
    assert (policies(torch.randn(64, 4))[..., 0] - best).abs().max() < 0.05


def test_a_policy_without_slope_stays_where_it_is():
    policies = made()
    before = policies.psi.detach().clone()
    policies.ascend(lambda a: a[..., 0] * torch.tensor([0.0, 1.0, 0.0])[:, None], torch.randn(8, 4))
    moved = (policies.psi != before).any(1)
    assert moved.tolist() == [False, True, False]


def test_climbing_leaves_no_gradient_in_what_is_climbed():
    policies, critic = made(), torch.nn.Linear(2, 1)
    policies.ascend(lambda a: critic(a)[..., 0], torch.randn(8, 4))
    assert all(p.grad is None for p in critic.parameters())


def test_none_are_refused():
    with pytest.raises(ValueError, match="got 0 policies, wanted 1 or more"):
        made(K=0)
