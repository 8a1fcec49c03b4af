"""Deterministic policies for continuous actions, one for each of K draws of a posterior over Q-functions.

    pi_k(x) = tanh(g(psi_k, x));     psi_k climbs  mean_B f_{z_k}(x, pi_k(x))

Each policy follows the deterministic policy gradient of its own draw (Silver et al., 2014; Lillicrap et al., 2016).
Shapes: K draws, B batch, E environments, A numbers of an action, P weights of one policy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bayesrl.networks.builders import mlp
from bayesrl.optim import Adam


class Actors(nn.Module):
    """K policies: weight vectors psi [K, P] of one network from inputs to actions in [-1, 1].

    Arguments:
        shape: the shape of one input.
        actions: A, the number of components of an action.
        count: K, the number of policies.
        hidden: the widths of the hidden layers of a policy.
        optimizer: maps parameters to their torch optimizer.

    Raises:
        ValueError: count is less than 1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        actions: int,
        count: int,
        hidden: Sequence[int] = (128, 128),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"got {count} policies, wanted 1 or more: one for each draw that is acted on")
        self.network = mlp(shape, actions, hidden=hidden)
        self.psi = nn.Parameter(torch.stack([self.network.init() for _ in range(count)]))
        self.optimizer = optimizer([self.psi])

    def forward(self, x: Tensor) -> Tensor:
        """Return the actions of every policy at every input: [B, *] -> [K, B, A]."""
        return self.network(self.psi, x).tanh()

    def paired(self, k: Tensor, x: Tensor) -> Tensor:
        """Return the action of policy k[i] at input x[i]: [E] int64, [E, *] -> [E, A]."""
        return self.network.paired(self.psi[k], x).tanh()

    def ascend(self, value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Make one gradient step that raises `value`, and return its mean before the step, 0-d.

        Arguments:
            value: maps actions [K, B, A] to their values [K, B].
            x: inputs, [B, *].
        """
        values = value(self(x)).mean(1)  # [K]
        self.psi.grad = torch.autograd.grad(-values.sum(), self.psi)[0]  # leaves the parameters of `value` alone
        self.optimizer.step()
        return values.mean().detach()

    def snapshot(self) -> Actors:
        """Return a frozen copy without an optimizer, to serve as a target."""
        return copy.deepcopy(self, {id(self.optimizer): None}).requires_grad_(False)

    def get_extra_state(self) -> dict:
        return self.optimizer.state_dict() if self.optimizer is not None else {}

    def set_extra_state(self, state: dict) -> None:
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state)
