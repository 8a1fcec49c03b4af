"""Adam is Adam."""

import pytest
import torch
from torch import nn

from bayesrl.optim import Adam


def test_same_numbers_as_torch() -> None:
    """100 steps on the same gradients: within 1e-6 of `torch.optim.Adam` in float64 1e-12."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), nn.Parameter(torch.randn(5, dtype=torch.float64))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    a, b = Adam(ours, lr=0.01, eps=1e-4), torch.optim.Adam(theirs, lr=0.01, eps=1e-4)
    for _ in range(100):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12)


def test_parameters_without_gradient_stay() -> None:
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = Adam([p, q])
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == pytest.approx([0.999, 0.999])
    assert q.tolist() == [1.0, 1.0]


def test_state_is_restored_in_place() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = Adam([p])
    p.grad = torch.ones(2)
    optimizer.step()
    saved = {"state": {0: {k: v.clone() for k, v in optimizer.state[p].items()}}, "param_groups": []}
    address = optimizer.state[p]["m"].data_ptr()
    optimizer.step()
    optimizer.load_state_dict(saved)
    assert optimizer.state[p]["m"].data_ptr() == address
    assert optimizer.state[p]["beta1^t"].item() == pytest.approx(0.9)
    assert optimizer.state[p]["m"].tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("arguments", [{"lr": 0}, {"betas": (1.0, 0.9)}, {"eps": 0}])
def test_arguments_are_checked(arguments: dict) -> None:
    with pytest.raises(ValueError, match="wanted lr > 0"):
        Adam([nn.Parameter(torch.ones(1))], **arguments)


def test_a_state_of_an_earlier_version_is_understood() -> None:
    """A state of an earlier version has a number of steps instead of powers of beta; later steps agree to rounding."""
    torch.manual_seed(0)
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    new, old = Adam([p]), Adam([q])
    for _ in range(5):
        p.grad = torch.randn(3)
        new.step()
    state = {name: new.state[p][name].clone() for name in ("m", "v")} | {"step": torch.tensor(5.0)}
    old.load_state_dict({"state": {0: state}, "param_groups": []})
    q.data.copy_(p)
    p.grad = q.grad = torch.randn(3)
    new.step()
    old.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=0)
