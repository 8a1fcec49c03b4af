"""Adam as a pure tensor function, so that a whole update can be captured as one graph on any device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Adam(torch.optim.Optimizer):
    """Adam (Kingma & Ba, 2015), with the same results as `torch.optim.Adam`.

    `torch.optim.Adam` refuses `capturable=True` on a CPU, and its fused kernel cannot be traced. Here all operations
    are foreach operations, and the powers of beta are state tensors on the parameters' device, because a compiled loop
    would compute a power once for each vector of weights.

    Arguments:
        params: parameters, all on one device.
        lr: learning rate.
        betas: decay rates of the first and second moments.
        eps: added to the root of the second moment.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        if not lr > 0 or not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise ValueError(f"got lr={lr}, betas={betas}, eps={eps}, wanted lr > 0, betas in [0, 1) and eps > 0")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})
        for group in self.param_groups:
            for p in group["params"]:
                zeros = torch.zeros_like(p, requires_grad=False)
                one = zeros.new_ones(())
                self.state[p] = {"m": zeros, "v": zeros.clone(), "beta1^t": one, "beta2^t": one.clone()}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), eps = group["betas"], group["eps"]
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            m, v, *powers = ([self.state[p][name] for p in params] for name in ("m", "v", "beta1^t", "beta2^t"))
            torch._foreach_mul_(powers[0], beta1)
            torch._foreach_mul_(powers[1], beta2)
            power1, power2 = powers[0][0], powers[1][0]
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
            root = torch._foreach_sqrt(v)
            torch._foreach_mul_(root, (1 - power2).rsqrt())
            torch._foreach_add_(root, eps)
            update = torch._foreach_div(m, root)
            torch._foreach_mul_(update, -group["lr"] / (1 - power1))
            torch._foreach_add_(params, update)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state in place, so that a captured update sees it."""
        parameters = [(p, group["betas"]) for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for i, (p, betas) in enumerate(parameters):
                saved = state_dict["state"][i]
                if "step" in saved:  # a state of an earlier version
                    saved = saved | {f"beta{k}^t": beta ** saved["step"] for k, beta in enumerate(betas, 1)}
                for name, value in self.state[p].items():
                    value.copy_(saved[name])
